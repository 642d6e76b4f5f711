//! How many bytes of lines for `responses.ndjson` wait for the writer's thread.
//!
//! Apart from the writer's queue, which counts commands: one of them may hold a reply of many MiB. Invariant:
//! whoever waits is let go when the writer ends, however it does.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// At the most: large replies do not pile up where the disk is slower than the far side. A single line may be
/// larger.
const MOST_WAITING: usize = 8 << 20;

/// Bytes of lines that wait.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    room: Mutex<Room>,
    fewer: Condvar,
}

#[derive(Debug, Default)]
struct Room {
    bytes: usize,
    /// Whether somebody waits for fewer of them: to wake nobody is a call of the system, too.
    is_wanted: bool,
    /// Whether nobody takes any more.
    ended: bool,
}

impl Room {
    const fn is_full_for(&self, line: usize) -> bool {
        !self.ended && self.bytes > 0 && self.bytes + line > MOST_WAITING
    }
}

impl Waiting {
    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a line, if there is room for it.
    pub fn add(&self, line: usize) -> bool {
        let mut room = self.room();
        let is_full = room.is_full_for(line);
        room.bytes += if is_full { 0 } else { line };
        !is_full
    }

    /// Waits for room and counts the line.
    pub fn wait(&self, line: usize) {
        let mut room = self.room();
        while room.is_full_for(line) {
            room.is_wanted = true;
            room = self.fewer.wait(room).unwrap_or_else(PoisonError::into_inner);
        }
        room.bytes += line;
    }

    /// Notes that the writer took a line.
    pub fn take(&self, line: usize) {
        let mut room = self.room();
        room.bytes = room.bytes.saturating_sub(line);
        if std::mem::take(&mut room.is_wanted) {
            self.fewer.notify_all();
        }
    }

    /// Nobody takes any more: nobody waits.
    pub fn end(&self) {
        self.room().ended = true;
        self.fewer.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_wait_are_bounded_and_one_larger_than_all_goes_alone() {
        let waiting = Waiting::default();
        let until_wanted = || {
            while !waiting.room().is_wanted {
                std::thread::yield_now();
            }
        };
        assert!(waiting.add(MOST_WAITING + 1));
        assert!(!waiting.add(1));
        std::thread::scope(|scope| {
            scope.spawn(|| waiting.wait(7));
            until_wanted();
            waiting.take(MOST_WAITING + 1);
        });
        assert_eq!(waiting.room().bytes, 7);
        assert!(waiting.add(MOST_WAITING - 7));
        assert!(!waiting.add(1));
        std::thread::scope(|scope| {
            scope.spawn(|| waiting.wait(1));
            until_wanted();
            // A writer that has failed keeps nobody.
            waiting.end();
        });
        assert!(waiting.add(1));
    }
}
