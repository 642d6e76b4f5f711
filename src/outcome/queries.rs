//! What a checkpoint is asked: runs, starts, rows, counts, reasons.
//!
//! Apart from opening and changing it. Invariant: every row that is read is checked, and one that
//! does not fit is damage with its name.

use rusqlite::{OptionalExtension as _, Row, params};

use crate::model::{Counts, Failure, State};

use super::batches::{self, BatchRow, BatchState};
use super::blocks::Block;
use super::checkpoint::Checkpoint;
use super::database::{self, COLUMNS, RUN_SHIFT, record_id};
use super::rows::{AttemptRow, Grants, InputMark, NoteRow, RecordRow, RunRow, StartRow, counts_of};

/// Why records have the state that they have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The state.
    pub state: State,
    /// HTTP status; 0 without one.
    pub status: u16,
    /// The reason as a stable word.
    pub class: String,
    /// The reason for people, when all have the same.
    pub message: String,
    /// Records with it.
    pub count: u64,
}

pub(super) const RUN_COLUMNS: &str = "number, id, started_at, destination, meaning, meaning_files, input, input_stamp, records, \
     input_digest, duplicates, lease, lease_digest, settled, settled_file, settled_byte, settled_line, settled_digest, \
     closed_at, class, complete, scope";

impl Checkpoint {
    /// The newest run, if there is one.
    pub fn latest_run(&self) -> Result<Option<RunRow>, Failure> {
        self.connection
            .query_row(&format!("SELECT {RUN_COLUMNS} FROM run ORDER BY number DESC LIMIT 1"), [], read_run)
            .optional()
            .map_err(|error| self.failure(&error))
    }

    /// A run as it stands now.
    pub fn run(&self, number: i64) -> Result<RunRow, Failure> {
        self.connection
            .query_row(&format!("SELECT {RUN_COLUMNS} FROM run WHERE number = ?1"), [number], read_run)
            .map_err(|error| self.failure(&error))
    }

    /// All kept runs, the oldest first.
    pub fn runs(&self) -> Result<Vec<RunRow>, Failure> {
        let read = || -> rusqlite::Result<Vec<RunRow>> {
            let mut statement =
                self.connection.prepare(&format!("SELECT {RUN_COLUMNS} FROM run ORDER BY number"))?;
            let rows = statement.query_map([], read_run)?;
            rows.collect()
        };
        read().map_err(|error| self.failure(&error))
    }

    /// Ids of all kept runs by their number.
    pub fn run_ids(&self) -> Result<std::collections::HashMap<u64, String>, Failure> {
        Ok(self.runs()?.into_iter().map(|run| (run.number.cast_unsigned(), run.id)).collect())
    }

    /// The newest start of a run.
    pub fn latest_start(&self, run: &RunRow) -> Result<Option<StartRow>, Failure> {
        self.connection
            .query_row(
                "SELECT number, run, at, boot, class, meaning, intents, leased_from FROM start WHERE run = ?1 ORDER BY number DESC LIMIT 1",
                [run.number],
                |row| {
                    Ok(StartRow {
                        number: row.get(0)?,
                        run: row.get(1)?,
                        at: row.get(2)?,
                        boot: row.get(3)?,
                        class: row.get(4)?,
                        meaning: row.get(5)?,
                        grants: Grants {
                            intents: row.get::<_, i64>(6)? > 0,
                            durable_intents: row.get::<_, i64>(6)? > 1,
                            leased_from: row.get::<_, i64>(7)?.cast_unsigned(),
                        },
                    })
                },
            )
            .optional()
            .map_err(|error| self.failure(&error))
    }

    /// How many starts a run had.
    pub fn starts(&self, run: &RunRow) -> Result<u64, Failure> {
        self.connection
            .query_row("SELECT count(*) FROM start WHERE run = ?1", [run.number], |row| row.get::<_, i64>(0))
            .map(i64::cast_unsigned)
            .map_err(|error| self.failure(&error))
    }

    /// When a run took over another meaning, and which; the oldest first.
    pub fn meaning_changes(&self, run: &RunRow) -> Result<Vec<(String, String)>, Failure> {
        let read = || -> rusqlite::Result<Vec<(String, String)>> {
            let mut statement = self.connection.prepare(
                "SELECT at, detail FROM note WHERE run = ?1 AND what = 'accept-changes' ORDER BY number",
            )?;
            let rows = statement.query_map([run.number], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        };
        read().map_err(|error| self.failure(&error))
    }

    /// Calls `each` for every row of a run from `from` on, by ordinal; every row is checked.
    pub fn each_row(
        &self,
        run: &RunRow,
        from: u64,
        each: impl FnMut(RecordRow) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.each_row_where(run, (from, ALL), "true", each)
    }

    /// The same for rows before `upto` in some states. They are looked for only where there are any, and have to be
    /// as many as their block says.
    pub fn each_row_in(
        &self,
        run: &RunRow,
        upto: u64,
        states: &[State],
        mut each: impl FnMut(RecordRow) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let numbers: Vec<String> = states.iter().map(|state| (*state as u8).to_string()).collect();
        let which = format!("state IN ({})", numbers.join(", "));
        // What a writer beside it commits must not come in between.
        let _snapshot = self.connection.unchecked_transaction().map_err(|error| self.failure(&error))?;
        for block in self.blocks(run)? {
            let expected: i64 = states.iter().map(|state| block.sums.of(*state)).sum();
            if block.bounds().0 >= upto || expected == 0 {
                continue;
            }
            let mut found = 0;
            self.each_row_where(run, block.bounds(), &which, |row| {
                found += 1;
                if row.ordinal < upto { each(row) } else { Ok(()) }
            })?;
            if found != expected {
                self.check_records(run, &block)?;
            }
        }
        Ok(())
    }

    /// Calls `each` for rows of a run, by ordinal; every row is checked.
    pub(super) fn each_row_where(
        &self,
        run: &RunRow,
        bounds: (u64, u64),
        which: &str,
        mut each: impl FnMut(RecordRow) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let sql = format!("SELECT {COLUMNS} FROM record WHERE id >= ?1 AND id < ?2 AND {which} ORDER BY id");
        let mut statement = self.connection.prepare_cached(&sql).map_err(|error| self.failure(&error))?;
        let mut rows = statement.query(ids(run, bounds)).map_err(|error| self.failure(&error))?;
        while let Some(row) = rows.next().map_err(|error| self.failure(&error))? {
            match database::read_record(row) {
                Ok(Ok(record)) => each(record)?,
                Ok(Err(damaged)) => {
                    let ordinal = damaged.id & ((1 << RUN_SHIFT) - 1);
                    return Err(self.damage(&format!(
                        "table `record`, row {} (run {}, ordinal {ordinal}): its checksum does not fit",
                        damaged.id, run.id
                    )));
                }
                Err(
                    error @ (rusqlite::Error::FromSqlConversionFailure(..)
                    | rusqlite::Error::InvalidColumnType(..)),
                ) => {
                    return Err(self.damage(&format!("table `record`, run {}: {error}", run.id)));
                }
                Err(error) => return Err(self.failure(&error)),
            }
        }
        Ok(())
    }

    /// The row of one record, if there is one.
    pub fn row(&self, run: &RunRow, ordinal: u64) -> Result<Option<RecordRow>, Failure> {
        let mut found = None;
        // Rows are few here: a command looks at single records.
        let read = self
            .connection
            .query_row(
                &format!("SELECT {COLUMNS} FROM record WHERE id = ?1"),
                [record_id(run.number, ordinal)],
                database::read_record,
            )
            .optional()
            .map_err(|error| self.failure(&error))?;
        match read {
            Some(Ok(row)) => found = Some(row),
            Some(Err(_)) => {
                return Err(self.damage(&format!("table `record`, run {}, ordinal {ordinal}", run.id)));
            }
            None => {}
        }
        Ok(found)
    }

    /// The rows of a run's records with this key, by ordinal.
    pub fn rows_of_key(&self, run: &RunRow, key_hash: u64) -> Result<Vec<RecordRow>, Failure> {
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT id FROM record WHERE id >= ?1 AND id < ?2 AND key_hash = ?3 ORDER BY id LIMIT 100",
            )
            .map_err(|error| self.failure(&error))?;
        let bounds = (record_id(run.number, 0), record_id(run.number + 1, 0));
        let ids: rusqlite::Result<Vec<i64>> = statement
            .query_map(params![bounds.0, bounds.1, key_hash.cast_signed()], |row| row.get(0))
            .and_then(Iterator::collect);
        let mut rows = Vec::new();
        for id in ids.map_err(|error| self.failure(&error))? {
            rows.extend(self.row(run, (id & ((1 << RUN_SHIFT) - 1)).cast_unsigned())?);
        }
        Ok(rows)
    }

    /// The noted attempts of one record, in order.
    pub fn attempts_of(&self, run: &RunRow, ordinal: u64) -> Result<Vec<AttemptRow>, Failure> {
        let read = || -> rusqlite::Result<Vec<AttemptRow>> {
            let mut statement = self.connection.prepare(
                "SELECT number, at, status, class, coalesce(message, ''), wait_ms FROM attempt WHERE record = ?1 ORDER BY at, number",
            )?;
            let rows = statement.query_map([record_id(run.number, ordinal)], |row| {
                Ok(AttemptRow {
                    number: row.get(0)?,
                    at: row.get(1)?,
                    status: row.get(2)?,
                    class: row.get(3)?,
                    message: row.get(4)?,
                    wait_ms: row.get(5)?,
                })
            })?;
            rows.collect()
        };
        read().map_err(|error| self.failure(&error))
    }

    /// What was noted about one record, in order; without an ordinal, about the run itself.
    pub fn notes_of(&self, run: &RunRow, ordinal: Option<u64>) -> Result<Vec<NoteRow>, Failure> {
        let read = || -> rusqlite::Result<Vec<NoteRow>> {
            let mut statement = self.connection.prepare(
                "SELECT at, what, detail FROM note WHERE run = ?1 AND record IS ?2 ORDER BY number",
            )?;
            let rows = statement.query_map(params![run.number, ordinal.map(u64::cast_signed)], |row| {
                Ok(NoteRow { at: row.get(0)?, what: row.get(1)?, detail: row.get(2)? })
            })?;
            rows.collect()
        };
        read().map_err(|error| self.failure(&error))
    }

    /// The state of the first record of a run with this key.
    pub fn state_of_key(&self, run: &RunRow, key_hash: u64) -> Result<Option<State>, Failure> {
        Ok(self.rows_of_key(run, key_hash)?.first().map(|row| row.state))
    }

    /// Whether records from this position on have rows.
    pub fn has_rows_from(&self, run: &RunRow, ordinal: u64) -> Result<bool, Failure> {
        self.connection
            .query_row(
                "SELECT EXISTS (SELECT 1 FROM record WHERE id >= ?1 AND id < ?2)",
                params![record_id(run.number, ordinal), record_id(run.number + 1, 0)],
                |row| row.get(0),
            )
            .map_err(|error| self.failure(&error))
    }

    /// The sums over the rows of a run, block by block. Blocks that are not all those that were written last are
    /// damage.
    pub(super) fn blocks(&self, run: &RunRow) -> Result<Vec<Block>, Failure> {
        // One statement, so that a writer beside it does not come in between.
        let read = || -> rusqlite::Result<(i64, Vec<Result<Block, i64>>)> {
            let mut statement = self.connection.prepare_cached(&format!(
                "SELECT {}, run.rows_crc FROM run LEFT JOIN block ON block.id >= ?1 AND block.id < ?2 \
                 WHERE run.number = ?3 ORDER BY block.id",
                Block::COLUMNS
            ))?;
            let [from, upto] = ids(run, (0, ALL));
            let mut rows = statement.query(params![from, upto, run.number])?;
            let (mut expected, mut blocks) = (0, Vec::new());
            while let Some(row) = rows.next()? {
                expected = row.get(14)?;
                if row.get::<_, Option<i64>>(0)?.is_some() {
                    blocks.push(Block::read(row)?);
                }
            }
            Ok((expected, blocks))
        };
        let (expected, blocks) = read().map_err(|error| self.failure(&error))?;
        let blocks: Result<Vec<Block>, i64> = blocks.into_iter().collect();
        let blocks = blocks.map_err(|id| {
            self.damage(&format!("table `block`, row {id} (run {}): its checksum does not fit", run.id))
        })?;
        if blocks.iter().map(|block| i64::from(block.crc)).sum::<i64>() != expected {
            return Err(self.damage(&format!(
                "table `block`: the sums of run {} are not those that were written last, some are missing or old",
                run.id
            )));
        }
        Ok(blocks)
    }

    /// How many records of a run are in each state; they add up to its input.
    pub fn counts(&self, run: &RunRow) -> Result<Counts, Failure> {
        let blocks = self.blocks(run)?;
        let pairs = blocks.iter().flat_map(|block| block.sums.states());
        Ok(counts_of(pairs.map(|(state, n)| (state, n.cast_unsigned())), run.records))
    }

    /// Sum of attempts over all records of a run.
    pub fn attempts(&self, run: &RunRow) -> Result<u64, Failure> {
        Ok(self.blocks(run)?.iter().map(|block| block.sums.attempts.cast_unsigned()).sum())
    }

    /// Reasons of failed, invalid, skipped and held records of a run, the most frequent first.
    pub fn reasons(&self, run: &RunRow) -> Result<Vec<Reason>, Failure> {
        // They say where to look.
        self.blocks(run)?;
        let read = || -> rusqlite::Result<Vec<Reason>> {
            let mut statement = self.connection.prepare(
                "SELECT state, status, coalesce(class, ''), min(coalesce(message, '')), max(coalesce(message, '')), count(*) \
                 FROM block CROSS JOIN record ON record.id >= block.id AND record.id < block.id + ?3 \
                 WHERE block.id >= ?1 AND block.id < ?2 AND pending + failed + invalid + skipped + in_doubt > 0 \
                 AND (state > 2 OR state = 0 AND coalesce(class, '') <> '') \
                 GROUP BY state, status, coalesce(class, '') ORDER BY state, count(*) DESC, class LIMIT 200",
            )?;
            let [from, upto] = ids(run, (0, ALL));
            let rows = statement.query_map(params![from, upto, Block::first(1).cast_signed()], |row| {
                let (least, most): (String, String) = (row.get(3)?, row.get(4)?);
                Ok(Reason {
                    state: State::from_number(row.get(0)?).unwrap_or(State::Pending),
                    status: row.get(1)?,
                    class: row.get(2)?,
                    message: if least == most { least } else { String::new() },
                    count: row.get::<_, i64>(5)?.cast_unsigned(),
                })
            })?;
            rows.collect()
        };
        read().map_err(|error| self.failure(&error))
    }

    /// Whether a request of the run reached the far side, or may have, without its record being delivered or
    /// in doubt: the meaning is fixed then, whatever the counts say. So it is where a record stands between
    /// its calls.
    pub fn may_have_arrived(&self, run: &RunRow) -> Result<bool, Failure> {
        let crashed = self.latest_start(run)?.filter(|start| start.class.is_empty());
        if crashed.is_some_and(|start| start.leased_without_intents(run)) {
            return Ok(true);
        }
        if self.blocks(run)?.iter().any(|block| block.sums.begun != 0) {
            return Ok(true);
        }
        let may_have_left = |call: &BatchRow| call.state == BatchState::InFlight || call.unknown;
        Ok(self.open_batches(run)?.iter().any(may_have_left))
    }

    /// Whether the run holds records in doubt about which the far side was not asked yet.
    pub fn has_doubt_not_asked_about(&self, run: &RunRow) -> Result<bool, Failure> {
        let mut found = false;
        self.each_row_in(run, ALL, &[State::InDoubt], |row| {
            found |= !row.looked;
            Ok(())
        })?;
        Ok(found)
    }

    /// The calls with several records that are not settled, by number; every row is checked.
    pub fn open_batches(&self, run: &RunRow) -> Result<Vec<BatchRow>, Failure> {
        let mut open = Vec::new();
        for block in self.blocks(run)?.iter().filter(|block| block.sums.calls_open != 0) {
            open.extend(self.batches(run, block.bounds(), "state < 2")?);
        }
        Ok(open)
    }

    /// The newest call with several records that has this one.
    pub fn batch_of(&self, run: &RunRow, ordinal: u64) -> Result<Option<BatchRow>, Failure> {
        Ok(self
            .batches(run, (0, ALL), "true")?
            .into_iter()
            .rev()
            .find(|batch| batch.members.contains(&ordinal)))
    }

    /// The number that the next call with several records gets.
    pub fn next_batch(&self, run: &RunRow) -> Result<u64, Failure> {
        self.connection
            .query_row(
                "SELECT coalesce(max(id), ?1) FROM batch WHERE id >= ?1 AND id < ?2",
                params![record_id(run.number, 0), record_id(run.number + 1, 0)],
                |row| row.get::<_, i64>(0),
            )
            .map(|id| (id - record_id(run.number, 0)).cast_unsigned() + 1)
            .map_err(|error| self.failure(&error))
    }

    pub(super) fn batches(
        &self,
        run: &RunRow,
        bounds: (u64, u64),
        which: &str,
    ) -> Result<Vec<BatchRow>, Failure> {
        let read = || -> rusqlite::Result<Vec<Result<BatchRow, i64>>> {
            let columns = batches::COLUMNS;
            let mut statement = self.connection.prepare(&format!(
                "SELECT {columns} FROM batch WHERE id >= ?1 AND id < ?2 AND {which} ORDER BY id"
            ))?;
            statement.query_map(ids(run, bounds), batches::read)?.collect()
        };
        let rows = read().map_err(|error| self.failure(&error))?;
        rows.into_iter()
            .map(|row| {
                row.map_err(|id| {
                    let what = format!("table `batch`, row {id} (run {}): its checksum does not fit", run.id);
                    self.damage(&what)
                })
            })
            .collect()
    }

    /// How many bytes of `responses.ndjson` belong to outcomes that the checkpoint keeps.
    pub fn responses_length(&self, run: &RunRow) -> Result<u64, Failure> {
        self.connection
            .query_row("SELECT responses FROM run WHERE number = ?1", [run.number], |row| {
                row.get::<_, i64>(0)
            })
            .map(i64::cast_unsigned)
            .map_err(|error| self.failure(&error))
    }
}

/// Behind the last record that a run can have.
const ALL: u64 = 1 << RUN_SHIFT;

/// The first row id of records or calls, and the first behind them.
pub(super) const fn ids(run: &RunRow, (from, upto): (u64, u64)) -> [i64; 2] {
    let first = record_id(run.number, 0);
    [first + from.cast_signed(), first + upto.cast_signed()]
}

pub(super) fn read_run(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    let unsigned = |index: usize| row.get::<_, i64>(index).map(i64::cast_unsigned);
    Ok(RunRow {
        number: row.get(0)?,
        id: row.get(1)?,
        started_at: row.get(2)?,
        destination: row.get(3)?,
        meaning: row.get(4)?,
        meaning_files: row.get(5)?,
        input: row.get(6)?,
        input_stamp: row.get(7)?,
        records: unsigned(8)?,
        input_digest: unsigned(9)?,
        duplicates: unsigned(10)?,
        lease: unsigned(11)?,
        lease_digest: unsigned(12)?,
        settled: InputMark {
            ordinal: unsigned(13)?,
            file: row.get(14)?,
            byte: unsigned(15)?,
            line: unsigned(16)?,
            digest: unsigned(17)?,
        },
        closed_at: row.get(18)?,
        class: row.get(19)?,
        complete: row.get(20)?,
        scope: unsigned(21)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Checkpoint, Folder, NewRun, RecordRow, RunRow, Use};
    use crate::model::{Failure, State};

    /// A checkpoint with a run of so many records.
    fn begun(top: &tempfile::TempDir, records: u64) -> (Checkpoint, RunRow) {
        let folder = Folder::new(top.path(), "default", "p");
        folder.prepare(Use::Create).expect("a place");
        let checkpoint = Checkpoint::open(&folder).expect("a checkpoint");
        let run = checkpoint.begin_run(&NewRun::example(records), None).expect("a run");
        (checkpoint, run)
    }

    fn rows(ordinals: impl Iterator<Item = u64>) -> Vec<RecordRow> {
        ordinals.map(|at| RecordRow::new(at, State::Delivered)).collect()
    }

    fn message(found: Result<(), Failure>) -> Result<(), String> {
        found.map_err(|found| found.diagnostics[0].message.clone())
    }

    #[test]
    fn rows_that_are_gone_or_old_are_damage() {
        let top = tempfile::tempdir().expect("a folder");
        let (checkpoint, run) = begun(&top, 9);
        checkpoint.write_rows(&run, &rows((0..9).filter(|at| *at != 4)), "test").expect("rows");
        let counts =
            || checkpoint.counts(&run).map(|counts| (counts.delivered, counts.unsent)).expect("counts");
        let is_old = |table: &str| {
            let found = message(checkpoint.check_rows()).expect_err("damage");
            assert!(
                found.contains(&format!("table `{table}`")) && found.contains("missing or old"),
                "{found}"
            );
        };
        assert_eq!(counts(), (8, 1));
        let change = |sql: &str| checkpoint.connection.execute_batch(sql).expect("a change");
        // What a whole page that is old, or in a wrong place, does: rows go, or are as they were.
        change(
            "CREATE TEMP TABLE old AS SELECT * FROM record; CREATE TEMP TABLE old_block AS SELECT * FROM block",
        );
        change("DELETE FROM record WHERE id & 255 = 3");
        is_old("record");
        assert!(checkpoint.check_unsettled(&run).is_err());
        change("INSERT OR REPLACE INTO record SELECT * FROM old");
        checkpoint.check_rows().expect("all is as it was");
        checkpoint.write_rows(&run, &[RecordRow::new(3, State::Failed)], "test").expect("a row");
        assert_eq!(counts(), (7, 1));
        change("INSERT OR REPLACE INTO record SELECT * FROM old");
        is_old("record");
        // Their block as well.
        change("INSERT OR REPLACE INTO block SELECT * FROM old_block");
        is_old("block");
        assert!(checkpoint.counts(&run).is_err());
        change("DELETE FROM block");
        assert!(checkpoint.counts(&run).is_err());
        change("INSERT OR REPLACE INTO block SELECT * FROM old_block; UPDATE block SET failed = failed + 1");
        let found = message(checkpoint.counts(&run).map(drop)).expect_err("damage");
        assert!(found.contains("table `block`, row") && found.contains("checksum"), "{found}");
    }

    #[test]
    fn a_start_looks_at_what_is_not_settled_and_the_rest_is_looked_at_too() {
        let top = tempfile::tempdir().expect("a folder");
        let (checkpoint, mut run) = begun(&top, 400_000);
        let places = [5, 65_535, 65_536, 200_000, 200_001];
        checkpoint.write_rows(&run, &rows(places.into_iter()), "test").expect("rows");
        run.settled.ordinal = 131_073;
        let all = || (checkpoint.check_unsettled(&run).is_ok(), checkpoint.check_rows().is_ok());
        let change = |sql: &str| checkpoint.connection.execute_batch(sql).expect("a change");
        change("CREATE TEMP TABLE old AS SELECT * FROM record");
        assert_eq!(all(), (true, true));
        for (gone, seen_by_start) in places.into_iter().zip([false, false, false, true, true]) {
            change(&format!("DELETE FROM record WHERE id & 1099511627775 = {gone}"));
            assert_eq!(all(), (!seen_by_start, false), "{gone}");
            change("INSERT OR REPLACE INTO record SELECT * FROM old");
        }
        // A row in a block of which nothing was written.
        for (place, seen_by_start) in [(131_072 - 1, false), (131_072, true), (399_999, true)] {
            change(&format!(
                "UPDATE record SET id = (id >> 40 << 40) + {place} WHERE id & 1099511627775 = 5"
            ));
            assert_eq!(all(), (!seen_by_start, false), "{place}");
            change("DELETE FROM record; INSERT INTO record SELECT * FROM old");
        }
        assert_eq!(all(), (true, true));
    }

    #[test]
    fn rows_of_some_states_are_found_and_counted() {
        let top = tempfile::tempdir().expect("a folder");
        let (checkpoint, run) = begun(&top, 400_000);
        let mut all = rows([5, 65_536, 65_540, 200_000].into_iter());
        all.extend(
            [7, 65_537, 200_001]
                .map(|at| RecordRow { looked: at == 7, ..RecordRow::new(at, State::InDoubt) }),
        );
        all.push(RecordRow::new(9, State::Failed));
        checkpoint.write_rows(&run, &all, "test").expect("rows");
        let found = |upto, states: &[State]| {
            let mut ordinals = Vec::new();
            let read = checkpoint.each_row_in(&run, upto, states, |row| {
                ordinals.push(row.ordinal);
                Ok(())
            });
            read.map(|()| ordinals)
        };
        assert_eq!(found(u64::MAX >> 24, &[State::InDoubt]).ok(), Some(vec![7, 65_537, 200_001]));
        assert_eq!(found(65_537, &[State::InDoubt, State::Failed]).ok(), Some(vec![7, 9]));
        assert!(checkpoint.has_doubt_not_asked_about(&run).expect("an answer"));
        checkpoint
            .connection
            .execute_batch("DELETE FROM record WHERE id & 1099511627775 = 65537")
            .expect("a change");
        assert_eq!(found(65_536, &[State::InDoubt]).ok(), Some(vec![7]));
        assert!(found(65_537, &[State::InDoubt]).is_err());
    }
}
