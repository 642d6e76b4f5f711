//! A whole request of two texts: each arrives as that very text at its position, or is refused.
//! A value never adds or drops a segment, never leads to a parent, never moves the host (S12,
//! S15, S16).

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use url::{Url, form_urlencoded};

use super::common::{Input, check_diagnostic, connection, endpoint, run, template};
use crate::config::{BodyFile, Content, Endpoint, Escape, Tree};
use crate::model::Problems;
use crate::model::Request;
use crate::model::Value;
use crate::render::Context;
use crate::render::Known;
use crate::render::RenderError;
use crate::render::RequestTemplate;
use crate::render::Root;
use crate::render::Scope;

const BASES: [&str; 4] = [
    "https://api.example.com/v2",
    "https://api.example.com",
    "http://[::1]:8080/a/b/",
    "http://127.0.0.1:81",
];
const PATHS: [&str; 7] = [
    "/users/{{ record.id }}",
    "/{{ record.id }}/x",
    "/a-{{ record.id }}.json",
    "/.{{ record.id }}",
    "/%2e{{ record.id }}/y",
    "/{{ record.id }}{{ record.id }}",
    "/",
];

/// The target.
pub fn path(data: &[u8]) {
    let mut input = Input::new(data);
    let base = input.choice(&BASES);
    let path = input.below(PATHS.len() + 1);
    let kind = input.below(6);
    let (id, other) = (input.text(), input.text());
    let own = input.text();
    let mut record = crate::model::Map::new();
    record.push("id", Value::text(&*id));
    record.push("x", Value::text(&*other));
    let record = Arc::new(Value::Object(record));
    let Some(path) = PATHS.get(path) else {
        // Whatever an author writes as a path, the host stays and the query is ours.
        let made = EndpointOf { path: &own, kind: Kind::None };
        if let Some(request) = made.request(base, &record).and_then(Result::ok) {
            check_host(base, &request.url);
            check_query(&request.url, &other);
        }
        return;
    };
    let made = EndpointOf { path, kind: Kind::ALL[kind] };
    let request = made.request(base, &record).expect("a good endpoint");
    match request {
        Ok(request) => {
            check_host(base, &request.url);
            check_query(&request.url, &other);
            check_path(base, path, &request.url, &id);
            made.check_body(&request, &id, &other);
            let again =
                made.request(base, &record).expect("a good endpoint").expect("it was rendered before");
            assert_eq!(again.digest(), request.digest(), "the same record gives other bytes");
            assert_eq!((again.url, again.headers, again.body), (request.url, request.headers, request.body));
        }
        Err(error) if error.rule == "path-value" => {
            check_diagnostic(&error.clone().into());
            assert!(may_be_refused(&id), "{id:?} is refused: {error:?}");
        }
        // An XML document has no place for some characters.
        Err(error) if error.rule == "xml-character" => {
            assert!(
                id.chars()
                    .chain(other.chars())
                    .any(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
            );
        }
        Err(error) => panic!("{error:?}"),
    }
    check_header(base, &record, &other);
}

/// What `content` and `body` are tried in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Form,
    Ndjson,
    Text,
    JsonFile,
    XmlFile,
    None,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Json, Self::Form, Self::Ndjson, Self::Text, Self::JsonFile, Self::XmlFile];
}

struct EndpointOf<'p> {
    path: &'p str,
    kind: Kind,
}

impl EndpointOf<'_> {
    fn endpoint(&self) -> Endpoint {
        let place = || template("x").place;
        let text = |text: &str| Tree::Text(template(text));
        let map = || {
            let entries = [("v", "{{ record.id }}"), ("w", "a {{ record.x }} b")];
            Tree::Map(entries.map(|(name, value)| (template(name), text(value))).into(), place())
        };
        let file = |content: &str, escape| Some(BodyFile { text: template(content), escape });
        let (content, body, body_file) = match self.kind {
            Kind::Json => (Content::Json, Some(map()), None),
            Kind::Form => (Content::Form, Some(map()), None),
            Kind::Ndjson => (Content::Ndjson, Some(Tree::List(vec![map(), map()], place())), None),
            Kind::Text => (Content::Text, Some(text("{{ record.id }}|{{ record.x }}")), None),
            Kind::JsonFile => (
                Content::Json,
                None,
                file("{\"v\": {{ record.id }}, \"w\": {{ \"a \" ~ record.x ~ \" b\" }}}", Escape::Json),
            ),
            Kind::XmlFile => (Content::Text, None, file("<v>{{ record.id }}</v>{{ record.x }}", Escape::Xml)),
            Kind::None => (Content::None, None, None),
        };
        let query = vec![(template("q"), text("{{ record.x }}"))];
        Endpoint { query, content, body, body_file, ..endpoint(self.path) }
    }

    fn request(&self, base: &str, record: &Arc<Value>) -> Option<Result<Request, RenderError>> {
        render(&self.endpoint(), base, record)
    }

    fn check_body(&self, request: &Request, id: &str, other: &str) {
        let text = std::str::from_utf8(&request.body).expect("our bodies are UTF-8");
        let json = |text: &str| {
            let value: serde_json::Value = serde_json::from_str(text).expect("a JSON body");
            assert_eq!(value, serde_json::json!({ "v": id, "w": format!("a {other} b") }));
        };
        match self.kind {
            Kind::Json | Kind::JsonFile => json(text),
            Kind::Form => {
                let pairs: Vec<_> = form_urlencoded::parse(text.as_bytes()).collect();
                let second = format!("a {other} b");
                assert_eq!(pairs, [("v".into(), id.into()), ("w".into(), second.into())]);
            }
            Kind::Ndjson => {
                let lines: Vec<_> = text.lines().collect();
                assert_eq!(lines.len(), 2, "{text}");
                lines.into_iter().for_each(json);
            }
            Kind::Text => assert_eq!(text, format!("{id}|{other}")),
            Kind::XmlFile => {
                let inside = text.strip_prefix("<v>").and_then(|text| text.split_once("</v>"));
                let (first, second) = inside.expect("the elements of the template");
                assert_eq!((xml(first), xml(second)), (id.to_owned(), other.to_owned()));
            }
            Kind::None => assert_eq!(text, ""),
        }
    }
}

/// Text of an XML document as a reader has it.
fn xml(text: &str) -> String {
    assert!(!text.contains(['<', '>', '"']), "{text}");
    let mut out = String::new();
    let mut parts = text.split('&');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (name, rest) = part.split_once(';').expect("an entity");
        let code = name.strip_prefix("#x").map(|hex| u32::from_str_radix(hex, 16));
        let code = code.or_else(|| name.strip_prefix('#').map(str::parse));
        out.push(match (name, code) {
            (_, Some(code)) => code.ok().and_then(char::from_u32).expect("a character"),
            ("lt", _) => '<',
            ("gt", _) => '>',
            ("amp", _) => '&',
            ("quot", _) => '"',
            ("apos", _) => '\'',
            (other, _) => panic!("&{other};"),
        });
        out.push_str(rest);
    }
    out
}

/// `None` when the endpoint does not compile.
fn render(endpoint: &Endpoint, base: &str, record: &Arc<Value>) -> Option<Result<Request, RenderError>> {
    let scope = Scope::new().allow(Root::Record, Known::Any);
    let mut problems = Problems::new();
    let made = RequestTemplate::compile(endpoint, &connection(base), &[], &scope, &mut problems);
    problems.all().iter().for_each(check_diagnostic);
    assert!(made.is_some() || problems.has_errors(), "nothing says why there is no template");
    let made = made.filter(|_| !problems.has_errors())?;
    let mut context = Context::new(run()).with(Root::Record, Arc::clone(record));
    Some(made.render(&mut context).and_then(|draft| draft.finish(None, 1 << 24)))
}

fn check_host(base: &str, url: &Url) {
    let base = Url::parse(base).expect("a base of ours");
    assert_eq!((url.scheme(), url.host(), url.port()), (base.scheme(), base.host(), base.port()));
    assert_eq!((url.username(), url.password(), url.fragment()), ("", None, None), "{url}");
}

fn check_query(url: &Url, other: &str) {
    let pairs: Vec<_> = url.query_pairs().collect();
    assert_eq!(pairs, [("q".into(), other.into())], "{url}");
}

/// Each segment is the one that the template has there, with the value in its place.
fn check_path(base: &str, path: &str, url: &Url, id: &str) {
    let base = Url::parse(base).expect("a base of ours");
    let expected = format!("{}{path}", base.path().trim_end_matches('/'));
    let expected: Vec<_> =
        expected.split('/').map(|segment| decoded(segment).replace("{{ record.id }}", id)).collect();
    let found: Vec<_> = url.path().split('/').map(decoded).collect();
    assert_eq!(found, expected, "{url}");
    for segment in &found {
        let twice = decoded(segment);
        assert!(![".", ".."].contains(&segment.as_str()) && ![".", ".."].contains(&twice.as_str()), "{url}");
        assert!(!segment.contains(char::is_control) && !twice.contains(char::is_control), "{url}");
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// A text that cannot be a segment, or could lead elsewhere where it stands beside a dot.
fn may_be_refused(id: &str) -> bool {
    let once = decoded(id);
    let dots = |text: &str| text.chars().all(|c| c == '.') && text.len() <= 2;
    id.is_empty()
        || id.contains(char::is_control)
        || once.contains(char::is_control)
        || dots(id)
        || dots(&once)
}

fn check_header(base: &str, record: &Arc<Value>, other: &str) {
    let mut endpoint = EndpointOf { path: "/", kind: Kind::None }.endpoint();
    endpoint.headers = vec![(template("X-Text"), template("{{ record.x }}"))];
    match render(&endpoint, base, record).expect("a good endpoint") {
        Ok(request) => {
            let values: Vec<_> =
                request.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
            assert_eq!(values, [("x-text", other.as_bytes())]);
        }
        Err(error) => {
            assert_eq!(error.rule, "header-value");
            assert!(other.chars().any(|c| !matches!(c, ' '..='~')), "{other:?} is refused: {error:?}");
        }
    }
}
