//! One start of a pipeline with everything that it has opened, from the decision to the end.
//!
//! Invariant: nothing leaves before the run is decided, its doubt settled and its files opened.

mod decide;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::config::{self, Durability, InDoubt};
use crate::deliver::Sender;
use crate::model::{Class, Diagnostic, Event, Failure};
use crate::outcome::{Checkpoint, Finished, Folder, Grants, InputMark, Inspection, Lock, Responses, RunRow};
use crate::render::Leaf;
use crate::source::Mark;

use super::copies::Renumbered;
use decide::{Decided, Ready};

use super::gather::{Assembler, Gather};
use super::narrow::Narrow;
use super::open::{self, Plan, Wanted};
use super::sieve::Sieve;
use super::spools::Spools;
use super::stop::StopLine;
use super::{Observer, Report, Start, dispatch, feed, finish, reconcile, recover, status};

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
    /// The lists that it read, until a run has taken them.
    pub spools: Option<Spools>,
    pub sender: Sender,
    pub narrow: Narrow,
    pub begun: Instant,
    pub lock: Lock,
}

/// The pipeline over the run's own input, where this start's is another: the outcome files are
/// made of that. `None` where it is the same.
fn own_plan(plan: &Plan, folder: &Folder, run: &RunRow, is_apart: bool) -> Option<Result<Plan, Failure>> {
    if !is_apart {
        return None;
    }
    let mut pipeline = config::Pipeline::clone(&plan.pipeline);
    pipeline.source.set_input(&run.input);
    let spool = folder.spool_of(&pipeline.source);
    let opened = open::open(pipeline, &Wanted { spool, folder: Some(folder.clone()), ..Wanted::default() });
    Some(opened.and_then(|own| status::same_input(&own, run).map(|()| own)))
}

impl Session<'_> {
    /// Runs to the end, or finds that there is nothing to do.
    pub(super) fn run(mut self, observer: &mut dyn Observer) -> Result<Report, Failure> {
        let ready = match self.decide(observer)? {
            Decided::Ready(ready) => *ready,
            Decided::NothingToDo(run, is_apart) => return self.nothing_to_do(&run, is_apart),
        };
        let run = ready.run.clone();
        tracing::info!(
            pipeline = self.plan.pipeline.name,
            to = self.start.target,
            run = run.id,
            records = run.records,
            resumed = ready.resumed,
            settled = ready.counts.settled(),
            "run decided"
        );
        self.narrow.only.clone_from(&ready.only);
        self.narrow.picked = ready.is_apart;
        let recovered = recover::recover(
            &self.plan,
            &self.checkpoint,
            &run,
            &ready.values,
            &ready.dropped,
            self.start.reconcile.is_some(),
        )?;
        if let Some(select) = &self.start.reconcile {
            self.narrow.only = Some(reconcile::chosen(&self.checkpoint, &run, &recovered.known, select)?);
        }
        let counts = self.checkpoint.counts(&run)?;
        observer.event(&Event::RunStarted {
            pipeline: self.plan.pipeline.name.clone(),
            run: run.id.clone(),
            connection: self.plan.pipeline.connection.name.clone(),
            host: self.plan.host(),
            total: run.records,
            before: counts,
            resumed: ready.resumed,
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
        self.send(Ready { counts, ..ready }, recovered, observer)
    }

    fn send(
        self,
        ready: Ready,
        recovered: recover::Recovered,
        observer: &mut dyn Observer,
    ) -> Result<Report, Failure> {
        let Self { plan, start, folder, checkpoint, sender, narrow, begun, lock, .. } = self;
        let Ready { run, values, dropped, counts, is_apart, .. } = ready;
        let run = &run;
        let pipeline = Arc::clone(&plan.pipeline);
        let limit = pipeline.select.limit.filter(|_| !is_apart);
        // With a limit every record before it has to be counted again.
        let from = if limit.is_some() && !is_apart { InputMark::default() } else { run.settled };
        let mut source = plan.source()?;
        if is_apart {
            source = Box::new(Renumbered(source));
        } else if from.ordinal > 0 {
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
        let is_keyed = plan.rules.first().is_keyed;
        let batch = pipeline.endpoint().batch.as_ref();
        // Files can be changed while the input and the pipeline are not: only a row tells which bytes left.
        let has_files = plan.pipeline.steps().any(|step| step.endpoint.content == config::Content::Multipart);
        let intents = has_files || plan.rules.iter().any(|rules| rules.in_doubt != InDoubt::Resend);
        // The key belongs to the bytes of a call: which records it has must not be forgotten.
        let durable_calls = is_keyed && batch.is_some() && pipeline.delivery.durability == Durability::Power;
        let grants =
            Grants { intents: intents || batch.is_some(), durable_intents: durable_calls, leased_from };
        let next_call = checkpoint.next_batch(run)?;
        let (tell, damage) = tokio::sync::mpsc::unbounded_channel();
        // A start that is stopped does not wait for the end of it.
        let inspection = checkpoint.inspect_beside(move |failure| drop(tell.send(failure)))?;
        let writer = checkpoint.into_writer(run, grants, pipeline.delivery.durability, responses)?;
        let settled = Arc::new(Mutex::new(run.settled));
        let host = plan.host();
        let lanes = pipeline.delivery.concurrency.most().get();
        let Plan { preparer, rules, items, columns, warnings, schema_files, lookup_files, spool, .. } = plan;
        let preparer = Arc::new(preparer);
        let assembler =
            batch.map(|_| Arc::new(Assembler::new(Arc::clone(&preparer), values.clone(), next_call)));
        let gather = assembler
            .as_ref()
            .and_then(|assembler| Gather::new(Arc::clone(assembler), recovered.calls, is_narrow));
        let size = batch.map_or(1, |batch| batch.size.get());
        let of_run = values.clone();
        let feed = feed::Feed {
            sieve: Sieve {
                preparer: Arc::clone(&preparer),
                run: values,
                known: recovered.known,
                dropped,
                run_ids,
                only_keys: self.start.deletes.clone(),
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
            records: run.records,
            is_apart,
            settled: Arc::clone(&settled),
            block: (2 * lanes * size).max(64),
            gather,
            blocks: 0,
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
                rules: &rules,
                preparer: &preparer,
                run: of_run,
                intents,
                durable_steps: pipeline.delivery.durability == Durability::Power,
                items: items.as_ref(),
                assembler: assembler.as_deref(),
                call_size: size,
                on_reject: batch.map(|batch| batch.on_reject).unwrap_or_default(),
                durable_calls,
                only_asks: start.reconcile.is_some(),
                delivery: &pipeline.delivery,
                writer: &writer,
                damage,
                observer,
                host,
                connection: pipeline.connection.name.clone(),
                secrets_from: &pipeline.connection.secrets_from,
                counts,
                deadline: start.max_duration.map(|limit| begun + limit),
                held: recovered.held,
                undecided: recovered.undecided,
                settled: Arc::clone(&settled),
                keys_are_public: preparer.key_is_public,
                keeps_responses: pipeline.responses_file,
                mask: pipeline.connection.mask(),
            };
            dispatch::dispatch(with, inbox, credit, StopLine::listen()?, run.settled).await
        });
        // The thread ends with its channel; a panic in it would show as an input that ends early.
        let reader_ended = thread.join();
        let mut ended = ended.map_err(|failure| noted(&folder, failure))?;
        if reader_ended.is_err() {
            return Err(Failure::new(
                Class::Bug,
                Diagnostic::error("bug", "the reading thread ended by a fault of this program"),
            ));
        }
        let narrowed = is_narrow || is_apart || start.reconcile.is_some();
        let waits = ended.counts.in_doubt + ended.counts.failed > 0;
        if ended.stopped.is_none() && ended.counts.unsent > 0 && !narrowed && !waits {
            ended.stopped = Some(forgotten(ended.counts.unsent));
        }
        let damage = inspected(inspection, &ended);
        if let Some(failure) = &damage {
            ended.stopped = Some(dispatch::Stopped::by_damage(failure.clone()));
        }
        let class =
            ended.stopped.as_ref().map_or_else(|| finish::class_of(&ended.counts), |stopped| stopped.class);
        let complete = ended.counts.unsent == 0 && ended.looked && damage.is_none();
        let finished = writer.finish(Finished { class, complete }, ended.settled, complete);
        finished.map_err(|failure| noted(&folder, failure))?;
        if let Some(failure) = damage {
            // No files are made from it.
            return Err(failure);
        }
        drop(assembler);
        let preparer = Arc::into_inner(preparer);
        let Some(preparer) = preparer else {
            return Err(Failure::new(
                Class::Bug,
                Diagnostic::error("bug", "the reading thread did not let go"),
            ));
        };
        let plan =
            Plan { pipeline, preparer, rules, items, columns, warnings, schema_files, lookup_files, spool };
        let nothing_found = wants_keys && ended.attempts == 0 && ended.stopped.is_none();
        let own = own_plan(&plan, &folder, run, is_apart);
        let mut report = finish::report(finish::Ending {
            plan: own.as_ref().map_or(Ok(&plan), Result::as_ref),
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
    fn nothing_to_do(self, run: &RunRow, is_apart: bool) -> Result<Report, Failure> {
        self.checkpoint.check_now()?;
        let counts = self.checkpoint.counts(run)?;
        let ended = dispatch::Ended {
            counts,
            attempts: 0,
            settled: run.settled,
            stopped: None,
            asked: dispatch::Asked::default(),
            pacing: None,
            looked: true,
        };
        drop(self.checkpoint);
        let own = own_plan(&self.plan, &self.folder, run, is_apart);
        let mut report = finish::report(finish::Ending {
            plan: own.as_ref().map_or(Ok(&self.plan), Result::as_ref),
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

/// What the look at all of the checkpoint found, however the start ended. It is given up where it is not over: the
/// loop has waited for it, unless a person waits for the process.
fn inspected(inspection: Option<Inspection>, ended: &dispatch::Ended) -> Option<Failure> {
    inspection.filter(|_| ended.looked)?.wait().err()
}

/// A failure of the writer by damage that it met itself is noted where the next start finds it.
fn noted(folder: &Folder, failure: Failure) -> Failure {
    if failure.class == Class::State {
        Checkpoint::note_damage(folder);
    }
    failure
}

/// A start that ends by itself settles everything that nothing waits behind: anything else must not pass
/// for success.
fn forgotten(records: u64) -> dispatch::Stopped {
    let why = format!("{records} records were left without an outcome by a fault of this program");
    let diagnostic = Diagnostic::error("bug", why.clone())
        .note("the checkpoint still has them as not sent")
        .help("start the same command again; if this comes again, report it with `runner --version`");
    dispatch::Stopped { class: Class::Bug, why, diagnostics: vec![diagnostic], signal: None }
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
