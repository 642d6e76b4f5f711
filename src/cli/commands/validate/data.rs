//! `validate --data`: every record of a pipeline's input, shaped, rendered and checked.
//!
//! The same steps as before a sending, in the same order, so that what is found here is what `apply`
//! would not send. Invariant: nothing is written but what does not fit into memory, into a folder
//! that is gone with the command.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::config::Pipeline;
use crate::engine::prepare::Preparer;
use crate::engine::survey::{self, LeavesOut, drop_of};
use crate::engine::{Observer, Plan};
use crate::model::{Class, Diagnostic, Event, Failure, Record, Reply, Request, State};
use crate::render::RunValues;
use crate::report::Reporter;

use super::groups::{Groups, Settled};

/// What was found in one input.
pub struct Looked {
    pipeline: String,
    input: String,
    /// Records that were read.
    pub records: u64,
    /// Records that would not be sent because of a fault in them.
    pub invalid: u64,
    /// Records that a rule of the pipeline leaves out.
    skipped: u64,
    /// The class of the findings: an input that cannot be used as a whole is graver than records.
    pub class: Class,
    /// The findings.
    pub findings: Vec<Diagnostic>,
    groups: Value,
}

impl Looked {
    /// For programs.
    pub fn to_json(&self) -> Value {
        json!({
            "pipeline": self.pipeline,
            "input": self.input,
            "records": self.records,
            "invalid": self.invalid,
            "skipped": self.skipped,
            "findings": self.groups,
        })
    }
}

/// What a pipeline reads that no look can read, if anything.
pub fn reads(pipeline: &Pipeline) -> Option<&str> {
    if pipeline.source.is_stdin() {
        return Some("standard input");
    }
    if pipeline.source.replies_of().is_some() {
        return Some("the replies of another pipeline");
    }
    if pipeline.source.vanished_of().is_some() {
        return Some("what vanished from another pipeline's input");
    }
    let tables = pipeline.lookups.iter().map(|lookup| &lookup.source);
    std::iter::once(&pipeline.source).chain(tables).find(|source| source.is_api()).map(|source| &*source.file)
}

/// Looks at every record.
pub fn check(plan: &Plan, reporter: &mut Reporter) -> Looked {
    let pipeline = &plan.pipeline;
    let mut looked = Looked {
        pipeline: pipeline.name.clone(),
        input: pipeline.source.file.clone(),
        records: 0,
        invalid: 0,
        skipped: 0,
        class: Class::RecordsFailed,
        findings: Vec::new(),
        groups: Value::Null,
    };
    if let Some(what) = reads(pipeline) {
        reporter.say(&format!("{}: reads {what}, which is not checked", pipeline.name));
        return looked;
    }
    let mut groups = Groups::default();
    if let Err(failure) = read(plan, &mut looked, &mut groups) {
        looked.class = failure.class;
        looked.findings.extend(failure.diagnostics);
    }
    looked.groups = groups.to_json();
    let total = looked.records;
    looked.findings.extend(groups.findings(plan, total));
    looked
}

fn read(plan: &Plan, looked: &mut Looked, groups: &mut Groups) -> Result<(), Failure> {
    let run = RunValues {
        id: "validate".into(),
        started_at: jiff::Timestamp::UNIX_EPOCH,
        pipeline: plan.pipeline.name.as_str().into(),
        ordinal: 0,
        step: 0,
    };
    let temporary = Temporary::new()?;
    let mut found = survey::survey(plan, &temporary.0, &[], true, &run, &mut Nobody)?;
    found.compare_keys(plan, &run, LeavesOut::None, |_| Ok(()))?;
    let mut source = plan.source()?;
    while let Some(record) = source.next() {
        let record = record?;
        looked.records += 1;
        let drop = drop_of(&found.dropped, record.ordinal);
        let place = record.place.clone();
        let settled = match (one(&plan.preparer, record, &run), drop) {
            (Some(outcome), _) => outcome,
            (None, Some(drop)) => repeated(drop),
            (None, None) => continue,
        };
        if settled.state == State::Skipped {
            looked.skipped += 1;
        } else {
            looked.invalid += 1;
            groups.add(&settled, &place);
        }
    }
    Ok(())
}

/// What becomes of a record whose key another one has; earlier runs are not asked here.
fn repeated(drop: survey::Drop) -> Settled {
    let refused = matches!(drop, survey::Drop::Duplicate(_));
    let state = if refused { State::Invalid } else { State::Skipped };
    Settled { state, class: "duplicate-key".to_owned(), message: String::new() }
}

/// `None` for a record that would be sent.
fn one(preparer: &Preparer, record: Record, run: &RunValues) -> Option<Settled> {
    let mut shaped = match preparer.shape(record, run) {
        Ok(shaped) => shaped,
        Err(settled) => return Some(settled.outcome.into()),
    };
    match preparer.request(&mut shaped, run, 0) {
        Ok(_) => None,
        Err(refused) => Some(refused.settle(shaped.identity).outcome.into()),
    }
}

/// A folder for what does not fit into memory; gone when it is dropped.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Result<Self, Failure> {
        use std::os::unix::fs::DirBuilderExt as _;
        let name = format!("runner-validate-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| Failure::io("make the temporary folder", &path, &error))?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // It is empty but for what a failed disk left.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Nobody listens to the first pass.
struct Nobody;

impl Observer for Nobody {
    fn event(&mut self, _: &Event) {}
    fn tick(&mut self) {}
    fn status(&mut self) {}
    fn attempted(&mut self, _: u64, _: &Request, _: &Reply, _: std::time::Duration) {}
}
