//! Which run a start is about, and what is left of it to do.
//!
//! What was found is `look`'s, what follows from it `resume`'s; here it is made so: runs are begun,
//! closed, reopened and removed. Invariant: whatever is written is one durable step, and nothing is
//! sent yet.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Session;
use crate::engine::copies::{self, Copies};
use crate::engine::look::{self, Look};
use crate::engine::resume::Decision;
use crate::engine::spools::Spools;
use crate::engine::survey::LeavesOut;
use crate::engine::{Observer, identity, retry, trial};
use crate::model::{Class, Counts, Diagnostic, Event, Failure};
use crate::outcome::RunRow;
use crate::render::RunValues;

/// A run that is ready to go on.
pub(super) struct Ready {
    pub run: RunRow,
    pub values: RunValues,
    pub dropped: Arc<[(u64, u64)]>,
    pub counts: Counts,
    pub resumed: bool,
    pub only: Option<BTreeSet<u64>>,
    pub is_apart: bool,
}

/// What a start is about.
pub(super) enum Decided {
    Ready(Box<Ready>),
    /// All of this run is settled or closed; whether the input is not its own.
    NothingToDo(Box<RunRow>, bool),
}

fn bug(message: &str) -> Failure {
    Failure::new(Class::Bug, Diagnostic::error("bug", message.to_owned()))
}

impl Session<'_> {
    /// Finds out which run this start is about, and whether there is anything to do.
    pub(super) fn decide(&mut self, observer: &mut dyn Observer) -> Result<Decided, Failure> {
        let found =
            look::look(&self.plan, self.start, Some(&self.checkpoint), &self.folder.temporary(), observer)?;
        let pipeline = Arc::clone(&self.plan.pipeline);
        if matches!(found.decision, Ok(Decision::Begin { .. })) {
            self.start.refuse_without_run()?;
        }
        found.refuse(&self.plan, self.start)?;
        if let Some(run) = &found.gone {
            observer.event(&Event::Warning(
                Diagnostic::warning(
                    "run-gone",
                    format!("run {run}, which wrote this input, is not kept any more"),
                )
                .note("its records are sent as a run of their own"),
            ));
        }
        let Look {
            last,
            decision,
            new,
            new_values,
            dropped,
            delivered_before,
            surveyed,
            leaves_out,
            vanished,
            copies,
            ..
        } = found;
        match decision? {
            Decision::Begin { close } => {
                self.remove_old_runs()?;
                let close = last.as_ref().map(|(run, _)| run).zip(close);
                self.offer_lists();
                let run = self.checkpoint.begin_run(&new, close)?;
                self.keep_lists(true, true)?;
                self.folder.make_run(&run.id)?;
                vanished.tell(&pipeline, self.start, observer);
                if delivered_before > 0 && leaves_out == LeavesOut::None {
                    observer.event(&Event::Warning(Diagnostic::warning(
                        "sent-again",
                        format!("{delivered_before} records have keys that earlier runs delivered; they are sent again"),
                    )));
                }
                let counts = Counts { unsent: new.records, ..Counts::default() };
                let ready = Ready {
                    values: new_values,
                    run,
                    dropped,
                    counts,
                    resumed: false,
                    only: None,
                    is_apart: false,
                };
                Ok(Decided::Ready(Box::new(ready)))
            }
            Decision::GoOn { input_changed, take_meaning } => {
                let Some((run, _)) = last else {
                    return Err(bug("there is no run to go on with"));
                };
                let reopens = copies.is_some() || self.start.retry.is_some() || self.start.one.is_some();
                self.checkpoint.check_to_go_on(&run, reopens)?;
                let takes_input = input_changed || (surveyed && run.input_stamp != new.input_stamp);
                // The same cells are as good as those that it has.
                let takes_tables = take_meaning || run.meaning == new.meaning;
                self.offer_lists();
                if takes_input {
                    self.checkpoint.update_input(&run, &new)?;
                }
                if take_meaning {
                    self.checkpoint.update_meaning(&run, &new)?;
                }
                self.keep_lists(takes_input, takes_tables)?;
                if let Some(copies) = &copies {
                    return self.settle_copies(&run, copies);
                }
                let only = match (&self.start.retry, &self.start.one) {
                    (Some(filter), _) => Some(retry::reopen(
                        &self.plan,
                        &self.checkpoint,
                        &run,
                        (filter.as_deref(), &self.start.captures),
                    )?),
                    (None, Some(one)) => trial::reopen(&self.checkpoint, &run, one, &self.start.command)?,
                    (None, None) => None,
                };
                let asks = self.asks_about_doubt(&run)?;
                let run = self.checkpoint.run(run.number)?;
                self.folder.make_run(&run.id)?;
                let counts = self.checkpoint.counts(&run)?;
                if only.as_ref().is_some_and(BTreeSet::is_empty) && counts.unsent > 0 {
                    return Err(retry::nothing_failed(&run, counts.unsent, &self.start.command));
                }
                let nothing_left = counts.unsent == 0 || run.closed_at.is_some() && only.is_none();
                if nothing_left && !asks || only.as_ref().is_some_and(BTreeSet::is_empty) {
                    return Ok(Decided::NothingToDo(Box::new(run), false));
                }
                let values = identity::values(&run, &pipeline.name);
                Ok(Decided::Ready(Box::new(Ready {
                    values,
                    run,
                    dropped,
                    counts,
                    resumed: true,
                    only,
                    is_apart: false,
                })))
            }
        }
    }

    fn offer_lists(&mut self) {
        self.spools.iter_mut().for_each(Spools::offer);
    }

    /// Puts the lists that the run has taken in their places; the others were read for nothing.
    fn keep_lists(&mut self, input: bool, tables: bool) -> Result<(), Failure> {
        let Some(spools) = &mut self.spools else { return Ok(()) };
        if input {
            spools.keep_list(&mut self.plan)?;
        }
        if tables {
            spools.keep_tables(&mut self.plan)?;
        }
        spools.discard();
        Ok(())
    }

    /// Goes on with the run whose records the input holds copies of.
    fn settle_copies(&self, run: &RunRow, copies: &Copies) -> Result<Decided, Failure> {
        let crashed = self.checkpoint.latest_start(run)?.filter(|start| start.class.is_empty());
        // A call that is not settled speaks of records that the copies need not have.
        let has_calls = !self.checkpoint.open_batches(run)?.is_empty();
        if has_calls || crashed.is_some_and(|start| start.leased_without_intents(run)) {
            return Err(copies::refuse_unsettled(run, &self.start.command));
        }
        let run = self.checkpoint.run(run.number)?;
        if !copies.fit(&run) {
            return Err(copies::refuse_unfit(&run));
        }
        if copies.to_send(&self.checkpoint, &run)? == 0 {
            return Ok(Decided::NothingToDo(Box::new(run), true));
        }
        self.read_anew(&run)?;
        copies.reopen(&self.checkpoint, &run)?;
        let run = self.checkpoint.run(run.number)?;
        self.folder.make_run(&run.id)?;
        Ok(Decided::Ready(Box::new(Ready {
            values: identity::values(&run, &self.plan.pipeline.name),
            counts: self.checkpoint.counts(&run)?,
            run,
            dropped: Arc::new([]),
            resumed: true,
            only: None,
            is_apart: true,
        })))
    }

    /// Has the run's input read again from its beginning by the next start that goes on with it.
    fn read_anew(&self, run: &RunRow) -> Result<(), Failure> {
        // Of a run that was closed over unsent records nothing is sent any more by itself.
        let was_closed = run.closed_at.is_some() && self.checkpoint.counts(run)?.unsent > 0;
        if was_closed { self.checkpoint.rewind(run) } else { self.checkpoint.reopen(run) }
    }

    /// Whether this start asks the far side about records that an earlier one left in doubt; then
    /// the input is read again from its beginning, as they may stand anywhere in it.
    fn asks_about_doubt(&self, run: &RunRow) -> Result<bool, Failure> {
        if !self.plan.asks() {
            return Ok(false);
        }
        let wanted = self.start.reconcile.is_some();
        let counts = self.checkpoint.counts(run)?;
        let has_any = if wanted { true } else { self.checkpoint.has_doubt_not_asked_about(run)? };
        let was_closed = run.closed_at.is_some() && counts.unsent > 0;
        if !has_any || was_closed && !wanted {
            return Ok(false);
        }
        self.read_anew(run)?;
        Ok(true)
    }

    /// Ruling 28: finished runs without doubt are removed once they are neither among the newest
    /// nor young. Their delivered keys are remembered.
    fn remove_old_runs(&self) -> Result<(), Failure> {
        let keep = self.plan.pipeline.keep;
        let runs = self.checkpoint.runs()?;
        let newest = usize::try_from(keep.runs).unwrap_or(usize::MAX);
        let age = jiff::SignedDuration::from_hours(
            i64::try_from(keep.days).unwrap_or(i64::MAX / 24).saturating_mul(24),
        );
        let youngest = jiff::Timestamp::now().checked_sub(age).unwrap_or(jiff::Timestamp::MIN);
        for run in runs.iter().rev().skip(newest) {
            let is_young = run.started_at.parse::<jiff::Timestamp>().is_ok_and(|at| at > youngest);
            let is_open = run.closed_at.is_none()
                || self.checkpoint.counts(run)?.in_doubt > 0
                || self.checkpoint.has_deleting(run)?;
            if !is_young && !is_open {
                self.folder.remove_run(&run.id)?;
                self.checkpoint.remove_run(run)?;
            }
        }
        Ok(())
    }
}
