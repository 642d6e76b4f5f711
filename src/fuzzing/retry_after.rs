//! Headers that ask for a wait: only what is written as a number or a date is one, and it is
//! that very wait.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::HeaderValue;

use super::common::Input;
use crate::deliver::headers::{exhausted, retry_after as asked};

/// The target.
pub fn retry_after(data: &[u8]) {
    let mut input = Input::new(data);
    let days = u64::from(input.byte()) * 200 + u64::from(input.byte());
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400 + 7);
    let mut headers = HeaderMap::new();
    let mut put = |name: &'static str, bytes: &[u8]| {
        if let Ok(value) = HeaderValue::from_bytes(bytes) {
            headers.append(name, value);
        }
    };
    put("retry-after", input.part());
    let (remaining, reset) = input.choice(&[
        ("x-ratelimit-remaining", "x-ratelimit-reset"),
        ("x-rate-limit-remaining", "x-rate-limit-reset"),
        ("ratelimit-remaining", "ratelimit-reset"),
    ]);
    put(remaining, input.part());
    put(reset, input.part());
    put("ratelimit", input.part());
    check_retry_after(&headers, now);
    check_exhausted(&headers, now, remaining, reset);
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// A number as RFC 9110 writes one: digits and nothing else.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn check_retry_after(headers: &HeaderMap, now: SystemTime) {
    let found = asked(headers, now);
    let written = text(headers, "retry-after");
    let seconds = written.and_then(digits);
    let date = written.and_then(|text| httpdate::parse_http_date(text).ok());
    match (found, seconds, date) {
        (Some(wait), Some(seconds), _) => assert_eq!(wait, Duration::from_secs(seconds)),
        (Some(wait), None, Some(date)) => assert_eq!(now.checked_add(wait), Some(date)),
        (None, None, Some(date)) => assert!(date <= now, "{written:?}"),
        (None, None, None) => {}
        (found, ..) => panic!("{written:?} is read as {found:?}"),
    }
}

fn check_exhausted(headers: &HeaderMap, now: SystemTime, remaining: &str, reset: &str) {
    let found = exhausted(headers, now);
    let number = |name: &str| text(headers, name).and_then(digits);
    if let Some(wait) = found {
        assert!(!wait.is_zero());
        let own = number(remaining) == Some(0) && number(reset).is_some();
        let field = text(headers, "ratelimit").is_some_and(|text| text.contains('=') && text.contains('0'));
        assert!(own || field, "a wait of {wait:?} comes from nowhere: {headers:?}");
    }
    // Something is left, and nothing says otherwise.
    if number(remaining).is_some_and(|left| left > 0) && text(headers, "ratelimit").is_none() {
        assert_eq!(found, None);
    }
    if let (Some(0), Some(reset), Some(wait)) = (number(remaining), number(reset), found) {
        let relative = wait == Duration::from_secs(reset);
        let absolute =
            now.checked_add(wait) == SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(reset));
        assert!(relative || absolute, "{reset} is read as {wait:?}");
    }
}
