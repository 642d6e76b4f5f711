//! `resolve`: what a person decides about records in doubt, and what `apply` makes of it.

use insta::assert_snapshot;

use crate::world::{POST_THINGS, World, things};

/// Three things, the second and third in doubt.
fn doubtful() -> World {
    let world = World::new()
        .pipeline(POST_THINGS, things(3))
        .script("POST /things #2 -> cut_after_effect\nPOST /things #3 -> cut_after_effect");
    world.run("apply p --concurrency 1").exits(6).says("2 in doubt");
    world.answers("");
    assert_eq!(world.seen().len(), 3);
    world
}

#[test]
fn what_is_resent_goes_out_with_the_next_apply_and_nothing_else() {
    let world = doubtful();
    assert_snapshot!(world.run("resolve p --resend --record t3").exits(0).stdout, @r#"
    p: 1 record: goes out again, run [RUN]
      before      1 delivered, 2 in doubt of 3
      after       1 delivered, 1 in doubt, 1 unsent of 3
    nothing was sent yet
    next: runner resolve p --all --resend (or --delivered, --failed, --skip)
          runner apply p
    "#);
    assert!(world.outcomes("unsent.csv").contains("t3,thing 3,"), "{}", world.outcomes("unsent.csv"));
    assert_eq!(world.seen().len(), 3);
    world.run("apply p").exits(6).says("2 delivered");
    let sent: Vec<String> = world.seen()[3..].iter().map(|seen| format!("{:?}", seen.body)).collect();
    assert_eq!(world.seen().len(), 4, "{sent:?}");
    // The id of the run, status, class, message and attempts follow the record's own columns.
    let delivered = world.outcomes("delivered.csv");
    let row = delivered.lines().find(|line| line.starts_with("t3,")).unwrap_or_default();
    assert!(row.ends_with(",2"), "two attempts: {delivered}");
    world.run("resolve p --resend --all").exits(0);
    world.run("apply p").exits(0).says("3 delivered");
    assert_eq!(world.seen().len(), 5);
}

#[test]
fn what_arrived_failed_or_is_skipped_is_settled_without_a_request() {
    for (flag, code, counts) in [
        ("--delivered", 0, "3 delivered, 0 failed, 0 invalid, 0 skipped, 0 in doubt"),
        ("--failed", 1, "1 delivered, 2 failed, 0 invalid, 0 skipped, 0 in doubt"),
        ("--skip", 0, "1 delivered, 0 failed, 0 invalid, 2 skipped, 0 in doubt"),
    ] {
        let world = doubtful();
        world.run(&format!("resolve p {flag} --all")).exits(0);
        assert_eq!(world.outcomes("in_doubt.csv"), "");
        world.run("status p --verify").exits(0);
        world.run("apply p").exits(code).says(counts);
        assert_eq!(world.seen().len(), 3, "{flag}");
    }
}

#[test]
fn a_failure_that_a_person_confirmed_can_be_retried() {
    let world = doubtful();
    world.run("resolve p --failed --ordinal 1").exits(0);
    world.run("retry p").exits(6).says("2 delivered, 0 failed");
    assert_eq!(world.seen().len(), 4);
}

#[test]
fn all_that_is_named_is_in_doubt_or_nothing_is_changed() {
    let world = doubtful();
    let refused = world.run("resolve p --skip --record t2 --record t1").exits(5);
    assert_snapshot!(refused.stderr, @r#"
    error[not-in-doubt]: the record with key #c03234fa is delivered, not in doubt
       = nothing was changed
    help: in_doubt.* in the run's folder lists the records; `runner status` names it
    "#);
    world
        .run("resolve p --skip --ordinal 0")
        .exits(5)
        .says("the record at position 0 is delivered, not in doubt");
    world.run("resolve p --skip --ordinal 9").exits(5).says("is not known to any run");
    assert_eq!(world.run("status p --format json").json()["summary"]["counts"]["in_doubt"], 2);
    world.run("resolve p --skip --all").exits(0);
    world.run("resolve p --skip --all").exits(5).says("no record is in doubt");
}

#[test]
fn a_record_of_an_older_run_goes_out_with_the_newer_one_that_waits_for_it() {
    let world = doubtful();
    world.write("data/things.csv", "id,name\nt2,thing 2 again\nt9,thing 9\n");
    world.run("apply p").exits(0).says("1 delivered, 0 failed, 0 invalid, 1 skipped");
    assert_eq!(world.seen().len(), 4);
    assert_eq!(world.run("status p --format json").json()["summary"]["held_before"], 2);
    world.run("resolve p --resend --record t2").exits(0);
    world.run("apply p").exits(0).says("2 delivered, 0 failed, 0 invalid, 0 skipped");
    assert_eq!(world.seen().len(), 5);
}
