//! JSON objects as fields of raw text.
//!
//! The stand-in keeps what it was given digit by digit, and a body is read once, without a tree:
//! only the top level is taken apart, the values stay as they were written.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Levels that a merge goes into; below, the newer value replaces the older.
const MERGE_DEPTH: usize = 32;

/// The top level of an object, in order.
#[derive(Debug, Default)]
pub(super) struct Fields<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    fields.push((name, Cow::Borrowed(value.get())));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

impl<'a> Fields<'a> {
    /// The fields of an object; an error for everything else.
    pub(super) fn parse(text: &'a [u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(text)
    }

    /// The raw value under a name; the last one, when it is there twice.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// Sets a field in its place, or at the end.
    pub(super) fn set(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().rev().find(|(key, _)| *key == name) {
            Some(field) => field.1 = value,
            None => self.0.push((name, value)),
        }
    }

    /// Takes a field out.
    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(key, _)| key != name);
    }

    /// Sets every field of `other`.
    pub(super) fn update(&mut self, other: Fields<'a>) {
        for (name, value) in other.0 {
            self.set(name, value);
        }
    }

    /// Merges as RFC 7396 says: objects field by field, null takes a field out.
    pub(super) fn merge(&mut self, patch: Fields<'a>) {
        self.merge_to(patch, MERGE_DEPTH);
    }

    fn merge_to(&mut self, patch: Fields<'a>, depth: usize) {
        for (name, value) in patch.0 {
            if &*value == "null" {
                self.remove(&name);
                continue;
            }
            let merged = match (depth > 0).then(|| serde_json::from_str::<Fields<'_>>(&value)) {
                Some(Ok(inner)) => {
                    let old = self.get(&name).and_then(|old| serde_json::from_str(old).ok());
                    let mut old: Fields<'_> = old.unwrap_or_default();
                    old.merge_to(inner, depth - 1);
                    Some(old.to_text())
                }
                _ => None,
            };
            self.set(name, merged.map_or(value, Cow::Owned));
        }
    }

    /// Writes the object with `id` first; an empty id is not written.
    pub(super) fn to_bytes(&self, id: &str) -> Vec<u8> {
        let size: usize = self.0.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        let mut out = Vec::with_capacity(size + id.len() + 9);
        out.push(b'{');
        if !id.is_empty() {
            out.extend_from_slice(b"\"id\":");
            write_text(id, &mut out);
        }
        for (name, value) in self.0.iter().filter(|(name, _)| id.is_empty() || name != "id") {
            if out.len() > 1 {
                out.push(b',');
            }
            write_text(name, &mut out);
            out.push(b':');
            out.extend_from_slice(value.as_bytes());
        }
        out.push(b'}');
        out
    }

    fn to_text(&self) -> String {
        String::from_utf8(self.to_bytes("")).unwrap_or_default()
    }
}

/// Writes text as a JSON string.
pub(super) fn write_text(text: &str, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(out, text);
}

/// What a raw value is as plain text: a string without quotes, anything else as written.
pub(super) fn plain(raw: &str) -> Cow<'_, str> {
    if raw.starts_with('"') {
        serde_json::from_str::<Name<'_>>(raw).map_or(Cow::Borrowed(raw), |Name(text)| text)
    } else {
        Cow::Borrowed(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = for<'a> fn(&mut Fields<'a>, Fields<'a>);

    fn changed(old: &str, new: &str, change: Change) -> String {
        let mut fields = Fields::parse(old.as_bytes()).unwrap();
        change(&mut fields, Fields::parse(new.as_bytes()).unwrap());
        String::from_utf8(fields.to_bytes("7")).unwrap()
    }

    #[test]
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method's lifetime is not general enough"
    )]
    fn digits_and_order_stay_as_written() {
        let kept = changed(
            r#"{"b":1.10,"a":12345678901234567890123}"#,
            r#"{"b":2.0,"id":9,"c":null}"#,
            |old, new| old.update(new),
        );
        assert_eq!(kept, r#"{"id":"7","b":2.0,"a":12345678901234567890123,"c":null}"#);
    }

    #[test]
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method's lifetime is not general enough"
    )]
    fn a_merge_goes_into_objects_and_null_takes_out() {
        let kept = changed(
            r#"{"a":{"x":1,"y":2},"b":[1],"c":3}"#,
            r#"{"a":{"y":null,"z":{}},"b":[2],"c":null,"d":{"e":null,"f":1.0}}"#,
            |old, new| old.merge(new),
        );
        assert_eq!(kept, r#"{"id":"7","a":{"x":1,"z":{}},"b":[2],"d":{"f":1.0}}"#);
    }

    #[test]
    fn only_objects_have_fields() {
        for bad in ["", "[]", "1", "{", "{}x", "{\"a\":}", "\u{feff}{}"] {
            assert!(Fields::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Fields::parse(b"{\"a\":\"\xff\"}").is_err());
    }
}
