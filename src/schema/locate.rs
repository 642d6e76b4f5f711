//! Finds the place of a part of a JSON text by its JSON pointer.
//!
//! Separate because the JSON parser keeps no places: a message is rare, so the text is scanned
//! again for each one. Invariant: never fails; what cannot be found is the start of the file.

use std::ops::Range;
use std::sync::Arc;

use crate::model::{Place, SourceText};

/// Which part of a member is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Its name, where it has one.
    Name,
    /// Its value.
    Value,
}

/// The place at `pointer` in a JSON text.
pub(super) fn place(source: &Arc<SourceText>, pointer: &str, part: Part) -> Place {
    let scan = Scan { text: &source.text };
    scan.find(pointer, part).map_or_else(
        || Place::start_of(Arc::clone(source)),
        |span| {
            // Of a list or object only the opening line helps; the rest would be drawn as well.
            let first_line = source.text.get(span.clone()).and_then(|text| text.find('\n'));
            let end = first_line.map_or(span.end, |length| span.start + length);
            Place::new(Arc::clone(source), span.start..end)
        },
    )
}

/// One JSON pointer from its unescaped names.
pub(super) fn join(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

struct Scan<'a> {
    text: &'a str,
}

impl Scan<'_> {
    fn find(&self, pointer: &str, part: Part) -> Option<Range<usize>> {
        let mut at = self.skip_space(0);
        let mut name = None;
        for token in pointer.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            (name, at) = match self.byte(at)? {
                b'{' => self.member(at, &token)?,
                b'[' => (None, self.element(at, token.parse().ok()?)?),
                _ => return None,
            };
        }
        match (part, name) {
            (Part::Name, Some(name)) => Some(name),
            _ => Some(at..self.end_of(at)),
        }
    }

    /// Name and start of the value of a member; the last one of a name counts, as for the parser.
    fn member(&self, object: usize, wanted: &str) -> Option<(Option<Range<usize>>, usize)> {
        let mut found = None;
        let mut at = self.skip_space(object + 1);
        while self.byte(at)? == b'"' {
            let name = at..self.end_of(at);
            at = self.skip_space(name.end);
            if self.byte(at)? != b':' {
                return None;
            }
            at = self.skip_space(at + 1);
            let written = self.text.get(name.clone())?;
            if serde_json::from_str::<String>(written).is_ok_and(|written| written == wanted) {
                found = Some((Some(name), at));
            }
            at = self.skip_space(self.end_of(at));
            if self.byte(at)? == b',' {
                at = self.skip_space(at + 1);
            }
        }
        found
    }

    fn element(&self, list: usize, index: usize) -> Option<usize> {
        let mut at = self.skip_space(list + 1);
        for _ in 0..index {
            at = self.skip_space(self.end_of(at));
            if self.byte(at)? != b',' {
                return None;
            }
            at = self.skip_space(at + 1);
        }
        (self.byte(at)? != b']').then_some(at)
    }

    /// The end of the value that starts at `at`.
    fn end_of(&self, at: usize) -> usize {
        let bytes = self.text.as_bytes();
        let mut depth = 0usize;
        let mut at = at;
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'"' => {
                    at += 1;
                    while let Some(byte) = bytes.get(at).filter(|byte| **byte != b'"') {
                        at += if *byte == b'\\' { 2 } else { 1 };
                    }
                    at += 1;
                    if depth == 0 {
                        break;
                    }
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth <= 1 => return if depth == 0 { at } else { at + 1 },
                b'}' | b']' => depth -= 1,
                b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => break,
                _ => {}
            }
            at += 1;
        }
        at.min(bytes.len())
    }

    fn skip_space(&self, mut at: usize) -> usize {
        while self.byte(at).is_some_and(|byte| byte.is_ascii_whitespace()) {
            at += 1;
        }
        at
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_found_by_pointer() {
        let text = r#" { "a\"}": [1, {"b": "x, ]"}, "é" ], "a/b" : {"c":true}, "c": 1, "c": 22 } "#;
        let source = Arc::new(SourceText { path: "s.json".into(), text: text.into() });
        for (pointer, part, expected) in [
            ("/a\"}/0", Part::Value, "1"),
            ("/a\"}/1/b", Part::Value, r#""x, ]""#),
            ("/a\"}/1/b", Part::Name, r#""b""#),
            ("/a\"}/2", Part::Value, "\"é\""),
            ("/a~1b/c", Part::Value, "true"),
            ("/a~1b", Part::Value, r#"{"c":true}"#),
            ("/c", Part::Value, "22"),
            ("/a\"}/3", Part::Value, ""),
            ("/nope/x", Part::Value, ""),
        ] {
            let place = place(&source, pointer, part);
            assert_eq!(&text[place.span.clone()], expected, "{pointer}");
        }
    }

    #[test]
    fn broken_text_is_never_out_of_bounds() {
        for text in ["", "{", "{\"a", "{\"a\\", "[1,", "{\"a\":", "]", "{\"a\" 1}"] {
            let source = Arc::new(SourceText { path: "s.json".into(), text: text.into() });
            for pointer in ["", "/a", "/0", "/1/a"] {
                let place = place(&source, pointer, Part::Value);
                assert!(place.span.end <= text.len(), "{text} {pointer}");
            }
        }
    }
}
