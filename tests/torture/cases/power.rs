//! T04: power is lost at any moment, and the next start is on another boot of the machine.

use std::collections::BTreeMap;

use runner::sandbox::Seen;

use crate::Plan;
use crate::bench::{Bench, CALLS, SETUPS, STEPS, Setup, ended};
use crate::disk::{self, Lost};
use crate::figures::{Figures, each};
use crate::judge;
use crate::oracle::Said;
use crate::shim::{Call, Kind, Orders, calls};
use crate::world::{Running, things};

const RECORDS: usize = 160;

/// What was recorded before the cut.
#[derive(Clone, Copy, Debug)]
enum Story {
    Undisturbed,
    KilledAndResumed,
    HaltedAndResumed,
    InputGrown,
    FailuresRetried,
}

const STORIES: [Story; 5] = [
    Story::Undisturbed,
    Story::KilledAndResumed,
    Story::HaltedAndResumed,
    Story::InputGrown,
    Story::FailuresRetried,
];

/// Each item is a recording, cut at many moments.
pub fn cut(plan: &Plan) -> Figures {
    let (recordings, cuts) = (plan.amount(8, 60), if plan.full { 60 } else { 6 });
    each(plan, "T04", recordings, |item, chance, figures| {
        let story = STORIES[(item + item / 4 * 2) % STORIES.len()];
        let setups: Vec<Setup> = SETUPS[..4].iter().chain(&CALLS[..3]).chain(&STEPS).copied().collect();
        let mut bench = Bench::new(setups[item % setups.len()], RECORDS);
        bench.retried = matches!(story, Story::FailuresRetried);
        let slow = item % 2 == 1;
        record(&bench, story, slow, chance, figures);
        let (log, seen) = (calls(&bench.world), bench.seen());
        let of_files: Vec<usize> = (0..log.len())
            .filter(|at| !matches!(log[*at].kind, Kind::Send | Kind::Receive | Kind::Read))
            .collect();
        for _ in 0..cuts {
            let at = if chance.bool() {
                chance.usize(0..=log.len())
            } else {
                of_files[chance.usize(0..of_files.len())]
            };
            let lost = Lost::drawn(chance);
            disk::make(&log[..at], lost, &bench.world.path(".runner"), chance);
            figures.states += 1;
            let journal = sent_by(&bench, &log[..at], &seen);
            is_known(&bench, &journal);
            let before = bench.seen().len();
            let orders = Orders { boot: Some("the boot after"), ..Orders::default() };
            let run = bench.apply(Some(&orders), figures);
            let whole: Vec<Seen> = journal.into_iter().chain(bench.seen().into_iter().skip(before)).collect();
            assert!(
                [0, 1, 6].contains(&run.code),
                "{story:?} cut at call {at} of {}, lost {lost:?}: ended with {}\n{}",
                log.len(),
                run.code,
                run.stderr
            );
            // Doubt may be two leases here, more than the input has records.
            judge::complete(&bench, &run, &whole, 4, figures);
        }
    })
}

fn record(bench: &Bench, story: Story, slow: bool, chance: &mut fastrand::Rng, figures: &mut Figures) {
    let orders = Orders { log: true, slow, boot: Some("the boot before"), ..Orders::default() };
    match story {
        Story::Undisturbed => {}
        Story::KilledAndResumed => {
            let kill = Some(format!("before:{}", chance.u64(100..600)));
            bench.apply(Some(&Orders { kill, ..orders.clone() }), figures);
        }
        Story::HaltedAndResumed => {
            let halts = format!("* * after={} -> 401\n", chance.usize(10..120) / bench.setup.size);
            bench.world.answers(&(bench.setup.usual_replies() + &halts));
            let run = bench.apply(Some(&orders), figures);
            assert_eq!(run.code, 9, "{}", run.stderr);
            bench.world.answers(&bench.setup.usual_replies());
        }
        Story::InputGrown => {
            bench.world.write("data/things.csv", things(RECORDS / 2));
            let run = bench.apply(Some(&orders), figures);
            assert_eq!(run.code, 1, "{}", run.stderr);
            bench.world.write("data/things.csv", things(RECORDS));
        }
        Story::FailuresRetried => {
            let run = bench.apply(Some(&orders), figures);
            assert_eq!(run.code, 1, "{}", run.stderr);
            let mut command = bench.world.command("retry p");
            orders.give(&bench.world, &mut command);
            let run = ended(&mut Running::of(&mut command), &bench.world);
            assert_eq!(run.code, 1, "{}", run.stderr);
            return;
        }
    }
    let run = bench.apply(Some(&orders), figures);
    assert!([1, 6].contains(&run.code), "{}", run.stderr);
}

/// What the far side has read for certain or perhaps: everything that was handed to a socket.
fn sent_by(bench: &Bench, log: &[Call], seen: &[Seen]) -> Vec<Seen> {
    let mut sent: BTreeMap<String, usize> = BTreeMap::new();
    for call in log.iter().filter(|call| call.kind == Kind::Send && call.result > 0) {
        let text = String::from_utf8_lossy(&call.data);
        if text.starts_with("GET ") {
            continue;
        }
        let between = |text: &str, before: &str, behind: char| {
            let (_, rest) = text.split_once(before)?;
            rest.split(behind).next().map(str::to_owned)
        };
        let in_path = between(&text, "/things/", ' ');
        // A call can have several records.
        let in_body =
            text.match_indices("\"id\":\"").filter_map(|(at, _)| between(&text[at..], "\"id\":\"", '"'));
        for key in in_path.into_iter().chain(in_body) {
            *sent.entry(key).or_default() += 1;
        }
    }
    seen.iter()
        .filter(|one| {
            let key = bench.key_of(one);
            let left = sent.get_mut(&key);
            left.is_some_and(|left| std::mem::replace(left, left.saturating_sub(1)) > 0)
        })
        .cloned()
        .collect()
}

/// (c) on the disk as it is, before anything is recovered: whatever was sent has a row or lies
/// within the lease.
fn is_known(bench: &Bench, journal: &[Seen]) {
    let Some(said) = Said::found(&bench.world, "p") else {
        assert!(journal.is_empty(), "(c) {} requests, and no run is on disk", journal.len());
        return;
    };
    for seen in journal {
        let key = bench.key_of(seen);
        let ordinal =
            bench.keys.iter().zip(0..).find(|(known, _)| **known == key).map(|(_, ordinal)| ordinal);
        let ordinal = ordinal.expect("a record");
        assert!(
            ordinal < said.lease || said.rows.contains_key(&ordinal),
            "(c) record {ordinal} was sent and lies behind the lease {}",
            said.lease
        );
    }
}
