//! Finds repeated keys over any number of records in flat memory.
//!
//! Separate from reading and from the rules for duplicates: it knows ordinals and 64-bit hashes
//! only. Hashes that are equal are candidates, which the caller confirms on the keys themselves.
//! Invariants: at most half a million entries are in memory at once, the rest lies sorted in files
//! of its own that no one else can read and that are gone when their owner is; nothing is lost and
//! no pair is named twice.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::Failure;

/// Entries in memory: 9 MiB.
const IN_MEMORY: usize = 384 * 1024;
/// Sorted files that are merged at once.
const FAN_IN: usize = 64;
/// Bytes of one entry in a file.
const ENTRY: usize = 24;

/// Sorted by the first, then by the second: (hash, ordinal, mark).
type Entry = (u64, u64, u64);

/// Takes the hash of every record's key.
#[derive(Debug)]
pub struct Collector {
    sorter: Sorter,
}

impl Collector {
    /// Nothing yet; what does not fit into memory goes to files in `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { sorter: Sorter::new(dir, IN_MEMORY) }
    }

    /// Notes a record's key, with a number that comes back beside it.
    pub fn add(&mut self, ordinal: u64, key_hash: u64, mark: u64) -> Result<(), Failure> {
        self.sorter.add((key_hash, ordinal, mark))
    }

    /// The records whose hashes are not unique.
    ///
    /// Groups of equal hashes are counted on the way: [`Candidates::counted`]; with `keeps_without` the hashes of
    /// those without a record of the input are kept, 8 bytes each.
    pub fn candidates(self, among: Among, keeps_without: bool) -> Result<Candidates, Failure> {
        let tally = Tally { among, counts: Counted::default(), before: None, is_in: false };
        Ok(Candidates {
            sorted: self.sorter.sorted()?,
            first: None,
            tally,
            without: keeps_without.then(Vec::new),
        })
    }

    /// The hashes of the groups that are counted as [`Counted::without`], ascending.
    pub fn without(self, among: Among) -> Result<(Vec<u64>, Counted), Failure> {
        let mut tally = Tally { among, counts: Counted::default(), before: None, is_in: false };
        let (mut found, mut group) = (Vec::new(), None);
        for entry in self.sorter.sorted()? {
            let (hash, ordinal, _) = entry?;
            if group != Some(hash) {
                found.extend(group.filter(|_| tally.end_group()));
                group = Some(hash);
            }
            tally.see(ordinal);
        }
        found.extend(group.filter(|_| tally.end_group()));
        Ok((found, tally.counts))
    }
}

/// Which groups of equal hashes are counted.
#[derive(Debug, Clone, Copy)]
pub struct Among {
    /// Numbers from here on are records of the input, those below are of before.
    pub from: u64,
    /// Whether a group is one whose last number of before is this.
    pub counts: fn(u64) -> bool,
}

/// How many groups there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// With a last number of before that counts.
    pub known: u64,
    /// Those of them in which there is no record of the input.
    pub without: u64,
}

/// Counts groups while their numbers come by, ascending.
#[derive(Debug)]
struct Tally {
    among: Among,
    counts: Counted,
    /// The last number of before in this group.
    before: Option<u64>,
    /// Whether it has a record of the input.
    is_in: bool,
}

impl Tally {
    const fn see(&mut self, ordinal: u64) {
        if ordinal < self.among.from {
            self.before = Some(ordinal);
        } else {
            self.is_in = true;
        }
    }

    /// Whether the group that ends here counts and has no record of the input.
    fn end_group(&mut self) -> bool {
        let is_in = std::mem::take(&mut self.is_in);
        let is_known = self.before.take().is_some_and(self.among.counts);
        self.counts.known += u64::from(is_known);
        self.counts.without += u64::from(is_known && !is_in);
        is_known && !is_in
    }
}

/// Two records whose keys have the same hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The hash.
    pub hash: u64,
    /// The first record with this hash.
    pub first: u64,
    /// Its mark.
    pub first_mark: u64,
    /// A later one.
    pub later: u64,
    /// Its mark.
    pub later_mark: u64,
}

/// The candidates, ascending by hash, then by the later record.
///
/// A group of records with the same hash comes as pairs of the group's first record with each later
/// one, so that memory stays flat when a million records share a key. Where the keys of a pair
/// differ (two keys with one hash), the later record may still repeat another later one: the caller
/// compares the members of that hash with each other.
#[derive(Debug)]
pub struct Candidates {
    sorted: Sorted,
    /// The first entry of the group that is being read.
    first: Option<Entry>,
    tally: Tally,
    /// Hashes of the groups that are counted as [`Counted::without`], where they are kept.
    without: Option<Vec<u64>>,
}

impl Candidates {
    /// The groups so far; all of them once there is no next candidate.
    #[must_use]
    pub const fn counted(&self) -> Counted {
        self.tally.counts
    }

    /// The hashes of those that are counted as [`Counted::without`], ascending.
    #[must_use]
    pub fn take_without(&mut self) -> Vec<u64> {
        self.without.take().unwrap_or_default()
    }

    fn end_group(&mut self) {
        if self.tally.end_group()
            && let (Some((hash, ..)), Some(without)) = (self.first, &mut self.without)
        {
            without.push(hash);
        }
    }
}

impl Iterator for Candidates {
    type Item = Result<Candidate, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(entry) = self.sorted.next() else {
                self.end_group();
                self.first = None;
                return None;
            };
            let (hash, ordinal, mark) = match entry {
                Ok(entry) => entry,
                Err(failure) => return Some(Err(failure)),
            };
            if self.first.is_none_or(|(known, ..)| known != hash) {
                self.end_group();
            }
            self.tally.see(ordinal);
            match self.first {
                // The same record again is not a repetition.
                Some((known, first, _)) if known == hash && first == ordinal => {}
                Some((known, first, first_mark)) if known == hash => {
                    return Some(Ok(Candidate { hash, first, first_mark, later: ordinal, later_mark: mark }));
                }
                _ => self.first = Some((hash, ordinal, mark)),
            }
        }
    }
}

/// Sorts any number of pairs.
#[derive(Debug)]
struct Sorter {
    dir: PathBuf,
    room: usize,
    entries: Vec<Entry>,
    runs: Vec<Run>,
}

impl Sorter {
    fn new(dir: &Path, room: usize) -> Self {
        Self { dir: dir.to_owned(), room: room.max(1), entries: Vec::new(), runs: Vec::new() }
    }

    fn add(&mut self, pair: Entry) -> Result<(), Failure> {
        if self.entries.len() >= self.room {
            self.spill()?;
        }
        if self.entries.len() == self.entries.capacity() {
            // Doubling beyond the room would reserve what is never used.
            let more = self.entries.len().clamp(1024, self.room.max(1024));
            self.entries.reserve_exact(more);
        }
        self.entries.push(pair);
        Ok(())
    }

    fn spill(&mut self) -> Result<(), Failure> {
        self.entries.sort_unstable();
        let entries = std::mem::take(&mut self.entries);
        let run = Run::write(&self.dir, entries.iter().copied().map(Ok))?;
        self.entries = entries;
        self.entries.clear();
        self.runs.push(run);
        Ok(())
    }

    /// Merges the first runs into one behind the others, so that few files are open at once and
    /// runs of like length meet.
    fn merge_some(&mut self) -> Result<(), Failure> {
        let some: Vec<Run> = self.runs.drain(..FAN_IN.min(self.runs.len())).collect();
        let merged = Run::write(&self.dir, Merge::of(some)?)?;
        self.runs.push(merged);
        Ok(())
    }

    fn sorted(mut self) -> Result<Sorted, Failure> {
        if self.runs.is_empty() {
            self.entries.sort_unstable();
            return Ok(Sorted::Memory(self.entries.into_iter()));
        }
        if !self.entries.is_empty() {
            self.spill()?;
        }
        self.entries = Vec::new();
        while self.runs.len() > FAN_IN {
            self.merge_some()?;
        }
        Ok(Sorted::Files(Merge::of(self.runs)?))
    }
}

/// All pairs in order.
#[derive(Debug)]
enum Sorted {
    Memory(std::vec::IntoIter<Entry>),
    Files(Merge),
}

impl Iterator for Sorted {
    type Item = Result<Entry, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Memory(pairs) => pairs.next().map(Ok),
            Self::Files(merge) => merge.next(),
        }
    }
}

/// Several runs as one.
#[derive(Debug)]
struct Merge {
    runs: Vec<Reading>,
    /// The next pair of each run that has one, with the run's number.
    heads: BinaryHeap<Reverse<(Entry, usize)>>,
}

impl Merge {
    fn of(runs: Vec<Run>) -> Result<Self, Failure> {
        let mut merge = Self { runs: Vec::with_capacity(runs.len()), heads: BinaryHeap::new() };
        for (number, run) in runs.into_iter().enumerate() {
            let mut reading = run.read()?;
            if let Some(pair) = reading.next()? {
                merge.heads.push(Reverse((pair, number)));
            }
            merge.runs.push(reading);
        }
        Ok(merge)
    }
}

impl Iterator for Merge {
    type Item = Result<Entry, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((pair, number)) = self.heads.pop()?;
        match self.runs.get_mut(number).map(Reading::next) {
            Some(Ok(Some(following))) => self.heads.push(Reverse((following, number))),
            Some(Err(failure)) => {
                self.heads.clear();
                return Some(Err(failure));
            }
            Some(Ok(None)) | None => {}
        }
        Some(Ok(pair))
    }
}

/// A file of sorted pairs, removed when it is dropped. It is open only while it is written or read:
/// there can be thousands.
#[derive(Debug)]
struct Run {
    path: PathBuf,
    entries: u64,
}

impl Drop for Run {
    fn drop(&mut self) {
        // Nobody is left to tell; what stays behind holds hashes and positions only.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Run {
    fn write(dir: &Path, entries_in: impl Iterator<Item = Result<Entry, Failure>>) -> Result<Self, Failure> {
        let (file, path) =
            create(dir).map_err(|cause| Failure::io("write a temporary file in", dir, &cause))?;
        // Made at once, so that the file goes away when writing fails.
        let mut run = Self { path, entries: 0 };
        let mut out = BufWriter::with_capacity(64 * 1024, file);
        let mut entries = 0;
        let failed = |cause: io::Error| Failure::io("write", &run.path, &cause);
        for entry in entries_in {
            let (hash, ordinal, mark) = entry?;
            for number in [hash, ordinal, mark] {
                out.write_all(&number.to_le_bytes()).map_err(failed)?;
            }
            entries += 1;
        }
        out.flush().map_err(failed)?;
        run.entries = entries;
        Ok(run)
    }

    fn read(self) -> Result<Reading, Failure> {
        let failed = |cause: io::Error| Failure::io("read", &self.path, &cause);
        let file = File::open(&self.path).map_err(failed)?;
        let left = self.entries;
        Ok(Reading { input: BufReader::with_capacity(64 * 1024, file), left, run: self })
    }
}

/// A run that is being read.
#[derive(Debug)]
struct Reading {
    input: BufReader<File>,
    left: u64,
    run: Run,
}

impl Reading {
    fn next(&mut self) -> Result<Option<Entry>, Failure> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let mut number = || {
            let mut bytes = [0; ENTRY / 3];
            // A file that ends early was cut by someone else: an error, never a shorter list.
            self.input.read_exact(&mut bytes).map(|()| u64::from_le_bytes(bytes))
        };
        let entry = number().and_then(|hash| Ok((hash, number()?, number()?)));
        entry.map(Some).map_err(|cause| Failure::io("read", &self.run.path, &cause))
    }
}

/// A new file that only this user can read.
fn create(dir: &Path) -> io::Result<(File, PathBuf)> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("sort-{}-{number}.tmp", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            // Left behind by a process of the same number that was killed.
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
            opened => return opened.map(|file| (file, path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

    const ALL: Among = Among { from: 0, counts: |_| true };

    fn collector(dir: &Path, room: usize) -> Collector {
        Collector { sorter: Sorter::new(dir, room) }
    }

    fn files(dir: &Path) -> usize {
        dir.read_dir().unwrap().count()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_pairs_are_those_of_a_map(hashes in prop::collection::vec(0u64..200, 0..800), room in 1usize..300) {
            let dir = tempfile::tempdir().unwrap();
            let mut collector = collector(dir.path(), room);
            let mut first: HashMap<u64, u64> = HashMap::new();
            let mut expected = BTreeSet::new();
            for (ordinal, hash) in (0u64..).zip(&hashes) {
                collector.add(ordinal, *hash, 0).unwrap();
                match first.get(hash) {
                    Some(first) => { expected.insert((*hash, ordinal, *first)); }
                    None => { first.insert(*hash, ordinal); }
                }
            }
            let found: Vec<_> = collector
                .candidates(ALL, false)
                .unwrap()
                .map(|found| found.map(|found| (found.hash, found.later, found.first)).unwrap())
                .collect();
            prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(files(dir.path()), 0);
        }
    }

    #[test]
    fn more_runs_than_are_merged_at_once_come_out_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut collector = collector(dir.path(), 1);
        // 200 files, each hash twice, from the largest hash down.
        for ordinal in 0..200u64 {
            collector.add(ordinal, 1000 - ordinal / 2, ordinal).unwrap();
        }
        let found: Vec<_> = collector.candidates(ALL, false).unwrap().map(Result::unwrap).collect();
        let expected: Vec<_> = (0..100u64)
            .rev()
            .map(|n| Candidate {
                hash: 1000 - n,
                first: 2 * n,
                first_mark: 2 * n,
                later: 2 * n + 1,
                later_mark: 2 * n + 1,
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn files_are_private_while_they_exist() {
        let dir = tempfile::tempdir().unwrap();
        let mut collector = collector(dir.path(), 2);
        for ordinal in 0..5 {
            collector.add(ordinal, 7, 0).unwrap();
        }
        assert_eq!(files(dir.path()), 2);
        for entry in dir.path().read_dir().unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        drop(collector);
        assert_eq!(files(dir.path()), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_and_a_file_that_was_cut_are_failures() {
        let dir = tempfile::tempdir().unwrap();
        let mut lost = collector(&dir.path().join("gone"), 1);
        lost.add(0, 0, 0).unwrap();
        assert_eq!(lost.add(1, 0, 0).unwrap_err().class, crate::model::Class::Io);

        let mut cut = collector(dir.path(), 2);
        for ordinal in 0..4 {
            cut.add(ordinal, 7, 0).unwrap();
        }
        for entry in dir.path().read_dir().unwrap() {
            OpenOptions::new().write(true).open(entry.unwrap().path()).unwrap().set_len(30).unwrap();
        }
        let found: Vec<_> = cut.candidates(ALL, false).into_iter().flatten().collect();
        assert!(found.iter().any(Result::is_err), "{found:?}");
    }

    #[test]
    fn groups_without_a_record_of_the_input_are_counted() {
        for room in [1, 100] {
            let dir = tempfile::tempdir().unwrap();
            // 1, 3, 4 and 5 are known from before, 1 and 2 come now.
            let known = |room| {
                let mut collector = collector(dir.path(), room);
                for (ordinal, hash) in
                    [(0, 1), (1, 3), (2, 3), (4, 4), (6, 5), (7, 5), (100, 1), (101, 2), (102, 2)]
                {
                    collector.add(ordinal, hash, 0).unwrap();
                }
                collector
            };
            let collector = known(room);
            // An odd number of before does not count.
            let among = Among { from: 100, counts: |ordinal| ordinal % 2 == 0 };
            let mut candidates = collector.candidates(among, true).unwrap();
            assert_eq!(candidates.by_ref().count(), 4);
            assert_eq!(candidates.counted(), Counted { known: 3, without: 2 }, "room {room}");
            assert!(candidates.next().is_none());
            assert_eq!(candidates.counted(), Counted { known: 3, without: 2 });
            assert_eq!(known(room).without(among).unwrap().0, [3, 4]);
        }
    }

    #[test]
    fn nothing_in_gives_nothing_out() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Collector::new(dir.path()).candidates(ALL, false).unwrap().count(), 0);
    }
}
