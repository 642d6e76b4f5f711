//! Keys that earlier runs delivered or hold, so that a later run need not send them again.
//!
//! Apart from other questions because an answer here keeps a record from being sent. Invariant:
//! every row that an answer comes from was checked, also where its run is gone.

use rusqlite::{Connection, params};

use crate::model::{Failure, State};

use super::checkpoint::Checkpoint;
use super::database::{COLUMNS, Damaged, RUN_SHIFT, read_record, record_id};

/// Notes the keys that a run delivered, for the time when its records are removed.
pub(super) fn remember(connection: &Connection, run: i64) -> rusqlite::Result<()> {
    let mut records =
        connection.prepare(&format!("SELECT {COLUMNS} FROM record WHERE id >= ?1 AND id < ?2"))?;
    // Runs are removed in no fixed order: what the last of them sent stays.
    let mut note = connection.prepare(
            "INSERT INTO delivered_key (key_hash, run, content, crc) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (key_hash) DO UPDATE SET run = excluded.run, content = excluded.content, crc = excluded.crc
             WHERE excluded.run > run",
    )?;
    let mut rows = records.query(params![record_id(run, 0), record_id(run + 1, 0)])?;
    while let Some(row) = rows.next()? {
        let record = read_record(row)?.map_err(|Damaged { id }| {
            let why = format!("the checksum of row {id} does not fit").into();
            rusqlite::Error::FromSqlConversionFailure(12, rusqlite::types::Type::Integer, why)
        })?;
        let content = if record.is_half_done() { HALF_DONE } else { record.request };
        if (record.state == State::Delivered || record.is_half_done()) && record.key_hash != 0 {
            let (key, content) = (record.key_hash.cast_signed(), content.cast_signed());
            note.execute(params![key, run, content, checksum(key, run, content)])?;
        }
    }
    connection
        .execute("UPDATE total SET keys_crc = (SELECT coalesce(sum(crc), 0) FROM delivered_key)", [])
        .map(|_| ())
}

/// Stands for the digest of what was sent, where only some of a record's calls were delivered.
pub const HALF_DONE: u64 = u64::MAX;

impl Checkpoint {
    /// Looks for key hashes that earlier runs delivered or hold: calls `each` with run, state, key hash and
    /// the digest of what was sent (0 where nobody noted it, [`HALF_DONE`] where others of its calls were not
    /// delivered) of every keyed record in one of `states` in runs before `before`.
    pub fn keys_of_earlier_runs(
        &self,
        before: i64,
        states: &[State],
        each: impl FnMut(i64, State, u64, u64),
    ) -> Result<(), Failure> {
        match self.keys(before, states, each) {
            Ok(None) => Ok(()),
            Ok(Some((table, None))) => {
                Err(self.damage(&format!("table `{table}`: its rows are not those that were written last")))
            }
            Ok(Some((table, Some(row)))) => {
                Err(self.damage(&format!("table `{table}`, row {row}: its checksum does not fit")))
            }
            Err(error) => Err(self.failure(&error)),
        }
    }

    /// The same; gives the table that is damaged, and the row where it is one.
    fn keys(
        &self,
        before: i64,
        states: &[State],
        mut each: impl FnMut(i64, State, u64, u64),
    ) -> rusqlite::Result<Option<(&'static str, Option<i64>)>> {
        // One look, so that a run that is removed meanwhile does not come in between.
        let _look = self.connection.unchecked_transaction()?;
        // All rows are read and chosen from here: in a damaged one, what it would be chosen by may
        // be what is damaged.
        let mut removed = self.connection.prepare("SELECT key_hash, run, content, crc FROM delivered_key")?;
        let mut rows = removed.query([])?;
        let mut sum = 0;
        while let Some(row) = rows.next()? {
            let (key, run, content): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let crc: u32 = row.get(3)?;
            if crc != checksum(key, run, content) {
                return Ok(Some(("delivered_key", Some(key))));
            }
            sum += i64::from(crc);
            if run < before {
                each(run, State::Delivered, key.cast_unsigned(), content.cast_unsigned());
            }
        }
        let total: i64 =
            self.connection.query_row("SELECT keys_crc FROM total WHERE number = 1", [], |row| row.get(0))?;
        if sum != total {
            return Ok(Some(("delivered_key", None)));
        }
        let mut statement =
            self.connection.prepare(&format!("SELECT {COLUMNS} FROM record WHERE id < ?1"))?;
        let mut rows = statement.query([record_id(before, 0)])?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            match read_record(row)? {
                Ok(record)
                    if record.key_hash != 0 && record.is_half_done() && record.state != State::InDoubt =>
                {
                    each(id >> RUN_SHIFT, State::Delivered, record.key_hash, HALF_DONE);
                }
                Ok(record) if record.key_hash != 0 && states.contains(&record.state) => {
                    each(id >> RUN_SHIFT, record.state, record.key_hash, record.request);
                }
                Ok(_) => {}
                Err(Damaged { id }) => return Ok(Some(("record", Some(id)))),
            }
        }
        Ok(None)
    }
}

fn checksum(key: i64, run: i64, content: i64) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&key.to_le_bytes());
    crc.update(&run.to_le_bytes());
    crc.update(&content.to_le_bytes());
    crc.finalize()
}
