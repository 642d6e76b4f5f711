//! `auth:` as written.

use super::raw::{FromNode, Needed, raw, word};
use super::read::{Kind, Node};
use crate::model::{Diagnostic, Placed, Problems};

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
    }
    wrong {
        "oauth2" => "oauth2 is not available yet; bearer, basic and api_key are",
        "jwt" => "jwt is not available yet; bearer, basic and api_key are",
        "hmac" => "hmac is not available yet; bearer, basic and api_key are",
        "aws_sigv4" => "aws_sigv4 is not available yet; bearer, basic and api_key are",
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

impl FromNode for RawAuth {
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        if let Kind::Text(_) = node.kind {
            return word(node, what, &["none"], problems).map(|_| Self::None);
        }
        let kinds = RawAuthKinds::read(node, what, problems)?;
        let count = [kinds.bearer.is_some(), kinds.basic.is_some(), kinds.api_key.is_some()];
        if count.iter().filter(|there| **there).count() != 1 {
            problems.push(
                Diagnostic::error("auth", "`auth` has to name exactly one kind")
                    .place(&node.place)
                    .help("write `auth: none`, or one of `bearer`, `basic`, `api_key`"),
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
