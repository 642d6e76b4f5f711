//! The sandbox for a project: its endpoints as routes of the stand-in.
//!
//! The stand-in itself knows data and closures only; here templates, schemas and credentials of a
//! connector become its rules, so that the same YAML that sends also answers.

mod auth;
mod lists;

use std::sync::Arc;

use crate::config::{Carrier, Connection, Content, Endpoint, Idempotency, SandboxReply, SandboxSpec, Tree};
use crate::model::{Failure, Map, Number, Problems, Value};
use crate::render::{Context, Known, Nulls, RenderError, Root, RunValues, Scope, TreeTemplate};
use crate::sandbox::{
    BatchReplyMaker, BatchRoute, ItemResult, Object, PathPattern, ReplyMaker, RequestView, Route, Rules,
    ScriptedReply,
};
use crate::schema::Schema;

pub use lists::example;

/// The name of the sandbox's target: its state lies apart from the real one.
pub const SANDBOX: &str = "sandbox";

/// What stands for a secret in the sandbox.
pub const SANDBOX_SECRET: &str = "sandbox-token";

/// Points a connection at a stand-in: its address, and secrets that it accepts.
pub fn redirect(connection: &mut Connection, url: &str) {
    let prefix = base_path(&connection.base_url);
    connection.base_url = format!("{}{prefix}", url.trim_end_matches('/'));
    auth::redirect(&mut connection.auth, url);
    connection.unset.clear();
    connection.proxy = None;
    connection.secrets.clear();
    for credential in &mut connection.credentials {
        credential.parts.iter_mut().for_each(auth::hide);
        if let Carrier::AwsSigV4 { region, service } = &mut credential.carrier {
            region.iter_mut().chain(service).for_each(auth::hide);
        }
    }
}

/// The path of a base URL, without a slash at its end.
fn base_path(base_url: &str) -> String {
    let after_host =
        base_url.split("://").nth(1).and_then(|rest| rest.split_once('/')).map_or("", |(_, path)| path);
    if after_host.is_empty() { String::new() } else { format!("/{}", after_host.trim_end_matches('/')) }
}

/// The rules of a stand-in for the endpoints of one connection.
pub fn rules(
    connection: &Connection,
    endpoints: &[Endpoint],
    root: &std::path::Path,
) -> Result<Rules, Failure> {
    let mut problems = Problems::new();
    let base = base_path(&connection.base_url);
    let mut routes: Vec<Route> = endpoints
        .iter()
        .filter_map(|endpoint| route(endpoint, &base, connection, root, &mut problems))
        .collect();
    routes.extend(check_route(connection, endpoints, &base, &mut problems));
    let mut rules = Rules::new(routes);
    rules.auth = auth::credentials(connection);
    rules.token = auth::tokens(connection);
    rules.secrets = auth::secret_names(connection);
    if let Some(tree) = &connection.sandbox_error
        && let Some(error) = error_shape(tree, connection, &mut problems)
    {
        rules.error = error;
    }
    if problems.has_errors() { Err(Failure::config(problems)) } else { Ok(rules) }
}

/// The call of `check-connection`, unless an endpoint is the same call: it is answered with 200.
fn check_route(
    connection: &Connection,
    endpoints: &[Endpoint],
    base: &str,
    problems: &mut Problems,
) -> Option<Route> {
    let check = connection.check.as_ref()?;
    let path = named_segments(&check.path.value);
    let same = |endpoint: &Endpoint| {
        endpoint.method.value == check.method && named_segments(&endpoint.path.value) == path
    };
    if endpoints.iter().any(same) {
        return None;
    }
    match PathPattern::parse(&format!("{base}{path}")) {
        Ok(pattern) => {
            let mut route = Route::new("check", check.method.clone(), pattern);
            route.reply = Some(Box::new(|_, _| ScriptedReply::json(200, &serde_json::json!({}))));
            Some(route)
        }
        Err(message) => {
            problems.at("sandbox-path", &check.path.place, message);
            None
        }
    }
}

fn route(
    endpoint: &Endpoint,
    base: &str,
    connection: &Connection,
    root: &std::path::Path,
    problems: &mut Problems,
) -> Option<Route> {
    let pattern = match PathPattern::parse(&format!("{base}{}", named_segments(&endpoint.path.value))) {
        Ok(pattern) => pattern,
        Err(message) => {
            problems.at("sandbox-path", &endpoint.path.place, message);
            return None;
        }
    };
    let mut route = Route::new(&endpoint.name, endpoint.method.value.clone(), pattern);
    route.content_json = endpoint.content == Content::Json;
    if let Idempotency::Header { name, .. } = &endpoint.idempotency {
        route.idempotency = name.parse().ok();
    }
    if let Some(named) = &endpoint.body_schema {
        let schema = Schema::load(root, &named.value, &named.place, problems)?;
        route.check_body = Some(Box::new(move |body| {
            schema.check(&Value::from(body)).map_err(|violations| {
                violations
                    .iter()
                    .map(|found| format!("{} {}", found.pointer, found.message))
                    .collect::<Vec<_>>()
                    .join("; ")
            })
        }));
    }
    let spec = &endpoint.sandbox;
    if let Some(batch) = &endpoint.batch {
        route.batch = Some(BatchRoute {
            tells_each: batch.replies.is_some(),
            lines: (endpoint.content == Content::Ndjson).then_some(match &batch.item {
                Some(Tree::List(parts, _)) => parts.len(),
                _ => 1,
            }),
            check: route.check_body.take(),
            reply: batch_reply_maker(spec, batch.replies.is_some(), connection, problems)?,
        });
    }
    route.unique.clone_from(&spec.unique);
    route.reply = match &spec.reply {
        // What stands around several results is made elsewhere.
        Some(_) if route.batch.is_some() => None,
        Some(reply) => Some(reply_maker(reply, connection, problems)?),
        None => lists::reply_maker(endpoint, connection, problems),
    };
    route.unique_reply = match &spec.unique_reply {
        Some(reply) => Some(reply_maker(reply, connection, problems)?),
        None => None,
    };
    Some(route)
}

/// `/conversations/{{ params.conversation_id }}` as `/conversations/{conversation_id}`.
fn named_segments(path: &str) -> String {
    let mut out = String::new();
    let mut rest = path;
    let mut count = 0;
    while let Some(start) = rest.find("{{") {
        out.push_str(&rest[..start]);
        let Some(end) = rest[start..].find("}}") else { break };
        count += 1;
        let name: String = rest[start + 2..start + end]
            .trim()
            .trim_start_matches("params.")
            .chars()
            .take_while(|char| char.is_ascii_alphanumeric() || *char == '_')
            .collect();
        let name = if name.is_empty() { format!("value_{count}") } else { name };
        out.extend(["{", &name, "}"]);
        rest = &rest[start + end + 2..];
    }
    out.push_str(rest);
    out
}

fn nobody() -> RunValues {
    RunValues { id: "sandbox".into(), pipeline: "sandbox".into(), ..RunValues::of_nobody() }
}

fn empty_context(connection: &Connection) -> Context {
    Context::new(nobody()).with(Root::Connection, Arc::new(Value::Object(connection.settings.clone())))
}

fn reply_maker(reply: &SandboxReply, connection: &Connection, problems: &mut Problems) -> Option<ReplyMaker> {
    let scope = Scope::new()
        .allow(Root::Request, Known::Any)
        .allow(Root::New, Known::Any)
        .allow(Root::Connection, Known::Any);
    let body = match &reply.body {
        Some(tree) => Some(TreeTemplate::compile(tree, &scope, Nulls::Keep, problems)?),
        None => None,
    };
    let status = reply.status;
    let headers = reply.headers.clone();
    let base = empty_context(connection);
    Some(Box::new(move |request: &RequestView<'_>, object: &Object| {
        let Some(body) = &body else {
            return ScriptedReply { headers: headers.clone(), ..ScriptedReply::empty(status) };
        };
        let mut context = base
            .clone()
            .with(Root::Request, Arc::new(request_value(request)))
            .with(Root::New, Arc::new(new_value(object)));
        // `now()` is the time of the reply.
        let now = jiff::Timestamp::now();
        let started_at = jiff::Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
        context.set_run(RunValues { started_at, ..nobody() });
        answer(body.value(&context), status, &headers)
    }))
}

/// The reply to a call with several records: `sandbox.item` is one result, made of `new`, `item`, `status`,
/// `class` and `message`; `sandbox.reply` stands around them and finds them as `batch.items`.
fn batch_reply_maker(
    spec: &SandboxSpec,
    tells_each: bool,
    connection: &Connection,
    problems: &mut Problems,
) -> Option<BatchReplyMaker> {
    let around = Scope::new().allow(Root::Request, Known::Any).allow(Root::Connection, Known::Any);
    let one = around
        .clone()
        .allow(Root::New, Known::Any)
        .allow(Root::Item, Known::Any)
        .allow(Root::Status, Known::Any)
        .allow(Root::Class, Known::Any)
        .allow(Root::Message, Known::Any);
    let around = around.allow(Root::Batch, Known::Any);
    let item = match &spec.item {
        Some(tree) => Some(TreeTemplate::compile(tree, &one, Nulls::Keep, problems)?),
        None => None,
    };
    let body = match spec.reply.as_ref().and_then(|reply| reply.body.as_ref()) {
        Some(tree) => Some(TreeTemplate::compile(tree, &around, Nulls::Keep, problems)?),
        None => None,
    };
    let status = spec.reply.as_ref().map_or(if tells_each { 207 } else { 200 }, |reply| reply.status);
    let headers = spec.reply.as_ref().map(|reply| reply.headers.clone()).unwrap_or_default();
    let base = empty_context(connection);
    Some(Box::new(move |request: &RequestView<'_>, results: Vec<ItemResult>| {
        let mut context = base.clone().with(Root::Request, Arc::new(request_value(request)));
        let mut items = Vec::with_capacity(results.len());
        for result in results {
            items.push(match &item {
                None => usual_result(&result),
                Some(item) => {
                    context.set(Root::New, Arc::new(new_value(&result.object)));
                    context.set(Root::Item, Arc::new(Value::from(&result.item)));
                    context.set(Root::Status, Arc::new(number(result.status)));
                    context.set(Root::Class, Arc::new(Value::text(result.class)));
                    context.set(Root::Message, Arc::new(Value::text(result.message.as_str())));
                    match item.value(&context) {
                        Ok(value) => value,
                        Err(error) => return broken(&error),
                    }
                }
            });
        }
        let made = match &body {
            None => {
                let mut whole = Map::new();
                whole.push("results", Value::Array(items));
                Ok(Value::Object(whole))
            }
            Some(body) => {
                let mut batch = Map::new();
                batch.push("size", number(u16::try_from(items.len()).unwrap_or(u16::MAX)));
                batch.push("items", Value::Array(items));
                body.value(&context.clone().with(Root::Batch, Arc::new(Value::Object(batch))))
            }
        };
        answer(made, status, &headers)
    }))
}

/// A reply with this body; one that cannot be made is a fault of the stand-in, and says so.
fn answer(body: Result<Value, RenderError>, status: u16, headers: &[(String, String)]) -> ScriptedReply {
    let body = match body {
        Ok(body) => body,
        Err(error) => return broken(&error),
    };
    let mut bytes = Vec::with_capacity(256);
    body.write_json(&mut bytes);
    let mut reply = ScriptedReply::json_bytes(status, bytes);
    reply.headers.extend(headers.iter().cloned());
    reply
}

fn number(number: u16) -> Value {
    Value::Number(Number::from(u64::from(number)))
}

fn broken(error: &RenderError) -> ScriptedReply {
    ScriptedReply::json(500, &serde_json::json!({ "sandbox": error.to_string() }))
}

/// One result as it is without `sandbox.item`: `{ status, id }`, or `{ status, class, message }`.
fn usual_result(result: &ItemResult) -> Value {
    let mut map = Map::with_capacity(3);
    map.push("status", number(result.status));
    if result.status == 201 {
        map.push("id", Value::text(result.object.id.as_str()));
    } else {
        map.push("class", Value::text(result.class));
        map.push("message", Value::text(result.message.as_str()));
    }
    Value::Object(map)
}

fn request_value(request: &RequestView<'_>) -> Value {
    let pairs = |pairs: &[(String, String)]| {
        let mut map = Map::with_capacity(pairs.len());
        for (name, value) in pairs {
            map.insert(name.as_str(), Value::text(value.as_str()));
        }
        Value::Object(map)
    };
    let mut map = Map::with_capacity(5);
    map.push("method", Value::text(request.method.as_str()));
    map.push("path", Value::text(request.path));
    map.push("query", pairs(request.query));
    map.push("params", pairs(request.params));
    map.push("body", Value::from(request.body));
    Value::Object(map)
}

fn new_value(object: &Object) -> Value {
    let mut map = match Value::from(&object.json) {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    map.insert("id", Value::text(object.id.as_str()));
    Value::Object(map)
}

type ErrorMaker = Box<dyn Fn(u16, &str, &str) -> serde_json::Value + Send + Sync>;

fn error_shape(tree: &Tree, connection: &Connection, problems: &mut Problems) -> Option<ErrorMaker> {
    let scope = Scope::new()
        .allow(Root::Status, Known::Any)
        .allow(Root::Class, Known::Any)
        .allow(Root::Message, Known::Any);
    let shape = TreeTemplate::compile(tree, &scope, Nulls::Keep, problems)?;
    let base = empty_context(connection);
    Some(Box::new(move |status, class, message| {
        let context = base
            .clone()
            .with(Root::Status, Arc::new(Value::Number(Number::from(u64::from(status)))))
            .with(Root::Class, Arc::new(Value::text(class)))
            .with(Root::Message, Arc::new(Value::text(message)));
        let text = shape.value(&context).map(|value| value.to_json()).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or(serde_json::Value::Null)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_in_a_path_become_named_segments() {
        assert_eq!(named_segments("/users/{{ params.user_id }}/x"), "/users/{user_id}/x");
        assert_eq!(named_segments("/a/{{ (1) }}/{{ params.b | slug }}"), "/a/{value_1}/{b}");
    }

    #[test]
    fn the_path_of_a_base_url_is_kept() {
        assert_eq!(base_path("https://a.example/v2"), "/v2");
        assert_eq!(base_path("https://a.example"), "");
        assert_eq!(base_path("https://a.example/v2/x/"), "/v2/x");
    }
}
