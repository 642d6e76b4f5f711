//! The settings of a connection: what a connector declares, filled from what the connection gives.
//!
//! Secrets and public values are apart from here on: a `Slot::Secret` can only go into `auth` and
//! headers. Invariant: the value of a secret is never in a finding.

use super::base_url::{Part, parts};
use super::connection::RawConnection;
use super::connector::{RawConnector, RawSettingDecl};
use super::env::{self, Environment, Found, RawSetting};
use super::files::Files;
use super::secrets::hidden;
use super::{CredentialPart, ParamKind, Unset, typed};
use crate::model::{Diagnostic, Map, Place, Placed, Problems, Secret, Value, did_you_mean};

/// What a setting holds.
#[derive(Debug, Clone)]
pub(super) enum Slot {
    /// A value that may be seen.
    Public(Value),
    /// A value that must not.
    Secret(Secret),
    /// Nothing yet; what it shows as.
    Unset { shown: String, secret: bool },
    /// Left out, as it may be: `required: false`.
    LeftOut,
    /// Something wrong, which is noted.
    Nothing,
}

/// All settings of a connection.
#[derive(Debug, Default)]
pub(super) struct Settings {
    slots: Vec<(String, Slot)>,
    pub(super) unset: Vec<Unset>,
    /// The variables and files that secrets came from.
    pub(super) secrets_from: Vec<String>,
    /// Where values come from that are not written in the file.
    pub(super) sources: Vec<(String, CredentialPart)>,
}

/// A text after substitution.
pub(super) struct Expanded {
    pub(super) text: String,
    pub(super) secret: bool,
    pub(super) unset: bool,
}

impl Settings {
    pub(super) fn get(&self, name: &str) -> Option<&Slot> {
        self.slots.iter().find(|(known, _)| known == name).map(|(_, slot)| slot)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.slots.iter().map(|(name, _)| name.as_str())
    }

    /// The values that expressions may see.
    pub(super) fn public(&self) -> Map {
        let visible = |(name, slot): &(String, Slot)| match slot {
            Slot::Public(value) => Some((name.as_str().into(), value.clone())),
            Slot::Unset { shown, secret: false } => Some((name.as_str().into(), Value::text(shown.as_str()))),
            _ => None,
        };
        self.slots.iter().filter_map(visible).collect()
    }

    /// All secrets.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        let secret = |(_, slot): &(String, Slot)| match slot {
            Slot::Secret(secret) => Some(secret.clone()),
            _ => None,
        };
        self.slots.iter().filter_map(secret).collect()
    }

    /// Whether a setting must not be seen.
    pub(super) fn is_secret(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Slot::Secret(_) | Slot::Unset { secret: true, .. }))
    }

    /// Whether a setting has no value on purpose.
    pub(super) fn is_left_out(&self, name: &str) -> bool {
        match self.get(name) {
            Some(Slot::LeftOut) => true,
            Some(Slot::Public(value)) => value.as_str() == Some(""),
            _ => false,
        }
    }

    /// Whether a text is nothing but such a setting.
    pub(super) fn is_of_left_out(&self, text: &Placed<String>) -> bool {
        let parts = parts(&text.value).unwrap_or_default();
        matches!(parts.as_slice(), [Part::Setting(name, _)] if self.is_left_out(name))
    }

    /// A text as it may be shown, with stars for secrets.
    pub(super) fn shown(&self, text: &Placed<String>) -> String {
        let shown = |part| match part {
            Part::Text(text) => text.to_owned(),
            Part::Setting(name, _) => match self.get(name) {
                Some(Slot::Public(Value::String(text))) => text.to_string(),
                Some(Slot::Public(other)) => other.to_json(),
                Some(Slot::Unset { shown, .. }) => shown.clone(),
                Some(Slot::Secret(_) | Slot::LeftOut | Slot::Nothing) | None => "***".to_owned(),
            },
        };
        parts(&text.value).unwrap_or_default().into_iter().map(shown).collect()
    }

    /// Replaces the names of settings in a text, once.
    pub(super) fn expand(&self, text: &Placed<String>, problems: &mut Problems) -> Option<Expanded> {
        let Some(parts) = parts(&text.value) else {
            problems.push(
                Diagnostic::error("base-url-expression", "only `{{ connection.NAME }}` is possible here")
                    .place(&text.place)
                    .help("name settings of the connector; filters and other names are not available"),
            );
            return None;
        };
        // A text that cannot be used yet is only shown: no secret may get into it.
        let is_unset = |part: &Part<'_>| match part {
            Part::Setting(name, _) => matches!(self.get(name), Some(Slot::Unset { .. })),
            Part::Text(_) => false,
        };
        let only_shown = parts.iter().any(is_unset);
        let mut out = Expanded { text: String::new(), secret: false, unset: false };
        for part in parts {
            match part {
                Part::Text(literal) => out.text.push_str(literal),
                Part::Setting(name, at) => match self.get(name) {
                    Some(Slot::Public(value)) => match value {
                        Value::String(value) => out.text.push_str(value),
                        other => out.text.push_str(&other.to_json()),
                    },
                    Some(Slot::Secret(secret)) => {
                        out.secret = true;
                        out.text.push_str(if only_shown { "***" } else { secret.expose() });
                    }
                    Some(Slot::Unset { shown, secret }) => {
                        out.unset = true;
                        out.secret |= *secret;
                        out.text.push_str(shown);
                    }
                    Some(Slot::Nothing) => return None,
                    Some(Slot::LeftOut) => {
                        problems.push(left_out(name, &text.place.within(&text.value, at)));
                        return None;
                    }
                    None => {
                        let place = text.place.within(&text.value, at);
                        problems.push(unknown_setting(name, &place, self.names()));
                        return None;
                    }
                },
            }
        }
        Some(out)
    }
}

/// A name that no setting has.
pub(super) fn unknown_setting<'a>(
    name: &str,
    place: &Place,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Diagnostic {
    let finding = Diagnostic::error("unknown-setting", format!("there is no setting `{name}`")).place(place);
    let names: Vec<&str> = known.clone().collect();
    match did_you_mean(name, known) {
        Some(help) => finding.help(help),
        None if names.is_empty() => finding.help("the connector declares no settings"),
        None => finding.help(format!("the settings are: {}", names.join(", "))),
    }
}

/// A setting that is needed where it is named, and that the connection leaves out.
pub(super) fn left_out(name: &str, place: &Place) -> Diagnostic {
    Diagnostic::error("missing-setting", format!("`{name}` is needed here, but has no value"))
        .place(place)
        .help("give it one in the connection; the variable that it is read from may be empty")
}

/// Fills the declared settings, or, without a connector, takes what the connection gives.
pub(super) fn resolve(
    name: &str,
    place: &Place,
    raw: &RawConnection,
    connector: Option<(&str, &RawConnector)>,
    (env, files): (&Environment<'_>, &Files),
    problems: &mut Problems,
) -> Settings {
    let mut settings = Settings { sources: sources(raw), ..Settings::default() };
    let mut taker = Taker { connection: name, env, files, unset: Vec::new(), secrets_from: Vec::new() };
    let Some((folder, connector)) = connector else {
        for (key, given) in &raw.settings {
            let slot = taker.take(key, given, None, problems);
            settings.slots.push((key.value.clone(), slot));
        }
        settings.unset = taker.unset;
        settings.secrets_from = taker.secrets_from;
        return settings;
    };
    let declared = &connector.settings.0;
    for (key, _) in &raw.settings {
        if !declared.iter().any(|(known, _)| known.value == key.value) {
            let names = declared.iter().map(|(known, _)| known.value.as_str());
            let mut finding = unknown_setting(&key.value, &key.place, names);
            finding.message = format!("`{}` is not a setting of the connector {folder}", key.value);
            problems.push(finding);
        }
    }
    let mut waiting: Vec<(&Placed<String>, &Placed<String>, &RawSettingDecl)> = Vec::new();
    for (key, decl) in declared {
        let slot = match raw.settings.iter().find(|(given, _)| given.value == key.value) {
            Some((given_key, given)) => taker.take(given_key, given, Some(decl), problems),
            None => match &decl.default {
                Some(Placed { value: Value::String(_), .. }) => continue,
                Some(default) => Slot::Public(default.value.clone()),
                None if decl.required == Some(false) => Slot::LeftOut,
                None => {
                    let message = format!("connection `{name}` needs `{}`", key.value);
                    let finding = Diagnostic::error("missing-setting", message).place(place);
                    let example = if decl.secret == Some(true) { "" } else { ", secret: false" };
                    let variable = format!("{name}_{}", key.value).to_uppercase().replace('-', "_");
                    problems
                        .push(finding.help(format!("add `{}: {{ env: {variable}{example} }}`", key.value)));
                    Slot::Nothing
                }
            },
        };
        settings.slots.push((key.value.clone(), slot));
    }
    let defaults: Vec<(&Placed<String>, Placed<String>, &RawSettingDecl)> = declared
        .iter()
        .filter(|(key, _)| settings.get(&key.value).is_none())
        .filter_map(|(key, decl)| match &decl.default {
            Some(Placed { value: Value::String(text), place }) => {
                Some((key, Placed::new(text.to_string(), place.clone()), decl))
            }
            _ => None,
        })
        .collect();
    waiting.extend(defaults.iter().map(|(key, text, decl)| (*key, text, *decl)));
    // A default may name settings that have defaults themselves: each round fills what it can.
    while !waiting.is_empty() {
        let pending: Vec<String> = waiting.iter().map(|(key, ..)| key.value.clone()).collect();
        let ready = waiting.iter().position(|(_, text, _)| {
            parts(&text.value).is_none_or(|parts| {
                !parts
                    .iter()
                    .any(|part| matches!(part, Part::Setting(name, _) if pending.iter().any(|p| p == name)))
            })
        });
        let Some(ready) = ready else {
            for (key, text, _) in waiting.drain(..) {
                let message = format!("the default of `{}` needs itself", key.value);
                problems.at("setting-cycle", &text.place, message);
                settings.slots.push((key.value.clone(), Slot::Nothing));
            }
            break;
        };
        let (key, text, decl) = waiting.remove(ready);
        let slot = match settings.expand(text, problems) {
            None => Slot::Nothing,
            Some(out) if out.unset => {
                Slot::Unset { shown: out.text, secret: out.secret || decl.secret == Some(true) }
            }
            Some(out) if out.secret => Slot::Secret(Secret::new(out.text)),
            Some(out) => fitting(key, Value::text(out.text), &text.place, Some(decl), problems),
        };
        settings.slots.push((key.value.clone(), slot));
    }
    settings.unset = taker.unset;
    settings.secrets_from = taker.secrets_from;
    settings
}

/// Where the values of a connection come from that are not written in the file.
fn sources(raw: &RawConnection) -> Vec<(String, CredentialPart)> {
    let source = |given: &RawSetting| match given {
        RawSetting::Literal(..) => None,
        RawSetting::Env(raw) => Some(CredentialPart::Variable(raw.env.value.clone())),
        RawSetting::File(raw) => Some(CredentialPart::File(raw.file.value.clone())),
    };
    raw.settings.iter().filter_map(|(key, given)| Some((key.value.clone(), source(given)?))).collect()
}

struct Taker<'a> {
    connection: &'a str,
    env: &'a Environment<'a>,
    files: &'a Files,
    unset: Vec<Unset>,
    secrets_from: Vec<String>,
}

impl Taker<'_> {
    fn take(
        &mut self,
        key: &Placed<String>,
        given: &RawSetting,
        decl: Option<&RawSettingDecl>,
        problems: &mut Problems,
    ) -> Slot {
        let declared_secret = decl.is_some_and(|decl| decl.secret == Some(true));
        let (found, said, from) = match given {
            RawSetting::Literal(value, place) => {
                if declared_secret {
                    problems.push(
                        Diagnostic::error(
                            "secret-in-file",
                            format!("the secret `{}` is written into this file", key.value),
                        )
                        .place(&hidden(place))
                        .help("put it into an environment variable and write `{ env: NAME }`"),
                    );
                    return Slot::Nothing;
                }
                return fitting(key, value.clone(), place, decl, problems);
            }
            RawSetting::Env(raw) => (env::from_variable(raw, self.env, problems), raw.secret, &raw.env),
            RawSetting::File(raw) => (env::from_file(raw, self.files, problems), raw.secret, &raw.file),
        };
        if decl.is_some() && !declared_secret && said != Some(false) {
            problems.push(
                Diagnostic::error(
                    "secret-undeclared",
                    format!(
                        "the connector does not declare `{}` as a secret, so it would be shown",
                        key.value
                    ),
                )
                .place(&from.place)
                .help("add `secret: false` beside it, or declare the setting with `secret: true`"),
            );
            return Slot::Nothing;
        }
        let secret = declared_secret || said != Some(false);
        match found {
            Found::Bad => Slot::Nothing,
            // A variable that is not there is how one runner.yaml serves those who have it and those who do not.
            Found::Unset(_) if decl.is_some_and(|decl| decl.required == Some(false)) => Slot::LeftOut,
            Found::Unset(from) => {
                self.note_unset(key, given, &from);
                Slot::Unset { shown: format!("${{{}}}", from.value), secret }
            }
            Found::Value(text) if secret => {
                // A pattern holds for secrets too; the finding does not say the value.
                if !matches(decl, &text) {
                    problems.push(unfitting_pattern(key, &from.place));
                    return Slot::Nothing;
                }
                self.secrets_from.push(from.value.clone());
                Slot::Secret(Secret::new(text))
            }
            Found::Value(text) => {
                let kind = decl.and_then(|decl| decl.r#type).unwrap_or_default();
                if let Some(value) = typed::from_text(kind, &text) {
                    fitting(key, value, &from.place, decl, problems)
                } else {
                    problems.push(unfitting(key, kind, &from.place));
                    Slot::Nothing
                }
            }
        }
    }

    fn note_unset(&mut self, key: &Placed<String>, given: &RawSetting, from: &Placed<String>) {
        let (message, looked_in) = match given {
            RawSetting::File(_) => (
                format!(
                    "connection `{}` needs the file {}, which is empty or not there",
                    self.connection, from.value
                ),
                format!("looked for {}", from.value),
            ),
            _ => (
                format!("connection `{}` needs {}, which is not set", self.connection, from.value),
                self.env.looked_in(),
            ),
        };
        self.unset.push(Unset {
            setting: key.value.clone(),
            message,
            from: from.value.clone(),
            looked_in,
            place: from.place.clone(),
        });
    }
}

fn fitting(
    key: &Placed<String>,
    value: Value,
    place: &Place,
    decl: Option<&RawSettingDecl>,
    problems: &mut Problems,
) -> Slot {
    let kind = decl.and_then(|decl| decl.r#type).unwrap_or_else(|| typed::kind_of(&value));
    let kind = if decl.is_some_and(|decl| decl.r#type.is_none()) { ParamKind::String } else { kind };
    if !typed::fits(kind, &value) {
        problems.push(unfitting(key, kind, place));
        return Slot::Nothing;
    }
    if let Some(text) = value.as_str()
        && !matches(decl, text)
    {
        problems.push(unfitting_pattern(key, place));
        return Slot::Nothing;
    }
    Slot::Public(value)
}

fn unfitting(key: &Placed<String>, kind: ParamKind, place: &Place) -> Diagnostic {
    let finding =
        Diagnostic::error("wrong-type", format!("`{}` has to be {}", key.value, kind.wanted())).place(place);
    if kind == ParamKind::String { finding.help("put it into quotes to make it text") } else { finding }
}

fn unfitting_pattern(key: &Placed<String>, place: &Place) -> Diagnostic {
    Diagnostic::error(
        "setting-pattern",
        format!("`{}` does not have the form that its connector asks for", key.value),
    )
    .place(place)
    .help("`runner list connections` shows what each setting is")
}

fn matches(decl: Option<&RawSettingDecl>, text: &str) -> bool {
    let Some(pattern) = decl.and_then(|decl| decl.pattern.as_ref()) else { return true };
    // A pattern that is none is found where the connector is checked.
    matcher(&pattern.value).is_none_or(|matcher| matcher.is_valid(&serde_json::Value::from(text)))
}

/// A pattern by the same engine as in schemas; `None` when it is not a regular expression.
pub(super) fn matcher(pattern: &str) -> Option<jsonschema::Validator> {
    jsonschema::options().build(&serde_json::json!({ "type": "string", "pattern": pattern })).ok()
}
