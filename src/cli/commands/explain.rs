//! `runner explain`: everything known about one record.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::request::Drawing;
use super::status::local;
use super::{Ended, Refused, far_side, plan};
use crate::cli::args::{Explain as Args, Selection};
use crate::cli::invocation::{Ask, Invocation};
use crate::cli::table;
use crate::config::Connection;
use crate::engine::{self, Explained, InRun, Named};
use crate::model::{Class, Failure, State, Value};
use crate::outcome::{AttemptRow, BatchRow, BatchState, NoteRow, RecordRow};
use crate::report::Reporter;
use crate::report::text::{block, line};

/// `runner explain`
pub fn explain(invocation: &Invocation<'_>, args: &Args, mut reporter: Reporter) -> Result<Ended, Refused> {
    match look(invocation, args, &mut reporter) {
        Ok((human, summary)) => Ok(Ended::of(reporter.answer(Class::Ok, 0, &human, summary))),
        Err(failure) => Err(Refused::new(failure, reporter)),
    }
}

fn look(
    invocation: &Invocation<'_>,
    args: &Args,
    reporter: &mut Reporter,
) -> Result<(String, Json), Failure> {
    let selection = Selection { input: args.input.clone(), ..Selection::default() };
    let ask = Ask { selection: Some(&selection), pace: None, sandbox: args.sandbox };
    let (pipeline, warnings) = invocation.pipeline(&args.pipeline, ask)?;
    reporter.hide(invocation.mask());
    for warning in &warnings {
        reporter.diagnostic(warning);
    }
    let name = pipeline.name.clone();
    let connection = pipeline.connection.clone();
    let target = if args.sandbox { far_side::TARGET.to_owned() } else { pipeline.environment.clone() };
    let explained = engine::explain(pipeline, &target, &named(&args.record), &mut plan::Nobody)?;
    Ok((in_words(&name, &explained, &connection), summary(&name, &explained, &connection)))
}

/// `#17` is a position, `FILE:18` a line, all else a key.
fn named(text: &str) -> Named {
    if let Some(ordinal) = text.strip_prefix('#').and_then(|digits| digits.parse().ok()) {
        return Named::Ordinal(ordinal);
    }
    if let Some((file, number)) = text.rsplit_once(':')
        && let Ok(number) = number.parse()
        && file.contains(['.', '/'])
    {
        return Named::Line(file.to_owned(), number);
    }
    Named::Key(text.to_owned())
}

fn in_words(name: &str, explained: &Explained, connection: &Connection) -> String {
    let mut out = String::new();
    let mut about = vec![format!("{name}:")];
    match (&explained.key, explained.ordinal) {
        (Some(key), Some(ordinal)) => about.push(format!("key {key}, position {ordinal},")),
        (None, Some(ordinal)) => about.push(format!("position {ordinal},")),
        _ => {}
    }
    match &explained.place {
        Some(place) => about.push(place.to_string()),
        None => about.push("a record that today's input does not have".to_owned()),
    }
    let _ = writeln!(out, "{}", line(&about.join(" ")));
    match &explained.fields {
        None => {}
        Some(Ok(fields)) => {
            for (field, value) in fields.as_object().into_iter().flat_map(crate::model::Map::iter) {
                let value = match value {
                    Value::Absent => "(absent)".to_owned(),
                    Value::String(text) => text.to_string(),
                    value => value.to_json(),
                };
                let _ = writeln!(out, "  {:<16} {}", line(field), line(&value));
            }
        }
        Some(Err(why)) => {
            let _ = writeln!(out, "  no record: {}", line(why));
        }
    }
    if explained.history.is_empty() {
        let _ = writeln!(out, "\nno kept run knows it");
    }
    for known in &explained.history {
        run_in_words(&mut out, known);
    }
    if let Some(request) = &explained.request {
        let of = match explained.step.as_str() {
            _ if explained.shares_calls => " in a call of its own".to_owned(),
            "" => String::new(),
            step => format!(" of step {step}"),
        };
        let _ = writeln!(out, "\nits request{of}, as the project's files make it today");
        match request {
            Ok(request) => {
                for text in Drawing::new(connection).text(request).lines() {
                    let _ = writeln!(out, "{}", format!("  {text}").trim_end());
                }
            }
            Err(outcome) => {
                let _ = writeln!(
                    out,
                    "  none: {}",
                    line(&reason(outcome.state, &outcome.class, &outcome.message))
                );
            }
        }
    }
    let _ = writeln!(out, "\nwhere it is written");
    let width = explained.origins.iter().map(|origin| origin.part.chars().count()).max().unwrap_or(0);
    let places: Vec<String> = explained
        .origins
        .iter()
        .map(|origin| format!("{}:{}", origin.place.path(), origin.place.line_column().0))
        .collect();
    let wide = places.iter().map(|place| place.chars().count()).max().unwrap_or(0);
    for (origin, place) in explained.origins.iter().zip(&places) {
        let written = origin.written.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = format!("{:width$}  {place:wide$}  {written}", origin.part);
        let text = line(text.trim_end());
        let text = table::width().map_or_else(|| text.to_string(), |room| table::cut(&text, room - 2));
        let _ = writeln!(out, "  {text}");
    }
    out
}

/// One run's part: every step in the order of time.
fn run_in_words(out: &mut String, known: &InRun) {
    let _ = write!(out, "\nrun {}: ", known.run.id);
    let Some(row) = &known.row else {
        let _ = match &known.call {
            Some(call) if call.unknown || call.state == BatchState::InFlight => {
                writeln!(out, "may have arrived {}", in_call(call))
            }
            Some(call) => writeln!(out, "waits to be sent again {}", in_call(call)),
            None => writeln!(out, "not reached yet"),
        };
        return;
    };
    let tries = match row.attempts {
        0 => String::new(),
        1 => ", 1 request may have left".to_owned(),
        n => format!(", {n} requests may have left"),
    };
    let state = row.state.name().replace('_', " ");
    let then = match engine::consequence(row.state) {
        "" => String::new(),
        then => format!(", {then}"),
    };
    let call = known.call.as_ref().map(|call| format!(", {}", in_call(call))).unwrap_or_default();
    let _ = writeln!(out, "{state}{then}{tries}{call}");
    for (at, what) in steps(known, row) {
        let _ = writeln!(out, "  {}  {}", local(&at), line(&what));
    }
    if !row.captures.is_empty() {
        let _ = writeln!(out, "  captures  {}", block(&row.captures));
    }
    if known.same_request == Some(false) {
        let _ = writeln!(out, "  what was sent had other bytes than the request below");
    }
}

/// In which call it was, and how many others with it.
fn in_call(call: &BatchRow) -> String {
    match call.members.len() {
        1 => format!("in call {} alone", call.number),
        n => format!("in call {} of {n} records", call.number),
    }
}

/// What happened, with its time.
fn steps(known: &InRun, row: &RecordRow) -> Vec<(String, String)> {
    let is_last = |attempt: &&AttemptRow| {
        attempt.wait_ms.is_none() && attempt.number == row.attempts && attempt.class == row.class
    };
    let by_attempt = known.attempts.iter().any(|attempt| is_last(&attempt)) || row.state == State::Delivered;
    let mut steps: Vec<(String, String)> = known
        .attempts
        .iter()
        .filter(|attempt| !is_last(attempt))
        .map(|attempt| (attempt.at.clone(), attempt_in_words(attempt)))
        .chain(known.notes.iter().map(|note| (note.at.clone(), note_in_words(note))))
        .collect();
    steps.sort_by(|one, two| one.0.cmp(&two.0));
    let decided = !matches!(row.state, State::Pending | State::InFlight) || !row.class.is_empty();
    if decided {
        let why = reason(row.state, &row.class, &row.message);
        let status = if row.status == 0 { String::new() } else { format!("{} ", row.status) };
        let by_attempt = by_attempt && row.class != "resolved" && row.class != "reconciled";
        let attempt = if by_attempt { format!("attempt {}: ", row.attempts) } else { String::new() };
        steps.push((stamp(row.at), format!("{attempt}{status}{why}")));
    }
    steps
}

fn attempt_in_words(attempt: &AttemptRow) -> String {
    let status = if attempt.status == 0 { String::new() } else { format!("{} ", attempt.status) };
    let message = if attempt.message.is_empty() { String::new() } else { format!(": {}", attempt.message) };
    let next = match attempt.wait_ms.map(|wait| Duration::from_millis(wait.unsigned_abs())) {
        None => String::new(),
        Some(wait) => format!("; next step after {}", humantime::format_duration(wait)),
    };
    format!("attempt {}: {status}{}{message}{next}", attempt.number, attempt.class)
}

fn note_in_words(note: &NoteRow) -> String {
    match note.what.as_str() {
        "recovered" => format!("found after the process had ended: {}", note.detail.replace('_', " ")),
        "look" => format!("asked the far side: {}", note.detail),
        "retry" | "try" => format!("opened again by `runner {}`", note.what),
        "accept-changes" => "the run went on under a changed meaning (--accept-changes)".to_owned(),
        "close" => format!("the run was closed: {}", note.detail),
        what => match what.strip_prefix("resolve:") {
            Some(choice) => format!("settled by a person: resolve --{choice}"),
            None => format!("{what}: {}", note.detail),
        },
    }
}

fn reason(state: State, class: &str, message: &str) -> String {
    let mut text = state.name().replace('_', " ");
    for part in [class, message] {
        if !part.is_empty() {
            let _ = write!(text, ", {part}");
        }
    }
    text
}

/// A stamp in milliseconds as the others are written.
fn stamp(milliseconds: i64) -> String {
    jiff::Timestamp::from_millisecond(milliseconds).map(|at| format!("{at:.3}")).unwrap_or_default()
}

fn summary(name: &str, explained: &Explained, connection: &Connection) -> Json {
    let as_json = |text: &str| serde_json::from_str::<Json>(text).unwrap_or(Json::Null);
    let request = explained.request.as_ref().map(|request| match request {
        Ok(request) => as_json(&Value::Object(Drawing::new(connection).json(request)).to_json()),
        Err(outcome) => json!({
            "not_sent": outcome.state.name(), "class": outcome.class, "message": outcome.message
        }),
    });
    json!({
        "pipeline": name,
        "ordinal": explained.ordinal,
        "key": explained.key,
        "file": explained.place.as_ref().map(|place| place.file.to_string()),
        "line": explained.place.as_ref().map(|place| place.line),
        "record": explained.fields.as_ref().and_then(|fields| fields.as_ref().ok()).map(|fields| as_json(&fields.to_json())),
        "no_record": explained.fields.as_ref().and_then(|fields| fields.as_ref().err()),
        "runs": explained.history.iter().map(|known| json!({
            "run_id": known.run.id,
            "state": known.row.as_ref().map_or("pending", |row| row.state.name()),
            "status": known.row.as_ref().map(|row| row.status).filter(|status| *status > 0),
            "class": known.row.as_ref().map(|row| &row.class),
            "message": known.row.as_ref().map(|row| &row.message),
            "attempts": known.row.as_ref().map_or(0, |row| row.attempts),
            "at": known.row.as_ref().map(|row| stamp(row.at)),
            "captures": known.row.as_ref().filter(|row| !row.captures.is_empty()).map(|row| as_json(&row.captures)),
            "request_is_the_same": known.same_request,
            "earlier_attempts": known.attempts.iter().map(|attempt| json!({
                "number": attempt.number, "at": attempt.at, "status": attempt.status,
                "class": attempt.class, "message": attempt.message, "wait_ms": attempt.wait_ms,
            })).collect::<Vec<_>>(),
            "notes": known.notes.iter().map(|note| json!({
                "at": note.at, "what": note.what, "detail": note.detail
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "request": request,
        "origins": explained.origins.iter().map(|origin| {
            let (line, column) = origin.place.line_column();
            json!({ "part": origin.part, "path": origin.place.path(), "line": line, "column": column, "written": origin.written })
        }).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_named_by_key_position_or_line() {
        for (text, expected) in [
            ("a-17", Named::Key("a-17".into())),
            ("#17", Named::Ordinal(17)),
            ("#x", Named::Key("#x".into())),
            ("data/users.csv:18", Named::Line("data/users.csv".into(), 18)),
            // Without a dot or slash it is no file.
            ("urn:17", Named::Key("urn:17".into())),
            ("data/users.csv:x", Named::Key("data/users.csv:x".into())),
        ] {
            assert_eq!(named(text), expected, "{text}");
        }
    }
}
