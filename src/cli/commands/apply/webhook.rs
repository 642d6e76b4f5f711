//! After a run: what was kept of its replies is sent on, where the pipeline says so.
//!
//! Delivery never waits for it: it begins when the run has ended, and what could not be sent on goes out with
//! the next start. Invariant: replies of an older run go before those of a newer one.

use std::path::Path;

use super::{Job, send};
use crate::cli::invocation::Invocation;
use crate::config::Pipeline;
use crate::engine::Start;
use crate::model::{Class, Failure};
use crate::outcome::{Checkpoint, Folder};
use crate::report::Reporter;
use crate::source;

/// Whether all that a file holds was sent on.
fn is_sent_on(webhook: &Pipeline, target: &str) -> Result<bool, Failure> {
    let folder = Folder::new(&webhook.state_dir, target, &webhook.name);
    let Some(checkpoint) = Checkpoint::open_to_read(&folder)? else { return Ok(false) };
    let stamp = source::stamp(&webhook.source, &webhook.root, None)?;
    let stamp = serde_json::to_string(&stamp).unwrap_or_default();
    for run in checkpoint.runs()?.iter().filter(|run| run.input == webhook.source.file) {
        if run.input_stamp == stamp && checkpoint.counts(run)?.unsent == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Sends on what the kept runs of a pipeline replied; gives how that ended.
pub fn send_on(
    invocation: &Invocation<'_>,
    (pipeline, webhook): (&str, Pipeline),
    named: &Path,
    job: &Job<'_>,
    target: &str,
    reporter: &mut Reporter,
) -> Result<Class, Failure> {
    let folder = Folder::new(&webhook.state_dir, target, pipeline);
    let Some(checkpoint) = Checkpoint::open_to_read(&folder)? else { return Ok(Class::Ok) };
    let runs = checkpoint.runs()?;
    drop(checkpoint);
    let mut worst = Class::Ok;
    for run in runs {
        let file = folder.run(&run.id).join("responses.ndjson");
        if std::fs::metadata(&file).is_ok_and(|file| file.len() > 0) {
            let mut webhook = webhook.clone();
            webhook.source.file = file.to_string_lossy().into_owned();
            if is_sent_on(&webhook, target)? {
                continue;
            }
            // Flags that choose records or runs speak of the pipeline itself.
            let start = Start { max_duration: job.start.max_duration, ..Start::default() };
            let report = send(invocation, webhook, named, &Job { start, ..job.clone() }, "apply", reporter)?;
            worst = worst.worst(report.class);
            if report.signal.is_some() || matches!(report.class, Class::Stopped | Class::Halted) {
                break;
            }
        }
    }
    Ok(worst)
}
