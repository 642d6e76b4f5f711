//! One expression of a leaf: a plain path with at most a default, or what the engine calculates.
//!
//! Apart from the leaf because path positions treat each expression of a leaf by itself.

use super::context::{Context, Scope};
use super::engine::{Compiled, write_text};
use super::error::RenderError;
use super::expr::Check;
use super::path::{Path, literal};
use super::scan::{Token, Word, Words};
use crate::config::Template;
use crate::model::{Diagnostic, Place, Problems, Value};

/// One expression of a leaf.
#[derive(Debug)]
pub(super) struct Part {
    pub what: What,
    place: Place,
    /// The sides of a top-level `or`, for conditions over a reply: a field that is missing on one
    /// side is no match there and says nothing about the other.
    pub sides: Vec<Part>,
}

#[derive(Debug)]
pub(super) enum What {
    /// Found in our own values, never in the engine (ruling 18).
    Path { path: Path, default: Option<Default> },
    /// Calculated by the engine.
    Engine(Compiled),
}

/// `default(value)` or `default(value, true)`.
#[derive(Debug)]
pub(super) struct Default {
    value: Value,
    also_empty: bool,
}

impl Part {
    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    /// The path it reads, for messages; other expressions are told as they were written.
    pub(super) fn shown(&self) -> String {
        match &self.what {
            What::Path { path, .. } => path.shown(usize::MAX),
            What::Engine(_) => {
                self.place.source.text.get(self.place.span.clone()).unwrap_or_default().trim().into()
            }
        }
    }

    pub(super) fn value(&self, context: &Context, template: &Template) -> Result<Value, RenderError> {
        match &self.what {
            What::Engine(compiled) => compiled.value(context, template),
            What::Path { path, default } => match (path.find(context), default) {
                (Ok(value), Some(default)) if default.applies(&value) => Ok(default.value.clone()),
                (Ok(value), _) => Ok(value.into_owned()),
                (Err(_), Some(default)) => Ok(default.value.clone()),
                (Err(miss), None) => Err(RenderError::missing(path, miss, context, &self.place)),
            },
        }
    }

    /// The value; null where a field is missing or anything else goes wrong. Nobody is told what.
    pub(super) fn lenient(&self, context: &Context) -> Value {
        match &self.what {
            What::Engine(compiled) => compiled.lenient(context),
            What::Path { path, default } => match (path.find(context), default) {
                (Ok(value), Some(default)) if default.applies(&value) => default.value.clone(),
                (Ok(value), _) => value.into_owned(),
                (Err(_), Some(default)) => default.value.clone(),
                (Err(_), None) => Value::Null,
            },
        }
    }

    pub(super) fn text(
        &self,
        context: &Context,
        template: &Template,
        out: &mut String,
    ) -> Result<(), RenderError> {
        // The usual case copies the text without a value in between.
        if let What::Path { path, default } = &self.what
            && let Ok(value) = path.find(context)
            && !default.as_ref().is_some_and(|default| default.applies(&value))
        {
            return write_text(&value, out).map_err(|said| self.not_text(&said.message));
        }
        let value = self.value(context, template)?;
        write_text(&value, out).map_err(|said| self.not_text(&said.message))
    }

    fn not_text(&self, message: &str) -> RenderError {
        let (message, help) = message.split_once("; ").unwrap_or((message, ""));
        RenderError::new("not-text", &self.place, format!("`{}`: {message}", self.shown())).help(help)
    }
}

impl Default {
    fn applies(&self, value: &Value) -> bool {
        value.is_nothing() || (self.also_empty && !holds(value))
    }
}

/// Whether a value counts as true.
pub(super) fn holds(value: &Value) -> bool {
    match value {
        Value::Absent | Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != 0.0,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Compiles the words of one expression.
pub(super) fn part(
    words: &Words<'_>,
    template: &Template,
    scope: &Scope,
    problems: &mut Problems,
) -> Option<Part> {
    let (Some(first), Some(last)) = (words.tokens.first(), words.tokens.last()) else {
        let place = template.place.within(&template.value, words.inner.clone());
        problems.push(Diagnostic::error("template-syntax", "the expression is empty").place(&place));
        return None;
    };
    let span = first.span.start..last.span.end;
    let mut check = Check::new(template, scope, problems);
    check.expression(&words.tokens);
    let place = check.place(span);
    let checked = check.finish()?;
    if let Some((path, default)) = plain(&words.tokens) {
        return Some(Part { what: What::Path { path, default }, place, sides: Vec::new() });
    }
    let compiled = Compiled::new(checked, words, template, problems)?;
    let sides = sides(words, template, scope);
    Some(Part { what: What::Engine(compiled), place, sides })
}

/// The sides of an `or` that is the outermost operator.
fn sides(words: &Words<'_>, template: &Template, scope: &Scope) -> Vec<Part> {
    let mut depth = 0_i32;
    let mut ends = Vec::new();
    for (at, token) in words.tokens.iter().enumerate() {
        match token.text {
            "(" | "[" | "{" if token.word == Word::Sign => depth += 1,
            ")" | "]" | "}" if token.word == Word::Sign => depth -= 1,
            "or" if depth == 0 && token.word == Word::Name => ends.push(at),
            // A choice binds weaker than `or`.
            "if" if depth == 0 && token.word == Word::Name => return Vec::new(),
            _ => {}
        }
    }
    if ends.is_empty() {
        return Vec::new();
    }
    ends.push(words.tokens.len());
    let mut from = 0;
    let mut parts = Vec::with_capacity(ends.len());
    for end in ends {
        let tokens = words.tokens.get(from..end).unwrap_or_default().to_vec();
        from = end + 1;
        let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else { return Vec::new() };
        let inner = first.span.start..last.span.end;
        let side = Words { tokens, inner, next: 0, trim: false };
        // What is wrong with it was already said of the whole.
        let Some(part) = part(&side, template, scope, &mut Problems::new()) else { return Vec::new() };
        parts.push(part);
    }
    parts
}

/// A plain path with at most one `default` of a literal.
fn plain(tokens: &[Token<'_>]) -> Option<(Path, Option<Default>)> {
    let (path, taken) = Path::read(tokens)?;
    match tokens.get(taken..)? {
        [] => Some((path, None)),
        [pipe, name, open, rest @ ..]
            if pipe.is_sign("|") && (name.is_name("default") || name.is_name("d")) && open.is_sign("(") =>
        {
            let (value, taken) = literal(rest)?;
            let also_empty = match rest.get(taken..)? {
                [close] if close.is_sign(")") => false,
                [comma, lax, close]
                    if comma.is_sign(",")
                        && close.is_sign(")")
                        && (lax.is_name("true") || lax.is_name("True")) =>
                {
                    true
                }
                _ => return None,
            };
            Some((path, Some(Default { value, also_empty })))
        }
        _ => None,
    }
}
