//! One input row or object, and where it came from.

use std::sync::Arc;

use super::Map;

/// Where a record stands in its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordPlace {
    /// The file as the user named it; `-` is standard input.
    pub file: Arc<str>,
    /// The line on which the record starts, from 1; true also behind quoted newlines.
    pub line: u64,
    /// The byte at which the record starts in the (decompressed) source, from 0.
    pub byte: u64,
}

impl std::fmt::Display for RecordPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, line {}", self.file, self.line)
    }
}

/// One item of a source: a record, or the place of one that cannot be read.
#[derive(Debug, Clone)]
pub struct Record {
    /// Position in the whole input, from 0.
    pub ordinal: u64,
    /// Where it stands.
    pub place: RecordPlace,
    /// Hash of its content (xxh3 over the bytes it was read from), which tells a changed input.
    pub digest: u64,
    /// The record of an earlier run that it is a copy of, when it stands in an outcome file of ours.
    pub copy_of: Option<Box<CopyOf>>,
    /// Its fields, or why it cannot be read as a record.
    pub fields: Result<Map, BadRecord>,
}

/// What our columns in an outcome file say of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOf {
    /// The run that wrote it.
    pub run: String,
    /// The record's position in the input of that run.
    pub ordinal: u64,
}

/// Why one item of a source is no record. Its neighbours are not affected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    /// Stable slug of the rule, such as `ragged-row`; the outcome's class.
    pub rule: &'static str,
    /// What is wrong with it: column, byte offset, limit.
    pub message: String,
    /// Its bytes as far as they were kept (at most 64 KiB).
    pub bytes: Vec<u8>,
}
