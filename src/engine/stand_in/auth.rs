//! Credentials in the sandbox: every kind works there without any secret.
//!
//! A connection that is redirected gets one word for all its secrets and proves itself by it just as it
//! does elsewhere; the stand-in checks that by the same rules. A token endpoint is part of the stand-in.

use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName};

use super::SANDBOX_SECRET;
use crate::config::{Auth, Claim, Connection, CredentialPart, Grant, Hmac, JwtAlgorithm, OAuth2};
use crate::deliver::auth::{HmacSigner, Signing, accepts_jwt, accepts_sigv4};
use crate::model::Secret;
use crate::sandbox::{AuthCheck, Knock, ScriptedReply, SecretNames, TOKEN_PATH, TokenMaker};

/// What every token of the stand-in begins with.
const TOKEN: &str = "sandbox-access-token-";

/// Points an `auth` at a stand-in: secrets that it accepts, and its token endpoint.
pub(super) fn redirect(auth: &mut Auth, url: &str) {
    let secret = || Some(Secret::new(SANDBOX_SECRET.into()));
    // What is no secret, such as a region, stays what it is.
    let filled = |text: &mut Option<Secret>| {
        text.get_or_insert_with(|| Secret::new("sandbox".into()));
    };
    match auth {
        Auth::None => {}
        Auth::Bearer(token) => *token = secret(),
        Auth::Basic { user, password } => (*user, *password) = (secret(), secret()),
        Auth::ApiKeyHeader { value, .. } | Auth::ApiKeyQuery { value, .. } => *value = secret(),
        Auth::OAuth2(auth) => {
            auth.token_url = format!("{}{TOKEN_PATH}", url.trim_end_matches('/'));
            (auth.client_id, auth.client_secret) = (secret(), secret());
            match &mut auth.grant {
                Grant::ClientCredentials => {}
                Grant::RefreshToken(token) => *token = secret(),
                Grant::Password { user, password } => (*user, *password) = (secret(), secret()),
            }
            for field in auth.form.iter_mut().filter(|field| field.is_secret || field.value.is_none()) {
                field.value = secret();
            }
        }
        Auth::Jwt(auth) => {
            (auth.algorithm, auth.key) = (JwtAlgorithm::Hs256, secret());
            auth.key_id = auth.key_id.take().and_then(|_| secret());
            for (_, claim) in &mut auth.claims {
                if let Claim::Text(text) = claim {
                    *text = secret();
                }
            }
        }
        Auth::Hmac(auth) => auth.key = secret(),
        Auth::AwsSigV4(auth) => {
            (auth.access_key, auth.secret_key) = (secret(), secret());
            auth.session_token = auth.session_token.take().and_then(|_| secret());
            filled(&mut auth.region);
            filled(&mut auth.service);
        }
    }
}

/// Puts the sandbox's word in the place of a variable or file.
pub(super) fn hide(part: &mut CredentialPart) {
    match part {
        CredentialPart::Text(_) => {}
        CredentialPart::Made { of, .. } => of.iter_mut().for_each(hide),
        CredentialPart::Variable(_) | CredentialPart::File(_) => {
            *part = CredentialPart::Text(SANDBOX_SECRET.into());
        }
    }
}

type Fits = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// A secret, and whether something given is it: that of the sandbox, or the one that the connection
/// really has; where it has none, anything that is there.
fn fits(real: Option<&Secret>) -> impl Fn(&str) -> bool + Send + Sync + use<> {
    let real = real.map(|secret| secret.expose().to_owned());
    move |given: &str| match &real {
        _ if given == SANDBOX_SECRET => true,
        Some(real) => given == real,
        None => !given.is_empty(),
    }
}

/// The secrets that a signature may have been made with.
fn keys(real: Option<&Secret>) -> Vec<String> {
    let real = real.map(|secret| secret.expose().to_owned());
    std::iter::once(SANDBOX_SECRET.to_owned()).chain(real).collect()
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// User and password of `Authorization: Basic`.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let coded = header(headers, "authorization").strip_prefix("Basic ")?;
    let pair = String::from_utf8(STANDARD.decode(coded).ok()?).ok()?;
    pair.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}

/// Whether credentials are right.
pub(super) fn credentials(connection: &Connection) -> Option<AuthCheck> {
    match &connection.auth {
        Auth::None => None,
        Auth::Bearer(token) => {
            let fits = fits(token.as_ref());
            Some(Box::new(move |knock| {
                header(knock.headers, "authorization").strip_prefix("Bearer ").is_some_and(&fits)
            }))
        }
        Auth::Basic { user, password } => {
            let (user, password) = (fits(user.as_ref()), fits(password.as_ref()));
            Some(Box::new(move |knock| {
                basic(knock.headers).is_some_and(|(one, two)| user(&one) && password(&two))
            }))
        }
        Auth::ApiKeyHeader { name, value } => {
            let (name, fits) = (name.clone(), fits(value.as_ref()));
            Some(Box::new(move |knock| fits(header(knock.headers, &name))))
        }
        Auth::ApiKeyQuery { name, value } => {
            let (name, fits) = (name.clone(), fits(value.as_ref()));
            Some(Box::new(move |knock| {
                url::form_urlencoded::parse(knock.query.as_bytes())
                    .any(|(key, value)| key == name && fits(&value))
            }))
        }
        Auth::OAuth2(_) => Some(Box::new(|knock| {
            let token = header(knock.headers, "authorization").strip_prefix("Bearer ");
            token.is_some_and(|token| token.starts_with(TOKEN))
        })),
        Auth::Jwt(auth) => {
            let (name, scheme) = (auth.header.clone(), auth.scheme.clone());
            let mut secrets = keys(None);
            if auth.algorithm == JwtAlgorithm::Hs256 {
                secrets = keys(auth.key.as_ref());
            }
            Some(Box::new(move |knock| {
                let token = header(knock.headers, &name).strip_prefix(&scheme).map(str::trim_start);
                token.is_some_and(|token| secrets.iter().any(|secret| accepts_jwt(token, secret)))
            }))
        }
        Auth::Hmac(auth) => signed(auth),
        Auth::AwsSigV4(auth) => {
            let (access, secrets) = (fits(auth.access_key.as_ref()), keys(auth.secret_key.as_ref()));
            Some(Box::new(move |knock| {
                let call = (knock.method.as_str(), knock.path, knock.query);
                let takes =
                    |secret: &String| accepts_sigv4(knock.headers, call, knock.body, (&access, secret));
                secrets.iter().any(takes)
            }))
        }
    }
}

fn signed(auth: &Hmac) -> Option<AuthCheck> {
    let name: HeaderName = auth.header.parse().ok()?;
    let time: Option<HeaderName> = auth.time.as_ref().and_then(|(name, _)| name.parse().ok());
    let signer = |key: &String| HmacSigner::new(auth, &Secret::new(key.clone()), name.clone(), time.clone());
    let signers: Vec<HmacSigner> = keys(auth.key.as_ref()).iter().map(signer).collect();
    Some(Box::new(move |knock| {
        let Knock { path, query, headers, body, .. } = *knock;
        let signing = Signing { method: knock.method.as_str(), path, query, body };
        signers.iter().any(|signer| {
            let (name, time) = signer.headers();
            let time = time.map_or("", |time| header(headers, time.as_str()));
            header(headers, name.as_str()) == signer.value(&signing, time)
        })
    }))
}

/// The token endpoint of the stand-in (RFC 6749, 4.3, 4.4, 5 and 6).
pub(super) fn tokens(connection: &Connection) -> Option<TokenMaker> {
    let Auth::OAuth2(auth) = &connection.auth else { return None };
    let OAuth2 { grant, client_id, client_secret, .. } = &**auth;
    let (id, secret) = (fits(client_id.as_ref()), fits(client_secret.as_ref()));
    let (word, needed): (_, Vec<(&str, Fits)>) = match grant {
        Grant::ClientCredentials => ("client_credentials", Vec::new()),
        Grant::RefreshToken(token) => {
            ("refresh_token", vec![("refresh_token", Box::new(fits(token.as_ref())))])
        }
        Grant::Password { user, password } => (
            "password",
            vec![
                ("username", Box::new(fits(user.as_ref()))),
                ("password", Box::new(fits(password.as_ref()))),
            ],
        ),
    };
    let given = AtomicU64::new(0);
    Some(Box::new(move |knock| {
        let refused =
            |status: u16, word: &str| ScriptedReply::json(status, &serde_json::json!({ "error": word }));
        if knock.method != http::Method::POST {
            return refused(405, "invalid_request");
        }
        let form: Vec<(String, String)> = url::form_urlencoded::parse(knock.body).into_owned().collect();
        let field = |name: &str| form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value);
        let decoded = |text: &str| {
            let text = text.replace('+', " ");
            percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
        };
        let client = basic(knock.headers).map(|(one, two)| (decoded(&one), decoded(&two)));
        let (one, two) = client.unwrap_or_else(|| (field("client_id").into(), field("client_secret").into()));
        if !id(&one) || !(secret(&two) || two.is_empty()) {
            return refused(401, "invalid_client");
        }
        if field("grant_type") != word {
            return refused(400, "unsupported_grant_type");
        }
        if !needed.iter().all(|(name, fits)| fits(field(name))) {
            return refused(400, "invalid_grant");
        }
        let number = given.fetch_add(1, Ordering::Relaxed) + 1;
        let token = format!("{TOKEN}{number}");
        let reply = serde_json::json!({ "access_token": token, "token_type": "Bearer", "expires_in": 3600 });
        ScriptedReply::json(200, &reply)
    }))
}

pub(super) fn secret_names(connection: &Connection) -> SecretNames {
    let mut names = SecretNames::default();
    match &connection.auth {
        Auth::ApiKeyQuery { name, .. } => names.query.push(name.clone()),
        auth => names.headers.extend(auth.headers().iter().filter_map(|name| name.parse().ok())),
    }
    names
}
