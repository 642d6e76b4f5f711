//! A schema and a value: any text is a schema or says where it is not; both ways to ask agree,
//! no message holds the value, and a schema decides what its own library decides.

use std::sync::Arc;

use super::common::{Input, check_diagnostic, scratch, write};
use crate::config::RecordLimits;
use crate::model::Place;
use crate::model::Problems;
use crate::model::SourceText;
use crate::model::Value;
use crate::schema::Schema;
use crate::source::parse_json;

/// Stands in values and must not stand in messages.
const PRIVATE: &str = "pr1vate";

/// The target.
pub fn schema(data: &[u8]) {
    let mut input = Input::new(data);
    let (text, value) = (input.part(), input.part());
    let root = scratch().join("schema");
    write(&root, "s.json", text);
    let load = || {
        let named = Arc::new(SourceText { path: "pipelines/p.yaml".into(), text: "schema: s.json".into() });
        let mut problems = Problems::new();
        let schema = Schema::load(&root, "s.json", &Place::new(named, 8..14), &mut problems);
        assert_eq!(schema.is_none(), problems.has_errors(), "{:?}", problems.all());
        problems.all().iter().for_each(check_diagnostic);
        (schema, problems.into_sorted().len())
    };
    let (schema, found) = load();
    let Some(schema) = schema else { return };
    assert_eq!(load().1, found, "the same schema has other findings");
    assert_eq!(schema.files().len(), 1);
    let _ = (schema.typing(), schema.known_fields());
    let limits = RecordLimits { depth: 80, ..RecordLimits::default() };
    let Ok(value) = parse_json(value, &limits) else { return };
    let checked = schema.check(&value);
    assert_eq!(schema.is_valid(&value), checked.is_ok());
    let violations = checked.as_ref().err().cloned().unwrap_or_default();
    assert_eq!(violations.is_empty(), checked.is_ok());
    let text = String::from_utf8_lossy(text);
    for violation in &violations {
        assert!(!violation.rule.is_empty() && !violation.message.is_empty(), "{violation:?}");
        assert!(text.contains(PRIVATE) || !violation.message.contains(PRIVATE), "{violation:?}");
    }
    assert_eq!(schema.check(&value), checked, "the same value has other violations");
    check_against_the_library(&text, &value, checked.is_ok());
}

/// Where no number is beyond what the library can read itself.
fn check_against_the_library(schema: &str, value: &Value, is_valid: bool) {
    let plain = |text: &str| {
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        digits < 12 && !text.contains(['e', 'E', '.'])
    };
    let json = value.to_json();
    // Formats and references are ours to read; digits are counted over all numbers together.
    if schema.contains("format") || schema.contains('$') || !plain(&json) || deep(value) > 60 {
        return;
    }
    let (Ok(schema), Ok(value)) = (serde_json::from_str(schema), serde_json::from_str(&json)) else { return };
    if let Ok(theirs) = jsonschema::draft202012::new(&schema) {
        assert_eq!(theirs.is_valid(&value), is_valid, "{schema} and {json}");
    }
}

fn deep(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(deep).max().unwrap_or(0),
        Value::Object(map) => 1 + map.iter().map(|(_, value)| deep(value)).max().unwrap_or(0),
        _ => 0,
    }
}
