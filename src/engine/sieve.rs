//! One record after the other to what a start does with it: settled before, left out, sent, or
//! settled without being sent.
//!
//! Apart from the thread that reads, so that `plan` and `preview` ask the same rules without a
//! checkpoint to write to.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{Record, State};
use crate::outcome::RecordRow;
use crate::render::RunValues;

use super::block::{Identity, Job, Prepared, Settled};
use super::narrow::Narrow;
use super::prepare::{Idempotency, NO_STEP, Part, Preparer, Shaped, settled};
use super::steps::{Next, Passed};
use super::survey::{Drop, RunIds, drop_of};

/// What is asked of every record, in order.
pub struct Sieve {
    /// Records to requests.
    pub preparer: Arc<Preparer>,
    /// Values of the run.
    pub run: RunValues,
    /// What earlier starts know of the records to come.
    pub known: Known,
    /// Records that are not sent because of their key, sorted.
    pub dropped: Arc<[(u64, u64)]>,
    /// Ids of the kept runs, for messages.
    pub run_ids: RunIds,
    /// Where only certain keys may be sent: their hashes, ascending ([`super::Start::deletes`]).
    pub only_keys: Option<Arc<[u64]>>,
    /// What this start leaves out on purpose.
    pub narrow: Narrow,
    /// `select.limit`
    pub limit: Option<u64>,
    /// Records so far that count for the limit.
    pub selected: u64,
    /// Records so far that are sent.
    pub sent: u64,
}

/// What a start does with one record.
#[derive(Debug)]
pub enum Sieved {
    /// Nothing: an earlier start settled it.
    Before,
    /// Nothing: this start leaves it pending on purpose.
    LeftOut,
    /// This.
    Ready(Prepared),
    /// It goes out in a call with others.
    Part(Box<Part>),
}

/// What earlier starts left behind, from the first record that is not settled on.
#[derive(Debug, Default)]
pub struct Known {
    /// Bits of settled ordinals, counted from `base`.
    settled: Vec<u64>,
    base: u64,
    /// Rows of records that are open.
    pub open: HashMap<u64, RecordRow>,
    /// The calls with several records to which open ones belong, by number.
    pub calls: HashMap<u64, u64>,
}

impl Known {
    /// Nothing is known of records from `base` on.
    #[must_use]
    pub fn new(base: u64) -> Self {
        Self { base, ..Self::default() }
    }

    /// Notes that a record is settled.
    pub fn settle(&mut self, ordinal: u64) {
        let Some(at) = ordinal.checked_sub(self.base) else { return };
        let word = usize::try_from(at / 64).unwrap_or(usize::MAX);
        if word >= self.settled.len() {
            self.settled.resize(word + 1, 0);
        }
        self.settled[word] |= 1 << (at % 64);
    }

    /// Whether a record is settled.
    #[must_use]
    pub fn is_settled(&self, ordinal: u64) -> bool {
        let Some(at) = ordinal.checked_sub(self.base) else { return true };
        let word = usize::try_from(at / 64).unwrap_or(usize::MAX);
        self.settled.get(word).is_some_and(|bits| bits >> (at % 64) & 1 == 1)
    }
}

impl Sieve {
    /// Whether enough was sent for this start.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.narrow.is_over(self.sent)
    }

    /// What becomes of the next record of the input.
    pub fn take(&mut self, record: Record) -> Sieved {
        let drop = drop_of(&self.dropped, record.ordinal);
        if let Some(held) = self.known.open.get(&record.ordinal).filter(|row| row.state == State::InDoubt) {
            let held = held.clone();
            return self.look_at(record, &held);
        }
        if self.known.is_settled(record.ordinal) {
            if self.limit.is_some() && drop.is_none() && self.preparer.shape(record, &self.run).is_ok() {
                self.selected += 1;
            }
            return Sieved::Before;
        }
        if self.narrow.is_over(self.sent) || !self.narrow.wants(record.ordinal) {
            return Sieved::LeftOut;
        }
        let known = self.known.open.remove(&record.ordinal);
        let mut shaped = match self.preparer.shape(record, &self.run) {
            Ok(shaped) => shaped,
            Err(settled) if is_spoken_for(known.as_ref()) => {
                let Settled { identity, outcome, .. } = *settled;
                return left_over(identity, (outcome.class, outcome.message), known);
            }
            // A record that would not be sent is settled by a start that looks at all of them.
            Err(_) if self.narrow.is_selective() => return Sieved::LeftOut,
            Err(settled) => return Sieved::Ready(Prepared::Settled(settled)),
        };
        let may_be_sent = |keys: &Arc<[u64]>| keys.binary_search(&shaped.identity.key_hash).is_ok();
        if !self.only_keys.as_ref().is_none_or(may_be_sent) {
            let message = "as things are now it is not to be deleted".to_owned();
            if is_spoken_for(known.as_ref()) {
                return left_over(shaped.identity, ("kept".into(), message), known);
            }
            let settled = settled(shaped.identity, State::Skipped, "kept", message);
            return Sieved::Ready(Prepared::Settled(settled));
        }
        // Of what may have been deleted a person says that it is sent, by a retry.
        let is_said = known.is_some() && matches!(drop, Some(Drop::DeletingSince(_)));
        if let Some(drop) = drop.filter(|_| !is_said && !is_spoken_for(known.as_ref())) {
            let (state, class, message) = drop.outcome(&self.run_ids);
            let settled = settled(shaped.identity, state, class, message);
            return Sieved::Ready(Prepared::Settled(settled));
        }
        if let Some(limit) = self.limit {
            if self.selected >= limit && !is_spoken_for(known.as_ref()) {
                let message = format!("beyond `select.limit: {limit}`");
                let settled = settled(shaped.identity, State::Skipped, "limit", message);
                return Sieved::Ready(Prepared::Settled(settled));
            }
            self.selected += 1;
        }
        if !self.narrow.keeps(&shaped) {
            return Sieved::LeftOut;
        }
        if self.preparer.keep_content {
            shaped.identity.sends = self.preparer.content(&shaped);
        }
        if self.preparer.batch.is_some() {
            let is_other =
                |row: &RecordRow| row.unknown && row.digest != 0 && row.digest != shaped.identity.digest;
            if known.as_ref().is_some_and(is_other) {
                return still_in_doubt(shaped.identity, known);
            }
            return match self.preparer.part_of(&mut shaped, known.as_ref()) {
                Ok(mut part) => {
                    part.call = self.known.calls.get(&part.member.identity.ordinal).copied();
                    self.sent += 1;
                    Sieved::Part(Box::new(part))
                }
                Err(_) if may_have_arrived(known.as_ref()) => still_in_doubt(shaped.identity, known),
                Err(refused) => Sieved::Ready(Prepared::Settled(refused.settle(shaped.identity))),
            };
        }
        let generation = known.as_ref().map_or(0, |row| row.generation);
        let Some(passed) = self.preparer.passed(known.as_ref()) else {
            let why = ("step-gone".into(), STEP_GONE.into());
            return left_over(shaped.identity, why, known);
        };
        let next = match self.preparer.request_after(&mut shaped, &self.run, generation, &passed) {
            Ok(Some(next)) => next,
            Ok(None) => return self.without_step(shaped.identity, &passed, known),
            Err(_) if may_have_arrived(known.as_ref()) => return still_in_doubt(shaped.identity, known),
            Err(stuck) => {
                let id = &self.preparer.steps.of(stuck.step).id;
                let refused = stuck.refused.of_step(id);
                if !is_spoken_for(known.as_ref()) {
                    return Sieved::Ready(Prepared::Settled(refused.settle(shaped.identity)));
                }
                let mut passed = passed;
                passed.stand_at(id);
                let known = known.map(|row| RecordRow { captures: passed.text(), ..row });
                return left_over(shaped.identity, refused.words(), known);
            }
        };
        if let Some(why) = known.as_ref().and_then(|row| self.other_bytes(row, &shaped, &next)) {
            return Sieved::Ready(Prepared::Held(self.job(shaped, next, passed, known.as_ref()), why));
        }
        self.sent += 1;
        Sieved::Ready(Prepared::Send(self.job(shaped, next, passed, known.as_ref())))
    }

    /// Why a record that may have arrived must not go out as it is rendered now (P15): under its
    /// idempotency key only the same bytes are the same request, and a row that was sent from another
    /// file must not be followed by the one that stands here.
    fn other_bytes(&self, row: &RecordRow, shaped: &Shaped, next: &Next) -> Option<&'static str> {
        if !row.unknown || row.request == 0 || row.request == next.request.digest() {
            return None;
        }
        if !matches!(self.preparer.steps.of(next.step).idempotency, Idempotency::None) {
            return Some("may have arrived, and its idempotency key belongs to a request with other bytes");
        }
        // What a record names is not in its own digest.
        let has_files = next.request.form.as_ref().is_some_and(|form| form.has_files());
        (has_files || row.digest != shaped.identity.digest)
            .then_some("may have arrived with other content than the input has now")
    }

    /// A record of which no step is left: all that was for it is delivered, or nothing was for it.
    fn without_step(&self, identity: Identity, passed: &Passed, known: Option<RecordRow>) -> Sieved {
        let mut settled = settled(identity, State::Skipped, "when", NO_STEP.into());
        if self.preparer.wrote(passed) {
            let outcome = &mut settled.outcome;
            (outcome.state, outcome.class, outcome.message) =
                (State::Delivered, String::new(), String::new());
            outcome.captures = passed.to_value();
            outcome.attempts = known.as_ref().map_or(0, |row| row.attempts);
        }
        let text = |row: RecordRow| RecordRow { captures: passed.without_place().text(), ..row };
        settled.known = known.map(text).map(Box::new);
        Sieved::Ready(Prepared::Settled(settled))
    }

    fn job(&self, shaped: Shaped, next: Next, mut passed: Passed, known: Option<&RecordRow>) -> Box<Job> {
        let mut job = Box::new(Job::new(shaped.identity, next.request, known));
        job.step = next.step;
        if self.preparer.has_steps() {
            passed.stand_at(&self.preparer.steps.of(next.step).id);
            job.passed = Some(Box::new(passed));
        }
        job.context = self.preparer.keep_contexts.then(|| Box::new(shaped.context));
        job
    }

    /// A record in doubt about which the far side is to be asked. It stays in doubt whatever the
    /// record is like today; only the request that may have arrived can be asked about.
    fn look_at(&mut self, record: Record, held: &RecordRow) -> Sieved {
        let ordinal = record.ordinal;
        if self.limit.is_some() {
            self.selected += 1;
        }
        if !self.narrow.wants(ordinal) {
            return Sieved::Before;
        }
        let Ok(mut shaped) = self.preparer.shape(record, &self.run) else { return Sieved::Before };
        if !self.narrow.keeps(&shaped) {
            return Sieved::Before;
        }
        if self.preparer.keep_content {
            shaped.identity.sends = self.preparer.content(&shaped);
        }
        let Some(passed) = self.preparer.passed(Some(held)) else { return Sieved::Before };
        match self.preparer.request_after(&mut shaped, &self.run, held.generation, &passed) {
            Ok(Some(next)) if held.request == 0 || held.request == next.request.digest() => {
                Sieved::Ready(Prepared::Send(self.job(shaped, next, passed, Some(held))))
            }
            _ => Sieved::Before,
        }
    }
}

fn may_have_arrived(known: Option<&RecordRow>) -> bool {
    known.is_some_and(|row| row.unknown)
}

/// Whether a call of it arrived or may have: then it is not as if nothing was sent of it.
fn is_spoken_for(known: Option<&RecordRow>) -> bool {
    known.is_some_and(|row| row.unknown || row.is_half_done())
}

const STEP_GONE: &str = "a call of it was delivered that the pipeline does not have any more";

/// A record of which a call arrived or may have, and whose next one cannot be made: what is known stays.
fn left_over(identity: Identity, (class, message): (String, String), known: Option<RecordRow>) -> Sieved {
    if may_have_arrived(known.as_ref()) {
        return still_in_doubt(identity, known);
    }
    let mut failed = settled(identity, State::Failed, &class, message);
    failed.outcome.attempts = known.as_ref().map_or(0, |row| row.attempts);
    failed.known = known.map(Box::new);
    Sieved::Ready(Prepared::Settled(failed))
}

/// A record that may have arrived and would not be sent as things stand today: that says nothing of
/// what became of it.
fn still_in_doubt(identity: Identity, known: Option<RecordRow>) -> Sieved {
    let message = "may have arrived, and could not be sent as the pipeline is today";
    let mut held = settled(identity, State::InDoubt, "request-changed", message.into());
    if let Some(row) = &known {
        held.outcome.attempts = row.attempts;
    }
    held.known = known.map(Box::new);
    Sieved::Ready(Prepared::Settled(held))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settled_records_are_known_by_bit() {
        let mut known = Known::new(100);
        for ordinal in [100, 163, 164, 5000] {
            known.settle(ordinal);
        }
        let settled: Vec<u64> = (100..6000).filter(|ordinal| known.is_settled(*ordinal)).collect();
        assert_eq!(settled, [100, 163, 164, 5000]);
        assert!(known.is_settled(99), "below the base all is settled");
    }
}
