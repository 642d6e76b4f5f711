//! What is measured, one case after the other.

mod alone;
mod resume;
mod start;

use std::io;
use std::time::Duration;

use crate::Wanted;
use crate::contestants::Contestant;
use crate::project::{Kind, Setting};
use crate::rounds::Rounds;
use crate::target::Manner;

/// A table of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    Single,
    Update,
    Batch,
    Latency,
    Memory,
    Changed,
    Durability,
    Resume,
    Start,
}

pub const ALL: [Case; 9] = [
    Case::Start,
    Case::Single,
    Case::Update,
    Case::Batch,
    Case::Latency,
    Case::Memory,
    Case::Changed,
    Case::Durability,
    Case::Resume,
];

/// How long the far side of the case `latency` takes.
const FAR_AWAY: Duration = Duration::from_millis(20);
/// Its lanes.
const MANY_LANES: usize = 256;

impl Case {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Update => "update",
            Self::Batch => "batch",
            Self::Latency => "latency",
            Self::Memory => "memory",
            Self::Changed => "changed",
            Self::Durability => "durability",
            Self::Resume => "resume",
            Self::Start => "start",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        ALL.into_iter().find(|case| case.name() == name)
    }

    pub fn run(self, wanted: &Wanted) -> io::Result<()> {
        let at_once = Manner::default();
        match self {
            Self::Single => in_turn(wanted, Setting::of(Kind::Single), at_once, &[100_000]),
            Self::Update => in_turn(wanted, Setting::of(Kind::Update), at_once, &[100_000]),
            Self::Batch => in_turn(wanted, Setting::of(Kind::Batch), at_once, &[100_000]),
            Self::Latency => {
                let setting = Setting { lanes: MANY_LANES, ..Setting::of(Kind::Single) };
                let same = Manner { latency: FAR_AWAY, ..at_once };
                in_turn(wanted, setting, same, &[50_000])?;
                in_turn(wanted, setting, Manner { spread: FAR_AWAY / 4, ..same }, &[50_000])
            }
            Self::Memory => alone::memory(wanted),
            Self::Changed => alone::changed(wanted),
            Self::Durability => alone::durability(wanted),
            Self::Resume => resume::resume(wanted),
            Self::Start => start::start(),
        }
    }
}

/// All contestants on the same records.
fn in_turn(wanted: &Wanted, setting: Setting, manner: Manner, usual: &[u64]) -> io::Result<()> {
    let all = wanted.contestants.iter().copied();
    let contestants: Vec<Contestant> = all.filter(|contestant| contestant.sends(setting, manner)).collect();
    for records in wanted.sizes(usual) {
        println!("\n{}: {}, {} lanes", setting.kind.name(), setting.kind.pipeline(), setting.lanes);
        if !manner.latency.is_zero() {
            let [latency, spread] = [manner.latency, manner.spread].map(|time| time.as_millis());
            let than =
                if spread == 0 { String::new() } else { format!(", and up to {spread} ms sooner or later") };
            println!("Each reply comes after {latency} ms{than}.");
        }
        println!();
        let contestants = &contestants;
        Rounds { setting, manner, contestants, records, times: wanted.rounds }.run()?;
    }
    Ok(())
}
