//! Gathers what a run's `manifest.json` says: digests of what went in and what came out, and the
//! revision of the project.
//!
//! Invariant: what cannot be read is said to be unknown and never ends a start; only a manifest
//! that cannot be written does, like the other files of a run.

use std::path::{Path, PathBuf};

use crate::git;
use crate::model::{Class, Counts, Failure, SourceText};
use crate::outcome::files::Written;
use crate::outcome::manifest::{self, Destination, FileDigest, Git, Manifest, MeaningChange};
use crate::outcome::{Checkpoint, Folder, RunRow};
use crate::source;

use super::identity;
use super::open::Plan;

/// What just happened to the outcome files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// A start used the files of the project as they are now, and made the outcome files.
    Start,
    /// The outcome files were made anew; what went in was used by an earlier start.
    Rewrite,
    /// Nothing was done; only `summary.json` is new.
    Nothing,
}

/// What the manifest is about.
pub(super) struct About<'a> {
    pub plan: &'a Plan,
    pub folder: &'a Folder,
    pub checkpoint: &'a Checkpoint,
    pub run: &'a RunRow,
    pub class: Class,
    pub state: &'a str,
    pub counts: &'a Counts,
    pub written: &'a [Written],
    pub after: After,
}

/// Writes the manifest of a run; the last of its files, because it holds the digests of the others.
pub(super) fn write(about: &About<'_>) -> Result<(), Failure> {
    let About { plan, folder, checkpoint, run, after, .. } = about;
    let path = folder.run(&run.id);
    let starts = checkpoint.starts(run)?;
    let now = format!("{:.3}", jiff::Timestamp::now());
    // Files of the project may have changed since the start that used them.
    let earlier = Manifest::read(&path)
        .ok()
        .flatten()
        .filter(|earlier| *after != After::Start && earlier.run_id == run.id)
        .filter(|earlier| earlier.meaning == run.meaning && earlier.starts == starts);
    let output = output(&path, about.written, earlier.as_ref().filter(|_| *after == After::Nothing));
    let (config, input, git, ended_at) = if let Some(earlier) = earlier {
        (earlier.config, earlier.input, earlier.git, earlier.ended_at)
    } else {
        let (config, input, git) = went_in(plan, run, *after);
        (config, input, git, (*after == After::Start).then(|| now.clone()))
    };
    let changes = checkpoint.meaning_changes(run)?;
    Manifest {
        format_version: manifest::FORMAT,
        runner_version: env!("CARGO_PKG_VERSION").to_owned(),
        run_id: run.id.clone(),
        pipeline: folder.pipeline().to_owned(),
        target: folder.target(),
        destination: destination(&run.destination),
        started_at: run.started_at.clone(),
        ended_at,
        written_at: now,
        starts,
        class: about.class.name().to_owned(),
        state: about.state.to_owned(),
        counts: serde_json::json!(about.counts),
        meaning: run.meaning.clone(),
        meaning_changes: changes.into_iter().map(|(at, meaning)| MeaningChange { at, meaning }).collect(),
        config,
        input,
        output,
        git,
    }
    .write(&path)
}

/// Whether the files in the folder of a run are those of its last start and of these counts. They
/// are not after a start that ended by a signal, or that was killed while it wrote them.
pub(super) fn is_current(
    folder: &Path,
    checkpoint: &Checkpoint,
    run: &RunRow,
    counts: &Counts,
) -> Result<bool, Failure> {
    let starts = checkpoint.starts(run)?;
    let manifest = Manifest::read(folder).ok().flatten();
    Ok(manifest.is_some_and(|it| it.starts == starts && it.counts == serde_json::json!(counts)))
}

/// The parts of a destination as the checkpoint has it.
fn destination(text: &str) -> Destination {
    let mut parts = text.splitn(3, ' ');
    let mut next = || parts.next().unwrap_or_default().to_owned();
    let connector = Some(next()).filter(|name| name != "-");
    Destination { connector, connection: next(), base_url: next() }
}

/// Digests of the files beside the manifest. Of a folder in which nothing was done, what it had is
/// kept: a digest taken now would hide that somebody changed a file since.
fn output(folder: &Path, written: &[Written], earlier: Option<&Manifest>) -> Vec<FileDigest> {
    let summary = FileDigest::of_file("summary.json", &folder.join("summary.json"));
    if let Some(earlier) = earlier {
        let kept = earlier.output.iter().filter(|file| file.path != summary.path);
        return kept.chain([&summary]).cloned().collect();
    }
    let mut output: Vec<FileDigest> = written
        .iter()
        .map(|file| {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy();
            FileDigest::of_file(&name, &file.path)
        })
        .collect();
    let responses = folder.join("responses.ndjson");
    if responses.is_file() {
        output.push(FileDigest::of_file("responses.ndjson", &responses));
    }
    output.push(summary);
    output
}

type WentIn = (Vec<FileDigest>, Vec<FileDigest>, Option<Git>);

/// Digests of what the run was made from, and the revision of it.
fn went_in(plan: &Plan, run: &RunRow, after: After) -> WentIn {
    let root = &plan.pipeline.root;
    let mut config = vec![FileDigest::of_file("runner.yaml", &root.join("runner.yaml"))];
    let mut texts: Vec<&SourceText> =
        plan.pipeline.files.iter().chain(&plan.schema_files).map(AsRef::as_ref).collect();
    texts.sort_by(|a, b| a.path.cmp(&b.path));
    texts.dedup_by(|a, b| a.path == b.path);
    config.extend(texts.into_iter().map(|text| {
        if after == After::Start || identity::is_of_meaning(&run.meaning_files, text) {
            config_file(root, text)
        } else {
            // It changed since the start that used it, and nothing tells what it was.
            FileDigest { path: text.path.clone(), size: None, sha256: None }
        }
    }));

    let mut tables: Vec<_> = plan.lookup_files.iter().collect();
    tables.dedup_by(|a, b| a.digest.path == b.digest.path);
    let data: Vec<git::Used> = tables
        .iter()
        .filter(|table| !table.digest.path.starts_with("api:"))
        .map(|table| git::Used {
            name: table.digest.path.clone(),
            path: table.path.clone(),
            is_data: true,
            sha256: table.digest.sha256.clone(),
        })
        .collect();
    let mut used: Vec<git::Used> = config
        .iter()
        .map(|file| git::Used {
            name: file.path.clone(),
            path: root.join(&file.path),
            is_data: false,
            sha256: file.sha256.clone(),
        })
        .chain(data)
        .collect();
    // A table is data to git, and decides what is sent all the same.
    config.extend(tables.into_iter().map(|table| table.digest.clone()));
    let mut input = Vec::new();
    let named = source::files(&plan.pipeline.source, root, plan.spool.as_deref())
        .unwrap_or_else(|_| vec![(run.input.clone(), root.join(&run.input))]);
    for (name, path) in named {
        let is_spooled = plan.pipeline.source.is_spooled();
        let name = if is_spooled { name } else { shown(root, &path) };
        let digest = FileDigest::of_file(&name, &path);
        if !is_spooled {
            used.push(git::Used { name, path, is_data: true, sha256: digest.sha256.clone() });
        }
        input.push(digest);
    }
    let git = git::look(root, &used).map(|found| Git {
        revision: found.revision,
        branch: found.branch,
        dirty: found.dirty_files.as_ref().map(|files| !files.is_empty()),
        dirty_files: found.dirty_files.unwrap_or_default(),
        problem: found.problem,
    });
    (config, input, git)
}

/// The digest of a file of the project as it was read: of its bytes, unless they changed since.
fn config_file(root: &Path, text: &SourceText) -> FileDigest {
    let bytes = std::fs::read(root.join(&text.path)).unwrap_or_default();
    let is_same = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes) == text.text.as_bytes();
    FileDigest::of_bytes(&text.path, if is_same { &bytes } else { text.text.as_bytes() })
}

/// A path as the manifest has it: relative to the root where it lies below it.
fn shown(root: &Path, path: &Path) -> String {
    let path: PathBuf = path.components().collect();
    path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned()
}
