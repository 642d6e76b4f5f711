//! An endpoint: one call of an API, from a template file or written into a pipeline.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::connector::{RawConnector, RawErrors, RawOutcome, check_header};
use super::files::Files;
use super::raw::{Entries, FromNode, Needed, raw, words, wrong_type};
use super::read::{Kind, Node};
use super::values::{Method, Span, Status, Tries};
use super::{
    BodyFile, Content, Endpoint, Escape, Idempotency, Param, ParamKind, Reconcile, SandboxReply, SandboxSpec,
    Tree, typed,
};
use crate::model::{Diagnostic, Map, Place, Placed, Problems, Value};

raw! {
    /// An endpoint: one call of an API, as a template.
    RawEndpoint, "an endpoint" {
        /// Title for people.
        title: Option<String>,
        /// One sentence.
        summary: Option<String>,
        /// Where the API is documented.
        docs: Option<String>,
        /// Prerequisites, what comes back and why you want it.
        notes: Option<String>,
        /// The HTTP method.
        method: Needed<Placed<Method>>,
        /// The path below the base URL, with expressions; begins with `/`.
        path: Option<Placed<String>>,
        /// In a pipeline, instead of `path`: the whole URL, with the origin of the connection.
        url: Option<Placed<String>>,
        /// Declared parameters.
        params: Entries<RawParam>,
        /// Query parameters.
        query: Entries<Tree>,
        /// Headers.
        headers: Entries<Placed<String>>,
        /// What the body is: json unless said.
        content: Option<Content>,
        /// The body; the record without excluded fields and bound parameters unless said.
        body: Option<Tree>,
        /// A text body: a file beside the template, such as `order.xml.j2`.
        body_file: Option<Placed<String>>,
        /// `keep` sends keys whose value is null; `omit` leaves them out.
        nulls: Option<Nulls>,
        /// JSON Schema of the rendered body, checked before sending.
        body_schema: Option<Placed<String>>,
        /// Whether repeating a request is harmless.
        idempotency: Option<RawIdempotency>,
        /// How to find out whether a request in doubt was applied.
        reconcile: Option<RawReconcile>,
        /// Exceptions from the usual reading of a reply; before those of the connector.
        outcomes: Vec<RawOutcome>,
        /// How to read a refusal, instead of the connector's way.
        errors: Option<RawErrors>,
        /// What to keep of a good reply.
        captures: Entries<Placed<String>>,
        /// JSON Schema of replies; one that breaks it is delivered and noted.
        response_schema: Option<Placed<String>>,
        /// How the pages of a list are read; what is not said here is the connector's.
        pagination: Option<super::pagination::RawPagination>,
        /// Several records in one call: what the API takes.
        batch: Option<super::batch::RawBatch>,
        /// A record for preview, `try` and the sandbox.
        sample: Option<Map>,
        /// How the embedded stand-in behaves.
        sandbox: Option<RawSandbox>,
    }
    wrong {
        "header" => "it is written `headers: { Name: value }`",
        "response" => "what to keep of a reply is written `captures: { name: EXPRESSION }`",
        "retry" => "retries are the pipeline's: `delivery: { retry: { attempts: 4 } }`",
        "schema" => "the schema of the body is written `body_schema: FILE`",
        "auth" => "credentials belong to the connector and to connections in runner.yaml",
    }
}

raw! {
    /// A parameter of an endpoint.
    RawParam, "a parameter" {
        /// Its type; text unless said.
        r#type: Option<ParamKind>,
        /// Whether it needs a value.
        required: Option<bool>,
        /// What it is.
        description: Option<String>,
        /// Its value when nothing is bound.
        default: Option<Placed<Value>>,
    }
}

raw! {
    /// How to find out whether a request in doubt was applied.
    RawReconcile, "`reconcile`" {
        /// Wait before the first look; 5s unless said.
        after: Option<Span>,
        /// Looks in all; 3 unless said.
        tries: Option<Tries>,
        /// The look: it must change nothing.
        request: Needed<RawLook>,
        /// True when the write is there.
        applied: Needed<Placed<String>>,
        /// True when it certainly is not.
        not_applied: Option<Placed<String>>,
        /// What to keep of the look.
        captures: Entries<Placed<String>>,
    }
}

raw! {
    /// A request that changes nothing.
    RawLook, "`request`" {
        /// The method; GET unless said.
        method: Option<Placed<Method>>,
        /// The path below the base URL.
        path: Needed<Placed<String>>,
        /// Query parameters.
        query: Entries<Tree>,
    }
}

raw! {
    /// How the embedded stand-in behaves.
    RawSandbox, "`sandbox`" {
        /// A fixed reply instead of the stored object.
        reply: Option<RawReply>,
        /// With `batch`: one result in the reply, made of `new`, `item`, `status`, `class`, `message`. With
        /// `list`: one item of it, made of `new.number` and `new.id`.
        item: Option<Tree>,
        /// Of a list: how many items it has.
        list: Option<super::values::Window>,
        /// Fields of which no two objects may hold the same value.
        unique: Option<RawUnique>,
    }
}

raw! {
    /// A reply of the stand-in.
    RawReply, "a reply" {
        /// The status; 200 unless said.
        status: Option<Status>,
        /// The body.
        body: Option<Tree>,
        /// Headers.
        headers: Entries<String>,
    }
}

/// `unique: [ email ]`, or with the reply to a second one.
#[derive(Debug, Clone)]
pub(super) struct RawUnique {
    fields: Vec<String>,
    reply: Option<RawReply>,
}

raw! {
    /// Fields that are unique, with the reply to a second object.
    RawUniqueReply, "`unique`" {
        /// The fields.
        fields: Vec<String>,
        /// The reply to an object whose field is taken.
        reply: Option<RawReply>,
    }
}

impl FromNode for RawUnique {
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        if let Kind::List(_) = node.kind {
            return Some(Self { fields: Vec::read(node, what, problems)?, reply: None });
        }
        RawUniqueReply::read(node, what, problems).map(|raw| Self { fields: raw.fields, reply: raw.reply })
    }
}

words!(Content {
    "json" => Self::Json,
    "form" => Self::Form,
    "multipart" => Self::Multipart,
    "ndjson" => Self::Ndjson,
    "xml" => Self::Xml,
    "csv" => Self::Csv,
    "text" => Self::Text,
    "none" => Self::None,
});

/// What becomes of null values in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nulls {
    /// They are sent.
    Keep,
    /// Their keys are left out.
    Omit,
}

words!(Nulls {
    "keep" => Nulls::Keep,
    "omit" => Nulls::Omit,
});

/// `none`, `natural`, or a key in a header.
#[derive(Debug, Clone)]
pub(super) struct RawIdempotency(Idempotency);

raw! {
    /// A key by which the far side drops repeats.
    RawKeyHeader, "`idempotency`" {
        /// The header that carries the key.
        header: Needed<Placed<String>>,
        /// How long the far side remembers it.
        remembered: Option<Span>,
        /// The key, instead of one that is made for each record.
        value: Option<Placed<String>>,
    }
}

impl FromNode for RawIdempotency {
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        if let Kind::Map(_) = node.kind {
            let raw = RawKeyHeader::read(node, what, problems)?;
            let name = raw.header.0?;
            check_header(&name, problems);
            let remembered = raw.remembered.map(|span| span.0);
            return Some(Self(Idempotency::Header { name: name.value, remembered, value: raw.value }));
        }
        match super::raw::word(node, what, &["none", "natural"], problems)? {
            "natural" => Some(Self(Idempotency::Natural)),
            _ => Some(Self(Idempotency::None)),
        }
    }
}

impl schemars::JsonSchema for RawIdempotency {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Idempotency".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let header = generator.subschema_for::<RawKeyHeader>();
        schemars::json_schema!({ "anyOf": [{ "enum": ["none", "natural"] }, header] })
    }
}

impl schemars::JsonSchema for RawUnique {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Unique".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let (list, map) =
            (generator.subschema_for::<Vec<String>>(), generator.subschema_for::<RawUniqueReply>());
        schemars::json_schema!({ "anyOf": [list, map] })
    }
}

/// What an endpoint is made of besides its own keys.
pub(super) struct Around<'a> {
    /// `freshchat/create-user`, or `in place`.
    pub(super) name: &'a str,
    /// Where the pipeline names it.
    pub(super) place: &'a Place,
    /// Folder of the template, relative to the root; empty for one in place.
    pub(super) folder: &'a str,
    /// The connector of the connection.
    pub(super) connector: Option<&'a RawConnector>,
    /// The base URL that a whole `url` has to begin with, empty when it is not known; `None` where
    /// `url` is not possible.
    pub(super) base_url: Option<&'a str>,
}

/// Makes an endpoint, or notes what is wrong.
pub(super) fn resolve(
    raw: &RawEndpoint,
    around: &Around<'_>,
    files: &mut Files,
    problems: &mut Problems,
) -> Option<Endpoint> {
    let path = path(raw, around, problems);
    for (name, _) in &raw.headers.0 {
        check_header(name, problems);
    }
    let params = raw.params.0.iter().map(|(name, param)| resolve_param(name, param, problems)).collect();
    for (schema, rule) in [(&raw.body_schema, "body"), (&raw.response_schema, "response")] {
        if let Some(path) = schema {
            files.text(path, "schema-missing", &format!("the {rule} schema"), problems);
        }
    }
    let body_file = raw.body_file.as_ref().and_then(|path| body_file(path, around.folder, files, problems));
    if let (Some(_), Some(path)) = (&raw.body, &raw.body_file) {
        problems.at("body-twice", &path.place, "an endpoint has either `body` or `body_file`");
    }
    let outcomes = raw.outcomes.iter().chain(around.connector.iter().flat_map(|c| &c.outcomes));
    let errors = raw.errors.as_ref().or_else(|| around.connector.and_then(|c| c.errors.as_ref()));
    let sandbox = raw.sandbox.as_ref();
    let unique = sandbox.and_then(|sandbox| sandbox.unique.as_ref());
    let method = raw.method.0.clone().map(|method| method.map(|method| method.0));
    let content = raw.content.unwrap_or(match &method {
        Some(method)
            if matches!(method.value, http::Method::GET | http::Method::HEAD) && raw.body.is_none() =>
        {
            Content::None
        }
        _ => Content::Json,
    });
    let mut endpoint = Endpoint {
        name: around.name.to_owned(),
        place: around.place.clone(),
        title: raw.title.clone(),
        summary: raw.summary.clone(),
        docs: raw.docs.clone(),
        notes: raw.notes.clone(),
        method: method?,
        path: path?,
        params,
        query: raw.query.0.clone(),
        headers: raw.headers.0.clone(),
        content,
        body: raw.body.clone(),
        body_file,
        keep_nulls: raw.nulls == Some(Nulls::Keep),
        body_schema: raw.body_schema.clone(),
        idempotency: raw.idempotency.as_ref().map_or(Idempotency::None, |raw| raw.0.clone()),
        reconcile: raw.reconcile.as_ref().and_then(|raw| reconcile(raw, problems)),
        outcomes: outcomes.filter_map(|outcome| outcome.resolve(problems)).collect(),
        errors: errors.map(RawErrors::resolve).unwrap_or_default(),
        captures: raw.captures.0.clone(),
        response_schema: raw.response_schema.clone(),
        sample: raw.sample.clone(),
        sandbox: SandboxSpec {
            reply: sandbox.and_then(|sandbox| sandbox.reply.as_ref()).map(reply),
            item: sandbox.and_then(|sandbox| sandbox.item.clone()),
            list: sandbox.and_then(|sandbox| sandbox.list).map(|list| list.0),
            unique: unique.map(|unique| unique.fields.clone()).unwrap_or_default(),
            unique_reply: unique.and_then(|unique| unique.reply.as_ref()).map(reply),
        },
        batch: None,
        pagination: None,
    };
    let of_all = around.connector.and_then(|connector| connector.pagination.as_ref());
    endpoint.pagination =
        raw.pagination.as_ref().and_then(|own| super::pagination::resolve(own, of_all, &endpoint, problems));
    endpoint.batch = raw.batch.as_ref().and_then(|raw| super::batch::resolve(raw, &endpoint, problems));
    Some(endpoint)
}

fn path(raw: &RawEndpoint, around: &Around<'_>, problems: &mut Problems) -> Option<Placed<String>> {
    match (&raw.path, &raw.url) {
        (Some(path), None) => {
            check_path(path, problems);
            Some(path.clone())
        }
        (None, Some(url)) => below(url, around.base_url, problems),
        (Some(_), Some(url)) => {
            problems.at("url", &url.place, "an endpoint has either `path` or `url`");
            None
        }
        (None, None) => {
            problems.at("missing-key", &raw.place, "an endpoint needs `path`");
            None
        }
    }
}

/// The path of a whole URL that lies below the connection's base URL.
fn below(url: &Placed<String>, base_url: Option<&str>, problems: &mut Problems) -> Option<Placed<String>> {
    let Some(base_url) = base_url else {
        problems.push(
            Diagnostic::error("url", "a template has a `path`, not a whole `url`")
                .place(&url.place)
                .help("the host belongs to the connection; write `path: /…`"),
        );
        return None;
    };
    if base_url.is_empty() {
        // What is wrong with the connection has been said.
        return None;
    }
    let rest = url.value.strip_prefix(base_url).filter(|rest| rest.starts_with('/'));
    let Some(rest) = rest else {
        problems.push(
            Diagnostic::error(
                "url",
                format!("`url` does not lie below the base URL of its connection, {base_url}"),
            )
            .place(&url.place)
            .help(format!("begin it with `{base_url}/`, or write `path: /…`")),
        );
        return None;
    };
    let path = Placed::new(rest.to_owned(), url.place.clone());
    check_path(&path, problems);
    Some(path)
}

/// Checks the literal parts of a path; values are the renderer's.
pub(super) fn check_path(path: &Placed<String>, problems: &mut Problems) {
    if !path.value.starts_with('/') {
        problems.push(
            Diagnostic::error("path", "a path begins with `/`")
                .place(&path.place)
                .help(format!("write `/{}`", path.value)),
        );
    }
    let mut literal = String::new();
    let mut rest = path.value.as_str();
    while let Some((before, behind)) = rest.split_once("{{") {
        literal.push_str(before);
        literal.push('x');
        rest = behind.split_once("}}").map_or("", |(_, rest)| rest);
    }
    literal.push_str(rest);
    for (mark, what) in [('?', "a query"), ('#', "a fragment")] {
        if literal.contains(mark) {
            problems.push(
                Diagnostic::error("path", format!("the path holds {what} (`{mark}`)"))
                    .place(&path.place)
                    .help("write queries under `query: { name: value }`"),
            );
        }
    }
    if literal.split('/').any(|segment| segment == ".." || segment == ".") {
        problems.at("path", &path.place, "the path holds a segment `.` or `..`");
    }
    if literal.chars().any(|c| c.is_control() || c == '\\') {
        problems.at("path", &path.place, "the path holds a control character or a backslash");
    }
}

fn resolve_param(name: &Placed<String>, raw: &RawParam, problems: &mut Problems) -> Param {
    let kind = raw.r#type.unwrap_or_default();
    if let Some(default) = &raw.default
        && !typed::fits(kind, &default.value)
    {
        let message = format!("the default of `{}` is not {}", name.value, kind.wanted());
        problems.at("wrong-type", &default.place, message);
    }
    Param {
        name: name.clone(),
        kind,
        required: raw.required == Some(true),
        description: raw.description.clone(),
        default: raw.default.as_ref().map(|default| default.value.clone()),
        binding: None,
    }
}

fn reconcile(raw: &RawReconcile, problems: &mut Problems) -> Option<Reconcile> {
    let look = raw.request.0.as_ref()?;
    let method = look.method.as_ref().map_or(http::Method::GET, |method| method.value.0.clone());
    if let Some(written) = &look.method
        && !matches!(method, http::Method::GET | http::Method::HEAD | http::Method::POST)
    {
        problems.push(
            Diagnostic::error(
                "reconcile",
                "the request of `reconcile` has to be a look that changes nothing",
            )
            .place(&written.place)
            .help("use GET, or POST where a search is one"),
        );
    }
    let path = look.path.0.clone()?;
    check_path(&path, problems);
    Some(Reconcile {
        after: raw.after.map_or(Duration::from_secs(5), |span| span.0),
        tries: raw.tries.map_or(NonZeroU32::MIN.saturating_add(2), |tries| tries.0),
        method,
        path,
        query: look.query.0.clone(),
        applied: raw.applied.0.clone()?,
        not_applied: raw.not_applied.clone(),
        captures: raw.captures.0.clone(),
    })
}

fn reply(raw: &RawReply) -> SandboxReply {
    SandboxReply {
        status: raw.status.map_or(200, |status| status.0),
        body: raw.body.clone(),
        headers: raw.headers.0.iter().map(|(name, value)| (name.value.clone(), value.clone())).collect(),
    }
}

fn body_file(
    path: &Placed<String>,
    folder: &str,
    files: &mut Files,
    problems: &mut Problems,
) -> Option<BodyFile> {
    let full = if folder.is_empty() { path.value.clone() } else { format!("{folder}/{}", path.value) };
    let source =
        files.text(&Placed::new(full, path.place.clone()), "body-file-missing", "the body file", problems)?;
    let name = path.value.strip_suffix(".j2").unwrap_or(&path.value);
    let ending =
        std::path::Path::new(name).extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let escape = match ending {
        "json" => Escape::Json,
        "xml" => Escape::Xml,
        _ => Escape::None,
    };
    let place = Place::new(Arc::clone(&source), 0..source.text.len());
    Some(BodyFile { text: Placed::new(source.text.clone(), place), escape })
}

/// An endpoint written into a pipeline.
pub(super) fn in_place(node: &Node, problems: &mut Problems) -> Option<RawEndpoint> {
    let Kind::Map(_) = &node.kind else {
        problems.push(wrong_type(node, "endpoint", "a name or a mapping"));
        return None;
    };
    RawEndpoint::read(node, "endpoint", problems)
}
