//! Bearer tokens that are signed here (RFC 7519), made anew ahead of their end.

use std::sync::{PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};

use super::{Moment, header_name, required, secret_value, sensitive};
use crate::config::{Claim, Connection, Jwt, JwtAlgorithm, signing_key};
use crate::model::{Class, Diagnostic, Failure, Learned, Lost, Secret};

/// Signs the tokens of a connection.
pub(super) struct Signer {
    key: EncodingKey,
    header: Header,
    claims: serde_json::Map<String, serde_json::Value>,
    lifetime: Duration,
    name: HeaderName,
    scheme: String,
    learned: Learned,
    /// The newest token, and when it was made.
    current: RwLock<Option<(HeaderValue, Moment)>>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "jwt Signer({:?})", self.header.alg)
    }
}

impl Signer {
    pub(super) fn new(auth: &Jwt, connection: &Connection) -> Result<Self, Failure> {
        if let Some(failure) = connection.unset_failure() {
            return Err(failure);
        }
        let key = signing_key(auth.algorithm, required(auth.key.as_ref(), connection)?);
        let key = key.ok_or_else(|| {
            let found = Diagnostic::error("signing-key", "the key of `jwt` does not sign");
            Failure::new(Class::Config, found.place(&connection.place))
        })?;
        let mut header = Header::new(match auth.algorithm {
            JwtAlgorithm::Rs256 => Algorithm::RS256,
            JwtAlgorithm::Es256 => Algorithm::ES256,
            JwtAlgorithm::Hs256 => Algorithm::HS256,
        });
        header.kid = auth.key_id.as_ref().map(|id| id.expose().to_owned());
        let mut claims = serde_json::Map::new();
        for (name, claim) in &auth.claims {
            let value = match claim {
                Claim::Text(text) => text.as_ref().map(|text| text.expose().into()).unwrap_or_default(),
                Claim::Value(value) => serde_json::from_str(&value.to_json()).unwrap_or_default(),
            };
            claims.insert(name.clone(), value);
        }
        secret_value(&auth.scheme, connection)?;
        Ok(Self {
            key,
            header,
            claims,
            lifetime: auth.lifetime,
            name: header_name(&auth.header, connection)?,
            scheme: auth.scheme.clone(),
            learned: connection.tokens.clone(),
            current: RwLock::default(),
        })
    }

    pub(super) const fn name(&self) -> &HeaderName {
        &self.name
    }

    /// The header's value: a token that is good for a while yet.
    pub(super) fn value(&self, now: Moment) -> Result<HeaderValue, Lost> {
        let skew = backdated(self.lifetime);
        let renew = super::oauth2::renewed_after(self.lifetime.saturating_sub(skew));
        // One that was signed in what is the future now may not be taken yet.
        let is_good = |made: Moment| made.until(now) < renew && made.wall <= now.wall;
        if let Some((value, made)) = &*self.current.read().unwrap_or_else(PoisonError::into_inner)
            && is_good(*made)
        {
            return Ok(value.clone());
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((value, made)) = &*current
            && is_good(*made)
        {
            return Ok(value.clone());
        }
        let mut claims = self.claims.clone();
        let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        let wall = now.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let issued = seconds(wall.saturating_sub(skew));
        claims.insert("iat".into(), issued.into());
        claims.insert("exp".into(), issued.saturating_add(seconds(self.lifetime)).into());
        let token = jsonwebtoken::encode(&self.header, &claims, &self.key).map_err(|_| Lost {
            certain: true,
            class: Lost::TOKEN_REFUSED,
            message: "the key of `jwt` does not sign".into(),
            asked: None,
        })?;
        self.learned.learn(&Secret::new(token.clone()));
        let value = match self.scheme.as_str() {
            "" => sensitive(&token)?,
            scheme => sensitive(&format!("{scheme} {token}"))?,
        };
        *current = Some((value.clone(), now));
        Ok(value)
    }
}

/// How far in the past a token says that it was issued, so that a far side whose clock is behind takes it:
/// a minute, or a fifth of a short life. Its end comes as much earlier, as the life is what was set.
fn backdated(lifetime: Duration) -> Duration {
    Duration::from_secs((lifetime.as_secs() / 5).min(60))
}

/// Whether a token was signed with HS256 by this secret and has not ended: for the sandbox.
#[must_use]
pub fn accepts(token: &str, secret: &str) -> bool {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_aud = false;
    let key = DecodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::decode::<serde_json::Value>(token, &key, &validation).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Auth, fixtures};

    const EC: &str = "-----BEGIN PRIVATE KEY-----\n\
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\n";

    fn jwt(algorithm: JwtAlgorithm, key: &str) -> Jwt {
        let text = |text: &str| Claim::Text(Some(Secret::new(text.into())));
        Jwt {
            algorithm,
            key: Some(Secret::new(key.into())),
            key_id: Some(Secret::new("k1".into())),
            claims: vec![
                ("iss".into(), text("us")),
                ("admin".into(), Claim::Value(crate::model::Value::Bool(true))),
            ],
            lifetime: Duration::from_mins(5),
            header: "Authorization".into(),
            scheme: "Bearer".into(),
        }
    }

    fn signer(jwt: &Jwt) -> Result<Signer, Failure> {
        let mut connection = fixtures::connection("https://x.test");
        connection.auth = Auth::Jwt(Box::new(jwt.clone()));
        Signer::new(jwt, &connection)
    }

    fn text(value: &HeaderValue) -> String {
        value.to_str().unwrap().trim_start_matches("Bearer ").to_owned()
    }

    #[tokio::test]
    async fn a_token_is_kept_until_it_is_about_to_end() {
        let signer = signer(&jwt(JwtAlgorithm::Hs256, "secret")).unwrap();
        let now = Moment::now();
        let first = signer.value(now).unwrap();
        let later = |seconds: u64| {
            let by = Duration::from_secs(seconds);
            signer.value(Moment { steady: now.steady + by, wall: now.wall + by }).unwrap()
        };
        assert_eq!(later(209), first);
        let second = later(211);
        assert_ne!(second, first);
        let back = Moment { steady: now.steady, wall: now.wall - Duration::from_hours(1) };
        assert_ne!(signer.value(back).unwrap(), second, "of the future");
        let slept = signer.value(Moment { steady: now.steady, wall: now.wall }).unwrap();
        let woken = Moment { steady: now.steady, wall: now.wall + Duration::from_hours(1) };
        assert_ne!(signer.value(woken).unwrap(), slept);
        assert!(accepts(&text(&first), "secret") && accepts(&text(&second), "secret"));
        assert!(!accepts(&text(&first), "another") && !accepts("a.b.c", "secret"));
        let mask = crate::model::Mask::default().and_learned(&signer.learned);
        assert_eq!(mask.apply(&text(&second)), "***");
    }

    #[tokio::test]
    async fn claims_and_times_stand_in_the_token_and_keys_of_each_kind_sign() {
        let ec = rcgen::KeyPair::generate().unwrap();
        let now = Moment::now();
        let signer = signer(&jwt(JwtAlgorithm::Es256, &ec.serialize_pem().replace('\n', "\\n"))).unwrap();
        let token = text(&signer.value(now).unwrap());
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&["us"]);
        let public = DecodingKey::from_ec_pem(ec.public_key_pem().as_bytes()).unwrap();
        let decoded = jsonwebtoken::decode::<serde_json::Value>(&token, &public, &validation).unwrap();
        assert_eq!(decoded.header.kid.as_deref(), Some("k1"));
        let issued = (now.wall - Duration::from_mins(1)).duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let (iat, exp) = (issued.as_secs(), issued.as_secs() + 300);
        assert_eq!(decoded.claims, serde_json::json!({ "iss": "us", "admin": true, "iat": iat, "exp": exp }));
    }

    #[test]
    fn a_short_life_is_not_over_when_it_begins() {
        for (lifetime, want) in [(10, 2), (60, 12), (300, 60), (600, 60), (86_400, 60)] {
            assert_eq!(backdated(Duration::from_secs(lifetime)).as_secs(), want);
        }
    }

    #[test]
    fn a_key_that_does_not_sign_is_refused_without_being_shown() {
        for (algorithm, key) in [
            (JwtAlgorithm::Rs256, "hunter2"),
            (JwtAlgorithm::Es256, EC),
            (JwtAlgorithm::Rs256, &rcgen::KeyPair::generate().unwrap().serialize_pem()),
        ] {
            let failure = signer(&jwt(algorithm, key)).unwrap_err();
            assert_eq!(failure.class, Class::Config);
            assert!(!format!("{failure:?}").contains("hunter2"));
        }
    }
}
