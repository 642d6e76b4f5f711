//! What a checkpoint is asked: runs, starts, rows, counts, reasons.
//!
//! Apart from opening and changing it. Invariant: every row that is read is checked, and one that
//! does not fit is damage with its name.

use rusqlite::{OptionalExtension as _, Row, params};

use crate::model::{Counts, Failure, State};

use super::batches::{self, BatchRow};
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
        mut each: impl FnMut(RecordRow) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut statement = self
            .connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM record WHERE id >= ?1 AND id < ?2 ORDER BY id"))
            .map_err(|error| self.failure(&error))?;
        let mut rows = statement
            .query(params![record_id(run.number, from), record_id(run.number + 1, 0)])
            .map_err(|error| self.failure(&error))?;
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

    /// How many records of a run are in each state; they add up to its input. Rows that are not all
    /// those that were written last are damage.
    pub fn counts(&self, run: &RunRow) -> Result<Counts, Failure> {
        // One statement, so that a writer beside it does not come in between.
        let read = || -> rusqlite::Result<(Vec<(State, u64)>, i64)> {
            let mut statement = self.connection.prepare(
                "SELECT run.rows_crc - (SELECT coalesce(sum(crc), 0) FROM batch WHERE id >= ?1 AND id < ?2), \
                 found.state, found.records, found.crcs FROM run LEFT JOIN \
                 (SELECT state, count(*) AS records, sum(crc) AS crcs FROM record WHERE id >= ?1 AND id < ?2 \
                 GROUP BY state) AS found ON true WHERE run.number = ?3",
            )?;
            let mut rows = statement.query(params![
                record_id(run.number, 0),
                record_id(run.number + 1, 0),
                run.number
            ])?;
            let (mut pairs, mut expected, mut sum) = (Vec::new(), 0, 0);
            while let Some(row) = rows.next()? {
                expected = row.get(0)?;
                if let Some(state) = row.get(1)? {
                    let state = State::from_number(state).unwrap_or(State::Pending);
                    pairs.push((state, row.get::<_, i64>(2)?.cast_unsigned()));
                    sum += row.get::<_, i64>(3)?;
                }
            }
            Ok((pairs, sum - expected))
        };
        let (pairs, difference) = read().map_err(|error| self.failure(&error))?;
        if difference != 0 {
            // A single row that was changed has a name.
            self.each_row(run, 0, |_| Ok(()))?;
            self.batches(run, "true")?;
            return Err(self.damage(&format!(
                "table `record`: the rows of run {} are not those that were written last, some are missing or old",
                run.id
            )));
        }
        Ok(counts_of(pairs, run.records))
    }

    /// Sum of attempts over all records of a run.
    pub fn attempts(&self, run: &RunRow) -> Result<u64, Failure> {
        self.connection
            .query_row(
                "SELECT coalesce(sum(attempts), 0) FROM record WHERE id >= ?1 AND id < ?2",
                params![record_id(run.number, 0), record_id(run.number + 1, 0)],
                |row| row.get::<_, i64>(0),
            )
            .map(i64::cast_unsigned)
            .map_err(|error| self.failure(&error))
    }

    /// Reasons of failed, invalid, skipped and held records of a run, the most frequent first.
    pub fn reasons(&self, run: &RunRow) -> Result<Vec<Reason>, Failure> {
        let read = || -> rusqlite::Result<Vec<Reason>> {
            let mut statement = self.connection.prepare(
                "SELECT state, status, coalesce(class, ''), min(coalesce(message, '')), max(coalesce(message, '')), count(*) \
                 FROM record WHERE id >= ?1 AND id < ?2 AND (state > 2 OR state = 0 AND coalesce(class, '') <> '') \
                 GROUP BY state, status, coalesce(class, '') ORDER BY state, count(*) DESC, class LIMIT 200",
            )?;
            let rows = statement.query_map(
                params![record_id(run.number, 0), record_id(run.number + 1, 0)],
                |row| {
                    let (least, most): (String, String) = (row.get(3)?, row.get(4)?);
                    Ok(Reason {
                        state: State::from_number(row.get(0)?).unwrap_or(State::Pending),
                        status: row.get(1)?,
                        class: row.get(2)?,
                        message: if least == most { least } else { String::new() },
                        count: row.get::<_, i64>(5)?.cast_unsigned(),
                    })
                },
            )?;
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
        self.connection
            .query_row(
                "SELECT EXISTS (SELECT 1 FROM record WHERE id >= ?1 AND id < ?2 \
                 AND (state = ?3 OR state = ?4 AND flags & ?5 OR state <> ?6 AND captures IS NOT NULL \
                 AND (instr(captures, ',') > 0 OR substr(captures, 1, 5) <> '{\"@\":'))) \
                 OR EXISTS (SELECT 1 FROM batch WHERE id >= ?1 AND id < ?2 \
                 AND (state = 1 OR state = 0 AND flags & 1))",
                params![
                    record_id(run.number, 0),
                    record_id(run.number + 1, 0),
                    State::InFlight as u8,
                    State::Pending as u8,
                    database::UNKNOWN,
                    State::Delivered as u8
                ],
                |row| row.get(0),
            )
            .map_err(|error| self.failure(&error))
    }

    /// Whether the run holds records in doubt about which the far side was not asked yet.
    pub fn has_doubt_not_asked_about(&self, run: &RunRow) -> Result<bool, Failure> {
        self.connection
            .query_row(
                "SELECT EXISTS (SELECT 1 FROM record WHERE id >= ?1 AND id < ?2 AND state = ?3 AND NOT flags & ?4)",
                params![
                    record_id(run.number, 0),
                    record_id(run.number + 1, 0),
                    State::InDoubt as u8,
                    database::LOOKED
                ],
                |row| row.get(0),
            )
            .map_err(|error| self.failure(&error))
    }

    /// The calls with several records that are not settled, by number; every row is checked.
    pub fn open_batches(&self, run: &RunRow) -> Result<Vec<BatchRow>, Failure> {
        self.batches(run, "state < 2")
    }

    /// The newest call with several records that has this one.
    pub fn batch_of(&self, run: &RunRow, ordinal: u64) -> Result<Option<BatchRow>, Failure> {
        Ok(self.batches(run, "true")?.into_iter().rev().find(|batch| batch.members.contains(&ordinal)))
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

    fn batches(&self, run: &RunRow, which: &str) -> Result<Vec<BatchRow>, Failure> {
        let read = || -> rusqlite::Result<Vec<Result<BatchRow, i64>>> {
            let columns = batches::COLUMNS;
            let mut statement = self.connection.prepare(&format!(
                "SELECT {columns} FROM batch WHERE id >= ?1 AND id < ?2 AND {which} ORDER BY id"
            ))?;
            let bounds = params![record_id(run.number, 0), record_id(run.number + 1, 0)];
            statement.query_map(bounds, batches::read)?.collect()
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
    use super::super::{Checkpoint, Folder, NewRun, RecordRow, Use};
    use crate::model::State;

    #[test]
    fn rows_that_are_gone_or_old_are_damage() {
        let top = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(top.path(), "default", "p");
        folder.prepare(Use::Create).expect("a place");
        let checkpoint = Checkpoint::open(&folder).expect("a checkpoint");
        let new = NewRun::example(9);
        let run = checkpoint.begin_run(&new, None).expect("a run");
        let rows: Vec<RecordRow> =
            (0..9).filter(|at| *at != 4).map(|at| RecordRow::new(at, State::Delivered)).collect();
        checkpoint.write_rows(&run, &rows, "test").expect("rows");
        let counts = || {
            checkpoint
                .counts(&run)
                .map(|counts| (counts.delivered, counts.unsent))
                .map_err(|found| found.diagnostics[0].message.clone())
        };
        assert_eq!(counts(), Ok((8, 1)));
        let change = |sql: &str| checkpoint.connection.execute_batch(sql).expect("a change");
        // What a whole page that is old, or in a wrong place, does: rows go, or are as they were.
        change("CREATE TEMP TABLE old AS SELECT * FROM record");
        change("DELETE FROM record WHERE id & 255 = 3");
        assert!(counts().expect_err("a row is gone").contains("some are missing or old"));
        change("INSERT OR REPLACE INTO record SELECT * FROM old");
        assert_eq!(counts(), Ok((8, 1)));
        checkpoint.write_rows(&run, &[RecordRow::new(3, State::Failed)], "test").expect("a row");
        assert_eq!(counts(), Ok((7, 1)));
        change("INSERT OR REPLACE INTO record SELECT * FROM old");
        assert!(counts().expect_err("a row is old").contains("some are missing or old"));
    }
}
