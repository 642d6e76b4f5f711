//! The parts of a `multipart` body: texts, data and files.
//!
//! Which part is a file is the template's to say and never a value's: a record that holds an object with
//! `file` in it sends that object. Files are named here and read elsewhere.

use super::body::Body;
use super::context::{Context, Scope};
use super::engine::write_text;
use super::error::RenderError;
use super::leaf::Leaf;
use super::tree::{Nulls, TreeTemplate};
use crate::config::{Template, Tree};
use crate::model::{Diagnostic, Form, Map, Part, PartContent, Place, Placed, Problems, Str, Upload, Value};

/// A compiled body of parts.
#[derive(Debug)]
pub(super) struct PartsTemplate(Vec<(Str, Node)>);

#[derive(Debug)]
enum Node {
    /// Text or data.
    Value(TreeTemplate, Place),
    File(Box<FileTemplate>),
    /// The part several times.
    List(Vec<Node>),
}

#[derive(Debug)]
struct FileTemplate {
    path: Leaf,
    name: Option<Leaf>,
    media_type: Option<Leaf>,
    keeps_nulls: bool,
}

impl PartsTemplate {
    pub fn compile(tree: &Tree, scope: &Scope, nulls: Nulls, problems: &mut Problems) -> Option<Self> {
        let Tree::Map(entries, _) = tree else { return None };
        let all: Vec<_> = entries
            .iter()
            .map(|(name, tree)| {
                Node::compile(tree, scope, nulls, problems).map(|node| (Str::from(name.value.as_str()), node))
            })
            .collect();
        Some(Self(all.into_iter().collect::<Option<_>>()?))
    }

    /// Every path that it reads.
    pub fn reads(&self) -> impl Iterator<Item = String> {
        let mut found = Vec::new();
        self.0.iter().for_each(|(_, node)| node.reads(&mut found));
        found.into_iter()
    }

    pub fn body(&self, context: &Context) -> Result<Body, RenderError> {
        let mut parts = Vec::with_capacity(self.0.len());
        for (name, node) in &self.0 {
            node.parts(name, context, &mut parts)?;
        }
        Ok(of_parts(parts))
    }
}

impl Node {
    fn compile(tree: &Tree, scope: &Scope, nulls: Nulls, problems: &mut Problems) -> Option<Self> {
        match tree {
            Tree::Map(entries, place) if entries.iter().any(|(name, _)| name.value == "file") => {
                FileTemplate::compile(entries, place, scope, nulls, problems)
                    .map(|file| Self::File(Box::new(file)))
            }
            Tree::List(items, _) => {
                let all: Vec<_> =
                    items.iter().map(|item| Self::compile(item, scope, nulls, problems)).collect();
                Some(Self::List(all.into_iter().collect::<Option<_>>()?))
            }
            tree => TreeTemplate::compile(tree, scope, nulls, problems)
                .map(|value| Self::Value(value, tree.place().clone())),
        }
    }

    fn reads(&self, found: &mut Vec<String>) {
        match self {
            Self::Value(tree, _) => found.extend(tree.reads()),
            Self::List(items) => items.iter().for_each(|item| item.reads(found)),
            Self::File(file) => {
                let leaves = [Some(&file.path), file.name.as_ref(), file.media_type.as_ref()];
                leaves.into_iter().flatten().for_each(|leaf| found.extend(leaf.reads()));
            }
        }
    }

    fn parts(&self, name: &Str, context: &Context, parts: &mut Vec<Part>) -> Result<(), RenderError> {
        match self {
            Self::Value(tree, place) => {
                let value = tree.value(context)?;
                // Those that are kept stand in objects; here one is a part of its own.
                let is_dropped = matches!(value, Value::Null) && tree.nulls() == Nulls::Drop;
                if is_dropped { Ok(()) } else { add(name, &value, place, parts) }
            }
            Self::List(items) => items.iter().try_for_each(|item| item.parts(name, context, parts)),
            Self::File(file) => file.parts(name, context, parts),
        }
    }
}

impl FileTemplate {
    fn compile(
        entries: &[(Placed<String>, Tree)],
        place: &Place,
        scope: &Scope,
        nulls: Nulls,
        problems: &mut Problems,
    ) -> Option<Self> {
        let mut path = None;
        let (mut name, mut media_type) = (None, None);
        for (key, tree) in entries {
            let slot: &mut Option<&Template> = match key.value.as_str() {
                "file" => &mut path,
                "name" => &mut name,
                "type" => &mut media_type,
                other => {
                    problems.push(
                        Diagnostic::error(
                            "unknown-key",
                            format!("`{other}` is no key of a file that is sent"),
                        )
                        .place(&key.place)
                        .help(
                            "it has `file`, `name` and `type`; an object with other keys is a part of JSON",
                        ),
                    );
                    return None;
                }
            };
            let Tree::Text(text) = tree else {
                problems.push(
                    Diagnostic::error("wrong-type", format!("`{}` of a file is text", key.value))
                        .place(tree.place())
                        .help(
                            "write `file: \"data/{{ record.path }}\"`, relative to the root of the project",
                        ),
                );
                return None;
            };
            *slot = Some(text);
        }
        let mut leaf = |template: Option<&Template>| match template {
            None => Some(None),
            Some(template) => Leaf::compile(template, scope, problems).map(Some),
        };
        let (path, name, media_type) = (leaf(path), leaf(name), leaf(media_type));
        let Some(path) = path? else {
            problems.at("missing-key", place, "a file needs `file`");
            return None;
        };
        Some(Self { path, name: name?, media_type: media_type?, keeps_nulls: nulls == Nulls::Keep })
    }

    fn parts(&self, name: &Str, context: &Context, parts: &mut Vec<Part>) -> Result<(), RenderError> {
        let value = self.path.value(context)?;
        let paths = match &value {
            Value::Absent => return Ok(()),
            Value::Null if !self.keeps_nulls => return Ok(()),
            Value::Array(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        for path in paths {
            let path = match path {
                Value::Absent => continue,
                Value::String(path) if !path.is_empty() => path,
                Value::String(_) => {
                    return Err(RenderError::new(
                        "file-path",
                        self.path.place(),
                        "the path of a file is empty",
                    )
                    .help("`| default(omit)` or null leaves the part out"));
                }
                other => {
                    let message = format!("the path of a file is text, and this is {}", other.kind());
                    return Err(RenderError::new("file-path", self.path.place(), message));
                }
            };
            let last = path.rsplit('/').next().unwrap_or_default();
            let file_name = match text_of(self.name.as_ref(), context)? {
                Some(name) => name,
                None => last.to_owned(),
            };
            let media_type = match text_of(self.media_type.as_ref(), context)? {
                Some(media_type) => media_type,
                None => by_ending(last).to_owned(),
            };
            if !is_media_type(&media_type) {
                let place = self.media_type.as_ref().map_or(self.path.place(), Leaf::place);
                return Err(RenderError::new("file-type", place, "the `type` of a file is no media type")
                    .help("write it as `application/pdf`"));
            }
            let place = self.path.place().clone();
            let upload = Upload { path: path.to_string(), file_name, media_type, place, seen: None };
            parts.push(Part { name: Str::clone(name), content: PartContent::File(Box::new(upload)) });
        }
        Ok(())
    }
}

/// The text of a leaf; none where it is absent or null.
fn text_of(leaf: Option<&Leaf>, context: &Context) -> Result<Option<String>, RenderError> {
    let Some(leaf) = leaf else { return Ok(None) };
    if matches!(leaf.value(context)?, Value::Absent | Value::Null) {
        return Ok(None);
    }
    let mut text = String::new();
    leaf.text(context, &mut text)?;
    Ok((!text.is_empty()).then_some(text))
}

/// The body of an object that was not written part by part: it holds no file.
pub(super) fn of_data(map: &Map, place: &Place) -> Result<Body, RenderError> {
    let mut parts = Vec::with_capacity(map.len());
    for (name, value) in map {
        add(name, value, place, &mut parts)?;
    }
    Ok(of_parts(parts))
}

fn of_parts(parts: Vec<Part>) -> Body {
    // RFC 2046, 5.1.1: there is at least one part.
    if parts.is_empty() {
        return Body::None;
    }
    let form = Form::new(parts);
    let value = form.to_value();
    Body::Parts(form, value)
}

/// A value as one part, or as one for each element of a list.
fn add(name: &Str, value: &Value, place: &Place, parts: &mut Vec<Part>) -> Result<(), RenderError> {
    let items = match value {
        Value::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    for item in items {
        let content = match item {
            Value::Absent => continue,
            Value::Null => PartContent::Text(Str::from("")),
            Value::String(text) => PartContent::Text(Str::clone(text)),
            Value::Bool(_) | Value::Number(_) => {
                let mut text = String::new();
                write_text(item, &mut text)
                    .map_err(|said| RenderError::new(said.rule, place, said.message))?;
                PartContent::Text(text.into())
            }
            Value::Array(_) | Value::Object(_) => PartContent::Json(item.clone()),
        };
        parts.push(Part { name: Str::clone(name), content });
    }
    Ok(())
}

/// RFC 9110, 8.3.1, in the characters that a line of a part can hold.
fn is_media_type(text: &str) -> bool {
    let is_token = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "!#$&^_.+-".contains(c))
    };
    let (kind, rest) = text.split_once(';').unwrap_or((text, ""));
    kind.trim_end().split_once('/').is_some_and(|(main, sub)| is_token(main) && is_token(sub))
        && rest.chars().all(|c| c == ' ' || c.is_ascii_graphic())
}

/// The media type of the endings that are common; what a far side takes for anything else is bytes.
fn by_ending(name: &str) -> &'static str {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase();
    match ending.as_str() {
        "txt" | "log" => "text/plain",
        "csv" => "text/csv",
        "html" | "htm" => "text/html",
        "md" => "text/markdown",
        "vcf" => "text/vcard",
        "ics" => "text/calendar",
        "json" => "application/json",
        "xml" => "application/xml",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        "doc" => "application/msword",
        "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "xls" => "application/vnd.ms-excel",
        "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "ppt" => "application/vnd.ms-powerpoint",
        "pptx" => "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "svg" => "image/svg+xml",
        "tif" | "tiff" => "image/tiff",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        "mp4" => "video/mp4",
        "mov" => "video/quicktime",
        "webm" => "video/webm",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_cannot_end_its_line() {
        for good in ["application/pdf", "text/plain; charset=utf-8", "image/svg+xml"] {
            assert!(is_media_type(good), "{good}");
        }
        for bad in ["", "pdf", "a/", "/b", "a/b\r\nX: y", "a/b; x\n", "a b/c", "ä/b"] {
            assert!(!is_media_type(bad), "{bad:?}");
        }
    }

    #[test]
    fn types_go_by_the_ending() {
        for (name, kind) in [
            ("a.PDF", "application/pdf"),
            ("a.tar.gz", "application/gzip"),
            ("a", "application/octet-stream"),
            ("png", "application/octet-stream"),
        ] {
            assert_eq!(by_ending(name), kind, "{name}");
        }
    }
}
