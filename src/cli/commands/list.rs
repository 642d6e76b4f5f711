//! `runner list`: what the project has, as tables for people and objects for programs.
//!
//! Looks only; a pipeline with mistakes is listed and said to have them.

mod settings;

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Ended, Refused};
use crate::cli::args::{List, Listing};
use crate::cli::invocation::{Ask, Invocation};
use crate::cli::table::{self, Table};
use crate::config::{self, Project};
use crate::model::{Class, Counts, Failure};
use crate::outcome::{Checkpoint, Folder, RunRow};
use crate::report::{Reporter, text};

/// One list for people, and for programs.
struct Listed {
    name: &'static str,
    table: Table,
    nothing: &'static str,
    values: Vec<Value>,
}

/// `runner list`
pub fn list(invocation: &Invocation<'_>, args: &List, mut reporter: Reporter) -> Result<Ended, Refused> {
    let lists = match lists(invocation, args) {
        Ok(lists) => lists,
        Err(failure) => return Err(Refused::new(failure, reporter)),
    };
    reporter.hide(invocation.mask());
    let mut words = String::new();
    let mut summary = Map::new();
    for list in &lists {
        if !words.is_empty() {
            words.push('\n');
        }
        if list.table.is_empty() {
            words.push_str(list.nothing);
            words.push('\n');
        } else {
            words.push_str(&list.table.draw(table::width()));
        }
        summary.insert(list.name.to_owned(), Value::Array(list.values.clone()));
    }
    Ok(Ended::of(reporter.answer(Class::Ok, Class::Ok.code(), &words, Value::Object(summary))))
}

fn lists(invocation: &Invocation<'_>, args: &List) -> Result<Vec<Listed>, Failure> {
    let project = invocation.project()?;
    let pipeline = args.pipeline.as_deref();
    Ok(match args.what {
        Some(Listing::Pipelines) => vec![pipelines(invocation)],
        Some(Listing::Endpoints) => vec![endpoints(invocation, &project)],
        Some(Listing::Connections) => vec![connections(invocation, &project)],
        Some(Listing::Runs) => vec![runs(invocation, &project, pipeline)],
        Some(Listing::Settings) => settings::settings(invocation, &project, pipeline)?,
        None => vec![
            pipelines(invocation),
            endpoints(invocation, &project),
            connections(invocation, &project),
            runs(invocation, &project, pipeline),
        ],
    })
}

fn pipelines(invocation: &Invocation<'_>) -> Listed {
    let checked = invocation.with_inputs(Ask::default(), |inputs| config::check_all(&[], inputs));
    let mut table = Table::new(["pipeline", "endpoint", "connection", "about"]).or_leave_out(20);
    let mut values = Vec::new();
    for (path, problems) in &checked.files {
        let shown = invocation.shown(path);
        let Some(pipeline) = checked.pipelines.iter().find(|found| path == &found.root.join(&found.path))
        else {
            let is_pipeline =
                path.parent().is_some_and(|folder| folder.iter().any(|part| part == "pipelines"));
            if is_pipeline && problems.has_errors() {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                table.row([&name, "-", "-", "has mistakes: `runner validate` shows them"]);
                values.push(json!({ "name": name, "path": shown, "valid": false }));
            }
            continue;
        };
        let endpoints: Vec<&str> = pipeline.steps().map(|step| step.endpoint.name.as_str()).collect();
        table.row([
            &pipeline.name,
            &endpoints.join(", "),
            &pipeline.connection.name,
            pipeline.description.as_deref().unwrap_or_default(),
        ]);
        values.push(json!({
            "name": pipeline.name,
            "path": shown,
            "endpoint": pipeline.endpoint().name,
            "endpoints": endpoints,
            "connection": pipeline.connection.name,
            "source": pipeline.source.file,
            "description": pipeline.description,
            "valid": !problems.has_errors(),
        }));
    }
    Listed { name: "pipelines", table, nothing: "there are no pipelines below pipelines/", values }
}

fn endpoints(invocation: &Invocation<'_>, project: &Project) -> Listed {
    let mut table = Table::new(["endpoint", "call"]);
    let mut values = Vec::new();
    for info in &project.endpoints {
        let found = invocation
            .with_inputs(Ask::default(), |inputs| config::load_endpoint(project, &info.name, inputs))
            .ok()
            .map(|(endpoint, _)| endpoint);
        let call = found
            .as_ref()
            .map(|endpoint| format!("{} {}", endpoint.method.value, shortened(&endpoint.path.value)));
        table.row([&info.name, call.as_deref().unwrap_or("has mistakes: `runner validate` shows them")]);
        values.push(json!({
            "name": info.name,
            "title": info.title,
            "summary": info.summary,
            "method": found.as_ref().map(|endpoint| endpoint.method.value.as_str()),
            "path": found.as_ref().map(|endpoint| endpoint.path.value.as_str()),
            "valid": found.is_some(),
        }));
    }
    Listed { name: "endpoints", table, nothing: "there are no endpoints below templates/", values }
}

/// A path with its parameters as people write them: `/users/{user_id}`.
fn shortened(path: &str) -> String {
    path.replace("{{ params.", "{").replace("{{", "{").replace(" }}", "}").replace("}}", "}")
}

fn connections(invocation: &Invocation<'_>, project: &Project) -> Listed {
    let mut table = Table::new(["connection", "connector", "not set", "base URL"]);
    let mut values = Vec::new();
    for name in &project.connections {
        let Ok((connection, _)) = invocation.connection(project, name) else {
            table.row([name, "-", "-", "has mistakes: `runner validate` shows them"]);
            values.push(json!({ "name": name, "valid": false }));
            continue;
        };
        let unset: Vec<&str> = connection.unset.iter().map(|unset| unset.from.as_str()).collect();
        let not_set = if unset.is_empty() { "-".to_owned() } else { unset.join(", ") };
        let connector = connection.connector.as_deref();
        table.row([name, connector.unwrap_or("-"), &not_set, &connection.base_url]);
        values.push(json!({
            "name": name,
            "connector": connector,
            "base_url": connection.base_url,
            "not_set": unset,
            "valid": true,
        }));
    }
    Listed { name: "connections", table, nothing: "runner.yaml has no connections", values }
}

/// The kept runs of all targets. Their state alone is read, so that runs of a pipeline that was
/// renamed or has mistakes are listed as well.
fn runs(invocation: &Invocation<'_>, project: &Project, only: Option<&Path>) -> Listed {
    let only = only.map(|named| name_of(invocation, named));
    let mut table = Table::new(["pipeline", "target", "run", "ended", "records"]);
    let mut values = Vec::new();
    for target in names_in(&project.state_dir) {
        for file in names_in(&project.state_dir.join(&target).join("state")) {
            let Some(name) = file.strip_suffix(".db") else { continue };
            if only.as_ref().is_some_and(|only| only != name) {
                continue;
            }
            let folder = Folder::new(&project.state_dir, &target, name);
            match runs_of(&folder) {
                Ok(runs) => {
                    for (run, counts) in runs {
                        table.row([name, &target, &run.id, ended(&run), &counts_in_words(&counts)]);
                        values.push(run_json(name, &target, &run, &counts));
                    }
                }
                // One damaged checkpoint hides no other.
                Err(failure) => {
                    let why = failure.diagnostics.first().map_or("cannot be read", |found| &found.message);
                    table.row([name, &target, "-", "-", why]);
                    values.push(json!({ "pipeline": name, "target": target, "problem": why }));
                }
            }
        }
    }
    Listed { name: "runs", table, nothing: "there are no runs yet", values }
}

fn runs_of(folder: &Folder) -> Result<Vec<(RunRow, Counts)>, Failure> {
    let Some(checkpoint) = Checkpoint::open_to_read(folder)? else { return Ok(Vec::new()) };
    checkpoint.runs()?.into_iter().map(|run| checkpoint.counts(&run).map(|counts| (run, counts))).collect()
}

/// The name of a pipeline that was named by its file or by itself.
fn name_of(invocation: &Invocation<'_>, named: &Path) -> String {
    let read = invocation.pipeline(named, Ask::default()).map(|(pipeline, _)| pipeline.name);
    read.unwrap_or_else(|_| named.file_stem().unwrap_or_default().to_string_lossy().into_owned())
}

fn ended(run: &RunRow) -> &str {
    if run.class.is_empty() { "under way or killed" } else { &run.class }
}

fn run_json(pipeline: &str, target: &str, run: &RunRow, counts: &Counts) -> Value {
    json!({
        "pipeline": pipeline,
        "target": target,
        "run_id": run.id,
        "started_at": run.started_at,
        "closed_at": run.closed_at,
        "class": (!run.class.is_empty()).then_some(&run.class),
        "input": run.input,
        "counts": counts,
    })
}

/// What there is of each state; nothing of those that no record is in.
fn counts_in_words(counts: &Counts) -> String {
    let all = [
        (counts.delivered, "delivered"),
        (counts.failed, "failed"),
        (counts.invalid, "invalid"),
        (counts.skipped, "skipped"),
        (counts.in_doubt, "in doubt"),
        (counts.unsent, "unsent"),
    ];
    let there = all.iter().filter(|(n, _)| *n > 0);
    let words: Vec<String> = there.map(|(n, word)| format!("{} {word}", text::number(*n))).collect();
    if words.is_empty() { "no records".into() } else { words.join(", ") }
}

fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
