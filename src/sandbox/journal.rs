//! What the stand-in was asked: the oracle that tests hold against what a run says of itself.
//!
//! Invariant: an entry is written before the effect is stored and before the first byte of the
//! answer leaves, with one write. So whoever got an answer is in the journal, and an effect is,
//! too, even when the process is killed in between.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::api::is_token_call;
use super::rules::SecretNames;

/// One request that was read completely, and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Its number, from 1, over all starts that wrote to the same journal file.
    pub seq: u64,
    /// Milliseconds since the stand-in started.
    pub at_ms: u64,
    /// Number of the connection it came on, from 1.
    pub connection: u64,
    /// The method.
    pub method: Method,
    /// Path and query as they were sent.
    pub path: String,
    /// The route that took it.
    pub route: Option<String>,
    /// All headers.
    pub headers: HeaderMap,
    /// The body as it was sent; empty with `Bodies::Drop`.
    pub body: Bytes,
    /// The status that is answered; `None` when no complete reply headers are.
    pub status: Option<u16>,
    /// The scripted action that was taken, such as `cut_after_effect`.
    pub action: Option<String>,
    /// Whether it had an effect: an object was made, changed or removed.
    pub accepted: bool,
    /// The id of the object that it was about.
    pub object: Option<String>,
}

/// How many requests came, whatever is remembered of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Requests read completely, those for tokens aside.
    pub requests: u64,
    /// Of these, how many had an effect.
    pub accepted: u64,
}

/// A line of the journal's file.
#[derive(serde::Serialize, serde::Deserialize)]
struct Line<'a> {
    seq: u64,
    at_ms: u64,
    connection: u64,
    method: Cow<'a, str>,
    path: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    route: Option<Cow<'a, str>>,
    headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<Cow<'a, str>>,
    /// A body that is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    action: Option<Cow<'a, str>>,
    accepted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    object: Option<Cow<'a, str>>,
}

pub(super) struct Journal {
    seen: VecDeque<Seen>,
    remember: usize,
    file: Option<File>,
    line: Vec<u8>,
    secrets: SecretNames,
    next: u64,
    tally: Tally,
}

impl Journal {
    /// A journal that remembers so many entries, and appends to the file.
    pub(super) fn open(remember: usize, path: Option<&Path>, secrets: SecretNames) -> io::Result<Self> {
        let (mut file, mut next) = (None, 1);
        if let Some(path) = path {
            let (opened, lines) = open_file(path)?;
            next += lines;
            file = Some(opened);
        }
        let (seen, tally) = (VecDeque::new(), Tally::default());
        Ok(Self { seen, remember, file, line: Vec::new(), secrets, next, tally })
    }

    /// Notes an entry and numbers it. With an error nothing is noted.
    pub(super) fn note(&mut self, mut seen: Seen) -> io::Result<()> {
        seen.seq = self.next;
        if let Some(file) = &mut self.file {
            self.line.clear();
            serde_json::to_writer(&mut self.line, &line_of(&seen, &self.secrets))?;
            self.line.push(b'\n');
            file.write_all(&self.line)?;
        }
        self.next += 1;
        if !is_token_call(&seen.path) {
            self.tally.requests += 1;
            self.tally.accepted += u64::from(seen.accepted);
        }
        if self.remember > 0 {
            if self.seen.len() >= self.remember {
                self.seen.pop_front();
            }
            self.seen.push_back(seen);
        }
        Ok(())
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.iter().cloned().collect()
    }

    pub(super) const fn tally(&self) -> Tally {
        self.tally
    }
}

/// Reads a journal's file: every whole line. A torn last line is of a request that was never
/// answered and is left out, and so is half a line that a start went on behind.
pub fn read_journal(path: &Path) -> io::Result<Vec<Seen>> {
    let text = std::fs::read(path)?;
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    Ok(lines.filter_map(|line| seen_of(serde_json::from_slice(line).ok()?)).collect())
}

fn line_of<'a>(seen: &'a Seen, secrets: &SecretNames) -> Line<'a> {
    let headers = seen.headers.iter().map(|(name, value)| {
        let value = if is_secret(name, secrets) {
            Cow::Borrowed("***")
        } else {
            String::from_utf8_lossy(value.as_bytes())
        };
        (Cow::Borrowed(name.as_str()), value)
    });
    let body = if is_token_call(&seen.path) { Some("***") } else { std::str::from_utf8(&seen.body).ok() };
    Line {
        seq: seen.seq,
        at_ms: seen.at_ms,
        connection: seen.connection,
        method: Cow::Borrowed(seen.method.as_str()),
        path: without_secrets(&seen.path, secrets),
        route: seen.route.as_deref().map(Cow::Borrowed),
        headers: headers.collect(),
        body: body.filter(|body| !body.is_empty()).map(Cow::Borrowed),
        body_base64: body.is_none().then(|| STANDARD.encode(&seen.body)),
        status: seen.status,
        action: seen.action.as_deref().map(Cow::Borrowed),
        accepted: seen.accepted,
        object: seen.object.as_deref().map(Cow::Borrowed),
    }
}

fn seen_of(line: Line<'_>) -> Option<Seen> {
    let mut headers = HeaderMap::with_capacity(line.headers.len());
    for (name, value) in &line.headers {
        headers.append(name.parse::<HeaderName>().ok()?, HeaderValue::from_bytes(value.as_bytes()).ok()?);
    }
    let body = match (line.body, line.body_base64) {
        (Some(text), _) => Bytes::from(text.into_owned()),
        (None, Some(coded)) => STANDARD.decode(coded).ok()?.into(),
        (None, None) => Bytes::new(),
    };
    Some(Seen {
        seq: line.seq,
        at_ms: line.at_ms,
        connection: line.connection,
        method: line.method.parse().ok()?,
        path: line.path.into_owned(),
        route: line.route.map(Cow::into_owned),
        headers,
        body,
        status: line.status,
        action: line.action.map(Cow::into_owned),
        accepted: line.accepted,
        object: line.object.map(Cow::into_owned),
    })
}

fn is_secret(name: &HeaderName, secrets: &SecretNames) -> bool {
    matches!(name.as_str(), "authorization" | "proxy-authorization" | "cookie")
        || secrets.headers.contains(name)
}

fn without_secrets<'a>(path: &'a str, secrets: &SecretNames) -> Cow<'a, str> {
    let Some((before, query)) = path.split_once('?').filter(|_| !secrets.query.is_empty()) else {
        return Cow::Borrowed(path);
    };
    let pairs = query.split('&').map(|pair| {
        let name = pair.split('=').next().unwrap_or(pair);
        let decoded = url::form_urlencoded::parse(name.as_bytes()).next().map(|(name, _)| name.into_owned());
        if decoded.is_some_and(|decoded| secrets.query.contains(&decoded)) {
            format!("{name}=***")
        } else {
            pair.to_owned()
        }
    });
    Cow::Owned(format!("{before}?{}", pairs.collect::<Vec<_>>().join("&")))
}

/// Opens a journal's file to go on with it; gives the number of its lines. Half a line that a
/// kill left is ended, so that the next one stands alone.
fn open_file(path: &Path) -> io::Result<(File, u64)> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let (mut lines, mut last, mut buffer) = (0u64, b'\n', vec![0; 1 << 16]);
    file.seek(SeekFrom::Start(0))?;
    loop {
        let read = file.read(&mut buffer)?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else { break };
        lines += memchr::memchr_iter(b'\n', part).count() as u64;
        last = part.last().copied().unwrap_or(last);
    }
    if last != b'\n' {
        file.write_all(b"\n")?;
        lines += 1;
    }
    Ok((file, lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(body: &'static [u8]) -> Seen {
        let mut headers = HeaderMap::new();
        headers.append("x-twice", HeaderValue::from_static("1"));
        headers.append("x-twice", HeaderValue::from_static("2"));
        headers.append("authorization", HeaderValue::from_static("Bearer hunter2"));
        headers.append("x-key", HeaderValue::from_static("hunter2"));
        Seen {
            seq: 0,
            at_ms: 5,
            connection: 2,
            method: Method::POST,
            path: "/v2/users?a=1&key=hunter2".to_owned(),
            route: Some("freshchat/create-user".to_owned()),
            headers,
            body: Bytes::from_static(body),
            status: None,
            action: Some("cut_after_effect".to_owned()),
            accepted: true,
            object: Some("7".to_owned()),
        }
    }

    #[test]
    fn a_file_is_read_back_without_secrets_and_goes_on_after_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/journal.ndjson");
        let secrets =
            SecretNames { headers: vec![HeaderName::from_static("x-key")], query: vec!["key".to_owned()] };
        let mut journal = Journal::open(10, Some(&path), secrets.clone()).unwrap();
        journal.note(seen(b"{\"a\":\"\xc3\xa9\n\"}")).unwrap();
        journal.note(seen(b"\xff\x00")).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"seq\":3,\"at").unwrap();
        let mut journal = Journal::open(10, Some(&path), secrets).unwrap();
        journal.note(seen(b"")).unwrap();

        let read = read_journal(&path).unwrap();
        assert_eq!(read.iter().map(|seen| seen.seq).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(&read[0].body[..], b"{\"a\":\"\xc3\xa9\n\"}");
        assert_eq!(&read[1].body[..], b"\xff\x00");
        assert_eq!(read[0].headers.get_all("x-twice").iter().count(), 2);
        assert!(!std::fs::read_to_string(&path).unwrap().contains("hunter2"));
        assert_eq!(read[0].path, "/v2/users?a=1&key=***");
        assert!(read[0].accepted && read[0].object.as_deref() == Some("7"));
    }

    #[test]
    fn memory_is_bounded_and_the_tally_is_not() {
        let mut journal = Journal::open(2, None, SecretNames::default()).unwrap();
        for _ in 0..5 {
            journal.note(seen(b"")).unwrap();
        }
        assert_eq!(journal.seen().iter().map(|seen| seen.seq).collect::<Vec<_>>(), [4, 5]);
        assert_eq!(journal.tally(), Tally { requests: 5, accepted: 5 });
    }
}
