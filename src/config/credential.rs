//! Credentials as they may be written where their values must not be: names of variables.
//!
//! `preview` shows them; `deliver::auth` puts the values on a request. Invariant: nothing in here
//! comes from a secret's value.

use super::auth_forms::{RawAuth, RawAuthKinds};
use super::base_url::{Part, parts};
use super::settings::{Settings, Slot};
use crate::model::{Placed, Value};

/// One credential of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// What carries it.
    pub carrier: Carrier,
    /// Its value.
    pub parts: Vec<CredentialPart>,
}

/// What carries a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carrier {
    /// A header.
    Header(String),
    /// A query parameter.
    Query(String),
    /// `Authorization: Basic` of user, colon, password.
    Basic,
    /// The headers of AWS Signature Version 4, made of access key, colon, secret key.
    AwsSigV4 {
        /// The region.
        region: Vec<CredentialPart>,
        /// The service.
        service: Vec<CredentialPart>,
    },
}

impl Carrier {
    /// The query parameter that it is, if it is one.
    #[must_use]
    pub fn parameter(&self) -> Option<String> {
        if let Self::Query(name) = self { Some(name.clone()) } else { None }
    }
}

/// A piece of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialPart {
    /// Text that is no secret.
    Text(String),
    /// The value of an environment variable.
    Variable(String),
    /// The content of a file.
    File(String),
    /// What is fetched or signed when it is needed.
    Made {
        /// A name for it, as of a variable.
        name: &'static str,
        /// What it is, in words.
        what: String,
        /// The variables and files that it is made of.
        of: Vec<CredentialPart>,
    },
}

/// The credentials of a connection, in the order in which they are added to a request.
pub(super) fn credentials(
    auth: Option<&RawAuth>,
    headers: &[(Placed<String>, Placed<String>)],
    settings: &Settings,
) -> Vec<Credential> {
    let mut found = Vec::new();
    let mut add = |carrier, parts| found.push(Credential { carrier, parts });
    let part = |name: Option<&Placed<String>>| match name {
        Some(name) => part_of(&name.value, settings),
        None => CredentialPart::Text(String::new()),
    };
    if let Some(RawAuth::Kinds(kinds)) = auth {
        if let Some(name) = &kinds.bearer {
            let scheme = CredentialPart::Text("Bearer ".into());
            add(Carrier::Header("Authorization".into()), vec![scheme, part(Some(name))]);
        } else if let Some(basic) = &kinds.basic {
            let colon = CredentialPart::Text(":".into());
            add(Carrier::Basic, vec![part(basic.user.0.as_ref()), colon, part(basic.password.0.as_ref())]);
        } else if let Some(key) = &kinds.api_key {
            let value = part(key.value.0.as_ref());
            match (&key.header, &key.query) {
                (Some(name), None) => add(Carrier::Header(name.value.clone()), vec![value]),
                (None, Some(name)) => add(Carrier::Query(name.value.clone()), vec![value]),
                _ => {}
            }
        } else {
            signed(kinds, settings, &mut add);
        }
    }
    for (name, text) in headers {
        let Some(pieces) = parts(&text.value) else { continue };
        let is_secret =
            |piece: &Part<'_>| matches!(piece, Part::Setting(name, _) if settings.is_secret(name));
        if !pieces.iter().any(is_secret) {
            continue;
        }
        add(Carrier::Header(name.value.clone()), text_of(text, settings));
    }
    found
}

/// Credentials that are fetched or signed.
fn signed(kinds: &RawAuthKinds, settings: &Settings, add: &mut impl FnMut(Carrier, Vec<CredentialPart>)) {
    let all = |names: &[Option<&Placed<String>>]| -> Vec<CredentialPart> {
        let given = names.iter().flatten().filter(|name| !settings.is_left_out(&name.value));
        given.map(|name| part_of(&name.value, settings)).collect()
    };
    let text = |text: &str| CredentialPart::Text(text.to_owned());
    if let Some(raw) = &kinds.oauth2 {
        let url = raw.token_url.0.as_ref();
        let url: String = url.map(|url| settings.shown(url)).unwrap_or_default();
        let of = all(&[
            raw.client_id.0.as_ref(),
            raw.client_secret.as_ref(),
            raw.refresh_token.as_ref(),
            raw.user.as_ref(),
            raw.password.as_ref(),
        ]);
        let what = format!("the `access_token` that {url} gives");
        let made = CredentialPart::Made { name: "ACCESS_TOKEN", what, of };
        add(Carrier::Header("Authorization".into()), vec![text("Bearer "), made]);
    } else if let Some(raw) = &kinds.jwt {
        let header = raw.header.as_ref().map_or("Authorization", |name| &name.value);
        let scheme = raw.scheme.as_ref().map_or("Bearer", |scheme| &scheme.value);
        let scheme = if scheme.is_empty() { String::new() } else { format!("{scheme} ") };
        let (what, of) = ("the token that is signed".to_owned(), all(&[raw.key.0.as_ref()]));
        let made = CredentialPart::Made { name: "SIGNED_TOKEN", what, of };
        add(Carrier::Header(header.to_owned()), vec![text(&scheme), made]);
    } else if let Some(raw) = &kinds.hmac {
        let prefix = raw.prefix.as_ref().map_or("", |prefix| &prefix.value);
        let (what, of) = ("the signature of this request".to_owned(), all(&[raw.key.0.as_ref()]));
        let made = CredentialPart::Made { name: "SIGNATURE", what, of };
        if let Some(header) = &raw.header.0 {
            add(Carrier::Header(header.value.clone()), vec![text(prefix), made]);
        }
        if let Some(header) = raw.time.as_ref().and_then(|time| time.header.0.as_ref()) {
            let what = "the time of the signature".to_owned();
            let made = CredentialPart::Made { name: "SIGNATURE_TIME", what, of: Vec::new() };
            add(Carrier::Header(header.value.clone()), vec![made]);
        }
    } else if let Some(raw) = &kinds.aws_sigv4 {
        let of = |text: &Option<Placed<String>>| {
            text.as_ref().map(|text| text_of(text, settings)).unwrap_or_default()
        };
        let carrier = Carrier::AwsSigV4 { region: of(&raw.region.0), service: of(&raw.service.0) };
        let keys = all(&[raw.access_key.0.as_ref(), raw.secret_key.0.as_ref()]);
        if let [access, secret] = keys.as_slice() {
            add(carrier, vec![access.clone(), text(":"), secret.clone()]);
        }
        if let Some(name) = raw.session_token.as_ref().filter(|name| !settings.is_left_out(&name.value)) {
            add(Carrier::Header("X-Amz-Security-Token".into()), vec![part_of(&name.value, settings)]);
        }
    }
}

/// The pieces of a text with settings in it.
fn text_of(text: &Placed<String>, settings: &Settings) -> Vec<CredentialPart> {
    let pieces = parts(&text.value).unwrap_or_default().into_iter().map(|piece| match piece {
        Part::Text(text) => CredentialPart::Text(text.to_owned()),
        Part::Setting(name, _) => part_of(name, settings),
    });
    pieces.collect()
}

fn part_of(name: &str, settings: &Settings) -> CredentialPart {
    if let Some((_, source)) = settings.sources.iter().find(|(known, _)| known == name) {
        return source.clone();
    }
    match settings.get(name) {
        Some(Slot::Public(Value::String(text))) => CredentialPart::Text(text.to_string()),
        Some(Slot::Public(other)) => CredentialPart::Text(other.to_json()),
        // Made from other settings: there is no variable that holds it as a whole.
        _ => CredentialPart::Variable(name.to_uppercase().replace('-', "_")),
    }
}
