//! What replies mean for a record and for the run, and the files that say so.

use std::collections::BTreeSet;

use crate::oracle::{DELIVERED, FAILED, IN_DOUBT, PENDING, Said};
use crate::world::{POST_THINGS, PUT_THINGS, World, things};

fn states(world: &World, state: u8) -> usize {
    Said::of(world, "p").in_state(state).len()
}

/// `PUT_THINGS` or `POST_THINGS` with more in its `delivery`.
fn with(pipeline: &str, more: &str) -> String {
    pipeline.replace("delivery: {", &format!("delivery: {{ {more},"))
}

/// The cells of the input in all outcome files together, and the number of files that had some.
fn gathered(world: &World, columns: usize) -> (BTreeSet<Vec<Vec<u8>>>, usize) {
    let mut rows = BTreeSet::new();
    let mut files = 0;
    for name in ["delivered", "failed", "invalid", "skipped", "in_doubt", "unsent"] {
        let text = world.outcomes(&format!("{name}.csv"));
        files += usize::from(!text.is_empty());
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        for line in reader.byte_records() {
            let line = line.expect("a line");
            assert!(rows.insert(line.iter().take(columns).map(<[u8]>::to_vec).collect()), "twice: {line:?}");
        }
    }
    (rows, files)
}

const AWKWARD: &str = "id,name,\"a \"\"b\"\", c\"\n\
    t1,\" blanks \",\"two\nlines\"\nt2,\"quo\"\"te\",\"=1+1\"\nt3,,\"\"\nt4,héé ☃,\u{202e}back\n\
    t5,\"a,b\",\t\nt6,'single',\\n\nt7,\"\r\n\",null\nt8,007,1.10\nt9,#no comment,x\n";

#[test]
fn outcome_files_of_a_csv_add_up_to_it_and_are_inputs_again() {
    let pipeline =
        POST_THINGS.replace("delivery:", "select: { where: \"{{ record.id != 't3' }}\" }\ndelivery:");
    let world = World::new().pipeline(&pipeline, AWKWARD).script(
        "POST * body.id=t2 -> 422 class=BAD\nPOST * body.id=t5 -> cut_after_effect\nPOST * body.id=t9 -> 401",
    );
    world.run("apply p --concurrency 1").exits(9);
    let input: BTreeSet<Vec<Vec<u8>>> = csv::Reader::from_reader(AWKWARD.as_bytes())
        .byte_records()
        .map(|line| line.expect("a line").iter().map(<[u8]>::to_vec).collect())
        .collect();
    let (rows, files) = gathered(&world, 3);
    assert_eq!(rows, input);
    assert!(files >= 5, "{files} kinds of outcome");
    let header = world.outcomes("failed.csv").lines().next().expect("a header").to_owned();
    assert!(
        header.starts_with("id,name,\"a \"\"b\"\", c\",_runner_run,_runner_ordinal,_runner_status,"),
        "{header}"
    );

    // Each file is an input again: the far side sees the same cells, and no column of ours.
    let sent = |world: &World| -> BTreeSet<Vec<u8>> {
        world.seen().iter().filter(|seen| seen.status == Some(201)).map(|seen| seen.body.to_vec()).collect()
    };
    let first = sent(&world);
    let again =
        World::new().pipeline(POST_THINGS, "").file("data/again.csv", world.outcomes("delivered.csv"));
    again.run("apply p --input data/again.csv").exits(0);
    assert_eq!(sent(&again), first);
    assert!(again.seen().iter().all(|seen| !String::from_utf8_lossy(&seen.body).contains("_runner")));
}

#[test]
fn outcome_files_are_inputs_again_whatever_shapes_the_csv() {
    let cases: [(&str, &[u8]); 4] = [
        ("quote: \"'\"", b"id,name\n1,'it''s, \"x\"'\n2,'a,b'\n"),
        ("encoding: latin-1", b"id,name\n1,h\xe9\n2,\xfc\n"),
        ("comment: '#'", b"id,name\n'#1',a\n\"#2\",#b\n# no record\n"),
        ("delimiter: ';'", b"id;name\n1;a,b\n2;\"c;d\"\n"),
    ];
    for (csv, rows) in cases {
        let pipeline = POST_THINGS.replace("things.csv }", &format!("things.csv, csv: {{ {csv} }} }}"));
        let first = World::new().pipeline(&pipeline, rows);
        first.run("apply p").exits(0).says("2 delivered");
        let again = World::new().pipeline(&pipeline, first.outcomes("delivered.csv"));
        again.run("apply p").exits(0).says("2 delivered");
        let bodies = |world: &World| -> BTreeSet<Vec<u8>> {
            world.seen().iter().map(|seen| seen.body.to_vec()).collect()
        };
        assert_eq!(bodies(&again), bodies(&first), "{csv}");
    }
}

#[test]
fn outcome_files_of_ndjson_add_up_and_unreadable_lines_keep_their_bytes() {
    let lines = "{\"id\":\"t1\",\"n\":1.10,\"big\":12345678901234567890,\"deep\":{\"a\":[1,null,\"é\"]}}\n\
                 {\"id\":\"t2\",\"name\":null}\n{\"id\":\"t3\" oops\n{\"id\":\"t4\",\"name\":\"a\\nb\"}\n[1]\n";
    let pipeline = POST_THINGS.replace("data/things.csv", "data/things.ndjson");
    let world = World::new()
        .pipeline(&pipeline, "")
        .file("data/things.ndjson", lines)
        .script("POST * body.id=t4 -> 400 class=NO");
    world.run("apply p").exits(1).says("2 delivered, 1 failed, 2 invalid");
    let unreadable = world.outcomes("unreadable.ndjson");
    let kept: Vec<Vec<u8>> = unreadable
        .lines()
        .map(|line| {
            use base64::Engine as _;
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            assert!(line["line"].is_u64() && line["class"].is_string(), "{line}");
            base64::engine::general_purpose::STANDARD
                .decode(line["bytes"].as_str().expect("bytes"))
                .expect("base64")
        })
        .collect();
    assert_eq!(kept, [b"{\"id\":\"t3\" oops".to_vec(), b"[1]".to_vec()]);
    let delivered = world.outcomes("delivered.ndjson");
    let first = lines.lines().next().expect("a line");
    let head = &first[..first.len() - 1];
    assert!(delivered.starts_with(head), "numbers and order as they came: {delivered}");
    assert!(world.outcomes("failed.ndjson").contains("\"_runner\":{\"run\":"));
    let again = World::new()
        .pipeline(&pipeline, "")
        .file("data/again.ndjson", format!("{delivered}{}", world.outcomes("failed.ndjson")));
    again.run("apply p --input data/again.ndjson").exits(0).says("3 delivered");
    assert!(again.seen().iter().all(|seen| !String::from_utf8_lossy(&seen.body).contains("_runner")));
}

#[test]
fn what_a_status_means_depends_on_whether_a_repeat_is_harmless() {
    let world = World::new().pipeline(PUT_THINGS, things(1)).script("* * first=3 -> 500");
    world.run("apply p").exits(0);
    assert_eq!(world.seen().len(), 4, "500 where a repeat is harmless: four sendings in all");
    let world = World::new().pipeline(PUT_THINGS, things(1)).script("* * -> 500");
    world.run("apply p").exits(6);
    assert_eq!(
        (world.seen().len(), states(&world, IN_DOUBT)),
        (4, 1),
        "they ran out, and any may have acted"
    );
    let world = World::new().pipeline(POST_THINGS, things(1)).script("* * -> 500");
    world.run("apply p").exits(6).says("1 in doubt");
    assert_eq!((world.seen().len(), states(&world, IN_DOUBT)), (1, 1), "500 to a plain POST");
    let world = World::new().pipeline(POST_THINGS, things(1)).script("* * -> 429");
    world.run("apply p").exits(1);
    assert_eq!((world.seen().len(), states(&world, FAILED)), (4, 1), "each certainly did nothing");
    // A refusal behind an attempt that may have acted settles only itself.
    let world =
        World::new().pipeline(PUT_THINGS, things(1)).script("* * #1 -> cut_after_effect\n* * #2 -> 404");
    world.run("apply p").exits(6);
    assert_eq!(states(&world, IN_DOUBT), 1);
}

#[test]
fn doubt_that_is_skipped_by_policy_says_so() {
    let world =
        World::new().pipeline(&with(POST_THINGS, "in_doubt: skip"), things(2)).script("* * #1 -> 500");
    world.run("apply p --concurrency 1").exits(0);
    let said = Said::of(&world, "p");
    assert_eq!(said.rows[&0].class, "in_doubt");
    assert!(said.rows[&0].message.contains("may have arrived (http_500)"), "{:?}", said.rows[&0]);
}

#[test]
fn a_path_that_is_not_there_halts_the_run() {
    let world = World::new().pipeline(&POST_THINGS.replace("path: /things", "path: /nothing"), things(9));
    world.run("apply p --concurrency 1").exits(9).says("has no such endpoint");
    assert_eq!(world.seen().len(), 1);
    // With a record's value in the path a 404 is about the record.
    let world = World::new().pipeline(PUT_THINGS, things(3)).script("* * -> 404");
    world.run("apply p").exits(1).says("3 failed");
}

#[test]
fn a_wait_that_is_asked_for_is_kept_by_all() {
    for header in ["1", "date+2"] {
        let world = World::new()
            .pipeline(POST_THINGS, things(6))
            .script(&format!("* * #2 -> 429 retry-after={header}"));
        world.run("apply p --concurrency 1").exits(0);
        let seen = world.seen();
        assert_eq!(seen.len(), 7);
        let pause = seen[2].at_ms - seen[1].at_ms;
        // An HTTP date has whole seconds, so up to one less than was meant.
        assert!(pause >= 990, "{header}: {pause} ms");
    }
    for header in ["soon", "-5", "date-100", "99999999999999999999999"] {
        let world = World::new()
            .pipeline(POST_THINGS, things(3))
            .script(&format!("* * #2 -> 429 retry-after={header}"));
        world.run("apply p --concurrency 1").exits(0);
        assert_eq!(world.seen().len(), 4, "{header}");
    }
    let world = World::new().pipeline(POST_THINGS, things(3)).script("* * #2 -> 503 retry-after=99999999");
    world.run("apply p --concurrency 1").exits(7).says("asked to wait").says("max_retry_after");
    assert_eq!((world.seen().len(), states(&world, PENDING)), (2, 2));
    world.answers("");
    world.run("apply p").exits(0);
    assert_eq!(world.seen().len(), 4);
}

#[test]
fn budgets_halt_the_run() {
    let world = World::new()
        .pipeline(&with(POST_THINGS, "stop_when: { failures: 3 }"), things(50))
        .script("* * -> 422");
    world.run("apply p --concurrency 1").exits(9).says("stop_when.failures");
    assert_eq!(world.seen().len(), 3);
    let rate = "stop_when: { failure_rate: 20%, window: 10 }";
    let world = World::new().pipeline(&with(POST_THINGS, rate), things(50)).script("* * every=3 -> 422");
    world.run("apply p --concurrency 1").exits(9).says("stop_when.failure_rate");
    assert_eq!(world.seen().len(), 10);
    // The first five go one at a time, whatever the lanes.
    let world = World::new()
        .pipeline(&with(POST_THINGS, "stop_when: { canary: 5 }"), things(50))
        .script("* * first=3 -> 422");
    world.run("apply p --concurrency 8").exits(9).says("stop_when.canary");
    assert_eq!(world.seen().len(), 5);
    let world = World::new()
        .pipeline(&with(POST_THINGS, "stop_when: { consecutive: 4 }"), things(50))
        .script("* * after=2 -> 500");
    world.run("apply p --concurrency 1").exits(9).says("stop_when.consecutive");
    assert_eq!((world.seen().len(), states(&world, IN_DOUBT)), (6, 4));
    // Nothing in doubt: the far side is down, and a scheduler may start it again.
    let world = World::new()
        .pipeline(&with(POST_THINGS, "stop_when: { consecutive: 3 }"), things(50))
        .script("* * -> 429");
    world.run("apply p --concurrency 1").exits(7);
    assert_eq!(world.seen().len(), 3);
}

#[test]
fn refused_credentials_halt_at_once_or_after_a_success_at_three_in_a_row() {
    let world = World::new().pipeline(POST_THINGS, things(9)).script("* * -> 401");
    world.run("apply p --concurrency 1").exits(9).says("credentials");
    assert_eq!((world.seen().len(), states(&world, PENDING)), (1, 9));
    let world = World::new().pipeline(POST_THINGS, things(9)).script("* * #3-4 -> 401");
    world.run("apply p --concurrency 1").exits(0);
    assert_eq!(world.seen().len(), 11, "twice is no reason to stop");
    let world = World::new().pipeline(POST_THINGS, things(9)).script("* * after=2 -> 401");
    world.run("apply p --concurrency 1").exits(9);
    assert_eq!((world.seen().len(), states(&world, DELIVERED)), (5, 2));
}

#[test]
fn retry_sends_what_failed_with_a_new_key_and_only_that() {
    let pipeline =
        POST_THINGS.replace("path: /things }", "path: /things, idempotency: { header: Idempotency-Key }, errors: { class: '{{ response.body.status }}' } }");
    let world = World::new().pipeline(&pipeline, things(6)).script(
        "POST * body.id=t2 -> 422 class=BAD\nPOST * body.id=t4 -> 422 class=OTHER\nPOST * body.id=t5 -> 409 class=BAD\nPOST * body.id=t6 first=2 -> 503",
    );
    world.run("apply p --concurrency 1").exits(1).says("3 delivered, 3 failed");
    let key = |at: usize| world.seen()[at].headers["idempotency-key"].to_str().expect("text").to_owned();
    let of = |id: &str| -> Vec<usize> {
        let body = format!("\"{id}\"");
        world
            .seen()
            .iter()
            .enumerate()
            .filter(|(_, seen)| String::from_utf8_lossy(&seen.body).contains(&body))
            .map(|(at, _)| at)
            .collect()
    };
    let automatic: BTreeSet<String> = of("t6").into_iter().map(key).collect();
    assert_eq!((of("t6").len(), automatic.len()), (3, 1), "automatic attempts share their key");
    world.answers("");
    let retry = |filter: &str| {
        let mut command = world.command("retry p --where");
        crate::world::Run::of(command.arg(filter).output().expect("it runs"), &world)
    };
    retry("class == 'BAD' and status == 422").exits(1).says("4 delivered, 2 failed");
    assert_eq!(of("t2").len(), 2);
    assert_ne!(key(of("t2")[0]), key(of("t2")[1]), "a certain failure takes the next key");
    retry("class == 'BAD'").exits(1).says("5 delivered, 1 failed");
    world.run("retry p").exits(0).says("6 delivered");
    assert_eq!(world.seen().len(), 8 + 3);
    world.run("retry p").exits(0).says("nothing to do");
}
