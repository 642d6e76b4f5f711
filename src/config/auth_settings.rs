//! Fills `auth:` with the values of settings.
//!
//! Invariants: no finding shows a secret; a key that cannot sign is found here, before anything is
//! sent.

use std::time::Duration;

use super::auth::{
    Auth, Claim, Field, Grant, Hmac, Jwt, JwtAlgorithm, OAuth2, SigV4, SignedPart, signing_key,
};
use super::auth_forms::{GrantWord, RawAuth, RawHmac, RawJwt, RawOAuth2, RawSigV4};
use super::connector::check_header;
use super::settings::{Settings, Slot, left_out, unknown_setting};
use crate::model::{Diagnostic, Placed, Problems, Secret, Value};

/// Fills what `auth:` names with the values of settings. `url` checks the address of a token endpoint
/// by the rules of base URLs.
pub(super) fn auth(
    raw: Option<&RawAuth>,
    settings: &Settings,
    url: impl FnOnce(&Placed<String>, &mut Problems) -> Option<String>,
    problems: &mut Problems,
) -> Auth {
    let Some(RawAuth::Kinds(kinds)) = raw else { return Auth::None };
    if let Some(name) = &kinds.bearer {
        return Auth::Bearer(credential(name, settings, problems));
    }
    if let Some(basic) = &kinds.basic {
        let mut get = |name: &Option<Placed<String>>| credential(name.as_ref()?, settings, problems);
        return Auth::Basic { user: get(&basic.user.0), password: get(&basic.password.0) };
    }
    if let Some(raw) = &kinds.oauth2 {
        return oauth2(raw, settings, url, problems).map_or(Auth::None, |it| Auth::OAuth2(Box::new(it)));
    }
    if let Some(raw) = &kinds.jwt {
        return jwt(raw, settings, problems).map_or(Auth::None, |it| Auth::Jwt(Box::new(it)));
    }
    if let Some(raw) = &kinds.hmac {
        return hmac(raw, settings, problems).map_or(Auth::None, |it| Auth::Hmac(Box::new(it)));
    }
    if let Some(raw) = &kinds.aws_sigv4 {
        return Auth::AwsSigV4(Box::new(sigv4(raw, settings, problems)));
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

/// Parameters of a token request that have keys of their own.
const OWN_PARAMS: [&str; 7] =
    ["grant_type", "client_id", "client_secret", "refresh_token", "username", "password", "scope"];

fn oauth2(
    raw: &RawOAuth2,
    settings: &Settings,
    url: impl FnOnce(&Placed<String>, &mut Problems) -> Option<String>,
    problems: &mut Problems,
) -> Option<OAuth2> {
    let token_url = raw.token_url.0.as_ref().and_then(|text| url(text, problems));
    let mut get = |name: Option<&Placed<String>>| credential(name?, settings, problems);
    let client_id = get(raw.client_id.0.as_ref());
    let client_secret = match raw.grant.0 {
        Some(GrantWord::ClientCredentials) => get(raw.client_secret.as_ref()),
        _ => credential_if_given(raw.client_secret.as_ref(), settings, problems),
    };
    let mut get = |name: Option<&Placed<String>>| credential(name?, settings, problems);
    let (refresh_token, user, password) =
        (get(raw.refresh_token.as_ref()), get(raw.user.as_ref()), get(raw.password.as_ref()));
    let word = raw.grant.0?;
    let grants = [
        ("refresh_token", &raw.refresh_token, word == GrantWord::RefreshToken),
        ("user", &raw.user, word == GrantWord::Password),
        ("password", &raw.password, word == GrantWord::Password),
    ];
    let secret_is_needed = word == GrantWord::ClientCredentials && raw.client_secret.is_none();
    for key in grants
        .iter()
        .filter_map(|(key, given, needed)| (*needed && given.is_none()).then_some(*key))
        .chain(secret_is_needed.then_some("client_secret"))
    {
        problems.at("missing-key", &raw.place, format!("`oauth2` needs `{key}` for this grant"));
    }
    for (key, given) in grants
        .iter()
        .filter_map(|(key, given, needed)| Some((key, given.as_ref()?, *needed)))
        .filter_map(|(key, given, needed)| (!needed).then_some((key, given)))
    {
        problems.at("auth", &given.place, format!("`{key}` has no meaning for this grant"));
    }
    for (name, _) in raw.params.0.iter().filter(|(name, _)| OWN_PARAMS.contains(&name.value.as_str())) {
        problems.at("auth", &name.place, format!("`{}` is not set by `params`", name.value));
    }
    let own = [("scope", &raw.scope), ("audience", &raw.audience)];
    let own = own.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?)));
    let further = raw.params.0.iter().map(|(name, text)| (name.value.as_str(), text));
    let given = own.chain(further).filter(|(_, text)| !settings.is_of_left_out(text));
    let form = given.map(|(name, text)| {
        let out = settings.expand(text, problems);
        let is_secret = out.as_ref().is_some_and(|out| out.secret);
        let value = out.filter(|out| !out.unset).map(|out| Secret::new(out.text));
        Field { name: name.to_owned(), value, is_secret }
    });
    let form = form.collect();
    let grant = match word {
        GrantWord::ClientCredentials => Grant::ClientCredentials,
        GrantWord::RefreshToken => Grant::RefreshToken(refresh_token),
        GrantWord::Password => Grant::Password { user, password },
    };
    let send = raw.send.unwrap_or_default();
    Some(OAuth2 { grant, token_url: token_url?, client_id, client_secret, send, form })
}

fn jwt(raw: &RawJwt, settings: &Settings, problems: &mut Problems) -> Option<Jwt> {
    let key = raw.key.0.as_ref().and_then(|name| credential(name, settings, problems));
    let algorithm = raw.algorithm.0?;
    if let (Some(secret), Some(name)) = (&key, &raw.key.0)
        && signing_key(algorithm, secret).is_none()
    {
        let (word, form, make) = match algorithm {
            JwtAlgorithm::Es256 => (
                "ES256",
                "a PEM with an EC key of the curve P-256 (PKCS #8)",
                "openssl pkcs8 -topk8 -nocrypt",
            ),
            _ => ("RS256", "a PEM with an RSA key", "openssl rsa -traditional"),
        };
        problems.push(
            Diagnostic::error("signing-key", format!("the value of `{}` is no key for {word}", name.value))
                .place(&name.place)
                .note("its value is not shown; nothing was sent")
                .help(format!("{word} needs {form}, without a passphrase; `{make}` writes that form")),
        );
    }
    let mut claims = Vec::new();
    for (name, text) in [("iss", &raw.issuer), ("sub", &raw.subject), ("aud", &raw.audience)] {
        if let Some(text) = text.as_ref().filter(|text| !settings.is_of_left_out(text)) {
            claims.push((name.to_owned(), Claim::Text(filled(text, settings, problems))));
        }
    }
    for (name, value) in &raw.claims.0 {
        let key = match name.value.as_str() {
            "iss" => "issuer",
            "sub" => "subject",
            "aud" if raw.audience.is_some() => "audience",
            "iat" | "exp" => "lifetime",
            _ => "",
        };
        if !key.is_empty() {
            problems.at("auth", &name.place, format!("the claim `{}` is set by `{key}`", name.value));
        }
        let claim = match &value.value {
            Value::String(text) => {
                let text = Placed::new(text.to_string(), value.place.clone());
                if settings.is_of_left_out(&text) {
                    continue;
                }
                Claim::Text(filled(&text, settings, problems))
            }
            other => Claim::Value(other.clone()),
        };
        claims.push((name.value.clone(), claim));
    }
    if let Some(header) = &raw.header {
        check_header(header, problems);
    }
    let lifetime = raw.lifetime.map_or(Duration::from_mins(5), |span| span.0);
    if lifetime < Duration::from_secs(10) {
        problems.at("auth", &raw.place, "`lifetime` of `jwt` is at least 10s");
    }
    let text = |text: &Option<Placed<String>>, usual: &str| {
        text.as_ref().map_or_else(|| usual.to_owned(), |text| text.value.clone())
    };
    Some(Jwt {
        algorithm,
        key,
        key_id: raw.key_id.as_ref().and_then(|text| filled_if_given(text, settings, problems)),
        claims,
        lifetime,
        header: text(&raw.header, "Authorization"),
        scheme: text(&raw.scheme, "Bearer"),
    })
}

fn hmac(raw: &RawHmac, settings: &Settings, problems: &mut Problems) -> Option<Hmac> {
    let key = raw.key.0.as_ref().and_then(|name| credential(name, settings, problems));
    let time_header = raw.time.as_ref().and_then(|time| time.header.0.as_ref());
    for header in raw.header.0.iter().chain(time_header) {
        check_header(header, problems);
    }
    if raw.sign.is_empty() {
        problems.push(
            Diagnostic::error("missing-key", "`hmac` needs `sign`")
                .place(&raw.place)
                .help("name what is signed, in order: `sign: [method, path, time, body]`"),
        );
    }
    if let Some(part) = raw.sign.iter().find(|part| part.value == SignedPart::Time)
        && raw.time.is_none()
    {
        problems.push(
            Diagnostic::error("auth", "`time` is signed, but no header tells it")
                .place(&part.place)
                .help("add `time: { header: X-Timestamp, format: unix }`"),
        );
    }
    let text = |text: &Option<Placed<String>>, usual: &str| {
        text.as_ref().map_or_else(|| usual.to_owned(), |text| text.value.clone())
    };
    let format = raw.time.as_ref().and_then(|time| time.format).unwrap_or_default();
    Some(Hmac {
        algorithm: raw.algorithm.unwrap_or_default(),
        key,
        header: raw.header.0.as_ref()?.value.clone(),
        encoding: raw.encoding.unwrap_or_default(),
        prefix: text(&raw.prefix, ""),
        sign: raw.sign.iter().map(|part| part.value).collect(),
        join: text(&raw.join, "\n"),
        time: time_header.map(|name| (name.value.clone(), format)),
    })
}

fn sigv4(raw: &RawSigV4, settings: &Settings, problems: &mut Problems) -> SigV4 {
    let mut get = |name: Option<&Placed<String>>| credential(name?, settings, problems);
    let (access_key, secret_key) = (get(raw.access_key.0.as_ref()), get(raw.secret_key.0.as_ref()));
    let session_token = credential_if_given(raw.session_token.as_ref(), settings, problems);
    let region = raw.region.0.as_ref().and_then(|text| filled(text, settings, problems));
    let service = raw.service.0.as_ref().and_then(|text| filled(text, settings, problems));
    SigV4 { access_key, secret_key, session_token, region, service }
}

/// A text with settings in it; `None` while one is unset.
fn filled(text: &Placed<String>, settings: &Settings, problems: &mut Problems) -> Option<Secret> {
    settings.expand(text, problems).filter(|out| !out.unset).map(|out| Secret::new(out.text))
}

/// The same of a text that may be left out.
fn filled_if_given(text: &Placed<String>, settings: &Settings, problems: &mut Problems) -> Option<Secret> {
    if settings.is_of_left_out(text) { None } else { filled(text, settings, problems) }
}

/// The value of a setting that may be left out.
fn credential_if_given(
    name: Option<&Placed<String>>,
    settings: &Settings,
    problems: &mut Problems,
) -> Option<Secret> {
    let name = name.filter(|name| !settings.is_left_out(&name.value))?;
    credential(name, settings, problems)
}

/// The value of the setting that `auth` names.
fn credential(name: &Placed<String>, settings: &Settings, problems: &mut Problems) -> Option<Secret> {
    match settings.get(&name.value) {
        Some(Slot::Secret(secret)) => Some(secret.clone()),
        // A user name need not be secret.
        Some(Slot::Public(Value::String(text))) => Some(Secret::new(text.to_string())),
        Some(Slot::Public(other)) => Some(Secret::new(other.to_json())),
        Some(Slot::LeftOut) => {
            problems.push(left_out(&name.value, &name.place));
            None
        }
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
