//! `runner try`: one real request and its reply in full.

use std::fmt::Write as _;
use std::io::Read as _;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::request::{Drawing, body};
use super::{Ended, Refused, apply, far_side, plan};
use crate::cli::args::Try as Args;
use crate::cli::invocation::{Ask, Invocation, shell_word};
use crate::config::{Endpoint, Pipeline, RecordLimits};
use crate::deliver::{Meaning, Verdict};
use crate::engine::{self, AdHoc, Observer, One, Report, Start, Tried, Which};
use crate::model::{
    Class, Diagnostic, Event, Failure, Map, Mask, Outcome, RecordPlace, Reply, Request, State, Value,
};
use crate::report::Reporter;
use crate::report::text::{counted, duration, line};

/// Reply headers whose value is a credential.
const HIDDEN: [&str; 2] = ["set-cookie", "authorization"];

/// `runner try`
pub fn try_one(invocation: &Invocation<'_>, args: &Args, mut reporter: Reporter) -> Result<Ended, Refused> {
    let tried = if args.sample || args.payload.is_some() {
        ad_hoc(invocation, args, &mut reporter)
    } else {
        record(invocation, args, &mut reporter)
    };
    match tried {
        Ok(Said { class, human, summary, report }) => {
            let signal = report.as_ref().and_then(|report| report.signal);
            for diagnostic in report.iter().flat_map(|report| &report.diagnostics) {
                reporter.diagnostic(diagnostic);
            }
            let class = reporter.answer(class, class.code(), &human, summary);
            Ok(Ended { class, signal, code: None })
        }
        Err(failure) => Err(Refused::new(failure, reporter)),
    }
}

struct Said {
    class: Class,
    human: String,
    summary: Json,
    report: Option<Report>,
}

/// The endpoint as its template has it, without what the pipeline says instead.
pub fn own_endpoint(invocation: &Invocation<'_>, pipeline: &Pipeline) -> Result<Endpoint, Failure> {
    let endpoint = pipeline.endpoint();
    let Some((connector, _)) = endpoint.name.split_once('/') else { return Ok(endpoint.clone()) };
    let project = invocation.project_of(pipeline)?;
    let endpoints = invocation.endpoints(&project, connector)?;
    let own = endpoints.into_iter().find(|own| own.name == endpoint.name);
    Ok(own.unwrap_or_else(|| endpoint.clone()))
}

fn load(invocation: &Invocation<'_>, args: &Args, reporter: &mut Reporter) -> Result<Pipeline, Failure> {
    let (pipeline, warnings) = invocation.pipeline(&args.pipeline, Ask::default())?;
    reporter.hide(invocation.mask());
    for warning in &warnings {
        reporter.diagnostic(warning);
    }
    Ok(pipeline)
}

/// Points the pipeline at the stand-in, or asks whether it may send.
fn far_side(
    invocation: &Invocation<'_>,
    args: &Args,
    pipeline: &mut Pipeline,
) -> Result<(Vec<crate::sandbox::Handle>, String), Failure> {
    if args.sandbox {
        return Ok((far_side::stand_in(invocation, pipeline)?, far_side::TARGET.to_owned()));
    }
    if pipeline.confirm && !args.yes {
        apply::confirm(invocation, pipeline)?;
    }
    Ok((Vec::new(), pipeline.environment.clone()))
}

/// A record of the input, as part of its run.
fn record(invocation: &Invocation<'_>, args: &Args, reporter: &mut Reporter) -> Result<Said, Failure> {
    if let Some(key) = &args.record {
        look_first(invocation, args, key, reporter)?;
    }
    let mut pipeline = load(invocation, args, reporter)?;
    // One request is one request.
    pipeline.delivery.retry.attempts = NonZeroU32::MIN;
    let (sandbox, target) = far_side(invocation, args, &mut pipeline)?;
    let connection = pipeline.connection.clone();
    let start = Start {
        target,
        limit: Some(1),
        records: args.record.iter().cloned().collect(),
        one: Some(One { key: args.record.clone(), again: args.again }),
        again: args.again,
        accept_changes: args.accept_changes,
        show_keys: true,
        command: typed(invocation, args),
        ..Start::default()
    };
    let mut watcher = Watcher { reporter, attempts: Vec::new(), settled: None };
    let report = engine::apply(pipeline, &start, &mut watcher)?;
    let Watcher { mut attempts, settled, .. } = watcher;
    drop(sandbox);
    let Some(attempt) = attempts.pop() else { return Err(nothing_sent(invocation, &report, args)) };
    let drawing = Drawing::new(&connection);
    let mask = invocation.mask();
    let class = settled.as_ref().map_or(report.class, |settled| class_of(settled.outcome.state));
    let verdict = settled.as_ref().map_or_else(
        || "not settled: the record stays pending".to_owned(),
        |settled| in_words(&settled.outcome),
    );
    let about = settled.as_ref().map(|settled| {
        let key = settled.key.as_ref().map(|key| format!(", key {key}")).unwrap_or_default();
        format!("{} (position {}{key})", settled.place, attempt.ordinal)
    });
    let next = invocation.typed("apply", &args.pipeline, args.sandbox);
    let mut human =
        format!("# {}\n", line(&about.unwrap_or_else(|| format!("position {}", attempt.ordinal))));
    // All calls that the record made, where it has several.
    for each in &attempts {
        human.push_str(&exchange(&drawing, &each.request, &each.reply, each.took, &mask));
        human.push('\n');
    }
    human.push_str(&exchange(&drawing, &attempt.request, &attempt.reply, attempt.took, &mask));
    let _ = writeln!(human, "\n{}", line(&mask.apply(&verdict)));
    if let Some(settled) = &settled {
        captures(&settled.outcome.captures, &mask, &mut human);
    }
    let _ = writeln!(human, "entered in run {}", report.run);
    if report.counts.unsent > 0 {
        let _ = writeln!(
            human,
            "next: {next} (the other {})",
            counted(report.counts.unsent, "record", "records")
        );
    }
    let summary = json!({
        "run_id": report.run,
        "entered": true,
        "state": report.state,
        "record": {
            "ordinal": attempt.ordinal,
            "file": settled.as_ref().map(|settled| settled.place.file.to_string()),
            "line": settled.as_ref().map(|settled| settled.place.line),
            "key": settled.as_ref().and_then(|settled| settled.key.clone()),
        },
        "earlier": attempts.iter().map(|each| json!({
            "request": request_json(&drawing, &each.request),
            "reply": reply_json(&each.reply, &mask),
            "seconds": each.took.as_secs_f64(),
        })).collect::<Vec<_>>(),
        "request": request_json(&drawing, &attempt.request),
        "reply": reply_json(&attempt.reply, &mask),
        "outcome": settled.as_ref().map(|settled| outcome_json(&settled.outcome)),
        "seconds": attempt.took.as_secs_f64(),
        "next": (report.counts.unsent > 0).then_some(next),
    });
    Ok(Said { class, human, summary, report: Some(report) })
}

fn typed(invocation: &Invocation<'_>, args: &Args) -> String {
    let mut typed = invocation.typed("try", &args.pipeline, args.sandbox);
    if let Some(key) = &args.record {
        let _ = write!(typed, " --record {}", shell_word(key));
    }
    typed
}

/// A record that is named has to be there and to have a request, before a run is begun for it.
fn look_first(
    invocation: &Invocation<'_>,
    args: &Args,
    key: &str,
    reporter: &mut Reporter,
) -> Result<(), Failure> {
    let start =
        Start { records: vec![key.to_owned()], again: args.again, show_keys: true, ..Start::default() };
    let prospect =
        plan::prospect(invocation, &args.pipeline, &start, Ask::default(), (args.sandbox, "try"), reporter)?;
    if prospect.warnings().iter().any(|finding| finding.rule == "list-not-read") {
        // Whether it is there is told once the list is read.
        return Ok(());
    }
    if prospect.pipeline().source.is_stdin() {
        return Err(Failure::new(
            Class::Usage,
            Diagnostic::error("usage", "`--record` needs an input that can be read twice")
                .help("write the input into a file; standard input can only be read once"),
        ));
    }
    let which = Which::These { ordinals: std::collections::BTreeSet::new(), keys: vec![key.to_owned()] };
    let mut refused: Option<(RecordPlace, Outcome)> = None;
    let mut has_request = false;
    let missing = prospect.preview(&which, &mut plan::Nobody, &mut |shown| {
        match shown.request {
            Ok(_) => has_request = true,
            Err(outcome) => refused = refused.take().or(Some((shown.place, outcome))),
        }
        true
    })?;
    if has_request {
        return Ok(());
    }
    let Some((place, outcome)) = refused else {
        return Err(Failure::new(
            Class::Usage,
            Diagnostic::error(
                "no-such-record",
                format!(
                    "the input has no record with {}",
                    missing.first().map_or("this key", String::as_str)
                ),
            )
            .note("nothing was sent")
            .help("a key is the value of the pipeline's `key:`; `runner preview` shows records with theirs"),
        ));
    };
    let class = if outcome.state == State::Invalid { Class::RecordsFailed } else { Class::State };
    Err(Failure::new(
        class,
        Diagnostic::error("not-sent", format!("the record is {}", in_words(&outcome)))
            .at(place.to_string())
            .record(&place)
            .note("nothing was sent"),
    ))
}

fn nothing_sent(invocation: &Invocation<'_>, report: &Report, args: &Args) -> Failure {
    let found = if report.nothing_to_do {
        Diagnostic::error("nothing-pending", format!("every record of run {} is settled", report.run))
            .help(format!("`{} --record KEY --again` sends one of them again", typed(invocation, args)))
    } else {
        Diagnostic::error("nothing-sent", format!("no record of run {} could be sent", report.run))
            .help(format!("`{}` says why", invocation.typed("plan", &args.pipeline, args.sandbox)))
    };
    Failure::new(Class::State, found.note("nothing was sent"))
}

/// The sample of the endpoint, or a file: no record, and so not entered.
fn ad_hoc(invocation: &Invocation<'_>, args: &Args, reporter: &mut Reporter) -> Result<Said, Failure> {
    let mut pipeline = load(invocation, args, reporter)?;
    let endpoint = own_endpoint(invocation, &pipeline)?;
    let (sandbox, target) = far_side(invocation, args, &mut pipeline)?;
    let connection = pipeline.connection.clone();
    let call = AdHoc::open(pipeline, endpoint, &target)?;
    let (fields, place, about) = match &args.payload {
        None => {
            let (fields, place) = call.sample()?;
            let about = format!("sample of {}", place.file);
            (fields, place, about)
        }
        Some(path) => {
            let fields = payload(invocation, path)?;
            let file = said(path);
            (fields, RecordPlace { file: file.as_str().into(), line: 1, byte: 0 }, file)
        }
    };
    let item = call.item(fields.clone(), place.clone());
    let request = call.request(fields, place).map_err(|outcome| {
        Failure::new(
            Class::RecordsFailed,
            Diagnostic::error("not-sent", format!("{about} makes no request: {}", why(&outcome)))
                .note("nothing was sent")
                .help("it goes through the endpoint's own body, not the pipeline's"),
        )
    })?;
    let Tried { reply, reading, verdict, took } = call.send(&request, item.as_ref())?;
    drop(sandbox);
    let (state, class) = match verdict {
        Verdict::Delivered => ("delivered", Class::Ok),
        Verdict::Skipped => ("skipped", Class::Ok),
        Verdict::Failed => ("failed", Class::RecordsFailed),
        Verdict::InDoubt => ("in doubt", Class::InDoubt),
        Verdict::Stop => ("stopped", Class::Halted),
        Verdict::GaveUp if reading.meaning == Meaning::NotSent => ("not sent", Class::Stopped),
        Verdict::GaveUp | Verdict::Again { .. } | Verdict::TooLong { .. } => ("not now", Class::Stopped),
    };
    let drawing = Drawing::new(&connection);
    let mask = invocation.mask();
    let mut human = format!("# {}\n", line(&about));
    human.push_str(&exchange(&drawing, &request, &reply, took, &mask));
    let verdict = with_reason(state, &reading.class, &reading.message);
    let _ = writeln!(human, "\n{}", line(&mask.apply(&verdict)));
    captures(&reading.captures, &mask, &mut human);
    human.push_str("not a record of the input: not entered in any run\n");
    let summary = json!({
        "run_id": null,
        "entered": false,
        "request": request_json(&drawing, &request),
        "reply": reply_json(&reply, &mask),
        "outcome": {
            "state": state.replace(' ', "_"),
            "status": (reading.status != 0).then_some(reading.status),
            "class": reading.class,
            "message": reading.message,
            "captures": as_json(&reading.captures),
        },
        "seconds": took.as_secs_f64(),
    });
    Ok(Said { class, human, summary, report: None })
}

/// How a payload is called.
fn said(path: &Path) -> String {
    if path == Path::new("-") { "standard input".into() } else { path.to_string_lossy().into_owned() }
}

fn cause(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".into(),
        kind => kind.to_string(),
    }
}

fn payload(invocation: &Invocation<'_>, path: &Path) -> Result<Map, Failure> {
    let limits = RecordLimits::default();
    let mut text = Vec::new();
    let most = limits.record as u64 + 1;
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_end(&mut text)
    } else {
        let full = invocation.cwd().join(path);
        std::fs::File::open(&full).and_then(|file| file.take(most).read_to_end(&mut text))
    };
    let unusable = |message: String| {
        Failure::new(
            Class::Input,
            Diagnostic::error("payload", message)
                .at(said(path))
                .note("nothing was sent")
                .help("it is an object shaped like the `sample` of the endpoint's template"),
        )
    };
    read.map_err(|error| unusable(format!("the payload cannot be read: {}", cause(&error))))?;
    match crate::source::parse_json(&text, &limits) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(unusable(format!("the payload is {}, not an object", other.kind()))),
        Err(fault) => Err(unusable(format!("the payload is no JSON: {}", fault.message))),
    }
}

struct Attempt {
    ordinal: u64,
    request: Request,
    reply: Reply,
    took: Duration,
}

struct Settled {
    place: RecordPlace,
    key: Option<String>,
    outcome: Outcome,
}

/// Keeps the one exchange and what became of its record.
struct Watcher<'a> {
    reporter: &'a mut Reporter,
    attempts: Vec<Attempt>,
    settled: Option<Settled>,
}

impl Observer for Watcher<'_> {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Warning(diagnostic) => self.reporter.diagnostic(diagnostic),
            Event::Settled { ordinal, place, key, outcome }
                if self.attempts.last().is_some_and(|attempt| attempt.ordinal == *ordinal) =>
            {
                self.settled =
                    Some(Settled { place: place.clone(), key: key.clone(), outcome: outcome.clone() });
            }
            _ => {}
        }
    }

    fn tick(&mut self) {}

    fn status(&mut self) {}

    fn attempted(&mut self, ordinal: u64, request: &Request, reply: &Reply, took: Duration) {
        self.attempts.push(Attempt { ordinal, request: request.clone(), reply: reply.clone(), took });
    }
}

/// Request and reply, masked and escaped.
fn exchange(drawing: &Drawing<'_>, request: &Request, reply: &Reply, took: Duration, mask: &Mask) -> String {
    let mut out = drawing.text(request);
    match reply {
        Reply::Lost(lost) => {
            let words = format!("no reply: {}: {}", lost.class, lost.message);
            let _ = writeln!(out, "\n{}, after {}", line(&mask.apply(&words)), duration(took));
        }
        Reply::Arrived(arrived) => {
            let _ = writeln!(out, "\nHTTP {}, in {}", arrived.status, duration(took));
            for (name, value) in &arrived.headers {
                let value = shown_header(name.as_str(), value);
                let _ = writeln!(out, "{}: {}", mask.apply(name.as_str()), line(&mask.apply(&value)));
            }
            if !arrived.body.is_empty() {
                // Masked as it came, before it is laid out anew.
                let text = String::from_utf8_lossy(&arrived.body);
                let _ = writeln!(out, "\n{}", body(mask.apply(&text).as_bytes()));
            }
            if !arrived.complete {
                out.push_str("(the body was cut off here)\n");
            }
        }
    }
    out
}

fn shown_header(name: &str, value: &http::HeaderValue) -> String {
    if HIDDEN.contains(&name) { "***".into() } else { String::from_utf8_lossy(value.as_bytes()).into_owned() }
}

fn captures(captures: &Value, mask: &Mask, out: &mut String) {
    let all = || captures.as_object().into_iter().flat_map(Map::iter);
    // Where a record has several calls, the status of each stands under its name.
    let is_status = |name: &str| all().any(|(other, _)| other.starts_with(&format!("{name}.")));
    for (name, value) in all().filter(|(name, _)| !is_status(name)) {
        let text = value.as_str().map_or_else(|| value.to_json(), str::to_owned);
        let _ = writeln!(out, "captured {} = {}", line(name), line(&mask.apply(&text)));
    }
}

/// Only the reason: that nothing was sent is said already.
fn why(outcome: &Outcome) -> &str {
    if outcome.message.is_empty() { &outcome.class } else { &outcome.message }
}

fn in_words(outcome: &Outcome) -> String {
    with_reason(&outcome.state.name().replace('_', " "), &outcome.class, &outcome.message)
}

fn with_reason(state: &str, class: &str, message: &str) -> String {
    let reason: Vec<&str> = [class, message].into_iter().filter(|part| !part.is_empty()).collect();
    if reason.is_empty() { state.to_owned() } else { format!("{state}: {}", reason.join(": ")) }
}

const fn class_of(state: State) -> Class {
    match state {
        State::Delivered | State::Skipped => Class::Ok,
        State::Failed | State::Invalid => Class::RecordsFailed,
        State::InDoubt | State::InFlight => Class::InDoubt,
        State::Pending => Class::Stopped,
    }
}

fn as_json(value: &Value) -> Json {
    serde_json::from_str(&value.to_json()).unwrap_or(Json::Null)
}

fn request_json(drawing: &Drawing<'_>, request: &Request) -> Json {
    as_json(&Value::Object(drawing.json(request)))
}

fn reply_json(reply: &Reply, mask: &Mask) -> Json {
    match reply {
        Reply::Lost(lost) => json!({ "lost": lost.class, "certain": lost.certain, "message": lost.message }),
        Reply::Arrived(arrived) => {
            let headers: serde_json::Map<String, Json> = arrived
                .headers
                .iter()
                // Values are masked with all other texts; names of the far side only here.
                .map(|(name, value)| {
                    (mask.apply(name.as_str()).into_owned(), shown_header(name.as_str(), value).into())
                })
                .collect();
            json!({
                "status": arrived.status.as_u16(),
                "headers": headers,
                "body": String::from_utf8_lossy(&arrived.body),
                "complete": arrived.complete,
            })
        }
    }
}

fn outcome_json(outcome: &Outcome) -> Json {
    json!({
        "state": outcome.state.name(),
        "status": (outcome.status != 0).then_some(outcome.status),
        "class": outcome.class,
        "message": outcome.message,
        "attempts": outcome.attempts,
        "captures": as_json(&outcome.captures),
    })
}
