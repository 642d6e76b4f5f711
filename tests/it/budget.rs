//! The error budget: what halts a run, what it says then, and that the same command goes on once
//! the cause is mended, with one outcome for each record and nothing sent twice.

use std::collections::BTreeMap;

use insta::assert_snapshot;

use crate::world::{POST_THINGS, PUT_THINGS, Run, World, things};

/// A pipeline with a budget, over fifty things.
fn with(pipeline: &str, budget: &str, script: &str) -> World {
    let pipeline = pipeline.replace("delivery: {", &format!("delivery: {{ stop_when: {{ {budget} }},"));
    World::new().pipeline(&pipeline, things(50)).script(script)
}

fn halted(world: &World) -> Run {
    world.run("apply p --concurrency 1").exits(9)
}

/// The message that says why it was halted.
fn cause(run: &Run) -> String {
    let lines = run.stderr.lines().skip_while(|line| !line.starts_with("error["));
    lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

/// What became of the fifty things: how many stand in each outcome file. Each stands in one.
#[track_caller]
fn outcomes(world: &World) -> BTreeMap<&'static str, usize> {
    let mut ids = Vec::new();
    let mut counts = BTreeMap::new();
    for name in ["delivered", "failed", "invalid", "skipped", "in_doubt", "unsent"] {
        let text = world.outcomes(&format!("{name}.csv"));
        let rows: Vec<String> =
            text.lines().skip(1).filter_map(|line| Some(line.split_once(',')?.0.to_owned())).collect();
        if !rows.is_empty() {
            counts.insert(name, rows.len());
        }
        ids.extend(rows);
    }
    ids.sort_by_key(|id| id[1..].parse::<u32>().unwrap());
    assert_eq!(ids, (1..=50).map(|id| format!("t{id}")).collect::<Vec<_>>());
    counts
}

/// How often the far side was asked for each thing, where that is not once.
fn more_than_once(world: &World) -> BTreeMap<String, usize> {
    let mut asked = BTreeMap::new();
    for path in world.asked() {
        *asked.entry(path).or_insert(0) += 1;
    }
    asked.retain(|_, times| *times != 1);
    asked
}

#[test]
fn a_count_halts_and_the_rest_goes_out_once_the_cause_is_mended() {
    let world = with(PUT_THINGS, "failures: 3", "* * -> 422");
    assert_snapshot!(cause(&halted(&world)), @r#"
    error[error-budget]: 3 records failed or were invalid (`stop_when.failures`)
       = the far side is [HOST]
       = 47 records were not sent; the same command goes on with them
    help: look at the reasons below and mend their cause, then start the same command again
    "#);
    assert_eq!(outcomes(&world), BTreeMap::from([("failed", 3), ("unsent", 47)]));
    world.answers("");
    world.run("apply p").exits(1);
    assert_eq!(outcomes(&world), BTreeMap::from([("delivered", 47), ("failed", 3)]));
    assert_eq!((world.seen().len(), more_than_once(&world)), (50, BTreeMap::new()));
    world.run("retry p").exits(0);
    assert_eq!(outcomes(&world), BTreeMap::from([("delivered", 50)]));
    world.run("status p --verify").exits(0);
}

#[test]
fn failures_of_earlier_starts_do_not_halt_a_run_again() {
    // Two of the fifty are invalid; they are counted in the start that finds them.
    let schema = r#"{ "properties": { "name": { "pattern": "^thing [^2]$|[0-9]{2}$" } } }"#;
    let pipeline = format!("{PUT_THINGS}schema: thing.json\n");
    let world =
        with(&pipeline, "failures: 4, classes: { schema: 2 }", "* * -> 422").file("thing.json", schema);
    halted(&world).says("4 records failed or were invalid");
    assert_eq!((world.seen().len(), outcomes(&world)["failed"]), (3, 3));
    // The cause is still there: this start has a budget of its own.
    halted(&world).says("4 records failed or were invalid");
    assert_eq!((world.seen().len(), outcomes(&world)["failed"]), (7, 7));
    world.answers("");
    world.run("apply p --concurrency 1").exits(1);
    assert_eq!(outcomes(&world), BTreeMap::from([("delivered", 42), ("failed", 7), ("invalid", 1)]));
    assert_eq!(more_than_once(&world), BTreeMap::new());
}

#[test]
fn a_rate_is_judged_once_the_sample_is_there() {
    let budget = "failure_rate: 20%, window: 40, min_sample: 10";
    let world = with(PUT_THINGS, budget, "* * every=3 -> 422");
    halted(&world)
        .says("3 of the last 10 records failed (`stop_when.failure_rate`)")
        .says("40 records were not sent; the same command goes on with them");
    assert_eq!(world.seen().len(), 10);
    world.answers("");
    world.run("apply p").exits(1);
    assert_eq!(outcomes(&world), BTreeMap::from([("delivered", 47), ("failed", 3)]));
    assert_eq!(more_than_once(&world), BTreeMap::new());
    // Without a sample of its own it is the whole window.
    let world = with(PUT_THINGS, "failure_rate: 20%, window: 40", "* * every=3 -> 422");
    halted(&world).says("13 of the last 40 records failed");
}

#[test]
fn a_sample_that_no_window_holds_is_refused() {
    let world = with(PUT_THINGS, "failure_rate: 20%, window: 40, min_sample: 41", "");
    assert_snapshot!(world.run("validate p").exits(3).stderr, @r#"
    error[bad-value]: `min_sample` is 41, more than the `window` of 40
      --> pipelines/p.yaml:9:69
     9 | delivery: { stop_when: { failure_rate: 20%, window: 40, min_sample: 41 }, retry: { first_wait: 1ms, max_wait: 5ms } }
       |                                                                     ^^
    help: the rate looks at the last `window` outcomes, so that it would never be judged

    checked 1 pipeline: 1 error
    "#);
    world.write(
        "pipelines/p.yaml",
        world.read("pipelines/p.yaml").replace("window: 40, min_sample: 41", "min_sample: 200"),
    );
    world.run("validate p").exits(0);
}

#[test]
fn a_class_halts_by_its_own_count() {
    let rule = "outcomes: [{ status: 409, then: failed, class: EMAIL_TAKEN }]";
    let pipeline = PUT_THINGS.replace("  idempotency", &format!("  {rule}\n  idempotency"));
    let budget = "classes: { EMAIL_TAKEN: 4, http_422: 30 }";
    let world = with(&pipeline, budget, "* * every=2 -> 409\n* * every=3 -> 422");
    assert_snapshot!(cause(&halted(&world)), @r#"
    error[error-budget]: 4 records ended with class EMAIL_TAKEN (`stop_when.classes`)
       = the far side is [HOST]
       = 42 records were not sent; the same command goes on with them
    help: look at the reasons below and mend their cause, then start the same command again
    "#);
    world.answers("");
    world.run("apply p").exits(1);
    let taken = world.outcomes("failed.csv").matches(",EMAIL_TAKEN,").count();
    assert_eq!((taken, outcomes(&world).contains_key("unsent")), (4, false));
    assert_eq!((world.seen().len(), more_than_once(&world)), (50, BTreeMap::new()));
}

#[test]
fn a_class_of_invalid_records_halts_too() {
    // Names from `thing 10` on are too long.
    let schema = r#"{ "properties": { "name": { "maxLength": 7 } } }"#;
    let pipeline = format!("{PUT_THINGS}schema: thing.json\n");
    let world = with(&pipeline, "classes: { schema: 5 }", "").file("thing.json", schema);
    halted(&world).says("records ended with class schema (`stop_when.classes`)").says("not sent");
    // The budget is no part of the meaning: it may be raised for the rest.
    world.write("pipelines/p.yaml", world.read("pipelines/p.yaml").replace("schema: 5", "schema: 50"));
    world.run("apply p").exits(1);
    assert!(more_than_once(&world).is_empty());
    assert_eq!(outcomes(&world), BTreeMap::from([("delivered", 9), ("invalid", 41)]));
}

#[test]
fn a_canary_halts_and_the_rest_goes_out_later() {
    let world = with(PUT_THINGS, "canary: 5", "* * first=3 -> 422");
    world
        .run("apply p --concurrency 8")
        .exits(9)
        .says("3 of the first 5 records were refused (`stop_when.canary`)")
        .says("45 records were not sent; the same command goes on with them");
    assert_eq!(world.seen().len(), 5);
    world.answers("");
    world.run("apply p").exits(1);
    assert_eq!(outcomes(&world), BTreeMap::from([("delivered", 47), ("failed", 3)]));
    assert_eq!((world.seen().len(), more_than_once(&world)), (50, BTreeMap::new()));
}

#[test]
fn refused_credentials_halt_at_once_and_their_record_goes_out_later() {
    let world = with(PUT_THINGS, "failures: 9", "* * -> 401");
    halted(&world)
        .says("credentials-refused")
        .says("50 records were not sent; the same command goes on with them");
    assert_eq!(world.seen().len(), 1);
    world.answers("");
    world.run("apply p").exits(0);
    assert_eq!(outcomes(&world), BTreeMap::from([("delivered", 50)]));
    // The attempt that was refused did nothing.
    assert_eq!(more_than_once(&world), BTreeMap::from([("PUT /things/t1".to_owned(), 2)]));
}

#[test]
fn an_endpoint_that_is_not_there_halts_at_once() {
    for status in [404, 405] {
        let world = with(POST_THINGS, "failures: 9", &format!("* * -> {status}"));
        halted(&world)
            .says("has no such endpoint")
            .says("49 records were not sent; the same command goes on with them");
        assert_eq!(world.seen().len(), 1);
        world.answers("");
        world.run("apply p").exits(1);
        assert_eq!(outcomes(&world), BTreeMap::from([("delivered", 49), ("failed", 1)]));
        assert_eq!(world.seen().len(), 50);
        world.run("retry p").exits(0);
        assert_eq!(outcomes(&world), BTreeMap::from([("delivered", 50)]));
        assert_eq!(world.seen().len(), 51);
    }
}

#[test]
fn the_last_record_that_is_left_is_one() {
    let pipeline = PUT_THINGS.replace("delivery: {", "delivery: { stop_when: { failures: 1 },");
    let world = World::new().pipeline(&pipeline, things(2)).script("* * -> 422");
    halted(&world).says("1 record was not sent; the same command goes on with it");
}
