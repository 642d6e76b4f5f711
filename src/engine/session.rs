//! One start of a pipeline with everything that it has opened, from the decision to the end.
//!
//! Invariant: nothing leaves before the run is decided, its doubt settled and its files opened.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::config::InDoubt;
use crate::deliver::Sender;
use crate::model::{Class, Counts, Diagnostic, Event, Failure, Mask};
use crate::outcome::{Checkpoint, Finished, Folder, Grants, InputMark, Lock, Responses, RunRow};
use crate::render::{Leaf, RunValues};
use crate::source::Mark;

use super::look::{self, Look};
use super::narrow::Narrow;
use super::open::Plan;
use super::resume::Decision;
use super::sieve::Sieve;
use super::stop::StopLine;
use super::{Observer, Report, Start, dispatch, feed, finish, identity, recover, retry, trial};

pub(super) fn narrowing(plan: &Plan, start: &Start) -> Result<Narrow, Failure> {
    if !start.records.is_empty() && plan.preparer.key.is_none() {
        return Err(Failure::new(
            Class::Usage,
            Diagnostic::error("no-key", "`--record` names a key, and the pipeline has none")
                .help("give the pipeline a `key:`, or use `--where`"),
        ));
    }
    let filter: Option<Leaf> = start.filter.as_deref().map(|text| plan.bare_expression(text)).transpose()?;
    Ok(Narrow { limit: start.limit, filter, ..Narrow::default() }.to_keys(&start.records))
}

/// One start with everything that it has opened.
pub(super) struct Session<'a> {
    pub plan: Plan,
    pub start: &'a Start,
    pub folder: Folder,
    pub checkpoint: Checkpoint,
    pub sender: Sender,
    pub narrow: Narrow,
    pub begun: Instant,
    pub lock: Lock,
}

/// A run that is ready to go on.
struct Ready {
    run: RunRow,
    values: RunValues,
    dropped: Arc<[(u64, u64)]>,
    counts: Counts,
    resumed: bool,
    only: Option<BTreeSet<u64>>,
}

/// What a start is about.
enum Decided {
    Ready(Box<Ready>),
    /// All of this run is settled or closed.
    NothingToDo(Box<RunRow>),
}

fn bug(message: &str) -> Failure {
    Failure::new(Class::Bug, Diagnostic::error("bug", message.to_owned()))
}

impl Session<'_> {
    /// Runs to the end, or finds that there is nothing to do.
    pub(super) fn run(mut self, observer: &mut dyn Observer) -> Result<Report, Failure> {
        let ready = match self.decide(observer)? {
            Decided::Ready(ready) => *ready,
            Decided::NothingToDo(run) => return self.nothing_to_do(&run),
        };
        let Ready { run, values, dropped, counts, resumed, only } = ready;
        tracing::info!(
            pipeline = self.plan.pipeline.name,
            to = self.start.target,
            run = run.id,
            records = run.records,
            resumed,
            settled = counts.settled(),
            "run decided"
        );
        self.narrow.only = only;
        let recovered = recover::recover(
            &self.plan,
            &self.checkpoint,
            &run,
            &values,
            &dropped,
            counts.in_doubt + counts.failed > 0,
        )?;
        let counts = self.checkpoint.counts(&run)?;
        observer.event(&Event::RunStarted {
            pipeline: self.plan.pipeline.name.clone(),
            run: run.id.clone(),
            connection: self.plan.pipeline.connection.name.clone(),
            host: self.plan.host(),
            total: run.records,
            before: counts,
            resumed,
            rate: self.plan.pipeline.delivery.rate,
        });
        if recovered.resent > 0 {
            observer.event(&Event::Warning(
                Diagnostic::warning(
                    "sent-again",
                    format!("{} records that may have arrived are sent again", recovered.resent),
                )
                .note("an earlier start ended without noting their outcome; `in_doubt: resend` says that a repeat is harmless"),
            ));
        }
        self.send(&run, values, dropped, counts, recovered, observer)
    }

    /// Finds out which run this start is about, and whether there is anything to do.
    fn decide(&mut self, observer: &mut dyn Observer) -> Result<Decided, Failure> {
        let found =
            look::look(&self.plan, self.start, Some(&self.checkpoint), &self.folder.temporary(), observer)?;
        let pipeline = Arc::clone(&self.plan.pipeline);
        if self.start.retry.is_some() && matches!(found.decision, Ok(Decision::Begin { .. })) {
            return Err(Failure::new(
                Class::State,
                Diagnostic::error(
                    "nothing-to-retry",
                    "there is no run of this input whose failures could be sent again",
                )
                .note("nothing was sent")
                .help("`runner status` shows the runs that are kept"),
            ));
        }
        if matches!(found.decision, Ok(Decision::Begin { .. })) {
            found.refuse_repeats(&self.plan, self.start)?;
        }
        let Look { last, decision, new, new_values, dropped, delivered_before, surveyed, only_new } = found;
        match decision? {
            Decision::Begin { close } => {
                self.remove_old_runs()?;
                let close = last.as_ref().map(|(run, _)| run).zip(close);
                let run = self.checkpoint.begin_run(&new, close)?;
                self.folder.make_run(&run.id)?;
                if delivered_before > 0 && !only_new {
                    observer.event(&Event::Warning(Diagnostic::warning(
                        "sent-again",
                        format!("{delivered_before} records have keys that earlier runs delivered; they are sent again"),
                    )));
                }
                let counts = Counts { unsent: new.records, ..Counts::default() };
                let ready = Ready { values: new_values, run, dropped, counts, resumed: false, only: None };
                Ok(Decided::Ready(Box::new(ready)))
            }
            Decision::GoOn { input_changed, take_meaning } => {
                let Some((run, _)) = last else {
                    return Err(bug("there is no run to go on with"));
                };
                if input_changed || (surveyed && run.input_stamp != new.input_stamp) {
                    self.checkpoint.update_input(&run, &new)?;
                }
                if take_meaning {
                    self.checkpoint.update_meaning(
                        &run,
                        &new.meaning,
                        &new.meaning_files,
                        &new.destination,
                    )?;
                }
                let only = match (&self.start.retry, &self.start.one) {
                    (Some(filter), _) => {
                        Some(retry::reopen(&self.plan, &self.checkpoint, &run, filter.as_deref())?)
                    }
                    (None, Some(one)) => trial::reopen(&self.checkpoint, &run, one, &self.start.command)?,
                    (None, None) => None,
                };
                let run = self.checkpoint.run(run.number)?;
                self.folder.make_run(&run.id)?;
                let counts = self.checkpoint.counts(&run)?;
                if only.as_ref().is_some_and(BTreeSet::is_empty) && counts.unsent > 0 {
                    return Err(retry::nothing_failed(&run, counts.unsent, &self.start.command));
                }
                let nothing_left = counts.unsent == 0 || run.closed_at.is_some() && only.is_none();
                if nothing_left || only.as_ref().is_some_and(BTreeSet::is_empty) {
                    return Ok(Decided::NothingToDo(Box::new(run)));
                }
                let values = identity::values(&run, &pipeline.name);
                Ok(Decided::Ready(Box::new(Ready { run, values, dropped, counts, resumed: true, only })))
            }
        }
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
            let is_open = run.closed_at.is_none() || self.checkpoint.counts(run)?.in_doubt > 0;
            if !is_young && !is_open {
                self.folder.remove_run(&run.id)?;
                self.checkpoint.remove_run(run)?;
            }
        }
        Ok(())
    }

    fn send(
        self,
        run: &RunRow,
        values: RunValues,
        dropped: Arc<[(u64, u64)]>,
        counts: Counts,
        recovered: recover::Recovered,
        observer: &mut dyn Observer,
    ) -> Result<Report, Failure> {
        let Self { plan, start, folder, checkpoint, sender, narrow, begun, lock } = self;
        let pipeline = Arc::clone(&plan.pipeline);
        let limit = pipeline.select.limit;
        // With a limit every record before it has to be counted again.
        let from = if limit.is_some() { InputMark::default() } else { run.settled };
        let mut source = plan.source()?;
        if from.ordinal > 0 {
            source.seek(Mark { ordinal: from.ordinal, file: from.file, byte: from.byte, line: from.line })?;
        }
        let is_narrow = narrow.is_narrow();
        let wants_keys = narrow.keys.is_some();
        let run_ids = checkpoint.run_ids()?;
        let responses = if pipeline.responses_file {
            Some(open_responses(&folder.run(&run.id), &checkpoint, run)?)
        } else {
            None
        };
        // What an earlier start leased and left out has no row: a crash of this start must not put
        // it in doubt. A start that picks records would leave such holes, so it grants by rows.
        let leased_from = if narrow.is_selective() { i64::MAX.cast_unsigned() } else { run.lease };
        let grants = Grants { intents: pipeline.delivery.in_doubt != InDoubt::Resend, leased_from };
        let writer = checkpoint.into_writer(run, grants, pipeline.delivery.durability, responses)?;
        let settled = Arc::new(Mutex::new(run.settled));
        let host = plan.host();
        let path_is_fixed = !pipeline.endpoint.path.value.contains("{{");
        let lanes = pipeline.delivery.concurrency.get();
        let Plan { preparer, reader, columns, warnings, schema_files, spool, .. } = plan;
        let preparer = Arc::new(preparer);
        let feed = feed::Feed {
            sieve: Sieve {
                preparer: Arc::clone(&preparer),
                run: values,
                known: recovered.known,
                dropped,
                run_ids,
                narrow,
                limit,
                selected: 0,
                sent: 0,
            },
            source,
            from,
            writer: writer.clone(),
            leased: run.lease,
            leased_from,
            settled: Arc::clone(&settled),
            block: (2 * lanes).max(64),
        };
        let (blocks, inbox) = tokio::sync::mpsc::channel(1);
        let (credit, credits) = std::sync::mpsc::channel();
        // Two blocks may be leased before the loop begins the first.
        let _ = (credit.send(()), credit.send(()));
        let thread = std::thread::Builder::new()
            .name("feed".into())
            .spawn(move || feed.run(&blocks, &credits))
            .map_err(|error| {
                Failure::new(Class::Io, Diagnostic::error("io", format!("cannot start a thread: {error}")))
            })?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
                Failure::new(Class::Io, Diagnostic::error("io", format!("cannot start the runtime: {error}")))
            })?;
        let ended = runtime.block_on(async {
            let with = dispatch::Dispatch {
                sender,
                reader: &reader,
                delivery: &pipeline.delivery,
                writer: &writer,
                observer,
                host,
                connection: pipeline.connection.name.clone(),
                secrets_from: &pipeline.connection.secrets_from,
                counts,
                deadline: start.max_duration.map(|limit| begun + limit),
                held: recovered.held,
                settled: Arc::clone(&settled),
                keys_are_public: preparer.key_is_public,
                keeps_responses: pipeline.responses_file,
                mask: Mask::new(&pipeline.connection.secrets),
                path_is_fixed,
            };
            dispatch::dispatch(with, inbox, credit, StopLine::listen()?, run.settled).await
        });
        // The thread ends with its channel; a panic in it would show as an input that ends early.
        let reader_ended = thread.join();
        let ended = ended?;
        if reader_ended.is_err() {
            return Err(Failure::new(
                Class::Bug,
                Diagnostic::error("bug", "the reading thread ended by a fault of this program"),
            ));
        }
        let class =
            ended.stopped.as_ref().map_or_else(|| finish::class_of(&ended.counts), |stopped| stopped.class);
        let complete = ended.counts.unsent == 0;
        writer.finish(Finished { class, complete }, ended.settled, complete)?;
        let preparer = Arc::into_inner(preparer);
        let Some(preparer) = preparer else {
            return Err(Failure::new(
                Class::Bug,
                Diagnostic::error("bug", "the reading thread did not let go"),
            ));
        };
        let plan = Plan { pipeline, preparer, reader, columns, warnings, schema_files, spool };
        let nothing_found = wants_keys && ended.attempts == 0 && ended.stopped.is_none();
        let mut report = finish::report(finish::Ending {
            plan: &plan,
            folder: &folder,
            run_id: &run.id,
            ended,
            before: counts,
            begun,
            is_narrow,
            lock,
            command: &start.command,
        })?;
        if nothing_found {
            report.class = Class::Usage;
            report.diagnostics.push(
                Diagnostic::error("no-such-record", "no record that is still to be sent has this key (`--record`)")
                    .note("nothing was sent")
                    .help("keys are compared as they are written, after `rename`; `runner preview` shows records with theirs"),
            );
        }
        Ok(report)
    }

    /// Ruling 7: nothing to do exits with the class of the finished run.
    fn nothing_to_do(self, run: &RunRow) -> Result<Report, Failure> {
        let counts = self.checkpoint.counts(run)?;
        let ended = dispatch::Ended { counts, attempts: 0, settled: run.settled, stopped: None };
        drop(self.checkpoint);
        let mut report = finish::report(finish::Ending {
            plan: &self.plan,
            folder: &self.folder,
            run_id: &run.id,
            ended,
            before: counts,
            begun: self.begun,
            is_narrow: false,
            lock: self.lock,
            command: &self.start.command,
        })?;
        report.nothing_to_do = true;
        Ok(report)
    }
}

/// Opens the file of replies. After a loss of power its last lines may be gone though their outcomes
/// are kept; that is mended before this start is noted, as only the last start tells of it.
fn open_responses(folder: &Path, checkpoint: &Checkpoint, run: &RunRow) -> Result<Responses, Failure> {
    let mut length = checkpoint.responses_length(run)?;
    let last = checkpoint.latest_start(run)?;
    if last.is_some_and(|start| start.class.is_empty() && start.before_this_boot()) {
        let now = Responses::mend(folder, length, checkpoint, run)?;
        if now != length {
            checkpoint.update_responses(run, now)?;
        }
        length = now;
    }
    Responses::open(folder, length)
}
