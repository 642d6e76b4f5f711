//! A body of parts: `multipart/form-data` (RFC 7578), some of them files whose content is read when it is
//! sent.
//!
//! Pure. Invariants: the bytes follow from the parts alone, so that a request has the same ones however often
//! it is made; no value can end its part, its line or its quotes.

use std::fmt::Write as _;
use std::path::PathBuf;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{Map, Number, Place, Str, Value, hex};

/// The parts of a body, in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Form {
    /// The parts.
    pub parts: Vec<Part>,
    /// What stands between them; empty until all files are looked at.
    boundary: String,
}

/// One part.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Its name.
    pub name: Str,
    /// What it brings.
    pub content: PartContent,
}

/// What a part brings.
#[derive(Debug, Clone, PartialEq)]
pub enum PartContent {
    /// Text, as it is.
    Text(Str),
    /// Data, written as JSON.
    Json(Value),
    /// A file.
    File(Box<Upload>),
}

/// A file that is a part.
#[derive(Debug, Clone, PartialEq)]
pub struct Upload {
    /// Its path, relative to the project's root.
    pub path: String,
    /// The name that the far side is told.
    pub file_name: String,
    /// Its media type.
    pub media_type: String,
    /// Where the template names it.
    pub place: Place,
    /// What it held when the request was made; `None` before it was looked at.
    pub seen: Option<FileSeen>,
}

/// What a file held when a request was made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSeen {
    /// Where it lies: absolute, without links.
    pub full: PathBuf,
    /// Its bytes.
    pub length: u64,
    /// The SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Device, inode and times of the file: equal ones mean that nobody has touched it.
    pub stamp: [i128; 4],
}

/// A stretch of a body.
#[derive(Debug, Clone, PartialEq)]
pub enum Stretch {
    /// These bytes.
    Bytes(Bytes),
    /// The content of a file.
    File(Upload),
}

impl Form {
    /// A body of these parts.
    #[must_use]
    pub const fn new(parts: Vec<Part>) -> Self {
        Self { parts, boundary: String::new() }
    }

    /// The files among the parts.
    pub fn files_mut(&mut self) -> impl Iterator<Item = (&str, &mut Upload)> {
        self.parts.iter_mut().filter_map(|part| match &mut part.content {
            PartContent::File(file) => Some((&*part.name, &mut **file)),
            PartContent::Text(_) | PartContent::Json(_) => None,
        })
    }

    /// Whether a part is a file.
    #[must_use]
    pub fn has_files(&self) -> bool {
        self.parts.iter().any(|part| matches!(part.content, PartContent::File(_)))
    }

    /// Makes the boundary, from all that the parts hold, and gives the content type with it.
    ///
    /// It is a part of a SHA-256 over the content of every part, so that nothing that somebody puts into one
    /// can be made to hold it; the texts are looked through all the same.
    #[must_use]
    pub fn seal(&mut self) -> String {
        let mut hasher = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        let mut texts = Vec::new();
        for part in &self.parts {
            add(part.head().as_bytes());
            match &part.content {
                PartContent::Text(text) => {
                    add(text.as_bytes());
                    texts.push(Str::clone(text));
                }
                PartContent::Json(value) => {
                    let json = value.to_json();
                    add(json.as_bytes());
                    texts.push(json.into());
                }
                PartContent::File(file) => add(file.seen.as_ref().map_or(&[][..], |seen| &seen.sha256)),
            }
            texts.push(part.head().into());
        }
        let of_all = hasher.finalize();
        self.boundary = (0..=u32::MAX)
            .map(|turn| {
                let digest = Sha256::new().chain_update(of_all).chain_update(turn.to_le_bytes()).finalize();
                format!("runner-{}", hex(&digest[..16]))
            })
            .find(|boundary| !texts.iter().any(|text| text.contains(boundary.as_str())))
            .unwrap_or_default();
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    /// The body in stretches: what is sent, in order.
    #[must_use]
    pub fn stretches(&self) -> Vec<Stretch> {
        let mut all = Vec::new();
        let mut text = String::new();
        for part in &self.parts {
            let _ = write!(text, "--{}\r\n{}\r\n", self.boundary, part.head());
            match &part.content {
                PartContent::Text(plain) => text.push_str(plain),
                PartContent::Json(value) => text.push_str(&value.to_json()),
                PartContent::File(file) => {
                    all.push(Stretch::Bytes(std::mem::take(&mut text).into()));
                    all.push(Stretch::File((**file).clone()));
                }
            }
            text.push_str("\r\n");
        }
        let _ = write!(text, "--{}--\r\n", self.boundary);
        all.push(Stretch::Bytes(text.into()));
        all
    }

    /// The bytes of the whole body.
    #[must_use]
    pub fn length(&self) -> u64 {
        let of = |stretch: &Stretch| match stretch {
            Stretch::Bytes(bytes) => bytes.len() as u64,
            Stretch::File(file) => file.length(),
        };
        self.stretches().iter().map(of).sum()
    }

    /// The bytes of it that are kept in memory, about: all but the files.
    #[must_use]
    pub fn held(&self) -> usize {
        let of = |part: &Part| {
            let content = match &part.content {
                PartContent::Text(text) => text.len(),
                PartContent::Json(value) => size(value),
                PartContent::File(_) => 0,
            };
            content + part.head().len() + 64
        };
        self.parts.iter().map(of).sum()
    }

    /// What expressions see of it: a name that comes several times is a list, a file its names and size.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        for part in &self.parts {
            let value = part.content.to_value();
            match map.remove(&part.name) {
                None => map.push(Str::clone(&part.name), value),
                Some(Value::Array(mut items)) => {
                    items.push(value);
                    map.push(Str::clone(&part.name), Value::Array(items));
                }
                Some(first) => map.push(Str::clone(&part.name), Value::Array(vec![first, value])),
            }
        }
        Value::Object(map)
    }
}

impl Part {
    /// Its header lines, each with its end.
    fn head(&self) -> String {
        let mut head = format!("Content-Disposition: form-data; name=\"{}\"", quotable(&self.name));
        match &self.content {
            PartContent::Text(_) => head.push_str("\r\n"),
            PartContent::Json(_) => head.push_str("\r\nContent-Type: application/json\r\n"),
            PartContent::File(file) => {
                let (name, kind) = (quotable(&file.file_name), &file.media_type);
                let _ = write!(head, "; filename=\"{name}\"\r\nContent-Type: {kind}\r\n");
            }
        }
        head
    }
}

impl PartContent {
    /// The content as data.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            Self::Text(text) => Value::String(Str::clone(text)),
            Self::Json(value) => value.clone(),
            Self::File(file) => {
                let mut map = Map::with_capacity(4);
                map.push("file", Value::text(file.path.as_str()));
                map.push("name", Value::text(file.file_name.as_str()));
                map.push("type", Value::text(file.media_type.as_str()));
                if let Some(seen) = &file.seen {
                    map.push("bytes", Value::Number(Number::from(seen.length)));
                }
                Value::Object(map)
            }
        }
    }
}

impl Upload {
    /// Its bytes, as far as that is known.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.seen.as_ref().map_or(0, |seen| seen.length)
    }
}

/// About how long a value is as JSON, without writing it.
fn size(value: &Value) -> usize {
    match value {
        Value::Absent => 0,
        Value::Null | Value::Bool(_) => 5,
        Value::Number(number) => number.as_str().len() + 1,
        Value::String(text) => text.len() + 3,
        Value::Array(items) => items.iter().map(size).sum::<usize>() + 2,
        Value::Object(map) => map.iter().map(|(name, value)| name.len() + 4 + size(value)).sum::<usize>() + 2,
    }
}

/// A name as it stands in quotes: `"` and line ends as the WHATWG's form data says (HTML, 4.10.21.8), and in the
/// same way other control characters, and `\`, which other readers take for an escape (RFC 9110, 5.6.4).
#[must_use]
pub fn quotable(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if c == '"' || c == '\\' || c.is_ascii_control() {
            let _ = write!(out, "%{:02X}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, text: &str) -> Part {
        Part { name: name.into(), content: PartContent::Text(text.into()) }
    }

    fn written(form: &Form) -> String {
        let of = |stretch: &Stretch| match stretch {
            Stretch::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Stretch::File(file) => format!("<{}>", file.path),
        };
        form.stretches().iter().map(of).collect()
    }

    #[test]
    fn parts_are_written_as_rfc_7578_says() {
        let upload = Upload {
            path: "data/x.pdf".into(),
            file_name: "a\"b\r\nc\\.pdf".into(),
            media_type: "application/pdf".into(),
            place: Place::start_of(std::sync::Arc::new(crate::model::SourceText {
                path: "t".into(),
                text: String::new(),
            })),
            seen: Some(FileSeen { full: PathBuf::new(), length: 7, sha256: [1; 32], stamp: [0; 4] }),
        };
        let file = PartContent::File(Box::new(upload));
        let json = PartContent::Json(Value::Array(vec![Value::Bool(true)]));
        let mut form = Form::new(vec![
            text("a\"\r\nb", "x\r\n--y"),
            Part { name: "j".into(), content: json },
            Part { name: "doc".into(), content: file },
        ]);
        let kind = form.seal();
        let boundary = kind.strip_prefix("multipart/form-data; boundary=").unwrap();
        assert!(boundary.len() <= 70, "RFC 2046, 5.1.1");
        let expected = "--B\r\nContent-Disposition: form-data; name=\"a%22%0D%0Ab\"\r\n\r\nx\r\n--y\r\n\
            --B\r\nContent-Disposition: form-data; name=\"j\"\r\nContent-Type: application/json\r\n\r\n[true]\r\n\
            --B\r\nContent-Disposition: form-data; name=\"doc\"; filename=\"a%22b%0D%0Ac%5C.pdf\"\r\n\
            Content-Type: application/pdf\r\n\r\n<data/x.pdf>\r\n--B--\r\n";
        assert_eq!(written(&form).replace(boundary, "B"), expected);
        assert_eq!(form.length(), written(&form).len() as u64 - "<data/x.pdf>".len() as u64 + 7);
        assert_eq!(form.clone().seal(), kind, "equal parts, equal boundary");
        for (_, file) in form.files_mut() {
            file.seen.as_mut().unwrap().sha256 = [2; 32];
        }
        assert_ne!(form.seal(), kind, "other content, other boundary");
    }

    #[test]
    fn a_boundary_is_in_no_text() {
        let mut form = Form::new(vec![text("a", "x")]);
        let first = form.seal();
        // Whoever puts the boundary into a value changes the boundary.
        let mut form = Form::new(vec![text("a", &first)]);
        let second = form.seal();
        assert_ne!(first, second);
        assert_eq!(written(&form).matches(form.boundary.as_str()).count(), 2);
    }

    #[test]
    fn a_name_that_comes_twice_is_a_list() {
        let form = Form::new(vec![text("a", "1"), text("b", "2"), text("a", "3"), text("a", "4")]);
        assert_eq!(form.to_value().to_json(), r#"{"b":"2","a":["1","3","4"]}"#);
    }
}
