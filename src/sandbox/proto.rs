//! A small HTTP/1.1 server side: reads requests and writes heads (RFC 9112).
//!
//! Our own, because a stand-in has to break the protocol on purpose, and has to know when a
//! request was read completely. Invariant: nothing that is read is held without a limit.

use std::fmt::Write as _;
use std::io;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::rules::ScriptedReply;

const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 256;
const MAX_BODY: usize = 64 * 1024 * 1024;

/// A request that was read completely.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    /// Path and query.
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Whether the client keeps the connection.
    pub(super) keep: bool,
}

impl Request {
    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or(&self.target)
    }

    pub(super) fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}

/// Why there is no request.
#[derive(Debug)]
pub(super) enum Unread {
    /// The connection ended, between requests or within one.
    Ended,
    /// It is not a request that is understood: status and message to answer.
    Bad(u16, &'static str),
}

impl From<io::Error> for Unread {
    fn from(_: io::Error) -> Self {
        Self::Ended
    }
}

/// The receiving half of a connection.
#[derive(Debug, Default)]
pub(super) struct Reader {
    buffer: BytesMut,
}

struct Head {
    method: Method,
    target: String,
    headers: HeaderMap,
    keep: bool,
}

impl Reader {
    /// Reads the next request.
    pub(super) async fn next(&mut self, stream: &mut TcpStream) -> Result<Request, Unread> {
        let mut searched = 0;
        let end = loop {
            if let Some(at) =
                memchr::memmem::find(self.buffer.get(searched..).unwrap_or_default(), b"\r\n\r\n")
            {
                break searched + at + 4;
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(Unread::Bad(431, "the request head is too large"));
            }
            searched = self.buffer.len().saturating_sub(3);
            self.fill(stream).await?;
        };
        let head = head(&self.buffer.split_to(end))?;
        if head
            .headers
            .get("expect")
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
        {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let chunked = head.headers.get(http::header::TRANSFER_ENCODING);
        let length = head.headers.get(http::header::CONTENT_LENGTH);
        let body = match (chunked, length) {
            (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
                self.chunks(stream).await?
            }
            (Some(_), None) => return Err(Unread::Bad(501, "only chunked transfer coding is known")),
            (Some(_), Some(_)) => return Err(Unread::Bad(400, "two lengths of one body")),
            (None, Some(length)) => {
                let length = length.to_str().ok().and_then(|text| text.parse().ok());
                let length = length.ok_or(Unread::Bad(400, "the content length is not a number"))?;
                self.take(stream, length).await?
            }
            (None, None) => Bytes::new(),
        };
        let Head { method, target, headers, keep } = head;
        Ok(Request { method, target, headers, body, keep })
    }

    /// Waits until the client closes, and throws away what it still sends.
    pub(super) async fn until_closed(&mut self, stream: &mut TcpStream) {
        while self.fill(stream).await.is_ok() {
            self.buffer.clear();
        }
    }

    async fn fill(&mut self, stream: &mut TcpStream) -> Result<(), Unread> {
        self.buffer.reserve(8 * 1024);
        if stream.read_buf(&mut self.buffer).await? == 0 { Err(Unread::Ended) } else { Ok(()) }
    }

    async fn take(&mut self, stream: &mut TcpStream, length: usize) -> Result<Bytes, Unread> {
        if length > MAX_BODY {
            return Err(Unread::Bad(413, "the body is too large"));
        }
        while self.buffer.len() < length {
            self.fill(stream).await?;
        }
        Ok(self.buffer.split_to(length).freeze())
    }

    async fn line(&mut self, stream: &mut TcpStream) -> Result<Bytes, Unread> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, b"\r\n") {
                let line = self.buffer.split_to(at + 2).freeze();
                return Ok(line.slice(..at));
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(Unread::Bad(400, "a line of the chunked body is too long"));
            }
            self.fill(stream).await?;
        }
    }

    async fn chunks(&mut self, stream: &mut TcpStream) -> Result<Bytes, Unread> {
        let bad = Unread::Bad;
        let mut body = BytesMut::new();
        loop {
            let line = self.line(stream).await?;
            let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
            let size =
                std::str::from_utf8(size).ok().and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
            let size = size.ok_or(bad(400, "a chunk has no size"))?;
            if size == 0 {
                // Trailers, which nobody needs here.
                for _ in 0..MAX_HEADERS {
                    if self.line(stream).await?.is_empty() {
                        return Ok(body.freeze());
                    }
                }
                return Err(bad(431, "too many trailers"));
            }
            if size.saturating_add(body.len()) > MAX_BODY {
                return Err(bad(413, "the body is too large"));
            }
            body.extend_from_slice(&self.take(stream, size).await?);
            if !self.take(stream, 2).await?.eq(&b"\r\n"[..]) {
                return Err(bad(400, "a chunk is longer than its size"));
            }
        }
    }
}

fn head(bytes: &[u8]) -> Result<Head, Unread> {
    let bad = |message| Unread::Bad(400, message);
    let text = std::str::from_utf8(bytes).map_err(|_| bad("the request head is not UTF-8"))?;
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (first.next(), first.next(), first.next(), first.next())
    else {
        return Err(bad("the request line has not three parts"));
    };
    let method = method.parse().map_err(|_| bad("the method is not one"))?;
    let mut keep = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ => return Err(Unread::Bad(505, "only HTTP/1.1 is spoken here")),
    };
    let mut headers = HeaderMap::with_capacity(12);
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(bad("a header has no colon"))?;
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("a header name is not one"))?;
        let value = HeaderValue::from_str(value.trim_matches([' ', '\t']))
            .or_else(|_| HeaderValue::from_bytes(value.trim().as_bytes()));
        headers.append(name, value.map_err(|_| bad("a header value is not one"))?);
        if headers.len() > MAX_HEADERS {
            return Err(Unread::Bad(431, "too many headers"));
        }
    }
    if headers.get_all(http::header::CONTENT_LENGTH).iter().count() > 1 {
        return Err(bad("two lengths of one body"));
    }
    for value in headers.get_all(http::header::CONNECTION) {
        match value.to_str().unwrap_or_default().to_ascii_lowercase() {
            value if value.contains("close") => keep = false,
            value if value.contains("keep-alive") => keep = true,
            _ => {}
        }
    }
    Ok(Head { method, target: origin_form(target)?, headers, keep })
}

/// The path of a target, also of one that names a host as for a proxy.
fn origin_form(target: &str) -> Result<String, Unread> {
    if target.starts_with('/') {
        return Ok(target.to_owned());
    }
    let rest =
        target.split_once("://").map(|(_, rest)| rest).ok_or(Unread::Bad(400, "the target is no path"))?;
    Ok(rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/").to_owned())
}

/// What a head says of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// It stays.
    KeepAlive,
    /// It is closed after this reply, and this is said.
    Close,
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Known(usize),
    Chunked,
}

/// Status line and headers, with the empty line.
pub(super) fn write_head(reply: &ScriptedReply, length: Length, ends: Ends) -> String {
    let mut out = String::with_capacity(192);
    let reason = StatusCode::from_u16(reply.status).ok().and_then(|status| status.canonical_reason());
    let _ = write!(out, "HTTP/1.1 {} {}\r\n", reply.status, reason.unwrap_or("Unknown"));
    for (name, value) in &reply.headers {
        // A line break here would be another header.
        if !value.contains(['\r', '\n']) {
            let _ = write!(out, "{name}: {value}\r\n");
        }
    }
    match length {
        // RFC 9110 section 8.6: these have no length.
        Length::Known(_) if matches!(reply.status, 100..200 | 204 | 304) => {}
        Length::Known(length) => {
            let _ = write!(out, "content-length: {length}\r\n");
        }
        Length::Chunked => out.push_str("transfer-encoding: chunked\r\n"),
    }
    if ends == Ends::Close {
        out.push_str("connection: close\r\n");
    }
    out.push_str("\r\n");
    out
}

/// Head and body in one piece.
pub(super) fn write_reply(reply: &ScriptedReply, method: &Method, ends: Ends) -> Vec<u8> {
    let mut out = write_head(reply, Length::Known(reply.body.len()), ends).into_bytes();
    if *method != Method::HEAD && !matches!(reply.status, 100..200 | 204 | 304) {
        out.extend_from_slice(&reply.body);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_that_are_none_are_refused() {
        let cases = [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0),
            ("GET http://a:1/x?y HTTP/1.1\r\n\r\n", 0),
            ("GET /\r\n\r\n", 400),
            ("GET  / HTTP/1.1\r\n\r\n", 400),
            ("G@T / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/2.0\r\n\r\n", 505),
            ("GET x HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\na b: c\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\na: \x01\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nContent-Length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        ];
        for (text, expected) in cases {
            let status = match head(text.as_bytes()) {
                Err(Unread::Bad(status, _)) => status,
                Err(Unread::Ended) => 1,
                Ok(_) => 0,
            };
            assert_eq!(status, expected, "{text}");
        }
        assert_eq!(head(b"GET http://a:1/x?y HTTP/1.1\r\n\r\n").unwrap().target, "/x?y");
    }

    #[test]
    fn a_header_cannot_be_smuggled_into_a_reply() {
        let mut reply = ScriptedReply::empty(204);
        reply.headers.push(("a".to_owned(), "b\r\nc: d".to_owned()));
        assert_eq!(
            write_reply(&reply, &Method::GET, Ends::Close),
            b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"
        );
    }
}
