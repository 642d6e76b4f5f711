//! What the stand-in stands in for: routes, credentials and the shape of a refusal.
//!
//! Everything comes in as data and closures, so that the stand-in knows no template, no schema
//! and no configuration, and a test can build one in ten lines.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method};
use percent_encoding::percent_decode_str;
use serde_json::Value;

/// Says what is wrong with a body, in words without its values.
pub type CheckBody = Box<dyn Fn(&Value) -> Result<(), String> + Send + Sync>;
/// Makes the reply of a route from the request and the object that it made, changed or read.
pub type ReplyMaker = Box<dyn Fn(&RequestView<'_>, &Object) -> ScriptedReply + Send + Sync>;
/// Whether a request carries the right credentials.
pub type AuthCheck = Box<dyn Fn(&Knock<'_>) -> bool + Send + Sync>;
/// Answers a request to the token endpoint.
pub type TokenMaker = Box<dyn Fn(&Knock<'_>) -> ScriptedReply + Send + Sync>;
/// Makes the body of a refusal from status, class word and message.
pub type ErrorMaker = Box<dyn Fn(u16, &str, &str) -> Value + Send + Sync>;

/// The path of the token endpoint. Requests to it are in the journal, with their body hidden in its file,
/// and are not counted among those that the API got.
pub const TOKEN_PATH: &str = "/.sandbox/token";

/// A request as it stands at the door: all that can prove who sends it.
#[derive(Debug, Clone, Copy)]
pub struct Knock<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path as it was sent.
    pub path: &'a str,
    /// The query as it was sent, without `?`.
    pub query: &'a str,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: &'a [u8],
}

/// The API that is stood in for.
pub struct Rules {
    /// The calls it knows.
    pub routes: Vec<Route>,
    /// How credentials are checked; `None` lets everybody in.
    pub auth: Option<AuthCheck>,
    /// The token endpoint, at [`TOKEN_PATH`], which needs no further credentials.
    pub token: Option<TokenMaker>,
    /// The shape of a refusal.
    pub error: ErrorMaker,
    /// What carries credentials: written as `***` to the journal's file, and no filter of a list.
    pub secrets: SecretNames,
}

impl Rules {
    /// Rules with these routes, without credentials, with refusals as `{ code, status, message }`.
    #[must_use]
    pub fn new(routes: Vec<Route>) -> Self {
        let error = |status: u16, class: &str, message: &str| serde_json::json!({ "code": status, "status": class, "message": message });
        Self { routes, auth: None, token: None, error: Box::new(error), secrets: SecretNames::default() }
    }
}

/// Names of what carries credentials. `Authorization`, `Proxy-Authorization` and `Cookie` always
/// do.
#[derive(Debug, Clone, Default)]
pub struct SecretNames {
    /// Headers.
    pub headers: Vec<HeaderName>,
    /// Query parameters.
    pub query: Vec<String>,
}

/// One call of the API.
pub struct Route {
    /// Its name, such as `freshchat/create-user`.
    pub name: String,
    /// Its method.
    pub method: Method,
    /// Its path, the base path included.
    pub path: PathPattern,
    /// What is checked on the parsed body before anything is stored.
    pub check_body: Option<CheckBody>,
    /// Makes the reply instead of the stored object. A route with a reply never answers 404: what
    /// it names and is not there is made.
    pub reply: Option<ReplyMaker>,
    /// Fields of which no two objects of the collection may hold the same value.
    pub unique: Vec<String>,
    /// The reply to an object whose unique field is taken; it gets the one that has it.
    pub unique_reply: Option<ReplyMaker>,
    /// The header whose value makes a repeat harmless: the first effect is answered again.
    pub idempotency: Option<HeaderName>,
    /// Whether the body is JSON.
    pub content_json: bool,
    /// Where a request holds several objects.
    pub batch: Option<BatchRoute>,
}

/// How a request holds several objects, and how it is answered.
pub struct BatchRoute {
    /// Whether the reply tells of each object; else all are made or none.
    pub tells_each: bool,
    /// Where the body is NDJSON: how many lines make one item; its last is the object.
    pub lines: Option<usize>,
    /// What is checked of each object.
    pub check: Option<CheckBody>,
    /// Makes the reply.
    pub reply: BatchReplyMaker,
}

/// Makes the reply to several objects.
pub type BatchReplyMaker = Box<dyn Fn(&RequestView<'_>, Vec<ItemResult>) -> ScriptedReply + Send + Sync>;

/// What became of one object of several.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemResult {
    /// 201, or why not.
    pub status: u16,
    /// The class word of a refusal.
    pub class: &'static str,
    /// Its message.
    pub message: String,
    /// The object as it is, or would be, stored.
    pub object: Object,
    /// What was sent.
    pub item: Value,
}

impl BatchRoute {
    /// The items of a body: its lines, itself if it is a list, or the first list in it.
    pub(super) fn items(&self, body: &[u8]) -> Vec<Value> {
        if let Some(lines) = self.lines {
            let all: Vec<Value> =
                serde_json::Deserializer::from_slice(body).into_iter().map_while(Result::ok).collect();
            return all.chunks(lines.max(1)).filter_map(<[Value]>::last).cloned().collect();
        }
        match serde_json::from_slice(body).unwrap_or_default() {
            Value::Array(items) => items,
            Value::Object(map) => map
                .into_iter()
                .find_map(|(_, value)| match value {
                    Value::Array(items) => Some(items),
                    _ => None,
                })
                .unwrap_or_default(),
            _ => Vec::new(),
        }
    }
}

impl Route {
    /// A plain JSON route.
    #[must_use]
    pub fn new(name: impl Into<String>, method: Method, path: PathPattern) -> Self {
        Self {
            name: name.into(),
            method,
            path,
            check_body: None,
            reply: None,
            unique: Vec::new(),
            unique_reply: None,
            idempotency: None,
            content_json: true,
            batch: None,
        }
    }
}

/// A request as closures see it.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path as it was sent, without query.
    pub path: &'a str,
    /// The decoded query.
    pub query: &'a [(String, String)],
    /// The decoded values of the path's named segments.
    pub params: &'a [(String, String)],
    /// All headers.
    pub headers: &'a HeaderMap,
    /// The parsed body; null without one, text when it is not JSON.
    pub body: &'a Value,
}

/// An object of a collection.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Its id; empty for a path without one.
    pub id: String,
    /// All of it, `id` included.
    pub json: Value,
}

/// A reply.
#[derive(Debug, Clone, PartialEq)]
pub struct ScriptedReply {
    /// The status.
    pub status: u16,
    /// Headers; the length is added.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl ScriptedReply {
    /// A reply with a JSON body.
    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        Self::json_bytes(status, body.to_string())
    }

    /// A reply with a body that is JSON already.
    #[must_use]
    pub fn json_bytes(status: u16, body: impl Into<Bytes>) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self { status, headers, body: body.into() }
    }

    /// A reply without a body.
    #[must_use]
    pub const fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new() }
    }
}

/// A path of literal and named segments, such as `/v2/users/{user_id}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern(Vec<Segment>);

/// One segment: `name` is `None` when all of it is literal (`before` alone).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment {
    before: String,
    name: Option<String>,
    after: String,
}

impl PathPattern {
    /// Reads a pattern. A segment holds at most one name: `user-{id}.json`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix('/').ok_or("a path begins with `/`")?;
        if rest.contains(['?', '#']) {
            return Err("a path has no query and no fragment".to_owned());
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        rest.split('/').map(Segment::parse).collect::<Result<_, _>>().map(Self)
    }

    /// The decoded values of the named segments, if the path is of this form.
    #[must_use]
    pub fn matches(&self, path: &str) -> Option<Vec<(String, String)>> {
        let mut found = Vec::new();
        let mut segments = path.strip_prefix('/')?.split('/');
        for segment in &self.0 {
            let written = segments.next()?;
            match &segment.name {
                None if written == segment.before => {}
                None => (percent_decode_str(written).decode_utf8_lossy() == segment.before).then_some(())?,
                Some(name) => {
                    let text = percent_decode_str(written).decode_utf8_lossy();
                    let value = text.strip_prefix(&*segment.before)?.strip_suffix(&*segment.after)?;
                    if value.is_empty() {
                        return None;
                    }
                    found.push((name.clone(), value.to_owned()));
                }
            }
        }
        segments.next().is_none().then_some(found)
    }

    /// How many segments are literal: of two patterns that fit, the more literal one is meant.
    pub(super) fn literals(&self) -> usize {
        self.0.iter().filter(|segment| segment.name.is_none()).count()
    }

    /// Whether the last segment is named: the path of one object.
    pub(super) fn is_item(&self) -> bool {
        self.0.last().is_some_and(|last| last.name.is_some())
    }

    /// The pattern of the collection: itself, or without the last segment where that is an id.
    pub(super) fn collection(&self) -> Self {
        let keep = self.0.len() - usize::from(self.is_item());
        Self(self.0.iter().take(keep).cloned().collect())
    }

    /// The pattern of one object of this collection.
    pub(super) fn item(&self) -> Self {
        let id = Segment { before: String::new(), name: Some("id".to_owned()), after: String::new() };
        Self(self.0.iter().cloned().chain([id]).collect())
    }

    /// The pattern with all names left out: equal for all that speak of the same collection.
    pub(super) fn shape(&self) -> String {
        let mut out = String::new();
        for segment in &self.0 {
            out.push('/');
            out.push_str(&segment.before);
            if segment.name.is_some() {
                out.push_str("{}");
                out.push_str(&segment.after);
            }
        }
        out
    }

    /// The last literal segment: what a list of the collection is called.
    pub(super) fn noun(&self) -> &str {
        self.0.iter().rev().find(|segment| segment.name.is_none()).map_or("items", |last| &last.before)
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a path has no empty segment".to_owned());
        }
        let Some((before, rest)) = text.split_once('{') else {
            if text.contains('}') {
                return Err("`}` without `{`".to_owned());
            }
            return Ok(Self { before: text.to_owned(), name: None, after: String::new() });
        };
        let (name, after) = rest.split_once('}').ok_or("`{` without `}`")?;
        if name.is_empty() || after.contains(['{', '}']) || name.contains('{') {
            return Err("a segment holds at most one `{name}`".to_owned());
        }
        Ok(Self { before: before.to_owned(), name: Some(name.to_owned()), after: after.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_takes_whole_decoded_segments() {
        let cases: [(&str, &str, Option<&[&str]>); 9] = [
            ("/v2/users", "/v2/users", Some(&[])),
            ("/v2/users/", "/v2/users", Some(&[])),
            ("/v2/users", "/v2/users/", None),
            ("/v2/users", "/v2//users", None),
            ("/v2/users/{id}", "/v2/users/a%2Fb", Some(&["a/b"])),
            ("/v2/users/{id}", "/v2/users/", None),
            ("/v2/users/{id}", "/v2/users/a/b", None),
            ("/u-{id}.json", "/u-7.json", Some(&["7"])),
            ("/u s/{a}/x/{b}", "/u%20s/1/x/%C3%BC", Some(&["1", "ü"])),
        ];
        for (pattern, path, expected) in cases {
            let found = PathPattern::parse(pattern).unwrap().matches(path);
            let values = found.map(|found| found.into_iter().map(|(_, value)| value).collect::<Vec<_>>());
            assert_eq!(values, expected.map(|all| all.iter().map(ToString::to_string).collect()), "{path}");
        }
    }

    #[test]
    fn a_pattern_that_is_none_is_refused() {
        for bad in ["", "users", "/a//b", "/a/{", "/a/}", "/a/{}", "/a/{b}{c}", "/a?b=c"] {
            assert!(PathPattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn routes_of_one_collection_share_their_shape() {
        let shape = |text| PathPattern::parse(text).unwrap().collection().shape();
        assert_eq!(shape("/v2/c/{conversation_id}/messages"), shape("/v2/c/{id}/messages/{message}"));
        assert_eq!(PathPattern::parse("/v2/users/{id}").unwrap().noun(), "users");
    }
}
