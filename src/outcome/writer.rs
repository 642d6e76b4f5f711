//! The one writer of a checkpoint while requests are under way: a thread that owns the connection.
//!
//! Commands come over a channel and are grouped: what is ready together shares a commit. Leases
//! are synced before they are acknowledged; intents are committed without a sync (they survive
//! the process); outcomes are committed at most 5 ms or 64 of them later, and a sync of them begins at most
//! 50 ms or 2,048 of them later, or as soon as the one before has ended, beside whatever is committed then
//! (docs/checkpoint.md). Invariant: once one write or sync is known to have failed, no row is written and nothing
//! acknowledged any more (P12); every later command is refused.

mod syncs;
mod work;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::config::Durability;
use crate::model::{Class, Diagnostic, Failure};

use super::batches::BatchRow;
use super::checkpoint::Finished;
use super::responses::Responses;
use super::rows::{InputMark, RecordRow};
use super::waiting::Waiting;
use syncs::Watch;
use work::Work;

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
    syncs: Watch,
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
        let waiting = Arc::new(Waiting::default());
        let work = Work::new(connection, path, run, durability, responses, Arc::clone(&waiting))?;
        Self::of(work, waiting)
    }

    fn of(work: Work, waiting: Arc<Waiting>) -> Result<Self, Failure> {
        let (commands, inbox) = mpsc::sync_channel(QUEUE);
        let failure = Arc::new(Mutex::new(None));
        let syncs = work.watch();
        let seen = Arc::clone(&failure);
        let thread = std::thread::Builder::new()
            .name("checkpoint".into())
            .spawn(move || {
                // Dropped in the other order, also by a panic: senders see that nobody listens before a sync under
                // way is waited for.
                let mut work = work;
                let inbox = inbox;
                if let Err(failure) = work.run(&inbox) {
                    *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
                }
            })
            .map_err(|error| {
                Failure::new(Class::Io, Diagnostic::error("io", format!("cannot start a thread: {error}")))
            })?;
        let thread = Mutex::new(Some(thread));
        let shared = Shared { commands, group: Mutex::default(), waiting, syncs, failure, thread };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Gathers; false when the writer was found to have failed.
    fn send(&self, command: Command) -> bool {
        let mut group = self.shared.group();
        group.push(command);
        group.len() < GROUP || self.shared.post(&mut group)
    }

    /// Hands what was noted to the thread; false when the writer has failed, or a sync beside it.
    #[must_use]
    pub fn flush(&self) -> bool {
        self.shared.post(&mut self.shared.group()) && !self.shared.syncs.has_failed()
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
        // It may be a sync that failed, while the thread waits to be told something.
        let _ = self.shared.commands.send(Vec::new());
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

#[cfg(test)]
mod tests {
    use super::super::database::RecordWriter;
    use super::super::{Checkpoint, Folder, Grants, NewRun, RunRow, Use};
    use super::syncs::Syncs;
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

    /// The sync is under way for as long as the test wants.
    #[test]
    fn once_a_write_has_failed_no_lease_is_granted_and_the_loop_sees_it() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::new(top.path(), "default", "p");
        let (run, writer) = begun(&folder);
        drop(writer);
        let open = || Connection::open(folder.database()).unwrap();
        let (begins, begun) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        let syncs = Syncs::start(move || {
            begins.send(()).unwrap();
            let _ = ends.recv();
            Ok(())
        });
        let waiting = Arc::new(Waiting::default());
        let (path, power) = (folder.database(), Durability::Power);
        let records = RecordWriter::new(&open(), run.number).unwrap();
        let work = Work::with(syncs.unwrap(), open(), path, records, power, None, Arc::clone(&waiting));
        let writer = Writer::of(work, waiting).unwrap();
        let lease = writer.lease(200, 0, InputMark::default());
        begun.recv().unwrap();
        open().execute_batch("DROP TABLE record").unwrap();
        assert!(writer.row(RecordRow::new(0, State::Delivered)));
        let most = std::time::Instant::now() + Duration::from_mins(1);
        while writer.flush() {
            assert!(std::time::Instant::now() < most, "nobody sees it");
            std::thread::yield_now();
        }
        end.send(()).unwrap();
        assert!(lease.blocking_recv().is_err(), "it was granted");
        assert_eq!(writer.failure().class, Class::State);
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
