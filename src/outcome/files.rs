//! The outcome files of a run: views made from checkpoint and input, never a place of truth.
//!
//! Together with `unreadable.ndjson` they hold every record of the input exactly once, each a
//! valid input again: the original columns in their order, then a block of ours that begins with
//! `_runner_run` and is dropped when such a file is read. Each file appears whole: it is written
//! under another name, synced and renamed.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use base64::Engine as _;

use crate::model::{BadRecord, Failure, Map, Number, Record, RecordPlace, State, Value};

use super::Checkpoint;
use super::folder::sync_folder;
use super::rows::{RecordRow, RunRow};

/// How the input is written, and so the outcome files.
#[derive(Debug, Clone)]
pub enum Shape {
    /// CSV with these columns, separated by this byte.
    Csv {
        /// The columns of the input, in order.
        columns: Vec<String>,
        /// The bytes that the input uses around and between fields, and before comments.
        marks: Marks,
        /// Whether the pipeline names an encoding that is not UTF-8: then a byte order mark says
        /// that this file is.
        byte_order_mark: bool,
        /// What a null is written as.
        null_word: String,
        /// `csv` or `tsv`.
        ending: &'static str,
    },
    /// One JSON object a line.
    Ndjson,
}

/// The bytes that shape a CSV file.
#[derive(Debug, Clone, Copy)]
pub struct Marks {
    /// Between fields.
    pub delimiter: u8,
    /// Around fields.
    pub quote: u8,
    /// Before comments: a line that begins with it would not be a record again.
    pub comment: Option<u8>,
}

impl Shape {
    fn csv(&self) -> CsvLine {
        CsvLine::new(match self {
            Self::Csv { marks, .. } => *marks,
            Self::Ndjson => Marks { delimiter: b',', quote: b'"', comment: None },
        })
    }

    /// What stands between the fields of a row, where there are rows.
    #[must_use]
    pub const fn delimiter(&self) -> Option<u8> {
        match self {
            Self::Csv { marks, .. } => Some(marks.delimiter),
            Self::Ndjson => None,
        }
    }

    /// The ending of the outcome files.
    #[must_use]
    pub const fn ending(&self) -> &'static str {
        match self {
            Self::Csv { ending, .. } => ending,
            Self::Ndjson => "ndjson",
        }
    }
}

/// The records of a run's input, in order.
pub trait Records {
    /// The next one.
    fn next(&mut self) -> Option<Result<Record, Failure>>;

    /// The one that was given last as it stands in its file, where a line of that can stand in an outcome file;
    /// then its fields are not asked for.
    fn text(&self) -> Option<&[u8]>;
}

/// One file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// `delivered`, `failed`, …
    pub name: &'static str,
    /// Where it lies.
    pub path: PathBuf,
    /// Records in it.
    pub records: u64,
}

/// Records that are invalid for the same reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The reason in words.
    pub message: String,
    /// How many.
    pub count: u64,
    /// The first of them.
    pub places: Vec<RecordPlace>,
}

/// At most so many different reasons are told apart.
const MOST_FAULTS: usize = 100;
/// At most so many places are named for a reason.
const MOST_PLACES: usize = 3;

/// Names of the files in the order in which they are listed.
const NAMES: [&str; 7] = ["delivered", "failed", "invalid", "skipped", "in_doubt", "unsent", "unreadable"];

/// What is said of a record beside how it stands in the input.
#[derive(Debug, Clone, Default)]
pub struct Ours {
    /// Names of its calls, where it has several.
    pub steps: Vec<String>,
    /// Names of what is captured.
    pub captures: Vec<String>,
}

impl Ours {
    /// Our columns in their order.
    fn columns(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let step = (!self.steps.is_empty()).then_some(Cow::Borrowed("_runner_step"));
        let captured = self.captures.iter().map(|name| Cow::Owned(format!("_runner_{name}")));
        OURS.map(Cow::Borrowed).into_iter().chain(step).chain(captured)
    }

    /// The step that decided about a record: the first that is not delivered.
    fn step(&self, row: &RecordRow) -> String {
        #[derive(serde::Deserialize)]
        struct Stands {
            #[serde(rename = "@", default)]
            at: String,
        }
        if self.steps.is_empty() || row.state == State::Delivered {
            return String::new();
        }
        serde_json::from_str(&row.captures).map_or_else(|_| String::new(), |Stands { at }| at)
    }
}

/// Our columns before those of steps and captures.
const OURS: [&str; 6] = [
    "_runner_run",
    "_runner_ordinal",
    "_runner_status",
    "_runner_class",
    "_runner_message",
    "_runner_attempts",
];

/// Makes all outcome files of a run anew in `folder`.
pub fn write(
    folder: &Path,
    run: &RunRow,
    checkpoint: &Checkpoint,
    shape: &Shape,
    ours: &Ours,
    records: &mut dyn Records,
) -> Result<(Vec<Written>, Vec<Fault>), Failure> {
    let csv = shape.csv();
    let mut out = Out {
        folder,
        run,
        shape,
        ours,
        csv,
        line: Vec::new(),
        files: NAMES.map(|_| None),
        faults: Vec::new(),
    };
    let mut next = 0;
    let mut pull = |upto: Option<u64>, row: Option<&RecordRow>, out: &mut Out<'_>| -> Result<(), Failure> {
        while upto.is_none_or(|upto| next <= upto) {
            let Some(record) = records.next() else { return Ok(()) };
            let record = record?;
            next = record.ordinal + 1;
            out.record(&record, records.text(), row.filter(|row| row.ordinal == record.ordinal))?;
        }
        Ok(())
    };
    checkpoint.each_row(run, 0, |row| pull(Some(row.ordinal), Some(&row), &mut out))?;
    // Records behind the last row were never reached.
    pull(None, None, &mut out)?;
    let mut faults = std::mem::take(&mut out.faults);
    faults.sort_by_key(|fault| std::cmp::Reverse(fault.count));
    Ok((out.finish()?, faults))
}

struct Out<'a> {
    folder: &'a Path,
    run: &'a RunRow,
    shape: &'a Shape,
    ours: &'a Ours,
    csv: CsvLine,
    /// The line that is being made.
    line: Vec<u8>,
    files: [Option<Open>; 7],
    faults: Vec<Fault>,
}

struct Open {
    path: PathBuf,
    temporary: PathBuf,
    writer: BufWriter<File>,
    records: u64,
}

impl Out<'_> {
    fn record(
        &mut self,
        record: &Record,
        text: Option<&[u8]>,
        row: Option<&RecordRow>,
    ) -> Result<(), Failure> {
        let fields = match &record.fields {
            Ok(fields) => fields,
            Err(bad) => return self.unreadable(record, bad),
        };
        let unsent = RecordRow::new(record.ordinal, State::Pending);
        let row = row.unwrap_or(&unsent);
        if row.state == State::Invalid {
            self.note_fault(&row.message, &record.place);
        }
        let index = match row.state {
            State::Delivered => 0,
            State::Failed => 1,
            State::Invalid => 2,
            State::Skipped => 3,
            State::InDoubt | State::InFlight => 4,
            State::Pending => 5,
        };
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        match (self.shape, text) {
            (Shape::Csv { marks, .. }, Some(text)) => {
                line.extend_from_slice(text);
                line.push(marks.delimiter);
                self.ours(row, &mut line);
            }
            (Shape::Csv { columns, null_word, marks, .. }, None) => {
                let theirs = columns.iter().map(|column| cell(fields.get(column), null_word));
                self.csv.of(theirs, &mut line);
                // Without its line end: ours follow.
                line.pop();
                line.push(marks.delimiter);
                self.ours(row, &mut line);
            }
            (Shape::Ndjson, _) => {
                let mut object = fields.clone();
                object.push("_runner", self.ours_as_object(row));
                object.write_json(&mut line);
                line.push(b'\n');
            }
        }
        let appended = self.append(index, &line);
        self.line = line;
        appended
    }

    /// Every part of a message is a reason of its own: a record may break several rules.
    fn note_fault(&mut self, message: &str, place: &RecordPlace) {
        for part in message.split("; ") {
            let is_full = self.faults.len() >= MOST_FAULTS;
            match self.faults.iter_mut().find(|fault| fault.message == part) {
                Some(fault) => {
                    fault.count += 1;
                    if fault.places.len() < MOST_PLACES {
                        fault.places.push(place.clone());
                    }
                }
                None if is_full => {}
                None => {
                    self.faults.push(Fault { message: part.into(), count: 1, places: vec![place.clone()] });
                }
            }
        }
    }

    fn unreadable(&mut self, record: &Record, bad: &BadRecord) -> Result<(), Failure> {
        self.note_fault(&bad.message, &record.place);
        let mut object = Map::new();
        object.push("run", Value::text(self.run.id.as_str()));
        object.push("file", Value::text(&*record.place.file));
        object.push("line", Value::Number(Number::from(record.place.line)));
        object.push("ordinal", Value::Number(Number::from(record.ordinal)));
        object.push("class", Value::text(bad.rule));
        object.push("message", Value::text(bad.message.as_str()));
        object.push("bytes", Value::text(base64::engine::general_purpose::STANDARD.encode(&bad.bytes)));
        let mut line = Vec::new();
        object.write_json(&mut line);
        line.push(b'\n');
        self.append(6, &line)
    }

    /// Writes our cells and the line end.
    fn ours(&mut self, row: &RecordRow, line: &mut Vec<u8>) {
        let kept: serde_json::Map<String, serde_json::Value> =
            if self.ours.captures.is_empty() { None } else { serde_json::from_str(&row.captures).ok() }
                .unwrap_or_default();
        let status = if row.status == 0 { String::new() } else { row.status.to_string() };
        let first = [
            Cow::Borrowed(self.run.id.as_str()),
            Cow::Owned(row.ordinal.to_string()),
            Cow::Owned(status),
            Cow::Borrowed(row.class.as_str()),
            Cow::Borrowed(row.message.as_str()),
            Cow::Owned(row.attempts.to_string()),
        ];
        let step = (!self.ours.steps.is_empty()).then(|| Cow::Owned(self.ours.step(row)));
        let captures = self.ours.captures.iter().map(|name| match kept.get(name) {
            None | Some(serde_json::Value::Null) => Cow::Borrowed(""),
            Some(serde_json::Value::String(text)) => Cow::Borrowed(text.as_str()),
            Some(other) => Cow::Owned(other.to_string()),
        });
        self.csv.append(first.into_iter().chain(step).chain(captures), line);
    }

    fn ours_as_object(&self, row: &RecordRow) -> Value {
        let mut object = Map::new();
        object.push("run", Value::text(self.run.id.as_str()));
        object.push("ordinal", Value::Number(Number::from(row.ordinal)));
        if row.status != 0 {
            object.push("status", Value::Number(Number::from(u64::from(row.status))));
        }
        for (name, text) in [("class", &row.class), ("message", &row.message)] {
            if !text.is_empty() {
                object.push(name, Value::text(text.as_str()));
            }
        }
        object.push("attempts", Value::Number(Number::from(u64::from(row.attempts))));
        let step = self.ours.step(row);
        if !step.is_empty() {
            object.push("step", Value::text(step));
        }
        if let Ok(mut captures) = serde_json::from_str::<serde_json::Value>(&row.captures) {
            if let Some(all) = captures.as_object_mut() {
                all.shift_remove("@");
            }
            object.push("captures", Value::from(&captures));
        }
        Value::Object(object)
    }

    fn append(&mut self, index: usize, line: &[u8]) -> Result<(), Failure> {
        let open = match &mut self.files[index] {
            Some(open) => open,
            none => {
                let ending = if index == 6 { "ndjson" } else { self.shape.ending() };
                let mut open = Open::create(self.folder, NAMES[index], ending)?;
                if let Shape::Csv { columns, byte_order_mark, .. } = self.shape
                    && index != 6
                {
                    let theirs = columns.iter().map(|name| Cow::Borrowed(name.as_str()));
                    let mut header = Vec::new();
                    self.shape.csv().of(theirs.chain(self.ours.columns()), &mut header);
                    if *byte_order_mark {
                        open.write("\u{feff}".as_bytes())?;
                    }
                    open.write(&header)?;
                }
                none.insert(open)
            }
        };
        open.records += 1;
        open.write(line)
    }

    fn finish(self) -> Result<Vec<Written>, Failure> {
        let mut written = Vec::new();
        for (name, open) in NAMES.into_iter().zip(self.files) {
            if let Some(open) = open {
                written.push(open.finish(name)?);
            } else {
                let ending = if name == "unreadable" { "ndjson" } else { self.shape.ending() };
                let stale = self.folder.join(format!("{name}.{ending}"));
                match std::fs::remove_file(&stale) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(Failure::io("remove", &stale, &error));
                    }
                    _ => {}
                }
            }
        }
        sync_folder(self.folder)?;
        Ok(written)
    }
}

impl Open {
    fn create(folder: &Path, name: &str, ending: &str) -> Result<Self, Failure> {
        let path = folder.join(format!("{name}.{ending}"));
        let temporary = folder.join(format!(".{name}.{ending}.new"));
        let file = create_private(&temporary)?;
        Ok(Self { path, temporary, writer: BufWriter::with_capacity(1 << 16, file), records: 0 })
    }

    fn write(&mut self, line: &[u8]) -> Result<(), Failure> {
        self.writer.write_all(line).map_err(|error| Failure::io("write", &self.temporary, &error))
    }

    fn finish(mut self, name: &'static str) -> Result<Written, Failure> {
        let wrap = |error| Failure::io("write", &self.temporary, &error);
        self.writer.flush().map_err(wrap)?;
        self.writer.get_ref().sync_all().map_err(wrap)?;
        std::fs::rename(&self.temporary, &self.path)
            .map_err(|error| Failure::io("rename to", &self.path, &error))?;
        Ok(Written { name, path: self.path, records: self.records })
    }
}

/// The outcome files that lie in a folder already.
#[must_use]
pub fn existing(folder: &Path) -> Vec<Written> {
    let summary = std::fs::read_to_string(folder.join("summary.json")).unwrap_or_default();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap_or_default();
    NAMES
        .into_iter()
        .filter_map(|name| {
            let file = summary.get("files")?.get(name)?;
            let path = folder.join(file.get("file")?.as_str()?);
            path.is_file().then_some(Written { name, path, records: file.get("records")?.as_u64()? })
        })
        .collect()
}

/// Makes a file that only its owner can read, over a left-over of a start that was killed.
pub(super) fn create_private(path: &Path) -> Result<File, Failure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Failure::io("remove", path, &error));
        }
        _ => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| Failure::io("make", path, &error))
}

/// Writes a whole small file: a temporary name, a sync, a rename.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.new"));
    let mut file = create_private(&temporary)?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .map_err(|error| Failure::io("write", &temporary, &error))?;
    std::fs::rename(&temporary, path).map_err(|error| Failure::io("rename to", path, &error))?;
    sync_folder(folder)
}

/// A file that is written line by line, under a temporary name until it is whole and synced.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    temporary: PathBuf,
    writer: BufWriter<File>,
}

impl NewFile {
    /// Begins one that only its owner can read.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}.new"));
        let writer = BufWriter::with_capacity(1 << 16, create_private(&temporary)?);
        Ok(Self { path: path.to_owned(), temporary, writer })
    }

    /// Adds a line.
    pub fn line(&mut self, line: &str) -> Result<(), Failure> {
        let written = self.writer.write_all(line.as_bytes()).and_then(|()| self.writer.write_all(b"\n"));
        written.map_err(|error| Failure::io("write", &self.temporary, &error))
    }

    /// Puts it in its place.
    pub fn finish(mut self) -> Result<(), Failure> {
        let flushed = self.writer.flush().and_then(|()| self.writer.get_ref().sync_all());
        flushed.map_err(|error| Failure::io("write", &self.temporary, &error))?;
        std::fs::rename(&self.temporary, &self.path)
            .map_err(|error| Failure::io("rename to", &self.path, &error))?;
        self.path.parent().map_or(Ok(()), sync_folder)
    }
}

fn cell<'v>(value: Option<&'v Value>, null_word: &'v str) -> Cow<'v, str> {
    match value {
        None | Some(Value::Absent) => Cow::Borrowed(""),
        Some(Value::Null) => Cow::Borrowed(null_word),
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(other) => Cow::Owned(other.to_json()),
    }
}

/// Writes lines of CSV; one for all of them, because it has a buffer.
struct CsvLine {
    writer: csv::Writer<Shared>,
    line: Shared,
    marks: Marks,
}

/// Where the writer of lines leaves them.
#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl CsvLine {
    fn new(marks: Marks) -> Self {
        let line = Shared::default();
        let writer = csv::WriterBuilder::new()
            .delimiter(marks.delimiter)
            .quote(marks.quote)
            .comment(marks.comment)
            .flexible(true)
            .from_writer(line.clone());
        Self { writer, line, marks }
    }

    /// Appends cells to a line that has some, and its end.
    fn append<'c>(&mut self, cells: impl Iterator<Item = Cow<'c, str>>, out: &mut Vec<u8>) {
        let Marks { delimiter, quote, comment } = self.marks;
        let is_special = |byte| [delimiter, quote, b'\n', b'\r'].contains(&byte) || Some(byte) == comment;
        let begin = out.len();
        let mut is_plain = true;
        let cells: Vec<Cow<'c, str>> = cells.collect();
        for cell in &cells {
            is_plain &= !cell.bytes().any(is_special);
            out.extend_from_slice(cell.as_bytes());
            out.push(delimiter);
        }
        // Nearly all of ours are words and numbers.
        if is_plain {
            out.pop();
            out.push(b'\n');
        } else {
            out.truncate(begin);
            self.of(cells.into_iter(), out);
        }
    }

    /// Appends a line of these cells, with its end.
    fn of<'c>(&mut self, cells: impl Iterator<Item = Cow<'c, str>>, out: &mut Vec<u8>) {
        for cell in cells {
            // Writing into memory does not fail.
            let _ = self.writer.write_field(cell.as_bytes());
        }
        let _ = self.writer.write_record(None::<&[u8]>);
        let _ = self.writer.flush();
        let mut line = self.line.0.borrow_mut();
        out.extend_from_slice(&line);
        line.clear();
    }
}
