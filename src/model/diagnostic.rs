//! A message to a person: what is wrong, where, and what to do next.
//!
//! Whoever knows the cause builds the diagnostic and writes its cure; `report` alone draws it.
//! Sentences are lowercase, without a full stop, and hold no secret and no record value.

use super::{Class, Place, RecordPlace, Signal};

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing can go on.
    Error,
    /// It works, and is probably not what was meant.
    Warning,
    /// Worth knowing.
    Note,
}

/// One finding. `rule` is a stable slug such as `unknown-key`.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    /// Stable name of the rule, kebab-case.
    pub rule: &'static str,
    /// How grave it is.
    pub severity: Severity,
    /// What is wrong, in the user's words.
    pub message: String,
    /// Where it was written, when it was written in a file of the project.
    pub place: Option<Place>,
    /// A place that cannot be drawn, such as `POST /v2/users, first for data/users.csv line 2`.
    pub at: Option<String>,
    /// What it met: the `|` lines below the source line.
    pub rows: Vec<String>,
    /// The `=` lines: record, counts, whether anything was sent.
    pub notes: Vec<String>,
    /// Something that can be typed or done next.
    pub help: Option<String>,
    /// The record it was met on.
    pub record: Option<RecordPlace>,
    /// JSON pointer into the record or body.
    pub pointer: Option<String>,
    /// How many times it was met, when more than once.
    pub count: Option<u64>,
}

impl Diagnostic {
    /// An error with a message and nothing else yet.
    pub fn error(rule: &'static str, message: impl Into<String>) -> Self {
        Self {
            rule,
            severity: Severity::Error,
            message: message.into(),
            place: None,
            at: None,
            rows: Vec::new(),
            notes: Vec::new(),
            help: None,
            record: None,
            pointer: None,
            count: None,
        }
    }

    /// A warning with a message and nothing else yet.
    pub fn warning(rule: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(rule, message) }
    }

    /// Says where it was written.
    #[must_use]
    pub fn place(mut self, place: &Place) -> Self {
        self.place = Some(place.clone());
        self
    }

    /// Says where it was met, in words.
    #[must_use]
    pub fn at(mut self, at: impl Into<String>) -> Self {
        self.at = Some(at.into());
        self
    }

    /// Adds a `|` line.
    #[must_use]
    pub fn row(mut self, row: impl Into<String>) -> Self {
        self.rows.push(row.into());
        self
    }

    /// Adds a `=` line.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says on which record it was met.
    #[must_use]
    pub fn record(mut self, record: &RecordPlace) -> Self {
        self.record = Some(record.clone());
        self
    }

    /// Whether it says the same about the same place.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.rule == other.rule && self.message == other.message && self.place == other.place
    }

    /// Says at which JSON pointer it was met.
    #[must_use]
    pub fn pointer(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }
}

/// The findings of one look at many things, so that all are shown at once.
#[derive(Debug, Default)]
pub struct Problems {
    found: Vec<Diagnostic>,
}

impl Problems {
    /// Nothing found yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a finding.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.found.push(diagnostic);
    }

    /// Notes an error at a place, without help.
    pub fn at(&mut self, rule: &'static str, place: &Place, message: impl Into<String>) {
        self.push(Diagnostic::error(rule, message).place(place));
    }

    /// Takes over what another look found.
    pub fn append(&mut self, other: Self) {
        self.found.extend(other.found);
    }

    /// Whether any finding is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.found.iter().any(|found| found.severity == Severity::Error)
    }

    /// How many findings are errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.found.iter().filter(|found| found.severity == Severity::Error).count()
    }

    /// The findings in the order in which they were met.
    #[must_use]
    pub fn all(&self) -> &[Diagnostic] {
        &self.found
    }

    /// The findings, each once, sorted by file and position; what has no place stands last.
    #[must_use]
    pub fn into_sorted(mut self) -> Vec<Diagnostic> {
        self.found.sort_by(|a, b| match (&a.place, &b.place) {
            (Some(a), Some(b)) => (a.path(), a.span.start).cmp(&(b.path(), b.span.start)),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => std::cmp::Ordering::Equal,
        });
        let mut sorted: Vec<Diagnostic> = Vec::with_capacity(self.found.len());
        for found in self.found {
            let mut beside = sorted.iter().rev().take_while(|known| known.place == found.place);
            if !beside.any(|known| known.is_same(&found)) {
                sorted.push(found);
            }
        }
        sorted
    }
}

/// Why a command cannot go on: a class and what there is to say about it.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The exit class.
    pub class: Class,
    /// What to show; warnings may be among them.
    pub diagnostics: Vec<Diagnostic>,
    /// The signal that ended it, if one did.
    pub signal: Option<Signal>,
}

impl Failure {
    /// A failure with one message.
    #[must_use]
    pub fn new(class: Class, diagnostic: Diagnostic) -> Self {
        Self::of(class, vec![diagnostic])
    }

    /// A failure with several messages.
    #[must_use]
    pub const fn of(class: Class, diagnostics: Vec<Diagnostic>) -> Self {
        Self { class, diagnostics, signal: None }
    }

    /// The same, ended by a signal.
    #[must_use]
    pub fn by(self, signal: Signal) -> Self {
        Self { signal: Some(signal), ..self }
    }

    /// A failure of class `config` with all that was found.
    #[must_use]
    pub fn config(problems: Problems) -> Self {
        Self::of(Class::Config, problems.into_sorted())
    }

    /// A local file could not be read or written.
    #[must_use]
    pub fn io(what: &str, path: &std::path::Path, cause: &std::io::Error) -> Self {
        Self::new(
            Class::Io,
            Diagnostic::error("io", format!("cannot {what} {}: {}", path.display(), io_cause(cause)))
                .help("free the disk or mend the rights, then start the same command again"),
        )
    }
}

/// The cause of an I/O error in words, without the number of the operating system.
fn io_cause(cause: &std::io::Error) -> String {
    let text = cause.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text[..end].to_lowercase()
}

/// The known name that is nearest to what was written, if one is near enough to be meant.
#[must_use]
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = written.trim().to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&wanted, &name.trim().to_lowercase()), name))
        .filter(|(score, _)| *score >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// A help line with the nearest name, if there is one.
#[must_use]
pub fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(written, known).map(|name| format!("did you mean `{name}`?"))
}
