//! Rows of `batch`: which records a call has, noted before it leaves, so that it is sent again as it was.
//!
//! Invariant: while a call is not settled, its row alone says that its records may have arrived; once it is
//! settled, each record's own row says what became of it.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::blocks::{CallShare, Tally};
use super::database::record_id;

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum BatchState {
    /// It waits, and certainly did nothing unless `unknown` says otherwise.
    Waits = 0,
    /// An attempt may be under way.
    InFlight = 1,
    /// Each of its records has a row, or another call.
    Settled = 2,
}

/// One call with several records as the checkpoint knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchRow {
    /// Its number in the run, from 1.
    pub number: u64,
    /// How far it is.
    pub state: BatchState,
    /// Sendings of it, over all starts.
    pub attempts: u32,
    /// Whether one of them ended without it being known what the far side did.
    pub unknown: bool,
    /// The positions of its records, in the order of the call.
    pub members: Vec<u64>,
    /// Digest of its request.
    pub request: u64,
    /// When its first request may have left, in milliseconds since 1970; 0 before that.
    pub first_at: i64,
}

const UNKNOWN: u32 = 1;

/// Writes a row, over an older one of the same call, and notes what that changes.
pub(super) fn write(connection: &Connection, tally: &mut Tally, row: &BatchRow) -> rusqlite::Result<()> {
    let id = record_id(tally.run(), row.number);
    let members = ranges(&row.members);
    let flags = u32::from(row.unknown) * UNKNOWN;
    let at = jiff::Timestamp::now().as_millisecond();
    let crc = checksum(id, row, &members, at);
    let old = connection
        .prepare_cached(&format!("SELECT {} FROM batch WHERE id = ?1", CallShare::COLUMNS))?
        .query_row([id], CallShare::read)
        .optional()?;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO batch (id, state, attempts, flags, records, members, request, at, first_at, crc) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            id,
            row.state as u8,
            row.attempts,
            flags,
            i64::try_from(row.members.len()).unwrap_or(i64::MAX),
            members,
            row.request.cast_signed(),
            at,
            row.first_at,
            crc
        ])?;
    let new = CallShare { crc, is_open: row.state != BatchState::Settled };
    tally.call(connection, row.number, old, new)
}

/// The columns that [`read`] wants, in its order.
pub(super) const COLUMNS: &str = "id, state, attempts, flags, members, request, at, first_at, crc";

/// Reads a row and checks it; `Err` is the id of one that does not fit.
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Result<BatchRow, i64>> {
    let id: i64 = row.get(0)?;
    let text: String = row.get(4)?;
    let state = match row.get::<_, u8>(1)? {
        0 => BatchState::Waits,
        1 => BatchState::InFlight,
        2 => BatchState::Settled,
        _ => return Ok(Err(id)),
    };
    let Some(members) = members(&text) else { return Ok(Err(id)) };
    let flags: u32 = row.get(3)?;
    let found = BatchRow {
        number: (id & ((1 << super::database::RUN_SHIFT) - 1)).cast_unsigned(),
        state,
        attempts: row.get(2)?,
        unknown: flags & UNKNOWN != 0,
        members,
        request: row.get::<_, i64>(5)?.cast_unsigned(),
        first_at: row.get(7)?,
    };
    let crc: u32 = row.get(8)?;
    Ok(if crc == checksum(id, &found, &text, row.get(6)?) { Ok(found) } else { Err(id) })
}

fn checksum(id: i64, row: &BatchRow, members: &str, at: i64) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(b"batch");
    crc.update(&id.to_le_bytes());
    crc.update(&[row.state as u8, u8::from(row.unknown)]);
    crc.update(&row.attempts.to_le_bytes());
    crc.update(members.as_bytes());
    crc.update(&row.request.to_le_bytes());
    crc.update(&at.to_le_bytes());
    crc.update(&row.first_at.to_le_bytes());
    crc.finalize()
}

/// `0-99,105,107-108`: positions in their order, neighbours as one range.
fn ranges(members: &[u64]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let mut rest = members;
    while let [first, ..] = rest {
        let run = rest.iter().zip(*first..).take_while(|(member, next)| **member == *next).count().max(1);
        let separator = if text.is_empty() { "" } else { "," };
        // Writing to a text cannot fail.
        let _ = match run {
            1 => write!(text, "{separator}{first}"),
            n => write!(text, "{separator}{first}-{}", first + n as u64 - 1),
        };
        rest = rest.get(run..).unwrap_or_default();
    }
    text
}

/// At most so many records are read of one row: damage must not fill the memory.
const MOST_MEMBERS: u64 = 1 << 20;

fn members(text: &str) -> Option<Vec<u64>> {
    let mut members = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        if last < first || last - first > MOST_MEMBERS || members.len() as u64 > MOST_MEMBERS {
            return None;
        }
        members.extend(first..=last);
    }
    Some(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_written_short_and_read_back() {
        for (positions, text) in [
            (vec![0], "0"),
            (vec![0, 1, 2, 3], "0-3"),
            (vec![5, 7, 8, 9, 12], "5,7-9,12"),
            // In the order of the call, whatever that is.
            (vec![9, 3, 4], "9,3-4"),
        ] {
            assert_eq!(ranges(&positions), text);
            assert_eq!(members(text), Some(positions));
        }
        for bad in ["", "a", "3-1", "1-", "0-99999999999", "-3"] {
            assert_eq!(members(bad), None, "{bad}");
        }
    }
}
