//! The tables, and rows in and out of them.
//!
//! docs/checkpoint.md describes the same tables to people. A change here raises `FORMAT`.

use std::collections::HashMap;

use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, ErrorCode, OptionalExtension as _, Row, params};

use crate::model::State;

use super::blocks::{Share, Tally};
use super::rows::RecordRow;

/// `application_id` of our files: "RUNR".
pub const APPLICATION: i32 = 0x5255_4e52;
/// `user_version`: the version of the tables below.
pub const FORMAT: i32 = 8;
/// A record's id is its run's number shifted by this, plus its ordinal.
pub const RUN_SHIFT: u32 = 40;

pub const TABLES: &str = "
CREATE TABLE run (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  started_at TEXT NOT NULL,
  destination TEXT NOT NULL,
  scope INTEGER NOT NULL,
  meaning TEXT NOT NULL,
  meaning_files TEXT NOT NULL,
  input TEXT NOT NULL,
  input_stamp TEXT NOT NULL,
  records INTEGER NOT NULL,
  input_digest INTEGER NOT NULL,
  duplicates INTEGER NOT NULL,
  lease INTEGER NOT NULL DEFAULT 0,
  lease_digest INTEGER NOT NULL DEFAULT 0,
  settled INTEGER NOT NULL DEFAULT 0,
  settled_file INTEGER NOT NULL DEFAULT 0,
  settled_byte INTEGER NOT NULL DEFAULT 0,
  settled_line INTEGER NOT NULL DEFAULT 0,
  settled_digest INTEGER NOT NULL DEFAULT 0,
  responses INTEGER NOT NULL DEFAULT 0,
  closed_at TEXT,
  class TEXT NOT NULL DEFAULT '',
  complete INTEGER NOT NULL DEFAULT 0,
  rows_crc INTEGER NOT NULL DEFAULT 0,
  crc INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE start (
  number INTEGER PRIMARY KEY,
  run INTEGER NOT NULL REFERENCES run(number),
  at TEXT NOT NULL,
  boot TEXT NOT NULL,
  process INTEGER NOT NULL,
  version TEXT NOT NULL,
  meaning TEXT NOT NULL,
  intents INTEGER NOT NULL,
  leased_from INTEGER NOT NULL,
  class TEXT NOT NULL DEFAULT '',
  crc INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE record (
  id INTEGER PRIMARY KEY,
  state INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  flags INTEGER NOT NULL,
  status INTEGER NOT NULL,
  class TEXT,
  message TEXT,
  key_hash INTEGER,
  order_hash INTEGER,
  digest INTEGER NOT NULL,
  request INTEGER,
  captures TEXT,
  key TEXT,
  at INTEGER NOT NULL,
  first_at INTEGER,
  crc INTEGER NOT NULL
) STRICT;
CREATE TABLE batch (
  id INTEGER PRIMARY KEY,
  state INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  flags INTEGER NOT NULL,
  records INTEGER NOT NULL,
  members TEXT NOT NULL,
  request INTEGER NOT NULL,
  at INTEGER NOT NULL,
  first_at INTEGER NOT NULL,
  crc INTEGER NOT NULL
) STRICT;
CREATE TABLE block (
  id INTEGER PRIMARY KEY,
  rows_crc INTEGER NOT NULL,
  pending INTEGER NOT NULL,
  in_flight INTEGER NOT NULL,
  delivered INTEGER NOT NULL,
  failed INTEGER NOT NULL,
  invalid INTEGER NOT NULL,
  skipped INTEGER NOT NULL,
  in_doubt INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  begun INTEGER NOT NULL,
  calls_crc INTEGER NOT NULL,
  calls_open INTEGER NOT NULL,
  crc INTEGER NOT NULL
) STRICT;
CREATE TABLE delivered_key (
  key_hash INTEGER PRIMARY KEY,
  run INTEGER NOT NULL,
  content INTEGER NOT NULL,
  scope INTEGER NOT NULL,
  key TEXT,
  captures TEXT,
  crc INTEGER NOT NULL
) STRICT;
CREATE TABLE deleting (
  key_hash INTEGER PRIMARY KEY,
  run INTEGER NOT NULL,
  crc INTEGER NOT NULL
) STRICT;
CREATE TABLE total (
  number INTEGER PRIMARY KEY,
  keys_crc INTEGER NOT NULL,
  crc INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE attempt (
  record INTEGER NOT NULL,
  number INTEGER NOT NULL,
  at TEXT NOT NULL,
  status INTEGER NOT NULL,
  class TEXT NOT NULL,
  message TEXT,
  wait_ms INTEGER,
  PRIMARY KEY (record, number, at)
) STRICT, WITHOUT ROWID;
CREATE TABLE note (
  number INTEGER PRIMARY KEY,
  run INTEGER NOT NULL,
  record INTEGER,
  at TEXT NOT NULL,
  what TEXT NOT NULL,
  detail TEXT NOT NULL
) STRICT;
CREATE VIEW outcome AS SELECT
  (SELECT id FROM run WHERE number = record.id >> 40) AS run,
  record.id & 1099511627775 AS ordinal,
  CASE record.state WHEN 0 THEN 'pending' WHEN 1 THEN 'in_flight' WHEN 2 THEN 'delivered' WHEN 3 THEN 'failed'
    WHEN 4 THEN 'invalid' WHEN 5 THEN 'skipped' WHEN 6 THEN 'in_doubt' END AS state,
  attempts, status, class, message, captures
FROM record;
";

pub const UNKNOWN: u32 = 1;
const GRANTED: u32 = 2;
pub const LOOKED: u32 = 4;
const GENERATION_SHIFT: u32 = 8;

/// The id of a record's row.
pub const fn record_id(run: i64, ordinal: u64) -> i64 {
    (run << RUN_SHIFT) | ordinal.cast_signed()
}

/// Tables whose rows have a checksum over all their columns: a run's id is in every idempotency key, and
/// its lease says what may have been sent. The sums of their blocks and keys stand in them, too, as a
/// page that is whole and old, or in a wrong place, takes rows with it that no checksum of a row misses.
const SEALED: [&str; 3] = ["run", "start", "total"];
/// Columns without: a start of another boot is only trusted less, and its class is for people.
const OPEN: [&str; 3] = ["crc", "boot", "class"];

/// Rows whose checksum does not fit, by their number, with the one that would.
fn unsealed(connection: &Connection, table: &str, number: Option<i64>) -> rusqlite::Result<Vec<(i64, u32)>> {
    let which = "WHERE ?1 IS NULL OR number = ?1";
    let mut statement = connection.prepare_cached(&format!("SELECT * FROM {table} {which}"))?;
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut rows = statement.query([number])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let mut crc = crc32fast::Hasher::new();
        for (at, _) in names.iter().enumerate().filter(|(_, name)| !OPEN.contains(&name.as_str())) {
            match row.get_ref(at)? {
                ValueRef::Integer(value) => crc.update(&value.to_le_bytes()),
                ValueRef::Text(text) | ValueRef::Blob(text) => {
                    crc.update(&text.len().to_le_bytes());
                    crc.update(text);
                }
                ValueRef::Null => crc.update(&[0]),
                ValueRef::Real(value) => crc.update(&value.to_le_bytes()),
            }
        }
        let crc = crc.finalize();
        if row.get::<_, i64>("crc")? != i64::from(crc) {
            found.push((row.get("number")?, crc));
        }
    }
    Ok(found)
}

/// Writes the checksum of a run, or of all runs and starts, within the transaction that changed them.
pub fn seal(connection: &Connection, run: Option<i64>) -> rusqlite::Result<()> {
    let tables = if run.is_some() { &SEALED[..1] } else { &SEALED[..] };
    for table in tables {
        for (number, crc) in unsealed(connection, table, run)? {
            let mut statement =
                connection.prepare_cached(&format!("UPDATE {table} SET crc = ?2 WHERE number = ?1"))?;
            statement.execute(params![number, crc])?;
        }
    }
    Ok(())
}

/// What is wrong with the tables themselves, or with rows that belong to no run: a run whose number
/// changed would be taken for one of which nothing was sent.
pub fn unsound(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let mut tables =
        connection.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid")?;
    let tables: Vec<String> = tables.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    if tables.iter().map(String::as_str).ne(TABLES.split(';').map(str::trim).filter(|sql| !sql.is_empty())) {
        return Ok(Some("its tables are not those of this format".into()));
    }
    let mut runs = connection.prepare("SELECT number FROM run")?;
    let runs: Vec<i64> = runs.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for table in ["record", "batch", "block"] {
        // From run to run, so that the rows themselves are not read.
        let mut next = i64::MIN;
        let mut first_from =
            connection.prepare(&format!("SELECT id FROM {table} WHERE id >= ?1 ORDER BY id LIMIT 1"))?;
        while let Some(id) = first_from.query_row([next], |row| row.get::<_, i64>(0)).optional()? {
            let run = id >> RUN_SHIFT;
            if !runs.contains(&run) {
                return Ok(Some(format!("{table} {id} belongs to run {run}, which is not there")));
            }
            next = record_id(run + 1, 0);
        }
    }
    for table in SEALED {
        if let Some((number, _)) = unsealed(connection, table, None)?.first() {
            return Ok(Some(format!("row {number} of `{table}` does not fit its checksum")));
        }
    }
    let orphans = "SELECT number FROM start WHERE run NOT IN (SELECT number FROM run) LIMIT 1";
    let orphan: Option<i64> = connection.query_row(orphans, [], |row| row.get(0)).optional()?;
    Ok(orphan.map(|start| format!("start {start} belongs to a run that is not there")))
}

/// A row whose checksum does not fit, or whose values cannot be.
#[derive(Debug)]
pub struct Damaged {
    pub id: i64,
}

macro_rules! into_record {
    ($how:literal) => {
        concat!(
            $how,
            " INTO record (id, state, attempts, flags, status, class, message, key_hash, order_hash, digest, request, \
             captures, key, at, first_at, crc) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)"
        )
    };
}
const INSERT: &str = into_record!("INSERT");
const REPLACE: &str = into_record!("INSERT OR REPLACE");

/// The columns that [`read_record`] wants, in its order.
pub const COLUMNS: &str = "id, state, attempts, flags, status, class, message, key_hash, order_hash, digest, request, captures, key, at, first_at, crc";

/// The row that the totals begin with.
pub const FIRST_TOTAL: &str = "INSERT INTO total (number, keys_crc) VALUES (1, 0)";

/// Writes one record row, over an older one of the same record, and notes what that changes. The caller
/// writes the tally in the same transaction.
pub fn write_record(connection: &Connection, tally: &mut Tally, row: &RecordRow) -> rusqlite::Result<()> {
    let old = connection
        .prepare_cached(&format!("SELECT {} FROM record WHERE id = ?1", Share::COLUMNS))?
        .query_row([record_id(tally.run(), row.ordinal)], Share::read)
        .optional()?;
    let new = put_record(connection, REPLACE, tally.run(), row)?;
    tally.record(connection, row.ordinal, old, new)
}

/// Writes the rows of one start. Most rows are the first of their record, or follow one that this start
/// wrote, so that nobody has to look for what goes.
#[derive(Debug)]
pub struct RecordWriter {
    /// What changes by the rows.
    pub tally: Tally,
    /// No record from here on had a row when the start began.
    first_new: u64,
    /// The rows of records that are under way.
    under_way: HashMap<u64, Share>,
}

impl RecordWriter {
    /// Looks where the rows of the run end.
    pub fn new(connection: &Connection, run: i64) -> rusqlite::Result<Self> {
        let last: Option<i64> = connection.query_row(
            "SELECT max(id) FROM record WHERE id >= ?1 AND id < ?2",
            [record_id(run, 0), record_id(run + 1, 0)],
            |row| row.get(0),
        )?;
        let first_new = last.map_or(0, |last| (last & ((1 << RUN_SHIFT) - 1)).cast_unsigned() + 1);
        Ok(Self { tally: Tally::new(run), first_new, under_way: HashMap::new() })
    }

    /// Writes a row like [`write_record`].
    pub fn write(&mut self, connection: &Connection, row: &RecordRow) -> rusqlite::Result<()> {
        let run = self.tally.run();
        let old = self.under_way.remove(&row.ordinal);
        let new = match old {
            Some(_) => put_record(connection, REPLACE, run, row)?,
            None if row.ordinal < self.first_new => return write_record(connection, &mut self.tally, row),
            None => match put_record(connection, INSERT, run, row) {
                Ok(new) => new,
                // Its last row was written before by this start.
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                    return write_record(connection, &mut self.tally, row);
                }
                Err(error) => return Err(error),
            },
        };
        self.tally.record(connection, row.ordinal, old, new)?;
        if row.state == State::InFlight {
            self.under_way.insert(row.ordinal, new);
        }
        Ok(())
    }
}

/// Writes a row by one of the two statements.
fn put_record(connection: &Connection, sql: &str, run: i64, row: &RecordRow) -> rusqlite::Result<Share> {
    let mut statement: CachedStatement<'_> = connection.prepare_cached(sql)?;
    let id = record_id(run, row.ordinal);
    let flags = (u32::from(row.unknown) * UNKNOWN)
        | (u32::from(row.granted) * GRANTED)
        | (u32::from(row.looked) * LOOKED)
        | row.generation << GENERATION_SHIFT;
    let at = if row.at == 0 { jiff::Timestamp::now().as_millisecond() } else { row.at };
    let crc = checksum(id, row, flags, at);
    statement.execute(params![
        id,
        row.state as u8,
        row.attempts,
        flags,
        row.status,
        some_text(&row.class),
        some_text(&row.message),
        some_hash(row.key_hash),
        some_hash(row.order_hash),
        row.digest.cast_signed(),
        some_hash(row.request),
        some_text(&row.captures),
        some_text(&row.key),
        at,
        (row.first_at != 0).then_some(row.first_at),
        crc,
    ])?;
    Ok(Share::new(row, crc))
}

/// Reads one row and checks it.
pub fn read_record(row: &Row<'_>) -> rusqlite::Result<Result<RecordRow, Damaged>> {
    let id: i64 = row.get(0)?;
    let state: u8 = row.get(1)?;
    let flags: u32 = row.get(3)?;
    let Some(state) = State::from_number(state) else { return Ok(Err(Damaged { id })) };
    let record = RecordRow {
        ordinal: (id & ((1 << RUN_SHIFT) - 1)).cast_unsigned(),
        state,
        attempts: row.get(2)?,
        unknown: flags & UNKNOWN != 0,
        granted: flags & GRANTED != 0,
        looked: flags & LOOKED != 0,
        generation: flags >> GENERATION_SHIFT,
        status: row.get(4)?,
        class: row.get::<_, Option<String>>(5)?.unwrap_or_default(),
        message: row.get::<_, Option<String>>(6)?.unwrap_or_default(),
        key_hash: hash_of(row.get(7)?),
        order_hash: hash_of(row.get(8)?),
        digest: row.get::<_, i64>(9)?.cast_unsigned(),
        request: hash_of(row.get(10)?),
        captures: row.get::<_, Option<String>>(11)?.unwrap_or_default(),
        key: row.get::<_, Option<String>>(12)?.unwrap_or_default(),
        at: row.get(13)?,
        first_at: row.get::<_, Option<i64>>(14)?.unwrap_or_default(),
    };
    let crc: u32 = row.get(15)?;
    Ok(if crc == checksum(id, &record, flags, record.at) { Ok(record) } else { Err(Damaged { id }) })
}

fn some_text(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

const fn some_hash(hash: u64) -> Option<i64> {
    if hash == 0 { None } else { Some(hash.cast_signed()) }
}

fn hash_of(stored: Option<i64>) -> u64 {
    stored.unwrap_or(0).cast_unsigned()
}

fn checksum(id: i64, row: &RecordRow, flags: u32, at: i64) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&id.to_le_bytes());
    crc.update(&[row.state as u8]);
    crc.update(&row.attempts.to_le_bytes());
    crc.update(&flags.to_le_bytes());
    crc.update(&row.status.to_le_bytes());
    for text in [&row.class, &row.message, &row.captures, &row.key] {
        crc.update(&(text.len() as u64).to_le_bytes());
        crc.update(text.as_bytes());
    }
    for hash in [row.key_hash, row.order_hash, row.digest, row.request] {
        crc.update(&hash.to_le_bytes());
    }
    crc.update(&at.to_le_bytes());
    crc.update(&row.first_at.to_le_bytes());
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_read_back_equals_what_was_written() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLES).unwrap();
        let mut row = RecordRow::new((1 << RUN_SHIFT) - 1, State::Failed);
        row.attempts = 4;
        row.unknown = true;
        row.generation = 3;
        row.status = 422;
        row.class = "INVALID_VALUE".into();
        row.message = "email is not valid".into();
        row.key_hash = u64::MAX;
        row.digest = 7;
        row.at = 1_795_000_000_000;
        row.first_at = 1_794_999_999_000;
        row.captures = r#"{"id":12345678901234567890}"#.into();
        write_record(&connection, &mut Tally::new(5), &row).unwrap();
        let read = |connection: &Connection| {
            connection.query_row(&format!("SELECT {COLUMNS} FROM record"), [], read_record).unwrap()
        };
        assert_eq!(read(&connection).unwrap(), row);
        for column in ["state", "attempts", "flags", "status", "digest", "key_hash", "at", "first_at"] {
            connection.execute(&format!("UPDATE record SET {column} = {column} + 1"), []).unwrap();
            assert!(read(&connection).is_err(), "{column}");
            connection.execute(&format!("UPDATE record SET {column} = {column} - 1"), []).unwrap();
        }
        for column in ["message", "captures", "class"] {
            connection.execute(&format!("UPDATE record SET {column} = upper({column}) || ' '"), []).unwrap();
            assert!(read(&connection).is_err(), "{column}");
            write_record(&connection, &mut Tally::new(5), &row).unwrap();
        }
    }

    #[test]
    fn a_start_knows_where_the_rows_of_its_run_end() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLES).unwrap();
        write_record(&connection, &mut Tally::new(1), &RecordRow::new(3, State::InFlight)).unwrap();
        write_record(&connection, &mut Tally::new(2), &RecordRow::new(9, State::Delivered)).unwrap();
        let mut writer = RecordWriter::new(&connection, 1).unwrap();
        assert_eq!(writer.first_new, 4);
        for state in [State::InFlight, State::Pending, State::InFlight, State::Failed] {
            writer.write(&connection, &RecordRow::new(4, state)).unwrap();
        }
        assert!(writer.under_way.is_empty());
        assert_eq!(RecordWriter::new(&connection, 3).unwrap().first_new, 0);
    }

    #[test]
    fn a_changed_run_start_or_table_is_found() {
        let sound = || {
            let connection = Connection::open_in_memory().unwrap();
            connection.execute_batch(TABLES).unwrap();
            let run = "INSERT INTO run (id, started_at, destination, scope, meaning, meaning_files, input, input_stamp, records, \
                       input_digest, duplicates) VALUES ('r', 'a', 'd', 5, 'm', 'f', 'i', 's', 3, -7, 0)";
            let start = "INSERT INTO start (run, at, boot, process, version, meaning, intents, leased_from) \
                         VALUES (1, 'a', 'b', 1, 'v', 'm', 0, 0)";
            connection.execute_batch(&format!("{run}; {start};")).unwrap();
            write_record(&connection, &mut Tally::new(1), &RecordRow::new(2, State::Delivered)).unwrap();
            seal(&connection, None).unwrap();
            assert_eq!(unsound(&connection).unwrap(), None);
            // A disk that errs asks no foreign key.
            connection.execute_batch("PRAGMA foreign_keys=OFF").unwrap();
            connection
        };
        for change in [
            "UPDATE run SET number = 9",
            "UPDATE run SET id = 's'",
            "UPDATE run SET started_at = 'b'",
            "UPDATE run SET lease = 1",
            "UPDATE run SET scope = 6",
            "UPDATE run SET settled_digest = 1",
            "UPDATE run SET closed_at = ''",
            "UPDATE run SET crc = crc + 1",
            "UPDATE start SET intents = 1",
            "UPDATE start SET leased_from = 1",
            "UPDATE start SET run = 2",
            "DELETE FROM run",
            "CREATE TABLE more (x)",
        ] {
            let connection = sound();
            connection.execute_batch(change).unwrap();
            assert!(unsound(&connection).unwrap().is_some(), "{change}");
        }
        let connection = sound();
        connection
            .execute_batch("UPDATE start SET boot = 'c', class = 'ok'; UPDATE run SET class = 'ok'")
            .unwrap();
        assert_eq!(unsound(&connection).unwrap(), None);
    }
}
