//! `responses.ndjson`: one line for each outcome that a reply decided, appended as they come.
//!
//! The writer thread appends a line before it commits its outcome, and the same commit notes how
//! long the file is then. So whatever crashed, the next start cuts the file to what the checkpoint
//! keeps: no line is missing, none is there twice, none is torn. Both are synced later, and the file
//! before the database; what a loss of power takes of it although the outcome is kept, the next
//! start mends.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, BufWriter, ErrorKind, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::{
    Arrived, Class, Diagnostic, Failure, Map, Mask, Number, RecordPlace, Request, State, Value,
    write_json_string,
};

use super::Checkpoint;
use super::files::create_private;
use super::folder::{refuse_links, sync_folder};
use super::rows::{RecordRow, RunRow};

/// What a line tells of.
#[derive(Debug)]
pub struct Exchange<'a> {
    /// The record's position in the input.
    pub ordinal: u64,
    /// Where it stands.
    pub place: &'a RecordPlace,
    /// Its key; outcome files are data and show it.
    pub key: Option<&'a str>,
    /// What was sent.
    pub request: &'a Request,
    /// What came.
    pub reply: &'a Arrived,
    /// Which of the record's calls it was; empty where there is one.
    pub step: &'a str,
    /// What became of the record by it; pending while other calls of it follow.
    pub state: State,
    /// What was captured of it.
    pub captures: &'a Value,
    /// Where the call has several records: its number, and what of the reply is this record's, if not all.
    pub call: Option<(u64, Option<Arc<Value>>)>,
}

impl Exchange<'_> {
    /// The line, with its line end. Secrets that the far side repeats are masked.
    #[must_use]
    pub fn line(&self, mask: &Mask) -> Vec<u8> {
        let text = match &self.call {
            Some((_, Some(part))) => part.to_json().into(),
            // Faster than to look for what is not UTF-8: nearly every reply is.
            _ => std::str::from_utf8(&self.reply.body)
                .map_or_else(|_| String::from_utf8_lossy(&self.reply.body), Cow::Borrowed),
        };
        let text = mask.apply(&text);
        let mut line = Vec::with_capacity(text.len() + 384);
        self.head(&mut line);
        // The reply as it came where it is JSON, so that its digits stay; as text where it is not.
        line.extend_from_slice(b",\"reply\":");
        match serde_json::from_str::<&serde_json::value::RawValue>(text.trim()) {
            Ok(json) if memchr::memchr2(b'\n', b'\r', json.get().as_bytes()).is_none() => {
                line.extend_from_slice(json.get().as_bytes());
            }
            _ => Value::text(&*text).write_json(&mut line),
        }
        line.extend_from_slice(b"}\n");
        line
    }

    /// All members before the reply; nothing is copied into values for it, as a line is made for each record.
    fn head(&self, line: &mut Vec<u8>) {
        // Writing into memory does not fail.
        let _ = write!(line, "{{\"ordinal\":{}", self.ordinal);
        if let Some(key) = self.key {
            member("key", key, line);
        }
        member("file", &self.place.file, line);
        let _ = write!(line, ",\"line\":{}", self.place.line);
        member("method", self.request.method.as_str(), line);
        member("url", self.request.url.as_str(), line);
        if !self.step.is_empty() {
            member("step", self.step, line);
        }
        member("state", self.state.name(), line);
        let _ = write!(line, ",\"status\":{}", self.reply.status.as_u16());
        if let Some((call, _)) = &self.call {
            let _ = write!(line, ",\"call\":{call}");
        }
        if !matches!(self.captures, Value::Absent) {
            line.extend_from_slice(b",\"captures\":");
            self.captures.write_json(line);
        }
        let _ = write!(line, ",\"complete\":{}", self.reply.complete);
    }
}

fn member(name: &str, text: &str, line: &mut Vec<u8>) {
    line.extend_from_slice(b",\"");
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\":");
    write_json_string(text, line);
}

/// The file, opened at the end of what counts.
#[derive(Debug)]
pub struct Responses {
    path: PathBuf,
    writer: BufWriter<File>,
    length: u64,
}

impl Responses {
    /// Opens `responses.ndjson` in the folder of a run; `length` is what the checkpoint keeps of it.
    pub fn open(folder: &Path, length: u64) -> Result<Self, Failure> {
        let path = folder.join("responses.ndjson");
        refuse_links(&path)?;
        let is_new = !path.exists();
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(|error| Failure::io("open", &path, &error))?;
        if is_new {
            // Its name has to survive a loss of power like what will be in it.
            sync_folder(folder)?;
        }
        let found = file.metadata().map_err(|error| Failure::io("look at", &path, &error))?.len();
        if found < length {
            return Err(Failure::new(
                Class::State,
                Diagnostic::error(
                    "responses-short",
                    format!("{} is shorter than the checkpoint says", path.display()),
                )
                .note(format!("{found} bytes are there, {length} belong to outcomes; nothing was sent"))
                .help("put the file back as it was, or begin anew with `--fresh`"),
            ));
        }
        file.set_len(length)
            .and_then(|()| file.seek(SeekFrom::End(0)))
            .map_err(|error| Failure::io("cut", &path, &error))?;
        Ok(Self { path, writer: BufWriter::with_capacity(1 << 16, file), length })
    }

    /// Mends what a loss of power left of the file, of which `length` bytes belong to outcomes: their
    /// last lines may be lost or torn, as they were not synced. What is whole stays; an outcome whose
    /// line is gone gets one without the reply. Gives the length that now counts.
    ///
    /// May be interrupted and repeated: the new file takes the place of the old one as a whole.
    pub fn mend(folder: &Path, length: u64, checkpoint: &Checkpoint, run: &RunRow) -> Result<u64, Failure> {
        let path = folder.join("responses.ndjson");
        refuse_links(&path)?;
        let content = match File::open(&path) {
            Ok(file) => Box::new(file.take(length)) as Box<dyn Read>,
            Err(error) if error.kind() == ErrorKind::NotFound => Box::new(std::io::empty()),
            Err(error) => return Err(Failure::io("open", &path, &error)),
        };
        let new = folder.join(".responses.ndjson.new");
        let wrap = |error| Failure::io("write", &new, &error);
        let mut out = BufWriter::new(create_private(&new)?);
        // A bit for each record: memory does not grow with the replies.
        let mut kept = vec![0_u8; usize::try_from(run.records / 8 + 1).unwrap_or(0)];
        let bit = |ordinal: u64| (usize::try_from(ordinal / 8).unwrap_or(usize::MAX), 1_u8 << (ordinal % 8));
        let (mut whole, mut now) = (0_u64, 0_u64);
        let mut reader = BufReader::new(content);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).map_err(|error| Failure::io("read", &path, &error))? > 0 {
            let (at, mask) = match serde_json::from_slice::<Named>(&line) {
                Ok(named) if line.ends_with(b"\n") => {
                    let (at, mask) = bit(named.ordinal);
                    // That of a step says nothing of the last one's.
                    (at, if named.state == State::Pending.name() { 0 } else { mask })
                }
                _ => (usize::MAX, 0),
            };
            if let Some(kept) = kept.get_mut(at) {
                *kept |= mask;
                whole += line.len() as u64;
                out.write_all(&line).map_err(wrap)?;
            }
            line.clear();
        }
        if whole == length {
            std::fs::remove_file(&new).map_err(|error| Failure::io("remove", &new, &error))?;
            return Ok(length);
        }
        now += whole;
        checkpoint.each_row(run, 0, |row| {
            let (at, mask) = bit(row.ordinal);
            let has_line = kept.get(at).is_some_and(|kept| kept & mask != 0);
            // What a look or a person decided never had a line.
            let by_reply = row.status != 0 && !matches!(&*row.class, "reconciled" | "resolved");
            if matches!(row.state, State::Delivered | State::Failed) && by_reply && !has_line {
                let line = line_without_reply(&row);
                now += line.len() as u64;
                out.write_all(&line).map_err(wrap)?;
            }
            Ok(())
        })?;
        out.flush().and_then(|()| out.get_ref().sync_all()).map_err(wrap)?;
        std::fs::rename(&new, &path).map_err(|error| Failure::io("rename to", &path, &error))?;
        sync_folder(folder)?;
        Ok(now)
    }

    /// Appends a line.
    pub(super) fn append(&mut self, line: &[u8]) -> std::io::Result<()> {
        self.length += line.len() as u64;
        self.writer.write_all(line)
    }

    /// Hands all lines to the operating system; returns the length of the file.
    pub(super) fn flush(&mut self) -> std::io::Result<u64> {
        self.writer.flush()?;
        Ok(self.length)
    }

    /// Makes all lines survive a loss of power.
    pub(super) fn sync(&mut self) -> std::io::Result<()> {
        self.writer.flush()?;
        self.writer.get_ref().sync_data()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// What is read of a line.
#[derive(serde::Deserialize)]
struct Named<'l> {
    ordinal: u64,
    state: &'l str,
}

/// The line of an outcome whose reply is lost.
fn line_without_reply(row: &RecordRow) -> Vec<u8> {
    let mut map = Map::with_capacity(6);
    map.push("ordinal", Value::Number(Number::from(row.ordinal)));
    map.push("state", Value::text(row.state.name()));
    map.push("status", Value::Number(Number::from(u64::from(row.status))));
    if let Ok(captures) = serde_json::from_str::<serde_json::Value>(&row.captures) {
        map.push("captures", Value::from(&captures));
    }
    map.push("complete", Value::Bool(false));
    map.push("reply", Value::Null);
    let mut line = Vec::with_capacity(128);
    Value::Object(map).write_json(&mut line);
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Secret, State};

    fn line(body: &str) -> String {
        let request = Request {
            method: http::Method::POST,
            url: "http://a.example/x".parse().unwrap(),
            headers: http::HeaderMap::new(),
            body: bytes::Bytes::new(),
            form: None,
        };
        let reply = Arrived {
            status: http::StatusCode::OK,
            headers: http::HeaderMap::new(),
            body: bytes::Bytes::copy_from_slice(body.as_bytes()),
            complete: true,
        };
        let place = RecordPlace { file: "a.csv".into(), line: 2, byte: 0 };
        let exchange = Exchange {
            ordinal: 0,
            place: &place,
            key: Some("k"),
            request: &request,
            reply: &reply,
            step: "",
            state: State::Delivered,
            captures: &Value::Absent,
            call: None,
        };
        String::from_utf8(exchange.line(&Mask::new([&Secret::new("token-1".into())]))).unwrap()
    }

    #[test]
    fn a_line_keeps_the_digits_of_a_json_reply_and_masks_secrets() {
        assert_eq!(
            line(r#"{"id": 12345678901234567890, "said": "token-1"}"#),
            concat!(
                r#"{"ordinal":0,"key":"k","file":"a.csv","line":2,"method":"POST","url":"http://a.example/x","#,
                r#""state":"delivered","status":200,"complete":true,"#,
                r#""reply":{"id": 12345678901234567890, "said": "***"}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn any_reply_is_one_line_of_json() {
        for body in ["", "<html>\n</html>", "{\n \"a\": 1\n}", "{\"a\":", "\u{1b}[31m"] {
            let line = line(body);
            assert_eq!(line.matches('\n').count(), 1, "{body:?}");
            assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{body:?}");
        }
    }

    #[test]
    fn what_the_checkpoint_does_not_know_is_cut_and_a_short_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("responses.ndjson"), "one\ntwo\nto").unwrap();
        let mut responses = Responses::open(folder.path(), 4).unwrap();
        responses.append(b"2\n").unwrap();
        assert_eq!(responses.flush().unwrap(), 6);
        assert_eq!(std::fs::read_to_string(folder.path().join("responses.ndjson")).unwrap(), "one\n2\n");
        let refused = Responses::open(folder.path(), 7).unwrap_err();
        assert_eq!(refused.class, Class::State);
    }
}
