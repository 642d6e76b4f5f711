//! Why one record cannot be rendered: a rule, a sentence and the place in the template.
//!
//! Invariant: names of fields and parameters may stand in a message, values never.

use super::context::{Context, Root};
use super::path::{Miss, Path, Step, field_step};
use crate::model::{Diagnostic, Place, Value, nearest};

/// One record cannot be rendered.
#[derive(Debug, Clone, PartialEq)]
pub struct RenderError {
    /// Stable name of the rule, such as `missing-field`.
    pub rule: &'static str,
    /// What is wrong.
    pub message: String,
    /// Where it was written.
    pub place: Place,
    /// What was met beside.
    pub notes: Vec<String>,
    /// What to do.
    pub help: Option<Box<str>>,
    /// The lookup table that has no row for the record.
    pub lookup: Option<Box<str>>,
}

impl RenderError {
    /// An error with a message and nothing else yet.
    #[must_use]
    pub fn new(rule: &'static str, place: &Place, message: impl Into<String>) -> Self {
        Self {
            rule,
            message: message.into(),
            place: place.clone(),
            notes: Vec::new(),
            help: None,
            lookup: None,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into().into());
        self
    }

    #[must_use]
    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// The class of the outcome of its record: the rule, and with lookups which one.
    #[must_use]
    pub fn class(&self) -> std::borrow::Cow<'static, str> {
        match &self.lookup {
            Some(name) => format!("lookup-{name}").into(),
            None => self.rule.into(),
        }
    }

    /// A lookup table without a row for the record; `key` says under which key.
    pub(super) fn no_row(table: &str, key: &str, place: &Place) -> Self {
        let message = format!("`lookups.{table}` has no row for {key}");
        let mut error = Self::new("lookup", place, message)
            .help("add the row to the table, or give another value: `| default('…')`");
        error.lookup = Some(table.into());
        error
    }

    fn missing_in_lookups(path: &Path, miss: Miss, context: &Context, place: &Place) -> Self {
        let (Some(Step::Name(table, _)), key) = (path.steps.first(), path.steps.get(1)) else {
            return Self::new("missing-field", place, "a lookup needs a name: `lookups.agents[…]`");
        };
        match (miss.found, key) {
            (0, _) => Self::new("missing-field", place, format!("there is no lookup `{table}` here")),
            (1, Some(Step::Of(inner))) => match inner.find(context) {
                Err(miss) => Self::missing(inner, miss, context, place),
                Ok(value) => {
                    let shown = inner.shown(usize::MAX);
                    let key = match &*value {
                        Value::String(_) | Value::Number(_) => format!("the value of `{shown}`"),
                        value => format!("`{shown}`, which is {}", value.kind()),
                    };
                    Self::no_row(table, &key, place)
                }
            },
            (1, Some(Step::Name(key, _))) => Self::no_row(table, &format!("`{key}`"), place),
            (1, Some(Step::Index(key))) => Self::no_row(table, &format!("`{key}`"), place),
            _ => {
                let parent = path.shown(miss.found);
                let step = path.shown(miss.found + 1);
                let step = step.strip_prefix(&parent).unwrap_or_default();
                Self::new(
                    "missing-field",
                    place,
                    format!("`{parent}` has no `{}`", step.trim_start_matches('.')),
                )
                .help("`| default('…')` gives another value where it is missing")
            }
        }
    }

    /// A path that ends too early in this context.
    pub(super) fn missing(path: &Path, miss: Miss, context: &Context, place: &Place) -> Self {
        if path.root == Root::Lookups {
            return Self::missing_in_lookups(path, miss, context, place);
        }
        let parent = path.shown(miss.found);
        // What an earlier reply did not have is no fault of the record.
        let rule = if path.root == Root::Steps { "capture-missing" } else { "missing-field" };
        let error = |message: String| Self::new(rule, place, message);
        let default =
            "`| default(omit)` leaves the key out where it is missing, `| default('…')` gives another value";
        let Ok(value) = path.walk(context, miss.found, |_| {}) else {
            return error(format!("`{parent}` is not known here"));
        };
        let step = match path.steps.get(miss.found) {
            Some(Step::Name(name, _)) => format!("field `{name}`"),
            Some(Step::Index(index)) => format!("element {index}"),
            Some(Step::Of(inner)) => format!("entry for the value of `{}`", inner.shown(usize::MAX)),
            None => return error(format!("`{parent}` is not known here")),
        };
        match (&*value, path.steps.get(miss.found)) {
            (Value::Null, _) => error(format!("`{parent}` is null, so it has no {step}")).help(default),
            (Value::Object(map), Some(Step::Name(name, _))) => {
                let near = nearest(name, map.names());
                let near = near.map(|near| format!("did you mean `{parent}{}`? ", field_step(near)));
                error(format!("`{parent}` has no {step}")).help(near.unwrap_or_default() + default)
            }
            (Value::Object(_), Some(Step::Of(_))) | (Value::Array(_), Some(Step::Index(_) | Step::Of(_))) => {
                error(format!("`{parent}` has no {step}")).help(default)
            }
            (value, _) => error(format!("`{parent}` is {}, so it has no {step}", value.kind())).help(default),
        }
    }
}

impl std::fmt::Display for RenderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl std::error::Error for RenderError {}

impl From<RenderError> for Diagnostic {
    fn from(error: RenderError) -> Self {
        let mut diagnostic = Self::error(error.rule, error.message).place(&error.place);
        diagnostic.notes = error.notes;
        diagnostic.help = error.help.map(String::from);
        diagnostic
    }
}
