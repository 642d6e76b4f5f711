//! Whether what is kept of runs is sound: checkpoint, outcome files and manifests against each
//! other. Looks only.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::path::Path;

use crate::model::{Counts, Diagnostic, Failure, State};
use crate::outcome::manifest::{FileDigest, Manifest, digest};
use crate::outcome::{Checkpoint, Folder, RunRow};

use super::status::is_locked;

/// Checks a checkpoint, the outcome files of its runs and their manifests against each other. Gives
/// what differs; warnings are about the files below `root` that the newest run was made from, and
/// about what could not be checked.
pub fn verify(root: &Path, folder: &Folder, checkpoint: &Checkpoint) -> Result<Vec<Diagnostic>, Failure> {
    let mut found = Vec::new();
    if let Err(failure) = checkpoint.check() {
        found.extend(failure.diagnostics);
        return Ok(found);
    }
    let running = is_locked(&folder.database().with_extension("lock"));
    let runs = checkpoint.runs()?;
    let newest = runs.last().map(|run| run.number);
    for run in &runs {
        let mut rows = Counts::default();
        let mut beyond = 0_u64;
        let read = checkpoint.each_row(run, 0, |row| {
            *rows.of(row.state) += 1;
            beyond += u64::from(row.ordinal >= run.records);
            Ok(())
        });
        if let Err(failure) = read {
            found.extend(failure.diagnostics);
            continue;
        }
        let counts = checkpoint.counts(run)?;
        if beyond > 0 || counts.total() != run.records || counts.settled() != rows.settled() {
            found.push(
                Diagnostic::error(
                    "counts-differ",
                    format!(
                        "run {}: the checkpoint has {} records, its input {}",
                        run.id,
                        counts.total(),
                        run.records
                    ),
                )
                .at(folder.database().display().to_string()),
            );
        }
        if !(running && newest == Some(run.number)) {
            folder.guard_run(&run.id)?;
            let path = folder.run(&run.id);
            let mut rows = files_differ(&path, &counts)?;
            let is_of_checkpoint = rows.is_empty();
            match Manifest::read(&path) {
                Ok(Some(manifest)) => {
                    let starts = checkpoint.starts(run)?;
                    rows.extend(manifest_differs(&path, &manifest, run, starts, &counts));
                    if newest == Some(run.number) {
                        found.extend(changed_since(root, &manifest));
                    }
                }
                Ok(None) if path.join("summary.json").is_file() => found.push(no_manifest(&path, run)),
                Ok(None) => {}
                Err(why) => rows.push(format!("manifest.json: {why}")),
            }
            if !rows.is_empty() {
                found.push(differ(&path, run, is_of_checkpoint, rows));
            }
        }
    }
    Ok(found)
}

fn differ(folder: &Path, run: &RunRow, is_of_checkpoint: bool, rows: Vec<String>) -> Diagnostic {
    let message = if is_of_checkpoint {
        format!("the files of run {} are not as they were written", run.id)
    } else {
        format!("the outcome files of run {} are not those of its checkpoint", run.id)
    };
    let mut diagnostic = Diagnostic::error("files-differ", message)
        .at(folder.display().to_string())
        .help("the checkpoint is what counts; `runner status PIPELINE --files` makes the files anew");
    diagnostic.rows = rows;
    diagnostic
}

fn no_manifest(folder: &Path, run: &RunRow) -> Diagnostic {
    Diagnostic::warning("manifest-missing", format!("run {} has no manifest.json", run.id))
        .at(folder.display().to_string())
        .note("the content of its files was not compared with anything, only their records were counted")
        .help("`runner status PIPELINE --files` makes the files of the newest run anew, with a manifest")
}

/// Compares the files of a run with its manifest, and the counts of all three.
fn manifest_differs(
    folder: &Path,
    manifest: &Manifest,
    run: &RunRow,
    starts: u64,
    counts: &Counts,
) -> Vec<String> {
    // A later start that ended by a signal made no files, and went on with the replies.
    let is_current = manifest.starts == starts;
    let mut rows = Vec::new();
    if manifest.run_id != run.id {
        rows.push(format!("manifest.json: it is of run {}", manifest.run_id));
    }
    for file in &manifest.output {
        let grows = file.path == "responses.ndjson" && !is_current;
        if let Some(what) = difference(file, &folder.join(&file.path), grows) {
            rows.push(format!("{}: {what}", file.path));
        }
    }
    let checkpoint = serde_json::json!(counts);
    if is_current && manifest.counts != checkpoint {
        rows.push("manifest.json: its counts are not those of the checkpoint".to_owned());
    }
    let summary = std::fs::read(folder.join("summary.json")).unwrap_or_default();
    let summary: serde_json::Value = serde_json::from_slice(&summary).unwrap_or_default();
    if summary.get("counts") != Some(&manifest.counts) {
        rows.push("summary.json: its counts are not those of manifest.json".to_owned());
    }
    rows
}

/// How a file differs from its digest. Of one that `grows`, only what it was then is compared.
fn difference(then: &FileDigest, path: &Path, grows: bool) -> Option<String> {
    let (Some(size), Some(sha256)) = (then.size, &then.sha256) else { return None };
    match digest(path, if grows { size } else { u64::MAX }) {
        Ok((now, is)) if now == size && is == *sha256 => None,
        Ok((now, _)) if now == size => Some("its content changed".to_owned()),
        Ok((now, _)) => Some(format!("its content changed: {now} bytes, {size} when it was written")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some("it is not there".to_owned()),
        Err(error) => Some(format!("it cannot be read: {}", error.kind())),
    }
}

/// Files that the run was made from and that are not now what they were. Nothing is wrong with the
/// run; it could not be made again from them.
fn changed_since(root: &Path, manifest: &Manifest) -> Option<Diagnostic> {
    let made_from = manifest
        .config
        .iter()
        .chain(&manifest.input)
        .filter(|file| file.path != "-" && !file.path.starts_with("api:"));
    let rows: Vec<String> = made_from
        .filter_map(|file| {
            Some(format!("{}: {}", file.path, difference(file, &root.join(&file.path), false)?))
        })
        .collect();
    if rows.is_empty() {
        return None;
    }
    let message = format!("files that run {} was made from changed since", manifest.run_id);
    let mut diagnostic = Diagnostic::warning("changed-since", message)
        .note("what the run did and kept is not touched by that");
    diagnostic.rows = rows;
    Some(diagnostic)
}

/// Compares the outcome files of a run with its counts; gives what differs, in words.
fn files_differ(folder: &Path, counts: &Counts) -> Result<Vec<String>, Failure> {
    let mut in_files: BTreeMap<String, u64> = BTreeMap::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::io("read the folder", folder, &error)),
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let Some((stem, ending)) = name.rsplit_once('.') else { continue };
        let records = match ending {
            "csv" | "tsv" => csv_records(&entry.path())?,
            "ndjson" if stem != "responses" => lines(&entry.path())?,
            _ => continue,
        };
        in_files.insert(stem.to_owned(), records);
    }
    // Files are not made at a signal; a run without any is no fault.
    if in_files.is_empty() {
        return Ok(Vec::new());
    }
    let of = |name: &str| in_files.get(name).copied().unwrap_or(0);
    let mut rows = Vec::new();
    let mut compare = |name: &str, files: u64, checkpoint: u64| {
        if files != checkpoint {
            rows.push(format!("{name}: {files} in the files, {checkpoint} in the checkpoint"));
        }
    };
    let mut counts = *counts;
    for state in [State::Delivered, State::Failed, State::Skipped, State::InDoubt] {
        compare(state.name(), of(state.name()), *counts.of(state));
    }
    // A row that is no record is invalid once it is reached, and stands apart in any case.
    compare(
        "invalid and unsent",
        of("invalid") + of("unreadable") + of("unsent"),
        counts.invalid + counts.unsent,
    );
    Ok(rows)
}

/// Records of a CSV file without its header: line ends outside of quotes, whatever separates fields.
fn csv_records(path: &Path) -> Result<u64, Failure> {
    let wrong = |error: std::io::Error| Failure::io("read", path, &error);
    let mut reader = std::io::BufReader::new(std::fs::File::open(path).map_err(wrong)?);
    let mut line = Vec::new();
    let (mut ends, mut quotes) = (0_u64, 0);
    while reader.read_until(b'\n', &mut line).map_err(wrong)? > 0 {
        quotes += memchr::memchr_iter(b'"', &line).count();
        ends += u64::from(quotes.is_multiple_of(2));
        line.clear();
    }
    Ok(ends.saturating_sub(1))
}

fn lines(path: &Path) -> Result<u64, Failure> {
    let wrong = |error: std::io::Error| Failure::io("read", path, &error);
    let mut reader = std::io::BufReader::new(std::fs::File::open(path).map_err(wrong)?);
    let mut count = 0;
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).map_err(wrong)? > 0 {
        count += u64::from(!line.trim_ascii().is_empty());
        line.clear();
    }
    Ok(count)
}
