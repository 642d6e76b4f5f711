//! `runner status`: where runs stand and what to type next.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Ended, Refused, far_side};
use crate::cli::args::Status as Args;
use crate::cli::invocation::{Ask, Invocation, shell_word};
use crate::config::{Durability, Pipeline};
use crate::engine::{self, Plan, Standing, Wanted, open};
use crate::model::{Class, Counts, Diagnostic, Failure, Severity};
use crate::outcome::{Checkpoint, Folder, RunRow};
use crate::report::Reporter;
use crate::report::text::{line, number};

/// `runner status`
pub fn status(invocation: &Invocation<'_>, args: &Args, mut reporter: Reporter) -> Result<Ended, Refused> {
    match all(invocation, args, &mut reporter) {
        Ok((class, human, summary)) => Ok(Ended::of(reporter.answer(class, class.code(), &human, summary))),
        Err(failure) => Err(Refused::new(failure, reporter)),
    }
}

/// A pipeline whose state is looked at.
struct Subject {
    name: String,
    /// How it is typed.
    typed: PathBuf,
    /// The project's root.
    root: PathBuf,
    state_dir: PathBuf,
    target: String,
    /// Whether its pipeline says `durability: process`.
    is_for_process: bool,
    /// Whether its endpoint says how to ask about doubt.
    can_ask: bool,
}

fn all(
    invocation: &Invocation<'_>,
    args: &Args,
    reporter: &mut Reporter,
) -> Result<(Class, String, Value), Failure> {
    let subjects = subjects(invocation, args)?;
    let mut human = String::new();
    let mut summaries = Vec::new();
    let mut class = Class::Ok;
    for subject in &subjects {
        let folder = Folder::new(&subject.state_dir, &subject.target, &subject.name);
        let Some(checkpoint) = Checkpoint::open_to_read(&folder)? else { continue };
        if args.verify {
            let found = engine::verify(&subject.root, &folder, &checkpoint)?;
            for diagnostic in &found {
                reporter.diagnostic(diagnostic);
            }
            if found.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
                class = class.worst(Class::State);
                continue;
            }
        }
        let Some(standing) = engine::standing(&folder, &checkpoint)? else { continue };
        drop(checkpoint);
        let files = if args.files { write_files(invocation, subject, &folder)? } else { Vec::new() };
        let next = next(invocation, &standing, subject, args.sandbox);
        if !human.is_empty() {
            human.push('\n');
        }
        human.push_str(&in_words(invocation, subject, &standing, &next));
        if args.verify {
            human.push_str("  verified    checkpoint and outcome files are sound\n");
        }
        for path in &files {
            let _ = writeln!(human, "  written     {}", line(&path.to_string_lossy()));
        }
        summaries.push(summary(invocation, subject, &standing, &next, &files));
    }
    if summaries.is_empty() && class == Class::Ok {
        let what = match &args.pipeline {
            Some(named) => format!("{} has no runs", named.display()),
            None => "there are no runs".to_owned(),
        };
        let place = if args.sandbox { " in the sandbox" } else { "" };
        let named = args.pipeline.as_deref().unwrap_or(Path::new("PIPELINE"));
        let begin = invocation.typed("apply", named, args.sandbox);
        human = format!("{what}{place} yet; `{begin}` begins one\n");
    }
    let summary = match (&args.pipeline, summaries.pop()) {
        (Some(_), one) => one.unwrap_or(Value::Null),
        (None, None) => json!({ "pipelines": [] }),
        (None, Some(last)) => {
            summaries.push(last);
            json!({ "pipelines": summaries })
        }
    };
    Ok((class, human, summary))
}

fn subjects(invocation: &Invocation<'_>, args: &Args) -> Result<Vec<Subject>, Failure> {
    let target = |environment: &str| {
        if args.sandbox { far_side::TARGET.to_owned() } else { environment.to_owned() }
    };
    if let Some(named) = &args.pipeline {
        let (pipeline, _) = invocation.pipeline(named, Ask::default())?;
        return Ok(vec![Subject {
            target: target(&pipeline.environment),
            typed: named.clone(),
            is_for_process: pipeline.delivery.durability == Durability::Process,
            can_ask: pipeline.can_ask(),
            name: pipeline.name,
            root: pipeline.root,
            state_dir: pipeline.state_dir,
        }]);
    }
    let project = invocation.project()?;
    let target = target(&project.environment);
    let names = engine::names(&project.state_dir, &target)?;
    let subject = |name: String| {
        // A run whose pipeline is gone or broken stands where it stands.
        let pipeline = invocation.pipeline(Path::new(&name), Ask::default()).ok().map(|found| found.0);
        Subject {
            typed: PathBuf::from(&name),
            is_for_process: pipeline
                .as_ref()
                .is_some_and(|pipeline| pipeline.delivery.durability == Durability::Process),
            can_ask: pipeline.is_some_and(|pipeline| pipeline.can_ask()),
            name,
            root: project.root.clone(),
            state_dir: project.state_dir.clone(),
            target: target.clone(),
        }
    };
    Ok(names.into_iter().map(subject).collect())
}

/// Makes the outcome files of the newest run anew.
fn write_files(
    invocation: &Invocation<'_>,
    subject: &Subject,
    folder: &Folder,
) -> Result<Vec<PathBuf>, Failure> {
    let (pipeline, _) = invocation.pipeline(&subject.typed, Ask::default())?;
    let _lock = folder.lock()?;
    let checkpoint = Checkpoint::open(folder)?;
    let Some(run) = checkpoint.latest_run()? else { return Ok(Vec::new()) };
    let plan = plan_of(pipeline, folder, &run)?;
    let files = engine::rewrite(&plan, folder, &checkpoint, &run)?;
    Ok(files.written.iter().map(|file| invocation.shown(&file.path)).collect())
}

/// Opens a pipeline over the input of a run.
pub fn plan_of(mut pipeline: Pipeline, folder: &Folder, run: &RunRow) -> Result<Plan, Failure> {
    // It may have been given with `--input`.
    pipeline.source.set_input(&run.input);
    let spool = folder.spool_of(&pipeline.source);
    open::open(pipeline, &Wanted { spool, folder: Some(folder.clone()), ..Wanted::default() })
}

/// `600 delivered, 4 failed, 646 unsent of 1,250`
#[must_use]
pub fn counts_in_words(counts: &Counts) -> String {
    let parts: Vec<String> = [
        (counts.delivered, "delivered"),
        (counts.failed, "failed"),
        (counts.invalid, "invalid"),
        (counts.skipped, "skipped"),
        (counts.in_doubt, "in doubt"),
        (counts.unsent, "unsent"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, name)| format!("{} {name}", number(n)))
    .collect();
    let parts = if parts.is_empty() { "none".to_owned() } else { parts.join(", ") };
    format!("{parts} of {}", number(counts.total()))
}

/// What a person would type next, by what is left of a run.
#[must_use]
pub fn next_of(
    counts: &Counts,
    is_closed: bool,
    can_ask: bool,
    input: &str,
    typed: &dyn Fn(&str) -> String,
) -> Vec<String> {
    let mut next = Vec::new();
    if counts.in_doubt > 0 {
        if can_ask {
            next.push(format!("{}{input}", typed("reconcile")));
        }
        next.push(format!("{} --all --resend (or --delivered, --failed, --skip)", typed("resolve")));
    }
    if counts.unsent > 0 && !is_closed {
        next.push(format!("{}{input}", typed("apply")));
    } else if counts.failed > 0 {
        next.push(format!("{}{input}", typed("retry")));
    }
    next
}

/// The flag that names a run's input where it is not the pipeline's own.
#[must_use]
pub fn input_flag(invocation: &Invocation<'_>, run: &RunRow) -> String {
    let input = Path::new(&run.input);
    // Pipelines name files of the project: another path came from the command line, unless it is a file that a run
    // of another pipeline left.
    let of_run = input.file_name().and_then(|name| name.to_str()).is_some_and(|name| {
        name == "responses.ndjson" || name.contains(".vanished-") && name.ends_with(".ndjson")
    });
    if input.is_absolute() && !of_run {
        format!(" --input {}", shell_word(&invocation.shown(input).to_string_lossy()))
    } else {
        String::new()
    }
}

fn next(invocation: &Invocation<'_>, standing: &Standing, subject: &Subject, sandbox: bool) -> Vec<String> {
    if standing.state == "running" {
        return Vec::new();
    }
    let input = input_flag(invocation, &standing.run);
    let counts = Counts { in_doubt: standing.counts.in_doubt + standing.held_before, ..standing.counts };
    let is_closed = standing.run.closed_at.is_some();
    let typed = |command: &str| invocation.typed(command, &subject.typed, sandbox);
    next_of(&counts, is_closed, subject.can_ask, &input, &typed)
}

fn in_words(invocation: &Invocation<'_>, subject: &Subject, standing: &Standing, next: &[String]) -> String {
    let mut out = format!("{}: {}, run {}\n", subject.name, standing.state, standing.run.id);
    let mut row = |name: &str, text: &str| {
        let _ = writeln!(out, "  {name:<12}{}", line(text));
    };
    row("records", &counts_in_words(&standing.counts));
    if standing.held_before > 0 {
        row("", &format!("{} in doubt in older runs", number(standing.held_before)));
    }
    row("input", &invocation.shown(Path::new(&standing.run.input)).to_string_lossy());
    let ended = match standing.class {
        _ if standing.state == "running" => "under way".to_owned(),
        Some(class) => format!("ended {class}"),
        None => "did not end in order".to_owned(),
    };
    row("last start", &format!("{}, {ended}", local(&standing.since)));
    if subject.is_for_process {
        row("durability", "process: a loss of power can lose outcomes");
    }
    row("files", &invocation.shown(&standing.folder).to_string_lossy());
    for (at, next) in next.iter().enumerate() {
        row(if at == 0 { "next" } else { "" }, next);
    }
    out
}

/// A stamp in the time of the person who reads it.
pub(super) fn local(stamp: &str) -> String {
    stamp.parse::<jiff::Timestamp>().map_or_else(
        |_| stamp.to_owned(),
        |at| at.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

fn summary(
    invocation: &Invocation<'_>,
    subject: &Subject,
    standing: &Standing,
    next: &[String],
    files: &[PathBuf],
) -> Value {
    let counts = &standing.counts;
    json!({
        "pipeline": subject.name,
        "run_id": standing.run.id,
        "state": standing.state,
        "class": standing.class.map(Class::name),
        "counts": counts_json(counts),
        "held_before": standing.held_before,
        "attempts": standing.attempts,
        "started_at": standing.run.started_at,
        "since": standing.since,
        "input": standing.run.input,
        "runs": standing.runs,
        "reasons": standing.reasons.iter().map(|reason| json!({
            "state": reason.state.name(),
            "status": (reason.status != 0).then_some(reason.status),
            "class": reason.class,
            "message": reason.message,
            "count": reason.count,
        })).collect::<Vec<_>>(),
        "next": next,
        "place": invocation.shown(&standing.folder).to_string_lossy(),
        "written": files.iter().map(|path| path.to_string_lossy().into_owned()).collect::<Vec<_>>(),
    })
}

/// Counts with their total, for programs.
#[must_use]
pub fn counts_json(counts: &Counts) -> Value {
    json!(counts)
}

/// A failure to make files, as something that is said beside.
#[must_use]
pub fn as_warnings(failure: Failure) -> Vec<Diagnostic> {
    let warning = |found| Diagnostic { severity: Severity::Warning, ..found };
    failure.diagnostics.into_iter().map(warning).collect()
}
