//! Keys that earlier runs delivered and that the input does not have any more (`sync: changed`).
//!
//! What they are is found out twice by the same rule: before anything is sent, to refuse a start that would
//! delete too much, and when every record of the run has an outcome, to write them down as the input of the
//! pipeline that deletes. Invariant: a key is named there only if it stands for something that was delivered to
//! where the run delivers, and no record of the whole input can be it.

use std::path::{Path, PathBuf};

use crate::config::{Cap, Deletes, Pipeline, Sync};
use crate::model::{Class, Diagnostic, Event, Failure, State, Value, number};
use crate::outcome::files::NewFile;
use crate::outcome::{Checkpoint, Folder, KeyState, RunRow, Use, destination_hash};

use super::open::{self, Plan};
use super::{Observer, Start, identity, survey};

/// How many keys stand for something, and what the input says of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Vanished {
    /// Keys that earlier runs delivered.
    pub known: u64,
    /// Those of them that no record of the input has.
    pub gone: u64,
    /// Records of the input whose key cannot be told.
    pub without_key: u64,
}

/// What deletes, where this start may.
pub fn deletes<'p>(pipeline: &'p Pipeline, start: &Start) -> Option<&'p Deletes> {
    // Another input than the pipeline's own says nothing of what it does not have.
    let may = !start.no_deletes
        && !start.fresh
        && pipeline.source.place.is_some()
        && pipeline.sync == Some(Sync::Changed);
    pipeline.deletes.as_deref().filter(|_| may)
}

impl Vanished {
    /// Refuses a start that would delete more than is allowed.
    pub fn refuse_too_many(self, pipeline: &Pipeline, start: &Start) -> Result<(), Failure> {
        let Some(Deletes { cap, place, .. }) = deletes(pipeline, start) else { return Ok(()) };
        if cap.allows(self.gone, self.known) {
            return Ok(());
        }
        let most = match cap {
            Cap::Count(most) => number(*most),
            Cap::Share(share) => format!("{} %", share * 100.0),
        };
        let message = format!(
            "{} of the {} keys that earlier runs delivered are not in the input any more, and `deletes` allows {most}",
            number(self.gone),
            number(self.known)
        );
        Err(Failure::new(
            Class::Input,
            Diagnostic::error("too-many-deletes", message)
                .place(place)
                .note(format!("the input is {}; nothing was sent, nothing was deleted", pipeline.source.file))
                .help(format!(
                    "if the input is whole, raise `max`;\n`{} --no-deletes` sends what is there and deletes nothing",
                    start.command
                )),
        ))
    }

    /// Says what vanished, and what follows.
    pub fn tell(self, pipeline: &Pipeline, start: &Start, observer: &mut dyn Observer) {
        if self.gone == 0 {
            return;
        }
        let (keys, are) = if self.gone == 1 { ("key", "is") } else { ("keys", "are") };
        let message = format!(
            "{} {keys} that earlier runs delivered {are} not in the input any more",
            number(self.gone)
        );
        let note = if deletes(pipeline, start).is_some() {
            "deleted once every record of the run has an outcome"
        } else {
            "what they stand for on the far side stays as it is"
        };
        observer.event(&Event::Warning(Diagnostic::warning("vanished", message).note(note)));
    }
}

/// The file of the keys that vanished from a run's input.
fn file_of(folder: &Folder, run: &RunRow) -> PathBuf {
    folder.run(&run.id).join(format!("vanished-{:016x}.ndjson", run.input_digest))
}

/// Names the file of a pipeline whose source is the vanished keys of another, where there is one.
pub fn find(pipeline: &mut Pipeline, target: &str) -> Result<(), Failure> {
    let Some(other) = pipeline.source.vanished_of() else { return Ok(()) };
    let folder = Folder::new(&pipeline.state_dir, target, other);
    let Some(checkpoint) = Checkpoint::open_to_read(&folder)? else { return Ok(()) };
    let files = checkpoint.runs()?.iter().rev().map(|run| file_of(&folder, run)).collect::<Vec<_>>();
    if let Some(file) = files.iter().find(|file| std::fs::metadata(file).is_ok_and(|file| file.len() > 0)) {
        pipeline.source.file = file.to_string_lossy().into_owned();
    }
    Ok(())
}

/// Writes down what vanished from the input of the newest run, if every record of it has an outcome; gives the
/// file, where it names any key.
pub fn write(
    pipeline: &Pipeline,
    start: &Start,
    observer: &mut dyn Observer,
) -> Result<Option<PathBuf>, Failure> {
    if deletes(pipeline, start).is_none() {
        return Ok(None);
    }
    let folder = Folder::new(&pipeline.state_dir, &start.target, &pipeline.name);
    folder.prepare(Use::MustExist)?;
    let _lock = folder.lock()?;
    let checkpoint = Checkpoint::open(&folder)?;
    let Some(run) = checkpoint.latest_run()? else { return Ok(None) };
    if run.input != pipeline.source.file || checkpoint.counts(&run)?.unsent > 0 {
        return Ok(None);
    }
    let file = file_of(&folder, &run);
    if !file.is_file() {
        let spool = folder.spool_of(&pipeline.source);
        let plan = open::open(pipeline.clone(), &start.wanted(spool, &folder))?;
        if !write_anew(&plan, start, (&folder, &checkpoint, &run), &file, observer)? {
            return Ok(None);
        }
    }
    let is_empty = std::fs::metadata(&file).is_ok_and(|file| file.len() == 0);
    Ok((!is_empty).then_some(file))
}

/// Reads the input once more and writes the file; `false` where it cannot be told what vanished.
fn write_anew(
    plan: &Plan,
    start: &Start,
    (folder, checkpoint, run): (&Folder, &Checkpoint, &RunRow),
    file: &Path,
    observer: &mut dyn Observer,
) -> Result<bool, Failure> {
    let values = identity::values(run, &plan.pipeline.name);
    let mut found = survey::survey(plan, &folder.temporary(), &[], true, &values, observer)?;
    let mut warn = |warning: Diagnostic| observer.event(&Event::Warning(warning));
    if (found.records, found.digest) != (run.records, run.input_digest) {
        let message = format!("{} changed while its run was under way", run.input);
        warn(
            Diagnostic::warning("input-changed", message).note("nothing is deleted; the next run sees to it"),
        );
        return Ok(false);
    }
    if found.without_key > 0 {
        let message =
            format!("{} records of {} have no key that could be told", number(found.without_key), run.input);
        let note =
            "any of them may be what seems to have vanished: nothing is deleted until they are corrected";
        warn(Diagnostic::warning("key-missing", message).note(note));
        return Ok(false);
    }
    let (hashes, counted) = found.vanished_keys(|each| checkpoint.keys_of_earlier_runs(run.number, each))?;
    let vanished = Vanished { known: counted.known, gone: counted.without, without_key: 0 };
    vanished.refuse_too_many(&plan.pipeline, start)?;
    let ids = checkpoint.run_ids()?;
    let here = destination_hash(&run.destination);
    let (mut unnamed, mut elsewhere, mut begun) = (0_u64, 0_u64, 0_u64);
    let mut out = NewFile::create(file)?;
    checkpoint.last_of_keys(run.number, &hashes, |known| {
        if known.state == KeyState::Begun {
            begun += 1;
        } else if known.destination != here {
            elsewhere += 1;
        } else if known.key.is_empty() {
            unnamed += 1;
        } else {
            let captures = if known.captures.is_empty() { "{}" } else { known.captures };
            let of = ids.get(&known.run.cast_unsigned());
            let of = of.map_or(Value::Null, |id| Value::String(id.as_str().into()));
            let key = Value::String(known.key.into());
            out.line(&format!(
                "{{\"key\":{},\"run\":{},\"captures\":{captures}}}",
                key.to_json(),
                of.to_json()
            ))?;
        }
        Ok(())
    })?;
    out.finish()?;
    for (count, why) in [
        (
            unnamed,
            "they were delivered before the pipeline said `deletes`, and how they are called was not kept",
        ),
        (elsewhere, "they were delivered to another connection or base URL"),
        (begun, "not all of their calls were delivered"),
    ] {
        if count > 0 {
            let message = format!("{} keys that vanished are not deleted", number(count));
            warn(Diagnostic::warning("not-deleted", message).note(why));
        }
    }
    Ok(true)
}

/// Notes in a checkpoint what the pipeline that deletes has done so far. The caller holds the lock.
pub fn settle(pipeline: &Pipeline, target: &str, checkpoint: &Checkpoint) -> Result<(), Failure> {
    let Some(deletes) = &pipeline.deletes else { return Ok(()) };
    let folder = Folder::new(&pipeline.state_dir, target, &deletes.pipeline.name);
    let Some(done) = Checkpoint::open_to_read(&folder)? else { return Ok(()) };
    let runs = checkpoint.runs()?;
    for run in done.runs()? {
        // Its input lies in the folder of the run in which the keys were missing.
        let of = Path::new(&run.input).parent().and_then(Path::file_name);
        let Some(of) = runs.iter().find(|other| of.is_some_and(|id| id == &*other.id)) else { continue };
        let mut hashes = Vec::new();
        done.each_row(&run, 0, |row| {
            if row.state == State::Delivered {
                hashes.push(row.key_hash);
            }
            Ok(())
        })?;
        checkpoint.note_deleted(of.number, &hashes)?;
    }
    Ok(())
}

/// The same, as soon as it has ended; where another start is under way, that one does it.
pub fn settle_now(pipeline: &Pipeline, target: &str) -> Result<(), Failure> {
    let folder = Folder::new(&pipeline.state_dir, target, &pipeline.name);
    let Ok(_lock) = folder.lock() else { return Ok(()) };
    settle(pipeline, target, &Checkpoint::open(&folder)?)
}
