//! `runner list settings`: each value and where it came from, as far as that is known.

use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _};
use serde_json::json;

use super::Listed;
use crate::cli::args::{Cli, Everywhere};
use crate::cli::invocation::{Ask, Invocation};
use crate::cli::table::Table;
use crate::config::{self, Delivery, InDoubt, Mode, Pipeline, Project, Step};
use crate::model::{Failure, Place};

/// A setting: name, value, origin.
type Setting = (String, String, String);

/// The settings of the project, and of a pipeline's delivery when one is named.
pub fn settings(
    invocation: &Invocation<'_>,
    project: &Project,
    pipeline: Option<&Path>,
) -> Result<Vec<Listed>, Failure> {
    let mut all = of_command_line(invocation, project);
    for name in &project.connections {
        all.extend(of_connection(invocation, project, name));
    }
    let mut lists = vec![listed("settings", "setting", &all)];
    if let Some(named) = pipeline {
        let (pipeline, _) = invocation.pipeline(named, Ask::default())?;
        let places = invocation.with_inputs(Ask::default(), |inputs| {
            config::delivery_places(&named.to_string_lossy(), inputs)
        })?;
        lists.push(listed("delivery", "delivery", &of_delivery(&pipeline, &places)));
    }
    Ok(lists)
}

fn listed(name: &'static str, heading: &str, all: &[Setting]) -> Listed {
    let mut table = Table::new([heading, "value", "from"]).cut(1);
    let mut values = Vec::new();
    for (name, value, from) in all {
        table.row([name, value, from]);
        values.push(json!({ "name": name, "value": value, "from": from }));
    }
    Listed { name, table, nothing: "there are no settings", values }
}

fn of_command_line(invocation: &Invocation<'_>, project: &Project) -> Vec<Setting> {
    // Read once more, because only clap's own form knows where a value came from.
    let matches = Cli::command().try_get_matches_from(std::env::args_os()).ok();
    let origin = |id: &str, flag: &str, variable: &str, otherwise: &str| match matches
        .as_ref()
        .and_then(|matches| source(matches, id))
    {
        Some(ValueSource::CommandLine) => flag.to_owned(),
        Some(ValueSource::EnvVariable) => variable.to_owned(),
        _ => otherwise.to_owned(),
    };
    let Everywhere { format, progress, color, no_input, env_file, .. } = &invocation.cli().everywhere;
    let lower = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
    let state_is_default = project.state_dir == project.root.join(".runner");
    let state_from = if state_is_default { "built in" } else { "runner.yaml" };
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let log = |name: &str| {
        let from = if set(name).is_some() { name } else { "built in" };
        (set(name).unwrap_or_else(|| "off".into()), from.to_owned())
    };
    let ((log_filter, filter_from), (log_file, file_from)) = (log("RUNNER_LOG"), log("RUNNER_LOG_FILE"));
    let log_filter =
        if filter_from == "built in" && file_from != "built in" { "info".to_owned() } else { log_filter };
    let env_file = env_file.as_ref().map_or_else(|| ".env".to_owned(), |path| path.display().to_string());
    let rows = [
        ("root", project.root.display().to_string(), "nearest runner.yaml".to_owned()),
        (
            "environment",
            project.environment.clone(),
            origin("environment", "--env", "RUNNER_ENV", "built in"),
        ),
        (
            "state",
            invocation.shown(&project.state_dir).display().to_string(),
            origin("state_dir", "--state-dir", "RUNNER_STATE", state_from),
        ),
        ("env_file", env_file, origin("env_file", "--env-file", "", "built in")),
        ("format", lower(format), origin("format", "--format", "RUNNER_FORMAT", "built in")),
        ("progress", lower(progress), origin("progress", "--progress", "RUNNER_PROGRESS", "built in")),
        ("color", lower(color), origin("color", "--color", "", "built in")),
        ("no_input", no_input.to_string(), origin("no_input", "--no-input", "RUNNER_NO_INPUT", "built in")),
        ("log", log_filter, filter_from),
        ("log_file", log_file, file_from),
    ];
    let mut all: Vec<Setting> =
        rows.into_iter().map(|(name, value, from)| (name.to_owned(), value, from)).collect();
    if project.require_state {
        all.insert(3, ("require_state".into(), "true".into(), "runner.yaml".into()));
    }
    all
}

/// Where a flag's value came from, on whichever side of the command it stands.
fn source(matches: &ArgMatches, id: &str) -> Option<ValueSource> {
    let inner = matches.subcommand().and_then(|(_, inner)| inner.value_source(id));
    inner.filter(|source| *source != ValueSource::DefaultValue).or_else(|| matches.value_source(id))
}

fn of_connection(invocation: &Invocation<'_>, project: &Project, name: &str) -> Vec<Setting> {
    let named = |key: &str| format!("connections.{name}.{key}");
    let Ok((connection, _)) = invocation.connection(project, name) else {
        return vec![(named("-"), "has mistakes".into(), "runner.yaml".into())];
    };
    let mut all = vec![(named("base_url"), connection.base_url.clone(), "runner.yaml".into())];
    for from in &connection.secrets_from {
        all.push((named("secret"), "***".into(), from.clone()));
    }
    for unset in &connection.unset {
        all.push((named(&unset.setting), "not set".into(), unset.from.clone()));
    }
    all
}

fn of_delivery(pipeline: &Pipeline, places: &[(String, Place)]) -> Vec<Setting> {
    let Delivery { mode, concurrency, rate, timeout, connect_timeout, stop_grace, retry, .. } =
        &pipeline.delivery;
    let stop = &pipeline.delivery.stop_when;
    let classes: Vec<String> = stop.classes.iter().map(|(class, n)| format!("{class}: {n}")).collect();
    let classes = classes.join(", ");
    let span = |span: &std::time::Duration| humantime::format_duration(*span).to_string();
    let some = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let limits = &pipeline.connection.limits;
    let of_step = |step: &Step| match step.id.as_str() {
        "" => doubt(step.in_doubt).to_owned(),
        id => format!("{id}: {}", doubt(step.in_doubt)),
    };
    let in_doubt = pipeline.steps().map(of_step).collect::<Vec<_>>().join(", ");
    let rows = [
        ("mode", if *mode == Mode::AtMostOnce { "at_most_once" } else { "at_least_once" }.to_owned(), false),
        ("in_doubt", in_doubt, false),
        ("concurrency", concurrency.to_string(), limits.concurrency.is_some()),
        ("rate", some(rate.map(|rate| format!("{rate}/s"))), limits.rate.is_some()),
        ("timeout", span(timeout), false),
        ("connect_timeout", span(connect_timeout), false),
        ("stop_grace", span(stop_grace), false),
        ("retry.attempts", retry.attempts.to_string(), false),
        ("retry.first_wait", span(&retry.first_wait), false),
        ("retry.max_wait", span(&retry.max_wait), false),
        ("retry.max_retry_after", span(&retry.max_retry_after), false),
        ("stop_when.failures", some(stop.failures.map(|n| n.to_string())), false),
        ("stop_when.classes", some((!classes.is_empty()).then_some(classes)), false),
        ("stop_when.failure_rate", some(stop.failure_rate.map(|share| format!("{}%", share * 100.0))), false),
        ("stop_when.window", stop.window.to_string(), false),
        ("stop_when.min_sample", stop.min_sample.to_string(), false),
        ("stop_when.canary", some(stop.canary.map(|n| n.to_string())), false),
        ("stop_when.consecutive", stop.consecutive.to_string(), false),
    ];
    let row = |(key, value, by_connector): (&str, String, bool)| {
        let written = places.iter().find(|(name, _)| name == key);
        let from = match written {
            Some((_, place)) => place.to_string(),
            None if by_connector => "connector".to_owned(),
            None if key == "in_doubt" => "the endpoint's idempotency".to_owned(),
            None => "built in".to_owned(),
        };
        (key.to_owned(), value, from)
    };
    rows.into_iter().map(row).collect()
}

const fn doubt(in_doubt: InDoubt) -> &'static str {
    match in_doubt {
        InDoubt::Resend => "resend",
        InDoubt::Probe => "probe",
        InDoubt::Hold => "hold",
        InDoubt::Skip => "skip",
    }
}
