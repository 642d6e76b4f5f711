//! The names an expression can use, what is known of them beforehand, and their values for one
//! rendering.
//!
//! Invariant: there is no name for the environment or for a secret, so that no expression can read
//! one (format.md 3).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::model::{Str, Table, Tables, Value};

macro_rules! roots {
    ($($(#[doc = $doc:literal])* $root:ident = $name:literal),* $(,)?) => {
        /// The names an expression can use (format.md 3, ruling 19).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Root { $($(#[doc = $doc])* $root),* }

        impl Root {
            /// All names.
            pub const ALL: &[Self] = &[$(Self::$root),*];

            /// The name as it is written.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$root => $name),* }
            }
        }
    };
}

roots! {
    /// The current record.
    Record = "record",
    /// The record without excluded fields and fields bound by default to params.
    BodyFields = "body_fields",
    /// The endpoint's parameters.
    Params = "params",
    /// The pipeline's variables.
    Vars = "vars",
    /// Non-secret settings of the connection.
    Connection = "connection",
    /// The run: `id`, `started_at`, `pipeline`.
    Run = "run",
    /// The reply.
    Response = "response",
    /// The request that was sent.
    Request = "request",
    /// The object that the sandbox just made.
    New = "new",
    /// The class of a refusal or outcome.
    Class = "class",
    /// The status of an outcome.
    Status = "status",
    /// The message of a refusal.
    Message = "message",
    /// The batch.
    Batch = "batch",
    /// Earlier steps of the record.
    Steps = "steps",
    /// Lookup tables.
    Lookups = "lookups",
    /// One element of a batch's reply.
    Reply = "reply",
    /// One item of a batch.
    Item = "item",
    /// The page of a list.
    Page = "page",
}

impl Root {
    /// The root with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|root| root.name() == name)
    }
}

/// The fields of `run`.
pub(super) const RUN_FIELDS: [&str; 3] = ["id", "started_at", "pipeline"];

/// What is known at compile time about a root.
#[derive(Debug, Clone)]
pub enum Known {
    /// It may have any field.
    Any,
    /// It has exactly these fields: another one is a mistake.
    Fields(Arc<[String]>),
    /// It has exactly these fields and all of them are text (a CSV file without schema): comparing
    /// one to a number is a mistake too (ruling 17).
    Text(Arc<[String]>),
    /// Earlier steps of the record, each with the names of its captures.
    Steps(Arc<[(String, Arc<[String]>)]>),
    /// It has exactly these lookup tables.
    Tables(Arc<[KnownTable]>),
}

/// What is known at compile time about a lookup table.
#[derive(Debug, Clone)]
pub struct KnownTable {
    /// Its name.
    pub name: String,
    /// Its columns, where it was read.
    pub columns: Option<Vec<String>>,
}

/// The roots that the expressions of one place may use. `run` is always among them.
#[derive(Debug, Clone)]
pub struct Scope {
    known: Vec<(Root, Known)>,
}

impl Default for Scope {
    fn default() -> Self {
        Self::new()
    }
}

impl Scope {
    /// Only `run`.
    #[must_use]
    pub fn new() -> Self {
        let fields: Vec<String> = RUN_FIELDS.iter().map(|name| (*name).to_owned()).collect();
        Self { known: vec![(Root::Run, Known::Fields(fields.into()))] }
    }

    /// Allows a root, or says anew what is known about it.
    #[must_use]
    pub fn allow(mut self, root: Root, known: Known) -> Self {
        match self.known.iter_mut().find(|(old, _)| *old == root) {
            Some(entry) => entry.1 = known,
            None => self.known.push((root, known)),
        }
        self
    }

    /// What is known about a root, if it is allowed.
    #[must_use]
    pub fn get(&self, root: Root) -> Option<&Known> {
        self.known.iter().find(|(known, _)| *known == root).map(|(_, known)| known)
    }

    /// The names that are allowed.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.known.iter().map(|(root, _)| root.name())
    }
}

/// What a run and a record give to `run`, `now()` and `uuid()`.
#[derive(Debug, Clone)]
pub struct RunValues {
    /// The run's id.
    pub id: Str,
    /// When the run began, recorded once: what `now()` says.
    pub started_at: jiff::Timestamp,
    /// The pipeline's name.
    pub pipeline: Str,
    /// The record's position in the input.
    pub ordinal: u64,
    /// The step of a pipeline with steps, else 0.
    pub step: u32,
}

impl RunValues {
    /// Those of what belongs to no run: checks of templates, single calls, the stand-in.
    #[must_use]
    pub fn of_nobody() -> Self {
        Self {
            id: "".into(),
            started_at: jiff::Timestamp::UNIX_EPOCH,
            pipeline: "".into(),
            ordinal: 0,
            step: 0,
        }
    }
}

/// Values of the run that functions of the engine can hold on to.
#[derive(Debug)]
pub(super) struct RunState {
    pub values: RunValues,
    /// Calls of `uuid()` so far.
    calls: AtomicU32,
}

impl RunState {
    /// The number of the next call of `uuid()` in this rendering, from 0.
    pub fn next_call(&self) -> u32 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }
}

/// The values for one rendering. Making one costs an allocation, setting a root nothing.
#[derive(Debug, Clone)]
pub struct Context {
    roots: [Option<Arc<Value>>; Root::ALL.len()],
    tables: Option<Arc<Tables>>,
    run: Arc<RunState>,
}

impl Context {
    /// A context that knows the run alone.
    #[must_use]
    pub fn new(run: RunValues) -> Self {
        let run = Arc::new(RunState { values: run, calls: AtomicU32::new(0) });
        Self { roots: [const { None }; Root::ALL.len()], tables: None, run }
    }

    /// Adds the value of a root.
    #[must_use]
    pub fn with(mut self, root: Root, value: Arc<Value>) -> Self {
        self.set(root, value);
        self
    }

    /// Sets the value of a root.
    pub fn set(&mut self, root: Root, value: Arc<Value>) {
        if let Some(slot) = self.roots.get_mut(root as usize) {
            *slot = Some(value);
        }
    }

    /// Adds the lookup tables: they are no values, and looked into one row at a time.
    #[must_use]
    pub fn with_tables(mut self, tables: Arc<Tables>) -> Self {
        self.tables = Some(tables);
        self
    }

    /// A lookup table.
    pub(super) fn table(&self, name: &str) -> Option<&Arc<Table>> {
        let mut tables = self.tables.iter().flat_map(|tables| tables.iter());
        tables.find(|(known, _)| **known == *name).map(|(_, table)| table)
    }

    /// Another run or record: `run`, `now()` and `uuid()` are its from here on.
    pub fn set_run(&mut self, run: RunValues) {
        self.run = Arc::new(RunState { values: run, calls: AtomicU32::new(0) });
    }

    /// The value of a root. `run` is not kept as a value.
    #[must_use]
    pub fn get(&self, root: Root) -> Option<&Arc<Value>> {
        self.roots.get(root as usize).and_then(Option::as_ref)
    }

    /// The run.
    #[must_use]
    pub fn run(&self) -> &RunValues {
        &self.run.values
    }

    pub(super) const fn run_state(&self) -> &Arc<RunState> {
        &self.run
    }

    /// Counts calls of `uuid()` from 0 again: a rendering that is repeated gives the same bytes.
    pub(super) fn restart(&self) {
        self.run.calls.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::Number;

    pub fn run() -> RunValues {
        RunValues {
            id: "20261122T0214-3f9c".into(),
            started_at: "2026-11-22T02:14:00Z".parse().unwrap(),
            pipeline: "sync".into(),
            ordinal: 7,
            step: 0,
        }
    }

    /// JSON with its digits kept, as a source reads it.
    pub fn value(json: &str) -> Value {
        fn raw(json: &str) -> Value {
            let json = json.trim();
            match json.as_bytes()[0] {
                b'{' => {
                    let map: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).unwrap();
                    let raws: std::collections::HashMap<String, Box<serde_json::value::RawValue>> =
                        serde_json::from_str(json).unwrap();
                    Value::Object(
                        map.keys().map(|name| (name.as_str().into(), raw(raws[name].get()))).collect(),
                    )
                }
                b'[' => {
                    let raws: Vec<Box<serde_json::value::RawValue>> = serde_json::from_str(json).unwrap();
                    Value::Array(raws.iter().map(|item| raw(item.get())).collect())
                }
                b'-' | b'0'..=b'9' => Value::Number(Number::parse(json).unwrap()),
                _ => Value::from(&serde_json::from_str::<serde_json::Value>(json).unwrap()),
            }
        }
        raw(json)
    }

    pub fn context(record: &str) -> Context {
        Context::new(run()).with(Root::Record, Arc::new(value(record)))
    }

    /// The table `agents` with the key `email`.
    pub fn tables(rows: &[&str]) -> Arc<Tables> {
        let mut table = Table::new("email");
        for row in rows {
            table.push(value(row).as_object().unwrap(), |_| true, 100).unwrap();
        }
        Arc::new(vec![("agents".into(), Arc::new(table))])
    }

    #[test]
    fn every_root_has_its_own_name() {
        for root in Root::ALL {
            assert_eq!(Root::from_name(root.name()), Some(*root));
        }
        assert_eq!(Root::from_name("env"), None);
    }
}
