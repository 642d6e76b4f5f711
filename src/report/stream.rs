//! Where text goes: the process's own streams, or memory in tests.
//!
//! Invariants: a whole text is written under one lock, never in parts; a closed pipe ends the
//! writing quietly; any other failure is remembered, so that the ending can say it.

use std::io::{ErrorKind, Write};
use std::sync::{Arc, Mutex, PoisonError};

use anstream::adapter::strip_str;

use super::Colors;

/// What stands behind a stream.
#[derive(Clone)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, or bytes that a test reads afterwards.
    Writer(Arc<Mutex<dyn Write + Send>>),
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Stdout => "Stdout",
            Self::Stderr => "Stderr",
            Self::Writer(_) => "Writer",
        })
    }
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
            Target::Writer(writer) => writer.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes),
        };
        if let Err(error) = written {
            self.health = if error.kind() == ErrorKind::BrokenPipe { Health::Closed } else { Health::Broken };
        }
    }

    /// Whether what is written still arrives.
    pub(super) fn is_open(&self) -> bool {
        self.health == Health::Open
    }

    /// Whether something was lost for another reason than a reader that went away.
    pub(super) fn is_broken(&self) -> bool {
        self.health == Health::Broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many writes, then fails.
    struct Failing(usize, ErrorKind, usize);

    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.2 += 1;
            if self.2 > self.0 { Err(self.1.into()) } else { Ok(bytes.len()) }
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure_and_a_full_disk_is_one() {
        for (kind, broken) in [(ErrorKind::BrokenPipe, false), (ErrorKind::StorageFull, true)] {
            let writer = Arc::new(Mutex::new(Failing(1, kind, 0)));
            let target: Arc<Mutex<dyn Write + Send>> = Arc::clone(&writer) as _;
            let mut stream = Stream::new(Target::Writer(target), Colors::Off);
            for _ in 0..5 {
                stream.raw(b"line\n");
            }
            assert_eq!(stream.is_broken(), broken, "{kind:?}");
            assert_eq!(writer.lock().unwrap().2, 2, "nothing is tried after the first failure");
        }
    }

    #[test]
    fn looks_are_stripped_where_no_colour_is_wanted() {
        for (colors, shown) in [(Colors::On, "\x1b[1mé\x1b[0m\n"), (Colors::Off, "é\n")] {
            let bytes = Arc::new(Mutex::new(Vec::new()));
            Stream::new(Target::Writer(Arc::clone(&bytes) as _), colors).styled("\x1b[1mé\x1b[0m\n");
            assert_eq!(String::from_utf8_lossy(&bytes.lock().unwrap()), shown);
        }
    }
}
