//! Looks at the files that a rendered body names: rendering itself opens nothing.
//!
//! Invariants: a path from a record stays below the root of the project, also by no link, and reaches
//! nothing hidden there (`.git`, `.env`, the state of runs); no message holds such a path.

use std::collections::HashMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::deliver::{in_words, is_untouched, look_at};
use crate::model::{FileSeen, Request, Upload, number};
use crate::render::RenderError;

/// So many files are remembered: records often send the same one.
const REMEMBERED: usize = 4096;

/// The files below a root.
pub struct Attachments {
    root: PathBuf,
    /// Bytes of all files of one body.
    most: u64,
    known: Mutex<HashMap<PathBuf, FileSeen>>,
}

impl Attachments {
    /// Files below this root, of which one body has at most so many bytes.
    #[must_use]
    pub fn new(root: &Path, most: u64) -> Self {
        // Whoever opened the project found it, so that it is there.
        let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        Self { root, most, known: Mutex::default() }
    }

    /// Looks at the files that the request names, and seals it.
    ///
    /// # Errors
    /// One of them cannot be sent.
    pub fn attach(&self, request: &mut Request) -> Result<(), RenderError> {
        let Some(form) = request.form.as_mut().filter(|form| form.has_files()) else { return Ok(()) };
        let mut left = self.most;
        for (name, file) in form.files_mut() {
            let seen = self.look(name, file, left)?;
            left -= seen.length;
            file.seen = Some(seen);
        }
        request.seal();
        Ok(())
    }

    fn look(&self, name: &str, file: &Upload, left: u64) -> Result<FileSeen, RenderError> {
        let full = self.find(name, file)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = known.get(&full).filter(|seen| is_untouched(seen) && seen.length <= left) {
            return Ok(seen.clone());
        }
        let seen = look_at(&full, left).map_err(|error| self.unreadable(name, file, &error))?;
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(full, seen.clone());
        Ok(seen)
    }

    /// The absolute path of a file, if it lies where it may.
    fn find(&self, name: &str, file: &Upload) -> Result<PathBuf, RenderError> {
        let outside = |why: &str| {
            refused("file-outside", file, format!("the file of part `{name}` {why}"))
                .help("files are named relative to the root of the project, without `..`")
        };
        let mut full = self.root.clone();
        for part in Path::new(&file.path).components() {
            match part {
                Component::Normal(part) => full.push(part),
                Component::CurDir => {}
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                    return Err(outside("has a path that can lead out of the project"));
                }
            }
        }
        let real = full.canonicalize().map_err(|error| self.unreadable(name, file, &error))?;
        let Ok(below) = real.strip_prefix(&self.root) else {
            return Err(outside("leads out of the project by a link"));
        };
        for path in [below, full.strip_prefix(&self.root).unwrap_or(below)] {
            if path.components().any(|part| part.as_os_str().as_encoded_bytes().first() == Some(&b'.')) {
                return Err(outside("is hidden: its path has a name that begins with a dot"));
            }
        }
        Ok(real)
    }

    fn unreadable(&self, name: &str, file: &Upload, error: &io::Error) -> RenderError {
        if error.kind() == io::ErrorKind::FileTooLarge {
            let most = number(self.most);
            return refused(
                "file-too-large",
                file,
                format!("with the file of part `{name}` the files of the body have more than {most} bytes"),
            )
            .help("raise `delivery: { max_files: … }`, or send smaller ones");
        }
        let message = match error.kind() {
            io::ErrorKind::NotFound => format!("the file of part `{name}` is not there"),
            _ => format!("the file of part `{name}` cannot be read: {}", in_words(error)),
        };
        refused("file-missing", file, message)
            .help("put the file where the record says; null or `| default(omit)` leaves the part out")
    }
}

fn refused(rule: &'static str, file: &Upload, message: String) -> RenderError {
    RenderError::new(rule, &file.place, message)
}
