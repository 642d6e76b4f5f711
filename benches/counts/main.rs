//! What the hot stages cost a record in instructions, held against the counts that are kept in
//! `benches/counts/counts.tsv`: a rise of more than 5 % fails.
//!
//! Instructions of a program are the same on a machine that is busy, so they can fail a check where times
//! cannot. They are counted by valgrind, which also shows every processor alike, so that code for newer ones
//! is not taken. Each stage runs in a process of its own, once with few passes over its records and once with
//! many; the difference is what a pass costs, on whatever thread it is spent, without what comes before it.
//!
//! ```text
//! cargo bench --bench counts             # compares
//! cargo bench --bench counts -- render   # one stage
//! cargo bench --bench counts -- --keep   # keeps what was counted
//! ```

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

mod kept;
#[path = "../common/ready.rs"]
mod ready;
#[path = "../common/run.rs"]
mod run;
mod stages;

use std::fs;
use std::io;
use std::process::{Command, ExitCode};

use kept::{Kept, Made};
use stages::Stage;

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The word that makes this executable run a stage.
const WORD: &str = "--stage";
/// Passes over the records, of which the difference counts.
const PASSES: [usize; 2] = [1, 5];

fn main() -> io::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, name, passes] = arguments.as_slice()
        && word == WORD
    {
        let stage = Stage::named(name).ok_or_else(|| refusal(name))?;
        let records = stage.run(passes.parse().map_err(io::Error::other)?);
        println!("{records}");
        return Ok(ExitCode::SUCCESS);
    }
    // Only `cargo bench` says this; a test run that starts everything is no time to count.
    if !arguments.iter().any(|word| word == "--bench") {
        println!("nothing is counted without `cargo bench --bench counts`");
        return Ok(ExitCode::SUCCESS);
    }
    let mut keeps = false;
    let mut wanted = Vec::new();
    for word in arguments.iter().filter(|word| *word != "--bench") {
        match (word.as_str(), Stage::named(word)) {
            ("--keep", _) => keeps = true,
            (_, Some(stage)) => wanted.push(stage),
            _ => return Err(refusal(word)),
        }
    }
    if wanted.is_empty() {
        wanted = stages::ALL.to_vec();
    }
    let Some(made) = Made::here() else {
        println!("skipped: valgrind is missing (apt-get install valgrind), or rustc is");
        return Ok(ExitCode::SUCCESS);
    };
    let mut counted = Vec::new();
    for stage in wanted {
        counted.push((stage, count(stage)?));
    }
    conclude(&made, &counted, keeps)
}

/// Prints the table; fails if a stage costs too much more than it did.
fn conclude(made: &Made, counted: &[(Stage, u64)], keeps: bool) -> io::Result<ExitCode> {
    let mut kept = Kept::read()?;
    let is_comparable = kept.made.is_like(made);
    println!("counted with {made}\nkept with    {}\n", kept.made);
    println!("| stage | instructions a record | kept | change |\n|---|---:|---:|---:|");
    let mut risen = Vec::new();
    for (stage, count) in counted {
        let name = stage.name();
        let before = kept.counts.get(name).copied();
        let change = before.map(|before| kept::change(before, *count));
        let shown = change.map_or_else(|| "new".to_owned(), |change| format!("{:+.1} %", change * 100.0));
        println!("| {name} | {count} | {} | {shown} |", before.map_or(String::new(), |n| n.to_string()));
        if change.is_some_and(|change| change > kept::RISE) {
            risen.push(name);
        }
    }
    println!();
    if keeps {
        kept.counts.extend(counted.iter().map(|(stage, count)| (stage.name().to_owned(), *count)));
        kept.made = made.clone();
        kept.write()?;
        println!("kept in {}", kept::FILE);
        return Ok(ExitCode::SUCCESS);
    }
    if !is_comparable {
        println!("Not judged: another compiler or architecture counts otherwise. `-- --keep` keeps these.");
        return Ok(ExitCode::SUCCESS);
    }
    if risen.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "More than {} % above what is kept: {}. `callgrind_annotate {}/NAME.{}` shows where, of a build with \
         CARGO_PROFILE_BENCH_STRIP=none; `-- --keep` keeps the new counts, if they buy something.",
        kept::RISE * 100.0,
        risen.join(", "),
        folder(),
        PASSES[1]
    );
    Ok(ExitCode::FAILURE)
}

/// Instructions of a record.
fn count(stage: Stage) -> io::Result<u64> {
    let [few, many] = PASSES;
    let ((before, _), (after, records)) = (counted(stage, few)?, counted(stage, many)?);
    let passes = u64::try_from(many - few).map_err(io::Error::other)?;
    Ok(after.saturating_sub(before) / (passes * records.max(1)))
}

/// All instructions of a process that runs a stage, and the records of one pass.
fn counted(stage: Stage, passes: usize) -> io::Result<(u64, u64)> {
    fs::create_dir_all(folder())?;
    let profile = format!("{}/{}.{passes}", folder(), stage.name());
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", &format!("--callgrind-out-file={profile}")])
        .arg(std::env::current_exe()?)
        .args([WORD, stage.name(), &passes.to_string()])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    let records = String::from_utf8_lossy(&output.stdout).trim().parse().ok();
    collected
        .zip(records)
        .filter(|_| output.status.success())
        .ok_or_else(|| io::Error::other(format!("{} could not be counted:\n{said}", stage.name())))
}

/// Where the profiles lie.
const fn folder() -> &'static str {
    concat!(env!("CARGO_TARGET_TMPDIR"), "/counts")
}

fn refusal(word: &str) -> io::Error {
    let names: Vec<&str> = stages::ALL.iter().map(|stage| stage.name()).collect();
    io::Error::other(format!("`{word}` is no stage; there are {}, and --keep", names.join(", ")))
}
