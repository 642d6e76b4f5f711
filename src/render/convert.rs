//! Values on their way into the template engine and back, digit by digit.
//!
//! Invariant: a number is never changed in silence. What the engine could not print back as it was
//! written, or calculate with exactly, is an error (ruling 18).

use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Value as EngineValue, ValueKind};
use minijinja::{Error, ErrorKind};

use super::expr::Mode;
use crate::model::{Map, Number, Value};

/// Bytes of one text, or of one rendered output (guarantees, section 8).
pub(super) const MAX_TEXT: usize = 8 << 20;
/// Values in one result.
const MAX_VALUES: usize = 1_000_000;
/// Nesting of one result.
const MAX_DEPTH: usize = 128;

/// An error of ours inside one of the engine's: its message holds no values and may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub rule: &'static str,
    pub message: String,
}

impl Said {
    pub fn new(rule: &'static str, message: impl Into<String>) -> Self {
        Self { rule, message: message.into() }
    }

    /// The error of ours that is inside one of the engine's.
    pub fn of(error: &Error) -> Option<&Self> {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if let Some(said) = error.downcast_ref() {
                return Some(said);
            }
            cause = error.source();
        }
        None
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Said {}

impl From<Said> for Error {
    fn from(said: Said) -> Self {
        Self::new(ErrorKind::InvalidOperation, "").with_source(said)
    }
}

/// What `omit` is inside the engine.
#[derive(Debug)]
struct Omit;

impl Object for Omit {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

/// The value of `omit`.
pub(super) fn omit() -> EngineValue {
    EngineValue::from_object(Omit)
}

/// A part of a value that is kept whole: the engine looks into it without copying.
pub(super) struct Node {
    root: Arc<Value>,
    at: Vec<u32>,
}

impl std::fmt::Debug for Node {
    // No values: the engine prints objects in some of its messages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("value")
    }
}

impl Node {
    pub const fn new(root: Arc<Value>, at: Vec<u32>) -> Self {
        Self { root, at }
    }

    fn value(&self) -> &Value {
        self.at.iter().fold(&*self.root, |value, at| {
            let at = *at as usize;
            let child = match value {
                Value::Object(map) => map.iter().as_slice().get(at).map(|(_, value)| value),
                Value::Array(items) => items.get(at),
                _ => None,
            };
            child.unwrap_or(&Value::Null)
        })
    }

    fn child(&self, at: usize, value: &Value) -> EngineValue {
        to_engine(value, Mode::Exact).unwrap_or_else(|| {
            let mut path = Vec::with_capacity(self.at.len() + 1);
            path.extend_from_slice(&self.at);
            path.push(u32::try_from(at).unwrap_or(u32::MAX));
            EngineValue::from_object(Self::new(Arc::clone(&self.root), path))
        })
    }
}

impl Object for Node {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        match self.value() {
            Value::Object(_) => ObjectRepr::Map,
            Value::Array(_) => ObjectRepr::Seq,
            _ => ObjectRepr::Plain,
        }
    }

    fn get_value(self: &Arc<Self>, key: &EngineValue) -> Option<EngineValue> {
        match self.value() {
            Value::Object(_) => self.get_value_by_str(key.as_str()?),
            Value::Array(items) => {
                let at = key.as_usize()?;
                Some(self.child(at, items.get(at)?))
            }
            _ => None,
        }
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<EngineValue> {
        let (at, value) = super::path::position(self.value().as_object()?, key)?;
        Some(self.child(at, value))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.value() {
            Value::Object(map) => {
                Enumerator::Values(map.iter().map(|(name, _)| EngineValue::from(name.as_str())).collect())
            }
            Value::Array(items) => Enumerator::Seq(items.len()),
            _ => Enumerator::NonEnumerable,
        }
    }

    fn render(self: &Arc<Self>, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.value().to_json())
    }
}

/// A value as the engine's own, unless it is a list or object, which has to become a [`Node`].
pub(super) fn to_engine(value: &Value, mode: Mode) -> Option<EngineValue> {
    Some(match (value, mode) {
        (Value::Array(_) | Value::Object(_) | Value::Absent | Value::Null, Mode::Text) => {
            not_text(value).into()
        }
        (Value::Array(_) | Value::Object(_), _) | (Value::Number(_), Mode::Whole) => return None,
        (Value::Absent | Value::Null, _) => EngineValue::from(()),
        (Value::Bool(value), Mode::Text) => EngineValue::from(if *value { "true" } else { "false" }),
        (Value::Bool(value), _) => EngineValue::from(*value),
        (Value::String(text), _) => EngineValue::from(text.as_str()),
        (Value::Number(number), Mode::Text) => EngineValue::from(number.as_str()),
        (Value::Number(number), mode) => number_to_engine(number.as_str(), mode),
    })
}

/// The error of a value that cannot stand in text.
pub(super) fn not_text(value: &Value) -> Said {
    let message = match value {
        Value::Absent | Value::Null => {
            "null cannot stand in text; `| default('…')` gives another value".to_owned()
        }
        value => format!("{} cannot stand in text; `| tojson` writes it as JSON", value.kind()),
    };
    Said::new("not-text", message)
}

impl From<Said> for EngineValue {
    // The engine raises it as soon as the value is used.
    fn from(said: Said) -> Self {
        Self::from(Error::from(said))
    }
}

fn number_to_engine(text: &str, mode: Mode) -> EngineValue {
    let integer = !text.contains(['.', 'e', 'E']);
    let whole = if !integer {
        None
    } else if let Ok(value) = text.parse::<i64>() {
        Some(EngineValue::from(value))
    } else if let Ok(value) = text.parse::<u64>() {
        Some(EngineValue::from(value))
    } else if let Ok(value) = text.parse::<i128>() {
        Some(EngineValue::from(value))
    } else {
        text.parse::<u128>().ok().map(EngineValue::from)
    };
    if let Some(whole) = whole
        && (text != "-0" || mode != Mode::Exact)
    {
        return whole;
    }
    let float: f64 = text.parse().unwrap_or(f64::NAN);
    let printed = shortest(float);
    let exact = match mode {
        Mode::Nearest => printed.is_some(),
        Mode::Value => printed.is_some_and(|printed| canonical(&printed) == canonical(text)),
        _ => printed.is_some_and(|printed| printed == text),
    };
    if exact {
        return EngineValue::from(float);
    }
    Said::new(
        "number-not-exact",
        "the number of this record cannot be used here without changing its digits; \
         a plain `{{ field }}` keeps them, `| string` writes them as text, `| float` takes the nearest value",
    )
    .into()
}

/// A float in as few digits as tell it, such as `0.1`, `2.0` and `1e300`.
fn shortest(float: f64) -> Option<String> {
    serde_json::Number::from_f64(float).map(|number| number.to_string())
}

/// Sign, digits without zeros at either end, and the exponent of the last digit.
fn canonical(text: &str) -> (bool, String, i64) {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let kept = digits.trim_end_matches('0');
    let exponent: i64 = exponent.parse().unwrap_or(i64::MAX / 4);
    let shift =
        i64::try_from(digits.len() - kept.len()).unwrap_or(0) - i64::try_from(fraction.len()).unwrap_or(0);
    let kept = kept.trim_start_matches('0');
    if kept.is_empty() {
        return (false, String::new(), 0);
    }
    (negative, kept.to_owned(), exponent.saturating_add(shift))
}

/// A result of the engine as our own value.
pub(super) fn from_engine(value: &EngineValue) -> Result<Value, Error> {
    let mut left = Left { bytes: MAX_TEXT, values: MAX_VALUES };
    convert(value, &mut left, 0)
}

struct Left {
    bytes: usize,
    values: usize,
}

/// The error of a rendering that grows without end.
pub(super) fn too_large() -> Said {
    Said::new("render-limit", "the result is larger than 8 MiB or 1,000,000 values")
}

fn convert(value: &EngineValue, left: &mut Left, depth: usize) -> Result<Value, Error> {
    let take = |from: &mut usize, n: usize| {
        *from = from.checked_sub(n).ok_or_else(too_large)?;
        Ok::<_, Error>(())
    };
    take(&mut left.values, 1)?;
    if depth > MAX_DEPTH {
        return Err(Said::new("render-limit", "the result is nested more than 128 levels deep").into());
    }
    if let Some(node) = value.downcast_object_ref::<Node>() {
        let value = node.value();
        let weight = weight(value, left.bytes);
        take(&mut left.bytes, weight)?;
        return Ok(value.clone());
    }
    if value.downcast_object_ref::<Omit>().is_some() {
        return Ok(Value::Absent);
    }
    Ok(match value.kind() {
        ValueKind::Undefined | ValueKind::None => Value::Null,
        ValueKind::Bool => Value::Bool(value.is_true()),
        ValueKind::Number if value.is_integer() => {
            Number::parse(&value.to_string()).map_or(Value::Null, Value::Number)
        }
        ValueKind::Number => {
            let number =
                f64::try_from(value.clone()).ok().and_then(shortest).and_then(|text| Number::parse(&text));
            Value::Number(
                number.ok_or_else(|| Said::new("number-not-exact", "the result is not a finite number"))?,
            )
        }
        ValueKind::String => {
            let text = value.to_str().unwrap_or_default();
            take(&mut left.bytes, text.len())?;
            Value::text(text)
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let mut items = Vec::new();
            for item in value.try_iter()?.checked() {
                items.push(convert(&item?, left, depth + 1)?);
            }
            Value::Array(items)
        }
        ValueKind::Map => {
            let mut map = Map::new();
            for key in value.try_iter()?.checked() {
                let key = key?;
                let name = match key.as_str() {
                    Some(name) => name.to_owned(),
                    None if key.is_integer() => key.to_string(),
                    None => return Err(Said::new("filter", "a name in an object is no text").into()),
                };
                take(&mut left.bytes, name.len())?;
                let item = convert(&value.get_item(&key)?, left, depth + 1)?;
                map.push(name, item);
            }
            Value::Object(map)
        }
        ValueKind::Invalid => {
            return Err(value.clone().try_iter().err().unwrap_or_else(|| too_large().into()));
        }
        kind => return Err(Said::new("filter", format!("the result is {kind}, which is no value")).into()),
    })
}

/// A lower bound of the bytes that a value takes in JSON, counted no further than just past `limit`.
pub(super) fn weight(value: &Value, limit: usize) -> usize {
    match value {
        Value::Absent => 0,
        Value::Null | Value::Bool(_) => 4,
        Value::Number(number) => number.as_str().len(),
        Value::String(text) => text.len() + 2,
        Value::Array(items) => {
            let mut sum = 2_usize;
            for item in items {
                sum = sum.saturating_add(weight(item, limit));
                if sum > limit {
                    break;
                }
            }
            sum
        }
        Value::Object(map) => {
            let mut sum = 2_usize;
            for (name, item) in map {
                sum = sum.saturating_add(name.len() + 3).saturating_add(weight(item, limit));
                if sum > limit {
                    break;
                }
            }
            sum
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_in_exactly_or_not_at_all() {
        use Mode::{Exact, Nearest, Text, Value as Same};
        for (text, mode, expected) in [
            ("1", Exact, Some("1")),
            ("-7", Exact, Some("-7")),
            ("-0", Exact, None),
            ("-0", Same, Some("0")),
            ("9007199254740993", Exact, Some("9007199254740993")),
            ("18446744073709551616", Exact, Some("18446744073709551616")),
            (
                "340282366920938463463374607431768211455",
                Same,
                Some("340282366920938463463374607431768211455"),
            ),
            ("340282366920938463463374607431768211456", Same, None),
            ("1.5", Exact, Some("1.5")),
            ("1.10", Exact, None),
            ("1.10", Same, Some("1.1")),
            ("1.10", Text, Some("1.10")),
            ("1e5", Exact, None),
            ("1e5", Same, Some("100000.0")),
            ("0.1234567890123456789", Same, None),
            ("0.1234567890123456789", Nearest, Some("0.12345678901234568")),
            ("1e400", Nearest, None),
            ("1e400", Same, None),
        ] {
            let found = to_engine(&Value::Number(Number::parse(text).unwrap()), mode).unwrap();
            let back = from_engine(&found).ok().map(|value| value.to_json().trim_matches('"').to_owned());
            assert_eq!(back.as_deref(), expected, "{text} {mode:?}");
        }
    }

    #[test]
    fn the_same_value_has_one_canonical_form() {
        for (a, b) in [("1.10", "1.1"), ("100", "1e2"), ("0.00", "0"), ("-0.50", "-5E-1"), ("-0", "0.0")] {
            assert_eq!(canonical(a), canonical(b), "{a} {b}");
        }
        for (a, b) in [("1", "-1"), ("1", "10"), ("0.1", "0.01")] {
            assert_ne!(canonical(a), canonical(b), "{a} {b}");
        }
    }

    #[test]
    fn a_list_that_repeats_a_large_text_is_refused() {
        let large = EngineValue::from("x".repeat(MAX_TEXT / 2));
        let list = EngineValue::from(vec![large.clone(), large.clone(), large]);
        assert_eq!(Said::of(&from_engine(&list).unwrap_err()).unwrap().rule, "render-limit");
    }
}
