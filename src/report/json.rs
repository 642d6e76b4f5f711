//! What programs read: the answer object and a diagnostic as JSON.
//!
//! The shapes are promised: fields are added, never renamed. Invariant: every string is masked
//! before it is serialized, so that masking can never break the JSON around it.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::model::{Class, Counts, Diagnostic, Mask, Pacing};

/// The one JSON object of `--format json`.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The command's name.
    pub command: String,
    /// How it ended.
    pub class: Class,
    /// The process's exit code; the class's own unless a command says another.
    pub exit_code: u8,
    /// What the command found or did.
    pub summary: Value,
    /// The findings as [`diagnostic`] makes them.
    pub diagnostics: Vec<Value>,
    /// Findings that were too many to keep.
    pub left_out: u64,
}

impl Answer {
    /// An answer of this class without summary and findings.
    #[must_use]
    pub fn new(command: impl Into<String>, class: Class) -> Self {
        Self {
            command: command.into(),
            class,
            exit_code: class.code(),
            summary: Value::Null,
            diagnostics: Vec::new(),
            left_out: 0,
        }
    }

    /// The object, without secrets.
    #[must_use]
    pub fn to_json(&self, mask: &Mask) -> Value {
        let mut object = json!({
            "format_version": 1,
            "command": self.command,
            "class": self.class.name(),
            "exit_code": self.exit_code,
            "summary": masked(self.summary.clone(), mask),
            "diagnostics": masked(Value::Array(self.diagnostics.clone()), mask),
        });
        if self.left_out > 0 {
            object["diagnostics_left_out"] = self.left_out.into();
        }
        object
    }
}

/// A diagnostic with the fields that it has; not masked yet.
#[must_use]
pub fn diagnostic(d: &Diagnostic) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| {
        object.insert(name.to_owned(), value);
    };
    put("rule", d.rule.into());
    put("severity", json!(d.severity));
    put("message", d.message.as_str().into());
    if let Some(place) = &d.place {
        let ((line, column), (end_line, end_column)) = (place.line_column(), place.end_line_column());
        put("path", place.path().into());
        put("line", line.into());
        put("column", column.into());
        put("end_line", end_line.into());
        put("end_column", end_column.into());
    }
    if let Some(at) = &d.at {
        put("at", at.as_str().into());
    }
    if let Some(record) = &d.record {
        put("record", json!({ "file": &*record.file, "line": record.line }));
    }
    if let Some(pointer) = &d.pointer {
        put("pointer", pointer.as_str().into());
    }
    if let Some(count) = d.count {
        put("count", count.into());
    }
    if !d.rows.is_empty() {
        put("rows", json!(d.rows));
    }
    if !d.notes.is_empty() {
        put("notes", json!(d.notes));
    }
    if let Some(help) = &d.help {
        put("help", help.as_str().into());
    }
    Value::Object(object)
}

/// Counts with their total.
pub(super) fn counts(counts: &Counts) -> Value {
    json!(counts)
}

/// Where adaptive concurrency stands.
pub(super) fn pacing(pacing: Pacing) -> Value {
    json!({ "concurrency": pacing.lanes, "rate": pacing.per_second })
}

/// The value with every string masked; names are ours and stay.
pub(super) fn masked(value: Value, mask: &Mask) -> Value {
    match value {
        Value::String(text) => Value::String(mask.apply(&text).into_owned()),
        Value::Array(items) => items.into_iter().map(|item| masked(item, mask)).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, masked(value, mask))).collect()
        }
        other => other,
    }
}

/// One line of JSON. What is valid in its strings, but a line end to some readers or a command to a
/// terminal, is escaped; the value stays the same.
pub(super) fn line(value: &Value) -> String {
    let json = value.to_string();
    // The serializer has escaped C0.
    let is_unsafe =
        |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut line = String::with_capacity(json.len() + 1);
    let mut rest = json.as_str();
    while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_unsafe(*c)) {
        let (clean, behind) = rest.split_at(at);
        let _ = write!(line, "{clean}\\u{:04x}", u32::from(c));
        rest = behind.get(c.len_utf8()..).unwrap_or_default();
    }
    line.push_str(rest);
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{Place, RecordPlace, Secret, SourceText};

    fn sample() -> Diagnostic {
        let source = Arc::new(SourceText { path: "runner.yaml".into(), text: "a: é\nb: two\n".into() });
        let mut d = Diagnostic::error("unknown-key", "`b` is not a key")
            .place(&Place::new(source, 6..7))
            .record(&RecordPlace { file: "a.csv".into(), line: 2, byte: 9 })
            .pointer("/b")
            .note("nothing was sent")
            .help("did you mean `c`?");
        d.count = Some(3);
        d
    }

    #[test]
    fn a_diagnostic_has_the_promised_fields() {
        insta::assert_snapshot!(diagnostic(&sample()), @r#"{"rule":"unknown-key","severity":"error","message":"`b` is not a key","path":"runner.yaml","line":2,"column":1,"end_line":2,"end_column":2,"record":{"file":"a.csv","line":2},"pointer":"/b","count":3,"notes":["nothing was sent"],"help":"did you mean `c`?"}"#);
        insta::assert_snapshot!(diagnostic(&Diagnostic::warning("x", "y")), @r#"{"rule":"x","severity":"warning","message":"y"}"#);
    }

    #[test]
    fn an_answer_without_a_summary_says_so() {
        let mut answer = Answer::new("apply", Class::Config);
        answer.diagnostics.push(diagnostic(&Diagnostic::error("x", "y")));
        insta::assert_snapshot!(answer.to_json(&Mask::default()), @r#"{"format_version":1,"command":"apply","class":"config","exit_code":3,"summary":null,"diagnostics":[{"rule":"x","severity":"error","message":"y"}]}"#);
    }

    #[test]
    fn masking_cannot_break_the_json_around_it() {
        // A secret that is also a word of the format, and one made of its punctuation.
        let secrets = [Secret::new("message".into()), Secret::new("\":\"\\".into())];
        let mut answer = Answer::new("apply", Class::Io);
        answer.diagnostics.push(diagnostic(&Diagnostic::error("x", "the message is \":\"\\ here")));
        let line = line(&answer.to_json(&Mask::new(&secrets)));
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["diagnostics"][0]["message"], "the *** is *** here");
    }

    proptest! {
        #[test]
        fn any_bytes_make_one_valid_line(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let mut answer = Answer::new(text.clone(), Class::Io);
            answer.summary = json!({ "state": text });
            answer.diagnostics.push(diagnostic(&Diagnostic::error("x", text.clone()).help(text.clone()).row(text.clone())));
            let line = line(&answer.to_json(&Mask::default()));
            prop_assert_eq!(line.lines().count(), 1);
            prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
            let read: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(read["diagnostics"][0]["message"].as_str(), Some(text.as_str()));
        }
    }
}
