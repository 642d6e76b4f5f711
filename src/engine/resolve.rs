//! What a person decided about records in doubt, as one durable step for each run.
//!
//! Invariant: all records that were named are in doubt, or nothing is changed.

use crate::model::{Class, Counts, Diagnostic, Failure, State, Value};
use crate::outcome::{Checkpoint, RecordRow, RunRow, Settlement};

use super::prepare::{hash, hidden};
use super::steps::Passed;

/// Which records in doubt.
#[derive(Debug, Clone)]
pub enum Select {
    /// All, of all kept runs.
    All,
    /// Those with these keys, of all kept runs.
    Keys {
        /// The keys as they were typed.
        keys: Vec<String>,
        /// Whether they may be shown.
        public: bool,
    },
    /// Those at these positions of the newest run that holds any.
    Ordinals(Vec<u64>),
}

/// What was settled in one run.
#[derive(Debug)]
pub struct Resolved {
    /// The run.
    pub run: RunRow,
    /// Before.
    pub before: Counts,
    /// After.
    pub after: Counts,
    /// Records that were settled.
    pub records: u64,
}

/// Settles records in doubt; the caller holds the lock. The newest run comes first.
///
/// `is_followed` says whether other calls may follow the step with this name: then one that is said to
/// have arrived does not settle its record.
pub fn resolve(
    checkpoint: &Checkpoint,
    settlement: Settlement,
    select: &Select,
    is_followed: &dyn Fn(&str) -> bool,
) -> Result<Vec<Resolved>, Failure> {
    let mut runs = checkpoint.runs()?;
    runs.reverse();
    let mut held: Vec<(&RunRow, Vec<RecordRow>)> = Vec::new();
    for run in &runs {
        let mut rows = Vec::new();
        if checkpoint.counts(run)?.in_doubt > 0 {
            checkpoint.each_row(run, 0, |row| {
                if row.state == State::InDoubt {
                    rows.push(row);
                }
                Ok(())
            })?;
        }
        held.push((run, rows));
    }
    let chosen = choose(checkpoint, &runs, held, select)?;
    let newest = runs.first();
    let mut resolved = Vec::new();
    for (run, rows) in chosen.into_iter().filter(|(_, rows)| !rows.is_empty()) {
        let before = checkpoint.counts(run)?;
        let is_newest = newest.is_some_and(|newest| newest.number == run.number);
        let records = rows.len() as u64;
        let keys: Vec<u64> = rows.iter().map(|row| row.key_hash).filter(|hash| *hash != 0).collect();
        let rows: Vec<RecordRow> =
            rows.into_iter().map(|row| settle(row, settlement, is_newest, is_followed)).collect();
        let why = format!("resolve:{}", settlement.name());
        let opens = rows.iter().any(|row| row.state == State::Pending);
        if opens && is_newest {
            // First: a pending record in a run that is closed or settled beyond it would be forgotten.
            checkpoint.reopen(run)?;
        }
        checkpoint.write_rows(run, &rows, &why)?;
        if settlement == Settlement::Resend
            && !is_newest
            && let Some(newest) = newest
        {
            free(checkpoint, newest, &keys, &why)?;
        }
        resolved.push(Resolved { run: run.clone(), before, after: checkpoint.counts(run)?, records });
    }
    Ok(resolved)
}

/// Has all that one run holds in doubt sent again by the start that goes on with it: for calls of which a repeat
/// is known to be harmless. The caller holds the lock.
pub fn resend(checkpoint: &Checkpoint, run: &RunRow) -> Result<(), Failure> {
    let mut rows = Vec::new();
    checkpoint.each_row(run, 0, |row| {
        if row.state == State::InDoubt {
            rows.push(settle(row, Settlement::Resend, true, &|_| false));
        }
        Ok(())
    })?;
    // First: a pending record in a run that is closed or settled beyond it would be forgotten.
    checkpoint.reopen(run)?;
    checkpoint.write_rows(run, &rows, "resend")
}

type Chosen<'a> = Vec<(&'a RunRow, Vec<RecordRow>)>;

fn choose<'a>(
    checkpoint: &Checkpoint,
    runs: &[RunRow],
    mut held: Chosen<'a>,
    select: &Select,
) -> Result<Chosen<'a>, Failure> {
    match select {
        Select::All => {
            if held.iter().all(|(_, rows)| rows.is_empty()) {
                return Err(refused("nothing-held", "no record is in doubt".into()));
            }
            Ok(held)
        }
        Select::Keys { keys, public } => {
            for key in keys {
                let wanted = hash(key);
                if held.iter().flat_map(|(_, rows)| rows).any(|row| row.key_hash == wanted) {
                    continue;
                }
                let mut state = None;
                for run in runs {
                    state = checkpoint.state_of_key(run, wanted)?;
                    if state.is_some() {
                        break;
                    }
                }
                return Err(not_held(&format!("the record with key {}", shown_key(key, *public)), state));
            }
            let wanted: Vec<u64> = keys.iter().map(|key| hash(key)).collect();
            for (_, rows) in &mut held {
                rows.retain(|row| wanted.contains(&row.key_hash));
            }
            Ok(held)
        }
        Select::Ordinals(ordinals) => {
            let index = held.iter().position(|(_, rows)| !rows.is_empty()).unwrap_or(0);
            held = held.into_iter().skip(index).take(1).collect();
            for ordinal in ordinals {
                if held.iter().flat_map(|(_, rows)| rows).any(|row| row.ordinal == *ordinal) {
                    continue;
                }
                let state = match held.first() {
                    Some((run, _)) => checkpoint.row(run, *ordinal)?.map(|row| row.state),
                    None => None,
                };
                return Err(not_held(&format!("the record at position {ordinal}"), state));
            }
            for (_, rows) in &mut held {
                rows.retain(|row| ordinals.contains(&row.ordinal));
            }
            Ok(held)
        }
    }
}

/// A key as it may be shown.
pub(super) fn shown_key(key: &str, public: bool) -> String {
    if public { format!("`{key}`") } else { hidden(key) }
}

/// A record that was named is not in doubt.
pub(super) fn not_held(what: &str, state: Option<State>) -> Failure {
    let is = match state {
        None => "is not known to any run".to_owned(),
        Some(state) => format!("is {}, not in doubt", state.name().replace('_', " ")),
    };
    refused("not-in-doubt", format!("{what} {is}"))
}

fn refused(rule: &'static str, message: String) -> Failure {
    Failure::new(
        Class::State,
        Diagnostic::error(rule, message).note("nothing was changed").help(match rule {
            "nothing-held" => "`runner status` shows where the runs stand",
            _ => "in_doubt.* in the run's folder lists the records; `runner status` names it",
        }),
    )
}

/// A record after a person decided.
fn settle(
    row: RecordRow,
    settlement: Settlement,
    is_newest: bool,
    is_followed: &dyn Fn(&str) -> bool,
) -> RecordRow {
    let row = RecordRow { granted: false, ..row };
    // What cannot be read, nobody reads: such a row says that it stands at no call.
    let mut passed = Passed::of(Some(&row)).unwrap_or_default();
    let at = passed.at().to_owned();
    let row = if settlement == Settlement::Delivered && !at.is_empty() {
        // Its reply brought nothing that anybody saw, so this is always kept.
        let _ = passed.add(&at, 0, &Value::Absent);
        RecordRow { captures: passed.without_place().text(), ..row }
    } else {
        row
    };
    match settlement {
        // The call arrived, and others follow it.
        Settlement::Delivered if !at.is_empty() && is_followed(&at) => {
            let row = RecordRow { unknown: false, request: 0, first_at: 0, status: 0, ..row };
            if is_newest {
                RecordRow { state: State::Pending, class: String::new(), message: String::new(), ..row }
            } else {
                // Nothing of an older run is sent any more; its key stays taken.
                RecordRow {
                    state: State::Failed,
                    class: "resolved".into(),
                    message: format!("step {at} had arrived; those after it were not sent"),
                    ..row
                }
            }
        }
        // Its earlier attempt stays unknown, so that a refusal now does not count as certain.
        // And whatever it is today goes out: the person who names it accepts other bytes, too.
        Settlement::Resend if is_newest => {
            RecordRow { state: State::Pending, request: 0, first_at: 0, ..row }
        }
        // Nothing of an older run is sent any more: its key is free for the next run.
        Settlement::Resend => RecordRow {
            state: State::Skipped,
            class: "resolved".into(),
            message: "left to a later run by `resolve --resend`".into(),
            ..row
        },
        Settlement::Skip | Settlement::Delivered | Settlement::Failed => RecordRow {
            state: settlement.state(),
            unknown: false,
            // Of what was sent nobody knows more than that it arrived.
            request: 0,
            class: "resolved".into(),
            message: format!("by a person: `resolve --{}`", settlement.name()),
            ..row
        },
    }
}

/// Opens the records of the newest run that were left out because an older one held their keys.
fn free(checkpoint: &Checkpoint, newest: &RunRow, keys: &[u64], why: &str) -> Result<(), Failure> {
    let mut rows = Vec::new();
    checkpoint.each_row(newest, 0, |row| {
        if row.state == State::Skipped && row.class == "held" && keys.contains(&row.key_hash) {
            rows.push(RecordRow {
                state: State::Pending,
                class: String::new(),
                message: String::new(),
                ..row
            });
        }
        Ok(())
    })?;
    if !rows.is_empty() {
        checkpoint.reopen(newest)?;
        checkpoint.write_rows(newest, &rows, why)?;
    }
    Ok(())
}
