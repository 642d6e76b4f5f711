//! The files of a source as one source: ordinals, marks, and going from one file to the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::csv::{CsvFile, Header};
use super::list::ListFile;
use super::locate::InputFile;
use super::ndjson::NdjsonFile;
use super::stream::{Packing, is_utf8};
use super::window::{Start, Window};
use super::{Found, Made, Mark, Source};
use crate::config::{Format, SourceSpec};
use crate::model::{Class, Diagnostic, Failure, Record, RecordPlace};

pub(super) struct Chain {
    files: Vec<InputFile>,
    spec: SourceSpec,
    /// The header that all files have.
    header: Option<Arc<Header>>,
    warnings: Vec<Diagnostic>,
    reader: Reader,
    at: usize,
    ordinal: u64,
    counter: Arc<AtomicU64>,
    state: State,
    made: Made,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    /// At its end, or behind a failure.
    Over,
}

enum Reader {
    Csv(Box<CsvFile>),
    Ndjson(Box<NdjsonFile>),
    List(Box<ListFile>),
}

impl Chain {
    pub(super) fn open(files: Vec<InputFile>, spec: SourceSpec) -> Result<Self, Failure> {
        let counter = Arc::new(AtomicU64::new(0));
        let Some((first, others)) = files.split_first() else {
            let diagnostic = Diagnostic::error("input-missing", "the source has no file");
            return Err(Failure::new(Class::Input, diagnostic));
        };
        let reader = Reader::open(first, &spec, &counter)?;
        // A header that differs is found before the first record is given.
        if let Some(header) = reader.header().filter(|_| spec.csv.header.is_none()) {
            for file in others {
                let other = Reader::open(file, &spec, &Arc::new(AtomicU64::new(0)))?;
                if let Some(other) = other.header() {
                    same_header((first, header), (file, other))?;
                }
            }
        }
        let header = reader.header().cloned();
        let warnings = header.iter().flat_map(|header| header.warnings.clone()).collect();
        Ok(Self {
            files,
            spec,
            header,
            warnings,
            reader,
            at: 0,
            ordinal: 0,
            counter,
            state: State::Reading,
            made: Made::default(),
        })
    }

    /// Opens a file at its start; false when there is none.
    fn go_to_file(&mut self, at: usize) -> Result<bool, Failure> {
        let Some(file) = self.files.get(at) else { return Ok(false) };
        let reader = Reader::open(file, &self.spec, &self.counter)?;
        if let (Some(first), Some(one), Some(other)) = (self.files.first(), &self.header, reader.header()) {
            same_header((first, one), (file, other))?;
        }
        (self.reader, self.at) = (reader, at);
        self.reader.make(&self.made);
        Ok(true)
    }

    fn next_found(&mut self) -> Result<Option<Found>, Failure> {
        loop {
            if let Some(found) = self.reader.next()? {
                return Ok(Some(found));
            }
            if !self.go_to_file(self.at + 1)? {
                return Ok(None);
            }
        }
    }

    /// Goes to a position in the file that was opened.
    fn go_to_byte(&mut self, mark: Mark) -> Result<(), Failure> {
        let Some(file) = self.files.get(self.at) else { return Ok(()) };
        let start = Start { byte: mark.byte, line: mark.line };
        let window = self.reader.window().resume(file, start, Arc::clone(&self.counter))?;
        match &mut self.reader {
            Reader::Csv(csv) => csv.resume(window),
            Reader::Ndjson(ndjson) => ndjson.resume(window),
            Reader::List(list) => list.resume(window, (self.at == 0).then_some(mark.ordinal)),
        }
        Ok(())
    }

    fn can_be_positioned(&self, file: &InputFile) -> bool {
        file.packing == Packing::Plain && is_utf8(self.spec.csv.encoding)
    }
}

impl Source for Chain {
    fn next(&mut self) -> Option<Result<Record, Failure>> {
        if self.state == State::Over {
            return None;
        }
        match self.next_found() {
            Ok(Some(found)) => {
                let file = Arc::clone(self.reader.window().name());
                let place = RecordPlace { file, line: found.line, byte: found.byte };
                let record = Record {
                    ordinal: self.ordinal,
                    place,
                    digest: found.digest,
                    copy_of: found.copy_of,
                    fields: found.fields,
                };
                self.ordinal += 1;
                Some(Ok(record))
            }
            Ok(None) => {
                self.state = State::Over;
                None
            }
            Err(failure) => {
                self.state = State::Over;
                Some(Err(failure))
            }
        }
    }

    fn columns(&self) -> Option<&[String]> {
        self.header.as_ref().map(|header| header.names.as_slice())
    }

    fn mark(&self) -> Mark {
        let start = self.reader.position();
        let file = u32::try_from(self.at).unwrap_or(u32::MAX);
        Mark { ordinal: self.ordinal, file, byte: start.byte, line: start.line }
    }

    fn seek(&mut self, mark: Mark) -> Result<(), Failure> {
        let at = usize::try_from(mark.file).unwrap_or(usize::MAX);
        let Some(file) = self.files.get(at) else {
            let message =
                format!("the source has {} files, and file {} was expected", self.files.len(), mark.file);
            return Err(Failure::new(Class::Input, Diagnostic::error("input-changed", message)));
        };
        let positioned = self.can_be_positioned(file) && mark.byte > 0;
        if positioned {
            self.go_to_file(at)?;
            self.go_to_byte(mark)?;
            (self.ordinal, self.state) = (mark.ordinal, State::Reading);
            return Ok(());
        }
        if mark.ordinal < self.ordinal || self.state == State::Over {
            self.go_to_file(0)?;
            (self.ordinal, self.state) = (0, State::Reading);
        }
        while self.ordinal < mark.ordinal {
            match self.next() {
                Some(Ok(_)) => {}
                Some(Err(failure)) => return Err(failure),
                None => break,
            }
        }
        Ok(())
    }

    fn bytes_read(&self) -> u64 {
        let before: u64 = self.files.iter().take(self.at).map(|file| file.size).sum();
        before + self.counter.load(Ordering::Relaxed)
    }

    fn bytes_total(&self) -> Option<u64> {
        Some(self.files.iter().map(|file| file.size).sum())
    }

    fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    fn make(&mut self, what: Made) {
        self.reader.make(&what);
        self.made = what;
    }

    fn text(&self) -> Option<&[u8]> {
        match &self.reader {
            Reader::Csv(csv) => csv.text(),
            Reader::Ndjson(_) | Reader::List(_) => None,
        }
    }
}

impl Reader {
    fn open(file: &InputFile, spec: &SourceSpec, counter: &Arc<AtomicU64>) -> Result<Self, Failure> {
        if matches!(file.format, Format::Json | Format::Ndjson) && !is_utf8(spec.csv.encoding) {
            let message = format!("{} is JSON, which is always UTF-8", file.name);
            let mut diagnostic = Diagnostic::error("bad-csv-options", message).help(
                "leave `source.csv.encoding` out, and convert the file with `iconv` if it is not UTF-8",
            );
            diagnostic.place.clone_from(&spec.place);
            return Err(Failure::new(Class::Config, diagnostic));
        }
        let window = Window::open(file, spec.csv.encoding, Arc::clone(counter))?;
        Ok(match file.format {
            Format::Csv | Format::Tsv => Self::Csv(Box::new(CsvFile::open(window, file.format, spec)?)),
            Format::Ndjson => Self::Ndjson(Box::new(NdjsonFile::new(window, spec.limits))),
            Format::Json => Self::List(Box::new(ListFile::open(window, &spec.pointer, spec.limits)?)),
        })
    }

    fn next(&mut self) -> Result<Option<Found>, Failure> {
        match self {
            Self::Csv(csv) => csv.next(),
            Self::Ndjson(ndjson) => ndjson.next(),
            Self::List(list) => list.next(),
        }
    }

    fn make(&mut self, what: &Made) {
        match self {
            Self::Csv(csv) => csv.make(what),
            Self::Ndjson(_) | Self::List(_) => {}
        }
    }

    fn window(&self) -> &Window {
        match self {
            Self::Csv(csv) => csv.window(),
            Self::Ndjson(ndjson) => &ndjson.window,
            Self::List(list) => &list.window,
        }
    }

    fn header(&self) -> Option<&Arc<Header>> {
        match self {
            Self::Csv(csv) => Some(csv.header()),
            Self::Ndjson(_) | Self::List(_) => None,
        }
    }

    fn position(&self) -> Start {
        match self {
            Self::Csv(_) | Self::Ndjson(_) => self.window().position(),
            Self::List(list) => list.position(),
        }
    }
}

fn same_header(one: (&InputFile, &Arc<Header>), other: (&InputFile, &Arc<Header>)) -> Result<(), Failure> {
    let ((a, one), (b, other)) = (one, other);
    if one.written == other.written {
        return Ok(());
    }
    let (longest, columns) = (one.written.len().max(other.written.len()), (&one.written, &other.written));
    let differs = (0..longest).find(|at| columns.0.get(*at) != columns.1.get(*at)).unwrap_or_default();
    let name = |names: &[String]| {
        names
            .get(differs)
            .map_or_else(|| "no such column".to_owned(), |name| format!("`{}`", super::shown(name)))
    };
    let message = format!("{} and {} do not have the same header", a.name, b.name);
    Err(Failure::new(
        Class::Input,
        Diagnostic::error("headers-differ", message)
            .note(format!("column {}: {} and {}", differs + 1, name(columns.0), name(columns.1)))
            .help("read files with other columns with a pipeline of their own"),
    ))
}
