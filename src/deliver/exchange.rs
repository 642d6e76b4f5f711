//! A request and its reply as data, for the expressions that read them.
//!
//! Shared by the reading of replies and by the looks of `reconcile`, so that `response` and
//! `request` mean the same in both. Only the parts that are read are made: most replies need no
//! parsing at all.

use std::sync::Arc;

use crate::config::RecordLimits;
use crate::model::{Arrived, Map, Mask, Number, Request, Value};
use crate::render::{Context, Leaf};
use crate::source::parse_json;

use super::documents;

/// The parts of an exchange that expressions read: the others are not parsed.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each part is needed or not, whatever the others are")]
pub(super) struct Needs {
    pub body: bool,
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
            needs.and(Self {
                body: any(&response, &["status", "headers"]),
                text: any(&response, &["status", "headers", "body"]),
                headers: any(&response, &["status", "body", "text"]),
                sent: request.is_some(),
            })
        })
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self {
            body: self.body || other.body,
            text: self.text || other.text,
            headers: self.headers || other.headers,
            sent: self.sent || other.sent,
        }
    }
}

/// `response` with what is needed of it, and whether the body, if it is needed, is whole and
/// readable.
pub(super) fn response(arrived: &Arrived, needs: Needs, limits: &RecordLimits) -> (Value, bool) {
    let (body, readable) = if needs.body { parsed(arrived, limits) } else { (Value::Absent, true) };
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
pub(super) fn capture(captures: &[(Arc<str>, Leaf)], context: &Context, mask: &Mask) -> (Value, bool) {
    if captures.is_empty() {
        return (Value::Absent, false);
    }
    let mut kept = Map::with_capacity(captures.len());
    for (name, leaf) in captures {
        let value = leaf.lenient_value(context);
        if !value.is_nothing() {
            kept.push(Arc::clone(name), value);
        }
    }
    let kept = Value::Object(kept);
    let json = kept.to_json();
    let is_clean = matches!(mask.apply(&json), std::borrow::Cow::Borrowed(_));
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

/// The body by its content type, and whether it is whole and readable.
fn parsed(arrived: &Arrived, limits: &RecordLimits) -> (Value, bool) {
    let kind =
        arrived.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let is_json =
        kind.is_empty() || kind == "application/json" || kind.ends_with("+json") || kind == "text/json";
    if !arrived.complete {
        return (Value::Absent, false);
    }
    if arrived.body.is_empty() {
        return (Value::Absent, true);
    }
    if is_json {
        return match parse_json(&arrived.body, limits) {
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
    use super::*;
    use crate::model::{Place, Placed, Problems, SourceText};
    use crate::render::{Known, Root, Scope};

    fn needs(text: &str) -> [bool; 4] {
        let source = Arc::new(SourceText { path: "t".into(), text: text.into() });
        let template = Placed::new(text.to_owned(), Place::new(source, 0..text.len()));
        let scope = Scope::new().allow(Root::Response, Known::Any).allow(Root::Request, Known::Any);
        let leaf = Leaf::compile(&template, &scope, &mut Problems::new()).expect(text);
        let Needs { body, text, headers, sent } = Needs::of([&leaf]);
        [body, text, headers, sent]
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
