//! What was done and found, counted; and the loop over the items of a case that does the counting.
//!
//! An item that panics is a violation and does not stop the others.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Plan;

/// Figures of a case.
#[derive(Default, Clone)]
pub struct Figures {
    /// Starts of the program.
    pub starts: u64,
    /// Starts that were killed.
    pub kills: u64,
    /// Disks made as a loss of power would leave them, each started on.
    pub states: u64,
    /// Calls that failed by order, starts with short writes, bad replies, signals, shifts of the clock.
    pub faults: u64,
    /// Requests that the far side read.
    pub requests: u64,
    /// Second sendings that the checkpoint notes.
    pub resent: u64,
    /// Records held in doubt at the end.
    pub doubt: u64,
    /// The most requests that were begun after a failed call, over all items.
    pub late: u64,
    pub violations: Vec<String>,
    pub seconds: u64,
}

impl Figures {
    pub const HEADER: &str = "| case | starts | kills | power cuts | faults | requests | resends noted | held in doubt | duplicates not noted | losses | violations | seconds |\n|---|---|---|---|---|---|---|---|---|---|---|---|";

    pub fn add(&mut self, other: &Self) {
        self.starts += other.starts;
        self.kills += other.kills;
        self.states += other.states;
        self.faults += other.faults;
        self.requests += other.requests;
        self.resent += other.resent;
        self.doubt += other.doubt;
        self.late = self.late.max(other.late);
        self.violations.extend_from_slice(&other.violations);
        self.seconds += other.seconds;
    }

    pub fn line(&self, name: &str) -> String {
        // The oracle's letters: (b) and (d) are duplicates, (a) and (c) losses.
        let with = |letters: [&str; 2]| {
            self.violations.iter().filter(|text| letters.iter().any(|letter| text.contains(letter))).count()
        };
        let late = if self.late > 0 { format!(" (at most {} begun late)", self.late) } else { String::new() };
        format!(
            "| {name} | {} | {} | {} | {}{late} | {} | {} | {} | {} | {} | {} | {} |",
            self.starts,
            self.kills,
            self.states,
            self.faults,
            self.requests,
            self.resent,
            self.doubt,
            with(["(b)", "(d)"]),
            with(["(a)", "(c)"]),
            self.violations.len(),
            self.seconds,
        )
    }
}

thread_local! {
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A panic is kept for the list of violations instead of being printed.
pub fn catch_panics() {
    set_hook(Box::new(|info| {
        let place = info.location().map(|place| format!("{}:{}", place.file(), place.line()));
        let text = format!("{} ({})", info.payload_as_str().unwrap_or_default(), place.unwrap_or_default());
        LAST.with(|last| *last.borrow_mut() = text);
    }));
}

/// Does each of `items` on as many threads as there are processors.
pub fn each(
    plan: &Plan,
    case: &str,
    items: usize,
    work: impl Fn(usize, &mut fastrand::Rng, &mut Figures) + Sync,
) -> Figures {
    let next = AtomicUsize::new(0);
    let all = Mutex::new(Figures::default());
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(8);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let item = next.fetch_add(1, Ordering::Relaxed);
                    if item >= items {
                        return;
                    }
                    let mut figures = Figures::default();
                    let mut chance = plan.chance(case, item);
                    let done = catch_unwind(AssertUnwindSafe(|| work(item, &mut chance, &mut figures)));
                    if done.is_err() {
                        let why = LAST.with(|last| last.borrow().clone());
                        figures.violations.push(format!("{case}, item {item}: {why}"));
                    }
                    all.lock().expect("no panic").add(&figures);
                }
            });
        }
    });
    all.into_inner().expect("no panic")
}
