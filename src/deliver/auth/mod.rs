//! Puts credentials on a request, at the last moment before it leaves.

use base64::Engine as _;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::config::{Auth, Connection, HeaderTemplate};
use crate::model::{Class, Diagnostic, Failure, Secret};

/// What is added to every request of a connection.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    headers: HeaderMap,
    query: Option<(String, Secret)>,
}

impl Credentials {
    /// Reads the credentials of a connection whose settings are all there.
    pub fn new(connection: &Connection) -> Result<Self, Failure> {
        let mut headers = HeaderMap::new();
        let mut query = None;
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
        }
        for (name, template) in &connection.headers {
            if let HeaderTemplate::Secret(secret) = template {
                headers.insert(header_name(name, connection)?, secret_value(secret.expose(), connection)?);
            }
        }
        Ok(Self { headers, query })
    }

    /// Adds them to URL and headers.
    pub fn apply(&self, url: &mut url::Url, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        if let Some((name, value)) = &self.query {
            url.query_pairs_mut().append_pair(name, value.expose());
        }
    }

    /// Names of the headers that carry credentials, for `preview`.
    pub fn header_names(&self) -> impl Iterator<Item = &HeaderName> {
        self.headers.keys()
    }
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
