//! How long a start takes that goes on with a run: from the start of the process until the far side has the
//! first request of what is left.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::Wanted;
use crate::far::Far;
use crate::process::{Running, float};
use crate::project::{Input, Kind, Project, Setting};
use crate::target::Manner;

/// Records that the interruption leaves, about.
const LEFT: u64 = 100_000;

/// What a run that was interrupted took to go on.
struct Resumed {
    done: u64,
    first: Duration,
    whole: Duration,
    /// Of the checkpoint, when all is done.
    bytes: u64,
}

pub fn resume(wanted: &Wanted) -> io::Result<()> {
    println!("\nresume: interrupted by Ctrl-C, then the same command\n");
    println!(
        "| | records | done before | first request after s | all done after s | checkpoint bytes a record |"
    );
    println!("|---|---:|---:|---:|---:|---:|");
    let usual = [1_000_000, 10_000_000];
    for records in wanted.sizes(if wanted.is_full { &usual } else { &usual[..1] }) {
        for kind in [Kind::Single, Kind::Update] {
            let project = Project::new(Setting::of(kind))?;
            let input = project.rows(records, |_| false)?;
            let Resumed { done, first, whole, bytes } = interrupted(&project, &input)?;
            println!(
                "| {} | {records} | {done} | {:.2} | {:.1} | {:.0} |",
                kind.name(),
                first.as_secs_f64(),
                whole.as_secs_f64(),
                float(bytes) / float(records)
            );
        }
    }
    Ok(())
}

fn interrupted(project: &Project, input: &Input) -> io::Result<Resumed> {
    let mut far = Far::start(Manner::default())?;
    far.tell(input.records.saturating_sub(LEFT).max(input.records / 2))?;
    let running = Running::start(&mut project.apply(far.url()))?;
    far.told()?;
    running.interrupt()?;
    running.end()?;
    let done = far.counts()?.records;
    far.tell(done + 1)?;
    let running = Running::start(&mut project.apply(far.url()))?;
    far.told()?;
    let first = running.elapsed();
    let (spent, status, said) = running.end()?;
    if !status.success() {
        return Err(io::Error::other(format!("the second start ended with {status}:\n{said}")));
    }
    far.counts()?.prove("runner", input)?;
    Ok(Resumed { done, first, whole: spent.wall, bytes: checkpoints(&project.state())? })
}

/// Bytes of all checkpoints in a folder.
fn checkpoints(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            bytes += checkpoints(&path)?;
        } else if path.extension().is_some_and(|ending| ending == "db") {
            bytes += fs::metadata(&path)?.len();
        }
    }
    Ok(bytes)
}
