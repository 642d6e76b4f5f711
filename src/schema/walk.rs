//! Visits every schema within a schema document.
//!
//! Separate because references, checks of keywords and places all need the same knowledge: which
//! keyword holds schemas, and which holds data that only looks like one.

use jsonschema::Draft;
use serde_json::{Map, Value};

use super::locate::join;

/// What a keyword holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// A schema, or a list of schemas.
    Schemas,
    /// Schemas by names of the user's choice.
    Named,
    /// Data that is never a schema.
    Data,
    /// A rule's parameter.
    Parameter,
    /// Words for people.
    Words,
}

/// A keyword with the first and last draft that knows it.
#[derive(Debug)]
pub(super) struct Keyword {
    pub(super) name: &'static str,
    pub(super) holds: Holds,
    since: u8,
    until: u8,
}

const fn keyword(name: &'static str, holds: Holds, since: u8, until: u8) -> Keyword {
    Keyword { name, holds, since, until }
}

/// Drafts 2019-09 and 2020-12 count as 8 and 9.
const ANY: u8 = 9;

/// The keywords of all drafts. Those that a draft merely tolerates stand as known to it.
pub(super) const KEYWORDS: &[Keyword] = &[
    keyword("$schema", Holds::Words, 4, ANY),
    keyword("id", Holds::Words, 4, 4),
    keyword("$id", Holds::Words, 6, ANY),
    keyword("$ref", Holds::Parameter, 4, ANY),
    keyword("$anchor", Holds::Words, 8, ANY),
    keyword("$dynamicRef", Holds::Parameter, 9, ANY),
    keyword("$dynamicAnchor", Holds::Words, 9, ANY),
    keyword("$recursiveRef", Holds::Parameter, 8, 8),
    keyword("$recursiveAnchor", Holds::Words, 8, 8),
    keyword("$vocabulary", Holds::Words, 8, ANY),
    keyword("$comment", Holds::Words, 4, ANY),
    keyword("$defs", Holds::Named, 4, ANY),
    keyword("definitions", Holds::Named, 4, ANY),
    keyword("title", Holds::Words, 4, ANY),
    keyword("description", Holds::Words, 4, ANY),
    keyword("markdownDescription", Holds::Words, 4, ANY),
    keyword("default", Holds::Data, 4, ANY),
    keyword("examples", Holds::Data, 4, ANY),
    keyword("example", Holds::Data, 4, ANY),
    keyword("deprecated", Holds::Words, 4, ANY),
    keyword("readOnly", Holds::Words, 4, ANY),
    keyword("writeOnly", Holds::Words, 4, ANY),
    keyword("type", Holds::Parameter, 4, ANY),
    keyword("enum", Holds::Data, 4, ANY),
    keyword("const", Holds::Data, 6, ANY),
    keyword("multipleOf", Holds::Parameter, 4, ANY),
    keyword("maximum", Holds::Parameter, 4, ANY),
    keyword("exclusiveMaximum", Holds::Parameter, 4, ANY),
    keyword("minimum", Holds::Parameter, 4, ANY),
    keyword("exclusiveMinimum", Holds::Parameter, 4, ANY),
    keyword("maxLength", Holds::Parameter, 4, ANY),
    keyword("minLength", Holds::Parameter, 4, ANY),
    keyword("pattern", Holds::Parameter, 4, ANY),
    keyword("format", Holds::Parameter, 4, ANY),
    keyword("contentMediaType", Holds::Parameter, 4, ANY),
    keyword("contentEncoding", Holds::Parameter, 4, ANY),
    keyword("contentSchema", Holds::Schemas, 8, ANY),
    keyword("items", Holds::Schemas, 4, ANY),
    keyword("prefixItems", Holds::Schemas, 9, ANY),
    keyword("additionalItems", Holds::Schemas, 4, 8),
    keyword("unevaluatedItems", Holds::Schemas, 8, ANY),
    keyword("maxItems", Holds::Parameter, 4, ANY),
    keyword("minItems", Holds::Parameter, 4, ANY),
    keyword("uniqueItems", Holds::Parameter, 4, ANY),
    keyword("contains", Holds::Schemas, 6, ANY),
    keyword("maxContains", Holds::Parameter, 8, ANY),
    keyword("minContains", Holds::Parameter, 8, ANY),
    keyword("maxProperties", Holds::Parameter, 4, ANY),
    keyword("minProperties", Holds::Parameter, 4, ANY),
    keyword("required", Holds::Parameter, 4, ANY),
    keyword("properties", Holds::Named, 4, ANY),
    keyword("patternProperties", Holds::Named, 4, ANY),
    keyword("additionalProperties", Holds::Schemas, 4, ANY),
    keyword("unevaluatedProperties", Holds::Schemas, 8, ANY),
    keyword("propertyNames", Holds::Schemas, 6, ANY),
    keyword("dependencies", Holds::Named, 4, ANY),
    keyword("dependentRequired", Holds::Parameter, 8, ANY),
    keyword("dependentSchemas", Holds::Named, 8, ANY),
    keyword("allOf", Holds::Schemas, 4, ANY),
    keyword("anyOf", Holds::Schemas, 4, ANY),
    keyword("oneOf", Holds::Schemas, 4, ANY),
    keyword("not", Holds::Schemas, 4, ANY),
    keyword("if", Holds::Schemas, 7, ANY),
    keyword("then", Holds::Schemas, 7, ANY),
    keyword("else", Holds::Schemas, 7, ANY),
];

impl Keyword {
    /// The keyword of this name, whatever the draft.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        KEYWORDS.iter().find(|keyword| keyword.name == name)
    }

    /// Whether a draft knows it.
    pub(super) fn is_known_in(&self, draft: Draft) -> bool {
        (self.since..=self.until).contains(&number(draft))
    }
}

/// Drafts in their order, 4 to 9.
const fn number(draft: Draft) -> u8 {
    match draft {
        Draft::Draft4 => 4,
        Draft::Draft6 => 6,
        Draft::Draft7 => 7,
        Draft::Draft201909 => 8,
        _ => 9,
    }
}

/// The name of a draft for people.
pub(super) const fn name(draft: Draft) -> &'static str {
    match draft {
        Draft::Draft4 => "draft 4",
        Draft::Draft6 => "draft 6",
        Draft::Draft7 => "draft 7",
        Draft::Draft201909 => "draft 2019-09",
        _ => "draft 2020-12",
    }
}

/// Whether `$ref` hides all that stands beside it.
pub(super) const fn reference_stands_alone(draft: Draft) -> bool {
    number(draft) < 8
}

/// The keyword that names a schema.
pub(super) const fn id_keyword(draft: Draft) -> &'static str {
    if number(draft) == 4 { "id" } else { "$id" }
}

/// Whether an object is certainly a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sure {
    /// A keyword of JSON Schema holds it.
    Yes,
    /// It stands below a word of the user's own, where references may still point.
    No,
}

/// Takes pointer and members of a schema.
type Visit<'v> = dyn FnMut(&str, &Map<String, Value>, Sure) + 'v;

/// Calls `visit` with pointer and members of every schema, outer ones first.
pub(super) fn walk(document: &Value, visit: &mut Visit<'_>) {
    schema(document, "", Sure::Yes, visit);
}

/// The pointers of all schemas, outer ones first.
pub(super) fn pointers(document: &Value) -> Vec<String> {
    let mut pointers = Vec::new();
    walk(document, &mut |pointer, _, _| pointers.push(pointer.to_owned()));
    pointers
}

// Recursion is bounded by the depth that the JSON parser admits (128).
fn schema(value: &Value, at: &str, sure: Sure, visit: &mut Visit<'_>) {
    match value {
        Value::Object(map) => {
            visit(at, map, sure);
            for (key, value) in map {
                let below = join(at, key);
                match Keyword::named(key).map(|keyword| keyword.holds) {
                    Some(Holds::Schemas) => schema(value, &below, sure, visit),
                    Some(Holds::Named) => {
                        for (name, value) in value.as_object().into_iter().flatten() {
                            schema(value, &join(&below, name), sure, visit);
                        }
                    }
                    Some(Holds::Data | Holds::Parameter | Holds::Words) => {}
                    None => schema(value, &below, Sure::No, visit),
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                schema(item, &format!("{at}/{index}"), sure, visit);
            }
        }
        _ => {}
    }
}
