//! The resolved values of a project: what `apply` works with.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use super::Auth;
use crate::model::{Learned, Map, Place, Placed, Secret, Value};

/// A rendered leaf or body as it was written: data with expressions in its strings.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    /// YAML null.
    Null(Place),
    /// YAML true or false.
    Bool(bool, Place),
    /// A number in its written digits.
    Number(crate::model::Number, Place),
    /// Text, which may hold `{{ … }}`.
    Text(Placed<String>),
    /// A list.
    List(Vec<Tree>, Place),
    /// A mapping in written order; keys are plain text, never expressions.
    Map(Vec<(Placed<String>, Tree)>, Place),
}

impl Tree {
    /// Where it was written.
    #[must_use]
    pub const fn place(&self) -> &Place {
        match self {
            Self::Null(place)
            | Self::Bool(_, place)
            | Self::Number(_, place)
            | Self::List(_, place)
            | Self::Map(_, place) => place,
            Self::Text(text) => &text.place,
        }
    }
}

/// An expression or text leaf, such as `{{ record.id }}`.
pub type Template = Placed<String>;

/// What `apply`, `plan`, `preview` and `try` need of one pipeline, its endpoint and connection.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Name; the file's name without ending unless the file says another.
    pub name: String,
    /// The file, relative to the root, as a person types it.
    pub path: String,
    /// The project's root, absolute.
    pub root: PathBuf,
    /// What it is for.
    pub description: Option<String>,
    /// The account.
    pub connection: Connection,
    /// The call that is made of a record, or the first of them.
    pub first: Step,
    /// The calls after it.
    pub later: Vec<Step>,
    /// Where records come from.
    pub source: SourceSpec,
    /// The list that they come from, where it is one of an API.
    pub listing: Option<Box<super::Listing>>,
    /// Schema of each record: path relative to the root, and where it was named.
    pub schema: Option<Placed<String>>,
    /// What identifies a record.
    pub key: Option<Key>,
    /// Variables with their values, after `--var`.
    pub vars: Map,
    /// Tables in which expressions look.
    pub lookups: Vec<super::Lookup>,
    /// Which records, and in which shape.
    pub select: Select,
    /// How requests are delivered.
    pub delivery: Delivery,
    /// Whether replies are kept in `responses.ndjson`.
    pub responses_file: bool,
    /// The pipeline that sends them on; its input is named once it is known.
    pub webhook: Option<Box<Pipeline>>,
    /// What deletes keys that are not in the input any more.
    pub deletes: Option<Box<super::Deletes>>,
    /// What a later run does with records that an earlier run delivered.
    pub sync: Option<Sync>,
    /// What new input means while an older run still has pending records.
    pub on_new_input: OnNewInput,
    /// Pipelines that have to end well before this one begins, by their files' names.
    pub needs: Vec<Placed<String>>,
    /// Where state lies: absolute, `.runner` under the root unless set.
    pub state_dir: PathBuf,
    /// Whether a missing state folder is an error.
    pub require_state: bool,
    /// How long finished runs are kept.
    pub keep: Keep,
    /// The `--env` name, `default` without one.
    pub environment: String,
    /// Whether the environment asks before it sends.
    pub confirm: bool,
    /// Files whose content is part of the meaning (ruling 8), relative to the root, with their
    /// text: pipeline, endpoint, connector, schemas, body files.
    pub files: Vec<std::sync::Arc<crate::model::SourceText>>,
    /// A canonical text of everything in here that decides what is sent (not: concurrency, rate,
    /// timeouts, retry numbers, tokens, descriptions, comments).
    pub meaning: String,
}

/// One call that is made of a record.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its name among the steps of a record; empty where there is one call.
    pub id: String,
    /// The call.
    pub endpoint: Endpoint,
    /// What has to be true or false of a record for it.
    pub when: Option<Condition>,
    /// Whether it changes nothing over there: a look that decides about the others.
    pub only_looks: bool,
    /// What happens when it may have arrived; `auto` is already derived from the endpoint.
    pub in_doubt: InDoubt,
}

/// What has to be true or false.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The expression.
    pub value: Template,
    /// What it has to be.
    pub is: bool,
}

impl Pipeline {
    /// The endpoint of the call, or of the first of several.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.first.endpoint
    }

    /// The calls that are made of a record, in their order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> + Clone {
        std::iter::once(&self.first).chain(&self.later)
    }

    /// The same, to change them.
    pub fn steps_mut(&mut self) -> impl Iterator<Item = &mut Step> {
        std::iter::once(&mut self.first).chain(&mut self.later)
    }

    /// The lookup tables that are lists of an API.
    pub fn tables(&self) -> impl Iterator<Item = (&super::Lookup, &super::Listing)> {
        self.lookups.iter().filter_map(|lookup| Some((lookup, lookup.listing.as_deref()?)))
    }

    /// All lists of an API that are read for a start: its source and its tables.
    pub fn lists(&self) -> impl Iterator<Item = &super::Listing> {
        self.listing.as_deref().into_iter().chain(self.tables().map(|(_, list)| list))
    }

    /// The pipelines that are written down in this one and run after it.
    pub fn followers(&self) -> impl Iterator<Item = &Self> {
        self.deletes.iter().map(|deletes| &deletes.pipeline).chain(self.webhook.as_deref())
    }

    /// The same, to change them.
    pub fn followers_mut(&mut self) -> impl Iterator<Item = &mut Self> {
        let deletes = self.deletes.as_mut().map(|deletes| &mut deletes.pipeline);
        deletes.into_iter().chain(self.webhook.as_deref_mut())
    }

    /// Whether calls have names, as a record has or may have several.
    #[must_use]
    pub const fn has_steps(&self) -> bool {
        !self.first.id.is_empty()
    }

    /// Whether other calls of a record may follow the step with this name.
    #[must_use]
    pub fn is_followed(&self, id: &str) -> bool {
        // After a look, one of two calls is made.
        let decides = self.first.only_looks && self.first.id != id;
        !decides && self.later.last().is_some_and(|last| last.id != id)
    }

    /// Whether a call of a record that may have arrived could be asked about.
    #[must_use]
    pub fn can_ask(&self) -> bool {
        self.steps().any(|step| step.endpoint.reconcile.is_some())
    }
}

/// `keep:` how many closed runs stay (`runner.yaml`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Runs of a pipeline.
    pub runs: u64,
    /// Days after a run's end.
    pub days: u64,
}

impl Default for Keep {
    fn default() -> Self {
        Self { runs: 10, days: 30 }
    }
}

/// What identifies a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// The expression.
    pub value: Template,
    /// Whether it may be shown as it is; keys are personal data unless the pipeline says this.
    pub public: bool,
}

/// `source:`
#[derive(Debug, Clone, PartialEq)]
pub struct SourceSpec {
    /// Path as written, relative to the root (or absolute when given by `--input`); `-` is stdin.
    pub file: String,
    /// Where it was written; `None` when it came from the command line.
    pub place: Option<Place>,
    /// The format; `None` is told by the file's ending.
    pub format: Option<Format>,
    /// JSON pointer to the list (`format: json` only); empty is the top.
    pub pointer: String,
    /// The fields that every record has, where that is known before one is read.
    pub fields: Option<&'static [&'static str]>,
    /// How a CSV file is written.
    pub csv: CsvOptions,
    /// Limits on one record (guarantees, section 8).
    pub limits: RecordLimits,
}

/// What a source is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma- or otherwise separated values.
    Csv,
    /// Tab-separated values.
    Tsv,
    /// One JSON document that holds a list.
    Json,
    /// One JSON object a line.
    Ndjson,
}

impl Format {
    /// The format that a file's name tells, behind `.gz` and `.zst`.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
        match name.rsplit_once('.')?.1 {
            "csv" => Some(Self::Csv),
            "tsv" | "tab" => Some(Self::Tsv),
            "json" => Some(Self::Json),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            _ => None,
        }
    }
}

/// `source.csv:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvOptions {
    /// One byte between fields; `None` is a comma, or a tab for TSV.
    pub delimiter: Option<u8>,
    /// One byte around fields.
    pub quote: u8,
    /// Names of the columns, when the file has no header line.
    pub header: Option<Vec<String>>,
    /// Lines that begin with this byte are no records.
    pub comment: Option<u8>,
    /// The encoding; `None` is UTF-8.
    pub encoding: Option<Encoding>,
    /// Words that mean null, beside the empty cell.
    pub null_words: Vec<String>,
    /// `empty: text` keeps empty cells as empty text; otherwise they are absent.
    pub empty_is_text: bool,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            delimiter: None,
            quote: b'"',
            header: None,
            comment: None,
            encoding: None,
            null_words: Vec::new(),
            empty_is_text: false,
        }
    }
}

/// How a text file is encoded, when it is not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8, with or without a byte order mark.
    Utf8,
    /// UTF-16, byte order by its mark, little-endian without one.
    Utf16,
    /// UTF-16, little-endian.
    Utf16Le,
    /// UTF-16, big-endian.
    Utf16Be,
    /// Latin-1, read as windows-1252 like the WHATWG Encoding Standard does.
    Latin1,
}

/// Limits on one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordLimits {
    /// Bytes of one field or string.
    pub field: usize,
    /// Bytes of one record.
    pub record: usize,
    /// Columns of a CSV file.
    pub columns: usize,
    /// Nesting of a JSON record.
    pub depth: usize,
    /// Digits of a number.
    pub digits: usize,
}

impl Default for RecordLimits {
    fn default() -> Self {
        Self { field: 1 << 20, record: 4 << 20, columns: 4096, depth: 64, digits: 128 }
    }
}

/// `select:` in the order in which it is applied: rename, typing, where, schema, key, duplicates,
/// limit.
#[derive(Debug, Clone, Default)]
pub struct Select {
    /// New name for each old one: (from, to).
    pub rename: Vec<(Placed<String>, String)>,
    /// A record for which this is false is skipped.
    pub filter: Option<Template>,
    /// Fields that the default body leaves out.
    pub exclude: Vec<Placed<String>>,
    /// What a repeated key means.
    pub duplicates: Duplicates,
    /// At most this many records.
    pub limit: Option<u64>,
}

/// What a repeated key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Duplicates {
    /// The first is sent, later ones are invalid.
    #[default]
    Refuse,
    /// The first is sent, later ones are skipped.
    KeepFirst,
    /// The last is sent, earlier ones are skipped.
    KeepLast,
    /// All are sent.
    Allow,
}

/// One account: a connector with its settings and secrets.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Name in `runner.yaml`, or `in place`.
    pub name: String,
    /// Where it was named by the pipeline.
    pub place: Place,
    /// The connector's folder name; `None` for a connection in place without connector.
    pub connector: Option<String>,
    /// Scheme, host, port and path prefix, without a slash at the end. A setting that is not set
    /// stands as `${NAME}` while `unset` is not empty.
    pub base_url: String,
    /// Non-secret settings, for expressions.
    pub settings: Map,
    /// How requests prove who sends them.
    pub auth: Auth,
    /// Headers for every request; they may use secrets through `{{ connection.x }}` only where
    /// the connector declares it (values resolved here).
    pub headers: Vec<(String, HeaderTemplate)>,
    /// Settings that have no value, with the variable that would give it: offline commands go on
    /// with them, sending commands refuse.
    pub unset: Vec<Unset>,
    /// All secrets that were read, for masking.
    pub secrets: Vec<Secret>,
    /// Tokens that are fetched or signed while requests are sent, for masking too.
    pub tokens: Learned,
    /// The variables and files that they came from.
    pub secrets_from: Vec<String>,
    /// The credentials by the names of their variables, for commands that show requests.
    pub credentials: Vec<super::Credential>,
    /// `tls:`
    pub tls: Tls,
    /// `proxy:` URL, when the connection says one.
    pub proxy: Option<String>,
    /// Whether credentials may go over plain http to a host that is not loopback.
    pub allow_plain_http: bool,
    /// What the connector recommends; a pipeline may go lower.
    pub limits: Limits,
    /// How `check-connection` asks.
    pub check: Option<CheckCall>,
    /// Error shape of the connector's sandbox: a body with `{{ status }}`, `{{ class }}` and
    /// `{{ message }}`.
    pub sandbox_error: Option<Tree>,
}

/// A header value of a connector.
#[derive(Debug, Clone)]
pub enum HeaderTemplate {
    /// Text with expressions over `connection` and `run`.
    Plain(Template),
    /// The value of a secret setting.
    Secret(Secret),
}

/// A setting without a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Unset {
    /// The setting's name.
    pub setting: String,
    /// The message to show when a command needs it (rule `variable-unset`).
    pub message: String,
    /// Environment variable or file that would give it.
    pub from: String,
    /// Where it was looked for, such as `looked in the environment and in .env`.
    pub looked_in: String,
    /// Where it was written.
    pub place: Place,
}

/// `tls:` of a connection; paths are absolute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM file with extra certificate authorities.
    pub ca: Option<PathBuf>,
    /// `verify: false` switches verification off, with a warning at every start.
    pub insecure: bool,
    /// PEM files with a client certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// `limits:` of a connector.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Requests in flight at once.
    pub concurrency: Option<NonZeroUsize>,
    /// Requests a second.
    pub rate: Option<f64>,
}

/// `check:` of a connector.
#[derive(Debug, Clone)]
pub struct CheckCall {
    /// The method.
    pub method: http::Method,
    /// The path below the base URL.
    pub path: Template,
}

/// One call of an API.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `freshchat/create-user`, or `in place`.
    pub name: String,
    /// Where it was named or written.
    pub place: Place,
    /// Title for people.
    pub title: Option<String>,
    /// One sentence.
    pub summary: Option<String>,
    /// Where the API is documented.
    pub docs: Option<String>,
    /// Prerequisites, what comes back and why.
    pub notes: Option<String>,
    /// The method.
    pub method: Placed<http::Method>,
    /// The path below the base URL, with expressions; begins with `/`.
    pub path: Template,
    /// Declared parameters.
    pub params: Vec<Param>,
    /// Query parameters: text, a list (repeats the name), or null/absent (left out).
    pub query: Vec<(Placed<String>, Tree)>,
    /// Headers of the endpoint, then those of the pipeline.
    pub headers: Vec<(Placed<String>, Template)>,
    /// What the body is.
    pub content: Content,
    /// The body: `None` is the default, `{{ body_fields }}`.
    pub body: Option<Tree>,
    /// A text body from a file beside the template.
    pub body_file: Option<BodyFile>,
    /// `nulls: keep`
    pub keep_nulls: bool,
    /// Schema of the rendered body, relative to the root.
    pub body_schema: Option<Placed<String>>,
    /// Whether repeating is harmless.
    pub idempotency: Idempotency,
    /// How to find out about a request in doubt.
    pub reconcile: Option<Reconcile>,
    /// Exceptions from the usual reading of a reply; the endpoint's first, then the connector's.
    pub outcomes: Vec<OutcomeRule>,
    /// How to read a refusal.
    pub errors: ErrorReading,
    /// What to keep of a good reply: (name, expression).
    pub captures: Vec<(Placed<String>, Template)>,
    /// Schema that replies ought to keep, relative to the root.
    pub response_schema: Option<Placed<String>>,
    /// A record for preview, `try` and the sandbox.
    pub sample: Option<Map>,
    /// How the embedded stand-in behaves.
    pub sandbox: SandboxSpec,
    /// Several records in one call, where endpoint or pipeline say so.
    pub batch: Option<Batch>,
    /// How its pages are read, where it is a list.
    pub pagination: Option<super::Pagination>,
}

/// `batch:` several records in one call.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Where it was written.
    pub place: Place,
    /// At most so many records in one call.
    pub size: NonZeroUsize,
    /// At most so many bytes in one body.
    pub max_bytes: Option<usize>,
    /// Which records share a call.
    pub grouping: Grouping,
    /// Only records with the same value share a call.
    pub group_by: Option<Template>,
    /// What one record contributes; `None` is the endpoint's body.
    pub item: Option<Tree>,
    /// The whole body; `None` is the plain list.
    pub body: Option<Tree>,
    /// Where the reply says what became of each record; `None`: all share the fate of the call.
    pub replies: Option<ItemReplies>,
    /// What follows when the whole call is refused.
    pub on_reject: OnReject,
}

impl Batch {
    /// Records in one call unless `size` says another number.
    pub const DEFAULT_SIZE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(99);
}

/// Which records share a call. Whatever it is, records whose method, URL or headers differ never do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grouping {
    /// In the order of the input, each call as full as it can be.
    InOrder,
    /// As few calls as `max_bytes` allows.
    BySize,
    /// Calls as equal in size as can be.
    Balanced,
}

/// `replies:` where the reply to a call says what became of each record.
#[derive(Debug, Clone)]
pub struct ItemReplies {
    /// The list of results, over `response`.
    pub at: Template,
    /// Which result belongs to which record.
    pub matching: Matching,
    /// True when the record arrived, over `reply`, `item` and `response`; without it and `status`, a
    /// record with a result did.
    pub delivered: Option<Template>,
    /// The HTTP status of one result.
    pub status: Option<Template>,
    /// The machine word of a refusal.
    pub class: Option<Template>,
    /// The human text of a refusal.
    pub message: Option<Template>,
    /// What to keep of one result.
    pub captures: Vec<(Placed<String>, Template)>,
    /// What a record without a result means.
    pub missing: Missing,
}

/// Which result belongs to which record.
#[derive(Debug, Clone)]
pub enum Matching {
    /// As many results as records, in the same order.
    Position,
    /// These two are equal as text.
    Equal {
        /// Over `item`.
        item: Template,
        /// Over `reply`.
        reply: Template,
    },
}

/// What a record without a result means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missing {
    /// Nobody knows.
    #[default]
    InDoubt,
    /// The reply lists failures only.
    Delivered,
    /// The reply lists what arrived only.
    Failed,
}

/// What follows when the whole call is refused and certainly did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnReject {
    /// All its records are failed.
    #[default]
    Fail,
    /// Both halves are sent, until the records at fault stand alone.
    Bisect,
}

/// A declared parameter of an endpoint.
#[derive(Debug, Clone)]
pub struct Param {
    /// Its name.
    pub name: Placed<String>,
    /// Its type.
    pub kind: ParamKind,
    /// Whether it must have a value.
    pub required: bool,
    /// What it is.
    pub description: Option<String>,
    /// Its value when nothing is bound.
    pub default: Option<Value>,
    /// What the pipeline bound to it; `None` is the record field of the same name.
    pub binding: Option<Tree>,
}

/// The type of a parameter, setting or variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ParamKind {
    /// Text.
    #[default]
    String,
    /// An integer.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A calendar date, `2026-11-22`.
    Date,
    /// A list.
    Array,
    /// An object.
    Object,
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Content {
    /// `application/json`
    #[default]
    Json,
    /// `application/x-www-form-urlencoded`
    Form,
    /// `multipart/form-data`; the body is an object, each of its keys a part
    Multipart,
    /// `application/x-ndjson`; the body is a list, one line an element
    Ndjson,
    /// `application/xml`; the body is an object with one key, or a text with XML's entities
    Xml,
    /// `text/csv`; the body is a list of objects
    Csv,
    /// `text/plain; charset=utf-8`
    Text,
    /// No body and no content type.
    None,
}

/// A text body in a file of its own.
#[derive(Debug, Clone)]
pub struct BodyFile {
    /// Its text, as one template.
    pub text: Template,
    /// How values are escaped in it, by the file's ending (`.json.j2`, `.xml.j2`, other).
    pub escape: Escape,
}

/// How a value is written into a text body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escape {
    /// As it is.
    None,
    /// As a JSON value.
    Json,
    /// With XML's entities.
    Xml,
}

/// Whether repeating a request is harmless.
#[derive(Debug, Clone, PartialEq)]
pub enum Idempotency {
    /// A repeat can act twice (a plain POST).
    None,
    /// A repeat has the same effect.
    Natural,
    /// The far side drops repeats that carry the same key in this header.
    Header {
        /// The header's name.
        name: String,
        /// How long the far side remembers a key.
        remembered: Option<Duration>,
        /// The key itself, when the endpoint says it.
        value: Option<Template>,
    },
}

impl Idempotency {
    /// The key, when the endpoint says it.
    #[must_use]
    pub const fn value(&self) -> Option<&Template> {
        match self {
            Self::Header { value, .. } => value.as_ref(),
            Self::None | Self::Natural => None,
        }
    }
}

/// How to find out whether a request in doubt was applied.
#[derive(Debug, Clone)]
pub struct Reconcile {
    /// Wait before the first look.
    pub after: Duration,
    /// Looks in all.
    pub tries: NonZeroU32,
    /// The method of the look.
    pub method: http::Method,
    /// Its path.
    pub path: Template,
    /// Its query.
    pub query: Vec<(Placed<String>, Tree)>,
    /// True when the write is there.
    pub applied: Template,
    /// True when it certainly is not.
    pub not_applied: Option<Template>,
    /// What to keep of the look when it was applied.
    pub captures: Vec<(Placed<String>, Template)>,
}

/// One exception from the usual reading of a reply.
#[derive(Debug, Clone)]
pub struct OutcomeRule {
    /// Statuses it is for; empty is any.
    pub statuses: Vec<StatusMatch>,
    /// An expression over `response` that must be true.
    pub when: Option<Template>,
    /// What it decides.
    pub then: Then,
    /// With `retry`: the wait where the reply names none.
    pub wait: Option<Duration>,
    /// Class to note instead of the usual.
    pub class: Option<String>,
    /// Message to show.
    pub message: Option<Template>,
    /// Decides even when an earlier attempt of the record ended unknown.
    pub after_unknown: bool,
    /// Where it was written.
    pub place: Place,
}

/// `404`, or a class such as `4xx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusMatch {
    /// One status.
    Exactly(u16),
    /// `2xx` is 2. Never matches 408, 425 and 429.
    Class(u8),
}

/// What an outcome rule decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The far side acted.
    Delivered,
    /// Nothing was applied; try again.
    Retry,
    /// Nothing was applied; it will not be.
    Failed,
    /// It may have been applied.
    InDoubt,
    /// Not needed.
    Skipped,
    /// The run has to stop; a person looks.
    Stop,
}

/// `errors:` how to read a refusal; missing fields read as empty.
#[derive(Debug, Clone, Default)]
pub struct ErrorReading {
    /// The machine word.
    pub class: Option<Template>,
    /// The human text.
    pub message: Option<Template>,
}

/// `sandbox:` of an endpoint.
#[derive(Debug, Clone, Default)]
pub struct SandboxSpec {
    /// A fixed reply instead of the stored object.
    pub reply: Option<SandboxReply>,
    /// Fields of which no two objects may hold the same value.
    pub unique: Vec<String>,
    /// One result in the reply to a call with several records, or one item of a list.
    pub item: Option<Tree>,
    /// How many items a list has.
    pub list: Option<usize>,
    /// The reply to an object whose unique field is taken.
    pub unique_reply: Option<SandboxReply>,
}

/// A reply of the sandbox.
#[derive(Debug, Clone)]
pub struct SandboxReply {
    /// Status.
    pub status: u16,
    /// Body, with expressions over `request` and `new`.
    pub body: Option<Tree>,
    /// Headers.
    pub headers: Vec<(String, String)>,
}

/// `delivery:`
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Whether an attempt that may have acted can be repeated at all.
    pub mode: Mode,
    /// Requests in flight at once.
    pub concurrency: Concurrency,
    /// Requests a second, if limited.
    pub rate: Option<f64>,
    /// Limit on one attempt, from connecting to the end of the reply.
    pub timeout: Duration,
    /// Limit on making a connection.
    pub connect_timeout: Duration,
    /// How long an orderly stop waits for replies.
    pub stop_grace: Duration,
    /// What outlives what.
    pub durability: Durability,
    /// When an attempt is repeated.
    pub retry: Retry,
    /// What must not be in flight together; `None` is the key, if there is one.
    pub order_by: Option<Template>,
    /// Whether later records of an order value go on after a failure.
    pub on_failure: OnFailure,
    /// When the run gives up.
    pub stop_when: StopWhen,
    /// Bytes kept of one decoded reply body.
    pub max_reply: usize,
    /// Bytes of one rendered body.
    pub max_body: usize,
    /// Bytes of all files of one body.
    pub max_files: usize,
}

/// `delivery.concurrency`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concurrency {
    /// So many.
    Fixed(NonZeroUsize),
    /// As many as the far side takes well.
    Adaptive {
        /// Never more.
        most: NonZeroUsize,
    },
}

impl Concurrency {
    /// Requests in flight at the most: what sizes go by.
    #[must_use]
    pub const fn most(self) -> NonZeroUsize {
        match self {
            Self::Fixed(most) | Self::Adaptive { most } => most,
        }
    }
}

impl std::fmt::Display for Concurrency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(lanes) => lanes.fmt(f),
            Self::Adaptive { most } => write!(f, "adaptive up to {most}"),
        }
    }
}

/// `delivery.mode`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Nothing is lost; a repeat is noted.
    #[default]
    AtLeastOnce,
    /// At most one attempt of a record can have acted.
    AtMostOnce,
}

/// What happens to a record in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InDoubt {
    /// Send again, same bytes, same key.
    Resend,
    /// Ask the far side.
    Probe,
    /// Wait for a person.
    Hold,
    /// Leave out, with the reason.
    Skip,
}

/// What outlives what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The checkpoint survives loss of power.
    #[default]
    Power,
    /// It survives the death of the process only.
    Process,
}

/// `retry:`
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Sendings in all; 1 means no retry.
    pub attempts: NonZeroU32,
    /// Upper end of the first random wait.
    pub first_wait: Duration,
    /// Upper end of any random wait.
    pub max_wait: Duration,
    /// A longer wait asked for by the far side stops the run.
    pub max_retry_after: Duration,
}

/// Whether later records of an order value go on after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// They go on.
    #[default]
    Continue,
    /// They wait, unsent.
    HoldRest,
}

/// `stop_when:` the error budget.
#[derive(Debug, Clone, PartialEq)]
pub struct StopWhen {
    /// Failed and invalid records in all.
    pub failures: Option<u64>,
    /// Failed and invalid records with this class, each class with its limit.
    pub classes: Vec<(String, u64)>,
    /// Share of failures among the last `window` outcomes, 0 to 1.
    pub failure_rate: Option<f64>,
    /// Outcomes that the rate looks at.
    pub window: usize,
    /// The rate is judged once so many outcomes are there; at most `window`.
    pub min_sample: usize,
    /// The first so many go one at a time; more than half refused halts the run.
    pub canary: Option<u64>,
    /// Attempts in a row that ended unknown, with 5xx, without connection or with 429.
    pub consecutive: u64,
}

/// `sync:`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Everything is sent again.
    All,
    /// Only keys that no earlier run delivered.
    New,
    /// Those, and keys whose requests are not what was delivered last.
    Changed,
}

/// How much may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cap {
    /// So many keys.
    Count(u64),
    /// This share of all that were delivered.
    Share {
        /// In millionths, so that nothing is rounded: 10,000 is one percent.
        millionths: u32,
    },
}

/// What new input means while an older run still has pending records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnNewInput {
    /// An error that names the choices.
    #[default]
    Refuse,
    /// The older run is closed, its rest stays unsent.
    Close,
}
