//! After a run: what vanished from its input is deleted, and what was kept of its replies is sent on, where the
//! pipeline says so.
//!
//! Delivery never waits for it: it begins when the run has ended, and what could not be done goes out with the
//! next start. Invariant: nothing is deleted while a record of the run has no outcome or somebody has to look at
//! it first; replies of an older run go before those of a newer one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Job, Watcher, send};
use crate::cli::invocation::Invocation;
use crate::config::{Pipeline, needs};
use crate::engine::{Report, Start, class_of, deletes, resend};
use crate::model::{Class, Diagnostic, Failure};
use crate::outcome::{Checkpoint, Folder};
use crate::report::Reporter;
use crate::source;

/// Runs what comes after a pipeline; gives how that ended. That the run itself ended as it did stands.
pub fn run(
    invocation: &Invocation<'_>,
    pipeline: &Pipeline,
    named: &Path,
    (job, target, command): (&Job<'_>, &str, &str),
    ended: Class,
    reporter: &mut Reporter,
) -> Class {
    let mut worst = Class::Ok;
    let mut note = |ended: Result<Class, Failure>, reporter: &mut Reporter| match ended {
        Ok(class) => worst = worst.worst(class),
        Err(failure) => {
            worst = worst.worst(failure.class);
            for diagnostic in &failure.diagnostics {
                reporter.diagnostic(diagnostic);
            }
        }
    };
    // One that stopped or was halted says that something is wrong, whatever has an outcome by now.
    let is_over = matches!(ended, Class::Ok | Class::RecordsFailed | Class::InDoubt);
    if command == "apply" && pipeline.deletes.is_some() && is_over {
        let ended = delete(invocation, pipeline, named, (job, target), reporter);
        note(ended, reporter);
    }
    if let Some(webhook) = pipeline.webhook.as_deref() {
        let of = (&*pipeline.name, webhook.clone());
        let named = name_of(pipeline, named, "webhook");
        let ended = send_on(invocation, of, &named, job, target, reporter);
        note(ended, reporter);
    }
    worst
}

/// Where deletes that were begun are gone on with by themselves: names their keys, if these still hold.
pub fn again(
    invocation: &Invocation<'_>,
    pipeline: &mut Pipeline,
    named: &Path,
    (job, target, command): (&Job<'_>, &str, &str),
    reporter: &mut Reporter,
) -> Result<Option<(deletes::Deleting, Pipeline)>, Failure> {
    // `apply` is for the other to say.
    if !pipeline.source.is_of_vanished() || command == "apply" {
        return Ok(None);
    }
    if job.ask.selection.is_some_and(|selection| selection.input.is_some()) {
        let refused =
            Diagnostic::error("deletes-alone", "keys to be deleted are not taken from another file");
        return Err(Failure::new(Class::Usage, refused.note("nothing was sent").help("leave `--input` out")));
    }
    let named = named.to_string_lossy();
    let of = named.strip_suffix(".deletes").unwrap_or(&named);
    let (of, _) = invocation.pipeline(Path::new(of), job.ask)?;
    let typed = invocation.typed("apply", Path::new(&of.name), job.sandbox);
    let start = Start { target: target.to_owned(), command: typed, ..Start::default() };
    let settings = invocation.cli().settings();
    let deleting = deletes::again(&of, &start, &mut Watcher { reporter, settings: &settings })?;
    pipeline.source.file = deleting.file.to_string_lossy().into_owned();
    Ok(Some((deleting, of)))
}

/// How the pipeline that follows another is named on the command line.
fn name_of(pipeline: &Pipeline, named: &Path, kind: &str) -> PathBuf {
    let name = needs::file_name(&pipeline.path).map_or_else(|| named.to_string_lossy(), Into::into);
    PathBuf::from(format!("{name}.{kind}"))
}

/// Deletes what vanished from the input, once all of it has an outcome.
fn delete(
    invocation: &Invocation<'_>,
    pipeline: &Pipeline,
    named: &Path,
    (job, target): (&Job<'_>, &str),
    reporter: &mut Reporter,
) -> Result<Class, Failure> {
    let Some(of) = pipeline.deletes.as_deref() else { return Ok(Class::Ok) };
    let settings = invocation.cli().settings();
    let typed = invocation.typed("apply", named, job.sandbox);
    let start = Start { target: target.to_owned(), command: typed, ..job.start.clone() };
    let watcher = &mut Watcher { reporter, settings: &settings };
    let Some(deleting) = deletes::begin(pipeline, &start, watcher)? else {
        return doubt(pipeline, target);
    };
    let mut follower = of.pipeline.clone();
    follower.source.file = deleting.file.to_string_lossy().into_owned();
    let what = (job, Some(deleting.keys()));
    let report = follow(invocation, follower, &name_of(pipeline, named, "deletes"), what, reporter);
    // Whatever ended it: what was deleted so far is noted.
    deleting.settle(pipeline, target)?;
    Ok(report?.class.worst(doubt(pipeline, target)?))
}

/// A delete that an older run left in doubt is no good end of a newer one.
fn doubt(pipeline: &Pipeline, target: &str) -> Result<Class, Failure> {
    Ok(if deletes::are_in_doubt(pipeline, target)? { Class::InDoubt } else { Class::Ok })
}

/// Runs a pipeline that follows another.
fn follow(
    invocation: &Invocation<'_>,
    follower: Pipeline,
    named: &Path,
    (job, keys): (&Job<'_>, Option<Arc<[u64]>>),
    reporter: &mut Reporter,
) -> Result<Report, Failure> {
    // Flags that choose records or runs speak of the other.
    let start = Start { max_duration: job.start.max_duration, deletes: keys, ..Start::default() };
    send(invocation, follower, named, &Job { start, ..job.clone() }, "apply", reporter)
}

/// How sending on ended, where all that a file holds went out before. What may have arrived goes again: each call
/// has an `Idempotency-Key`.
fn was_sent_on(webhook: &Pipeline, target: &str) -> Result<Option<Class>, Failure> {
    let folder = Folder::new(&webhook.state_dir, target, &webhook.name);
    if Checkpoint::open_to_read(&folder)?.is_none() {
        return Ok(None);
    }
    let _lock = folder.lock()?;
    let checkpoint = Checkpoint::open(&folder)?;
    let stamp = source::stamp(&webhook.source, &webhook.root, None)?;
    let stamp = serde_json::to_string(&stamp).unwrap_or_default();
    for run in checkpoint.runs()?.iter().filter(|run| run.input == webhook.source.file) {
        let counts = checkpoint.counts(run)?;
        if run.input_stamp == stamp && counts.unsent == 0 {
            if counts.in_doubt > 0 {
                resend(&checkpoint, run)?;
                return Ok(None);
            }
            return Ok(Some(class_of(&counts)));
        }
    }
    Ok(None)
}

/// Sends on what the kept runs of a pipeline replied; gives how that ended.
fn send_on(
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
    let (mut worst, mut newest) = (Class::Ok, Class::Ok);
    for run in runs {
        let file = folder.run(&run.id).join("responses.ndjson");
        if std::fs::metadata(&file).is_ok_and(|file| file.len() > 0) {
            let mut webhook = webhook.clone();
            webhook.source.file = file.to_string_lossy().into_owned();
            if let Some(class) = was_sent_on(&webhook, target)? {
                newest = class;
                continue;
            }
            newest = Class::Ok;
            let report = follow(invocation, webhook, named, (job, None), reporter)?;
            worst = worst.worst(report.class);
            if report.signal.is_some() || matches!(report.class, Class::Stopped | Class::Halted) {
                break;
            }
        }
    }
    // As for any run, with nothing to do it counts how the last one ended.
    Ok(worst.worst(newest))
}
