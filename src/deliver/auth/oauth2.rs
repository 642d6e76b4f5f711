//! Access tokens from a token endpoint (RFC 6749): fetched once for all lanes, kept in memory alone.
//!
//! Whatever a process does with a connection shares its tokens (`Tokens::shared`).
//! A token is fetched when the first request needs it and renewed ahead of its end, by one lane while
//! the others go on with the old one; after a 401, once. Invariants: a token endpoint that refuses is not
//! asked again in a start, and one that fails is asked once for all who wait, not once for each.
//!
//! Knows no HTTP client: `ask` of the caller sends a `Call`.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};
use url::form_urlencoded;

use super::{Moment, required, secret_value, sensitive};
use crate::config::{ClientProof, Connection, Grant, OAuth2, Tls};
use crate::deliver::headers::retry_after;
use crate::model::{Arrived, Class, Diagnostic, Failure, Hidden, Learned, Lost, Reply, Secret};

/// How old a token gets before it is renewed: until 30 seconds before its end, or a fifth of its life if
/// that is less. So every token is used, also a short one for more than one request.
pub(super) fn renewed_after(life: Duration) -> Duration {
    life.saturating_sub((life / 5).min(Duration::from_secs(30)))
}

/// When a renewal ahead of the end failed, it is tried again after this time.
const AGAIN: Duration = Duration::from_secs(5);

/// So many tokens that were fetched after a refusal and refused in turn, one after the other, show that
/// it is not for the token that the API answers 401.
const MOST_IN_VAIN: u32 = 3;

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
    /// `None` when its endpoint did not say.
    life: Option<Life>,
    /// Whether it was fetched because the one before was refused.
    after_refusal: bool,
    accepted: AtomicBool,
    /// Whether the request for which it was fetched was refused with it, too.
    was_in_vain: AtomicBool,
    /// How many tokens were fetched in vain, one after the other.
    in_vain: Arc<AtomicU32>,
    /// While a call with it may be answered, it is hidden wherever the reply repeats it.
    _hidden: Hidden,
}

/// How long a token is good.
struct Life {
    /// When it was asked for: its life may have begun then.
    since: Moment,
    /// How old it is when it is renewed.
    renew: RwLock<Duration>,
    /// How old it gets.
    end: Duration,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({})", self.number)
    }
}

impl Token {
    /// `Bearer …`
    pub fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// Notes whether a request with it was answered by 401; `is_second`: it was fetched for this request,
    /// which was refused before.
    pub fn was_answered(&self, is_refusal: bool, is_second: bool) {
        if !is_refusal {
            self.accepted.store(true, Ordering::Relaxed);
            if is_second {
                self.in_vain.store(0, Ordering::Relaxed);
            }
        } else if is_second && !self.was_in_vain.swap(true, Ordering::Relaxed) {
            self.in_vain.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether another one may help after a 401: not when this one came for the same reason and never
    /// served, nor when several did not help.
    pub fn is_worth_renewing(&self) -> bool {
        (!self.after_refusal || self.accepted.load(Ordering::Relaxed))
            && self.in_vain.load(Ordering::Relaxed) < MOST_IN_VAIN
    }

    fn is_fresh(&self, now: Moment) -> bool {
        self.life.as_ref().is_none_or(|life| {
            life.since.until(now) < *life.renew.read().unwrap_or_else(PoisonError::into_inner)
        })
    }

    fn has_ended(&self, now: Moment) -> bool {
        self.life.as_ref().is_some_and(|life| life.since.until(now) >= life.end)
    }

    fn renew_later(&self, now: Moment, after: Duration) {
        if let Some(life) = &self.life {
            let later = life.since.until(now).saturating_add(after);
            *life.renew.write().unwrap_or_else(PoisonError::into_inner) = later;
        }
    }
}

/// The tokens of this process, each with what asks for them. In memory alone.
static SHARED: std::sync::Mutex<Vec<Arc<Tokens>>> = std::sync::Mutex::new(Vec::new());

/// The tokens of a connection.
pub struct Tokens {
    auth: OAuth2,
    url: url::Url,
    host: String,
    connection: String,
    /// How the endpoint is reached, which may be what proves the client.
    way: (Tls, Option<String>),
    learned: Learned,
    /// The client's proof as it is sent, which the endpoint may repeat.
    _hidden: Option<Hidden>,
    in_vain: Arc<AtomicU32>,
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
    /// Those of this process for such a connection: whatever uses it asks for one token together.
    pub(super) fn shared(auth: &OAuth2, connection: &Connection) -> Result<Arc<Self>, Failure> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tokens) = shared.iter().find(|tokens| tokens.are_of(auth, connection)) {
            return Ok(Arc::clone(tokens));
        }
        let tokens = Arc::new(Self::new(auth, connection)?);
        shared.push(Arc::clone(&tokens));
        Ok(tokens)
    }

    /// Whether a connection would ask for the same tokens in the same way.
    fn are_of(&self, auth: &OAuth2, connection: &Connection) -> bool {
        let way = (&self.way.0, &self.way.1) == (&connection.tls, &connection.proxy);
        way && self.connection == connection.name && self.auth == *auth
    }

    /// For a connection whose settings are all there.
    fn new(auth: &OAuth2, connection: &Connection) -> Result<Self, Failure> {
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
        let host = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let learned = connection.tokens.clone();
        let proof = proof(auth);
        if let Some(proof) = &proof {
            // Found now, not at the first request.
            secret_value(&format!("Basic {}", proof.expose()), connection)?;
        }
        Ok(Self {
            auth: auth.clone(),
            url,
            host,
            connection: connection.name.clone(),
            way: (connection.tls.clone(), connection.proxy.clone()),
            _hidden: proof.as_ref().map(|proof| learned.learn(proof)),
            learned,
            in_vain: Arc::default(),
            current: RwLock::default(),
            asking: Mutex::new(Asking { refresh, failed: None }),
            asked: AtomicU64::new(0),
        })
    }

    /// The token for a request that is about to be sent, if nothing has to be fetched for it.
    pub fn at_hand(&self) -> Option<Arc<Token>> {
        self.current().filter(|token| token.is_fresh(Moment::now()))
    }

    /// The token for a request that is about to be sent.
    pub async fn token(&self, ask: impl AsyncFn(Call) -> Reply) -> Result<Arc<Token>, Lost> {
        let now = Moment::now();
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
            Err(lost) if !lost.is_final() && !token.has_ended(Moment::now()) => {
                tracing::warn!(host = self.host, class = lost.class, "the token could not be renewed yet");
                token.renew_later(Moment::now(), lost.asked.unwrap_or(AGAIN).max(AGAIN));
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
        let since = Moment::now();
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
        let hidden = self.learned.learn(&granted.token);
        if let Some(refresh) = granted.refresh {
            self.learned.learn(&refresh);
            if matches!(self.auth.grant, Grant::RefreshToken(_)) {
                asking.refresh = Some(refresh);
            }
        }
        let life = granted.life.map(|end| Life { since, renew: RwLock::new(renewed_after(end)), end });
        let token = Arc::new(Token {
            header,
            number: number + 1,
            life,
            after_refusal,
            accepted: AtomicBool::new(false),
            was_in_vain: AtomicBool::new(false),
            in_vain: Arc::clone(&self.in_vain),
            _hidden: hidden,
        });
        tracing::info!(host = self.host, after_refusal, "a token was fetched");
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&token));
        Ok(token)
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
        let proof = proof(&self.auth).map(|proof| sensitive(&format!("Basic {}", proof.expose())));
        if let Some(Ok(proof)) = proof {
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
                return Err(Lost { certain: true, class: lost.class, message, asked: None });
            }
            Reply::Lost(lost) => {
                return Err(self.unavailable(&format!("cannot be asked: {}", lost.message)));
            }
            Reply::Arrived(arrived) => arrived,
        };
        match arrived.status.as_u16() {
            408 | 425 | 429 | 500.. => {
                let lost = self.unavailable(&format!("answered {}", arrived.status.as_u16()));
                let asked = retry_after(&arrived.headers, SystemTime::now());
                return Err(Lost { asked, ..lost });
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
            // Some refuse with status 200.
            return Err(self.refused(&format!("{}, without an `access_token`", refusal(arrived))));
        };
        // A client must not use a token of a type that it does not know (RFC 6749, 7.1).
        if let Some(other) = text("token_type").filter(|word| !word.eq_ignore_ascii_case("bearer")) {
            return Err(self.refused(&format!("a token of the type {other:?}, and only `Bearer` is known")));
        }
        let life = reply.get("expires_in").and_then(life);
        let secret = |text: &str| Secret::new(text.to_owned());
        Ok(Granted { token: secret(token), life, refresh: text("refresh_token").map(secret) })
    }

    fn unavailable(&self, why: &str) -> Lost {
        let message = format!("the token endpoint {} {why}", self.host);
        Lost { certain: true, class: Lost::TOKEN_UNAVAILABLE, message, asked: None }
    }

    fn refused(&self, why: &str) -> Lost {
        let message =
            format!("the token endpoint {} of connection `{}` answered {why}", self.host, self.connection);
        Lost { certain: true, class: Lost::TOKEN_REFUSED, message, asked: None }
    }
}

/// What stands behind `Basic`, each half encoded as in a form (RFC 6749, 2.3.1).
fn proof(auth: &OAuth2) -> Option<Secret> {
    let secret = auth.client_secret.as_ref().filter(|_| auth.send == ClientProof::Basic)?;
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let id = auth.client_id.as_ref().map_or("", Secret::expose);
    Some(Secret::new(STANDARD.encode(format!("{}:{}", encoded(id), encoded(secret.expose())))))
}

/// The life of a token in seconds, also where it is text. No time at all, or none that can be read, is
/// nothing said: the API tells by its 401 when such a token has ended.
fn life(said: &Value) -> Option<Duration> {
    let seconds = match said {
        Value::String(text) => text.trim().parse().ok()?,
        other => other.as_f64()?,
    };
    // Nobody renews a token after more than a month.
    let life = (seconds > 0.0).then(|| Duration::from_secs_f64(f64::min(seconds, 2_592_000.0)))?;
    (!life.is_zero()).then_some(life)
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
