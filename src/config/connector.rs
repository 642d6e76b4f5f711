//! `templates/<connector>/connector.yaml` as written, and the parts that endpoints share with it.

use super::auth_forms::RawAuth;
use super::raw::{Entries, FromNode, Needed, OneOrMany, raw, words};
use super::read::{Kind, Node};
use super::values::{Lanes, Method, Rate, Span};
use super::{CheckCall, ErrorReading, Limits, OutcomeRule, ParamKind, StatusMatch, Then, Tree};
use crate::model::{Diagnostic, Placed, Problems, Value};

raw! {
    /// A connector: what one API needs in general.
    RawConnector, "a connector" {
        /// Title for people.
        title: Option<String>,
        /// Where the API is documented.
        docs: Option<String>,
        /// What a connection of this connector has to give.
        settings: Entries<RawSettingDecl>,
        /// Scheme, host, port and path prefix; settings by `{{ connection.NAME }}`.
        base_url: Needed<Placed<String>>,
        /// How requests prove who sends them.
        auth: Option<RawAuth>,
        /// Headers of every request; settings by `{{ connection.NAME }}`, also secret ones.
        headers: Entries<Placed<String>>,
        /// Defaults that a pipeline may go below, and above with `force`.
        limits: Option<RawLimits>,
        /// How to read a refusal.
        errors: Option<RawErrors>,
        /// Exceptions from the usual reading of a reply; the first match decides.
        outcomes: Vec<RawOutcome>,
        /// What all its lists have in common.
        pagination: Option<super::pagination::RawPagination>,
        /// What `runner check-connection` calls.
        check: Option<RawCheck>,
        /// How the embedded stand-in answers.
        sandbox: Option<RawConnectorSandbox>,
    }
    wrong {
        "url" => "the base of all URLs is written `base_url: https://host/path`",
        "header" => "it is written `headers: { Name: value }`",
        "rate_headers" => "x-ratelimit, ratelimit and retry-after are read without being named; `limits: { rate: 50/s }` sets a ceiling",
    }
}

raw! {
    /// A setting that a connection has to give.
    RawSettingDecl, "a setting" {
        /// Its type; text unless said.
        r#type: Option<ParamKind>,
        /// Whether its value must not be seen.
        secret: Option<bool>,
        /// A regular expression that its text has to match.
        pattern: Option<Placed<String>>,
        /// Its value when a connection gives none; settings by `{{ connection.NAME }}`.
        default: Option<Placed<Value>>,
        /// Whether a connection has to give it; true unless there is a default.
        required: Option<bool>,
        /// What it is and where to find it.
        description: Option<String>,
    }
}

raw! {
    /// Recommended limits.
    RawLimits, "`limits`" {
        /// Requests in flight at once: a ceiling, also of what is `adaptive` in a pipeline.
        concurrency: Option<Ceiling>,
        /// Requests in a time, such as `50/s`.
        rate: Option<Rate>,
    }
}

/// Lanes that a limit allows. What follows the far side has none by itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ceiling(Lanes);

impl FromNode for Ceiling {
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        let is_adaptive = match &node.kind {
            Kind::Text(text) => text == "adaptive",
            Kind::Map(entries) => entries.iter().any(|(key, _)| key.value == "adaptive"),
            _ => false,
        };
        if !is_adaptive {
            return Lanes::read(node, what, problems).map(Self);
        }
        let message =
            format!("`limits: {{ {what} }}` is a ceiling, so it has to be a number and cannot be `adaptive`");
        problems.push(Diagnostic::error("bad-value", message).place(&node.place).help(
            "write the most that any pipeline may use here; a pipeline, or `defaults` of runner.yaml, says `delivery: { concurrency: adaptive }`",
        ));
        None
    }
}

impl schemars::JsonSchema for Ceiling {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        Lanes::schema_name()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Lanes::json_schema(generator)
    }
}

raw! {
    /// How to read a refusal.
    RawErrors, "`errors`" {
        /// The machine word: an expression over `response`.
        class: Option<Placed<String>>,
        /// The text for people: an expression over `response`.
        message: Option<Placed<String>>,
    }
}

raw! {
    /// An exception from the usual reading of a reply.
    RawOutcome, "an outcome" {
        /// Statuses it is for, such as `404` or `4xx`; any if it is missing.
        status: OneOrMany<StatusMatch>,
        /// An expression over `response` that has to be true.
        when: Option<Placed<String>>,
        /// What it decides.
        then: Needed<Then>,
        /// With `retry`: how long nothing is sent, where the reply names no time.
        wait: Option<Placed<Span>>,
        /// Class to note instead of the usual.
        class: Option<String>,
        /// Message to show.
        message: Option<Placed<String>>,
        /// Whether it decides even when an earlier attempt ended unknown.
        after_unknown: Option<bool>,
    }
}

raw! {
    /// A call that only looks.
    RawCheck, "`check`" {
        /// The method; GET unless said.
        method: Option<Method>,
        /// The path below the base URL.
        path: Needed<Placed<String>>,
    }
}

raw! {
    /// How the embedded stand-in answers.
    RawConnectorSandbox, "`sandbox`" {
        /// Body of its errors, with `{{ status }}`, `{{ class }}` and `{{ message }}`.
        error: Option<Tree>,
    }
}

words!(Then {
    "delivered" => Self::Delivered,
    "retry" => Self::Retry,
    "failed" => Self::Failed,
    "in_doubt" => Self::InDoubt,
    "skipped" => Self::Skipped,
    "stop" => Self::Stop,
});

impl RawOutcome {
    pub(super) fn resolve(&self, problems: &mut Problems) -> Option<OutcomeRule> {
        if let Some(wait) = self.wait.as_ref().filter(|_| self.then.0.is_some_and(|then| then != Then::Retry))
        {
            problems.push(
                Diagnostic::error("outcome-wait", "`wait` is for what is sent again")
                    .place(&wait.place)
                    .help("leave it out, or write `then: retry`"),
            );
        }
        // What is not there matches nothing, so such a rule does not see a reply that lacks the field.
        if let Some(when) = self.when.as_ref().filter(|when| misses_what_is_not_there(&when.value)) {
            problems.push(
                Diagnostic::warning(
                    "outcome-missing-field",
                    "a reply without this field does not match, although `!=` and `not` read as if it did",
                )
                .place(&when.place)
                .help("say what a missing field means: `response.body.state | default('') != 'done'`"),
            );
        }
        Some(OutcomeRule {
            statuses: self.status.0.clone(),
            when: self.when.clone(),
            then: self.then.0?,
            wait: self.wait.as_ref().map(|wait| wait.value.0),
            class: self.class.clone(),
            message: self.message.clone(),
            after_unknown: self.after_unknown == Some(true),
            place: self.place.clone(),
        })
    }
}

/// Whether a condition asks that a field of the reply is not something, without saying what it is where it
/// is not there.
fn misses_what_is_not_there(when: &str) -> bool {
    let denies = when.contains("!=") || when.contains("not response.");
    denies && when.contains("response.body") && !when.contains("default(")
}

impl RawErrors {
    pub(super) fn resolve(&self) -> ErrorReading {
        ErrorReading { class: self.class.clone(), message: self.message.clone() }
    }
}

impl RawLimits {
    pub(super) fn resolve(&self) -> Limits {
        Limits {
            concurrency: self.concurrency.map(|ceiling| ceiling.0.0),
            rate: self.rate.map(|rate| rate.0),
        }
    }
}

impl RawCheck {
    pub(super) fn resolve(&self, problems: &mut Problems) -> Option<CheckCall> {
        let path = self.path.0.clone()?;
        super::endpoint::check_path(&path, problems);
        let method = self.method.as_ref().map_or(http::Method::GET, |method| method.0.clone());
        Some(CheckCall { method, path })
    }
}

/// Whether a header frames a message, belongs to one connection (RFC 9110, 7.6.1) or names the
/// host: only the sender itself sets these.
#[must_use]
pub fn is_framing(name: &str) -> bool {
    const NAMES: [&str; 10] = [
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let name = name.to_ascii_lowercase();
    NAMES.contains(&name.as_str()) || name.starts_with("proxy-")
}

/// Headers that frame or route a request are not for templates to set.
pub(super) fn check_header(name: &Placed<String>, problems: &mut Problems) {
    if is_framing(&name.value) {
        problems.push(
            Diagnostic::error("header-not-allowed", format!("the header `{}` cannot be set", name.value))
                .place(&name.place)
                .help("it frames or routes the request, which is done by the sender itself"),
        );
    } else if http::HeaderName::from_bytes(name.value.as_bytes()).is_err() {
        problems.at("header-name", &name.place, format!("`{}` is not the name of a header", name.value));
    }
}

#[cfg(test)]
mod tests {
    use super::misses_what_is_not_there;

    #[test]
    fn a_denial_of_what_may_be_missing_is_seen() {
        for (when, misses) in [
            ("{{ response.body.ok != true }}", true),
            ("{{ not response.body.ok }}", true),
            ("{{ response.body.ok == false }}", false),
            ("{{ response.body.state | default('') != 'done' }}", false),
            ("{{ response.status != 404 }}", false),
        ] {
            assert_eq!(misses_what_is_not_there(when), misses, "{when}");
        }
    }
}
