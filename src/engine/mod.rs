//! The only place where the stages meet. [`apply`] reads top to bottom.
//!
//! A start looks at everything that can be looked at, decides what to do with what it finds,
//! settles the doubt of an earlier start, and then lets a reading thread and one sending loop
//! work until all is settled or something stops them.

pub mod block;
mod dispatch;
mod feed;
mod finish;
mod identity;
mod narrow;
pub mod open;
pub mod prepare;
mod recover;
mod resume;
mod retry;
pub mod stand_in;
mod stop;
pub mod survey;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::config::{self, OnNewInput, Pipeline};
use crate::deliver::Sender;
use crate::model::{Class, Counts, Diagnostic, Event, Failure, Reply, Request, State};
use crate::outcome::{Checkpoint, Finished, Folder, InputMark, Lock, NewRun, Reason, RunRow, Use};
use crate::render::{Leaf, RunValues};
use crate::source::{self, Mark};

pub use dispatch::Stopped;
pub use finish::{Files, write_files};
pub use identity::{destination, meaning_digests};
pub use narrow::Narrow;
pub use open::{Plan, Wanted};
pub use stop::Signal;

use resume::{Decision, Now};
use stop::StopLine;

/// Whom the engine tells what happens. All calls come from the thread that runs it.
pub trait Observer {
    /// Something happened.
    fn event(&mut self, event: &Event);
    /// About ten times a second: redraw.
    fn tick(&mut self);
    /// Somebody asked for a status line.
    fn status(&mut self);
    /// An attempt ended; called for every attempt, so it has to be cheap when nobody looks.
    fn attempted(&mut self, ordinal: u64, request: &Request, reply: &Reply, took: Duration);
}

/// What was asked of one start.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// The state's target: the environment, or `sandbox`.
    pub target: String,
    /// Go on with a run, or refuse.
    pub resume: bool,
    /// Begin again, whatever there is.
    pub fresh: bool,
    /// Send records again that earlier runs delivered.
    pub again: bool,
    /// Close an unfinished run over other input.
    pub close: bool,
    /// Go on under a changed meaning.
    pub accept_changes: bool,
    /// At most so many requests.
    pub limit: Option<u64>,
    /// Only these keys.
    pub records: Vec<String>,
    /// Only records for which this expression is true.
    pub filter: Option<String>,
    /// End after this time.
    pub max_duration: Option<Duration>,
    /// Send failed records again: all, or those for which the expression is true.
    pub retry: Option<Option<String>>,
    /// Whether keys of single records are shown.
    pub show_keys: bool,
    /// How this command is typed, for messages.
    pub command: String,
}

/// How a start ended.
#[derive(Debug)]
pub struct Report {
    /// The run.
    pub run: String,
    /// The class.
    pub class: Class,
    /// Whether every record has an outcome, or why not.
    pub state: &'static str,
    /// Over all starts.
    pub counts: Counts,
    /// Before this start.
    pub before: Counts,
    /// Attempts begun in this start.
    pub attempts: u64,
    /// How long it took.
    pub took: Duration,
    /// Why records were not delivered.
    pub reasons: Vec<Reason>,
    /// The outcome files.
    pub files: Vec<crate::outcome::files::Written>,
    /// Where they lie.
    pub folder: std::path::PathBuf,
    /// What else is to be told.
    pub diagnostics: Vec<Diagnostic>,
    /// The signal that ended it.
    pub signal: Option<Signal>,
    /// Whether there was nothing to do.
    pub nothing_to_do: bool,
}

/// Runs a pipeline, or goes on with its run.
pub fn apply(pipeline: Pipeline, start: &Start, observer: &mut dyn Observer) -> Result<Report, Failure> {
    let begun = Instant::now();
    if let Some(failure) = pipeline.connection.unset_failure() {
        return Err(failure);
    }
    let sender = Sender::new(&pipeline.connection, &pipeline.delivery)?;
    let folder = Folder::new(&pipeline.state_dir, &start.target, &pipeline.name);
    let usage = if pipeline.require_state { Use::MustExist } else { Use::Create };
    // Mistakes of the files are told before anything is made on disk; standard input can only be
    // looked at once it lies in a file.
    let (plan, lock) = if pipeline.source.file == "-" {
        folder.prepare(usage)?;
        let lock = folder.lock()?;
        let spool = folder.stdin();
        folder.sweep();
        source::spool(&mut std::io::stdin().lock(), &spool)?;
        (open::open(pipeline, &start.wanted(Some(spool)))?, lock)
    } else {
        let plan = open::open(pipeline, &start.wanted(None))?;
        folder.prepare(usage)?;
        let lock = folder.lock()?;
        (plan, lock)
    };
    for warning in &plan.warnings {
        observer.event(&Event::Warning(warning.clone()));
    }
    let narrow = narrowing(&plan, start)?;
    let checkpoint = Checkpoint::open(&folder)?;
    let session = Session { plan, start, folder, checkpoint, sender, narrow, begun, _lock: lock };
    session.run(observer)
}

impl Start {
    fn wanted(&self, spool: Option<std::path::PathBuf>) -> Wanted {
        Wanted { target: self.target.clone(), show_keys: self.show_keys, spool, input_may_be_missing: false }
    }
}

fn narrowing(plan: &Plan, start: &Start) -> Result<Narrow, Failure> {
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
struct Session<'a> {
    plan: Plan,
    start: &'a Start,
    folder: Folder,
    checkpoint: Checkpoint,
    sender: Sender,
    narrow: Narrow,
    begun: Instant,
    _lock: Lock,
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

impl Session<'_> {
    fn run(mut self, observer: &mut dyn Observer) -> Result<Report, Failure> {
        let Some(ready) = self.decide(observer)? else { return self.nothing_to_do() };
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
        let recovered =
            recover::recover(&self.plan, &self.checkpoint, &run, &values, &dropped, counts.in_doubt > 0)?;
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
        self.send(run, values, dropped, counts, recovered, observer)
    }

    /// Finds out which run this start is about; `None` when there is nothing to do.
    fn decide(&mut self, observer: &mut dyn Observer) -> Result<Option<Ready>, Failure> {
        let Self { plan, start, folder, checkpoint, .. } = self;
        let pipeline = Arc::clone(&plan.pipeline);
        let last = checkpoint.latest_run()?;
        let last_counts = last.as_ref().map(|run| checkpoint.counts(run)).transpose()?;
        let stamp = source::stamp(&pipeline.source, &pipeline.root, plan.spool.as_deref())?;
        let stamp = serde_json::to_string(&stamp).unwrap_or_default();
        let input = pipeline.source.file.clone();

        // The id and time of a run that goes on are those that it began with.
        let new_values = identity::new_run(&pipeline.name);
        let values_of = |run: &RunRow| identity::values(run, &pipeline.name);
        let untouched = last.as_ref().is_some_and(|run| {
            !start.fresh
                && run.input == input
                && run.input_stamp == stamp
                && run.duplicates == 0
                && plan.spool.is_none()
        });
        let survey_values = last.as_ref().map_or_else(|| new_values.clone(), values_of);
        let mut survey = None;
        if !untouched {
            let digests_at: Vec<u64> = last.iter().flat_map(|run| [run.records, run.lease]).collect();
            survey =
                Some(survey::survey(plan, &folder.temporary(), &digests_at, true, &survey_values, observer)?);
        }
        let digests = meaning_digests(plan);
        let destination = destination(&pipeline.connection);
        let changed = last
            .as_ref()
            .map(|run| identity::changed_files(&run.meaning_files, &digests.files))
            .unwrap_or_default();
        let now = Now {
            destination: &destination,
            meaning: &digests.meaning,
            changed_files: &changed,
            survey: survey.as_ref(),
            input: &input,
        };
        let mut asked = (*start).clone();
        asked.close |= pipeline.on_new_input == OnNewInput::Close;
        let decision = resume::decide(last.as_ref().zip(last_counts), &now, &asked, &start.command)?;
        if start.retry.is_some() && matches!(decision, Decision::Begin { .. }) {
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
        let before = match (&decision, &last) {
            (Decision::GoOn { .. }, Some(run)) => run.number,
            _ => i64::MAX >> 41,
        };
        let only_new = pipeline.sync == Some(config::Sync::New);
        let mut dropped: Arc<[(u64, u64)]> = Arc::new([]);
        let mut delivered_before = 0;
        if let Some(survey) = &mut survey {
            let values = if matches!(decision, Decision::GoOn { .. }) { &survey_values } else { &new_values };
            survey.compare_keys(plan, values, only_new && !start.again, |each| {
                if last.is_none() || start.fresh {
                    return Ok(());
                }
                checkpoint.keys_of_earlier_runs(before, &[State::Delivered, State::InDoubt], each)
            })?;
            dropped = Arc::clone(&survey.dropped);
            delivered_before = survey.delivered_before;
        }
        let new = |records, digest| NewRun {
            id: new_values.id.to_string(),
            started_at: new_values.started_at.to_string(),
            destination: destination.clone(),
            meaning: digests.meaning.clone(),
            meaning_files: digests.files.clone(),
            input: input.clone(),
            input_stamp: stamp.clone(),
            records,
            input_digest: digest,
            duplicates: dropped.len() as u64,
        };
        let found = |survey: &Option<survey::Survey>| {
            survey.as_ref().map_or((0, 0), |found| (found.records, found.digest))
        };
        match decision {
            Decision::Begin { close } => {
                let (records, digest) = found(&survey);
                self.refuse_repeats(delivered_before, only_new)?;
                if let (Some(why), Some(run)) = (close, &last) {
                    self.checkpoint.close_run(run, why)?;
                }
                let run = self.checkpoint.begin_run(&new(records, digest))?;
                self.folder.make_run(&run.id)?;
                if delivered_before > 0 && !only_new {
                    observer.event(&Event::Warning(Diagnostic::warning(
                        "sent-again",
                        format!("{delivered_before} records have keys that earlier runs delivered; they are sent again"),
                    )));
                }
                let counts = Counts { unsent: records, ..Counts::default() };
                Ok(Some(Ready { values: new_values, run, dropped, counts, resumed: false, only: None }))
            }
            Decision::GoOn { input_changed, take_meaning } => {
                let Some(run) = last else { return Ok(None) };
                if input_changed || (!untouched && run.input_stamp != stamp) {
                    let (records, digest) = found(&survey);
                    self.checkpoint.update_input(&run, &new(records, digest))?;
                }
                if take_meaning {
                    self.checkpoint.update_meaning(&run, &digests.meaning, &digests.files, &destination)?;
                }
                let only = match &self.start.retry {
                    None => None,
                    Some(filter) => {
                        Some(retry::reopen(&self.plan, &self.checkpoint, &run, filter.as_deref())?)
                    }
                };
                let run = self.checkpoint.latest_run()?.unwrap_or(run);
                self.folder.make_run(&run.id)?;
                let counts = self.checkpoint.counts(&run)?;
                let nothing_left = counts.unsent == 0 || run.closed_at.is_some() && only.is_none();
                if nothing_left || only.as_ref().is_some_and(BTreeSet::is_empty) {
                    return Ok(None);
                }
                let values = identity::values(&run, &pipeline.name);
                Ok(Some(Ready { run, values, dropped, counts, resumed: true, only }))
            }
        }
    }

    /// Ruling 5: a plain POST of what an earlier run delivered is refused unless somebody says so.
    fn refuse_repeats(&self, delivered_before: u64, only_new: bool) -> Result<(), Failure> {
        let harmless = !matches!(self.plan.pipeline.endpoint.idempotency, config::Idempotency::None);
        let said = self.start.again || self.start.fresh || self.plan.pipeline.sync.is_some();
        if delivered_before == 0 || harmless || said || only_new {
            return Ok(());
        }
        Err(Failure::new(
            Class::State,
            Diagnostic::error(
                "delivered-before",
                format!("{delivered_before} records have keys that earlier runs delivered, and a repeat could act twice"),
            )
            .note("nothing was sent")
            .help(format!(
                "`sync: new` in the pipeline leaves them out, `sync: all` sends them;\nor `{} --again` sends them this time",
                self.start.command
            )),
        ))
    }

    fn send(
        self,
        run: RunRow,
        values: RunValues,
        dropped: Arc<[(u64, u64)]>,
        counts: Counts,
        recovered: recover::Recovered,
        observer: &mut dyn Observer,
    ) -> Result<Report, Failure> {
        let Self { plan, start, folder, checkpoint, sender, narrow, begun, _lock: lock } = self;
        let pipeline = Arc::clone(&plan.pipeline);
        let limit = pipeline.select.limit;
        // With a limit every record before it has to be counted again.
        let from = if limit.is_some() { InputMark::default() } else { run.settled };
        let mut source = plan.source()?;
        if from.ordinal > 0 {
            source.seek(Mark { ordinal: from.ordinal, file: from.file, byte: from.byte, line: from.line })?;
        }
        let is_narrow = narrow.is_narrow();
        let writer = checkpoint.into_writer(&run, pipeline.delivery.durability)?;
        let settled = Arc::new(Mutex::new(run.settled));
        let host = plan.host();
        let path_is_fixed = !pipeline.endpoint.path.value.contains("{{");
        let lanes = pipeline.delivery.concurrency.get();
        let Plan { preparer, reader, columns, warnings, schema_files, spool, .. } = plan;
        let preparer = Arc::new(preparer);
        let feed = feed::Feed {
            preparer: Arc::clone(&preparer),
            source,
            from,
            run: values,
            writer: writer.clone(),
            leased: run.lease,
            known: recovered.known,
            dropped,
            narrow,
            limit,
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
                counts,
                deadline: start.max_duration.map(|limit| begun + limit),
                held: recovered.held,
                settled: Arc::clone(&settled),
                path_is_fixed,
            };
            dispatch::dispatch(with, inbox, credit, StopLine::listen()?, run.settled).await
        });
        // The thread ends with its channel; a panic in it would show as an input that ends early.
        let fed = thread.join();
        let ended = ended?;
        if fed.is_err() {
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
        finish::report(finish::Ending {
            plan: &plan,
            folder: &folder,
            run_id: &run.id,
            ended,
            before: counts,
            begun,
            is_narrow,
            lock,
        })
    }

    /// Ruling 7: nothing to do exits with the class of the finished run.
    fn nothing_to_do(self) -> Result<Report, Failure> {
        let Some(run) = self.checkpoint.latest_run()? else {
            return Err(Failure::new(Class::Bug, Diagnostic::error("bug", "there is no run to report on")));
        };
        let counts = self.checkpoint.counts(&run)?;
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
            lock: self._lock,
        })?;
        report.nothing_to_do = true;
        Ok(report)
    }
}
