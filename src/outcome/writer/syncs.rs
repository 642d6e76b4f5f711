//! Syncs beside the writing: a thread that makes durable, against a loss of power, what the writer has committed.
//!
//! Apart from the writer, because a disk may take longer for one sync than for a thousand commits, and the intents
//! that lanes wait for need none. Invariants: whoever asked is answered only once a sync that began afterwards is
//! done; no more than [`SYNC_ROWS`] rows wait for one, or those of one commit; after one failed sync none is tried again,
//! and after a failed write none is answered (P12); whoever asked or waits learns of both.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::model::{Class, Diagnostic, Failure};

/// Rows that may wait for a sync. The writer gathers as many before it asks, so that twice as many are lost at
/// the most.
pub(super) const SYNC_ROWS: usize = 2048;

/// Who waits for a sync.
pub(super) type Acks = Vec<oneshot::Sender<bool>>;

/// Why a sync is not to be had.
#[derive(Debug)]
pub(super) enum Unsynced {
    /// A file could not be synced.
    File(PathBuf, io::Error),
    /// The thread ended by a fault of ours.
    Fault,
    /// It was told before why.
    Known,
}

/// A sync that was asked for: of how many rows, and who waits for it.
#[derive(Debug, Default)]
struct Round {
    rows: usize,
    acks: Acks,
}

/// What was asked of the thread.
#[derive(Debug, Default)]
struct Asked {
    /// Did not begin yet.
    next: Option<Round>,
    under_way: Option<Round>,
    has_failed: bool,
    /// Until it is told.
    why: Option<Unsynced>,
    /// Nobody asks any more.
    is_over: bool,
}

impl Asked {
    /// Whether so many more rows may wait. More than may wait at all go alone.
    fn has_room(&self, rows: usize) -> bool {
        let waiting =
            [&self.next, &self.under_way].into_iter().flatten().map(|round| round.rows).sum::<usize>();
        rows == 0 || waiting == 0 || waiting + rows <= SYNC_ROWS
    }

    fn check(&mut self) -> Result<(), Unsynced> {
        if self.has_failed { Err(self.why.take().unwrap_or(Unsynced::Known)) } else { Ok(()) }
    }

    /// Nothing is answered any more. Those who wait see it by that.
    fn fail(&mut self, why: Unsynced) {
        if !self.has_failed {
            self.has_failed = true;
            self.why = Some(why);
        }
        for round in [&mut self.next, &mut self.under_way].into_iter().flatten() {
            round.acks.clear();
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    asked: Mutex<Asked>,
    /// There is something to do, or something was done.
    changed: Condvar,
}

impl Queue {
    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn until(&self, is_so: impl Fn(&Asked) -> bool) -> MutexGuard<'_, Asked> {
        let asked = self.changed.wait_while(self.asked(), |asked| !is_so(asked));
        asked.unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread.
    fn work(&self, mut sync: impl FnMut() -> Result<(), Unsynced>) {
        loop {
            let mut asked = self.until(|asked| asked.next.is_some() || asked.is_over || asked.has_failed);
            if asked.is_over || asked.has_failed {
                return;
            }
            asked.under_way = asked.next.take();
            drop(asked);
            let synced = sync();
            let mut asked = self.asked();
            if let Err(why) = synced {
                asked.fail(why);
            }
            // Nobody where it failed, or a write failed meanwhile.
            for ack in asked.under_way.take().unwrap_or_default().acks {
                let _ = ack.send(true);
            }
            drop(asked);
            self.changed.notify_all();
        }
    }
}

/// Tells whether something has failed, without waiting for the writer to notice.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    queue: Arc<Queue>,
}

impl Watch {
    pub(super) fn has_failed(&self) -> bool {
        self.queue.asked().has_failed
    }
}

/// The writer's side.
#[derive(Debug)]
pub(super) struct Syncs {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

impl Syncs {
    /// Starts the thread for files that are there and stay the ones they are. They are synced in this order.
    pub(super) fn of(files: Vec<PathBuf>) -> Result<Self, Failure> {
        let mut open = Vec::with_capacity(files.len());
        for path in files {
            let file = open_to_sync(&path)?;
            open.push((path, file));
        }
        Self::start(move || {
            for (path, file) in &open {
                file.sync_data().map_err(|error| Unsynced::File(path.clone(), error))?;
            }
            Ok(())
        })
    }

    /// The same with another way to sync.
    pub(super) fn start(
        sync: impl FnMut() -> Result<(), Unsynced> + Send + 'static,
    ) -> Result<Self, Failure> {
        let queue = Arc::new(Queue::default());
        let ends = Ends { queue: Arc::clone(&queue) };
        let thread = std::thread::Builder::new()
            .name("sync".into())
            .spawn(move || ends.queue.work(sync))
            .map_err(|error| {
                Failure::new(Class::Io, Diagnostic::error("io", format!("cannot start a thread: {error}")))
            })?;
        Ok(Self { queue, thread: Some(thread) })
    }

    pub(super) fn watch(&self) -> Watch {
        Watch { queue: Arc::clone(&self.queue) }
    }

    /// Fails once something has failed.
    pub(super) fn check(&self) -> Result<(), Unsynced> {
        self.queue.asked().check()
    }

    /// Asks for a sync of all that was written before, `rows` of which none was asked for yet. Waits only where
    /// too many rows wait already; 0 never do.
    pub(super) fn ask(&self, rows: usize, acks: &mut Acks) -> Result<(), Unsynced> {
        let mut asked = self.queue.until(|asked| asked.has_room(rows) || asked.has_failed);
        asked.check()?;
        let next = asked.next.get_or_insert_default();
        next.rows += rows;
        next.acks.append(acks);
        drop(asked);
        self.queue.changed.notify_all();
        Ok(())
    }

    /// Waits until everything that was asked for is synced.
    pub(super) fn wait(&self) -> Result<(), Unsynced> {
        self.queue
            .until(|asked| asked.next.is_none() && asked.under_way.is_none() || asked.has_failed)
            .check()
    }

    /// The writer has failed: what is being synced is not answered, and nothing else is synced.
    pub(super) fn give_up(&self) {
        self.queue.asked().fail(Unsynced::Known);
        self.queue.changed.notify_all();
    }
}

impl Drop for Syncs {
    fn drop(&mut self) {
        self.queue.asked().is_over = true;
        self.queue.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // That it ended by a fault was noted.
            let _ = thread.join();
        }
    }
}

/// However the thread ends, nobody waits for it after that.
struct Ends {
    queue: Arc<Queue>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.queue.asked().fail(Unsynced::Fault);
        }
        self.queue.changed.notify_all();
    }
}

/// Opens a file that is there, to be synced and nothing else. That it is closed again lets go of no lock of the
/// database: those lie on the database itself and on its `-shm`.
fn open_to_sync(path: &Path) -> Result<File, Failure> {
    OpenOptions::new()
        .write(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .map_err(|error| Failure::io("open", path, &error))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Syncs of which each begins with a word to the first channel and ends by one over the second.
    fn by_word() -> (Syncs, mpsc::Receiver<()>, mpsc::Sender<Result<(), Unsynced>>) {
        let (begins, begun) = mpsc::channel();
        let (end, ends) = mpsc::channel();
        let syncs = Syncs::start(move || {
            begins.send(()).unwrap();
            ends.recv().unwrap()
        });
        (syncs.unwrap(), begun, end)
    }

    fn ask(syncs: &Syncs, rows: usize) -> oneshot::Receiver<bool> {
        let (ack, answer) = oneshot::channel();
        syncs.ask(rows, &mut vec![ack]).unwrap();
        answer
    }

    #[test]
    fn only_a_sync_that_began_afterwards_answers() {
        let (syncs, begun, end) = by_word();
        let first = ask(&syncs, 1);
        begun.recv().unwrap();
        // These come too late for the one under way, and share the next.
        let mut second = ask(&syncs, 1);
        let mut third = ask(&syncs, 0);
        end.send(Ok(())).unwrap();
        assert_eq!(first.blocking_recv(), Ok(true));
        begun.recv().unwrap();
        assert!(second.try_recv().is_err() && third.try_recv().is_err());
        end.send(Ok(())).unwrap();
        syncs.wait().unwrap();
        assert_eq!((second.try_recv(), third.try_recv()), (Ok(true), Ok(true)));
        assert!(begun.try_recv().is_err(), "nobody asked for another");
    }

    #[test]
    fn only_so_many_rows_wait_and_none_never_do() {
        let round = |rows| Some(Round { rows, acks: Acks::new() });
        let waiting =
            |next, under_way| Asked { next: round(next), under_way: round(under_way), ..Asked::default() };
        assert!(Asked::default().has_room(3 * SYNC_ROWS));
        assert!(waiting(0, 0).has_room(3 * SYNC_ROWS));
        assert!(waiting(1, 2).has_room(SYNC_ROWS - 3));
        assert!(!waiting(1, 2).has_room(SYNC_ROWS - 2));
        assert!(!waiting(0, 3 * SYNC_ROWS).has_room(1));
        assert!(waiting(0, 3 * SYNC_ROWS).has_room(0));
    }

    #[test]
    fn after_a_failed_sync_nobody_waits_and_none_is_tried_again() {
        let (syncs, begun, end) = by_word();
        let (first, second) = (ask(&syncs, SYNC_ROWS), ask(&syncs, 0));
        begun.recv().unwrap();
        end.send(Err(Unsynced::File("a".into(), io::ErrorKind::StorageFull.into()))).unwrap();
        assert!(first.blocking_recv().is_err() && second.blocking_recv().is_err());
        assert!(syncs.watch().has_failed());
        assert!(matches!(syncs.wait(), Err(Unsynced::File(path, _)) if path == Path::new("a")));
        assert!(matches!(syncs.ask(SYNC_ROWS, &mut Acks::new()), Err(Unsynced::Known)));
        assert!(begun.recv().is_err(), "the thread has ended");
    }

    #[test]
    fn when_the_writer_gives_up_what_is_under_way_is_not_answered() {
        let (syncs, begun, end) = by_word();
        let answer = ask(&syncs, 1);
        begun.recv().unwrap();
        syncs.give_up();
        assert!(syncs.watch().has_failed());
        end.send(Ok(())).unwrap();
        assert!(answer.blocking_recv().is_err());
        drop(syncs);
        assert!(begun.try_recv().is_err());
    }

    #[test]
    fn a_fault_of_the_thread_is_none_of_the_disk() {
        let syncs = Syncs::start(|| panic!("a fault")).unwrap();
        assert!(ask(&syncs, 1).blocking_recv().is_err());
        assert!(matches!(syncs.wait(), Err(Unsynced::Fault)));
    }

    #[test]
    fn files_are_synced_by_handles_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "text").unwrap();
        let syncs = Syncs::of(vec![path.clone()]).unwrap();
        assert_eq!(ask(&syncs, 1).blocking_recv(), Ok(true));
        Syncs::of(vec![path.with_extension("gone")]).unwrap_err();
    }
}
