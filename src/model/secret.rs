//! A value that must not be seen, and the mask that hides it wherever it turns up.

use base64::Engine as _;
use secrecy::{ExposeSecret as _, SecretString};

/// A secret setting. Prints as `***`, is wiped from memory when dropped, cannot be serialized.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes over a secret.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(SecretString::from(value))
    }

    /// The value itself; only `deliver::auth` and [`Mask`] ask for it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Replaces every secret in text, also in its base64, percent-encoded and JSON-escaped forms.
#[derive(Clone, Default)]
pub struct Mask {
    needles: Vec<SecretString>,
}

impl Mask {
    /// A mask for these secrets.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut needles = Vec::new();
        for secret in secrets {
            let value = secret.expose();
            // A very short secret would mask half of every text and hides nothing.
            if value.len() < 4 {
                continue;
            }
            let json = serde_json::to_string(value).unwrap_or_default();
            let forms = [
                value.to_owned(),
                base64::engine::general_purpose::STANDARD.encode(value),
                base64::engine::general_purpose::STANDARD_NO_PAD.encode(value),
                base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value),
                percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC).to_string(),
                json.trim_matches('"').to_owned(),
            ];
            needles.extend(forms.into_iter().map(SecretString::from));
        }
        // Longer forms first, so that no tail of one is left standing.
        needles.sort_by_key(|needle| std::cmp::Reverse(needle.expose_secret().len()));
        needles.dedup_by(|a, b| a.expose_secret() == b.expose_secret());
        Self { needles }
    }

    /// The text with every secret replaced by `***`.
    #[must_use]
    pub fn apply<'t>(&self, text: &'t str) -> std::borrow::Cow<'t, str> {
        let mut text = std::borrow::Cow::Borrowed(text);
        for needle in &self.needles {
            if text.contains(needle.expose_secret()) {
                text = std::borrow::Cow::Owned(text.replace(needle.expose_secret(), "***"));
            }
        }
        text
    }
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mask({} forms)", self.needles.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_secret_is_masked() {
        let secret = Secret::new("to\"ken+1/x".into());
        let mask = Mask::new([&secret]);
        let forms = format!(
            "{} {} {} {:?}",
            secret.expose(),
            base64::engine::general_purpose::STANDARD.encode(secret.expose()),
            percent_encoding::utf8_percent_encode(secret.expose(), percent_encoding::NON_ALPHANUMERIC),
            secret.expose(),
        );
        assert_eq!(mask.apply(&forms), "*** *** *** \"***\"");
        assert_eq!(format!("{secret:?}"), "***");
    }
}
