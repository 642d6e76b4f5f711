//! A later start goes on where the earlier ones ended, whatever was done to input and pipeline in
//! between, or refuses and says why.

use crate::oracle::{Case, DELIVERED, FAILED, IN_DOUBT, PENDING, SKIPPED, Said};
use crate::world::{POST_THINGS, PUT_THINGS, Run, World, things};

fn keys(n: usize) -> Vec<String> {
    (1..=n).map(|n| format!("t{n}")).collect()
}

fn case<'a>(world: &'a World, keys: &'a [String], resends: bool) -> Case<'a> {
    Case { world, pipeline: "p", keys, resends, seed: 0 }
}

/// A run over `rows` that was halted after `done` records; the far side takes all again.
fn halted(pipeline: &str, path: &str, rows: impl AsRef<[u8]>, done: usize) -> World {
    let world = World::new().pipeline(&pipeline.replace("data/things.csv", path), "").file(path, rows);
    world.answers(&format!("* * after={done} -> 401"));
    world.run("apply p --concurrency 1").exits(9);
    world.answers("");
    world
}

/// What was accepted, each once, in any order.
#[track_caller]
fn each_once(world: &World, n: usize) {
    let mut ids: Vec<String> = world
        .seen()
        .iter()
        .filter(|seen| seen.accepted)
        .map(|seen| serde_json::from_slice::<serde_json::Value>(&seen.body).expect("JSON")["id"].to_string())
        .collect();
    ids.sort_unstable();
    let mut expected: Vec<String> = keys(n).iter().map(|key| format!("\"{key}\"")).collect();
    expected.sort_unstable();
    assert_eq!(ids, expected);
}

#[test]
fn every_kind_of_input_goes_on_where_it_was() {
    let rows = things(300);
    let mut packed = Vec::new();
    std::io::Write::write_all(
        &mut flate2::write::GzEncoder::new(&mut packed, flate2::Compression::fast()),
        rows.as_bytes(),
    )
    .expect("gz");
    let list: Vec<String> =
        keys(300).iter().map(|key| format!("{{\"id\":\"{key}\",\"name\":\"x\"}}")).collect();
    let json = format!("{{\"meta\":[1],\"data\":[{}],\"end\":true}}", list.join(",\n "));
    let pointed = POST_THINGS.replace("file: data/things.csv", "file: data/things.csv, pointer: /data");
    for (pipeline, path, bytes) in [
        (POST_THINGS, "data/things.csv", rows.clone().into_bytes()),
        (POST_THINGS, "data/things.csv.gz", packed),
        (POST_THINGS, "data/things.ndjson", list.join("\n").into_bytes()),
        (pointed.as_str(), "data/things.json", json.into_bytes()),
    ] {
        let world = halted(pipeline, path, bytes, 130);
        world.run("apply p").exits(0).says("300 delivered");
        each_once(&world, 300);
    }
}

#[test]
fn a_glob_and_standard_input_go_on_where_they_were() {
    let world = World::new()
        .pipeline(&POST_THINGS.replace("things.csv", "part-*.csv"), "")
        .file("data/part-1.csv", things(100))
        .file(
            "data/part-2.csv",
            things(300)
                .replace("t1,thing 1\n", "")
                .lines()
                .filter(|line| {
                    line.starts_with("id")
                        || line
                            .split(',')
                            .next()
                            .and_then(|id| id[1..].parse::<u32>().ok())
                            .is_some_and(|id| id > 100)
                })
                .collect::<Vec<_>>()
                .join("\n"),
        )
        .script("* * after=180 -> 401");
    world.run("apply p --concurrency 1").exits(9);
    world.answers("");
    world.run("apply p").exits(0).says("300 delivered");
    each_once(&world, 300);

    let world = World::new().pipeline(POST_THINGS, "").script("* * after=70 -> 401");
    let piped = |rows: &str| -> Run {
        world.write("piped", rows);
        let file = std::fs::File::open(world.path("piped")).expect("a file");
        let mut command = world.command("apply p --concurrency 1 --input -");
        Run::of(command.env("X", "1").stdin(file).output().expect("it runs"), &world)
    };
    world.write(
        "pipelines/p.yaml",
        POST_THINGS.replace("file: data/things.csv", "file: data/things.csv, format: csv"),
    );
    piped(&things(100)).exits(9);
    world.answers("");
    piped(&things(40)).exits(5).says("not the file");
    piped(&things(100)).exits(0).says("100 delivered");
    each_once(&world, 100);
}

#[test]
fn the_same_records_in_other_bytes_go_on_at_the_right_one() {
    // Quoting, line ends and blanks between elements are no content: the run goes on, but not at
    // the byte where it stopped.
    let quoted: Vec<String> =
        things(300).lines().map(|line| format!("\"{}\"", line.replace(',', "\",\""))).collect();
    let world = halted(POST_THINGS, "data/things.csv", things(300), 200);
    assert!(Said::of(&world, "p").settled > 0, "a point was reached");
    world.write("data/things.csv", quoted.join("\r\n"));
    world.run("apply p").exits(0).says("300 delivered");
    each_once(&world, 300);
    let list = |between: &str| {
        format!(
            "[{}]",
            keys(300).iter().map(|key| format!("{{\"id\":\"{key}\"}}")).collect::<Vec<_>>().join(between)
        )
    };
    let world = halted(POST_THINGS, "data/things.json", list(","), 200);
    world.write("data/things.json", list(" ,\n   "));
    world.run("apply p").exits(0).says("300 delivered");
    each_once(&world, 300);
}

#[test]
fn grown_input_goes_on_and_changed_input_is_refused() {
    let world = World::new().pipeline(POST_THINGS, things(100));
    world.run("apply p").exits(0);
    world.write("data/things.csv", things(150));
    world.run("apply p").exits(0).says("150 delivered");
    each_once(&world, 150);

    let world = halted(POST_THINGS, "data/things.csv", things(5000), 10);
    world.write("data/things.csv", things(5000).replace("thing 3\n", "another\n"));
    world.run("apply p").exits(5).says("not the file that run");
    assert_eq!(world.seen().iter().filter(|seen| seen.accepted).count(), 10);
    // What was not reached yet may be mended.
    let reached = Said::of(&world, "p").lease;
    assert!(reached < 4000, "{reached}");
    world.write("data/things.csv", things(5000).replace("thing 4995\n", "mended\n"));
    world.run("apply p").exits(0).says("5,000 delivered");
    assert!(world.seen().iter().any(|seen| String::from_utf8_lossy(&seen.body).contains("mended")));
    each_once(&world, 5000);
}

#[test]
fn duplicates_and_limits_mean_the_same_in_every_start() {
    let rows = format!("{}t1,last\nt2,last\n", things(200));
    let keep_last = POST_THINGS.replace("delivery:", "select: { duplicates: keep_last }\ndelivery:");
    let world = halted(&keep_last, "data/things.csv", &rows, 100);
    world.run("apply p").exits(0).says("200 delivered");
    each_once(&world, 200);
    let last =
        world.seen().iter().filter(|seen| String::from_utf8_lossy(&seen.body).contains("\"last\"")).count();
    assert_eq!(last, 2);

    let limited = POST_THINGS
        .replace("delivery:", "select: { limit: 150, where: \"{{ record.id != 't7' }}\" }\ndelivery:");
    let world = halted(&limited, "data/things.csv", things(400), 100);
    world.run("apply p").exits(0).says("150 delivered");
    let said = Said::of(&world, "p");
    assert_eq!(said.in_state(SKIPPED).len(), 250);
    assert_eq!(said.in_state(DELIVERED).last(), Some(&150), "t7 is not counted");
}

#[test]
fn narrowed_starts_leave_the_rest_pending_and_a_kill_of_one_puts_none_of_it_in_doubt() {
    let names = keys(500);
    let world = World::new().pipeline(PUT_THINGS, things(500));
    world.run("apply p --limit 3").exits(0).says("3 delivered");
    assert_eq!(Said::of(&world, "p").lease, 3, "what is not wanted is not leased");
    world.run("apply p --record t400").exits(0).says("4 delivered");
    world.answers("* /things/t300 -> hang");
    let running = world.start("apply p --record t300 --record t2");
    assert!(world.until(&running, 5));
    running.kill(&world);
    case(&world, &names, true).holds(&world.seen());
    world.answers("* * after=20 -> hang");
    let running = world.start("apply p --concurrency 2");
    let before = world.far_side().tally().requests;
    assert!(world.until(&running, before + 22));
    running.kill(&world);
    world.answers("");
    let run = world.run("apply p --limit 1");
    assert_eq!(run.code, 0, "{}", run.stderr);
    let said = case(&world, &names, true).holds(&world.seen());
    let doubted = said.rows.values().filter(|row| row.unknown).count();
    assert!(doubted <= 1 + 2 + 64, "{doubted} records are called doubtful");
    world.run("apply p").exits(0).says("500 delivered");
    case(&world, &names, true).holds(&world.seen());
    assert_eq!(Said::of(&world, "p").in_state(DELIVERED).len(), 500);
}

#[test]
fn after_a_loss_of_power_a_narrowed_start_leaves_only_its_own_records_in_doubt() {
    let world = World::new().pipeline(POST_THINGS, things(500)).script("* * -> hang");
    let running = world.start("apply p --record t300");
    assert!(world.until(&running, 1));
    running.kill(&world);
    // As if the machine had been started anew, with all that was not synced lost.
    let db = world.checkpoint("p");
    db.execute("UPDATE start SET boot = 'another'", []).expect("a start");
    drop(db);
    world.answers("");
    world.run("apply p").exits(6).says("499 delivered");
    assert_eq!(Said::of(&world, "p").in_state(IN_DOUBT), [299]);
    assert_eq!(world.seen().len(), 500);
}

#[test]
fn a_policy_that_changes_after_a_kill_does_not_forget_what_may_have_arrived() {
    // No intents were written, as a repeat was harmless; now doubt is to be held.
    let world = World::new().pipeline(PUT_THINGS, things(40)).script("* * after=5 -> hang");
    let running = world.start("apply p --concurrency 3");
    assert!(world.until(&running, 8));
    running.kill(&world);
    world.answers("");
    world.write("pipelines/p.yaml", PUT_THINGS.replace("delivery: {", "delivery: { in_doubt: hold,"));
    world.run("apply p").exits(6);
    let said = Said::of(&world, "p");
    assert!(said.in_state(IN_DOUBT).len() >= 3, "{}", said.in_state(IN_DOUBT).len());
    for (key, count) in keys(40)
        .iter()
        .map(|key| (key, world.asked().iter().filter(|asked| asked.ends_with(&format!("/{key}"))).count()))
    {
        assert!(count <= 1, "{key} was sent {count} times");
    }
}

#[test]
fn a_changed_meaning_is_not_free_while_something_may_have_arrived() {
    let keyed =
        POST_THINGS.replace("path: /things }", "path: /things, idempotency: { header: Idempotency-Key } }");
    let world = World::new().pipeline(&keyed, things(20)).script("* * -> hang");
    let running = world.start("apply p --concurrency 3");
    assert!(world.until(&running, 3));
    running.kill(&world);
    world.answers("");
    world.write("pipelines/p.yaml", keyed.replace("delivery:", "body: { id: '{{ record.id }}' }\ndelivery:"));
    world.run("apply p").exits(5).says("not as it was");
    assert_eq!(world.seen().len(), 3);
    // Under the new meaning none of them goes out with its old key and other bytes.
    world.run("apply p --accept-changes").exits(6);
    let held = Said::of(&world, "p").in_state(IN_DOUBT).len();
    assert!(held >= 3, "{held}");
    let mut by_key = std::collections::BTreeMap::<_, std::collections::BTreeSet<Vec<u8>>>::new();
    for seen in world.seen() {
        by_key
            .entry(seen.headers["idempotency-key"].clone().to_str().expect("text").to_owned())
            .or_default()
            .insert(seen.body.to_vec());
    }
    assert!(by_key.values().all(|bodies| bodies.len() == 1));
}

#[test]
fn a_key_that_may_be_forgotten_is_not_trusted() {
    let keyed = POST_THINGS.replace(
        "path: /things }",
        "path: /things, idempotency: { header: Idempotency-Key, remembered: 1h } }",
    );
    for (started, held) in
        [("", false), ("2020-01-01T00:00:00.000Z", true), ("2999-01-01T00:00:00.000Z", true)]
    {
        let world = World::new().pipeline(&keyed, things(3)).script("* * -> hang");
        let running = world.start("apply p --concurrency 1");
        assert!(world.until(&running, 1));
        running.kill(&world);
        world.answers("");
        if !started.is_empty() {
            world.checkpoint("p").execute("UPDATE start SET at = ?1", [started]).expect("a start");
        }
        world.run("apply p").exits(if held { 6 } else { 0 });
        assert_eq!(Said::of(&world, "p").rows[&0].state == IN_DOUBT, held, "{started}");
    }
}

#[test]
fn a_retry_that_was_killed_is_gone_on_with() {
    let world = World::new().pipeline(PUT_THINGS, things(30)).script("* * -> 422");
    world.run("apply p").exits(1).says("30 failed");
    world.answers("* * after=4 -> hang");
    let running = world.start("retry p --concurrency 2");
    assert!(world.until(&running, 36));
    running.kill(&world);
    let said = case(&world, &keys(30), true).holds(&world.seen());
    assert_eq!(said.in_state(FAILED).len(), 0);
    assert!(said.in_state(PENDING).len() >= 24);
    world.answers("");
    world.run("retry p").exits(0).says("30 delivered");
    // Nothing failed, but not all was sent: that is not done.
    let world = halted(POST_THINGS, "data/things.csv", things(9), 3);
    world.run("retry p").exits(5).says("runner apply");
}

#[test]
fn a_run_that_is_closed_for_a_new_one_never_stands_alone() {
    let world = halted(POST_THINGS, "data/things.csv", things(9), 3);
    world.write("data/things.csv", "id,name\nu1,x\n");
    world.run("apply p").exits(5).says("--close");
    world.run("apply p --close").exits(0).says("1 delivered");
    let db = world.checkpoint("p");
    let runs: i64 = db
        .query_row("SELECT count(*) FROM run WHERE closed_at IS NOT NULL", [], |row| row.get(0))
        .expect("runs");
    assert_eq!(runs, 2);
}

#[test]
fn a_corrected_copy_of_the_failures_does_not_make_the_first_input_new() {
    let world = World::new().pipeline(PUT_THINGS, things(3)).script("PUT /things/t2 #1 -> 422 class=BAD");
    world.run("apply p").exits(1).says("2 delivered, 1 failed");
    world.write("fixed.csv", "id,name\nt2,mended\n");
    world.run("apply p --input fixed.csv").exits(0).says("1 delivered");
    let before = world.seen().len();
    // The pipeline's own input belongs to its own run still, which is settled.
    world.run("apply p").exits(1).says("nothing to do");
    assert_eq!(world.seen().len(), before);
    world.run("retry p").exits(0).says("3 delivered");
    assert_eq!(world.asked().last().map(String::as_str), Some("PUT /things/t2"));
}

/// As if the machine had been started anew since.
fn boots_anew(world: &World) {
    world.checkpoint("p").execute("UPDATE start SET boot = 'another'", []).expect("a start");
}

#[test]
fn after_a_loss_of_power_a_resend_that_may_have_left_is_counted() {
    let world = World::new().pipeline(PUT_THINGS, things(4)).script("* * -> hang");
    for sent in [2, 4] {
        let running = world.start("apply p --concurrency 2");
        assert!(world.until(&running, sent));
        running.kill(&world);
    }
    boots_anew(&world);
    world.answers("");
    world.run("apply p --concurrency 2").exits(0);
    let said = Said::of(&world, "p");
    assert_eq!((said.rows[&0].attempts, said.rows[&1].attempts), (3, 3));
}

#[test]
fn after_a_loss_of_power_a_reply_that_is_gone_leaves_a_line_that_says_so() {
    let keeps = PUT_THINGS.replace("delivery:", "responses: { file: true }\ndelivery:");
    let replies = |world: &World| {
        let text = world.outcomes("responses.ndjson");
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        let mut lines: Vec<_> = lines
            .map(|line| (line["ordinal"].as_u64().expect("an ordinal"), line["reply"].is_null()))
            .collect();
        lines.sort_unstable();
        lines
    };
    let file = |world: &World| {
        let run = Said::of(world, "p").run;
        world.path(&format!(".runner/default/runs/p/{run}/responses.ndjson"))
    };
    // Cut within a line; cut to nothing; a block of it never written; the file itself gone.
    let losses: [fn(&std::path::Path); 4] = [
        |path| {
            let whole = std::fs::read(path).expect("replies");
            std::fs::write(path, &whole[..whole.len() / 2]).expect("half of them");
        },
        |path| std::fs::write(path, "").expect("an empty file"),
        |path| {
            let mut whole = std::fs::read(path).expect("replies");
            whole[256..512].fill(0);
            std::fs::write(path, whole).expect("a hole");
        },
        |path| std::fs::remove_file(path).expect("it goes"),
    ];
    for lose in losses {
        // Twenty replies are kept for certain, and the start after that dies.
        let world = halted(&keeps, "data/things.csv", things(40), 20);
        let before = world.far_side().tally().requests;
        world.answers("* * -> hang");
        let running = world.start("apply p --concurrency 1");
        assert!(world.until(&running, before + 1));
        running.kill(&world);
        let kept = Said::of(&world, "p").in_state(DELIVERED).len() as u64;
        assert_eq!(kept, 20);
        lose(&file(&world));
        boots_anew(&world);
        world.answers("");
        world.run("apply p").exits(0);
        let replies = replies(&world);
        let ordinals: Vec<u64> = replies.iter().map(|(ordinal, _)| *ordinal).collect();
        assert_eq!(ordinals, (0..40).collect::<Vec<u64>>(), "a line for each, none twice");
        let gone = replies.iter().filter(|(_, is_gone)| *is_gone).count() as u64;
        assert!((1..=kept).contains(&gone), "{gone} of {kept}");
    }
}

#[test]
fn replies_that_are_gone_without_a_loss_of_power_are_damage() {
    let keeps = PUT_THINGS.replace("delivery:", "responses: { file: true }\ndelivery:");
    let world = halted(&keeps, "data/things.csv", things(40), 20);
    let before = world.seen().len();
    let run = Said::of(&world, "p").run;
    world.write(&format!(".runner/default/runs/p/{run}/responses.ndjson"), "");
    world.run("apply p").exits(5).says("shorter than the checkpoint says");
    assert_eq!(world.seen().len(), before);
}

#[test]
fn records_that_are_done_take_no_token_of_the_rate() {
    let world = World::new().pipeline(PUT_THINGS, things(40));
    world.run("apply p --limit 39").exits(0);
    // The first token is there at once, the second in an hour.
    world.run("apply p --rate 1/h --max-duration 1m").exits(0).says("40 delivered");
}

/// A checkpoint that is too large for looking at all of it before the first request.
fn grow(world: &World) {
    let detail = "INSERT INTO note (run, at, what, detail) VALUES (1, '', 'test', hex(zeroblob(34000000)))";
    world.checkpoint("p").execute(detail, []).expect("a large note");
}

#[test]
fn damage_that_is_found_while_a_run_is_sent_stops_it() {
    // Two runs, of which the second is not finished: what a start of it relies on is whole.
    let world = World::new().pipeline(PUT_THINGS, things(5));
    world.run("apply p").exits(0);
    world.write("data/things.csv", format!("{}t900,x\n", things(400).replace("t1,", "t901,")));
    world.run("apply p --limit 100").exits(0);
    grow(&world);
    world.run("apply p --limit 100").exits(0);
    world.checkpoint("p").execute("DELETE FROM record WHERE id = (1 << 40) + 3", []).expect("a row");
    let found = "the rows of run";
    // Far fewer than are left, as it stops when it is found and not at the end.
    let before = world.seen().len();
    let run = world.run("apply p --rate 50/s");
    run.exits(5).says("state-damaged").says(found).says("nothing more was sent");
    assert!(world.seen().len() < before + 200);
    let complete: bool = world
        .checkpoint("p")
        .query_row("SELECT complete OR closed_at IS NOT NULL FROM run WHERE number = 2", [], |row| row.get(0))
        .expect("the run");
    assert!(!complete);
    // From now on nothing is sent before all was looked at.
    let before = world.seen().len();
    world.run("apply p").exits(5).says(found).says("nothing was sent");
    world.run("status p --verify").exits(5).says(found);
    assert_eq!(world.seen().len(), before);
}

#[test]
fn what_a_start_relies_on_is_looked_at_before_it_sends() {
    let world = halted(POST_THINGS, "data/things.csv", things(300), 130);
    grow(&world);
    let before = world.seen().len();
    for damage in [
        "DELETE FROM record WHERE id & 1099511627775 = 7",
        "UPDATE block SET delivered = delivered - 1",
        "DELETE FROM block",
    ] {
        let state = world.path(".runner/default/state");
        let saved = std::fs::read(state.join("p.db")).expect("the checkpoint");
        world.checkpoint("p").execute(damage, []).expect(damage);
        world.run("apply p").exits(5).says("nothing was sent");
        assert_eq!(world.seen().len(), before, "{damage}");
        for ending in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(state.join(format!("p.db{ending}")));
        }
        std::fs::write(state.join("p.db"), saved).expect("the checkpoint");
    }
    world.run("apply p").exits(0).says("300 delivered");
    each_once(&world, 300);
}
