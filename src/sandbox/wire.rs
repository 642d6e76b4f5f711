//! Puts an answer on the wire, whole or broken on purpose.

use std::io::{self, Write as _};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Method;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::api::Api;
use super::proto::{Ends, Length, Reader, write_head, write_reply};
use super::rules::ScriptedReply;
use super::script::{Action, Answer, HeaderText};

/// Zeros that one block of a gzip bomb unpacks to.
const BLOCK: u64 = 8 << 20;

/// What follows on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The next request.
    Next,
    /// Nothing: it is dropped.
    Close,
}

/// The reply that an action makes of the usual one; `None` when no complete reply headers leave.
pub(super) fn shape(action: &Action, usual: ScriptedReply, api: &Api) -> Option<ScriptedReply> {
    let header = |name: &str, value: String| vec![(name.to_owned(), value)];
    Some(match action {
        Action::Hang
        | Action::CutBefore
        | Action::CutAfterEffect
        | Action::CutInHeaders
        | Action::Reset
        | Action::Garbage
        | Action::EndlessHeaders => return None,
        Action::Delay(_)
        | Action::Late(_)
        | Action::CutInBody
        | Action::SlowBody(_)
        | Action::Close
        | Action::CloseSilent => usual,
        Action::Status(answer) => scripted(answer, api),
        Action::Html(status) => ScriptedReply {
            status: *status,
            headers: header("content-type", "text/html; charset=utf-8".to_owned()),
            body: Bytes::from_static(
                b"<!DOCTYPE html>\n<html><head><title>Gateway</title></head>\n<body><h1>An error \
                  occurred</h1><script>alert(1)</script></body></html>\n",
            ),
        },
        Action::GzipBomb(_) => ScriptedReply {
            status: 200,
            headers: vec![
                ("content-type".to_owned(), "application/json".to_owned()),
                ("content-encoding".to_owned(), "gzip".to_owned()),
            ],
            body: Bytes::new(),
        },
        Action::Redirect(status, url) => {
            ScriptedReply { headers: header("location", url.clone()), ..ScriptedReply::empty(*status) }
        }
        Action::Esc(status) => {
            let message = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31mred\u{1b}[0m\u{202e}txet\rover\u{8}\u{8}";
            api.refuse(*status, "BAD\u{1b}[5mBLINK", message)
        }
    })
}

fn scripted(answer: &Answer, api: &Api) -> ScriptedReply {
    let mut reply = match (&answer.body, answer.status) {
        (Some(body), _) => ScriptedReply::json_bytes(answer.status, body.clone()),
        (None, 200..400) if answer.class.is_none() && answer.message.is_none() => {
            ScriptedReply::empty(answer.status)
        }
        (None, status) => {
            let class = answer.class.as_deref().unwrap_or(match status {
                401 => "UNAUTHENTICATED",
                403 => "UNAUTHORIZED",
                404 => "NOT_FOUND",
                409 => "ALREADY_EXISTS",
                429 => "TOO_MANY_REQUESTS",
                503 => "SERVICE_UNAVAILABLE",
                500.. => "INTERNAL_ERROR",
                _ => "REFUSED",
            });
            api.refuse(status, class, answer.message.as_deref().unwrap_or("answered by the sandbox's script"))
        }
    };
    // A rule's own headers go before ours; those that it says twice stay twice.
    let is_said = |known: &str| answer.headers.iter().any(|(name, _)| known.eq_ignore_ascii_case(name));
    reply.headers.retain(|(known, _)| !is_said(known));
    for (name, value) in &answer.headers {
        let value = match value {
            HeaderText::Text(text) => text.clone(),
            HeaderText::DateFromNow(seconds) => {
                let by = Duration::from_secs(seconds.unsigned_abs());
                let now = SystemTime::now();
                let then = if *seconds < 0 { now.checked_sub(by) } else { now.checked_add(by) };
                httpdate::fmt_http_date(then.unwrap_or(now))
            }
        };
        reply.headers.push((name.clone(), value));
    }
    reply
}

/// Sends a reply as it should be.
pub(super) async fn send(
    stream: &mut TcpStream,
    method: &Method,
    reply: &ScriptedReply,
    ends: Ends,
) -> io::Result<Then> {
    stream.write_all(&write_reply(reply, method, ends)).await?;
    if ends == Ends::Close {
        stream.shutdown().await?;
        return Ok(Then::Close);
    }
    Ok(Then::Next)
}

/// Does what an action demands, with the reply that `shape` made.
pub(super) async fn perform(
    stream: &mut TcpStream,
    reader: &mut Reader,
    method: &Method,
    action: &Action,
    reply: Option<&ScriptedReply>,
    ends: Ends,
) -> io::Result<Then> {
    let whole = |reply: &ScriptedReply, ends| write_head(reply, Length::Known(reply.body.len()), ends);
    match (action, reply) {
        (Action::Hang, _) => reader.until_closed(stream).await,
        (Action::CutBefore | Action::CutAfterEffect, _) => {}
        (Action::CutInHeaders, _) => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: appli").await?,
        (Action::Reset, _) => stream.set_zero_linger()?,
        (Action::Garbage, _) => {
            stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00SSH-2.0-nothing\r\n\x00\xff\xfe\r\n\r\n").await?;
        }
        (Action::EndlessHeaders, _) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
            let line = format!("x-more: {}\r\n", "a".repeat(1000)).repeat(8);
            // Ends when the client has enough of it and closes.
            loop {
                stream.write_all(line.as_bytes()).await?;
            }
        }
        (Action::CutInBody, Some(reply)) => {
            let half = reply.body.get(..reply.body.len() / 2).unwrap_or_default();
            // An empty body could not be cut: one byte is announced and never sent.
            let head = write_head(reply, Length::Known(reply.body.len().max(1)), ends);
            stream.write_all(&[head.as_bytes(), half].concat()).await?;
        }
        (Action::SlowBody(wait), Some(reply)) => {
            stream.write_all(whole(reply, ends).as_bytes()).await?;
            for byte in &reply.body {
                tokio::time::sleep(*wait).await;
                stream.write_all(&[*byte]).await?;
            }
            return Ok(if ends == Ends::KeepAlive { Then::Next } else { Then::Close });
        }
        (Action::GzipBomb(size), Some(reply)) => {
            stream.write_all(write_head(reply, Length::Chunked, ends).as_bytes()).await?;
            bomb(stream, *size).await?;
            return Ok(if ends == Ends::KeepAlive { Then::Next } else { Then::Close });
        }
        (Action::Close, Some(reply)) => return send(stream, method, reply, Ends::Close).await,
        (Action::CloseSilent, Some(reply)) => {
            send(stream, method, reply, ends).await?;
        }
        (_, Some(reply)) => return send(stream, method, reply, ends).await,
        (_, None) => {}
    }
    Ok(Then::Close)
}

/// Sends a valid gzip member of so many zeros, in chunks. One block is compressed once and sent
/// over and over; so ten gibibytes cost no more than what goes over the wire.
async fn bomb(stream: &mut TcpStream, size: u64) -> io::Result<()> {
    let blocks = size.div_ceil(BLOCK);
    let zeros = vec![0u8; usize::try_from(BLOCK).unwrap_or_default()];
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&zeros)?;
    // A flush ends on a byte, and what follows repeats only from within its own block.
    encoder.flush()?;
    let block = encoder.get_ref().clone();
    let one = {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&zeros);
        crc
    };
    drop(zeros);
    chunk(stream, &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255]).await?;
    let mut crc = crc32fast::Hasher::new();
    for _ in 0..blocks {
        chunk(stream, &block).await?;
        crc.combine(&one);
    }
    // The last, empty block; then checksum and length of what was unpacked (RFC 1952).
    let length = u32::try_from((blocks * BLOCK) % (1 << 32)).unwrap_or_default();
    let end = [&[3, 0][..], &crc.finalize().to_le_bytes(), &length.to_le_bytes()].concat();
    chunk(stream, &end).await?;
    stream.write_all(b"0\r\n\r\n").await
}

async fn chunk(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let size = format!("{:x}\r\n", bytes.len());
    stream.write_all(&[size.as_bytes(), bytes, b"\r\n"].concat()).await
}
