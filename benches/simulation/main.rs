//! Adaptive concurrency against fixed settings, simulated: the tables of docs/performance.md.
//!
//! `cargo bench --bench simulation`; words after `--` choose among the scenarios.
#![allow(clippy::print_stdout, missing_docs, reason = "a table for people")]

mod model;

use model::scenarios::{MOST, SCENARIOS};

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    println!(
        "| far side | best fixed | records/s | adaptive records/s | of the best | 429 with {MOST} | 429 adaptive | 5xx with {MOST} | 5xx adaptive | in flight |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for scenario in SCENARIOS {
        if !wanted.iter().all(|word| scenario.name.contains(word.as_str())) {
            continue;
        }
        let compared = scenario.compare();
        let ((lanes, best), naive, own) = (compared.best(), compared.naive(), compared.adaptive);
        println!(
            "| {} | {lanes} | {:.1} | {:.1} | {:.1} % | {} | {} | {} | {} | {:.1} |",
            scenario.name,
            best.goodput,
            own.goodput,
            100.0 * own.goodput / best.goodput,
            naive.throttled,
            own.throttled,
            naive.overloaded,
            own.overloaded,
            own.lanes,
        );
    }
}
