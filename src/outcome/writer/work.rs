//! The thread that owns the connection: groups what it is told into commits, and says when they have to be synced.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use crate::config::Durability;
use crate::model::Failure;

use super::syncs::{Acks, SYNC_ROWS, Syncs, Unsynced, Watch};
use super::{Command, fault};
use crate::outcome::batches;
use crate::outcome::checkpoint::{DAMAGED, add_note, database_failure, now, with_ending};
use crate::outcome::database::{RecordWriter, record_id, seal};
use crate::outcome::responses::Responses;
use crate::outcome::rows::{InputMark, RecordRow};
use crate::outcome::waiting::Waiting;

const COMMIT_AFTER: Duration = Duration::from_millis(5);
const COMMIT_ROWS: usize = 64;
const SYNC_AFTER: Duration = Duration::from_millis(50);
/// Rows after which the log is moved into the database: some 16 MiB of log.
const MOVE_ROWS: usize = 100_000;

/// The thread's own state.
pub(super) struct Work {
    waiting: Arc<Waiting>,
    syncs: Syncs,
    connection: Connection,
    path: PathBuf,
    run: i64,
    records: RecordWriter,
    durability: Durability,
    responses: Option<Responses>,
    /// Length of the responses that the database knows.
    responses_noted: u64,
    open: bool,
    rows: usize,
    unsynced: usize,
    /// Rows since the log was last moved into the database.
    since_move: usize,
    /// The same since a sync was last asked for that nobody waits for.
    since_ask: usize,
    since: Option<Instant>,
    unsynced_since: Option<Instant>,
    /// Who waits for the next commit.
    acks: Acks,
    /// Who waits for a sync that was not asked for yet.
    synced_acks: Acks,
}

impl Drop for Work {
    fn drop(&mut self) {
        // However the thread ends, nobody waits for it to take more.
        self.waiting.end();
        if std::thread::panicking() {
            self.give_up();
        }
    }
}

/// Why the thread ends early.
enum Broken {
    Database(rusqlite::Error),
    Responses(PathBuf, std::io::Error),
    Sync(Unsynced),
}

impl From<rusqlite::Error> for Broken {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Unsynced> for Broken {
    fn from(why: Unsynced) -> Self {
        Self::Sync(why)
    }
}

/// What is to follow a command; of several the last of these, which does what those before it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Commit,
    Sync,
    Finish,
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    let mut failure = Failure::io(what, path, error);
    for diagnostic in &mut failure.diagnostics {
        diagnostic.notes.push("nothing was begun once this was seen".to_owned());
    }
    failure
}

impl Work {
    pub(super) fn new(
        connection: Connection,
        path: PathBuf,
        run: i64,
        durability: Durability,
        responses: Option<Responses>,
        waiting: Arc<Waiting>,
    ) -> Result<Self, Failure> {
        let records = RecordWriter::new(&connection, run).map_err(|error| database_failure(&path, &error))?;
        // Replies first, so that few outcomes are kept whose line is lost; those that are, the next start mends. The
        // log stays the same file while the database is open.
        let replies = responses.as_ref().filter(|_| durability == Durability::Power);
        let replies = replies.map(|responses| responses.path().to_owned());
        let files = replies.into_iter().chain([with_ending(&path, "-wal")]).collect();
        Ok(Self::with(Syncs::of(files)?, connection, path, records, durability, responses, waiting))
    }

    pub(super) fn with(
        syncs: Syncs,
        connection: Connection,
        path: PathBuf,
        records: RecordWriter,
        durability: Durability,
        responses: Option<Responses>,
        waiting: Arc<Waiting>,
    ) -> Self {
        Self {
            waiting,
            syncs,
            connection,
            path,
            run: records.tally.run(),
            records,
            durability,
            responses,
            responses_noted: 0,
            open: false,
            rows: 0,
            unsynced: 0,
            since_move: 0,
            since_ask: 0,
            since: None,
            unsynced_since: None,
            acks: Vec::new(),
            synced_acks: Vec::new(),
        }
    }

    pub(super) fn watch(&self) -> Watch {
        self.syncs.watch()
    }

    /// Works until it is told that the start ended, or nobody is left to tell it anything.
    pub(super) fn run(&mut self, inbox: &mpsc::Receiver<Vec<Command>>) -> Result<(), Failure> {
        self.take_commands(inbox).map_err(|broken| {
            self.give_up();
            match broken {
                Broken::Database(error) => database_failure(&self.path, &error),
                Broken::Responses(path, error) => cannot("write", &path, &error),
                Broken::Sync(Unsynced::File(path, error)) => cannot("sync", &path, &error),
                Broken::Sync(Unsynced::Fault | Unsynced::Known) => fault(),
            }
        })
    }

    /// Nothing may be noted any more: what waits for a sync is not answered, and a failed sync is not repeated, as
    /// closing would do when it moves the log.
    fn give_up(&mut self) {
        self.syncs.give_up();
        // Dropped, they answer: nobody has to wait for the sync under way.
        self.acks.clear();
        self.synced_acks.clear();
        let _ =
            self.connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    }

    fn take_commands(&mut self, inbox: &mpsc::Receiver<Vec<Command>>) -> Result<(), Broken> {
        self.connection.execute_batch("PRAGMA synchronous=NORMAL")?;
        loop {
            let group = match self.deadline() {
                None => inbox.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
                Some(deadline) => inbox.recv_timeout(deadline.saturating_duration_since(Instant::now())),
            };
            self.syncs.check()?;
            let mut next = None;
            match group {
                Ok(group) => {
                    next = self.take_all(group)?;
                    // What is ready together shares a commit.
                    while self.rows < COMMIT_ROWS || !self.acks.is_empty() && self.rows < 4 * COMMIT_ROWS {
                        if matches!(next, Some(Next::Finish | Next::Sync)) {
                            break;
                        }
                        let Ok(group) = inbox.try_recv() else { break };
                        next = next.max(self.take_all(group)?);
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return self.end(),
            }
            let now = Instant::now();
            let due =
                |since: Option<Instant>, after| since.is_some_and(|since| now.duration_since(since) >= after);
            if matches!(next, Some(Next::Finish)) {
                return self.end();
            } else if matches!(next, Some(Next::Sync))
                || self.unsynced >= SYNC_ROWS
                || due(self.unsynced_since, SYNC_AFTER)
            {
                self.sync()?;
            } else if next.is_some() || self.rows >= COMMIT_ROWS || due(self.since, COMMIT_AFTER) {
                self.commit()?;
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let commit = self.since.map(|since| since + COMMIT_AFTER);
        let sync = self.unsynced_since.map(|since| since + SYNC_AFTER);
        commit.into_iter().chain(sync).min()
    }

    fn begin(&mut self) -> rusqlite::Result<()> {
        if !self.open {
            self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            self.open = true;
            let now = Instant::now();
            self.since = Some(now);
            self.unsynced_since.get_or_insert(now);
        }
        Ok(())
    }

    fn take_all(&mut self, group: Vec<Command>) -> Result<Option<Next>, Broken> {
        let mut next = None;
        for command in group {
            next = next.max(self.take(command)?);
        }
        Ok(next)
    }

    fn take(&mut self, command: Command) -> Result<Option<Next>, Broken> {
        self.begin()?;
        self.rows += 1;
        self.unsynced += 1;
        Ok(match command {
            Command::Row(row) => {
                self.records.write(&self.connection, &row)?;
                None
            }
            Command::Settled(row, response) => {
                self.settle(&row, response)?;
                None
            }
            Command::Batch { batch, ack, durable } => {
                batches::write(&self.connection, &mut self.records.tally, &batch)?;
                match ack {
                    None => None,
                    Some(ack) if durable => {
                        self.synced_acks.push(ack);
                        Some(Next::Sync)
                    }
                    Some(ack) => {
                        self.acks.push(ack);
                        Some(Next::Commit)
                    }
                }
            }
            Command::SettledBatch { rows, batches } => {
                self.rows += rows.len();
                self.unsynced += rows.len();
                for (row, response) in rows {
                    self.settle(&row, response)?;
                }
                for batch in &batches {
                    batches::write(&self.connection, &mut self.records.tally, batch)?;
                }
                None
            }
            Command::Rows(rows) => {
                self.rows += rows.len();
                self.unsynced += rows.len();
                for row in &rows {
                    self.records.write(&self.connection, row)?;
                }
                None
            }
            Command::Intent { row, ack, durable } => {
                self.records.write(&self.connection, &row)?;
                if durable {
                    self.synced_acks.push(ack);
                    Some(Next::Sync)
                } else {
                    self.acks.push(ack);
                    Some(Next::Commit)
                }
            }
            Command::Attempt { ordinal, number, status, class, message, wait } => {
                let wait = wait.map(|wait| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
                self.connection
                    .prepare_cached(
                        "INSERT OR REPLACE INTO attempt (record, number, at, status, class, message, wait_ms) \
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    )?
                    .execute(params![
                        record_id(self.run, ordinal),
                        number,
                        now(),
                        status,
                        class,
                        (!message.is_empty()).then_some(message),
                        wait
                    ])?;
                None
            }
            Command::Note { ordinal, what, detail } => {
                add_note(&self.connection, self.run, ordinal, what, &detail)?;
                None
            }
            Command::Lease { upto, digest, settled, ack } => {
                self.settled(settled)?;
                self.connection
                    .prepare_cached(
                        "UPDATE run SET lease = ?2, lease_digest = ?3 WHERE number = ?1 AND lease < ?2",
                    )?
                    .execute(params![self.run, upto.cast_signed(), digest.cast_signed()])?;
                self.synced_acks.push(ack);
                Some(Next::Sync)
            }
            Command::Sync { settled, ack } => {
                self.settled(settled)?;
                self.synced_acks.push(ack);
                Some(Next::Sync)
            }
            Command::Damage => {
                add_note(&self.connection, self.run, None, DAMAGED, "")?;
                Some(Next::Sync)
            }
            Command::Finish { finished, settled, close } => {
                self.settled(settled)?;
                // The rows say it, not a count that a start kept. Their blocks have to be written for that.
                self.records.tally.write(&self.connection)?;
                let all: bool = self.connection.query_row(
                    "SELECT (SELECT coalesce(sum(delivered + failed + invalid + skipped + in_doubt), 0) FROM block \
                     WHERE id >= ?1 AND id < ?2) = records AND NOT EXISTS \
                     (SELECT 1 FROM record WHERE id >= ?1 + records AND id < ?2) FROM run WHERE number = ?3",
                    params![record_id(self.run, 0), record_id(self.run + 1, 0), self.run],
                    |row| row.get(0),
                )?;
                let (complete, close) = (finished.complete && all, close && all);
                self.connection.execute(
                    "UPDATE run SET class = ?2, complete = ?3, closed_at = CASE WHEN ?4 THEN ?5 ELSE closed_at END \
                     WHERE number = ?1",
                    params![self.run, finished.class.name(), complete, close, now()],
                )?;
                self.connection.execute(
                    "UPDATE start SET class = ?2 WHERE number = (SELECT max(number) FROM start WHERE run = ?1)",
                    params![self.run, finished.class.name()],
                )?;
                Some(Next::Finish)
            }
        })
    }

    /// The line first, then the outcome.
    fn settle(&mut self, row: &RecordRow, response: Option<Vec<u8>>) -> Result<(), Broken> {
        if let Some(line) = response {
            if let Some(responses) = &mut self.responses {
                responses
                    .append(&line)
                    .map_err(|error| Broken::Responses(responses.path().to_owned(), error))?;
            }
            self.waiting.take(line.len());
        }
        self.records.write(&self.connection, row)?;
        Ok(())
    }

    fn settled(&self, mark: InputMark) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached(
                "UPDATE run SET settled = ?2, settled_file = ?3, settled_byte = ?4, settled_line = ?5, settled_digest = ?6 \
                 WHERE number = ?1 AND settled < ?2",
            )?
            .execute(params![
                self.run,
                mark.ordinal.cast_signed(),
                mark.file,
                mark.byte.cast_signed(),
                mark.line.cast_signed(),
                mark.digest.cast_signed(),
            ])?;
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Broken> {
        if std::mem::take(&mut self.open) {
            if let Some(responses) = &mut self.responses {
                let length = responses
                    .flush()
                    .map_err(|error| Broken::Responses(responses.path().to_owned(), error))?;
                if length != self.responses_noted {
                    self.connection
                        .prepare_cached("UPDATE run SET responses = ?2 WHERE number = ?1")?
                        .execute(params![self.run, length.cast_signed()])?;
                    self.responses_noted = length;
                }
            }
            self.records.tally.write(&self.connection)?;
            seal(&self.connection, Some(self.run))?;
            self.connection.prepare_cached("COMMIT")?.execute([])?;
        }
        self.rows = 0;
        self.since = None;
        // What failed beside the commit lets no attempt leave either.
        self.syncs.check()?;
        for ack in self.acks.drain(..) {
            let _ = ack.send(true);
        }
        Ok(())
    }

    /// Commits, and has the log synced beside what follows, which covers every commit before it.
    fn sync(&mut self) -> Result<(), Broken> {
        self.commit()?;
        let rows = std::mem::take(&mut self.unsynced);
        self.unsynced_since = None;
        self.since_move += rows;
        if self.durability == Durability::Process {
            // Nobody waits for the disk. But what the log holds is on its way there when it is moved.
            self.answer_synced();
            self.since_ask += rows;
            if self.since_ask >= SYNC_ROWS {
                self.since_ask = 0;
                self.syncs.ask(0, &mut Acks::new())?;
            }
        } else {
            self.syncs.ask(rows, &mut self.synced_acks)?;
        }
        if self.since_move >= MOVE_ROWS {
            self.since_move = 0;
            self.move_log()?;
        }
        Ok(())
    }

    /// Moves the log into the database, so that it does not grow without end. It syncs the log first, so nobody else
    /// may be at that: where one sync fails, the other would be a second try.
    fn move_log(&self) -> Result<(), Broken> {
        self.syncs.wait()?;
        self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        Ok(())
    }

    /// The last commit of a start. Replies and log are synced twice here: before it, and behind it.
    fn end(&mut self) -> Result<(), Broken> {
        self.syncs.wait()?;
        if self.durability == Durability::Power {
            // Before the commit: one that ends a start says that nothing of them is missing.
            if let Some(responses) = &mut self.responses {
                responses
                    .sync()
                    .map_err(|error| Broken::Sync(Unsynced::File(responses.path().to_owned(), error)))?;
            }
            self.commit()?;
            self.syncs.ask(self.unsynced, &mut self.synced_acks)?;
        } else {
            self.commit()?;
            self.answer_synced();
        }
        // Closing would move the log too, but pass over a failed sync, and the next to close would try it again.
        self.move_log()
    }

    fn answer_synced(&mut self) {
        for ack in self.synced_acks.drain(..) {
            let _ = ack.send(true);
        }
    }
}
