//! A request and its reply as data, for the expressions that read them.
//!
//! Shared by the reading of replies and by the looks of `reconcile`, so that `response` and
//! `request` mean the same in both. Only the parts that are read are made: most replies need no
//! parsing at all.

use std::borrow::Cow;

use crate::config::RecordLimits;
use crate::model::{Arrived, Map, Mask, Number, Request, Str, Value};
use crate::render::{Context, Leaf};
use crate::source::{parse_json, parse_json_members};

use super::documents;

/// The parts of an exchange that expressions read: the others are not parsed.
#[derive(Debug, Clone, Default)]
pub(super) struct Needs {
    pub body: OfBody,
    pub text: bool,
    pub headers: bool,
    pub sent: bool,
}

impl Needs {
    pub(super) fn of<'l>(leaves: impl IntoIterator<Item = &'l Leaf>) -> Self {
        leaves.into_iter().flat_map(Leaf::reads).fold(Self::default(), |needs, path| {
            let below =
                |root: &str| path.strip_prefix(root).map(|rest| rest.trim_start_matches('.').to_owned());
            let (response, request) = (below("response"), below("request"));
            // Whatever is not plainly one part of it may be any part.
            let any = |part: &Option<String>, names: &[&str]| {
                part.as_ref().is_some_and(|part| !names.iter().any(|name| part.starts_with(name)))
            };
            needs.and(&Self {
                body: OfBody::of(any(&response, &["status", "headers"]), response.as_deref()),
                text: any(&response, &["status", "headers", "body"]),
                headers: any(&response, &["status", "body", "text"]),
                sent: request.is_some(),
            })
        })
    }

    /// At least whether the body is whole and readable.
    pub(super) fn with_body(mut self) -> Self {
        if self.body == OfBody::Nothing {
            self.body = OfBody::All;
        }
        self
    }

    pub(super) fn and(mut self, other: &Self) -> Self {
        self.body.and(&other.body);
        self.text |= other.text;
        self.headers |= other.headers;
        self.sent |= other.sent;
        self
    }
}

/// What of a body is read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum OfBody {
    /// Nothing: it is not looked at.
    #[default]
    Nothing,
    /// Where it is an object, only the members with these names.
    Members(Vec<String>),
    /// Any part of it.
    All,
}

impl OfBody {
    /// `path` is what is read of `response`, such as `body.id`; a name with a dot of its own stands in brackets.
    fn of(is_read: bool, path: Option<&str>) -> Self {
        if !is_read {
            return Self::Nothing;
        }
        let member = path.and_then(|path| path.strip_prefix("body.")?.split(['.', '[']).next());
        member.map_or(Self::All, |member| Self::Members(vec![member.to_owned()]))
    }

    fn and(&mut self, other: &Self) {
        match (&mut *self, other) {
            (_, Self::Nothing) | (Self::All, _) => {}
            (_, Self::All) | (Self::Nothing, _) => *self = other.clone(),
            (Self::Members(mine), Self::Members(theirs)) => mine.extend(theirs.iter().cloned()),
        }
    }

    /// Whether a member of the body is read.
    fn reads(&self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Members(names) => names.iter().any(|wanted| wanted == name),
        }
    }
}

/// `response` with what is needed of it, and whether the body, if it is needed, is whole and
/// readable.
pub(super) fn response(arrived: &Arrived, needs: &Needs, limits: &RecordLimits) -> (Value, bool) {
    let (body, readable) = match &needs.body {
        OfBody::Nothing => (Value::Absent, true),
        of => parsed(arrived, of, limits),
    };
    let mut response = Map::with_capacity(4);
    response.push("status", Value::Number(Number::from(u64::from(arrived.status.as_u16()))));
    if needs.headers {
        response.push("headers", headers(&arrived.headers));
    }
    if needs.text {
        response.push("text", Value::text(String::from_utf8_lossy(&arrived.body)));
    }
    response.push("body", body);
    (Value::Object(response), readable)
}

/// At most so many bytes of captures are kept of one reply.
const MOST_CAPTURED: usize = 4096;

/// What is kept of a reply: an object, or absent when there is nothing, or too much. One that repeats
/// a secret in a captured place captures nothing. The second tells whether something was lost so.
pub(super) fn capture(captures: &[(Str, Leaf)], context: &Context, mask: &Mask) -> (Value, bool) {
    if captures.is_empty() {
        return (Value::Absent, false);
    }
    let mut kept = Map::with_capacity(captures.len());
    for (name, leaf) in captures {
        let value = leaf.lenient_value(context);
        if !value.is_nothing() {
            kept.push(Str::clone(name), value);
        }
    }
    let kept = Value::Object(kept);
    let json = kept.to_json();
    let is_clean = matches!(mask.apply(&json), Cow::Borrowed(_));
    if is_clean && json.len() <= MOST_CAPTURED { (kept, false) } else { (Value::Absent, true) }
}

/// `request`: the one that was sent, without credentials. `params` are those that it was made of,
/// where they are known.
pub(super) fn request(request: &Request, params: Option<&Value>, limits: &RecordLimits) -> Value {
    let mut asked = Map::with_capacity(5);
    asked.push("method", Value::text(request.method.as_str()));
    asked.push("path", Value::text(request.url.path()));
    asked.push("headers", headers(&request.headers));
    if let Some(params) = params {
        asked.push("params", params.clone());
    }
    let body = match &request.form {
        Some(form) => form.to_value(),
        None => parse_json(&request.body, limits).unwrap_or(Value::Absent),
    };
    asked.push("body", body);
    Value::Object(asked)
}

fn headers(of: &http::HeaderMap) -> Value {
    let mut map = Map::with_capacity(of.len());
    for (name, value) in of {
        map.insert(name.as_str(), Value::text(String::from_utf8_lossy(value.as_bytes())));
    }
    Value::Object(map)
}

/// What is read of the body, by its content type, and whether it is whole and readable.
fn parsed(arrived: &Arrived, of: &OfBody, limits: &RecordLimits) -> (Value, bool) {
    let kind =
        arrived.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    let kind = match kind {
        "" | "application/json" => Cow::Borrowed(kind),
        other => Cow::Owned(other.to_ascii_lowercase()),
    };
    let kind = &*kind;
    let is_json =
        kind.is_empty() || kind == "application/json" || kind.ends_with("+json") || kind == "text/json";
    if !arrived.complete {
        return (Value::Absent, false);
    }
    if arrived.body.is_empty() {
        return (Value::Absent, true);
    }
    if is_json {
        return match parse_json_members(&arrived.body, limits, &|name| of.reads(name)) {
            Ok(value) => (value, true),
            Err(_) => (Value::Absent, false),
        };
    }
    if kind == "application/xml" || kind == "text/xml" || kind.ends_with("+xml") {
        let document = documents::xml(&arrived.body, limits);
        let is_readable = document.is_some();
        return (document.unwrap_or(Value::Absent), is_readable);
    }
    if kind == "application/x-www-form-urlencoded" {
        return (documents::form(&arrived.body), true);
    }
    (Value::text(String::from_utf8_lossy(&arrived.body)), true)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Place, Placed, Problems, SourceText};
    use crate::render::{Known, Root, Scope};

    fn leaf(text: &str) -> Leaf {
        let source = Arc::new(SourceText { path: "t".into(), text: text.into() });
        let template = Placed::new(text.to_owned(), Place::new(source, 0..text.len()));
        let scope = Scope::new().allow(Root::Response, Known::Any).allow(Root::Request, Known::Any);
        Leaf::compile(&template, &scope, &mut Problems::new()).expect(text)
    }

    fn needs(text: &str) -> [bool; 4] {
        let leaf = leaf(text);
        let Needs { body, text, headers, sent } = Needs::of([&leaf]);
        [body != OfBody::Nothing, text, headers, sent]
    }

    fn of_body(texts: &[&str]) -> OfBody {
        let leaves = texts.iter().map(|text| leaf(text)).collect::<Vec<_>>();
        Needs::of(&leaves).body
    }

    #[test]
    fn only_members_that_are_read_are_made() {
        let members = |paths: &[&str]| OfBody::Members(paths.iter().map(ToString::to_string).collect());
        assert_eq!(of_body(&["{{ response.body.id }}"]), members(&["id"]));
        assert_eq!(of_body(&["{{ response.status }}"]), OfBody::Nothing);
        let two = of_body(&["{{ response.body.user.id }}", "{{ response.body.list[0] }}"]);
        assert_eq!(two, members(&["user", "list"]));
        for whole in [
            "{{ response.body }}",
            "{{ response.body[0].id }}",
            "{{ response.body['a.b'] }}",
            "{{ response.body[response.status] }}",
            "{{ response }}",
        ] {
            assert_eq!(of_body(&[whole, "{{ response.body.id }}"]), OfBody::All, "{whole}");
        }

        let arrived = Arrived {
            status: http::StatusCode::OK,
            headers: http::HeaderMap::new(),
            body: r#"{"id": 1, "twice": {"a": 1, "a": 2}, "user": {"id": "7", "more": [1, 2]}}"#.into(),
            complete: true,
        };
        let made = |needs: Needs| response(&arrived, &needs, &RecordLimits::default()).0.to_json();
        let needs = Needs { body: two, ..Needs::default() };
        assert_eq!(made(needs), r#"{"status":200,"body":{"user":{"id":"7","more":[1,2]}}}"#);
        // What nobody reads may be anything, as long as it is JSON.
        let torn = Arrived { body: r#"{"user": 1, "x": [1,}"#.into(), ..arrived };
        let needs = Needs { body: OfBody::Members(vec!["user".into()]), ..Needs::default() };
        assert!(!response(&torn, &needs, &RecordLimits::default()).1);
    }

    #[test]
    fn an_expression_needs_the_parts_that_it_reads_and_no_others() {
        for (text, body_text_headers_sent) in [
            ("{{ response.status }}", [false, false, false, false]),
            ("{{ response.body.id }}", [true, false, false, false]),
            ("{{ response['body'].id }}", [true, false, false, false]),
            ("{{ response.headers['x-id'] | upper }}", [false, false, true, false]),
            // Whether text is whole is told by the body.
            ("{{ response.text }}", [true, true, false, false]),
            ("{{ response }}", [true, true, true, false]),
            ("{{ response[request.path] }}", [true, true, true, true]),
            ("{{ response.body[request.body.name] }}", [true, false, false, true]),
            ("{{ response.status == 200 or request.method == 'PUT' }}", [false, false, false, true]),
            ("{% if response.text %}{{ response.headers.date }}{% endif %}", [true, true, true, false]),
        ] {
            assert_eq!(needs(text), body_text_headers_sent, "{text}");
        }
    }
}
