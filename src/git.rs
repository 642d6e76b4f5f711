//! Which revision of a repository a run's files are of, and which of them differ from it.
//!
//! Apart, because it alone names libgit2. Only the files that the caller names are compared, with
//! the revision itself: neither the index nor the rest of the work tree is read, so that a large
//! repository costs no more than a small one. Invariant: no program is started and no filter of
//! the repository's configuration is run.

use std::path::{Path, PathBuf};

use git2::{ErrorCode, ObjectType, Oid, Repository, RepositoryOpenFlags, Tree};

/// A pointer of Git LFS is at most this long.
const MAX_POINTER: usize = 1024;
/// Line ends are looked at in files up to this size; longer ones are compared byte by byte alone.
const MAX_TEXT: u64 = 8 << 20;

/// A file that a run used.
#[derive(Debug)]
pub struct Used {
    /// Its name, for the answer.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Whether it is data and no configuration: data that the repository ignores on purpose is not
    /// missing in a revision.
    pub is_data: bool,
    /// SHA-256 of its content, if known: what a pointer of Git LFS holds.
    pub sha256: Option<String>,
}

/// What the repository knows of the files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The commit that is checked out, as 40 hexadecimal digits; none before the first commit.
    pub revision: Option<String>,
    /// The branch; none when a commit is checked out by itself.
    pub branch: Option<String>,
    /// Names of the files that are not as in the revision; none when it cannot be told.
    pub dirty_files: Option<Vec<String>>,
    /// Why the repository could not be read.
    pub problem: Option<String>,
}

/// Looks at the repository that holds `root`; `None` when there is none.
pub fn look(root: &Path, used: &[Used]) -> Option<Found> {
    let none: &[&std::ffi::OsStr] = &[];
    let repository = match Repository::open_ext(root, RepositoryOpenFlags::empty(), none) {
        Ok(repository) => repository,
        Err(error) if error.code() == ErrorCode::NotFound => return None,
        Err(error) => return Some(unreadable(&error)),
    };
    Some(read(&repository, used).unwrap_or_else(|error| unreadable(&error)))
}

fn unreadable(error: &git2::Error) -> Found {
    Found { problem: Some(error.message().to_owned()), ..Found::default() }
}

fn read(repository: &Repository, used: &[Used]) -> Result<Found, git2::Error> {
    let branch = repository
        .find_reference("HEAD")?
        .symbolic_target()?
        .map(|name| name.strip_prefix("refs/heads/").unwrap_or(name).to_owned());
    let commit = match repository.head() {
        Ok(head) => Some(head.peel_to_commit()?),
        Err(error) if error.code() == ErrorCode::UnbornBranch => None,
        Err(error) => return Err(error),
    };
    let tree = commit.as_ref().map(git2::Commit::tree).transpose()?;
    let work_tree = repository.workdir().and_then(|path| path.canonicalize().ok());
    let mut dirty = Vec::new();
    for file in used {
        // Behind links: the content is what counts.
        let real = file.path.canonicalize().unwrap_or_else(|_| file.path.clone());
        let inside = work_tree.as_ref().and_then(|top| real.strip_prefix(top).ok());
        let Some(inside) = inside else {
            // Data from elsewhere belongs to no revision; configuration that does is not in this one.
            if !file.is_data {
                dirty.push(file.name.clone());
            }
            continue;
        };
        if !is_as_in(repository, tree.as_ref(), file, inside, &real)? {
            dirty.push(file.name.clone());
        }
    }
    Ok(Found {
        revision: commit.map(|commit| commit.id().to_string()),
        branch,
        dirty_files: Some(dirty),
        problem: None,
    })
}

/// Whether a file has the content that the revision gives it.
fn is_as_in(
    repository: &Repository,
    tree: Option<&Tree<'_>>,
    file: &Used,
    inside: &Path,
    real: &Path,
) -> Result<bool, git2::Error> {
    let entry = match tree.map(|tree| tree.get_path(inside)).transpose() {
        Ok(entry) => entry,
        Err(error) if error.code() == ErrorCode::NotFound => None,
        Err(error) => return Err(error),
    };
    let Some(entry) = entry.filter(|entry| entry.kind() == Some(ObjectType::Blob)) else {
        return Ok(file.is_data && repository.is_path_ignored(inside)?);
    };
    let Ok(metadata) = real.metadata() else { return Ok(false) };
    let (length, _) = repository.odb()?.read_header(entry.id())?;
    if metadata.len() == length as u64 {
        return Ok(Oid::hash_file(ObjectType::Blob, real)? == entry.id());
    }
    if length <= MAX_POINTER
        && let Some(digest) = &file.sha256
        && pointer_names(repository.find_blob(entry.id())?.content(), digest)
    {
        return Ok(true);
    }
    if metadata.len() > MAX_TEXT {
        return Ok(false);
    }
    // A work tree may have other line ends than the revision.
    let Ok(bytes) = std::fs::read(real) else { return Ok(false) };
    Ok(Oid::hash_object(ObjectType::Blob, &without_returns(&bytes))? == entry.id())
}

/// Whether a pointer of Git LFS stands for the content with this digest.
fn pointer_names(pointer: &[u8], sha256: &str) -> bool {
    let text = String::from_utf8_lossy(pointer);
    text.starts_with("version https://git-lfs.github.com/spec/")
        && text.lines().any(|line| line.strip_prefix("oid sha256:") == Some(sha256))
}

/// The bytes with `\n` instead of `\r\n`.
fn without_returns(bytes: &[u8]) -> Vec<u8> {
    let followed = bytes.iter().skip(1).map(Some).chain([None]);
    let kept = bytes.iter().zip(followed).filter(|(byte, next)| !(**byte == b'\r' && *next == Some(&b'\n')));
    kept.map(|(byte, _)| *byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_line_ends_are_taken_for_the_same() {
        assert_eq!(without_returns(b"a\r\nb\r\r\nc\rd\r"), b"a\nb\r\nc\rd\r");
        assert_eq!(without_returns(b""), b"");
    }

    #[test]
    fn a_pointer_stands_for_the_content_that_it_names() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 3\n";
        assert!(pointer_names(pointer, "abc"));
        assert!(!pointer_names(pointer, "abd"));
        assert!(!pointer_names(b"oid sha256:abc\n", "abc"));
    }
}
