//! CSV and TSV: the header and what it promises, rows to records.
//!
//! Invariant: a row that does not keep the header's promise is a bad record that names the column;
//! a cell is given as it was written, and two ways of quoting the same cells have one digest.

use std::sync::Arc;

use super::json::too_large;
use super::rows::{Dialect, Form, Row, Rows};
use super::window::Window;
use super::{Found, KEPT, Made, count_of, kept, shown};
use crate::config::{CsvOptions, Encoding, Format, RecordLimits, SourceSpec};
use crate::model::{BadRecord, Class, CopyOf, Diagnostic, Failure, Map, Str, Value};

/// The first column of the block that our outcome files add.
const FIRST_OF_OURS: &str = "_runner_run";
/// The column of our outcome files that tells the record's position.
const ORDINAL: &str = "_runner_ordinal";

pub(super) struct CsvFile {
    rows: Rows,
    header: Arc<Header>,
    options: CsvOptions,
    limits: RecordLimits,
    /// The cells of one row, then their lengths: what the digest is of.
    scratch: Vec<u8>,
    ends: Vec<usize>,
    /// Whether a column becomes a field, where that is not all of them.
    only: Option<Vec<bool>>,
    /// The last row as it stands in the file, where it is asked for and can stand elsewhere.
    keeps_text: bool,
    text: Option<Vec<u8>>,
}

/// The columns of a source, shared by its records.
pub(super) struct Header {
    /// All names as they stand in the file.
    pub written: Vec<String>,
    columns: Vec<Column>,
    /// The names that records have.
    pub names: Vec<String>,
    /// Which columns tell of what record a row is a copy: run and ordinal.
    copy: Option<(usize, usize)>,
    pub warnings: Vec<Diagnostic>,
}

enum Column {
    Field(Str),
    Nameless,
    Ours,
}

impl CsvFile {
    /// Reads the header.
    pub(super) fn open(window: Window, format: Format, spec: &SourceSpec) -> Result<Self, Failure> {
        let options = spec.csv.clone();
        let delimiter = options.delimiter.unwrap_or(if format == Format::Tsv { b'\t' } else { b',' });
        let dialect = Dialect { delimiter, quote: options.quote, comment: options.comment };
        check_dialect(dialect)?;
        let mut rows = Rows::new(window, dialect, spec.limits);
        let written = match &options.header {
            Some(names) if names.len() > spec.limits.columns => {
                return Err(too_many_columns(rows.window.name(), names.len(), &spec.limits));
            }
            Some(names) => names.clone(),
            None => read_header(&mut rows, &spec.limits, options.quote)?,
        };
        let header = Header::new(written, rows.window.name())?;
        Ok(Self {
            rows,
            header: Arc::new(header),
            options,
            limits: spec.limits,
            scratch: Vec::new(),
            ends: Vec::new(),
            only: None,
            keeps_text: false,
            text: None,
        })
    }

    pub(super) const fn window(&self) -> &Window {
        &self.rows.window
    }

    pub(super) const fn header(&self) -> &Arc<Header> {
        &self.header
    }

    /// Goes on in a window that starts behind a record.
    pub(super) fn resume(&mut self, window: Window) {
        self.rows.window = window;
    }

    pub(super) fn make(&mut self, what: &Made) {
        let is_made = |column: &Column, only: &[String]| match column {
            Column::Field(name) => only.iter().any(|wanted| **wanted == **name),
            Column::Nameless | Column::Ours => false,
        };
        let columns = &self.header.columns;
        self.only =
            what.only.as_ref().map(|only| columns.iter().map(|column| is_made(column, only)).collect());
        // One pattern may name files with tabs and files with commas.
        let is_wanted = what.text == Some(self.rows.dialect.delimiter);
        self.keeps_text = is_wanted && columns.iter().all(|column| matches!(column, Column::Field(_)));
        if self.keeps_text {
            // The row says it all.
            self.only = Some(vec![false; columns.len()]);
        }
        self.text = None;
    }

    pub(super) fn text(&self) -> Option<&[u8]> {
        self.text.as_deref()
    }

    fn keep_text(&mut self, row: &Row, is_good: bool) {
        if !is_good {
            self.text = None;
            return;
        }
        let text = self.text.get_or_insert_default();
        text.clear();
        text.extend_from_slice(self.rows.window.bytes().get(..row.len).unwrap_or_default());
    }

    pub(super) fn next(&mut self) -> Result<Option<Found>, Failure> {
        let Some(mut row) = self.rows.next_row()? else { return Ok(None) };
        let (line, byte) = (row.line, row.byte);
        let (digest, fields) = if let Some((oversize, largest)) = row.oversize.take() {
            let digest = oversize.digest();
            if largest.size > self.limits.field as u64 {
                let message = self.field_too_large(largest.column, largest.size);
                (digest, Err(BadRecord { rule: "field-too-large", message, bytes: oversize.into_kept() }))
            } else {
                (digest, Err(too_large(oversize, self.limits.record)))
            }
        } else {
            let stands = self.keeps_text && self.stands_as_it_is(&row);
            let digest = if stands { 0 } else { self.gather(&row) };
            let fields = if stands { Ok(Map::new()) } else { self.fields(&row) };
            let fields = fields.map_err(|(rule, message)| BadRecord {
                rule,
                message,
                bytes: kept(self.rows.raw(&row)),
            });
            (digest, fields)
        };
        let copy_of = self.copy_of(&row);
        if self.keeps_text {
            self.keep_text(&row, fields.is_ok());
        }
        self.rows.done(&row);
        Ok(Some(Found { line, byte, digest, copy_of, fields }))
    }

    /// The record of an earlier run that the row is a copy of, as our columns say.
    fn copy_of(&self, row: &Row) -> Option<Box<CopyOf>> {
        let (run, ordinal) = self.header.copy?;
        let cell = |at: usize| {
            let cell = self.rows.cells().get(at)?;
            std::str::from_utf8(self.rows.raw(row).get(cell.start..cell.end)?).ok()
        };
        let run = cell(run).filter(|run| !run.is_empty())?;
        Some(Box::new(CopyOf { run: run.to_owned(), ordinal: cell(ordinal)?.parse().ok()? }))
    }

    /// Copies the content of all cells behind each other, and gives its digest. Columns of ours do
    /// not count: a record in an outcome file is the record that it was.
    fn gather(&mut self, row: &Row) -> u64 {
        self.scratch.clear();
        self.ends.clear();
        let raw = self.rows.window.bytes().get(..row.len).unwrap_or_default();
        let cells = self.rows.cells();
        if row.count > cells.len() {
            return xxhash_rust::xxh3::xxh3_64(raw);
        }
        for (at, cell) in cells.iter().enumerate() {
            if !matches!(self.header.columns.get(at), Some(Column::Ours)) {
                let content = raw.get(cell.start..cell.end).unwrap_or_default();
                match cell.form {
                    Form::Plain => self.scratch.extend_from_slice(content),
                    Form::Escaped => unescape(content, self.options.quote, &mut self.scratch),
                }
            }
            self.ends.push(self.scratch.len());
        }
        let content = self.scratch.len();
        let mut before = 0;
        for (at, end) in self.ends.iter().enumerate() {
            if !matches!(self.header.columns.get(at), Some(Column::Ours)) {
                self.scratch.extend_from_slice(&((end - before) as u64).to_le_bytes());
            }
            before = *end;
        }
        let digest = xxhash_rust::xxh3::xxh3_64(&self.scratch);
        self.scratch.truncate(content);
        digest
    }

    /// Whether a row is good, told without a look at its cells one by one; false says nothing.
    fn stands_as_it_is(&self, row: &Row) -> bool {
        let raw = self.rows.raw(row);
        row.after_quote.is_none()
            && row.count == self.header.columns.len()
            && raw.len() <= self.limits.field
            && self.unreadable_bytes(row).is_none()
    }

    fn fields(&self, row: &Row) -> Result<Map, (&'static str, String)> {
        if let Some(column) = row.after_quote {
            let message = format!(
                "{} has text behind its closing quote; a quote that belongs to the text is doubled (`\"\"`)",
                self.column(column)
            );
            return Err(("text-after-quote", message));
        }
        let expected = self.header.columns.len();
        if row.count != expected {
            let message = format!(
                "{} found, {} expected by the header",
                count_of(row.count, "field"),
                count_of(expected, "field")
            );
            return Err(("ragged-row", message));
        }
        if let Some(found) = self.unreadable_bytes(row) {
            return Err(found);
        }
        let Ok(text) = std::str::from_utf8(&self.scratch) else {
            return Err(("not-utf8", "a cell that is not UTF-8".to_owned()));
        };
        let is_made = |column: usize| self.only.as_ref().is_none_or(|only| only.get(column) == Some(&true));
        let fields = self
            .only
            .as_ref()
            .map_or(self.header.names.len(), |only| only.iter().filter(|is_made| **is_made).count());
        let mut map = Map::with_capacity(fields);
        let mut start = 0;
        for (column, (end, kind)) in self.ends.iter().zip(&self.header.columns).enumerate() {
            let Some(cell) = text.get(start..*end) else {
                return Err(("not-utf8", format!("{} is not UTF-8", self.column(column))));
            };
            start = *end;
            if cell.len() > self.limits.field {
                return Err(("field-too-large", self.field_too_large(column, cell.len() as u64)));
            }
            if let Column::Field(name) = kind
                && is_made(column)
            {
                map.push(Str::clone(name), self.value(cell));
            }
        }
        Ok(map)
    }

    /// What an empty cell, a null word and any other cell is.
    fn value(&self, cell: &str) -> Value {
        if self.options.null_words.iter().any(|word| word == cell) {
            Value::Null
        } else if cell.is_empty() && !self.options.empty_is_text {
            Value::Absent
        } else {
            Value::text(cell)
        }
    }

    /// Bytes that are no text, with their column.
    fn unreadable_bytes(&self, row: &Row) -> Option<(&'static str, String)> {
        let raw = self.rows.raw(row);
        let at = |place: usize| {
            let column = self.rows.cells().iter().take_while(|cell| cell.end <= place).count();
            format!("{} (byte {})", self.column(column), row.byte + place as u64)
        };
        if let Err(cause) = std::str::from_utf8(raw) {
            let message = format!(
                "a byte that is not UTF-8 in {}; if the file is Latin-1, declare it: `source: {{ csv: {{ encoding: \
                 latin1 }} }}`",
                at(cause.valid_up_to())
            );
            return Some(("not-utf8", message));
        }
        if let Some(place) = memchr::memchr(0, raw) {
            return Some(("nul-byte", format!("the character U+0000 in {}", at(place))));
        }
        let utf16 =
            matches!(self.options.encoding, Some(Encoding::Utf16 | Encoding::Utf16Le | Encoding::Utf16Be));
        if utf16 && let Some(place) = memchr::memmem::find(raw, "\u{FFFD}".as_bytes()) {
            // The decoder puts U+FFFD where bytes are no UTF-16; that would change data in silence.
            let message = format!("U+FFFD, which stands for bytes that are no UTF-16, in {}", at(place));
            return Some(("not-utf16", message));
        }
        None
    }

    fn field_too_large(&self, column: usize, size: u64) -> String {
        format!("{} has {size} bytes, the limit is {}", self.column(column), self.limits.field)
    }

    fn column(&self, at: usize) -> String {
        match self.header.written.get(at) {
            Some(name) if !name.is_empty() => format!("column `{}`", shown(name)),
            _ => format!("column {}", at + 1),
        }
    }
}

impl Header {
    fn new(written: Vec<String>, file: &str) -> Result<Self, Failure> {
        let mut seen = std::collections::HashMap::new();
        let mut nameless = Vec::new();
        let mut columns = Vec::with_capacity(written.len());
        let mut ours = false;
        for (at, name) in written.iter().enumerate() {
            if name.is_empty() {
                nameless.push((at + 1).to_string());
                columns.push(Column::Nameless);
                continue;
            }
            if let Some(first) = seen.insert(name.as_str(), at) {
                let message = format!(
                    "two columns are named `{}`: column {} and column {}",
                    shown(name),
                    first + 1,
                    at + 1
                );
                return Err(header_failure(
                    "duplicate-column",
                    file,
                    message,
                    "give one of them another name",
                ));
            }
            if name.starts_with("_runner") {
                if !ours && name != FIRST_OF_OURS {
                    let message = format!(
                        "column {} is named `{}`: names that begin with `_runner` are those of our outcome files, \
                         which begin with `{FIRST_OF_OURS}`",
                        at + 1,
                        shown(name)
                    );
                    return Err(header_failure("reserved-column", file, message, "give it another name"));
                }
                ours = true;
                columns.push(Column::Ours);
            } else {
                columns.push(Column::Field(name.as_str().into()));
            }
        }
        let names = columns
            .iter()
            .filter_map(|column| match column {
                Column::Field(name) => Some(name.to_string()),
                Column::Nameless | Column::Ours => None,
            })
            .collect();
        let warnings = if nameless.is_empty() {
            Vec::new()
        } else {
            let (noun, verb) = if nameless.len() == 1 { ("column", "has") } else { ("columns", "have") };
            let message = format!("{noun} {} of {file} {verb} no name and are not read", nameless.join(", "));
            let message = if nameless.len() == 1 { message.replace("and are", "and is") } else { message };
            vec![Diagnostic::warning("nameless-column", message).help("name it in the header, or remove it")]
        };
        let at = |wanted: &str| written.iter().position(|name| name == wanted);
        let copy = at(FIRST_OF_OURS).zip(at(ORDINAL));
        Ok(Self { written, columns, names, copy, warnings })
    }
}

fn read_header(rows: &mut Rows, limits: &RecordLimits, quote: u8) -> Result<Vec<String>, Failure> {
    let file = Arc::clone(rows.window.name());
    let fail = |rule, message: String, help: &str| header_failure(rule, &file, message, help);
    let Some(row) = rows.next_row()? else {
        let what =
            if rows.window.offset() == 0 { "is empty (0 bytes)" } else { "holds no line that is a header" };
        return Err(fail(
            "empty-file",
            format!(
                "{} {what}; a header line was expected",
                if &*file == "-" { "standard input" } else { &*file }
            ),
            "write the file again with its header; a file without one declares it: `source: { csv: { header: […] } }`",
        ));
    };
    if row.count > limits.columns {
        let message = format!("{file} has {} columns, the limit is {}", row.count, limits.columns);
        return Err(fail(
            "too-many-columns",
            message,
            "check the delimiter: `source: { csv: { delimiter: … } }`",
        ));
    }
    if row.oversize.is_some() {
        let message = format!("the header of {file} is over the record limit of {} bytes", limits.record);
        return Err(fail("record-too-large", message, "check that the file is CSV"));
    }
    if let Some(column) = row.after_quote {
        let message = format!("the name of column {} has text behind its closing quote", column + 1);
        return Err(fail("text-after-quote", message, "double a quote that belongs to the name (`\"\"`)"));
    }
    let raw = rows.raw(&row);
    let mut names = Vec::with_capacity(row.count);
    let mut content = Vec::new();
    for (at, cell) in rows.cells().iter().enumerate() {
        content.clear();
        let bytes = raw.get(cell.start..cell.end).unwrap_or_default();
        match cell.form {
            Form::Plain => content.extend_from_slice(bytes),
            Form::Escaped => unescape(bytes, quote, &mut content),
        }
        if content.len() > limits.field.min(KEPT) {
            let message = format!("the name of column {} has {} bytes", at + 1, content.len());
            return Err(fail("field-too-large", message, "check that the file is CSV"));
        }
        match std::str::from_utf8(&content) {
            Ok(name) if !name.contains('\0') => names.push(name.to_owned()),
            Ok(_) => {
                let message = format!(
                    "the name of column {} of {file} holds U+0000: the file is no UTF-8 text",
                    at + 1
                );
                return Err(fail(
                    "nul-byte",
                    message,
                    "if it is UTF-16, declare it: `source: { csv: { encoding: utf-16 } }`",
                ));
            }
            Err(_) => {
                let message = format!("the name of column {} of {file} is not UTF-8", at + 1);
                return Err(fail(
                    "not-utf8",
                    message,
                    "if the file is Latin-1, declare it: `source: { csv: { encoding: latin1 } }`",
                ));
            }
        }
    }
    rows.done(&row);
    Ok(names)
}

fn too_many_columns(file: &str, found: usize, limits: &RecordLimits) -> Failure {
    let message = format!("{file} has {found} columns, the limit is {}", limits.columns);
    let help = "check the delimiter: `source: { csv: { delimiter: … } }`";
    header_failure("too-many-columns", file, message, help)
}

fn check_dialect(dialect: Dialect) -> Result<(), Failure> {
    let Dialect { delimiter, quote, comment } = dialect;
    let usable = |byte: u8| byte.is_ascii() && !matches!(byte, b'\r' | b'\n' | 0);
    let distinct = delimiter != quote && comment != Some(quote) && comment != Some(delimiter);
    if usable(delimiter) && usable(quote) && comment.is_none_or(usable) && distinct {
        return Ok(());
    }
    let message = "delimiter, quote and comment are different ASCII characters, none of them a line end";
    Err(Failure::new(Class::Config, Diagnostic::error("bad-csv-options", message).help("mend `source.csv`")))
}

fn header_failure(rule: &'static str, file: &str, message: String, help: &str) -> Failure {
    let file = if file == "-" { "standard input" } else { file };
    Failure::new(Class::Input, Diagnostic::error(rule, message).at(format!("{file}, header")).help(help))
}

/// Takes doubled quotes for one.
fn unescape(content: &[u8], quote: u8, out: &mut Vec<u8>) {
    let mut rest = content;
    while let Some(at) = memchr::memchr(quote, rest) {
        out.extend_from_slice(rest.get(..=at).unwrap_or_default());
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}
