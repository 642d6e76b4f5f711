//! The one writer of a checkpoint while requests are under way: a thread that owns the connection.
//!
//! Commands come over a channel and are grouped: what is ready together shares a commit. Leases
//! are synced before they are acknowledged; intents are committed without a sync (they survive
//! the process); outcomes are committed at most 5 ms or 64 of them later, and synced at most
//! 50 ms or 4,096 of them later (guarantees.md 5). Invariant: after one failed write or sync
//! nothing is written or acknowledged any more (P12); every later command is refused.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use crate::config::Durability;
use crate::model::{Class, Diagnostic, Failure};

use super::batches::{self, BatchRow};
use super::checkpoint::{DAMAGED, Finished, add_note, database_failure, now};
use super::database::{RecordWriter, record_id, seal};
use super::responses::Responses;
use super::rows::{InputMark, RecordRow};
use super::waiting::Waiting;

const COMMIT_AFTER: Duration = Duration::from_millis(5);
const COMMIT_ROWS: usize = 64;
const SYNC_AFTER: Duration = Duration::from_millis(50);
const SYNC_ROWS: usize = 4096;
/// Rows after which the log is moved into the database: some 16 MiB of log.
const MOVE_ROWS: usize = 100_000;
/// Commands that are handed over at once, at the most.
const GROUP: usize = 64;
/// Groups that wait for the writer; a fuller queue holds the sender back.
const QUEUE: usize = 128;

#[derive(Debug)]
enum Command {
    Row(RecordRow),
    Settled(RecordRow, Option<Vec<u8>>),
    Rows(Vec<RecordRow>),
    Intent { row: RecordRow, ack: oneshot::Sender<bool>, durable: bool },
    Batch { batch: BatchRow, ack: Option<oneshot::Sender<bool>>, durable: bool },
    SettledBatch { rows: Vec<(RecordRow, Option<Vec<u8>>)>, batches: Vec<BatchRow> },
    Attempt { ordinal: u64, number: u32, status: u16, class: String, message: String, wait: Option<Duration> },
    Note { ordinal: Option<u64>, what: &'static str, detail: String },
    Lease { upto: u64, digest: u64, settled: InputMark, ack: oneshot::Sender<bool> },
    Sync { settled: InputMark, ack: oneshot::Sender<bool> },
    Damage,
    Finish { finished: Finished, settled: InputMark, close: bool },
}

/// The handle of the writer thread; cheap to clone.
///
/// What is noted is gathered and goes to the thread in groups, because waking it costs more than
/// most of what it is told: when a group is full, with every lease and sync, and with
/// [`Self::flush`], which whoever notes something calls before it waits. So whatever a lease says
/// of earlier records is behind their rows.
#[derive(Debug, Clone)]
pub struct Writer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    commands: mpsc::SyncSender<Vec<Command>>,
    group: Mutex<Vec<Command>>,
    waiting: Arc<Waiting>,
    failure: Arc<Mutex<Option<Failure>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Shared {
    /// Hands over what was gathered; the group stays locked, so that nothing overtakes it.
    fn post(&self, group: &mut Vec<Command>) -> bool {
        group.is_empty() || self.commands.send(std::mem::take(group)).is_ok()
    }

    fn group(&self) -> MutexGuard<'_, Vec<Command>> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // An ending that is out of order still keeps what was noted.
        let mut group = std::mem::take(self.group.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.post(&mut group);
    }
}

/// Resolves once what was asked is on disk as far as it was asked; false after a failure.
pub type Ack = oneshot::Receiver<bool>;

impl Writer {
    pub(super) fn start(
        connection: Connection,
        path: PathBuf,
        run: i64,
        durability: Durability,
        responses: Option<Responses>,
    ) -> Result<Self, Failure> {
        let records = RecordWriter::new(&connection, run).map_err(|error| database_failure(&path, &error))?;
        let (commands, inbox) = mpsc::sync_channel(QUEUE);
        let failure = Arc::new(Mutex::new(None));
        let waiting = Arc::new(Waiting::default());
        let mut work = Work {
            waiting: Arc::clone(&waiting),
            connection,
            run,
            records,
            durability,
            responses,
            responses_noted: 0,
            open: false,
            rows: 0,
            unsynced: 0,
            since_move: 0,
            since: None,
            unsynced_since: None,
            acks: Vec::new(),
            synced_acks: Vec::new(),
        };
        let seen = Arc::clone(&failure);
        let thread = std::thread::Builder::new()
            .name("checkpoint".into())
            .spawn(move || {
                if let Err(broken) = work.run(&inbox) {
                    // Closing would move the log and sync again; a failed sync is not repeated.
                    let _ = work
                        .connection
                        .set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
                    let failure = match broken {
                        Broken::Database(error) => database_failure(&path, &error),
                        Broken::Responses(path, error) => Failure::io("write", &path, &error),
                    };
                    *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
                    // The inbox is dropped here: senders see it closed, waiters see false.
                }
            })
            .map_err(|error| {
                Failure::new(Class::Io, Diagnostic::error("io", format!("cannot start a thread: {error}")))
            })?;
        let thread = Mutex::new(Some(thread));
        let shared = Shared { commands, group: Mutex::default(), waiting, failure, thread };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Gathers; false when the writer was found to have failed.
    fn send(&self, command: Command) -> bool {
        let mut group = self.shared.group();
        group.push(command);
        group.len() < GROUP || self.shared.post(&mut group)
    }

    /// Hands what was noted to the thread; false when the writer has failed.
    #[must_use]
    pub fn flush(&self) -> bool {
        self.shared.post(&mut self.shared.group())
    }

    /// Notes the state of a record; false when the writer has failed.
    #[must_use]
    pub fn row(&self, row: RecordRow) -> bool {
        self.send(Command::Row(row))
    }

    /// Notes the outcome of a record, with its line for `responses.ndjson`.
    #[must_use]
    pub fn settled(&self, row: RecordRow, response: Option<Vec<u8>>) -> bool {
        self.make_room(response.as_ref().map_or(0, Vec::len)) && self.send(Command::Settled(row, response))
    }

    /// Waits until the thread has taken so many lines that there is room for these.
    fn make_room(&self, line: usize) -> bool {
        if line == 0 || self.shared.waiting.add(line) {
            return true;
        }
        // What has to go first may still be here.
        let is_there = self.flush();
        self.shared.waiting.wait(line);
        is_there
    }

    /// Notes the states of several records.
    #[must_use]
    pub fn rows(&self, rows: Vec<RecordRow>) -> bool {
        self.send(Command::Rows(rows))
    }

    /// Notes that an attempt may leave; it may once the answer is true. `durable`: not before it would
    /// survive a loss of power.
    pub fn intent(&self, row: RecordRow, durable: bool) -> Ack {
        let (ack, answer) = oneshot::channel();
        self.send(Command::Intent { row, ack, durable });
        answer
    }

    /// Notes that the attempt of a call with several records may leave; it may once the answer is true.
    /// `durable`: not before it would survive a loss of power.
    pub fn batch_intent(&self, batch: BatchRow, durable: bool) -> Ack {
        let (ack, answer) = oneshot::channel();
        self.send(Command::Batch { batch, ack: Some(ack), durable });
        answer
    }

    /// Notes how far a call with several records is; false when the writer has failed.
    #[must_use]
    pub fn batch(&self, batch: BatchRow) -> bool {
        self.send(Command::Batch { batch, ack: None, durable: false })
    }

    /// Notes in one step what became of records of a call, with their lines for `responses.ndjson`, and how
    /// far that call and those that follow from it are.
    #[must_use]
    pub fn settled_batch(&self, rows: Vec<(RecordRow, Option<Vec<u8>>)>, batches: Vec<BatchRow>) -> bool {
        let lines = rows.iter().filter_map(|(_, line)| line.as_ref()).map(Vec::len).sum();
        self.make_room(lines) && self.send(Command::SettledBatch { rows, batches })
    }

    /// Notes an attempt that was not the last, or not good: its status, class and message.
    pub fn attempt(&self, ordinal: u64, number: u32, why: (u16, &str, &str), wait: Option<Duration>) {
        let (status, class, message) = (why.0, why.1.to_owned(), why.2.to_owned());
        self.send(Command::Attempt { ordinal, number, status, class, message, wait });
    }

    /// Notes something about the run or a record.
    pub fn note(&self, ordinal: Option<u64>, what: &'static str, detail: String) {
        self.send(Command::Note { ordinal, what, detail });
    }

    /// Grants all ordinals below `upto` for sending; they may be sent once the answer is true.
    /// `digest` is the running digest up to there, `settled` the point before which all is settled.
    pub fn lease(&self, upto: u64, digest: u64, settled: InputMark) -> Ack {
        let (ack, answer) = oneshot::channel();
        // A writer that has failed drops the question, which answers it.
        let _ = self.send(Command::Lease { upto, digest, settled, ack }) && self.flush();
        answer
    }

    /// Notes that the checkpoint was found to be damaged, whatever becomes of this start: the next one looks at all
    /// of it before it sends.
    pub fn damage(&self) {
        let _ = self.send(Command::Damage) && self.flush();
    }

    /// Makes everything noted so far durable.
    pub fn sync(&self, settled: InputMark) -> Ack {
        let (ack, answer) = oneshot::channel();
        let _ = self.send(Command::Sync { settled, ack }) && self.flush();
        answer
    }

    /// What went wrong, once a call answered false.
    #[must_use]
    pub fn failure(&self) -> Failure {
        // The thread notes its failure before it lets go of the inbox, but ends after that.
        if !self.join() {
            return fault();
        }
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_else(|| {
            Failure::new(
                Class::Io,
                Diagnostic::error("io", "the checkpoint was closed by an earlier failure"),
            )
        })
    }

    /// Ends the run's start durably and waits for the thread.
    pub fn finish(self, finished: Finished, settled: InputMark, close: bool) -> Result<(), Failure> {
        let sent = self.send(Command::Finish { finished, settled, close }) && self.flush();
        if !self.join() {
            return Err(fault());
        }
        let failure = self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        match failure {
            Some(failure) => Err(failure),
            None if sent => Ok(()),
            None => {
                Err(Failure::new(Class::Io, Diagnostic::error("io", "the checkpoint could not be ended")))
            }
        }
    }

    /// Waits for the thread; false when a fault of ours ended it, with the rows of its last group.
    fn join(&self) -> bool {
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        thread.is_none_or(|thread| thread.join().is_ok())
    }
}

fn fault() -> Failure {
    let what = "the thread that writes the checkpoint ended by a fault of this program";
    let diagnostic = Diagnostic::error("bug", what)
        .note(
            "what it had noted is kept; replies that came after that are not, and their records are in doubt",
        )
        .help("start the same command again; if this comes again, report it with `runner --version`");
    Failure::new(Class::Bug, diagnostic)
}

/// The thread's own state.
struct Work {
    waiting: Arc<Waiting>,
    connection: Connection,
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
    since: Option<Instant>,
    unsynced_since: Option<Instant>,
    /// Who waits for the next commit.
    acks: Vec<oneshot::Sender<bool>>,
    /// Who waits for the next synced commit.
    synced_acks: Vec<oneshot::Sender<bool>>,
}

impl Drop for Work {
    fn drop(&mut self) {
        // However the thread ends, nobody waits for it to take more.
        self.waiting.end();
    }
}

/// Why the thread ends early.
enum Broken {
    Database(rusqlite::Error),
    Responses(PathBuf, std::io::Error),
}

impl From<rusqlite::Error> for Broken {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

/// What is to follow a command; of several the last of these, which does what those before it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Commit,
    Sync,
    Finish,
}

impl Work {
    fn run(&mut self, inbox: &mpsc::Receiver<Vec<Command>>) -> Result<(), Broken> {
        self.connection.execute_batch("PRAGMA synchronous=NORMAL")?;
        loop {
            let group = match self.deadline() {
                None => inbox.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
                Some(deadline) => inbox.recv_timeout(deadline.saturating_duration_since(Instant::now())),
            };
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
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    self.sync()?;
                    return Ok(());
                }
            }
            let now = Instant::now();
            let due =
                |since: Option<Instant>, after| since.is_some_and(|since| now.duration_since(since) >= after);
            if matches!(next, Some(Next::Sync | Next::Finish))
                || self.unsynced >= SYNC_ROWS
                || due(self.unsynced_since, SYNC_AFTER)
            {
                self.sync()?;
            } else if next.is_some() || self.rows >= COMMIT_ROWS || due(self.since, COMMIT_AFTER) {
                self.commit()?;
            }
            if matches!(next, Some(Next::Finish)) {
                // Closing would move the log too, but pass over a failed sync, and the next to close
                // would try it again.
                self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
                return Ok(());
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

    /// Moves the log into the database now and then, so that it does not grow without end. Behind
    /// a synced commit, as the move syncs the log too.
    fn move_log(&mut self) -> rusqlite::Result<()> {
        self.since_move += self.unsynced;
        if self.since_move >= MOVE_ROWS {
            self.since_move = 0;
            self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        }
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
        for ack in self.acks.drain(..) {
            let _ = ack.send(true);
        }
        Ok(())
    }

    /// Commits with a sync of the log, which covers every commit before it.
    fn sync(&mut self) -> Result<(), Broken> {
        if self.durability == Durability::Power && self.unsynced_since.is_some() {
            // Before the commit: one that ends a start says that nothing of it is missing.
            if let Some(responses) = &mut self.responses {
                responses.sync().map_err(|error| Broken::Responses(responses.path().to_owned(), error))?;
            }
            // The setting can change between transactions only. Intents need no more than this commit.
            self.commit()?;
            self.connection.execute_batch("PRAGMA synchronous=FULL")?;
            self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            self.open = true;
            // SQLite does not write a page whose bytes stay the same, and a commit without a page does
            // not sync: so something has to change.
            self.connection
                .prepare_cached("UPDATE run SET syncs = syncs + 1 WHERE number = ?1")?
                .execute([self.run])?;
            self.commit()?;
            self.connection.execute_batch("PRAGMA synchronous=NORMAL")?;
            self.move_log()?;
        } else {
            self.commit()?;
            self.move_log()?;
        }
        self.unsynced = 0;
        self.unsynced_since = None;
        for ack in self.synced_acks.drain(..) {
            let _ = ack.send(true);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Checkpoint, Folder, Grants, NewRun, RunRow, Use};
    use super::*;
    use crate::model::State;

    fn begun(folder: &Folder) -> (RunRow, Writer) {
        folder.prepare(Use::Create).unwrap();
        let checkpoint = Checkpoint::open(folder).unwrap();
        let new = NewRun::example(1000);
        let run = checkpoint.begin_run(&new, None).unwrap();
        let writer = checkpoint
            .into_writer(
                &run,
                Grants { intents: true, durable_intents: false, leased_from: 0 },
                Durability::Power,
                None,
            )
            .unwrap();
        (run, writer)
    }

    fn delivered(folder: &Folder, run: &RunRow) -> u64 {
        Checkpoint::open_to_read(folder).unwrap().unwrap().counts(run).unwrap().delivered
    }

    #[test]
    fn a_granted_lease_is_behind_all_that_was_noted_before_it() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::new(top.path(), "default", "p");
        let (run, writer) = begun(&folder);
        for ordinal in 0..100 {
            assert!(writer.row(RecordRow::new(ordinal, State::Delivered)));
        }
        let asks = writer.clone();
        assert!(asks.lease(200, 0, InputMark::default()).blocking_recv().unwrap());
        assert_eq!(delivered(&folder, &run), 100);
    }

    #[test]
    fn an_intent_is_answered_once_it_is_handed_over() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::new(top.path(), "default", "p");
        let (run, writer) = begun(&folder);
        let mut answers: Vec<Ack> =
            (0..3).map(|ordinal| writer.intent(RecordRow::new(ordinal, State::InFlight), false)).collect();
        assert!(answers.iter_mut().all(|answer| answer.try_recv().is_err()));
        assert!(writer.flush());
        assert!(answers.into_iter().all(|answer| answer.blocking_recv().unwrap()));
        let found = Checkpoint::open_to_read(&folder).unwrap().unwrap().row(&run, 2).unwrap();
        assert_eq!(found.map(|row| row.state), Some(State::InFlight));
    }

    #[test]
    fn a_writer_that_is_dropped_keeps_what_was_noted() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::new(top.path(), "default", "p");
        let (run, writer) = begun(&folder);
        assert!(writer.row(RecordRow::new(7, State::Delivered)));
        let thread = writer.shared.thread.lock().unwrap().take().unwrap();
        drop(writer);
        thread.join().unwrap();
        assert_eq!(delivered(&folder, &run), 1);
    }
}
