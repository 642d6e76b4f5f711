//! `responses.webhook`: the pipeline that sends replies on.
//!
//! It is a pipeline like any other, whose records are lines of `responses.ndjson`: so its calls are retried,
//! accounted for and gone on with as all others are. Here it is written down; `Loader` reads it like a file.

use std::sync::Arc;

use super::pipeline::RawWebhook;
use super::read::{self, Kind, Node};
use crate::model::{Problems, SourceText};

/// What is the same in all of them. Under its key the receiver can tell a repeat.
const WRITTEN: &str = "\
name: NAME
connection: CONNECTION
endpoint:
  method: POST
  path: PATH
  idempotency: { header: Idempotency-Key }
  body: \"{{ record }}\"
source: { file: \"-\", format: ndjson }
batch: { size: 100 }
sync: all
on_new_input: close
";

/// What the pipeline that sends replies on is called.
#[must_use]
pub fn name_of(pipeline: &str) -> String {
    format!("{pipeline}.webhook")
}

/// The pipeline as if it had been written, with the places of what was.
pub(super) fn written(raw: &RawWebhook, pipeline: &str) -> Option<Node> {
    let (connection, path) = (raw.connection.0.as_ref()?, raw.path.0.as_ref()?);
    let source = Arc::new(SourceText { path: "webhook".into(), text: WRITTEN.into() });
    let mut node = read::parse(&source, &mut Problems::new())?;
    set(&mut node, "name", |name| name.kind = Kind::Text(name_of(pipeline)));
    set(&mut node, "connection", |of| *of = connection.clone());
    set(&mut node, "endpoint", |endpoint| set(endpoint, "path", |of| *of = path.clone()));
    if let Some(size) = raw.batch {
        let size = crate::model::Number::from(size.0 as u64);
        set(&mut node, "batch", |batch| set(batch, "size", |of| of.kind = Kind::Number(size)));
    }
    Some(node)
}

fn set(node: &mut Node, key: &str, change: impl FnOnce(&mut Node)) {
    if let Kind::Map(entries) = &mut node.kind
        && let Some((_, value)) = entries.iter_mut().find(|(known, _)| known.value == key)
    {
        change(value);
    }
}
