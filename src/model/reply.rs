//! What one attempt brought back, or why nothing came.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

/// The end of one attempt.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Complete reply headers came, with whatever of the body.
    Arrived(Arrived),
    /// No complete reply.
    Lost(Lost),
}

/// A reply whose headers are complete.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// The status line.
    pub status: StatusCode,
    /// All headers.
    pub headers: HeaderMap,
    /// The decoded body, at most the cap of `delivery.max_reply`.
    pub body: Bytes,
    /// Whether the whole body is here; false when it was cut off, too large or too slow.
    pub complete: bool,
}

/// Why an attempt has no reply.
#[derive(Debug, Clone)]
pub struct Lost {
    /// Whether the far side certainly saw nothing: name not found, connection refused, TLS
    /// failed, HTTP/2 stream refused. Otherwise it is unknown whether it acted.
    pub certain: bool,
    /// Stable slug: `connect`, `dns`, `tls`, `timeout`, `reset`, `refused-stream`, `certificate`,
    /// `client-certificate`, `address-refused`, `token-refused`, `token-unavailable`, `file-changed`,
    /// `file-missing`.
    pub class: &'static str,
    /// The cause in words, without the URL.
    pub message: String,
    /// The wait that a token endpoint asks for.
    pub asked: Option<Duration>,
}

impl Lost {
    /// The token endpoint refused to give a token, or gave none that can be used.
    pub const TOKEN_REFUSED: &str = "token-refused";
    /// The token endpoint could not be asked, or not now.
    pub const TOKEN_UNAVAILABLE: &str = "token-unavailable";

    /// A file of the body holds something else than when the request was made.
    pub const FILE_CHANGED: &str = "file-changed";
    /// A file of the body is not there any more, or cannot be read.
    pub const FILE_MISSING: &str = "file-missing";

    /// Whether no later try of the same request can be made, while others go on.
    #[must_use]
    pub fn is_of_this_alone(&self) -> bool {
        self.certain && matches!(self.class, Self::FILE_CHANGED | Self::FILE_MISSING)
    }

    /// Whether no later try will end otherwise until a person has changed something.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self.class, "certificate" | "client-certificate" | "address-refused" | Self::TOKEN_REFUSED)
    }
}
