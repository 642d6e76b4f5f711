//! The stages, each as passes over all records of a pipeline that ships.

use std::hint::black_box;

use runner::config::Durability;
use runner::engine;
use runner::model::{Class, Map, State, Value};
use runner::outcome::{Checkpoint, Finished, InputMark, RecordRow, Responses};
use runner::source;

use crate::ready::{Ready, reply};
use crate::run;

const USERS: &str = "pipelines/sync-users.yaml";
const MESSAGES: &str = "pipelines/send-messages.yaml";

/// Requests that are under way together.
const LANES: u64 = 64;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// CSV to records.
    ParseCsv,
    /// NDJSON to records.
    ParseNdjson,
    /// Cells to types, and the check against the schema of records.
    Validate,
    /// A record to a request: URL, headers, body, its schema, its bytes.
    Render,
    /// What a reply means, with a capture from it.
    Classify,
    /// An intent and an outcome in the checkpoint, and a line of `responses.ndjson`.
    Record,
    /// The outcome files.
    Files,
}

pub const ALL: [Stage; 7] = [
    Stage::ParseCsv,
    Stage::ParseNdjson,
    Stage::Validate,
    Stage::Render,
    Stage::Classify,
    Stage::Record,
    Stage::Files,
];

impl Stage {
    pub const fn name(self) -> &'static str {
        match self {
            Self::ParseCsv => "parse-csv",
            Self::ParseNdjson => "parse-ndjson",
            Self::Validate => "validate",
            Self::Render => "render",
            Self::Classify => "classify",
            Self::Record => "record",
            Self::Files => "files",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        ALL.into_iter().find(|stage| stage.name() == name)
    }

    /// Makes ready and does it so often; the records of one pass.
    pub fn run(self, passes: usize) -> usize {
        match self {
            Self::ParseCsv => parse(USERS, passes),
            Self::ParseNdjson => parse(MESSAGES, passes),
            Self::Validate => validate(passes),
            Self::Render => render(passes),
            Self::Classify => classify(passes),
            Self::Record => record(passes),
            Self::Files => files(passes),
        }
    }
}

fn parse(named: &str, passes: usize) -> usize {
    let ready = Ready::new(named);
    let pipeline = &ready.plan.pipeline;
    for _ in 0..passes {
        let mut source = source::open(&pipeline.source, &pipeline.root, None).expect("the source");
        while let Some(record) = source.next() {
            black_box(record.expect("readable input"));
        }
    }
    ready.records.len()
}

fn validate(passes: usize) -> usize {
    let ready = Ready::new(USERS);
    let preparer = &ready.plan.preparer;
    let schema = preparer.schema.as_ref().expect("a schema");
    // Records are changed by this; copying them is not counted.
    let copies: Vec<Vec<Map>> = (0..crate::PASSES[1]).map(|_| ready.fields()).collect();
    for fields in copies.into_iter().take(passes).flatten() {
        let mut fields = fields;
        preparer.selection.retype(&mut fields);
        black_box(schema.check(&Value::Object(fields)).is_ok());
    }
    ready.records.len()
}

fn render(passes: usize) -> usize {
    let ready = Ready::new(USERS);
    let mut shaped = ready.shaped();
    for _ in 0..passes {
        for each in &mut shaped {
            let request = ready.plan.preparer.request(each, &ready.run, 0);
            black_box(request.is_ok());
        }
    }
    shaped.len()
}

fn classify(passes: usize) -> usize {
    const REPLIES: usize = 1_000;
    let ready = Ready::new(USERS);
    let (request, reply) = (ready.request(), reply());
    let reader = &ready.plan.rules.first().reader;
    for _ in 0..passes * REPLIES {
        black_box(reader.read(black_box(&reply), &request));
    }
    REPLIES
}

/// As the loop that sends does it: intents of a round of lanes, a wait for them, outcomes.
fn record(passes: usize) -> usize {
    const ROUNDS: u64 = 20;
    let line = br#"{"ordinal":1,"key":"000001","status":200,"captures":{"user_id":"1f0c2d3e"}}"#;
    let top = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let responses = Responses::open(top.path(), 0).expect("a file of replies");
    let (_, _, writer) = run::begin(top.path(), 1 << 32, Durability::Process, Some(responses));
    for round in 0..ROUNDS * passes as u64 {
        let ordinals = round * LANES..(round + 1) * LANES;
        let mut last = None;
        for ordinal in ordinals.clone() {
            last =
                Some(writer.intent(RecordRow { state: State::InFlight, ..run::delivered(ordinal) }, false));
        }
        assert!(writer.flush());
        assert_eq!(last.map(|ack| ack.blocking_recv()), Some(Ok(true)));
        for ordinal in ordinals {
            assert!(writer.settled(run::delivered(ordinal), Some(line.to_vec())));
        }
    }
    assert_eq!(writer.sync(InputMark::default()).blocking_recv(), Ok(true));
    usize::try_from(ROUNDS * LANES).expect("a small number")
}

fn files(passes: usize) -> usize {
    let ready = Ready::new(USERS);
    let records = ready.records.len() as u64;
    let top = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let (folder, run, writer) = run::begin(top.path(), records, Durability::Process, None);
    for ordinal in 0..records {
        assert!(writer.row(run::delivered(ordinal)));
    }
    let finished = Finished { class: Class::Ok, complete: true };
    writer.finish(finished, InputMark::default(), false).expect("an end");
    let checkpoint = Checkpoint::open_to_read(&folder).expect("readable state").expect("a checkpoint");
    for _ in 0..passes {
        black_box(engine::write_files(&ready.plan, &folder, &checkpoint, &run).expect("outcome files"));
    }
    ready.records.len()
}
