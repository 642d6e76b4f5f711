//! The objects that the stand-in holds, in memory and, where asked, in a file that outlives it.
//!
//! A table holds one collection with all its parents: `/v2/conversations/{}/messages` is one
//! table, whatever the conversation. Objects are found by a hash of parents and id; with a file,
//! memory holds only where each one stands in it: a million objects of 180 bytes took 85 MiB, and
//! 230 to 280 MiB without a file.
//! Invariant: the file is only ever appended to, one line a change, and replaying its whole lines
//! gives the tables as they were. A torn last line, which a kill can leave, is cut off.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use serde_json::value::RawValue;
use xxhash_rust::xxh3::Xxh3Default;

use crate::model::{Class, Diagnostic, Failure};

use super::json::{Fields, plain, write_text};
use super::server::Bodies;

/// A hash of 128 bits, taken as equality: among 10^9 values a collision has odds of 10^-21.
type Hash = (u64, u64);

fn hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> Hash {
    let mut hasher = Xxh3Default::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let wide = hasher.digest128();
    (
        u64::try_from(wide >> 64).unwrap_or_default(),
        u64::try_from(wide & u128::from(u64::MAX)).unwrap_or_default(),
    )
}

/// All objects.
pub(super) struct Store {
    tables: Vec<Table>,
    /// Changes so far, of earlier starts too.
    writes: u64,
    bodies: Bodies,
    log: Option<Log>,
}

struct Table {
    shape: String,
    slots: Vec<Option<Slot>>,
    by_key: HashMap<Hash, usize>,
    /// For each unique field: who holds which value.
    unique: Vec<(String, HashMap<Hash, usize>)>,
    /// Which object an idempotency key made.
    tokens: HashMap<Hash, usize>,
}

struct Slot {
    parent: u64,
    kept: Kept,
}

enum Kept {
    Memory(Box<[u8]>),
    /// In the file: offset and length.
    File(u64, u32),
}

struct Log {
    file: File,
    len: u64,
    line: Vec<u8>,
}

/// Which object is meant: its table, the ids above it, and its own.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Address {
    pub(super) table: usize,
    pub(super) parents: Vec<String>,
    pub(super) id: String,
}

impl Address {
    fn hash(&self) -> Hash {
        hash(self.parents.iter().map(String::as_str).chain([&*self.id]))
    }
}

fn parent_hash(parents: &[String]) -> u64 {
    hash(parents.iter().map(String::as_str)).0
}

/// A change of one object. Made first and applied later, so that the journal can stand between.
#[derive(Debug)]
pub(super) enum Change {
    /// The object is now this.
    Put {
        at: Address,
        object: Vec<u8>,
        /// The idempotency key that made it.
        token: Option<String>,
    },
    /// It is gone.
    Remove(Address),
}

/// One line of the file.
#[derive(serde::Deserialize)]
struct Line<'a> {
    #[serde(rename = "in")]
    shape: Cow<'a, str>,
    of: Vec<String>,
    id: String,
    key: Option<String>,
    /// Last, so that its place follows from its length.
    #[serde(borrow)]
    object: &'a RawValue,
}

impl Store {
    /// An empty store, or what the file at `path` says.
    pub(super) fn open(
        tables: Vec<(String, Vec<String>)>,
        bodies: Bodies,
        path: Option<&Path>,
    ) -> Result<Self, Failure> {
        let tables = tables.into_iter().map(|(shape, unique)| Table::new(shape, unique)).collect();
        let mut store = Self { tables, writes: 0, bodies, log: None };
        if let Some(path) = path {
            store.replay(path)?;
        }
        Ok(store)
    }

    fn replay(&mut self, path: &Path) -> Result<(), Failure> {
        let fail = |cause: io::Error| Failure::io("keep the sandbox's objects in", path, &cause);
        let file = open_log(path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message =
                    format!("the sandbox's objects in {} are in use by another process", path.display());
                let help = "wait until it ends, or name another file";
                return Err(Failure::new(
                    Class::State,
                    Diagnostic::error("sandbox-store", message).help(help),
                ));
            }
            Err(TryLockError::Error(cause)) => return Err(fail(cause)),
        }
        let mut reader = BufReader::with_capacity(1 << 18, file.try_clone().map_err(fail)?);
        self.log = Some(Log { file, len: 0, line: Vec::new() });
        let (mut len, mut line, mut number) = (0u64, Vec::new(), 0u64);
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(fail)?;
            if line.pop_if(|last| *last == b'\n').is_none() {
                break;
            }
            number += 1;
            if self.replay_line(&line, len).is_none() {
                let message =
                    format!("the sandbox's objects in {} are damaged at line {number}", path.display());
                let help = format!("remove {} to begin with an empty sandbox", path.display());
                return Err(Failure::new(
                    Class::State,
                    Diagnostic::error("sandbox-store", message).help(help),
                ));
            }
            len += read as u64;
        }
        if let Some(log) = &mut self.log {
            log.file.set_len(len).map_err(fail)?;
            log.len = len;
        }
        Ok(())
    }

    fn replay_line(&mut self, line: &[u8], start: u64) -> Option<()> {
        let Line { shape, of: parents, id, key: token, object } = serde_json::from_slice(line).ok()?;
        let table = self.tables.iter().position(|table| table.shape == shape).unwrap_or_else(|| {
            self.tables.push(Table::new(shape.into_owned(), Vec::new()));
            self.tables.len() - 1
        });
        let at = Address { table, parents, id };
        let text = object.get();
        self.writes += 1;
        if text == "null" {
            self.forget(&at);
            return Some(());
        }
        let fields = Fields::parse(text.as_bytes()).ok()?;
        let offset = start + line.len().checked_sub(1 + text.len())? as u64;
        let kept = Kept::File(offset, u32::try_from(text.len()).ok()?);
        self.remember(&at, &fields, kept, token.as_deref());
        Some(())
    }

    /// A new id of the form of a UUID, made of the content and the number of changes so far: the
    /// same requests in the same order get the same ids.
    pub(super) fn new_id(&self, content: &[u8]) -> String {
        let hash = xxhash_rust::xxh3::xxh3_128_with_seed(content, self.writes);
        uuid::Uuid::new_v8(hash.to_be_bytes()).to_string()
    }

    /// The object at an address.
    pub(super) fn get(&self, at: &Address) -> Option<Cow<'_, [u8]>> {
        let table = self.tables.get(at.table)?;
        self.read(table.slots.get(*table.by_key.get(&at.hash())?)?.as_ref()?)
    }

    /// The objects of a collection under these parents, in the order in which they came.
    pub(super) fn list(&self, table: usize, parents: &[String]) -> impl Iterator<Item = Cow<'_, [u8]>> {
        let parent = parent_hash(parents);
        let slots = self.tables.get(table).into_iter().flat_map(|table| &table.slots).flatten();
        slots.filter(move |slot| slot.parent == parent).filter_map(|slot| self.read(slot))
    }

    /// How many objects there are.
    pub(super) fn len(&self) -> usize {
        self.tables.iter().map(|table| table.by_key.len()).sum()
    }

    /// The object that an idempotency key made.
    pub(super) fn by_token(&self, table: usize, token: &str) -> Option<Cow<'_, [u8]>> {
        let table = self.tables.get(table)?;
        self.read(table.slots.get(*table.tokens.get(&hash([token]))?)?.as_ref()?)
    }

    /// The first unique field whose value another object than the one at `at` holds, and that
    /// object.
    pub(super) fn taken(&self, at: &Address, fields: &Fields<'_>) -> Option<(&str, Cow<'_, [u8]>)> {
        let table = self.tables.get(at.table)?;
        let own = table.by_key.get(&at.hash());
        table.unique.iter().find_map(|(field, holders)| {
            let holder = holders.get(&unique_hash(fields.get(field))?)?;
            if own == Some(holder) {
                return None;
            }
            Some((field.as_str(), self.read(table.slots.get(*holder)?.as_ref()?)?))
        })
    }

    /// Makes a change. An error means that the file could not take it: the change then holds in
    /// memory alone.
    pub(super) fn apply(&mut self, change: Change) -> io::Result<()> {
        self.writes += 1;
        match change {
            Change::Put { at, object, token } => {
                let fields = Fields::parse(&object).unwrap_or_default();
                let stored = match self.bodies {
                    Bodies::Keep => Cow::Borrowed(&*object),
                    Bodies::Drop => Cow::Owned(Fields::default().to_bytes(&at.id)),
                };
                let (written, kept) = match self.append(&at, &stored, token.as_deref()) {
                    Ok(Some(kept)) => (Ok(()), kept),
                    Ok(None) => (Ok(()), Kept::Memory(stored.as_ref().into())),
                    Err(cause) => (Err(cause), Kept::Memory(stored.as_ref().into())),
                };
                self.remember(&at, &fields, kept, token.as_deref());
                written
            }
            Change::Remove(at) => {
                let written = self.append(&at, b"null", None).map(|_| ());
                self.forget(&at);
                written
            }
        }
    }

    fn append(&mut self, at: &Address, object: &[u8], token: Option<&str>) -> io::Result<Option<Kept>> {
        let (Some(log), Some(table)) = (&mut self.log, self.tables.get(at.table)) else { return Ok(None) };
        let line = &mut log.line;
        line.clear();
        line.extend_from_slice(b"{\"in\":");
        write_text(&table.shape, line);
        line.extend_from_slice(b",\"of\":");
        let _ = serde_json::to_writer(&mut *line, &at.parents);
        line.extend_from_slice(b",\"id\":");
        write_text(&at.id, line);
        if let Some(token) = token {
            line.extend_from_slice(b",\"key\":");
            write_text(token, line);
        }
        line.extend_from_slice(b",\"object\":");
        let offset = log.len + line.len() as u64;
        line.extend_from_slice(object);
        line.extend_from_slice(b"}\n");
        if let Err(cause) = log.file.write_all(line) {
            // Half a line would make the whole lines after it unreadable.
            let _ = log.file.set_len(log.len);
            return Err(cause);
        }
        log.len += line.len() as u64;
        Ok(u32::try_from(object.len()).ok().map(|len| Kept::File(offset, len)))
    }

    fn read<'a>(&'a self, slot: &'a Slot) -> Option<Cow<'a, [u8]>> {
        match (&slot.kept, &self.log) {
            (Kept::Memory(object), _) => Some(Cow::Borrowed(object)),
            (Kept::File(offset, len), Some(log)) => {
                let mut object = vec![0; usize::try_from(*len).ok()?];
                log.file.read_exact_at(&mut object, *offset).ok()?;
                Some(Cow::Owned(object))
            }
            (Kept::File(..), None) => None,
        }
    }

    fn remember(&mut self, at: &Address, fields: &Fields<'_>, kept: Kept, token: Option<&str>) {
        self.release(at);
        let Some(table) = self.tables.get_mut(at.table) else { return };
        let slot = Some(Slot { parent: parent_hash(&at.parents), kept });
        let next = table.slots.len();
        let index = *table.by_key.entry(at.hash()).or_insert(next);
        match table.slots.get_mut(index) {
            Some(old) => *old = slot,
            None => table.slots.push(slot),
        }
        for (field, holders) in &mut table.unique {
            if let Some(value) = unique_hash(fields.get(field)) {
                holders.insert(value, index);
            }
        }
        if let Some(token) = token {
            table.tokens.insert(hash([token]), index);
        }
    }

    fn forget(&mut self, at: &Address) {
        self.release(at);
        let Some(table) = self.tables.get_mut(at.table) else { return };
        let Some(index) = table.by_key.remove(&at.hash()) else { return };
        if let Some(slot) = table.slots.get_mut(index) {
            *slot = None;
        }
    }

    /// Gives up the unique values that an object holds. With `Bodies::Drop` they are not known any
    /// more and stay taken.
    fn release(&mut self, at: &Address) {
        let Some(table) = self.tables.get(at.table).filter(|table| !table.unique.is_empty()) else { return };
        let Some(index) = table.by_key.get(&at.hash()).copied() else { return };
        let Some(old) = table.slots.get(index).and_then(Option::as_ref).and_then(|slot| self.read(slot))
        else {
            return;
        };
        let old = old.into_owned();
        let fields = Fields::parse(&old).unwrap_or_default();
        let Some(table) = self.tables.get_mut(at.table) else { return };
        for (field, holders) in &mut table.unique {
            let Some(value) = unique_hash(fields.get(field)) else { continue };
            if holders.get(&value) == Some(&index) {
                holders.remove(&value);
            }
        }
    }
}

impl Table {
    fn new(shape: String, unique: Vec<String>) -> Self {
        let unique = unique.into_iter().map(|field| (field, HashMap::new())).collect();
        Self { shape, slots: Vec::new(), by_key: HashMap::new(), unique, tokens: HashMap::new() }
    }
}

/// The hash of a unique field's value, however it is escaped; null and missing are never taken.
fn unique_hash(raw: Option<&str>) -> Option<Hash> {
    let raw = raw.filter(|raw| *raw != "null")?;
    let kind = if raw.starts_with('"') { "text" } else { "other" };
    Some(hash([kind, &plain(raw)]))
}

fn open_log(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // Objects are records: not for other users of the machine.
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}
