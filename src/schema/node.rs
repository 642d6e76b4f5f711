//! Lets the JSON Schema crate read our own values as they are.
//!
//! Separate from the schema itself, so that no record is copied into another tree and numbers are
//! judged by the digits of their source. Invariant: the crate never gets to see a value it could
//! put into a message, so [`Node::to_value`] answers null for all.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write as _;

use jsonschema::JsonType;
use jsonschema::json::{Array, Json, JsonNumber, Node, NodeIdentity, Object, cmp};

use crate::model::{Map, Number, Value};

/// The representation "values of `model`"; absent entries and elements are not there.
pub(super) struct Tree;

impl Json for Tree {
    type Node<'a> = &'a Value;
    type PreparedKey = Box<str>;
    type StringBuffer = Value;
    // A look-up is a scan, so one pass over the members soon beats it.
    const KEYS_PER_LOOKUP: usize = 8;
    const ACYCLIC: bool = true;

    fn prepare_key(key: &str) -> Box<str> {
        key.into()
    }

    fn with_string_node<T>(buffer: &mut Value, string: &str, f: impl FnOnce(&Value) -> T) -> T {
        *buffer = Value::text(string);
        f(buffer)
    }
}

impl<'a> Node<'a, Tree> for &'a Value {
    type Object = &'a Map;
    type Array = &'a [Value];
    type Number = &'a Number;

    fn as_object(&self) -> Option<&'a Map> {
        Value::as_object(self)
    }

    fn as_array(&self) -> Option<&'a [Value]> {
        Value::as_array(self)
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        Value::as_str(self).map(Cow::Borrowed)
    }

    fn as_number(&self) -> Option<&'a Number> {
        match self {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    fn as_boolean(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    fn is_null(&self) -> bool {
        self.is_nothing()
    }

    fn json_type(&self) -> JsonType {
        match self {
            Value::Absent | Value::Null => JsonType::Null,
            Value::Bool(_) => JsonType::Boolean,
            Value::Number(_) => JsonType::Number,
            Value::String(_) => JsonType::String,
            Value::Array(_) => JsonType::Array,
            Value::Object(_) => JsonType::Object,
        }
    }

    fn string_length_within(&self, min: u64, max: u64) -> Option<bool> {
        let text = Value::as_str(self)?;
        // A character takes one to four bytes: most texts are decided without counting.
        let most = text.len() as u64;
        let fewest = most.div_ceil(4);
        if most < min || fewest > max {
            return Some(false);
        }
        if min <= fewest && most <= max {
            return Some(true);
        }
        Some((min..=max).contains(&(text.chars().count() as u64)))
    }

    fn equals_value(&self, expected: &serde_json::Value) -> bool {
        equal(self, expected)
    }

    // Only error messages and annotations ask for it, and ours are made without the value.
    fn to_value(&self) -> Cow<'a, serde_json::Value> {
        Cow::Owned(serde_json::Value::Null)
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::new(std::ptr::from_ref::<Value>(self) as usize))
    }
}

/// The members of an object that are there.
pub(super) struct Members<'a>(std::slice::Iter<'a, (crate::model::Str, Value)>);

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, &'a Value);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.find(|(_, value)| is_there(value)).map(|(name, value)| (&**name, value))
    }
}

impl<'a> Object<'a, Tree> for &'a Map {
    type Node = &'a Value;
    type MemberName = &'a str;
    type MembersIter = Members<'a>;

    fn len(&self) -> usize {
        self.iter().filter(|(_, value)| is_there(value)).count()
    }

    fn get(&self, key: &Box<str>) -> Option<&'a Value> {
        Map::get(self, key).filter(|value| is_there(value))
    }

    fn members(&self) -> Members<'a> {
        Members(self.iter())
    }
}

/// The elements of a list that are there.
pub(super) struct Elements<'a>(std::slice::Iter<'a, Value>);

impl<'a> Iterator for Elements<'a> {
    type Item = &'a Value;

    fn next(&mut self) -> Option<&'a Value> {
        self.0.find(|value| is_there(value))
    }
}

impl<'a> Array<'a, Tree> for &'a [Value] {
    type Node = &'a Value;
    type ElementsIter = Elements<'a>;

    fn len(&self) -> usize {
        self.elements().count()
    }

    fn elements(&self) -> Elements<'a> {
        Elements(self.iter())
    }

    fn is_unique(&self) -> bool {
        let mut seen = HashSet::new();
        self.elements().all(|element| {
            let mut form = String::new();
            canonical(element, &mut form);
            seen.insert(form)
        })
    }
}

impl JsonNumber for &Number {
    fn as_u64(&self) -> Option<u64> {
        Number::as_u64(self)
    }

    fn as_i64(&self) -> Option<i64> {
        Number::as_i64(self)
    }

    fn as_f64(&self) -> Option<f64> {
        Some(Number::as_f64(self)).filter(|value| value.is_finite())
    }

    fn as_str(&self) -> Cow<'_, str> {
        Cow::Borrowed(Number::as_str(self))
    }

    fn to_number(&self) -> Cow<'_, serde_json::Number> {
        let number = Number::as_u64(self)
            .map(serde_json::Number::from)
            .or_else(|| Number::as_i64(self).map(serde_json::Number::from))
            .or_else(|| serde_json::Number::from_f64(Number::as_f64(self)));
        Cow::Owned(number.unwrap_or_else(|| 0.into()))
    }

    fn is_integer(&self) -> bool {
        Decimal::of(Number::as_str(self)).exponent >= 0
    }

    fn is_written_as_integer(&self) -> bool {
        Number::is_written_as_integer(self)
    }
}

const fn is_there(value: &Value) -> bool {
    !matches!(value, Value::Absent)
}

/// Equality by JSON Schema: numbers by value, objects without order.
fn equal(left: &Value, right: &serde_json::Value) -> bool {
    use serde_json::Value as Json;
    match (left, right) {
        (Value::Absent | Value::Null, Json::Null) => true,
        (Value::Bool(left), Json::Bool(right)) => left == right,
        (Value::Number(left), Json::Number(right)) => cmp::equal_numbers(&left, right),
        (Value::String(left), Json::String(right)) => **left == **right,
        (Value::Array(left), Json::Array(right)) => {
            let left = left.as_slice();
            Array::len(&left) == right.len() && left.elements().zip(right).all(|(a, b)| equal(a, b))
        }
        (Value::Object(left), Json::Object(right)) => {
            Object::len(&left) == right.len()
                && left.members().all(|(name, a)| right.get(name).is_some_and(|b| equal(a, b)))
        }
        _ => false,
    }
}

/// Writes a form that is the same exactly for equal values.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Number(number) => {
            let Decimal { negative, digits, exponent } = Decimal::of(number.as_str());
            let sign = if negative { "-" } else { "" };
            let _ = write!(out, "{sign}{digits}e{exponent}");
        }
        Value::Array(items) => {
            out.push('[');
            for item in items.as_slice().elements() {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut members: Vec<_> = map.members().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            out.push('{');
            for (name, value) in members {
                out.push_str(&Value::text(name).to_json());
                out.push(':');
                canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        plain => out.push_str(&plain.to_json()),
    }
}

/// A number as `digits * 10^exponent`, without zeros at either end of the digits.
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// Of text that is a JSON number.
    fn of(text: &str) -> Self {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let power: i64 =
            power.parse().unwrap_or(if power.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 });
        let all = format!("{whole}{fraction}");
        let kept = all.trim_end_matches('0');
        let dropped = i64::try_from(all.len() - kept.len()).unwrap_or(i64::MAX / 4);
        let digits = kept.trim_start_matches('0').to_owned();
        if digits.is_empty() {
            return Self { negative: false, digits, exponent: 0 };
        }
        let behind_point = i64::try_from(fraction.len()).unwrap_or(i64::MAX / 4);
        Self { negative, digits, exponent: power - behind_point + dropped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> Value {
        // Numbers are wrapped as text in these tests only where serde_json would change them.
        Value::from(&serde_json::from_str::<serde_json::Value>(json).unwrap())
    }

    fn number(text: &str) -> Value {
        Value::Number(Number::parse(text).unwrap())
    }

    #[test]
    fn whole_numbers_are_integers_in_any_spelling() {
        for (text, whole) in [
            ("1", true),
            ("-0", true),
            ("1.0", true),
            ("1.10", false),
            ("110e-1", true),
            ("11e-1", false),
            ("1e400", true),
            ("1e-400", false),
            ("0.0e-99999999999999999999", true),
            ("1e99999999999999999999", true),
            ("12345678901234567890123", true),
        ] {
            let number = Number::parse(text).unwrap();
            assert_eq!((&number).is_integer(), whole, "{text}");
        }
    }

    #[test]
    fn equal_elements_are_found_by_value_and_digits() {
        for (items, unique) in [
            (vec![number("1"), number("1.0")], false),
            (vec![number("12345678901234567890123"), number("12345678901234567890124")], true),
            (vec![number("0"), number("-0.0")], false),
            (vec![value(r#"{"a":1,"b":2}"#), value(r#"{"b":2,"a":1}"#)], false),
            (vec![value(r#"["a","b"]"#), value(r#"["a,b"]"#)], true),
            (vec![Value::text("1"), number("1")], true),
            (vec![Value::Absent, Value::Absent], true),
        ] {
            assert_eq!(Array::is_unique(&items.as_slice()), unique, "{items:?}");
        }
    }

    #[test]
    fn absent_entries_are_missing_to_a_schema() {
        let mut map = Map::new();
        map.push("gone", Value::Absent);
        map.push("null", Value::Null);
        let map = &map;
        assert_eq!(Object::len(&map), 1);
        assert!(Object::get(&map, &"gone".into()).is_none());
        assert!(Object::get(&map, &"null".into()).is_some());
        assert_eq!(map.members().map(|(name, _)| name).collect::<Vec<_>>(), ["null"]);
    }

    #[test]
    fn const_and_enum_compare_without_order_and_by_value() {
        let expected = serde_json::json!({"a": 1.0, "b": [true, null]});
        assert!(equal(&value(r#"{"b":[true,null],"a":1}"#), &expected));
        assert!(!equal(&value(r#"{"b":[true],"a":1}"#), &expected));
        assert!(!equal(&value(r#"{"b":[true,null],"a":1,"c":0}"#), &expected));
    }
}
