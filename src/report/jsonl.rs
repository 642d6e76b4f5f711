//! Events for programs, one JSON object a line.
//!
//! `run_started`, `progress`, `record` (only with `-v`), `warning`, `run_ended`. Pure: the stamp
//! comes in as text. Invariant: no message of the far side and no record value is among the
//! fields.

use std::time::Instant;

use serde_json::{Value, json};

use super::json::{counts, diagnostic, pacing};
use super::tally::Tally;
use crate::model::{Diagnostic, Event};

/// The line for an event, if programs get one; `time` is RFC 3339 in UTC.
pub(super) fn event(event: &Event, time: &str) -> Option<Value> {
    match event {
        Event::RunStarted { pipeline, run, connection, host, total, before, resumed, rate } => Some(json!({
            "event": "run_started",
            "time": time,
            "format_version": 1,
            "pipeline": pipeline,
            "run_id": run,
            "connection": connection,
            "host": host,
            "total": total,
            "before": counts(before),
            "resumed": resumed,
            "rate": rate,
        })),
        Event::Settled { ordinal, place, key, outcome } => Some(json!({
            "event": "record",
            "time": time,
            "ordinal": ordinal,
            "file": &*place.file,
            "line": place.line,
            "key": key,
            "state": outcome.state.name(),
            "status": (outcome.status != 0).then_some(outcome.status),
            "class": outcome.class,
            "attempts": outcome.attempts,
        })),
        Event::Listing { source, pages, items, done: true } => Some(json!({
            "event": "listed",
            "time": time,
            "source": source,
            "pages": pages,
            "items": items,
        })),
        Event::Warning(found) => Some(warning(found, time)),
        _ => None,
    }
}

/// A finding that stops nothing.
pub(super) fn warning(found: &Diagnostic, time: &str) -> Value {
    json!({ "event": "warning", "time": time, "diagnostic": diagnostic(found) })
}

/// Where the run stands.
pub(super) fn progress(tally: &Tally, at: Instant, time: &str) -> Value {
    json!({
        "event": "progress",
        "time": time,
        "pipeline": tally.pipeline,
        "done": tally.done(),
        "total": tally.total(),
        "counts": counts(&tally.counts()),
        "rate": tally.pace(),
        "pacing": tally.pacing.map(pacing),
        "seconds": tally.elapsed(at).as_secs(),
        "seconds_left": tally.left(at).map(|left| left.as_secs()),
        "waiting": tally.waiting(at).map(|(wait, why)| json!({ "seconds": wait.as_secs(), "why": why })),
    })
}

/// The answer as the last line.
pub(super) fn run_ended(answer: Value, time: &str) -> Value {
    let mut line = json!({ "event": "run_ended", "time": time });
    if let (Some(line), Value::Object(answer)) = (line.as_object_mut(), answer) {
        line.extend(answer);
    }
    line
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tally::tests::started;
    use super::*;
    use crate::model::{Counts, Outcome, Pause, RecordPlace, State, Value as Captures};

    const TIME: &str = "2026-11-22T02:14:00Z";

    #[test]
    fn every_event_is_one_object() {
        let before = Counts { delivered: 600, unsent: 650, ..Counts::default() };
        let begin = started(1_250, before, Some(20.0));
        insta::assert_snapshot!(event(&begin, TIME).unwrap(), @r#"{"event":"run_started","time":"2026-11-22T02:14:00Z","format_version":1,"pipeline":"sync-users","run_id":"20261122T0214-3f9c","connection":"freshchat","host":"https://acme.freshchat.com","total":1250,"before":{"total":1250,"delivered":600,"failed":0,"invalid":0,"skipped":0,"in_doubt":0,"unsent":650},"resumed":true,"rate":20.0}"#);

        let settled = Event::Settled {
            ordinal: 7,
            place: RecordPlace { file: "data/users.csv".into(), line: 9, byte: 120 },
            key: Some("5f2c91aa".into()),
            outcome: Outcome {
                state: State::Failed,
                status: 409,
                class: "EMAIL_TAKEN".into(),
                message: "ann@example.com is taken".into(),
                attempts: 1,
                captures: Captures::Absent,
            },
        };
        insta::assert_snapshot!(event(&settled, TIME).unwrap(), @r#"{"event":"record","time":"2026-11-22T02:14:00Z","ordinal":7,"file":"data/users.csv","line":9,"key":"5f2c91aa","state":"failed","status":409,"class":"EMAIL_TAKEN","attempts":1}"#);

        let t0 = Instant::now();
        let mut tally = Tally::of(&begin, t0).unwrap();
        tally.settle(State::Delivered);
        tally.pause(
            Some(Pause { wait: Duration::from_secs(12), why: "429 from acme.freshchat.com".into() }),
            t0,
        );
        insta::assert_snapshot!(progress(&tally, t0, TIME), @r#"{"event":"progress","time":"2026-11-22T02:14:00Z","pipeline":"sync-users","done":601,"total":1250,"counts":{"total":1250,"delivered":601,"failed":0,"invalid":0,"skipped":0,"in_doubt":0,"unsent":649},"rate":null,"pacing":null,"seconds":0,"seconds_left":44,"waiting":{"seconds":12,"why":"429 from acme.freshchat.com"}}"#);

        let warn = Event::Warning(Diagnostic::warning("plain-http", "credentials go over plain http"));
        insta::assert_snapshot!(event(&warn, TIME).unwrap(), @r#"{"event":"warning","time":"2026-11-22T02:14:00Z","diagnostic":{"rule":"plain-http","severity":"warning","message":"credentials go over plain http"}}"#);
        insta::assert_snapshot!(run_ended(json!({ "class": "ok" }), TIME), @r#"{"event":"run_ended","time":"2026-11-22T02:14:00Z","class":"ok"}"#);
        assert!(event(&Event::Paused(None), TIME).is_none());
    }
}
