//! Asks the far side about records in doubt, in the loop that sends.
//!
//! A look takes a lane and a turn of the rate like any request, but is no attempt: it changes
//! nothing over there. While a record is asked about, what has to follow it in order waits.
//! Invariant: on disk the record stays in doubt until a look has decided, so that a stop or a crash
//! at any moment leaves it where it was.

use std::sync::Arc;
use std::time::Instant;

use super::lanes::attempt;
use super::{Loop, Stopped};
use crate::config::Mode;
use crate::deliver::{Found, Meaning, Pass, Reading, Turn, backoff};
use crate::engine::block::{Doubt, Job};
use crate::model::{Class, Diagnostic, Reply, State, Value};
use crate::outcome::RecordRow;

impl Loop<'_> {
    /// Takes a record that an earlier start left in doubt.
    pub(super) fn enter_doubt(&mut self, job: Box<Job>) {
        // It is open now: the counts say so until a look has decided, or the start ends.
        let counts = &mut self.with.counts;
        counts.in_doubt = counts.in_doubt.saturating_sub(1);
        counts.unsent += 1;
        let (hash, ordinal) = (job.identity.order_hash, job.identity.ordinal);
        if let Some(ordinals) = self.undecided.get_mut(&hash) {
            ordinals.remove(&ordinal);
        }
        match self.schedule.order.enter(hash, job) {
            Turn::Go(job) => self.look_after_a_while(job, Instant::now()),
            Turn::Waits => {}
            Turn::Behind(job, ordinal) => {
                self.hold_doubt(job, Some(&format!("behind record {} in doubt", ordinal + 1)));
            }
        }
    }

    /// An attempt ended unknown: the far side is asked before anything else is done.
    pub(super) fn ask_later(&mut self, mut job: Box<Job>, reading: Reading, now: Instant) {
        let after = self.rules(&job).prober().map(|prober| prober.after);
        let why = (reading.status, &*reading.class, &*reading.message);
        self.with.writer.attempt(job.identity.ordinal, job.made, why, after);
        let Reading { status, class, message, .. } = reading;
        job.doubt = Some(Box::new(Doubt { looks: 0, status, class, message }));
        self.look_after_a_while(job, now);
    }

    fn look_after_a_while(&mut self, job: Box<Job>, now: Instant) {
        let Some(prober) = self.rules(&job).prober() else { return self.hold_doubt(job, None) };
        self.schedule.later(now + prober.after, job);
    }

    /// Begins a look in a lane.
    pub(super) fn start_look(
        &mut self,
        job: Box<Job>,
        lane: usize,
        pass: Pass,
        first: Option<Instant>,
        now: Instant,
    ) {
        let look = match (self.rules(&job).prober(), &job.context) {
            (Some(prober), Some(context)) => {
                prober.request(context, &job.request).map_err(|error| error.message)
            }
            _ => Err("its record cannot be read any more".to_owned()),
        };
        match look {
            Ok(look) => {
                let sender = self.with.sender.clone();
                self.flying.push(Box::pin(attempt(lane, sender, Arc::new(look), pass, None, now)));
                self.lanes[lane] = Some(job);
            }
            Err(why) => {
                self.free.push(lane);
                self.was_not_sent(first, now);
                self.hold_doubt(job, Some(&format!("the look at it cannot be made: {why}")));
            }
        }
    }

    /// Acts on the end of a look.
    pub(super) fn finish_look(&mut self, mut job: Box<Job>, reply: &Reply, now: Instant) {
        let (Some(prober), Some(context)) = (self.rules(&job).prober(), &job.context) else {
            return self.hold_doubt(job, None);
        };
        let found = prober.read(context, &job.request, reply);
        let status = match reply {
            Reply::Arrived(arrived) => {
                self.replies += 1;
                self.budget.attempt_was_answered(job.step);
                arrived.status.as_u16()
            }
            Reply::Lost(_) => {
                if let Some(enough) = self.budget.attempt_was_bad(job.step, false) {
                    self.enough(&enough);
                }
                0
            }
        };
        self.note_look(&job, status, &found);
        let looks = job.doubt.as_ref().map_or(0, |doubt| doubt.looks);
        match found {
            Found::Applied(captures) => {
                self.asked.applied += 1;
                job.unknown = false;
                let reading = Reading {
                    meaning: Meaning::Acted,
                    status,
                    class: "reconciled".into(),
                    message: "a look found that it had arrived".into(),
                    captures,
                    captures_lost: false,
                    pause: None,
                };
                self.delivered(job, reading, None);
            }
            Found::NotApplied => {
                self.asked.not_applied += 1;
                self.did_not_arrive(job, status, now);
            }
            Found::Unclear(..) if looks < prober.tries.get() && self.stopped.is_none() => {
                let asked = match found {
                    Found::Unclear(_, Some(asked)) => asked.min(self.with.delivery.retry.max_retry_after),
                    _ => prober.after,
                };
                self.schedule.later(now + asked.max(prober.after), job);
            }
            Found::Unclear(..) if looks < prober.tries.get() => self.hold_unasked(job),
            Found::Unclear(why, _) => {
                self.asked.unclear += 1;
                let times = if looks == 1 { "1 look".to_owned() } else { format!("{looks} looks") };
                self.hold_doubt(job, Some(&format!("{times} could not tell: {why}")));
            }
            Found::Refused(why) => {
                // Nothing was found out: the next start asks again.
                self.hold_unasked(job);
                let why = if why.is_empty() {
                    format!("{} answered 401 to a look at what may have arrived", self.with.host)
                } else {
                    why
                };
                let diagnostic = Diagnostic::error("credentials-refused", why.clone()).help(format!(
                    "correct the credentials of connection `{}`, then go on with the same command",
                    self.with.connection
                ));
                self.stop(Stopped { class: Class::Halted, why, diagnostics: vec![diagnostic], signal: None });
            }
        }
    }

    fn note_look(&mut self, job: &Job, status: u16, found: &Found) {
        let what = match found {
            Found::Applied(_) => "it had arrived",
            Found::NotApplied => "it had not arrived",
            Found::Unclear(why, _) => why,
            Found::Refused(_) => "the credentials were refused",
        };
        let detail = if status == 0 { what.to_owned() } else { format!("{status}: {what}") };
        self.with.writer.note(Some(job.identity.ordinal), "look", detail);
    }

    /// The look says that nothing arrived: it may go out as if for the first time.
    fn did_not_arrive(&mut self, mut job: Box<Job>, status: u16, now: Instant) {
        if self.with.delivery.mode == Mode::AtMostOnce {
            // P6: only a command that names it sends it again.
            let why = "the look found nothing; `runner resolve --resend` would send it";
            return self.hold_doubt(job, Some(why));
        }
        job.unknown = false;
        job.doubt = None;
        // Pending, and without a grant: before it leaves again its intent is written.
        self.broken |= !self.with.writer.row(RecordRow { granted: true, ..job.row(State::Pending) });
        job.has_row = true;
        if self.with.only_asks {
            self.release(job.identity.order_hash);
            return;
        }
        if job.made_now >= self.with.delivery.retry.attempts.get() {
            let reading = Reading {
                meaning: Meaning::NotSent,
                status,
                class: "not-applied".into(),
                message: "the tries ran out, and a look found that none had arrived".into(),
                captures: Value::Absent,
                captures_lost: false,
                pause: None,
            };
            return self.settle(job, State::Failed, reading, None);
        }
        let wait = backoff(job.made_now.max(1), &self.with.delivery.retry, fastrand::f64());
        self.schedule.later(now + wait, job);
    }

    /// Leaves a record in doubt whose looks were cut short: the next start asks again.
    pub(super) fn hold_unasked(&mut self, mut job: Box<Job>) {
        if let Some(doubt) = &mut job.doubt {
            doubt.looks = 0;
        }
        self.hold_doubt(job, None);
    }

    /// Leaves a record in doubt, as it was and with what the looks said.
    pub(super) fn hold_doubt(&mut self, mut job: Box<Job>, why: Option<&str>) {
        job.unknown = true;
        let Some(doubt) = job.doubt.as_ref() else { return };
        let message = match why {
            None => doubt.message.clone(),
            Some(why) if doubt.message.is_empty() => why.to_owned(),
            Some(why) => {
                // What an earlier start's looks said is old.
                let cause = doubt.message.split("; ").next().unwrap_or_default();
                format!("{cause}; {why}")
            }
        };
        let (status, class) = (doubt.status, doubt.class.clone());
        let reading = Reading { status, message, ..Reading::without_reply(&class, "") };
        self.settle(job, State::InDoubt, reading, None);
    }

    /// Lets the next record of an order value go.
    pub(super) fn release(&mut self, hash: u64) {
        if hash == 0 {
            return;
        }
        if let Some(next) = self.schedule.order.leave(hash) {
            if next.doubt.is_some() {
                self.look_after_a_while(next, Instant::now());
            } else {
                self.schedule.ready(next);
            }
        }
    }
}
