//! Lines of `-v`, `-vv` and `-vvv`, and the first line of a run.
//!
//! Pure. Invariant: `-v` and `-vv` show places, keys, request lines and statuses, never record
//! values of a body; headers and bodies are shown by `-vvv` alone, and headers that carry
//! credentials never.

use std::fmt::Write as _;

use super::Volume;
use super::text::{block, bytes, counted, duration, line, number, rate};
use crate::model::{Event, Lost, Mask, Reply};

/// More of a body does not help on a terminal.
const BODY: usize = 2048;

/// Headers whose value is a credential.
const HIDDEN: [&str; 4] = ["authorization", "proxy-authorization", "set-cookie", "cookie"];

/// The first line of a run: pipeline, connection, host, count, and whether it goes on with a run.
pub(super) fn first_line(event: &Event) -> Option<String> {
    let Event::RunStarted { pipeline, run, connection, host, total, before, resumed, rate: limit } = event
    else {
        return None;
    };
    let settled = before.settled().min(*total);
    let what = if *resumed {
        format!(
            "goes on with run {run}: {} of {} settled, {} to go",
            number(settled),
            counted(*total, "record", "records"),
            number(total - settled)
        )
    } else {
        format!("run {run}: {}", counted(*total, "record", "records"))
    };
    let limit = limit.map(|limit| format!(", at most {}", rate(limit))).unwrap_or_default();
    Some(format!("{pipeline}: {what}, to {host} (connection {connection}{limit})"))
}

/// What an event says at this volume; already masked and escaped.
pub(super) fn lines(event: &Event, volume: Volume, mask: &Mask) -> Option<String> {
    let clean = |raw: &str| line(&mask.apply(raw)).into_owned();
    match event {
        Event::Settled { place, key, outcome, .. } if volume >= Volume::Records => {
            let key = key.as_ref().map(|key| format!(" ({key})")).unwrap_or_default();
            let status = if outcome.status == 0 { String::new() } else { format!(" {}", outcome.status) };
            let class = if outcome.class.is_empty() { String::new() } else { format!(" {}", outcome.class) };
            Some(clean(&format!("{:<9}  {place}{key}{status}{class}", outcome.state.name())))
        }
        Event::Retrying { ordinal, attempt, why, wait } if volume >= Volume::Requests => {
            Some(clean(&format!(
                "again      record {ordinal}: attempt {attempt} ended with {why}, next in {}",
                duration(*wait)
            )))
        }
        Event::Attempted { ordinal, request, reply, took } if volume >= Volume::Requests => {
            let what = match reply {
                Reply::Arrived(arrived) => arrived.status.to_string(),
                Reply::Lost(Lost { class, message, .. }) => format!("{class}: {message}"),
            };
            let mut out =
                clean(&format!("attempt    record {ordinal}: {request} -> {what} in {}", duration(*took)));
            if volume >= Volume::Bodies
                && let Reply::Arrived(arrived) = reply
            {
                for (name, value) in &arrived.headers {
                    let value = match name.as_str() {
                        name if HIDDEN.contains(&name) => "***".into(),
                        _ => String::from_utf8_lossy(value.as_bytes()),
                    };
                    let _ = write!(out, "\n    {}", clean(&format!("{name}: {value}")));
                }
                out.push_str(&body(&arrived.body, mask));
            }
            Some(out)
        }
        _ => None,
    }
}

/// A body, indented and cut.
fn body(raw: &[u8], mask: &Mask) -> String {
    if raw.is_empty() {
        return String::new();
    }
    // Masked before it is cut, so that no half of a secret is left at the cut.
    let text = String::from_utf8_lossy(raw);
    let masked = mask.apply(&text);
    let end = masked.floor_char_boundary(BODY);
    let (shown, rest) = masked.split_at(end);
    let mut out = String::new();
    for row in block(shown).lines() {
        let _ = write!(out, "\n    {row}");
    }
    if !rest.is_empty() {
        let _ = write!(out, "\n    … {} more", bytes(rest.len() as u64));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, StatusCode};
    use insta::assert_snapshot;

    use super::super::tally::tests::started;
    use super::*;
    use crate::model::{Arrived, Counts, Outcome, RecordPlace, Secret, State, Value};

    #[test]
    fn the_first_line_says_where_it_goes_and_whether_it_goes_on() {
        assert_snapshot!(first_line(&started(1_250, Counts::default(), Some(50.0))).unwrap(), @"sync-users: run 20261122T0214-3f9c: 1,250 records, to https://acme.freshchat.com (connection freshchat, at most 50/s)");
        let before = Counts { delivered: 600, unsent: 650, ..Counts::default() };
        assert_snapshot!(first_line(&started(1_250, before, None)).unwrap(), @"sync-users: goes on with run 20261122T0214-3f9c: 600 of 1,250 records settled, 650 to go, to https://acme.freshchat.com (connection freshchat)");
    }

    #[test]
    fn a_record_is_named_by_place_and_key_not_by_values() {
        let event = Event::Settled {
            ordinal: 7,
            place: RecordPlace { file: "data/users.csv".into(), line: 9, byte: 120 },
            key: Some("5f2c91aa".into()),
            outcome: Outcome {
                state: State::Failed,
                status: 409,
                class: "EMAIL\nTAKEN".into(),
                message: "ann@example.com is taken".into(),
                attempts: 1,
                captures: Value::Absent,
            },
        };
        assert_snapshot!(lines(&event, Volume::Records, &Mask::default()).unwrap(), @r"failed     data/users.csv, line 9 (5f2c91aa) 409 EMAIL\nTAKEN");
        assert_eq!(lines(&event, Volume::Normal, &Mask::default()), None);
    }

    #[test]
    fn headers_and_bodies_are_masked_and_escaped() {
        let mut headers = HeaderMap::new();
        headers.insert("set-cookie", HeaderValue::from_static("sid=abc"));
        headers.insert("x-echo", HeaderValue::from_static("s3cr3t-token"));
        let event = Event::Attempted {
            ordinal: 7,
            request: "PUT https://acme.freshchat.com/v2/users/7".into(),
            reply: Reply::Arrived(Arrived {
                status: StatusCode::CREATED,
                headers,
                body: Bytes::from_static(b"{\"token\": \"s3cr3t-token\",\n\x1b[2J\xff}"),
                complete: true,
            }),
            took: Duration::from_millis(120),
        };
        let mask = Mask::new([&Secret::new("s3cr3t-token".into())]);
        assert_snapshot!(lines(&event, Volume::Bodies, &mask).unwrap(), @r#"
        attempt    record 7: PUT https://acme.freshchat.com/v2/users/7 -> 201 Created in 120 ms
            set-cookie: ***
            x-echo: ***
            {"token": "***",
            \u{1b}[2J�}
        "#);
        assert_eq!(lines(&event, Volume::Requests, &mask).unwrap().lines().count(), 1);
        assert_eq!(lines(&event, Volume::Records, &mask), None);
    }

    #[test]
    fn a_long_body_is_cut_between_characters() {
        let shown = body("é".repeat(3_000).as_bytes(), &Mask::default());
        assert!(shown.ends_with("\n    … 3.9 KiB more"), "{}", &shown[shown.len() - 30..]);
        let lost = Event::Attempted {
            ordinal: 1,
            request: "POST https://x.test/a".into(),
            reply: Reply::Lost(Lost {
                certain: false,
                class: "timeout",
                message: "no reply in 30 s".into(),
                asked: None,
            }),
            took: Duration::from_secs(30),
        };
        assert_snapshot!(lines(&lost, Volume::Requests, &Mask::default()).unwrap(), @"attempt    record 1: POST https://x.test/a -> timeout: no reply in 30 s in 30 s");
        let again =
            Event::Retrying { ordinal: 1, attempt: 2, why: "429".into(), wait: Duration::from_secs(2) };
        assert_snapshot!(lines(&again, Volume::Requests, &Mask::default()).unwrap(), @"again      record 1: attempt 2 ended with 429, next in 2 s");
    }
}
