//! Values of a declared type: variables, settings, defaults of parameters.
//!
//! Pure. Text from flags and the environment becomes the declared type only when it is exactly
//! that; a value from YAML has to have the type already.

use super::ParamKind;
use crate::model::{Number, Value};

impl ParamKind {
    /// What a value of this type is, for messages.
    pub(super) const fn wanted(self) -> &'static str {
        match self {
            Self::String => "text",
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::Date => "a date such as 2026-11-22",
            Self::Array => "a list",
            Self::Object => "an object",
        }
    }
}

/// The value that text means under a type.
pub(super) fn from_text(kind: ParamKind, text: &str) -> Option<Value> {
    match kind {
        ParamKind::String => Some(Value::text(text)),
        ParamKind::Integer | ParamKind::Number => {
            let number = Number::parse(text)?;
            (kind == ParamKind::Number || number.is_written_as_integer()).then_some(Value::Number(number))
        }
        ParamKind::Boolean => text.parse().ok().map(Value::Bool),
        ParamKind::Date => is_date(text).then(|| Value::text(text)),
        ParamKind::Array | ParamKind::Object => {
            let value = Value::from(&serde_json::from_str::<serde_json::Value>(text).ok()?);
            fits(kind, &value).then_some(value)
        }
    }
}

/// Whether a value from YAML has the type.
pub(super) fn fits(kind: ParamKind, value: &Value) -> bool {
    match (kind, value) {
        (ParamKind::String, Value::String(_))
        | (ParamKind::Number, Value::Number(_))
        | (ParamKind::Boolean, Value::Bool(_))
        | (ParamKind::Array, Value::Array(_))
        | (ParamKind::Object, Value::Object(_)) => true,
        (ParamKind::Integer, Value::Number(number)) => number.is_written_as_integer(),
        (ParamKind::Date, Value::String(text)) => is_date(text),
        _ => false,
    }
}

/// The type of a value that was written without one.
pub(super) fn kind_of(value: &Value) -> ParamKind {
    match value {
        Value::Bool(_) => ParamKind::Boolean,
        Value::Number(number) if number.is_written_as_integer() => ParamKind::Integer,
        Value::Number(_) => ParamKind::Number,
        Value::Array(_) => ParamKind::Array,
        Value::Object(_) => ParamKind::Object,
        Value::Absent | Value::Null | Value::String(_) => ParamKind::String,
    }
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_a_type_only_when_it_is_exactly_that() {
        for (kind, good, bad) in [
            (ParamKind::Integer, "12345678901234567890123", "1.0"),
            (ParamKind::Number, "1.10", "1,1"),
            (ParamKind::Boolean, "true", "yes"),
            (ParamKind::Date, "2026-02-28", "2026-02-30"),
            (ParamKind::Date, "2024-02-29", "20260228"),
            (ParamKind::Array, "[1]", "{}"),
            (ParamKind::Object, "{\"a\":1}", "a"),
        ] {
            assert!(from_text(kind, good).is_some(), "{kind:?} {good}");
            assert!(from_text(kind, bad).is_none(), "{kind:?} {bad}");
        }
    }
}
