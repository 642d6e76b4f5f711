//! `auth:`: how requests prove who sends them.
//!
//! Invariant: every secret in here is the value of a setting, and no finding shows one.

use super::auth_forms::RawAuth;
use super::connector::check_header;
use super::settings::{Settings, Slot, unknown_setting};
use crate::model::{Placed, Problems, Secret, Value};

/// How requests prove who sends them. Secrets are `None` while they are unset.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    /// No credentials.
    #[default]
    None,
    /// `Authorization: Bearer …` (RFC 6750).
    Bearer(Option<Secret>),
    /// `Authorization: Basic …` (RFC 7617).
    Basic {
        /// User name.
        user: Option<Secret>,
        /// Password.
        password: Option<Secret>,
    },
    /// A key in a header of any name.
    ApiKeyHeader {
        /// The header.
        name: String,
        /// The key.
        value: Option<Secret>,
    },
    /// A key in the query.
    ApiKeyQuery {
        /// The query parameter.
        name: String,
        /// The key.
        value: Option<Secret>,
    },
}

impl Auth {
    /// Whether a request carries credentials.
    #[must_use]
    pub const fn is_some(&self) -> bool {
        !matches!(self, Self::None)
    }
}

/// Fills what `auth:` names with the values of settings.
pub(super) fn auth(raw: Option<&RawAuth>, settings: &Settings, problems: &mut Problems) -> Auth {
    let Some(RawAuth::Kinds(kinds)) = raw else { return Auth::None };
    if let Some(name) = &kinds.bearer {
        return Auth::Bearer(credential(name, settings, problems));
    }
    if let Some(basic) = &kinds.basic {
        let mut get = |name: &Option<Placed<String>>| credential(name.as_ref()?, settings, problems);
        return Auth::Basic { user: get(&basic.user.0), password: get(&basic.password.0) };
    }
    let Some(key) = &kinds.api_key else { return Auth::None };
    let value = key.value.0.as_ref().and_then(|name| credential(name, settings, problems));
    match (&key.header, &key.query) {
        (Some(name), None) => {
            check_header(name, problems);
            Auth::ApiKeyHeader { name: name.value.clone(), value }
        }
        (None, Some(name)) => Auth::ApiKeyQuery { name: name.value.clone(), value },
        _ => {
            problems.at("auth", &key.place, "`api_key` needs either `header` or `query`");
            Auth::None
        }
    }
}

/// The value of the setting that `auth` names.
fn credential(name: &Placed<String>, settings: &Settings, problems: &mut Problems) -> Option<Secret> {
    match settings.get(&name.value) {
        Some(Slot::Secret(secret)) => Some(secret.clone()),
        // A user name need not be secret.
        Some(Slot::Public(Value::String(text))) => Some(Secret::new(text.to_string())),
        Some(Slot::Public(other)) => Some(Secret::new(other.to_json())),
        Some(Slot::Unset { .. } | Slot::Nothing) => None,
        None => {
            let names: Vec<&str> = settings.names().collect();
            // A pasted token is no name of a setting and must not be shown.
            let place = super::secrets::hidden(&name.place);
            let shown = if name.value.len() > 40 { "…" } else { name.value.as_str() };
            let place = if shown == "…" { &place } else { &name.place };
            problems.push(unknown_setting(shown, place, names.iter().copied()));
            None
        }
    }
}
