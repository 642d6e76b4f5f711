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
use super::rows::{RecordRow, RunRow};

/// What a run knows of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownKey<'a> {
    /// The run's number; of a key that was deleted, the run in whose input it was missing.
    pub run: i64,
    /// Hash of the key.
    pub hash: u64,
    /// What became of it.
    pub state: KeyState,
    /// What it stood for ([`super::RunRow::scope`]); 0 where that does not matter.
    pub scope: u64,
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
    /// It was delivered, and what deletes it may have arrived, before anything else that this run did.
    Deleting,
    /// Nothing was sent, as it was delivered before as it is.
    Unchanged,
}

impl KnownKey<'_> {
    /// Larger for what happened later.
    #[must_use]
    pub const fn position(&self) -> u64 {
        let within = match self.state {
            KeyState::Deleted => 0,
            KeyState::Deleting => 1,
            KeyState::Delivered { .. } | KeyState::Begun | KeyState::Unchanged => 2,
            KeyState::Held => 3,
        };
        self.run.cast_unsigned() * 4 + within
    }

    /// The run of a position, and whether the key is held since, deleted, being deleted, or delivered.
    #[must_use]
    pub const fn at(position: u64) -> (u64, KeyState) {
        let state = match position % 4 {
            0 => KeyState::Deleted,
            1 => KeyState::Deleting,
            2 => KeyState::Delivered { content: 0 },
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

    /// Whether calls of it were delivered then.
    #[must_use]
    pub const fn is_delivery(self) -> bool {
        matches!(self, Self::Delivered { .. } | Self::Begun)
    }

    /// What a row says of its key, if it says anything.
    fn of_row(row: &RecordRow) -> Option<Self> {
        match row.state {
            State::InDoubt => Some(Self::Held),
            _ if row.is_half_done() => Some(Self::Begun),
            State::Delivered => Some(Self::Delivered { content: row.request }),
            State::Skipped if row.class == UNCHANGED => Some(Self::Unchanged),
            _ => None,
        }
    }
}

/// The class of a record that is skipped because it is as it was delivered.
pub const UNCHANGED: &str = "unchanged";

const NOTE: &str = "INSERT INTO delivered_key (key_hash, run, content, scope, key, captures, crc)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
    ON CONFLICT (key_hash) DO UPDATE SET run = excluded.run, content = excluded.content,
      scope = excluded.scope, key = excluded.key, captures = excluded.captures, crc = excluded.crc";

fn note(connection: &Connection, known: &KnownKey<'_>, content: u64, which: &str) -> rusqlite::Result<usize> {
    let mut statement = connection.prepare_cached(&format!("{NOTE} WHERE {which}"))?;
    let text = |text: &'_ str| (!text.is_empty()).then(|| text.to_owned());
    statement.execute(params![
        known.hash.cast_signed(),
        known.run,
        content.cast_signed(),
        known.scope.cast_signed(),
        text(known.key),
        text(known.captures),
        checksum(known, content)
    ])
}

fn sum_up(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .execute(
            "UPDATE total SET keys_crc = (SELECT coalesce(sum(crc), 0) FROM delivered_key) \
             + (SELECT coalesce(sum(crc), 0) FROM deleting)",
            [],
        )
        .map(|_| ())
}

/// Notes the keys that a run delivered, for the time when its records are removed.
pub(super) fn remember(connection: &Connection, run: i64) -> rusqlite::Result<()> {
    let scope: i64 =
        connection.query_row("SELECT scope FROM run WHERE number = ?1", [run], |row| row.get(0))?;
    let scope = scope.cast_unsigned();
    let mut records =
        connection.prepare(&format!("SELECT {COLUMNS} FROM record WHERE id >= ?1 AND id < ?2"))?;
    let mut rows = records.query(params![record_id(run, 0), record_id(run + 1, 0)])?;
    while let Some(row) = rows.next()? {
        let record = read_record(row)?.map_err(|Damaged { id }| {
            let why = format!("the checksum of row {id} does not fit").into();
            rusqlite::Error::FromSqlConversionFailure(12, rusqlite::types::Type::Integer, why)
        })?;
        let content = if record.is_half_done() { HALF_DONE } else { record.request };
        if KeyState::of_row(&record) == Some(KeyState::Unchanged) {
            confirm(connection, record.key_hash, run, scope)?;
        }
        if (record.state == State::Delivered || record.is_half_done()) && record.key_hash != 0 {
            let known = KnownKey {
                run,
                hash: record.key_hash,
                state: KeyState::of_content(content),
                scope,
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

/// Notes that a key that an older run delivered was found to be as it was by one of this scope.
fn confirm(connection: &Connection, hash: u64, run: i64, scope: u64) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT run, content, key, captures FROM delivered_key WHERE key_hash = ?1 AND run < ?2 AND scope <> ?3",
    )?;
    let mut rows = statement.query(params![hash.cast_signed(), run, scope.cast_signed()])?;
    let Some(row) = rows.next()? else { return Ok(()) };
    let content = row.get::<_, i64>(1)?.cast_unsigned();
    let known = KnownKey {
        run: row.get(0)?,
        hash,
        state: KeyState::of_content(content),
        scope,
        key: row.get_ref(2)?.as_str_or_null()?.unwrap_or_default(),
        captures: row.get_ref(3)?.as_str_or_null()?.unwrap_or_default(),
    };
    note(connection, &known, content, "true").map(|_| ())
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

    /// What was delivered last of each of the keys whose hashes are `wanted` (sorted), each once, with the scope
    /// of the last run that delivered it or found it unchanged, and with what was captured last. They are looked for
    /// [`AT_ONCE`] at a time, in 72 bytes each.
    pub fn last_of_keys(
        &self,
        before: i64,
        wanted: &[u64],
        mut each: impl FnMut(KnownKey<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        wanted.chunks(AT_ONCE).try_for_each(|wanted| self.last_of_some(before, wanted, &mut each))
    }

    fn last_of_some(
        &self,
        before: i64,
        wanted: &[u64],
        each: &mut impl FnMut(KnownKey<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut last: Vec<Last> = vec![Last::default(); wanted.len()];
        self.visit_keys(before, &mut |known, row| {
            let at = wanted.binary_search(&known.hash);
            if let Some(last) = at.ok().and_then(|at| last.get_mut(at)) {
                last.see(&known, row);
            }
        })?;
        let mut ended = Ok(());
        self.visit_keys(before, &mut |known, row| {
            let at = wanted.binary_search(&known.hash);
            let Some(last) = at.ok().and_then(|at| last.get(at)) else { return };
            if known.state.is_delivery() && last.is_told_by(known.position(), row) && ended.is_ok() {
                ended = each(KnownKey { scope: last.scope, ..known });
            }
        })?;
        ended
    }

    /// Notes what became of keys that the input of a run did not have: those that were deleted, and those of which
    /// that may be; of all others of that run it is known that they were not.
    pub fn note_deletes(&self, run: i64, deleted: &[u64], maybe: &[u64]) -> Result<(), Failure> {
        let known = |hash| KnownKey { run, hash, state: KeyState::Deleted, scope: 0, key: "", captures: "" };
        // A later run may have delivered it again.
        let later =
            format!("excluded.run > run OR excluded.run = run AND content = {}", DELETED.cast_signed());
        let news = self.not_noted(run, deleted).map_err(|error| self.failure(&error))?;
        let before = self.deleting_of(run).map_err(|error| self.failure(&error))?;
        let mut maybe: Vec<i64> = maybe.iter().map(|hash| hash.cast_signed()).collect();
        maybe.sort_unstable();
        if news.is_empty() && before == maybe {
            return Ok(());
        }
        self.durably(|connection| {
            for hash in news {
                note(connection, &known(hash), DELETED, &later)?;
                connection.execute(
                    "DELETE FROM deleting WHERE key_hash = ?1 AND run <= ?2",
                    params![hash.cast_signed(), run],
                )?;
            }
            connection.execute("DELETE FROM deleting WHERE run = ?1", [run])?;
            for hash in maybe {
                connection.execute(
                    "INSERT INTO deleting (key_hash, run, crc) VALUES (?1, ?2, ?3) \
                     ON CONFLICT (key_hash) DO UPDATE SET run = excluded.run, crc = excluded.crc \
                     WHERE excluded.run > run",
                    params![hash, run, deleting_checksum(hash, run)],
                )?;
            }
            sum_up(connection)
        })
    }

    /// Whether it is not known of keys that a run did not have whether they were deleted.
    pub fn has_deleting(&self, run: &RunRow) -> Result<bool, Failure> {
        self.deleting_of(run.number).map(|keys| !keys.is_empty()).map_err(|error| self.failure(&error))
    }

    /// The keys of a run that may have been deleted, as it is noted, ascending.
    fn deleting_of(&self, run: i64) -> rusqlite::Result<Vec<i64>> {
        let mut statement =
            self.connection.prepare("SELECT key_hash FROM deleting WHERE run = ?1 ORDER BY key_hash")?;
        statement.query_map([run], |row| row.get(0))?.collect()
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
        let mut scopes = HashMap::new();
        let mut runs = self.connection.prepare("SELECT number, scope FROM run")?;
        let mut rows = runs.query([])?;
        while let Some(row) = rows.next()? {
            scopes.insert(row.get::<_, i64>(0)?, row.get::<_, i64>(1)?.cast_unsigned());
        }
        // All rows are read and chosen from here: in a damaged one, what it would be chosen by may
        // be what is damaged.
        let mut removed = self
            .connection
            .prepare("SELECT key_hash, run, content, scope, key, captures, crc FROM delivered_key")?;
        let mut rows = removed.query([])?;
        let mut sum = 0;
        while let Some(row) = rows.next()? {
            let hash: i64 = row.get(0)?;
            let content = row.get::<_, i64>(2)?.cast_unsigned();
            let known = KnownKey {
                run: row.get(1)?,
                hash: hash.cast_unsigned(),
                state: KeyState::of_content(content),
                scope: row.get::<_, i64>(3)?.cast_unsigned(),
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
        let mut deleting = self.connection.prepare("SELECT key_hash, run, crc FROM deleting")?;
        let mut rows = deleting.query([])?;
        while let Some(row) = rows.next()? {
            let (hash, run, crc) = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, u32>(2)?);
            if crc != deleting_checksum(hash, run) {
                return Ok(Some(("deleting", Some(hash))));
            }
            sum += i64::from(crc);
            if run <= before {
                let (hash, state) = (hash.cast_unsigned(), KeyState::Deleting);
                visit(KnownKey { run, hash, state, scope: 0, key: "", captures: "" }, None);
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
            if let Some(state) = KeyState::of_row(&record)
                && record.key_hash != 0
            {
                let run = id >> RUN_SHIFT;
                let scope = scopes.get(&run).copied().unwrap_or_default();
                let (key, captures) = (&*record.key, &*record.captures);
                visit(KnownKey { run, hash: record.key_hash, state, scope, key, captures }, Some(id));
            }
        }
        Ok(None)
    }
}

fn checksum(known: &KnownKey<'_>, content: u64) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for number in [known.hash, known.run.cast_unsigned(), content, known.scope] {
        crc.update(&number.to_le_bytes());
    }
    for text in [known.key, known.captures] {
        crc.update(&(text.len() as u64).to_le_bytes());
        crc.update(text.as_bytes());
    }
    crc.finalize()
}

fn deleting_checksum(hash: i64, run: i64) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&hash.to_le_bytes());
    crc.update(&run.to_le_bytes());
    crc.finalize()
}

/// Keys that are looked for in one reading of all rows.
const AT_ONCE: usize = 200_000;

/// What is known last of one key.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    /// Position and row of its last delivery.
    delivered: (u64, Option<i64>),
    /// The same of the last of which something was captured: a person who settles a doubt captures nothing.
    captured: (u64, Option<i64>),
    /// Position of its last deletion.
    deleted: u64,
    /// Position of the last run that delivered it or found it unchanged, and its scope.
    seen: u64,
    scope: u64,
}

impl Last {
    fn see(&mut self, known: &KnownKey<'_>, row: Option<i64>) {
        let position = known.position();
        if known.state == KeyState::Deleted {
            self.deleted = self.deleted.max(position);
        }
        if (known.state.is_delivery() || known.state == KeyState::Unchanged) && position >= self.seen {
            (self.seen, self.scope) = (position, known.scope);
        }
        if known.state.is_delivery() && position >= self.delivered.0 {
            self.delivered = (position, row);
        }
        if known.state.is_delivery() && known.captures.len() > "{}".len() && position >= self.captured.0 {
            self.captured = (position, row);
        }
    }

    /// Whether what this row says is what is told of the key; nothing is, once it was deleted.
    fn is_told_by(&self, position: u64, row: Option<i64>) -> bool {
        if self.deleted > self.delivered.0 {
            return false;
        }
        // What was captured before it was deleted belongs to something else.
        let told = if self.captured.0 > self.deleted { self.captured } else { self.delivered };
        told == (position, row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_later_has_the_larger_position() {
        let known = |run, state| KnownKey { run, hash: 1, state, scope: 0, key: "", captures: "" };
        let delivered = KeyState::Delivered { content: 3 };
        let order = [
            known(1, delivered),
            known(1, KeyState::Held),
            known(2, KeyState::Deleted),
            known(2, KeyState::Deleting),
            known(2, delivered),
            known(2, KeyState::Held),
        ];
        assert!(order.windows(2).all(|pair| pair[0].position() < pair[1].position()));
        assert_eq!(KnownKey::at(order[2].position()), (2, KeyState::Deleted));
        assert_eq!(KnownKey::at(order[3].position()), (2, KeyState::Deleting));
        assert_eq!(KnownKey::at(order[5].position()), (2, KeyState::Held));
        assert_eq!(known(2, KeyState::Begun).position(), known(2, delivered).position());
    }
}
