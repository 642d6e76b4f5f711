//! Splits CSV text into rows and cells (RFC 4180, with the liberties that spreadsheets take).
//!
//! Our own, because the csv crate takes an unclosed quote as one good record, reads `"x"y` as
//! `xy`, has no limit on a record and counts no lines in files whose lines end in CR; the tests
//! hold it against that crate on random text. It scans the window in place and copies nothing.
//! Invariant: a row is in the window as a whole, or it is over the record limit and was dropped
//! while it was scanned.

use super::window::{Oversize, Window};
use crate::config::RecordLimits;
use crate::model::{Class, Diagnostic, Failure};

#[derive(Debug, Clone, Copy)]
pub(super) struct Dialect {
    pub delimiter: u8,
    pub quote: u8,
    pub comment: Option<u8>,
}

/// How a cell stands in the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Its bytes are its content.
    Plain,
    /// Between quotes, with doubled quotes in it.
    Escaped,
}

/// The content of a cell: a range of the row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell {
    pub start: usize,
    pub end: usize,
    pub form: Form,
}

/// A row that was found.
pub(super) struct Row {
    pub line: u64,
    pub byte: u64,
    /// How many cells it has; `Rows::cells` holds no more than the limit of columns and one.
    pub count: usize,
    /// The cell, from 0, that has text behind its closing quote.
    pub after_quote: Option<usize>,
    /// Bytes without the line end, when it is whole.
    pub len: usize,
    /// What is left of it when it is over the limit: its bytes, and the largest cell.
    pub oversize: Option<(Oversize, Largest)>,
    /// The line end.
    tail: usize,
    lone_cr: bool,
}

/// The largest cell of a dropped row.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Largest {
    pub column: usize,
    pub size: u64,
}

pub(super) struct Rows {
    pub window: Window,
    pub(super) dialect: Dialect,
    limits: RecordLimits,
    ends: [bool; 256],
    cells: Vec<Cell>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first byte of a cell.
    Start,
    /// In a cell without quotes.
    Plain,
    /// Behind an opening quote.
    Quoted,
    /// Behind a quote inside quotes: doubled, or closing.
    QuoteSeen,
    /// In text behind a closing quote.
    Tail,
}

impl Rows {
    pub(super) fn new(window: Window, dialect: Dialect, limits: RecordLimits) -> Self {
        let mut ends = [false; 256];
        for byte in [dialect.delimiter, b'\r', b'\n'] {
            if let Some(end) = ends.get_mut(usize::from(byte)) {
                *end = true;
            }
        }
        Self { window, dialect, limits, ends, cells: Vec::new() }
    }

    /// The cells of the row that was found last.
    pub(super) fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The bytes of the row that was found last.
    pub(super) fn raw(&self, row: &Row) -> &[u8] {
        self.window.bytes().get(..row.len).unwrap_or_default()
    }

    /// Leaves the row behind. Must follow each `next_row`.
    pub(super) fn done(&mut self, row: &Row) {
        self.window.advance(row.len + row.tail);
        if row.lone_cr {
            self.window.count_lone_cr();
        }
    }

    /// Finds the next row, behind blank lines and comments.
    pub(super) fn next_row(&mut self) -> Result<Option<Row>, Failure> {
        if !self.skip_to_row()? {
            return Ok(None);
        }
        self.cells.clear();
        if let Some(row) = self.without_quotes() {
            return Ok(Some(row));
        }
        let (line, byte) = (self.window.line(), self.window.offset());
        let mut scan = Scan::default();
        let tail = loop {
            let bytes = self.window.bytes();
            let Some(next) = bytes.get(scan.at).copied() else {
                if scan.oversize.is_some() || scan.at > self.limits.record {
                    self.drop_scanned(&mut scan);
                }
                if self.window.fill()? {
                    continue;
                }
                if scan.state == State::Quoted {
                    let line = scan.quote_line.unwrap_or_else(|| self.window.line_at(scan.quote));
                    return Err(self.unclosed(line));
                }
                self.end_cell(&mut scan);
                break Tail::None;
            };
            let rest = bytes.get(scan.at..).unwrap_or_default();
            match scan.state {
                State::Start if next == self.dialect.quote => {
                    (scan.quote, scan.quote_line, scan.escaped) = (scan.at, None, false);
                    scan.at += 1;
                    scan.cell = scan.place();
                    scan.state = State::Quoted;
                }
                State::Start => {
                    scan.cell = scan.place();
                    scan.state = State::Plain;
                }
                State::Plain | State::Tail => {
                    let ends = &self.ends;
                    let end = rest.iter().position(|byte| ends.get(usize::from(*byte)) == Some(&true));
                    scan.at += end.unwrap_or(rest.len());
                    let Some(end) = end.and_then(|end| rest.get(end).copied()) else { continue };
                    self.end_cell(&mut scan);
                    if end == self.dialect.delimiter {
                        scan.at += 1;
                    } else {
                        break self.line_end(scan.at, end)?;
                    }
                }
                State::Quoted => match memchr::memchr(self.dialect.quote, rest) {
                    Some(at) => {
                        scan.at += at + 1;
                        scan.state = State::QuoteSeen;
                    }
                    None => scan.at += rest.len(),
                },
                State::QuoteSeen if next == self.dialect.quote => {
                    scan.escaped = true;
                    scan.at += 1;
                    scan.state = State::Quoted;
                }
                State::QuoteSeen if next == self.dialect.delimiter => {
                    self.end_cell(&mut scan);
                    scan.at += 1;
                }
                State::QuoteSeen if matches!(next, b'\r' | b'\n') => {
                    self.end_cell(&mut scan);
                    break self.line_end(scan.at, next)?;
                }
                State::QuoteSeen => {
                    scan.after_quote.get_or_insert(scan.count);
                    scan.state = State::Tail;
                }
            }
        };
        let mut len = scan.at;
        if scan.oversize.is_some() || len > self.limits.record {
            scan.at = len;
            self.drop_up_to(&mut scan, len);
            len = 0;
        }
        Ok(Some(Row {
            line,
            byte,
            count: scan.count,
            after_quote: scan.after_quote,
            len,
            oversize: scan.oversize.map(|oversize| (oversize, scan.largest)),
            tail: tail.len(),
            lone_cr: tail == Tail::Cr,
        }))
    }

    /// The row that begins the window, where it has no quotes and is there as a whole, with its line end: most
    /// rows, and found several times as fast as byte by byte.
    fn without_quotes(&mut self) -> Option<Row> {
        let bytes = self.window.bytes();
        let len = memchr::memchr2(b'\n', b'\r', bytes)?;
        let raw = bytes.get(..len)?;
        if len > self.limits.record || memchr::memchr(self.dialect.quote, raw).is_some() {
            return None;
        }
        let tail = match (bytes.get(len)?, bytes.get(len + 1)) {
            (b'\n', _) => Tail::Lf,
            (_, Some(b'\n')) => Tail::CrLf,
            (_, Some(_)) => Tail::Cr,
            (_, None) => return None,
        };
        let mut count = 0;
        let mut start = 0;
        for end in memchr::memchr_iter(self.dialect.delimiter, raw).chain([len]) {
            if self.cells.len() <= self.limits.columns {
                self.cells.push(Cell { start, end, form: Form::Plain });
            }
            count += 1;
            start = end + 1;
        }
        Some(Row {
            line: self.window.line(),
            byte: self.window.offset(),
            count,
            after_quote: None,
            len,
            oversize: None,
            tail: tail.len(),
            lone_cr: tail == Tail::Cr,
        })
    }

    fn end_cell(&mut self, scan: &mut Scan) {
        let end = scan.place();
        let (start, end) = match scan.state {
            State::QuoteSeen => (scan.cell, end - 1),
            // The opening quote belongs to what cannot be told apart.
            State::Tail => (scan.cell - 1, end),
            // Behind the last delimiter of the file stands an empty cell.
            State::Start => (end, end),
            State::Plain | State::Quoted => (scan.cell, end),
        };
        if scan.oversize.is_some() {
            scan.largest.see(scan.count, end - start);
        } else if self.cells.len() <= self.limits.columns {
            let form =
                if scan.escaped && scan.state == State::QuoteSeen { Form::Escaped } else { Form::Plain };
            // Nothing is dropped yet, so that places are indices into the window.
            let index = |place: u64| usize::try_from(place).unwrap_or(usize::MAX);
            self.cells.push(Cell { start: index(start), end: index(end), form });
        }
        scan.count += 1;
        scan.state = State::Start;
    }

    /// Drops what was scanned of a row that is over the limit.
    fn drop_scanned(&mut self, scan: &mut Scan) {
        let n = scan.at;
        if matches!(scan.state, State::Quoted | State::QuoteSeen) && scan.quote_line.is_none() {
            scan.quote_line = Some(self.window.line_at(scan.quote));
        }
        self.drop_up_to(scan, n);
    }

    fn drop_up_to(&mut self, scan: &mut Scan, n: usize) {
        let oversize = scan.oversize.get_or_insert_with(|| {
            for (column, cell) in self.cells.iter().enumerate() {
                scan.largest.see(column, (cell.end - cell.start) as u64);
            }
            Oversize::new()
        });
        oversize.take(self.window.bytes().get(..n).unwrap_or_default());
        self.window.advance(n);
        scan.dropped += n as u64;
        scan.at = 0;
    }

    fn line_end(&mut self, at: usize, first: u8) -> Result<Tail, Failure> {
        if first == b'\n' {
            return Ok(Tail::Lf);
        }
        while self.window.bytes().len() <= at + 1 && self.window.fill()? {}
        Ok(if self.window.bytes().get(at + 1) == Some(&b'\n') { Tail::CrLf } else { Tail::Cr })
    }

    /// Leaves blank lines and comments behind; false at the end of the file.
    fn skip_to_row(&mut self) -> Result<bool, Failure> {
        loop {
            let Some(first) = self.window.bytes().first().copied() else {
                if self.window.fill()? {
                    continue;
                }
                return Ok(false);
            };
            if matches!(first, b'\r' | b'\n') {
                let tail = self.line_end(0, first)?;
                self.window.advance(tail.len());
                if tail == Tail::Cr {
                    self.window.count_lone_cr();
                }
            } else if Some(first) == self.dialect.comment {
                self.skip_line()?;
            } else {
                return Ok(true);
            }
        }
    }

    fn skip_line(&mut self) -> Result<(), Failure> {
        loop {
            let bytes = self.window.bytes();
            let end = memchr::memchr2(b'\r', b'\n', bytes);
            self.window.advance(end.unwrap_or(bytes.len()));
            // The line end itself is then skipped like a blank line.
            if end.is_some() || !self.window.fill()? {
                return Ok(());
            }
        }
    }

    fn unclosed(&self, line: u64) -> Failure {
        let name = self.window.name();
        Failure::new(
            Class::Input,
            Diagnostic::error(
                "unclosed-quote",
                format!("the quote that opens on line {line} is never closed"),
            )
            .at(format!("{name} line {line}"))
            .note("everything behind it would be one cell, so that no record from there on can be told")
            .help("close the quote, or double it (`\"\"`) where it belongs to the text"),
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    None,
    Lf,
    CrLf,
    Cr,
}

impl Tail {
    const fn len(self) -> usize {
        match self {
            Self::None => 0,
            Self::Lf | Self::Cr => 1,
            Self::CrLf => 2,
        }
    }
}

struct Scan {
    state: State,
    /// The next byte to look at, in the window.
    at: usize,
    /// Bytes of this row that are no longer in the window.
    dropped: u64,
    /// Where the cell's content begins, in the row.
    cell: u64,
    count: usize,
    escaped: bool,
    /// Where the last quote opened, in the window, or its line when that was dropped.
    quote: usize,
    quote_line: Option<u64>,
    after_quote: Option<usize>,
    oversize: Option<Oversize>,
    largest: Largest,
}

impl Default for Scan {
    fn default() -> Self {
        Self {
            state: State::Start,
            at: 0,
            dropped: 0,
            cell: 0,
            count: 0,
            escaped: false,
            quote: 0,
            quote_line: None,
            after_quote: None,
            oversize: None,
            largest: Largest::default(),
        }
    }
}

impl Scan {
    const fn place(&self) -> u64 {
        self.dropped + self.at as u64
    }
}

impl Largest {
    fn see(&mut self, column: usize, size: u64) {
        if size > self.size {
            *self = Self { column, size };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::skim::{Keep, Skimmed, skim};
    use super::super::tests::{folder, gzip, spec};
    use super::*;

    fn window(name: &str, bytes: &[u8]) -> Window {
        let folder = folder(name, bytes);
        let files = super::super::locate::locate(&spec(name), folder.path(), None).unwrap();
        Window::open(&files[0], None, std::sync::Arc::default()).unwrap()
    }

    #[test]
    fn memory_is_bounded_whatever_a_record_holds() {
        const SIZE: usize = 4 << 20;
        let limits = RecordLimits { field: 100 << 10, record: 400 << 10, ..RecordLimits::default() };
        let dialect = Dialect { delimiter: b',', quote: b'"', comment: Some(b'#') };
        let long = "x".repeat(SIZE);
        for (text, size) in [
            (format!("{long}\n1"), SIZE),
            (format!("\"{long}\"\n1"), SIZE + 2),
            (format!("#{long}\n{long}"), SIZE),
            (format!("{}\n1", ",".repeat(SIZE)), SIZE),
        ] {
            let mut rows = Rows::new(window("a.csv.gz", &gzip(text.as_bytes())), dialect, limits);
            let row = rows.next_row().unwrap().unwrap();
            assert_eq!(row.oversize.as_ref().unwrap().0.len(), size as u64);
            rows.done(&row);
            assert!(rows.window.capacity() <= 4 * limits.record, "{}", rows.window.capacity());
            assert!(rows.cells.capacity() <= 4 * limits.columns, "{}", rows.cells.capacity());
        }
        for text in [format!("\"{long}\" "), format!("[{long}]"), format!("{long} "), "[".repeat(SIZE)] {
            for keep in [Keep::Nothing, Keep::UpTo(limits.record)] {
                let mut window = window("a.json.gz", &gzip(text.as_bytes()));
                let found = skim(&mut window, keep).unwrap();
                assert_eq!(matches!(found, Skimmed::Ends), text.starts_with("[["));
                assert!(window.capacity() <= 4 * limits.record, "{}", window.capacity());
            }
        }
    }
}
