//! A reply of any status, headers and body: its meaning is the one of its status and of the rules,
//! what is kept of it is bounded, and no secret comes back with it.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::common::{Input, endpoint, run, template};
use crate::config::{Endpoint, OutcomeRule, RecordLimits, StatusMatch, Then};
use crate::deliver::{Meaning, Reader};
use crate::model::{Arrived, Mask, Problems, Reply, Request, Secret, Value};
use crate::render::Context;
use crate::source::parse_json;

/// What the mask hides.
const SECRET: &str = "tok-3f9c-secret";
/// Statuses that rules and the usual reading tell apart, beside any other.
const STATUSES: [u16; 16] = [200, 201, 204, 207, 301, 304, 400, 401, 404, 408, 409, 422, 425, 429, 500, 503];
const THENS: [Then; 6] =
    [Then::Delivered, Then::Retry, Then::Failed, Then::InDoubt, Then::Skipped, Then::Stop];

/// The target.
pub fn reply(data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.byte();
    let then = input.choice(&THENS);
    let status = match input.below(STATUSES.len() + 1) {
        16 => 100 + u16::from(input.byte()) * 3,
        known => STATUSES[known],
    };
    let content_type =
        input.choice(&["", "application/json", "text/html", "application/x+json; charset=x", "\u{7f}"]);
    let (asked, location) = (input.part(), input.part());
    let body = input.rest();
    let Ok(status) = StatusCode::from_u16(status) else { return };
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (header::RETRY_AFTER, asked),
        (header::LOCATION, location),
        (header::CONTENT_TYPE, content_type.as_bytes()),
    ] {
        if let Ok(value) = HeaderValue::from_bytes(value)
            && !value.is_empty()
        {
            headers.insert(name, value);
        }
    }
    let arrived = Arrived { status, headers, body: Bytes::copy_from_slice(body), complete: options & 1 == 0 };
    let rules = options & 2 != 0;
    let endpoint = endpoint_of(rules, then, options & 4 != 0, options & 8 != 0);
    check(&endpoint, &arrived, rules.then_some(then), options & 8 != 0);
}

/// With a rule over the body of 2xx, 409 and 503, and one over a header of anything else.
fn endpoint_of(rules: bool, then: Then, own_words: bool, captures: bool) -> Endpoint {
    let mut made = endpoint("/x");
    if rules {
        made.outcomes = vec![
            OutcomeRule {
                statuses: vec![StatusMatch::Class(2), StatusMatch::Exactly(409), StatusMatch::Exactly(503)],
                when: Some(template("{{ response.body.done == true or response.body.items[0].ok }}")),
                then,
                wait: None,
                class: own_words.then(|| "ruled".to_owned()),
                message: own_words
                    .then(|| template("said {{ response.body.why }} {{ response.headers.location }}")),
                after_unknown: own_words,
                place: template("x").place,
            },
            OutcomeRule {
                statuses: Vec::new(),
                when: Some(template("{{ response.headers.location == 'ruled' }}")),
                then,
                wait: None,
                class: None,
                message: None,
                after_unknown: false,
                place: template("x").place,
            },
        ];
    }
    made.errors.class = Some(template("{{ response.body.error.code | default(response.body.status) }}"));
    made.errors.message = Some(template("{{ response.body.error.message }}{{ response.body.message }}"));
    if captures {
        made.captures = vec![
            (template("id"), template("{{ response.body.id }}")),
            (template("first"), template("{{ response.body.items[0] }}")),
            (template("sent"), template("{{ request.body.name | upper }}{{ response.status }}")),
            (template("text"), template("{{ response.text | length }}")),
        ];
    }
    made
}

fn check(endpoint: &Endpoint, arrived: &Arrived, then: Option<Then>, captures: bool) {
    let mut problems = Problems::new();
    let secret = Secret::new(SECRET.to_owned());
    let mask = Mask::new([&secret]);
    let reader = Reader::compile(endpoint, Context::new(run()), mask, &mut problems)
        .unwrap_or_else(|| panic!("{:?}", problems.all()));
    let request = Request {
        method: Method::POST,
        url: url::Url::parse("https://api.example.com/x").expect("a URL"),
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"{\"name\":\"n\"}"),
        form: None,
    };
    let reading = reader.read(&Reply::Arrived(arrived.clone()), &request);
    let status = arrived.status.as_u16();
    assert_eq!(reading.status, status);
    let again = reader.read(&Reply::Arrived(arrived.clone()), &request);
    assert_eq!(
        (&again.class, &again.message, &again.captures),
        (&reading.class, &reading.message, &reading.captures)
    );

    let whole = body(arrived);
    let by_body = then.is_some() && (matches!(status, 200..=299 | 409 | 503));
    if by_body && whole.is_none() {
        assert_eq!((reading.meaning, &*reading.class), (Meaning::Unknown, "reply-unreadable"));
    } else if let Some(then) = then.filter(|_| by_body && truth(whole.as_ref()) || is_marked(arrived)) {
        let settles = by_body && truth(whole.as_ref()) && endpoint.outcomes[0].after_unknown;
        let expected = match then {
            Then::Delivered => Meaning::Acted,
            Then::Failed => Meaning::Refused { settles_unknown: settles },
            Then::InDoubt => Meaning::Unknown,
            Then::Skipped => Meaning::NotNeeded,
            Then::Stop => Meaning::Stop,
            Then::Retry => match reading.meaning {
                meaning @ Meaning::NotNow { .. } => meaning,
                other => panic!("{other:?}"),
            },
        };
        assert_eq!(reading.meaning, expected);
    } else {
        check_usual(arrived, reading.meaning);
    }

    assert!(
        reading.class.chars().count() <= 80 && !reading.class.contains(char::is_control),
        "{:?}",
        reading.class
    );
    let redirect = arrived.status.is_redirection();
    assert!(
        redirect || reading.message.chars().count() <= 501,
        "{} characters",
        reading.message.chars().count()
    );
    let kept = reading.captures.to_json();
    assert!(kept.len() <= 4096 && (captures || reading.captures.is_nothing()), "{kept}");
    assert!(reading.meaning == Meaning::Acted || reading.captures.is_nothing(), "{kept}");
    for text in [&reading.class, &reading.message, &kept] {
        assert!(!text.contains(SECRET), "{text}");
    }
}

/// The reading of a status as guarantees say it.
fn check_usual(arrived: &Arrived, meaning: Meaning) {
    let asked = arrived.headers.contains_key(header::RETRY_AFTER);
    match (arrived.status.as_u16(), meaning) {
        (200..=299, Meaning::Acted)
        | (401, Meaning::Stop)
        | (408 | 425 | 429, Meaning::NotNow { .. })
        | (
            300..=400 | 402..=407 | 409..=424 | 426..=428 | 430..=499,
            Meaning::Refused { settles_unknown: false },
        )
        | (100..=199 | 500..=502 | 504..=999 | 503, Meaning::Unknown) => {}
        (503, Meaning::NotNow { asked: Some(_) }) => assert!(asked),
        (status, meaning) => panic!("{status} is read as {meaning:?}"),
    }
}

fn is_marked(arrived: &Arrived) -> bool {
    arrived.headers.get(header::LOCATION).is_some_and(|value| value == "ruled")
}

/// The body as its type says, null without one; `None` when it cannot be read.
fn body(arrived: &Arrived) -> Option<Value> {
    let kind = arrived.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    if !arrived.complete {
        return None;
    }
    if arrived.body.is_empty() || kind.starts_with("text/html") {
        return Some(Value::Null);
    }
    parse_json(&arrived.body, &RecordLimits::default()).ok()
}

/// What the first rule asks, without the template engine.
fn truth(body: Option<&Value>) -> bool {
    let field = |value: Option<&Value>, name: &str| {
        value.and_then(Value::as_object).and_then(|map| map.get(name)).cloned()
    };
    let first =
        field(body, "items").as_ref().and_then(Value::as_array).and_then(|items| items.first().cloned());
    let done = field(body, "done") == Some(Value::Bool(true));
    let ok = match field(first.as_ref(), "ok") {
        None | Some(Value::Null | Value::Absent | Value::Bool(false)) => false,
        Some(Value::Bool(true)) => true,
        Some(Value::Number(number)) => number.as_f64() != 0.0,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(map)) => !map.is_empty(),
    };
    done || ok
}
