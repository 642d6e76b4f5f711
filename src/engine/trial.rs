//! `try`: one record of the input as part of its run, or one that is no record at all.
//!
//! The first is an ordinary start that is narrowed to a record, so that it counts; the second goes
//! past the checkpoint, with the endpoint's own body, since a sample is shaped like the endpoint.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Endpoint, InDoubt, Pipeline, Retry, Select, Step};
use crate::deliver::{Meaning, Reading, Sender, Tries, Verdict, judge};
use crate::model::{
    Class, Diagnostic, Failure, Map, Outcome, Record, RecordPlace, Reply, Request, State, Value,
};
use crate::outcome::{Checkpoint, RecordRow, RunRow};

use super::identity;
use super::open::{self, Plan, Wanted};
use super::prepare::hash;

/// The one record of a start.
#[derive(Debug, Clone, Default)]
pub struct One {
    /// Its key; the first that is pending without one.
    pub key: Option<String>,
    /// Send it although it is delivered or in doubt.
    pub again: bool,
}

/// Opens a record of a run again, if it is settled. Gives its position when the run knows it.
pub fn reopen(
    checkpoint: &Checkpoint,
    run: &RunRow,
    one: &One,
    command: &str,
) -> Result<Option<BTreeSet<u64>>, Failure> {
    let Some(key) = &one.key else { return Ok(None) };
    let wanted = hash(key);
    let mut found: Option<RecordRow> = None;
    checkpoint.each_row(run, 0, |row| {
        // Of records that share a key one is sent; the others only say so.
        if row.key_hash == wanted && row.class != "duplicate-key" && found.is_none() {
            found = Some(row);
        }
        Ok(())
    })?;
    let Some(row) = found else { return Ok(None) };
    let only = Some(BTreeSet::from([row.ordinal]));
    if !row.state.is_settled() {
        return Ok(only);
    }
    if matches!(row.state, State::Delivered | State::InDoubt) && !one.again {
        let (word, what) = match row.state {
            State::Delivered => ("delivered", "would arrive a second time"),
            _ => ("in doubt", "may arrive a second time"),
        };
        return Err(Failure::new(
            Class::State,
            Diagnostic::error("try-again", format!("the record is {word} already and {what}"))
                .note(format!("run {}, position {}; nothing was sent", run.id, row.ordinal))
                .help(format!("`{command} --again` sends it all the same")),
        ));
    }
    let is_certain = matches!(row.state, State::Delivered | State::Failed);
    let opened = RecordRow {
        state: State::Pending,
        granted: false,
        unknown: row.unknown && row.state == State::InDoubt,
        generation: row.generation + u32::from(is_certain),
        first_at: 0,
        request: 0,
        // What is delivered begins anew with its first step.
        captures: if row.state == State::Delivered { String::new() } else { row.captures.clone() },
        ..row
    };
    checkpoint.reopen(run)?;
    checkpoint.write_rows(run, std::slice::from_ref(&opened), "try")?;
    Ok(only)
}

/// A call of an endpoint for something that is no record of the input.
pub struct AdHoc {
    plan: Plan,
}

/// What came of one request.
#[derive(Debug)]
pub struct Tried {
    /// What came back.
    pub reply: Reply,
    /// What it says.
    pub reading: Reading,
    /// What would follow.
    pub verdict: Verdict,
    /// How long it took.
    pub took: Duration,
}

impl AdHoc {
    /// Opens the endpoint as its template has it, for the connection of a pipeline.
    pub fn open(mut pipeline: Pipeline, endpoint: Endpoint, target: &str) -> Result<Self, Failure> {
        pipeline.first =
            Step { id: String::new(), endpoint, when: None, only_looks: false, in_doubt: InDoubt::Hold };
        pipeline.later.clear();
        // These speak of the pipeline's records.
        pipeline.schema = None;
        pipeline.key = None;
        pipeline.select = Select::default();
        pipeline.delivery.order_by = None;
        let wanted = Wanted { target: target.to_owned(), ..Wanted::default() };
        Ok(Self { plan: open::open_without_input(pipeline, &wanted)? })
    }

    /// The sample of the endpoint and where it stands.
    pub fn sample(&self) -> Result<(Map, RecordPlace), Failure> {
        let endpoint = self.plan.pipeline.endpoint();
        let Some(sample) = &endpoint.sample else {
            return Err(Failure::new(
                Class::Config,
                Diagnostic::error(
                    "sample-missing",
                    format!("the endpoint {} has no `sample`", endpoint.name),
                )
                .place(&endpoint.place)
                .help("add `sample:` to its template, or leave `--sample` out to take a record"),
            ));
        };
        let file = if endpoint.name.contains('/') {
            format!("templates/{}.yaml", endpoint.name)
        } else {
            self.plan.pipeline.path.clone()
        };
        Ok((sample.clone(), RecordPlace { file: file.into(), line: 0, byte: 0 }))
    }

    /// The request for these fields, or why there is none.
    pub fn request(&self, fields: Map, place: RecordPlace) -> Result<Request, Outcome> {
        let run = identity::new_run(&self.plan.pipeline.name);
        let record = Record { ordinal: 0, place, digest: 0, copy_of: None, fields: Ok(fields) };
        let preparer = &self.plan.preparer;
        let mut shaped = preparer.shape(record, &run).map_err(|settled| settled.outcome)?;
        preparer
            .request(&mut shaped, &run, 0)
            .map_err(|refused| refused.settle(shaped.identity.clone()).outcome)
    }

    /// What these fields contribute to a call with several records, where the endpoint has such calls.
    #[must_use]
    pub fn item(&self, fields: Map, place: RecordPlace) -> Option<Value> {
        let preparer = &self.plan.preparer;
        preparer.batch.as_ref()?;
        let run = identity::new_run(&self.plan.pipeline.name);
        let record = Record { ordinal: 0, place, digest: 0, copy_of: None, fields: Ok(fields) };
        let mut shaped = preparer.shape(record, &run).ok()?;
        preparer.part_of(&mut shaped, None).ok().map(|part| part.member.item)
    }

    /// Sends a request, once; `item` is what it has of the one record, where calls have several.
    pub fn send(&self, request: &Request, item: Option<&Value>) -> Result<Tried, Failure> {
        let pipeline = &self.plan.pipeline;
        if let Some(failure) = pipeline.connection.unset_failure() {
            return Err(failure);
        }
        let sender = Sender::new(&pipeline.connection, &pipeline.delivery)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
                Failure::new(Class::Io, Diagnostic::error("io", format!("cannot start the runtime: {error}")))
            })?;
        let begin = Instant::now();
        let reply = runtime.block_on(sender.send(request));
        let took = begin.elapsed();
        let mut reading = self.plan.rules.first().reader.read(&reply, request);
        if let (Meaning::Acted, Some(items), Some(item), Reply::Arrived(arrived)) =
            (reading.meaning, &self.plan.items, item, &reply)
            && let Some(one) = items.read(arrived, request, &[item]).pop()
        {
            reading = one.reading;
        }
        let once = Retry { attempts: std::num::NonZeroU32::MIN, ..pipeline.delivery.retry.clone() };
        let tries = Tries { made: 1, earlier_unknown: false };
        let verdict = judge(&reading.meaning, tries, InDoubt::Hold, &once, 0.0);
        Ok(Tried { reply, reading, verdict, took })
    }

    /// The pipeline with the endpoint's own body.
    #[must_use]
    pub fn pipeline(&self) -> &Arc<Pipeline> {
        &self.plan.pipeline
    }
}
