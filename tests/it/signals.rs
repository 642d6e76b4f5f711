//! Signals and deadlines: an orderly stop, what is under way then, and how to go on.

use std::os::unix::process::CommandExt as _;

use rustix::process::Signal;

use crate::oracle::{Case, DELIVERED, IN_DOUBT, PENDING, Said};
use crate::world::{POST_THINGS, PUT_THINGS, Running, World, things};

fn keys(n: usize) -> Vec<String> {
    (1..=n).map(|n| format!("t{n}")).collect()
}

/// Short waits, so that a far side that never answers does not hold the stop up.
fn impatient(pipeline: &str) -> String {
    pipeline.replace("delivery: {", "delivery: { stop_grace: 50ms,")
}

#[test]
fn a_stop_waits_for_the_replies_under_way_and_begins_nothing() {
    let world = World::new().pipeline(POST_THINGS, things(40)).script("* * -> delay 300ms");
    let mut running = world.start("apply p --concurrency 8");
    assert!(world.until(&running, 8));
    running.signal(Signal::TERM);
    let run = running.ended(&world).exits(7).says("runner apply p");
    assert!(run.stderr.contains("8 delivered"), "{}", run.stderr);
    assert_eq!(world.seen().len(), 8);
    let said = Said::of(&world, "p");
    assert_eq!((said.in_state(DELIVERED).len(), said.in_state(IN_DOUBT).len()), (8, 0));
    // A supervisor waits: the outcome files are for a later start.
    assert_eq!(
        std::fs::read_dir(world.path(".runner/default/runs/p"))
            .expect("runs")
            .flatten()
            .filter(|run| run.path().join("delivered.csv").exists())
            .count(),
        0
    );
    world.answers("");
    let case = Case { world: &world, pipeline: "p", keys: &keys(40), resends: false, seed: 0 };
    world.run("apply p").exits(0);
    case.holds_at_the_end(&world.seen());
    assert_eq!(world.seen().len(), 40);
}

#[test]
fn what_has_no_reply_when_the_grace_is_over_is_in_doubt_or_sent_again_by_policy() {
    let world = World::new().pipeline(&impatient(POST_THINGS), things(40)).script("* * -> hang");
    let mut running = world.start("apply p --concurrency 8");
    assert!(world.until(&running, 8));
    running.signal(Signal::TERM);
    running.ended(&world).exits(7).says("8 in doubt");
    assert_eq!(Said::of(&world, "p").in_state(IN_DOUBT).len(), 8);
    world.answers("");
    world.run("apply p").exits(6);
    assert_eq!(world.seen().len(), 40, "those in doubt are not sent again");

    let world = World::new().pipeline(&impatient(PUT_THINGS), things(40)).script("* * -> hang");
    let mut running = world.start("apply p --concurrency 8");
    assert!(world.until(&running, 8));
    running.signal(Signal::HUP);
    running.ended(&world).exits(7);
    let said = Said::of(&world, "p");
    let may_have_arrived =
        said.rows.values().filter(|row| row.state == PENDING && row.unknown && row.attempts == 1);
    assert_eq!(may_have_arrived.count(), 8);
    world.answers("");
    world.run("apply p").exits(0);
    assert_eq!(world.seen().len(), 48);
    let said = Said::of(&world, "p");
    assert_eq!(said.rows.values().filter(|row| row.attempts == 2).count(), 8, "attempts count on");
}

#[test]
fn ctrl_c_ends_by_its_signal_so_that_a_loop_around_it_stops() {
    let world = World::new().pipeline(&impatient(PUT_THINGS), things(4)).script("* * -> hang");
    let mut running = world.start("apply p --concurrency 2");
    assert!(world.until(&running, 2));
    running.signal(Signal::INT);
    let run = running.ended(&world);
    assert_eq!(run.code, 128 + 2, "a status of the signal itself, not a code: {}", run.stderr);
    assert!(run.by_signal, "{}", run.stderr);

    world.write("pipelines/a.yaml", impatient(PUT_THINGS));
    world.write("pipelines/b.yaml", impatient(PUT_THINGS));
    let script = format!(
        "for p in a b; do '{}' apply $p --concurrency 2; done; echo went on",
        env!("CARGO_BIN_EXE_runner")
    );
    // A shell that was started in the background ignores the signal, and so do its children: a test
    // run in the background would wait for ever.
    let mut shell_of = std::process::Command::new("/usr/bin/env");
    shell_of
        .args(["--default-signal=INT", "/bin/sh", "-c", &script])
        .current_dir(world.path(""))
        .env_clear()
        .process_group(0);
    shell_of.stdin(std::process::Stdio::null());
    let before = world.far_side().tally().requests;
    let mut running = Running::of(&mut shell_of);
    assert!(world.until(&running, before + 2));
    running.signal_group(Signal::INT);
    let run = running.ended(&world);
    assert!(!run.stdout.contains("went on"), "{}", run.stdout);
    assert!(!world.path(".runner/default/state/b.db").exists(), "the second pipeline was begun");
}

#[test]
fn a_second_signal_cuts_the_wait() {
    // The grace of 20 s is longer than any patience of this test.
    let world = World::new().pipeline(POST_THINGS, things(9)).script("* * -> hang");
    let mut running = world.start("apply p --concurrency 3");
    assert!(world.until(&running, 3));
    running.signal(Signal::TERM);
    running.until_says("finishing 3 requests");
    running.signal(Signal::TERM);
    running.ended(&world).exits(7).says("3 in doubt");
    assert_eq!(world.seen().len(), 3);
}

#[test]
fn a_status_line_on_request_and_the_run_goes_on() {
    let world = World::new().pipeline(&impatient(POST_THINGS), things(9)).script("* * after=4 -> hang");
    let mut running = world.start("apply p --concurrency 2");
    assert!(world.until(&running, 6));
    running.signal(Signal::USR1);
    running.until_says("4 delivered");
    running.signal(Signal::TERM);
    running.ended(&world).exits(7);
}

#[test]
fn a_deadline_stops_the_start_and_the_next_goes_on() {
    let world = World::new().pipeline(&impatient(PUT_THINGS), things(9)).script("* * after=4 -> hang");
    world
        .run("apply p --max-duration 500ms --concurrency 2")
        .exits(7)
        .says("--max-duration")
        .says("runner apply p");
    world.answers("");
    world.run("apply p").exits(0).says("9 delivered");
}
