//! The whole way, measured from outside: the release binary against a stand-in in a process of
//! its own, and next to it, in the same run, the floor.
//!
//! The floor is what any program has to pay that reads the same CSV, builds the same JSON and
//! sends it with the same client: no schema, no checkpoint, no outcome. Only the ratio between the
//! two says something on a machine that others use too. See docs/performance.md.
//!
//! ```text
//! cargo bench --bench end_to_end -- [users|agents|calls|changed|durability|start]… [RECORDS]…
//! ```

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

mod floor;
mod process;
mod project;

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use process::{Far, Spent};
use project::{Kind, LANES, Project};

const SIZES: [u64; 3] = [10_000, 100_000, 1_000_000];
/// Up to so many records are sent in several rounds.
const MANY: u64 = 100_000;
const ROUNDS: usize = 3;
/// Records of the comparison with and without durability: each waits 20 ms for its reply.
const SLOW: u64 = 20_000;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [word, rest @ ..] = arguments.as_slice()
        && word == floor::WORD
    {
        return floor::main(rest);
    }
    let mut sizes: Vec<u64> =
        arguments.iter().filter_map(|word| word.replace('_', "").parse().ok()).collect();
    if sizes.is_empty() {
        sizes = SIZES.to_vec();
    }
    let names: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|word| word.parse::<u64>().is_err()).collect();
    let wants = |name: &str| names.is_empty() || names.contains(&name);
    if wants("start") {
        start()?;
    }
    for kind in [Kind::Users, Kind::Agents].into_iter().filter(|kind| wants(kind.name())) {
        whole_way(kind, &sizes)?;
    }
    if wants("calls") {
        calls(&sizes)?;
    }
    if wants("changed") {
        changed(&sizes)?;
    }
    if wants("durability") {
        durability()?;
    }
    Ok(())
}

/// How long commands take that send nothing.
fn start() -> io::Result<()> {
    const TIMES: u32 = 20;
    let project = Project::new(Kind::Users, "")?;
    project.rows(10)?;
    println!("\n| command | ms |\n|---|---:|");
    for arguments in [&["--version"][..], &["validate", Kind::Users.pipeline()]] {
        let mut walls = Vec::new();
        for _ in 0..TIMES {
            let begun = Instant::now();
            if project.runner(None).args(arguments).output()?.status.success() {
                walls.push(begun.elapsed());
            }
        }
        walls.sort_unstable();
        let shown = walls
            .get(walls.len() / 2)
            .map_or("not measured".into(), |median| format!("{:.1}", median.as_secs_f64() * 1e3));
        println!("| `runner {}` | {shown} |", arguments.join(" "));
    }
    Ok(())
}

/// Records a second, CPU and memory beside the floor.
fn whole_way(kind: Kind, sizes: &[u64]) -> io::Result<()> {
    println!("\n{}, {LANES} lanes\n", kind.pipeline());
    println!("| records | | records/s | CPU µs a record | times the floor | peak MiB |");
    println!("|---:|---|---:|---:|---:|---:|");
    for records in sizes.iter().copied() {
        let (mut floor, mut ours): (Option<Spent>, Option<Spent>) = (None, None);
        // Others use the machine too: of some rounds, in turn, the least counts.
        for _ in 0..if records > MANY { 1 } else { ROUNDS } {
            let project = Project::new(kind, "")?;
            project.rows(records)?;
            let far = Far::start(&project, None)?;
            let mut bare = Command::new(std::env::current_exe()?);
            bare.arg(floor::WORD).args([kind.name(), &project.input().to_string_lossy(), far.url()]);
            keep_least(&mut floor, process::measure(&mut bare)?);
            drop(far);
            keep_least(&mut ours, apply(&project, None)?);
        }
        let (Some(floor), Some(ours)) = (floor, ours) else { continue };
        row(records, "floor", &floor, None);
        row(records, "runner", &ours, Some(&floor));
    }
    Ok(())
}

/// The same where a call has 100 records; there is no floor of that.
fn calls(sizes: &[u64]) -> io::Result<()> {
    println!("\n{}, {LANES} lanes, 100 records in one call\n", Kind::Calls.pipeline());
    println!("| records | | records/s | CPU µs a record | times the floor | peak MiB |");
    println!("|---:|---|---:|---:|---:|---:|");
    for records in sizes.iter().copied() {
        let project = Project::new(Kind::Calls, "")?;
        project.rows(records)?;
        row(records, "runner", &apply(&project, None)?, None);
    }
    Ok(())
}

/// A second run with `sync: changed`, for which one row in a hundred is another than the first sent.
fn changed(sizes: &[u64]) -> io::Result<()> {
    println!("\n{} with sync: changed, {LANES} lanes, 100 records in one call\n", Kind::Calls.pipeline());
    println!("| records | | records/s | CPU µs a record | times the floor | peak MiB |");
    println!("|---:|---|---:|---:|---:|---:|");
    for records in sizes.iter().copied() {
        let project = Project::new(Kind::Calls, "")?;
        let pipeline = std::fs::read_to_string(project.path(Kind::Calls.pipeline()))?;
        project.write(Kind::Calls.pipeline(), &format!("{pipeline}sync: changed\n"))?;
        project.rows(records)?;
        row(records, "all are new", &apply(&project, None)?, None);
        project.rows_of(records, |number| number % 100 == 0)?;
        row(records, "1 % changed", &apply(&project, None)?, None);
    }
    Ok(())
}

fn keep_least(kept: &mut Option<Spent>, spent: Spent) {
    if kept.as_ref().is_none_or(|kept| spent.micros(1) < kept.micros(1)) {
        *kept = Some(spent);
    }
}

/// What it costs that leases and outcomes survive a loss of power.
fn durability() -> io::Result<()> {
    println!("\n{}, {LANES} lanes, replies after 20 ms, {SLOW} records\n", Kind::Users.pipeline());
    println!("| durability | records/s | CPU µs a record |\n|---|---:|---:|");
    for durability in ["process", "power", "process", "power"] {
        let project = Project::new(Kind::Users, &format!("durability: {durability}"))?;
        project.rows(SLOW)?;
        let script = project.write("slow.script", "* * -> delay 20ms\n")?;
        let spent = apply(&project, Some(&script))?;
        println!("| {durability} | {:.0} | {:.1} |", spent.rate(SLOW), spent.micros(SLOW));
    }
    Ok(())
}

fn apply(project: &Project, script: Option<&Path>) -> io::Result<Spent> {
    let far = Far::start(project, script)?;
    process::measure(project.runner(Some(&far)).args(["apply", project.kind().pipeline()]))
}

fn row(records: u64, what: &str, spent: &Spent, floor: Option<&Spent>) {
    let times =
        floor.map_or(String::new(), |floor| format!("{:.2}", spent.micros(records) / floor.micros(records)));
    println!(
        "| {records} | {what} | {:.0} | {:.1} | {times} | {:.1} |",
        spent.rate(records),
        spent.micros(records),
        spent.peak_mib()
    );
}

/// Seconds as a fraction that is never nothing.
fn seconds(time: Duration) -> f64 {
    time.as_secs_f64().max(1e-6)
}
