//! What holds for every row: it is read back as it was written, and a changed one is never taken
//! for it.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rusqlite::Connection;

use super::batches::{self, BatchRow, BatchState};
use super::blocks::{Block, CallShare, Share, Sums, Tally, block_of};
use super::database::{COLUMNS, RUN_SHIFT, RecordWriter, TABLES, read_record, record_id, write_record};
use super::rows::{RecordRow, counts_of};
use crate::model::State;

fn row() -> impl Strategy<Value = RecordRow> {
    let text = || prop_oneof![Just(String::new()), any::<String>(), "[a-zé\u{1f600}'\"\0 ]{0,40}"];
    let hash = || prop_oneof![Just(0), Just(u64::MAX), any::<u64>()];
    (
        (
            0u64..1 << RUN_SHIFT,
            0usize..7,
            any::<u32>(),
            any::<bool>(),
            any::<bool>(),
            0u32..1 << 24,
            any::<u16>(),
        ),
        (text(), text(), text()),
        (hash(), hash(), hash(), hash()),
        // A time of 0 is filled in on writing.
        (1i64..i64::MAX, any::<i64>(), any::<bool>()),
    )
        .prop_map(|(small, texts, hashes, (at, first_at, looked))| {
            let (ordinal, state, attempts, unknown, granted, generation, status) = small;
            let (class, message, captures) = texts;
            let (key_hash, order_hash, digest, request) = hashes;
            RecordRow {
                attempts,
                unknown,
                looked,
                granted,
                generation,
                status,
                class,
                message,
                key_hash,
                order_hash,
                digest,
                request,
                captures,
                at,
                first_at,
                ..RecordRow::new(ordinal, State::ALL[state])
            }
        })
}

fn database() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(TABLES).unwrap();
    connection
}

/// The row, or nothing where it cannot be one of ours.
fn read(connection: &Connection) -> Option<RecordRow> {
    connection.query_row(&format!("SELECT {COLUMNS} FROM record"), [], read_record).ok()?.ok()
}

/// What may happen to the rows of a run.
#[derive(Debug, Clone)]
enum Step {
    /// Between starts: rows in a transaction of their own.
    Alone(RecordRow),
    /// By the writer of a start.
    Row(RecordRow),
    Call(BatchRow),
    /// The writer commits.
    Commit,
    /// It commits, and another start goes on.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    // Few places, so that rows are written over each other, on both sides of where blocks meet.
    let place = || prop_oneof![0u64..3, 65_534u64..65_538, Just(200_000)];
    let captures =
        prop_oneof![Just(""), Just("{\"@\":\"a\"}"), Just("{\"@\":\"b\",\"a\":201}"), Just("{\"id\":7}")];
    let record = (place(), 0usize..7, 0u32..9, any::<bool>(), captures).prop_map(
        |(ordinal, state, attempts, unknown, captures)| RecordRow {
            attempts,
            unknown,
            captures: captures.into(),
            ..RecordRow::new(ordinal, State::ALL[state])
        },
    );
    let states = prop_oneof![Just(BatchState::Waits), Just(BatchState::InFlight), Just(BatchState::Settled)];
    let call = (place(), states, 0u32..3).prop_map(|(number, state, attempts)| BatchRow {
        number: number + 1,
        state,
        attempts,
        unknown: false,
        members: vec![number],
        request: 7,
        first_at: 0,
    });
    prop_oneof![
        2 => record.clone().prop_map(Step::Alone),
        8 => record.prop_map(Step::Row),
        4 => call.prop_map(Step::Call),
        2 => Just(Step::Commit),
        1 => Just(Step::Restart),
    ]
}

/// What the blocks of run 1 say, and the checksum that its own row has of them.
fn said(connection: &Connection) -> (BTreeMap<u64, Sums>, i64, i64) {
    let sql = format!("SELECT {} FROM block WHERE id >> 40 = 1", Block::COLUMNS);
    let mut statement = connection.prepare(&sql).unwrap();
    let blocks: Vec<Block> =
        statement.query_map([], Block::read).unwrap().map(|block| block.unwrap().unwrap()).collect();
    let crc = blocks.iter().map(|block| i64::from(block.crc)).sum();
    let noted =
        connection.query_row("SELECT rows_crc FROM run WHERE number = 1", [], |row| row.get(0)).unwrap();
    (blocks.into_iter().map(|block| (block.number, block.sums)).collect(), crc, noted)
}

/// The same by the rows themselves.
fn counted(connection: &Connection) -> BTreeMap<u64, Sums> {
    let mut sums: BTreeMap<u64, Sums> = BTreeMap::new();
    let place = |id: i64| block_of((id & ((1 << RUN_SHIFT) - 1)).cast_unsigned());
    let sql = format!("SELECT {}, id FROM record WHERE id >> 40 = 1", Share::COLUMNS);
    let mut statement = connection.prepare(&sql).unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        sums.entry(place(row.get("id").unwrap())).or_default().add(Share::read(row).unwrap());
    }
    let sql = format!("SELECT {}, id FROM batch WHERE id >> 40 = 1", CallShare::COLUMNS);
    let mut statement = connection.prepare(&sql).unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        sums.entry(place(row.get("id").unwrap())).or_default().add_call(CallShare::read(row).unwrap());
    }
    sums
}

/// Rows by block and state.
type Places = BTreeMap<(u64, u8), i64>;

/// Rows by block and state, and what they say of attempts and of requests that may have arrived, by SQL alone.
fn grouped(connection: &Connection) -> (Places, (i64, i64, i64)) {
    let mut statement = connection
        .prepare(
            "SELECT (id & 1099511627775) >> 16, state, count(*) FROM record WHERE id >> 40 = 1 GROUP BY 1, 2",
        )
        .unwrap();
    let states = statement
        .query_map([], |row| Ok(((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?), row.get(2)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let begun = "state = 1 OR state = 0 AND flags & 1 OR state <> 2 AND captures IS NOT NULL \
                 AND (instr(captures, ',') > 0 OR substr(captures, 1, 5) <> '{\"@\":')";
    let rest = connection
        .query_row(
            &format!(
                "SELECT coalesce(sum(attempts), 0), count(*) FILTER (WHERE {begun}), \
                 (SELECT count(*) FROM batch WHERE id >> 40 = 1 AND state < 2) FROM record WHERE id >> 40 = 1"
            ),
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .unwrap();
    (states, rest)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_row_read_back_equals_what_was_written(row in row(), run in 1i64..1 << 22) {
        let connection = database();
        write_record(&connection, &mut Tally::new(run), &row).unwrap();
        prop_assert_eq!(read(&connection), Some(row.clone()));
        let newer = RecordRow { attempts: row.attempts ^ 1, ..row };
        write_record(&connection, &mut Tally::new(run), &newer).unwrap();
        prop_assert_eq!(read(&connection), Some(newer));
    }

    #[test]
    fn a_changed_row_is_never_another_row(row in row(), other in row(), column in 0usize..13, bit in 0u32..63) {
        let connection = database();
        write_record(&connection, &mut Tally::new(1), &row).unwrap();
        let name = COLUMNS.split(", ").nth(column).unwrap();
        let is_text = ["class", "message", "captures"].contains(&name);
        let sql = if is_text {
            format!("UPDATE record SET {name} = ?1")
        } else {
            // One bit, in whatever direction it flips.
            format!("UPDATE record SET {name} = (coalesce({name}, 0) | (1 << {bit})) - (coalesce({name}, 0) & (1 << {bit}))")
        };
        let changed = if is_text { connection.execute(&sql, [&other.message]) } else { connection.execute(&sql, []) };
        prop_assert_eq!(changed.unwrap(), 1);
        if let Some(found) = read(&connection) {
            prop_assert_eq!(found, row, "{}", name);
        }
    }

    #[test]
    fn however_rows_are_written_their_blocks_say_what_they_say(steps in proptest::collection::vec(step(), 0..60)) {
        let connection = database();
        let run = "INSERT INTO run (number, id, started_at, destination, scope, meaning, meaning_files, input, input_stamp, \
                   records, input_digest, duplicates) VALUES (1, 'r', 'a', 'd', 5, 'm', 'f', 'i', 's', 3, -7, 0)";
        connection.execute_batch(run).unwrap();
        // Another run's rows are none of its own.
        let mut other = Tally::new(2);
        write_record(&connection, &mut other, &RecordRow::new(1, State::Failed)).unwrap();
        other.write(&connection).unwrap();
        let mut writer = RecordWriter::new(&connection, 1).unwrap();
        for step in steps.into_iter().chain([Step::Commit]) {
            match step {
                Step::Row(row) => writer.write(&connection, &row).unwrap(),
                Step::Call(call) => batches::write(&connection, &mut writer.tally, &call).unwrap(),
                Step::Commit => writer.tally.write(&connection).unwrap(),
                Step::Restart => {
                    writer.tally.write(&connection).unwrap();
                    writer = RecordWriter::new(&connection, 1).unwrap();
                }
                Step::Alone(row) => {
                    writer.tally.write(&connection).unwrap();
                    let mut tally = Tally::new(1);
                    write_record(&connection, &mut tally, &row).unwrap();
                    tally.write(&connection).unwrap();
                    writer = RecordWriter::new(&connection, 1).unwrap();
                }
            }
        }
        let (said, crc, noted) = said(&connection);
        prop_assert_eq!(crc, noted);
        prop_assert_eq!(&said, &counted(&connection));
        let (states, rest) = grouped(&connection);
        for (number, sums) in &said {
            for (state, n) in sums.states() {
                prop_assert_eq!(n, states.get(&(*number, state as u8)).copied().unwrap_or(0));
            }
        }
        let sum = |of: fn(&Sums) -> i64| said.values().map(of).sum::<i64>();
        prop_assert_eq!((sum(|it| it.attempts), sum(|it| it.begun), sum(|it| it.calls_open)), rest);
        let records: i64 = connection
            .query_row("SELECT count(*) FROM record WHERE id >= ?1", [record_id(2, 0)], |row| row.get(0))
            .unwrap();
        prop_assert_eq!(records, 1);
    }

    #[test]
    fn counts_add_up_to_the_input(pairs in proptest::collection::vec((0usize..7, 0u64..1000), 0..9), total in 0u64..9000) {
        let pairs: Vec<_> = pairs.into_iter().map(|(state, n)| (State::ALL[state], n)).collect();
        let rows: u64 = pairs.iter().map(|(_, n)| n).sum();
        let counts = counts_of(pairs, total);
        prop_assert_eq!(counts.total(), rows.max(total));
        prop_assert!(counts.settled() <= counts.total());
    }
}
