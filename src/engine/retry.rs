//! `runner retry`: opens failed records of a run again.
//!
//! They keep their place in the run and get a new generation of their idempotency key, since the
//! far side refused the old one for certain.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::{Class, Diagnostic, Failure, Number, State, Value, number};
use crate::outcome::{Checkpoint, RecordRow, RunRow};
use crate::render::{Leaf, Root};

use super::identity;
use super::open::Plan;
use super::steps::Passed;

/// Rows that are written in one step.
const AT_ONCE: usize = 10_000;

/// What a person says that the reply to a step brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The step.
    pub step: String,
    /// The name of what is captured.
    pub name: String,
    /// The value, as text.
    pub value: String,
}

/// Opens the failed (and, once the meaning changed, the invalid) records for which the filter is
/// true; returns their ordinals. What is `said` of replies needs one record.
pub fn reopen(
    plan: &Plan,
    checkpoint: &Checkpoint,
    run: &RunRow,
    (filter, said): (Option<&str>, &[Said]),
) -> Result<BTreeSet<u64>, Failure> {
    let filter = filter.map(|text| plan.bare_expression(text)).transpose()?;
    let mut rows = Vec::new();
    checkpoint.each_row(run, 0, |row| {
        let invalid_may_be_mended = row.state == State::Invalid && row.class != "duplicate-key";
        // Opened by an earlier `retry` that did not come to its end.
        let is_open = !row.state.is_settled() && row.generation > 0;
        if row.state == State::Failed || invalid_may_be_mended || is_open {
            rows.push(row);
        }
        Ok(())
    })?;
    if let Some(filter) = &filter {
        rows = matching(plan, run, filter, rows)?;
    }
    if !said.is_empty() {
        let [row] = &mut *rows else { return Err(not_one(rows.len())) };
        say(plan, row, said)?;
    }
    let opened: BTreeSet<u64> = rows.iter().map(|row| row.ordinal).collect();
    // One that is open already is written anew where something is said of it.
    rows.retain(|row| row.state.is_settled() || !said.is_empty());
    if !rows.is_empty() {
        // First: a pending record in a run that is closed or settled beyond it would be forgotten.
        checkpoint.reopen(run)?;
    }
    for chunk in rows.chunks(AT_ONCE) {
        let chunk: Vec<RecordRow> = chunk
            .iter()
            .map(|row| RecordRow {
                state: State::Pending,
                generation: row.generation + 1,
                granted: false,
                unknown: false,
                first_at: 0,
                ..row.clone()
            })
            .collect();
        checkpoint.write_rows(run, &chunk, "retry")?;
    }
    Ok(opened)
}

/// Notes what the replies to steps that were delivered should have brought.
fn say(plan: &Plan, row: &mut RecordRow, said: &[Said]) -> Result<(), Failure> {
    let refused = |message: String, help: String| {
        let found = Diagnostic::error("capture-unknown", message).note("nothing was changed").help(help);
        Err(Failure::new(Class::Usage, found))
    };
    let Some(mut passed) = Passed::of(Some(row)) else { return Ok(()) };
    for Said { step, name, value } in said {
        let all = || plan.preparer.steps.iter().filter(|step| !step.captures.is_empty());
        let is_known = all().any(|known| *known.id == **step && known.captures.contains(name));
        if !is_known {
            let names = all().flat_map(|step| step.captures.iter().map(|name| format!("{}.{name}", step.id)));
            let names: Vec<String> = names.collect();
            let help = format!("these are captured: {}", names.join(", "));
            return refused(format!("no step of the pipeline captures `{step}.{name}`"), help);
        }
        if !passed.has(step) {
            let message = format!("step {step} of the record was not delivered");
            return refused(message, "its own reply will bring it: retry without `--capture`".into());
        }
        passed.say(step, name, value);
    }
    row.captures = passed.text();
    Ok(())
}

fn not_one(chosen: usize) -> Failure {
    let message = format!("`--capture` speaks of one record, and {} are chosen", number(chosen as u64));
    Failure::new(
        Class::Usage,
        Diagnostic::error("capture-of-several", message)
            .note("nothing was changed")
            .help("choose one failed record: `--where \"record.id == '…'\"`"),
    )
}

/// `retry` of an input that no run had.
pub fn no_run() -> Failure {
    Failure::new(
        Class::State,
        Diagnostic::error(
            "nothing-to-retry",
            "there is no run of this input whose failures could be sent again",
        )
        .note("nothing was sent")
        .help("`runner status` shows the runs that are kept"),
    )
}

/// `retry` of a run that has nothing to retry and is not finished: to call that done would be wrong.
pub fn nothing_failed(run: &RunRow, unsent: u64, command: &str) -> Failure {
    Failure::new(
        Class::State,
        Diagnostic::error(
            "nothing-to-retry",
            format!("no record of run {} failed that could be sent again", run.id),
        )
        .note(format!(
            "{} not sent yet; nothing was sent now",
            if unsent == 1 { "1 record was".to_owned() } else { format!("{} records were", number(unsent)) }
        ))
        .help(format!("`{}` goes on with them", command.replacen("runner retry", "runner apply", 1))),
    )
}

/// The rows for which the filter is true; it reads `record`, `class` and `status`.
fn matching(
    plan: &Plan,
    run: &RunRow,
    filter: &Leaf,
    rows: Vec<RecordRow>,
) -> Result<Vec<RecordRow>, Failure> {
    let values = identity::values(run, &plan.pipeline.name);
    let mut source = plan.source()?;
    let mut kept = Vec::new();
    let mut rows = rows.into_iter().peekable();
    while let (Some(next), Some(record)) = (rows.peek().map(|row| row.ordinal), source.next()) {
        let record = record?;
        if record.ordinal != next {
            continue;
        }
        let Some(row) = rows.next() else { break };
        let Ok(mut fields) = record.fields else { continue };
        plan.preparer.selection.rename(&mut fields);
        plan.preparer.selection.retype(&mut fields);
        let mut context = plan.preparer.base.clone();
        context.set_run(values.clone());
        context.set(Root::Record, Arc::new(Value::Object(fields)));
        context.set(Root::Class, Arc::new(Value::text(row.class.as_str())));
        context.set(Root::Status, Arc::new(Value::Number(Number::from(u64::from(row.status)))));
        if filter.truth(&context).unwrap_or(false) {
            kept.push(row);
        }
    }
    Ok(kept)
}
