//! The thread that reads ahead: records from the source, prepared, in leased blocks.
//!
//! Synchronous, so that parsing and rendering need no runtime. At most two blocks are leased and
//! not begun: a credit comes back for each block that the loop begins.

use std::collections::HashMap;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;

use crate::config::InDoubt;
use crate::model::{Failure, Record, State};
use crate::outcome::{InputMark, RecordRow, Writer};
use crate::render::RunValues;
use crate::source::{Mark, Source};

use super::block::{Block, Job, Prepared};
use super::narrow::Narrow;
use super::prepare::{Preparer, settled};
use super::survey::{Drop, chain, drop_of};

/// Bytes of rendered bodies in one block, about: so that large records do not pile up.
const BLOCK_BYTES: usize = 1 << 20;
/// A block that was used up faster than this is doubled, up to [`MOST_RECORDS`].
const TOO_SHORT: Duration = Duration::from_millis(25);
const MOST_RECORDS: usize = 1024;

/// What the thread works with.
pub struct Feed {
    /// Records to requests.
    pub preparer: Arc<Preparer>,
    /// Where records come from, positioned at `from`.
    pub source: Box<dyn Source>,
    /// Where reading begins.
    pub from: InputMark,
    /// Values of the run.
    pub run: RunValues,
    /// The checkpoint.
    pub writer: Writer,
    /// Ordinals below this are leased already.
    pub leased: u64,
    /// What earlier starts know of records from `from` on.
    pub known: Known,
    /// Records that are not sent because of their key, sorted.
    pub dropped: Arc<[(u64, u64)]>,
    /// What this start leaves out on purpose.
    pub narrow: Narrow,
    /// `select.limit`
    pub limit: Option<u64>,
    /// The point before which all is settled, as the loop moves it.
    pub settled: Arc<Mutex<InputMark>>,
    /// Records of a block at the least.
    pub block: usize,
}

/// What earlier starts left behind, from the first record that is not settled on.
#[derive(Debug, Default)]
pub struct Known {
    /// Bits of settled ordinals, counted from `base`.
    settled: Vec<u64>,
    base: u64,
    /// Rows of records that are open.
    pub open: HashMap<u64, RecordRow>,
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

impl Feed {
    /// Reads to the end of the input, or until the loop no longer listens.
    pub fn run(mut self, blocks: &Sender<Result<Block, Failure>>, credits: &Receiver<()>) {
        let mut size = self.block;
        let mut digest = self.from.digest;
        let mut selected = 0;
        let mut sent = 0;
        loop {
            let begun = Instant::now();
            let block = match self.read_block(size, &mut digest, &mut selected, &mut sent) {
                Ok(Some(block)) => block,
                Ok(None) => return,
                Err(failure) => {
                    let _ = blocks.blocking_send(Err(failure));
                    return;
                }
            };
            let read = begun.elapsed();
            if credits.recv().is_err() {
                return;
            }
            let waited = begun.elapsed().saturating_sub(read);
            if waited < TOO_SHORT {
                size = (size * 2).min(MOST_RECORDS.max(self.block));
            }
            if !self.lease(&block) {
                return;
            }
            tracing::debug!(below = block.mark.ordinal, records = block.items.len(), "lease granted");
            if blocks.blocking_send(Ok(block)).is_err() {
                return;
            }
        }
    }

    fn read_block(
        &mut self,
        size: usize,
        digest: &mut u64,
        selected: &mut u64,
        sent: &mut u64,
    ) -> Result<Option<Block>, Failure> {
        let mut items = Vec::with_capacity(size);
        let mut left_out = 0;
        let mut bytes = 0;
        let mut seen = 0_usize;
        while items.len() < size && bytes < BLOCK_BYTES && seen < 64 * MOST_RECORDS {
            let Some(record) = self.source.next() else {
                if seen == 0 {
                    return Ok(None);
                }
                break;
            };
            let record = record?;
            seen += 1;
            *digest = chain(*digest, record.digest);
            let ordinal = record.ordinal;
            let drop = drop_of(&self.dropped, ordinal);
            if self.known.is_settled(ordinal) {
                if self.limit.is_some() && drop.is_none() && self.preparer.shape(record, &self.run).is_ok() {
                    *selected += 1;
                }
                continue;
            }
            let Some(item) = self.prepare(record, drop, selected, sent) else {
                left_out += 1;
                continue;
            };
            if let Prepared::Send(job) = &item {
                bytes += job.request.body.len() + 256;
            }
            items.push(item);
        }
        let Mark { ordinal, file, byte, line } = self.source.mark();
        Ok(Some(Block { items, left_out, mark: InputMark { ordinal, file, byte, line, digest: *digest } }))
    }

    /// The record as the loop takes it; `None` when this start leaves it pending.
    fn prepare(
        &mut self,
        record: Record,
        drop: Option<Drop>,
        selected: &mut u64,
        sent: &mut u64,
    ) -> Option<Prepared> {
        if self.narrow.is_over(*sent) || !self.narrow.wants(record.ordinal) {
            return None;
        }
        let known = self.known.open.remove(&record.ordinal);
        let mut shaped = match self.preparer.shape(record, &self.run) {
            Ok(shaped) => shaped,
            // A record that would not be sent is settled by a start that looks at all of them.
            Err(_) if self.narrow.is_selective() => return None,
            Err(settled) => return Some(Prepared::Settled(settled)),
        };
        if let Some(drop) = drop {
            let (state, class, message) = drop.outcome();
            return Some(Prepared::Settled(settled(shaped.identity, state, class, message)));
        }
        if let Some(limit) = self.limit {
            if *selected >= limit {
                let message = format!("beyond `select.limit: {limit}`");
                return Some(Prepared::Settled(settled(shaped.identity, State::Skipped, "limit", message)));
            }
            *selected += 1;
        }
        if !self.narrow.keeps(&shaped) {
            return None;
        }
        let generation = known.as_ref().map_or(0, |row| row.generation);
        let request = match self.preparer.request(&mut shaped, &self.run, generation) {
            Ok(request) => request,
            Err(refused) => return Some(Prepared::Settled(refused.settle(shaped.identity))),
        };
        *sent += 1;
        Some(Prepared::Send(Box::new(Job::new(shaped.identity, request, known.as_ref()))))
    }

    /// Grants the block for sending, durably.
    fn lease(&mut self, block: &Block) -> bool {
        let again: Vec<RecordRow> = block
            .items
            .iter()
            .filter_map(|item| match item {
                Prepared::Send(job) if job.has_row => {
                    Some(RecordRow { granted: true, ..job.row(State::Pending) })
                }
                _ => None,
            })
            .collect();
        let settled = *self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let regrant = !again.is_empty() && self.preparer.in_doubt != InDoubt::Resend;
        if regrant && !self.writer.rows(again) {
            return false;
        }
        if block.mark.ordinal <= self.leased {
            return !regrant || self.writer.sync(settled).blocking_recv().unwrap_or(false);
        }
        let granted = self.writer.lease(block.mark.ordinal, block.mark.digest, settled).blocking_recv();
        self.leased = block.mark.ordinal;
        granted.unwrap_or(false)
    }
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
