//! What follows a run with `deletes:`: the keys that vanished become the input of the pipeline that deletes, and what
//! became of each is noted where the next run looks.
//!
//! The lock of the pipeline in whose input they are missing is held from the decision until all is noted, so that no
//! key comes back meanwhile. Invariants: a file of keys belongs to one run and one input of it, and nothing of an
//! older one is ever sent; a key whose delete may have arrived never counts as standing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{Pipeline, deletes_name};
use crate::model::{Class, Counts, Diagnostic, Event, Failure, State, Value};
use crate::outcome::files::NewFile;
use crate::outcome::{Checkpoint, Folder, Lock, RunRow, Use};

use super::open::{self, Plan};
use super::prepare::hash;
use super::vanished::{Gone, Vanished, captures_of, deletes};
use super::{Observer, Start, identity, survey};

/// Deletes that may begin or go on. While it lives, nobody else works on the pipeline whose keys they are.
pub struct Deleting {
    /// The keys, the input of the pipeline that deletes.
    pub file: PathBuf,
    /// Those that may be deleted as things are now: hashes, ascending.
    keys: Arc<[u64]>,
    checkpoint: Checkpoint,
    _lock: Lock,
}

impl Deleting {
    /// The keys that may be deleted as things are now.
    #[must_use]
    pub fn keys(&self) -> Arc<[u64]> {
        Arc::clone(&self.keys)
    }

    /// Notes what became of the keys.
    pub fn settle(&self, pipeline: &Pipeline, target: &str) -> Result<(), Failure> {
        settle(pipeline, target, &self.checkpoint)
    }
}

/// The file of the keys that vanished from a run's input.
fn file_of(folder: &Folder, run: &RunRow) -> PathBuf {
    folder.vanished(&run.id, run.input_digest)
}

fn has_any(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|file| file.len() > 0)
}

/// Where the state of the pipeline that deletes lies.
fn folder_of_deletes(pipeline: &Pipeline, target: &str) -> Folder {
    Folder::new(&pipeline.state_dir, target, &deletes_name(&pipeline.name))
}

/// Names the file of a pipeline whose source is the vanished keys of another, where there is one: to look at, never to
/// send.
pub fn find(pipeline: &mut Pipeline, target: &str) -> Result<(), Failure> {
    let Some(other) = pipeline.source.vanished_of() else { return Ok(()) };
    let folder = Folder::new(&pipeline.state_dir, target, other);
    let Some(checkpoint) = Checkpoint::open_to_read(&folder)? else { return Ok(()) };
    let files = checkpoint.runs()?.iter().rev().map(|run| file_of(&folder, run)).collect::<Vec<_>>();
    if let Some(file) = files.iter().find(|file| has_any(file)) {
        pipeline.source.file = file.to_string_lossy().into_owned();
    }
    Ok(())
}

/// Refuses to send deletes by themselves: only the other pipeline can tell that they still hold.
pub fn refuse_alone(pipeline: &Pipeline, start: &Start) -> Result<(), Failure> {
    if start.deletes.is_some() || !pipeline.source.is_of_vanished() {
        return Ok(());
    }
    let of = pipeline.name.strip_suffix(".deletes").unwrap_or(&pipeline.name);
    let message = format!("what vanished from the input of {of} is deleted by a start of {of}");
    Err(Failure::new(
        Class::Usage,
        Diagnostic::error("deletes-alone", message)
            .note("nothing was sent")
            .help(format!("`runner apply {of}`; `runner retry {}` for those that failed", pipeline.name)),
    ))
}

/// Takes the lock of a pipeline, and notes what was deleted so far.
fn take(pipeline: &Pipeline, target: &str) -> Result<(Folder, Lock, Checkpoint), Failure> {
    let folder = Folder::new(&pipeline.state_dir, target, &pipeline.name);
    folder.prepare(Use::MustExist)?;
    let lock = folder.lock()?;
    let checkpoint = Checkpoint::open(&folder)?;
    settle(pipeline, target, &checkpoint)?;
    Ok((folder, lock, checkpoint))
}

/// Finds what is to be deleted after the newest run of a pipeline, once every record of it has an outcome.
pub fn begin(
    pipeline: &Pipeline,
    start: &Start,
    observer: &mut dyn Observer,
) -> Result<Option<Deleting>, Failure> {
    if deletes(pipeline, start).is_none() {
        return Ok(None);
    }
    let (folder, lock, checkpoint) = take(pipeline, &start.target)?;
    let Some(run) = checkpoint.latest_run()? else { return Ok(None) };
    let file = file_of(&folder, &run);
    match state(pipeline, start, (&folder, &checkpoint, &run))? {
        Standing::NotYet => return Ok(None),
        Standing::Done => {
            let keys = Arc::default();
            return Ok(has_any(&file).then_some(Deleting { file, keys, checkpoint, _lock: lock }));
        }
        Standing::Begun | Standing::New => {}
    }
    let plan = open::open(pipeline.clone(), &start.wanted(folder.spool_of(&pipeline.source), &folder))?;
    let looked = look(&plan, start, (&checkpoint, &run), &folder.temporary(), observer)?;
    let Some((vanished, hashes)) = looked else { return Ok(None) };
    vanished.refuse_too_many(pipeline, start)?;
    if !has_any(&file) || counts_of(pipeline, &start.target, &file)?.is_none() {
        let gone = Gone { checkpoint: &checkpoint, before: run.number, scope: run.scope, hashes: &hashes };
        write(&gone, &vanished.doomed.hashes, &run, &file)?;
        vanished.doomed.tell_rest(observer);
    }
    let keys = vanished.doomed.hashes.into();
    Ok(has_any(&file).then_some(Deleting { file, keys, checkpoint, _lock: lock }))
}

/// Goes on with what was begun after the newest run, for those that failed or are in doubt.
pub fn again(pipeline: &Pipeline, start: &Start, observer: &mut dyn Observer) -> Result<Deleting, Failure> {
    let (folder, lock, checkpoint) = take(pipeline, &start.target)?;
    let Some(run) = checkpoint.latest_run()? else { return Err(outdated(pipeline)) };
    let file = file_of(&folder, &run);
    let is_ours = run.input == pipeline.source.file && run.scope == identity::scope(pipeline, &start.target);
    if !is_ours || counts_of(pipeline, &start.target, &file)?.is_none() {
        return Err(outdated(pipeline));
    }
    let plan = open::open(pipeline.clone(), &start.wanted(folder.spool_of(&pipeline.source), &folder))?;
    let looked = look(&plan, start, (&checkpoint, &run), &folder.temporary(), observer)?;
    let Some((vanished, _)) = looked else { return Err(outdated(pipeline)) };
    vanished.refuse_too_many(pipeline, start)?;
    Ok(Deleting { file, keys: vanished.doomed.hashes.into(), checkpoint, _lock: lock })
}

fn outdated(pipeline: &Pipeline) -> Failure {
    let message = format!("no deletes were begun for the input that {} has now", pipeline.name);
    Failure::new(
        Class::State,
        Diagnostic::error("deletes-outdated", message)
            .note("keys that an older input did not have may be in it again; nothing was sent")
            .help(format!("`runner apply {}` finds out what is to be deleted", pipeline.name)),
    )
}

/// How many keys a start would delete for a run of which nothing else is left to do.
pub fn left(
    plan: &Plan,
    start: &Start,
    (folder, checkpoint, run): (&Folder, &Checkpoint, &RunRow),
    temporary: &Path,
    observer: &mut dyn Observer,
) -> Result<Option<Vanished>, Failure> {
    if deletes(&plan.pipeline, start).is_none() {
        return Ok(None);
    }
    match state(&plan.pipeline, start, (folder, checkpoint, run))? {
        Standing::NotYet | Standing::Done => Ok(None),
        Standing::Begun | Standing::New => {
            Ok(look(plan, start, (checkpoint, run), temporary, observer)?.map(|(vanished, _)| vanished))
        }
    }
}

/// How far the deletes of a run are.
enum Standing {
    /// The run is not over, or says nothing of what vanished.
    NotYet,
    /// Nobody looked yet.
    New,
    /// Some have no outcome.
    Begun,
    /// All have one.
    Done,
}

fn state(
    pipeline: &Pipeline,
    start: &Start,
    (folder, checkpoint, run): (&Folder, &Checkpoint, &RunRow),
) -> Result<Standing, Failure> {
    if run.input != pipeline.source.file || checkpoint.counts(run)?.unsent > 0 {
        return Ok(Standing::NotYet);
    }
    let file = file_of(folder, run);
    Ok(match counts_of(pipeline, &start.target, &file)? {
        Some(counts) if counts.unsent > 0 => Standing::Begun,
        Some(_) => Standing::Done,
        None if file.is_file() && !has_any(&file) => Standing::Done,
        None => Standing::New,
    })
}

/// What became of the keys of a file so far, where their deletion was begun.
fn counts_of(pipeline: &Pipeline, target: &str, file: &Path) -> Result<Option<Counts>, Failure> {
    let Some(done) = Checkpoint::open_to_read(&folder_of_deletes(pipeline, target))? else { return Ok(None) };
    let runs = done.runs()?;
    let run = runs.iter().find(|run| Path::new(&run.input) == file);
    run.map(|run| done.counts(run)).transpose()
}

/// Whether it is not known of a key whether it was deleted.
pub fn are_in_doubt(pipeline: &Pipeline, target: &str) -> Result<bool, Failure> {
    let Some(done) = Checkpoint::open_to_read(&folder_of_deletes(pipeline, target))? else {
        return Ok(false);
    };
    for run in done.runs()? {
        if done.counts(&run)?.in_doubt > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads the input once more; `None` where it cannot be told what vanished. Beside it the hashes of the keys.
fn look(
    plan: &Plan,
    start: &Start,
    (checkpoint, run): (&Checkpoint, &RunRow),
    temporary: &Path,
    observer: &mut dyn Observer,
) -> Result<Option<(Vanished, Vec<u64>)>, Failure> {
    let scope = identity::scope(&plan.pipeline, &start.target);
    if run.scope != scope {
        let message = format!("the pipeline, its variables or settings changed since run {} began", run.id);
        let warning = Diagnostic::warning("not-deleted", message);
        let note = if run.scope == 0 {
            "nothing is deleted: it went on under both, and of which its keys are is not known"
        } else {
            "nothing is deleted: what its keys stand for now is not known; undo the change to delete them"
        };
        observer.event(&Event::Warning(warning.note(note)));
        return Ok(None);
    }
    let values = identity::values(run, &plan.pipeline.name);
    let mut found = survey::survey(plan, temporary, &[], true, &values, observer)?;
    let mut warn = |warning: Diagnostic| observer.event(&Event::Warning(warning));
    if (found.records, found.digest) != (run.records, run.input_digest) {
        let message = format!("{} changed while its run was under way", run.input);
        let note = "nothing is deleted; the next run sees to it";
        warn(Diagnostic::warning("input-changed", message).note(note));
        return Ok(None);
    }
    if found.without_key > 0 {
        let (records, have) = if found.without_key == 1 { ("record", "has") } else { ("records", "have") };
        let message = format!(
            "{} {records} of {} {have} no key that could be told",
            crate::model::number(found.without_key),
            run.input
        );
        let note =
            "any of them may be what seems to have vanished: nothing is deleted until they are corrected";
        warn(Diagnostic::warning("key-missing", message).note(note));
        return Ok(None);
    }
    let (records, without_key) = (found.records, found.without_key);
    let (hashes, counted) = found.vanished_keys(|each| checkpoint.keys_of_earlier_runs(run.number, each))?;
    let gone = Gone { checkpoint, before: run.number, scope, hashes: &hashes };
    let doomed = gone.doomed_alone(plan, start, Some(run))?;
    let vanished = Vanished { records, known: counted.known, gone: counted.without, without_key, doomed };
    Ok(Some((vanished, hashes)))
}

/// Writes down the keys whose hashes these are (ascending).
fn write(gone: &Gone<'_>, wanted: &[u64], run: &RunRow, file: &Path) -> Result<(), Failure> {
    let ids = gone.checkpoint.run_ids()?;
    let mut out = NewFile::create(file)?;
    gone.doomed(|known| {
        if wanted.binary_search(&known.hash).is_err() {
            return Ok(());
        }
        let of = ids.get(&known.run.cast_unsigned());
        let of = of.map_or(Value::Null, |id| Value::String(id.as_str().into()));
        out.line(&format!(
            "{{\"key\":{},\"run\":{},\"captures\":{},\"missing_in\":\"{}\",\"input\":\"{:016x}\"}}",
            Value::String(known.key.into()).to_json(),
            of.to_json(),
            captures_of(known.captures).to_json(),
            run.id,
            run.input_digest,
        ))
    })?;
    out.finish()
}

/// Notes in a checkpoint what the pipeline that deletes has done so far. The caller holds the lock.
pub fn settle(pipeline: &Pipeline, target: &str, checkpoint: &Checkpoint) -> Result<(), Failure> {
    let Some(done) = Checkpoint::open_to_read(&folder_of_deletes(pipeline, target))? else { return Ok(()) };
    // A row that is gone would be a key that was not deleted.
    done.check_rows()?;
    let folder = Folder::new(&pipeline.state_dir, target, &pipeline.name);
    let runs = checkpoint.runs()?;
    let mut told: BTreeMap<i64, Told> = BTreeMap::new();
    for run in done.runs()? {
        // Its input is named after the run in which the keys were missing.
        let of = folder.run_of_vanished(Path::new(&run.input));
        let of = runs.iter().find(|other| of == Some(&*other.id));
        if let Some(of) = of {
            told.entry(of.number).or_default().add(&done, &run)?;
        }
    }
    for (run, Told { mut deleted, mut maybe }) in told {
        deleted.sort_unstable();
        maybe.retain(|hash| deleted.binary_search(hash).is_err());
        maybe.sort_unstable();
        maybe.dedup();
        checkpoint.note_deletes(run, &deleted, &maybe)?;
    }
    Ok(())
}

/// Hashes of keys by what is known of their deletion; what is known not to have happened is in neither.
#[derive(Default)]
struct Told {
    deleted: Vec<u64>,
    maybe: Vec<u64>,
}

impl Told {
    fn add(&mut self, done: &Checkpoint, run: &RunRow) -> Result<(), Failure> {
        let crashed = done.latest_start(run)?.is_some_and(|start| start.class.is_empty());
        // What was leased by a start that did not end may have left without a row of its own.
        let mut leased: BTreeSet<u64> =
            if crashed { (run.settled.ordinal..run.lease).collect() } else { BTreeSet::new() };
        done.each_row(run, 0, |row| {
            leased.remove(&row.ordinal);
            match row.state {
                State::Delivered => self.deleted.push(row.key_hash),
                State::InFlight | State::InDoubt => self.maybe.push(row.key_hash),
                _ if row.unknown || row.granted => self.maybe.push(row.key_hash),
                // A person left it out, and nobody knows any more; or it was not there to be deleted.
                State::Skipped if row.attempts > 0 => self.maybe.push(row.key_hash),
                State::Failed if matches!(row.status, 404 | 410) => self.maybe.push(row.key_hash),
                _ => {}
            }
            Ok(())
        })?;
        for call in done.open_batches(run)?.iter().filter(|call| call.unknown || call.attempts > 0) {
            leased.extend(&call.members);
        }
        let Some(last) = leased.last().copied() else { return Ok(()) };
        // Their names are in the input alone.
        let path = Path::new(&run.input);
        let file = File::open(path).map_err(|error| Failure::io("read", path, &error))?;
        for (line, ordinal) in BufReader::new(file).lines().zip(0..=last) {
            let line = line.map_err(|error| Failure::io("read", path, &error))?;
            let key = serde_json::from_str::<Line>(&line).map(|line| hash(&line.key));
            if let (true, Ok(key)) = (leased.contains(&ordinal), key) {
                self.maybe.push(key);
            }
        }
        Ok(())
    }
}

/// A line of a file of keys.
#[derive(serde::Deserialize)]
struct Line {
    key: String,
}
