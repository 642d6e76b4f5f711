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
use super::gather::Gather;
use super::sieve::{Sieve, Sieved};
use super::survey::chain;

/// Bytes of rendered bodies in one block, about: so that large records do not pile up.
const BLOCK_BYTES: usize = 1 << 20;
/// A block that was used up faster than this is doubled, up to [`MOST_RECORDS`].
const TOO_SHORT: Duration = Duration::from_millis(25);
const MOST_RECORDS: usize = 1024;

/// The same where calls have several records: a block has to fill all lanes with them.
const CALL_BLOCK_BYTES: usize = 2 << 20;

/// A block and the rows that grant records of it which a lease does not speak of.
struct Read {
    block: Block,
    granted: Vec<RecordRow>,
}

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
    /// Puts records together, where calls have several.
    pub gather: Option<Gather>,
    /// Blocks read so far: parts of calls know theirs.
    pub blocks: u64,
}

impl Feed {
    /// Reads to the end of the input, or until the loop no longer listens.
    pub fn run(mut self, blocks: &Sender<Result<Block, Failure>>, credits: &Receiver<()>) {
        let mut size = self.block;
        let mut digest = self.from.digest;
        loop {
            let begun = Instant::now();
            let Read { block, granted } = match self.read_block(size, &mut digest) {
                Ok(Some(read)) => read,
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
            // Windows of calls are the same in every start, and in `plan` and `preview`.
            if waited < TOO_SHORT && self.gather.is_none() {
                size = (size * 2).min(MOST_RECORDS.max(self.block));
            }
            if !self.lease(&block, granted) {
                return;
            }
            tracing::debug!(below = block.mark.ordinal, records = block.records, "lease granted");
            if blocks.blocking_send(Ok(block)).is_err() {
                return;
            }
        }
    }

    fn read_block(&mut self, size: usize, digest: &mut u64) -> Result<Option<Read>, Failure> {
        let mut items = Vec::with_capacity(size);
        let mut granted = Vec::new();
        let mut left_out = 0;
        let mut bytes = 0;
        let mut seen = 0_usize;
        let mut records = 0;
        let most_bytes = if self.gather.is_some() { CALL_BLOCK_BYTES } else { BLOCK_BYTES };
        let mut input_ended = false;
        while records < size && bytes < most_bytes && seen < 64 * MOST_RECORDS {
            // What is behind the last record that this start can want is not leased by it.
            let beyond = !self.is_apart && self.source.mark().ordinal >= self.records;
            let ended =
                beyond || self.sieve.is_over() || self.sieve.narrow.ends_before(self.source.mark().ordinal);
            let Some(record) = (!ended).then(|| self.source.next()).flatten() else {
                input_ended = true;
                break;
            };
            let record = record?;
            seen += 1;
            *digest = chain(*digest, record.digest);
            match self.sieve.take(record) {
                Sieved::Before => {}
                Sieved::LeftOut => left_out += 1,
                Sieved::Ready(mut item) => {
                    if let Prepared::Send(job) = &mut item {
                        job.has_row |= job.identity.ordinal < self.leased_from;
                        bytes += job.request.held() + 256;
                        // What is in doubt stays so on disk until the far side has told.
                        if job.has_row && job.doubt.is_none() {
                            granted.push(RecordRow { granted: true, ..job.row(State::Pending) });
                        }
                    }
                    records += 1;
                    items.push(item);
                }
                Sieved::Part(mut part) => {
                    part.member.block = self.blocks;
                    bytes += part.bytes + 256;
                    let has_row = part.has_row || part.member.identity.ordinal < self.leased_from;
                    // Records of an open call are spoken for by its row.
                    if has_row && part.call.is_none() {
                        granted.push(RecordRow { granted: true, ..part.member.row(State::Pending, 0) });
                    }
                    records += 1;
                    if let Some(gather) = &mut self.gather {
                        gather.take(part, Some(&self.writer), &mut items);
                    }
                }
            }
        }
        if let Some(gather) = &mut self.gather {
            if input_ended {
                gather.end(Some(&self.writer), &mut items);
            } else {
                gather.end_window(&mut items);
            }
        }
        if seen == 0 && items.is_empty() {
            return Ok(None);
        }
        self.blocks += 1;
        let (mark, left_out) = if self.is_apart {
            // Nothing in here moves the point before which all is settled.
            (self.from, left_out + 1)
        } else {
            let Mark { ordinal, file, byte, line } = self.source.mark();
            (InputMark { ordinal, file, byte, line, digest: *digest }, left_out)
        };
        Ok(Some(Read { block: Block { items, mark, records, left_out }, granted }))
    }

    /// Grants the block for sending, durably.
    fn lease(&mut self, block: &Block, again: Vec<RecordRow>) -> bool {
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
