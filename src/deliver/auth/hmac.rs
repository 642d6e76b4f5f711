//! A signature over parts of a request (RFC 2104), as many APIs ask for it in forms of their own.
//!
//! Pure: the time is the caller's. What is signed is the request as it leaves, with the path and query
//! encoded as they are sent.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, Method};
use sha2::{Digest as _, Sha256, Sha512};

use super::sensitive;
use crate::config::{Hmac, HmacAlgorithm, HmacEncoding, SignedPart, TimeForm};
use crate::model::{Lost, Secret};

/// What a signature can speak of, the time aside.
#[derive(Debug, Clone, Copy)]
pub struct Signing<'a> {
    /// The method.
    pub method: &'a str,
    /// The path as it is sent.
    pub path: &'a str,
    /// The query as it is sent, without `?`.
    pub query: &'a str,
    /// The body.
    pub body: &'a [u8],
}

impl<'a> Signing<'a> {
    pub(super) fn of(method: &'a Method, url: &'a url::Url, body: &'a [u8]) -> Self {
        Self { method: method.as_str(), path: url.path(), query: url.query().unwrap_or_default(), body }
    }
}

/// The key, spread out for the hash once.
#[derive(Clone)]
enum Keyed {
    Sha256(Box<hmac::Hmac<Sha256>>),
    Sha512(Box<hmac::Hmac<Sha512>>),
    /// HMAC takes keys of every length, so this is never made.
    None,
}

/// Signs requests by one key.
pub struct Signer {
    keyed: Keyed,
    header: HeaderName,
    prefix: String,
    encoding: HmacEncoding,
    sign: Vec<SignedPart>,
    join: String,
    time: Option<(HeaderName, TimeForm)>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "hmac Signer({})", self.header)
    }
}

impl Signer {
    /// For an `hmac:`, with the names of its headers.
    #[must_use]
    pub fn new(auth: &Hmac, key: &Secret, header: HeaderName, time: Option<HeaderName>) -> Self {
        let key = key.expose().as_bytes();
        let keyed = match auth.algorithm {
            HmacAlgorithm::Sha256 => {
                hmac::Hmac::new_from_slice(key).ok().map(|mac| Keyed::Sha256(Box::new(mac)))
            }
            HmacAlgorithm::Sha512 => {
                hmac::Hmac::new_from_slice(key).ok().map(|mac| Keyed::Sha512(Box::new(mac)))
            }
        };
        Self {
            keyed: keyed.unwrap_or(Keyed::None),
            header,
            prefix: auth.prefix.clone(),
            encoding: auth.encoding,
            sign: auth.sign.clone(),
            join: auth.join.clone(),
            time: time.zip(auth.time.as_ref().map(|(_, form)| *form)),
        }
    }

    pub(super) fn sign(
        &self,
        request: &Signing<'_>,
        now: SystemTime,
        headers: &mut HeaderMap,
    ) -> Result<(), Lost> {
        let time = self.time.as_ref().map(|(name, form)| (name, time_as(*form, now)));
        let text = time.as_ref().map_or("", |(_, text)| text.as_str());
        headers.insert(self.header.clone(), sensitive(&self.value(request, text))?);
        if let Some((name, text)) = time {
            headers.insert(name.clone(), sensitive(&text)?);
        }
        Ok(())
    }

    /// The value of the signature's header, when the time is told in these words.
    #[must_use]
    pub fn value(&self, request: &Signing<'_>, time: &str) -> String {
        let mac = match self.keyed.clone() {
            Keyed::Sha256(mut mac) => {
                self.feed(request, time, |bytes| mac.update(bytes));
                mac.finalize().into_bytes().to_vec()
            }
            Keyed::Sha512(mut mac) => {
                self.feed(request, time, |bytes| mac.update(bytes));
                mac.finalize().into_bytes().to_vec()
            }
            Keyed::None => Vec::new(),
        };
        let text = match self.encoding {
            HmacEncoding::Hex => hex(&mac),
            HmacEncoding::Base64 => STANDARD.encode(mac),
        };
        format!("{}{text}", self.prefix)
    }

    /// The headers of the signature and of its time.
    #[must_use]
    pub fn headers(&self) -> (&HeaderName, Option<&HeaderName>) {
        (&self.header, self.time.as_ref().map(|(name, _)| name))
    }

    fn feed(&self, request: &Signing<'_>, time: &str, mut update: impl FnMut(&[u8])) {
        for (at, part) in self.sign.iter().enumerate() {
            if at > 0 {
                update(self.join.as_bytes());
            }
            match part {
                SignedPart::Method => update(request.method.as_bytes()),
                SignedPart::Path => update(request.path.as_bytes()),
                SignedPart::Query => update(request.query.as_bytes()),
                SignedPart::Time => update(time.as_bytes()),
                SignedPart::Body => update(request.body),
                SignedPart::BodySha256 => update(hex(&Sha256::digest(request.body)).as_bytes()),
            }
        }
    }
}

fn time_as(form: TimeForm, now: SystemTime) -> String {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    match form {
        TimeForm::Unix => since.as_secs().to_string(),
        TimeForm::UnixMs => since.as_millis().to_string(),
        TimeForm::Rfc3339 => jiff::Timestamp::try_from(now)
            .map(|now| now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
            .unwrap_or_default(),
        TimeForm::Http => httpdate::fmt_http_date(now),
    }
}

/// Bytes in lower hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn signer(sign: &[SignedPart], change: impl FnOnce(&mut Hmac)) -> Signer {
        let mut auth = Hmac {
            algorithm: HmacAlgorithm::Sha256,
            key: None,
            header: "x-signature".into(),
            encoding: HmacEncoding::Hex,
            prefix: String::new(),
            sign: sign.to_vec(),
            join: "\n".into(),
            time: None,
        };
        change(&mut auth);
        let time = auth.time.as_ref().map(|_| HeaderName::from_static("x-time"));
        Signer::new(&auth, &Secret::new("Jefe".into()), HeaderName::from_static("x-signature"), time)
    }

    const REQUEST: Signing<'_> =
        Signing { method: "POST", path: "/a%20b", query: "x=1", body: b"what do ya want for nothing?" };

    #[test]
    fn signatures_are_those_of_rfc_4231() {
        // RFC 4231, 4.3 (test case 2).
        let body = [SignedPart::Body];
        assert_eq!(
            signer(&body, |_| {}).value(&REQUEST, ""),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            signer(&body, |auth| auth.algorithm = HmacAlgorithm::Sha512).value(&REQUEST, ""),
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
             9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
        );
        assert_eq!(
            signer(&body, |auth| {
                auth.encoding = HmacEncoding::Base64;
                auth.prefix = "sha256=".into();
            })
            .value(&REQUEST, ""),
            "sha256=W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM="
        );
    }

    #[test]
    fn parts_are_signed_in_their_order_and_as_they_are_sent() {
        use SignedPart::{Body, BodySha256, Method, Path, Query, Time};
        let parts = [Method, Path, Query, Time, BodySha256];
        let whole = b"POST\n/a%20b\nx=1\n1700000000\n\
            b381e7fec653fc3ab9b178272366b8ac87fed8d31cb25ed1d0e1f3318644c89c";
        let as_body = Signing { body: whole, ..REQUEST };
        assert_eq!(
            signer(&parts, |_| {}).value(&REQUEST, "1700000000"),
            signer(&[Body], |_| {}).value(&as_body, "")
        );
    }

    #[test]
    fn the_time_is_told_in_its_form() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
        let told = |form| {
            let signer = signer(&[SignedPart::Time], |auth| auth.time = Some(("x-time".into(), form)));
            let mut headers = HeaderMap::new();
            signer.sign(&REQUEST, now, &mut headers).unwrap();
            let time = headers["x-time"].to_str().unwrap().to_owned();
            assert_eq!(headers["x-signature"], signer.value(&REQUEST, &time));
            time
        };
        assert_eq!(told(TimeForm::Unix), "1700000000");
        assert_eq!(told(TimeForm::UnixMs), "1700000000250");
        assert_eq!(told(TimeForm::Rfc3339), "2023-11-14T22:13:20Z");
        assert_eq!(told(TimeForm::Http), "Tue, 14 Nov 2023 22:13:20 GMT");
    }
}
