//! The checkpoint opened for looking and deciding: before a run sends, after it ended, and by the
//! commands that only look.
//!
//! Separate from [`super::writer`], which owns the same file while requests are under way.
//! Invariant: anything odd in the file is refused with its name; nothing is repaired by guess.

use std::cell::Cell;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, params};

use crate::config::Durability;
use crate::model::{Class, Diagnostic, Failure};

use super::batches::{self, BatchRow, BatchState};
use super::blocks::Tally;
use super::database::{self, APPLICATION, FORMAT, record_id};
use super::folder::{self, Folder};
use super::keys;
use super::responses::Responses;
use super::rows::{Grants, RecordRow, RunRow, StartRow};
use super::writer::Writer;

/// The checkpoint of one pipeline and target.
#[derive(Debug)]
pub struct Checkpoint {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    /// Whether all of the file was found sound since it was opened.
    pub(super) is_checked: Cell<bool>,
}

/// What a new run begins with.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// `20261122T0214-3f9c`
    pub id: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// Connector, connection and base URL.
    pub destination: String,
    /// Hash of what its keys stand for ([`RunRow::scope`]).
    pub scope: u64,
    /// Digest of the meaning.
    pub meaning: String,
    /// Digests of its files, as JSON.
    pub meaning_files: String,
    /// The input as it was named.
    pub input: String,
    /// How to recognise its files, as JSON.
    pub input_stamp: String,
    /// Records in it.
    pub records: u64,
    /// Running digest over all of them.
    pub input_digest: u64,
    /// How many of them repeat a key.
    pub duplicates: u64,
}

#[cfg(any(test, fuzzing))]
impl NewRun {
    /// A run of so many records, for tests.
    pub(crate) fn example(records: u64) -> Self {
        Self {
            id: "20261122T0214-3f9c".into(),
            started_at: "2026-11-22T02:14:00Z".into(),
            destination: "c https://api.example.com".into(),
            scope: 0x5c09,
            meaning: "8f".repeat(16),
            meaning_files: r#"{"pipelines/p.yaml":"ab"}"#.into(),
            input: "data/a.csv".into(),
            input_stamp: "[]".into(),
            records,
            input_digest: 0x1234_5678_9abc_def0,
            duplicates: 0,
        }
    }
}

/// How a start ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// Its class.
    pub class: Class,
    /// Whether every record has an outcome.
    pub complete: bool,
}

impl Checkpoint {
    /// Opens the checkpoint to work on it; makes it when it is not there.
    ///
    /// The caller holds the lock. A missing checkpoint beside the folder of an unfinished run is
    /// refused: what was sent would be forgotten.
    pub fn open(folder: &Folder) -> Result<Self, Failure> {
        Self::open_and(folder, Self::check_now)
    }

    /// The same for a start, which looks at a large file while it sends ([`Self::inspect_beside`]), or at its end
    /// ([`Self::check_now`]).
    pub fn open_to_start(folder: &Folder) -> Result<Self, Failure> {
        Self::open_and(folder, |checkpoint| {
            if checkpoint.is_small() {
                return checkpoint.check_now();
            }
            checkpoint.check_version()?;
            checkpoint.check_tables()?;
            if checkpoint.ended_by_damage()? { checkpoint.check_now() } else { Ok(()) }
        })
    }

    /// Looks at all of the file, unless that was done.
    pub fn check_now(&self) -> Result<(), Failure> {
        if !self.is_checked.get() {
            self.check()?;
            self.is_checked.set(true);
        }
        Ok(())
    }

    fn open_and(folder: &Folder, check: impl FnOnce(&Self) -> Result<(), Failure>) -> Result<Self, Failure> {
        let path = folder.database();
        for ending in ["", "-wal", "-shm"] {
            folder::refuse_links(&with_ending(&path, ending))?;
        }
        if !path.exists() {
            refuse_orphans(folder)?;
            return Self::create(path);
        }
        let checkpoint = Self::connected(path)?;
        check(&checkpoint)?;
        checkpoint.sync_names()?;
        Ok(checkpoint)
    }

    fn connected(path: PathBuf) -> Result<Self, Failure> {
        let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        Ok(Self { connection, path, is_checked: Cell::new(false) })
    }

    /// The same file once more.
    pub(super) fn another(&self) -> Result<Self, Failure> {
        Self::connected(self.path.clone())
    }

    /// Syncs the folder once the log is in it (looking into the file makes it): the database does so
    /// too, with the first sync of the log, but goes on when that fails.
    fn sync_names(&self) -> Result<(), Failure> {
        self.path.parent().map_or(Ok(()), folder::sync_folder)
    }

    /// Opens the checkpoint to look at it, beside a run that may be under way. `None` when there
    /// is none yet.
    pub fn open_to_read(folder: &Folder) -> Result<Option<Self>, Failure> {
        let path = folder.database();
        folder.guard()?;
        if !path.exists() {
            return Ok(None);
        }
        let checkpoint = Self::connected(path)?;
        checkpoint.check_version()?;
        Ok(Some(checkpoint))
    }

    /// Makes the file under another name first: a start that is killed here leaves no half-made
    /// checkpoint behind.
    fn create(path: PathBuf) -> Result<Self, Failure> {
        let new = with_ending(&path, ".new");
        for ending in ["", "-wal", "-shm", "-journal"] {
            let left_over = with_ending(&new, ending);
            match std::fs::remove_file(&left_over) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Failure::io("remove", &left_over, &error));
                }
                _ => {}
            }
        }
        // SQLite gives its other files the rights of this one, whatever the umask.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)
            .map_err(|error| Failure::io("make the checkpoint", &new, &error))?;
        let make_tables = || -> rusqlite::Result<()> {
            let connection = Connection::open_with_flags(&new, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            // It is synced once, below, as a whole: SQLite would sync again after a sync that failed.
            // The log comes last, when there is nothing to put into it: closing hides a failure to
            // move it.
            connection.execute_batch(&format!(
                "PRAGMA synchronous=OFF; PRAGMA journal_mode=MEMORY; BEGIN; {} {}; \
                 PRAGMA application_id={APPLICATION}; PRAGMA user_version={FORMAT}; COMMIT",
                database::TABLES,
                database::FIRST_TOTAL
            ))?;
            database::seal(&connection, None)?;
            connection.execute_batch("PRAGMA journal_mode=WAL")?;
            connection.close().map_err(|(_, error)| error)
        };
        make_tables().map_err(|error| database_failure(&new, &error))?;
        // A change of the mode that was not written is no error there: the file itself has to say it.
        let mut versions = [0; 2];
        file.read_exact_at(&mut versions, 18)
            .and_then(|()| if versions == [2, 2] { Ok(()) } else { Err(ErrorKind::WriteZero.into()) })
            .map_err(|error| Failure::io("make the checkpoint", &new, &error))?;
        file.sync_all().map_err(|error| Failure::io("sync", &new, &error))?;
        std::fs::rename(&new, &path).map_err(|error| Failure::io("rename to", &path, &error))?;
        if let Some(parent) = path.parent() {
            folder::sync_folder(parent)?;
        }
        // Before the database is opened: to close any descriptor of a file takes all locks of a process on it
        // away (fcntl(2)), and without its lock another process that looks at the checkpoint removes its log.
        drop(file);
        let checkpoint = Self { is_checked: Cell::new(true), ..Self::connected(path)? };
        checkpoint.check_version()?;
        checkpoint.sync_names()?;
        Ok(checkpoint)
    }

    pub(super) fn check_version(&self) -> Result<(), Failure> {
        let get = |name: &str| -> Result<i32, Failure> {
            self.connection
                .query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
                .map_err(|error| self.failure(&error))
        };
        if get("application_id")? != APPLICATION {
            return Err(self.damage("it is not a checkpoint of this program"));
        }
        // The file may be written, so it is its head that forbids it.
        if self.connection.is_readonly(rusqlite::MAIN_DB).map_err(|error| self.failure(&error))?
            && OpenOptions::new().write(true).open(&self.path).is_ok()
        {
            return Err(self.damage("its head says that it is made for a newer version of SQLite"));
        }
        let version = get("user_version")?;
        if version != FORMAT {
            return Err(Failure::new(
                Class::State,
                Diagnostic::error(
                    "state-version",
                    format!("the checkpoint has format {version}, this program writes format {FORMAT}"),
                )
                .at(self.path.display().to_string())
                .note("nothing was sent")
                .help("use the version of `runner` that wrote it, or a newer one"),
            ));
        }
        Ok(())
    }

    /// Says that the file is damaged, and where.
    pub(super) fn damage(&self, what: &str) -> Failure {
        Failure::new(
            Class::State,
            Diagnostic::error("state-damaged", format!("the checkpoint is damaged: {what}"))
                .at(self.path.display().to_string())
                .note("nothing was sent, nothing was changed")
                .help(DAMAGE_HELP),
        )
    }

    pub(super) fn failure(&self, error: &rusqlite::Error) -> Failure {
        database_failure(&self.path, error)
    }

    /// Writes a new run, durable on return. The one that it takes the place of is closed in the
    /// same step: a closed run without a successor would leave its rest unsent in silence.
    pub fn begin_run(&self, new: &NewRun, close: Option<(&RunRow, &str)>) -> Result<RunRow, Failure> {
        self.durably(|connection| {
            if let Some((run, why)) = close {
                connection
                    .execute("UPDATE run SET closed_at = ?2 WHERE number = ?1", params![run.number, now()])?;
                add_note(connection, run.number, None, "close", why)?;
            }
            connection.execute(
                "INSERT INTO run (id, started_at, destination, scope, meaning, meaning_files, input, input_stamp, \
                 records, input_digest, duplicates) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                params![
                    new.id,
                    new.started_at,
                    new.destination,
                    new.scope.cast_signed(),
                    new.meaning,
                    new.meaning_files,
                    new.input,
                    new.input_stamp,
                    new.records.cast_signed(),
                    new.input_digest.cast_signed(),
                    new.duplicates.cast_signed(),
                ],
            )?;
            Ok(())
        })?;
        self.latest_run()?.ok_or_else(|| self.damage("the run that was just written is not there"))
    }

    /// Notes that the input of a run grew, or that its files were touched: the same records may
    /// stand at other bytes now, so that only the ordinal of the settled point is kept.
    pub fn update_input(&self, run: &RunRow, new: &NewRun) -> Result<(), Failure> {
        self.durably(|connection| {
            connection.execute(
                "UPDATE run SET input_stamp = ?2, records = ?3, input_digest = ?4, duplicates = ?5, \
                 settled_file = 0, settled_byte = 0, settled_line = 0, \
                 closed_at = CASE WHEN ?3 > records THEN NULL ELSE closed_at END, \
                 complete = CASE WHEN ?3 > records THEN 0 ELSE complete END WHERE number = ?1",
                params![
                    run.number,
                    new.input_stamp,
                    new.records.cast_signed(),
                    new.input_digest.cast_signed(),
                    new.duplicates.cast_signed()
                ],
            )?;
            Ok(())
        })
    }

    /// Notes that the rest of a run goes on under a changed meaning.
    pub fn update_meaning(&self, run: &RunRow, new: &NewRun) -> Result<(), Failure> {
        self.durably(|connection| {
            connection.execute(
                // What was delivered before stands for what it stood for: of a run of two scopes nobody can tell.
                "UPDATE run SET meaning = ?2, meaning_files = ?3, destination = ?4, \
                 scope = CASE WHEN scope = ?5 THEN scope ELSE 0 END WHERE number = ?1",
                params![run.number, new.meaning, new.meaning_files, new.destination, new.scope.cast_signed()],
            )?;
            add_note(connection, run.number, None, "accept-changes", &new.meaning)
        })
    }

    /// Removes a run and its records. The keys that it delivered are remembered: what a plain POST
    /// made once must not be made again because the run's details are gone.
    pub fn remove_run(&self, run: &RunRow) -> Result<(), Failure> {
        self.check_rows_of(run)?;
        let (from, to) = (record_id(run.number, 0), record_id(run.number + 1, 0));
        self.durably(|connection| {
            keys::remember(connection, run.number)?;
            connection
                .execute("DELETE FROM attempt WHERE record >= ?1 AND record < ?2", params![from, to])?;
            connection.execute("DELETE FROM record WHERE id >= ?1 AND id < ?2", params![from, to])?;
            connection.execute("DELETE FROM batch WHERE id >= ?1 AND id < ?2", params![from, to])?;
            connection.execute("DELETE FROM block WHERE id >= ?1 AND id < ?2", params![from, to])?;
            connection.execute("DELETE FROM note WHERE run = ?1", [run.number])?;
            connection.execute("DELETE FROM start WHERE run = ?1", [run.number])?;
            connection.execute("DELETE FROM run WHERE number = ?1", [run.number])?;
            Ok(())
        })
    }

    /// Writes rows as one durable step; what recovery found, or what a person decided.
    pub fn write_rows(&self, run: &RunRow, rows: &[RecordRow], why: &str) -> Result<(), Failure> {
        self.durably(|connection| {
            let mut tally = Tally::new(run.number);
            write_noted(connection, &mut tally, rows, why)?;
            tally.write(connection)
        })
    }

    /// Writes rows of records and calls as one durable step: what recovery found.
    pub fn write_recovered(
        &self,
        run: &RunRow,
        rows: &[RecordRow],
        batches: &[BatchRow],
    ) -> Result<(), Failure> {
        self.durably(|connection| {
            let mut tally = Tally::new(run.number);
            write_noted(connection, &mut tally, rows, "recovered")?;
            for batch in batches {
                batches::write(connection, &mut tally, batch)?;
                let again = batch.members.iter().filter(|_| batch.state == BatchState::Waits);
                for ordinal in again {
                    let detail = format!("call {} is sent again", batch.number);
                    add_note(connection, run.number, Some(*ordinal), "recovered", &detail)?;
                }
            }
            tally.write(connection)
        })
    }

    /// Notes how many bytes of `responses.ndjson` belong to outcomes, once the file was mended.
    pub fn update_responses(&self, run: &RunRow, length: u64) -> Result<(), Failure> {
        self.durably(|connection| {
            connection.execute(
                "UPDATE run SET responses = ?2 WHERE number = ?1",
                params![run.number, length.cast_signed()],
            )?;
            Ok(())
        })
    }

    /// Forgets the point before which all is settled, because rows before it were reopened.
    pub fn reopen(&self, run: &RunRow) -> Result<(), Failure> {
        self.durably(|connection| {
            connection.execute(
                "UPDATE run SET settled = 0, settled_file = 0, settled_byte = 0, settled_line = 0, settled_digest = 0, \
                 closed_at = NULL, complete = 0 WHERE number = ?1",
                params![run.number],
            )?;
            Ok(())
        })
    }

    /// The same for a run that stays closed, or open, as it is.
    pub fn rewind(&self, run: &RunRow) -> Result<(), Failure> {
        self.durably(|connection| {
            connection.execute(
                "UPDATE run SET settled = 0, settled_file = 0, settled_byte = 0, settled_line = 0, settled_digest = 0 \
                 WHERE number = ?1",
                params![run.number],
            )?;
            Ok(())
        })
    }

    /// Notes a start of the program on a run and hands the file to a writer thread, which appends
    /// to `responses` too.
    pub fn into_writer(
        self,
        run: &RunRow,
        grants: Grants,
        durability: Durability,
        responses: Option<Responses>,
    ) -> Result<Writer, Failure> {
        self.durably(|connection| {
            connection.execute(
                "INSERT INTO start (run, at, boot, process, version, meaning, intents, leased_from) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    run.number,
                    now(),
                    boot_id(),
                    std::process::id(),
                    env!("CARGO_PKG_VERSION"),
                    run.meaning,
                    i64::from(grants.intents) + i64::from(grants.intents && grants.durable_intents),
                    grants.leased_from.cast_signed()
                ],
            )?;
            connection.execute("UPDATE run SET class = '', complete = 0 WHERE number = ?1", [run.number])?;
            Ok(())
        })?;
        Writer::start(self.connection, self.path, run.number, durability, responses)
    }

    pub(super) fn durably(
        &self,
        write: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<(), Failure> {
        let run = || -> rusqlite::Result<()> {
            self.connection.execute_batch("PRAGMA synchronous=FULL; BEGIN IMMEDIATE")?;
            let written = write(&self.connection).and_then(|()| database::seal(&self.connection, None));
            match written {
                Ok(()) => self.connection.execute_batch("COMMIT"),
                Err(error) => {
                    let _ = self.connection.execute_batch("ROLLBACK");
                    Err(error)
                }
            }
        };
        run().map_err(|error| {
            self.leave_log();
            self.failure(&error)
        })
    }

    /// Closing moves the log and syncs; after a failure that would repeat the sync that failed.
    fn leave_log(&self) {
        let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    }
}

/// Whether a start happened before the machine was last booted (or it cannot be told).
#[must_use]
pub(super) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

impl StartRow {
    /// Whether the machine was started anew since, so that un-synced writes may be lost. Unknown
    /// counts as yes.
    #[must_use]
    pub fn before_this_boot(&self) -> bool {
        self.boot.is_empty() || self.boot != boot_id()
    }

    /// Whether records of the run may have been sent of which the lease alone knows.
    #[must_use]
    pub fn leased_without_intents(&self, run: &RunRow) -> bool {
        (!self.grants.intents || self.before_this_boot() && !self.grants.durable_intents)
            && run.lease > run.settled.ordinal.max(self.grants.leased_from)
    }
}

/// RFC 3339, UTC, to the millisecond: for stamps only.
pub(super) fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// The note of a start that met damage. No class: that would say of a start that is killed then that it ended in
/// order.
pub(super) const DAMAGED: &str = "damaged";

pub(super) fn add_note(
    connection: &Connection,
    run: i64,
    ordinal: Option<u64>,
    what: &str,
    detail: &str,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO note (run, record, at, what, detail) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![run, ordinal.map(u64::cast_signed), now(), what, detail])?;
    Ok(())
}

/// Writes rows, each with a note of why.
fn write_noted(
    connection: &Connection,
    tally: &mut Tally,
    rows: &[RecordRow],
    why: &str,
) -> rusqlite::Result<()> {
    for row in rows {
        database::write_record(connection, tally, &RecordRow { at: 0, ..row.clone() })?;
        add_note(connection, tally.run(), Some(row.ordinal), why, row.state.name())?;
    }
    Ok(())
}

pub(super) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, Failure> {
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        // The writer moves the log into the database itself, when nobody else syncs it.
        connection
            .execute_batch("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-4096")?;
        connection.set_prepared_statement_cache_capacity(16);
        Ok(connection)
    };
    open().map_err(|error| database_failure(path, &error))
}

/// A checkpoint that is gone beside the folder of a run that is not finished.
fn refuse_orphans(folder: &Folder) -> Result<(), Failure> {
    let Ok(runs) = std::fs::read_dir(folder.runs()) else { return Ok(()) };
    for run in runs.flatten() {
        let summary = run.path().join("summary.json");
        folder::refuse_links(&summary)?;
        let summary = std::fs::read_to_string(summary).unwrap_or_default();
        let complete = serde_json::from_str::<serde_json::Value>(&summary)
            .ok()
            .and_then(|summary| {
                summary.get("state").and_then(|state| state.as_str().map(|state| state == "complete"))
            })
            .unwrap_or(false);
        if !complete {
            return Err(Failure::new(
                Class::State,
                Diagnostic::error(
                    "checkpoint-missing",
                    "the checkpoint is gone, but an unfinished run has left its folder",
                )
                .at(folder.database().display().to_string())
                .note(format!("the run: {}", run.path().display()))
                .note("without the checkpoint it is not known what was sent; nothing was sent now")
                .help("put the checkpoint back, or move that folder away to begin again"),
            ));
        }
    }
    Ok(())
}

/// What to do about a damaged file.
const DAMAGE_HELP: &str = "put back a copy of the file from before, if nothing was sent since it was made: what it does not \
    know would go again. Otherwise docs/checkpoint.md tells how to read the file by hand";

pub(super) fn database_failure(path: &Path, error: &rusqlite::Error) -> Failure {
    use rusqlite::{Error, ErrorCode};
    let class = match error {
        // Our statements are fixed: what does not fit them is the tables.
        Error::SqlInputError { .. } => Class::State,
        other => match other.sqlite_error_code() {
            // Without a code it is a value that cannot be what its column holds: no failure of a disk.
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown) | None => {
                Class::State
            }
            Some(_) => Class::Io,
        },
    };
    let diagnostic = match class {
        Class::State => Diagnostic::error("state-damaged", format!("the checkpoint is damaged: {error}"))
            .at(path.display().to_string())
            .note("nothing more was sent, nothing was repaired")
            .help(DAMAGE_HELP),
        _ => Diagnostic::error("io", format!("the checkpoint cannot be read or written: {error}"))
            .at(path.display().to_string())
            .note("no request was begun after that")
            .help("free the disk or mend the rights, then start the same command again; it goes on"),
    };
    Failure::new(class, diagnostic)
}
