//! `manifest.json`: what a run was made from and what it left, each file with its digest.
//!
//! Here is its shape and how it is written and read; what goes in is gathered by
//! `engine::manifest`. Invariant: it is a view like the outcome files; nothing but
//! `status --verify` reads it to tell anything, and nothing reads it to decide what is sent.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::model::{Failure, hex};

use super::files::write_whole;

/// The name of the file in the folder of a run.
pub const NAME: &str = "manifest.json";
/// `format_version`
pub const FORMAT: u32 = 1;
/// A longer one is none of ours.
const MAX_BYTES: u64 = 64 << 20;

/// What a run was made from and what it left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this shape.
    pub format_version: u32,
    /// The program that wrote it.
    pub runner_version: String,
    /// The run.
    pub run_id: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// The `--env` name, `default` without one, or `sandbox`.
    pub target: String,
    /// Where requests went.
    pub destination: Destination,
    /// When the run began; RFC 3339, UTC, as all stamps here.
    pub started_at: String,
    /// When its last start ended; null when nobody noted that.
    pub ended_at: Option<String>,
    /// When this file was written.
    pub written_at: String,
    /// Starts of the program on this run.
    pub starts: u64,
    /// The class of the last start.
    pub class: String,
    /// `complete`, `partial`, … as in `summary.json`.
    pub state: String,
    /// Records by state, with their total.
    pub counts: serde_json::Value,
    /// Digest of everything that decides what is sent.
    pub meaning: String,
    /// When the run took over another meaning, and which; the oldest first.
    pub meaning_changes: Vec<MeaningChange>,
    /// `runner.yaml`, pipeline, endpoint, connector, schemas, body files.
    pub config: Vec<FileDigest>,
    /// The files of the input.
    pub input: Vec<FileDigest>,
    /// The files beside this one.
    pub output: Vec<FileDigest>,
    /// Which revision the project is of; null outside a repository.
    pub git: Option<Git>,
}

/// Where requests went; never a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// The connector, if the connection has one.
    pub connector: Option<String>,
    /// The connection.
    pub connection: String,
    /// Its base URL; `sandbox` for the stand-in.
    pub base_url: String,
}

/// Another meaning of the same run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeaningChange {
    /// When.
    pub at: String,
    /// The digest from then on.
    pub meaning: String,
}

/// A file and its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    /// Relative to the project's root, or to the folder of the run for its output; absolute where
    /// it lies outside; `-` is standard input.
    pub path: String,
    /// Bytes; null when it could not be read.
    pub size: Option<u64>,
    /// SHA-256 of the bytes, lowercase hexadecimal; null when it could not be read.
    pub sha256: Option<String>,
}

/// A revision and how the files that the run used compare with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Git {
    /// The commit; null before the first one.
    pub revision: Option<String>,
    /// The branch; null when none is checked out.
    pub branch: Option<String>,
    /// Whether a file that the run used is not as in the revision; null when it cannot be told.
    pub dirty: Option<bool>,
    /// Those files.
    pub dirty_files: Vec<String>,
    /// Why the repository could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Manifest {
    /// Writes it beside the outcome files.
    pub fn write(&self, folder: &Path) -> Result<(), Failure> {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        write_whole(&folder.join(NAME), text.as_bytes())
    }

    /// Reads the one in a folder; `None` when there is none. What is none of ours is an error in
    /// words.
    pub fn read(folder: &Path) -> Result<Option<Self>, String> {
        let file = match File::open(folder.join(NAME)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("it cannot be read: {}", error.kind())),
        };
        let mut text = String::new();
        file.take(MAX_BYTES)
            .read_to_string(&mut text)
            .map_err(|error| format!("it cannot be read: {}", error.kind()))?;
        let manifest: Self = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        if manifest.format_version != FORMAT {
            return Err(format!("its format is {}, this program reads {FORMAT}", manifest.format_version));
        }
        Ok(Some(manifest))
    }
}

impl FileDigest {
    /// Takes the digest of a file, in flat memory; both are null when it cannot be read.
    #[must_use]
    pub fn of_file(name: &str, path: &Path) -> Self {
        match digest(path, u64::MAX) {
            Ok((size, sha256)) => Self { path: name.to_owned(), size: Some(size), sha256: Some(sha256) },
            Err(_) => Self { path: name.to_owned(), size: None, sha256: None },
        }
    }

    /// Takes the digest of bytes.
    #[must_use]
    pub fn of_bytes(name: &str, bytes: &[u8]) -> Self {
        let sha256 = hex(&sha2::Sha256::digest(bytes));
        Self { path: name.to_owned(), size: Some(bytes.len() as u64), sha256: Some(sha256) }
    }
}

/// Size and SHA-256 of the first bytes of a file, at most `limit` of them.
pub fn digest(path: &Path, limit: u64) -> std::io::Result<(u64, String)> {
    let mut file = File::open(path)?.take(limit);
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    let mut size = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((size, hex(&hasher.finalize()))),
            Ok(n) => {
                hasher.update(buffer.get(..n).unwrap_or_default());
                size += n as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
