//! The bytes of one file as a window that moves forward.
//!
//! All formats read through it, so that limits, positions and read errors are settled once.
//! Invariant: the window grows only while its reader wants more bytes of one record, and readers
//! drop a record's bytes once it is over its limit; `line` counts the line ends of all bytes that
//! were advanced over.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::locate::InputFile;
use super::stream::{FARTHEST, Packing, from_byte, from_start, is_utf8};
use crate::config::{Encoding, Format};
use crate::model::{Class, Diagnostic, Failure};

/// Read at once; small in tests, so that records cross its borders.
const CHUNK: usize = if cfg!(test) { 16 } else { 64 << 10 };

/// Which bytes end a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineEnds {
    /// LF, with or without a CR before it.
    Lf,
    /// A CR alone, as old spreadsheets save; LF may stand inside quotes.
    Cr,
}

/// Where to begin reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    pub byte: u64,
    pub line: u64,
}

pub(super) struct Window {
    reader: Box<dyn Read + Send>,
    name: Arc<str>,
    packing: Packing,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    offset: u64,
    line: u64,
    /// Where the current line starts, as far as it is known.
    line_start: Option<u64>,
    line_ends: LineEnds,
    after_cr: bool,
    ended: bool,
    /// An error that was met while reading ahead; told when its bytes are needed.
    pending: Option<Failure>,
}

impl Window {
    /// Opens a file at its start: checks what its first bytes say and skips a UTF-8 mark.
    pub(super) fn open(
        file: &InputFile,
        encoding: Option<Encoding>,
        counter: Arc<AtomicU64>,
    ) -> Result<Self, Failure> {
        let mut window = Self::over(from_start(file, encoding, counter)?, file);
        window.read_ahead();
        if is_utf8(encoding) {
            window.check_first_bytes(file)?;
        }
        let first = window.bytes();
        let lone = memchr::memchr(b'\r', first).is_some_and(|at| at + 1 < first.len() || window.ended);
        if lone && memchr::memchr(b'\n', first).is_none() {
            window.line_ends = LineEnds::Cr;
        }
        Ok(window)
    }

    /// Opens a plain UTF-8 file in its middle, with the line ends that were found at its start.
    pub(super) fn resume(
        &self,
        file: &InputFile,
        at: Start,
        counter: Arc<AtomicU64>,
    ) -> Result<Self, Failure> {
        let (reader, line_start) = from_byte(file, at.byte, counter)?;
        let mut window = Self::over(reader, file);
        (window.offset, window.line, window.line_ends) = (at.byte, at.line, self.line_ends);
        window.line_start = line_start;
        Ok(window)
    }

    fn over(reader: Box<dyn Read + Send>, file: &InputFile) -> Self {
        Self {
            reader,
            name: Arc::clone(&file.name),
            packing: file.packing,
            buffer: vec![0; CHUNK],
            start: 0,
            end: 0,
            offset: 0,
            line: 1,
            line_start: Some(0),
            line_ends: LineEnds::Lf,
            after_cr: false,
            ended: false,
            pending: None,
        }
    }

    /// The bytes that were read and not yet advanced over.
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// The byte at which the window starts.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// The line at which the window starts.
    pub(super) const fn line(&self) -> u64 {
        self.line
    }

    /// The byte in its line at which the window starts, from 1. Unknown far into a long line, where
    /// a reader that was positioned would not know it either.
    pub(super) fn column(&self) -> Option<u64> {
        let column = self.offset - self.line_start?;
        (column < FARTHEST).then_some(column + 1)
    }

    /// The byte that ends a line.
    pub(super) const fn line_end(&self) -> u8 {
        match self.line_ends {
            LineEnds::Lf => b'\n',
            LineEnds::Cr => b'\r',
        }
    }

    /// How much memory the window has taken.
    #[cfg(test)]
    pub(super) const fn capacity(&self) -> usize {
        self.buffer.len()
    }

    /// The position of the window.
    pub(super) const fn position(&self) -> Start {
        Start { byte: self.offset, line: self.line }
    }

    /// The file as the user named it.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The line of the byte at `at`, which lies in the window.
    pub(super) fn line_at(&self, at: usize) -> u64 {
        let before = self.bytes().get(..at).unwrap_or_default();
        self.line + self.line_ends.count(before, self.after_cr)
    }

    /// Leaves `n` bytes behind.
    pub(super) fn advance(&mut self, n: usize) {
        let n = n.min(self.end - self.start);
        let passed = self.bytes().get(..n).unwrap_or_default();
        let lines = self.line_ends.count(passed, self.after_cr);
        let after_cr = passed.last().map_or(self.after_cr, |last| *last == b'\r');
        if let Some(at) = memchr::memrchr(b'\n', passed) {
            self.line_start = Some(self.offset + at as u64 + 1);
        }
        self.after_cr = after_cr;
        self.line += lines;
        self.start += n;
        self.offset += n as u64;
    }

    /// Counts a line that ended in a CR, in a file whose lines otherwise end in LF.
    pub(super) fn count_lone_cr(&mut self) {
        if self.line_ends == LineEnds::Lf {
            self.line += 1;
        }
    }

    /// Reads on behind the bytes that are there; false at the end of the file.
    pub(super) fn fill(&mut self) -> Result<bool, Failure> {
        if let Some(failure) = self.pending.take() {
            self.ended = true;
            return Err(failure);
        }
        if self.ended {
            return Ok(false);
        }
        if self.end == self.buffer.len() {
            let waiting = self.end - self.start;
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, waiting);
            }
            if waiting > self.buffer.len() / 2 {
                self.buffer.resize(self.buffer.len().saturating_mul(2), 0);
            }
        }
        loop {
            let room = self.buffer.get_mut(self.end..).unwrap_or_default();
            match self.reader.read(room) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(false);
                }
                Ok(n) => {
                    self.end += n;
                    return Ok(true);
                }
                Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => {}
                Err(cause) => {
                    self.ended = true;
                    return Err(self.unreadable(&cause));
                }
            }
        }
    }

    /// Leaves whitespace behind; the byte that stands then, `None` at the end of the file.
    pub(super) fn skip_whitespace(&mut self) -> Result<Option<u8>, Failure> {
        loop {
            let bytes = self.bytes();
            let blank = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count();
            let next = bytes.get(blank).copied();
            self.advance(blank);
            if next.is_some() || !self.fill()? {
                return Ok(next);
            }
        }
    }

    /// Fills the first chunk; an error is kept until its bytes are asked for.
    fn read_ahead(&mut self) {
        while self.end < CHUNK && !self.ended {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return,
                Err(failure) => {
                    self.ended = false;
                    self.pending = Some(failure);
                    return;
                }
            }
        }
    }

    fn check_first_bytes(&mut self, file: &InputFile) -> Result<(), Failure> {
        let name = &self.name;
        let declare = |encoding: &str, iconv: &str, declared: Option<&str>| {
            let convert = format!("convert it (`iconv -f {iconv} -t UTF-8 {name} > utf8.txt`)");
            let csv = matches!(file.format, Format::Csv | Format::Tsv);
            let help = match declared.filter(|_| csv) {
                Some(declared) => {
                    format!("{convert}, or declare it: `source: {{ csv: {{ encoding: {declared} }} }}`")
                }
                None => convert,
            };
            let diagnostic =
                Diagnostic::error("undeclared-encoding", format!("{name} is {encoding}, not UTF-8"))
                    .at(format!("{name}, byte 0: the byte order mark of {encoding}"))
                    .help(help);
            Failure::new(Class::Input, diagnostic)
        };
        let packed = |how: &str, ending: &str| {
            let diagnostic =
                Diagnostic::error("undeclared-compression", format!("{name} is compressed with {how}"))
                    .help(format!("unpack it, or name it with the ending `{ending}`"));
            Failure::new(Class::Input, diagnostic)
        };
        let failure = match self.bytes() {
            [0xEF, 0xBB, 0xBF, ..] => {
                self.advance(3);
                self.line_start = Some(3);
                return Ok(());
            }
            [0xFF, 0xFE, 0, 0, ..] => declare("UTF-32 (little-endian)", "UTF-32", None),
            [0xFF, 0xFE, ..] => declare("UTF-16 (little-endian)", "UTF-16", Some("utf-16")),
            [0xFE, 0xFF, ..] => declare("UTF-16 (big-endian)", "UTF-16", Some("utf-16")),
            [0x1F, 0x8B, ..] if file.packing == Packing::Plain => packed("gzip", ".gz"),
            [0x28, 0xB5, 0x2F, 0xFD, ..] if file.packing == Packing::Plain => packed("zstd", ".zst"),
            _ => return Ok(()),
        };
        Err(failure)
    }

    /// A read error: damaged data is the input's fault, everything else the machine's.
    fn unreadable(&self, cause: &std::io::Error) -> Failure {
        let path = std::path::Path::new(&*self.name);
        let tool = match self.packing {
            Packing::Plain => return Failure::io("read", path, cause),
            Packing::Gzip => "gzip",
            Packing::Zstd => "zstd",
        };
        if cause.raw_os_error().is_some() {
            return Failure::io("read", path, cause);
        }
        let got = self.offset + (self.end - self.start) as u64;
        let (rule, what) = if cause.kind() == std::io::ErrorKind::UnexpectedEof {
            ("truncated", "ends early")
        } else {
            ("damaged", "is damaged")
        };
        let message =
            format!("{} {what}: its {tool} data gives {got} bytes and then nothing more", self.name);
        Failure::new(
            Class::Input,
            Diagnostic::error(rule, message)
                .at(format!("{}, behind line {}", self.name, self.line_at(self.end - self.start)))
                .help(format!(
                    "copy it once more from where it comes from; `{tool} -t` tells whether it is whole"
                )),
        )
    }
}

impl LineEnds {
    fn count(self, bytes: &[u8], after_cr: bool) -> u64 {
        let lf = memchr::memchr_iter(b'\n', bytes);
        match self {
            Self::Lf => lf.count() as u64,
            Self::Cr => {
                let alone = lf.filter(|at| match at.checked_sub(1) {
                    Some(before) => bytes.get(before) != Some(&b'\r'),
                    None => !after_cr,
                });
                (memchr::memchr_iter(b'\r', bytes).count() + alone.count()) as u64
            }
        }
    }
}

/// What is known of a record that is over its limit: its bytes are dropped while they are read.
pub(super) struct Oversize {
    kept: Vec<u8>,
    hash: Box<xxhash_rust::xxh3::Xxh3>,
    len: u64,
}

impl Oversize {
    pub(super) fn new() -> Self {
        Self { kept: Vec::new(), hash: Box::new(xxhash_rust::xxh3::Xxh3::new()), len: 0 }
    }

    /// Notes further bytes of the record.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        let room = super::KEPT.saturating_sub(self.kept.len());
        self.kept.extend(bytes.iter().take(room));
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
    }

    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn digest(&self) -> u64 {
        self.hash.digest()
    }

    pub(super) fn into_kept(self) -> Vec<u8> {
        self.kept
    }
}
