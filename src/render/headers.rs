//! Header names, fixed and checked before any record, and header values of one request.
//!
//! Invariant: no value, wherever it comes from, can end its header (S13), and no template sets a
//! header that frames the message or names the sender (S14).

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::context::{Context, Scope};
use super::engine::write_text;
use super::error::RenderError;
use super::leaf::Leaf;
use crate::config::{Connection, Endpoint, HeaderTemplate, Idempotency, is_framing};
use crate::model::{Diagnostic, Place, Problems, Value};

/// All headers of a request but credentials.
#[derive(Debug)]
pub(super) struct HeadersTemplate {
    entries: Vec<(HeaderName, Leaf)>,
    /// The header that carries the idempotency key, and the key when the endpoint says it.
    key: Option<(HeaderName, Option<Leaf>)>,
}

impl HeadersTemplate {
    pub fn compile(
        endpoint: &Endpoint,
        connection: &Connection,
        scope: &Scope,
        problems: &mut Problems,
    ) -> Option<Self> {
        let before = problems.errors();
        let mut entries = of_connection(connection, scope, problems);
        let set = connection.auth.headers();
        for (name, template) in &endpoint.headers {
            let header = checked(&name.value, &name.place, problems);
            let header = header.filter(|header| is_free(header, &set, &name.place, problems));
            add(&mut entries, header, Leaf::compile(template, scope, problems));
        }
        let key = match &endpoint.idempotency {
            Idempotency::Header { name, value, .. } => {
                let place = value.as_ref().map_or(&endpoint.place, |value| &value.place);
                let leaf = value.as_ref().map(|value| Leaf::compile(value, scope, problems));
                let name =
                    checked(name, place, problems).filter(|header| is_free(header, &set, place, problems));
                if let Some((name, _)) =
                    name.as_ref().and_then(|name| entries.iter().find(|(old, _)| old == name))
                {
                    let message =
                        format!("the header `{name}` carries the idempotency key and is set a second time");
                    problems.push(
                        Diagnostic::error("header-name", message)
                            .place(place)
                            .help("give the key with `idempotency: { header: …, value: … }`"),
                    );
                }
                match leaf {
                    Some(None) => None,
                    Some(Some(leaf)) => name.map(|name| (name, Some(leaf))),
                    None => name.map(|name| (name, None)),
                }
            }
            Idempotency::None | Idempotency::Natural => None,
        };
        (problems.errors() == before).then_some(Self { entries, key })
    }

    /// The headers of a call that belongs to no record.
    pub fn of_connection(connection: &Connection, scope: &Scope, problems: &mut Problems) -> Option<Self> {
        let before = problems.errors();
        let entries = of_connection(connection, scope, problems);
        (problems.errors() == before).then_some(Self { entries, key: None })
    }

    /// The headers of one request, and the idempotency key if the endpoint makes it.
    pub fn render(&self, context: &Context) -> Result<(HeaderMap, Option<HeaderValue>), RenderError> {
        let mut headers = HeaderMap::with_capacity(self.entries.len() + 2);
        for (name, leaf) in &self.entries {
            if let Some(value) = rendered(name, leaf, context)? {
                headers.insert(name.clone(), value);
            }
        }
        let key = match &self.key {
            Some((name, Some(leaf))) => rendered(name, leaf, context)?,
            _ => None,
        };
        Ok((headers, key))
    }

    /// The header that carries the idempotency key.
    pub fn key_name(&self) -> Option<&HeaderName> {
        self.key.as_ref().map(|(name, _)| name)
    }
}

/// The connector's headers. Secret ones are credentials: `deliver` adds them.
fn of_connection(connection: &Connection, scope: &Scope, problems: &mut Problems) -> Vec<(HeaderName, Leaf)> {
    let mut entries = Vec::new();
    for (name, value) in &connection.headers {
        if let HeaderTemplate::Plain(template) = value {
            let name = checked(name, &template.place, problems);
            add(&mut entries, name, Leaf::compile(template, scope, problems));
        }
    }
    entries
}

/// Later headers win: the pipeline's stand last, before them the endpoint's, then the connector's.
fn add(entries: &mut Vec<(HeaderName, Leaf)>, name: Option<HeaderName>, leaf: Option<Leaf>) {
    if let (Some(name), Some(leaf)) = (name, leaf) {
        entries.retain(|(old, _)| *old != name);
        entries.push((name, leaf));
    }
}

fn rendered(name: &HeaderName, leaf: &Leaf, context: &Context) -> Result<Option<HeaderValue>, RenderError> {
    let value = leaf.value(context)?;
    if matches!(value, Value::Absent) {
        return Ok(None);
    }
    let mut text = String::new();
    write_text(&value, &mut text).map_err(|said| {
        let (message, help) = said.message.split_once("; ").unwrap_or((&said.message, ""));
        RenderError::new("header-value", leaf.place(), format!("the header `{name}`: {message}")).help(help)
    })?;
    header_value(name, &text, leaf.place()).map(Some)
}

/// Text as a header value: visible ASCII and blanks.
pub(super) fn header_value(name: &HeaderName, text: &str, place: &Place) -> Result<HeaderValue, RenderError> {
    if let Some(c) = text.chars().find(|c| !matches!(c, ' '..='~')) {
        let kind = if c.is_control() { "the control character " } else { "" };
        let message = format!("the value of the header `{name}` holds {kind}U+{:04X}", u32::from(c));
        let error = RenderError::new("header-value", place, message);
        return Err(if c.is_ascii() {
            error
        } else {
            error.help("headers are ASCII; `| urlencode` or `| base64` make it so")
        });
    }
    HeaderValue::from_str(text).map_err(|_| {
        RenderError::new("header-value", place, format!("the header `{name}` cannot hold this value"))
    })
}

/// Whether a header is not one that the connection's `auth` sets.
fn is_free(header: &HeaderName, set: &[String], place: &Place, problems: &mut Problems) -> bool {
    let free = !set.iter().any(|name| name == header.as_str());
    if !free {
        problems.push(
            Diagnostic::error("header-name", format!("`{header}` is set by the connection's `auth`"))
                .place(place)
                .help("leave the header out"),
        );
    }
    free
}

/// A header name that a template may set.
fn checked(name: &str, place: &Place, problems: &mut Problems) -> Option<HeaderName> {
    let mut bad = |message: String, help: &str| {
        problems.push(Diagnostic::error("header-name", message).place(place).help(help));
        None
    };
    let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
        return bad(
            format!("`{}` is no name of a header", name.escape_debug()),
            "letters, digits and dashes, such as `X-Request-Id`",
        );
    };
    if header == header::AUTHORIZATION {
        return bad(
            "`Authorization` is set by the connection's `auth`".to_owned(),
            "give the credentials in runner.yaml",
        );
    }
    if is_framing(header.as_str()) {
        return bad(
            format!("`{name}` belongs to the connection itself and cannot be set"),
            "leave the header out",
        );
    }
    Some(header)
}
