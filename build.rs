//! Tells the program what it was made of: the commit and the hash of `Cargo.lock`, for `--version`.
//!
//! The files of git are read instead of asking git, so that a build needs no program and a source
//! archive builds as well; whoever builds one sets `RUNNER_COMMIT`. Invariant: what cannot be found
//! out is left out and fails no build.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

fn main() {
    println!("cargo::rerun-if-changed=Cargo.lock");
    println!("cargo::rerun-if-env-changed=RUNNER_COMMIT");
    let given = std::env::var("RUNNER_COMMIT").ok();
    let commit = given.or_else(|| commit(Path::new(".git"))).filter(|commit| is_hash(commit));
    let lock = std::fs::read("Cargo.lock").ok().map(|bytes| {
        Sha256::digest(bytes).iter().take(6).fold("lock ".to_owned(), |mut hash, byte| {
            let _ = write!(hash, "{byte:02x}");
            hash
        })
    });
    let commit = commit.and_then(|commit| commit.get(..7).map(|short| format!("commit {short}")));
    let parts: Vec<String> = commit.into_iter().chain(lock).collect();
    let made_of = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
    println!("cargo::rustc-env=RUNNER_MADE_OF={made_of}");
}

fn is_hash(text: &str) -> bool {
    text.len() >= 7 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The commit that is checked out.
fn commit(git: &Path) -> Option<String> {
    // A further working tree has a file that names the folder.
    let folder = match read(git) {
        Some(text) => PathBuf::from(text.strip_prefix("gitdir:")?.trim()),
        None => git.to_owned(),
    };
    let head = watched(&folder.join("HEAD"))?;
    let Some(name) = head.strip_prefix("ref:") else { return Some(head) };
    let name = name.trim();
    // Branches lie in the folder that all working trees share.
    let shared = read(&folder.join("commondir")).map_or_else(|| folder.clone(), |path| folder.join(path));
    let packed = || {
        let all = watched(&shared.join("packed-refs"))?;
        let line = all.lines().find(|line| line.ends_with(&format!(" {name}")))?;
        Some(line.split(' ').next()?.to_owned())
    };
    watched(&shared.join(name)).or_else(packed)
}

/// A file whose change makes another version. One that is not there would count as changed always.
fn watched(path: &Path) -> Option<String> {
    let text = read(path)?;
    println!("cargo::rerun-if-changed={}", path.display());
    Some(text)
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}
