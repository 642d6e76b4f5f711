//! Breaks the real binary in many ways and holds what it says of itself against what the far side
//! saw.
//!
//! `cargo test` runs a seeded sample of each case; `cargo test --release --test torture -- full`
//! runs all of it and prints the figures of `docs/reliability.md`. Other words choose cases by
//! name: `-- T04 full`. A failure prints its case, item and seed; `RUNNER_TEST_SEED` sets the
//! seed, and the same seed draws the same choices.
//! Invariants: everything is judged by one oracle (`tests/it/oracle.rs`, `judge.rs`); one violation
//! fails the whole; nothing sleeps, and no duration is asserted (only a process that hangs is
//! ended after two minutes, as a violation).

mod bench;
mod cases;
mod disk;
mod figures;
mod judge;
#[expect(dead_code, reason = "shared with tests/it, which uses all of it")]
#[path = "../it/oracle.rs"]
mod oracle;
mod shim;
#[expect(dead_code, reason = "shared with tests/it, which uses all of it")]
#[path = "../it/world.rs"]
mod world;

use std::process::ExitCode;

use figures::Figures;

/// How much is done, and from which seed.
#[derive(Clone, Copy)]
pub struct Plan {
    /// All chance comes from it.
    pub seed: u64,
    /// Everything, not a sample.
    pub full: bool,
}

impl Plan {
    /// So many items in a sample, so many in full. `TORTURE_SCALE=3` does three times as many.
    pub fn amount(&self, sample: usize, full: usize) -> usize {
        let scale = std::env::var("TORTURE_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1);
        if self.full { full * scale } else { sample }
    }

    /// The chance of one item of a case: another for each, the same for the same seed.
    pub fn chance(&self, case: &str, item: usize) -> fastrand::Rng {
        let mut mixed = self.seed;
        for byte in case.bytes().chain(item.to_le_bytes()) {
            mixed = (mixed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        }
        fastrand::Rng::with_seed(mixed)
    }
}

#[expect(clippy::print_stdout, reason = "it prints a table")]
fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    if std::env::args().any(|word| word == "--list") {
        return ExitCode::SUCCESS;
    }
    let full = words.iter().any(|word| word == "full")
        || std::env::var("TORTURE").is_ok_and(|amount| amount == "full");
    let wanted: Vec<&String> = words.iter().filter(|word| *word != "full").collect();
    let seed = std::env::var("RUNNER_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let plan = Plan { seed: seed.unwrap_or(20_261_122), full };
    let chosen: Vec<_> = cases::ALL
        .iter()
        .filter(|(name, ..)| wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str())))
        .collect();
    if chosen.is_empty() {
        return ExitCode::SUCCESS;
    }
    shim::build();
    figures::catch_panics();
    println!("seed {}, {}", plan.seed, if full { "in full" } else { "a sample" });
    println!("{}", Figures::HEADER);
    let mut all = Figures::default();
    for (name, case) in chosen {
        let begun = std::time::Instant::now();
        let mut figures = case(&plan);
        figures.seconds = begun.elapsed().as_secs();
        println!("{}", figures.line(name));
        all.add(&figures);
    }
    println!("{}", all.line("all"));
    for violation in &all.violations {
        println!("\nVIOLATION (RUNNER_TEST_SEED={}): {violation}", plan.seed);
    }
    if all.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
