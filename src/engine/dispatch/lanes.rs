//! Keeps the lanes full: which record goes next, and the beginning of its attempt.
//!
//! Apart from the loop itself, which only waits. Invariants: no attempt starts without its intent
//! where a repeat could harm, none under an idempotency key that may have lapsed, and none of an
//! order value behind a record that is held.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Landed, Loop};
use crate::config::OnFailure;
use crate::deliver::{Around, Pass, Reading, Sender, Step, Turn};
use crate::engine::block::{Job, Member, Prepared};
use crate::model::{Event, Request, State};
use crate::outcome::{BatchState, RecordRow};

impl Loop<'_> {
    /// Fills the lanes; says when to try again if something waits for the clock.
    pub(super) fn start_what_can_start(&mut self, now: Instant) -> Option<Instant> {
        while self.stopped.is_none() {
            // What waits for a token is past rate and pauses: no more than one call.
            if !self.awaiting.is_empty() && self.with.sender.pass().is_none() {
                return None;
            }
            let around = Around {
                in_flight: self.lanes.len() - self.free.len(),
                has_new: !self.queue.is_empty(),
                one_at_a_time: self.budget.in_canary(),
            };
            match self.schedule.step(now, around) {
                Step::Start(job) => {
                    if std::mem::take(&mut self.paused) {
                        self.with.observer.event(&Event::Paused(None));
                    }
                    self.start(job, now);
                }
                Step::TakeNew => {
                    if let Some(job) = self.next_new() {
                        self.schedule.ready(job);
                    }
                }
                Step::Wait(until) => return until,
            }
        }
        None
    }

    /// The next record from the queue whose turn it is.
    fn next_new(&mut self) -> Option<Box<Job>> {
        while let Some(item) = self.queue.pop_front() {
            // In the order of the input, so that none of these overtakes an earlier one either.
            let job = match item {
                Prepared::Send(job) if job.doubt.is_some() => {
                    self.enter_doubt(job);
                    continue;
                }
                Prepared::Send(job) => job,
                Prepared::Held(job, why) => {
                    let reading = Reading::without_reply("request-changed", why);
                    self.settle(job, State::InDoubt, reading, None);
                    continue;
                }
                Prepared::Settled(_) | Prepared::SettledPart(..) => continue,
            };
            if job.call.is_some() {
                let Some(job) = self.without_held(job) else { continue };
                let orders = job.call.as_ref().map(|call| call.orders()).unwrap_or_default();
                match self.schedule.order.enter_all(&orders, job) {
                    Turn::Go(job) => return Some(job),
                    Turn::Waits | Turn::Behind(..) => continue,
                }
            }
            // Behind one in doubt that this start does not ask about, nothing of its order goes.
            let before = self.undecided.get(&job.identity.order_hash);
            let before = before.and_then(|ordinals| ordinals.range(..job.identity.ordinal).next().copied());
            if let Some(ordinal) = before {
                self.leave_behind(&job, ordinal);
                continue;
            }
            match self.schedule.order.enter(job.identity.order_hash, job) {
                Turn::Go(job) => return Some(job),
                Turn::Waits => {}
                Turn::Behind(job, ordinal) => self.leave_behind(&job, ordinal),
            }
        }
        None
    }

    /// Leaves a record unsent because one before it is held.
    pub(super) fn leave_behind(&mut self, job: &Job, ordinal: u64) {
        if job.call.is_some() {
            // Its row says all there is to say.
            return;
        }
        self.broken |= !self.with.writer.row(self.behind(job.row(State::Pending), ordinal));
    }

    fn behind(&self, mut row: RecordRow, ordinal: u64) -> RecordRow {
        row.class = "behind".into();
        let why = if self.with.delivery.on_failure == OnFailure::HoldRest {
            "failed or in doubt"
        } else {
            "in doubt"
        };
        row.message = format!("behind record {} {why}", ordinal + 1);
        row
    }

    /// The same for one record of a call.
    pub(super) fn leave_member_behind(&mut self, member: &Member, ordinal: u64) {
        let row = RecordRow { request: 0, ..member.row(State::Pending, 0) };
        self.broken |= !self.with.writer.row(self.behind(row, ordinal));
    }

    fn start(&mut self, job: Box<Job>, now: Instant) {
        let Some(job) = self.fresh(job) else { return self.schedule.was_not_sent(now) };
        let Some(lane) = self.free.pop() else {
            self.schedule.ready_first(job);
            return;
        };
        match self.with.sender.pass() {
            Some(pass) => self.launch(lane, job, pass, None, now),
            None => self.fetch_pass(lane, job),
        }
    }

    /// What a lane was taken for is settled without a request, or without another one than that of `first`.
    pub(super) fn was_not_sent(&mut self, first: Option<Instant>, now: Instant) {
        match first {
            None => self.schedule.was_not_sent(now),
            Some(began) => self.schedule.learned_nothing(began),
        }
    }

    /// Sends what a lane holds. `first`: when the same attempt was sent before, with a token that was refused.
    pub(super) fn launch(
        &mut self,
        lane: usize,
        mut job: Box<Job>,
        pass: Pass,
        first: Option<Instant>,
        now: Instant,
    ) {
        if job.doubt.is_some() {
            if first.is_none() {
                count_look(&mut job);
            }
            self.start_look(job, lane, pass, first, now);
            return;
        }
        let wall = jiff::Timestamp::now().as_millisecond();
        if job.unknown && self.rules(&job).remembered.is_some_and(|kept| has_lapsed(job.first_at, wall, kept))
        {
            self.free.push(lane);
            self.was_not_sent(first, now);
            let reading = Reading::without_reply("key-lapsed", KEY_LAPSED);
            self.settle(job, State::InDoubt, reading, None);
            return;
        }
        if job.first_at == 0 {
            job.first_at = wall;
        }
        if first.is_none() {
            self.count_attempt(&mut job);
        }
        let request = Arc::clone(&job.request);
        let sender = self.with.sender.clone();
        let intent = match job.call_row(BatchState::InFlight) {
            Some(call) => Some(self.with.writer.batch_intent(call, self.with.durable_calls)),
            None if self.with.intents || job.has_row => {
                Some(self.with.writer.intent(job.row(State::InFlight), self.is_durable(&job)))
            }
            None => None,
        };
        self.lanes[lane] = Some(job);
        self.flying.push(Box::pin(attempt(lane, sender, request, pass, intent, now)));
    }

    pub(super) fn count_attempt(&mut self, job: &mut Job) {
        if job.made_now == 0 {
            job.replies_before = self.replies;
        }
        job.made += 1;
        job.made_now += 1;
        self.attempts += 1;
    }
}

pub(super) fn count_look(job: &mut Job) {
    if let Some(doubt) = &mut job.doubt {
        doubt.looks += 1;
    }
}

/// Why a record is held although its idempotency key would make a repeat harmless.
pub(in crate::engine) const KEY_LAPSED: &str =
    "may have arrived, and the far side may have forgotten its idempotency key";

/// Whether the far side may have forgotten a key that first left then. By wall time, as it counts
/// itself; a clock before the first attempt counts as lapsed (ruling 11). 0 is a person's word that it
/// may go out (`resolve --resend`).
pub(in crate::engine) const fn has_lapsed(first_at: i64, now: i64, remembered: Duration) -> bool {
    let age = now.saturating_sub(first_at);
    first_at != 0 && (age < 0 || age.unsigned_abs() as u128 >= remembered.as_millis())
}

/// One attempt: waits for its intent, then sends.
pub(super) async fn attempt(
    lane: usize,
    sender: Sender,
    request: Arc<Request>,
    pass: Pass,
    intent: Option<crate::outcome::Ack>,
    began: Instant,
) -> Landed {
    if let Some(intent) = intent
        && !intent.await.unwrap_or(false)
    {
        return Landed { lane, reply: None, pass, began, took: Duration::ZERO };
    }
    let left = Instant::now();
    let reply = Some(sender.send_with(&request, &pass).await);
    Landed { lane, reply, pass, began, took: left.elapsed() }
}
