//! The way of log lines to stderr: through the bar, never into it.
//!
//! Made before the log is set up, and told of the bar once there is one. Invariant: what is
//! written here is one line for one call, whatever values the log line holds.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use super::progress::Bar;
use super::stream::{Stream, Target};
use super::{Colors, text};

/// A writer for the text log, without colours of its own (`with_ansi(false)`).
#[derive(Debug, Clone, Default)]
pub struct LogSink {
    bar: Arc<Mutex<Option<Bar>>>,
}

impl LogSink {
    /// From now on lines go through this bar, or straight to stderr.
    pub(super) fn through(&self, bar: Option<Bar>) {
        *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = bar;
    }

    fn current(&self) -> Option<Bar> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Write for LogSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = safe(bytes);
        let put = || Stream::new(Target::Stderr, Colors::Off).raw(line.as_bytes());
        match self.current() {
            Some(bar) => bar.aside(put),
            None => put(),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn safe(bytes: &[u8]) -> String {
    let raw = String::from_utf8_lossy(bytes);
    let mut line = text::line(raw.strip_suffix('\n').unwrap_or(&raw)).into_owned();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_forge_a_log_line() {
        let shown = safe(b"INFO name=\"x\n2026-11-22 ERROR all is lost\x1b[2K\xff\"\n");
        assert_eq!(shown, "INFO name=\"x\\n2026-11-22 ERROR all is lost\\u{1b}[2K\u{fffd}\"\n");
    }
}
