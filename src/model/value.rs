//! Data from a source, in a tree that keeps numbers as they were written.
//!
//! Not `serde_json::Value`: that turns integers from 2^64 into floats and cannot keep `1.10`.
//! Invariant: a number's text is a valid JSON number (RFC 8259 section 6), copied digit by digit.

use std::io::Write as _;

/// Shared text: cheap to copy from a record into a request, and in place where it is short.
pub type Str = smol_str::SmolStr;

/// One JSON value, or the absence of one.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// Not there: an empty CSV cell, or a key that `omit` leaves out. Reads as null in
    /// expressions, is missing to a schema, and is never written.
    #[default]
    Absent,
    /// JSON null.
    Null,
    /// JSON true or false.
    Bool(bool),
    /// A number in the digits of its source.
    Number(Number),
    /// Text.
    String(Str),
    /// A list.
    Array(Vec<Value>),
    /// An object, in the order of its source.
    Object(Map),
}

/// A number as the source wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number(Str);

impl Number {
    /// Takes over text that is known to be a JSON number; `None` if it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        is_json_number(text.as_bytes()).then(|| Self(text.into()))
    }

    /// The digits as they were written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value, if it is an integer that fits.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        self.0.parse().ok()
    }

    /// The value, if it is an integer that fits.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        self.0.parse().ok()
    }

    /// The nearest float; infinite when it is too large for one.
    #[must_use]
    pub fn as_f64(&self) -> f64 {
        self.0.parse().unwrap_or(f64::NAN)
    }

    /// Whether it is written without fraction and exponent.
    #[must_use]
    pub fn is_written_as_integer(&self) -> bool {
        !self.0.contains(['.', 'e', 'E'])
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self(value.to_string().into())
    }
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self(value.to_string().into())
    }
}

/// Whether `text` is a number by the grammar of RFC 8259 section 6.
fn is_json_number(text: &[u8]) -> bool {
    let mut rest = text.strip_prefix(b"-").unwrap_or(text);
    let digits = |rest: &mut &[u8]| {
        let n = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        *rest = &rest[n..];
        n
    };
    let leading_zero = rest.first() == Some(&b'0');
    let whole = digits(&mut rest);
    if whole == 0 || (leading_zero && whole > 1) {
        return false;
    }
    if let Some(after) = rest.strip_prefix(b".") {
        rest = after;
        if digits(&mut rest) == 0 {
            return false;
        }
    }
    if let Some(after) = rest.strip_prefix(b"e").or_else(|| rest.strip_prefix(b"E")) {
        rest = after.strip_prefix(b"+").or_else(|| after.strip_prefix(b"-")).unwrap_or(after);
        if digits(&mut rest) == 0 {
            return false;
        }
    }
    rest.is_empty()
}

/// An object: names and values in the order of the source, no name twice.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Map(Vec<(Str, Value)>);

impl Map {
    /// An empty object.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// An empty object with room for `n` entries.
    #[must_use]
    pub fn with_capacity(n: usize) -> Self {
        Self(Vec::with_capacity(n))
    }

    /// The value under a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(key, _)| &**key == name).map(|(_, value)| value)
    }

    /// The value under a name, to change it.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.0.iter_mut().find(|(key, _)| &**key == name).map(|(_, value)| value)
    }

    /// Appends an entry without looking for its name: the caller knows that it is new.
    pub fn push(&mut self, name: impl Into<Str>, value: Value) {
        self.0.push((name.into(), value));
    }

    /// Sets an entry: replaces the value under the name in its place, or appends it.
    pub fn insert(&mut self, name: impl Into<Str>, value: Value) {
        let name = name.into();
        match self.get_mut(&name) {
            Some(old) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// Takes an entry out.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(key, _)| &**key == name)?;
        Some(self.0.remove(at).1)
    }

    /// Names and values in order.
    pub fn iter(&self) -> std::slice::Iter<'_, (Str, Value)> {
        self.0.iter()
    }

    /// Names and values in order, to change them.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, (Str, Value)> {
        self.0.iter_mut()
    }

    /// The names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &**name)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Extend<(Str, Value)> for Map {
    fn extend<I: IntoIterator<Item = (Str, Value)>>(&mut self, entries: I) {
        entries.into_iter().for_each(|(name, value)| self.push(name, value));
    }
}

impl FromIterator<(Str, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (Str, Value)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl IntoIterator for Map {
    type Item = (Str, Value);
    type IntoIter = std::vec::IntoIter<(Str, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = &'a (Str, Value);
    type IntoIter = std::slice::Iter<'a, (Str, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a mut Map {
    type Item = &'a mut (Str, Value);
    type IntoIter = std::slice::IterMut<'a, (Str, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter_mut()
    }
}

impl Value {
    /// Text.
    pub fn text(text: impl Into<Str>) -> Self {
        Self::String(text.into())
    }

    /// The text of a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The entries of an object.
    #[must_use]
    pub const fn as_object(&self) -> Option<&Map> {
        match self {
            Self::Object(map) => Some(map),
            _ => None,
        }
    }

    /// The elements of a list.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// Whether there is nothing here: absent or null.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        matches!(self, Self::Absent | Self::Null)
    }

    /// What kind of value this is, for messages: `text`, `a number`, `a list` …
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Absent => "nothing",
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::String(_) => "text",
            Self::Array(_) => "a list",
            Self::Object(_) => "an object",
        }
    }

    /// Writes the value as compact JSON (RFC 8259). Absent entries and elements are left out; an
    /// absent value at the top is written as null.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Absent | Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Number(number) => out.extend_from_slice(number.as_str().as_bytes()),
            Self::String(text) => write_json_string(text, out),
            Self::Array(items) => {
                out.push(b'[');
                let mut first = true;
                for item in items.iter().filter(|item| !matches!(item, Self::Absent)) {
                    if !std::mem::take(&mut first) {
                        out.push(b',');
                    }
                    item.write_json(out);
                }
                out.push(b']');
            }
            Self::Object(map) => map.write_json(out),
        }
    }

    /// The value as compact JSON text.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut out = Vec::new();
        self.write_json(&mut out);
        // Every writer above writes whole UTF-8 strings.
        String::from_utf8(out).unwrap_or_default()
    }
}

impl Map {
    /// Writes the object as compact JSON, without its absent entries.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        let mut first = true;
        for (name, value) in self.iter().filter(|(_, value)| !matches!(value, Value::Absent)) {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            write_json_string(name, out);
            out.push(b':');
            value.write_json(out);
        }
        out.push(b'}');
    }
}

/// Writes text as a JSON string: only what RFC 8259 section 7 demands is escaped, so that other
/// characters arrive as they were read.
pub fn write_json_string(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let mut from = 0;
    let mut at = plain(bytes);
    while let Some(byte) = bytes.get(at).copied() {
        out.extend_from_slice(bytes.get(from..at).unwrap_or_default());
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                // Writing into memory does not fail.
                let _ = write!(out, "\\u{byte:04x}");
            }
        }
        from = at + 1;
        at = from + plain(bytes.get(from..).unwrap_or_default());
    }
    out.extend_from_slice(bytes.get(from..).unwrap_or_default());
    out.push(b'"');
}

/// How many bytes at the start need no escape. Eight at a time: nearly all text needs none.
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let mut at = 0;
    for chunk in bytes.chunks_exact(8) {
        let word = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
        let below = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let quote = has_zero(word ^ (ONES * u64::from(b'"')));
        let slash = has_zero(word ^ (ONES * u64::from(b'\\')));
        if below | quote | slash != 0 {
            break;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let end = rest.iter().position(|byte| matches!(byte, 0..=0x1f | b'"' | b'\\'));
    at + end.unwrap_or(rest.len())
}

impl From<&serde_json::Value> for Value {
    fn from(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => Self::Number(Number(number.to_string().into())),
            serde_json::Value::String(text) => Self::text(text.as_str()),
            serde_json::Value::Array(items) => Self::Array(items.iter().map(Self::from).collect()),
            serde_json::Value::Object(map) => {
                Self::Object(map.iter().map(|(name, value)| (name.as_str().into(), value.into())).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_numbers_are_numbers() {
        for good in ["0", "-0", "1.10", "12345678901234567890123", "1e400", "-0.0E+7"] {
            assert!(Number::parse(good).is_some(), "{good}");
        }
        for bad in ["", "-", "00", "01", "1.", ".5", "+1", "1e", "1e+", "NaN", "0x1", "1 "] {
            assert!(Number::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn json_keeps_digits_and_order_and_leaves_absent_out() {
        let mut map = Map::new();
        map.push("z", Value::Number(Number::parse("1.10").unwrap()));
        map.push("gone", Value::Absent);
        map.push("a", Value::Array(vec![Value::Absent, Value::Null, Value::Bool(true)]));
        assert_eq!(Value::Object(map).to_json(), r#"{"z":1.10,"a":[null,true]}"#);
    }

    #[test]
    fn text_survives_a_json_round_trip() {
        let text: String = (0..0x300u32).filter_map(char::from_u32).chain("😀\u{2028}".chars()).collect();
        let json = Value::text(text.as_str()).to_json();
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
