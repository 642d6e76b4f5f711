//! The disk as a loss of power would leave it, made from the log of all calls.
//!
//! What was synced before the cut is there. Of what was not, a choice is made: all, none, the
//! first so many, any, or any with pages torn at 512 bytes. Names count by themselves: a file that
//! was made, renamed or removed is so for certain only once its folder was synced. That is harsher
//! than the file systems in use, which keep changes of names in order. Shared memory of the
//! database (`-shm`) does not outlive the machine and is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::shim::{Call, Kind};

/// What became of writes that were not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost {
    Nothing,
    All,
    /// All after the first so many, in thousandths of them.
    Behind(usize),
    Some,
    Torn,
}

impl Lost {
    pub fn drawn(chance: &mut fastrand::Rng) -> Self {
        match chance.u8(0..8) {
            0 => Self::Nothing,
            1 => Self::All,
            2 | 3 => Self::Behind(chance.usize(0..=1000)),
            4 | 5 => Self::Some,
            _ => Self::Torn,
        }
    }
}

#[derive(Debug)]
enum Change<'c> {
    Write { file: usize, at: usize, bytes: &'c [u8] },
    Length { file: usize, length: usize },
    Make { path: &'c str, file: usize },
    Folder { path: &'c str },
    Rename { from: &'c str, to: String },
    Remove { path: &'c str },
}

struct Noted<'c> {
    change: Change<'c>,
    synced: bool,
}

/// All changes up to a cut, and which of them are certain.
#[derive(Default)]
struct Disk<'c> {
    changes: Vec<Noted<'c>>,
    /// Files by name, as the process saw them.
    names: BTreeMap<String, usize>,
    folders: BTreeSet<&'c str>,
    files: usize,
    /// Syncs under way: how many changes there were when they began.
    begun: BTreeMap<(u32, u64), (&'c str, usize)>,
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

impl<'c> Disk<'c> {
    fn change(&mut self, change: Change<'c>) {
        self.changes.push(Noted { change, synced: false });
    }

    fn take(&mut self, call: &'c Call) {
        if call.path.ends_with("-shm") || call.result < 0 {
            return;
        }
        let path = call.path.as_str();
        let known = self.names.get(path).copied();
        match call.kind {
            Kind::Open if call.made => {
                let file = self.files;
                self.files += 1;
                self.names.insert(path.to_owned(), file);
                self.change(Change::Make { path, file });
            }
            Kind::Open if call.cut => {
                if let Some(file) = known {
                    self.change(Change::Length { file, length: 0 });
                }
            }
            Kind::Write => {
                let file = known.unwrap_or_else(|| panic!("a write to {path}, which nobody made"));
                let at = usize::try_from(call.offset).expect("an offset");
                self.change(Change::Write { file, at, bytes: &call.data });
            }
            Kind::Truncate => {
                let file = known.unwrap_or_else(|| panic!("{path} is cut, and nobody made it"));
                let length = usize::try_from(call.offset).expect("a length");
                self.change(Change::Length { file, length });
            }
            Kind::Rename => {
                let to = String::from_utf8_lossy(&call.data).into_owned();
                if let Some(file) = self.names.remove(path) {
                    self.names.insert(to.clone(), file);
                }
                self.change(Change::Rename { from: path, to });
            }
            Kind::Unlink => {
                self.names.remove(path);
                self.change(Change::Remove { path });
            }
            Kind::Mkdir => {
                self.folders.insert(path);
                self.change(Change::Folder { path });
            }
            Kind::Sync => {
                self.begun.insert((call.process, call.number), (path, self.changes.len()));
            }
            Kind::Synced => {
                if let Some((path, upto)) = self.begun.remove(&(call.process, call.number)) {
                    self.sync(path, upto);
                }
            }
            _ => {}
        }
    }

    fn sync(&mut self, path: &str, upto: usize) {
        let synced = self.names.get(path).copied();
        let is_folder = self.folders.contains(path);
        for noted in &mut self.changes[..upto] {
            noted.synced |= match &noted.change {
                Change::Write { file, .. } | Change::Length { file, .. } => Some(*file) == synced,
                Change::Make { path: name, .. }
                | Change::Folder { path: name }
                | Change::Remove { path: name } => is_folder && folder_of(name) == path,
                Change::Rename { to, .. } => is_folder && folder_of(to) == path,
            };
        }
    }
}

/// Makes the watched folder at `top` as it would be had power been lost behind `calls`.
pub fn make(calls: &[Call], lost: Lost, top: &Path, chance: &mut fastrand::Rng) {
    let mut disk = Disk::default();
    for call in calls {
        disk.take(call);
    }
    let unsynced = disk.changes.iter().filter(|noted| !noted.synced).count();
    let mut left = match lost {
        Lost::Behind(thousandths) => unsynced * thousandths / 1000,
        _ => 0,
    };
    let mut contents: Vec<Vec<u8>> = vec![Vec::new(); disk.files];
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let mut folders: BTreeSet<&str> = BTreeSet::new();
    for noted in &disk.changes {
        let kept = noted.synced
            || match lost {
                Lost::Nothing => true,
                Lost::All => false,
                Lost::Behind(_) => {
                    let kept = left > 0;
                    left = left.saturating_sub(1);
                    kept
                }
                Lost::Some | Lost::Torn => chance.bool(),
            };
        if !kept {
            continue;
        }
        // The watched folder itself is made by the name of nothing.
        let is_there = |path: &str| folder_of(path).is_empty() || folders.contains(folder_of(path));
        match &noted.change {
            Change::Write { file, at, bytes } => {
                let torn = lost == Lost::Torn && !noted.synced;
                write(&mut contents[*file], *at, bytes, torn.then_some(&mut *chance));
            }
            Change::Length { file, length } => contents[*file].resize(*length, 0),
            Change::Make { path, file } if is_there(path) => {
                names.insert(path, *file);
            }
            Change::Folder { path } if is_there(path) => {
                folders.insert(path);
            }
            Change::Rename { from, to } => {
                if let Some(file) = names.remove(from) {
                    names.insert(to, file);
                }
            }
            Change::Remove { path } => {
                names.remove(path);
            }
            Change::Make { .. } | Change::Folder { .. } => {}
        }
    }
    match std::fs::remove_dir_all(top) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
    for folder in folders {
        std::fs::create_dir_all(top.join(folder)).expect("a folder");
    }
    for (path, file) in names {
        std::fs::write(top.join(path), &contents[file]).expect("a file");
    }
}

/// Writes bytes; torn: any of the blocks of 512 bytes that they lie in.
fn write(content: &mut Vec<u8>, at: usize, bytes: &[u8], mut torn: Option<&mut fastrand::Rng>) {
    const BLOCK: usize = 512;
    let end = at + bytes.len();
    let mut from = at;
    while from < end {
        let upto = end.min((from / BLOCK + 1) * BLOCK);
        if torn.as_mut().is_none_or(|chance| chance.bool()) {
            if content.len() < upto {
                content.resize(upto, 0);
            }
            content[from..upto].copy_from_slice(&bytes[from - at..upto - at]);
        }
        from = upto;
    }
}
