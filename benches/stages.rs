//! What each stage costs a record, on the pipelines that ship and their data.
//!
//! `cargo bench --bench stages`; a name after `--` chooses among them. Times are for a whole
//! input; `item/s` is what one record costs.

#[path = "common/ready.rs"]
mod ready;
#[path = "common/run.rs"]
mod run;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use ready::{Ready, reply};
use runner::config::{Durability, SourceSpec};
use runner::model::{Map, Value};
use runner::outcome::InputMark;
use runner::source;

fn main() {
    divan::main();
}

const USERS: &str = "pipelines/sync-users.yaml";
const AGENTS: &str = "pipelines/update-agents.yaml";
const MESSAGES: &str = "pipelines/send-messages.yaml";

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
    let reply = reply();
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
    let (_, _, writer) = run::begin(top.path(), 1 << 32, durability, None);
    let mut next = 0;
    bencher.counter(count(10_000)).bench_local(|| {
        for ordinal in next..next + ROWS {
            assert!(writer.row(run::delivered(ordinal)));
        }
        next += ROWS;
        writer.sync(InputMark::default()).blocking_recv()
    });
}
