//! What follows the end of a call with several records: each its own outcome, where the reply tells them
//! apart; another call for those that are to be sent again; two halves where the whole was refused.
//!
//! Invariants: a record whose fate is known is never part of another call; what became of the records of a
//! call, and which calls follow from it, is noted in one step.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Loop;
use crate::config::{InDoubt, OnReject};
use crate::deliver::{Felt, Meaning, Reading, Tries, Verdict, judge};
use crate::engine::block::{Call, Identity, Job, Member};
use crate::engine::prepare::Refused;
use crate::model::{Arrived, Outcome, Reply, State, Value};
use crate::outcome::{BatchRow, BatchState, Exchange, RecordRow};

/// A record of a call with what became of it.
struct Ended {
    member: Member,
    state: State,
    reading: Reading,
    /// Its part of the reply.
    reply: Option<Arc<Value>>,
}

/// Records of which no further call can be made.
fn without_call(members: Vec<Member>, refused: Refused, state: State) -> Vec<Ended> {
    let (class, message) = refused.words();
    let ended =
        |member| Ended { member, state, reading: Reading::without_reply(&class, &message), reply: None };
    members.into_iter().map(ended).collect()
}

impl Loop<'_> {
    /// Takes a call apart whose records do not share one fate; gives back one whose records do.
    pub(super) fn take_apart(
        &mut self,
        mut job: Box<Job>,
        mut reading: Reading,
        reply: &Reply,
        (began, now): (Instant, Instant),
    ) -> Option<(Box<Job>, Reading)> {
        let Some(call) = &job.call else { return Some((job, reading)) };
        match (&reading.meaning, reply) {
            (Meaning::Acted, Reply::Arrived(arrived)) => {
                if self.with.items.is_some() {
                    self.sort_out(job, &reading.captures, arrived, (began, now));
                    return None;
                }
                if arrived.status == http::StatusCode::MULTI_STATUS {
                    // Each record has a status of its own, and nobody said where.
                    reading.meaning = Meaning::Unknown;
                    reading.class = "multi-status".into();
                    reading.message =
                        "the reply has a status for each record; `batch.replies` says where".into();
                }
                Some((job, reading))
            }
            (Meaning::Refused { .. }, _)
                if self.with.on_reject == OnReject::Bisect
                    && call.members.len() > 1
                    && !job.unknown
                    && !self.speaks_of_the_endpoint(0, reading.status) =>
            {
                self.budget.attempt_was_answered(0);
                self.seen_of(0).stops_in_a_row = 0;
                self.bisect(&mut job, &reading, now);
                None
            }
            _ => Some((job, reading)),
        }
    }

    /// Each record by its own result.
    fn sort_out(
        &mut self,
        mut job: Box<Job>,
        of_call: &Value,
        arrived: &Arrived,
        (began, now): (Instant, Instant),
    ) {
        let old = job.call_row(BatchState::Settled);
        let (Some(reader), Some(call), Some(old)) = (self.with.items, job.call.take(), old) else { return };
        let items: Vec<&Value> = call.members.iter().map(|member| &member.item).collect();
        let found = reader.read(arrived, &job.request, &items);
        let Call { members, head, group, .. } = *call;
        // Under its key the far side does a call once: what this reply says is true of every attempt. And a
        // record alone would go out under another key.
        let is_keyed = self.with.rules.first().is_keyed;
        let policy = match self.with.rules.first().in_doubt {
            InDoubt::Resend if is_keyed => InDoubt::Hold,
            policy => policy,
        };
        let tries = Tries { made: job.made_now, earlier_unknown: job.unknown && !is_keyed };
        let mut ended = Vec::with_capacity(members.len());
        let (mut certain, mut unknown): (Vec<Member>, Vec<Member>) = (Vec::new(), Vec::new());
        let mut wait = Duration::ZERO;
        if found.iter().any(|item| matches!(item.reading.meaning, Meaning::NotNow { .. })) {
            // The call as a whole was answered, and some of its records were too much.
            self.felt(Felt::Overloaded, None, began, now);
        }
        if found.iter().all(|item| item.reading.meaning == Meaning::Unknown) {
            if let Some(enough) = self.budget.attempt_was_bad(0, policy != InDoubt::Resend) {
                self.enough(&enough);
            }
        } else {
            self.budget.attempt_was_answered(0);
        }
        self.seen_of(0).good += u64::from(found.iter().any(|item| item.reading.meaning == Meaning::Acted));
        self.seen_of(0).stops_in_a_row = 0;
        for (member, item) in members.into_iter().zip(found) {
            let meaning = item.reading.meaning;
            let verdict = judge(&meaning, tries, policy, &self.with.delivery.retry, fastrand::f64());
            let state = match verdict {
                Verdict::Again { after } => {
                    wait = wait.max(after);
                    let why = (item.reading.status, &*item.reading.class, &*item.reading.message);
                    let made = member.made + job.made;
                    self.with.writer.attempt(member.identity.ordinal, made, why, Some(after));
                    let is_unknown = meaning == Meaning::Unknown || tries.earlier_unknown;
                    let mut member = member;
                    member.unknown = is_unknown;
                    member.first_at = if is_unknown { job.first_at } else { 0 };
                    if is_unknown {
                        unknown.push(member);
                    } else {
                        certain.push(member);
                    }
                    continue;
                }
                Verdict::Delivered => State::Delivered,
                Verdict::Skipped => State::Skipped,
                Verdict::InDoubt => State::InDoubt,
                Verdict::Failed | Verdict::GaveUp | Verdict::TooLong { .. } | Verdict::Stop => State::Failed,
            };
            let mut reading = item.reading;
            if matches!(reading.captures, Value::Absent) {
                reading.captures = of_call.clone();
            }
            ended.push(Ended { member, state, reading, reply: item.reply });
        }
        let mut batches = vec![old];
        let mut follow = Vec::new();
        for (members, is_unknown) in [(certain, false), (unknown, true)] {
            if members.is_empty() {
                continue;
            }
            let call = Call { number: 0, members, head: head.clone(), group: group.clone(), is_stale: false };
            match self.with.assembler.map(|assembler| assembler.new_call(call)) {
                Some(Ok(mut next)) => {
                    next.made = job.made;
                    next.made_now = job.made_now;
                    next.unknown = is_unknown;
                    next.replies_before = job.replies_before;
                    batches.extend(next.call_row(BatchState::Waits));
                    follow.push(next);
                }
                Some(Err((members, refused))) => {
                    let state = if is_unknown { State::InDoubt } else { State::Failed };
                    ended.extend(without_call(members, refused, state));
                }
                None => {}
            }
        }
        self.settle_members(&job, ended, batches, Some(arrived), false);
        for next in follow {
            self.schedule.later(now + wait, next);
        }
    }

    /// Sends both halves of a call that was refused as a whole and certainly did nothing.
    fn bisect(&mut self, job: &mut Job, reading: &Reading, now: Instant) {
        let old = job.call_row(BatchState::Settled);
        let (Some(call), Some(old)) = (job.call.take(), old) else { return };
        let Call { mut members, head, group, .. } = *call;
        let why = (reading.status, &*reading.class, &*reading.message);
        for member in &members {
            let made = member.made + job.made;
            self.with.writer.attempt(member.identity.ordinal, made, why, Some(Duration::ZERO));
        }
        let rest = members.split_off(members.len() / 2);
        let (mut batches, mut follow, mut ended) = (vec![old], Vec::new(), Vec::new());
        for members in [members, rest] {
            let call = Call { number: 0, members, head: head.clone(), group: group.clone(), is_stale: false };
            match self.with.assembler.map(|assembler| assembler.new_call(call)) {
                Some(Ok(mut half)) => {
                    // Its records were sent, but it has all its tries: it is another call.
                    half.made = job.made;
                    batches.extend(half.call_row(BatchState::Waits));
                    follow.push(half);
                }
                Some(Err((members, refused))) => {
                    ended.extend(without_call(members, refused, State::Failed));
                }
                None => {}
            }
        }
        self.settle_members(job, ended, batches, None, false);
        for half in follow {
            self.schedule.later(now, half);
        }
    }

    /// Settles all records of a call alike.
    pub(super) fn settle_call(
        &mut self,
        mut job: Box<Job>,
        state: State,
        reading: &Reading,
        reply: Option<&Reply>,
    ) {
        let Some(batch) = job.call_row(BatchState::Settled) else { return };
        let Some(call) = job.call.take() else { return };
        let ended = call
            .members
            .into_iter()
            .map(|member| Ended { member, state, reading: reading.clone(), reply: None })
            .collect();
        let arrived = match reply {
            Some(Reply::Arrived(arrived)) => Some(arrived),
            _ => None,
        };
        self.settle_members(&job, ended, vec![batch], arrived, true);
        self.look_for_a_missing_endpoint(0, state, reading.status);
    }

    /// Notes what became of records of a call, in one step with how far the calls are.
    fn settle_members(
        &mut self,
        job: &Job,
        ended: Vec<Ended>,
        batches: Vec<BatchRow>,
        arrived: Option<&Arrived>,
        shares_reply: bool,
    ) {
        let number = batches.first().map_or(0, |batch| batch.number);
        let mut rows = Vec::with_capacity(ended.len());
        let mut told: Vec<(Identity, u64, Outcome)> = Vec::with_capacity(ended.len());
        for (at, Ended { member, state, reading, reply }) in ended.into_iter().enumerate() {
            let Member { identity, made, generation, block, .. } = member;
            let attempts = made + job.made;
            if matches!(state, State::Failed | State::InDoubt) && job.made_now > 0 {
                let why = (reading.status, &*reading.class, &*reading.message);
                self.with.writer.attempt(identity.ordinal, attempts, why, None);
            }
            let outcome = Outcome {
                state,
                status: reading.status,
                class: reading.class,
                message: reading.message,
                attempts,
                captures: if state == State::Delivered { reading.captures } else { Value::Absent },
            };
            let mut row: RecordRow = identity.outcome_row(&outcome);
            row.generation = generation;
            if state == State::InDoubt {
                // The request is the call's and not the record's: no digest of it is kept here.
                row.unknown = true;
                row.first_at = job.first_at;
            }
            if !self.holds(state) {
                row.order_hash = 0;
            }
            let line = arrived.filter(|_| self.with.keeps_responses).map(|arrived| {
                // The reply to the whole stands beside the first record only.
                let part = reply.or_else(|| (at > 0 || !shares_reply).then(|| Arc::new(Value::Null)));
                let exchange = Exchange {
                    ordinal: identity.ordinal,
                    place: &identity.place,
                    key: identity.key.as_deref(),
                    request: &job.request,
                    reply: arrived,
                    step: "",
                    state: outcome.state,
                    captures: &outcome.captures,
                    call: Some((number, part)),
                };
                exchange.line(&self.with.mask)
            });
            rows.push((row, line));
            told.push((identity, block, outcome));
        }
        let written = self.with.writer.settled_batch(rows, batches);
        for (identity, block, outcome) in told {
            self.noted(written, block, outcome.state);
            self.leave_order(&identity, outcome.state);
            if matches!(outcome.state, State::Delivered | State::Failed | State::Skipped)
                && let Some(enough) =
                    self.budget.record_settled((outcome.state == State::Failed).then_some(&*outcome.class))
            {
                self.enough(&enough);
            }
            self.tell(identity, outcome);
        }
    }

    /// Takes out of a call what stands behind held records; those stay unsent. Gives the call if anything is
    /// left of it.
    pub(super) fn without_held(&mut self, mut job: Box<Job>) -> Option<Box<Job>> {
        let is_sent = job.is_sent();
        let Some(call) = &mut job.call else { return Some(job) };
        let order = &self.schedule.order;
        if is_sent && call.members.iter().any(|member| order.held_by(member.identity.order_hash).is_some()) {
            // It goes out as it was, or not at all: its row says so.
            return None;
        }
        let out = call.take_out(|member| order.held_by(member.identity.order_hash).is_some());
        if out.is_empty() {
            return Some(job);
        }
        let is_empty = call.members.is_empty();
        for member in out {
            let before = self.schedule.order.held_by(member.identity.order_hash).unwrap_or_default();
            self.leave_member_behind(&member, before);
        }
        (!is_empty).then_some(job)
    }

    /// Makes the request of a call anew out of which records were taken before it was ever sent.
    pub(super) fn fresh(&mut self, mut job: Box<Job>) -> Option<Box<Job>> {
        if !job.call.as_ref().is_some_and(|call| call.is_stale) {
            return Some(job);
        }
        let replies_before = job.replies_before;
        let call = job.call.take()?;
        match self.with.assembler?.new_call(*call) {
            Ok(mut next) => {
                next.replies_before = replies_before;
                Some(next)
            }
            Err((members, refused)) => {
                let ended = without_call(members, refused, State::Failed);
                self.settle_members(&job, ended, Vec::new(), None, false);
                None
            }
        }
    }
}
