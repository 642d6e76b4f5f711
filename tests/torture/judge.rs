//! What has to hold, beyond the oracle that all tests share: the end equals that of an undisturbed
//! run, keys stay, replies are kept once, and doubt has its bound.

use std::collections::{BTreeMap, BTreeSet};

use runner::sandbox::Seen;

use crate::bench::{Bench, Mode, REFUSED};
use crate::figures::Figures;
use crate::oracle::{DELIVERED, FAILED, IN_DOUBT, SKIPPED, Said};
use crate::shim::{Call, Kind};
use crate::world::Run;

/// What holds at every moment; before a run is begun nothing may have been sent.
pub fn holds(bench: &Bench, journal: &[Seen]) {
    if Said::found(&bench.world, "p").is_some() {
        bench.case().holds(journal);
    } else {
        assert!(journal.is_empty(), "(c) {} requests, and no run is noted", journal.len());
    }
}

/// What holds after a start that ended by itself with everything settled. `kills` starts before it
/// did not end in order.
pub fn complete(bench: &Bench, run: &Run, journal: &[Seen], kills: u64, figures: &mut Figures) -> Said {
    let about = || format!("{:?}, after {kills} breaks\n{}", bench.setup, run.stderr);
    assert!([0, 1, 6].contains(&run.code), "it ended with {}: {}", run.code, about());
    let said = bench.case().holds_at_the_end(journal);
    let doubtful = said.in_state(IN_DOUBT);
    figures.resent += said.noted.values().sum::<u64>();
    figures.doubt += doubtful.len() as u64;
    figures.requests += journal.len() as u64;

    // (h) The end is that of an undisturbed run, but for what is held by policy. A refusal of what
    // may have arrived before settles nothing, so that record may be held in every mode.
    let refused = REFUSED as u64 - 1;
    for (ordinal, row) in &said.rows {
        let usual = match *ordinal {
            ordinal if ordinal == refused => FAILED,
            10 => SKIPPED,
            _ => DELIVERED,
        };
        let held = row.state == IN_DOUBT && (!bench.setup.resends() || *ordinal == refused);
        assert!(row.state == usual || held, "(h) record {ordinal} is {row:?}: {}", about());
    }
    assert_eq!(run.code == 6, !doubtful.is_empty(), "(g) {} in doubt, {}", doubtful.len(), about());
    // (i) The lanes, and what one commit can hold.
    let bound = kills * (bench.setup.lanes as u64 + 64) * bench.setup.size as u64;
    assert!(doubtful.len() as u64 <= bound, "(i) {} in doubt, {}", doubtful.len(), about());
    keys_stay(bench, journal);
    replies_are_kept_once(bench, &said);
    said
}

/// (e) All attempts of a record carry one key, and no other record has it.
fn keys_stay(bench: &Bench, journal: &[Seen]) {
    if bench.setup.mode != Mode::Keyed {
        return;
    }
    let mut keys: BTreeMap<&[u8], BTreeSet<&[u8]>> = BTreeMap::new();
    for seen in journal {
        let key = seen.headers.get("idempotency-key").expect("(e) a key").as_bytes();
        keys.entry(&seen.body[..]).or_default().insert(key);
    }
    // A certain failure that is retried takes another key.
    let refused = format!("\"id\":\"t{REFUSED}\"");
    let another = |body: &[u8]| bench.retried && String::from_utf8_lossy(body).contains(&refused);
    let stays =
        |(body, keys): (&&[u8], &BTreeSet<&[u8]>)| keys.len() == 1 || another(body) && keys.len() == 2;
    assert!(keys.iter().all(stays), "(e) a record with two keys");
    if bench.setup.size > 1 {
        let mut bodies: BTreeMap<&[u8], BTreeSet<&Option<String>>> = BTreeMap::new();
        for seen in journal {
            let key = seen.headers.get("idempotency-key").expect("(e) a key").as_bytes();
            bodies.entry(key).or_default().insert(&seen.object);
        }
        assert!(bodies.values().all(|bodies| bodies.len() == 1), "(e) two calls with one key");
        return;
    }
    let all: BTreeSet<_> = keys.values().flatten().collect();
    let each = keys.values().map(BTreeSet::len).sum::<usize>();
    assert_eq!(all.len(), each, "(e) two records with one key");
}

/// (f) One whole line in `responses.ndjson` for each outcome that a reply decided.
fn replies_are_kept_once(bench: &Bench, said: &Said) {
    let path = bench.case().folder(said).join("responses.ndjson");
    let text = std::fs::read_to_string(&path).expect("(f) responses.ndjson");
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("(f) a whole line");
        let ordinal = line["ordinal"].as_u64().expect("(f) an ordinal");
        if line["state"] == "pending" {
            // That of a call before the last.
            continue;
        }
        let is_new = found.insert(ordinal);
        let refused_again = bench.retried && ordinal == REFUSED as u64 - 1;
        assert!(is_new || refused_again, "(f) two replies are kept for record {ordinal}");
    }
    let decided: BTreeSet<u64> = said
        .rows
        .iter()
        .filter(|(_, row)| row.state == DELIVERED || row.state == FAILED)
        .map(|(ordinal, _)| *ordinal)
        .collect();
    let missing: Vec<_> = decided.difference(&found).collect();
    assert!(missing.is_empty(), "(f) no reply is kept for {missing:?}");
}

/// P12 and B104 over a log in which a call failed by order: how many requests were begun after it,
/// and that no failed sync was tried again. `None` when nothing failed.
pub fn after_the_failure(calls: &[Call], order: &str) -> Option<u64> {
    let first = calls.iter().position(|call| call.failed)?;
    for (at, call) in calls.iter().enumerate().filter(|(_, call)| call.failed && call.kind == Kind::Sync) {
        let again = calls[at + 1..].iter().any(|later| {
            later.kind == Kind::Sync && later.path == call.path && later.process == call.process
        });
        assert!(!again, "B104: the sync of {} was tried again, {order}", call.path);
    }
    let stops = |kind| matches!(kind, Kind::Write | Kind::Sync | Kind::Rename | Kind::Truncate);
    if !stops(calls[first].kind) {
        return Some(0);
    }
    Some(calls[first..].iter().filter(|call| call.kind == Kind::Send && call.result > 0).count() as u64)
}
