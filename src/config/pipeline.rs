//! `pipelines/<name>.yaml` as written, and its variables, source and selection made from it.

use std::path::Path;

use super::batch::RawBatch;
use super::delivery::RawDelivery;
use super::endpoint::Nulls;
use super::files::Files;
use super::lookups::RawLookup;
use super::raw::{Entries, FromNode, Needed, OneOrMany, raw, words};
use super::read::{Kind, Node};
use super::steps::{RawFind, RawStep, Written};
use super::values::{Byte, Count, Most, Size, Window};
use super::{
    Content, CsvOptions, Duplicates, Encoding, Endpoint, Format, Idempotency, Key, OnNewInput, ParamKind,
    RecordLimits, Select, SourceSpec, Step, Sync, Tree, typed,
};
use crate::model::{Diagnostic, Map, Placed, Problems, Value, did_you_mean};

raw! {
    /// A pipeline: a source, an endpoint, a connection and the rules of delivery.
    RawPipeline, "a pipeline" {
        /// Its name; the file's name unless said.
        name: Option<Placed<String>>,
        /// What it is for.
        description: Option<String>,
        /// The name of a connection in runner.yaml, or one in place without secrets.
        #[schemars(with = "crate::config::published::NameOr<crate::config::connection::RawConnection>")]
        connection: Needed<Node>,
        /// The template, such as `freshchat/create-user`, or an endpoint in place.
        #[schemars(with = "Option<crate::config::published::NameOr<crate::config::endpoint::RawEndpoint>>")]
        endpoint: Option<Node>,
        /// Several calls of each record, in this order; instead of `endpoint`.
        steps: Vec<RawStep>,
        /// A look that decides between `create` and `update`; instead of `endpoint`.
        find: Option<RawFind>,
        /// The call for a record that `find` did not find.
        create: Option<RawStep>,
        /// The call for a record that `find` found.
        update: Option<RawStep>,
        /// Where records come from.
        source: Needed<RawSource>,
        /// JSON Schema of each record.
        schema: Option<Placed<String>>,
        /// What identifies a record: duplicates, order, idempotency, resume.
        key: Option<RawKey>,
        /// Variables, set by `--var NAME=VALUE`.
        vars: Entries<RawVar>,
        /// Tables in which expressions look: `lookups.NAME[KEY].COLUMN`.
        lookups: Entries<RawLookup>,
        /// Which records, and in which shape.
        select: Option<RawSelect>,
        /// Binds the endpoint's parameters; by default a field of the same name.
        params: Entries<Tree>,
        /// Headers beside the endpoint's.
        headers: Entries<Placed<String>>,
        /// The method instead of the endpoint's.
        method: Option<Placed<super::values::Method>>,
        /// What the body is, instead of what the endpoint says.
        content: Option<Content>,
        /// The body instead of the endpoint's.
        body: Option<Tree>,
        /// What becomes of null values in the body.
        nulls: Option<Nulls>,
        /// Several records in one call.
        batch: Option<RawBatch>,
        /// How requests are delivered.
        #[schemars(with = "Option<RawDelivery>")]
        delivery: Option<Node>,
        /// What is kept of replies.
        responses: Option<RawResponses>,
        /// Which records a later run sends: `all`, `new` ones only, or also those that `changed`.
        sync: Option<Placed<Sync>>,
        /// Deletes what earlier runs delivered and the input does not have any more; needs `sync: changed`.
        deletes: Option<RawDeletes>,
        /// What new input means while an older run has pending records.
        on_new_input: Option<OnNewInput>,
        /// Pipelines that have to end well before this one begins.
        needs: OneOrMany<Placed<String>>,
    }
    wrong {
        "retry" => "it is written `delivery: { retry: { attempts: 4 } }`",
        "where" => "it is written `select: { where: EXPRESSION }`",
        "rate" => "it is written `delivery: { rate: 20/s }`",
        "concurrency" => "it is written `delivery: { concurrency: 8 }`",
        "template" => "it is written `endpoint: CONNECTOR/NAME`",
        "url" => "it is written `endpoint: { method: …, url: … }`",
        "input" => "it is written `source: { file: … }`",
        "depends_on" => "it is written `needs: [PIPELINE]`",
        "after" => "it is written `needs: [PIPELINE]`",
        "delete" => "it is written `deletes: { endpoint: …, max: 1% }`",
        "on_vanished" => "it is written `deletes: { endpoint: …, max: 1% }`",
    }
}

raw! {
    /// Where records come from.
    RawSource, "`source`" {
        /// The file, relative to the root; `-` is standard input.
        file: Option<Placed<String>>,
        /// Instead of a file: the replies that another pipeline kept (`responses: { file: true }`) in its newest run.
        responses: Option<Placed<String>>,
        /// Instead of a file: a list of an API, by the name of its endpoint, or one in place.
        #[schemars(with = "Option<crate::config::published::NameOr<crate::config::endpoint::RawEndpoint>>")]
        endpoint: Option<Node>,
        /// The connection of that list; the pipeline's unless said.
        #[schemars(with = "Option<crate::config::published::NameOr<crate::config::connection::RawConnection>>")]
        connection: Option<Node>,
        /// Binds the parameters of that list.
        params: Entries<Tree>,
        /// What it is written in; told by the ending unless said.
        format: Option<Format>,
        /// JSON pointer to the list, such as `/data/items`.
        pointer: Option<Placed<String>>,
        /// How a CSV file is written.
        csv: Option<RawCsv>,
        /// Limits on one record.
        limits: Option<RawRecordLimits>,
    }
    wrong {
        "path" => "it is written `file: data/users.csv`",
        "delimiter" => "it is written `csv: { delimiter: \";\" }`",
        "encoding" => "it is written `csv: { encoding: latin-1 }`",
    }
}

raw! {
    /// How a CSV file is written.
    RawCsv, "`csv`" {
        /// The character between fields.
        delimiter: Option<Byte>,
        /// The character around fields.
        quote: Option<Byte>,
        /// Names of the columns, when the file has no header line.
        header: Option<Vec<Placed<String>>>,
        /// Lines that begin with this character are no records.
        comment: Option<Byte>,
        /// The encoding; UTF-8 unless said.
        encoding: Option<Encoding>,
        /// Words that mean null.
        null_words: Vec<NullWord>,
        /// `text` keeps empty cells as empty text; otherwise they are absent.
        empty: Option<Empty>,
    }
    wrong {
        "null" => "it is written `null_words: [NULL]`",
        "headers" => "it is written `header: [id, email]`, for a file without a header line",
        "separator" => "it is written `delimiter: \";\"`",
    }
}

raw! {
    /// Limits on one record.
    RawRecordLimits, "`limits`" {
        /// One field or string; 1MiB unless said.
        field: Option<Size>,
        /// One record; 4MiB unless said.
        record: Option<Size>,
        /// Columns of a CSV file; 4096 unless said.
        columns: Option<Window>,
        /// Nesting of a JSON record; 64 unless said.
        depth: Option<Window>,
        /// Digits of a number; 128 unless said.
        digits: Option<Window>,
    }
}

raw! {
    /// Which records, and in which shape.
    RawSelect, "`select`" {
        /// A record for which this is false is skipped.
        r#where: Option<Placed<String>>,
        /// Fields that the default body leaves out.
        exclude: Vec<Placed<String>>,
        /// New names of fields: `from: to`.
        rename: Entries<Placed<String>>,
        /// What a repeated key means; refuse unless said.
        duplicates: Option<Duplicates>,
        /// At most this many records.
        limit: Option<Count>,
    }
    wrong {
        "filter" => "it is written `where: EXPRESSION`",
        "include" => "fields are left out with `exclude`, or write the `body` out",
    }
}

raw! {
    /// What is kept of replies.
    RawResponses, "`responses`" {
        /// Whether replies are kept in `responses.ndjson`.
        file: Option<bool>,
        /// Sends what is kept of replies on, once the run has ended.
        webhook: Option<RawWebhook>,
    }
}

raw! {
    /// Where replies are sent on to.
    RawWebhook, "`webhook`" {
        /// The name of a connection in runner.yaml, whose `auth` signs the calls, or one in place without secrets.
        #[schemars(with = "crate::config::published::NameOr<crate::config::connection::RawConnection>")]
        connection: Needed<Node>,
        /// The path below its base URL.
        path: Needed<Node>,
        /// Replies in one call, at the most; 100 unless said.
        batch: Option<Window>,
    }
    wrong {
        "url" => "it is written `connection: NAME, path: /…`: the connection in runner.yaml has the host and the secrets",
        "sign" => "the connection signs: `auth: { hmac: … }` in runner.yaml",
    }
}

raw! {
    /// What is called for a key that is not in the input any more, once all records of a run have an outcome.
    /// Its record is `{ key, captures, run }`: what identified it, what was kept of the reply that brought it, and
    /// the run that delivered it.
    RawDeletes, "`deletes`" {
        /// The call: a template, or an endpoint in place.
        #[schemars(with = "crate::config::published::NameOr<crate::config::endpoint::RawEndpoint>")]
        endpoint: Needed<Node>,
        /// More keys than this, or than this share of all that were delivered, are refused before anything is sent.
        max: Needed<Placed<Most>>,
        /// Binds the endpoint's parameters; by default a field of the same name.
        #[schemars(with = "Entries<Tree>")]
        params: Option<Node>,
        /// Headers beside the endpoint's.
        #[schemars(with = "Entries<Placed<String>>")]
        headers: Option<Node>,
        /// The body instead of the endpoint's.
        #[schemars(with = "Option<Tree>")]
        body: Option<Node>,
        /// Several keys in one call.
        #[schemars(with = "Option<RawBatch>")]
        batch: Option<Node>,
    }
    wrong {
        "cap" => "it is written `max: 1%`",
        "limit" => "it is written `max: 1%`",
    }
}

/// An expression, or `{ value: EXPR, public: true }`.
#[derive(Debug, Clone)]
pub(super) struct RawKey(pub(super) Key);

raw! {
    /// What identifies a record.
    RawKeyMap, "`key`" {
        /// The expression.
        value: Needed<Placed<String>>,
        /// Whether it may be shown in messages as it is.
        public: Option<bool>,
    }
}

impl FromNode for RawKey {
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        if let Kind::Map(_) = node.kind {
            let raw = RawKeyMap::read(node, what, problems)?;
            return Some(Self(Key { value: raw.value.0?, public: raw.public == Some(true) }));
        }
        Some(Self(Key { value: Placed::read(node, what, problems)?, public: false }))
    }
}

impl schemars::JsonSchema for RawKey {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Key".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let map = generator.subschema_for::<RawKeyMap>();
        schemars::json_schema!({ "anyOf": [{ "type": "string" }, map] })
    }
}

/// A default, or a declaration.
#[derive(Debug, Clone)]
pub(super) enum RawVar {
    /// `x: 3`
    Default(Placed<Value>),
    /// `x: { type: integer }`
    Declared(RawVarDecl),
}

raw! {
    /// A variable.
    RawVarDecl, "a variable" {
        /// Its type; that of its default, or text, unless said.
        r#type: Option<ParamKind>,
        /// Its value when none is given.
        default: Option<Placed<Value>>,
        /// Whether it needs a value; true unless there is a default.
        required: Option<bool>,
        /// What it is.
        description: Option<String>,
    }
}

impl FromNode for RawVar {
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        match &node.kind {
            Kind::Map(_) => match super::raw::secret_elsewhere(node) {
                Some(finding) => {
                    problems.push(finding);
                    None
                }
                None => RawVarDecl::read(node, what, problems).map(Self::Declared),
            },
            _ => Placed::read(node, what, problems).map(Self::Default),
        }
    }
}

impl schemars::JsonSchema for RawVar {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Variable".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let map = generator.subschema_for::<RawVarDecl>();
        schemars::json_schema!({ "anyOf": [{ "type": ["string", "number", "boolean", "array", "null"] }, map] })
    }
}

/// A word that means null. Without quotes YAML takes some of them for null itself; here they are
/// meant as they are written.
#[derive(Debug, Clone)]
pub(super) struct NullWord(String);

impl FromNode for NullWord {
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        if let Kind::Null = node.kind {
            let place = &node.place;
            return Some(Self(place.source.text.get(place.span.clone())?.to_owned()));
        }
        String::read(node, what, problems).map(Self)
    }
}

super::raw::published! {
    NullWord => { "type": ["string", "null"] };
}

/// `empty:` of CSV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Empty {
    Absent,
    Text,
}

words!(Empty {
    "absent" => Empty::Absent,
    "text" => Empty::Text,
});
words!(Format {
    "csv" => Self::Csv,
    "tsv" => Self::Tsv,
    "json" => Self::Json,
    "ndjson" => Self::Ndjson,
});
words!(Encoding {
    "utf-8" => Self::Utf8,
    "utf-16" => Self::Utf16,
    "utf-16le" => Self::Utf16Le,
    "utf-16be" => Self::Utf16Be,
    "latin-1" => Self::Latin1,
    "windows-1252" => Self::Latin1,
});
words!(Duplicates {
    "refuse" => Self::Refuse,
    "keep_first" => Self::KeepFirst,
    "keep_last" => Self::KeepLast,
    "allow" => Self::Allow,
});
words!(Sync {
    "all" => Self::All,
    "new" => Self::New,
    "changed" => Self::Changed,
});
words!(OnNewInput {
    "refuse" => Self::Refuse,
    "close" => Self::Close,
});

/// Whether it is said where records come from, once.
pub(super) fn check_source(raw: &RawSource, problems: &mut Problems) {
    if let Some(file) = &raw.file {
        super::listing::check_file(file, problems);
    }
    if let Some(responses) = &raw.responses {
        let of_file =
            [raw.format.is_some(), raw.pointer.is_some(), raw.csv.is_some(), !raw.params.0.is_empty()];
        if raw.file.is_some() || raw.endpoint.is_some() || raw.connection.is_some() || of_file.contains(&true)
        {
            let message =
                "`responses` says all about where records come from; only `limits` may stand beside it";
            problems.at("source", &responses.place, message);
        }
        return;
    }
    match (&raw.file, &raw.endpoint) {
        (None, None) => {
            problems.at("missing-key", &raw.place, "`source` needs `file`, `endpoint` or `responses`");
        }
        (Some(_), Some(endpoint)) => {
            problems.at("source", &endpoint.place, "a source has either `file` or `endpoint`");
        }
        (Some(file), None) => {
            for is_there in [raw.connection.is_some(), !raw.params.0.is_empty()] {
                if is_there {
                    let message =
                        "`connection` and `params` of a source belong to an `endpoint`, not to a file";
                    problems.at("source", &file.place, message);
                    break;
                }
            }
        }
        (None, Some(_)) => {}
    }
}

/// The source, with `--input` instead of the file when it is given.
pub(super) fn source(
    raw: Option<&RawSource>,
    input: Option<(&str, &Path)>,
    files: &Files,
    problems: &mut Problems,
) -> Option<SourceSpec> {
    let written = raw.and_then(|raw| raw.file.as_ref());
    let (file, place) = match (input, written) {
        (Some(("-", _)), _) => ("-".to_owned(), None),
        (Some((path, cwd)), _) => (cwd.join(path).to_string_lossy().into_owned(), None),
        (None, Some(file)) => {
            if file.value != "-"
                && let Err(finding) = files.inside(&file.value)
            {
                problems
                    .push(finding.place(&file.place).help("files elsewhere are named with `--input FILE`"));
            }
            (file.value.clone(), Some(file.place.clone()))
        }
        (None, None) => {
            let name = raw.and_then(|raw| raw.responses.as_ref())?;
            (format!("{}{}", super::listing::OF_REPLIES, name.value), Some(name.place.clone()))
        }
    };
    let pointer = raw.and_then(|raw| raw.pointer.as_ref());
    check_pointer(pointer, problems);
    // What comes over standard input is what the pipeline's own file would be.
    let is_replies = file.starts_with(super::listing::OF_REPLIES);
    let told = || written.filter(|_| file == "-").and_then(|written| Format::of_name(&written.value));
    Some(SourceSpec {
        fields: None,
        format: raw.and_then(|raw| raw.format).or_else(told).or(is_replies.then_some(Format::Ndjson)),
        file,
        place,
        pointer: pointer.map(|pointer| pointer.value.clone()).unwrap_or_default(),
        csv: raw.and_then(|raw| raw.csv.as_ref()).map(|raw| csv(raw, problems)).unwrap_or_default(),
        limits: raw.and_then(|raw| raw.limits.as_ref()).map(limits).unwrap_or_default(),
    })
}

pub(super) fn check_pointer(pointer: Option<&Placed<String>>, problems: &mut Problems) {
    if let Some(pointer) = pointer
        && !pointer.value.is_empty()
        && !pointer.value.starts_with('/')
    {
        problems.push(
            Diagnostic::error("pointer", "a JSON pointer begins with `/`")
                .place(&pointer.place)
                .help(format!("write `/{}`", pointer.value.replace('.', "/"))),
        );
    }
}

/// How a CSV file is written.
pub(super) fn csv(raw: &RawCsv, problems: &mut Problems) -> CsvOptions {
    let header = raw.header.as_ref();
    for (at, name) in header.into_iter().flatten().enumerate() {
        if header.is_some_and(|all| all.iter().take(at).any(|other| other.value == name.value)) {
            problems.at(
                "duplicate-column",
                &name.place,
                format!("the column `{}` is named twice", name.value),
            );
        }
    }
    let quote = raw.quote.map_or(b'"', |byte| byte.0);
    if raw.delimiter.is_some_and(|byte| byte.0 == quote) {
        problems.at("bad-value", &raw.place, "`delimiter` and `quote` are the same character");
    }
    CsvOptions {
        delimiter: raw.delimiter.map(|byte| byte.0),
        quote,
        header: header.map(|names| names.iter().map(|name| name.value.clone()).collect()),
        comment: raw.comment.map(|byte| byte.0),
        encoding: raw.encoding,
        null_words: raw.null_words.iter().map(|word| word.0.clone()).collect(),
        empty_is_text: raw.empty == Some(Empty::Text),
    }
}

pub(super) fn limits(raw: &RawRecordLimits) -> RecordLimits {
    let default = RecordLimits::default();
    RecordLimits {
        field: raw.field.map_or(default.field, |size| size.0),
        record: raw.record.map_or(default.record, |size| size.0),
        columns: raw.columns.map_or(default.columns, |count| count.0),
        depth: raw.depth.map_or(default.depth, |count| count.0),
        digits: raw.digits.map_or(default.digits, |count| count.0),
    }
}

/// What a later run sends, or what is wrong with it: only keys tell what was delivered before.
pub(super) fn sync(
    raw: Option<&Placed<Sync>>,
    key: Option<&Key>,
    steps: &[Step],
    problems: &mut Problems,
) -> Option<Sync> {
    let Placed { value, place } = raw?;
    if *value != Sync::All && key.is_none() {
        let word = if *value == Sync::New { "new" } else { "changed" };
        problems.push(
            Diagnostic::error("sync-without-key", format!("`sync: {word}` needs a `key`"))
                .place(place)
                .help("say what identifies a record: `key: \"{{ record.id }}\"`"),
        );
    }
    // Behind a look, a record that is there is not created again.
    let creates = |step: &Step| {
        step.endpoint.idempotency == Idempotency::None && !steps.iter().any(|step| step.only_looks)
    };
    if *value == Sync::Changed && steps.iter().any(creates) {
        problems.push(
            Diagnostic::warning(
                "sync-creates",
                "`sync: changed` sends a changed record again, and the endpoint would create it a second time",
            )
            .place(place)
            .help("use an endpoint that updates, or `find` with `create` and `update`; `sync: new` leaves known keys out"),
        );
    }
    Some(*value)
}

/// The selection.
pub(super) fn select(raw: Option<&RawSelect>) -> Select {
    let Some(raw) = raw else { return Select::default() };
    Select {
        rename: raw.rename.0.iter().map(|(from, to)| (from.clone(), to.value.clone())).collect(),
        filter: raw.r#where.clone(),
        exclude: raw.exclude.clone(),
        duplicates: raw.duplicates.unwrap_or_default(),
        limit: raw.limit.map(|count| count.0),
    }
}

/// Whether a variable without a value stops the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// It does: requests will be made.
    Refused,
    /// It does not: files are looked at.
    Accepted,
}

/// The variables: flag, then `RUNNER_VAR_<name>`, then default.
pub(super) fn vars(
    declared: &[(Placed<String>, RawVar)],
    given: &[(String, String)],
    environment: &dyn Fn(&str) -> Option<String>,
    missing: Missing,
    problems: &mut Problems,
) -> Map {
    let mut found = Map::new();
    for (name, _) in given {
        if missing == Missing::Refused && !declared.iter().any(|(known, _)| known.value == *name) {
            let finding = Diagnostic::error("unknown-var", format!("the pipeline has no variable `{name}`"));
            let names: Vec<&str> = declared.iter().map(|(known, _)| known.value.as_str()).collect();
            problems.push(match did_you_mean(name, names.iter().copied()) {
                Some(help) => finding.help(help),
                None if names.is_empty() => finding.help("variables are declared under `vars:`"),
                None => finding.help(format!("it has: {}", names.join(", "))),
            });
        }
    }
    for (name, raw) in declared {
        let (kind, default, required) = match raw {
            RawVar::Default(value) => (typed::kind_of(&value.value), Some(value), false),
            RawVar::Declared(raw) => {
                let default = raw.default.as_ref();
                let kind = raw.r#type.or_else(|| default.map(|value| typed::kind_of(&value.value)));
                (kind.unwrap_or_default(), default, raw.required.unwrap_or(default.is_none()))
            }
        };
        if let Some(default) = default
            && !default.value.is_nothing()
            && !typed::fits(kind, &default.value)
        {
            let message = format!("the default of `{}` is not {}", name.value, kind.wanted());
            problems.at("wrong-type", &default.place, message);
            continue;
        }
        let flag = given.iter().rev().find(|(given, _)| *given == name.value).map(|(_, text)| text.clone());
        let text = flag.or_else(|| environment(&format!("RUNNER_VAR_{}", name.value)));
        let value = match (text, default) {
            (Some(text), _) => {
                let Some(value) = typed::from_text(kind, &text) else {
                    problems.push(
                        Diagnostic::error(
                            "var-type",
                            format!("the variable `{}` has to be {}", name.value, kind.wanted()),
                        )
                        .place(&name.place)
                        .note("its value came from `--var` or the environment"),
                    );
                    continue;
                };
                value
            }
            (None, Some(default)) => default.value.clone(),
            (None, None) if required && missing == Missing::Refused => {
                problems.push(
                    Diagnostic::error("var-missing", format!("the variable `{}` has no value", name.value))
                        .place(&name.place)
                        .help(format!("add `--var {}=…`", name.value)),
                );
                continue;
            }
            (None, None) => Value::Null,
        };
        found.push(name.value.as_str(), value);
    }
    found
}

/// Lays what the pipeline says about a call over its endpoint.
///
/// `batch` is what the endpoint's own file says of batches.
pub(super) fn bind(
    endpoint: &mut Endpoint,
    batch: Option<&RawBatch>,
    call: &Written<'_>,
    problems: &mut Problems,
) {
    bind_params(endpoint, &call.params.0, problems);
    for (name, value) in &call.headers.0 {
        super::connector::check_header(name, problems);
        endpoint.headers.retain(|(known, _)| !known.value.eq_ignore_ascii_case(&name.value));
        endpoint.headers.push((name.clone(), value.clone()));
    }
    if let Some(method) = call.method {
        endpoint.method = method.clone().map(|method| method.0);
    }
    if let Some(content) = call.content {
        endpoint.content = content;
    }
    if let Some(body) = call.body {
        endpoint.body = Some(body.clone());
        endpoint.body_file = None;
        if call.only_looks && endpoint.content == Content::None {
            endpoint.content = Content::Json;
        }
    }
    if let Some(nulls) = call.nulls {
        endpoint.keep_nulls = nulls == Nulls::Keep;
    }
    super::steps::check(call, endpoint, problems);
    for (name, value) in &call.captures {
        if call.only_looks && endpoint.captures.iter().any(|(known, _)| known.value == name.value) {
            let message = format!("the endpoint {} captures `{}` itself", endpoint.name, name.value);
            problems.at("capture-name", &call.place, message);
        }
        endpoint.captures.retain(|(known, _)| known.value != name.value);
        endpoint.captures.push((name.clone(), value.clone()));
    }
    if call.only_looks {
        endpoint.idempotency = Idempotency::Natural;
    }
    endpoint.outcomes.extend(call.rule(&endpoint.path.value));
    if !call.id.is_empty() {
        if endpoint.batch.take().is_some() {
            problems.push(
                Diagnostic::error(
                    "steps-batch",
                    format!(
                        "the endpoint {} sends several records in one call, which cannot be a step",
                        endpoint.name
                    ),
                )
                .place(&call.place)
                .help("use an endpoint that takes one record"),
            );
        }
        return;
    }
    // What the endpoint's own file says was looked at with it.
    if call.batch.is_some() || call.method.is_some() || call.content.is_some() || call.body.is_some() {
        let merged = super::batch::merged(batch, call.batch);
        endpoint.batch = merged.and_then(|raw| super::batch::resolve(&raw, endpoint, problems));
    }
}

/// Binds parameters of an endpoint.
pub(super) fn bind_params(
    endpoint: &mut Endpoint,
    params: &[(Placed<String>, Tree)],
    problems: &mut Problems,
) {
    for (name, binding) in params {
        if let Some(param) = endpoint.params.iter_mut().find(|param| param.name.value == name.value) {
            param.binding = Some(binding.clone());
        } else {
            let names: Vec<&str> = endpoint.params.iter().map(|param| param.name.value.as_str()).collect();
            let message = format!("the endpoint {} has no parameter `{}`", endpoint.name, name.value);
            let finding = Diagnostic::error("unknown-param", message).place(&name.place);
            problems.push(match did_you_mean(&name.value, names.iter().copied()) {
                Some(help) => finding.help(help),
                None if names.is_empty() => finding.help("it declares none"),
                None => finding.help(format!("it has: {}", names.join(", "))),
            });
        }
    }
}
