//! Everything that is known about one record: where it stands, what it says, what was sent of it
//! and what came of that, over all kept runs; and which line of the project makes which part of
//! its request.
//!
//! Looks only. The history is the checkpoint's; the request is made anew, from the project as it
//! is today and with the values of the run, so it can differ from what was sent: the digest tells.

use std::sync::Arc;

use crate::config::Pipeline;
use crate::model::{Class, Diagnostic, Failure, Outcome, Record, RecordPlace, Request, State, Value};
use crate::outcome::{AttemptRow, BatchRow, Checkpoint, Folder, NoteRow, RecordRow, RunRow};
use crate::render::{Origin, RunValues, origins};

use super::open::{self, Plan, Wanted};
use super::prepare::{Refused, Shaped, hash, hidden};
use super::{Observer, identity};

/// Which record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// The one with this key.
    Key(String),
    /// The one at this position of the input, from 0.
    Ordinal(u64),
    /// The one that stands on this line of this file.
    Line(String, u64),
}

/// What is known about a record.
#[derive(Debug)]
pub struct Explained {
    /// Position in the input; `None` when today's input does not have it.
    pub ordinal: Option<u64>,
    /// Where it stands in the input.
    pub place: Option<RecordPlace>,
    /// Its key as it is.
    pub key: Option<String>,
    /// Its fields after `rename` and typing, or why it is no record.
    pub fields: Option<Result<Value, String>>,
    /// Its request as the project makes it today, or what becomes of it without one.
    pub request: Option<Result<Arc<Request>, Outcome>>,
    /// Whether it goes out in one call with others.
    pub shares_calls: bool,
    /// The name of the call that is shown, where a record has several.
    pub step: String,
    /// Which line makes which part.
    pub origins: Vec<Origin>,
    /// What the kept runs know of it, the oldest first.
    pub history: Vec<InRun>,
}

/// What one run knows of a record.
#[derive(Debug)]
pub struct InRun {
    /// The run.
    pub run: RunRow,
    /// Its row; `None` when the run did not reach it.
    pub row: Option<RecordRow>,
    /// The newest call with several records that had it.
    pub call: Option<BatchRow>,
    /// Attempts that were not the last, or not good.
    pub attempts: Vec<AttemptRow>,
    /// What else happened to it, and to the run as a whole.
    pub notes: Vec<NoteRow>,
    /// Whether the request that was sent is the one that the project makes today; `None` where it
    /// cannot be told.
    pub same_request: Option<bool>,
}

/// A record of the input with what it says.
struct Found {
    record: Record,
    key: Option<String>,
    key_hash: Option<u64>,
}

/// Explains a record of a pipeline.
pub fn explain(
    pipeline: Pipeline,
    target: &str,
    named: &Named,
    observer: &mut dyn Observer,
) -> Result<Explained, Failure> {
    let folder = Folder::new(&pipeline.state_dir, target, &pipeline.name);
    folder.guard()?;
    let wanted = Wanted {
        target: target.to_owned(),
        show_keys: true,
        input_may_be_missing: true,
        folder: Some(folder.clone()),
        // What is not there was never read.
        spool: Some(folder.listing()).filter(|spool| pipeline.source.is_api() && spool.is_file()),
        ..Wanted::default()
    };
    let plan = open::open(pipeline, &wanted)?;
    let checkpoint = Checkpoint::open_to_read(&folder)?;
    let runs = checkpoint.as_ref().map(Checkpoint::runs).transpose()?.unwrap_or_default();
    let values = runs.last().map_or_else(
        || identity::new_run(&plan.pipeline.name),
        |run| identity::values(run, &plan.pipeline.name),
    );
    let found = find(&plan, named, &values, observer)?;
    let key_hash = match (named, &found) {
        (Named::Key(key), _) => Some(hash(key)),
        (_, Some(found)) => found.key_hash,
        (_, None) => None,
    };
    let ordinal = found.as_ref().map(|found| found.record.ordinal).or(match named {
        Named::Ordinal(ordinal) => Some(*ordinal),
        Named::Key(_) | Named::Line(..) => None,
    });
    let mut history = Vec::new();
    if let Some(checkpoint) = &checkpoint {
        for (at, run) in runs.iter().enumerate() {
            let is_newest = at + 1 == runs.len();
            history.extend(in_run(checkpoint, run, key_hash, ordinal.filter(|_| is_newest))?);
        }
    }
    if found.is_none() && history.iter().all(|known| known.row.is_none()) {
        return Err(unknown(&plan, named));
    }
    let mut explained = Explained {
        ordinal: found.as_ref().map(|found| found.record.ordinal),
        place: None,
        key: None,
        fields: None,
        request: None,
        shares_calls: plan.preparer.batch.is_some(),
        step: String::new(),
        origins: origins(plan.pipeline.endpoint(), &plan.pipeline.connection),
        history,
    };
    if let Some(found) = found {
        explained.take(&plan, &values, found);
    }
    Ok(explained)
}

impl Explained {
    /// Adds what today's input and project say of the record.
    fn take(&mut self, plan: &Plan, values: &RunValues, found: Found) {
        let Found { record, key, .. } = found;
        let generation =
            self.history.last().and_then(|known| known.row.as_ref()).map_or(0, |row| row.generation);
        self.place = Some(record.place.clone());
        self.key = key;
        self.fields = Some(match &record.fields {
            Ok(fields) => {
                let mut fields = fields.clone();
                plan.preparer.selection.rename(&mut fields);
                plan.preparer.selection.retype(&mut fields);
                Ok(Value::Object(fields))
            }
            Err(bad) => Err(bad.message.clone()),
        });
        let made = match plan.preparer.shape(record, values) {
            Err(settled) => Err(settled.outcome),
            Ok(mut shaped) => self
                .call(plan, &mut shaped, values, generation)
                .map(|(at, request)| {
                    if let Some(step) = plan.pipeline.steps().nth(at) {
                        self.step.clone_from(&step.id);
                        self.origins = origins(&step.endpoint, &plan.pipeline.connection);
                    }
                    Arc::new(request)
                })
                .map_err(|refused| refused.settle(shaped.identity).outcome),
        };
        if let Ok(request) = &made
            && let Some(known) = self.history.last_mut()
            && let Some(row) = known.row.as_ref().filter(|row| row.request != 0)
        {
            known.same_request = Some(row.request == request.digest());
        }
        self.request = Some(made);
    }
}

impl Explained {
    /// The call of a record at which it stands, or its first one.
    fn call(
        &self,
        plan: &Plan,
        shaped: &mut Shaped,
        values: &RunValues,
        generation: u32,
    ) -> Result<(usize, Request), Refused> {
        let row = self.history.last().and_then(|known| known.row.as_ref());
        if plan.preparer.has_steps() {
            let passed = plan.preparer.passed(row).unwrap_or_default();
            match plan.preparer.request_after(shaped, values, generation, &passed) {
                Ok(None) if !passed.is_empty() => {}
                Ok(None) => return Err(Refused::NoStep),
                Ok(Some(next)) => return Ok((next.step, next.request)),
                Err(stuck) => {
                    let id = &plan.preparer.steps.of(stuck.step).id;
                    return Err(stuck.refused.of_step(id));
                }
            }
        }
        plan.preparer.request(shaped, values, generation).map(|request| (0, request))
    }
}

/// What one run knows: by key where there is one, else by position in the newest run.
fn in_run(
    checkpoint: &Checkpoint,
    run: &RunRow,
    key_hash: Option<u64>,
    ordinal: Option<u64>,
) -> Result<Option<InRun>, Failure> {
    let by_place = ordinal.map(|ordinal| checkpoint.row(run, ordinal)).transpose()?.flatten();
    let row = match (by_place, key_hash) {
        (Some(row), _) => Some(row),
        (None, Some(hash)) => {
            // Of records that share a key the one that was sent tells the most.
            let rows = checkpoint.rows_of_key(run, hash)?;
            rows.iter().find(|row| row.attempts > 0).or(rows.first()).cloned()
        }
        (None, None) => None,
    };
    let Some(row) = row else {
        // The newest run has it ahead of it.
        let waits = ordinal.is_some_and(|ordinal| ordinal < run.records);
        // A call speaks for its records until it is settled.
        let call = ordinal.map(|ordinal| checkpoint.batch_of(run, ordinal)).transpose()?.flatten();
        return Ok(waits.then(|| InRun {
            run: run.clone(),
            row: None,
            call,
            attempts: Vec::new(),
            notes: Vec::new(),
            same_request: None,
        }));
    };
    let mut notes = checkpoint.notes_of(run, Some(row.ordinal))?;
    notes.extend(checkpoint.notes_of(run, None)?);
    notes.sort_by(|one, two| one.at.cmp(&two.at));
    Ok(Some(InRun {
        attempts: checkpoint.attempts_of(run, row.ordinal)?,
        call: checkpoint.batch_of(run, row.ordinal)?,
        run: run.clone(),
        row: Some(row),
        notes,
        same_request: None,
    }))
}

/// Reads the input up to the record.
fn find(
    plan: &Plan,
    named: &Named,
    values: &RunValues,
    observer: &mut dyn Observer,
) -> Result<Option<Found>, Failure> {
    let Ok(mut source) = plan.source() else { return Ok(None) };
    let wanted = match named {
        Named::Key(_) if plan.preparer.key.is_none() => return Err(no_key()),
        Named::Key(key) => hash(key),
        Named::Ordinal(_) | Named::Line(..) => 0,
    };
    let mut before: Option<Record> = None;
    let mut seen = 0_u64;
    while let Some(record) = source.next() {
        let record = record?;
        seen += 1;
        if seen.is_multiple_of(65_536) {
            observer.tick();
        }
        let is_it = match named {
            Named::Key(_) => plan.preparer.key_hash(record.clone(), values) == Some(wanted),
            Named::Ordinal(ordinal) => record.ordinal == *ordinal,
            Named::Line(file, line) => {
                if !is_file(&record.place.file, file) {
                    continue;
                }
                if record.place.line > *line {
                    // A record can span lines: it is the one before, if that began in time.
                    return Ok(before.map(|record| known(plan, record, values)));
                }
                before = Some(record);
                continue;
            }
        };
        if is_it {
            return Ok(Some(known(plan, record, values)));
        }
    }
    Ok(before.map(|record| known(plan, record, values)))
}

fn known(plan: &Plan, record: Record, values: &RunValues) -> Found {
    let key = plan.preparer.key_text(record.clone(), values);
    Found { record, key_hash: key.as_deref().map(hash), key }
}

/// Whether a file that was typed is the one of a record.
fn is_file(of: &str, typed: &str) -> bool {
    let typed = typed.strip_prefix("./").unwrap_or(typed);
    of == typed || of.strip_suffix(typed).is_some_and(|rest| rest.ends_with('/'))
}

fn no_key() -> Failure {
    Failure::new(
        Class::Usage,
        Diagnostic::error("no-key", "the pipeline has no `key`, so a record cannot be named by it")
            .help("name it by its position (`'#17'`, from 0) or its line (`FILE:18`)"),
    )
}

fn unknown(plan: &Plan, named: &Named) -> Failure {
    let what = match named {
        Named::Key(key) if plan.preparer.key_is_public => format!("key `{key}`"),
        Named::Key(key) => format!("key {}", hidden(key)),
        Named::Ordinal(ordinal) => format!("position {ordinal}"),
        Named::Line(file, line) => format!("line {line} of {file}"),
    };
    Failure::new(
        Class::Usage,
        Diagnostic::error(
            "no-such-record",
            format!("neither the input nor a kept run has a record with {what}"),
        )
        .at(plan.pipeline.source.file.clone())
        .help("positions count from 0; a key is compared as it is written; `--input` names another file"),
    )
}

/// In a few words, what follows from the state of a record.
#[must_use]
pub const fn consequence(state: State) -> &'static str {
    match state {
        State::Pending => "goes out with the next apply",
        State::InFlight => "under way, or cut off by the end of the process",
        State::Delivered => "",
        State::Failed => "not sent again by itself",
        State::Invalid => "never sent",
        State::Skipped => "left out",
        State::InDoubt => "waits until it is known whether it arrived",
    }
}
