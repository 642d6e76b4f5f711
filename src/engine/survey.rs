//! The first pass: the whole input is read once before anything is sent (ruling 20).
//!
//! It counts, takes the running digest that recognises the input, meets faults of the file as a
//! whole, and finds repeated keys and keys of earlier runs, in flat memory.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::config::{Duplicates, Idempotency, Pipeline};
use crate::dedupe::{Among, Candidate, Collector, Counted};
use crate::model::{Class, Diagnostic, Failure, Record, State};
use crate::outcome::{HALF_DONE, KeyState, KnownKey, UNCHANGED};
use crate::render::RunValues;
use crate::source::{self, Made};

use super::Observer;
use super::copies::{Copies, Gather};
use super::open::Plan;
use super::prepare::Refused;

/// What the first pass found.
#[derive(Debug, Default)]
pub struct Survey {
    /// Records in the input.
    pub records: u64,
    /// Running digest over all of them.
    pub digest: u64,
    /// Running digests at the ordinals that were asked for, where the input reaches them.
    pub at: HashMap<u64, u64>,
    /// Records that are not sent because of their key, sorted: ordinal and [`Drop`] as a number.
    pub dropped: Arc<[(u64, u64)]>,
    /// The keys, until they are compared.
    pub(super) keys: Option<Collector>,
    /// Records whose key an earlier run delivered.
    pub delivered_before: u64,
    /// Records whose key an earlier run holds in doubt.
    pub held_before: u64,
    /// Records whose key cannot be told.
    pub without_key: u64,
    /// Keys that stand for something on the far side, by what earlier runs delivered.
    pub known_keys: u64,
    /// Those of them that no record of the input has.
    pub vanished: u64,
    /// Their hashes, ascending; only for a pipeline that deletes what they stand for.
    pub gone: Vec<u64>,
    /// The records of an earlier run that the input's records are copies of.
    pub copies: Option<Copies>,
}

/// Extends the running digest by one record.
#[must_use]
pub fn chain(digest: u64, record: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(&record.to_le_bytes(), digest)
}

/// Ids of the kept runs by their number.
pub type RunIds = HashMap<u64, String>;

/// Why a record is not sent because of its key, as a number in the sorted file of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drop {
    /// An earlier record has the same key, and that is not allowed.
    Duplicate(u64),
    /// Another record with the same key is sent instead.
    Other(u64),
    /// An earlier run holds its key in doubt.
    HeldSince(u64),
    /// An earlier run delivered it.
    DeliveredIn(u64),
    /// An earlier run delivered it as it is now.
    UnchangedSince(u64),
    /// An earlier run delivered some of its calls.
    BegunIn(u64),
    /// What deletes it may have arrived, because the input of this run did not have it.
    DeletingSince(u64),
}

const KIND: u32 = 60;

impl Drop {
    const fn code(self) -> u64 {
        match self {
            Self::Duplicate(ordinal) => ordinal,
            Self::Other(ordinal) => 1 << KIND | ordinal,
            Self::HeldSince(run) => 2 << KIND | run,
            Self::DeliveredIn(run) => 3 << KIND | run,
            Self::UnchangedSince(run) => 4 << KIND | run,
            Self::BegunIn(run) => 5 << KIND | run,
            Self::DeletingSince(run) => 6 << KIND | run,
        }
    }

    /// Reads the number back.
    #[must_use]
    pub const fn from_code(code: u64) -> Self {
        let value = code & ((1 << KIND) - 1);
        match code >> KIND {
            0 => Self::Duplicate(value),
            1 => Self::Other(value),
            2 => Self::HeldSince(value),
            3 => Self::DeliveredIn(value),
            4 => Self::UnchangedSince(value),
            5 => Self::BegunIn(value),
            _ => Self::DeletingSince(value),
        }
    }

    /// What becomes of the record.
    ///
    /// `runs` gives the ids of runs by their number.
    #[must_use]
    pub fn outcome(self, runs: &RunIds) -> (State, &'static str, String) {
        let id = |number: u64| runs.get(&number).map_or_else(|| format!("number {number}"), Clone::clone);
        match self {
            Self::Duplicate(first) => (
                State::Invalid,
                "duplicate-key",
                format!("record {} has the same key and goes first", first + 1),
            ),
            Self::Other(other) => (
                State::Skipped,
                "duplicate-key",
                format!("record {} has the same key and is sent instead", other + 1),
            ),
            Self::HeldSince(run) => (
                State::Skipped,
                "held",
                format!("in doubt since run {}; `runner resolve` settles it", id(run)),
            ),
            Self::DeliveredIn(run) => {
                (State::Skipped, "delivered-before", format!("delivered in run {}", id(run)))
            }
            Self::UnchangedSince(run) => {
                (State::Skipped, UNCHANGED, format!("as it was delivered in run {}", id(run)))
            }
            Self::BegunIn(run) => (
                State::Skipped,
                "begun-before",
                format!("some of its calls were delivered in run {}; `runner retry` goes on there", id(run)),
            ),
            // No skip: somebody has to look.
            Self::DeletingSince(run) => (
                State::Failed,
                "delete-in-doubt",
                format!(
                    "its delete after run {} may have arrived: look whether it is there, and `runner retry` sends it",
                    id(run)
                ),
            ),
        }
    }
}

/// Keys of earlier runs are entered as numbers below this, records of the input above it.
const INPUT: u64 = 1 << 48;
/// Repeated keys that are compared in one more pass over the input.
const AT_ONCE: usize = 150_000;
/// Records of which the requests are rendered on trial before anything is sent.
const TRIED: usize = 20;

/// Reads the whole input once. `folder` takes temporary files; with `wants_keys` the keys are
/// collected for [`Survey::compare_keys`].
pub fn survey(
    plan: &Plan,
    folder: &Path,
    digests_at: &[u64],
    wants_keys: bool,
    run: &RunValues,
    observer: &mut dyn Observer,
) -> Result<Survey, Failure> {
    let wants_keys = wants_keys && plan.preparer.key.is_some();
    let mut collector = wants_keys.then(|| Collector::new(folder));
    let mut found = Survey::default();
    let mut source = plan.source()?;
    let mut trial = Trial::default();
    source.make(Made { only: plan.preparer.key_columns(wants_keys), text: None });
    // Only what is named on the command line can be an outcome file of ours.
    let mut copies = plan.pipeline.source.place.is_none().then(Gather::default);
    let note = |found: &mut Survey| {
        if digests_at.contains(&found.records) {
            found.at.insert(found.records, found.digest);
        }
    };
    note(&mut found);
    while let Some(record) = source.next() {
        let record = record?;
        if let Some(copies) = &mut copies {
            copies.note(&record)?;
        }
        found.digest = chain(found.digest, record.digest);
        found.records += 1;
        note(&mut found);
        if found.records.is_multiple_of(65_536) {
            observer.tick();
        }
        if trial.shaped < TRIED && plan.columns.is_none() && !plan.pipeline.source.is_of_vanished() {
            trial.look_at(plan, record.clone(), run);
        }
        if let Some(collector) = &mut collector {
            let ordinal = record.ordinal;
            if let Some(hash) = plan.preparer.key_hash(record, run) {
                collector.add(INPUT + ordinal, hash, 0)?;
            } else {
                found.without_key += 1;
            }
        }
    }
    trial.verdict()?;
    found.keys = collector;
    found.copies = copies.map(Gather::finish).transpose()?.flatten();
    Ok(found)
}

/// Reads the whole input for what recognises it, and nothing else: its records and its running digests.
pub fn skim(pipeline: &Pipeline, spool: Option<&Path>, digests_at: &[u64]) -> Result<Survey, Failure> {
    let mut found = Survey::default();
    let mut source = source::open(&pipeline.source, &pipeline.root, spool)?;
    source.make(Made { only: Some([].into()), text: None });
    loop {
        if digests_at.contains(&found.records) {
            found.at.insert(found.records, found.digest);
        }
        let Some(record) = source.next() else { return Ok(found) };
        found.digest = chain(found.digest, record?.digest);
        found.records += 1;
    }
}

/// The run of which the input is an outcome file, as its first record has it.
pub fn copied_run(pipeline: &Pipeline, spool: Option<&Path>) -> Result<Option<String>, Failure> {
    // Only what is named on the command line can be one.
    if pipeline.source.place.is_some() {
        return Ok(None);
    }
    let mut source = source::open(&pipeline.source, &pipeline.root, spool)?;
    let first = source.next().transpose()?;
    Ok(first.and_then(|record| record.copy_of).map(|copy| copy.run))
}

impl Survey {
    /// Compares the keys of the input with each other and with those of earlier runs, which `earlier`
    /// feeds; `leaves_out` says which of the records that an earlier run delivered are left out.
    pub fn compare_keys(
        &mut self,
        plan: &Plan,
        run: &RunValues,
        leaves_out: LeavesOut,
        earlier: impl FnOnce(&mut dyn FnMut(KnownKey<'_>)) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Some(collector) = self.with_earlier(earlier)? else { return Ok(()) };
        let duplicates = plan.pipeline.select.duplicates;
        let mut groups = Groups { plan, run, duplicates, leaves_out, found: self, pairs: Vec::new() };
        groups.resolve(collector)?;
        let mut pairs = groups.pairs;
        pairs.sort_unstable();
        self.dropped = pairs.into();
        Ok(())
    }
}

impl Survey {
    /// The hashes of the keys that stand for something on the far side and that no record of the input has,
    /// ascending.
    pub fn vanished_keys(
        &mut self,
        earlier: impl FnOnce(&mut dyn FnMut(KnownKey<'_>)) -> Result<(), Failure>,
    ) -> Result<(Vec<u64>, Counted), Failure> {
        self.with_earlier(earlier)?.map_or_else(|| Ok(Default::default()), |keys| keys.without(STANDING))
    }

    fn with_earlier(
        &mut self,
        earlier: impl FnOnce(&mut dyn FnMut(KnownKey<'_>)) -> Result<(), Failure>,
    ) -> Result<Option<Collector>, Failure> {
        let Some(mut collector) = self.keys.take() else { return Ok(None) };
        let mut failure = None;
        earlier(&mut |known| {
            let content = match known.state {
                KeyState::Delivered { content } => content,
                KeyState::Begun => HALF_DONE,
                KeyState::Deleted | KeyState::Deleting | KeyState::Held => 0,
                // What it is as was delivered before.
                KeyState::Unchanged => return,
            };
            if let Err(error) = collector.add(known.position(), known.hash, content) {
                failure = Some(error);
            }
        })?;
        failure.map_or(Ok(Some(collector)), Err)
    }
}

/// Keys for which something stands over there: what an earlier run did last was to deliver them, or to delete
/// them without it being known that it did.
const STANDING: Among = Among {
    from: INPUT,
    counts: |position| matches!(KnownKey::at(position).1, KeyState::Delivered { .. } | KeyState::Deleting),
};

/// Why a record is not sent because of its key, if it is not. `dropped` is sorted by ordinal.
#[must_use]
pub fn drop_of(dropped: &[(u64, u64)], ordinal: u64) -> Option<Drop> {
    let index = dropped.binary_search_by_key(&ordinal, |(dropped, _)| *dropped).ok()?;
    dropped.get(index).map(|(_, code)| Drop::from_code(*code))
}

/// What is asked of a candidate beside its first hash.
struct Second {
    /// Another hash of its key.
    key: u64,
    /// The digest of what it sends, where that decides.
    content: u64,
}

/// Which of the records that an earlier run delivered are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeavesOut {
    /// None: all are sent again.
    None,
    /// All of them.
    Delivered,
    /// Those that would send what was sent last.
    Unchanged,
}

/// Decides within groups of equal keys.
struct Groups<'a> {
    plan: &'a Plan,
    run: &'a RunValues,
    duplicates: Duplicates,
    leaves_out: LeavesOut,
    found: &'a mut Survey,
    pairs: Vec<(u64, u64)>,
}

/// The group that is looked at: records that share a key hash.
#[derive(Default)]
struct Group {
    hash: u64,
    held: Option<u64>,
    /// The last run that delivered it, and the digest of what it sent.
    delivered: Option<(u64, u64)>,
    /// The run for which it may have been deleted since.
    deleting: Option<u64>,
    /// Kept record by the second hash of its key.
    kept: HashMap<u64, u64>,
}

impl Groups<'_> {
    fn resolve(&mut self, collector: Collector) -> Result<(), Failure> {
        let keeps_gone = self.plan.pipeline.deletes.is_some();
        let mut candidates = collector.candidates(STANDING, keeps_gone)?;
        let mut group: Option<Group> = None;
        loop {
            let mut chunk: Vec<Candidate> = Vec::new();
            for candidate in candidates.by_ref().take(AT_ONCE) {
                chunk.push(candidate?);
            }
            if chunk.is_empty() {
                let counted = candidates.counted();
                (self.found.known_keys, self.found.vanished) = (counted.known, counted.without);
                self.found.gone = candidates.take_without();
                return Ok(());
            }
            let second = self.second_hashes(&chunk)?;
            for Candidate { hash, first, first_mark, later, later_mark } in chunk {
                if group.as_ref().is_none_or(|group| group.hash != hash) {
                    let mut next = Group { hash, ..Group::default() };
                    self.member(&mut next, (first, first_mark), &second);
                    group = Some(next);
                }
                if let Some(group) = &mut group {
                    self.member(group, (later, later_mark), &second);
                }
            }
        }
    }

    /// The second hash of the keys of all candidates that the pipeline wants: a record that is
    /// skipped or invalid anyway is no duplicate of anything.
    fn second_hashes(&self, chunk: &[Candidate]) -> Result<HashMap<u64, Second>, Failure> {
        let mut wanted: Vec<u64> = chunk
            .iter()
            .flat_map(|candidate| [candidate.first, candidate.later])
            .filter_map(|entry| entry.checked_sub(INPUT))
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut hashes = HashMap::with_capacity(wanted.len());
        let mut wanted = wanted.into_iter().peekable();
        let mut source = self.plan.source()?;
        while let (Some(next), Some(record)) = (wanted.peek().copied(), source.next()) {
            let record: Record = record?;
            if record.ordinal != next {
                continue;
            }
            wanted.next();
            if let Ok(shaped) = self.plan.preparer.shape(record, self.run)
                && let Some(key) = self.plan.preparer.second_key_hash(&shaped)
            {
                let content = match self.leaves_out {
                    LeavesOut::Unchanged => self.plan.preparer.content(&shaped),
                    LeavesOut::None | LeavesOut::Delivered => 0,
                };
                hashes.insert(next, Second { key, content });
            }
        }
        Ok(hashes)
    }

    fn member(&mut self, group: &mut Group, (entry, mark): (u64, u64), second: &HashMap<u64, Second>) {
        let Some(ordinal) = entry.checked_sub(INPUT) else {
            // In the order of the runs, so that the last one stays.
            match KnownKey::at(entry) {
                (run, KeyState::Held) => group.held = Some(run),
                (_, KeyState::Deleted) => (group.delivered, group.deleting) = (None, None),
                (run, KeyState::Deleting) => group.deleting = Some(run),
                (run, _) => (group.delivered, group.deleting) = (Some((run, mark)), None),
            }
            return;
        };
        let Some(Second { key: hash, content }) = second.get(&ordinal) else { return };
        if let Some(run) = group.held {
            self.found.held_before += 1;
            self.pairs.push((ordinal, Drop::HeldSince(run).code()));
            return;
        }
        if let Some(run) = group.deleting {
            // Whether it stands or not: what is sent makes it so, unless that could make a second one.
            self.found.delivered_before += 1;
            if !may_repeat(self.plan) {
                self.found.held_before += 1;
                self.pairs.push((ordinal, Drop::DeletingSince(run).code()));
                return;
            }
        } else if let Some((run, before)) = group.delivered {
            self.found.delivered_before += 1;
            let drop = match self.leaves_out {
                LeavesOut::Delivered if before == HALF_DONE => Some(Drop::BegunIn(run)),
                LeavesOut::Delivered => Some(Drop::DeliveredIn(run)),
                // 0: nobody noted what was sent.
                LeavesOut::Unchanged if before != 0 && before == *content => Some(Drop::UnchangedSince(run)),
                LeavesOut::Unchanged | LeavesOut::None => None,
            };
            if let Some(drop) = drop {
                self.pairs.push((ordinal, drop.code()));
                return;
            }
        }
        match (group.kept.get(hash).copied(), self.duplicates) {
            (None, _) | (_, Duplicates::Allow) => {
                group.kept.insert(*hash, ordinal);
            }
            (Some(first), Duplicates::Refuse) => self.pairs.push((ordinal, Drop::Duplicate(first).code())),
            (Some(first), Duplicates::KeepFirst) => self.pairs.push((ordinal, Drop::Other(first).code())),
            (Some(earlier), Duplicates::KeepLast) => {
                self.pairs.push((earlier, Drop::Other(ordinal).code()));
                group.kept.insert(*hash, ordinal);
            }
        }
    }
}

/// Whether sending a record that was delivered once more cannot make a second of it.
fn may_repeat(plan: &Plan) -> bool {
    let mut steps = plan.pipeline.steps();
    let looks_first = plan.pipeline.steps().next().is_some_and(|first| first.only_looks);
    looks_first || steps.all(|step| step.endpoint.idempotency == Idempotency::Natural)
}

/// Renders the first records on trial: a template that no record can satisfy is a mistake of the
/// template, and nothing is sent for it.
#[derive(Default)]
struct Trial {
    shaped: usize,
    failed: Vec<Diagnostic>,
}

impl Trial {
    fn look_at(&mut self, plan: &Plan, record: Record, run: &RunValues) {
        let Ok(mut shaped) = plan.preparer.shape(record, run) else { return };
        self.shaped += 1;
        if let Err(Refused::Render(error)) = plan.preparer.request(&mut shaped, run, 0)
            && error.rule == "missing-field"
        {
            self.failed.push(Diagnostic::from(*error).record(&shaped.identity.place));
        }
    }

    fn verdict(mut self) -> Result<(), Failure> {
        let all = self.shaped > 0 && self.failed.len() == self.shaped;
        let same = self.failed.windows(2).all(|pair| pair[0].message == pair[1].message);
        if !all || !same {
            return Ok(());
        }
        let first = self.failed.swap_remove(0);
        let note = format!("the same in the first {} records; nothing was sent", self.shaped);
        Err(Failure::new(Class::Config, first.note(note)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_survives_its_number() {
        for drop in [
            Drop::Duplicate(0),
            Drop::Other((1 << 40) - 1),
            Drop::HeldSince(3),
            Drop::DeliveredIn(4),
            Drop::UnchangedSince(5),
            Drop::BegunIn(6),
            Drop::DeletingSince(7),
        ] {
            assert_eq!(Drop::from_code(drop.code()), drop);
        }
    }

    #[test]
    fn the_running_digest_depends_on_order_and_on_every_record() {
        let of = |records: &[u64]| records.iter().fold(0, |digest, record| chain(digest, *record));
        assert_ne!(of(&[1, 2]), of(&[2, 1]));
        assert_ne!(of(&[1]), of(&[1, 1]));
        assert_ne!(of(&[0]), of(&[]));
    }
}
