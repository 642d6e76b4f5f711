//! The little of HTTP/1.1 that the clients of this benchmark speak, and the few bodies they send.

use std::io::{self, Write as _};

use memchr::{memchr, memmem};

/// A request that is here completely.
pub struct Asked<'b> {
    pub what: What<'b>,
    /// Where the next one begins.
    pub end: usize,
}

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
pub enum What<'b> {
    /// One record, by its key.
    Single(&'b [u8]),
    /// Many, as lines: for each an action with its key, and the document.
    Batch(&'b [u8]),
    /// The benchmark asks what came.
    Counts,
    /// The benchmark wants to be told when so many records have come.
    Tell(u64),
    /// Nothing that belongs here.
    Strange,
}

/// The path under which the benchmark asks what came.
pub const COUNTS: &str = "/counts";
/// And under which it asks to be told of a number of records.
pub const TELL: &str = "/tell/";

impl Asked<'_> {
    /// A number for what it is about, if that is records.
    pub fn of_a_record(&self) -> Option<u64> {
        match self.what {
            What::Single(key) => Some(hash(key)),
            What::Batch(body) => Some(hash(body)),
            _ => None,
        }
    }
}

/// The first request of `bytes`, if all of it is there.
pub fn read(bytes: &[u8]) -> io::Result<Option<Asked<'_>>> {
    let Some(head) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let mut lines = bytes[..head].split(|byte| *byte == b'\n');
    let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut length = 0;
    for line in lines {
        let Some(colon) = memchr(b':', line) else { continue };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.eq_ignore_ascii_case(b"content-length") {
            let value = std::str::from_utf8(value).map_err(io::Error::other)?;
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return Err(io::Error::other("the target reads bodies with a length only"));
        }
    }
    let end = head + 4 + length;
    if bytes.len() < end {
        return Ok(None);
    }
    Ok(Some(Asked { what: what(method, path, &bytes[head + 4..end]), end }))
}

fn what<'b>(method: &[u8], path: &'b [u8], body: &'b [u8]) -> What<'b> {
    if path == COUNTS.as_bytes() {
        return What::Counts;
    }
    if let Some(records) = path.strip_prefix(TELL.as_bytes()) {
        let records = std::str::from_utf8(records).ok().and_then(|records| records.parse().ok());
        return records.map_or(What::Strange, What::Tell);
    }
    match method {
        b"PUT" => path.rsplit(|byte| *byte == b'/').next().map_or(What::Strange, What::Single),
        b"POST" if path.ends_with(b"/_bulk") => What::Batch(body),
        b"POST" => text_after(body, b"\"reference_id\"").map_or(What::Strange, What::Single),
        _ => What::Strange,
    }
}

/// The text that stands behind a name in JSON. Keys of this benchmark have nothing to escape.
fn text_after<'b>(json: &'b [u8], name: &[u8]) -> Option<&'b [u8]> {
    let rest = &json[memmem::find(json, name)? + name.len()..];
    let rest = &rest[memchr(b'"', rest)? + 1..];
    Some(&rest[..memchr(b'"', rest)?])
}

/// The keys of a call with many records.
pub fn keys(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.step_by(2).map(|action| text_after(action, b"\"_id\"").unwrap_or_default())
}

/// Of a key; what the sums are made of.
pub fn hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

pub fn reply(out: &mut Vec<u8>, status: u16, body: &[u8]) {
    head(out, status, body.len());
    out.extend_from_slice(body);
}

/// As an API answers to what was made: its id has the length of a UUID.
pub fn id_reply(out: &mut Vec<u8>, number: u64) {
    const BODY: usize = r#"{"id":"00000000-0000-4000-8000-000000000000"}"#.len();
    head(out, 200, BODY);
    id(out, number);
    out.push(b'}');
}

/// The same up to the padding, which the caller sends, and `"}` after it.
pub fn long_reply(out: &mut Vec<u8>, number: u64, padding: usize) {
    const BODY: usize = r#"{"id":"00000000-0000-4000-8000-000000000000","pad":""}"#.len();
    head(out, 200, BODY + padding);
    id(out, number);
    out.extend_from_slice(br#","pad":""#);
}

/// One result for each record, as a search index answers.
pub fn batch_reply<'b>(
    out: &mut Vec<u8>,
    keys: impl Iterator<Item = &'b [u8]>,
    mut count: impl FnMut(&'b [u8]),
) {
    let mut body = br#"{"took":3,"errors":false,"items":["#.to_vec();
    for (at, key) in keys.enumerate() {
        count(key);
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(br#"{"index":{"_id":""#);
        body.extend_from_slice(key);
        body.extend_from_slice(br#"","_version":1,"status":201}}"#);
    }
    body.extend_from_slice(b"]}");
    reply(out, 200, &body);
}

fn head(out: &mut Vec<u8>, status: u16, length: usize) {
    // A vector takes all that is written.
    let _ = write!(
        out,
        "HTTP/1.1 {status} Here\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
}

fn id(out: &mut Vec<u8>, number: u64) {
    let _ = write!(out, "{{\"id\":\"00000000-0000-4000-8000-{number:012}\"");
}
