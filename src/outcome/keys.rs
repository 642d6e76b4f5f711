//! Keys that earlier runs delivered or hold, so that a later run need not send them again, and those that
//! were deleted since.
//!
//! Apart from other questions because an answer here keeps a record from being sent. Invariant:
//! every row that an answer comes from was checked, also where its run is gone.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use crate::model::{Failure, State};

use super::checkpoint::Checkpoint;
use super::database::{COLUMNS, Damaged, RUN_SHIFT, read_record, record_id};
use super::rows::RecordRow;

/// What a run knows of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownKey<'a> {
    /// The run's number; of a key that was deleted, the run in whose input it was missing.
    pub run: i64,
    /// Hash of the key.
    pub hash: u64,
    /// What became of it.
    pub state: KeyState,
    /// Hash of where it went ([`destination_hash`]); 0 where that does not matter.
    pub destination: u64,
    /// The key as it is, where it was kept; else empty.
    pub key: &'a str,
    /// What was kept of the reply, as a JSON object; else empty.
    pub captures: &'a str,
}

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// What stood for it was deleted, before anything else that this run did.
    Deleted,
    /// Delivered; the digest of what was sent, 0 where nobody noted it.
    Delivered {
        /// The digest.
        content: u64,
    },
    /// Some of its calls were delivered, and others should have followed.
    Begun,
    /// It may have arrived.
    Held,
}

impl KnownKey<'_> {
    /// Larger for what happened later.
    #[must_use]
    pub const fn position(&self) -> u64 {
        let within = match self.state {
            KeyState::Deleted => 0,
            KeyState::Delivered { .. } | KeyState::Begun => 1,
            KeyState::Held => 2,
        };
        self.run.cast_unsigned() * 4 + within
    }

    /// The run of a position, and whether the key is held since, deleted, or delivered.
    #[must_use]
    pub const fn at(position: u64) -> (u64, KeyState) {
        let state = match position % 4 {
            0 => KeyState::Deleted,
            1 => KeyState::Delivered { content: 0 },
            _ => KeyState::Held,
        };
        (position / 4, state)
    }
}

/// The largest digest of what was sent; those above stand for something else.
pub const MOST_CONTENT: u64 = u64::MAX - 2;
/// Stands for the digest of a key that was deleted.
const DELETED: u64 = u64::MAX - 1;
/// Stands for the digest of what was sent, where only some of a record's calls were delivered.
pub const HALF_DONE: u64 = u64::MAX;

impl KeyState {
    const fn of_content(content: u64) -> Self {
        match content {
            DELETED => Self::Deleted,
            HALF_DONE => Self::Begun,
            content => Self::Delivered { content },
        }
    }

    /// What a row says of its key, if it says anything.
    const fn of_row(row: &RecordRow, is_half_done: bool) -> Option<Self> {
        match row.state {
            State::InDoubt => Some(Self::Held),
            _ if is_half_done => Some(Self::Begun),
            State::Delivered => Some(Self::Delivered { content: row.request }),
            _ => None,
        }
    }
}

/// Where a run delivers to, as it is kept beside a key.
#[must_use]
pub fn destination_hash(destination: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(destination.as_bytes()).max(1)
}

const NOTE: &str = "INSERT INTO delivered_key (key_hash, run, content, destination, key, captures, crc)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
    ON CONFLICT (key_hash) DO UPDATE SET run = excluded.run, content = excluded.content,
      destination = excluded.destination, key = excluded.key, captures = excluded.captures, crc = excluded.crc";

fn note(connection: &Connection, known: &KnownKey<'_>, content: u64, which: &str) -> rusqlite::Result<usize> {
    let mut statement = connection.prepare_cached(&format!("{NOTE} WHERE {which}"))?;
    let text = |text: &'_ str| (!text.is_empty()).then(|| text.to_owned());
    statement.execute(params![
        known.hash.cast_signed(),
        known.run,
        content.cast_signed(),
        known.destination.cast_signed(),
        text(known.key),
        text(known.captures),
        checksum(known, content)
    ])
}

fn sum_up(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .execute("UPDATE total SET keys_crc = (SELECT coalesce(sum(crc), 0) FROM delivered_key)", [])
        .map(|_| ())
}

/// Notes the keys that a run delivered, for the time when its records are removed.
pub(super) fn remember(connection: &Connection, run: i64) -> rusqlite::Result<()> {
    let destination: String =
        connection.query_row("SELECT destination FROM run WHERE number = ?1", [run], |row| row.get(0))?;
    let destination = destination_hash(&destination);
    let mut records =
        connection.prepare(&format!("SELECT {COLUMNS} FROM record WHERE id >= ?1 AND id < ?2"))?;
    let mut rows = records.query(params![record_id(run, 0), record_id(run + 1, 0)])?;
    while let Some(row) = rows.next()? {
        let record = read_record(row)?.map_err(|Damaged { id }| {
            let why = format!("the checksum of row {id} does not fit").into();
            rusqlite::Error::FromSqlConversionFailure(12, rusqlite::types::Type::Integer, why)
        })?;
        let content = if record.is_half_done() { HALF_DONE } else { record.request };
        if (record.state == State::Delivered || record.is_half_done()) && record.key_hash != 0 {
            let known = KnownKey {
                run,
                hash: record.key_hash,
                state: KeyState::of_content(content),
                destination,
                key: &record.key,
                captures: if record.key.is_empty() { "" } else { &record.captures },
            };
            // Runs are removed in no fixed order: what the last of them sent stays, and what was deleted
            // before a run that sent it does not.
            let later =
                format!("excluded.run > run OR excluded.run = run AND content = {}", DELETED.cast_signed());
            note(connection, &known, content, &later)?;
        }
    }
    sum_up(connection)
}

/// A row as it answers: the fact, and a number that tells it from all others (`None` for keys of removed runs).
type Visit<'v> = &'v mut dyn FnMut(KnownKey<'_>, Option<i64>);

impl Checkpoint {
    /// Calls `each` with what runs before `before` know of every key that they delivered or hold, and with
    /// what was deleted before that run or in it.
    pub fn keys_of_earlier_runs(
        &self,
        before: i64,
        mut each: impl FnMut(KnownKey<'_>),
    ) -> Result<(), Failure> {
        self.visit_keys(before, &mut |known, _| each(known))
    }

    /// The same, of those alone whose hashes are among `wanted` (sorted), and each once: what was known of it
    /// last. In memory: 24 bytes for each of `wanted`.
    pub fn last_of_keys(
        &self,
        before: i64,
        wanted: &[u64],
        mut each: impl FnMut(KnownKey<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut last: Vec<(u64, Option<i64>)> = vec![(0, None); wanted.len()];
        self.visit_keys(before, &mut |known, row| {
            if let Ok(at) = wanted.binary_search(&known.hash)
                && let Some(last) = last.get_mut(at)
                && known.position() >= last.0
            {
                *last = (known.position(), row);
            }
        })?;
        let mut ended = Ok(());
        self.visit_keys(before, &mut |known, row| {
            let is_last = wanted
                .binary_search(&known.hash)
                .is_ok_and(|at| last.get(at) == Some(&(known.position(), row)));
            if is_last && ended.is_ok() {
                ended = each(known);
            }
        })?;
        ended
    }

    /// Notes keys that were deleted because the input of a run did not have them.
    pub fn note_deleted(&self, run: i64, hashes: &[u64]) -> Result<(), Failure> {
        let known =
            |hash| KnownKey { run, hash, state: KeyState::Deleted, destination: 0, key: "", captures: "" };
        // A later run may have delivered it again.
        let later =
            format!("excluded.run > run OR excluded.run = run AND content = {}", DELETED.cast_signed());
        let news = self.not_noted(run, hashes).map_err(|error| self.failure(&error))?;
        if news.is_empty() {
            return Ok(());
        }
        self.durably(|connection| {
            for hash in news {
                note(connection, &known(hash), DELETED, &later)?;
            }
            sum_up(connection)
        })
    }

    /// Those of the hashes of which it is not noted yet.
    fn not_noted(&self, run: i64, hashes: &[u64]) -> rusqlite::Result<Vec<u64>> {
        let mut statement = self
            .connection
            .prepare("SELECT count(*) FROM delivered_key WHERE key_hash = ?1 AND run >= ?2")?;
        let mut news = Vec::new();
        for hash in hashes {
            let known: i64 = statement.query_row(params![hash.cast_signed(), run], |row| row.get(0))?;
            if known == 0 {
                news.push(*hash);
            }
        }
        Ok(news)
    }

    fn visit_keys(&self, before: i64, visit: Visit<'_>) -> Result<(), Failure> {
        match self.keys(before, visit) {
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
    fn keys(&self, before: i64, visit: Visit<'_>) -> rusqlite::Result<Option<(&'static str, Option<i64>)>> {
        // One look, so that a run that is removed meanwhile does not come in between.
        let _look = self.connection.unchecked_transaction()?;
        let mut destinations = HashMap::new();
        let mut runs = self.connection.prepare("SELECT number, destination FROM run")?;
        let mut rows = runs.query([])?;
        while let Some(row) = rows.next()? {
            destinations.insert(row.get::<_, i64>(0)?, destination_hash(row.get_ref(1)?.as_str()?));
        }
        // All rows are read and chosen from here: in a damaged one, what it would be chosen by may
        // be what is damaged.
        let mut removed = self
            .connection
            .prepare("SELECT key_hash, run, content, destination, key, captures, crc FROM delivered_key")?;
        let mut rows = removed.query([])?;
        let mut sum = 0;
        while let Some(row) = rows.next()? {
            let hash: i64 = row.get(0)?;
            let content = row.get::<_, i64>(2)?.cast_unsigned();
            let known = KnownKey {
                run: row.get(1)?,
                hash: hash.cast_unsigned(),
                state: KeyState::of_content(content),
                destination: row.get::<_, i64>(3)?.cast_unsigned(),
                key: row.get_ref(4)?.as_str_or_null()?.unwrap_or_default(),
                captures: row.get_ref(5)?.as_str_or_null()?.unwrap_or_default(),
            };
            let crc: u32 = row.get(6)?;
            if crc != checksum(&known, content) {
                return Ok(Some(("delivered_key", Some(hash))));
            }
            sum += i64::from(crc);
            if known.run < before || known.run == before && known.state == KeyState::Deleted {
                visit(known, None);
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
            let record = match read_record(row)? {
                Ok(record) => record,
                Err(Damaged { id }) => return Ok(Some(("record", Some(id)))),
            };
            if let Some(state) = KeyState::of_row(&record, record.is_half_done())
                && record.key_hash != 0
            {
                let run = id >> RUN_SHIFT;
                let destination = destinations.get(&run).copied().unwrap_or_default();
                let (key, captures) = (&*record.key, &*record.captures);
                visit(KnownKey { run, hash: record.key_hash, state, destination, key, captures }, Some(id));
            }
        }
        Ok(None)
    }
}

fn checksum(known: &KnownKey<'_>, content: u64) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for number in [known.hash, known.run.cast_unsigned(), content, known.destination] {
        crc.update(&number.to_le_bytes());
    }
    for text in [known.key, known.captures] {
        crc.update(&(text.len() as u64).to_le_bytes());
        crc.update(text.as_bytes());
    }
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_later_has_the_larger_position() {
        let known = |run, state| KnownKey { run, hash: 1, state, destination: 0, key: "", captures: "" };
        let delivered = KeyState::Delivered { content: 3 };
        let order = [
            known(1, delivered),
            known(1, KeyState::Held),
            known(2, KeyState::Deleted),
            known(2, delivered),
            known(2, KeyState::Held),
        ];
        assert!(order.windows(2).all(|pair| pair[0].position() < pair[1].position()));
        assert_eq!(KnownKey::at(order[2].position()), (2, KeyState::Deleted));
        assert_eq!(KnownKey::at(order[4].position()), (2, KeyState::Held));
        assert_eq!(known(2, KeyState::Begun).position(), known(2, delivered).position());
    }
}
