//! One rendered call.

use bytes::Bytes;
use http::{HeaderMap, Method};

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
    /// The body; empty when there is none.
    pub body: Bytes,
}

impl Request {
    /// A hash over method, URL, headers and body: equal digests mean equal bytes. It does not
    /// depend on any secret.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hasher = xxhash_rust::xxh3::Xxh3Default::new();
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        part(self.method.as_str().as_bytes());
        part(self.url.as_str().as_bytes());
        for (name, value) in &self.headers {
            part(name.as_str().as_bytes());
            part(value.as_bytes());
        }
        part(&self.body);
        hasher.digest()
    }
}
