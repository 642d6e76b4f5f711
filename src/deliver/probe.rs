//! Looks whether a request in doubt was applied: the `reconcile:` of an endpoint.
//!
//! Pure: it makes the look's request and reads its reply; sending and waiting are the loop's.
//! Invariant (ruling 12): exactly one of `applied` and `not_applied` being true decides. Both,
//! neither, a reply that cannot be read, or a status outside 2xx that no expression reads, decide
//! nothing.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Connection, Endpoint, Reconcile, RecordLimits};
use crate::model::{Diagnostic, Lost, Mask, Problems, Reply, Request, Str, Value};
use crate::render::{CallTemplate, Context, Known, Leaf, RenderError, RequestTemplate, Root, Scope};

use super::exchange::{self, Needs};
use super::headers;
use super::reading::shortened;

/// A `reconcile:` block, compiled once.
pub struct Prober {
    /// Wait before each look: a slow far side may still act.
    pub after: Duration,
    /// Looks in all.
    pub tries: NonZeroU32,
    call: CallTemplate,
    applied: Leaf,
    not_applied: Option<Leaf>,
    captures: Vec<(Str, Leaf)>,
    needs: Needs,
    limits: RecordLimits,
    mask: Mask,
}

/// What one look found.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// The write is there, with what was captured of it; an object, or absent.
    Applied(Value),
    /// It certainly is not.
    NotApplied,
    /// Nobody can tell yet: why, and the wait that the far side asked for.
    Unclear(String, Option<Duration>),
    /// The credentials were refused: no look will tell anything. Why, where it was not the usual 401.
    Refused(String),
}

impl Prober {
    /// Compiles the look of an endpoint that has one. `scope` says what is known of `record`,
    /// `vars` and the like.
    pub fn compile(
        endpoint: &Endpoint,
        connection: &Connection,
        scope: &Scope,
        mask: Mask,
        problems: &mut Problems,
    ) -> Option<Self> {
        let reconcile = endpoint.reconcile.as_ref()?;
        let errors = problems.errors();
        let asks = RequestTemplate::scope(endpoint, connection, scope).allow(Root::Request, Known::Any);
        let Reconcile { method, path, query, .. } = reconcile;
        let call = CallTemplate::compile(method, path, query, connection, &asks, problems);
        let reads = asks.allow(Root::Response, Known::Any);
        let mut leaf = |template| Leaf::compile(template, &reads, problems);
        let applied = leaf(&reconcile.applied);
        let not_applied = reconcile.not_applied.as_ref().and_then(&mut leaf);
        let captures: Vec<(Str, Leaf)> = reconcile
            .captures
            .iter()
            .filter_map(|(name, template)| Some((Str::from(name.value.as_str()), leaf(template)?)))
            .collect();
        let (call, applied) = (call?, applied?);
        lint(endpoint, &call, &applied, problems);
        let all = std::iter::once(&applied).chain(&not_applied).chain(captures.iter().map(|(_, leaf)| leaf));
        let needs = Needs::of(all);
        let prober = Self {
            after: reconcile.after,
            tries: reconcile.tries,
            call,
            applied,
            not_applied,
            captures,
            needs,
            limits: RecordLimits::default(),
            mask,
        };
        (problems.errors() == errors).then_some(prober)
    }

    /// The look for a request in doubt. `context` is that of its record, after it was rendered.
    pub fn request(&self, context: &Context, sent: &Request) -> Result<Request, RenderError> {
        self.call.render(&self.about(context, sent))
    }

    /// Reads the end of a look.
    #[must_use]
    pub fn read(&self, context: &Context, sent: &Request, reply: &Reply) -> Found {
        let arrived = match reply {
            Reply::Arrived(arrived) => arrived,
            Reply::Lost(lost) if lost.class == Lost::TOKEN_REFUSED => {
                return Found::Refused(shortened(&self.mask.apply(&lost.message)));
            }
            Reply::Lost(lost) => return Found::Unclear(shortened(&lost.message), lost.asked),
        };
        let status = arrived.status;
        if status == http::StatusCode::UNAUTHORIZED && !self.reads_status() {
            return Found::Refused(String::new());
        }
        let (response, readable) = exchange::response(arrived, &self.needs, &self.limits);
        if !readable {
            let why = format!(
                "answered {}, and its body is cut, too large or not as its type says",
                status.as_u16()
            );
            return Found::Unclear(why, None);
        }
        let context = self.about(context, sent).with(Root::Response, Arc::new(response));
        // Another status than success speaks of the write only to who asks for it.
        let holds = |leaf: &Leaf| (status.is_success() || reads_status(leaf)) && leaf.lenient_truth(&context);
        match (holds(&self.applied), self.not_applied.as_ref().is_some_and(holds)) {
            (true, false) => Found::Applied(exchange::capture(&self.captures, &context, &self.mask).0),
            (false, true) => Found::NotApplied,
            (both, _) => {
                let which = if both {
                    "both `applied` and `not_applied` hold"
                } else {
                    "neither `applied` nor `not_applied` holds"
                };
                let asked = headers::retry_after(&arrived.headers, std::time::SystemTime::now());
                Found::Unclear(format!("answered {}, and {which}", status.as_u16()), asked)
            }
        }
    }

    fn about(&self, context: &Context, sent: &Request) -> Context {
        let params = context.get(Root::Params).map(AsRef::as_ref);
        let request = exchange::request(sent, params, &self.limits);
        context.clone().with(Root::Request, Arc::new(request))
    }

    fn reads_status(&self) -> bool {
        reads_status(&self.applied) || self.not_applied.as_ref().is_some_and(reads_status)
    }
}

fn reads_status(leaf: &Leaf) -> bool {
    leaf.reads().any(|path| path == "response" || path.starts_with("response.status"))
}

/// `applied` has to recognise this write (ruling 12): what another write could have set as well
/// proves nothing.
fn lint(endpoint: &Endpoint, call: &CallTemplate, applied: &Leaf, problems: &mut Problems) {
    let knows_time_or_key = applied.reads().any(|path| {
        ["run", "request.headers"].iter().any(|root| {
            path == *root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with(['.', '[']))
        })
    });
    // A search by what the request held finds what it made; the path of an update only names what
    // it changed.
    let by_what_was_sent = call.reads().any(|path| {
        ["request", "record", "params"].iter().any(|root| path.split(['.', '[']).next() == Some(root))
    });
    let searches = endpoint.method.value == http::Method::POST
        && (by_what_was_sent || applied.reads().any(|path| path.starts_with("request.")));
    if knows_time_or_key || searches {
        return;
    }
    problems.push(
        Diagnostic::warning(
            "reconcile-weak",
            "`applied` compares only what another write could have set as well, so it does not prove that this one arrived",
        )
        .place(applied.place())
        .help("compare a time with `run.started_at`, or a reference of your own that only this request holds"),
    );
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::config::Tree;
    use crate::model::{Arrived, Place, Placed, SourceText};
    use crate::render::RunValues;

    fn written(text: &str) -> Placed<String> {
        let source = Arc::new(SourceText { path: "t".into(), text: text.into() });
        Placed::new(text.to_owned(), Place::new(source, 0..text.len()))
    }

    fn leaf(text: &str) -> Leaf {
        let scope = [Root::Response, Root::Request, Root::Params, Root::Record]
            .into_iter()
            .fold(Scope::new(), |scope, root| scope.allow(root, Known::Any));
        Leaf::compile(&written(text), &scope, &mut Problems::new()).expect(text)
    }

    /// What a look finds, with `applied`, `not_applied`, the status and the body of its reply.
    fn check(applied: &str, not_applied: &str, status: u16, body: &str) -> Found {
        let (applied, not_applied) = (leaf(applied), (!not_applied.is_empty()).then(|| leaf(not_applied)));
        let captures = vec![("id".into(), leaf("{{ response.body.id }}"))];
        let read = captures.iter().map(|(_, leaf)| leaf);
        let needs = Needs::of(std::iter::once(&applied).chain(&not_applied).chain(read));
        let connection = crate::config::fixtures::connection("http://127.0.0.1:1/");
        let call = CallTemplate::compile(
            &http::Method::GET,
            &written("/things"),
            &[(written("ref"), Tree::Text(written("{{ request.body.ref }}")))],
            &connection,
            &Scope::new().allow(Root::Request, Known::Any),
            &mut Problems::new(),
        )
        .expect("a call");
        let prober = Prober {
            after: Duration::ZERO,
            tries: NonZeroU32::MIN,
            call,
            applied,
            not_applied,
            captures,
            needs,
            limits: RecordLimits::default(),
            mask: Mask::default(),
        };
        let sent = Request {
            method: http::Method::POST,
            url: "http://127.0.0.1:1/things".parse().expect("a URL"),
            headers: HeaderMap::new(),
            body: Bytes::from_static(br#"{"ref":"r 1"}"#),
            form: None,
        };
        let context = Context::new(RunValues::of_nobody());
        let look = prober.request(&context, &sent).expect("a look");
        assert_eq!(look.url.as_str(), "http://127.0.0.1:1/things?ref=r%201");
        let reply = if status == 0 {
            Reply::Lost(Lost { certain: true, class: "connect", message: "refused".into(), asked: None })
        } else {
            Reply::Arrived(Arrived {
                status: StatusCode::from_u16(status).expect("a status"),
                headers: HeaderMap::new(),
                body: Bytes::copy_from_slice(body.as_bytes()),
                complete: true,
            })
        };
        prober.read(&context, &sent, &reply)
    }

    const THERE: &str = "{{ response.body.ref == request.body.ref }}";
    const GONE: &str = "{{ response.body.ref == 'none' }}";

    #[test]
    fn exactly_one_true_expression_decides() {
        let mut captured = crate::model::Map::new();
        captured.push("id", Value::text("7"));
        let applied = Found::Applied(Value::Object(captured));
        assert_eq!(check(THERE, GONE, 200, r#"{"ref":"r 1","id":"7"}"#), applied);
        assert_eq!(check(THERE, GONE, 200, r#"{"ref":"none"}"#), Found::NotApplied);
        for (there, gone, body) in [
            (THERE, GONE, r#"{"ref":"other"}"#),
            (THERE, "{{ response.body.ref == 'r 1' }}", r#"{"ref":"r 1"}"#),
            (THERE, "", r#"{"ref":"none"}"#),
            (THERE, GONE, "[]"),
            (THERE, GONE, "{ not json"),
        ] {
            assert!(matches!(check(there, gone, 200, body), Found::Unclear(..)), "{there} {gone} {body}");
        }
        assert!(matches!(check(THERE, GONE, 0, ""), Found::Unclear(..)));
    }

    #[test]
    fn a_refusal_decides_only_where_an_expression_names_its_status() {
        let named = "{{ response.status == 404 }}";
        assert_eq!(check(THERE, named, 404, r#"{"ref":"r 1"}"#), Found::NotApplied);
        assert!(matches!(check(THERE, GONE, 404, r#"{"ref":"none"}"#), Found::Unclear(..)));
        assert!(matches!(check(THERE, named, 500, r#"{"ref":"r 1"}"#), Found::Unclear(..)));
        assert_eq!(check(THERE, GONE, 401, "{}"), Found::Refused(String::new()));
    }
}
