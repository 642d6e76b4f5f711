//! Where text goes: the process's own streams, or memory in tests.
//!
//! Invariants: a whole text is written under one lock, never in parts; a closed pipe ends the
//! writing quietly; any other failure is remembered, so that the ending can say it.

use std::io::{ErrorKind, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use anstream::adapter::strip_str;

use super::Colors;

/// What stands behind a stream.
#[derive(Debug, Clone)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Bytes that a test reads afterwards.
    Memory(Arc<Mutex<Vec<u8>>>),
}

/// Where the answer goes and where people read.
#[derive(Debug, Clone)]
pub struct Streams {
    /// The answer.
    pub answer: Target,
    /// Everything for people.
    pub people: Target,
}

impl Default for Streams {
    fn default() -> Self {
        Self { answer: Target::Stdout, people: Target::Stderr }
    }
}

/// One stream and how it is doing.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    target: Target,
    colors: Colors,
    health: Health,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Open,
    /// The reader went away.
    Closed,
    /// Disk full or the like.
    Broken,
}

impl Stream {
    pub(super) const fn new(target: Target, colors: Colors) -> Self {
        Self { target, colors, health: Health::Open }
    }

    /// Writes text that may have looks in it.
    pub(super) fn styled(&mut self, text: &str) {
        match self.colors {
            Colors::On => self.raw(text.as_bytes()),
            Colors::Off => self.raw(strip_str(text).to_string().as_bytes()),
        }
    }

    /// Writes bytes as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        if self.health != Health::Open {
            return;
        }
        let written = match &self.target {
            Target::Stdout => {
                let mut out = std::io::stdout().lock();
                out.write_all(bytes).and_then(|()| out.flush())
            }
            Target::Stderr => std::io::stderr().lock().write_all(bytes),
            Target::Memory(bytes_read) => {
                bytes_read.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
                Ok(())
            }
        };
        if let Err(error) = written {
            self.health = if error.kind() == ErrorKind::BrokenPipe { Health::Closed } else { Health::Broken };
        }
    }

    /// Whether something was lost for another reason than a reader that went away.
    pub(super) fn is_broken(&self) -> bool {
        self.health == Health::Broken
    }
}
