//! The loop that sends: takes prepared records, keeps the lanes full, notes what becomes of them.
//!
//! One task owns everything: order, rate, budget, retries. Attempts are futures that know only
//! their request and lane, so that a stop can tell for every lane which record was under way.
//! Invariants: no attempt starts before its lease (and intent, where a repeat could harm) is on
//! disk; a record leaves this loop with an outcome row, or with a pending row that says so.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc as credits;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

use crate::config::{Delivery, InDoubt, OnFailure};
use crate::deliver::{
    Budget, Enough, Meaning, Order, Rate, Reader, Reading, Sender, Tries, Turn, Verdict, judge,
};
use crate::model::{
    Class, Counts, Diagnostic, Event, Failure, Mask, Outcome, Pause, Reply, Request, State, Value,
};
use crate::outcome::{Exchange, InputMark, RecordRow, Writer};

use super::Observer;
use super::block::{Block, Identity, Job, Prepared, Settled};
use super::prepare::hidden;
use super::stop::{Signal, StopLine};

/// How often the observer is asked to redraw.
const TICK: Duration = Duration::from_millis(100);

/// What the loop works with.
pub struct Dispatch<'a> {
    /// Sends one attempt.
    pub sender: Sender,
    /// Reads replies.
    pub reader: &'a Reader,
    /// The rules of delivery.
    pub delivery: &'a Delivery,
    /// The checkpoint.
    pub writer: &'a Writer,
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
    /// The point before which all is settled, for the thread that asks for leases.
    pub settled: Arc<Mutex<InputMark>>,
    /// Whether keys may be shown as they are.
    pub keys_are_public: bool,
    /// Whether replies are kept.
    pub keeps_responses: bool,
    /// Secrets that a reply could repeat.
    pub mask: Mask,
    /// Whether the path names no record, so that a 404 speaks of the endpoint.
    pub path_is_fixed: bool,
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

type Attempt = Pin<Box<dyn Future<Output = (usize, Option<Reply>, Duration)>>>;

struct Due {
    at: Instant,
    turn: u64,
    job: Box<Job>,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.turn) == (other.at, other.turn)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.turn).cmp(&(other.at, other.turn))
    }
}

struct Progress {
    end: InputMark,
    left: usize,
}

struct Loop<'a> {
    with: Dispatch<'a>,
    order: Order<Box<Job>>,
    rate: Rate,
    budget: Budget,
    queue: VecDeque<Prepared>,
    ready: VecDeque<Box<Job>>,
    retries: BinaryHeap<Reverse<Due>>,
    lanes: Vec<Option<Box<Job>>>,
    free: Vec<usize>,
    flying: FuturesUnordered<Attempt>,
    blocks: VecDeque<Progress>,
    first_block: u64,
    settled: InputMark,
    attempts: u64,
    replies: u64,
    good: u64,
    stops_in_a_row: u32,
    missing_in_a_row: u32,
    turn: u64,
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
    let lanes = with.delivery.concurrency.get();
    let now = Instant::now();
    let mut order = Order::default();
    for (hash, ordinal) in &with.held {
        order.hold(*hash, *ordinal);
    }
    let mut this = Loop {
        rate: Rate::new(with.delivery.rate, now),
        budget: Budget::new(with.delivery.stop_when.clone()),
        order,
        queue: VecDeque::new(),
        ready: VecDeque::new(),
        retries: BinaryHeap::new(),
        lanes: std::iter::repeat_with(|| None).take(lanes).collect(),
        free: (0..lanes).rev().collect(),
        flying: FuturesUnordered::new(),
        blocks: VecDeque::new(),
        first_block: 0,
        settled: start,
        attempts: 0,
        replies: 0,
        good: 0,
        stops_in_a_row: 0,
        missing_in_a_row: 0,
        turn: 0,
        stopped: None,
        broken: false,
        paused: false,
        with,
    };
    let mut input_ended = false;
    let mut input_failure = None;
    let mut grace: Option<Instant> = None;
    let mut next_tick = now + TICK;
    loop {
        let now = Instant::now();
        let wake = if this.stopped.is_none() { this.start_what_can_start(now) } else { None };
        if this.broken {
            // Nothing can be noted any more, so nothing more may leave (P12).
            return Err(this.with.writer.failure());
        }
        if this.stopped.is_some() && grace.is_none() {
            grace = Some(now + this.with.delivery.stop_grace);
            this.announce_stop();
        }
        let done = input_ended && this.queue.is_empty() && this.ready.is_empty() && this.retries.is_empty();
        if this.flying.is_empty() && (this.stopped.is_some() || done) {
            break;
        }
        let timer = [wake, Some(next_tick), grace, this.with.deadline.filter(|_| grace.is_none())];
        let until = timer.into_iter().flatten().min().unwrap_or(next_tick);
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
            Some((lane, reply, took)) = this.flying.next(), if !this.flying.is_empty() => {
                this.finish(lane, reply, took);
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
            () = tokio::time::sleep_until(until.into()) => {
                let now = Instant::now();
                if now >= next_tick {
                    next_tick = now + TICK;
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
        stopped: this.stopped,
    })
}

impl Loop<'_> {
    fn take_block(&mut self, block: Block) {
        let number = self.first_block + self.blocks.len() as u64;
        self.blocks.push_back(Progress { end: block.mark, left: block.items.len() + block.left_out });
        for item in block.items {
            match item {
                Prepared::Send(mut job) => {
                    job.block = number;
                    self.queue.push_back(Prepared::Send(job));
                }
                Prepared::Settled(settled) => {
                    // Without a request there is nothing to wait for.
                    self.settle_unsent(*settled, number);
                }
            }
        }
        self.advance();
    }

    fn settle_unsent(&mut self, settled: Settled, block: u64) {
        let Settled { identity, outcome } = settled;
        let written = self.with.writer.row(identity.outcome_row(&outcome));
        if outcome.state == State::Invalid
            && let Some(enough) = self.budget.record_was_invalid()
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

    /// Fills the lanes; says when to try again if something waits for the clock.
    fn start_what_can_start(&mut self, now: Instant) -> Option<Instant> {
        // What waits is bounded: a far side that throttles must not make us hoard.
        let most_waiting = (4 * self.lanes.len()).max(1024);
        loop {
            let canary_is_out = self.budget.in_canary() && !self.flying.is_empty();
            if self.free.is_empty() || canary_is_out || self.stopped.is_some() {
                return None;
            }
            let retry_is_due = self.retries.peek().is_some_and(|due| due.0.at <= now);
            let may_take_new = self.order.waiting() + self.retries.len() < most_waiting;
            if self.ready.is_empty() && !retry_is_due && (self.queue.is_empty() || !may_take_new) {
                return self.retries.peek().map(|due| due.0.at);
            }
            if let Err(when) = self.rate.take(now) {
                return Some(when);
            }
            if std::mem::take(&mut self.paused) {
                self.with.observer.event(&Event::Paused(None));
            }
            // A record that waits the longest goes first.
            let next = if retry_is_due {
                self.retries.pop().map(|due| due.0.job)
            } else if let Some(job) = self.ready.pop_front() {
                Some(job)
            } else {
                self.next_new()
            };
            if let Some(job) = next {
                self.start(job);
            }
        }
    }

    /// The next record from the queue whose turn it is.
    fn next_new(&mut self) -> Option<Box<Job>> {
        while let Some(item) = self.queue.pop_front() {
            let Prepared::Send(job) = item else { continue };
            match self.order.enter(job.identity.order_hash, job) {
                Turn::Go(job) => return Some(job),
                Turn::Waits => {}
                Turn::Behind(job, ordinal) => self.leave_behind(&job, ordinal),
            }
        }
        None
    }

    /// Leaves a record unsent because one before it is held.
    fn leave_behind(&mut self, job: &Job, ordinal: u64) {
        let mut row = job.row(State::Pending);
        row.class = "behind".into();
        let why = if self.with.delivery.on_failure == OnFailure::HoldRest {
            "failed or in doubt"
        } else {
            "in doubt"
        };
        row.message = format!("behind record {} {why}", ordinal + 1);
        self.broken |= !self.with.writer.row(row);
    }

    fn start(&mut self, mut job: Box<Job>) {
        let Some(lane) = self.free.pop() else {
            self.ready.push_front(job);
            return;
        };
        if job.made_now == 0 {
            job.replies_before = self.replies;
        }
        job.made += 1;
        job.made_now += 1;
        self.attempts += 1;
        let request = Arc::clone(&job.request);
        let sender = self.with.sender.clone();
        let needs_intent = self.with.delivery.in_doubt != InDoubt::Resend || job.has_row;
        let intent = needs_intent.then(|| self.with.writer.intent(job.row(State::InFlight)));
        self.lanes[lane] = Some(job);
        self.flying.push(Box::pin(attempt(lane, sender, request, intent)));
    }

    fn finish(&mut self, lane: usize, reply: Option<Reply>, took: Duration) {
        let Some(mut job) = self.lanes.get_mut(lane).and_then(Option::take) else { return };
        self.free.push(lane);
        let Some(reply) = reply else {
            // The intent could not be written: the request never left.
            self.broken = true;
            return;
        };
        let now = Instant::now();
        let reading = self.with.reader.read(&reply, &job.request);
        self.with.observer.attempted(job.identity.ordinal, &job.request, &reply, took);
        self.note_pause(&reading, now);
        if matches!(reply, Reply::Arrived(_)) {
            self.replies += 1;
        } else if self.with.delivery.in_doubt != InDoubt::Resend {
            // A reused connection that broke looks the same whether the far side acted or not.
            self.with.sender.avoid_reuse();
        }
        let tries = Tries { made: job.made_now, earlier_unknown: job.unknown };
        let verdict = judge(
            &reading.meaning,
            tries,
            self.with.delivery.in_doubt,
            &self.with.delivery.retry,
            fastrand::f64(),
        );
        job.unknown |= reading.meaning == Meaning::Unknown;
        self.weigh(&reading, verdict);
        match verdict {
            Verdict::Delivered => self.settle(job, State::Delivered, reading, Some(&reply)),
            Verdict::Failed => self.settle(job, State::Failed, reading, Some(&reply)),
            Verdict::Skipped if reading.meaning == Meaning::NotNeeded => {
                self.settle(job, State::Skipped, reading, Some(&reply));
            }
            Verdict::Skipped => {
                let message = format!("may have arrived ({}); skipped by `in_doubt: skip`", reading.class);
                let reading = Reading { class: "in_doubt".into(), message, ..reading };
                self.settle(job, State::Skipped, reading, Some(&reply));
            }
            Verdict::InDoubt => self.settle(job, State::InDoubt, reading, Some(&reply)),
            Verdict::Again { after } => self.again(job, &reading, after, now),
            Verdict::GaveUp => self.give_up(job, reading),
            Verdict::TooLong { asked } => {
                self.put_back_one(&job);
                self.stop(Stopped {
                    class: Class::Stopped,
                    why: format!("{} asked to wait {}", self.with.host, humantime::format_duration(asked)),
                    diagnostics: vec![too_long(
                        &self.with.host,
                        asked,
                        self.with.delivery.retry.max_retry_after,
                    )],
                    signal: None,
                });
            }
            Verdict::Stop => self.refused_credentials(job, &reading, now),
        }
    }

    /// Looks at the error budget after an attempt.
    fn weigh(&mut self, reading: &Reading, verdict: Verdict) {
        let bad = match &reading.meaning {
            Meaning::Unknown | Meaning::NotSent | Meaning::NotNow { .. } => true,
            Meaning::Acted | Meaning::Refused { .. } | Meaning::NotNeeded | Meaning::Stop => false,
        };
        if bad {
            if let Some(enough) = self.budget.attempt_was_bad(verdict == Verdict::InDoubt) {
                self.enough(&enough);
            }
        } else {
            self.budget.attempt_was_answered();
        }
        if reading.meaning == Meaning::Acted {
            self.good += 1;
        }
        if reading.meaning != Meaning::Stop && !bad {
            self.stops_in_a_row = 0;
        }
    }

    fn enough(&mut self, enough: &Enough) {
        let class = match enough {
            Enough::Consecutive { in_doubt: false, .. } => Class::Stopped,
            _ => Class::Halted,
        };
        let rule = if class == Class::Halted { "error-budget" } else { "far-side-down" };
        let diagnostic = Diagnostic::error(rule, enough.words())
            .note(format!("the far side is {}", self.with.host))
            .help("look at the reasons below, then start the same command again; it goes on");
        self.stop(Stopped { class, why: enough.words(), diagnostics: vec![diagnostic], signal: None });
    }

    fn note_pause(&mut self, reading: &Reading, now: Instant) {
        let wait = match reading.meaning {
            Meaning::NotNow { asked: Some(asked) } => Some(asked),
            _ => reading.pause,
        };
        let Some(wait) = wait.filter(|wait| *wait <= self.with.delivery.retry.max_retry_after) else {
            return;
        };
        if self.rate.pause(now + wait) && self.stopped.is_none() {
            self.paused = true;
            let why = match reading.status {
                0 => self.with.host.clone(),
                status => format!("{status} from {}", self.with.host),
            };
            self.with.observer.event(&Event::Paused(Some(Pause { wait, why })));
        }
    }

    #[expect(
        clippy::boxed_local,
        reason = "a job is boxed from its making to its end; moving it out would copy it"
    )]
    fn settle(&mut self, job: Box<Job>, state: State, reading: Reading, reply: Option<&Reply>) {
        let outcome = Outcome {
            state,
            status: reading.status,
            class: reading.class,
            message: reading.message,
            attempts: job.made,
            captures: if state == State::Delivered { reading.captures } else { Value::Absent },
        };
        let mut row = job.identity.outcome_row(&outcome);
        row.unknown = job.unknown;
        row.generation = job.generation;
        let holds = state == State::InDoubt
            || state == State::Failed && self.with.delivery.on_failure == OnFailure::HoldRest;
        if state == State::InDoubt {
            row.request = job.request.digest();
        }
        if !holds {
            // Only what others wait behind needs it later, and it is half of a row.
            row.order_hash = 0;
        }
        let response = match reply {
            Some(Reply::Arrived(reply)) if self.with.keeps_responses => {
                let Job { identity, request, .. } = &*job;
                let exchange = Exchange {
                    ordinal: identity.ordinal,
                    place: &identity.place,
                    key: identity.key.as_deref(),
                    request,
                    reply,
                    outcome: &outcome,
                };
                Some(exchange.line(&self.with.mask))
            }
            _ => None,
        };
        let written = self.with.writer.settled(row, response);
        self.noted(written, job.block, state);
        let hash = job.identity.order_hash;
        if holds {
            for behind in self.order.hold(hash, job.identity.ordinal) {
                self.leave_behind(&behind, job.identity.ordinal);
            }
        } else if hash != 0
            && let Some(next) = self.order.leave(hash)
        {
            self.ready.push_back(next);
        }
        if matches!(state, State::Delivered | State::Failed | State::Skipped)
            && let Some(enough) = self.budget.record_settled(state == State::Failed)
        {
            self.enough(&enough);
        }
        self.look_for_a_missing_endpoint(state, outcome.status);
        self.tell(job.identity, outcome);
    }

    /// A far side that has no such endpoint refuses everything: the first answers tell.
    fn look_for_a_missing_endpoint(&mut self, state: State, status: u16) {
        if state != State::Failed || self.good > 0 || self.stopped.is_some() {
            return;
        }
        let missing = match status {
            405 | 501 => true,
            404 => self.with.path_is_fixed,
            _ => false,
        };
        self.missing_in_a_row = if missing { self.missing_in_a_row + 1 } else { 0 };
        if missing {
            let why = format!("{} has no such endpoint (answered {status})", self.with.host);
            let diagnostic = Diagnostic::error("endpoint-missing", why.clone())
                .note("no record was delivered in this start")
                .help("check `method`, `path` and the connection's base URL with `runner preview`");
            self.stop(Stopped { class: Class::Halted, why, diagnostics: vec![diagnostic], signal: None });
        }
    }

    fn again(&mut self, job: Box<Job>, reading: &Reading, after: Duration, now: Instant) {
        self.with.writer.attempt(job.identity.ordinal, job.made, reading.status, &reading.class, Some(after));
        if reading.meaning != Meaning::Unknown
            && (job.has_row || self.with.delivery.in_doubt != InDoubt::Resend)
        {
            // It certainly did nothing: while it waits it is pending, not in doubt. It may be sent
            // again without a sync, so after a loss of power the row alone proves nothing.
            self.broken |= !self.with.writer.row(RecordRow { granted: true, ..job.row(State::Pending) });
        }
        self.with.observer.event(&Event::Retrying {
            ordinal: job.identity.ordinal,
            attempt: job.made,
            why: if reading.status == 0 { reading.class.clone() } else { reading.status.to_string() },
            wait: after,
        });
        self.turn += 1;
        self.retries.push(Reverse(Due { at: now + after, turn: self.turn, job }));
    }

    /// The tries ran out and all certainly did nothing.
    fn give_up(&mut self, job: Box<Job>, reading: Reading) {
        let far_side_is_down = reading.meaning == Meaning::NotSent && self.replies == job.replies_before;
        if !far_side_is_down {
            self.settle(job, State::Failed, reading, None);
            return;
        }
        self.put_back_one(&job);
        self.no_connection(&reading);
    }

    /// Stops because no connection could be made: later, or after a person has looked.
    fn no_connection(&mut self, reading: &Reading) {
        let why = format!("no connection to {}: {}", self.with.host, reading.message);
        let (class, rule, help) = match &*reading.class {
            "certificate" => (
                Class::Halted,
                "certificate",
                "set `tls: { ca: PATH }` in the connection if the host has an authority of its own",
            ),
            "address-refused" => (
                Class::Halted,
                "address-refused",
                "requests never go to link-local or metadata addresses; name the host of the API",
            ),
            _ => (Class::Stopped, "far-side-down", "start the same command again when it is up; it goes on"),
        };
        let made = match self.attempts {
            1 => "1 attempt was made".to_owned(),
            n => format!("{n} attempts were made"),
        };
        let sent = if self.replies == 0 { "nothing was sent" } else { "the last of them never left" };
        let diagnostic = Diagnostic::error(rule, why.clone()).note(format!("{made}; {sent}")).help(help);
        self.stop(Stopped { class, why, diagnostics: vec![diagnostic], signal: None });
    }

    fn refused_credentials(&mut self, job: Box<Job>, reading: &Reading, now: Instant) {
        self.stops_in_a_row += 1;
        if self.good > 0 && self.stops_in_a_row < 3 && self.stopped.is_none() {
            self.again(job, reading, self.with.delivery.retry.first_wait, now);
            return;
        }
        self.put_back_one(&job);
        if self.stopped.is_some() {
            return;
        }
        if reading.status == 0 {
            self.no_connection(reading);
            return;
        }
        let why = format!("{} answered {}; the run is halted", self.with.host, reading.status);
        let rule = if reading.status == 401 { "credentials-refused" } else { "stopped-by-rule" };
        let mut diagnostic = Diagnostic::error(rule, why.clone()).at(format!(
            "{} {}, first for {}",
            job.request.method,
            job.request.url.path(),
            job.identity.place
        ));
        if !reading.message.is_empty() {
            diagnostic = diagnostic.row(format!("{}: {:?}", reading.status, reading.message));
        }
        let from = match self.with.secrets_from.join(", ") {
            names if names.is_empty() => String::new(),
            names => format!(" ({names})"),
        };
        diagnostic.help = Some(format!(
            "correct the credentials of connection `{}`{from}, then go on with the same command",
            self.with.connection
        ));
        self.stop(Stopped { class: Class::Halted, why, diagnostics: vec![diagnostic], signal: None });
    }

    /// Remembers the first reason to stop; later ones change nothing.
    fn stop(&mut self, stopped: Stopped) {
        if self.stopped.is_none() {
            tracing::info!(class = stopped.class.name(), why = stopped.why, "stop asked");
            self.stopped = Some(stopped);
        }
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
            if self.with.delivery.in_doubt == InDoubt::Resend {
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
            if let Prepared::Send(job) = item {
                rows.push(job.row(State::Pending));
            }
        }
        rows.extend(self.ready.drain(..).map(|job| job.row(State::Pending)));
        rows.extend(self.retries.drain().map(|due| due.0.job.row(State::Pending)));
        rows.extend(self.order.drain().map(|job| job.row(State::Pending)));
        self.broken |= !self.with.writer.rows(rows);
    }

    fn put_back_one(&mut self, job: &Job) {
        self.broken |= !self.with.writer.row(job.row(State::Pending));
        // Those that wait behind it stay pending too: they are put back when the loop ends.
    }
}

/// One attempt: waits for its intent, then sends.
async fn attempt(
    lane: usize,
    sender: Sender,
    request: Arc<Request>,
    intent: Option<crate::outcome::Ack>,
) -> (usize, Option<Reply>, Duration) {
    if let Some(intent) = intent
        && !intent.await.unwrap_or(false)
    {
        return (lane, None, Duration::ZERO);
    }
    let begin = Instant::now();
    let reply = sender.send(&request).await;
    (lane, Some(reply), begin.elapsed())
}

fn too_long(host: &str, asked: Duration, cap: Duration) -> Diagnostic {
    Diagnostic::error(
        "wait-too-long",
        format!("{host} asked to wait {} (Retry-After)", humantime::format_duration(asked)),
    )
    .note(format!("more than `delivery.retry.max_retry_after` allows ({})", humantime::format_duration(cap)))
    .help("start the same command again after that time; it goes on")
}
