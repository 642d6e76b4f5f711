//! One attempt over HTTP: a request out, a reply or the reason for none back.
//!
//! The only file that names reqwest. The client is told to do nothing by itself: no redirects,
//! no repeats, no cookies, no proxy from the environment. Invariant: an error is called certain
//! only when no byte of the request can have left.

use std::error::Error as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use crate::config::{Auth, Connection, Delivery, is_refused_address};
use crate::model::{Arrived, Class, Diagnostic, Failure, Form, Lost, Reply, Request};

use super::auth::{Call, Credentials, Token};
use super::upload::{self, Broken};

/// Sends requests of one connection.
#[derive(Debug, Clone)]
pub struct Sender {
    client: reqwest::Client,
    /// Takes a new connection for every request; made when it is first needed.
    fresh: Arc<OnceLock<reqwest::Client>>,
    settings: Arc<(Connection, Delivery)>,
    credentials: Arc<Credentials>,
}

/// What one request is sent with: the token, where the connection has one that is fetched.
#[derive(Debug, Clone, Default)]
pub struct Pass {
    token: Option<Arc<Token>>,
    /// Whether it was fetched since the same request was refused with the one before.
    is_second: bool,
}

impl Pass {
    const fn with(token: Arc<Token>, is_second: bool) -> Self {
        Self { token: Some(token), is_second }
    }

    /// Whether a reply refuses the token, which says that nothing was done, and another may help.
    #[must_use]
    pub fn may_be_renewed_after(&self, reply: &Reply) -> bool {
        let token = self.token.as_ref().filter(|_| !self.is_second && is_unauthorized(reply));
        token.is_some_and(|token| token.is_worth_renewing())
    }
}

impl Sender {
    /// Builds the client of a connection.
    pub fn new(connection: &Connection, delivery: &Delivery) -> Result<Self, Failure> {
        let credentials = Arc::new(Credentials::new(connection)?);
        let client = client(connection, delivery, delivery.concurrency.most().get())?;
        let settings = Arc::new((connection.clone(), delivery.clone()));
        Ok(Self { client, fresh: Arc::default(), settings, credentials })
    }

    /// From here on every request gets a new connection: one that was reused broke before a reply,
    /// and it could not be told whether the far side had acted.
    pub fn avoid_reuse(&self) {
        if self.fresh.get().is_none() {
            let (connection, delivery) = &*self.settings;
            // The same settings made a client before.
            if let Ok(client) = client(connection, delivery, 0) {
                let _ = self.fresh.set(client);
            }
        }
    }

    fn delivery(&self) -> &Delivery {
        &self.settings.1
    }

    /// What a request carries now, if it is there: `None` says that a token has to be fetched first.
    #[must_use]
    pub fn pass(&self) -> Option<Pass> {
        match self.credentials.tokens() {
            None => Some(Pass::default()),
            Some(tokens) => Some(Pass::with(tokens.at_hand()?, false)),
        }
    }

    /// The same, fetched where it has to be; `refused` is one that the API answered by 401.
    pub async fn fetch_pass(&self, refused: Option<&Pass>) -> Result<Pass, Lost> {
        let Some(tokens) = self.credentials.tokens() else { return Ok(Pass::default()) };
        let ask = async |call| self.ask(call).await;
        match refused.and_then(|pass| pass.token.as_ref()) {
            None => Ok(Pass::with(tokens.token(ask).await?, false)),
            Some(refused) => Ok(Pass::with(tokens.renew(refused, ask).await?, true)),
        }
    }

    /// Sends one request and waits for its reply, at most for the time limit of one attempt.
    pub async fn send_with(&self, request: &Request, pass: &Pass) -> Reply {
        let reply = self.attempt(request, pass.token.as_deref()).await;
        if let Some(token) = &pass.token {
            token.was_answered(is_unauthorized(&reply), pass.is_second);
        }
        reply
    }

    /// The same with all that belongs to it. Where a token has to be fetched first, that has a limit of
    /// its own, and so has the request that is sent once more after a 401, with a new token.
    pub async fn send(&self, request: &Request) -> Reply {
        let pass = match self.pass() {
            Some(pass) => pass,
            // In a box, so that connections without tokens do not carry its size.
            None => match Box::pin(self.fetch_pass(None)).await {
                Ok(pass) => pass,
                Err(lost) => return Reply::Lost(lost),
            },
        };
        let reply = self.send_with(request, &pass).await;
        if !pass.may_be_renewed_after(&reply) {
            return reply;
        }
        match Box::pin(self.fetch_pass(Some(&pass))).await {
            Ok(pass) => self.send_with(request, &pass).await,
            Err(lost) => Reply::Lost(lost),
        }
    }

    async fn attempt(&self, request: &Request, token: Option<&Token>) -> Reply {
        let mut url = request.url.clone();
        let mut headers = request.headers.clone();
        if let Err(lost) = self.credentials.apply(request, token, &mut url, &mut headers) {
            return Reply::Lost(lost);
        }
        let mut outgoing = reqwest::Request::new(request.method.clone(), url);
        *outgoing.headers_mut() = headers;
        if let Some(form) = &request.form {
            return self.send_form(outgoing, form).await;
        }
        if !request.body.is_empty() {
            *outgoing.body_mut() = Some(request.body.clone().into());
        }
        self.execute(outgoing).await
    }

    /// Sends a body of parts, whose files are read while it leaves.
    async fn send_form(&self, mut outgoing: reqwest::Request, form: &Form) -> Reply {
        if let Err(lost) = upload::check(form).await {
            return Reply::Lost(lost);
        }
        // Said ahead, so that a body that is broken off cannot be taken for a whole one.
        outgoing.headers_mut().insert(http::header::CONTENT_LENGTH, form.length().into());
        let broken = Broken::default();
        *outgoing.body_mut() = Some(reqwest::Body::wrap_stream(upload::stream(form, &broken)));
        let reply = self.execute(outgoing).await;
        match broken.get() {
            // Whatever was answered, it was no answer to this request.
            Some(lost) => Reply::Lost(lost.clone()),
            None => reply,
        }
    }

    /// Asks a token endpoint.
    async fn ask(&self, call: Call) -> Reply {
        let mut outgoing = reqwest::Request::new(http::Method::POST, call.url);
        *outgoing.headers_mut() = call.headers;
        *outgoing.body_mut() = Some(call.body.into());
        self.execute(outgoing).await
    }

    async fn execute(&self, outgoing: reqwest::Request) -> Reply {
        // One limit over connecting, sending and reading; a timer of ours, so that a reply whose
        // headers came in time is kept although its body did not.
        let timeout = self.delivery().timeout;
        let deadline = tokio::time::Instant::now() + timeout;
        let client = self.fresh.get().unwrap_or(&self.client);
        match tokio::time::timeout_at(deadline, client.execute(outgoing)).await {
            Err(_) => Reply::Lost(Lost {
                certain: false,
                class: "timeout",
                message: format!("no reply within {}", humantime::format_duration(timeout)),
                asked: None,
            }),
            Ok(Err(error)) => Reply::Lost(lost(&error)),
            Ok(Ok(response)) => Reply::Arrived(self.receive(response, deadline).await),
        }
    }

    async fn receive(&self, mut response: reqwest::Response, deadline: tokio::time::Instant) -> Arrived {
        let max_reply = self.delivery().max_reply;
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let mut stream = response.bytes_stream();
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        let mut complete = true;
        loop {
            let chunk = match tokio::time::timeout_at(deadline, stream.next()).await {
                Ok(None) => break,
                Ok(Some(Ok(chunk))) => chunk,
                Ok(Some(Err(_))) | Err(_) => {
                    complete = false;
                    break;
                }
            };
            // Nearly every reply is one chunk, which needs no copy.
            if first.is_empty() && rest.is_empty() && chunk.len() <= max_reply {
                first = chunk;
                continue;
            }
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            let room = max_reply - rest.len();
            rest.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                complete = false;
                break;
            }
        }
        let body = if rest.is_empty() { first } else { rest.freeze() };
        Arrived { status, headers, body, complete }
    }
}

fn is_unauthorized(reply: &Reply) -> bool {
    // No reply tells nothing of a token, so it leaves things as they are.
    match reply {
        Reply::Arrived(arrived) => arrived.status == http::StatusCode::UNAUTHORIZED,
        Reply::Lost(_) => false,
    }
}

/// A client that does nothing by itself and keeps at most `idle` connections open between requests.
fn client(connection: &Connection, delivery: &Delivery, idle: usize) -> Result<reqwest::Client, Failure> {
    let refused = |rule, message: String| {
        Failure::new(Class::Config, Diagnostic::error(rule, message).place(&connection.place))
    };
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .tcp_nodelay(true)
        .tls_version_min(reqwest::tls::Version::TLS_1_2)
        .connect_timeout(delivery.connect_timeout)
        // Shorter than the usual keep-alive of servers, so that a connection that was just closed
        // by the far side is seldom used for a POST.
        .pool_idle_timeout(Duration::from_secs(20))
        .pool_max_idle_per_host(idle)
        .user_agent(concat!("runner/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(Arc::new(Resolver));
    let token_url = match &connection.auth {
        Auth::OAuth2(auth) => auth.token_url.as_str(),
        _ => "",
    };
    let https = [connection.base_url.as_str(), token_url].iter().any(|url| url.starts_with("https:"));
    if !https && connection.proxy.is_none() {
        // Plain http never needs certificates: so a machine without any can use it.
        builder = builder.tls_certs_only([]);
    } else if let Some(path) = &connection.tls.ca {
        let pem = std::fs::read(path).map_err(|error| Failure::io("read the CA file", path, &error))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|_| refused("ca-not-pem", format!("{} holds no PEM certificates", path.display())))?;
        if certificates.is_empty() {
            return Err(refused("ca-not-pem", format!("{} holds no PEM certificates", path.display())));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    if let Some((certificate, key)) = connection.tls.identity.as_ref().filter(|_| https) {
        builder = builder.identity(identity(certificate, key, &refused)?);
    }
    if connection.tls.insecure {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    if let Some(proxy) = &connection.proxy {
        let proxy = reqwest::Proxy::all(proxy)
            .map_err(|_| refused("proxy", "the proxy of the connection is not a URL".into()))?;
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(|error| {
        if connection.tls.identity.is_some() && cause(&error).contains("keymismatch") {
            let mut failure = refused("client-certificate", "`tls.key` is not the key of `tls.cert`".into());
            for diagnostic in &mut failure.diagnostics {
                diagnostic.help = Some("name the files that were made together".into());
            }
            return failure;
        }
        let mut failure = refused("http-client", format!("cannot make an HTTP client: {}", cause(&error)));
        for diagnostic in &mut failure.diagnostics {
            diagnostic.help =
                Some("https needs the machine's CA certificates: install `ca-certificates`, or set `tls: { ca: PATH }`".into());
        }
        failure
    })
}

/// A client certificate with its key.
fn identity(
    certificate: &Path,
    key: &Path,
    refused: &impl Fn(&'static str, String) -> Failure,
) -> Result<reqwest::Identity, Failure> {
    let mut pem = std::fs::read(certificate)
        .map_err(|error| Failure::io("read the client certificate", certificate, &error))?;
    let key_pem = std::fs::read(key).map_err(|error| Failure::io("read the client key", key, &error))?;
    pem.push(b'\n');
    pem.extend_from_slice(&key_pem);
    reqwest::Identity::from_pem(&pem).map_err(|_| {
        let (certificate, key) = (certificate.display(), key.display());
        let mut failure =
            refused("client-certificate", format!("{certificate} and {key} are no certificate with its key"));
        for diagnostic in &mut failure.diagnostics {
            diagnostic.help = Some("both are PEM files, and the key has no passphrase".into());
        }
        failure
    })
}

/// Reads why there is no reply.
fn lost(error: &reqwest::Error) -> Lost {
    let message = cause(error);
    let tls = message.contains("certificate") || message.contains("TLS") || message.contains("tls");
    if message.contains(ADDRESS_REFUSED) {
        return Lost { certain: true, class: "address-refused", message, asked: None };
    }
    if let Some(alert) = client_alert(&message) {
        // Said before the handshake was taken for good, so nothing was read behind it.
        let message = format!("the far side refused the client certificate ({alert})");
        return Lost { certain: true, class: "client-certificate", message, asked: None };
    }
    if error.is_connect() || error.is_builder() {
        let class = if error.is_dns() {
            "dns"
        } else if message.contains("invalid peer certificate") {
            let message = about_certificate(&message);
            return Lost { certain: true, class: "certificate", message, asked: None };
        } else if tls {
            "tls"
        } else {
            "connect"
        };
        return Lost { certain: true, class, message, asked: None };
    }
    if message.contains("REFUSED_STREAM") {
        return Lost { certain: true, class: "refused-stream", message, asked: None };
    }
    let class = if error.is_timeout() { "timeout" } else { "reset" };
    Lost { certain: false, class, message, asked: None }
}

/// The alert by which a server refuses a client's certificate, or asks for one that is missing
/// (RFC 8446, 6.2). With TLS 1.3 it comes after the client's side of the handshake is done.
fn client_alert(cause: &str) -> Option<&str> {
    const ALERTS: [&str; 8] = [
        "certificaterequired",
        "badcertificate",
        "unsupportedcertificate",
        "certificaterevoked",
        "certificateexpired",
        "certificateunknown",
        "unknownca",
        "accessdenied",
    ];
    let alert = cause.split("received fatal alert: ").nth(1)?;
    ALERTS.into_iter().find(|known| alert.starts_with(known))
}

/// What is wrong with a certificate, in words of ours before those of the TLS library.
fn about_certificate(cause: &str) -> String {
    let cause = cause.split("invalid peer certificate: ").nth(1).unwrap_or(cause);
    let what = if cause.contains("unknownissuer") || cause.contains("badsignature") {
        "the certificate is not trusted, its authority is not known here"
    } else if cause.contains("expired") {
        "the certificate has expired"
    } else if cause.contains("not valid for name") || cause.contains("notvalidforname") {
        "the certificate is for another name"
    } else {
        "the certificate is not good"
    };
    format!("{what} ({cause})")
}

/// The innermost causes in words, without the URL, which could hold a record's values.
fn cause(error: &reqwest::Error) -> String {
    let mut words = Vec::new();
    let mut source = error.source();
    while let Some(inner) = source {
        let text = inner.to_string();
        let text = text.split(" (os error").next().unwrap_or_default().to_owned();
        source = inner.source();
        // The client's name for the step that failed tells a person nothing.
        if text.starts_with("client error (") && source.is_some() {
            continue;
        }
        // Layers repeat the text of those below them.
        words.retain(|outer: &String| !outer.contains(&text) && !text.contains(outer.as_str()));
        words.push(text);
    }
    match words.last() {
        Some(_) => words.join(": ").to_lowercase().replace("refused_stream", "REFUSED_STREAM"),
        None => "the connection failed".into(),
    }
}

const ADDRESS_REFUSED: &str = "link-local or metadata address refused";

/// The system's resolver, without addresses that lead to the machine's own metadata service.
#[derive(Debug)]
struct Resolver;

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let kept: Vec<SocketAddr> =
                found.iter().copied().filter(|address| !is_refused_address(address.ip())).collect();
            if kept.is_empty() && !found.is_empty() {
                return Err(ADDRESS_REFUSED.into());
            }
            Ok(Box::new(kept.into_iter()) as reqwest::dns::Addrs)
        })
    }
}
