//! What follows the end of an attempt: the outcome, another try, or the end of the start.
//!
//! The part of the loop that acts on verdicts; what they are is `deliver::judge`'s. Apart from the
//! loop itself, which only starts and waits.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::{Landed, Loop, Seen, Stopped};
use crate::config::{InDoubt, OnFailure};
use crate::deliver::{Enough, Felt, Landing, Meaning, Reading, Tries, Verdict, headers, judge};
use crate::engine::block::{Identity, Job};
use crate::engine::prepare::{NO_STEP, said_of};
use crate::engine::steps::Next;
use crate::model::{Class, Diagnostic, Event, Lost, Outcome, Pause, Reply, State, Value};
use crate::outcome::{BatchState, Exchange, RecordRow};

impl Loop<'_> {
    pub(super) fn finish(&mut self, landed: Landed) {
        let Landed { lane, reply, pass, began, took } = landed;
        let Some(mut job) = self.lanes.get_mut(lane).and_then(Option::take) else { return };
        let Some(reply) = reply else {
            // The intent could not be written: the request never left.
            self.broken = true;
            return;
        };
        if pass.may_be_renewed_after(&reply) {
            return self.renew_pass(lane, job, pass, began);
        }
        self.free.push(lane);
        let now = Instant::now();
        if job.doubt.is_some() {
            // A look is another request than those that lanes are measured by.
            self.learn(&reply, None, began, now);
            self.finish_look(job, &reply, now);
            return;
        }
        let rules = self.rules(&job);
        let reading = rules.reader.read(&reply, &job.request);
        self.with.observer.attempted(job.identity.ordinal, &job.request, &reply, took);
        self.learn(&reply, Some(&reading.meaning), began, now);
        self.note_pause(&reading, now);
        if matches!(reply, Reply::Arrived(_)) {
            self.replies += 1;
        } else if rules.in_doubt != InDoubt::Resend {
            // A reused connection that broke looks the same whether the far side acted or not.
            self.with.sender.avoid_reuse();
        }
        let Some((taken, reading)) = self.take_apart(job, reading, &reply, (began, now)) else { return };
        job = taken;
        let tries = Tries { made: job.made_now, earlier_unknown: job.unknown };
        let verdict =
            judge(&reading.meaning, tries, rules.in_doubt, &self.with.delivery.retry, fastrand::f64());
        job.unknown |= reading.meaning == Meaning::Unknown;
        self.weigh(job.step, &reading, verdict);
        match verdict {
            Verdict::Delivered => self.delivered(job, reading, Some(&reply)),
            Verdict::Failed => self.settle(job, State::Failed, reading, Some(&reply)),
            Verdict::Skipped if reading.meaning == Meaning::NotNeeded => {
                self.settle(job, State::Skipped, reading, Some(&reply));
            }
            Verdict::Skipped => {
                let message = format!("may have arrived ({}); skipped by `in_doubt: skip`", reading.class);
                let reading = Reading { class: "in_doubt".into(), message, ..reading };
                self.settle(job, State::Skipped, reading, Some(&reply));
            }
            Verdict::InDoubt if rules.prober().is_some() && job.context.is_some() => {
                self.ask_later(job, reading, now);
            }
            Verdict::InDoubt => self.settle(job, State::InDoubt, reading, Some(&reply)),
            Verdict::Again { after } => self.again(job, &reading, after, now),
            Verdict::GaveUp => self.give_up(job, reading),
            Verdict::TooLong { asked } => {
                self.put_back_one(&job);
                let is_of_token = reading.class == Lost::TOKEN_UNAVAILABLE;
                let host = if is_of_token { "the token endpoint" } else { &self.with.host };
                self.stop(Stopped {
                    class: Class::Stopped,
                    why: format!("{host} asked to wait {}", humantime::format_duration(asked)),
                    diagnostics: vec![too_long(host, asked, self.with.delivery.retry.max_retry_after)],
                    signal: None,
                });
            }
            Verdict::Stop => self.refused_credentials(job, &reading, now),
        }
    }

    /// What the end of an attempt says of how much the far side takes; `meaning` is `None` for a look.
    fn learn(&mut self, reply: &Reply, meaning: Option<&Meaning>, began: Instant, now: Instant) {
        if !self.schedule.learns() {
            return;
        }
        let felt = match Felt::of(reply, meaning) {
            Felt::Answered if meaning.is_none() => Felt::Nothing,
            felt => felt,
        };
        let window = match reply {
            // One that lasts longer than is ever waited is no pace of this start: running into it ends it.
            Reply::Arrived(arrived) => headers::left(&arrived.headers, SystemTime::now())
                .filter(|window| window.ends_in <= self.with.delivery.retry.max_retry_after),
            Reply::Lost(_) => None,
        };
        self.felt(felt, window, began, now);
    }

    pub(super) fn felt(&mut self, felt: Felt, window: Option<headers::Window>, began: Instant, now: Instant) {
        let in_flight = self.lanes.len() - self.free.len();
        let to_send =
            self.with.counts.unsent / self.with.call_size as u64 * self.with.rules.iter().len() as u64;
        self.schedule.landed(now, Landing { began, felt, window, in_flight, to_send });
    }

    /// What came of the calls of a step.
    pub(super) fn seen_of(&mut self, step: usize) -> &mut Seen {
        // As many as there are steps.
        let at = step.min(self.seen.len() - 1);
        &mut self.seen[at]
    }

    /// Looks at the error budget after an attempt.
    fn weigh(&mut self, step: usize, reading: &Reading, verdict: Verdict) {
        let bad = match &reading.meaning {
            Meaning::Unknown | Meaning::NotSent | Meaning::NotNow { .. } => true,
            Meaning::Acted | Meaning::Refused { .. } | Meaning::NotNeeded | Meaning::Stop => false,
        };
        if bad {
            if let Some(enough) = self.budget.attempt_was_bad(step, verdict == Verdict::InDoubt) {
                self.enough(&enough);
            }
        } else {
            self.budget.attempt_was_answered(step);
        }
        let seen = self.seen_of(step);
        seen.good += u64::from(reading.meaning == Meaning::Acted);
        if reading.meaning != Meaning::Stop && !bad {
            seen.stops_in_a_row = 0;
        }
    }

    pub(super) fn enough(&mut self, enough: &Enough) {
        let class = match enough {
            Enough::Consecutive { in_doubt: false, .. } => Class::Stopped,
            _ => Class::Halted,
        };
        let rule = if class == Class::Halted { "error-budget" } else { "far-side-down" };
        let diagnostic = Diagnostic::error(rule, enough.words())
            .note(format!("the far side is {}", self.with.host))
            .help("look at the reasons below and mend their cause, then start the same command again");
        self.stop(Stopped { class, why: enough.words(), diagnostics: vec![diagnostic], signal: None });
    }

    /// Times of windows are whole seconds: of one that others told of too, the end is known closer.
    fn closer(&self, wait: Duration, now: Instant) -> Duration {
        const ROUNDED: Duration = Duration::from_secs(2);
        let known = self.schedule.window_ends().map(|ends| ends.saturating_duration_since(now));
        known.filter(|known| *known < wait && wait <= *known + ROUNDED).unwrap_or(wait)
    }

    fn note_pause(&mut self, reading: &Reading, now: Instant) {
        let wait = match reading.meaning {
            Meaning::NotNow { asked: Some(asked) } => Some(asked),
            // Shorter ones are nothing to tell.
            Meaning::NotNow { asked: None } if reading.pause.is_none() => {
                self.schedule.hold(now).filter(|hold| *hold >= Duration::from_secs(1))
            }
            _ => reading.pause.map(|wait| self.closer(wait, now)).filter(|wait| !wait.is_zero()),
        };
        let Some(wait) = wait.filter(|wait| *wait <= self.with.delivery.retry.max_retry_after) else {
            return;
        };
        if self.schedule.pause(now + wait) && self.stopped.is_none() {
            self.paused = true;
            let why = match reading.status {
                0 if reading.class == Lost::TOKEN_UNAVAILABLE => "the token endpoint".to_owned(),
                0 => self.with.host.clone(),
                status => format!("{status} from {}", self.with.host),
            };
            self.with.observer.event(&Event::Paused(Some(Pause { wait, why })));
        }
    }

    /// A call arrived: the next one of its record follows, or the record is delivered.
    pub(super) fn delivered(&mut self, mut job: Box<Job>, mut reading: Reading, reply: Option<&Reply>) {
        let preparer = self.with.preparer;
        let (Some(passed), Some(context)) = (&mut job.passed, &mut job.context) else {
            return self.settle(job, State::Delivered, reading, reply);
        };
        let step = preparer.steps.of(job.step);
        let kept = passed.add(&step.id, reading.status, &reading.captures);
        let (ordinal, generation) = (job.identity.ordinal, job.generation);
        let stuck = match preparer.next(context, &self.with.run, ordinal, generation, passed) {
            Ok(None) if preparer.wrote(passed) => return self.settle(job, State::Delivered, reading, reply),
            Ok(None) => {
                // A look alone delivers nothing.
                (reading.class, reading.message) = ("when".into(), NO_STEP.into());
                return self.settle(job, State::Skipped, reading, reply);
            }
            Ok(Some(next)) if reading.captures_lost || kept.is_err() => {
                let message = format!(
                    "the reply to step {} brought what cannot be kept: more than 4 KiB, or a secret",
                    step.id
                );
                (next.step, ("captures-lost".into(), message))
            }
            Ok(Some(next)) => return self.go_on(job, next, &reading, reply),
            Err(stuck) => (stuck.step, stuck.refused.words()),
        };
        // What was delivered stays so; what should have followed cannot be made.
        let line = self.response(&job, State::Pending, &reading, reply);
        let (step, (class, message)) = stuck;
        if let Some(passed) = &mut job.passed {
            passed.stand_at(&preparer.steps.of(step).id);
        }
        (job.step, job.made_now, job.unknown, job.doubt) = (step, 0, false, None);
        let reading = Reading { status: 0, ..Reading::without_reply(&class, &message) };
        self.settle_with(*job, State::Failed, reading, line);
    }

    /// Takes a record to its next call. What the last one brought is noted before that leaves.
    fn go_on(&mut self, mut job: Box<Job>, next: Next, reading: &Reading, reply: Option<&Reply>) {
        let response = self.response(&job, State::Pending, reading, reply);
        job.step = next.step;
        job.request = Arc::new(next.request);
        (job.made_now, job.first_at, job.unknown) = (0, 0, false);
        job.doubt = None;
        if let Some(passed) = &mut job.passed {
            passed.stand_at(&self.with.preparer.steps.of(next.step).id);
        }
        // From here on a row speaks of it, so every attempt has an intent. Where that survives a loss of
        // power, a row without one says that nothing left.
        job.has_row = true;
        let row = RecordRow { granted: !self.is_durable(&job), ..job.row(State::Pending) };
        self.broken |= !self.with.writer.settled(row, response);
        if self.with.only_asks {
            self.release(job.identity.order_hash);
        } else {
            self.schedule.ready_first(job);
        }
    }

    /// Whether the intent of a call has to survive a loss of power: a call before it may be all that is on
    /// disk, and only one whose repeat is harmless may then go out as if for the first time.
    pub(super) fn is_durable(&self, job: &Job) -> bool {
        job.step > 0 && self.with.durable_steps && !self.rules(job).is_natural
    }

    /// The line of a reply for `responses.ndjson`, where replies are kept.
    fn response(&self, job: &Job, state: State, reading: &Reading, reply: Option<&Reply>) -> Option<Vec<u8>> {
        let Some(Reply::Arrived(reply)) = reply.filter(|_| self.with.keeps_responses) else { return None };
        let step = &self.with.preparer.steps.of(job.step).id;
        let exchange = Exchange {
            ordinal: job.identity.ordinal,
            place: &job.identity.place,
            key: job.identity.key.as_deref(),
            step,
            request: &job.request,
            reply,
            state,
            captures: if matches!(state, State::Delivered | State::Pending) {
                &reading.captures
            } else {
                &Value::Absent
            },
            call: None,
        };
        Some(exchange.line(&self.with.mask))
    }

    pub(super) fn settle(&mut self, job: Box<Job>, state: State, reading: Reading, reply: Option<&Reply>) {
        if job.call.is_some() {
            return self.settle_call(job, state, &reading, reply);
        }
        let line = self.response(&job, state, &reading, reply);
        self.settle_with(*job, state, reading, line);
    }

    fn settle_with(&mut self, job: Job, state: State, reading: Reading, response: Option<Vec<u8>>) {
        if matches!(state, State::Failed | State::InDoubt) && job.doubt.is_none() && job.made_now > 0 {
            // What a person or a retry decides later goes over the row; this stays.
            let why = (reading.status, &*reading.class, &*reading.message);
            self.with.writer.attempt(job.identity.ordinal, job.made, why, None);
        }
        let captures = match &job.passed {
            Some(passed) => passed.to_value(),
            None if state == State::Delivered => reading.captures,
            None => Value::Absent,
        };
        let step = &self.with.preparer.steps.of(job.step).id;
        let message = match state {
            State::Delivered | State::Skipped if reading.class != "in_doubt" => reading.message,
            _ => said_of(step, reading.message),
        };
        let outcome = Outcome {
            state,
            status: reading.status,
            class: reading.class,
            message,
            attempts: job.made,
            captures,
        };
        let mut row = job.identity.outcome_row(&outcome);
        row.unknown = job.unknown;
        row.looked = state == State::InDoubt && job.doubt.as_ref().is_some_and(|doubt| doubt.looks > 0);
        row.generation = job.generation;
        if let (Some(passed), false) = (&job.passed, state == State::Delivered) {
            row.captures = passed.text();
        }
        if job.unknown || state == State::InDoubt {
            row.first_at = job.first_at;
        }
        if state == State::InDoubt {
            row.request = job.request.digest();
        }
        if !self.holds(state) {
            // Only what others wait behind needs it later, and it is half of a row.
            row.order_hash = 0;
        }
        let written = self.with.writer.settled(row, response);
        self.noted(written, job.block, state);
        self.leave_order(&job.identity, state);
        if matches!(state, State::Delivered | State::Failed | State::Skipped)
            && let Some(enough) =
                self.budget.record_settled((state == State::Failed).then_some(&*outcome.class))
        {
            self.enough(&enough);
        }
        self.look_for_a_missing_endpoint(job.step, state, outcome.status);
        self.tell(job.identity, outcome);
    }

    /// Whether what follows a record in order waits behind it in this state.
    pub(super) fn holds(&self, state: State) -> bool {
        state == State::InDoubt
            || state == State::Failed && self.with.delivery.on_failure == OnFailure::HoldRest
    }

    /// A record is settled: the next of its order value can go, or stays behind it.
    pub(super) fn leave_order(&mut self, identity: &Identity, state: State) {
        let (hash, ordinal) = (identity.order_hash, identity.ordinal);
        if !self.holds(state) {
            return self.release(hash);
        }
        let mut out = Vec::new();
        let (behind, ready) = self.schedule.order.hold(hash, ordinal, |job: &mut Box<Job>| {
            // What was sent before goes out as it was, or not at all.
            let is_sent = job.is_sent();
            match &mut job.call {
                Some(call) if !is_sent => {
                    out.extend(call.take_out(|member| member.identity.order_hash == hash));
                    !call.members.is_empty()
                }
                _ => false,
            }
        });
        for job in behind {
            self.leave_behind(&job, ordinal);
        }
        for member in out {
            self.leave_member_behind(&member, ordinal);
        }
        for job in ready {
            self.schedule.ready(job);
        }
    }

    /// Whether a refusal speaks of the endpoint and not of a record, while nothing was delivered yet.
    pub(super) fn speaks_of_the_endpoint(&self, step: usize, status: u16) -> bool {
        let good = self.seen.get(step).map_or(0, |seen| seen.good);
        match status {
            405 | 501 => good == 0,
            404 => good == 0 && self.with.rules.of(step).path_is_fixed,
            _ => false,
        }
    }

    /// A far side that has no such endpoint refuses everything: the first answers tell.
    pub(super) fn look_for_a_missing_endpoint(&mut self, step: usize, state: State, status: u16) {
        if state != State::Failed || self.stopped.is_some() {
            return;
        }
        if self.speaks_of_the_endpoint(step, status) {
            let why = format!("{} has no such endpoint (answered {status})", self.with.host);
            let diagnostic = Diagnostic::error("endpoint-missing", why.clone())
                .note("no request to it was answered well in this start")
                .help("check `method`, `path` and the connection's base URL with `runner preview`");
            self.stop(Stopped { class: Class::Halted, why, diagnostics: vec![diagnostic], signal: None });
        }
    }

    fn again(&mut self, job: Box<Job>, reading: &Reading, after: Duration, now: Instant) {
        let why = (reading.status, &*reading.class, &*reading.message);
        match &job.call {
            None => self.with.writer.attempt(job.identity.ordinal, job.made, why, Some(after)),
            Some(call) => {
                for member in &call.members {
                    let made = member.made + job.made;
                    self.with.writer.attempt(member.identity.ordinal, made, why, Some(after));
                }
            }
        }
        if let Some(call) = job.call_row(BatchState::Waits) {
            self.broken |= !self.with.writer.batch(call);
        } else if reading.meaning != Meaning::Unknown && (job.has_row || self.with.intents) {
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
        self.schedule.later(now + after, job);
    }

    /// The tries ran out and all certainly did nothing.
    fn give_up(&mut self, job: Box<Job>, reading: Reading) {
        // Without a token nothing more can be sent, whatever was answered before.
        let far_side_is_down = reading.class == Lost::TOKEN_UNAVAILABLE
            || reading.meaning == Meaning::NotSent && self.replies == job.replies_before;
        if !far_side_is_down {
            self.settle(job, State::Failed, reading, None);
            return;
        }
        self.put_back_one(&job);
        self.no_connection(&reading);
    }

    /// Stops because no connection could be made: later, or after a person has looked.
    fn no_connection(&mut self, reading: &Reading) {
        let is_of_token = matches!(&*reading.class, Lost::TOKEN_REFUSED | Lost::TOKEN_UNAVAILABLE);
        let why = if is_of_token {
            reading.message.clone()
        } else {
            format!("no connection to {}: {}", self.with.host, reading.message)
        };
        let corrected = correct_credentials(&self.with.connection, self.with.secrets_from);
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
            "client-certificate" => (
                Class::Halted,
                "client-certificate",
                "look at `tls: { cert: FILE, key: FILE }` of the connection, then start the same command again",
            ),
            Lost::TOKEN_REFUSED => (Class::Halted, "token-refused", corrected.as_str()),
            Lost::TOKEN_UNAVAILABLE => (
                Class::Stopped,
                "token-unavailable",
                "start the same command again when it is up; it goes on",
            ),
            _ => (Class::Stopped, "far-side-down", "start the same command again when it is up; it goes on"),
        };
        let made = match self.attempts {
            1 => "1 attempt was made".to_owned(),
            n => format!("{n} attempts were made"),
        };
        let sent = match self.replies {
            0 => "nothing was sent",
            _ if is_of_token => "nothing was sent without a token",
            _ => "the last of them never left",
        };
        // An attempt that got no token was none at the API.
        let note = if is_of_token { sent.to_owned() } else { format!("{made}; {sent}") };
        let diagnostic = Diagnostic::error(rule, why.clone()).note(note).help(help);
        self.stop(Stopped { class, why, diagnostics: vec![diagnostic], signal: None });
    }

    fn refused_credentials(&mut self, job: Box<Job>, reading: &Reading, now: Instant) {
        let seen = self.seen_of(job.step);
        seen.stops_in_a_row += 1;
        let goes_on = seen.good > 0 && seen.stops_in_a_row < 3;
        if goes_on && self.stopped.is_none() {
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
        diagnostic.help = Some(correct_credentials(&self.with.connection, self.with.secrets_from));
        self.stop(Stopped { class: Class::Halted, why, diagnostics: vec![diagnostic], signal: None });
    }
}

fn correct_credentials(connection: &str, secrets_from: &[String]) -> String {
    let from = match secrets_from.join(", ") {
        names if names.is_empty() => String::new(),
        names => format!(" ({names})"),
    };
    format!("correct the credentials of connection `{connection}`{from}, then go on with the same command")
}

fn too_long(host: &str, asked: Duration, cap: Duration) -> Diagnostic {
    Diagnostic::error("wait-too-long", format!("{host} asked to wait {}", humantime::format_duration(asked)))
        .note(format!(
            "more than `delivery.retry.max_retry_after` allows ({})",
            humantime::format_duration(cap)
        ))
        .help("start the same command again after that time; it goes on")
}
