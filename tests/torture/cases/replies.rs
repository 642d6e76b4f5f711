//! A far side that misbehaves: bad replies, closed connections, refusals without end; and order
//! under many lanes.

use std::collections::BTreeMap;

use crate::Plan;
use crate::bench::{Bench, Mode, SETUPS, Setup};
use crate::figures::{Figures, each};
use crate::judge;
use crate::oracle::{FAILED, IN_DOUBT, Said};
use crate::world::World;

/// What the far side does instead; a wait is short, so that limits of time strike soon.
const BAD: [&str; 24] = [
    "500",
    "500 act",
    "502",
    "503",
    "503 retry-after=0",
    "503 retry-after=soon",
    "503 retry-after=-5",
    "504 act",
    "429 retry-after=0",
    "429 retry-after=date-2",
    "408",
    "425",
    "hang",
    "late 300ms",
    "cut_before",
    "cut_after_effect",
    "cut_in_headers",
    "cut_in_body",
    "reset",
    "garbage",
    "endless_headers",
    "html",
    "html 502 act",
    "close_silent",
];

/// T08: a share of the replies is bad, for endpoints whose repeats are harmless, keyed, or not.
pub fn bad(plan: &Plan) -> Figures {
    let items = plan.amount(12, BAD.len() * 3 * 4);
    each(plan, "T08", items, |item, chance, figures| {
        let setup = [SETUPS[0], SETUPS[1], SETUPS[2]][item % 3];
        // A sample takes other replies than the first few.
        let reply = if plan.full { BAD[item / 3 % BAD.len()] } else { BAD[chance.usize(0..BAD.len())] };
        let bench = Bench::with(setup, if plan.full { 100 } else { 30 }, "timeout: 100ms, ");
        let seed = chance.u32(0..1000);
        bench.world.answers(&format!("* * {}% seed={seed} -> {reply}", [5, 20, 60][chance.usize(0..3)]));
        figures.faults += 1;
        let run = bench.apply(None, figures);
        assert!([0, 1, 6, 7, 9].contains(&run.code), "`{reply}` ended with {}\n{}", run.code, run.stderr);
        judge::holds(&bench, &bench.world.seen());
        bounded(&bench, 1);
        bench.world.answers("");
        let run = bench.apply(None, figures);
        assert!([0, 1, 6].contains(&run.code), "`{reply}`, then ended with {}\n{}", run.code, run.stderr);
        let journal = bench.world.seen();
        let said = bench.case().holds_at_the_end(&journal);
        let failed = said.in_state(FAILED);
        let certain = failed.iter().all(|ordinal| !said.rows[ordinal].unknown);
        assert!(certain, "`{reply}`: what may have arrived is said to have failed");
        bounded(&bench, 2);
        count(&said, journal.len(), figures);
    })
}

fn count(said: &Said, requests: usize, figures: &mut Figures) {
    figures.requests += requests as u64;
    figures.resent += said.noted.values().sum::<u64>();
    figures.doubt += said.in_state(IN_DOUBT).len() as u64;
}

/// No record is tried more than four times in a start.
fn bounded(bench: &Bench, starts: usize) {
    let mut requests: BTreeMap<String, usize> = BTreeMap::new();
    for seen in bench.world.seen() {
        *requests.entry(bench.key_of(&seen)).or_default() += 1;
    }
    for (key, count) in requests {
        assert!(count <= 4 * starts, "{key} was sent {count} times in {starts} starts");
    }
}

/// T09: the far side closes the connection after each reply without having said so. Plain POSTs:
/// none is sent twice, and what met a closed connection is in doubt.
pub fn closed_after_each(plan: &Plan) -> Figures {
    let (items, records) = (plan.amount(1, 10), if plan.full { 5000 } else { 300 });
    each(plan, "T09", items, |_, _, figures| {
        let bench = Bench::new(Setup { mode: Mode::Hold, lanes: 64, size: 1, looks: false }, records);
        bench.world.answers("* * -> close_silent");
        figures.faults += 1;
        let run = bench.apply(None, figures);
        assert!([0, 6].contains(&run.code), "it ended with {}\n{}", run.code, run.stderr);
        let journal = bench.world.seen();
        let said = bench.case().holds_at_the_end(&journal);
        let doubtful = said.in_state(IN_DOUBT);
        assert!(doubtful.len() <= 64, "{} in doubt", doubtful.len());
        let classed = doubtful.iter().all(|ordinal| !said.rows[ordinal].class.is_empty());
        assert!(classed, "a doubt without a reason");
        count(&said, journal.len(), figures);
    })
}

/// T10: nine of ten replies are 429. The waits are short here, so that it ends; the attempts are
/// bounded, and what was given up is certain not to have arrived.
pub fn storm(plan: &Plan) -> Figures {
    let (items, records) = (plan.amount(3, 24), if plan.full { 1000 } else { 60 });
    each(plan, "T10", items, |item, chance, figures| {
        let bench = Bench::with(SETUPS[item % 3], records, "stop_when: { consecutive: 100000 }, ");
        bench.world.answers(&format!("* * 90% seed={} -> 429 retry-after=0", chance.u32(0..1000)));
        figures.faults += 1;
        let run = bench.apply(None, figures);
        assert_eq!(run.code, 1, "{}", run.stderr);
        let journal = bench.world.seen();
        let said = bench.case().holds_at_the_end(&journal);
        assert_eq!(said.in_state(IN_DOUBT).len(), 0, "a 429 leaves no doubt");
        bounded(&bench, 1);
        count(&said, journal.len(), figures);
    })
}

/// T22: each key a hundred times, 64 lanes, replies that take a while. A second request of a key
/// comes after the reply to the first, and in the order of the input.
pub fn one_key_often(plan: &Plan) -> Figures {
    const DELAY: u64 = 5;
    let (items, keys, times) = (plan.amount(1, 5), 100, if plan.full { 100 } else { 20 });
    each(plan, "T22", items, |_, _, figures| {
        let mut rows = String::from("id,turn\n");
        for turn in 0..times {
            for key in 0..keys {
                rows.extend(["k", &key.to_string(), ",", &turn.to_string(), "\n"]);
            }
        }
        let pipeline =
            crate::world::POST_THINGS.replace("delivery:", "select: { duplicates: allow }\ndelivery:");
        let world = World::new().pipeline(&pipeline, rows).script(&format!("* * -> delay {DELAY}ms"));
        let run = world.run("apply p --concurrency 64");
        figures.starts += 1;
        assert_eq!(run.code, 0, "{}", run.stderr);
        let seen = world.seen();
        figures.requests += seen.len() as u64;
        assert_eq!(seen.len(), keys * times);
        let mut last: BTreeMap<String, (u64, usize)> = BTreeMap::new();
        for one in &seen {
            let body: serde_json::Value = serde_json::from_slice(&one.body).expect("JSON");
            let key = body["id"].as_str().expect("a key").to_owned();
            let turn: usize = body["turn"].as_str().and_then(|turn| turn.parse().ok()).expect("a turn");
            if let Some((at, before)) = last.insert(key.clone(), (one.at_ms, turn)) {
                assert_eq!(turn, before + 1, "{key} out of order");
                // The reply was held back so long; stamps are whole milliseconds.
                assert!(one.at_ms + 1 >= at + DELAY, "{key}: two in flight, {at} and {}", one.at_ms);
            }
        }
    })
}
