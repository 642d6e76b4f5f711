//! `source: { endpoint: … }`: records that come from a list of an API.

use super::pipeline::{RawSource, bind_params, limits};
use super::read::Node;
use super::{Connection, Endpoint, Format, RecordLimits, SourceSpec, Tree};
use crate::model::{Diagnostic, Placed, Problems};

/// A list of an API: the call that reads its pages, and the account.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The call, with what the source binds to its parameters.
    pub endpoint: Endpoint,
    /// The account.
    pub connection: Connection,
}

/// What a source that is no file is called begins so.
const OF_API: &str = "api:";
/// The same of the replies of another pipeline.
pub(super) const OF_REPLIES: &str = "responses:";
/// The same of the keys that vanished from the input of another pipeline.
pub(super) const OF_VANISHED: &str = "vanished:";

/// Refuses a file that would be taken for one of those.
pub(super) fn check_file(file: &Placed<String>, problems: &mut Problems) {
    let Some(prefix) = [OF_API, OF_REPLIES, OF_VANISHED].into_iter().find(|it| file.value.starts_with(it))
    else {
        return;
    };
    let help = match prefix {
        OF_API => "a list of an API is written `endpoint: freshchat/list-agents`",
        OF_REPLIES => "the replies of another pipeline are written `source: { responses: PIPELINE }`",
        _ => "what vanished from an input is deleted by `deletes:` of its pipeline",
    };
    problems.push(
        Diagnostic::error(
            "file-name",
            format!("`{prefix}` at the begin of a file's name has a meaning of its own"),
        )
        .place(&file.place)
        .help(format!("{help}; a file that is called so is written `./{}`", file.value)),
    );
}

impl SourceSpec {
    /// Whether the records come over standard input.
    #[must_use]
    pub fn is_stdin(&self) -> bool {
        self.file == "-"
    }

    /// Whether the records come from a list of an API.
    #[must_use]
    pub fn is_api(&self) -> bool {
        self.file.starts_with(OF_API)
    }

    /// The pipeline whose replies the records are, while their file is not found.
    #[must_use]
    pub fn replies_of(&self) -> Option<&str> {
        self.file.strip_prefix(OF_REPLIES)
    }

    /// The pipeline whose vanished keys the records are, while their file is not found.
    #[must_use]
    pub fn vanished_of(&self) -> Option<&str> {
        self.file.strip_prefix(OF_VANISHED)
    }

    /// Whether the records are keys that vanished from the input of another pipeline.
    #[must_use]
    pub fn is_of_vanished(&self) -> bool {
        self.fields == Some(super::deletes::FIELDS)
    }

    /// Whether the records have to lie in a spool before they can be read.
    #[must_use]
    pub fn is_spooled(&self) -> bool {
        self.is_stdin() || self.is_api()
    }

    /// Another input of the same pipeline, as a run has it.
    pub fn set_input(&mut self, input: &str) {
        if self.is_api() && self.file != input {
            // The format of a spool says nothing of a file.
            self.format = None;
        }
        input.clone_into(&mut self.file);
        if self.is_api() {
            self.format = Some(Format::Ndjson);
        }
    }
}

/// What is written of a list, wherever it stands.
pub(super) struct Written<'a> {
    pub(super) endpoint: &'a Node,
    pub(super) connection: Option<&'a Node>,
    pub(super) params: &'a [(Placed<String>, Tree)],
    pub(super) limits: RecordLimits,
    /// Keys that speak of files, and whether they are there.
    pub(super) of_files: [(&'static str, bool); 3],
}

impl<'a> Written<'a> {
    /// The list of a source, where it is one.
    pub(super) fn of_source(raw: &'a RawSource) -> Option<Self> {
        Some(Self {
            endpoint: raw.endpoint.as_ref()?,
            connection: raw.connection.as_ref(),
            params: &raw.params.0,
            limits: raw.limits.as_ref().map(limits).unwrap_or_default(),
            of_files: [
                ("format", raw.format.is_some()),
                ("pointer", raw.pointer.is_some()),
                ("csv", raw.csv.is_some()),
            ],
        })
    }
}

/// Checks that an endpoint is a list and binds its parameters; gives the source that its records are.
pub(super) fn resolve(written: &Written<'_>, endpoint: &mut Endpoint, problems: &mut Problems) -> SourceSpec {
    let place = &written.endpoint.place;
    bind_params(endpoint, written.params, problems);
    if endpoint.pagination.is_none() {
        problems.push(
            Diagnostic::error("not-a-list", format!("{} is no list", endpoint.name))
                .place(place)
                .note("only an endpoint with `pagination` can be a source")
                .help("say how its pages are read: `pagination: { kind: page, param: page, items: \"{{ response.body.users }}\" }`"),
        );
    }
    for (key, _) in written.of_files.into_iter().filter(|(_, is_there)| *is_there) {
        problems.at("source", place, format!("`{key}` belongs to a file, not to an endpoint"));
    }
    let name = if endpoint.name.contains('/') {
        endpoint.name.clone()
    } else {
        format!("{} {}", endpoint.method.value, endpoint.path.value)
    };
    SourceSpec {
        fields: None,
        file: format!("{OF_API}{name}"),
        place: Some(place.clone()),
        format: Some(Format::Ndjson),
        pointer: String::new(),
        csv: super::CsvOptions::default(),
        limits: written.limits,
    }
}
