//! Outcome files as input: their rows settle the records of the run that wrote them.

use crate::oracle::{DELIVERED, FAILED, IN_DOUBT, Said};
use crate::world::{POST_THINGS, PUT_THINGS, World, things};

/// The path of an outcome file of the newest run.
fn file(world: &World, name: &str) -> String {
    format!(".runner/default/runs/p/{}/{name}", Said::of(world, "p").run)
}

/// Six things, the second and fifth refused.
fn two_refused() -> World {
    let world = World::new()
        .pipeline(POST_THINGS, things(6))
        .script("POST /things #2 -> 422 class=BAD\nPOST /things #5 -> 422 class=BAD");
    world.run("apply p --concurrency 1").exits(1).says("4 delivered, 2 failed");
    world.answers("");
    world
}

#[test]
fn corrected_failures_settle_the_records_that_failed() {
    let world = two_refused();
    let failed = world.read(&file(&world, "failed.csv"));
    world.write("fixed.csv", failed.replace("thing 2", "mended"));
    let plan = world.run("plan p --input fixed.csv").exits(0);
    assert!(plan.stdout.contains("send        2 records"), "{}", plan.stdout);
    let run = world.run("apply p --input fixed.csv").exits(0).says("6 delivered, 0 failed");
    assert!(run.stderr.contains("goes on with run"), "{}", run.stderr);
    let sent: Vec<String> =
        world.seen()[6..].iter().map(|seen| String::from_utf8_lossy(&seen.body).into_owned()).collect();
    assert_eq!(sent, [r#"{"id":"t2","name":"mended"}"#, r#"{"id":"t5","name":"thing 5"}"#]);
    // It is one run, and its own input is done with.
    assert_eq!(world.checkpoint("p").query_row("SELECT count(*) FROM run", [], |row| row.get(0)), Ok(1_i64));
    world.run("apply p").exits(0).says("nothing to do");
    world.run("apply p --input fixed.csv").exits(0).says("nothing to do");
    world.run("status p --verify").exits(0);
    assert_eq!(world.seen().len(), 8);
    assert_eq!(world.outcomes("failed.csv"), "");
    assert_eq!(world.outcomes("delivered.csv").lines().count(), 7);
}

#[test]
fn every_outcome_file_is_an_input_again_and_sends_only_what_is_open() {
    let world = two_refused();
    for name in ["delivered.csv", "failed.csv"] {
        let file = file(&world, name);
        let code = i32::from(name != "failed.csv");
        world.run(&format!("apply p --input {file}")).exits(code);
    }
    assert_eq!(world.seen().len(), 8, "what was delivered is not sent again");
    // What is in doubt stays so; what was not sent goes out.
    let world = World::new()
        .pipeline(POST_THINGS, things(4))
        .script("POST /things #2 -> cut_after_effect\nPOST /things after=2 -> 401");
    world.run("apply p --concurrency 1").exits(9);
    world.answers("");
    let (held, unsent) = (file(&world, "in_doubt.csv"), file(&world, "unsent.csv"));
    world.run(&format!("apply p --input {held}")).exits(6).says("nothing to do");
    world.run(&format!("apply p --input {unsent}")).exits(6).says("3 delivered");
    let said = Said::of(&world, "p");
    assert_eq!((said.in_state(DELIVERED), said.in_state(IN_DOUBT)), (vec![0, 2, 3], vec![1]));
}

#[test]
fn a_start_over_copies_that_was_killed_goes_on() {
    let rows = things(60);
    let world = World::new().pipeline(PUT_THINGS, rows).script("* * -> 422");
    world.run("apply p").exits(1).says("60 failed");
    let failed = world.read(&file(&world, "failed.csv"));
    world.write("fixed.csv", &failed);
    world.answers("* * after=20 -> hang");
    let running = world.start("apply p --input fixed.csv --concurrency 4");
    assert!(world.until(&running, 84));
    running.kill(&world);
    world.answers("");
    world.run("apply p --input fixed.csv --concurrency 4").exits(0).says("60 delivered");
    assert_eq!(Said::of(&world, "p").in_state(DELIVERED).len(), 60);
    world.run("status p --verify").exits(0);
}

#[test]
fn invalid_rows_of_a_json_source_can_be_mended_too() {
    let schema = r#"{"type":"object","properties":{"name":{"type":"string","maxLength":7}}}"#;
    let rows = "{\"id\":\"t1\",\"name\":\"short\"}\n{\"id\":\"t2\",\"name\":\"far too long\"}\n";
    let world = World::new()
        .pipeline(&format!("{PUT_THINGS}schema: schemas/s.json\n").replace("things.csv", "things.ndjson"), "")
        .file("data/things.ndjson", rows)
        .file("schemas/s.json", schema);
    world.run("apply p").exits(1).says("1 delivered, 0 failed, 1 invalid");
    let invalid = world.read(&file(&world, "invalid.ndjson"));
    assert!(invalid.contains(r#""_runner":{"run":""#) && invalid.contains(r#""ordinal":1"#), "{invalid}");
    world.write("fixed.ndjson", invalid.replace("far too long", "fine"));
    world.run("apply p --input fixed.ndjson").exits(0).says("2 delivered");
    assert_eq!(world.asked(), ["PUT /things/t1", "PUT /things/t2"]);
}

#[test]
fn what_is_no_clean_copy_is_refused_and_a_run_that_is_gone_is_said() {
    let world = two_refused();
    let failed = world.read(&file(&world, "failed.csv"));
    let own: Vec<&str> = failed.lines().collect();
    world.write("twice.csv", format!("{failed}{}\n", own[1]));
    world.run("apply p --input twice.csv").exits(4).says("stands here a second time");
    world.write("more.csv", format!("{failed}t9,new,,,,,,\n"));
    world
        .run("apply p --input more.csv")
        .exits(4)
        .says("others that are none of it")
        .says("more.csv, line 4");
    let run = Said::of(&world, "p").run;
    world.write("other.csv", failed.replace(&run, "20200101T0000-0000"));
    assert_eq!(world.seen().len(), 6);
    world.run("apply p --input other.csv --again").exits(0).says("is not kept any more").says("2 delivered");
    // A wish for a run of its own is granted.
    world.run("apply p --input more.csv --fresh --yes").exits(4);
}

#[test]
fn a_mended_template_needs_accept_changes_before_failures_go_under_it() {
    let world = two_refused();
    let mended = format!("{POST_THINGS}body: {{ id: '{{{{ record.id }}}}', mended: true }}\n");
    world.write("pipelines/p.yaml", mended);
    world.run("retry p").exits(5).says("meaning-changed").says("--accept-changes");
    let failed = file(&world, "failed.csv");
    world.run(&format!("apply p --input {failed}")).exits(5).says("meaning-changed");
    assert_eq!((world.seen().len(), Said::of(&world, "p").in_state(FAILED).len()), (6, 2));
    world.run("retry p --accept-changes").exits(0).says("6 delivered");
    assert!(world.seen()[6..].iter().all(|seen| seen.body.ends_with(b"\"mended\":true}")));
}

#[test]
fn a_single_try_goes_under_a_changed_pipeline_only_when_that_is_said() {
    let world = two_refused();
    let mended = format!("{POST_THINGS}body: {{ id: '{{{{ record.id }}}}', mended: true }}\n");
    world.write("pipelines/p.yaml", mended);
    world
        .run("try p --record t2")
        .exits(5)
        .says("meaning-changed")
        .says("runner try p --record t2 --accept-changes");
    assert_eq!(world.seen().len(), 6);
    world.run("try p --record t2 --accept-changes").exits(0);
    assert_eq!(world.seen().len(), 7);
}

#[test]
fn a_copy_of_a_record_that_the_input_does_not_have_is_refused() {
    let world = two_refused();
    let failed = world.read(&file(&world, "failed.csv"));
    let run = Said::of(&world, "p").run;
    world.write("far.csv", failed.replace(&format!("{run},4,"), &format!("{run},6,")));
    world.run("apply p --input far.csv").exits(4).says("does not have");
    assert_eq!(world.seen().len(), 6);
    world.run("status p --verify").exits(0);
}

#[test]
fn outcome_files_of_rows_with_other_delimiters_can_be_sent_again() {
    // The pattern names no ending, so its outcome files are CSV; their rows are those of a file with tabs.
    let world = World::new()
        .pipeline(&PUT_THINGS.replace("data/things.csv", "data/part-*"), "")
        .file("data/part-1.tsv", "id\tname\nt1\ta,b\nt2\tx\n")
        .script("PUT /things/t1 #1 -> 422");
    world.run("apply p").exits(1);
    let failed = world.outcomes("failed.csv");
    assert!(failed.starts_with("id,name,") && failed.contains("\nt1,\"a,b\","), "{failed}");
    world.answers("");
    world.run(&format!("apply p --input {}", file(&world, "failed.csv"))).exits(0);
    assert_eq!(world.seen().last().map(|seen| seen.path.clone()), Some("/things/t1".into()));
}
