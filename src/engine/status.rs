//! Where runs stand. Looks only, but for [`rewrite`].

use std::path::{Path, PathBuf};

use crate::model::{Class, Counts, Diagnostic, Failure};
use crate::outcome::{Checkpoint, Folder, Reason, RunRow};
use crate::source::Made;

use super::finish::{self, Files, write_files};
use super::manifest::{self, About, After};
use super::open::Plan;
use super::survey::chain;

/// Where the newest run of a pipeline stands.
#[derive(Debug)]
pub struct Standing {
    /// The run.
    pub run: RunRow,
    /// Its records.
    pub counts: Counts,
    /// Requests that may have left, over all starts.
    pub attempts: u64,
    /// In a word: `complete`, `running`, `interrupted`, `stopped`, `halted`, `partial`, `held`,
    /// `closed`.
    pub state: &'static str,
    /// When it was last started; empty when it never was.
    pub since: String,
    /// The class with which the last start ended; `None` while one is under way or crashed.
    pub class: Option<Class>,
    /// Why records were not delivered.
    pub reasons: Vec<Reason>,
    /// Records that older runs hold in doubt.
    pub held_before: u64,
    /// Kept runs, this one among them.
    pub runs: usize,
    /// Where its outcome files lie.
    pub folder: PathBuf,
}

/// Names of the pipelines that have state for a target.
pub fn names(top: &Path, target: &str) -> Result<Vec<String>, Failure> {
    let folder = top.join(target).join("state");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::io("read the folder", &folder, &error)),
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().strip_suffix(".db").map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

/// Where the newest run stands; `None` when there is none.
pub fn standing(folder: &Folder, checkpoint: &Checkpoint) -> Result<Option<Standing>, Failure> {
    let mut runs = checkpoint.runs()?;
    let kept = runs.len();
    let Some(run) = runs.pop() else { return Ok(None) };
    folder.guard_run(&run.id)?;
    checkpoint.check_small()?;
    let counts = checkpoint.counts(&run)?;
    let start = checkpoint.latest_start(&run)?;
    let running = is_locked(&folder.database().with_extension("lock"));
    let class = start.as_ref().filter(|_| !running).and_then(|start| Class::from_name(&start.class));
    let state = match (&start, class) {
        (Some(_), _) if running => "running",
        (Some(_), None) => "interrupted",
        _ if counts.unsent == 0 => "complete",
        _ if run.closed_at.is_some() => "closed",
        (_, Some(Class::Stopped)) => "stopped",
        (_, Some(Class::Halted)) => "halted",
        (_, Some(Class::InDoubt)) => "held",
        _ => "partial",
    };
    let mut held_before = 0;
    for older in &runs {
        held_before += checkpoint.counts(older)?.in_doubt;
    }
    Ok(Some(Standing {
        attempts: checkpoint.attempts(&run)?,
        reasons: checkpoint.reasons(&run)?,
        since: start.map(|start| start.at).unwrap_or_default(),
        folder: folder.run(&run.id),
        runs: kept,
        run,
        counts,
        state,
        class,
        held_before,
    }))
}

/// Whether another process holds a lock on this file. Taking it to find out could get in the way
/// of a start, so the system's list is asked; where there is none, nothing counts as locked.
pub(super) fn is_locked(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(found) = path.metadata() else { return false };
    let wanted = format!(":{}", found.ino());
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    locks.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.nth(1) == Some("FLOCK") && words.nth(3).is_some_and(|file| file.ends_with(&wanted))
    })
}

/// Makes the outcome files and the summary of a run anew; the caller holds the lock.
pub fn rewrite(
    plan: &Plan,
    folder: &Folder,
    checkpoint: &Checkpoint,
    run: &RunRow,
) -> Result<Files, Failure> {
    same_input(plan, run)?;
    let files = write_files(plan, folder, checkpoint, run)?;
    let counts = checkpoint.counts(run)?;
    let state = if counts.unsent == 0 { "complete" } else { "partial" };
    let class = finish::class_of(&counts);
    let attempts = checkpoint.attempts(run)?;
    finish::write_summary(&files.folder, &run.id, class, state, &counts, attempts, &files.written)?;
    manifest::write(&About {
        plan,
        folder,
        checkpoint,
        run,
        class,
        state,
        counts: &counts,
        written: &files.written,
        after: After::Rewrite,
    })?;
    Ok(files)
}

/// The files join the rows of the checkpoint with the records of the input, so both must belong
/// together.
/// Whether the input is still the one that the run was about.
pub(super) fn same_input(plan: &Plan, run: &RunRow) -> Result<(), Failure> {
    let mut source = plan.source()?;
    source.make(Made { only: Some([].into()), text: None });
    let mut digest = 0;
    let mut records = 0;
    while records < run.records {
        let Some(record) = source.next() else { break };
        digest = chain(digest, record?.digest);
        records += 1;
    }
    if records == run.records && digest == run.input_digest {
        return Ok(());
    }
    Err(Failure::new(
        Class::State,
        Diagnostic::error("input-changed", format!("{} is not what run {} was about", run.input, run.id))
            .note("the outcome files were left as they are")
            .help("put the old file back; `runner status --files` then makes them"),
    ))
}
