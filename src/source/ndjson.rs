//! One JSON object a line.
//!
//! Invariant: a line that is no record, or is too long, costs itself and nothing else.

use super::Found;
use super::json::{Begin, apart, bad_record, parse_record, too_large};
use super::window::{Oversize, Window};
use crate::config::RecordLimits;
use crate::model::{Class, Diagnostic, Failure};

pub(super) struct NdjsonFile {
    pub window: Window,
    limits: RecordLimits,
    /// The byte at which the first line begins.
    first: u64,
    looked: Looked,
}

/// Whether the first line was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looked {
    NotYet,
    Yes,
}

impl NdjsonFile {
    pub(super) const fn new(window: Window, limits: RecordLimits) -> Self {
        let first = window.offset();
        Self { window, limits, first, looked: Looked::NotYet }
    }

    /// Goes on in a window that starts behind a record.
    pub(super) fn resume(&mut self, window: Window) {
        // From its start on, the file is looked at as it was when it was opened.
        self.looked = if window.offset() == self.first { Looked::NotYet } else { Looked::Yes };
        self.window = window;
    }

    pub(super) fn next(&mut self) -> Result<Option<Found>, Failure> {
        let Some(first) = self.window.skip_whitespace()? else { return Ok(None) };
        if self.looked == Looked::NotYet {
            self.looked = Looked::Yes;
            self.check_first_line(first)?;
        }
        let begin =
            Begin { line: self.window.line(), column: self.window.column(), byte: self.window.offset() };
        let (len, oversize) = self.line()?;
        if let Some(oversize) = oversize {
            let digest = oversize.digest();
            let fields = Err(too_large(oversize, self.limits.record));
            return Ok(Some(Found { line: begin.line, byte: begin.byte, digest, copy_of: None, fields }));
        }
        let line = self.window.bytes().get(..len).unwrap_or_default().trim_ascii_end();
        let digest = xxhash_rust::xxh3::xxh3_64(line);
        let parsed = parse_record(line, &self.limits).map_err(|fault| bad_record(&fault, line, &begin, None));
        self.window.advance(len);
        let (fields, copy_of) = apart(parsed);
        Ok(Some(Found { line: begin.line, byte: begin.byte, digest, copy_of, fields }))
    }

    /// The rest of the line: its length in the window, or what is left of it when it is too long.
    fn line(&mut self) -> Result<(usize, Option<Oversize>), Failure> {
        let mut oversize: Option<Oversize> = None;
        let mut at = 0;
        loop {
            let bytes = self.window.bytes();
            let rest = bytes.get(at..).unwrap_or_default();
            if let Some(end) = memchr::memchr(self.window.line_end(), rest) {
                at += end;
                break;
            }
            at = bytes.len();
            if oversize.is_some() || at > self.limits.record {
                oversize.get_or_insert_with(Oversize::new).take(bytes);
                self.window.advance(at);
                at = 0;
            }
            if !self.window.fill()? {
                break;
            }
        }
        if oversize.is_some() || at > self.limits.record {
            oversize
                .get_or_insert_with(Oversize::new)
                .take(self.window.bytes().get(..at).unwrap_or_default());
            self.window.advance(at);
            at = 0;
        }
        Ok((at, oversize))
    }

    /// A list, or an object over several lines, is a JSON document and not NDJSON.
    fn check_first_line(&mut self, first: u8) -> Result<(), Failure> {
        let line_end = self.window.line_end();
        while self.window.bytes().len() < 256
            && memchr::memchr(line_end, self.window.bytes()).is_none()
            && self.window.fill()?
        {}
        let bytes = self.window.bytes();
        let line = bytes.split(|byte| *byte == line_end).next().unwrap_or_default().trim_ascii();
        let found = match first {
            b'[' => "a list",
            b'{' if line.len() == 1 => "an object over several lines",
            _ => return Ok(()),
        };
        let name = self.window.name();
        Err(Failure::new(
            Class::Input,
            Diagnostic::error(
                "json-as-ndjson",
                format!("{name} begins with {found}, which is JSON and not NDJSON"),
            )
            .at(format!("{name} line {}", self.window.line()))
            .note("NDJSON holds one object a line")
            .help("name it `.json`, or say `source: { format: json }`"),
        ))
    }
}
