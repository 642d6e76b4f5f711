//! A damaged checkpoint: it is refused as damage, or everything that it says of records is what
//! was written; never a panic, never a wrong `delivered` (T14).
//!
//! Damage is done where the file's own structure is: bytes of pages, of cells and of their
//! headers, whole pages that are lost or cut, and single columns of rows.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::common::{Input, check_diagnostic, scratch, write};
use crate::config::Durability;
use crate::model::Class;
use crate::model::Counts;
use crate::model::Failure;
use crate::model::State;
use crate::outcome::{
    Checkpoint, Finished, Folder, Grants, InputMark, NewRun, Reason, RecordRow, RunRow, Use,
};

/// `SQLite`'s page size of our files.
const PAGE: usize = 4096;
/// Records of each run in the undamaged file.
const RECORDS: u64 = 90;

/// The target.
pub fn checkpoint(data: &[u8]) {
    let good = good();
    let mut input = Input::new(data);
    let mut bytes = good.bytes.clone();
    let folder = folder(&scratch().join("damaged"));
    let mut statement = None;
    match input.below(6) {
        0 => bytes = input.rest().to_vec(),
        1 => flip(&mut input, &mut bytes),
        2 => flip_cells(&mut input, &mut bytes),
        3 => pages(&mut input, &mut bytes, &good.before_log),
        4 => statement = Some(column(&mut input)),
        _ => {
            // The log of a later write, damaged or without its file.
            let mut log = good.log.clone();
            flip(&mut input, &mut log);
            put(&folder, &good.before_log, Some(&log));
            check_prefix(&folder, good);
            return;
        }
    }
    put(&folder, &bytes, None);
    if let Some(statement) = &statement {
        let connection = rusqlite::Connection::open(folder.database()).expect("the good file");
        // What the tables' own types do not allow is no damage that they could hold.
        let _ = connection.execute(statement, []);
    }
    match see(&folder, Some(&good.seen.runs)) {
        Err(failure) => check_refusal(&failure),
        Ok(seen) => assert!(seen == good.seen, "{statement:?}: {}", difference(&seen, &good.seen)),
    }
}

/// Everything that a checkpoint says.
#[derive(Debug, PartialEq)]
struct Seen {
    runs: Vec<RunRow>,
    rows: Vec<Vec<RecordRow>>,
    counts: Vec<Counts>,
    reasons: Vec<Vec<Reason>>,
    attempts: Vec<u64>,
    keys: Vec<(i64, u64, u64)>,
}

struct Good {
    bytes: Vec<u8>,
    /// A file and its log, which was not moved into it yet.
    before_log: Vec<u8>,
    log: Vec<u8>,
    seen: Seen,
}

fn good() -> &'static Good {
    static GOOD: OnceLock<Good> = OnceLock::new();
    GOOD.get_or_init(|| make().expect("a good checkpoint"))
}

fn folder(top: &Path) -> Folder {
    let folder = Folder::new(top, "default", "p");
    folder.prepare(Use::Create).expect("a state folder");
    folder
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}{ending}", path.display()))
}

fn put(folder: &Folder, bytes: &[u8], log: Option<&[u8]>) {
    let path = folder.database();
    for ending in ["-wal", "-shm", "-journal"] {
        let _ = std::fs::remove_file(with_ending(&path, ending));
    }
    write(path.parent().expect("a folder"), "p.db", bytes);
    if let Some(log) = log {
        write(path.parent().expect("a folder"), "p.db-wal", log);
    }
}

fn make() -> Result<Good, Failure> {
    let folder = folder(&scratch().join("good"));
    let read = |ending: &str| std::fs::read(with_ending(&folder.database(), ending)).expect("the file");
    let _ = std::fs::remove_file(folder.database());
    let (mut before_log, mut log) = (Vec::new(), Vec::new());
    for number in 1..=3 {
        let checkpoint = Checkpoint::open(&folder)?;
        if let (3, Some(oldest)) = (number, checkpoint.runs()?.first()) {
            checkpoint.remove_run(oldest)?;
        }
        let run = checkpoint.begin_run(&new_run(number), None)?;
        let rows: Vec<_> = (0..RECORDS).filter(|ordinal| number < 3 || *ordinal < 70).map(row).collect();
        let (first, last) = rows.split_at(rows.len() / 2);
        checkpoint.write_rows(&run, first, "test")?;
        drop(checkpoint);
        let checkpoint = Checkpoint::open(&folder)?;
        before_log = read("");
        checkpoint.write_rows(&run, last, "test")?;
        log = read("-wal");
        let grants = Grants { intents: number < 3, durable_intents: false, leased_from: 0 };
        let writer = checkpoint.into_writer(&run, grants, Durability::Process, None)?;
        let settled = InputMark { ordinal: 20, file: 0, byte: 400, line: 21, digest: 77 };
        let finished = Finished { class: Class::RecordsFailed, complete: number < 3 };
        writer.finish(finished, settled, number < 3)?;
    }
    let bytes = read("");
    let seen = see(&folder, None)?;
    Ok(Good { bytes, before_log, log, seen })
}

fn new_run(number: u64) -> NewRun {
    NewRun {
        id: format!("20261122T0214-000{number}"),
        input_digest: 0x1234_5678_9abc_def0 + number,
        ..NewRun::example(RECORDS)
    }
}

fn row(ordinal: u64) -> RecordRow {
    let state = State::ALL[usize::try_from(ordinal * 5 % 7).expect("small")];
    let mut row = RecordRow::new(ordinal, state);
    row.attempts = u32::try_from(ordinal % 4).expect("small");
    row.unknown = state == State::InDoubt || ordinal.is_multiple_of(11);
    row.granted = state == State::Pending && ordinal.is_multiple_of(2);
    row.generation = u32::from(ordinal.is_multiple_of(13));
    row.status = if state == State::Delivered { 201 } else { 422 };
    row.key_hash = ordinal.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    row.order_hash = ordinal % 3;
    row.digest = ordinal << 40 | 7;
    row.request = ordinal * 31;
    match state {
        State::Delivered => row.captures = format!("{{\"id\":{ordinal}}}"),
        State::Failed | State::Invalid => {
            row.class = "INVALID_VALUE".into();
            row.message = "email is not valid".into();
        }
        _ => {}
    }
    row
}

/// `known` are the runs to ask for, once they are known: their own rows, and those of starts, have
/// no checksum, and so are read and not compared.
fn see(folder: &Folder, known: Option<&[RunRow]>) -> Result<Seen, Failure> {
    let checkpoint = Checkpoint::open(folder)?;
    let found = checkpoint.runs()?;
    let runs = known.map_or_else(|| found.clone(), <[RunRow]>::to_vec);
    let mut seen = Seen {
        rows: Vec::new(),
        counts: Vec::new(),
        reasons: Vec::new(),
        attempts: Vec::new(),
        keys: Vec::new(),
        runs: Vec::new(),
    };
    checkpoint.keys_of_earlier_runs(4, |known| {
        seen.keys.push((known.run, known.position(), known.hash));
    })?;
    for run in &runs {
        let mut rows = Vec::new();
        checkpoint.each_row(run, 0, |row| {
            rows.push(row);
            Ok(())
        })?;
        for row in rows.iter().take(3) {
            let one = checkpoint.row(run, row.ordinal)?;
            assert_eq!(one.as_ref(), Some(row), "one row is not the row among all");
        }
        seen.rows.push(rows);
        seen.counts.push(checkpoint.counts(run)?);
        seen.reasons.push(checkpoint.reasons(run)?);
        seen.attempts.push(checkpoint.attempts(run)?);
    }
    for run in &found {
        checkpoint.may_have_arrived(run)?;
        checkpoint.latest_start(run)?;
        checkpoint.responses_length(run)?;
    }
    checkpoint.run_ids()?;
    assert_eq!(checkpoint.latest_run()?.as_ref(), found.last());
    seen.runs = runs;
    Ok(seen)
}

fn difference(seen: &Seen, good: &Seen) -> String {
    let lines = |seen: &Seen| -> Vec<String> {
        let rows = seen.rows.iter().flatten().map(|row| format!("{row:?}"));
        let rest = format!("{:#?}", (&seen.counts, &seen.reasons, &seen.attempts, &seen.keys));
        rows.chain(rest.lines().map(str::to_owned)).collect()
    };
    let (seen, good) = (lines(seen), lines(good));
    let lost: Vec<_> = good.iter().filter(|line| !seen.contains(line)).collect();
    let new: Vec<_> = seen.iter().filter(|line| !good.contains(line)).collect();
    format!("lost {lost:#?}, new {new:#?}")
}

fn check_refusal(failure: &Failure) {
    failure.diagnostics.iter().for_each(check_diagnostic);
    assert_eq!(failure.class, Class::State, "{:?}", failure.diagnostics);
}

/// A log whose end is damaged holds what was written before that: whole transactions, in order.
fn check_prefix(folder: &Folder, good: &Good) {
    match see(folder, Some(&good.seen.runs)) {
        Err(failure) => check_refusal(&failure),
        Ok(seen) => {
            for (rows, all) in seen.rows.iter().zip(&good.seen.rows) {
                assert!(all.starts_with(rows), "{}", difference(&seen, &good.seen));
            }
        }
    }
}

/// Bytes at places that the input names.
fn flip(input: &mut Input<'_>, bytes: &mut [u8]) {
    let pages = bytes.len().div_ceil(PAGE).max(1);
    for _ in 0..4 {
        let (page, high, low) = (input.below(pages), input.byte(), input.byte());
        let at = page * PAGE + (usize::from(high) << 8 | usize::from(low)) % PAGE;
        let change = input.byte();
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= change;
        }
        if input.is_empty() {
            return;
        }
    }
}

/// A byte of a cell, of a page's header, or of its list of cells.
fn flip_cells(input: &mut Input<'_>, bytes: &mut [u8]) {
    let page = input.below(bytes.len() / PAGE);
    let start = page * PAGE;
    let header = if page == 0 { 100 } else { 0 };
    let two = |at: usize| usize::from(bytes[start + at]) << 8 | usize::from(bytes[start + at + 1]);
    let cells = two(header + 3).min(400);
    let lead = if bytes[start + header] == 13 || bytes[start + header] == 10 { 8 } else { 12 };
    let (what, within, change) = (input.below(cells.max(1) + 2), input.below(64), input.byte());
    let at = match what {
        0 => header + within % 12,
        1 => header + lead + within % (2 * cells.max(1)),
        cell => two(header + lead + 2 * (cell - 2)) % PAGE + within,
    };
    if let Some(byte) = bytes.get_mut(start + at) {
        *byte ^= change;
    }
}

/// Pages that were lost: cut off, zeroed, or followed by others; and whole ones in the place of
/// another: of this file, of both, or as they were before the last writes.
fn pages(input: &mut Input<'_>, bytes: &mut Vec<u8>, before: &[u8]) {
    let count = bytes.len() / PAGE;
    let (what, page, other) = (input.below(6), input.below(count), input.below(count));
    let (at, from) = (page * PAGE, other * PAGE);
    match what {
        0 => bytes.truncate(at + usize::from(input.byte()) * 16),
        1 => bytes[at..at + PAGE].fill(0),
        2 => bytes.extend_from_slice(&[0xA5; PAGE][..usize::from(input.byte()) * 16]),
        3 => bytes.copy_within(from..from + PAGE, at),
        4 => {
            let moved = bytes[at..at + PAGE].to_vec();
            bytes.copy_within(from..from + PAGE, at);
            bytes[from..from + PAGE].copy_from_slice(&moved);
        }
        _ => {
            if let Some(old) = before.get(at..at + PAGE) {
                bytes[at..at + PAGE].copy_from_slice(old);
            }
        }
    }
}

/// A statement that changes one column of one row.
fn column(input: &mut Input<'_>) -> String {
    let id = (2 + input.below(2) as u64) << 40 | input.below(70) as u64;
    let name = input.choice(&[
        "state",
        "attempts",
        "flags",
        "status",
        "class",
        "message",
        "key_hash",
        "order_hash",
        "digest",
        "request",
        "captures",
        "crc",
    ]);
    let value = match input.below(6) {
        0 => "NULL".to_owned(),
        1 => format!("{name} + {}", input.byte()),
        2 => format!("{name} | (1 << {})", input.below(64)),
        3 => format!("x'{:02x}ff'", input.byte()),
        4 => format!("CAST(x'{:02x}c3' AS TEXT)", input.byte()),
        // Empty text is what no text is read as.
        _ => format!("'x{}'", input.text().replace(['\'', '\0'], "")),
    };
    format!("UPDATE record SET {name} = {value} WHERE id = {id}")
}
