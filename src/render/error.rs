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
    pub help: Option<String>,
}

impl RenderError {
    /// An error with a message and nothing else yet.
    pub(super) fn new(rule: &'static str, place: &Place, message: impl Into<String>) -> Self {
        Self { rule, message: message.into(), place: place.clone(), notes: Vec::new(), help: None }
    }

    #[must_use]
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    #[must_use]
    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// A path that ends too early in this context.
    pub(super) fn missing(path: &Path, miss: Miss, context: &Context, place: &Place) -> Self {
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
        diagnostic.help = error.help;
        diagnostic
    }
}
