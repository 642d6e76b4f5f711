//! Whether a checkpoint is sound: before a start for what it relies on, for all of a large file beside the sending.
//!
//! Apart from opening it, as who opens decides how much is looked at, and when. Invariant: a run is not said to
//! be complete before all of its file was looked at.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{InterruptHandle, OptionalExtension as _, Row};

use crate::model::{Class, Diagnostic, Failure};

use super::blocks::{Block, CallShare, Share, Sums, block_of};
use super::checkpoint::{Checkpoint, DAMAGED, add_note, with_ending};
use super::database::{self, record_id};
use super::folder::Folder;
use super::queries::ids;
use super::rows::RunRow;

/// Files up to this size are looked at as a whole before anything else; that takes less than a second.
const AT_ONCE: u64 = 64 << 20;

impl Checkpoint {
    /// Checks all of the file: version, structure, tables, and every run's rows against their sums.
    pub fn check(&self) -> Result<(), Failure> {
        self.check_version()?;
        let found: String = self
            .connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|error| self.failure(&error))?;
        if found != "ok" {
            // The first line is a title.
            return Err(self.damage(found.lines().last().unwrap_or_default()));
        }
        self.check_tables()?;
        self.check_rows()
    }

    /// Checks the tables, and the rows that speak of whole runs.
    pub(super) fn check_tables(&self) -> Result<(), Failure> {
        let unsound = database::unsound(&self.connection).map_err(|error| self.failure(&error))?;
        unsound.map_or(Ok(()), |what| Err(self.damage(&what)))
    }

    /// Checks every run's rows against their sums.
    pub fn check_rows(&self) -> Result<(), Failure> {
        // What a writer beside it commits must not come in between.
        let _snapshot = self.connection.unchecked_transaction().map_err(|error| self.failure(&error))?;
        self.runs()?.iter().try_for_each(|run| self.check_rows_of(run))
    }

    /// The same for one run.
    pub(super) fn check_rows_of(&self, run: &RunRow) -> Result<(), Failure> {
        let blocks = self.blocks(run)?;
        self.check_records_from(run, &blocks, 0)?;
        self.check_calls_from(run, &blocks, 0)
    }

    /// The same of a small file that was not looked at when it was opened. `status --verify` looks at any.
    pub fn check_small(&self) -> Result<(), Failure> {
        if self.is_checked.get() || !self.is_small() { Ok(()) } else { self.check_rows() }
    }

    /// Whether looking at all of the file, with its log, takes no time that anybody waits for.
    pub(super) fn is_small(&self) -> bool {
        let length = |path: &Path| path.metadata().map_or(0, |file| file.len());
        length(&self.path) + length(&with_ending(&self.path, "-wal")) <= AT_ONCE
    }

    /// Whether the newest start, of whichever run, found damage: what comes after it looks at everything before it
    /// sends.
    pub(super) fn ended_by_damage(&self) -> Result<bool, Failure> {
        let newest = "SELECT class = ?1 OR EXISTS (SELECT 1 FROM note WHERE what = ?2 AND note.at >= start.at) \
                      FROM start ORDER BY number DESC LIMIT 1";
        self.connection
            .query_row(newest, [Class::State.name(), DAMAGED], |row| row.get(0))
            .optional()
            .map(Option::unwrap_or_default)
            .map_err(|error| self.failure(&error))
    }

    /// Notes that the newest start met damage, where its writer could not any more. The file may be past that.
    pub fn note_damage(folder: &Folder) {
        let noted = Self::open_to_read(folder).and_then(|checkpoint| {
            let Some(checkpoint) = checkpoint else { return Ok(()) };
            checkpoint.durably(|connection| {
                let newest = "SELECT run FROM start ORDER BY number DESC LIMIT 1";
                let run = connection.query_row(newest, [], |row| row.get(0))?;
                add_note(connection, run, None, DAMAGED, "")
            })
        });
        if noted.is_err() {
            tracing::debug!("that the checkpoint is damaged could not be noted in it");
        }
    }

    /// Checks what a start relies on that goes on with a run, before anything is changed: all of it, where settled
    /// records are looked at again.
    pub fn check_to_go_on(&self, run: &RunRow, all: bool) -> Result<(), Failure> {
        match (self.is_checked.get(), all) {
            (true, _) => Ok(()),
            (false, true) => self.check_rows_of(run),
            (false, false) => self.check_unsettled(run),
        }
    }

    /// Checks what a start that goes on relies on: the rows from the settled point on, and those of open calls.
    pub fn check_unsettled(&self, run: &RunRow) -> Result<(), Failure> {
        let _snapshot = self.connection.unchecked_transaction().map_err(|error| self.failure(&error))?;
        let blocks = self.blocks(run)?;
        self.check_records_from(run, &blocks, block_of(run.settled.ordinal))?;
        let open = blocks.iter().find(|block| block.sums.calls_open != 0);
        // The last says which number the next call gets.
        let last = blocks.iter().rfind(|block| block.sums.calls_crc != 0);
        self.check_calls_from(run, &blocks, open.or(last).map_or(0, |block| block.number))
    }

    fn check_records_from(&self, run: &RunRow, blocks: &[Block], from: u64) -> Result<(), Failure> {
        let blocks = || blocks.iter().filter(|block| block.number >= from);
        self.check_between(run, "record", from, blocks())?;
        blocks().try_for_each(|block| self.check_records(run, block))
    }

    fn check_calls_from(&self, run: &RunRow, blocks: &[Block], from: u64) -> Result<(), Failure> {
        let blocks = || blocks.iter().filter(|block| block.number >= from);
        self.check_between(run, "batch", from, blocks())?;
        blocks().try_for_each(|block| self.check_calls(run, block))
    }

    /// Checks that no row lies in a block that is not there.
    fn check_between<'b>(
        &self,
        run: &RunRow,
        table: &str,
        from: u64,
        blocks: impl Iterator<Item = &'b Block>,
    ) -> Result<(), Failure> {
        let mut next = record_id(run.number, Block::first(from));
        let ends = blocks.map(|block| (record_id(run.number, block.bounds().0), block.bounds().1));
        for (upto, behind) in ends.chain([(record_id(run.number + 1, 0), 0)]) {
            let sql = format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE id >= ?1 AND id < ?2)");
            let read = || self.connection.prepare_cached(&sql)?.query_row([next, upto], |row| row.get(0));
            let has_rows: bool = read().map_err(|error| self.failure(&error))?;
            if has_rows {
                return Err(self.old_rows(table, run));
            }
            next = record_id(run.number, 0) + behind.cast_signed();
        }
        Ok(())
    }

    /// Checks the records of a block against its sums.
    pub(super) fn check_records(&self, run: &RunRow, block: &Block) -> Result<(), Failure> {
        let (from, upto) = block.bounds();
        let sql = format!("SELECT {} FROM record WHERE id >= ?1 AND id < ?2", Share::COLUMNS);
        let of_rows = self.sums(&sql, run, block, |sums, row| Share::read(row).map(|share| sums.add(share)));
        if self.fit(of_rows, block.sums.of_records())? {
            return Ok(());
        }
        // A single row that was changed has a name.
        self.each_row_where(run, (from, upto), "true", |_| Ok(()))?;
        Err(self.old_rows("record", run))
    }

    /// Checks the calls of a block against its sums.
    fn check_calls(&self, run: &RunRow, block: &Block) -> Result<(), Failure> {
        let (from, upto) = block.bounds();
        let sql = format!("SELECT {} FROM batch WHERE id >= ?1 AND id < ?2", CallShare::COLUMNS);
        let of_rows =
            self.sums(&sql, run, block, |sums, row| CallShare::read(row).map(|share| sums.add_call(share)));
        if self.fit(of_rows, block.sums.of_calls())? {
            return Ok(());
        }
        self.batches(run, (from, upto), "true")?;
        Err(self.old_rows("batch", run))
    }

    /// Sums over the rows of a block.
    fn sums(
        &self,
        sql: &str,
        run: &RunRow,
        block: &Block,
        add: impl Fn(&mut Sums, &Row<'_>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<Sums> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(ids(run, block.bounds()))?;
        let mut sums = Sums::default();
        while let Some(row) = rows.next()? {
            add(&mut sums, row)?;
        }
        Ok(sums)
    }

    /// Whether the rows are those of a block. Values that cannot be are none that were written.
    fn fit(&self, of_rows: rusqlite::Result<Sums>, sums: Sums) -> Result<bool, Failure> {
        match of_rows {
            Ok(of_rows) => Ok(of_rows == sums),
            Err(error) if error.sqlite_error_code().is_none() => Ok(false),
            Err(error) => Err(self.failure(&error)),
        }
    }

    fn old_rows(&self, table: &str, run: &RunRow) -> Failure {
        self.damage(&format!(
            "table `{table}`: the rows of run {} are not those that were written last, some are missing or old",
            run.id
        ))
    }

    /// Looks at all of a file that was too large for that when it was opened, on a thread of its own; `tell`
    /// gets what it finds.
    pub fn inspect_beside(
        &self,
        tell: impl FnOnce(Failure) + Send + 'static,
    ) -> Result<Option<Inspection>, Failure> {
        if self.is_checked.get() {
            return Ok(None);
        }
        let other = self.another()?;
        // Closing would move the log and sync it, which is the writer's.
        let keep_log = other.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        keep_log.map_err(|error| self.failure(&error))?;
        let interrupt = other.connection.get_interrupt_handle();
        let given_up = Arc::new(AtomicBool::new(false));
        let is_given_up = Arc::clone(&given_up);
        let thread = std::thread::Builder::new()
            .name("inspection".into())
            .spawn(move || {
                let checked = other.check().map_err(found_late);
                if let Err(failure) = &checked
                    && !is_given_up.load(Ordering::SeqCst)
                {
                    tell(failure.clone());
                }
                checked
            })
            .map_err(|error| {
                Failure::new(Class::Io, Diagnostic::error("io", format!("cannot start a thread: {error}")))
            })?;
        Ok(Some(Inspection { given_up, interrupt, thread: Some(thread) }))
    }
}

/// Something was sent when it was found.
fn found_late(mut failure: Failure) -> Failure {
    for diagnostic in &mut failure.diagnostics {
        diagnostic.notes = vec!["nothing more was sent, nothing was repaired".into()];
    }
    failure
}

/// A look at all of a checkpoint beside its writer; given up when it is dropped.
pub struct Inspection {
    given_up: Arc<AtomicBool>,
    interrupt: InterruptHandle,
    thread: Option<JoinHandle<Result<(), Failure>>>,
}

impl Inspection {
    /// Waits for its end.
    ///
    /// # Errors
    /// What it found.
    pub fn wait(mut self) -> Result<(), Failure> {
        let checked = self.thread.take().map(JoinHandle::join);
        checked.unwrap_or(Ok(Ok(()))).unwrap_or_else(|_| {
            let what = "the thread that looks at the checkpoint ended by a fault of this program";
            Err(Failure::new(Class::Bug, Diagnostic::error("bug", what)))
        })
    }
}

impl Drop for Inspection {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.given_up.store(true, Ordering::SeqCst);
        while !thread.is_finished() {
            // It ends what runs now, and nothing between two statements.
            self.interrupt.interrupt();
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = thread.join();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::{Checkpoint, Folder, Grants, NewRun, RecordRow, Use};
    use crate::config::Durability;
    use crate::model::{Class, State};

    fn new_in(top: &tempfile::TempDir) -> (Folder, Checkpoint) {
        let folder = Folder::new(top.path(), "default", "p");
        folder.prepare(Use::Create).unwrap();
        let checkpoint = Checkpoint::open(&folder).unwrap();
        (folder, checkpoint)
    }

    #[test]
    fn damage_that_is_noted_is_known_to_the_next_start_and_makes_no_crash_an_orderly_end() {
        let top = tempfile::tempdir().unwrap();
        let (folder, checkpoint) = new_in(&top);
        let run = checkpoint.begin_run(&NewRun::example(9), None).unwrap();
        let grants = Grants { intents: true, durable_intents: false, leased_from: 0 };
        let writer = checkpoint.into_writer(&run, grants, Durability::Power, None).unwrap();
        let look = || Checkpoint::open_to_read(&folder).unwrap().unwrap();
        assert!(!look().ended_by_damage().unwrap());
        writer.damage();
        assert!(writer.sync(run.settled).blocking_recv().unwrap());
        assert!(look().ended_by_damage().unwrap());
        assert_eq!(look().latest_start(&run).unwrap().unwrap().class, "");
        drop(writer);
        Checkpoint::note_damage(&folder);
        look().check().unwrap();
    }

    #[test]
    fn a_look_beside_tells_what_it_finds_and_can_be_given_up() {
        let top = tempfile::tempdir().unwrap();
        let (folder, checkpoint) = new_in(&top);
        assert!(checkpoint.inspect_beside(|_| ()).unwrap().is_none(), "it is known to be sound");
        let run = checkpoint.begin_run(&NewRun::example(9), None).unwrap();
        let rows: Vec<RecordRow> = (0..9).map(|at| RecordRow::new(at, State::Delivered)).collect();
        checkpoint.write_rows(&run, &rows, "test").unwrap();
        let late = Checkpoint::open_to_read(&folder).unwrap().unwrap();
        let (tell, told) = mpsc::channel();
        let look = || {
            let tell = tell.clone();
            let look = late.inspect_beside(move |failure| tell.send(failure.class).unwrap()).unwrap();
            look.unwrap()
        };
        assert!(look().wait().is_ok());
        drop(look());
        assert!(told.try_recv().is_err());
        checkpoint.connection.execute("DELETE FROM record WHERE id & 1 = 0", []).unwrap();
        let found = look().wait().unwrap_err();
        assert_eq!((told.recv().unwrap(), found.class), (Class::State, Class::State));
        assert_eq!(found.diagnostics[0].notes, ["nothing more was sent, nothing was repaired"]);
    }
}
