//! The end of a start: outcome files, summary, what to say.

use std::path::PathBuf;
use std::time::Instant;

use crate::model::{Class, Counts, Diagnostic, Failure, Record, number};
use crate::outcome::files::{self, Fault, Records, Written};
use crate::outcome::{Checkpoint, Folder, Lock, RunRow};
use crate::source::{Made, Source};

use super::Report;
use super::dispatch::Ended;
use super::manifest::{self, About, After};
use super::open::Plan;

/// What is left when the loop has ended.
pub struct Ending<'a> {
    /// The pipeline over the run's own input; or why that cannot be read any more.
    pub plan: Result<&'a Plan, &'a Failure>,
    /// Where state lies.
    pub folder: &'a Folder,
    /// The run.
    pub run_id: &'a str,
    /// How the loop ended.
    pub ended: Ended,
    /// What was settled before this start.
    pub before: Counts,
    /// When this start began.
    pub begun: Instant,
    /// Whether this start left records out on purpose.
    pub is_narrow: bool,
    /// Held until the files are written.
    pub lock: Lock,
    /// How this command is typed.
    pub command: &'a str,
}

/// The outcome files of a run and where they lie.
#[derive(Debug)]
pub struct Files {
    /// The files.
    pub written: Vec<Written>,
    /// Their folder.
    pub folder: PathBuf,
    /// Why records are invalid.
    pub faults: Vec<Fault>,
}

/// The class that follows from the counts of a start that was not stopped.
#[must_use]
pub const fn class_of(counts: &Counts) -> Class {
    if counts.in_doubt > 0 {
        Class::InDoubt
    } else if counts.failed > 0 || counts.invalid > 0 {
        Class::RecordsFailed
    } else {
        Class::Ok
    }
}

/// Makes the outcome files of a run anew.
pub fn write_files(
    plan: &Plan,
    folder: &Folder,
    checkpoint: &Checkpoint,
    run: &RunRow,
) -> Result<Files, Failure> {
    let path = folder.make_run(&run.id)?;
    let mut input = Input::open(plan)?;
    let (written, faults) = files::write(&path, run, checkpoint, &plan.shape(), &plan.ours(), &mut input)?;
    Ok(Files { written, folder: path, faults })
}

/// The input once more, for its outcome files: rows are copied as they stand, where that can be.
struct Input(Box<dyn Source>);

impl Input {
    fn open(plan: &Plan) -> Result<Self, Failure> {
        let mut source = plan.source()?;
        source.make(Made { only: None, text: plan.shape().delimiter() });
        Ok(Self(source))
    }
}

impl Records for Input {
    fn next(&mut self) -> Option<Result<Record, Failure>> {
        self.0.next()
    }

    fn text(&self) -> Option<&[u8]> {
        self.0.text()
    }
}

/// Writes what outlives the start and says how it ended.
pub fn report(ending: Ending<'_>) -> Result<Report, Failure> {
    let Ending { plan, folder, run_id, ended, before, begun, is_narrow, lock, command } = ending;
    let Ended { counts, attempts, stopped, asked, pacing, .. } = ended;
    let nothing_done = attempts == 0 && before == counts && stopped.is_none();
    let class = stopped.as_ref().map_or_else(|| class_of(&counts), |stopped| stopped.class);
    let state = match (&stopped, counts.unsent) {
        (None, 0) => "complete",
        (None, _) if is_narrow => "partial",
        (None, _) => "held",
        (Some(stopped), _) if stopped.class == Class::Halted => "halted",
        (Some(_), _) => "stopped",
    };
    let (signal, mut diagnostics) =
        stopped.map_or((None, Vec::new()), |stopped| (stopped.signal, stopped.diagnostics));
    if let Some(cause) = diagnostics.first_mut().filter(|_| counts.unsent > 0) {
        cause.notes.push(not_sent(counts.unsent));
    }
    let Some(checkpoint) = Checkpoint::open_to_read(folder)? else {
        return Err(Failure::new(
            Class::State,
            Diagnostic::error("state-gone", "the state of this run was removed while it was under way")
                .note("what was sent is known to nobody now; a new run would send it a second time")
                .help("put back a copy of the state folder, or compare with the far side before you start again"),
        ));
    };
    let run = checkpoint.runs()?.into_iter().find(|run| run.id == run_id);
    let path = folder.run(run_id);
    let mut written: Vec<Written> = Vec::new();
    let mut reasons = Vec::new();
    if let Some(run) = &run {
        reasons = checkpoint.reasons(run)?;
        // A person or a supervisor waits for the process to end: the files can be made later.
        if signal.is_none() {
            // What lies there is of the same outcomes; making it again would read the whole input.
            if nothing_done && manifest::is_current(&path, &checkpoint, run, &counts)? {
                written = files::existing(&path);
            }
            let made_anew = written.is_empty();
            if made_anew {
                let made = plan
                    .map_err(Clone::clone)
                    .and_then(|plan| Ok((plan, write_files(plan, folder, &checkpoint, run)?)));
                match made {
                    Ok((plan, files)) => {
                        written = files.written;
                        diagnostics.extend(invalid_records(plan, &counts, &files.faults, &path, command));
                    }
                    // What was sent is safe in the checkpoint; the cause stopped the start before.
                    Err(failure) if class == Class::Input => diagnostics.extend(failure.diagnostics),
                    // They can be made later, by `status --files`, once the run's input is back.
                    Err(failure) if plan.is_err() => {
                        diagnostics.extend(
                            failure.diagnostics.into_iter().map(|found| Diagnostic {
                                severity: crate::model::Severity::Warning,
                                ..found
                            }),
                        );
                    }
                    Err(failure) => return Err(failure),
                }
            }
            if let Ok(plan) = plan {
                write_summary(&path, run_id, class, state, &counts, attempts, &written)?;
                let after = match (nothing_done, made_anew) {
                    (false, _) => After::Start,
                    (true, true) => After::Rewrite,
                    (true, false) => After::Nothing,
                };
                manifest::write(&About {
                    plan,
                    folder,
                    checkpoint: &checkpoint,
                    run,
                    class,
                    state,
                    counts: &counts,
                    written: &written,
                    after,
                })?;
            }
        }
    }
    drop(lock);
    Ok(Report {
        run: run_id.to_owned(),
        class,
        state,
        counts,
        before,
        attempts,
        asked,
        pacing,
        took: begun.elapsed(),
        reasons,
        files: written,
        folder: path,
        diagnostics,
        signal,
        nothing_to_do: false,
    })
}

/// What a start that was stopped leaves, in words.
fn not_sent(records: u64) -> String {
    if records == 1 {
        return "1 record was not sent; the same command goes on with it".to_owned();
    }
    format!("{} records were not sent; the same command goes on with them", number(records))
}

/// What to say about invalid records: the reasons with their first places.
fn invalid_records(
    plan: &Plan,
    counts: &Counts,
    faults: &[Fault],
    folder: &std::path::Path,
    command: &str,
) -> Option<Diagnostic> {
    if counts.invalid == 0 {
        return None;
    }
    let shown = 8;
    let width =
        faults.iter().take(shown).map(|fault| fault.message.chars().count()).max().unwrap_or(0).min(60);
    let mut diagnostic = Diagnostic::error(
        "record-invalid",
        format!(
            "{} of {} {} {}",
            number(counts.invalid),
            number(counts.total()),
            if counts.total() == 1 { "record" } else { "records" },
            if counts.invalid == 1 { "is invalid and was not sent" } else { "are invalid and were not sent" },
        ),
    );
    for fault in faults.iter().take(shown) {
        let lines: Vec<String> = fault.places.iter().map(|place| place.line.to_string()).collect();
        let file = fault.places.first().map(|place| place.file.to_string()).unwrap_or_default();
        let more = if fault.count > fault.places.len() as u64 { ", …" } else { "" };
        let records = if fault.count == 1 { "record " } else { "records" };
        let word = if lines.len() == 1 { "line" } else { "lines" };
        diagnostic = diagnostic.row(format!(
            "{:width$}  {} {records}  {file} {word} {}{more}",
            fault.message,
            fault.count,
            lines.join(", ")
        ));
    }
    if faults.len() > shown {
        diagnostic = diagnostic.row(format!("and {} other reasons", faults.len() - shown));
    }
    let shown =
        |file: &std::path::Path| file.strip_prefix(&plan.pipeline.root).unwrap_or(file).display().to_string();
    let rows = folder.join(format!("invalid.{}", plan.shape().ending()));
    let unreadable = folder.join("unreadable.ndjson");
    let has_rows = rows.is_file();
    if has_rows {
        diagnostic = diagnostic.note(format!("rows and reasons: {}", shown(&rows)));
    }
    if unreadable.is_file() {
        diagnostic = diagnostic.note(format!("lines that are no record: {}", shown(&unreadable)));
    }
    Some(diagnostic.help(if has_rows {
        format!("correct the rows in a copy of that file, then `{command} --input COPY`")
    } else {
        // That file tells what stood there; it is no input.
        format!(
            "write the records of these lines anew into a file of their own, then `{command} --input FILE`"
        )
    }))
}

/// Writes the summary that lies beside the outcome files.
pub(super) fn write_summary(
    folder: &std::path::Path,
    run: &str,
    class: Class,
    state: &str,
    counts: &Counts,
    attempts: u64,
    written: &[Written],
) -> Result<(), Failure> {
    let files: serde_json::Map<String, serde_json::Value> = written
        .iter()
        .map(|file| {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (file.name.to_owned(), serde_json::json!({ "file": name, "records": file.records }))
        })
        .collect();
    let summary = serde_json::json!({
        "format_version": 1,
        "run_id": run,
        "state": state,
        "class": class.name(),
        "counts": counts,
        "attempts": attempts,
        "files": files,
    });
    let mut text = serde_json::to_string_pretty(&summary).unwrap_or_default();
    text.push('\n');
    files::write_whole(&folder.join("summary.json"), text.as_bytes())
}
