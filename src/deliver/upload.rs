//! The files of a body: looked at when a request is made of them, streamed when it is sent.
//!
//! Invariants: a body goes out whole with the bytes that its request was made of, or its last bytes never
//! leave; memory does not grow with a file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::stream::{Stream, unfold};
use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};

use crate::model::{FileSeen, Form, Lost, Stretch, Upload};

/// Bytes of a file that are in memory at once.
const CHUNK: usize = 64 * 1024;

/// Reads a file once, to its end, and says what it holds. The path is absolute and without links.
///
/// # Errors
/// It is not there, is no plain file, cannot be read, or is changed while it is read.
pub fn look_at(full: &Path, most: u64) -> io::Result<FileSeen> {
    let (mut file, stamp, length) = open(full)?;
    if length > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let sha256 = digest(&mut file, length)?;
    Ok(FileSeen { full: full.to_owned(), length, sha256, stamp })
}

/// Whether a file was not touched since it was looked at.
#[must_use]
pub fn is_untouched(seen: &FileSeen) -> bool {
    open(&seen.full).is_ok_and(|(_, stamp, length)| stamp == seen.stamp && length == seen.length)
}

/// Opens a plain file, with its stamp and length.
fn open(full: &Path) -> io::Result<(File, [i128; 4], u64)> {
    use std::os::unix::fs::MetadataExt as _;
    // A pipe must not make us wait, and a link was no link when the path was found.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(full, flags, Mode::empty())?);
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a plain file"));
    }
    let time = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let stamp = [
        i128::from(about.dev()),
        i128::from(about.ino()),
        time(about.mtime(), about.mtime_nsec()),
        time(about.ctime(), about.ctime_nsec()),
    ];
    Ok((file, stamp, about.len()))
}

fn digest(file: &mut File, length: u64) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut read = 0;
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        read += count as u64;
        if read > length {
            break;
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
    if read == length { Ok(hasher.finalize().into()) } else { Err(changed()) }
}

fn changed() -> io::Error {
    io::Error::other("the file was changed while it was read")
}

/// Whether all files of a body hold what its request was made of; read again only where they were touched.
///
/// # Errors
/// Why it cannot be sent; nothing of it was.
pub(super) async fn check(form: &Form) -> Result<(), Lost> {
    for stretch in form.stretches() {
        let Stretch::File(file) = stretch else { continue };
        let name = shown(&file);
        let seen = file.seen;
        let found = tokio::task::spawn_blocking(move || {
            let seen = seen.ok_or(io::ErrorKind::NotFound)?;
            let (mut file, stamp, length) = open(&seen.full)?;
            let same = length == seen.length
                && (stamp == seen.stamp || digest(&mut file, length).is_ok_and(|now| now == seen.sha256));
            Ok::<bool, io::Error>(same)
        });
        match found.await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return Err(has_changed(true, &name)),
            Ok(Err(error)) => {
                let message = format!("{name} cannot be read: {}", in_words(&error));
                return Err(Lost { certain: true, class: Lost::FILE_MISSING, message, asked: None });
            }
            Err(_) => {
                let message = format!("{name} was not read to its end");
                return Err(Lost { certain: true, class: Lost::FILE_MISSING, message, asked: None });
            }
        }
    }
    Ok(())
}

/// Why a file cannot be read, without its path, which is a value of a record.
#[must_use]
pub fn in_words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// A file by where the template names it: its path is a value of the record.
fn shown(file: &Upload) -> String {
    format!("the file named at {}", file.place)
}

fn has_changed(certain: bool, name: &str) -> Lost {
    let message = format!("{name} was changed after its request was made");
    Lost { certain, class: Lost::FILE_CHANGED, message, asked: None }
}

/// Why a body was broken off, once it was.
pub(super) type Broken = Arc<OnceLock<Lost>>;

/// The body as it goes out. Where a file does not hold what it did, the stream ends with an error before the
/// last bytes of that file, so that what has left is shorter than its announced length.
pub(super) fn stream(form: &Form, broken: &Broken) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    let walk = Walk { rest: form.stretches().into(), reading: None, broken: Arc::clone(broken) };
    unfold(Some(walk), |walk| async {
        let mut walk = walk?;
        match walk.next().await {
            Ok(None) => None,
            Ok(Some(bytes)) => Some((Ok(bytes), Some(walk))),
            Err(error) => Some((Err(error), None)),
        }
    })
}

struct Walk {
    rest: VecDeque<Stretch>,
    reading: Option<(Box<Reading>, String)>,
    broken: Broken,
}

/// A file that is being read.
struct Reading {
    file: File,
    seen: FileSeen,
    hasher: Sha256,
    left: u64,
}

impl Walk {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some((reading, name)) = self.reading.take() {
                let read = tokio::task::spawn_blocking(move || reading.step());
                let (bytes, reading) = match read.await.unwrap_or_else(|_| Err(changed())) {
                    Ok(read) => read,
                    Err(error) => return Err(self.break_off(&name, error)),
                };
                self.reading = reading.map(|reading| (reading, name));
                if !bytes.is_empty() {
                    return Ok(Some(bytes));
                }
                continue;
            }
            match self.rest.pop_front() {
                None => return Ok(None),
                Some(Stretch::Bytes(bytes)) => return Ok(Some(bytes)),
                Some(Stretch::File(file)) => {
                    let name = shown(&file);
                    let Some(seen) = file.seen else { return Err(self.break_off(&name, changed())) };
                    let opened = tokio::task::spawn_blocking(move || Reading::open(seen));
                    match opened.await.unwrap_or_else(|_| Err(changed())) {
                        Ok(reading) => self.reading = Some((Box::new(reading), name)),
                        Err(error) => return Err(self.break_off(&name, error)),
                    }
                }
            }
        }
    }

    /// Parts before this one may have left: it is not certain what the far side has of them.
    fn break_off(&self, name: &str, error: io::Error) -> io::Error {
        let _ = self.broken.set(has_changed(false, name));
        error
    }
}

impl Reading {
    fn open(seen: FileSeen) -> io::Result<Self> {
        let (file, _, length) = open(&seen.full)?;
        if length != seen.length {
            return Err(changed());
        }
        Ok(Self { file, left: length, seen, hasher: Sha256::new() })
    }

    /// The next bytes of the file, and what is left to read.
    fn step(mut self: Box<Self>) -> io::Result<(Bytes, Option<Box<Self>>)> {
        let count = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
        let mut buffer = vec![0; count];
        self.file.read_exact(&mut buffer)?;
        self.hasher.update(&buffer);
        self.left -= count as u64;
        if self.left > 0 {
            return Ok((buffer.into(), Some(self)));
        }
        let ends = self.file.read(&mut [0])? == 0;
        if ends && <[u8; 32]>::from(self.hasher.finalize()) == self.seen.sha256 {
            Ok((buffer.into(), None))
        } else {
            Err(changed())
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;
    use crate::model::{Part, PartContent, Place, SourceText};

    fn form(full: &Path) -> Form {
        let upload = Upload {
            path: "x".into(),
            file_name: "x".into(),
            media_type: "text/plain".into(),
            place: Place::start_of(Arc::new(SourceText { path: "t.yaml".into(), text: String::new() })),
            seen: Some(look_at(full, u64::MAX).unwrap()),
        };
        let mut form =
            Form::new(vec![Part { name: "f".into(), content: PartContent::File(Box::new(upload)) }]);
        let _ = form.seal();
        form
    }

    async fn sent(form: &Form) -> (Result<usize, io::Error>, Option<Lost>) {
        let broken = Broken::default();
        let mut stream = std::pin::pin!(stream(form, &broken));
        let mut count = 0;
        while let Some(bytes) = stream.next().await {
            match bytes {
                Ok(bytes) => count += bytes.len(),
                Err(error) => return (Err(error), broken.get().cloned()),
            }
        }
        (Ok(count), broken.get().cloned())
    }

    #[tokio::test]
    async fn a_body_has_the_length_that_is_announced() {
        let folder = tempfile::tempdir().unwrap();
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let path = folder.path().canonicalize().unwrap().join("x");
            std::fs::write(&path, vec![7; size]).unwrap();
            let form = form(&path);
            assert!(check(&form).await.is_ok());
            let (count, lost) = sent(&form).await;
            assert_eq!(count.unwrap() as u64, form.length(), "{size}");
            assert!(lost.is_none());
        }
    }

    #[tokio::test]
    async fn a_changed_file_never_goes_out_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("x");
        for (before, after) in [("abc", "abd"), ("abc", "abcd"), ("abc", "ab"), ("", "a"), ("a", "")] {
            std::fs::write(&path, before).unwrap();
            let form = form(&path);
            // The same bytes again are no change, whatever the times say.
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, before).unwrap();
            assert!(check(&form).await.is_ok(), "{before}");
            std::fs::write(&path, after).unwrap();
            let lost = check(&form).await.unwrap_err();
            assert!(lost.certain && lost.class == Lost::FILE_CHANGED, "{before} {after}");
            let (count, lost) = sent(&form).await;
            assert!(count.is_err() && lost.is_some_and(|lost| !lost.certain), "{before} {after}");
        }
        let form = form(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(check(&form).await.unwrap_err().class, Lost::FILE_MISSING);
    }

    #[test]
    fn only_plain_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::write(root.join("x"), "abc").unwrap();
        std::os::unix::fs::symlink(root.join("x"), root.join("link")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.join("pipe"),
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        for bad in ["link", "pipe", "", "none"] {
            assert!(look_at(&root.join(bad), 9).is_err(), "{bad}");
        }
        assert!(look_at(&root.join("x"), 2).is_err(), "too large");
        assert_eq!(look_at(&root.join("x"), 3).unwrap().length, 3);
    }
}
