//! One JSON text to a value that keeps every digit, within the limits.
//!
//! Built on jiter, which gives keys one by one (so that a repeated one is seen) and numbers as
//! their bytes. Invariant: what is accepted here, `serde_json` accepts too, and no text of any kind
//! overflows the stack.

use std::collections::HashSet;

use jiter::{Jiter, JiterError, JiterErrorType, JsonErrorType, Peek};

use super::window::Oversize;
use super::{count_of, shown};
use crate::config::RecordLimits;
use crate::model::{BadRecord, CopyOf, Map, Number, Str, Value};

/// Nesting beyond which no setting leads: the stack ends somewhere.
const DEEPEST: usize = 512;
/// From this many keys on, repeated ones are looked up instead of searched.
const MANY_KEYS: usize = 16;

/// Why a text is no JSON value for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonFault {
    /// Stable slug, such as `duplicate-key`.
    pub rule: &'static str,
    /// What is wrong, with the field it is wrong in, without a position.
    pub message: String,
    /// Byte in the text, from 0.
    pub offset: usize,
    /// Line in the text, from 1.
    pub line: u64,
    /// Character in that line, from 1.
    pub column: u64,
}

/// Reads one JSON text (RFC 8259): every digit kept, limits and repeated keys checked.
pub fn parse_json(bytes: &[u8], limits: &RecordLimits) -> Result<Value, JsonFault> {
    if let Err(cause) = std::str::from_utf8(bytes) {
        let at = cause.valid_up_to();
        return Err(Fault::new("not-utf8", "a byte that is not UTF-8", at).finish(bytes));
    }
    let mut parser = Parser { jiter: Jiter::new(bytes), limits, depth: 0 };
    parser.text().map_err(|fault| fault.finish(bytes))
}

/// The same where only some members of an object are wanted: the others are left out, and of them it is
/// only checked that they are JSON. Any other value is read as a whole.
pub fn parse_json_members(
    bytes: &[u8],
    limits: &RecordLimits,
    wants: &dyn Fn(&str) -> bool,
) -> Result<Value, JsonFault> {
    if let Err(cause) = std::str::from_utf8(bytes) {
        let at = cause.valid_up_to();
        return Err(Fault::new("not-utf8", "a byte that is not UTF-8", at).finish(bytes));
    }
    let mut parser = Parser { jiter: Jiter::new(bytes), limits, depth: 0 };
    parser.members(wants).map_err(|fault| fault.finish(bytes))
}

/// One record, and what record of an earlier run it is a copy of.
pub(super) type Parsed = (Map, Option<Box<CopyOf>>);

/// Reads one record: an object, without the key of our own outcome files.
pub(super) fn parse_record(bytes: &[u8], limits: &RecordLimits) -> Result<Parsed, JsonFault> {
    let fault = |rule, message: String| Err(JsonFault { rule, message, offset: 0, line: 1, column: 1 });
    let mut map = match parse_json(bytes, limits)? {
        Value::Object(map) => map,
        other => return fault("not-an-object", format!("found {}, expected an object", other.kind())),
    };
    let mut copy_of = None;
    if let Some(Value::Object(ours)) = map.get("_runner") {
        let run = ours.get("run").and_then(Value::as_str);
        let ordinal = match ours.get("ordinal") {
            Some(Value::Number(number)) => number.as_str().parse().ok(),
            _ => None,
        };
        copy_of = run.zip(ordinal).map(|(run, ordinal)| Box::new(CopyOf { run: run.to_owned(), ordinal }));
        map.remove("_runner");
    }
    if let Some(name) = map.names().find(|name| name.starts_with("_runner")) {
        return fault(
            "reserved-field",
            format!("`{}`: names that begin with `_runner` are ours", shown(name)),
        );
    }
    Ok((map, copy_of))
}

/// The two parts of what was parsed.
pub(super) fn apart(parsed: Result<Parsed, BadRecord>) -> (Result<Map, BadRecord>, Option<Box<CopyOf>>) {
    match parsed {
        Ok((map, copy_of)) => (Ok(map), copy_of),
        Err(bad) => (Err(bad), None),
    }
}

/// Where a record's text begins in its file.
pub(super) struct Begin {
    pub line: u64,
    pub column: Option<u64>,
    pub byte: u64,
}

/// A fault as the record that has it; `which` names the record where a line does not, such as
/// `element 3`.
pub(super) fn bad_record(fault: &JsonFault, raw: &[u8], begin: &Begin, which: Option<String>) -> BadRecord {
    let line = begin.line + fault.line - 1;
    let byte = begin.byte + fault.offset as u64;
    let column = if fault.line > 1 { Some(fault.column) } else { begin.column.map(|c| c + fault.column - 1) };
    let column = column.map_or_else(String::new, |column| format!(", column {column}"));
    let which = which.map_or_else(String::new, |which| format!("{which}: "));
    BadRecord {
        rule: fault.rule,
        message: format!("{which}{} (line {line}{column}, byte {byte})", fault.message),
        bytes: super::kept(raw),
    }
}

/// A record over the limit.
pub(super) fn too_large(oversize: Oversize, limit: usize) -> BadRecord {
    BadRecord {
        rule: "record-too-large",
        message: format!("a record of {} bytes, the limit is {limit}", oversize.len()),
        bytes: oversize.into_kept(),
    }
}

struct Parser<'j, 'l> {
    jiter: Jiter<'j>,
    limits: &'l RecordLimits,
    depth: usize,
}

/// A fault on its way out: each level adds its name.
struct Fault(Box<Inner>);

struct Inner {
    rule: &'static str,
    what: String,
    offset: usize,
    path: Vec<String>,
}

impl Parser<'_, '_> {
    fn text(&mut self) -> Result<Value, Fault> {
        let peek = self.jiter.peek()?;
        let value = self.value(peek)?;
        self.jiter.finish()?;
        Ok(value)
    }

    fn members(&mut self, wants: &dyn Fn(&str) -> bool) -> Result<Value, Fault> {
        let peek = self.jiter.peek()?;
        if peek != Peek::Object {
            let value = self.value(peek)?;
            self.jiter.finish()?;
            return Ok(value);
        }
        self.depth += 1;
        let mut map = Map::new();
        let mut key = self.jiter.known_object()?.map(|key| wants(key).then(|| Str::from(key)));
        while let Some(wanted) = key {
            let at = self.jiter.current_index();
            let peek = self.jiter.peek()?;
            match wanted {
                None => self.jiter.known_skip(peek)?,
                Some(name) if map.get(&name).is_some() => return Err(Fault::repeated(&name, at)),
                Some(name) => {
                    let value = self.value(peek).map_err(|fault| fault.within(name.to_string()))?;
                    map.push(name, value);
                }
            }
            key = self.jiter.next_key()?.map(|key| wants(key).then(|| Str::from(key)));
        }
        self.jiter.finish()?;
        Ok(Value::Object(map))
    }

    fn value(&mut self, peek: Peek) -> Result<Value, Fault> {
        match peek {
            Peek::Null => self.jiter.known_null().map(|()| Value::Null).map_err(Fault::from),
            Peek::True | Peek::False => self.jiter.known_bool(peek).map(Value::Bool).map_err(Fault::from),
            Peek::String => self.string().map(Value::String),
            Peek::Array => self.nested(Self::list).map(Value::Array),
            Peek::Object => self.nested(Self::object).map(Value::Object),
            Peek::NaN | Peek::Infinity => {
                let name = if peek == Peek::NaN { "NaN" } else { "Infinity" };
                let what = format!("`{name}` is no JSON number; write null or leave the field out");
                Err(Fault::new("not-json", &what, self.jiter.current_index()))
            }
            _ if peek.is_num() => self.number(peek).map(Value::Number),
            _ => Err(Fault::new("not-json", "expected a value", self.jiter.current_index())),
        }
    }

    fn nested<T>(&mut self, read: fn(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        let deepest = self.limits.depth.min(DEEPEST);
        if self.depth >= deepest {
            let what = format!("nesting is deeper than the limit of {deepest} levels");
            return Err(Fault::new("json-too-deep", &what, self.jiter.current_index()));
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn list(&mut self) -> Result<Vec<Value>, Fault> {
        let mut items = Vec::new();
        let mut next = self.jiter.known_array()?;
        while let Some(peek) = next {
            let item = self.value(peek).map_err(|fault| fault.within(items.len().to_string()))?;
            items.push(item);
            next = self.jiter.array_step()?;
        }
        Ok(items)
    }

    fn object(&mut self) -> Result<Map, Fault> {
        let mut map = Map::new();
        let mut seen: HashSet<Str> = HashSet::new();
        let mut at = self.jiter.current_index();
        let mut next: Option<Str> = self.jiter.known_object()?.map(Into::into);
        while let Some(key) = next {
            if key.len() > self.limits.field {
                return Err(self.too_large("a key", key.len(), at));
            }
            let repeated = if map.len() < MANY_KEYS { map.get(&key).is_some() } else { seen.contains(&key) };
            if repeated {
                return Err(Fault::repeated(&key, at));
            }
            if map.len() + 1 == MANY_KEYS {
                seen.extend(map.iter().map(|(name, _)| Str::clone(name)));
            }
            if map.len() + 1 >= MANY_KEYS {
                seen.insert(Str::clone(&key));
            }
            let peek = self.jiter.peek().map_err(|cause| Fault::from(cause).within(key.to_string()))?;
            let value = self.value(peek).map_err(|fault| fault.within(key.to_string()))?;
            map.push(key, value);
            at = self.jiter.current_index();
            next = self.jiter.next_key()?.map(Into::into);
        }
        Ok(map)
    }

    fn string(&mut self) -> Result<Str, Fault> {
        let at = self.jiter.current_index();
        let limit = self.limits.field;
        let text = self.jiter.known_str()?;
        let size = text.len();
        if size <= limit {
            return Ok(text.into());
        }
        Err(self.too_large("a string", size, at))
    }

    fn too_large(&self, what: &str, size: usize, at: usize) -> Fault {
        let what = format!("{what} of {size} bytes, the limit is {}", self.limits.field);
        Fault::new("field-too-large", &what, at)
    }

    fn number(&mut self, peek: Peek) -> Result<Number, Fault> {
        let at = self.jiter.current_index();
        let limit = self.limits.digits;
        let bytes = self.jiter.known_number_bytes(peek)?;
        let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
        if digits > limit {
            let what = format!("a number of {}, the limit is {limit}", count_of(digits, "digit"));
            return Err(Fault::new("number-too-long", &what, at));
        }
        std::str::from_utf8(bytes)
            .ok()
            .and_then(Number::parse)
            .ok_or_else(|| Fault::new("not-json", "invalid number", at))
    }
}

impl Fault {
    fn new(rule: &'static str, what: &str, offset: usize) -> Self {
        Self(Box::new(Inner { rule, what: what.to_owned(), offset, path: Vec::new() }))
    }

    fn repeated(key: &str, at: usize) -> Self {
        Self::new("duplicate-key", &format!("the key `{}` stands twice in one object", shown(key)), at)
    }

    fn within(mut self, name: String) -> Self {
        self.0.path.push(name);
        self
    }

    fn finish(self, text: &[u8]) -> JsonFault {
        let fault = *self.0;
        // The nearest levels tell most; a path of a thousand levels tells nothing.
        let path: Vec<_> = fault.path.iter().take(8).rev().map(|name| shown(name)).collect();
        let message = match path.as_slice() {
            [] => fault.what,
            [name] => format!("field `{name}`: {}", fault.what),
            _ => format!("field `{}`: {}", path.join("."), fault.what),
        };
        let before = text.get(..fault.offset).unwrap_or(text);
        let line = memchr::memchr_iter(b'\n', before).count() as u64 + 1;
        let from = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
        let characters = before.get(from..).unwrap_or_default().iter().filter(|byte| **byte & 0xC0 != 0x80);
        let column = characters.count() as u64 + 1;
        JsonFault { rule: fault.rule, message, offset: fault.offset, line, column }
    }
}

impl From<JiterError> for Fault {
    fn from(cause: JiterError) -> Self {
        let (rule, what) = match &cause.error_type {
            JiterErrorType::JsonError(kind) => match kind {
                JsonErrorType::EofWhileParsingList
                | JsonErrorType::EofWhileParsingObject
                | JsonErrorType::EofWhileParsingString
                | JsonErrorType::EofWhileParsingValue => ("not-json", "the text ends early".to_owned()),
                JsonErrorType::LoneLeadingSurrogateInHexEscape | JsonErrorType::UnexpectedEndOfHexEscape => (
                    "lone-surrogate",
                    "a string with half of a surrogate pair (`\\ud800`), which is no character".into(),
                ),
                JsonErrorType::TrailingCharacters => {
                    ("not-json", "more text behind the end of the value".into())
                }
                JsonErrorType::ControlCharacterWhileParsingString => (
                    "not-json",
                    "a control character in a string; write it as an escape such as `\\n`".into(),
                ),
                JsonErrorType::TrailingComma => ("not-json", "a comma before the closing bracket".into()),
                JsonErrorType::KeyMustBeAString => ("not-json", "a key that is not in double quotes".into()),
                JsonErrorType::ExpectedSomeIdent | JsonErrorType::ExpectedSomeValue => {
                    ("not-json", "expected a value".into())
                }
                other => ("not-json", other.to_string()),
            },
            JiterErrorType::WrongType { .. } => ("not-json", "expected a value".into()),
        };
        Self::new(rule, &what, cause.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<String, (&'static str, String)> {
        parse_json(text.as_bytes(), &RecordLimits::default())
            .map(|value| value.to_json())
            .map_err(|fault| (fault.rule, format!("{} @{}:{}", fault.message, fault.line, fault.column)))
    }

    #[test]
    fn every_digit_is_kept() {
        for number in [
            "9007199254740993",
            "18446744073709551616",
            "1.10",
            "1e400",
            "-0.0",
            "0",
            "-0",
            "1E+2",
            "12345678901234567890123.000",
        ] {
            assert_eq!(check(number).unwrap(), number);
            let nested = format!("{{\"a\":[{number},{{\"b\":{number}}}]}}");
            assert_eq!(check(&nested).unwrap(), nested);
        }
    }

    #[test]
    fn agrees_with_serde_json_on_good_and_bad_texts() {
        let texts = [
            "",
            " ",
            "null",
            "nul",
            "nulll",
            "true",
            "tru",
            "True",
            "0",
            "00",
            "01",
            "-",
            "-1",
            "+1",
            "1.",
            ".5",
            "1e",
            "1e+",
            "1e5",
            "0x1",
            "1_000",
            "NaN",
            "Infinity",
            "-Infinity",
            "\"\"",
            "\"",
            "\"a",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12G4\"",
            "\"\\u00e9\"",
            "\"\\ud83d\\ude00\"",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\ud800\\u0041\"",
            "\"\\ud800\\n\"",
            "\"\t\"",
            "\"\n\"",
            "\"\u{7f}\"",
            "[]",
            "[",
            "]",
            "[1",
            "[1,",
            "[1,]",
            "[,]",
            "[1 2]",
            "[1,2]",
            "[[]]",
            "[[]",
            "[}",
            "{}",
            "{",
            "}",
            "{]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1",
            "{\"a\":1,",
            "{\"a\":1,}",
            "{a:1}",
            "{'a':1}",
            "{\"a\" : 1 }",
            "{\"a\":1}{",
            "{} {}",
            "1 1",
            "[]x",
            "// c\n1",
            "/**/1",
            "\u{feff}1",
            "{\"a\":1 \"b\":2}",
            "[1;2]",
            "\u{a0}1",
            "[\"a\",\u{b}1]",
            "é",
            "\"é\"",
        ];
        for text in texts {
            let ours = check(text);
            let theirs = serde_json::from_str::<serde_json::Value>(text);
            assert_eq!(ours.is_ok(), theirs.is_ok(), "{text:?}: {ours:?} {theirs:?}");
            if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
                assert_eq!(serde_json::from_str::<serde_json::Value>(&ours).unwrap(), theirs);
            }
        }
    }

    #[test]
    fn faults_name_rule_field_and_position() {
        for (text, rule, message) in [
            (
                r#"{"a":{"id":1,"id":2}}"#,
                "duplicate-key",
                "field `a`: the key `id` stands twice in one object @1:13",
            ),
            (
                "{\"a\":1,\n \"b\": NaN}",
                "not-json",
                "field `b`: `NaN` is no JSON number; write null or leave the field out @2:7",
            ),
            (
                r#"{"né":"\ud800"}"#,
                "lone-surrogate",
                "field `né`: a string with half of a surrogate pair (`\\ud800`), which is no character @1:14",
            ),
            ("[{\"a\":", "not-json", "field `0.a`: the text ends early @1:7"),
            ("{} x", "not-json", "more text behind the end of the value @1:4"),
        ] {
            let (found_rule, found) = check(text).unwrap_err();
            assert_eq!(found_rule, rule, "{text}");
            assert_eq!(found, message, "{text}");
        }
    }

    #[test]
    fn a_repeated_key_is_seen_among_few_and_many() {
        for n in [1, 2, 14, 15, 16, 17, 40] {
            let keys: Vec<_> = (0..n).map(|n| format!("\"k{n}\":0")).collect();
            assert!(check(&format!("{{{}}}", keys.join(","))).is_ok(), "{n}");
            for twice in [0, n / 2, n - 1] {
                let text = format!("{{{},\"k{twice}\":1}}", keys.join(","));
                assert_eq!(check(&text).unwrap_err().0, "duplicate-key", "{n} {twice}");
            }
        }
    }

    #[test]
    fn limits_hold_and_no_nesting_overflows_the_stack() {
        let limits = RecordLimits { field: 8, depth: usize::MAX, digits: 4, ..RecordLimits::default() };
        let rule = |text: &str| parse_json(text.as_bytes(), &limits).map_err(|fault| fault.rule).err();
        assert_eq!(rule(&"[".repeat(100_000)), Some("json-too-deep"));
        assert_eq!(rule(&"{\"a\":".repeat(100_000)), Some("json-too-deep"));
        assert_eq!(rule("\"12345678\""), None);
        assert_eq!(rule("\"123456789\""), Some("field-too-large"));
        assert_eq!(rule("{\"123456789\":1}"), Some("field-too-large"));
        assert_eq!(rule("-12.34"), None);
        assert_eq!(rule("1234e5"), Some("number-too-long"));
        let deep = |n| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(check(&deep(64)).is_ok());
        assert_eq!(check(&deep(65)).unwrap_err().0, "json-too-deep");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused_with_their_offset() {
        let fault = parse_json(b"{\"a\":\"caf\xe9\"}", &RecordLimits::default()).unwrap_err();
        assert_eq!((fault.rule, fault.offset), ("not-utf8", 9));
    }

    #[test]
    fn our_own_key_is_dropped_and_its_likes_are_refused() {
        let record = |text: &str| parse_record(text.as_bytes(), &RecordLimits::default());
        let (map, copy_of) = record(r#"{"id":1,"_runner":{"run":"x","ordinal":7}}"#).unwrap();
        assert_eq!(copy_of.map(|copy| (copy.run, copy.ordinal)), Some(("x".to_owned(), 7)));
        assert_eq!(Value::Object(map).to_json(), r#"{"id":1}"#);
        assert_eq!(record(r#"{"_runner":1}"#).unwrap_err().rule, "reserved-field");
        assert_eq!(record(r#"{"_runner_run":1}"#).unwrap_err().rule, "reserved-field");
        assert_eq!(record("[1]").unwrap_err().message, "found a list, expected an object");
    }
}
