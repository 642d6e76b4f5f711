//! What makes a run the same run: its id, its destination, its meaning.

use std::collections::BTreeMap;

use sha2::Digest as _;

use crate::config::{Connection, Pipeline};
use crate::model::{SourceText, hex};
use crate::outcome::RunRow;
use crate::render::RunValues;

use super::lookups::TableFile;
use super::open::Plan;
use super::stand_in::SANDBOX;

/// Values of a run that begins now: id = UTC start + 4 hexadecimal digits.
#[must_use]
pub fn new_run(pipeline: &str) -> RunValues {
    let now = jiff::Timestamp::now();
    let started_at = jiff::Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
    let id = format!("{}-{:04x}", started_at.strftime("%Y%m%dT%H%M"), fastrand::u16(..));
    RunValues { id: id.into(), started_at, pipeline: pipeline.into(), ordinal: 0, step: 0 }
}

/// Values of a run that goes on.
#[must_use]
pub fn values(run: &RunRow, pipeline: &str) -> RunValues {
    RunValues {
        id: run.id.as_str().into(),
        started_at: run.started_at.parse().unwrap_or(jiff::Timestamp::UNIX_EPOCH),
        pipeline: pipeline.into(),
        ordinal: 0,
        step: 0,
    }
}

/// Connector, connection and base URL, never the token. The stand-in listens on another port each
/// time and is the same far side all the same.
#[must_use]
pub fn destination(connection: &Connection, target: &str) -> String {
    let base_url = if target == SANDBOX { SANDBOX } else { &connection.base_url };
    format!("{} {} {base_url}", connection.connector.as_deref().unwrap_or("-"), connection.name)
}

/// Hash of what a key of a run stands for: the destination, the pipeline as it is written, with its variables and
/// settings, and where its records come from. Never 0.
#[must_use]
pub fn scope(pipeline: &Pipeline, target: &str) -> u64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    for part in [&destination(&pipeline.connection, target), &pipeline.meaning, &pipeline.source.file] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.digest().max(1)
}

/// Digests of the meaning of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    /// Over everything that decides what is sent.
    pub meaning: String,
    /// Of each file, as a JSON object, to name the one that changed.
    pub files: String,
}

/// Takes the digests of a pipeline's meaning: the resolved pipeline and the text of its schemas.
#[must_use]
pub fn meaning_digests(plan: &Plan) -> Digests {
    let mut meaning = sha2::Sha256::new();
    meaning.update(plan.pipeline.meaning.as_bytes());
    for file in &plan.schema_files {
        meaning.update([0]);
        meaning.update(file.path.as_bytes());
        meaning.update([0]);
        meaning.update(file.text.as_bytes());
    }
    // What a table does not keep decides nothing.
    for TableFile { digest, cells, .. } in &plan.lookup_files {
        meaning.update([1]);
        meaning.update(digest.path.as_bytes());
        meaning.update([0]);
        meaning.update(cells.as_bytes());
    }
    let mut files: BTreeMap<&str, String> = plan
        .pipeline
        .files
        .iter()
        .chain(&plan.schema_files)
        .map(|file| (file.path.as_str(), short_digest(file)))
        .collect();
    files.extend(plan.lookup_files.iter().map(|file| {
        // Of several files it is told which one changed.
        let of_file = file.digest.sha256.as_deref().unwrap_or_default();
        let digest = if file.is_list { &file.cells } else { of_file };
        (file.digest.path.as_str(), digest.get(..16).unwrap_or(digest).to_owned())
    }));
    Digests {
        meaning: hex(&meaning.finalize()[..16]),
        files: serde_json::to_string(&files).unwrap_or_default(),
    }
}

fn short_digest(file: &SourceText) -> String {
    hex(&sha2::Sha256::digest(file.text.as_bytes())[..8])
}

/// Whether a file is as it was when the digests of a meaning were taken.
#[must_use]
pub fn is_of_meaning(files: &str, file: &SourceText) -> bool {
    let files: BTreeMap<String, String> = serde_json::from_str(files).unwrap_or_default();
    files.get(&file.path).is_some_and(|digest| *digest == short_digest(file))
}

/// Whether a table that is a list has these cells in the digests of a meaning.
#[must_use]
pub fn has_table(files: &str, name: &str, cells: &str) -> bool {
    let files: BTreeMap<String, String> = serde_json::from_str(files).unwrap_or_default();
    files.get(name).is_some_and(|digest| cells.starts_with(digest.as_str()) && !digest.is_empty())
}

/// Names of the files whose digest is not what it was.
#[must_use]
pub fn changed_files(then: &str, now: &str) -> Vec<String> {
    let read = |text: &str| serde_json::from_str::<BTreeMap<String, String>>(text).unwrap_or_default();
    let (then, now) = (read(then), read(now));
    let mut names: Vec<String> = now
        .iter()
        .filter(|(name, digest)| then.get(*name) != Some(digest))
        .map(|(name, _)| name.clone())
        .collect();
    names.extend(then.into_keys().filter(|name| !now.contains_key(name)));
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_added_and_removed_files_are_named() {
        let then = r#"{"a":"1","b":"2","c":"3"}"#;
        let now = r#"{"a":"1","b":"9","d":"4"}"#;
        assert_eq!(changed_files(then, now), ["b", "c", "d"]);
        assert!(changed_files(now, now).is_empty());
    }
}
