//! Credentials as they may be written where their values must not be: names of variables.
//!
//! `preview` shows them; `deliver::auth` puts the values on a request. Invariant: nothing in here
//! comes from a secret's value.

use super::auth_forms::RawAuth;
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
        }
    }
    for (name, text) in headers {
        let Some(pieces) = parts(&text.value) else { continue };
        let is_secret =
            |piece: &Part<'_>| matches!(piece, Part::Setting(name, _) if settings.is_secret(name));
        if !pieces.iter().any(is_secret) {
            continue;
        }
        let pieces = pieces.into_iter().map(|piece| match piece {
            Part::Text(text) => CredentialPart::Text(text.to_owned()),
            Part::Setting(name, _) => part_of(name, settings),
        });
        add(Carrier::Header(name.value.clone()), pieces.collect());
    }
    found
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
