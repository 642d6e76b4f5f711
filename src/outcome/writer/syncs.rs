//! Syncs beside the writing: a thread that makes survive a loss of power what the writer has committed.
//!
//! Apart from the writer, because a disk may take longer for one sync than for a thousand commits, and the intents
//! that lanes wait for need none. Invariants: whoever asked is answered only once a sync that began afterwards is
//! done; of rows, no more than [`SYNC_ROWS`] are committed and not synced; after one failed sync none is tried again
//! (P12), and whoever asked or waits learns of it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::model::{Class, Diagnostic, Failure};

/// Rows that are synced at once, at the most.
pub(super) const SYNC_ROWS: usize = 4096;

/// A file that could not be synced, and why.
pub(super) type Unsynced = (PathBuf, io::Error);

/// What the writer and the thread tell each other.
#[derive(Debug, Default)]
struct State {
    /// Who waits for a sync that did not begin yet.
    acks: Vec<oneshot::Sender<bool>>,
    /// Rows that such a sync is for.
    rows: usize,
    is_asked: bool,
    /// Rows of the sync under way.
    rows_under_way: usize,
    is_under_way: bool,
    failed: Failed,
    is_over: bool,
}

#[derive(Debug, Default)]
enum Failed {
    #[default]
    No,
    Yes(Option<Unsynced>),
}

impl State {
    const fn has_failed(&self) -> bool {
        matches!(self.failed, Failed::Yes(_))
    }

    /// The failure, for the first who asks; after that, only that there was one.
    fn check(&mut self) -> Result<(), Unsynced> {
        match &mut self.failed {
            Failed::No => Ok(()),
            Failed::Yes(failure) => Err(failure
                .take()
                .unwrap_or_else(|| (PathBuf::new(), io::Error::other("an earlier sync failed")))),
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to do, or something was done.
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn until<'s>(
        &self,
        mut state: MutexGuard<'s, State>,
        is_so: impl Fn(&State) -> bool,
    ) -> MutexGuard<'s, State> {
        while !is_so(&state) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }
}

/// Tells whether a sync has failed, without waiting for the writer to notice.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    shared: Arc<Shared>,
}

impl Watch {
    pub(super) fn has_failed(&self) -> bool {
        self.shared.state().has_failed()
    }
}

/// The writer's side.
#[derive(Debug)]
pub(super) struct Syncs {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Syncs {
    /// Starts the thread for files that are there and stay the ones they are: in this order they are synced.
    pub(super) fn start(files: Vec<(PathBuf, File)>) -> Result<Self, Failure> {
        let shared = Arc::new(Shared::default());
        let of_thread = Ends { shared: Arc::clone(&shared) };
        let thread = std::thread::Builder::new()
            .name("sync".into())
            .spawn(move || of_thread.shared.run(&files))
            .map_err(|error| {
                Failure::new(Class::Io, Diagnostic::error("io", format!("cannot start a thread: {error}")))
            })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    pub(super) fn watch(&self) -> Watch {
        Watch { shared: Arc::clone(&self.shared) }
    }

    /// Fails once a sync has failed.
    pub(super) fn check(&self) -> Result<(), Unsynced> {
        self.shared.state().check()
    }

    /// Asks for a sync of all that was written before, `rows` of which none was asked for yet. Waits only where too
    /// many rows wait already.
    pub(super) fn ask(&self, rows: usize, acks: &mut Vec<oneshot::Sender<bool>>) -> Result<(), Unsynced> {
        let has_room = |state: &State| {
            let waiting = state.rows + state.rows_under_way;
            waiting == 0 || waiting + rows <= SYNC_ROWS || state.has_failed()
        };
        let mut state = self.shared.until(self.shared.state(), has_room);
        state.check()?;
        state.rows += rows;
        state.acks.append(acks);
        state.is_asked = true;
        drop(state);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Waits until everything that was asked for is synced.
    pub(super) fn wait(&self) -> Result<(), Unsynced> {
        let is_idle = |state: &State| !state.is_asked && !state.is_under_way || state.has_failed();
        self.shared.until(self.shared.state(), is_idle).check()
    }
}

impl Drop for Syncs {
    fn drop(&mut self) {
        self.shared.state().is_over = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // That it ended by a fault was noted.
            let _ = thread.join();
        }
    }
}

/// The thread's side; however it ends, nobody waits for it after that.
struct Ends {
    shared: Arc<Shared>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if matches!(state.failed, Failed::No) && !state.is_over {
            let fault = io::Error::other("the thread that syncs ended by a fault of this program");
            state.failed = Failed::Yes(Some((PathBuf::new(), fault)));
        }
        // Dropped, they answer.
        state.acks.clear();
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn run(&self, files: &[(PathBuf, File)]) {
        loop {
            let mut state = self.until(self.state(), |state| state.is_asked || state.is_over);
            if state.is_over {
                return;
            }
            state.is_asked = false;
            state.is_under_way = true;
            state.rows_under_way = std::mem::take(&mut state.rows);
            let acks = std::mem::take(&mut state.acks);
            drop(state);
            let synced = files
                .iter()
                .try_for_each(|(path, file)| file.sync_data().map_err(|error| (path.clone(), error)));
            let mut state = self.state();
            if let Err(failure) = synced {
                state.failed = Failed::Yes(Some(failure));
                return;
            }
            state.is_under_way = false;
            state.rows_under_way = 0;
            drop(state);
            for ack in acks {
                let _ = ack.send(true);
            }
            self.changed.notify_all();
        }
    }
}

/// Opens a file that is there, to be synced and nothing else.
pub(super) fn open(path: &Path) -> Result<File, Failure> {
    OpenOptions::new()
        .write(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .map_err(|error| Failure::io("open", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (PathBuf, File) {
        let file = tempfile::tempfile().unwrap();
        ("a file".into(), file)
    }

    /// A file whose sync fails: a socket has nothing that could be synced.
    fn unsyncable() -> (PathBuf, File) {
        let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
        ("a socket".into(), File::from(std::os::fd::OwnedFd::from(socket)))
    }

    #[test]
    fn whoever_asks_is_answered_and_can_wait() {
        let syncs = Syncs::start(vec![file(), file()]).unwrap();
        for rows in [0, 1, SYNC_ROWS, SYNC_ROWS + 1, 3] {
            let (ack, answer) = oneshot::channel();
            syncs.ask(rows, &mut vec![ack]).unwrap();
            assert_eq!(answer.blocking_recv(), Ok(true));
        }
        let (ack, mut answer) = oneshot::channel();
        syncs.ask(1, &mut vec![ack]).unwrap();
        syncs.wait().unwrap();
        assert!(!syncs.watch().has_failed());
        // Nobody is told before the files are synced, but perhaps a moment after that.
        drop(syncs);
        assert_eq!(answer.try_recv(), Ok(true));
    }

    #[test]
    fn after_a_failed_sync_nobody_waits_and_none_is_tried_again() {
        let syncs = Syncs::start(vec![file(), unsyncable()]).unwrap();
        let (ack, answer) = oneshot::channel();
        syncs.ask(SYNC_ROWS, &mut vec![ack]).unwrap();
        assert!(answer.blocking_recv().is_err(), "it was answered as if it were synced");
        assert!(syncs.watch().has_failed());
        assert_eq!(syncs.wait().unwrap_err().0, Path::new("a socket"));
        let (ack, answer) = oneshot::channel();
        let mut acks = vec![ack];
        syncs.ask(SYNC_ROWS, &mut acks).unwrap_err();
        drop(acks);
        assert!(answer.blocking_recv().is_err());
        syncs.check().unwrap_err();
    }
}
