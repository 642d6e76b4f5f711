//! `runner preview`: the requests themselves, before any is sent.

use serde_json::{Value as Json, json};

use super::request::{Drawing, json_safe};
use super::try_one::own_endpoint;
use super::{Ended, Refused, far_side, plan};
use crate::cli::args::{Preview as Args, PreviewForm};
use crate::cli::invocation::{Ask, Invocation};
use crate::engine::{AdHoc, Ahead, Shown, Start, Which, stand_in};
use crate::model::{Class, Diagnostic, Failure, Map, Number, Outcome, RecordPlace, State, Str, Value};
use crate::report::text::line;
use crate::report::{Format, Reporter};

/// Requests that are shown unless more are asked for.
const FIRST: u64 = 3;

/// `runner preview`
pub fn preview(invocation: &Invocation<'_>, args: &Args, mut reporter: Reporter) -> Result<Ended, Refused> {
    let mut out = Out {
        form: args.form,
        as_object: invocation.cli().everywhere.format != Format::Human,
        shown: 0,
        unsent: 0,
        requests: Vec::new(),
        has_marks: false,
    };
    let looked = if args.sample {
        sample(invocation, args, &mut reporter, &mut out)
    } else {
        records(invocation, args, &mut reporter, &mut out)
    };
    if let Err(failure) = looked {
        return Err(Refused::new(failure, reporter));
    }
    let class = if out.unsent > 0 { Class::RecordsFailed } else { Class::Ok };
    let summary = json!({ "requests": out.requests });
    Ok(Ended::of(reporter.answer(class, class.code(), "", summary)))
}

fn records(
    invocation: &Invocation<'_>,
    args: &Args,
    reporter: &mut Reporter,
    out: &mut Out,
) -> Result<(), Failure> {
    let start = Start {
        records: args.selection.records.clone(),
        filter: args.selection.filter.clone(),
        show_keys: true,
        ..Start::default()
    };
    let ask = Ask { selection: Some(&args.selection), pace: None, sandbox: args.sandbox };
    let prospect =
        plan::prospect(invocation, &args.pipeline, &start, ask, (args.sandbox, "preview"), reporter)?;
    let connection = prospect.pipeline().connection.clone();
    let drawing = Drawing::new(&connection);
    let limit = args.selection.limit.map(std::num::NonZeroU64::get);
    let which = if !args.ordinals.is_empty() || !args.selection.records.is_empty() {
        Which::These {
            ordinals: args.ordinals.iter().copied().collect(),
            keys: args.selection.records.clone(),
        }
    } else if args.all {
        Which::All
    } else {
        limit.map_or(Which::First(FIRST), Which::Records)
    };
    let missing = prospect.preview(&which, &mut plan::Nobody, &mut |shown| {
        out.record(shown, &drawing, reporter);
        limit.is_none_or(|limit| out.shown < limit)
    })?;
    if !missing.is_empty() {
        return Err(Failure::new(
            Class::Usage,
            Diagnostic::error(
                "no-such-record",
                format!("the input has no record with {}", missing.join(", ")),
            )
            .help("positions count from 0; a key is the value of the pipeline's `key:`"),
        ));
    }
    if out.has_marks {
        reporter.say("note: `__STEP.NAME__` stands for what the reply to that step brings");
    }
    if out.shown == 0 {
        reporter.say("no record of the input would be sent; `runner plan` says why");
    }
    Ok(())
}

/// The endpoint's own sample, as a record of the endpoint's own shape.
fn sample(
    invocation: &Invocation<'_>,
    args: &Args,
    reporter: &mut Reporter,
    out: &mut Out,
) -> Result<(), Failure> {
    let (mut pipeline, warnings) = invocation.pipeline(&args.pipeline, Ask::default())?;
    reporter.hide(invocation.mask());
    for warning in &warnings {
        reporter.diagnostic(warning);
    }
    if args.sandbox {
        stand_in::redirect(&mut pipeline.connection, "http://sandbox.localhost");
    }
    let endpoint = own_endpoint(invocation, &pipeline)?;
    let connection = pipeline.connection.clone();
    let target = if args.sandbox { far_side::TARGET.to_owned() } else { pipeline.environment.clone() };
    let call = AdHoc::open(pipeline, endpoint, &target)?;
    let (fields, place) = call.sample()?;
    let about = format!("sample of {}", place.file);
    let what = call.request(fields, place.clone());
    out.show(&about, None, what.as_ref(), &Drawing::new(&connection), reporter);
    Ok(())
}

/// What tells one record from another, for programs.
fn named(ordinal: u64, place: &RecordPlace, key: Option<Str>) -> Map {
    let mut record = Map::new();
    record.push("file", Value::text(&*place.file));
    record.push("line", Value::Number(Number::from(place.line)));
    record.push("ordinal", Value::Number(Number::from(ordinal)));
    if let Some(key) = key {
        record.push("key", Value::String(key));
    }
    record
}

/// Which records a call has: all their places while they are few.
fn about_call(records: &[(u64, RecordPlace, Option<Str>)]) -> String {
    const MOST: usize = 6;
    let count = match records.len() {
        1 => "1 record".to_owned(),
        n => format!("{n} records"),
    };
    let file = records.first().map(|(_, place, _)| place.file.to_string()).unwrap_or_default();
    let lines: Vec<String> = records.iter().take(MOST).map(|(_, place, _)| place.line.to_string()).collect();
    let more = if records.len() > MOST { ", …" } else { "" };
    let word = if lines.len() == 1 { "line" } else { "lines" };
    format!("{count} of {file}: {word} {}{more}", lines.join(", "))
}

/// Writes requests as they come, or keeps them for the one object.
struct Out {
    form: PreviewForm,
    as_object: bool,
    shown: u64,
    unsent: u64,
    requests: Vec<Json>,
    /// Calls were shown that need a reply first.
    has_marks: bool,
}

impl Out {
    fn record(&mut self, shown: Shown, drawing: &Drawing<'_>, reporter: &mut Reporter) {
        let Shown { ordinal, place, key, request, records, step, ahead } = shown;
        let request = request.as_ref().map(|request| &**request);
        if !records.is_empty() {
            let about = about_call(&records);
            let records = records.into_iter().map(|(at, place, key)| Value::Object(named(at, &place, key)));
            let mut call = Map::new();
            call.push("records", Value::Array(records.collect()));
            return self.show(&about, Some(call), request, drawing, reporter);
        }
        let key_words = key.as_ref().map(|key| format!(", key {key}")).unwrap_or_default();
        let about = format!("{place} (position {ordinal}{key_words})");
        let record = |step: &str| {
            let mut record = Map::new();
            record.push("record", Value::Object(named(ordinal, &place, key.clone())));
            if !step.is_empty() {
                record.push("step", Value::text(step));
            }
            record
        };
        let step_words = if step.is_empty() { String::new() } else { format!(", step {step}") };
        self.show(&format!("{about}{step_words}"), Some(record(&step)), request, drawing, reporter);
        // They are calls of the record that was shown.
        let before = self.shown;
        for Ahead { id, is_certain, request } in ahead {
            let maybe = if is_certain { "" } else { ", if the reply before it says so" };
            let about = format!("{about}, step {id}{maybe}");
            self.has_marks = true;
            let mut record = record(&id);
            record.push("certain", Value::Bool(is_certain));
            let request = request.map_err(|message| Outcome {
                state: State::Pending,
                status: 0,
                class: "not-known-yet".into(),
                message,
                attempts: 0,
                captures: Value::Absent,
            });
            self.show(&about, Some(record), request.as_ref(), drawing, reporter);
        }
        self.shown = before;
    }

    fn show(
        &mut self,
        about: &str,
        record: Option<Map>,
        request: Result<&crate::model::Request, &Outcome>,
        drawing: &Drawing<'_>,
        reporter: &mut Reporter,
    ) {
        let not_sent = request.err().map(|outcome| {
            let class = if outcome.class.is_empty() { "" } else { &*outcome.class };
            let message = if outcome.message.is_empty() { "" } else { &*outcome.message };
            let between = if class.is_empty() || message.is_empty() { "" } else { ": " };
            self.unsent += u64::from(outcome.state == State::Invalid);
            format!("{}, {class}{between}{message}", outcome.state.name())
        });
        if self.as_object || self.form == PreviewForm::Json {
            let mut object = Map::new();
            record.into_iter().flatten().for_each(|(name, value)| object.push(name, value));
            if let Some(why) = &not_sent {
                object.push("not_sent", Value::text(why.as_str()));
            }
            if let Ok(request) = request {
                drawing.json(request).into_iter().for_each(|(name, value)| object.push(name, value));
            }
            let text = Value::Object(object).to_json();
            if self.as_object {
                // Numbers beyond a float's digits are exact in `--as json` only.
                self.requests.push(serde_json::from_str(&text).unwrap_or(Json::Null));
            } else {
                reporter.announce(&json_safe(&text));
            }
        } else {
            let head = match &not_sent {
                Some(why) => format!("# {}\n# not sent: {}\n", line(about), line(why)),
                None => format!("# {}\n", line(about)),
            };
            let text = match (request, self.form) {
                (Ok(request), PreviewForm::Curl) => drawing.curl(request),
                (Ok(request), _) => drawing.text(request),
                (Err(_), _) => String::new(),
            };
            let before = if self.shown > 0 { "\n" } else { "" };
            reporter.announce(format!("{before}{head}{text}").trim_end_matches('\n'));
        }
        self.shown += 1;
    }
}
