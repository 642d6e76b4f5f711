//! Adaptive concurrency: figures of the simulation, and a run against a far side with a limit.

#[path = "../../benches/simulation/model/mod.rs"]
mod model;

use model::scenarios::{MOST, SCENARIOS, Scenario};
use model::servers::Workers;
use model::world::{Work, adaptive, fixed, run};

use crate::world::{PUT_THINGS, World, things};

fn scenario(name: &str) -> &'static Scenario {
    SCENARIOS.iter().find(|scenario| scenario.name == name).expect("a scenario")
}

/// Where records are few, the beginning is most of it: asserted apart.
const FEW: &str = "20 ms, no limit, 100 records";

/// What refuses at any pace: no setting has fewer refusals, and each costs a look.
const AT_RANDOM: &str = "at random";

#[test]
fn goodput_is_that_of_the_best_fixed_setting_wherever_it_is_and_refusals_are_few() {
    for scenario in
        SCENARIOS.iter().filter(|scenario| scenario.name != FEW && !scenario.name.ends_with(AT_RANDOM))
    {
        let compared = scenario.compare();
        let ((lanes, best), naive, own) = (compared.best(), compared.naive(), compared.adaptive);
        let name = scenario.name;
        assert!(
            own.goodput >= 0.95 * best.goodput,
            "{name}: {:.1}/s, and {:.1}/s with {lanes}",
            own.goodput,
            best.goodput
        );
        assert!(
            10 * own.throttled <= naive.throttled,
            "{name}: {} times 429, and {} with {MOST}",
            own.throttled,
            naive.throttled
        );
        if naive.overloaded > 1000 {
            assert!(10 * own.overloaded <= naive.overloaded, "{name}: {} times 5xx", own.overloaded);
        }
    }
}

#[test]
fn refusals_that_come_whatever_is_done_do_not_bring_it_to_a_standstill() {
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.name.ends_with(AT_RANDOM)) {
        let compared = scenario.compare();
        let share = compared.adaptive.goodput / compared.best().1.goodput;
        let least = if scenario.name.starts_with("5 % 429") { 0.6 } else { 0.9 };
        assert!(share >= least, "{}: {:.1} % of the best", scenario.name, 100.0 * share);
    }
}

#[test]
fn what_is_told_ahead_is_never_run_into() {
    for name in ["100 a second, says what is left", "600 a minute, says what is left"] {
        assert_eq!(scenario(name).adaptive().throttled, 0, "{name}");
    }
}

#[test]
fn no_more_is_in_flight_than_is_of_use() {
    for (name, least, most) in [
        ("10 workers, 25 ms", 10.0, 17.0),
        ("12 order values, no limit", 11.0, 12.1),
        ("stalls for 5 s", 19.0, 35.0),
    ] {
        let lanes = scenario(name).adaptive().lanes;
        assert!((least..most).contains(&lanes), "{name}: {lanes}");
    }
}

#[test]
fn a_few_records_do_not_crawl() {
    let compared = scenario(FEW).compare();
    // Eight is what holds where nothing is said.
    assert!(compared.adaptive.seconds < compared.fixed[3].seconds / 2.0, "{:?}", compared.adaptive);
}

#[test]
fn what_is_far_away_and_large_is_filled_within_some_round_trips() {
    let work = Work { records: 50_000, orders: 0 };
    let far = || Workers::new(|_| 4096, 0.018);
    let own = run(adaptive(256), far(), work);
    assert!(own.full_at.is_some_and(|at| at < 0.2), "{own:?}");
    assert!(own.goodput > 0.95 * run(fixed(256), far(), work).goodput, "{own:?}");
}

#[test]
fn a_limit_of_the_far_side_is_found_and_every_record_delivered_once() {
    let delivery = "delivery: { concurrency: { adaptive: { max: 64 } }, ";
    let world = World::new()
        .pipeline(&PUT_THINGS.replace("delivery: { ", delivery), things(400))
        .script("* * over=100/s -> 429\n* * -> delay 20ms");
    let run = world.run("apply p --format json").exits(0);
    let answer: serde_json::Value = serde_json::from_str(&run.stdout).expect("an answer");
    let summary = &answer["summary"];
    assert_eq!(summary["counts"]["delivered"], 400);
    assert!(summary["pacing"]["concurrency"].as_u64().is_some_and(|lanes| (1..=64).contains(&lanes)));

    let seen = world.seen();
    let mut arrived: Vec<String> =
        seen.iter().filter(|seen| seen.status == Some(200)).map(|seen| seen.path.clone()).collect();
    let refused = seen.len() - arrived.len();
    arrived.sort();
    arrived.dedup();
    assert_eq!((arrived.len(), world.far_side().tally().accepted), (400, 400));
    // 64 lanes that know of no limit meet 50 refusals in a row and stop.
    assert!(refused < 100, "{refused}");
}

#[test]
fn a_plan_names_it() {
    let pipeline = PUT_THINGS.replace("delivery: { ", "delivery: { concurrency: adaptive, ");
    let world = World::new().pipeline(&pipeline, things(3));
    for command in ["plan p", "list settings p"] {
        let run = world.run(command).exits(0);
        assert!(run.stdout.contains("adaptive up to 64"), "{}", run.stdout);
    }
    // A number on the command line is a number.
    let run = world.run("apply p --concurrency 2 --format json").exits(0);
    assert!(run.stdout.contains("\"pacing\":null"), "{}", run.stdout);
}
