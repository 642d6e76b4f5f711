//! Bytes to records: opens the files of a source and reads one record after the other.
//!
//! Separate from `schema` and `select` because it knows files and formats and nothing of what a
//! record means. Synchronous on purpose; the engine gives it a thread. Invariants: memory does not
//! grow with the input; every record, good or bad, takes an ordinal; a line number in a message is
//! the line that an editor shows; nothing is changed in silence (no trimming, no replaced bytes).

mod chain;
mod csv;
mod json;
mod list;
mod locate;
mod lookup;
mod ndjson;
mod rows;
mod skim;
mod stream;
mod window;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_property;

use std::path::Path;
use std::sync::Arc;

use crate::config::SourceSpec;
use crate::model::{BadRecord, CopyOf, Diagnostic, Failure, Map, Record};

pub use json::{JsonFault, parse_json, parse_json_members};
pub use locate::{FileStamp, files, spool, stamp};
pub use lookup::{ReadTable, read_table};

/// An opened source: its records in order.
pub trait Source: Send {
    /// The next record; a failure means that the input is unusable from here on, and is the last
    /// item.
    fn next(&mut self) -> Option<Result<Record, Failure>>;

    /// The columns of a CSV or TSV source in order, without nameless ones and those of ours;
    /// `None` for JSON.
    fn columns(&self) -> Option<&[String]>;

    /// Where reading goes on: just behind the last record that was given. Means nothing behind a
    /// failure.
    fn mark(&self) -> Mark;

    /// Goes to a mark that was taken on the same input. Files that can be positioned are (plain
    /// UTF-8); others are read again up to the ordinal.
    fn seek(&mut self, mark: Mark) -> Result<(), Failure>;

    /// Bytes of the files on disk that were read so far.
    fn bytes_read(&self) -> u64;

    /// Bytes of the files on disk in all.
    fn bytes_total(&self) -> Option<u64>;

    /// What was met at the opening that works and is probably not meant.
    fn warnings(&self) -> &[Diagnostic];

    /// What is made of records from here on; everything, unless this is said. Digests and what makes a bad
    /// record stay the same.
    fn make(&mut self, what: Made);

    /// The record that was given last as it stands in its file, without its line end; `None` where that was not
    /// asked for, where it is no good record, and where it cannot stand in another file as it is: JSON, and
    /// rows with columns that are no fields.
    fn text(&self) -> Option<&[u8]>;
}

/// What a source makes of its records. Passes over a whole input need little of each.
#[derive(Debug, Clone, Default)]
pub struct Made {
    /// The columns that become fields, where not all do. Of JSON all do.
    pub only: Option<Arc<[String]>>,
    /// Between which delimiters [`Source::text`] is asked for, if it is. Where there is one, no column becomes a field,
    /// and the digest is 0.
    pub text: Option<u8>,
}

/// A position between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    /// The ordinal of the next record.
    pub ordinal: u64,
    /// Which file of a glob, from 0.
    pub file: u32,
    /// Byte in the (decompressed, decoded) file; 0 is its start.
    pub byte: u64,
    /// Line at that byte, from 1.
    pub line: u64,
}

/// Opens the files of a source and reads what stands before the first record. `root` is the
/// project's root; `stdin_spool` is where standard input was spooled, which `file: "-"` reads.
pub fn open(spec: &SourceSpec, root: &Path, stdin_spool: Option<&Path>) -> Result<Box<dyn Source>, Failure> {
    let files = locate::locate(spec, root, stdin_spool)?;
    Ok(Box::new(chain::Chain::open(files, spec.clone())?))
}

/// One item of a file, before it has an ordinal.
struct Found {
    line: u64,
    byte: u64,
    digest: u64,
    copy_of: Option<Box<CopyOf>>,
    fields: Result<Map, BadRecord>,
}

/// How many bytes of a bad record are kept for `unreadable.ndjson`.
const KEPT: usize = 64 << 10;

/// The bytes of a bad record as far as they are kept.
fn kept(raw: &[u8]) -> Vec<u8> {
    raw.iter().take(KEPT).copied().collect()
}

/// A name from the data as a message may hold it: short, on one line, without control characters.
fn shown(name: &str) -> String {
    const LONGEST: usize = 80;
    let mut text: String = name
        .chars()
        .take(LONGEST)
        .map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char })
        .collect();
    if name.chars().nth(LONGEST).is_some() {
        text.push('…');
    }
    text
}

/// A count in words: `1 field`, `3 fields`.
fn count_of(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}
