//! Path and query of a request, encoded by position.
//!
//! Invariant: a value fills exactly the segment or query value in which it is written. It cannot
//! add, drop or merge segments, begin a query or fragment, or move the host (S06, S12).

use std::borrow::Cow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;

use super::context::{Context, Scope};
use super::engine::write_text;
use super::error::RenderError;
use super::leaf::{Leaf, PieceRef, Statements};
use super::tree::{Nulls, TreeTemplate};
use crate::config::{Connection, Template, Tree};
use crate::model::{Diagnostic, Place, Placed, Problems, Value};

/// Everything but RFC 3986's unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The far side, parsed once.
#[derive(Debug)]
pub(super) struct Base {
    text: String,
    url: Url,
    last: Last,
}

/// The URL that was written last, as many endpoints have the same for all records and reading one costs more than
/// all else that is done with it. Whoever finds it in use writes his own.
#[derive(Debug, Default)]
struct Last {
    url: Mutex<Option<Url>>,
    /// URLs in a row that were others.
    misses: AtomicU32,
}

/// After so many, nobody looks any more.
const MISSES: u32 = 64;

impl Last {
    fn get(&self, text: &str) -> Option<Url> {
        if self.misses.load(Ordering::Relaxed) >= MISSES {
            return None;
        }
        let last = self.url.try_lock().ok()?;
        let found = last.as_ref().filter(|url| url.as_str() == text).cloned();
        if found.is_some() {
            self.misses.store(0, Ordering::Relaxed);
        }
        found
    }

    /// `text` is what was written; a URL that reads otherwise would never be found again.
    fn put(&self, text: &str, url: &Url) {
        if self.misses.fetch_add(1, Ordering::Relaxed) < MISSES
            && url.as_str() == text
            && let Ok(mut last) = self.url.try_lock()
        {
            *last = Some(url.clone());
        }
    }
}

impl Base {
    pub fn compile(connection: &Connection, problems: &mut Problems) -> Option<Self> {
        let text = connection.base_url.trim_end_matches('/').to_owned();
        let bad = |problems: &mut Problems, why: &str| {
            problems.push(
                Diagnostic::error("base-url", format!("the connection's base URL {why}"))
                    .place(&connection.place)
                    .help("write it as `https://api.example.com/v2`"),
            );
        };
        let url = match Url::parse(&text) {
            Ok(url) => url,
            // A setting without a value: offline commands show a name that cannot exist (RFC 2606).
            Err(_) if !connection.unset.is_empty() => return Self::unset(),
            Err(_) => {
                bad(problems, "cannot be read");
                return None;
            }
        };
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            bad(problems, "must begin with `https://` or `http://` and a host");
            return None;
        }
        if url.query().is_some()
            || url.fragment().is_some()
            || !url.username().is_empty()
            || url.password().is_some()
        {
            bad(problems, "must not hold a query, a fragment or credentials");
            return None;
        }
        Some(Self { text, url, last: Last::default() })
    }

    fn unset() -> Option<Self> {
        let text = "https://base-url-unset.invalid".to_owned();
        Url::parse(&text).ok().map(|url| Self { text, url, last: Last::default() })
    }
}

/// A compiled path.
#[derive(Debug)]
pub(super) struct PathTemplate {
    leaf: Leaf,
    /// Segments of the base's path and the template's together.
    segments: usize,
}

impl PathTemplate {
    /// Every path that it reads.
    pub fn reads(&self) -> impl Iterator<Item = String> {
        self.leaf.reads()
    }

    pub fn compile(template: &Template, base: &Base, scope: &Scope, problems: &mut Problems) -> Option<Self> {
        let leaf = Leaf::compile_with(template, scope, Statements::Refused, problems)?;
        let mut bad = |rule: &'static str, message: &str, help: &str| {
            problems.push(Diagnostic::error(rule, message).place(&template.place).help(help));
        };
        if !template.value.starts_with('/') {
            bad(
                "path-template",
                "the path does not begin with `/`",
                "write it below the base URL: `/users/{{ … }}`",
            );
            return None;
        }
        // Values stand for themselves as one letter, so that only the template's own text is judged.
        let mut sketch = String::new();
        for piece in leaf.pieces() {
            match piece {
                PieceRef::Raw(text) => sketch.push_str(text),
                PieceRef::Constant(Value::String(text)) => sketch.push_str(text),
                PieceRef::Constant(_) | PieceRef::Part(_) => sketch.push('x'),
            }
        }
        if let Some(c) = sketch.chars().find(|c| matches!(c, '?' | '#' | '\\') || c.is_control() || *c == ' ')
        {
            let message = format!("the path holds U+{:04X} (`{}`)", u32::from(c), c.escape_debug());
            bad("path-template", &message, "query parameters belong under `query:`");
            return None;
        }
        if sketch.split('/').any(|segment| is_dots(&decoded(segment))) {
            bad("path-template", "the path holds a segment `.` or `..`", "write the path without it");
            return None;
        }
        let own = base.url.path().trim_end_matches('/');
        Some(Self { leaf, segments: own.split('/').count() - 1 + sketch.split('/').count() - 1 })
    }

    /// Writes the encoded path.
    fn write(&self, context: &Context, out: &mut String) -> Result<(), RenderError> {
        // What the segment that is being written means once it is decoded.
        let mut segment = String::new();
        let mut value = String::new();
        for piece in self.leaf.pieces() {
            match piece {
                PieceRef::Raw(text) => self.raw(text, &mut segment, out)?,
                PieceRef::Constant(constant) => {
                    value.clear();
                    let place = self.leaf.place();
                    write_text(constant, &mut value)
                        .map_err(|said| RenderError::new(said.rule, place, said.message))?;
                    self.raw(&value, &mut segment, out)?;
                }
                PieceRef::Part(part) => {
                    value.clear();
                    part.text(context, self.leaf.template(), &mut value).map_err(|error| {
                        match error.rule {
                            "not-text" => RenderError { rule: "path-value", ..error },
                            _ => error,
                        }
                    })?;
                    check_value(&value, || part.shown(), part.place())?;
                    segment.push_str(&value);
                    out.extend(utf8_percent_encode(&value, ENCODED));
                }
            }
        }
        self.segment(&segment)
    }

    fn raw(&self, text: &str, segment: &mut String, out: &mut String) -> Result<(), RenderError> {
        out.push_str(text);
        let mut parts = text.split('/');
        segment.push_str(&decoded(parts.next().unwrap_or_default()));
        for part in parts {
            self.segment(segment)?;
            segment.clear();
            segment.push_str(&decoded(part));
        }
        Ok(())
    }

    /// Judges a whole segment, of template text and values together.
    fn segment(&self, segment: &str) -> Result<(), RenderError> {
        if is_dots(segment) || is_dots(&decoded(segment)) {
            let message = "a segment of the path would be `.` or `..`, which leads to another path";
            return Err(RenderError::new("path-value", self.leaf.place(), message));
        }
        Ok(())
    }
}

/// Judges one value of a path. `shown` names the parameter.
fn check_value(value: &str, shown: impl Fn() -> String, place: &Place) -> Result<(), RenderError> {
    let error = |why: String| {
        let message = format!("the value of `{}` {why} and cannot be a part of the path", shown());
        Err(RenderError::new("path-value", place, message))
    };
    if value.is_empty() {
        return error("is empty".to_owned());
    }
    let once = decoded(value);
    if let Some(c) = value.chars().chain(once.chars()).find(|c| c.is_control()) {
        return error(format!("holds the control character U+{:04X}", u32::from(c)));
    }
    if is_dots(value) || is_dots(&once) {
        return error("is `.` or `..`".to_owned());
    }
    Ok(())
}

fn is_dots(segment: &str) -> bool {
    segment == "." || segment == ".."
}

fn decoded(text: &str) -> Cow<'_, str> {
    if text.contains('%') { percent_decode_str(text).decode_utf8_lossy() } else { Cow::Borrowed(text) }
}

/// Query parameters in written order.
#[derive(Debug)]
pub(super) struct QueryTemplate {
    entries: Vec<(String, String, TreeTemplate, Place)>,
}

impl QueryTemplate {
    /// Every path that its values read.
    pub fn reads(&self) -> impl Iterator<Item = String> {
        self.entries.iter().flat_map(|(_, _, value, _)| value.reads())
    }

    pub fn compile(query: &[(Placed<String>, Tree)], scope: &Scope, problems: &mut Problems) -> Option<Self> {
        let all: Vec<_> = query
            .iter()
            .map(|(name, tree)| {
                let value = TreeTemplate::compile(tree, scope, Nulls::Keep, problems)?;
                let encoded = utf8_percent_encode(&name.value, ENCODED).to_string();
                Some((encoded, name.value.clone(), value, tree.place().clone()))
            })
            .collect();
        Some(Self { entries: all.into_iter().collect::<Option<_>>()? })
    }

    fn write(&self, context: &Context, out: &mut String) -> Result<(), RenderError> {
        let mut mark = '?';
        for (encoded, name, template, place) in &self.entries {
            let value = template.value(context)?;
            let items = match &value {
                Value::Array(items) => items.as_slice(),
                one => std::slice::from_ref(one),
            };
            for item in items.iter().filter(|item| !item.is_nothing()) {
                let mut text = String::new();
                write_text(item, &mut text).map_err(|_| {
                    let message = format!("the query parameter `{name}` is {}", item.kind());
                    RenderError::new("query-value", place, message)
                        .help("a list of texts repeats the name; `| tojson` writes JSON")
                })?;
                out.push(std::mem::replace(&mut mark, '&'));
                out.push_str(encoded);
                out.push('=');
                out.extend(utf8_percent_encode(&text, ENCODED));
            }
        }
        Ok(())
    }
}

/// The whole URL of one request.
pub(super) fn write(
    base: &Base,
    path: &PathTemplate,
    query: &QueryTemplate,
    context: &Context,
) -> Result<Url, RenderError> {
    let mut text = String::with_capacity(base.text.len() + 64);
    text.push_str(&base.text);
    path.write(context, &mut text)?;
    query.write(context, &mut text)?;
    if let Some(url) = base.last.get(&text) {
        return Ok(url);
    }
    let moved = || {
        let message = "the rendered URL is not the one that the template describes";
        RenderError::new("url-moved", path.leaf.place(), message)
    };
    let url = Url::parse(&text).map_err(|_| moved())?;
    // Proof, not trust: whatever the rules above miss is found here.
    let same = url.scheme() == base.url.scheme()
        && url.host() == base.url.host()
        && url.port() == base.url.port()
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none()
        && url.path().split('/').count() == path.segments + 1;
    if !same {
        return Err(moved());
    }
    base.last.put(&text, &url);
    Ok(url)
}
