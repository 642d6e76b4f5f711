//! The loop that sends: takes prepared records, keeps the lanes full, notes what becomes of them.
//!
//! One task owns everything: schedule, budget, lanes. Attempts are futures that know only
//! their request and lane, so that a stop can tell for every lane which record was under way.
//! Invariants: no attempt starts before its lease (and intent, where a repeat could harm) is on
//! disk; nothing is noted as sent while a token for it is still to be had; a record leaves this loop with an outcome row, or with a pending row that says so.

mod calls;
pub(super) mod lanes;
mod looks;
mod passes;
mod verdicts;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc as credits;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc;

use crate::config::{Delivery, InDoubt, OnReject};
use crate::deliver::{Budget, ItemReader, Pass, Reading, Schedule, Sender};
use crate::model::{Class, Counts, Diagnostic, Event, Failure, Mask, Outcome, Pacing, Reply, Signal, State};
use crate::outcome::{BatchState, InputMark, RecordRow, Writer};
use crate::render::RunValues;

use super::Observer;
use super::block::{Block, Identity, Job, Prepared, Settled};
use super::gather::Assembler;
use super::open::StepRules;
use super::prepare::{Preparer, hidden};
use super::steps::PerStep;
use super::stop::StopLine;
use passes::{Awaiting, Fetch};

/// How often the observer is asked to redraw.
const TICK: Duration = Duration::from_millis(100);

/// What the loop works with.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the pipeline or start")]
pub struct Dispatch<'a> {
    /// Sends one attempt.
    pub sender: Sender,
    /// How replies to each call of a record are judged.
    pub rules: &'a PerStep<StepRules>,
    /// Makes the next call of a record that has several.
    pub preparer: &'a Preparer,
    /// Values of the run.
    pub run: RunValues,
    /// Whether intents of calls after the first survive a loss of power where a repeat could harm.
    pub durable_steps: bool,
    /// Whether every attempt has an intent; otherwise only those of records with a row.
    pub intents: bool,
    /// Reads what the reply to a call with several records says of each.
    pub items: Option<&'a ItemReader>,
    /// Makes the requests of calls with several records.
    pub assembler: Option<&'a Assembler>,
    /// Records of one call, at the most.
    pub call_size: usize,
    /// What follows when a whole call is refused.
    pub on_reject: OnReject,
    /// Whether calls with several records are noted so that the note survives a loss of power.
    pub durable_calls: bool,
    /// Whether this start only asks and sends nothing: what did not arrive is left pending.
    pub only_asks: bool,
    /// The rules of delivery.
    pub delivery: &'a Delivery,
    /// The checkpoint.
    pub writer: &'a Writer,
    /// What is found wrong with the checkpoint while it sends; closed once all of it was looked at.
    pub damage: mpsc::UnboundedReceiver<Failure>,
    /// Whom it tells.
    pub observer: &'a mut dyn Observer,
    /// The host, for messages.
    pub host: String,
    /// The connection's name, for messages.
    pub connection: String,
    /// The variables and files that its secrets come from, for messages.
    pub secrets_from: &'a [String],
    /// Records of the run that are settled, and how.
    pub counts: Counts,
    /// When this start has to end, if it has to.
    pub deadline: Option<Instant>,
    /// Order values behind records that earlier starts hold: (order hash, ordinal).
    pub held: Vec<(u64, u64)>,
    /// The same of records in doubt about which the far side is to be asked.
    pub undecided: Vec<(u64, u64)>,
    /// The point before which all is settled, for the thread that asks for leases.
    pub settled: Arc<Mutex<InputMark>>,
    /// Whether keys may be shown as they are.
    pub keys_are_public: bool,
    /// Whether replies are kept.
    pub keeps_responses: bool,
    /// Secrets that a reply could repeat.
    pub mask: Mask,
}

/// How the loop ended.
#[derive(Debug)]
pub struct Ended {
    /// Records by state.
    pub counts: Counts,
    /// Attempts begun in this start.
    pub attempts: u64,
    /// Every record before this point is settled.
    pub settled: InputMark,
    /// Why it ended early, if it did.
    pub stopped: Option<Stopped>,
    /// What was found out about records in doubt.
    pub asked: Asked,
    /// Where adaptive concurrency stood, if it is.
    pub pacing: Option<Pacing>,
    /// Whether the look at all of the checkpoint beside the sending came to its end.
    pub looked: bool,
}

/// What the far side told about records in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// Records that had arrived.
    pub applied: u64,
    /// Records that had not.
    pub not_applied: u64,
    /// Records of which it could not be told.
    pub unclear: u64,
}

/// Why a start ended before all was settled.
#[derive(Debug)]
pub struct Stopped {
    /// `Stopped` or `Halted`, or that of a failure.
    pub class: Class,
    /// In a few words.
    pub why: String,
    /// What to tell, when there is more to tell than `why`.
    pub diagnostics: Vec<Diagnostic>,
    /// The signal that asked for it.
    pub signal: Option<Signal>,
}

impl Stopped {
    /// What was noted of records before cannot be relied on.
    pub(super) fn by_damage(failure: Failure) -> Self {
        let why = match failure.class {
            Class::State => "the checkpoint is damaged",
            _ => "the checkpoint cannot be looked at",
        };
        Self { class: failure.class, why: why.into(), diagnostics: failure.diagnostics, signal: None }
    }
}

type Attempt = Pin<Box<dyn Future<Output = Landed>>>;

/// The end of an attempt.
struct Landed {
    /// The lane that it took.
    lane: usize,
    /// What came back; `None` where its intent could not be written.
    reply: Option<Reply>,
    /// What it was sent with. Until the reply is dealt with, it is hidden wherever that repeats it.
    pass: Pass,
    /// When its lane was taken, with the waiting for its intent.
    began: Instant,
    took: Duration,
}

/// What came of the calls of one step in this start.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    good: u64,
    stops_in_a_row: u32,
}

struct Progress {
    end: InputMark,
    left: usize,
}

struct Loop<'a> {
    with: Dispatch<'a>,
    /// What goes next, and when.
    schedule: Schedule<Box<Job>>,
    /// Records in doubt that are to be asked about and were not met yet, by order value.
    undecided: HashMap<u64, BTreeSet<u64>>,
    budget: Budget,
    queue: VecDeque<Prepared>,
    lanes: Vec<Option<Box<Job>>>,
    free: Vec<usize>,
    flying: FuturesUnordered<Attempt>,
    /// Calls that are not sent before a token is had, by lane; nothing on disk says that they were.
    awaiting: HashMap<usize, Awaiting>,
    fetching: FuturesUnordered<Fetch>,
    blocks: VecDeque<Progress>,
    first_block: u64,
    settled: InputMark,
    attempts: u64,
    asked: Asked,
    replies: u64,
    /// What came of the calls of each step: that one is answered well says nothing of another.
    seen: Vec<Seen>,
    stopped: Option<Stopped>,
    broken: bool,
    paused: bool,
}

/// Sends everything that comes over `blocks`; a credit is given back for each block begun.
///
/// # Errors
/// A failure of the checkpoint or of the input; what was under way is noted as far as it can be.
pub async fn dispatch(
    with: Dispatch<'_>,
    mut blocks: mpsc::Receiver<Result<Block, Failure>>,
    credit: credits::Sender<()>,
    mut stop: StopLine,
    start: InputMark,
) -> Result<Ended, Failure> {
    let lanes = with.delivery.concurrency.most().get();
    let now = Instant::now();
    // What waits is bounded: a far side that throttles must not make us hoard.
    let most_waiting = 1024 / with.call_size;
    let mut schedule = Schedule::new(with.delivery.concurrency, with.delivery.rate, most_waiting, now);
    for (hash, ordinal) in &with.held {
        schedule.order.hold(*hash, *ordinal, |_| false);
    }
    let mut undecided: HashMap<u64, BTreeSet<u64>> = HashMap::new();
    for (hash, ordinal) in with.undecided.iter().filter(|(hash, _)| *hash != 0) {
        undecided.entry(*hash).or_default().insert(*ordinal);
    }
    let mut this = Loop {
        schedule,
        budget: Budget::new(with.delivery.stop_when.clone()),
        undecided,
        queue: VecDeque::new(),
        lanes: std::iter::repeat_with(|| None).take(lanes).collect(),
        free: (0..lanes).rev().collect(),
        flying: FuturesUnordered::new(),
        awaiting: HashMap::new(),
        fetching: FuturesUnordered::new(),
        blocks: VecDeque::new(),
        first_block: 0,
        settled: start,
        attempts: 0,
        asked: Asked::default(),
        replies: 0,
        seen: vec![Seen::default(); with.rules.iter().len()],
        stopped: None,
        broken: false,
        paused: false,
        with,
    };
    let mut input_ended = false;
    let mut input_failure = None;
    let mut looked = false;
    let mut grace: Option<Instant> = None;
    let mut next_tick = now + TICK;
    // One timer, set anew only where the time is another: most turns wait for the same tick.
    let mut timer = std::pin::pin!(tokio::time::sleep_until(next_tick.into()));
    loop {
        let now = Instant::now();
        let wake = if this.stopped.is_none() { this.start_what_can_start(now) } else { None };
        this.broken |= !this.with.writer.flush();
        if this.broken {
            // Nothing can be noted any more, so nothing more may leave (P12).
            return Err(this.with.writer.failure());
        }
        if this.stopped.is_some() && grace.is_none() {
            grace = Some(now + this.with.delivery.stop_grace);
            this.stop_awaiting();
            this.announce_stop();
        }
        let done = input_ended && this.queue.is_empty() && this.schedule.is_empty();
        // Only a run of which nothing is left is called complete, for which all of its checkpoint has to be sound.
        let waits_for_look = !looked && this.with.counts.unsent == 0;
        if this.is_idle() && (this.stopped.is_some() || done && !waits_for_look) {
            break;
        }
        let ends = [wake, Some(next_tick), grace, this.with.deadline.filter(|_| grace.is_none())];
        let until = ends.into_iter().flatten().min().unwrap_or(next_tick).into();
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        tokio::select! {
            biased;
            signal = stop.next() => {
                match signal {
                    Signal::Status => this.with.observer.status(),
                    signal if this.stopped.is_none() => this.stop(Stopped {
                        class: Class::Stopped,
                        why: signal.name().into(),
                        diagnostics: Vec::new(),
                        signal: Some(signal),
                    }),
                    _ => break,
                }
            }
            found = this.with.damage.recv(), if !looked => {
                looked = true;
                if let Some(failure) = found {
                    this.take_damage(failure);
                }
            }
            Some(landed) = this.flying.next(), if !this.flying.is_empty() => {
                this.finish(landed);
                // What is ready together is noted together, and its lanes are filled together.
                while let Some(Some(landed)) = this.flying.next().now_or_never() {
                    this.finish(landed);
                }
            }
            Some((lane, pass)) = this.fetching.next(), if !this.fetching.is_empty() => {
                this.take_pass(lane, pass);
                while let Some(Some((lane, pass))) = this.fetching.next().now_or_never() {
                    this.take_pass(lane, pass);
                }
            }
            block = blocks.recv(), if !input_ended && this.queue.is_empty() && this.stopped.is_none() => {
                match block {
                    Some(Ok(block)) => {
                        // The thread may be gone when this was the last block.
                        let _ = credit.send(());
                        this.take_block(block);
                    }
                    Some(Err(failure)) => {
                        input_ended = true;
                        input_failure = Some(failure);
                    }
                    None => input_ended = true,
                }
            }
            () = timer.as_mut() => {
                let now = Instant::now();
                if now >= next_tick {
                    next_tick = now + TICK;
                    this.tell_pacing(now);
                    this.with.observer.tick();
                }
                if grace.is_some_and(|grace| now >= grace) {
                    break;
                }
                if grace.is_none() && this.with.deadline.is_some_and(|deadline| now >= deadline) {
                    this.stop(Stopped {
                        class: Class::Stopped,
                        why: "the time given with --max-duration is over".into(),
                        diagnostics: Vec::new(),
                        signal: None,
                    });
                }
            }
        }
    }
    if !looked {
        let found = this.with.damage.try_recv();
        looked = !matches!(found, Err(mpsc::error::TryRecvError::Empty));
        if let Ok(failure) = found {
            this.take_damage(failure);
        }
    }
    if this.stopped.is_some() {
        // Blocks that were leased and not begun: the rows say that nothing of them was sent.
        blocks.close();
        drop(credit);
        while let Some(block) = blocks.recv().await {
            if let Ok(block) = block {
                this.take_block(block);
            }
        }
        this.put_back();
    }
    this.broken |= !this.with.writer.flush();
    if this.broken {
        return Err(this.with.writer.failure());
    }
    if let Some(failure) = input_failure {
        let signal = this.stopped.and_then(|stopped| stopped.signal);
        this.stopped = Some(Stopped {
            class: failure.class,
            why: "the input cannot be read any further".into(),
            diagnostics: failure.diagnostics,
            signal,
        });
    }
    Ok(Ended {
        counts: this.with.counts,
        attempts: this.attempts,
        settled: this.settled,
        asked: this.asked,
        pacing: this.pacing(Instant::now()),
        stopped: this.stopped,
        looked,
    })
}

impl<'a> Loop<'a> {
    /// How the reply to a record's call is judged.
    fn rules(&self, job: &Job) -> &'a StepRules {
        let rules: &'a PerStep<StepRules> = self.with.rules;
        rules.of(job.step)
    }

    fn take_block(&mut self, block: Block) {
        let number = self.first_block + self.blocks.len() as u64;
        self.blocks.push_back(Progress { end: block.mark, left: block.records + block.left_out });
        for item in block.items {
            match item {
                Prepared::Send(mut job) => {
                    job.block = number;
                    self.queue.push_back(Prepared::Send(job));
                }
                Prepared::Held(mut job, why) => {
                    job.block = number;
                    self.queue.push_back(Prepared::Held(job, why));
                }
                Prepared::Settled(settled) => {
                    // Without a request there is nothing to wait for.
                    self.settle_unsent(*settled, number);
                }
                Prepared::SettledPart(settled, number) => self.settle_unsent(*settled, number),
            }
        }
        self.advance();
    }

    /// Where adaptive concurrency stands; `None` where it is fixed.
    fn pacing(&self, now: Instant) -> Option<Pacing> {
        let schedule = &self.schedule;
        schedule.learns().then(|| Pacing { lanes: schedule.lanes(), per_second: schedule.pace(now) })
    }

    fn tell_pacing(&mut self, now: Instant) {
        if let Some(pacing) = self.pacing(now) {
            self.with.observer.event(&Event::Paced(pacing));
        }
    }

    fn settle_unsent(&mut self, settled: Settled, block: u64) {
        let Settled { identity, outcome, known } = settled;
        let row = match known {
            None => identity.outcome_row(&outcome),
            Some(row) => RecordRow {
                state: outcome.state,
                status: outcome.status,
                class: outcome.class.clone(),
                message: outcome.message.clone(),
                // What its calls are compared with later, of one that turns out to be delivered.
                request: if outcome.state == State::Delivered { identity.sends } else { row.request },
                at: 0,
                ..*row
            },
        };
        let written = self.with.writer.row(row);
        if outcome.state == State::Invalid
            && let Some(enough) = self.budget.record_was_invalid(&outcome.class)
        {
            self.enough(&enough);
        }
        self.noted(written, block, outcome.state);
        self.tell(identity, outcome);
    }

    fn tell(&mut self, identity: Identity, outcome: Outcome) {
        let key =
            identity.key.map(|key| if self.with.keys_are_public { key.to_string() } else { hidden(&key) });
        let event = Event::Settled { ordinal: identity.ordinal, place: identity.place, key, outcome };
        self.with.observer.event(&event);
    }

    /// Counts a record as settled and moves the mark below which all is settled.
    fn noted(&mut self, written: bool, block: u64, state: State) {
        self.broken |= !written;
        *self.with.counts.of(state) += 1;
        self.with.counts.unsent = self.with.counts.unsent.saturating_sub(1);
        let index = usize::try_from(block - self.first_block).unwrap_or(usize::MAX);
        if let Some(progress) = self.blocks.get_mut(index) {
            progress.left -= 1;
        }
        self.advance();
    }

    fn advance(&mut self) {
        while self.blocks.front().is_some_and(|progress| progress.left == 0) {
            if let Some(progress) = self.blocks.pop_front() {
                self.first_block += 1;
                self.settled = progress.end;
                *self.with.settled.lock().unwrap_or_else(PoisonError::into_inner) = progress.end;
            }
        }
    }

    /// Whether no lane is taken.
    fn is_idle(&self) -> bool {
        self.flying.is_empty() && self.awaiting.is_empty()
    }

    /// Remembers the first reason to stop; later ones change nothing.
    fn stop(&mut self, stopped: Stopped) {
        if self.stopped.is_none() {
            tracing::info!(class = stopped.class.name(), why = stopped.why, "stop asked");
            self.stopped = Some(stopped);
        }
    }

    /// What was noted before cannot be relied on. That is noted at once: a kill must not let the next start begin
    /// with sending.
    fn take_damage(&mut self, failure: Failure) {
        if failure.class == Class::State {
            self.with.writer.damage();
        }
        self.stop(Stopped::by_damage(failure));
    }

    fn announce_stop(&mut self) {
        let why = self.stopped.as_ref().map(|stopped| stopped.why.clone()).unwrap_or_default();
        self.with.observer.event(&Event::Stopping { in_flight: self.flying.len(), why });
    }

    /// Notes what was under way or waiting when the loop was left.
    fn put_back(&mut self) {
        let lanes: Vec<Box<Job>> = self.lanes.iter_mut().filter_map(Option::take).collect();
        self.flying.clear();
        for mut job in lanes {
            job.unknown = true;
            if job.doubt.is_some() {
                self.hold_unasked(job);
                continue;
            }
            if self.rules(&job).in_doubt == InDoubt::Resend {
                self.put_back_one(&job);
                continue;
            }
            self.settle(
                job,
                State::InDoubt,
                Reading::without_reply("cancelled", "the run was stopped before a reply came"),
                None,
            );
        }
        let mut rows = Vec::new();
        for item in self.queue.drain(..) {
            // What is in doubt, or held, stands on disk as it is.
            if let Prepared::Send(job) = item
                && job.doubt.is_none()
                && job.call.is_none()
            {
                rows.push(job.row(State::Pending));
            }
        }
        for job in self.schedule.drain() {
            if job.doubt.is_some() {
                self.hold_unasked(job);
            } else if job.call.is_none() {
                // A call has a row where it was sent.
                rows.push(job.row(State::Pending));
            }
        }
        self.broken |= !self.with.writer.rows(rows);
    }

    fn put_back_one(&mut self, job: &Job) {
        self.broken |= !match job.call_row(BatchState::Waits) {
            Some(call) => self.with.writer.batch(call),
            None => self.with.writer.row(job.row(State::Pending)),
        };
        // Those that wait behind it stay pending too: they are put back when the loop ends.
    }
}
