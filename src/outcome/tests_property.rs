//! What holds for every row: it is read back as it was written, and a changed one is never taken
//! for it.

use proptest::prelude::*;
use rusqlite::Connection;

use super::database::{COLUMNS, RUN_SHIFT, TABLES, read_record, write_record};
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_row_read_back_equals_what_was_written(row in row(), run in 1i64..1 << 22) {
        let connection = database();
        write_record(&connection, run, &row).unwrap();
        prop_assert_eq!(read(&connection), Some(row.clone()));
        let newer = RecordRow { attempts: row.attempts ^ 1, ..row };
        write_record(&connection, run, &newer).unwrap();
        prop_assert_eq!(read(&connection), Some(newer));
    }

    #[test]
    fn a_changed_row_is_never_another_row(row in row(), other in row(), column in 0usize..13, bit in 0u32..63) {
        let connection = database();
        write_record(&connection, 1, &row).unwrap();
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
    fn counts_add_up_to_the_input(pairs in proptest::collection::vec((0usize..7, 0u64..1000), 0..9), total in 0u64..9000) {
        let pairs: Vec<_> = pairs.into_iter().map(|(state, n)| (State::ALL[state], n)).collect();
        let rows: u64 = pairs.iter().map(|(_, n)| n).sum();
        let counts = counts_of(pairs, total);
        prop_assert_eq!(counts.total(), rows.max(total));
        prop_assert!(counts.settled() <= counts.total());
    }
}
