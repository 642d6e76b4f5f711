//! One rendered call.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};

use super::form::{Form, Stretch};

/// A request as it goes out, without credentials: those are added by `deliver` at the last
/// moment, so that digests, previews and files never hold them.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Base URL, path and query, encoded.
    pub url: url::Url,
    /// Headers of connector, endpoint and pipeline, the idempotency key and the content type
    /// among them.
    pub headers: HeaderMap,
    /// The body; empty when there is none, or when it is made of parts.
    pub body: Bytes,
    /// The parts of a `multipart` body.
    pub form: Option<Box<Form>>,
}

impl Request {
    /// Makes the content type of a body of parts, when all that its files hold is known.
    pub fn seal(&mut self) {
        if let Some(form) = &mut self.form
            && let Ok(kind) = HeaderValue::from_str(&form.seal())
        {
            self.headers.insert(header::CONTENT_TYPE, kind);
        }
    }

    /// Whether it has a body.
    #[must_use]
    pub const fn has_body(&self) -> bool {
        !self.body.is_empty() || self.form.is_some()
    }

    /// Bytes of the body that are kept in memory, about.
    #[must_use]
    pub fn held(&self) -> usize {
        self.body.len() + self.form.as_ref().map_or(0, |form| form.held())
    }

    /// A hash over method, URL, headers and body, the content of files included: equal digests mean equal
    /// bytes. It does not depend on any secret.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hasher = Parts::default();
        hasher.head(&self.method, &self.url, &self.headers);
        let mut part = |bytes: &[u8]| hasher.part(bytes);
        part(&self.body);
        for stretch in self.form.iter().flat_map(|form| form.stretches()) {
            match stretch {
                Stretch::Bytes(bytes) => part(&bytes),
                Stretch::File(file) => {
                    part(&file.length().to_le_bytes());
                    part(file.seen.as_ref().map_or(&[], |seen| &seen.sha256));
                }
            }
        }
        hasher.0.digest()
    }

    /// A hash over what has to be the same for all records of one call: method, URL and headers.
    #[must_use]
    pub fn digest_of_head(method: &Method, url: &url::Url, headers: &HeaderMap) -> u64 {
        let mut hasher = Parts::default();
        hasher.head(method, url, headers);
        hasher.0.digest()
    }
}

/// Hashes parts so that none can run into the next.
#[derive(Default)]
struct Parts(xxhash_rust::xxh3::Xxh3Default);

impl Parts {
    fn part(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn head(&mut self, method: &Method, url: &url::Url, headers: &HeaderMap) {
        self.part(method.as_str().as_bytes());
        self.part(url.as_str().as_bytes());
        for (name, value) in headers {
            self.part(name.as_str().as_bytes());
            self.part(value.as_bytes());
        }
    }
}
