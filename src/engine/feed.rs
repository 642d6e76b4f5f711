//! The thread that reads ahead: records from the source, prepared, in leased blocks.
//!
//! Synchronous, so that parsing and rendering need no runtime. At most two blocks are leased and
//! not begun: a credit comes back for each block that the loop begins.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;

use crate::model::{Failure, State};
use crate::outcome::{InputMark, RecordRow, Writer};
use crate::source::{Mark, Source};

use super::block::{Block, Prepared};
use super::sieve::{Sieve, Sieved};
use super::survey::chain;

/// Bytes of rendered bodies in one block, about: so that large records do not pile up.
const BLOCK_BYTES: usize = 1 << 20;
/// A block that was used up faster than this is doubled, up to [`MOST_RECORDS`].
const TOO_SHORT: Duration = Duration::from_millis(25);
const MOST_RECORDS: usize = 1024;

/// What the thread works with.
pub struct Feed {
    /// Records to requests, or to what becomes of them without one.
    pub sieve: Sieve,
    /// Where records come from, positioned at `from`.
    pub source: Box<dyn Source>,
    /// Where reading begins.
    pub from: InputMark,
    /// The checkpoint.
    pub writer: Writer,
    /// Ordinals below this are leased already.
    pub leased: u64,
    /// Records below this are granted by a row each, as no lease of this start speaks of them.
    pub leased_from: u64,
    /// Records of the run: what was appended to its input since is the next start's.
    pub records: u64,
    /// The input is not the run's own: its places say nothing of what is settled there.
    pub is_apart: bool,
    /// The point before which all is settled, as the loop moves it.
    pub settled: Arc<Mutex<InputMark>>,
    /// Records of a block at the least.
    pub block: usize,
}

impl Feed {
    /// Reads to the end of the input, or until the loop no longer listens.
    pub fn run(mut self, blocks: &Sender<Result<Block, Failure>>, credits: &Receiver<()>) {
        let mut size = self.block;
        let mut digest = self.from.digest;
        loop {
            let begun = Instant::now();
            let block = match self.read_block(size, &mut digest) {
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

    fn read_block(&mut self, size: usize, digest: &mut u64) -> Result<Option<Block>, Failure> {
        let mut items = Vec::with_capacity(size);
        let mut left_out = 0;
        let mut bytes = 0;
        let mut seen = 0_usize;
        while items.len() < size && bytes < BLOCK_BYTES && seen < 64 * MOST_RECORDS {
            // What is behind the last record that this start can want is not leased by it.
            let beyond = !self.is_apart && self.source.mark().ordinal >= self.records;
            let ended =
                beyond || self.sieve.is_over() || self.sieve.narrow.ends_before(self.source.mark().ordinal);
            let Some(record) = (!ended).then(|| self.source.next()).flatten() else {
                if seen == 0 {
                    return Ok(None);
                }
                break;
            };
            let record = record?;
            seen += 1;
            *digest = chain(*digest, record.digest);
            let mut item = match self.sieve.take(record) {
                Sieved::Before => continue,
                Sieved::LeftOut => {
                    left_out += 1;
                    continue;
                }
                Sieved::Ready(item) => item,
            };
            if let Prepared::Send(job) = &mut item {
                job.has_row |= job.identity.ordinal < self.leased_from;
                bytes += job.request.body.len() + 256;
            }
            items.push(item);
        }
        if self.is_apart {
            // Nothing in here moves the point before which all is settled.
            return Ok(Some(Block { items, left_out: left_out + 1, mark: self.from }));
        }
        let Mark { ordinal, file, byte, line } = self.source.mark();
        Ok(Some(Block { items, left_out, mark: InputMark { ordinal, file, byte, line, digest: *digest } }))
    }

    /// Grants the block for sending, durably.
    fn lease(&mut self, block: &Block) -> bool {
        let again: Vec<RecordRow> = block
            .items
            .iter()
            .filter_map(|item| match item {
                // What is in doubt stays so on disk until the far side has told.
                Prepared::Send(job) if job.has_row && job.doubt.is_none() => {
                    Some(RecordRow { granted: true, ..job.row(State::Pending) })
                }
                _ => None,
            })
            .collect();
        let settled = *self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let regrant = !again.is_empty();
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
