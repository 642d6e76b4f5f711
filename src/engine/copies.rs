//! An outcome file of ours as input: its rows settle the records of the run that wrote it
//! (ruling 5), also once a person has corrected them.
//!
//! The start goes on with that run and sends only what the file holds. Rows say by their columns
//! `_runner_run` and `_runner_ordinal` which record they are. Invariant: what is delivered or in
//! doubt there is not sent from a copy.

use crate::model::{Class, Diagnostic, Failure, Record, State};
use crate::outcome::{Checkpoint, RecordRow, RunRow};
use crate::source::{Made, Mark, Source};

use super::sieve::Known;

/// More records than any input has.
const MOST: u64 = 1 << 40;
/// Rows that are written in one step.
const AT_ONCE: usize = 10_000;

/// The records of one run that an input holds copies of.
#[derive(Debug, Clone, Default)]
pub struct Copies {
    /// The run's id.
    pub run: String,
    /// How many.
    pub records: u64,
    /// A bit for each ordinal.
    bits: Vec<u64>,
}

impl Copies {
    /// The highest position, plus one.
    fn end(&self) -> u64 {
        let last = self.bits.last().map_or(0, |bits| 64 - u64::from(bits.leading_zeros()));
        (self.bits.len() as u64).saturating_sub(1) * 64 + last
    }

    /// Whether all of them are records of the run's input as it is known.
    #[must_use]
    pub fn fit(&self, run: &RunRow) -> bool {
        self.end() <= run.records
    }

    /// Whether there is a copy of this record.
    #[must_use]
    pub fn holds(&self, ordinal: u64) -> bool {
        let word = usize::try_from(ordinal / 64).unwrap_or(usize::MAX);
        self.bits.get(word).is_some_and(|bits| bits >> (ordinal % 64) & 1 == 1)
    }

    /// Opens the records of the run that were refused, so that their copies can be sent; a copy of
    /// any other settled record changes nothing.
    pub fn reopen(&self, checkpoint: &Checkpoint, run: &RunRow) -> Result<(), Failure> {
        let mut rows: Vec<RecordRow> = Vec::new();
        checkpoint.each_row(run, 0, |row| {
            if self.opens(&row) {
                rows.push(RecordRow {
                    state: State::Pending,
                    generation: row.generation + u32::from(row.state == State::Failed),
                    granted: false,
                    unknown: false,
                    first_at: 0,
                    request: 0,
                    ..row
                });
            }
            Ok(())
        })?;
        for chunk in rows.chunks(AT_ONCE) {
            checkpoint.write_rows(run, chunk, "copy")?;
        }
        Ok(())
    }

    /// What a start would know of the run's records once the copies are opened.
    pub fn known(&self, checkpoint: &Checkpoint, run: &RunRow) -> Result<Known, Failure> {
        let mut known = Known::new(0);
        checkpoint.each_row(run, 0, |row| {
            if row.state.is_settled() && !self.opens(&row) {
                known.settle(row.ordinal);
            } else {
                known.open.insert(row.ordinal, row);
            }
            Ok(())
        })?;
        Ok(known)
    }

    /// How many of the copies are still to be sent: those that are open, and those that are opened.
    pub fn to_send(&self, checkpoint: &Checkpoint, run: &RunRow) -> Result<u64, Failure> {
        let mut settled = 0;
        checkpoint.each_row(run, 0, |row| {
            settled += u64::from(row.state.is_settled() && self.holds(row.ordinal) && !self.opens(&row));
            Ok(())
        })?;
        Ok(self.records.saturating_sub(settled))
    }

    /// Whether the copy of a settled record is sent.
    #[must_use]
    pub fn opens(&self, row: &RecordRow) -> bool {
        let refused = match row.state {
            State::Failed => true,
            State::Invalid => row.class != "duplicate-key",
            State::Skipped => row.class == "where",
            State::Pending | State::InFlight | State::Delivered | State::InDoubt => false,
        };
        refused && self.holds(row.ordinal)
    }
}

/// Gathers what records say of themselves.
#[derive(Debug, Default)]
pub struct Gather {
    copies: Copies,
    /// The first record that says nothing.
    plain: Option<String>,
}

impl Gather {
    /// Looks at one record.
    pub fn note(&mut self, record: &Record) -> Result<(), Failure> {
        let Some(copy) = &record.copy_of else {
            self.plain.get_or_insert_with(|| record.place.to_string());
            return Ok(());
        };
        let copies = &mut self.copies;
        if copies.records == 0 {
            copies.run.clone_from(&copy.run);
        } else if copies.run != copy.run {
            let message = format!("this file holds records of two runs, {} and {}", copies.run, copy.run);
            return Err(refused(record, message, "give each its own file"));
        }
        if copies.holds(copy.ordinal) || copy.ordinal >= MOST {
            let message = format!("record {} of run {} stands here a second time", copy.ordinal, copy.run);
            return Err(refused(record, message, "keep one of the rows, or take its `_runner` columns away"));
        }
        let word = usize::try_from(copy.ordinal / 64).unwrap_or(usize::MAX);
        if word >= copies.bits.len() {
            copies.bits.resize(word + 1, 0);
        }
        copies.bits[word] |= 1 << (copy.ordinal % 64);
        copies.records += 1;
        Ok(())
    }

    /// The copies, if the input holds nothing else.
    pub fn finish(self) -> Result<Option<Copies>, Failure> {
        match (self.copies.records, self.plain) {
            (0, _) => Ok(None),
            (_, None) => Ok(Some(self.copies)),
            (_, Some(place)) => {
                let message = format!(
                    "this file holds records of run {} and others that are none of it",
                    self.copies.run
                );
                let found = Diagnostic::error("mixed-input", message)
                    .at(place)
                    .note("nothing was sent")
                    .help("put new rows into a file of their own");
                Err(Failure::new(Class::Input, found))
            }
        }
    }
}

fn refused(record: &Record, message: String, help: &str) -> Failure {
    let found = Diagnostic::error("mixed-input", message)
        .at(record.place.to_string())
        .note("nothing was sent")
        .help(help.to_owned());
    Failure::new(Class::Input, found)
}

/// The input of a start whose records have the positions of those that they are copies of.
pub struct Renumbered(pub Box<dyn Source>);

impl Source for Renumbered {
    fn next(&mut self) -> Option<Result<Record, Failure>> {
        let mut record = self.0.next()?;
        if let Ok(record) = &mut record
            && let Some(copy) = &record.copy_of
        {
            record.ordinal = copy.ordinal;
        }
        Some(record)
    }

    fn columns(&self) -> Option<&[String]> {
        self.0.columns()
    }

    /// A place in the file, whose ordinals are not those of the records.
    fn mark(&self) -> Mark {
        self.0.mark()
    }

    fn seek(&mut self, mark: Mark) -> Result<(), Failure> {
        self.0.seek(mark)
    }

    fn bytes_read(&self) -> u64 {
        self.0.bytes_read()
    }

    fn bytes_total(&self) -> Option<u64> {
        self.0.bytes_total()
    }

    fn warnings(&self) -> &[Diagnostic] {
        self.0.warnings()
    }

    fn make(&mut self, what: Made) {
        self.0.make(what);
    }

    fn text(&self) -> Option<&[u8]> {
        self.0.text()
    }
}

/// A copy of a record that the run's input does not have.
pub fn refuse_unfit(run: &RunRow) -> Failure {
    Failure::new(
        Class::Input,
        Diagnostic::error(
            "mixed-input",
            format!("this file names records that the input of run {} does not have", run.id),
        )
        .note(format!("the run has {} records; nothing was sent", run.records))
        .help("the input changed since the file was written: take it from the run's folder again, or take its `_runner` columns away"),
    )
}

/// A copy cannot settle what nobody has looked at yet: only the run's own input tells what a start
/// that did not end in order may have sent.
pub fn refuse_unsettled(run: &RunRow, command: &str) -> Failure {
    Failure::new(
        Class::State,
        Diagnostic::error(
            "run-interrupted",
            format!("run {}, whose records these are, did not end in order", run.id),
        )
        .note("nothing was sent")
        .help(format!("go on with it first (`{command}` with its own input), then give this file again")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CopyOf, RecordPlace};

    fn record(copy_of: Option<(&str, u64)>) -> Record {
        Record {
            ordinal: 0,
            place: RecordPlace { file: "x.csv".into(), line: 2, byte: 0 },
            digest: 0,
            copy_of: copy_of.map(|(run, ordinal)| Box::new(CopyOf { run: run.into(), ordinal })),
            fields: Ok(crate::model::Map::new()),
        }
    }

    fn gathered(records: &[Option<(&str, u64)>]) -> Result<Option<(String, u64)>, String> {
        let mut gather = Gather::default();
        let said = |failure: Failure| failure.diagnostics[0].message.clone();
        for copy in records {
            gather.note(&record(*copy)).map_err(said)?;
        }
        Ok(gather.finish().map_err(said)?.map(|copies| (copies.run, copies.records)))
    }

    #[test]
    fn an_input_is_all_copies_of_one_run_or_none() {
        assert_eq!(gathered(&[None, None]), Ok(None));
        assert_eq!(gathered(&[Some(("r", 7)), Some(("r", 0))]), Ok(Some(("r".into(), 2))));
        for (records, says) in [
            ([Some(("r", 1)), None], "others that are none of it"),
            ([Some(("r", 1)), Some(("s", 2))], "two runs, r and s"),
            ([Some(("r", 1)), Some(("r", 1))], "a second time"),
            ([Some(("r", u64::MAX)), None], "a second time"),
        ] {
            let said = gathered(&records).expect_err(says);
            assert!(said.contains(says), "{said}");
        }
    }

    #[test]
    fn only_what_was_refused_is_opened_by_a_copy() {
        let mut gather = Gather::default();
        gather.note(&record(Some(("r", 3)))).unwrap_or_else(|_| panic!("a copy"));
        let copies = gather.copies;
        for (state, class, opens) in [
            (State::Failed, "X", true),
            (State::Invalid, "schema", true),
            (State::Invalid, "duplicate-key", false),
            (State::Skipped, "where", true),
            (State::Skipped, "held", false),
            (State::Delivered, "", false),
            (State::InDoubt, "reset", false),
            (State::Pending, "", false),
        ] {
            let row = RecordRow { class: class.into(), ..RecordRow::new(3, state) };
            assert_eq!(copies.opens(&row), opens, "{state:?} {class}");
            assert!(!copies.opens(&RecordRow { ordinal: 4, ..row }));
        }
    }
}
