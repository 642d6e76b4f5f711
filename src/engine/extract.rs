//! `extract`: the source of a pipeline as a file, in the shape in which it would be sent.
//!
//! What comes out is what `select` leaves: renamed, typed by the schema, without records for which
//! `where` is false and without excluded fields. Records are not checked against the schema, keys not
//! compared, and no limit of the pipeline is applied. Nothing is sent but the reading of a list, and no
//! state is touched. Invariant: memory holds one record and the names of columns.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Pipeline;
use crate::model::{Class, Diagnostic, Failure, Map, Str, Value};
use crate::outcome::{Folder, Use};
use crate::render::{Root, RunValues};
use crate::source::{self, Source};

use super::open::{self, Plan, Wanted};
use super::plan::Scratch;
use super::stop::Until;
use super::{Observer, identity, listing};

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One JSON object a line.
    Ndjson,
    /// A header line with all columns, then a row a record.
    Csv,
}

/// What was written.
#[derive(Debug, Default)]
pub struct Extracted {
    /// Records.
    pub records: u64,
    /// Records for which `where` is false.
    pub left_out: u64,
    /// Rows that are no record, or whose `where` cannot be calculated.
    pub invalid: u64,
    /// The first of those.
    pub findings: Vec<Diagnostic>,
    /// What the opening found.
    pub warnings: Vec<Diagnostic>,
}

/// Takes what is written; false when nobody wants more.
pub type Sink<'a> = dyn FnMut(&[u8]) -> Result<bool, Failure> + 'a;

/// What is done with each record; false when no more are wanted.
type See<'a> = dyn FnMut(Map) -> Result<bool, Failure> + 'a;

/// Bytes that are written at once.
const AT_ONCE: usize = 64 << 10;
/// Findings that are kept.
const KEPT: usize = 5;

/// Writes the source of a pipeline, at most `limit` records.
pub fn extract(
    mut pipeline: Pipeline,
    target: &str,
    form: Form,
    limit: Option<u64>,
    until: &Until,
    sink: &mut Sink<'_>,
    observer: &mut dyn Observer,
) -> Result<Extracted, Failure> {
    let scratch = Scratch::new()?;
    pipeline.require_state = false;
    let wanted = |spool| Wanted { target: target.to_owned(), spool, ..Wanted::default() };
    let spool: Option<PathBuf> = if pipeline.source.is_api() {
        // Its own mistakes are told before anything is asked for.
        open::open(pipeline.clone(), &Wanted { input_may_be_missing: true, ..wanted(None) })?;
        let spool = scratch.path().join("list");
        // With a condition nobody knows how many items it takes.
        let most = limit.filter(|_| pipeline.select.filter.is_none());
        if let Some(list) = &pipeline.listing {
            listing::read(&pipeline, (list, &pipeline.source.file), &spool, most, until, observer)?;
        }
        Some(spool)
    } else if pipeline.source.is_stdin() {
        let spool = scratch.path().join("stdin");
        let mut stdin = Attentive { stdin: std::io::stdin(), until };
        source::spool(&mut stdin, &spool).map_err(|failure| interrupted(until).unwrap_or(failure))?;
        Some(spool)
    } else {
        None
    };
    // Tables that are lists are read only where a condition looks into them.
    let looks = pipeline.select.filter.as_ref().is_some_and(|filter| filter.value.contains("lookups"));
    let mut wanted = wanted(spool);
    if looks {
        let folder = Folder::new(scratch.path(), target, &pipeline.name);
        for (lookup, list) in pipeline.tables() {
            folder.prepare(Use::Create)?;
            let to = folder.lookup(&lookup.name.value);
            listing::read(&pipeline, (list, &lookup.source.file), &to, None, until, observer)?;
        }
        wanted.folder = Some(folder);
    } else {
        wanted.input_may_be_missing = pipeline.tables().next().is_some();
    }
    let plan = open::open(pipeline, &wanted)?;
    let run = identity::new_run(&plan.pipeline.name);
    let mut out = Out { sink, bytes: Vec::with_capacity(AT_ONCE * 2), is_wanted: true };
    let columns = match form {
        Form::Ndjson => None,
        Form::Csv => {
            let columns = columns(&plan, &run, (limit, until), observer)?;
            row(columns.iter().map(|name| name.as_bytes().to_vec()), &mut out.bytes)?;
            Some(columns)
        }
    };
    let source = plan.source()?;
    // What is open is read all the same, and whatever ends the writing leaves nothing behind.
    drop(scratch);
    let mut extracted = each(&plan, source, &run, (limit, until), observer, &mut |record| {
        if let Some(columns) = &columns {
            row(columns.iter().map(|name| cell(record.get(name))), &mut out.bytes)?;
        } else {
            Value::Object(record).write_json(&mut out.bytes);
            out.bytes.push(b'\n');
        }
        out.pass_on()
    })?;
    out.end()?;
    extracted.warnings.clone_from(&plan.warnings);
    Ok(extracted)
}

/// Why nothing more is written, where a signal came.
fn interrupted(until: &Until) -> Option<Failure> {
    let signal = until.signal()?;
    let found = Diagnostic::error("interrupted", signal.name())
        .note("what was written so far is not all; a file named by `--out` is as it was");
    Some(Failure::new(Class::Stopped, found).by(signal))
}

/// Standard input, whose reading ends where a signal comes: a pipe that says nothing would hold it up.
struct Attentive<'u> {
    stdin: std::io::Stdin,
    until: &'u Until,
}

impl std::io::Read for Attentive<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        loop {
            if self.until.signal().is_some() {
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
            match poll(&mut [PollFd::new(&self.stdin, PollFlags::IN)], Some(&TICK)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                _ => return rustix::io::read(&self.stdin, &mut *buffer).map_err(Into::into),
            }
        }
    }
}

/// Shows each record that is wanted, until `see` wants no more.
fn each(
    plan: &Plan,
    mut source: Box<dyn Source>,
    run: &RunValues,
    (limit, until): (Option<u64>, &Until),
    observer: &mut dyn Observer,
    see: &mut See<'_>,
) -> Result<Extracted, Failure> {
    let mut found = Extracted::default();
    let exclude = &plan.pipeline.select.exclude;
    let selection = &plan.preparer.selection;
    let mut seen = 0_u64;
    while limit.is_none_or(|limit| found.records < limit)
        && let Some(record) = source.next()
    {
        let record = record?;
        if let Some(failure) = interrupted(until) {
            return Err(failure);
        }
        seen += 1;
        if seen.is_multiple_of(4096) {
            observer.tick();
        }
        let fields = match record.fields {
            Ok(fields) => fields,
            Err(bad) => {
                found.fault(Diagnostic::error(bad.rule, bad.message).record(&record.place));
                continue;
            }
        };
        let mut fields = fields;
        selection.rename(&mut fields);
        selection.retype(&mut fields);
        let mut context = plan.preparer.base.clone();
        context.set_run(RunValues { ordinal: record.ordinal, ..run.clone() });
        let value = Arc::new(Value::Object(fields));
        context.set(Root::Record, Arc::clone(&value));
        match selection.keeps(&context) {
            Ok(true) => {}
            Ok(false) => {
                found.left_out += 1;
                continue;
            }
            Err(error) => {
                found.fault(Diagnostic::from(error).record(&record.place));
                continue;
            }
        }
        drop(context);
        let Value::Object(mut fields) = Arc::unwrap_or_clone(value) else { continue };
        for name in exclude {
            fields.remove(&name.value);
        }
        found.records += 1;
        if !see(fields)? {
            break;
        }
    }
    Ok(found)
}

impl Extracted {
    fn fault(&mut self, finding: Diagnostic) {
        self.invalid += 1;
        if self.findings.len() < KEPT {
            self.findings.push(finding);
        }
    }
}

/// The columns of a CSV file: those of the source, or all names in the order in which they come.
fn columns(
    plan: &Plan,
    run: &RunValues,
    limits: (Option<u64>, &Until),
    observer: &mut dyn Observer,
) -> Result<Vec<Str>, Failure> {
    let exclude = &plan.pipeline.select.exclude;
    if let Some(columns) = &plan.columns {
        let renamed = crate::select::Selection::renamed(&plan.pipeline.select, columns);
        let kept = renamed.iter().filter(|name| !exclude.iter().any(|out| out.value == **name));
        return Ok(kept.map(|name| Str::from(name.as_str())).collect());
    }
    let most = plan.pipeline.source.limits.columns;
    let mut names: Vec<Str> = Vec::new();
    let mut known: HashSet<Str> = HashSet::new();
    each(plan, plan.source()?, run, limits, observer, &mut |record| {
        for (name, _) in &record {
            if !known.contains(name) {
                known.insert(Str::clone(name));
                names.push(Str::clone(name));
            }
        }
        Ok(names.len() <= most)
    })?;
    if names.len() > most {
        let finding = Diagnostic::error(
            "too-many-columns",
            format!("the records have more than {most} names together"),
        )
        .help("write them as NDJSON (`--as ndjson`), or raise `source: { limits: { columns: … } }`");
        return Err(Failure::new(Class::Input, finding));
    }
    Ok(names)
}

/// A value as a cell: text as it is, lists and objects as JSON, nothing as an empty cell.
fn cell(value: Option<&Value>) -> Vec<u8> {
    match value {
        None | Some(Value::Absent | Value::Null) => Vec::new(),
        Some(Value::String(text)) => text.as_bytes().to_vec(),
        Some(value) => {
            let mut json = Vec::new();
            value.write_json(&mut json);
            json
        }
    }
}

fn row(cells: impl Iterator<Item = Vec<u8>>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let mut writer = csv::WriterBuilder::new().from_writer(out);
    let cells: Vec<Vec<u8>> = cells.collect();
    // A record without any cell would be no line at all.
    let cells = if cells.is_empty() { vec![Vec::new()] } else { cells };
    writer.write_record(&cells).and_then(|()| Ok(writer.flush()?)).map_err(|error| {
        Failure::new(Class::Bug, Diagnostic::error("bug", format!("a row cannot be written: {error}")))
    })
}

struct Out<'s, 'a> {
    sink: &'s mut Sink<'a>,
    bytes: Vec<u8>,
    is_wanted: bool,
}

impl Out<'_, '_> {
    fn pass_on(&mut self) -> Result<bool, Failure> {
        if self.bytes.len() >= AT_ONCE {
            self.end()?;
        }
        Ok(self.is_wanted)
    }

    fn end(&mut self) -> Result<(), Failure> {
        if self.is_wanted && !self.bytes.is_empty() {
            self.is_wanted = (self.sink)(&self.bytes)?;
        }
        self.bytes.clear();
        Ok(())
    }
}
