//! A lookup table: rows that are found by key at the speed of a hash, packed to about the size of
//! the data that they were read from.
//!
//! Invariant: every key stands in one row only, and a cell comes out as it went in, digits and all.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use super::{Map, Number, Str, Value};

/// The tables of a pipeline, by name.
pub type Tables = Vec<(Str, Arc<Table>)>;

/// Rows by key. The key is the first column.
///
/// The cells of a row stand one after the other in a chunk: a byte for the kind, and for numbers
/// and text their length and bytes, for lists and objects how many cells follow. Chunks, so that a
/// table that grows is never copied, which would take its room twice.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Str>,
    /// The same, to find one.
    names: HashSet<Str>,
    chunks: Vec<Vec<u8>>,
    /// In which chunk each row stands, and where it begins there.
    rows: Vec<(u32, u32)>,
    /// Open addressing: the number of a row from 1, or 0 where there is none. A power of two long.
    slots: Vec<u32>,
    // Keyed, so that nobody who writes the data can make all keys fall together.
    hasher: RandomState,
}

const MISSING: u8 = 0;
const ABSENT: u8 = 1;
const NULL: u8 = 2;
const FALSE: u8 = 3;
const TRUE: u8 = 4;
const NUMBER: u8 = 5;
const TEXT: u8 = 6;
const LIST: u8 = 7;
const OBJECT: u8 = 8;

/// Bytes of a chunk, but for one row that is larger.
const CHUNK: usize = 1 << 20;

/// Why a row is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTaken {
    /// The row with this number, from 0, has the same key.
    Repeated(usize),
    /// The row has no key.
    NoKey,
    /// The key is neither text nor a number.
    BadKey,
    /// The rows have more names together than are allowed.
    TooManyColumns,
}

impl Table {
    /// An empty table with this key column.
    #[must_use]
    pub fn new(key: &str) -> Self {
        Self {
            columns: vec![key.into()],
            names: HashSet::from([key.into()]),
            chunks: Vec::new(),
            rows: Vec::new(),
            slots: vec![0; 16],
            hasher: RandomState::new(),
        }
    }

    /// Takes a row with its key; `keeps` says which of its other columns are kept, of which there are at most
    /// `most` over all rows.
    pub fn push(&mut self, row: &Map, keeps: impl Fn(&str) -> bool, most: usize) -> Result<(), NotTaken> {
        let key_column = self.columns.first().cloned().unwrap_or_default();
        let key = match row.get(&key_column) {
            None | Some(Value::Absent | Value::Null) => return Err(NotTaken::NoKey),
            Some(Value::String(text)) if text.is_empty() => return Err(NotTaken::NoKey),
            Some(Value::String(text)) => Str::clone(text),
            Some(Value::Number(number)) => number.as_str().into(),
            Some(_) => return Err(NotTaken::BadKey),
        };
        let slot = match self.slot(&key) {
            Ok(row) => return Err(NotTaken::Repeated(row)),
            Err(slot) => slot,
        };
        for name in row.names().filter(|name| keeps(name)) {
            if !self.names.contains(name) {
                if self.columns.len() > most {
                    return Err(NotTaken::TooManyColumns);
                }
                self.names.insert(name.into());
                self.columns.push(name.into());
            }
        }
        let mut cells = Vec::new();
        for (at, name) in self.columns.iter().enumerate() {
            let value = row.get(name).filter(|_| at == 0 || keeps(name));
            write_cell(value, &mut cells);
        }
        self.keep(&cells);
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        }
        if self.rows.len() * 4 > self.slots.len() * 3 {
            self.grow();
        }
        Ok(())
    }

    /// Adds the cells of the next row.
    fn keep(&mut self, cells: &[u8]) {
        if self.chunks.last().is_none_or(|chunk| chunk.len() + cells.len() > chunk.capacity()) {
            self.chunks.push(Vec::with_capacity(CHUNK.max(cells.len())));
        }
        let chunk = u32::try_from(self.chunks.len() - 1).unwrap_or(u32::MAX);
        if let Some(last) = self.chunks.last_mut() {
            self.rows.push((chunk, u32::try_from(last.len()).unwrap_or(u32::MAX)));
            last.extend_from_slice(cells);
        }
    }

    /// The row with this key.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<usize> {
        self.slot(key).ok()
    }

    /// The names of the columns, the key first.
    #[must_use]
    pub fn columns(&self) -> &[Str] {
        &self.columns
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes that it takes, about.
    #[must_use]
    pub fn size(&self) -> usize {
        let cells: usize = self.chunks.iter().map(Vec::capacity).sum();
        cells + self.rows.len() * size_of::<(u32, u32)>() + self.slots.len() * size_of::<u32>()
    }

    /// One cell; `None` where the row has no such column.
    #[must_use]
    pub fn cell(&self, row: usize, column: &str) -> Option<Value> {
        let at = self.columns.iter().position(|name| &**name == column)?;
        self.read(row).nth(at)?
    }

    /// A whole row.
    #[must_use]
    pub fn row(&self, row: usize) -> Map {
        let cells = self.columns.iter().zip(self.read(row));
        cells.filter_map(|(name, value)| Some((Str::clone(name), value?))).collect()
    }

    /// All rows in the order of their keys, each as bytes that are the same for the same cells: whoever takes a
    /// digest of them gets another one only where a row can be told from what it was.
    pub fn each_in_order(&self, mut see: impl FnMut(&[u8])) {
        let mut rows: Vec<usize> = (0..self.rows.len()).collect();
        rows.sort_unstable_by(|a, b| self.key(*a).cmp(self.key(*b)));
        let mut columns: Vec<usize> = (0..self.columns.len()).collect();
        columns.sort_unstable_by(|a, b| self.columns.get(*a).cmp(&self.columns.get(*b)));
        let mut bytes = Vec::new();
        for row in rows {
            bytes.clear();
            let cells: Vec<&[u8]> = self.cells(row).collect();
            for at in &columns {
                let (Some(name), Some(cell)) = (self.columns.get(*at), cells.get(*at)) else { continue };
                // Whether other rows have the column says nothing of this one.
                if *cell != [MISSING] {
                    put_length(name.len(), &mut bytes);
                    bytes.extend_from_slice(name.as_bytes());
                    bytes.extend_from_slice(cell);
                }
            }
            see(&bytes);
        }
    }

    /// The bytes of each cell of a row.
    fn cells(&self, row: usize) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes(row);
        std::iter::from_fn(move || {
            let whole = rest;
            (!rest.is_empty()).then(|| skip_cell(&mut rest))?;
            whole.get(..whole.len() - rest.len())
        })
    }

    /// The cells of a row as far as it has any.
    fn read(&self, row: usize) -> impl Iterator<Item = Option<Value>> {
        let mut rest = self.bytes(row);
        std::iter::from_fn(move || (!rest.is_empty()).then(|| read_cell(&mut rest)))
    }

    /// The bytes of a row.
    fn bytes(&self, row: usize) -> &[u8] {
        let Some((chunk, start)) = self.rows.get(row).copied() else { return &[] };
        let next = self.rows.get(row + 1).filter(|(next, _)| *next == chunk);
        let bytes = self.chunks.get(chunk as usize).map(Vec::as_slice).unwrap_or_default();
        let end = next.map_or(bytes.len(), |(_, end)| *end as usize);
        bytes.get(start as usize..end).unwrap_or_default()
    }

    /// The bytes of a row's key.
    fn key(&self, row: usize) -> &[u8] {
        // Behind the byte that says whether it is text or a number.
        let mut rest = self.bytes(row).get(1..).unwrap_or_default();
        let length = take_length(&mut rest);
        rest.get(..length).unwrap_or_default()
    }

    /// The row with this key, or the slot where it would stand.
    fn slot(&self, key: &str) -> Result<usize, usize> {
        let mask = self.slots.len() - 1;
        let mut at = usize::try_from(self.hasher.hash_one(key.as_bytes()) & mask as u64).unwrap_or(0);
        loop {
            match self.slots.get(at).copied().unwrap_or(0) {
                0 => return Err(at),
                number => {
                    let row = number as usize - 1;
                    if self.key(row) == key.as_bytes() {
                        return Ok(row);
                    }
                }
            }
            at = (at + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let mask = self.slots.len() * 2 - 1;
        let mut slots = vec![0_u32; mask + 1];
        for row in 0..self.rows.len() {
            let hash = self.hasher.hash_one(self.key(row));
            let mut at = usize::try_from(hash & mask as u64).unwrap_or(0);
            while slots.get(at).is_some_and(|slot| *slot != 0) {
                at = (at + 1) & mask;
            }
            if let Some(slot) = slots.get_mut(at) {
                *slot = u32::try_from(row + 1).unwrap_or(u32::MAX);
            }
        }
        self.slots = slots;
    }
}

fn read_cell(rest: &mut &[u8]) -> Option<Value> {
    let (kind, tail) = rest.split_first()?;
    *rest = tail;
    Some(match *kind {
        MISSING => return None,
        ABSENT => Value::Absent,
        FALSE => Value::Bool(false),
        TRUE => Value::Bool(true),
        NUMBER => Number::parse(take_text(rest)).map_or(Value::Null, Value::Number),
        TEXT => Value::text(take_text(rest)),
        LIST => {
            let length = take_length(rest);
            Value::Array((0..length).filter_map(|_| read_cell(rest)).collect())
        }
        OBJECT => {
            let length = take_length(rest);
            Value::Object(
                (0..length).filter_map(|_| Some((take_text(rest).into(), read_cell(rest)?))).collect(),
            )
        }
        _ => Value::Null,
    })
}

fn skip_cell(rest: &mut &[u8]) {
    let Some((kind, tail)) = rest.split_first() else { return };
    *rest = tail;
    match *kind {
        NUMBER | TEXT => skip_text(rest),
        LIST => (0..take_length(rest)).for_each(|_| skip_cell(rest)),
        OBJECT => (0..take_length(rest)).for_each(|_| {
            skip_text(rest);
            skip_cell(rest);
        }),
        _ => {}
    }
}

fn skip_text(rest: &mut &[u8]) {
    let length = take_length(rest);
    *rest = rest.get(length..).unwrap_or_default();
}

fn take_text<'b>(rest: &mut &'b [u8]) -> &'b str {
    let length = take_length(rest);
    let (text, tail) = rest.split_at_checked(length).unwrap_or_default();
    *rest = tail;
    std::str::from_utf8(text).unwrap_or_default()
}

/// Its depth is that of the value, which its source has bounded.
fn write_cell(value: Option<&Value>, cells: &mut Vec<u8>) {
    let mut text = |kind: u8, text: &str| {
        cells.push(kind);
        put_length(text.len(), cells);
        cells.extend_from_slice(text.as_bytes());
    };
    match value {
        None => cells.push(MISSING),
        Some(Value::Absent) => cells.push(ABSENT),
        Some(Value::Null) => cells.push(NULL),
        Some(Value::Bool(value)) => cells.push(if *value { TRUE } else { FALSE }),
        Some(Value::Number(number)) => text(NUMBER, number.as_str()),
        Some(Value::String(value)) => text(TEXT, value),
        Some(Value::Array(values)) => {
            cells.push(LIST);
            put_length(values.len(), cells);
            for value in values {
                write_cell(Some(value), cells);
            }
        }
        Some(Value::Object(fields)) => {
            cells.push(OBJECT);
            put_length(fields.len(), cells);
            for (name, value) in fields {
                put_length(name.len(), cells);
                cells.extend_from_slice(name.as_bytes());
                write_cell(Some(value), cells);
            }
        }
    }
}

/// Seven bits a byte, the lowest first.
fn put_length(mut length: usize, cells: &mut Vec<u8>) {
    loop {
        let low = u8::try_from(length & 0x7f).unwrap_or(0);
        length >>= 7;
        if length == 0 {
            cells.push(low);
            return;
        }
        cells.push(low | 0x80);
    }
}

fn take_length(rest: &mut &[u8]) -> usize {
    let mut length = 0;
    let mut shift = 0;
    while let Some((byte, tail)) = rest.split_first() {
        *rest = tail;
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(entries: &[(&str, Value)]) -> Map {
        entries.iter().map(|(name, value)| (Str::from(*name), value.clone())).collect()
    }

    fn number(text: &str) -> Value {
        Value::Number(Number::parse(text).unwrap())
    }

    #[test]
    fn every_cell_comes_out_as_it_went_in() {
        let mut table = Table::new("id");
        let long = "x".repeat(300);
        let first = row(&[
            ("name", Value::text(long.as_str())),
            ("id", number("9007199254740993001")),
            ("price", number("1.10")),
            ("tags", Value::Array(vec![Value::text("a")])),
            ("empty", Value::Absent),
        ]);
        table.push(&first, |_| true, 100).unwrap();
        let second = row(&[("id", Value::text("b")), ("late", Value::Bool(true)), ("name", Value::Null)]);
        table.push(&second, |_| true, 100).unwrap();
        let found = table.find("9007199254740993001").unwrap();
        assert_eq!(table.cell(found, "price"), Some(number("1.10")));
        assert_eq!(table.cell(found, "name"), Some(Value::text(long.as_str())));
        assert_eq!(table.cell(found, "tags"), Some(Value::Array(vec![Value::text("a")])));
        assert_eq!(table.cell(found, "empty"), Some(Value::Absent));
        // Columns that came later, or that there are none of.
        assert_eq!(table.cell(found, "late"), None);
        assert_eq!(table.cell(found, "nope"), None);
        let found = table.find("b").unwrap();
        assert_eq!(
            table.row(found),
            row(&[("id", Value::text("b")), ("name", Value::Null), ("late", Value::Bool(true))])
        );
        assert_eq!(table.find("c"), None);
    }

    #[test]
    fn a_key_stands_in_one_row_and_is_text_or_a_number() {
        let mut table = Table::new("id");
        let push = |table: &mut Table, key: Value| table.push(&row(&[("id", key)]), |_| true, 100);
        assert_eq!(push(&mut table, Value::text("1")), Ok(()));
        assert_eq!(push(&mut table, number("2")), Ok(()));
        // A number and the text of its digits are the same key.
        assert_eq!(push(&mut table, number("1")), Err(NotTaken::Repeated(0)));
        for nothing in [Value::Absent, Value::Null, Value::text("")] {
            assert_eq!(push(&mut table, nothing), Err(NotTaken::NoKey));
        }
        assert_eq!(push(&mut table, Value::Bool(true)), Err(NotTaken::BadKey));
        assert_eq!(table.push(&Map::new(), |_| true, 100), Err(NotTaken::NoKey));
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn nested_values_are_part_of_the_size_and_columns_are_bounded() {
        let mut table = Table::new("id");
        let inner = row(&[("a", number("1e5")), ("b", Value::Array(vec![Value::Null, Value::Bool(true)]))]);
        let deep = Value::Array(vec![Value::Object(inner), Value::Array(Vec::new()), Value::text("ü")]);
        table.push(&row(&[("id", Value::text("k")), ("deep", deep.clone())]), |_| true, 2).unwrap();
        assert_eq!(table.cell(0, "deep"), Some(deep));
        let large = Value::Array(vec![Value::text("x".repeat(4 << 20))]);
        table.push(&row(&[("id", Value::text("l")), ("deep", large)]), |_| true, 2).unwrap();
        assert!(table.size() > 4 << 20);
        let more = row(&[("id", Value::text("m")), ("c", Value::Null), ("d", Value::Null)]);
        assert_eq!(table.push(&more, |_| true, 2), Err(NotTaken::TooManyColumns));
    }

    #[test]
    fn the_same_cells_are_the_same_in_any_order() {
        let bytes = |rows: &[Map], wanted: &[&str]| {
            let mut table = Table::new("id");
            for row in rows {
                table.push(row, |name| wanted.is_empty() || wanted.contains(&name), 100).unwrap();
            }
            let mut all = Vec::new();
            table.each_in_order(|row| all.push(row.to_vec()));
            all
        };
        let deep = Value::Array(vec![Value::Object(row(&[("x", number("1.10"))])), Value::Null]);
        let a = row(&[("id", Value::text("a")), ("n", number("1")), ("deep", deep.clone())]);
        let b = row(&[("late", Value::Bool(true)), ("id", number("2")), ("deep", deep)]);
        let then = bytes(&[a.clone(), b.clone()], &[]);
        assert_eq!(then.len(), 2);
        assert_eq!(then, bytes(&[b.clone(), a.clone()], &[]));
        let changed = row(&[("id", Value::text("a")), ("n", number("1.0")), ("deep", Value::Null)]);
        assert_ne!(then, bytes(&[changed, b.clone()], &[]));
        assert_ne!(then, bytes(std::slice::from_ref(&a), &[]));
        // What is not kept makes no difference.
        let changed = row(&[("id", Value::text("a")), ("n", number("1")), ("more", Value::Null)]);
        assert_eq!(bytes(&[a.clone(), b.clone()], &["n"]), bytes(&[changed, b.clone()], &["n"]));
        assert_ne!(bytes(std::slice::from_ref(&a), &["n"]), bytes(std::slice::from_ref(&b), &["n"]));
    }

    #[test]
    fn only_wanted_columns_are_kept() {
        let mut table = Table::new("id");
        let whole = row(&[("a", number("1")), ("id", Value::text("k")), ("b", number("2"))]);
        table.push(&whole, |name| name == "b", 100).unwrap();
        assert_eq!(table.row(0), row(&[("id", Value::text("k")), ("b", number("2"))]));
    }

    #[test]
    fn a_hundred_thousand_rows_take_about_the_room_of_their_text() {
        let mut table = Table::new("mail");
        let mut bytes = 0;
        for n in 0..100_000 {
            let (mail, id) = (format!("agent{n}@example.com"), format!("8b2f6c1e-{n:012}"));
            bytes += mail.len() + id.len();
            table.push(&row(&[("mail", Value::text(mail)), ("id", Value::text(id))]), |_| true, 100).unwrap();
        }
        assert!(table.size() < bytes + 100_000 * 32, "{} for {bytes}", table.size());
        for n in [0, 1, 99_999] {
            let found = table.find(&format!("agent{n}@example.com")).unwrap();
            assert_eq!(table.cell(found, "id"), Some(Value::text(format!("8b2f6c1e-{n:012}"))));
        }
        assert_eq!(table.find("agent100000@example.com"), None);
    }
}
