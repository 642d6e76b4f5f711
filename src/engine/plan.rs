//! What `apply` would do, without doing it: `plan` counts, `preview` shows requests.
//!
//! The same look, recovery and sieve as in a start, over a checkpoint that is only read. Nothing
//! is sent, and nothing is written but temporary files in the system's folder for them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{Pipeline, Sync};
use crate::model::{
    Class, Counts, Diagnostic, Failure, Outcome, RecordPlace, Request, Severity, State, Str, Value,
};
use crate::outcome::{BatchRow, Checkpoint, Folder, InputMark, RunRow};
use crate::render::RunValues;
use crate::source::{self, Mark, Source};

use super::block::{Identity, Job, Prepared};
use super::copies::Renumbered;
use super::deletes;
use super::gather::Calls;
use super::look::{Look, look};
use super::narrow::Narrow;
use super::open::{self, Plan};
use super::prepare::{Preparer, Refused, hash};
use super::resume::Decision;
use super::sieve::{Known, Sieve, Sieved};
use super::steps::{Ahead, Next, Passed};
use super::survey::{RunIds, drop_of};
use super::{Observer, Start, identity, recover, stand_in};

/// Reasons that are told apart; the rest is counted under its class alone.
const MOST_REASONS: usize = 200;
/// Places that are named for each reason.
const PLACES: usize = 3;

/// A folder of the system for temporary files, removed when dropped.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn new() -> Result<Self, Failure> {
        use std::os::unix::fs::DirBuilderExt as _;
        let name = format!("runner-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| Failure::io("make the folder", &path, &error))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind it is only in the way, and the system clears such folders.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A pipeline that is opened to look at what would be done.
pub struct Prospect {
    plan: Plan,
    start: Start,
    checkpoint: Option<Checkpoint>,
    scratch: Scratch,
}

/// What `apply` would do.
#[derive(Debug)]
pub struct Forecast {
    /// Which run it would be about.
    pub course: Course,
    /// The input as it is named.
    pub input: String,
    /// Records in it; `None` when it was not read because `apply` would refuse.
    pub records: Option<u64>,
    /// Settled by earlier starts of the run; its `unsent` is what this is about.
    pub before: Counts,
    /// Records to send, those that may have arrived among them.
    pub send: u64,
    /// Calls that they make, where a call has several records.
    pub calls: Option<u64>,
    /// Records among them that may have arrived.
    pub again: u64,
    /// Records that wait behind one in doubt.
    pub behind: u64,
    /// Records in doubt about which the far side is asked first.
    pub asked_about: u64,
    /// Records that may have arrived and are held, as they would go out with other bytes.
    pub held_back: u64,
    /// Records that flags of the command line leave pending.
    pub left_out: u64,
    /// Records that would be skipped, by reason.
    pub skipped: Vec<Group>,
    /// Records that would be invalid, by reason.
    pub invalid: Vec<Group>,
    /// Records with a key that an earlier run delivered and that would be sent again.
    pub delivered_before: u64,
    /// Keys that earlier runs delivered and that the input has no more, where that is looked at.
    pub vanished: u64,
    /// Those that are deleted.
    pub delete: u64,
}

/// Which run a start would be about.
#[derive(Debug)]
pub enum Course {
    /// A new one, after closing the run that is named.
    Begin {
        /// The run that is closed first.
        closes: Option<String>,
    },
    /// It goes on with this one.
    GoOn(String),
    /// All of this one is settled.
    Settled(String),
    /// It would refuse.
    Refuse(Failure),
}

/// Records with the same reason.
#[derive(Debug, Clone)]
pub struct Group {
    /// The stable word.
    pub class: String,
    /// For people; empty where messages differ too much.
    pub message: String,
    /// Records with it.
    pub count: u64,
    /// Where the first of them stand.
    pub first: Vec<RecordPlace>,
}

/// Which requests are shown.
#[derive(Debug, Clone)]
pub enum Which {
    /// The first so many that would be sent.
    First(u64),
    /// Those of the first so many records that would be sent.
    Records(u64),
    /// All of the input, with those that would not be sent.
    All,
    /// These, sent or not, settled or not.
    These {
        /// Their positions.
        ordinals: BTreeSet<u64>,
        /// Their keys.
        keys: Vec<String>,
    },
}

/// One record with its request, or why it has none.
#[derive(Debug)]
pub struct Shown {
    /// Position in the input.
    pub ordinal: u64,
    /// Where it stands.
    pub place: RecordPlace,
    /// Its key as it may be shown.
    pub key: Option<Str>,
    /// The request, or what becomes of the record without one.
    pub request: Result<Arc<Request>, Outcome>,
    /// Where the call has several records: all of them.
    pub records: Vec<(u64, RecordPlace, Option<Str>)>,
    /// The name of the call among the record's steps; empty where it has one.
    pub step: Str,
    /// The calls that may follow.
    pub ahead: Vec<Ahead>,
}

fn count_calls(forecast: &mut Forecast, ready: &mut Vec<Prepared>) {
    let calls = ready.drain(..).filter(|item| matches!(item, Prepared::Send(_))).count();
    if let Some(all) = &mut forecast.calls {
        *all += calls as u64;
    }
}

/// What is known before the records are read.
struct Outlook {
    course: Course,
    known: Known,
    held: HashSet<u64>,
    resent: HashSet<u64>,
    from: InputMark,
    before: Counts,
    records: u64,
    values: RunValues,
    dropped: Arc<[(u64, u64)]>,
    delivered_before: u64,
    vanished: u64,
    delete: u64,
    /// The input is an outcome file of the run: copies of its records.
    is_apart: bool,
    /// Calls with several records that go out again as they were.
    calls: Vec<BatchRow>,
}

/// What a look takes for the records of a list: what the last start read of it, or else one made-up item.
/// A look asks nobody (ruling 29), and says so.
fn listed(pipeline: &Pipeline, folder: &Folder, scratch: &Scratch) -> Result<(PathBuf, Diagnostic), Failure> {
    let name = &pipeline.source.file;
    let note = format!("`apply` reads {name} when it starts; this command asks nobody");
    let spool = folder.listing();
    if spool.is_file() {
        return Ok((spool, noted("list-as-read", format!("{name} is shown as it was last read")).note(note)));
    }
    let spool = scratch.0.join("list");
    let example = pipeline.listing.as_deref().and_then(|listing| stand_in::example(listing, 1));
    let Some(Value::Object(example)) = example else {
        let finding = Diagnostic::error("list-not-read", format!("{name} was not read yet"))
            .note(note)
            .help("`runner extract PIPELINE` reads it and shows its records; `sandbox: { item: … }` in its endpoint is an example for looks");
        return Err(Failure::new(Class::Input, finding));
    };
    let mut line = Vec::new();
    Value::Object(example).write_json(&mut line);
    source::spool(&mut line.as_slice(), &spool)?;
    let finding = noted("list-not-read", format!("{name} was not read yet: shown is one made-up item"));
    Ok((spool, finding.note(note)))
}

fn noted(rule: &'static str, message: String) -> Diagnostic {
    Diagnostic { severity: Severity::Note, ..Diagnostic::warning(rule, message) }
}

impl Prospect {
    /// Opens a pipeline and its checkpoint, if there is one, to look.
    pub fn open(mut pipeline: Pipeline, start: Start) -> Result<Self, Failure> {
        let folder = Folder::new(&pipeline.state_dir, &start.target, &pipeline.name);
        folder.guard()?;
        let scratch = Scratch::new()?;
        // What a look says must not depend on what a start may send.
        pipeline.require_state = false;
        let mut not_read = None;
        let spool = if pipeline.source.is_stdin() {
            let spool = scratch.0.join("stdin");
            source::spool(&mut std::io::stdin().lock(), &spool)?;
            Some(spool)
        } else if pipeline.source.is_api() {
            let (spool, finding) = listed(&pipeline, &folder, &scratch)?;
            not_read = Some(finding);
            Some(spool)
        } else {
            None
        };
        let mut plan = open::open(pipeline, &start.wanted(spool, &folder))?;
        plan.warnings.extend(not_read);
        let checkpoint = Checkpoint::open_to_read(&folder)?;
        Ok(Self { plan, start, checkpoint, scratch })
    }

    /// The pipeline.
    #[must_use]
    pub fn pipeline(&self) -> &Pipeline {
        &self.plan.pipeline
    }

    /// Warnings of the opening.
    #[must_use]
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.plan.warnings
    }

    /// Counts what `apply` would do.
    pub fn forecast(self, observer: &mut dyn Observer) -> Result<Forecast, Failure> {
        let narrow = super::narrowing(&self.plan, &self.start)?;
        let outlook = self.outlook(observer)?;
        let Outlook {
            course,
            known,
            held,
            resent,
            from,
            before,
            records,
            values,
            dropped,
            is_apart,
            calls,
            ..
        } = outlook;
        let mut forecast = Forecast {
            input: self.plan.pipeline.source.file.clone(),
            records: Some(records),
            before,
            send: 0,
            calls: None,
            again: 0,
            behind: 0,
            asked_about: 0,
            held_back: 0,
            left_out: 0,
            skipped: Vec::new(),
            invalid: Vec::new(),
            delivered_before: match self.plan.pipeline.sync {
                Some(Sync::New | Sync::Changed) => 0,
                Some(Sync::All) | None => outlook.delivered_before,
            },
            vanished: outlook.vanished,
            delete: outlook.delete,
            course,
        };
        match forecast.course {
            Course::Refuse(_) => forecast.records = None,
            Course::Settled(_) => {}
            Course::Begin { .. } | Course::GoOn(_) => {
                let mut source = self.source(from, is_apart)?;
                let run_ids = self.run_ids()?;
                let earlier = calls;
                let (preparer, mut sieve) = self.sieve(values.clone(), known, dropped, narrow, run_ids);
                let mut calls = Calls::new(preparer, values, earlier);
                forecast.calls = calls.as_ref().map(|_| 0);
                let mut skipped = Reasons::default();
                let mut invalid = Reasons::default();
                let mut seen = 0_u64;

                let mut ready = Vec::new();
                while let Some(record) = source.next() {
                    seen += 1;
                    if seen.is_multiple_of(65_536) {
                        observer.tick();
                    }
                    match sieve.take(record?) {
                        Sieved::Part(part) => {
                            let identity = &part.member.identity;
                            if held.contains(&identity.order_hash) {
                                forecast.behind += 1;
                                continue;
                            }
                            forecast.send += 1;
                            forecast.again += u64::from(resent.contains(&identity.ordinal));
                            if let Some(calls) = &mut calls {
                                calls.take(part, seen, &mut ready);
                            }
                            count_calls(&mut forecast, &mut ready);
                        }
                        Sieved::Before | Sieved::Ready(Prepared::SettledPart(..)) => {}
                        Sieved::LeftOut => forecast.left_out += 1,
                        Sieved::Ready(Prepared::Held(..)) => forecast.held_back += 1,
                        Sieved::Ready(Prepared::Send(job)) if job.doubt.is_some() => {
                            forecast.asked_about += 1;
                        }
                        Sieved::Ready(Prepared::Send(job)) => {
                            if held.contains(&job.identity.order_hash) {
                                forecast.behind += 1;
                            } else {
                                forecast.send += 1;
                                forecast.again += u64::from(resent.contains(&job.identity.ordinal));
                            }
                        }
                        Sieved::Ready(Prepared::Settled(settled)) => match settled.outcome.state {
                            State::Skipped => skipped.add(&settled.identity, &settled.outcome),
                            _ => invalid.add(&settled.identity, &settled.outcome),
                        },
                    }
                }
                if let Some(mut calls) = calls {
                    calls.end(&mut ready);
                    count_calls(&mut forecast, &mut ready);
                }
                forecast.skipped = skipped.into_groups();
                forecast.invalid = invalid.into_groups();
            }
        }
        Ok(forecast)
    }

    /// Shows requests, one after the other; `show` says whether to go on. Gives keys and positions
    /// that no record has.
    pub fn preview(
        self,
        which: &Which,
        observer: &mut dyn Observer,
        show: &mut dyn FnMut(Shown) -> bool,
    ) -> Result<Vec<String>, Failure> {
        match which {
            Which::First(limit) | Which::Records(limit) => {
                let is_batched = self.plan.preparer.batch.is_some();
                // A call with several records is one request.
                let of_calls = is_batched && matches!(which, Which::First(_));
                let limits = Narrow {
                    limit: (!of_calls).then_some(*limit),
                    ..super::narrowing(&self.plan, &self.start)?
                };
                let mut left = if of_calls { *limit } else { u64::MAX };
                self.in_order(limits, true, observer, &mut |shown| {
                    left -= 1;
                    show(shown) && left > 0
                })?;
                Ok(Vec::new())
            }
            Which::All => {
                let narrow = Narrow { limit: None, ..super::narrowing(&self.plan, &self.start)? };
                self.in_order(narrow, false, observer, show)?;
                Ok(Vec::new())
            }
            Which::These { ordinals, keys } => self.these(ordinals, keys, observer, show),
        }
    }

    fn in_order(
        self,
        narrow: Narrow,
        only_sent: bool,
        observer: &mut dyn Observer,
        show: &mut dyn FnMut(Shown) -> bool,
    ) -> Result<(), Failure> {
        let outlook = self.outlook(observer)?;
        let goes_on = matches!(outlook.course, Course::GoOn(_));
        // Once all is settled, or where a start would refuse, the requests of a new run are shown.
        let (known, from) =
            if goes_on { (outlook.known, outlook.from) } else { (Known::default(), InputMark::default()) };
        let mut source = self.source(from, outlook.is_apart)?;
        let limit = narrow.limit;
        let is_batched = self.plan.preparer.batch.is_some();
        let run_ids = self.run_ids()?;
        let values = outlook.values;
        let earlier = if goes_on { outlook.calls } else { Vec::new() };
        let (preparer, mut sieve) = self.sieve(values.clone(), known, outlook.dropped, narrow, run_ids);
        let (shared, of_run) = (Arc::clone(&preparer), values.clone());
        let mut calls = Calls::new(preparer, values, earlier);
        let mut ready = Vec::new();
        let mut seen = 0;
        while is_batched || limit.is_none_or(|limit| sieve.sent < limit) {
            let record = source.next();
            seen += 1;
            let is_last = record.is_none();
            match record.transpose()?.map(|record| sieve.take(record)) {
                Some(Sieved::Before | Sieved::LeftOut) => {}
                Some(Sieved::Ready(item)) => ready.push(item),
                Some(Sieved::Part(part)) => {
                    if let Some(calls) = &mut calls {
                        calls.take(part, seen, &mut ready);
                    }
                }
                None => {
                    if let Some(calls) = &mut calls {
                        calls.end(&mut ready);
                    }
                }
            }
            for item in ready.drain(..) {
                let shown = match item {
                    Prepared::Held(..) => continue,
                    Prepared::Send(job) if job.doubt.is_some() => continue,
                    Prepared::Send(job) => shown_job(*job, &shared, &of_run),
                    Prepared::Settled(_) | Prepared::SettledPart(..) if only_sent => continue,
                    Prepared::Settled(settled) | Prepared::SettledPart(settled, _) => {
                        shown(settled.identity, Err(settled.outcome))
                    }
                };
                if !show(shown) {
                    return Ok(());
                }
            }
            if is_last {
                break;
            }
        }
        Ok(())
    }

    fn these(
        self,
        ordinals: &BTreeSet<u64>,
        keys: &[String],
        observer: &mut dyn Observer,
        show: &mut dyn FnMut(Shown) -> bool,
    ) -> Result<Vec<String>, Failure> {
        // `--record` is checked there, and `--where` compiled.
        let filter = super::narrowing(&self.plan, &self.start)?.filter;
        let Outlook { values, dropped, .. } = self.outlook(observer)?;
        let mut hashes: BTreeMap<u64, (&String, bool)> =
            keys.iter().map(|key| (hash(key), (key, false))).collect();
        let mut missing = ordinals.clone();
        let mut source = self.source(InputMark::default(), false)?;
        let run_ids = self.run_ids()?;
        let (preparer, _) =
            self.sieve(values.clone(), Known::default(), dropped.clone(), Narrow::default(), run_ids.clone());
        while let Some(record) = source.next() {
            if keys.is_empty() && missing.is_empty() {
                break;
            }
            let record = record?;
            let ordinal = record.ordinal;
            let by_key = !hashes.is_empty()
                && preparer.key_hash(record.clone(), &values).is_some_and(|hash| {
                    hashes.get_mut(&hash).is_some_and(|(_, seen)| {
                        *seen = true;
                        true
                    })
                });
            if !missing.remove(&ordinal) && !by_key {
                continue;
            }
            let shown = match preparer.shape(record, &values) {
                Err(settled) => shown(settled.identity, Err(settled.outcome)),
                Ok(shaped) if filter.as_ref().is_some_and(|f| !f.truth(&shaped.context).unwrap_or(false)) => {
                    continue;
                }
                Ok(mut shaped) => match drop_of(&dropped, ordinal) {
                    Some(drop) => {
                        let (state, class, message) = drop.outcome(&run_ids);
                        let settled = super::prepare::settled(shaped.identity, state, class, message);
                        shown(settled.identity, Err(settled.outcome))
                    }
                    None if preparer.has_steps() => {
                        let passed = Passed::default();
                        match preparer.request_after(&mut shaped, &values, 0, &passed) {
                            Ok(Some(next)) => {
                                let ahead =
                                    preparer.ahead(&mut shaped.context, &values, ordinal, &next, &passed);
                                let step = Str::clone(&preparer.steps.of(next.step).id);
                                Shown { step, ahead, ..shown(shaped.identity, Ok(Arc::new(next.request))) }
                            }
                            other => {
                                let refused = match other {
                                    Err(stuck) => stuck.refused.of_step(&preparer.steps.of(stuck.step).id),
                                    Ok(_) => Refused::NoStep,
                                };
                                let settled = refused.settle(shaped.identity);
                                shown(settled.identity, Err(settled.outcome))
                            }
                        }
                    }
                    None => match preparer.request(&mut shaped, &values, 0) {
                        Ok(request) => shown(shaped.identity, Ok(Arc::new(request))),
                        Err(refused) => {
                            let settled = refused.settle(shaped.identity);
                            shown(settled.identity, Err(settled.outcome))
                        }
                    },
                },
            };
            if !show(shown) {
                return Ok(Vec::new());
            }
        }
        let public = preparer.key_is_public;
        let no_key = hashes.values().filter(|(_, seen)| !seen).map(|(key, _)| {
            if public { format!("key `{key}`") } else { format!("key {}", super::prepare::hidden(key)) }
        });
        Ok(missing.iter().map(|ordinal| format!("position {ordinal}")).chain(no_key).collect())
    }

    fn run_ids(&self) -> Result<RunIds, Failure> {
        self.checkpoint.as_ref().map_or_else(|| Ok(RunIds::new()), Checkpoint::run_ids)
    }

    fn source(&self, from: InputMark, is_apart: bool) -> Result<Box<dyn Source>, Failure> {
        let mut source = self.plan.source()?;
        if is_apart {
            return Ok(Box::new(Renumbered(source)));
        }
        if from.ordinal > 0 {
            source.seek(Mark { ordinal: from.ordinal, file: from.file, byte: from.byte, line: from.line })?;
        }
        Ok(source)
    }

    /// The sieve of a start, with its own hold on what prepares records.
    fn sieve(
        self,
        run: RunValues,
        known: Known,
        dropped: Arc<[(u64, u64)]>,
        narrow: Narrow,
        run_ids: RunIds,
    ) -> (Arc<Preparer>, Sieve) {
        let limit = self.plan.pipeline.select.limit;
        let preparer = Arc::new(self.plan.preparer);
        let sieve = Sieve {
            preparer: Arc::clone(&preparer),
            run,
            known,
            dropped,
            run_ids,
            only_keys: None,
            narrow,
            limit,
            selected: 0,
            sent: 0,
        };
        (preparer, sieve)
    }

    fn outlook(&self, observer: &mut dyn Observer) -> Result<Outlook, Failure> {
        let Self { plan, start, checkpoint, scratch } = self;
        let found = look(plan, start, checkpoint.as_ref(), Path::new(&scratch.0), observer)?;
        let refused = found.refuse(plan, start).err();
        let (vanished, delete) = (found.vanished.gone, found.vanished.doomed.count());
        let Look { last, decision, new, new_values, dropped, delivered_before, surveyed, copies, .. } = found;
        let mut outlook = Outlook {
            course: Course::Begin { closes: None },
            known: Known::default(),
            held: HashSet::new(),
            resent: HashSet::new(),
            from: InputMark::default(),
            before: Counts { unsent: new.records, ..Counts::default() },
            records: new.records,
            values: new_values,
            dropped,
            delivered_before,
            vanished,
            delete,
            calls: Vec::new(),
            is_apart: false,
        };
        match (decision, refused, last, checkpoint) {
            (Err(failure), ..) | (_, Some(failure), ..) => outlook.course = Course::Refuse(failure),
            (Ok(Decision::Begin { close }), _, last, _) => {
                let closes = close.and(last).map(|(run, _)| run.id);
                outlook.course = Course::Begin { closes };
            }
            (Ok(Decision::GoOn { input_changed, .. }), _, Some((run, counts)), Some(checkpoint)) => {
                outlook.records = if surveyed { new.records } else { run.records };
                outlook.before = counts;
                outlook.before.unsent = outlook.records.saturating_sub(counts.settled());
                (outlook.delivered_before, outlook.vanished, outlook.delete) = (0, 0, 0);
                let asks = plan.asks()
                    && (run.closed_at.is_none() || outlook.before.unsent == 0)
                    && checkpoint.has_doubt_not_asked_about(&run)?;
                let is_over =
                    !asks && (outlook.before.unsent == 0 || run.closed_at.is_some() && !input_changed);
                outlook.values = identity::values(&run, &plan.pipeline.name);
                if let Some(copies) = &copies {
                    outlook.is_apart = true;
                    outlook.known = copies.known(checkpoint, &run)?;
                    outlook.course = match copies.to_send(checkpoint, &run)? {
                        0 => Course::Settled(run.id),
                        _ => Course::GoOn(run.id),
                    };
                } else if is_over {
                    self.left_to_delete(checkpoint, &run, &mut outlook, observer)?;
                    if !matches!(outlook.course, Course::Refuse(_)) {
                        outlook.course = Course::Settled(run.id);
                    }
                } else {
                    self.recovered(checkpoint, &run, &mut outlook)?;
                    outlook.course = Course::GoOn(run.id);
                }
            }
            // There is nothing to go on with without a run.
            (Ok(Decision::GoOn { .. }), ..) => {}
        }
        Ok(outlook)
    }

    /// What an earlier start left to be deleted goes with the next one.
    fn left_to_delete(
        &self,
        checkpoint: &Checkpoint,
        run: &RunRow,
        outlook: &mut Outlook,
        observer: &mut dyn Observer,
    ) -> Result<(), Failure> {
        let pipeline = &self.plan.pipeline;
        let folder = Folder::new(&pipeline.state_dir, &self.start.target, &pipeline.name);
        let of = (&folder, checkpoint, run);
        let Some(left) = deletes::left(&self.plan, &self.start, of, &self.scratch.0, observer)? else {
            return Ok(());
        };
        (outlook.vanished, outlook.delete) = (left.gone, left.doomed.count());
        if let Err(failure) = left.refuse_too_many(pipeline, &self.start) {
            outlook.course = Course::Refuse(failure);
        }
        Ok(())
    }

    /// Looks at what the start of a run would find of it.
    fn recovered(&self, checkpoint: &Checkpoint, run: &RunRow, outlook: &mut Outlook) -> Result<(), Failure> {
        let (recovered, rows) =
            recover::look(&self.plan, checkpoint, run, &outlook.values, &outlook.dropped, false)?;
        for row in rows {
            if row.state == State::Pending {
                outlook.resent.insert(row.ordinal);
            } else {
                *outlook.before.of(row.state) += 1;
                outlook.before.unsent = outlook.before.unsent.saturating_sub(1);
            }
        }
        let recovered_asks = recovered.to_ask;
        outlook.held = recovered.held.into_iter().map(|(hash, _)| hash).collect();
        // What may have arrived in a call goes out again with it.
        let resent = recovered.calls.iter().filter(|call| call.unknown).flat_map(|call| &call.members);
        outlook.resent.extend(resent);
        outlook.known = recovered.known;
        outlook.calls = recovered.calls;
        let is_counted = self.plan.pipeline.select.limit.is_some();
        let asks = recovered_asks > 0;
        outlook.from = if is_counted || asks { InputMark::default() } else { run.settled };
        Ok(())
    }
}

fn shown(identity: Identity, request: Result<Arc<Request>, Outcome>) -> Shown {
    Shown {
        ordinal: identity.ordinal,
        place: identity.place,
        key: identity.key,
        request,
        records: Vec::new(),
        step: "".into(),
        ahead: Vec::new(),
    }
}

fn shown_job(job: Job, preparer: &Preparer, run: &RunValues) -> Shown {
    if let (Some(passed), Some(mut context)) = (job.passed, job.context) {
        let next = Next { step: job.step, request: Request::clone(&job.request) };
        let ahead = preparer.ahead(&mut context, run, job.identity.ordinal, &next, &passed);
        let step = Str::clone(&preparer.steps.of(next.step).id);
        return Shown { step, ahead, ..shown(job.identity, Ok(job.request)) };
    }
    let members = job.call.map(|call| call.members).unwrap_or_default();
    let records = members.into_iter().map(|member| {
        let Identity { ordinal, place, key, .. } = member.identity;
        (ordinal, place, key)
    });
    Shown { records: records.collect(), ..shown(job.identity, Ok(job.request)) }
}

/// Reasons with their records, in bounded memory.
#[derive(Default)]
struct Reasons(BTreeMap<(String, String), Group>);

impl Reasons {
    fn add(&mut self, identity: &Identity, outcome: &Outcome) {
        // These messages name another record each time.
        let alone = matches!(&*outcome.class, "duplicate-key" | "delivered-before" | "held");
        let mut name = (outcome.class.clone(), if alone { String::new() } else { outcome.message.clone() });
        if self.0.len() >= MOST_REASONS && !self.0.contains_key(&name) {
            name.1 = String::new();
        }
        let group = self.0.entry(name).or_insert_with_key(|(class, message)| Group {
            class: class.clone(),
            message: message.clone(),
            count: 0,
            first: Vec::new(),
        });
        group.count += 1;
        if group.first.len() < PLACES {
            group.first.push(identity.place.clone());
        }
    }

    fn into_groups(self) -> Vec<Group> {
        let mut groups: Vec<Group> = self.0.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        groups
    }
}
