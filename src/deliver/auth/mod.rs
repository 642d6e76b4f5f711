//! Puts credentials on a request, at the last moment before it leaves.
//!
//! Those that never change are made once (`Credentials::new`) and copied. A token is fetched (`oauth2`)
//! or signed (`jwt`) ahead of its end, a signature (`hmac`, `sigv4`) made for each attempt anew, as it
//! tells the time. Invariant: digests, previews and files know nothing of what happens in here.

mod hmac;
mod jwt;
mod moment;
mod oauth2;
mod sigv4;

use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;

use crate::config::{Auth, Connection, HeaderTemplate};
use crate::model::{Class, Diagnostic, Failure, Lost, Request, Secret};

pub use self::hmac::{Signer as HmacSigner, Signing};
pub use self::jwt::accepts as accepts_jwt;
use self::moment::Moment;
pub use self::oauth2::{Call, Token, Tokens};
pub use self::sigv4::{Canonical, accepts as accepts_sigv4};

/// What is added to every request of a connection.
#[derive(Debug, Default)]
pub struct Credentials {
    headers: HeaderMap,
    query: Option<(String, Secret)>,
    changing: Changing,
}

/// Credentials that are not the same for every request.
#[derive(Debug, Default)]
enum Changing {
    #[default]
    Nothing,
    OAuth2(Arc<Tokens>),
    Jwt(Box<jwt::Signer>),
    Hmac(Box<HmacSigner>),
    SigV4(Box<sigv4::Signer>),
}

impl Credentials {
    /// Reads the credentials of a connection whose settings are all there.
    pub fn new(connection: &Connection) -> Result<Self, Failure> {
        let mut headers = HeaderMap::new();
        let mut query = None;
        let mut changing = Changing::Nothing;
        match &connection.auth {
            Auth::None => {}
            Auth::Bearer(token) => {
                let token = required(token.as_ref(), connection)?;
                headers.insert(
                    header::AUTHORIZATION,
                    secret_value(&format!("Bearer {}", token.expose()), connection)?,
                );
            }
            Auth::Basic { user, password } => {
                let user = required(user.as_ref(), connection)?;
                let password = required(password.as_ref(), connection)?;
                let pair = format!("{}:{}", user.expose(), password.expose());
                let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
                headers.insert(header::AUTHORIZATION, secret_value(&format!("Basic {encoded}"), connection)?);
            }
            Auth::ApiKeyHeader { name, value } => {
                let value = required(value.as_ref(), connection)?;
                headers.insert(header_name(name, connection)?, secret_value(value.expose(), connection)?);
            }
            Auth::ApiKeyQuery { name, value } => {
                query = Some((name.clone(), required(value.as_ref(), connection)?.clone()));
            }
            Auth::OAuth2(auth) => changing = Changing::OAuth2(Tokens::shared(auth, connection)?),
            Auth::Jwt(auth) => changing = Changing::Jwt(Box::new(jwt::Signer::new(auth, connection)?)),
            Auth::Hmac(auth) => {
                let key = required(auth.key.as_ref(), connection)?;
                // Whatever the signature is, the rest of the header has to be sendable.
                secret_value(&auth.prefix, connection)?;
                changing = Changing::Hmac(Box::new(HmacSigner::new(
                    auth,
                    key,
                    header_name(&auth.header, connection)?,
                    auth.time.as_ref().map(|(name, _)| header_name(name, connection)).transpose()?,
                )));
            }
            Auth::AwsSigV4(auth) => {
                changing = Changing::SigV4(Box::new(sigv4::Signer::new(auth, connection)?));
            }
        }
        for (name, template) in &connection.headers {
            if let HeaderTemplate::Secret(secret) = template {
                headers.insert(header_name(name, connection)?, secret_value(secret.expose(), connection)?);
            }
        }
        Ok(Self { headers, query, changing })
    }

    /// Tokens that have to be fetched before a request can be sent.
    pub fn tokens(&self) -> Option<&Tokens> {
        match &self.changing {
            Changing::OAuth2(tokens) => Some(tokens),
            _ => None,
        }
    }

    /// Adds them to URL and headers; `token` is the one that was fetched. An error says why the request
    /// cannot be sent; nothing of it was.
    pub fn apply(
        &self,
        request: &Request,
        token: Option<&Token>,
        url: &mut url::Url,
        headers: &mut HeaderMap,
    ) -> Result<(), Lost> {
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        if let Some((name, value)) = &self.query {
            url.query_pairs_mut().append_pair(name, value.expose());
        }
        match &self.changing {
            Changing::Nothing => {}
            Changing::OAuth2(_) => {
                if let Some(token) = token {
                    headers.insert(header::AUTHORIZATION, token.header());
                }
            }
            Changing::Jwt(signer) => {
                let value = signer.value(Moment::now())?;
                headers.insert(signer.name().clone(), value);
            }
            Changing::Hmac(signer) => {
                let signing = Signing::of(&request.method, url, &request.body);
                signer.sign(&signing, SystemTime::now(), headers)?;
            }
            Changing::SigV4(signer) => {
                signer.sign(&request.method, url, &request.body, Timestamp::now(), headers)?;
            }
        }
        Ok(())
    }
}

/// A header value that no log shows; an error where the far side or a setting made it unsendable.
fn sensitive(text: &str) -> Result<HeaderValue, Lost> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Lost {
        certain: true,
        class: Lost::TOKEN_REFUSED,
        message: "the credentials hold a character that no header can carry".into(),
        asked: None,
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn required<'a>(secret: Option<&'a Secret>, connection: &Connection) -> Result<&'a Secret, Failure> {
    secret.ok_or_else(|| {
        connection.unset_failure().unwrap_or_else(|| {
            Failure::new(Class::Bug, Diagnostic::error("bug", "a secret is missing and nothing says which"))
        })
    })
}

fn header_name(name: &str, connection: &Connection) -> Result<HeaderName, Failure> {
    HeaderName::try_from(name).map_err(|_| {
        Failure::new(
            Class::Config,
            Diagnostic::error("header-name", format!("`{name}` is not a header's name"))
                .place(&connection.place),
        )
    })
}

fn secret_value(text: &str, connection: &Connection) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Failure::new(
            Class::Config,
            Diagnostic::error(
                "secret-not-sendable",
                format!(
                    "a secret of connection `{}` holds a character that no header can carry",
                    connection.name
                ),
            )
            .place(&connection.place)
            .note("its value is not shown; nothing was sent")
            .help("look for a line end or a space at its end"),
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}
