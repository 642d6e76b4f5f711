//! What each stage costs a record, on the pipelines that ship and their data.
//!
//! `cargo bench --bench stages`; a name after `--` chooses among them. Times are for a whole
//! input; `item/s` is what one record costs.

use std::path::Path;

use bytes::Bytes;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use runner::config::{self, DeliveryOverrides, Durability, EnvFile, Inputs, SourceSpec};
use runner::engine::Plan;
use runner::engine::open::{self, Wanted};
use runner::engine::prepare::Shaped;
use runner::model::{Arrived, Map, Record, Reply, Request, State, Value};
use runner::outcome::{Checkpoint, Folder, InputMark, NewRun, RecordRow, Use, Writer};
use runner::render::RunValues;
use runner::source;

fn main() {
    divan::main();
}

const USERS: &str = "pipelines/sync-users.yaml";
const AGENTS: &str = "pipelines/update-agents.yaml";
const MESSAGES: &str = "pipelines/send-messages.yaml";

/// A compiled pipeline and the records of its input.
struct Ready {
    plan: Plan,
    records: Vec<Record>,
    run: RunValues,
}

impl Ready {
    fn new(named: &str) -> Self {
        let inputs = Inputs {
            cwd: Path::new(env!("CARGO_MANIFEST_DIR")),
            env_name: None,
            env_file: EnvFile::Off,
            vars: &[],
            environment: &|_| None,
            input: None,
            delivery: DeliveryOverrides::default(),
            state: None,
        };
        let (pipeline, _) = config::load_pipeline(named, &inputs).expect("the pipeline");
        let plan = open::open(pipeline, &Wanted::default()).expect("a plan");
        let mut source = plan.source().expect("its source");
        let mut records = Vec::new();
        while let Some(record) = source.next() {
            records.push(record.expect("readable input"));
        }
        let run = RunValues {
            id: "20261122T0214-3f9c".into(),
            started_at: "2026-11-22T02:14:00Z".parse().expect("a time"),
            pipeline: "bench".into(),
            ordinal: 0,
            step: 0,
        };
        Self { plan, records, run }
    }

    fn fields(&self) -> Vec<Map> {
        self.records.iter().filter_map(|record| record.fields.clone().ok()).collect()
    }

    fn shaped(&self) -> Vec<Shaped> {
        let preparer = &self.plan.preparer;
        self.records.iter().filter_map(|record| preparer.shape(record.clone(), &self.run).ok()).collect()
    }

    fn request(&self) -> Request {
        let mut shaped = self.shaped().swap_remove(0);
        let made = self.plan.preparer.request(&mut shaped, &self.run, 0);
        made.unwrap_or_else(|_| panic!("a request"))
    }
}

fn count(n: usize) -> ItemsCount {
    ItemsCount::new(n)
}

/// Bytes to records.
#[divan::bench(args = [USERS, MESSAGES])]
fn read(bencher: Bencher<'_, '_>, named: &str) {
    let ready = Ready::new(named);
    let spec: &SourceSpec = &ready.plan.pipeline.source;
    bencher.counter(count(ready.records.len())).bench_local(|| {
        let mut source = source::open(spec, &ready.plan.pipeline.root, None).expect("the source");
        let mut digest = 0;
        while let Some(record) = source.next() {
            digest ^= record.expect("readable input").digest;
        }
        digest
    });
}

/// Cells to types, and the check against the schema of records.
#[divan::bench(args = [USERS, AGENTS])]
fn type_and_check(bencher: Bencher<'_, '_>, named: &str) {
    let ready = Ready::new(named);
    let preparer = &ready.plan.preparer;
    let schema = preparer.schema.as_ref().expect("a schema");
    bencher.counter(count(ready.records.len())).with_inputs(|| ready.fields()).bench_local_values(
        |records| {
            let check = |mut fields: Map| {
                preparer.selection.retype(&mut fields);
                usize::from(schema.check(&Value::Object(fields)).is_ok())
            };
            records.into_iter().map(check).sum::<usize>()
        },
    );
}

/// The first pass: the hash of a record's key.
#[divan::bench(args = [USERS, AGENTS])]
fn key(bencher: Bencher<'_, '_>, named: &str) {
    let ready = Ready::new(named);
    bencher.counter(count(ready.records.len())).with_inputs(|| ready.records.clone()).bench_local_values(
        |records| {
            records
                .into_iter()
                .filter_map(|record| ready.plan.preparer.key_hash(record, &ready.run))
                .sum::<u64>()
        },
    );
}

/// Everything from a record to a record that may be rendered.
#[divan::bench(args = [USERS, AGENTS])]
fn shape(bencher: Bencher<'_, '_>, named: &str) {
    let ready = Ready::new(named);
    bencher.counter(count(ready.records.len())).with_inputs(|| ready.records.clone()).bench_local_values(
        |records| {
            records
                .into_iter()
                .filter(|record| ready.plan.preparer.shape(black_box((*record).clone()), &ready.run).is_ok())
                .count()
        },
    );
}

/// URL, headers and body as data.
#[divan::bench(args = [USERS, AGENTS, MESSAGES])]
fn render(bencher: Bencher<'_, '_>, named: &str) {
    let ready = Ready::new(named);
    let mut shaped = ready.shaped();
    bencher.counter(count(shaped.len())).bench_local(|| {
        for each in &mut shaped {
            black_box(ready.plan.preparer.steps.first().template.render(&mut each.context).is_ok());
        }
    });
}

/// The body against the endpoint's schema.
#[divan::bench(args = [USERS, AGENTS])]
fn check_body(bencher: Bencher<'_, '_>, named: &str) {
    let ready = Ready::new(named);
    let schema = ready.plan.preparer.steps.first().body_schema.as_ref().expect("a schema of bodies");
    let template = &ready.plan.preparer.steps.first().template;
    let drafts: Vec<_> =
        ready.shaped().iter_mut().filter_map(|shaped| template.render(&mut shaped.context).ok()).collect();
    bencher.counter(count(drafts.len())).bench_local(|| {
        drafts.iter().filter_map(|draft| draft.body()).filter(|body| schema.check(body).is_ok()).count()
    });
}

/// The body as bytes.
#[divan::bench(args = [USERS, AGENTS])]
fn write_body(bencher: Bencher<'_, '_>, named: &str) {
    let ready = Ready::new(named);
    let template = &ready.plan.preparer.steps.first().template;
    let drafts: Vec<_> =
        ready.shaped().iter_mut().filter_map(|shaped| template.render(&mut shaped.context).ok()).collect();
    bencher.counter(count(drafts.len())).with_inputs(|| drafts.clone()).bench_local_values(|drafts| {
        drafts
            .into_iter()
            .filter_map(|draft| draft.finish(None, 1 << 20).ok())
            .map(|made| made.body.len())
            .sum::<usize>()
    });
}

/// What a reply means: with a capture from the body, and without.
#[divan::bench(args = [USERS, AGENTS])]
fn classify(bencher: Bencher<'_, '_>, named: &str) {
    let ready = Ready::new(named);
    let request = ready.request();
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::DATE, HeaderValue::from_static("Sun, 22 Nov 2026 02:14:00 GMT"));
    headers.insert("x-request-id", HeaderValue::from_static("4d5c0e5e-7d0a-4c3f"));
    let body = br#"{"id":"1f0c2d3e-0000-4000-8000-000000000001","created_time":"2026-01-01T00:00:00.000Z","first_name":"Amina"}"#;
    let reply = Reply::Arrived(Arrived {
        status: StatusCode::OK,
        headers,
        body: Bytes::from_static(body),
        complete: true,
    });
    bencher
        .counter(count(1))
        .bench_local(|| ready.plan.rules.first().reader.read(black_box(&reply), &request));
}

/// A digest of a request, for intents.
#[divan::bench]
fn digest(bencher: Bencher<'_, '_>) {
    let request = Ready::new(USERS).request();
    bencher.counter(count(1)).bench_local(|| black_box(&request).digest());
}

/// Rows into the checkpoint, through its thread, up to the sync that ends them.
#[divan::bench(args = [Durability::Process, Durability::Power])]
fn note(bencher: Bencher<'_, '_>, durability: Durability) {
    const ROWS: u64 = 10_000;
    let top = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let writer = writer(top.path(), durability);
    let mut next = 0;
    bencher.counter(count(10_000)).bench_local(|| {
        for ordinal in next..next + ROWS {
            let row = RecordRow {
                attempts: 1,
                status: 200,
                key_hash: ordinal.wrapping_mul(0x9e37_79b9_7f4a_7c15),
                digest: ordinal.wrapping_mul(0xc2b2_ae3d_27d4_eb4f),
                ..RecordRow::new(ordinal, State::Delivered)
            };
            assert!(writer.row(row));
        }
        next += ROWS;
        writer.sync(InputMark::default()).blocking_recv()
    });
}

fn writer(top: &Path, durability: Durability) -> Writer {
    let folder = Folder::new(top, "default", "bench");
    folder.prepare(Use::Create).expect("folders");
    let checkpoint = Checkpoint::open(&folder).expect("a checkpoint");
    let new = NewRun {
        id: "20261122T0214-3f9c".into(),
        started_at: "2026-11-22T02:14:00Z".into(),
        destination: String::new(),
        scope: 1,
        meaning: String::new(),
        meaning_files: String::new(),
        input: String::new(),
        input_stamp: String::new(),
        records: 1 << 32,
        input_digest: 0,
        duplicates: 0,
    };
    let run = checkpoint.begin_run(&new, None).expect("a run");
    checkpoint
        .into_writer(
            &run,
            runner::outcome::Grants { intents: true, durable_intents: false, leased_from: 0 },
            durability,
            None,
        )
        .expect("a writer")
}
