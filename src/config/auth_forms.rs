//! `auth:` as written: one form for each kind of credentials.
//!
//! A value in here that says "the setting" is the name of a setting, never a secret itself.

use super::auth::{ClientProof, HmacAlgorithm, HmacEncoding, JwtAlgorithm, SignedPart, TimeForm};
use super::raw::{Entries, FromNode, Needed, raw, word, words};
use super::read::{Kind, Node};
use super::values::Span;
use crate::model::{Diagnostic, Placed, Problems, Value};

/// `auth:`
#[derive(Debug, Clone)]
pub(super) enum RawAuth {
    /// `none`
    None,
    /// `{ bearer: … }` and the like.
    Kinds(Box<RawAuthKinds>),
}

raw! {
    /// One kind of credentials; each names settings.
    RawAuthKinds, "`auth`" {
        /// `Authorization: Bearer`: the setting that holds the token.
        bearer: Option<Placed<String>>,
        /// `Authorization: Basic`
        basic: Option<RawBasic>,
        /// A key in a header or in the query.
        api_key: Option<RawApiKey>,
        /// A token that is fetched, renewed and kept in memory (RFC 6749).
        oauth2: Option<RawOAuth2>,
        /// A token that is signed here (RFC 7519).
        jwt: Option<RawJwt>,
        /// A signature over parts of the request (RFC 2104).
        hmac: Option<RawHmac>,
        /// AWS Signature Version 4.
        aws_sigv4: Option<RawSigV4>,
    }
    wrong {
        "oauth" => "it is written `oauth2: { grant: client_credentials, token_url: …, client_id: SETTING, client_secret: SETTING }`",
        "aws" => "it is written `aws_sigv4: { access_key: SETTING, secret_key: SETTING, region: …, service: … }`",
        "token" => "it is written `auth: { bearer: NAME_OF_A_SETTING }`",
    }
}

raw! {
    /// User name and password.
    RawBasic, "`basic`" {
        /// The setting that holds the user name.
        user: Needed<Placed<String>>,
        /// The setting that holds the password.
        password: Needed<Placed<String>>,
    }
    wrong {
        "username" => "it is written `basic: { user: SETTING, password: SETTING }`",
    }
}

raw! {
    /// A key in a header or in the query.
    RawApiKey, "`api_key`" {
        /// The header that holds it.
        header: Option<Placed<String>>,
        /// The query parameter that holds it.
        query: Option<Placed<String>>,
        /// The setting that holds the key.
        value: Needed<Placed<String>>,
    }
    wrong {
        "name" => "it is written `api_key: { header: X-Api-Key, value: SETTING }`, or with `query`",
    }
}

raw! {
    /// A token that is fetched, renewed and kept in memory.
    RawOAuth2, "`oauth2`" {
        /// How a token is asked for.
        grant: Needed<GrantWord>,
        /// Where it is asked for; settings by `{{ connection.NAME }}`, none of them secret.
        token_url: Needed<Placed<String>>,
        /// The setting that holds the client's id.
        client_id: Needed<Placed<String>>,
        /// The setting that holds the client's secret.
        client_secret: Option<Placed<String>>,
        /// For `refresh_token`: the setting that holds it.
        refresh_token: Option<Placed<String>>,
        /// For `password`: the setting that holds the user name.
        user: Option<Placed<String>>,
        /// For `password`: the setting that holds the password.
        password: Option<Placed<String>>,
        /// Scopes to ask for, with blanks between; settings by `{{ connection.NAME }}`.
        scope: Option<Placed<String>>,
        /// The API that the token is for, where the endpoint asks; settings by `{{ connection.NAME }}`.
        audience: Option<Placed<String>>,
        /// How the client proves itself: `basic` (unless said) or in the `body` (RFC 6749, 2.3.1).
        send: Option<ClientProof>,
        /// Further parameters of the token request; settings by `{{ connection.NAME }}`.
        params: Entries<Placed<String>>,
    }
    wrong {
        "url" => "the address of the token endpoint is written `token_url: https://host/path`",
        "username" => "it is written `user: SETTING`",
        "scopes" => "it is written `scope: \"one two\"`",
        "extra" => "further parameters are written `params: { name: value }`",
    }
}

raw! {
    /// A token that is signed here.
    RawJwt, "`jwt`" {
        /// How it is signed.
        algorithm: Needed<JwtAlgorithm>,
        /// The setting that holds the key: PEM for RS256 and ES256, any text for HS256.
        key: Needed<Placed<String>>,
        /// `kid`: which key it is; settings by `{{ connection.NAME }}`.
        key_id: Option<Placed<String>>,
        /// `iss`; settings by `{{ connection.NAME }}`.
        issuer: Option<Placed<String>>,
        /// `sub`; settings by `{{ connection.NAME }}`.
        subject: Option<Placed<String>>,
        /// `aud`; settings by `{{ connection.NAME }}`.
        audience: Option<Placed<String>>,
        /// Further claims; in texts, settings by `{{ connection.NAME }}`.
        claims: Entries<Placed<Value>>,
        /// How long one token is good; 5 minutes unless said.
        lifetime: Option<Span>,
        /// The header that carries it; `Authorization` unless said.
        header: Option<Placed<String>>,
        /// The word before it; `Bearer` unless said, `""` for none.
        scheme: Option<Placed<String>>,
    }
    wrong {
        "secret" => "it is written `key: SETTING`",
        "kid" => "it is written `key_id: TEXT`",
        "iss" => "it is written `issuer: TEXT`",
        "sub" => "it is written `subject: TEXT`",
        "aud" => "it is written `audience: TEXT`",
        "exp" => "it is written `lifetime: 5min`",
    }
}

raw! {
    /// A signature over parts of the request.
    RawHmac, "`hmac`" {
        /// The hash; `sha256` unless said.
        algorithm: Option<HmacAlgorithm>,
        /// The setting that holds the key.
        key: Needed<Placed<String>>,
        /// The header that carries the signature.
        header: Needed<Placed<String>>,
        /// How the signature is written; `hex` unless said.
        encoding: Option<HmacEncoding>,
        /// Text before the signature, such as `sha256=`.
        prefix: Option<Placed<String>>,
        /// What is signed, in this order.
        sign: Vec<Placed<SignedPart>>,
        /// What stands between the parts that are signed; a line end unless said.
        join: Option<Placed<String>>,
        /// The header that tells the time of the signature.
        time: Option<RawSignedTime>,
    }
    wrong {
        "secret" => "it is written `key: SETTING`",
        "parts" => "what is signed is written `sign: [method, path, body]`",
    }
}

raw! {
    /// The header that tells the time of a signature.
    RawSignedTime, "`time`" {
        /// The header.
        header: Needed<Placed<String>>,
        /// How the time is written; `unix` unless said.
        format: Option<TimeForm>,
    }
}

raw! {
    /// AWS Signature Version 4.
    RawSigV4, "`aws_sigv4`" {
        /// The setting that holds the access key id.
        access_key: Needed<Placed<String>>,
        /// The setting that holds the secret access key.
        secret_key: Needed<Placed<String>>,
        /// The setting that holds the session token of temporary credentials.
        session_token: Option<Placed<String>>,
        /// The region, such as `eu-central-1`; settings by `{{ connection.NAME }}`.
        region: Needed<Placed<String>>,
        /// The service, such as `sqs`; settings by `{{ connection.NAME }}`.
        service: Needed<Placed<String>>,
    }
    wrong {
        "access_key_id" => "it is written `access_key: SETTING`",
        "secret_access_key" => "it is written `secret_key: SETTING`",
    }
}

/// `grant:` of `oauth2`, each with a section of RFC 6749.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GrantWord {
    /// 4.4
    ClientCredentials,
    /// 6
    RefreshToken,
    /// 4.3
    Password,
}

words!(GrantWord {
    "client_credentials" => Self::ClientCredentials,
    "refresh_token" => Self::RefreshToken,
    "password" => Self::Password,
});

words!(ClientProof {
    "basic" => Self::Basic,
    "body" => Self::Body,
});

words!(JwtAlgorithm {
    "RS256" => Self::Rs256,
    "ES256" => Self::Es256,
    "HS256" => Self::Hs256,
});

words!(HmacAlgorithm {
    "sha256" => Self::Sha256,
    "sha512" => Self::Sha512,
});

words!(HmacEncoding {
    "hex" => Self::Hex,
    "base64" => Self::Base64,
});

words!(SignedPart {
    "method" => Self::Method,
    "path" => Self::Path,
    "query" => Self::Query,
    "time" => Self::Time,
    "body" => Self::Body,
    "body_sha256" => Self::BodySha256,
});

words!(TimeForm {
    "unix" => Self::Unix,
    "unix_ms" => Self::UnixMs,
    "rfc3339" => Self::Rfc3339,
    "http" => Self::Http,
});

impl FromNode for RawAuth {
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        if let Kind::Text(_) = node.kind {
            return word(node, what, &["none"], problems).map(|_| Self::None);
        }
        let kinds = RawAuthKinds::read(node, what, problems)?;
        let count = [
            kinds.bearer.is_some(),
            kinds.basic.is_some(),
            kinds.api_key.is_some(),
            kinds.oauth2.is_some(),
            kinds.jwt.is_some(),
            kinds.hmac.is_some(),
            kinds.aws_sigv4.is_some(),
        ];
        if count.iter().filter(|there| **there).count() != 1 {
            problems.push(
                Diagnostic::error("auth", "`auth` has to name exactly one kind")
                    .place(&node.place)
                    .help("write `auth: none`, or one of `bearer`, `basic`, `api_key`, `oauth2`, `jwt`, `hmac`, `aws_sigv4`"),
            );
            return None;
        }
        Some(Self::Kinds(Box::new(kinds)))
    }
}

impl schemars::JsonSchema for RawAuth {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Auth".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let kinds = generator.subschema_for::<RawAuthKinds>();
        schemars::json_schema!({ "anyOf": [{ "const": "none" }, kinds] })
    }
}
