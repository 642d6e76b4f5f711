//! `auth:`: how requests prove who sends them.
//!
//! What `auth_forms` read and `auth_settings` filled. Invariant: every secret in here is the value of a
//! setting.

use std::time::Duration;

use crate::model::{Secret, Value};

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
    /// A bearer token that a token endpoint gives (RFC 6749).
    OAuth2(Box<OAuth2>),
    /// A token that is signed here (RFC 7519).
    Jwt(Box<Jwt>),
    /// A signature over parts of the request (RFC 2104).
    Hmac(Box<Hmac>),
    /// AWS Signature Version 4.
    AwsSigV4(Box<SigV4>),
}

/// `oauth2:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuth2 {
    /// How a token is asked for.
    pub grant: Grant,
    /// Where; `${NAME}` stands for a setting that is not set, as in base URLs.
    pub token_url: String,
    /// The client's id.
    pub client_id: Option<Secret>,
    /// Its secret; a public client has none.
    pub client_secret: Option<Secret>,
    /// How it proves itself.
    pub send: ClientProof,
    /// Further parameters of the token request: scope, audience, `params`.
    pub form: Vec<Field>,
}

/// `grant:`, with what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// RFC 6749, 4.4.
    ClientCredentials,
    /// RFC 6749, 6.
    RefreshToken(Option<Secret>),
    /// RFC 6749, 4.3.
    Password {
        /// User name.
        user: Option<Secret>,
        /// Password.
        password: Option<Secret>,
    },
}

/// One parameter of a token request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its value; `None` while a setting in it is unset.
    pub value: Option<Secret>,
    /// Whether a secret setting is in it.
    pub is_secret: bool,
}

/// How a client proves itself to a token endpoint (RFC 6749, 2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientProof {
    /// `Authorization: Basic`
    #[default]
    Basic,
    /// `client_id` and `client_secret` in the form.
    Body,
}

/// `jwt:`
#[derive(Debug, Clone)]
pub struct Jwt {
    /// How it is signed.
    pub algorithm: JwtAlgorithm,
    /// The key.
    pub key: Option<Secret>,
    /// `kid`
    pub key_id: Option<Secret>,
    /// All claims but `iat` and `exp`.
    pub claims: Vec<(String, Claim)>,
    /// From `iat` to `exp`.
    pub lifetime: Duration,
    /// The header that carries it.
    pub header: String,
    /// The word before it; may be empty.
    pub scheme: String,
}

/// The value of a claim.
#[derive(Debug, Clone)]
pub enum Claim {
    /// Text, which may come from settings; `None` while one is unset.
    Text(Option<Secret>),
    /// Any other value.
    Value(Value),
}

/// Signatures of tokens (RFC 7518, 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwtAlgorithm {
    /// RSA with SHA-256.
    Rs256,
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// HMAC with SHA-256.
    Hs256,
}

/// `hmac:`
#[derive(Debug, Clone)]
pub struct Hmac {
    /// The hash.
    pub algorithm: HmacAlgorithm,
    /// The key.
    pub key: Option<Secret>,
    /// The header that carries the signature.
    pub header: String,
    /// How it is written.
    pub encoding: HmacEncoding,
    /// Text before it.
    pub prefix: String,
    /// What is signed.
    pub sign: Vec<SignedPart>,
    /// What stands between these.
    pub join: String,
    /// The header that tells the time, and its form.
    pub time: Option<(String, TimeForm)>,
}

/// The hash of an HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HmacAlgorithm {
    /// SHA-256
    #[default]
    Sha256,
    /// SHA-512
    Sha512,
}

/// How a signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HmacEncoding {
    /// Lower case.
    #[default]
    Hex,
    /// With padding (RFC 4648, 4).
    Base64,
}

/// A part of a request that is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedPart {
    /// In capitals.
    Method,
    /// As it is sent, encoded, without the query.
    Path,
    /// As it is sent, without `?`; may be empty.
    Query,
    /// As the header of `time` tells it.
    Time,
    /// Its bytes.
    Body,
    /// Its SHA-256 in lower hex.
    BodySha256,
}

/// How the time of a signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeForm {
    /// Seconds since 1970.
    #[default]
    Unix,
    /// Milliseconds since 1970.
    UnixMs,
    /// `2026-11-22T02:14:00Z` (RFC 3339).
    Rfc3339,
    /// `Sun, 22 Nov 2026 02:14:00 GMT` (RFC 9110, 5.6.7).
    Http,
}

/// `aws_sigv4:`
#[derive(Debug, Clone)]
pub struct SigV4 {
    /// The access key id.
    pub access_key: Option<Secret>,
    /// The secret access key.
    pub secret_key: Option<Secret>,
    /// The session token of temporary credentials.
    pub session_token: Option<Secret>,
    /// The region.
    pub region: Option<Secret>,
    /// The service.
    pub service: Option<Secret>,
}

impl Auth {
    /// Whether a request carries credentials.
    #[must_use]
    pub const fn is_some(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Names of the headers that it sets, in lower case: no template may set these.
    #[must_use]
    pub fn headers(&self) -> Vec<String> {
        let names: Vec<&str> = match self {
            Self::None | Self::ApiKeyQuery { .. } => Vec::new(),
            Self::Bearer(_) | Self::Basic { .. } | Self::OAuth2(_) => vec!["authorization"],
            Self::ApiKeyHeader { name, .. } => vec![name],
            Self::Jwt(jwt) => vec![&jwt.header],
            Self::Hmac(hmac) => {
                let time = hmac.time.iter().map(|(name, _)| name.as_str());
                std::iter::once(hmac.header.as_str()).chain(time).collect()
            }
            Self::AwsSigV4(_) => {
                vec!["authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"]
            }
        };
        names.into_iter().map(str::to_ascii_lowercase).collect()
    }
}

/// The key that signs tokens, or that none can be made of the text. A PEM whose line ends are
/// written as `\n`, as they often are in variables, is taken, too.
pub fn signing_key(algorithm: JwtAlgorithm, key: &Secret) -> Option<jsonwebtoken::EncodingKey> {
    let text = key.expose();
    let pem = || text.replace("\\n", "\n");
    let made = match algorithm {
        JwtAlgorithm::Hs256 => return Some(jsonwebtoken::EncodingKey::from_secret(text.as_bytes())),
        JwtAlgorithm::Rs256 => jsonwebtoken::EncodingKey::from_rsa_pem(pem().as_bytes()),
        JwtAlgorithm::Es256 => jsonwebtoken::EncodingKey::from_ec_pem(pem().as_bytes()),
    };
    let key = made.ok()?;
    let algorithm = match algorithm {
        JwtAlgorithm::Es256 => jsonwebtoken::Algorithm::ES256,
        _ => jsonwebtoken::Algorithm::RS256,
    };
    // The text may be a PEM of something else: only a signature proves it.
    jsonwebtoken::encode(&jsonwebtoken::Header::new(algorithm), &serde_json::json!({}), &key).ok()?;
    Some(key)
}
