//! `runner plan` and `apply --dry-run`: what `apply` would do with the whole input.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Ended, Refused, far_side};
use crate::cli::args::Plan as Args;
use crate::cli::invocation::{Ask, Invocation, shell_word};
use crate::config::{Concurrency, Pipeline, Step};
use crate::engine::{Course, Forecast, Group, Observer, Prospect, Start, stand_in};
use crate::model::{Class, Event, Failure, RecordPlace, Reply, Request};
use crate::report::Reporter;
use crate::report::text::{counted, duration, line, number, rate};

/// Exit code of `--detailed-exitcode` when there is something to send.
const SOMETHING_TO_SEND: u8 = 10;
/// Reasons that are listed for people.
const LISTED: usize = 12;

/// `runner plan`
pub fn plan(invocation: &Invocation<'_>, args: &Args, reporter: Reporter) -> Result<Ended, Refused> {
    let start = Start {
        limit: args.selection.limit.map(std::num::NonZeroU64::get),
        records: args.selection.records.clone(),
        filter: args.selection.filter.clone(),
        ..Start::default()
    };
    let ask = Ask { selection: Some(&args.selection), pace: None, sandbox: args.sandbox };
    let pipelines = std::slice::from_ref(&args.pipeline);
    all(invocation, pipelines, &start, ask, (args.sandbox, args.detailed_exitcode), reporter)
}

/// Looks at pipelines, one after another.
pub fn all(
    invocation: &Invocation<'_>,
    pipelines: &[PathBuf],
    start: &Start,
    ask: Ask<'_>,
    (sandbox, detailed): (bool, bool),
    mut reporter: Reporter,
) -> Result<Ended, Refused> {
    let mut human = String::new();
    let mut summaries = Vec::new();
    let mut worst = Class::Ok;
    let mut to_send = 0;
    for named in pipelines {
        match one(invocation, named, start, ask, sandbox, &mut reporter) {
            Ok(planned) => {
                if !human.is_empty() {
                    human.push('\n');
                }
                human.push_str(&planned.human);
                summaries.push(planned.summary);
                worst = worst.worst(planned.class);
                to_send += planned.send;
            }
            Err(failure) if pipelines.len() == 1 => return Err(Refused::new(failure, reporter)),
            Err(failure) => {
                worst = worst.worst(failure.class);
                for diagnostic in &failure.diagnostics {
                    reporter.diagnostic(diagnostic);
                }
            }
        }
    }
    let mut summary = summaries.pop().unwrap_or(Value::Null);
    if !summaries.is_empty() {
        summary["earlier"] = summaries.into();
    }
    let is_sound = matches!(worst, Class::Ok | Class::RecordsFailed);
    let code = (detailed && to_send > 0 && is_sound).then_some(SOMETHING_TO_SEND);
    let class = reporter.answer(worst, code.unwrap_or(worst.code()), &human, summary);
    Ok(Ended { class, signal: None, code: code.filter(|_| class == worst) })
}

struct Planned {
    human: String,
    summary: Value,
    class: Class,
    send: u64,
}

fn one(
    invocation: &Invocation<'_>,
    named: &Path,
    start: &Start,
    ask: Ask<'_>,
    sandbox: bool,
    reporter: &mut Reporter,
) -> Result<Planned, Failure> {
    let prospect = prospect(invocation, named, start, ask, (sandbox, "apply"), reporter)?;
    let about = About::of(prospect.pipeline(), sandbox, again(invocation, named, ask, sandbox));
    let forecast = prospect.forecast(&mut Nobody)?;
    if let Course::Refuse(failure) = &forecast.course {
        for diagnostic in &failure.diagnostics {
            reporter.diagnostic(diagnostic);
        }
    }
    let class = match &forecast.course {
        Course::Refuse(failure) => failure.class,
        _ if !forecast.invalid.is_empty() || forecast.before.invalid > 0 => Class::RecordsFailed,
        _ => Class::Ok,
    };
    Ok(Planned {
        human: about.human(&forecast),
        summary: about.summary(&forecast),
        class,
        send: forecast.send,
    })
}

/// The `apply` that does what is shown, for the same records.
fn again(invocation: &Invocation<'_>, named: &Path, ask: Ask<'_>, sandbox: bool) -> String {
    let mut typed = invocation.typed("apply", named, sandbox);
    let Some(selection) = ask.selection else { return typed };
    if let Some(input) = &selection.input {
        let _ = write!(typed, " --input {}", shell_word(&input.to_string_lossy()));
    }
    if let Some(limit) = selection.limit {
        let _ = write!(typed, " --limit {limit}");
    }
    if let Some(filter) = &selection.filter {
        let _ = write!(typed, " --where {}", shell_word(filter));
    }
    for key in &selection.records {
        let _ = write!(typed, " --record {}", shell_word(key));
    }
    typed
}

/// Opens a pipeline to look at it; `command` is what would be typed to do it.
pub fn prospect(
    invocation: &Invocation<'_>,
    named: &Path,
    start: &Start,
    ask: Ask<'_>,
    (sandbox, command): (bool, &str),
    reporter: &mut Reporter,
) -> Result<Prospect, Failure> {
    let (mut pipeline, warnings) = invocation.pipeline(named, ask)?;
    reporter.hide(invocation.mask());
    for warning in &warnings {
        reporter.diagnostic(warning);
    }
    if sandbox {
        stand_in::redirect(&mut pipeline.connection, "http://sandbox.localhost");
        // As `apply` does it: nobody has to be spared there.
        if ask.pace.is_none_or(|pace| pace.rate.is_none()) {
            pipeline.delivery.rate = None;
        }
    }
    let target = if sandbox { far_side::TARGET.to_owned() } else { pipeline.environment.clone() };
    let start = Start { target, command: invocation.typed(command, named, sandbox), ..start.clone() };
    let prospect = Prospect::open(pipeline, start)?;
    for warning in prospect.warnings() {
        reporter.diagnostic(warning);
    }
    Ok(prospect)
}

/// Listens to nothing: a look has no events.
pub struct Nobody;

impl Observer for Nobody {
    fn event(&mut self, _: &Event) {}
    fn tick(&mut self) {}
    fn status(&mut self) {}
    fn attempted(&mut self, _: u64, _: &Request, _: &Reply, _: Duration) {}
}

/// What is said of a pipeline beside the counts.
struct About {
    pipeline: String,
    /// Name of the step, method and URL of each call of a record.
    requests: Vec<(String, String, String)>,
    connection: String,
    environment: String,
    rate: Option<f64>,
    concurrency: Concurrency,
    unset: Vec<String>,
    sandbox: bool,
    next: String,
}

impl About {
    fn of(pipeline: &Pipeline, sandbox: bool, next: String) -> Self {
        let call = |step: &Step| {
            let endpoint = &step.endpoint;
            let url = format!("{}{}", pipeline.connection.base_url, endpoint.path.value);
            (step.id.clone(), endpoint.method.value.to_string(), url)
        };
        Self {
            pipeline: pipeline.name.clone(),
            requests: pipeline.steps().map(call).collect(),
            connection: pipeline.connection.name.clone(),
            environment: pipeline.environment.clone(),
            rate: pipeline.delivery.rate,
            concurrency: pipeline.delivery.concurrency,
            unset: pipeline.connection.unset.iter().map(|unset| unset.from.clone()).collect(),
            sandbox,
            next,
        }
    }

    fn least_seconds(&self, records: u64) -> Option<f64> {
        let rate = self.rate.filter(|rate| *rate > 0.0)?;
        // The first goes at once.
        let waits = u32::try_from(records.saturating_sub(1)).unwrap_or(u32::MAX);
        Some(f64::from(waits) / rate)
    }

    fn human(&self, forecast: &Forecast) -> String {
        let input = line(&forecast.input).into_owned();
        let records = forecast.records.map(|records| counted(records, "record", "records"));
        let of = records.map(|records| format!("{records} of {input}")).unwrap_or(input);
        let course = match &forecast.course {
            Course::Begin { closes: None } => format!("a new run, {of}"),
            Course::Begin { closes: Some(run) } => format!("closes run {run} and begins a new one, {of}"),
            Course::GoOn(run) => format!("goes on with run {run}, {of}"),
            Course::Settled(run) if forecast.delete > 0 => {
                format!("run {run} is settled, but for what it deletes, {of}")
            }
            Course::Settled(run) => format!("nothing to do, run {run} is settled, {of}"),
            Course::Refuse(failure) => {
                let why = failure.diagnostics.first().map(|found| found.message.as_str()).unwrap_or_default();
                format!("would refuse: {}", line(why))
            }
        };
        let mut out = format!("{}: {course}\n", self.pipeline);
        let mut row = |name: &str, text: &str| {
            let _ = writeln!(out, "  {name:<12}{text}");
        };
        for (step, method, url) in &self.requests {
            let name = if step.is_empty() { "request".to_owned() } else { format!("step {step}") };
            // A longer name still stands apart from what it names.
            let gap = if name.len() < 12 { "" } else { " " };
            row(&name, &format!("{gap}{}", line(&format!("{method} {url}"))));
        }
        let place =
            if self.sandbox { "in the sandbox".into() } else { format!("environment {}", self.environment) };
        row("connection", &format!("{}, {place}", self.connection));
        if !self.unset.is_empty() {
            row("not set", &line(&self.unset.join(", ")));
        }
        if matches!(forecast.course, Course::Refuse(_)) {
            return out;
        }
        if matches!(self.concurrency, Concurrency::Adaptive { .. }) {
            row("concurrency", &self.concurrency.to_string());
        }
        let least =
            self.least_seconds(forecast.calls.unwrap_or(forecast.send)).filter(|seconds| *seconds >= 1.0);
        let least = least.zip(self.rate).map(|(seconds, limit)| {
            format!(", in {} at least ({})", duration(Duration::from_secs_f64(seconds)), rate(limit))
        });
        row("send", &format!("{}{}", to_send(forecast), least.unwrap_or_default()));
        if forecast.again > 0 {
            row("", &format!("{} of them may have arrived before", number(forecast.again)));
        }
        if forecast.delivered_before > 0 {
            let n = number(forecast.delivered_before);
            row("", &format!("{n} of them were delivered by an earlier run"));
        }
        if forecast.delete > 0 {
            let keys = counted(forecast.delete, "key", "keys");
            row("delete", &format!("{keys} that earlier runs delivered, not in it any more"));
        }
        let stay = forecast.vanished.saturating_sub(forecast.delete);
        if stay > 0 {
            let keys = counted(stay, "key", "keys");
            row("vanished", &format!("{keys} that earlier runs delivered, not in it any more; they stay"));
        }
        if forecast.before.settled() > 0 {
            row("done before", &settled_before(forecast));
        }
        if forecast.left_out > 0 {
            row(
                "left out",
                &format!("{} by flags, they stay pending", counted(forecast.left_out, "record", "records")),
            );
        }
        if forecast.behind > 0 {
            row("waiting", &format!("{} behind one in doubt", counted(forecast.behind, "record", "records")));
        }
        if forecast.asked_about > 0 {
            let n = counted(forecast.asked_about, "record", "records");
            row("in doubt", &format!("the far side is asked about {n} first"));
        }
        if forecast.held_back > 0 {
            let n = counted(forecast.held_back, "record", "records");
            row("held", &format!("{n} that may have arrived with other bytes"));
        }
        for (name, groups) in [("skipped", &forecast.skipped), ("invalid", &forecast.invalid)] {
            if !groups.is_empty() {
                row(name, &format!("{}{}", counted(sum(groups), "record", "records"), listed(groups)));
            }
        }
        if forecast.send > 0 || forecast.delete > 0 {
            let _ = writeln!(out, "nothing was sent; next: {}", self.next);
        }
        out
    }

    fn summary(&self, forecast: &Forecast) -> Value {
        let (state, run) = match &forecast.course {
            Course::Begin { .. } => ("new", None),
            Course::GoOn(run) => ("goes_on", Some(run)),
            Course::Settled(run) => ("settled", Some(run)),
            Course::Refuse(_) => ("refused", None),
        };
        let closes = match &forecast.course {
            Course::Begin { closes } => closes.as_ref(),
            _ => None,
        };
        let before = &forecast.before;
        let duplicates: u64 = [&forecast.skipped, &forecast.invalid]
            .into_iter()
            .flatten()
            .filter(|group| group.class == "duplicate-key")
            .map(|group| group.count)
            .sum();
        json!({
            "pipeline": self.pipeline,
            "state": state,
            "run_id": run,
            "closes": closes,
            "input": forecast.input,
            "request": self.requests.first().map(|(_, method, url)| json!({ "method": method, "url": url })),
            "steps": self.requests.iter().filter(|(step, ..)| !step.is_empty())
                .map(|(step, method, url)| json!({ "id": step, "method": method, "url": url }))
                .collect::<Vec<_>>(),
            "connection": self.connection,
            "environment": self.environment,
            "concurrency": self.concurrency.most(),
            "adaptive": matches!(self.concurrency, Concurrency::Adaptive { .. }),
            "sandbox": self.sandbox,
            "unset": self.unset,
            "counts": {
                "total": forecast.records,
                "send": forecast.send,
                "calls": forecast.calls.unwrap_or(forecast.send),
                "send_again": forecast.again + forecast.delivered_before,
                "vanished": forecast.vanished,
                "delete": forecast.delete,
                "left_out": forecast.left_out,
                "behind": forecast.behind,
                "asked_about": forecast.asked_about,
                "held": forecast.held_back,
                "skipped": sum(&forecast.skipped),
                "invalid": sum(&forecast.invalid),
                "duplicates": duplicates,
            },
            "before": {
                "delivered": before.delivered,
                "failed": before.failed,
                "invalid": before.invalid,
                "skipped": before.skipped,
                "in_doubt": before.in_doubt,
            },
            "rate": self.rate,
            "seconds_at_least": self.least_seconds(forecast.calls.unwrap_or(forecast.send)),
            "skipped": forecast.skipped.iter().map(group_json).collect::<Vec<_>>(),
            "invalid": forecast.invalid.iter().map(group_json).collect::<Vec<_>>(),
            "next": (forecast.send > 0).then_some(&self.next),
        })
    }
}

/// `1,219 records`, and in how many calls where a call has several.
fn to_send(forecast: &Forecast) -> String {
    let records = counted(forecast.send, "record", "records");
    match forecast.calls {
        None => records,
        Some(calls) => format!("{records} in {}", counted(calls, "call", "calls")),
    }
}

fn sum(groups: &[Group]) -> u64 {
    groups.iter().map(|group| group.count).sum()
}

fn settled_before(forecast: &Forecast) -> String {
    let before = &forecast.before;
    let parts: Vec<String> = [
        (before.delivered, "delivered"),
        (before.failed, "failed"),
        (before.invalid, "invalid"),
        (before.skipped, "skipped"),
        (before.in_doubt, "in doubt"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, name)| format!("{} {name}", number(n)))
    .collect();
    parts.join(", ")
}

/// A line for each reason, and one with the first places.
fn listed(groups: &[Group]) -> String {
    let mut out = String::new();
    for group in groups.iter().take(LISTED) {
        let _ = write!(out, "\n  {:>14}  {}", number(group.count), line(&reason(group)));
        let _ = write!(out, "\n  {:>14}  {}", "", line(&places(&group.first, group.count)));
    }
    if let Some(rest) = groups.get(LISTED..).filter(|rest| !rest.is_empty()) {
        let _ = write!(out, "\n  {:>14}  for other reasons", number(sum(rest)));
    }
    out
}

/// A reason in words.
fn reason(group: &Group) -> String {
    let words = match (group.class.as_str(), group.message.as_str()) {
        ("where", "") => "`where` is false",
        ("duplicate-key", "") => "another record has the same key",
        ("delivered-before", "") => "an earlier run delivered it",
        ("held", "") => "an earlier run holds it in doubt",
        (_, "") => return group.class.clone(),
        (_, message) => message,
    };
    format!("{}: {words}", group.class)
}

/// `data/users.csv lines 4, 88 …`
fn places(first: &[RecordPlace], count: u64) -> String {
    let Some(file) = first.first().map(|place| &place.file) else { return String::new() };
    let lines: Vec<String> =
        first.iter().filter(|place| place.file == *file).map(|place| place.line.to_string()).collect();
    let more = if count > lines.len() as u64 { ", …" } else { "" };
    format!("{file} {} {}{more}", if count == 1 { "line" } else { "lines" }, lines.join(", "))
}

fn group_json(group: &Group) -> Value {
    json!({
        "class": group.class,
        "message": group.message,
        "count": group.count,
        "first": group.first.iter().map(|place| json!({ "file": &*place.file, "line": place.line })).collect::<Vec<_>>(),
    })
}
