//! `lookups:` of a pipeline: tables in which expressions look.

use super::files::Files;
use super::listing::Written;
use super::pipeline::{RawCsv, check_pointer, csv};
use super::raw::{Entries, Needed, raw};
use super::read::Node;
use super::{Format, Listing, RecordLimits, SourceSpec, Tree};
use crate::model::{Diagnostic, Placed, Problems};

raw! {
    /// A table in which expressions look.
    RawLookup, "a lookup" {
        /// The file, relative to the root.
        file: Option<Placed<String>>,
        /// Instead of a file: a list of an API, by the name of its endpoint, or one in place.
        #[schemars(with = "Option<crate::config::published::NameOr<crate::config::endpoint::RawEndpoint>>")]
        endpoint: Option<Node>,
        /// The connection of that list; the pipeline's unless said.
        #[schemars(with = "Option<crate::config::published::NameOr<crate::config::connection::RawConnection>>")]
        connection: Option<Node>,
        /// Binds the parameters of that list.
        params: Entries<Tree>,
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
    }
}

/// A table in which expressions look.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// Its name: `lookups.NAME`.
    pub name: Placed<String>,
    /// Where its rows come from.
    pub source: SourceSpec,
    /// The list that they come from, where it is one of an API.
    pub listing: Option<Box<Listing>>,
    /// The column by which rows are found.
    pub key: Placed<String>,
    /// Columns that are kept beside the key; empty is all.
    pub columns: Vec<Placed<String>>,
}

impl RawLookup {
    /// The list of an API that it is, where it is one.
    pub(super) fn written(&self) -> Option<Written<'_>> {
        Some(Written {
            endpoint: self.endpoint.as_ref()?,
            connection: self.connection.as_ref(),
            params: &self.params.0,
            limits: RecordLimits::default(),
            of_files: [
                ("format", self.format.is_some()),
                ("pointer", self.pointer.is_some()),
                ("csv", self.csv.is_some()),
            ],
        })
    }
}

/// Checks its name, and that it is said once where its rows come from.
pub(super) fn check(name: &Placed<String>, raw: &RawLookup, problems: &mut Problems) {
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
    match (&raw.file, &raw.endpoint) {
        (None, None) => problems.at("missing-key", &raw.place, "a lookup needs `file` or `endpoint`"),
        (Some(_), Some(endpoint)) => {
            problems.at("lookup-file", &endpoint.place, "a lookup has either `file` or `endpoint`");
        }
        _ => {}
    }
}

/// The source of a table that is a file.
pub(super) fn file(raw: &RawLookup, files: &Files, problems: &mut Problems) -> Option<SourceSpec> {
    let file = raw.file.as_ref()?;
    super::listing::check_file(file, problems);
    if file.value == "-" {
        problems.at("lookup-file", &file.place, "a lookup cannot be read from standard input");
    } else if let Err(finding) = files.inside(&file.value) {
        problems.push(finding.place(&file.place));
    }
    check_pointer(raw.pointer.as_ref(), problems);
    Some(SourceSpec {
        fields: None,
        file: file.value.clone(),
        place: Some(file.place.clone()),
        format: raw.format,
        pointer: raw.pointer.as_ref().map(|pointer| pointer.value.clone()).unwrap_or_default(),
        csv: raw.csv.as_ref().map(|raw| csv(raw, problems)).unwrap_or_default(),
        limits: RecordLimits::default(),
    })
}
