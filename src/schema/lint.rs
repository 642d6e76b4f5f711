//! Looks for mistakes in schema files: all of them, each with its place.
//!
//! Separate from compiling, which stops at the first mistake and lets misspelled keywords pass.

use std::collections::HashSet;

use jsonschema::{Draft, PatternOptions, ValidationOptions};
use serde_json::{Map, Value, json};

use super::cost::Costs;
use super::files::{self, Document};
use super::locate::{self, Part, join};
use super::message;
use super::node::Tree;
use super::walk::{self, Holds, KEYWORDS, Keyword, Sure};
use crate::model::{Diagnostic, Problems, did_you_mean};

const TYPES: [&str; 7] = ["string", "integer", "number", "boolean", "array", "object", "null"];

/// Formats of any draft, to name the nearest one.
const FORMATS: [&str; 19] = [
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "idn-email",
    "idn-hostname",
    "ipv4",
    "ipv6",
    "iri",
    "iri-reference",
    "json-pointer",
    "regex",
    "relative-json-pointer",
    "time",
    "uri",
    "uri-reference",
    "uri-template",
    "uuid",
];

/// Words of `OpenAPI` that describe a value and check nothing.
const DESCRIBING_FORMATS: [&str; 7] = ["int32", "int64", "float", "double", "password", "byte", "binary"];

/// How every schema of ours is compiled.
pub(super) fn options<'i>() -> ValidationOptions<'i, std::sync::Arc<dyn jsonschema::Retrieve>, Tree> {
    DESCRIBING_FORMATS.iter().fold(
        jsonschema::options_for::<Tree>()
            .offline()
            .should_validate_formats(true)
            .should_ignore_unknown_formats(false)
            .with_pattern_options(PatternOptions::regex()),
        |options, name| options.with_format(*name, |_: &str| true),
    )
}

/// Notes every mistake of one of the documents.
pub(super) fn check(documents: &[Document], number: usize, problems: &mut Problems) {
    let Some(document) = documents.get(number) else { return };
    let mut lint = Lint { document, documents, seen: HashSet::new(), problems };
    walk::walk(&document.value, &mut |pointer, map, sure| {
        if sure == Sure::Yes {
            lint.keywords(pointer, map);
        }
        lint.parameters(pointer, map);
    });
    lint.against_meta_schema();
    lint.costs(number);
}

struct Lint<'a> {
    document: &'a Document,
    documents: &'a [Document],
    /// Pointers with a finding, so that the meta-schema does not repeat it in its own words.
    seen: HashSet<String>,
    problems: &'a mut Problems,
}

impl Lint<'_> {
    fn note(&mut self, pointer: String, part: Part, diagnostic: Diagnostic) {
        let place = locate::place(&self.document.source, &pointer, part);
        self.problems.push(diagnostic.place(&place));
        self.seen.insert(pointer);
    }

    fn keywords(&mut self, pointer: &str, map: &Map<String, Value>) {
        let draft = self.document.draft;
        let alone = walk::reference_stands_alone(draft) && map.contains_key("$ref");
        for key in map.keys() {
            let message = match Keyword::named(key) {
                None if key.starts_with("x-") => continue,
                None => format!("`{key}` is not a keyword of JSON Schema and has no effect"),
                Some(keyword) if !keyword.is_known_in(draft) => {
                    format!("`{key}` has no effect in {}", walk::name(draft))
                }
                Some(keyword)
                    if alone
                        && key != "$ref"
                        && !matches!(keyword.holds, Holds::Words)
                        && !["definitions", "$defs", "default", "examples", "example"]
                            .contains(&key.as_str()) =>
                {
                    format!("`{key}` has no effect beside `$ref` in {}", walk::name(draft))
                }
                Some(_) => continue,
            };
            let mut warning = Diagnostic::warning("schema-keyword", message);
            if Keyword::named(key).is_none() {
                let known = KEYWORDS.iter().filter(|keyword| keyword.is_known_in(draft));
                warning.help = did_you_mean(key, known.map(|keyword| keyword.name));
            }
            self.note(join(pointer, key), Part::Name, warning);
        }
    }

    fn parameters(&mut self, pointer: &str, map: &Map<String, Value>) {
        if let Some(format) = map.get("format").and_then(Value::as_str) {
            self.format(&join(pointer, "format"), format);
        }
        if let Some(pattern) = map.get("pattern").and_then(Value::as_str) {
            self.pattern(&join(pointer, "pattern"), pattern, Part::Value);
        }
        for name in map.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(Map::keys) {
            self.pattern(&join(&join(pointer, "patternProperties"), name), name, Part::Name);
        }
        let types = map.get("type");
        let at = join(pointer, "type");
        match types {
            Some(Value::String(name)) => self.kind(&at, name),
            Some(Value::Array(names)) => {
                for (index, name) in names.iter().enumerate() {
                    if let Some(name) = name.as_str() {
                        self.kind(&format!("{at}/{index}"), name);
                    }
                }
            }
            _ => {}
        }
        self.reference(pointer, map);
    }

    fn kind(&mut self, pointer: &str, name: &str) {
        if !TYPES.contains(&name) {
            let message = format!("`{name}` is not a type of JSON Schema");
            let mut error = Diagnostic::error("schema-invalid", message);
            error.help = did_you_mean(name, TYPES).or_else(|| {
                Some(format!("the types are {}", TYPES.map(|name| format!("`{name}`")).join(", ")))
            });
            // The meta-schema complains about the whole list.
            self.seen.insert(pointer.rsplit_once('/').map_or(pointer, |(list, _)| list).to_owned());
            self.note(pointer.to_owned(), Part::Value, error);
        }
    }

    fn format(&mut self, pointer: &str, name: &str) {
        let draft = self.document.draft;
        if options().is_known_format(draft, name) {
            return;
        }
        let is_later = options().is_known_format(Draft::Draft202012, name);
        let mut error = if is_later {
            Diagnostic::error(
                "schema-format",
                format!("the format `{name}` is not known in {}", walk::name(draft)),
            )
            .help("use `\"$schema\": \"https://json-schema.org/draft/2020-12/schema\"`, or a `pattern`")
        } else {
            Diagnostic::error("schema-format", format!("`{name}` is not a format that can be checked"))
        };
        if !is_later {
            error.help = did_you_mean(name, FORMATS)
                .or_else(|| Some("use a `pattern`, or leave `format` out".to_owned()));
        }
        self.note(pointer.to_owned(), Part::Value, error);
    }

    fn pattern(&mut self, pointer: &str, pattern: &str, part: Part) {
        if options().build(&json!({ "pattern": pattern })).is_ok() {
            return;
        }
        let look_around = ["(?=", "(?!", "(?<=", "(?<!"].iter().any(|open| pattern.contains(open));
        let back_reference = pattern.contains("\\k<") || (1..=9).any(|n| pattern.contains(&format!("\\{n}")));
        let error = if look_around || back_reference {
            let what = if look_around { "look-around" } else { "a back-reference" };
            Diagnostic::error(
                "schema-pattern",
                format!(
                    "this pattern uses {what}, which cannot be matched in linear time and is not supported"
                ),
            )
            .help("split it into several patterns below `allOf` and `not`")
        } else {
            Diagnostic::error(
                "schema-pattern",
                "this pattern is not a regular expression, or it is too large",
            )
        };
        self.note(pointer.to_owned(), part, error);
    }

    /// A reference has to lead somewhere; pointers into parts with a name of their own are left to
    /// the compiler.
    fn reference(&mut self, pointer: &str, map: &Map<String, Value>) {
        let Some((file, target)) =
            map.get("$ref").and_then(Value::as_str).and_then(|text| text.split_once('#'))
        else {
            return;
        };
        let other = (0..self.documents.len()).find(|number| files::uri(*number) == file);
        let Some(document) = other.map_or(Some(self.document), |number| self.documents.get(number)) else {
            return;
        };
        let decoded = percent_encoding::percent_decode_str(target).decode_utf8_lossy();
        let is_told = target.starts_with('/') && (other.is_some() || file.is_empty());
        if !is_told || document.has_named_parts() || document.value.pointer(&decoded).is_some() {
            return;
        }
        let path = &document.source.path;
        let mut error =
            Diagnostic::error("schema-reference", format!("`{decoded}` does not exist in {path}"));
        if let Some((holder, wanted)) = decoded.rsplit_once('/') {
            let holder = document.value.pointer(holder).and_then(Value::as_object);
            error.help = did_you_mean(wanted, holder.into_iter().flat_map(Map::keys).map(String::as_str));
        }
        self.note(join(pointer, "$ref"), Part::Value, error);
    }

    /// Only the first schema that is too costly is named: those around it are so as well.
    fn costs(&mut self, number: usize) {
        let mut costs = Costs::new(self.documents);
        let found = walk::pointers(&self.document.value).into_iter().find_map(|pointer| {
            let schema = self.document.value.pointer(&pointer)?;
            Some((costs.too_costly(number, schema)?, pointer))
        });
        if let Some((why, pointer)) = found {
            self.note(pointer, Part::Value, Diagnostic::error("schema-cost", why));
        }
    }

    fn against_meta_schema(&mut self) {
        let Ok(meta) = jsonschema::meta::validator_for(&self.document.value) else { return };
        let errors: Vec<_> = meta.iter_errors(&self.document.value).take(100).collect();
        for error in errors {
            for found in message::violations(error) {
                if self.seen.contains(&found.pointer) {
                    continue;
                }
                let keyword = found.pointer.rsplit('/').next().unwrap_or_default();
                let subject =
                    if keyword.is_empty() { "this schema".to_owned() } else { format!("`{keyword}`") };
                let error = Diagnostic::error("schema-invalid", format!("{subject} {}", found.message));
                self.note(found.pointer, Part::Value, error);
            }
        }
    }
}
