//! What was written, as typed fields: one declaration gives the reader and the published schema.
//!
//! `raw!` declares a mapping with its keys; reading it collects every mistake with its place and
//! carries on, so that one look shows them all. Invariant: a value that is wrong in itself never
//! gets past this module and `values` without a finding among the problems.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::read::{Kind, Node};
use super::{ParamKind, Tree};
use crate::model::{Diagnostic, Map, Number, Place, Placed, Problems, Value, did_you_mean};

/// A value that can be read from a node.
pub(super) trait FromNode: Sized {
    /// Whether its key may be missing.
    const OPTIONAL: bool = false;

    /// Reads it, or notes why not. `what` is the key or thing, for messages.
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self>;

    /// What a missing key means: an error, unless the type has an empty form.
    fn absent(key: &str, of: &str, place: &Place, problems: &mut Problems) -> Option<Self> {
        problems.at("missing-key", place, format!("{of} needs `{key}`"));
        None
    }
}

/// Declares what a mapping may hold. Every struct has the `place` of the mapping too.
macro_rules! raw {
    (
        $(#[$meta:meta])* $name:ident, $what:literal {
            $( $(#[$fmeta:meta])* $key:ident: $ty:ty, )*
        }
        $( wrong { $( $bad:literal => $text:literal, )* } )?
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields, transform = $name::mark_required)]
        #[allow(dead_code, reason = "some keys are for people and editors alone, as is a place")]
        pub(super) struct $name {
            /// Where it stands.
            #[schemars(skip)]
            pub(super) place: crate::model::Place,
            $( $(#[$fmeta])* pub(super) $key: $ty, )*
        }

        impl $name {
            /// Lists in the published schema what the reader demands.
            fn mark_required(schema: &mut schemars::Schema) {
                let keys = [$(
                    (crate::config::raw::bare(stringify!($key)), <$ty as crate::config::raw::FromNode>::OPTIONAL)
                ),*];
                let needed: Vec<&str> = keys.iter().filter(|(_, optional)| !optional).map(|(key, _)| *key).collect();
                if needed.is_empty() {
                    schema.remove("required");
                } else {
                    schema.insert("required".into(), needed.into());
                }
            }
        }

        impl crate::config::raw::FromNode for $name {
            fn read(
                node: &crate::config::read::Node,
                _: &str,
                problems: &mut crate::model::Problems,
            ) -> Option<Self> {
                const KEYS: &[&str] = &[$(crate::config::raw::bare(stringify!($key))),*];
                const WRONG: &[(&str, &str)] = &[$($(($bad, $text)),*)?];
                let fields = crate::config::raw::Fields::open(node, $what, KEYS, WRONG, problems)?;
                $( let $key = fields.take::<$ty>(crate::config::raw::bare(stringify!($key)), problems); )*
                Some(Self { place: fields.place.clone(), $( $key: $key?, )* })
            }
        }
    };
}
pub(super) use raw;

/// Declares the words that an enum is written with.
macro_rules! words {
    ($name:ty { $( $word:literal => $value:expr, )* }) => {
        impl crate::config::raw::FromNode for $name {
            fn read(
                node: &crate::config::read::Node,
                what: &str,
                problems: &mut crate::model::Problems,
            ) -> Option<Self> {
                match crate::config::raw::word(node, what, &[$($word),*], problems)? {
                    $( $word => Some($value), )*
                    _ => None,
                }
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "enum": [$($word),*] })
            }
        }
    };
}
pub(super) use words;

/// A key without the mark that Rust needs for its own words.
pub(super) const fn bare(key: &str) -> &str {
    match key.as_bytes() {
        [b'r', b'#', ..] => key.split_at(2).1,
        _ => key,
    }
}

/// The entries of a mapping while it is read.
pub(super) struct Fields<'n> {
    entries: &'n [(Placed<String>, Node)],
    /// Where the mapping stands.
    pub(super) place: &'n Place,
    what: &'static str,
}

impl<'n> Fields<'n> {
    /// Checks that a node is a mapping and notes its unknown keys.
    pub(super) fn open(
        node: &'n Node,
        what: &'static str,
        known: &[&str],
        wrong: &[(&str, &str)],
        problems: &mut Problems,
    ) -> Option<Self> {
        let entries = entries(node, what, problems)?;
        for (key, _) in entries {
            if !known.contains(&key.value.as_str()) {
                problems.push(unknown_key(key, what, known, wrong));
            }
        }
        Some(Self { entries, place: &node.place, what })
    }

    /// Reads the value of a key.
    pub(super) fn take<T: FromNode>(&self, key: &str, problems: &mut Problems) -> Option<T> {
        match self.entries.iter().find(|(name, _)| name.value == key) {
            // A key with nothing behind it is a key that is not there.
            Some((name, Node { kind: Kind::Null, .. })) => T::absent(key, self.what, &name.place, problems),
            Some((_, node)) => T::read(node, key, problems),
            None => T::absent(key, self.what, self.place, problems),
        }
    }
}

fn unknown_key(key: &Placed<String>, what: &str, known: &[&str], wrong: &[(&str, &str)]) -> Diagnostic {
    let name = key.value.as_str();
    let finding =
        Diagnostic::error("unknown-key", format!("`{name}` is not a key of {what}")).place(&key.place);
    if let Some((_, text)) = wrong.iter().find(|(bad, _)| *bad == name) {
        return finding.help(*text);
    }
    match did_you_mean(name, known.iter().copied()) {
        Some(help) => finding.help(help),
        None => finding.help(format!("{what} has: {}", known.join(", "))),
    }
}

/// The entries of a node that has to be a mapping.
pub(super) fn entries<'n>(
    node: &'n Node,
    what: &str,
    problems: &mut Problems,
) -> Option<&'n [(Placed<String>, Node)]> {
    match &node.kind {
        Kind::Map(entries) => Some(entries),
        Kind::Null => Some(&[]),
        _ => {
            problems.push(wrong_type(node, what, "a mapping"));
            None
        }
    }
}

/// The finding that a node is of the wrong type.
pub(super) fn wrong_type(node: &Node, what: &str, wanted: &str) -> Diagnostic {
    if let Some(finding) = secret_elsewhere(node) {
        return finding;
    }
    let what = if what.contains('`') || what.contains(' ') { what.to_owned() } else { format!("`{what}`") };
    let finding =
        Diagnostic::error("wrong-type", format!("{what} is {}, but has to be {wanted}", node.kind()))
            .place(&node.place);
    match (&node.kind, wanted) {
        (Kind::Bool(_) | Kind::Number(_) | Kind::Null, "text") => {
            finding.help("put it into quotes to make it text")
        }
        (Kind::Text(_), "true or false") => finding.help("write `true` or `false`, without quotes"),
        _ => finding,
    }
}

/// `{ env: NAME }` and `{ file: PATH }` belong to connections alone.
pub(super) fn secret_elsewhere(node: &Node) -> Option<Diagnostic> {
    let Kind::Map(entries) = &node.kind else { return None };
    let source = entries.iter().find(|(key, _)| key.value == "env" || key.value == "file")?;
    let others = entries.iter().any(|(key, _)| !["env", "file", "secret"].contains(&key.value.as_str()));
    let named = match (&source.1.kind, source.0.value.as_str()) {
        (Kind::Text(name), "env") => {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        }
        (Kind::Text(path), _) => path.starts_with('/'),
        _ => false,
    };
    (!others && named).then(|| {
        let word = &source.0.value;
        Diagnostic::error(
            "secret-outside-connection",
            format!("`{{ {word}: … }}` is allowed only within a connection of runner.yaml"),
        )
        .place(&node.place)
        .help("name the setting in runner.yaml; values for a run come in by `vars` and `--var`")
    })
}

/// One of a few words.
pub(super) fn word<'w>(
    node: &Node,
    what: &str,
    words: &[&'w str],
    problems: &mut Problems,
) -> Option<&'w str> {
    let Kind::Text(text) = &node.kind else {
        problems.push(wrong_type(node, what, &format!("one of {}", words.join(", "))));
        return None;
    };
    let found = words.iter().find(|word| *word == text);
    if found.is_none() {
        let finding = Diagnostic::error(
            "unknown-word",
            format!("`{what}` is `{text}`, but has to be one of {}", words.join(", ")),
        )
        .place(&node.place);
        problems.push(match did_you_mean(text, words.iter().copied()) {
            Some(help) => finding.help(help),
            None => finding,
        });
    }
    found.copied()
}

/// A key that has to be there, in a mapping that is looked at even where it is not.
#[derive(Debug, Clone)]
pub(super) struct Needed<T>(pub(super) Option<T>);

impl<T: FromNode> FromNode for Needed<T> {
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        Some(Self(T::read(node, what, problems)))
    }
    fn absent(key: &str, of: &str, place: &Place, problems: &mut Problems) -> Option<Self> {
        Some(Self(T::absent(key, of, place, problems)))
    }
}

impl<T: FromNode> FromNode for Option<T> {
    const OPTIONAL: bool = true;
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        Some(T::read(node, what, problems))
    }
    fn absent(_: &str, _: &str, _: &Place, _: &mut Problems) -> Option<Self> {
        Some(None)
    }
}

impl<T: FromNode> FromNode for Placed<T> {
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        Some(Self::new(T::read(node, what, problems)?, node.place.clone()))
    }
}

impl<T: FromNode> FromNode for Box<T> {
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        Some(Self::new(T::read(node, what, problems)?))
    }
}

impl FromNode for Node {
    fn read(node: &Node, _: &str, _: &mut Problems) -> Option<Self> {
        Some(node.clone())
    }
}

impl FromNode for String {
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        if let Kind::Text(text) = &node.kind {
            Some(text.clone())
        } else {
            problems.push(wrong_type(node, what, "text"));
            None
        }
    }
}

impl FromNode for bool {
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        if let Kind::Bool(value) = &node.kind {
            Some(*value)
        } else {
            problems.push(wrong_type(node, what, "true or false"));
            None
        }
    }
}

/// A list.
impl<T: FromNode> FromNode for Vec<T> {
    const OPTIONAL: bool = true;
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        if let Kind::List(items) = &node.kind {
            Some(items.iter().filter_map(|item| T::read(item, what, problems)).collect())
        } else {
            problems.push(wrong_type(node, what, "a list"));
            None
        }
    }
    fn absent(_: &str, _: &str, _: &Place, _: &mut Problems) -> Option<Self> {
        Some(Self::new())
    }
}

/// A list that may be written as its only element.
#[derive(Debug, Clone)]
pub(super) struct OneOrMany<T>(pub(super) Vec<T>);

impl<T: FromNode> FromNode for OneOrMany<T> {
    const OPTIONAL: bool = true;
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        match &node.kind {
            Kind::List(_) => Vec::read(node, what, problems).map(Self),
            _ => Some(Self(T::read(node, what, problems).into_iter().collect())),
        }
    }
    fn absent(_: &str, _: &str, _: &Place, _: &mut Problems) -> Option<Self> {
        Some(Self(Vec::new()))
    }
}

/// A mapping whose keys the author chooses.
#[derive(Debug, Clone)]
pub(super) struct Entries<T>(pub(super) Vec<(Placed<String>, T)>);

impl<T: FromNode> FromNode for Entries<T> {
    const OPTIONAL: bool = true;
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        let mut found = Vec::new();
        for (key, node) in entries(node, what, problems)? {
            if let Some(value) = T::read(node, &key.value, problems) {
                found.push((key.clone(), value));
            }
        }
        Some(Self(found))
    }
    fn absent(_: &str, _: &str, _: &Place, _: &mut Problems) -> Option<Self> {
        Some(Self(Vec::new()))
    }
}

impl FromNode for Tree {
    fn read(node: &Node, _: &str, problems: &mut Problems) -> Option<Self> {
        if let Some(finding) = secret_elsewhere(node) {
            problems.push(finding);
            return None;
        }
        let place = node.place.clone();
        Some(match &node.kind {
            Kind::Null => Self::Null(place),
            Kind::Bool(value) => Self::Bool(*value, place),
            Kind::Number(number) => Self::Number(number.clone(), place),
            Kind::Text(text) => Self::Text(Placed::new(text.clone(), place)),
            Kind::List(items) => {
                Self::List(items.iter().filter_map(|item| Self::read(item, "", problems)).collect(), place)
            }
            Kind::Map(entries) => {
                let read = |(key, node): &(Placed<String>, Node)| {
                    Some((key.clone(), Self::read(node, "", problems)?))
                };
                Self::Map(entries.iter().filter_map(read).collect(), place)
            }
        })
    }
}

/// Data without expressions: a default, a sample, a setting.
impl FromNode for Value {
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        if let Some(finding) = secret_elsewhere(node) {
            problems.push(finding);
            return None;
        }
        Some(match &node.kind {
            Kind::Null => Self::Null,
            Kind::Bool(value) => Self::Bool(*value),
            Kind::Number(number) => Self::Number(number.clone()),
            Kind::Text(text) => Self::text(text.as_str()),
            Kind::List(items) => {
                Self::Array(items.iter().filter_map(|item| Self::read(item, what, problems)).collect())
            }
            Kind::Map(_) => Self::Object(Map::read(node, what, problems)?),
        })
    }
}

impl FromNode for Map {
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        let mut map = Self::new();
        for (key, node) in entries(node, what, problems)? {
            map.push(key.value.as_str(), Value::read(node, &key.value, problems)?);
        }
        Some(map)
    }
}

words!(ParamKind {
    "string" => Self::String,
    "integer" => Self::Integer,
    "number" => Self::Number,
    "boolean" => Self::Boolean,
    "date" => Self::Date,
    "array" => Self::Array,
    "object" => Self::Object,
});

/// Declares the published form of types that read themselves.
macro_rules! published {
    ($( $name:ty => $schema:tt; )*) => {
        $(
            impl schemars::JsonSchema for $name {
                fn inline_schema() -> bool {
                    true
                }
                fn schema_name() -> std::borrow::Cow<'static, str> {
                    stringify!($name).into()
                }
                fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                    schemars::json_schema!($schema)
                }
            }
        )*
    };
}
pub(super) use published;

published! {
    Tree => {};
    Node => {};
    Value => {};
    Map => { "type": "object" };
    Number => { "type": "number" };
}

/// Generic wrappers look in the schema like what they wrap.
macro_rules! published_like {
    ($( $name:ident<T> => |$inner:ident| $schema:tt; )*) => {
        $(
            impl<T: JsonSchema> JsonSchema for $name<T> {
                fn inline_schema() -> bool {
                    true
                }
                fn schema_name() -> std::borrow::Cow<'static, str> {
                    format!(concat!(stringify!($name), "_{}"), T::schema_name()).into()
                }
                fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                    let $inner = generator.subschema_for::<T>();
                    json_schema!($schema)
                }
            }
        )*
    };
}

published_like! {
    OneOrMany<T> => |inner| { "anyOf": [inner, { "type": "array", "items": inner }] };
    Entries<T> => |inner| { "type": ["object", "null"], "additionalProperties": inner };
}

impl<T: JsonSchema> JsonSchema for Placed<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: JsonSchema> JsonSchema for Needed<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
