//! Which files a source is: a path, a glob in the last part of it, or the spool of standard input.
//!
//! Nothing is read here. Invariant: a path that a pipeline names stays in the project, also behind
//! links; a path from the command line is the user's own word.

use std::fs::Metadata;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::shown;
use super::stream::Packing;
use crate::config::{Format, SourceSpec};
use crate::model::{Class, Diagnostic, Failure};

/// One file to read.
pub(super) struct InputFile {
    pub path: PathBuf,
    /// As the user named it; `-` is standard input.
    pub name: Arc<str>,
    pub size: u64,
    pub format: Format,
    pub packing: Packing,
    stamp: FileStamp,
}

/// What tells an unchanged file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileStamp {
    /// Size in bytes.
    pub size: u64,
    /// Time of the last change, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// The number of the file in its file system.
    pub inode: u64,
}

/// Size, time and inode of each file of the source in order.
pub fn stamp(spec: &SourceSpec, root: &Path, spool: Option<&Path>) -> Result<Vec<FileStamp>, Failure> {
    Ok(locate(spec, root, spool)?.iter().map(|file| file.stamp).collect())
}

/// Each file of the source in order, as it was named and where it lies; `-` is standard input.
pub fn files(
    spec: &SourceSpec,
    root: &Path,
    spool: Option<&Path>,
) -> Result<Vec<(String, PathBuf)>, Failure> {
    let located = locate(spec, root, spool)?;
    Ok(located.into_iter().map(|file| (file.name.to_string(), file.path)).collect())
}

/// Copies standard input into a new file that its owner alone may read; returns its size.
pub fn spool(from: &mut dyn Read, to: &Path) -> Result<u64, Failure> {
    let write = |cause: std::io::Error| Failure::io("write", to, &cause);
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(write)?;
    let mut buffer = vec![0; 64 << 10];
    let mut size = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                file.write_all(buffer.get(..n).unwrap_or_default()).map_err(write)?;
                size += n as u64;
            }
            Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(Failure::io("read", Path::new("standard input"), &cause)),
        }
    }
    // A run that is gone on with reads the spool and not the pipe, which is gone.
    file.sync_all().map_err(write)?;
    Ok(size)
}

/// The files of the source, sorted bytewise.
pub(super) fn locate(
    spec: &SourceSpec,
    root: &Path,
    spool: Option<&Path>,
) -> Result<Vec<InputFile>, Failure> {
    find(spec, root, spool).map_err(|mut failure| {
        for diagnostic in &mut failure.diagnostics {
            diagnostic.place.clone_from(&spec.place);
        }
        failure
    })
}

fn find(spec: &SourceSpec, root: &Path, spool: Option<&Path>) -> Result<Vec<InputFile>, Failure> {
    if spec.is_spooled() {
        let Some(spool) = spool else {
            let what = if spec.is_stdin() { "standard input" } else { &spec.file };
            let message = format!("{what} was not read before it was opened");
            return Err(Failure::new(Class::Bug, Diagnostic::error("not-spooled", message)));
        };
        return Ok(vec![input_file(spool.to_owned(), &spec.file, spec)?]);
    }
    if let Some(other) = spec.replies_of() {
        let message = format!("{other} has no run whose replies are kept");
        return Err(Failure::new(
            Class::Input,
            Diagnostic::error("input-missing", message)
                .help("apply that pipeline first; with `responses: { file: true }` it keeps its replies"),
        ));
    }
    if let Some(other) = spec.vanished_of() {
        let message = format!("nothing is written down that vanished from the input of {other}");
        return Err(Failure::new(
            Class::Input,
            Diagnostic::error("input-missing", message)
                .help("`runner apply` of that pipeline deletes what vanished"),
        ));
    }
    let written = Path::new(&spec.file);
    check_inside(spec, root, None)?;
    let path = root.join(written);
    let pattern = written.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let wild = |text: &str| text.contains(['*', '?']);
    if !wild(&spec.file) || path.exists() {
        check_inside(spec, root, Some(&path))?;
        return Ok(vec![input_file(path, &spec.file, spec)?]);
    }
    let folder = spec.file.strip_suffix(pattern).unwrap_or_default();
    if wild(folder) || pattern.is_empty() {
        let message = format!("`{}`: a pattern stands in the file name only", shown(&spec.file));
        return Err(config("bad-pattern", message, "write it like `data/*.csv`"));
    }
    let mut names = Vec::new();
    let folder_path = root.join(folder);
    let entries = std::fs::read_dir(&folder_path).map_err(|cause| cannot_open(folder, &cause))?;
    for entry in entries {
        let entry = entry.map_err(|cause| Failure::io("read", &folder_path, &cause))?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if matches(pattern, &text) && !entry.path().is_dir() {
            names.push(name);
        }
    }
    names.sort_by(|a, b| a.as_encoded_bytes().cmp(b.as_encoded_bytes()));
    if names.is_empty() {
        let message = format!("no file matches {}", shown(&spec.file));
        let diagnostic = Diagnostic::error("input-missing", message)
            .help("`*` stands for any characters, `?` for one; a leading dot must be written");
        return Err(Failure::new(Class::Input, diagnostic));
    }
    let mut files: Vec<InputFile> = Vec::with_capacity(names.len());
    for name in names {
        let path = folder_path.join(&name);
        check_inside(spec, root, Some(&path))?;
        let file = input_file(path, &format!("{folder}{}", name.to_string_lossy()), spec)?;
        if let Some(first) = files.first()
            && first.format != file.format
        {
            let message = format!("{} and {} are of different formats", first.name, file.name);
            let help = "name files of one format, such as `data/*.csv`";
            return Err(Failure::new(Class::Input, Diagnostic::error("mixed-formats", message).help(help)));
        }
        files.push(file);
    }
    Ok(files)
}

fn input_file(path: PathBuf, name: &str, spec: &SourceSpec) -> Result<InputFile, Failure> {
    let metadata = std::fs::metadata(&path).map_err(|cause| cannot_open(name, &cause))?;
    let fail = |rule, what: &str, help: String| {
        Failure::new(Class::Input, Diagnostic::error(rule, format!("the input {name} {what}")).help(help))
    };
    if metadata.is_dir() {
        let help = format!("name a file, or files: `{}/*.csv`", name.trim_end_matches('/'));
        return Err(fail("input-is-directory", "is a directory", help));
    }
    if !metadata.is_file() {
        let help = "pipe it into the command and read it with `--input -`".to_owned();
        return Err(fail("input-not-a-file", "is no regular file", help));
    }
    let (stem, packing) = packing(name);
    let Some(format) = spec.format.or_else(|| Format::of_name(stem)) else {
        let message = if name == "-" {
            "standard input has no name that tells its format".to_owned()
        } else {
            format!("the format of {name} cannot be told by its ending")
        };
        return Err(config(
            "unknown-format",
            message,
            "say it: `source: { format: csv }` (csv, tsv, json, ndjson)",
        ));
    };
    let stamp = stamp_of(&metadata);
    Ok(InputFile { path, name: name.into(), size: metadata.len(), format, packing, stamp })
}

fn stamp_of(metadata: &Metadata) -> FileStamp {
    let mtime_ns = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
    FileStamp { size: metadata.len(), mtime_ns, inode: metadata.ino() }
}

/// Which of the reasons it is that a file cannot be opened.
pub(super) fn cannot_open(name: &str, cause: &std::io::Error) -> Failure {
    use std::io::ErrorKind;
    let (rule, what, help) = match cause.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => (
            "input-missing",
            "does not exist",
            "check `source.file`, which counts from the project's root, or `--input`, which counts from here",
        ),
        ErrorKind::PermissionDenied => {
            ("input-not-readable", "is not readable by this user", "give the right to read it (`chmod u+r`)")
        }
        _ => {
            // Whatever keeps a file from being opened, it is the input that cannot be used.
            let text = cause.to_string();
            let why = text.split(" (os error").next().unwrap_or_default().to_lowercase();
            let message = format!("the input {name} cannot be read: {why}");
            let help = "name another file with `source.file` or `--input`";
            return Failure::new(Class::Input, Diagnostic::error("input-not-readable", message).help(help));
        }
    };
    Failure::new(Class::Input, Diagnostic::error(rule, format!("the input {name} {what}")).help(help))
}

/// Refuses a path that a pipeline names outside its project; with `found`, behind its links.
fn check_inside(spec: &SourceSpec, root: &Path, found: Option<&Path>) -> Result<(), Failure> {
    if spec.place.is_none() {
        return Ok(());
    }
    let inside = match found {
        None => {
            let mut depth = 0i32;
            Path::new(&spec.file).components().all(|part| {
                match part {
                    Component::Normal(_) => depth += 1,
                    Component::ParentDir => depth -= 1,
                    Component::CurDir => {}
                    Component::RootDir | Component::Prefix(_) => depth = -1,
                }
                depth >= 0
            })
        }
        // What cannot be resolved is not there, which is told when it is opened.
        Some(path) => match (root.canonicalize(), path.canonicalize()) {
            (Ok(root), Ok(path)) => path.starts_with(root),
            _ => true,
        },
    };
    if inside {
        return Ok(());
    }
    let message = format!("the source `{}` lies outside the project", shown(&spec.file));
    Err(config(
        "path-outside",
        message,
        "move it into the project, or name it on the command line with `--input`",
    ))
}

fn config(rule: &'static str, message: String, help: &str) -> Failure {
    Failure::new(Class::Config, Diagnostic::error(rule, message).help(help))
}

fn packing(name: &str) -> (&str, Packing) {
    for (ending, packing) in [(".gz", Packing::Gzip), (".zst", Packing::Zstd)] {
        if let Some(stem) = without_ending(name, ending) {
            return (stem, packing);
        }
    }
    (name, Packing::Plain)
}

fn without_ending<'n>(name: &'n str, ending: &str) -> Option<&'n str> {
    let at = name.len().checked_sub(ending.len())?;
    let (stem, tail) = name.split_at_checked(at)?;
    tail.eq_ignore_ascii_case(ending).then_some(stem)
}

/// Whether a file name fits a pattern of `*` and `?`. A leading dot is matched by a dot alone.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last `*` stands, and how far it reaches so far.
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(char) if *char == '?' || Some(char) == name.get(n) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, reach)) => {
                    star = Some((at, reach + 1));
                    (p, n) = (at + 1, reach + 1);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|char| *char == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, good, bad) in [
            ("*.csv", &["a.csv", "b.c.csv", "ü.csv"][..], &[".csv", ".a.csv", "a.csv.gz", "a.cs"][..]),
            ("a?.csv", &["ab.csv", "aü.csv"], &["a.csv", "abc.csv"]),
            ("*a*b", &["ab", "xaxxb", "aab", "abab"], &["ba", "a", "abx"]),
            (".*", &[".x", "."], &["x"]),
            ("*", &["x"], &[".x"]),
        ] {
            for name in good {
                assert!(matches(pattern, name), "{pattern} {name}");
            }
            for name in bad {
                assert!(!matches(pattern, name), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn formats_are_told_by_the_inner_ending() {
        for (name, format, pack) in [
            ("a.csv", Some(Format::Csv), Packing::Plain),
            ("a.TSV.GZ", Some(Format::Tsv), Packing::Gzip),
            ("a.jsonl.zst", Some(Format::Ndjson), Packing::Zstd),
            ("é.json", Some(Format::Json), Packing::Plain),
            ("ü", None, Packing::Plain),
            ("a.gz", None, Packing::Gzip),
        ] {
            let (stem, found) = packing(name);
            assert_eq!((Format::of_name(stem), found), (format, pack), "{name}");
        }
    }

    #[test]
    fn a_file_that_may_not_be_read_is_told_from_one_that_is_not_there() {
        let rule = |kind: std::io::ErrorKind| cannot_open("a.csv", &kind.into()).diagnostics[0].rule;
        assert_eq!(rule(std::io::ErrorKind::PermissionDenied), "input-not-readable");
        assert_eq!(rule(std::io::ErrorKind::NotFound), "input-missing");
    }
}
