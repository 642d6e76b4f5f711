//! Sums over the rows of a run, block by block, so that a start knows how far a run came without reading them.
//!
//! Invariant: the sums change in the transaction that changes the rows, and `run.rows_crc` is the sum of the
//! checksums of the sums. So rows that are gone or old show in their block, and a block that is gone or old
//! shows in its run.

use std::collections::BTreeMap;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::model::State;

use super::batches::BatchState;
use super::database::{RUN_SHIFT, UNKNOWN, record_id};
use super::rows::{RecordRow, is_half_done};

/// A block is so many records, and so many calls with several, counted by their numbers.
const SHIFT: u32 = 16;

/// The block of a record or call.
pub const fn block_of(number: u64) -> u64 {
    number >> SHIFT
}

/// What a block says of the rows that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    /// Sum of the checksums of its records' rows.
    pub rows_crc: i64,
    /// Rows by state, in the order of their numbers.
    states: [i64; State::ALL.len()],
    /// Sum of their attempts.
    pub attempts: i64,
    /// Rows that say that a request may have arrived, though their record is neither delivered nor held for it.
    pub begun: i64,
    /// Sum of the checksums of its calls' rows.
    pub calls_crc: i64,
    /// Calls that are not settled.
    pub calls_open: i64,
}

impl Sums {
    /// Rows in a state.
    pub const fn of(&self, state: State) -> i64 {
        self.states[state as usize]
    }

    /// Rows by state.
    pub fn states(&self) -> impl Iterator<Item = (State, i64)> {
        State::ALL.into_iter().zip(self.states)
    }

    /// Adds the row of a record.
    pub const fn add(&mut self, row: Share) {
        self.change(row, 1);
    }

    /// Adds the row of a call.
    pub fn add_call(&mut self, row: CallShare) {
        self.change_call(row, 1);
    }

    const fn change(&mut self, row: Share, by: i64) {
        self.rows_crc += by * row.crc as i64;
        self.states[row.state as usize] += by;
        self.attempts += by * row.attempts as i64;
        self.begun += by * row.begun as i64;
    }

    fn change_call(&mut self, row: CallShare, by: i64) {
        self.calls_crc += by * i64::from(row.crc);
        self.calls_open += by * i64::from(row.is_open);
    }

    /// The same without what belongs to calls.
    pub const fn of_records(self) -> Self {
        Self { calls_crc: 0, calls_open: 0, ..self }
    }

    /// The same without what belongs to records.
    pub fn of_calls(self) -> Self {
        Self { calls_crc: self.calls_crc, calls_open: self.calls_open, ..Self::default() }
    }

    fn checksum(&self, id: i64) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(b"block");
        for value in [id, self.rows_crc, self.attempts, self.begun, self.calls_crc, self.calls_open] {
            crc.update(&value.to_le_bytes());
        }
        for value in self.states {
            crc.update(&value.to_le_bytes());
        }
        crc.finalize()
    }
}

/// What the row of one record adds to the sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    crc: u32,
    state: State,
    attempts: u32,
    begun: bool,
}

impl Share {
    /// Of a row that is written with this checksum.
    pub fn new(row: &RecordRow, crc: u32) -> Self {
        Self {
            crc,
            state: row.state,
            attempts: row.attempts,
            begun: begun(row.state, row.unknown, &row.captures),
        }
    }

    /// The columns that [`Self::read`] wants, in its order.
    pub const COLUMNS: &str = "crc, state, attempts, flags, captures";

    /// Of a row that is there.
    pub fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let number: u8 = row.get(1)?;
        let Some(state) = State::from_number(number) else {
            return Err(rusqlite::Error::IntegralValueOutOfRange(1, number.into()));
        };
        let is_unknown = row.get::<_, u32>(3)? & UNKNOWN != 0;
        let captures = row.get_ref(4)?.as_str_or_null()?.unwrap_or_default();
        Ok(Self { crc: row.get(0)?, state, attempts: row.get(2)?, begun: begun(state, is_unknown, captures) })
    }
}

fn begun(state: State, is_unknown: bool, captures: &str) -> bool {
    state == State::InFlight || state == State::Pending && is_unknown || is_half_done(state, captures)
}

/// What the row of one call adds to the sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallShare {
    /// Its checksum.
    pub crc: u32,
    /// Whether the call is not settled.
    pub is_open: bool,
}

impl CallShare {
    /// The columns that [`Self::read`] wants, in its order.
    pub const COLUMNS: &str = "crc, state";

    /// Of a row that is there.
    pub fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { crc: row.get(0)?, is_open: row.get::<_, u8>(1)? < BatchState::Settled as u8 })
    }
}

/// One block of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Its number in the run, from 0.
    pub number: u64,
    /// What it says.
    pub sums: Sums,
    /// The checksum of its row.
    pub crc: u32,
}

impl Block {
    /// The columns that [`Self::read`] wants, in its order.
    pub const COLUMNS: &str = "block.id, block.rows_crc, block.pending, block.in_flight, block.delivered, block.failed, \
         block.invalid, block.skipped, block.in_doubt, block.attempts, block.begun, block.calls_crc, block.calls_open, \
         block.crc";

    /// Reads a row and checks it; `Err` is the id of one that does not fit.
    pub fn read(row: &Row<'_>) -> rusqlite::Result<Result<Self, i64>> {
        let id: i64 = row.get(0)?;
        let mut sums = Sums { rows_crc: row.get(1)?, ..Sums::default() };
        for (at, state) in sums.states.iter_mut().enumerate() {
            *state = row.get(2 + at)?;
        }
        (sums.attempts, sums.begun) = (row.get(9)?, row.get(10)?);
        (sums.calls_crc, sums.calls_open) = (row.get(11)?, row.get(12)?);
        let crc: i64 = row.get(13)?;
        let within = id & ((1 << RUN_SHIFT) - 1);
        let is_own = crc == i64::from(sums.checksum(id)) && within.trailing_zeros() >= SHIFT;
        let block = Self { number: block_of(within.cast_unsigned()), sums, crc: sums.checksum(id) };
        Ok(if is_own { Ok(block) } else { Err(id) })
    }

    /// The first number of a block.
    pub const fn first(number: u64) -> u64 {
        number << SHIFT
    }

    /// Its first number, and the first behind it.
    pub const fn bounds(&self) -> (u64, u64) {
        (Self::first(self.number), Self::first(self.number + 1))
    }
}

/// Gathers what changed in the blocks of one run, until it is written.
#[derive(Debug)]
pub struct Tally {
    run: i64,
    blocks: BTreeMap<u64, Kept>,
}

/// A block as this start knows it.
#[derive(Debug, Default)]
struct Kept {
    sums: Sums,
    /// The checksum of its row; 0 while it has none.
    crc: u32,
    is_changed: bool,
}

impl Tally {
    /// Nothing of the run changed yet.
    pub const fn new(run: i64) -> Self {
        Self { run, blocks: BTreeMap::new() }
    }

    /// The run's number.
    pub const fn run(&self) -> i64 {
        self.run
    }

    /// Notes that a record has another row now.
    pub fn record(
        &mut self,
        connection: &Connection,
        ordinal: u64,
        old: Option<Share>,
        new: Share,
    ) -> rusqlite::Result<()> {
        let sums = self.changed(connection, block_of(ordinal))?;
        if let Some(old) = old {
            sums.change(old, -1);
        }
        sums.add(new);
        Ok(())
    }

    /// Notes that a call has another row now.
    pub fn call(
        &mut self,
        connection: &Connection,
        number: u64,
        old: Option<CallShare>,
        new: CallShare,
    ) -> rusqlite::Result<()> {
        let sums = self.changed(connection, block_of(number))?;
        if let Some(old) = old {
            sums.change_call(old, -1);
        }
        sums.add_call(new);
        Ok(())
    }

    fn changed(&mut self, connection: &Connection, number: u64) -> rusqlite::Result<&mut Sums> {
        let kept = match self.blocks.entry(number) {
            std::collections::btree_map::Entry::Occupied(kept) => kept.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(read_one(connection, record_id(self.run, Block::first(number)))?)
            }
        };
        kept.is_changed = true;
        Ok(&mut kept.sums)
    }

    /// Writes what changed, within the transaction that changed the rows.
    pub fn write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let mut change = 0;
        for (number, kept) in self.blocks.iter_mut().filter(|(_, kept)| kept.is_changed) {
            let id = record_id(self.run, Block::first(*number));
            let Sums {
                rows_crc,
                states: [s0, s1, s2, s3, s4, s5, s6],
                attempts,
                begun,
                calls_crc,
                calls_open,
            } = kept.sums;
            let crc = kept.sums.checksum(id);
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO block (id, rows_crc, pending, in_flight, delivered, failed, invalid, skipped, \
                     in_doubt, attempts, begun, calls_crc, calls_open, crc) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
                )?
                .execute(params![
                    id, rows_crc, s0, s1, s2, s3, s4, s5, s6, attempts, begun, calls_crc, calls_open, crc
                ])?;
            change += i64::from(crc) - i64::from(kept.crc);
            (kept.crc, kept.is_changed) = (crc, false);
        }
        if change != 0 {
            connection
                .prepare_cached("UPDATE run SET rows_crc = rows_crc + ?2 WHERE number = ?1")?
                .execute(params![self.run, change])?;
        }
        Ok(())
    }
}

fn read_one(connection: &Connection, id: i64) -> rusqlite::Result<Kept> {
    let found = connection
        .prepare_cached(&format!("SELECT {} FROM block WHERE id = ?1", Block::COLUMNS))?
        .query_row([id], Block::read)
        .optional()?;
    match found {
        None => Ok(Kept::default()),
        Some(Ok(block)) => Ok(Kept { sums: block.sums, crc: block.crc, is_changed: false }),
        Some(Err(id)) => {
            let why = format!("the checksum of block {id} does not fit").into();
            Err(rusqlite::Error::FromSqlConversionFailure(13, Type::Integer, why))
        }
    }
}
