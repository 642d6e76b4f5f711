//! Access tokens from a token endpoint (RFC 6749): fetched once for all lanes, kept in memory alone.
//!
//! A token is fetched when the first request needs it and renewed ahead of its end, by one lane while
//! the others go on with the old one; after a 401, once. Invariants: a token endpoint that refuses is not
//! asked again in a start, and one that fails is asked once for all who wait, not once for each.
//!
//! Knows no HTTP client: `ask` of the caller sends a `Call`.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;
use url::form_urlencoded;

use super::{required, secret_value, sensitive};
use crate::config::{ClientProof, Connection, Grant, OAuth2};
use crate::model::{Arrived, Class, Diagnostic, Failure, Learned, Lost, Reply, Secret};

/// How old a token gets before it is renewed: until 30 seconds before its end, or a fifth of its life if
/// that is less. So every token is used; one that says that it has no life at all serves those who waited
/// for it.
pub(super) fn renewed_after(life: Duration) -> Duration {
    life.saturating_sub((life / 5).min(Duration::from_secs(30)))
}

/// When a renewal ahead of the end failed, it is tried again after this time.
const AGAIN: Duration = Duration::from_secs(5);

/// A request to the token endpoint. It holds secrets: nothing shows it.
pub struct Call {
    /// Where to.
    pub url: url::Url,
    /// Its headers.
    pub headers: HeaderMap,
    /// The form.
    pub body: Bytes,
}

/// A token.
pub struct Token {
    header: HeaderValue,
    number: u64,
    /// When it is renewed, and when it ends; `None` when its endpoint did not say.
    life: Option<(RwLock<Instant>, Instant)>,
    /// Whether it was fetched because the one before was refused.
    after_refusal: bool,
    accepted: AtomicBool,
}

impl Token {
    /// `Bearer …`
    pub fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// Notes that a request with it was not answered by 401.
    pub fn was_accepted(&self) {
        self.accepted.store(true, Ordering::Relaxed);
    }

    /// Whether another one may help after a 401: not when this one came for the same reason and never
    /// served.
    pub fn is_worth_renewing(&self) -> bool {
        !self.after_refusal || self.accepted.load(Ordering::Relaxed)
    }

    fn is_fresh(&self, now: Instant) -> bool {
        let renewed_at = |at: &RwLock<Instant>| *at.read().unwrap_or_else(PoisonError::into_inner);
        self.life.as_ref().is_none_or(|(renew, _)| now < renewed_at(renew))
    }

    fn has_ended(&self, now: Instant) -> bool {
        self.life.as_ref().is_some_and(|(_, end)| now >= *end)
    }

    fn renew_later(&self, now: Instant) {
        if let Some((renew, _)) = &self.life {
            *renew.write().unwrap_or_else(PoisonError::into_inner) = now + AGAIN;
        }
    }
}

/// The tokens of a connection.
pub struct Tokens {
    auth: OAuth2,
    url: url::Url,
    host: String,
    connection: String,
    learned: Learned,
    current: RwLock<Option<Arc<Token>>>,
    asking: Mutex<Asking>,
    /// How often the endpoint was asked, to the end.
    asked: AtomicU64,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({})", self.host)
    }
}

/// Held by whoever asks the endpoint.
struct Asking {
    /// The refresh token, which the endpoint may change with every token.
    refresh: Option<Secret>,
    /// How the last time failed.
    failed: Option<Lost>,
}

/// What an endpoint gave.
struct Granted {
    token: Secret,
    life: Option<Duration>,
    refresh: Option<Secret>,
}

impl Tokens {
    /// For a connection whose settings are all there.
    pub(super) fn new(auth: &OAuth2, connection: &Connection) -> Result<Self, Failure> {
        if let Some(failure) = connection.unset_failure() {
            return Err(failure);
        }
        let url = url::Url::parse(&auth.token_url).map_err(|_| {
            let found = Diagnostic::error("token-url", "the token URL is not a complete URL");
            Failure::new(Class::Config, found.place(&connection.place))
        })?;
        required(auth.client_id.as_ref(), connection)?;
        let refresh = match &auth.grant {
            Grant::RefreshToken(token) => Some(required(token.as_ref(), connection)?.clone()),
            Grant::ClientCredentials | Grant::Password { .. } => None,
        };
        // Found now, not at the first request.
        let host = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let tokens = Self {
            auth: auth.clone(),
            url,
            host,
            connection: connection.name.clone(),
            learned: connection.tokens.clone(),
            current: RwLock::default(),
            asking: Mutex::new(Asking { refresh, failed: None }),
            asked: AtomicU64::new(0),
        };
        if let Some(proof) = tokens.proof() {
            secret_value(&proof, connection)?;
        }
        Ok(tokens)
    }

    /// The token for a request that is about to be sent.
    pub async fn token(&self, ask: impl AsyncFn(Call) -> Reply) -> Result<Arc<Token>, Lost> {
        let now = Instant::now();
        let Some(token) = self.current() else { return self.after(0, false, ask).await };
        if token.is_fresh(now) {
            return Ok(token);
        }
        if token.has_ended(now) {
            return self.after(token.number, false, ask).await;
        }
        // One lane renews it; for the others it is still good.
        let Ok(asking) = self.asking.try_lock() else { return Ok(token) };
        match self.current() {
            Some(newer) if newer.number > token.number => return Ok(newer),
            _ => {}
        }
        match self.ask(asking, false, token.number, ask).await {
            Err(lost) if !lost.is_final() => {
                tracing::warn!(host = self.host, class = lost.class, "the token could not be renewed yet");
                token.renew_later(now);
                Ok(token)
            }
            other => other,
        }
    }

    /// The token after one that the API refused.
    pub async fn renew(&self, refused: &Token, ask: impl AsyncFn(Call) -> Reply) -> Result<Arc<Token>, Lost> {
        self.after(refused.number, true, ask).await
    }

    /// The first token with a higher number than that.
    async fn after(
        &self,
        number: u64,
        after_refusal: bool,
        ask: impl AsyncFn(Call) -> Reply,
    ) -> Result<Arc<Token>, Lost> {
        let asked = self.asked.load(Ordering::Acquire);
        let asking = self.asking.lock().await;
        if let Some(token) = self.current().filter(|token| token.number > number) {
            return Ok(token);
        }
        if let Some(lost) = &asking.failed
            && self.asked.load(Ordering::Acquire) != asked
        {
            return Err(lost.clone());
        }
        self.ask(asking, after_refusal, number, ask).await
    }

    fn current(&self) -> Option<Arc<Token>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn ask(
        &self,
        mut asking: MutexGuard<'_, Asking>,
        after_refusal: bool,
        number: u64,
        ask: impl AsyncFn(Call) -> Reply,
    ) -> Result<Arc<Token>, Lost> {
        if let Some(lost) = asking.failed.as_ref().filter(|lost| lost.is_final()) {
            return Err(lost.clone());
        }
        let reply = ask(self.call(&asking)).await;
        self.asked.fetch_add(1, Ordering::Release);
        let granted = self.read(&reply).and_then(|granted| {
            let header = sensitive(&format!("Bearer {}", granted.token.expose()))?;
            Ok((granted, header))
        });
        let (granted, header) = match granted {
            Ok(granted) => granted,
            Err(lost) => {
                asking.failed = Some(lost.clone());
                return Err(lost);
            }
        };
        asking.failed = None;
        self.learned.learn(&granted.token);
        if let Some(refresh) = granted.refresh {
            self.learned.learn(&refresh);
            if matches!(self.auth.grant, Grant::RefreshToken(_)) {
                asking.refresh = Some(refresh);
            }
        }
        let now = Instant::now();
        let life = granted.life.map(|life| (RwLock::new(now + renewed_after(life)), now + life));
        let token = Arc::new(Token {
            header,
            number: number + 1,
            life,
            after_refusal,
            accepted: AtomicBool::new(false),
        });
        tracing::info!(host = self.host, after_refusal, "a token was fetched");
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&token));
        Ok(token)
    }

    /// `Basic …`, each half encoded as in a form (RFC 6749, 2.3.1).
    fn proof(&self) -> Option<String> {
        let secret = self.auth.client_secret.as_ref().filter(|_| self.auth.send == ClientProof::Basic)?;
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let id = self.auth.client_id.as_ref().map_or("", Secret::expose);
        Some(format!("Basic {}", STANDARD.encode(format!("{}:{}", encoded(id), encoded(secret.expose())))))
    }

    fn call(&self, asking: &Asking) -> Call {
        let exposed = |secret: &Option<Secret>| secret.as_ref().map_or("", Secret::expose).to_owned();
        let mut form = form_urlencoded::Serializer::new(String::new());
        match &self.auth.grant {
            Grant::ClientCredentials => {
                form.append_pair("grant_type", "client_credentials");
            }
            Grant::RefreshToken(_) => {
                form.append_pair("grant_type", "refresh_token");
                form.append_pair("refresh_token", &exposed(&asking.refresh));
            }
            Grant::Password { user, password } => {
                form.append_pair("grant_type", "password");
                form.append_pair("username", &exposed(user));
                form.append_pair("password", &exposed(password));
            }
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(Ok(proof)) = self.proof().map(|proof| sensitive(&proof)) {
            headers.insert(header::AUTHORIZATION, proof);
        } else {
            // In the body, also for a client without a secret (RFC 6749, 3.2.1).
            form.append_pair("client_id", &exposed(&self.auth.client_id));
            if let Some(secret) = &self.auth.client_secret {
                form.append_pair("client_secret", secret.expose());
            }
        }
        for field in &self.auth.form {
            form.append_pair(&field.name, &exposed(&field.value));
        }
        Call { url: self.url.clone(), headers, body: form.finish().into() }
    }

    /// Reads the endpoint's reply (RFC 6749, 5.1 and 5.2).
    fn read(&self, reply: &Reply) -> Result<Granted, Lost> {
        let arrived = match reply {
            Reply::Lost(lost) if lost.is_final() => {
                let message = format!("the token endpoint {}: {}", self.host, lost.message);
                return Err(Lost { certain: true, class: lost.class, message });
            }
            Reply::Lost(lost) => {
                return Err(self.unavailable(&format!("cannot be asked: {}", lost.message)));
            }
            Reply::Arrived(arrived) => arrived,
        };
        match arrived.status.as_u16() {
            408 | 425 | 429 | 500.. => {
                return Err(self.unavailable(&format!("answered {}", arrived.status.as_u16())));
            }
            200..=299 if !arrived.complete => {
                return Err(self.unavailable("sent a reply that was cut or is too large"));
            }
            200..=299 => {}
            _ => return Err(self.refused(&refusal(arrived))),
        }
        let reply: Value = serde_json::from_slice(&arrived.body).unwrap_or_default();
        let text = |name: &str| reply.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let Some(token) = text("access_token") else {
            return Err(self.refused(&format!("{}, without an `access_token`", arrived.status.as_u16())));
        };
        // A client must not use a token of a type that it does not know (RFC 6749, 7.1).
        if let Some(other) = text("token_type").filter(|word| !word.eq_ignore_ascii_case("bearer")) {
            return Err(self.refused(&format!("a token of the type {other:?}, and only `Bearer` is known")));
        }
        let seconds = match reply.get("expires_in") {
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(number) => number.as_f64(),
            None => None,
        };
        // Nobody renews a token after more than a month.
        let life = seconds.map(|seconds: f64| Duration::from_secs_f64(seconds.clamp(0.0, 2_592_000.0)));
        let secret = |text: &str| Secret::new(text.to_owned());
        Ok(Granted { token: secret(token), life, refresh: text("refresh_token").map(secret) })
    }

    fn unavailable(&self, why: &str) -> Lost {
        let message = format!("the token endpoint {} {why}", self.host);
        Lost { certain: true, class: Lost::TOKEN_UNAVAILABLE, message }
    }

    fn refused(&self, why: &str) -> Lost {
        let message =
            format!("the token endpoint {} of connection `{}` answered {why}", self.host, self.connection);
        Lost { certain: true, class: Lost::TOKEN_REFUSED, message }
    }
}

/// Status, word and description of a refusal (RFC 6749, 5.2).
fn refusal(arrived: &Arrived) -> String {
    let body: Value = serde_json::from_slice(&arrived.body).unwrap_or_default();
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut words = arrived.status.as_u16().to_string();
    if !text("error").is_empty() {
        words = format!("{words} {}", text("error"));
    }
    if !text("error_description").is_empty() {
        words = format!("{words}: {:?}", text("error_description"));
    }
    words
}
