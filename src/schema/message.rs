//! What a schema found wrong, in words for people.
//!
//! Invariant: a message holds parts of the schema only, never the value that broke it. Names of
//! fields stand in pointers.

use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::{JsonType, ValidationError};
use serde_json::Value;

use super::locate::join;

/// One rule that a value breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// JSON pointer to the value, or to the field that is missing or too much.
    pub pointer: String,
    /// The keyword of the schema: `format`, `maxLength` …
    pub rule: String,
    /// For people, read behind the pointer: `is not an e-mail address`.
    pub message: String,
    /// JSON pointer to the keyword within its schema.
    pub schema_pointer: String,
}

/// Choices of an `enum` that a message names.
const MAX_CHOICES: usize = 8;
/// Characters of the schema's own text that a message quotes.
const MAX_QUOTED: usize = 60;

/// The violations in one error of the validator.
pub(super) fn violations(error: ValidationError<'_>) -> Vec<Violation> {
    let masked = error.masked().to_string();
    let parts = error.into_parts();
    let pointer = parts.instance_path.as_str().to_owned();
    let rule = parts.kind.keyword().to_owned();
    let schema_pointer = parts.schema_path.as_str().to_owned();
    let one = |pointer: String, message: String| Violation {
        pointer,
        rule: rule.clone(),
        message,
        schema_pointer: schema_pointer.clone(),
    };
    match parts.kind {
        Kind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            vec![one(join(&pointer, name), "is required".into())]
        }
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => unexpected
            .iter()
            .map(|name| one(join(&pointer, name), "is not a field that the schema knows".into()))
            .collect(),
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => match meant(context, &pointer) {
            Ok(errors) => errors.into_iter().flat_map(violations).collect(),
            Err(Some(types)) => vec![one(pointer, types)],
            Err(None) => vec![one(pointer, "matches none of the shapes that the schema allows".into())],
        },
        Kind::PropertyNames { error } => {
            let why = violations(*error).into_iter().next().map(|inner| inner.message);
            vec![one(pointer, format!("has a field whose name {}", why.unwrap_or_default()))]
        }
        kind => vec![one(pointer, message(&kind, &masked))],
    }
}

/// Of several shapes the one that was meant, if it can be told: the only one of the right type and
/// with the right constants. Else, if all want another type, a message with these types.
fn meant(
    shapes: Vec<Vec<ValidationError<'static>>>,
    pointer: &str,
) -> Result<Vec<ValidationError<'static>>, Option<String>> {
    let is_type = |error: &ValidationError<'_>| {
        matches!(error.kind(), Kind::Type { .. }) && error.instance_path().as_str() == pointer
    };
    let is_other =
        |error: &ValidationError<'_>| is_type(error) || matches!(error.kind(), Kind::Constant { .. });
    if shapes.iter().all(|errors| errors.iter().any(is_type)) {
        let mut types: Vec<&str> = Vec::new();
        for error in shapes.iter().flatten().filter(|error| is_type(error)) {
            if let Kind::Type { kind } = error.kind() {
                types
                    .extend(kinds(kind).into_iter().filter(|kind| !types.contains(kind)).collect::<Vec<_>>());
            }
        }
        return Err(Some(neither(&types)));
    }
    let mut candidates = shapes.into_iter().filter(|errors| !errors.iter().any(is_other));
    match (candidates.next(), candidates.next()) {
        (Some(errors), None) if !errors.is_empty() => Ok(errors),
        _ => Err(None),
    }
}

fn message(kind: &Kind, masked: &str) -> String {
    match kind {
        Kind::Type { kind } => neither(&kinds(kind)),
        Kind::Format { format } => format_message(format),
        Kind::MinLength { limit: 1 } => "is empty".into(),
        Kind::MinLength { limit } => format!("is shorter than {}", count(*limit, "character")),
        Kind::MaxLength { limit } => format!("is longer than {}", count(*limit, "character")),
        Kind::MinItems { limit } => format!("has fewer than {}", count(*limit, "element")),
        Kind::MaxItems { limit } => format!("has more than {}", count(*limit, "element")),
        Kind::AdditionalItems { limit } => format!("has more than {}", count(*limit as u64, "element")),
        Kind::UnevaluatedItems { .. } => "has elements that the schema does not know".into(),
        Kind::MinProperties { limit } => format!("has fewer than {}", count(*limit, "field")),
        Kind::MaxProperties { limit } => format!("has more than {}", count(*limit, "field")),
        Kind::Minimum { limit } => format!("is less than {limit}"),
        Kind::Maximum { limit } => format!("is greater than {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("is not greater than {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("is not less than {limit}"),
        Kind::MultipleOf { multiple_of } => format!("is not a multiple of {multiple_of}"),
        Kind::Pattern { pattern } => format!("does not match the pattern `{}`", cut(pattern)),
        Kind::Constant { expected_value } => format!("is not {}", quoted(expected_value)),
        Kind::Enum { options } => choices(options),
        Kind::UniqueItems => "has an element twice".into(),
        Kind::Contains => "has too few or too many elements of the shape that the schema asks for".into(),
        Kind::FalseSchema => "is not allowed".into(),
        Kind::Not { .. } => "has a shape that the schema rules out".into(),
        Kind::OneOfMultipleValid { .. } => {
            "matches more than one of the shapes that exclude each other".into()
        }
        Kind::ContentEncoding { content_encoding } => format!("is not text in {content_encoding}"),
        Kind::FromUtf8 { .. } => "is not UTF-8 once decoded".into(),
        Kind::ContentMediaType { content_media_type } => format!("is not {content_media_type}"),
        Kind::BacktrackLimitExceeded { .. } | Kind::RegexEngineFailure { .. } => {
            "could not be matched against its pattern".into()
        }
        _ => {
            let text = masked.trim_end_matches('.');
            let mut chars = text.chars();
            chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
        }
    }
}

fn format_message(format: &str) -> String {
    match format {
        "email" | "idn-email" => "is not an e-mail address",
        "date" => "is not a date such as 2026-11-22",
        "date-time" => "is not a time with date and zone such as 2026-11-22T10:00:00Z",
        "time" => "is not a time with zone such as 10:00:00Z",
        "duration" => "is not a duration such as P1DT12H",
        "uri" | "iri" => "is not a full URL such as https://example.com/a",
        "uri-reference" | "iri-reference" => "is not a URL",
        "uri-template" => "is not a URL template",
        "uuid" => "is not a UUID",
        "ipv4" => "is not an IPv4 address",
        "ipv6" => "is not an IPv6 address",
        "hostname" | "idn-hostname" => "is not a host name",
        "regex" => "is not a regular expression",
        "json-pointer" => "is not a JSON pointer",
        other => return format!("is not of the format `{}`", cut(other)),
    }
    .to_owned()
}

fn kinds(kind: &TypeKind) -> Vec<&'static str> {
    let name = |kind| match kind {
        JsonType::Null => "null",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "an integer",
        JsonType::Number => "a number",
        JsonType::String => "text",
        JsonType::Array => "a list",
        JsonType::Object => "an object",
    };
    match kind {
        TypeKind::Single(one) => vec![name(*one)],
        TypeKind::Multiple(set) => set.iter().map(name).collect(),
    }
}

fn neither(types: &[&str]) -> String {
    match types {
        [one] => format!("is not {one}"),
        many => format!("is neither {}", many.join(" nor ")),
    }
}

fn choices(options: &Value) -> String {
    let options = options.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut named: Vec<String> = options.iter().take(MAX_CHOICES).map(quoted).collect();
    if let [one] = named.as_slice() {
        return format!("is not {one}");
    }
    if options.len() > MAX_CHOICES {
        named.push(format!("{} more", options.len() - MAX_CHOICES));
    }
    format!("is none of {}", named.join(", "))
}

fn quoted(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{}`", cut(text)),
        other => format!("`{}`", cut(&other.to_string())),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
