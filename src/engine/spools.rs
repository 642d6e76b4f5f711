//! The lists that a start needs, its input and its tables, read before it is known which run it is about.
//!
//! What is read anew lies beside what an earlier start left (`….new`) until a run has taken it: a start that is
//! refused, is killed or finds nothing to do takes nothing away from a run that goes on. Invariant: the
//! rows of two readings are never mixed in one run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::config::{Listing, Lookup, Pipeline};
use crate::model::{Counts, Diagnostic, Event, Failure, Severity};
use crate::outcome::{Checkpoint, Folder, RunRow};
use crate::source;

use super::open::Plan;
use super::resume::{self, Input};
use super::stop::Until;
use super::{Observer, Start, identity, listing, lookups, manifest, survey};

/// Where the lists of a start lie.
pub(super) struct Spools {
    folder: Folder,
    list: Option<Spool>,
    tables: BTreeMap<String, Spool>,
    /// A run may have taken what is new, whatever becomes of this start.
    is_offered: bool,
}

struct Spool {
    /// Where it lies once a run has taken it.
    place: PathBuf,
    is_new: bool,
}

impl Spool {
    fn path(&self) -> PathBuf {
        if self.is_new { Folder::untaken(&self.place) } else { self.place.clone() }
    }
}

impl Drop for Spools {
    fn drop(&mut self) {
        if !self.is_offered {
            self.discard();
        }
    }
}

impl Spools {
    /// Reads the lists of a pipeline, but for those that the run has with which this start goes on. `stdin` is
    /// where standard input lies. The caller holds the lock.
    pub fn bring(
        pipeline: &Pipeline,
        (folder, stdin): (&Folder, Option<&Path>),
        (start, deadline): (&Start, Option<Instant>),
        observer: &mut dyn Observer,
    ) -> Result<Self, Failure> {
        let mut spools =
            Self { folder: folder.clone(), list: None, tables: BTreeMap::new(), is_offered: false };
        if pipeline.lists().next().is_none() {
            return Ok(spools);
        }
        let kept = Kept::look(folder)?;
        let lost = settle(pipeline, folder, kept.newest())?;
        let until = Until::signal_or(deadline)?;
        if let Some(list) = &pipeline.listing {
            let place = folder.listing();
            let is_known = kept.has_list(pipeline, &place, start);
            if is_known && kept.lacks_files && start.is_of_input() {
                observer.event(&Event::Warning(not_read(pipeline)));
            }
            let is_named = kept.runs.iter().any(|run| run.input == pipeline.source.file);
            if !is_known && !is_named {
                start.refuse_without_run()?;
            }
            spools.list = Some(spool(
                pipeline,
                (list, &pipeline.source.file),
                (folder, place, is_known),
                &until,
                observer,
            )?);
        }
        let input = spools.list().or_else(|| stdin.map(Path::to_owned));
        for (lookup, list) in pipeline.tables() {
            let name = &lookup.name.value;
            let place = folder.lookup(name);
            let is_there = place.is_file() && !lost.contains(name);
            let is_known = is_there && kept.goes_on_with_tables(pipeline, input.as_deref(), start)?;
            if !is_known && !start.is_of_input() && !kept.has_run_of(pipeline, input.as_deref())? {
                start.refuse_without_run()?;
            }
            let spool =
                spool(pipeline, (list, &lookup.source.file), (folder, place, is_known), &until, observer)?;
            spools.tables.insert(name.clone(), spool);
        }
        Ok(spools)
    }

    /// Where the input lies, where it is a list.
    pub fn list(&self) -> Option<PathBuf> {
        self.list.as_ref().map(Spool::path)
    }

    /// Where the tables lie that were read anew.
    pub fn new_tables(&self) -> BTreeMap<String, PathBuf> {
        let new = self.tables.iter().filter(|(_, spool)| spool.is_new);
        new.map(|(name, spool)| (name.clone(), spool.path())).collect()
    }

    /// Says that the checkpoint is about to name what is new: from here on only the next start can tell whether
    /// it does, if this one does not get on.
    pub fn offer(&mut self) {
        self.is_offered = true;
    }

    /// Puts the input in its place, as the checkpoint names it now.
    pub fn keep_list(&mut self, plan: &mut Plan) -> Result<(), Failure> {
        let Some(spool) = self.list.as_mut().filter(|spool| spool.is_new) else { return Ok(()) };
        keep(&self.folder, spool)?;
        plan.spool = Some(spool.place.clone());
        Ok(())
    }

    /// The same for the tables.
    pub fn keep_tables(&mut self, plan: &mut Plan) -> Result<(), Failure> {
        for spool in self.tables.values_mut().filter(|spool| spool.is_new) {
            let path = spool.path();
            keep(&self.folder, spool)?;
            for file in plan.lookup_files.iter_mut().filter(|file| file.path == path) {
                file.path.clone_from(&spool.place);
            }
        }
        Ok(())
    }

    /// Removes what is new and was taken by no run.
    pub fn discard(&mut self) {
        for spool in self.list.iter_mut().chain(self.tables.values_mut()).filter(|spool| spool.is_new) {
            // Left behind it is looked at by the next start, which removes it too.
            let _ = std::fs::remove_file(spool.path());
        }
        self.is_offered = false;
    }
}

fn keep(folder: &Folder, spool: &mut Spool) -> Result<(), Failure> {
    folder.keep_listing(&Folder::untaken(&spool.place), &spool.place)?;
    spool.is_new = false;
    Ok(())
}

/// Says why nobody looked for what is new in the list.
fn not_read(pipeline: &Pipeline) -> Diagnostic {
    let message = format!("{} was not read again", pipeline.source.file);
    Diagnostic {
        severity: Severity::Note,
        ..Diagnostic::warning("list-as-read", message)
            .note("the outcome files of the last run were not made yet, and are made of what it read")
            .help("start the same command again to look for more")
    }
}

/// The list that lies in its place, where it is known, or a new one beside it.
fn spool(
    pipeline: &Pipeline,
    list: (&Listing, &str),
    (folder, place, is_known): (&Folder, PathBuf, bool),
    until: &Until,
    observer: &mut dyn Observer,
) -> Result<Spool, Failure> {
    if !is_known {
        let part = folder.new_listing();
        listing::read(pipeline, list, &part, None, until, observer)?;
        folder.keep_listing(&part, &Folder::untaken(&place))?;
    }
    Ok(Spool { place, is_new: !is_known })
}

/// Looks at what a start left that was killed: what the checkpoint names is put in its place, the rest removed.
/// Gives the names of the tables of which what lies in their place is not the newest run's either.
fn settle(pipeline: &Pipeline, folder: &Folder, newest: Option<&RunRow>) -> Result<Vec<String>, Failure> {
    let settle = |place: &Path, has: &dyn Fn(&Path) -> bool| -> Result<bool, Failure> {
        let new = Folder::untaken(place);
        if !new.is_file() {
            return Ok(true);
        }
        if has(&new) {
            folder.keep_listing(&new, place)?;
            return Ok(true);
        }
        std::fs::remove_file(&new).map_err(|error| Failure::io("remove", &new, &error))?;
        Ok(has(place))
    };
    if pipeline.listing.is_some() {
        let named = newest.filter(|run| run.input == pipeline.source.file);
        settle(&folder.listing(), &|spool| {
            named.is_some_and(|run| !holds(&[run], pipeline, spool).is_empty())
        })?;
    }
    let mut lost = Vec::new();
    for (lookup, _) in pipeline.tables() {
        let has = |spool: &Path| newest.is_some_and(|run| is_table_of(run, lookup, pipeline, spool));
        if !settle(&folder.lookup(&lookup.name.value), &has)? {
            lost.push(lookup.name.value.clone());
        }
    }
    Ok(lost)
}

fn is_table_of(run: &RunRow, lookup: &Lookup, pipeline: &Pipeline, spool: &Path) -> bool {
    let read = source::read_table(lookup, &pipeline.root, Some(spool));
    read.is_ok_and(|read| identity::has_table(&run.meaning_files, &lookups::name_of(lookup), &read.digest))
}

/// The runs whose input lies in a spool: the very file, or the same records, as a state that was put back from a
/// copy has them.
fn holds<'r>(runs: &[&'r RunRow], pipeline: &Pipeline, spool: &Path) -> Vec<&'r RunRow> {
    if !spool.is_file() {
        return Vec::new();
    }
    let stamp = stamp(pipeline, Some(spool));
    let same: Vec<&RunRow> = runs.iter().copied().filter(|run| run.input_stamp == stamp).collect();
    if !same.is_empty() || runs.is_empty() {
        return same;
    }
    // What cannot be read is nobody's.
    let Ok(survey) = survey::skim(pipeline, Some(spool), &[]) else { return Vec::new() };
    let is_same = |run: &&RunRow| resume::compare_input(run, Some(&survey)) == Input::Same;
    runs.iter().copied().filter(is_same).collect()
}

fn stamp(pipeline: &Pipeline, spool: Option<&Path>) -> String {
    let stamp = source::stamp(&pipeline.source, &pipeline.root, spool);
    stamp.ok().and_then(|stamp| serde_json::to_string(&stamp).ok()).unwrap_or_default()
}

/// What is kept of earlier starts.
struct Kept {
    /// The newest first.
    runs: Vec<RunRow>,
    /// Whether the newest is not finished.
    is_open: bool,
    /// Whether the newest is settled and its files were not made: its records are read once more.
    lacks_files: bool,
}

impl Kept {
    fn look(folder: &Folder) -> Result<Self, Failure> {
        let mut kept = Self { runs: Vec::new(), is_open: false, lacks_files: false };
        let Some(checkpoint) = Checkpoint::open_to_read(folder)? else { return Ok(kept) };
        kept.runs = checkpoint.runs()?;
        kept.runs.reverse();
        if let Some(run) = kept.runs.first() {
            let counts: Counts = checkpoint.counts(run)?;
            kept.is_open = run.closed_at.is_none() && counts.unsent > 0;
            kept.lacks_files =
                counts.unsent == 0 && !manifest::is_current(&folder.run(&run.id), &checkpoint, run, &counts)?;
        }
        Ok(kept)
    }

    fn newest(&self) -> Option<&RunRow> {
        self.runs.first()
    }

    /// The runs that a start could be about without beginning one.
    fn candidates(&self, start: &Start) -> Vec<&RunRow> {
        let newest = self.runs.iter().take(1);
        if !start.is_of_input() && !self.is_open {
            return self.runs.iter().collect();
        }
        newest.filter(|_| self.is_open || self.lacks_files).collect()
    }

    /// Whether the list that lies in its place is that of a run that goes on. What a finished run was about is
    /// read anew: there may be more now.
    fn has_list(&self, pipeline: &Pipeline, place: &Path, start: &Start) -> bool {
        if start.fresh || start.close {
            return false;
        }
        let mut runs = self.candidates(start);
        runs.retain(|run| run.input == pipeline.source.file);
        !holds(&runs, pipeline, place).is_empty()
    }

    /// Whether this start goes on with the run of the tables that lie in their places.
    fn goes_on_with_tables(
        &self,
        pipeline: &Pipeline,
        spool: Option<&Path>,
        start: &Start,
    ) -> Result<bool, Failure> {
        // These begin no run, and none goes on with another table than its own unless told to.
        if start.retry.is_some() || start.reconcile.is_some() {
            return Ok(true);
        }
        if start.fresh {
            return Ok(false);
        }
        let copied = survey::copied_run(pipeline, spool)?;
        if copied.is_some() {
            return Ok(self.newest().map(|run| &run.id) == copied.as_ref());
        }
        is_of(&self.candidates(start), pipeline, spool)
    }

    fn has_run_of(&self, pipeline: &Pipeline, spool: Option<&Path>) -> Result<bool, Failure> {
        if survey::copied_run(pipeline, spool)?.is_some() {
            return Ok(true);
        }
        is_of(&self.runs.iter().collect::<Vec<_>>(), pipeline, spool)
    }
}

/// Whether the input belongs to one of these runs, by the rule by which that is decided later.
fn is_of(runs: &[&RunRow], pipeline: &Pipeline, spool: Option<&Path>) -> Result<bool, Failure> {
    if runs.is_empty() {
        return Ok(false);
    }
    let stamp = stamp(pipeline, spool);
    if runs.iter().any(|run| run.input == pipeline.source.file && run.input_stamp == stamp) {
        return Ok(true);
    }
    let at: Vec<u64> = runs.iter().flat_map(|run| [run.records, run.lease]).collect();
    let survey = survey::skim(pipeline, spool, &at)?;
    let run = resume::run_of(runs, Some(&survey));
    Ok(run.is_some_and(|run| resume::compare_input(run, Some(&survey)) != Input::Other))
}
