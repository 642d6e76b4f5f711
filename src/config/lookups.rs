//! `lookups:` of a pipeline: tables in which expressions look.

use super::files::Files;
use super::pipeline::{RawCsv, check_pointer, csv};
use super::raw::{Needed, raw};
use super::{Format, RecordLimits, SourceSpec};
use crate::model::{Diagnostic, Placed, Problems};

raw! {
    /// A table in which expressions look.
    RawLookup, "a lookup" {
        /// The file, relative to the root.
        file: Needed<Placed<String>>,
        /// The column by which rows are found.
        key: Needed<Placed<String>>,
        /// Columns to keep beside it; all unless said.
        columns: Vec<Placed<String>>,
        /// What the file is written in; told by the ending unless said.
        format: Option<Format>,
        /// JSON pointer to the list, such as `/data/items`.
        pointer: Option<Placed<String>>,
        /// How a CSV file is written.
        csv: Option<RawCsv>,
    }
    wrong {
        "path" => "it is written `file: data/agents.csv`",
        "source" => "it is written `file: data/agents.csv`",
        "fields" => "it is written `columns: [id]`",
        "endpoint" => "tables of an API are not available yet; `runner extract` writes one to a file",
    }
}

/// A table in which expressions look.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// Its name: `lookups.NAME`.
    pub name: Placed<String>,
    /// Where its rows come from.
    pub source: SourceSpec,
    /// The column by which rows are found.
    pub key: Placed<String>,
    /// Columns that are kept beside the key; empty is all.
    pub columns: Vec<Placed<String>>,
}

/// The tables as they were meant.
pub(super) fn resolve(
    all: &[(Placed<String>, RawLookup)],
    files: &Files,
    problems: &mut Problems,
) -> Vec<Lookup> {
    all.iter().filter_map(|(name, raw)| one(name, raw, files, problems)).collect()
}

fn one(name: &Placed<String>, raw: &RawLookup, files: &Files, problems: &mut Problems) -> Option<Lookup> {
    let mut chars = name.value.chars();
    let is_word = chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_word {
        problems.push(
            Diagnostic::error("lookup-name", "the name of a lookup is a word of letters, digits and `_`")
                .place(&name.place)
                .help("it is used as `lookups.agents[…]`"),
        );
    }
    let (file, key) = (raw.file.0.as_ref()?, raw.key.0.clone()?);
    if file.value == "-" {
        problems.at("lookup-file", &file.place, "a lookup cannot be read from standard input");
    } else if let Err(finding) = files.inside(&file.value) {
        problems.push(finding.place(&file.place));
    }
    check_pointer(raw.pointer.as_ref(), problems);
    let source = SourceSpec {
        file: file.value.clone(),
        place: Some(file.place.clone()),
        format: raw.format,
        pointer: raw.pointer.as_ref().map(|pointer| pointer.value.clone()).unwrap_or_default(),
        csv: raw.csv.as_ref().map(|raw| csv(raw, problems)).unwrap_or_default(),
        limits: RecordLimits::default(),
    };
    Some(Lookup { name: name.clone(), source, key, columns: raw.columns.clone() })
}
