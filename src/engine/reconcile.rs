//! `runner reconcile`: which records in doubt the far side is asked about.
//!
//! The asking itself is part of any start (`dispatch/looks.rs`); this one sends nothing beside it.

use std::collections::BTreeSet;

use crate::model::{Class, Diagnostic, Failure, State};
use crate::outcome::{Checkpoint, RunRow};

use super::prepare::hash;
use super::resolve::{Select, not_held, shown_key};
use super::sieve::Known;

/// The positions of the records that were named. All of them are in doubt, or nothing is asked.
pub fn chosen(
    checkpoint: &Checkpoint,
    run: &RunRow,
    known: &Known,
    select: &Select,
) -> Result<BTreeSet<u64>, Failure> {
    let held = || known.open.values().filter(|row| row.state == State::InDoubt);
    let found: BTreeSet<u64> = match select {
        Select::All => held().map(|row| row.ordinal).collect(),
        Select::Ordinals(ordinals) => {
            for ordinal in ordinals {
                if !held().any(|row| row.ordinal == *ordinal) {
                    let state = checkpoint.row(run, *ordinal)?.map(|row| row.state);
                    return Err(not_held(&format!("the record at position {ordinal}"), state));
                }
            }
            ordinals.iter().copied().collect()
        }
        Select::Keys { keys, public } => {
            let mut found = BTreeSet::new();
            for key in keys {
                let wanted = hash(key);
                let before = found.len();
                found.extend(held().filter(|row| row.key_hash == wanted).map(|row| row.ordinal));
                if found.len() == before {
                    let what = format!("the record with key {} of run {}", shown_key(key, *public), run.id);
                    return Err(not_held(&what, checkpoint.state_of_key(run, wanted)?));
                }
            }
            found
        }
    };
    if found.is_empty() {
        return Err(nothing_held(&format!("no record of run {} is in doubt", run.id)));
    }
    Ok(found)
}

/// There is nothing to ask about.
pub fn nothing_held(message: &str) -> Failure {
    Failure::new(
        Class::State,
        Diagnostic::error("nothing-held", message.to_owned())
            .note("nothing was asked")
            .help("`runner status` shows where the runs stand; `--input` names the input of another run"),
    )
}
