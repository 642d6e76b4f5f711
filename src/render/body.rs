//! Bodies: built as data and written as JSON, form, NDJSON, XML, CSV or text.
//!
//! Invariant: what is sent is exactly what was checked; the limit is known before a byte is written.

use std::collections::HashSet;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::context::{Context, Root, Scope};
use super::convert::weight;
use super::documents;
use super::engine::write_text;
use super::error::RenderError;
use super::leaf::Leaf;
use super::parts::{self, PartsTemplate};
use super::tree::{Nulls, TreeTemplate, prune};
use crate::config::{Batch, Content, Endpoint, Escape, Tree};
use crate::model::{Diagnostic, Form, Map, Place, Problems, Str, Value};

/// What WHATWG's `application/x-www-form-urlencoded` leaves as it is.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'*').remove(b'-').remove(b'.').remove(b'_').remove(b' ');

/// A compiled body.
#[derive(Debug)]
pub(super) struct BodyTemplate {
    content: Content,
    what: What,
    nulls: Nulls,
    place: Place,
}

#[derive(Debug)]
enum What {
    None,
    /// The record's fields, copied without any expression.
    Fields,
    Tree(TreeTemplate),
    Text(Leaf),
    /// A body file, and whether its text has to be JSON.
    File(Leaf),
    /// The parts of a form, some of which are files.
    Parts(PartsTemplate),
}

/// One rendered body.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Body {
    None,
    Data(Value),
    /// The same as it is sent.
    Written(Vec<u8>),
    /// Text, and what it says when it is JSON.
    Text(String, Option<Value>),
    /// Parts, and what they hold as data.
    Parts(Form, Value),
}

impl BodyTemplate {
    pub fn compile(endpoint: &Endpoint, scope: &Scope, problems: &mut Problems) -> Option<Self> {
        let nulls = if endpoint.keep_nulls { Nulls::Keep } else { Nulls::Drop };
        let place = match (&endpoint.body, &endpoint.body_file) {
            (Some(tree), _) => tree.place().clone(),
            (None, Some(file)) => file.text.place.clone(),
            (None, None) => endpoint.place.clone(),
        };
        let bad = |problems: &mut Problems, message: &str, help: &str| {
            problems.push(Diagnostic::error("body-template", message).place(&place).help(help));
            None
        };
        let bodiless =
            matches!(endpoint.method.value.as_str(), "GET" | "HEAD" | "DELETE" | "OPTIONS" | "TRACE");
        let what = match (endpoint.content, &endpoint.body, &endpoint.body_file) {
            (_, Some(_), Some(_)) => {
                return bad(problems, "both `body` and `body_file` are given", "keep one of them");
            }
            (Content::None, None, None) => What::None,
            (Content::None, ..) => return bad(problems, "`content: none` has no body", "leave out `body`"),
            (Content::Multipart, None, Some(_)) => {
                return bad(
                    problems,
                    "`content: multipart` is made of parts, and a `body_file` is one text",
                    "write the parts under `body`; `{ file: … }` sends a file as it is",
                );
            }
            (content, None, Some(file)) => {
                let escape = if content == Content::Json && file.escape == Escape::None {
                    Escape::Json
                } else {
                    file.escape
                };
                What::File(Leaf::file(&file.text, escape, scope, problems)?)
            }
            (Content::Text, Some(Tree::Text(text)), None) => {
                What::Text(Leaf::compile(text, scope, problems)?)
            }
            (Content::Text, ..) => {
                return bad(problems, "`content: text` needs a `body` that is text", "write `body: \"…\"`");
            }
            // The default body is for calls that change something.
            (_, None, None) if bodiless => What::None,
            (Content::Ndjson, None, None) => {
                return bad(
                    problems,
                    "`content: ndjson` needs a `body` that is a list",
                    "write `body: \"{{ … }}\"`",
                );
            }
            (_, None, None) => What::Fields,
            (Content::Multipart, Some(tree @ Tree::Map(..)), None) => {
                What::Parts(PartsTemplate::compile(tree, scope, nulls, problems)?)
            }
            (_, Some(tree), None) => {
                let tree = TreeTemplate::compile(tree, scope, nulls, problems)?;
                if tree.is_root(Root::BodyFields) { What::Fields } else { What::Tree(tree) }
            }
        };
        Some(Self { content: endpoint.content, what, nulls, place })
    }

    /// What one record contributes to a call with several: always data.
    pub fn compile_item(
        endpoint: &Endpoint,
        batch: &Batch,
        scope: &Scope,
        problems: &mut Problems,
    ) -> Option<Self> {
        let nulls = if endpoint.keep_nulls { Nulls::Keep } else { Nulls::Drop };
        let tree = batch.item.as_ref().or(endpoint.body.as_ref());
        let what = match tree {
            None => What::Fields,
            Some(tree) => {
                let tree = TreeTemplate::compile(tree, scope, nulls, problems)?;
                if tree.is_root(Root::BodyFields) { What::Fields } else { What::Tree(tree) }
            }
        };
        let place = tree.map_or(&batch.place, Tree::place).clone();
        Some(Self { content: Content::Json, what, nulls, place })
    }

    /// Whether any expression reads `body_fields`, so that it has to be made.
    pub fn reads_fields(&self) -> bool {
        let reads = |mut paths: Box<dyn Iterator<Item = String> + '_>| {
            paths.any(|path| path.starts_with(Root::BodyFields.name()))
        };
        match &self.what {
            What::None | What::Fields => false,
            What::Tree(tree) => reads(Box::new(tree.reads())),
            What::Text(leaf) | What::File(leaf) => reads(Box::new(leaf.reads())),
            What::Parts(parts) => reads(Box::new(parts.reads())),
        }
    }

    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// The content type to send when no header says another.
    pub const fn content_type(&self) -> Option<&'static str> {
        if matches!(self.what, What::None) { None } else { content_type(self.content) }
    }

    pub const fn content(&self) -> Content {
        self.content
    }

    pub fn render(&self, context: &Context, fields: &Fields) -> Result<Body, RenderError> {
        let value = match &self.what {
            What::None => return Ok(Body::None),
            What::Fields => {
                let mut value = Value::Object(fields.of(context));
                prune(&mut value, self.nulls);
                value
            }
            What::Tree(tree) => tree.value(context)?,
            What::Text(leaf) => {
                let mut text = String::new();
                leaf.text(context, &mut text)?;
                return Ok(Body::Text(text, None));
            }
            What::File(leaf) => return self.file(leaf, context),
            What::Parts(parts) => return parts.body(context),
        };
        data(value, self.content, &self.place)
    }

    fn file(&self, leaf: &Leaf, context: &Context) -> Result<Body, RenderError> {
        let mut text = String::new();
        leaf.text(context, &mut text)?;
        if self.content != Content::Json {
            return Ok(Body::Text(text, None));
        }
        match serde_json::from_str::<serde_json::Value>(&text) {
            Ok(value) => Ok(Body::Text(text, Some(Value::from(&value)))),
            Err(error) => {
                let before = text
                    .split_inclusive('\n')
                    .take(error.line().saturating_sub(1))
                    .map(str::len)
                    .sum::<usize>();
                let byte = before + error.column();
                Err(RenderError::new("body-not-json", leaf.place(), "the rendered body is not JSON")
                    .note(format!(
                        "line {}, column {} of the rendered text, byte {byte} of {}",
                        error.line(),
                        error.column(),
                        text.len()
                    ))
                    .help("values are written as JSON by themselves: no quotes around `{{ … }}`"))
            }
        }
    }
}

/// The content type that a body of this kind has when no header says another.
pub(super) const fn content_type(content: Content) -> Option<&'static str> {
    match content {
        // That of parts has the boundary in it, which follows from them.
        Content::None | Content::Multipart => None,
        Content::Json => Some("application/json"),
        Content::Form => Some("application/x-www-form-urlencoded"),
        Content::Ndjson => Some("application/x-ndjson"),
        Content::Xml => Some("application/xml"),
        Content::Csv => Some("text/csv; charset=utf-8"),
        Content::Text => Some("text/plain; charset=utf-8"),
    }
}

/// A body of data, if its kind can hold it.
pub(super) fn data(value: Value, content: Content, place: &Place) -> Result<Body, RenderError> {
    let wrong = |message: String| RenderError::new("body-value", place, message);
    match (content, &value) {
        (_, Value::Absent) => return Ok(Body::None),
        (Content::Ndjson, Value::Array(_))
        | (Content::Json | Content::Xml | Content::Csv | Content::Text | Content::None, _) => {}
        (Content::Form, Value::Object(map)) => {
            let nested = |value: &Value| matches!(value, Value::Object(_) | Value::Array(_));
            let is_bad = |value: &Value| match value {
                Value::Array(items) => items.iter().any(nested),
                value => nested(value),
            };
            if let Some((name, _)) = map.iter().find(|(_, value)| is_bad(value)) {
                return Err(wrong(format!("the form field `{name}` is nested"))
                    .help("a list of texts repeats the name; `| tojson` writes JSON"));
            }
        }
        (Content::Multipart, Value::Object(map)) => return parts::of_data(map, place),
        (Content::Multipart, other) => {
            return Err(wrong(format!("a multipart body must be an object and is {}", other.kind())));
        }
        (Content::Form, other) => {
            return Err(wrong(format!("a form body must be an object and is {}", other.kind())));
        }
        (Content::Ndjson, other) => {
            return Err(wrong(format!("an NDJSON body must be a list and is {}", other.kind())));
        }
    }
    Ok(Body::Data(value))
}

/// Which fields of the record the default body has.
#[derive(Debug)]
pub(super) struct Fields {
    without: Without,
}

#[derive(Debug)]
enum Without {
    Few(Vec<Str>),
    Many(HashSet<Str>),
}

impl Fields {
    pub fn without(names: impl IntoIterator<Item = Str>) -> Self {
        let all: Vec<Str> = names.into_iter().collect();
        let without =
            if all.len() > 8 { Without::Many(all.into_iter().collect()) } else { Without::Few(all) };
        Self { without }
    }

    /// The fields of this record.
    pub fn of(&self, context: &Context) -> Map {
        let Some(Value::Object(record)) = context.get(Root::Record).map(|record| &**record) else {
            return Map::new();
        };
        let out = |name: &Str| match &self.without {
            Without::Few(names) => names.iter().any(|without| without == name),
            Without::Many(names) => names.contains(name),
        };
        let fields = || record.iter().filter(|(name, value)| !matches!(value, Value::Absent) && !out(name));
        // Many of them are kept at once, so that none has room that it does not need.
        let mut map = Map::with_capacity(fields().count());
        for (name, value) in fields() {
            map.push(Str::clone(name), value.clone());
        }
        map
    }
}

/// The bytes of a body, if they are within the limit.
pub(super) fn encode(
    body: &Body,
    content: Content,
    place: &Place,
    max: usize,
) -> Result<Vec<u8>, RenderError> {
    let too_large = |size: usize| too_large(size, max, place);
    let bytes = match body {
        // Parts are written where they are sent.
        Body::None | Body::Parts(..) => Vec::new(),
        Body::Written(bytes) => bytes.clone(),
        Body::Text(text, _) => {
            if text.len() > max {
                return Err(too_large(text.len()));
            }
            text.clone().into_bytes()
        }
        Body::Data(value) => {
            // Before anything is written: a small template can repeat a large value many times.
            let least = weight(value, max.saturating_add(64));
            if content != Content::Form && least > max.saturating_add(64) {
                return Err(too_large(weight(value, usize::MAX)));
            }
            let mut out = Vec::new();
            match (content, value) {
                (Content::Form, Value::Object(map)) => {
                    let mut text = String::new();
                    for (name, value) in map {
                        let items = match value {
                            Value::Array(items) => items.as_slice(),
                            one => std::slice::from_ref(one),
                        };
                        for item in items.iter().filter(|item| !matches!(item, Value::Absent)) {
                            if !text.is_empty() {
                                text.push('&');
                            }
                            let mut plain = String::new();
                            // Null that is kept is an empty value; nested values were refused.
                            drop(write_text(item, &mut plain));
                            form(name, &mut text);
                            text.push('=');
                            form(&plain, &mut text);
                            if text.len() > max.saturating_mul(4).saturating_add(64) {
                                return Err(too_large(text.len()));
                            }
                        }
                    }
                    out = text.into_bytes();
                }
                (Content::Ndjson, Value::Array(items)) => {
                    for item in items.iter().filter(|item| !matches!(item, Value::Absent)) {
                        item.write_json(&mut out);
                        out.push(b'\n');
                    }
                }
                (Content::Xml | Content::Csv, value) => {
                    let write = if content == Content::Xml { documents::document } else { documents::rows };
                    write(value, &mut out).map_err(|wrong| RenderError::new("body-value", place, wrong))?;
                }
                (_, value) => value.write_json(&mut out),
            }
            out
        }
    };
    if bytes.len() > max { Err(too_large(bytes.len())) } else { Ok(bytes) }
}

fn too_large(size: usize, max: usize, place: &Place) -> RenderError {
    let message = format!("the body has {size} bytes and the limit is {max}");
    RenderError::new("body-too-large", place, message).help("raise `delivery: { max_body: … }`, or send less")
}

/// Whether a body is within the limit.
pub(super) fn check_size(size: usize, max: usize, place: &Place) -> Result<(), RenderError> {
    if size > max { Err(too_large(size, max, place)) } else { Ok(()) }
}

fn form(text: &str, out: &mut String) {
    for part in utf8_percent_encode(text, FORM) {
        out.extend(part.chars().map(|c| if c == ' ' { '+' } else { c }));
    }
}
