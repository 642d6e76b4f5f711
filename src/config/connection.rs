//! A connection: one account, made of a connector and the settings that `runner.yaml` gives it.

use std::path::{Path, PathBuf};

use super::auth_forms::RawAuth;
use super::auth_settings::auth;
use super::base_url::{self, Credentials};
use super::connector::{RawCheck, RawConnector, RawLimits, check_header};
use super::env::{Environment, RawSetting, readable_by_others};
use super::files::Files;
use super::raw::{Entries, FromNode, entries, raw, wrong_type};
use super::read::{Kind, Node};
use super::settings::{self, Settings};
use super::{Auth, Connection, HeaderTemplate, Tls};
use crate::model::{Class, Diagnostic, Failure, Learned, Mask, Place, Placed, Problems, Secret};

/// A connection as written: a few keys of ours, and its settings under names of the connector.
#[derive(Debug, Clone)]
pub(super) struct RawConnection {
    /// Where it stands.
    pub(super) place: Place,
    /// Our keys.
    pub(super) own: RawOwn,
    /// All other keys.
    pub(super) settings: Vec<(Placed<String>, RawSetting)>,
}

raw! {
    /// The keys of a connection that are no settings.
    RawOwn, "a connection" {
        /// The folder below `templates/` that describes the API.
        connector: Option<Placed<String>>,
        /// Without a connector: scheme, host, port and path prefix.
        base_url: Option<Placed<String>>,
        /// Without a connector: how requests prove who sends them.
        auth: Option<RawAuth>,
        /// Without a connector: headers of every request.
        headers: Entries<Placed<String>>,
        /// Without a connector: defaults that pipelines may go below.
        limits: Option<RawLimits>,
        /// Without a connector: what `runner check-connection` calls.
        check: Option<RawCheck>,
        /// `none`, or the URL of a proxy; proxies of the environment are never used.
        proxy: Option<Placed<String>>,
        /// Certificates.
        tls: Option<RawTls>,
        /// Whether credentials may go over plain http to another machine.
        allow_plain_http: Option<bool>,
    }
}

raw! {
    /// Certificates.
    RawTls, "`tls`" {
        /// PEM file with further certificate authorities: absolute, or relative to the root.
        ca: Option<Placed<String>>,
        /// `false` switches the check of certificates off, with a warning at every start.
        verify: Option<Placed<bool>>,
        /// PEM file with the certificate that requests prove themselves by, and those that lead to its authority.
        cert: Option<Placed<String>>,
        /// PEM file with the key of `cert`.
        key: Option<Placed<String>>,
    }
    wrong {
        "insecure" => "it is written `verify: false`",
        "client_cert" => "it is written `cert: FILE`, with `key: FILE`",
    }
}

/// Keys of ours in every connection, and those that only connections without a connector have.
const ALWAYS: [&str; 4] = ["connector", "proxy", "tls", "allow_plain_http"];
const WITHOUT: [&str; 5] = ["base_url", "auth", "headers", "limits", "check"];

impl FromNode for RawConnection {
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        let all = entries(node, what, problems)?;
        // Overlays need not repeat the connector, so a mapping may hold settings alone.
        let plain = node.get("connector").is_none() && WITHOUT.iter().any(|key| node.get(key).is_some());
        let is_own = |key: &str| ALWAYS.contains(&key) || (plain && WITHOUT.contains(&key));
        let is_setting = |node: &Node| {
            matches!(&node.kind, Kind::Map(_)) && (node.get("env").is_some() || node.get("file").is_some())
        };
        let mut own = Vec::new();
        let mut settings = Vec::new();
        for (key, value) in all {
            if is_own(&key.value) && !(key.value == "base_url" && is_setting(value)) {
                own.push((key.clone(), value.clone()));
            } else if let Some(setting) = RawSetting::read(value, &key.value, problems) {
                settings.push((key.clone(), setting));
            }
        }
        let own = Node { kind: Kind::Map(own), place: node.place.clone() };
        let own = RawOwn::read(&own, what, problems)?;
        Some(Self { place: node.place.clone(), own, settings })
    }
}

impl schemars::JsonSchema for RawConnection {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Connection".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let setting = generator.subschema_for::<RawSetting>();
        let mut schema = RawOwn::json_schema(generator);
        schema.insert("additionalProperties".into(), setting.into());
        // With a connector, these names are its settings.
        if let Some(properties) = schema.get_mut("properties").and_then(|value| value.as_object_mut()) {
            properties.remove("base_url");
        }
        schema
    }
}

/// What a connection is made of.
pub(super) struct Parts<'a> {
    /// Its name, or `in place`.
    pub(super) name: &'a str,
    /// Where the pipeline names it.
    pub(super) place: &'a Place,
    /// What is written.
    pub(super) raw: &'a RawConnection,
    /// Its connector, with the name of its folder.
    pub(super) connector: Option<(&'a str, &'a RawConnector)>,
}

/// Makes a connection, or notes what is wrong.
pub(super) fn resolve(
    parts: &Parts<'_>,
    env: &Environment<'_>,
    files: &Files,
    problems: &mut Problems,
) -> Option<Connection> {
    let Parts { name, place, raw, connector } = parts;
    let own = &raw.own;
    let settings = settings::resolve(name, &raw.place, raw, *connector, (env, files), problems);
    let (base_url, raw_auth, raw_headers, limits, check) = match connector {
        Some((_, c)) => (c.base_url.0.clone(), &c.auth, &c.headers, &c.limits, &c.check),
        None => {
            (base_url_of(raw, name, &settings, problems), &own.auth, &own.headers, &own.limits, &own.check)
        }
    };
    let headers = headers(&raw_headers.0, &settings, problems);
    let with_secret = matches!(raw_auth, Some(RawAuth::Kinds(_)))
        || raw_headers.0.iter().any(|(_, text)| secret_in(text, &settings).is_some());
    let sends = match (with_secret, own.allow_plain_http == Some(true)) {
        (false, _) => Credentials::None,
        (true, false) => Credentials::Sent,
        (true, true) => Credentials::SentAnyway,
    };
    let url_of = |url: &Placed<String>, purpose, problems: &mut Problems| {
        base_url::filled(url, purpose, &settings, sends, problems)
    };
    let auth =
        auth(raw_auth.as_ref(), &settings, |url, problems| url_of(url, base_url::TOKEN, problems), problems);
    twice(&auth, &raw_headers.0, problems);
    let base_url = base_url
        .and_then(|url| url_of(&url, base_url::BASE, problems))
        .map(|url| url.trim_end_matches('/').to_owned());
    let tls = tls(own.tls.as_ref(), files, problems);
    let proxy = proxy(own.proxy.as_ref(), problems);
    Some(Connection {
        name: (*name).to_owned(),
        place: (*place).clone(),
        connector: connector.map(|(folder, _)| folder.to_owned()),
        base_url: base_url?,
        settings: settings.public(),
        auth,
        headers,
        secrets: settings.secrets(),
        tokens: Learned::of_process(),
        credentials: super::credential::credentials(raw_auth.as_ref(), &raw_headers.0, &settings),
        secrets_from: settings.secrets_from,
        unset: settings.unset,
        tls,
        proxy,
        allow_plain_http: own.allow_plain_http == Some(true),
        limits: limits.as_ref().map(RawLimits::resolve).unwrap_or_default(),
        check: check.as_ref().and_then(|check| check.resolve(problems)),
        sandbox_error: connector.and_then(|(_, c)| c.sandbox.as_ref()?.error.clone()),
    })
}

/// The base URL of a connection without connector, which may be a setting from the environment.
fn base_url_of(
    raw: &RawConnection,
    name: &str,
    settings: &Settings,
    problems: &mut Problems,
) -> Option<Placed<String>> {
    if let Some(url) = &raw.own.base_url {
        return Some(url.clone());
    }
    if settings.get("base_url").is_some() {
        return Some(Placed::new("{{ connection.base_url }}".to_owned(), raw.place.clone()));
    }
    problems.push(
        Diagnostic::error("missing-key", format!("connection `{name}` needs `connector` or `base_url`"))
            .place(&raw.place)
            .help("write `connector: NAME` for a folder below templates/, or `base_url: https://host/path`"),
    );
    None
}

/// A header of the connector that its `auth` sets as well.
fn twice(auth: &Auth, headers: &[(Placed<String>, Placed<String>)], problems: &mut Problems) {
    let set = auth.headers();
    for (name, _) in headers.iter().filter(|(name, _)| set.contains(&name.value.to_ascii_lowercase())) {
        problems.push(
            Diagnostic::error("header-name", format!("`{}` is set by `auth`", name.value))
                .place(&name.place)
                .help("leave the header out"),
        );
    }
}

/// The name of a secret setting that a text names.
fn secret_in<'s>(text: &Placed<String>, settings: &'s Settings) -> Option<&'s str> {
    settings
        .names()
        .find(|setting| settings.is_secret(setting) && text.value.contains(&format!("connection.{setting}")))
}

fn headers(
    raw: &[(Placed<String>, Placed<String>)],
    settings: &Settings,
    problems: &mut Problems,
) -> Vec<(String, HeaderTemplate)> {
    let mut found = Vec::new();
    for (name, text) in raw {
        check_header(name, problems);
        let value = if secret_in(text, settings).is_some() {
            match settings.expand(text, problems) {
                None => continue,
                Some(out) if out.unset => {
                    // Values of settings are not to be read as expressions.
                    let shown = out.text.replace("{{", "{ {").replace("{%", "{ %").replace("{#", "{ #");
                    HeaderTemplate::Plain(Placed::new(shown, text.place.clone()))
                }

                Some(out) => HeaderTemplate::Secret(Secret::new(out.text)),
            }
        } else {
            HeaderTemplate::Plain(text.clone())
        };
        found.push((name.value.clone(), value));
    }
    found
}

fn tls(raw: Option<&RawTls>, files: &Files, problems: &mut Problems) -> Tls {
    let Some(raw) = raw else { return Tls::default() };
    let mut file = |path: &Option<Placed<String>>| {
        let path = path.as_ref()?;
        let full = match files.inside(&path.value) {
            _ if Path::new(&path.value).is_absolute() => PathBuf::from(&path.value),
            Ok(full) if full.is_file() => full,
            Ok(_) => {
                problems.at(
                    "file-missing",
                    &path.place,
                    format!("the certificate file `{}` is not there", path.value),
                );
                return None;
            }
            Err(finding) => {
                problems.push(finding.place(&path.place));
                return None;
            }
        };
        Some(full)
    };
    let (ca, cert, key) = (file(&raw.ca), file(&raw.cert), file(&raw.key));
    for (given, missing) in [(&raw.cert, "key"), (&raw.key, "cert")] {
        let other = if missing == "key" { &raw.key } else { &raw.cert };
        if let (Some(given), None) = (given, other) {
            problems.push(
                Diagnostic::error("missing-key", format!("`tls` needs `{missing}` as well"))
                    .place(&given.place)
                    .help("a client certificate is written `tls: { cert: FILE, key: FILE }`"),
            );
        }
    }
    if let (Some(key), Some(raw)) = (&key, &raw.key) {
        readable_by_others(key, &raw.value, &raw.place, problems);
    }
    let insecure = raw.verify.as_ref().filter(|verify| !verify.value);
    if let Some(verify) = insecure {
        problems.push(
            Diagnostic::warning(
                "tls-unverified",
                "certificates are not checked: anybody on the way can read the credentials",
            )
            .place(&verify.place)
            .help("name the authority with `tls: { ca: FILE }` instead"),
        );
    }
    Tls { ca, insecure: insecure.is_some(), identity: cert.zip(key) }
}

fn proxy(raw: Option<&Placed<String>>, problems: &mut Problems) -> Option<String> {
    let raw = raw.filter(|raw| raw.value != "none")?;
    let url = url::Url::parse(&raw.value)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    match url {
        Some(url) if base_url::is_refused(&url) => {
            let finding =
                Diagnostic::error("address-refused", "the proxy is a link-local or metadata address");
            problems.push(finding.place(&raw.place).help("name the host of the proxy"));
            None
        }
        Some(url) if url.username().is_empty() && url.password().is_none() => Some(raw.value.clone()),
        Some(_) => {
            let finding = Diagnostic::error("proxy", "the proxy URL holds a user name or password");
            problems.push(finding.place(&super::secrets::hidden(&raw.place)));
            None
        }
        None => {
            let finding =
                Diagnostic::error("proxy", "`proxy` has to be `none` or a URL such as http://host:3128");
            problems.push(finding.place(&raw.place));
            None
        }
    }
}

impl Connection {
    /// Hides its secrets, and the tokens that come later.
    #[must_use]
    pub fn mask(&self) -> Mask {
        Mask::new(&self.secrets).and_learned(&self.tokens)
    }

    /// Why a command that sends cannot go on: the settings that are not set.
    #[must_use]
    pub fn unset_failure(&self) -> Option<Failure> {
        let diagnostics: Vec<_> = self
            .unset
            .iter()
            .map(|unset| {
                Diagnostic::error("variable-unset", unset.message.clone())
                    .place(&unset.place)
                    .note(format!("{}; nothing was sent", unset.looked_in))
                    .help(format!(
                        "set it, or use `{{ file: PATH }}`; then `runner check-connection {}`",
                        self.name
                    ))
            })
            .collect();
        (!diagnostics.is_empty()).then_some(Failure::of(Class::Config, diagnostics))
    }
}

/// A connection written into a pipeline: a base URL, no credentials.
pub(super) fn in_place(node: &Node, problems: &mut Problems) -> Option<RawConnection> {
    let Kind::Map(_) = &node.kind else {
        problems.push(wrong_type(node, "connection", "a name or a mapping"));
        return None;
    };
    let raw = RawConnection::read(node, "connection", problems)?;
    for (_, setting) in &raw.settings {
        let place = match setting {
            RawSetting::Env(raw) => &raw.place,
            RawSetting::File(raw) => &raw.place,
            RawSetting::Literal(..) => continue,
        };
        problems.push(
            Diagnostic::error("secret-outside-connection", "a connection in a pipeline has no secrets")
                .place(place)
                .help("name the connection in runner.yaml, and here `connection: NAME`"),
        );
    }
    if let Some(RawAuth::Kinds(kinds)) = &raw.own.auth {
        problems.push(
            Diagnostic::error(
                "secret-outside-connection",
                "a connection in a pipeline can only have `auth: none`",
            )
            .place(&kinds.place)
            .help("name the connection in runner.yaml, and here `connection: NAME`"),
        );
    }
    Some(raw)
}
