//! Calls on the state fail, writes are short, the disk is full: sending stops, nothing is lost, and
//! the next start goes on.

use std::fs::OpenOptions;

use rustix::fs::{CWD, FileType, Mode};

use crate::Plan;
use crate::bench::{Bench, SETUPS, ended, watched};
use crate::figures::{Figures, each};
use crate::judge;
use crate::shim::{Call, FALLIBLE, Kind, Orders, calls};
use crate::world::Running;

const ERRORS: [(&str, i32); 4] = [("EIO", 5), ("ENOSPC", 28), ("EINTR", 4), ("EACCES", 13)];
const RECORDS: usize = 60;
/// How many writes make a new checkpoint, one to the lock before them.
const LAST_OF_MAKING: u64 = 10;
/// Where syncs stand in [`FALLIBLE`].
const SYNC: usize = 3;

/// How many calls of each kind an undisturbed run makes, with each setup.
fn known() -> Vec<Vec<u64>> {
    let of = |setup: usize| {
        let bench = Bench::new(SETUPS[setup], RECORDS);
        bench.apply(Some(&Orders { log: true, ..Orders::default() }), &mut Figures::default());
        let calls = calls(&bench.world);
        FALLIBLE
            .iter()
            .map(|(kind, _)| calls.iter().filter(|call| call.kind == *kind).count() as u64)
            .collect()
    };
    (0..4).map(of).collect()
}

/// T05: one call fails, once or from then on. What may not be repeated is not, nothing is sent
/// after it, and without the fault the run goes on to its usual end.
pub fn each_call_fails(plan: &Plan) -> Figures {
    let known = known();
    let items = plan.amount(70, 1200);
    each(plan, "T05", items, |item, chance, figures| {
        let (setup, error, order) = fault(&known, item, chance);
        let bench = Bench::new(SETUPS[setup], RECORDS);
        fails(&bench, &order, chance.bool(), error == "EINTR", figures);
        let run = bench.apply(None, figures);
        judge::complete(&bench, &run, &bench.world.seen(), 1, figures);
    })
}

/// What fails in an item: first each sync of a run once, then any call.
fn fault(known: &[Vec<u64>], item: usize, chance: &mut fastrand::Rng) -> (usize, &'static str, String) {
    if (item as u64) < known[0][SYNC] {
        return (0, "EIO", format!("sync:{}:once:5", item + 1));
    }
    // The last write that makes the checkpoint: it names the log, and that it failed was not told.
    if item as u64 == known[0][SYNC] {
        return (2, "ENOSPC", format!("write:{LAST_OF_MAKING}:once:28"));
    }
    let setup = item % 4;
    let (error, errno) = ERRORS[item / 4 % ERRORS.len()];
    // An interrupted call is made again by whoever knows what EINTR means: it never ends.
    let how = if error != "EINTR" && chance.bool() { "lasting" } else { "once" };
    let all: u64 = known[setup].iter().sum();
    let mut at = chance.u64(0..all);
    let kind = known[setup].iter().position(|count| {
        let is_here = at < *count;
        if !is_here {
            at -= count;
        }
        is_here
    });
    let (_, name) = FALLIBLE[kind.expect("a kind")];
    (setup, error, format!("{name}:{}:{how}:{errno}", at + 1))
}

/// One start in which a call fails.
fn fails(bench: &Bench, order: &str, slow: bool, interrupted: bool, figures: &mut Figures) {
    let before = calls(&bench.world).len();
    let orders = Orders { fail: Some(order.to_owned()), log: true, slow, ..Orders::default() };
    let run = bench.apply(Some(&orders), figures);
    let log = &calls(&bench.world)[before..];
    let about = || format!("{order}, slow: {slow}, {:?}\n{}", bench.setup, run.stderr);
    // Refused, failed, or gone on without what failed: never a success that is none.
    assert!([0, 1, 3, 4, 5, 6, 8].contains(&run.code), "it ended with {}: {}", run.code, about());
    judge::holds(bench, &bench.world.seen());
    let Some(failed) = log.iter().find(|call| call.failed) else { return };
    figures.faults += 1;
    if run.code == 0 || run.code == 1 || run.code == 6 {
        let sent_later = log.iter().skip_while(|call| !call.failed).any(|call| call.kind == Kind::Send);
        let harmless =
            interrupted || is_harmless(&failed.path, failed.kind, sent_later) || name_was_synced(log);
        assert!(
            harmless,
            "{:?} of {} failed, and the run ended with {}: {}",
            failed.kind,
            failed.path,
            run.code,
            about()
        );
    } else if !interrupted {
        let late = judge::after_the_failure(log, &about()).unwrap_or_default();
        figures.late = figures.late.max(late);
        // What a lane had begun when the news came is not new; anything beyond the lanes is.
        assert!(late <= bench.setup.lanes as u64, "P12: {late} requests after {}", about());
    }
}

/// What may fail without harm: what the next start makes anew, what is only for messages, and the
/// move of a synced log into the database after the last request, which the next start makes up for.
fn is_harmless(path: &str, kind: Kind, sent_later: bool) -> bool {
    path == "default/state/p.lock"
        || path == "default/state/p.db-shm"
        || path == "default/state/p.db" && !sent_later
        // What a start has written is read once more for the digests of the manifest.
        || path.starts_with("default/runs/") && kind == Kind::Open && !sent_later
        || kind == Kind::Unlink
        || kind == Kind::Read
}

/// The database syncs the folder with the first sync of its log and goes on when that fails.
/// Harmless, as the folder was synced before, when the log was made.
fn name_was_synced(log: &[Call]) -> bool {
    let Some(at) = log.iter().position(|call| call.failed) else { return false };
    let made = log[..at].iter().rposition(|call| call.made && call.path.ends_with(".db-wal"));
    matches!(log[at].kind, Kind::Sync | Kind::Open)
        && made.is_some_and(|made| {
            log[made..at].iter().any(|call| call.kind == Kind::Synced && call.path == log[at].path)
        })
}

/// T06: every write takes one byte, half, or all but one.
pub fn short_writes(plan: &Plan) -> Figures {
    let items = plan.amount(6, 48);
    each(plan, "T06", items, |item, _, figures| {
        let short = ["one", "half", "but-one"][item % 3];
        let records = if plan.full { 200 } else { 20 };
        let bench = Bench::new(SETUPS[item / 3 % 4], records);
        figures.faults += 1;
        let run = bench.apply(Some(&Orders { short: Some(short), ..Orders::default() }), figures);
        // SQLite takes a short write for a full disk; what it does not take ends in order.
        if run.code == 8 {
            judge::holds(&bench, &bench.world.seen());
            let run = bench.apply(None, figures);
            judge::complete(&bench, &run, &bench.world.seen(), 1, figures);
        } else {
            judge::complete(&bench, &run, &bench.world.seen(), 0, figures);
        }
    })
}

/// T07: the disk is full from some write on, in several starts one after the other; then there is
/// space again.
pub fn full_disk(plan: &Plan) -> Figures {
    let items = plan.amount(4, 60);
    each(plan, "T07", items, |item, chance, figures| {
        let bench = Bench::new(SETUPS[item % 4], 400);
        let starts = 5;
        for _ in 0..starts {
            let order = format!("write:{}:lasting:28", chance.u64(1..120));
            fails(&bench, &order, chance.bool(), false, figures);
        }
        let run = bench.apply(None, figures);
        judge::complete(&bench, &run, &bench.world.seen(), starts, figures);
    })
}

/// T23: no sync ends once a request is out. Lanes whose attempts need an intent do not wait for it: what the first
/// lease speaks of is sent.
pub fn held_syncs(plan: &Plan) -> Figures {
    const KINDS: [usize; 2] = [1, 5];
    let items = plan.amount(KINDS.len(), 5 * KINDS.len());
    each(plan, "T23", items, |item, _, figures| {
        let setup = SETUPS[KINDS[item % KINDS.len()]];
        let bench = Bench::new(setup, 150);
        // So slow that outcomes are to be synced long before the last of the lease is out.
        bench.world.answers(&(setup.usual_replies() + "* * -> delay 20ms\n"));
        let pipe = bench.world.path("pipe");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a pipe");
        let orders = Orders { hold: Some(pipe.clone()), log: true, ..Orders::default() };
        let mut running = Running::of(&mut bench.command(Some(&orders)));
        // One record of the first lease is left out, and lanes may still wait for the last replies.
        let leased = (2 * setup.lanes).max(64) - 1;
        let (reached, hung) = watched(&mut running, |running| bench.world.until(running, leased as u64));
        let log = calls(&bench.world);
        // Both ends, so that it waits for nobody; from now on whoever opens it goes on at once.
        let _goes_on = OpenOptions::new().read(true).write(true).open(&pipe).expect("the pipe");
        let run = ended(&mut running, &bench.world);
        figures.starts += 1;
        figures.faults += 1;
        assert!(reached && !hung, "{setup:?}: lanes waited for a sync\n{}", run.stderr);
        assert!(is_held(&log), "{setup:?}: no sync was held while requests left, so this shows nothing");
        judge::complete(&bench, &run, &bench.world.seen(), 0, figures);
    })
}

/// Whether a sync has not ended, and requests left after it began.
fn is_held(log: &[Call]) -> bool {
    let ended = |number| log.iter().any(|call| call.kind == Kind::Synced && call.number == number);
    let began = log.iter().position(|call| call.kind == Kind::Sync && !ended(call.number));
    began.is_some_and(|at| log[at..].iter().any(|call| call.kind == Kind::Send))
}
