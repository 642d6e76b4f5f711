//! A run in a checkpoint that is made for a measurement.

use std::path::Path;

use runner::config::Durability;
use runner::model::State;
use runner::outcome::{Checkpoint, Folder, Grants, NewRun, RecordRow, Responses, RunRow, Use, Writer};

/// The run, and the writer of its checkpoint; `responses` where it appends to a file of replies too.
pub fn begin(
    top: &Path,
    records: u64,
    durability: Durability,
    responses: Option<Responses>,
) -> (Folder, RunRow, Writer) {
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
        records,
        input_digest: 0,
        duplicates: 0,
    };
    let run = checkpoint.begin_run(&new, None).expect("a run");
    let grants = Grants { intents: true, durable_intents: false, leased_from: 0 };
    let writer = checkpoint.into_writer(&run, grants, durability, responses).expect("a writer");
    (folder, run, writer)
}

/// The row of a record that was delivered at once.
pub fn delivered(ordinal: u64) -> RecordRow {
    RecordRow {
        attempts: 1,
        status: 200,
        key_hash: ordinal.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        digest: ordinal.wrapping_mul(0xc2b2_ae3d_27d4_eb4f),
        ..RecordRow::new(ordinal, State::Delivered)
    }
}
