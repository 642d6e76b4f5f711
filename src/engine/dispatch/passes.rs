//! Waiting for a token, apart from sending: a call that has none yet was not sent.
//!
//! Invariants: while one is fetched, no row says that the call is under way, so that a crash leaves no
//! doubt; a stop does not wait for a token.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use super::lanes::count_look;
use super::{Landed, Loop};
use crate::deliver::Pass;
use crate::engine::block::Job;
use crate::model::{Lost, Reply, State};
use crate::outcome::{Ack, BatchState, RecordRow};

/// The fetching of a token for the call in a lane.
pub(super) type Fetch = Pin<Box<dyn Future<Output = (usize, Result<Pass, Lost>)>>>;

/// A call that is not sent before a token is had.
pub(super) struct Awaiting {
    job: Box<Job>,
    /// When it was sent before, with a token that was refused.
    first: Option<Instant>,
    since: Instant,
}

impl Loop<'_> {
    /// Fetches a token for what a lane is to send for the first time.
    pub(super) fn fetch_pass(&mut self, lane: usize, job: Box<Job>) {
        self.awaiting.insert(lane, Awaiting { job, first: None, since: Instant::now() });
        let sender = self.with.sender.clone();
        self.fetching.push(Box::pin(async move { (lane, sender.fetch_pass(None).await) }));
    }

    /// The API refused the token, and so did nothing: with another one the call goes out once more.
    pub(super) fn renew_pass(&mut self, lane: usize, job: Box<Job>, refused: Pass, began: Instant) {
        let noted = self.note_refused(&job);
        if self.stopped.is_some() {
            self.free.push(lane);
            self.schedule.ready(job);
            return;
        }
        self.awaiting.insert(lane, Awaiting { job, first: Some(began), since: Instant::now() });
        let sender = self.with.sender.clone();
        self.fetching.push(Box::pin(async move {
            if let Some(noted) = noted {
                // A writer that failed ends the loop.
                let _ = noted.await;
            }
            (lane, sender.fetch_pass(Some(&refused)).await)
        }));
    }

    /// Notes that a call is not under way any more, where a row says that it is.
    fn note_refused(&self, job: &Job) -> Option<Ack> {
        if job.doubt.is_some() {
            return None;
        }
        if let Some(call) = job.call_row(BatchState::Waits) {
            return Some(self.with.writer.batch_intent(call, false));
        }
        // As of every attempt that certainly did nothing.
        let row = RecordRow { granted: true, ..job.row(State::Pending) };
        (job.has_row || self.with.intents).then(|| self.with.writer.intent(row, false))
    }

    /// A token is had, or is not to be had.
    pub(super) fn take_pass(&mut self, lane: usize, pass: Result<Pass, Lost>) {
        let Some(Awaiting { mut job, first, since }) = self.awaiting.remove(&lane) else { return };
        if self.stopped.is_some() {
            self.free.push(lane);
            self.schedule.ready(job);
            return;
        }
        let lost = match pass {
            Ok(pass) => return self.launch(lane, job, pass, first, Instant::now()),
            Err(lost) => lost,
        };
        if first.is_none() && job.doubt.is_some() {
            count_look(&mut job);
        } else if first.is_none() {
            self.count_attempt(&mut job);
        }
        self.lanes[lane] = Some(job);
        let (reply, began) = (Some(Reply::Lost(lost)), first.unwrap_or(since));
        self.finish(Landed { lane, reply, pass: Pass::default(), began, took: since.elapsed() });
    }

    /// The run ends: what waits for a token was not sent, and stays pending.
    pub(super) fn stop_awaiting(&mut self) {
        self.fetching.clear();
        for (lane, Awaiting { job, .. }) in self.awaiting.drain() {
            self.free.push(lane);
            self.schedule.ready(job);
        }
    }
}
