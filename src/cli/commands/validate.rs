//! `runner validate`: every mistake of all files in one go, and of all records with `--data`.
//!
//! Sends nothing, writes nothing, needs no variable. Invariants: a finding is shown once, whatever
//! refers to its file; what is found in files is of class `config`, what is found in records of
//! class `records_failed`.

mod data;
mod groups;

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Ended, Refused};
use crate::cli::args::Validate;
use crate::cli::invocation::{Ask, Invocation};
use crate::config::{self, CheckedEndpoint, FileCounts, Listing, Pipeline};
use crate::deliver::{Pager, Prober, Reader};
use crate::engine::{self, Plan, Wanted, stand_in};
use crate::model::{Class, Diagnostic, Failure, Problems, Severity};
use crate::render::{CallTemplate, Context, Known, RequestTemplate, Root, RunValues, Scope};
use crate::report::{Reporter, text};
use crate::schema::Schema;

/// What was found, each once.
#[derive(Default)]
struct Findings {
    found: Vec<Diagnostic>,
    class: Option<Class>,
}

impl Findings {
    /// Takes over findings; an error among them makes the ending at least of this class.
    fn add(&mut self, class: Class, found: impl IntoIterator<Item = Diagnostic>) {
        for finding in found {
            if finding.severity == Severity::Error {
                self.of_class(class);
            }
            if !self.found.iter().any(|known| known.is_same(&finding)) {
                self.found.push(finding);
            }
        }
    }

    fn of_class(&mut self, class: Class) {
        self.class = Some(self.class.map_or(class, |known| known.worst(class)));
    }

    fn count(&self, severity: Severity) -> usize {
        self.found.iter().filter(|found| found.severity == severity).count()
    }
}

/// `runner validate`
pub fn validate(
    invocation: &Invocation<'_>,
    args: &Validate,
    mut reporter: Reporter,
) -> Result<Ended, Refused> {
    let paths = match paths(invocation, &args.paths) {
        Ok(paths) => paths,
        Err(failure) => return Err(Refused::new(failure, reporter)),
    };
    let checked = invocation.with_inputs(Ask::default(), |inputs| config::check_all(&paths, inputs));
    let counts = checked.counts;
    let mut findings = Findings::default();
    for (_, problems) in checked.files {
        findings.add(Class::Config, problems.into_sorted());
    }
    for endpoint in &checked.endpoints {
        findings.add(Class::Config, look_at(endpoint));
    }
    if let Err(circle) = config::needs::order(&checked.pipelines) {
        findings.add(Class::Config, circle.diagnostics);
    }
    let mut records = Vec::new();
    for pipeline in checked.pipelines {
        if let Some(plan) = compiled(pipeline, args.data, &mut findings)
            && args.data
        {
            records.push(data::check(&plan, &mut reporter));
        }
    }
    if counts == FileCounts::default() && findings.found.is_empty() {
        return Err(Refused::new(nothing(&args.paths), reporter));
    }
    Ok(finish(args, counts, findings, records, reporter))
}

fn finish(
    args: &Validate,
    counts: FileCounts,
    mut findings: Findings,
    records: Vec<data::Looked>,
    mut reporter: Reporter,
) -> Ended {
    let (mut seen, mut bad) = (0, 0);
    let mut by_pipeline = Vec::new();
    for looked in records {
        seen += looked.records;
        bad += looked.invalid;
        by_pipeline.push(looked.to_json());
        findings.add(looked.class, looked.findings);
    }
    let mut strict = Class::Ok;
    if args.strict {
        for finding in &mut findings.found {
            if finding.severity == Severity::Warning {
                finding.severity = Severity::Error;
                strict = Class::Config;
            }
        }
    }
    let (errors, warnings) = (findings.count(Severity::Error), findings.count(Severity::Warning));
    for finding in sorted(findings.found) {
        reporter.diagnostic(&finding);
    }
    let mut parts: Vec<String> = [
        (counts.pipelines, "pipeline", "pipelines"),
        (counts.endpoints, "endpoint", "endpoints"),
        (counts.connectors, "connector", "connectors"),
    ]
    .into_iter()
    .filter(|(n, ..)| *n > 0)
    .map(|(n, one, many)| text::counted(n as u64, one, many))
    .collect();
    if parts.is_empty() {
        parts.push("runner.yaml".to_owned());
    }
    if args.data {
        parts.push(text::counted(seen, "record", "records"));
    }
    let mut verdict: Vec<String> = Vec::new();
    if errors > 0 {
        verdict.push(text::counted(errors as u64, "error", "errors"));
    }
    if warnings > 0 {
        verdict.push(text::counted(warnings as u64, "warning", "warnings"));
    }
    if bad > 0 {
        verdict.push(text::counted(bad, "invalid record", "invalid records"));
    }
    let verdict = if verdict.is_empty() { "nothing found".to_owned() } else { verdict.join(", ") };
    reporter.conclude(&format!("checked {}: {verdict}", parts.join(", ")));
    let class = findings.class.unwrap_or(Class::Ok).worst(strict);
    let code = if args.exit_zero { 0 } else { class.code() };
    let mut summary = json!({
        "pipelines": counts.pipelines,
        "endpoints": counts.endpoints,
        "connectors": counts.connectors,
        "errors": errors,
        "warnings": warnings,
    });
    if args.data {
        summary["records"] = json!({ "checked": seen, "invalid": bad });
        summary["inputs"] = Value::Array(by_pipeline);
    }
    let class = reporter.answer(class, code, "", summary);
    let code = (args.exit_zero && class != Class::Io).then_some(0);
    Ended { code, ..Ended::of(class) }
}

/// Warnings, then errors, each by file and line: what matters most stands next to the prompt.
fn sorted(found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut problems = Problems::new();
    for finding in found {
        problems.push(finding);
    }
    let mut sorted = problems.into_sorted();
    sorted.sort_by_key(|finding| (std::cmp::Reverse(finding.severity), finding.rule == groups::RULE));
    sorted
}

/// What was named on the command line, as files and folders: a pipeline may be named without
/// folder and ending.
fn paths(invocation: &Invocation<'_>, named: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let find = |path: &PathBuf| {
        let full = invocation.cwd().join(path);
        if full.exists() {
            return Ok(full);
        }
        config::find_pipeline(&path.to_string_lossy(), invocation.cwd()).map(|(_, file)| file)
    };
    named.iter().map(find).collect()
}

fn nothing(named: &[PathBuf]) -> Failure {
    let shown: Vec<String> = named.iter().map(|path| path.display().to_string()).collect();
    Failure::new(
        Class::Config,
        Diagnostic::error(
            "nothing-to-check",
            format!("there is no file of a project in {}", shown.join(", ")),
        )
        .note("these are: runner.yaml, pipelines/**.yaml, templates/CONNECTOR/*.yaml")
        .help("`runner validate` without a path checks the whole project"),
    )
}

/// Compiles a pipeline: expressions, names, schemas, columns.
fn compiled(pipeline: Pipeline, with_data: bool, findings: &mut Findings) -> Option<Plan> {
    let wanted = Wanted {
        target: pipeline.environment.clone(),
        input_may_be_missing: !with_data || data::reads(&pipeline).is_some(),
        ..Wanted::default()
    };
    match engine::open::open(pipeline, &wanted) {
        Ok(plan) => {
            findings.add(Class::Config, plan.warnings.iter().cloned());
            Some(plan)
        }
        Err(failure) => {
            findings.add(failure.class, failure.diagnostics);
            None
        }
    }
}

/// Compiles what an endpoint has of its own: its records and variables are those of some pipeline.
fn look_at(checked: &CheckedEndpoint) -> Vec<Diagnostic> {
    let CheckedEndpoint { root, endpoint, connection } = checked;
    let mut problems = Problems::new();
    let scope = Scope::new()
        .allow(Root::Record, Known::Any)
        .allow(Root::Vars, Known::Any)
        .allow(Root::Lookups, Known::Any)
        .allow(Root::Run, Known::Any);
    if endpoint.pagination.is_some() {
        let listing = Listing { endpoint: endpoint.clone(), connection: connection.clone() };
        Pager::compile(&listing, Context::new(RunValues::of_nobody()), &scope, usize::MAX, &mut problems);
    } else {
        RequestTemplate::compile(endpoint, connection, &[], &scope, &mut problems);
    }
    let context = Context::new(RunValues::of_nobody())
        .with(Root::Connection, Arc::new(crate::model::Value::Object(connection.settings.clone())));
    Reader::compile(endpoint, context, crate::model::Mask::default(), &mut problems);
    if let Some(check) = &connection.check {
        let fields: Vec<String> = connection.settings.names().map(str::to_owned).collect();
        let scope = Scope::new().allow(Root::Connection, Known::Fields(fields.into()));
        CallTemplate::compile(&check.method, &check.path, &[], connection, &scope, &mut problems);
    }
    Prober::compile(endpoint, connection, &scope, crate::model::Mask::default(), &mut problems);
    if let Some(named) = &endpoint.response_schema {
        Schema::load(root, &named.value, &named.place, &mut problems);
    }
    let mut found = problems.into_sorted();
    // The body's schema, and how the sandbox answers.
    if let Err(failure) = stand_in::rules(connection, std::slice::from_ref(endpoint), root) {
        found.extend(failure.diagnostics);
    }
    found
}
