//! What reply headers say about when to come back.
//!
//! `Retry-After` is RFC 9110 section 10.2.3: seconds or an HTTP date. `X-RateLimit-*` is what
//! many APIs send; `RateLimit` is the IETF draft with structured fields (`"default";r=0;t=30`)
//! and its older form (`limit=100, remaining=0, reset=30`).

use std::time::{Duration, SystemTime};

use http::HeaderMap;

/// A reset further away than this is read as a Unix time, not as seconds from now.
const UNIX_FROM: u64 = 1_000_000_000;

/// The wait that `Retry-After` asks for; rubbish, negative numbers and dates in the past are
/// `None`.
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Some(seconds) = whole(text) {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    date.duration_since(now).ok().filter(|wait| !wait.is_zero())
}

/// What the far side says of its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Requests that it will still take.
    pub left: u64,
    /// When the next window begins.
    pub ends_in: Duration,
}

/// The wait until the far side's window begins anew, when it says that nothing is left in this one.
#[must_use]
pub fn exhausted(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    window(headers, now, |left| left == 0).map(|window| window.ends_in)
}

/// What is left in the far side's window, and how long it lasts.
#[must_use]
pub fn left(headers: &HeaderMap, now: SystemTime) -> Option<Window> {
    window(headers, now, |_| true)
}

/// The first window of which `wanted` is left.
fn window(headers: &HeaderMap, now: SystemTime, wanted: fn(u64) -> bool) -> Option<Window> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let number = |name: &str| text(name).and_then(whole);
    let window = |left: u64, reset: u64| Some(Window { left, ends_in: from_now(reset, now)? });
    // Written out, because every reply is asked.
    for (remaining, reset) in [
        ("x-ratelimit-remaining", "x-ratelimit-reset"),
        ("x-rate-limit-remaining", "x-rate-limit-reset"),
        ("ratelimit-remaining", "ratelimit-reset"),
    ] {
        if let Some(left) = number(remaining).filter(|left| wanted(*left))
            && let Some(reset) = number(reset)
        {
            return window(left, reset);
        }
    }
    let fields = text("ratelimit")?;
    let field = |names: [&str; 2]| {
        fields.split([';', ',']).find_map(|part| {
            let (name, value) = part.trim().split_once('=')?;
            names.contains(&name).then(|| whole(value.trim())).flatten()
        })
    };
    match (field(["r", "remaining"]), field(["t", "reset"])) {
        (Some(left), Some(reset)) if wanted(left) => window(left, reset),
        _ => None,
    }
}

/// A number as RFC 9110 writes one. Rust's own reading takes a `+` too.
fn whole(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn from_now(reset: u64, now: SystemTime) -> Option<Duration> {
    if reset < UNIX_FROM {
        return (reset > 0).then(|| Duration::from_secs(reset));
    }
    let then = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(reset))?;
    then.duration_since(now).ok().filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
    }

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_rubbish_is_nothing() {
        let date = |seconds: i64| {
            let at = now().checked_add(Duration::from_secs(1000)).unwrap() - Duration::from_secs(1000);
            let at = if seconds < 0 {
                at - Duration::from_secs(seconds.unsigned_abs())
            } else {
                at + Duration::from_secs(seconds.unsigned_abs())
            };
            httpdate::fmt_http_date(at)
        };
        for (text, expected) in [
            ("2".to_owned(), Some(2)),
            ("99999999".into(), Some(99_999_999)),
            ("-5".into(), None),
            ("soon".into(), None),
            ("+5".into(), None),
            ("2.5".into(), None),
            (String::new(), None),
            ("99999999999999999999999".into(), None),
            (date(30), Some(30)),
            (date(-30), None),
        ] {
            let found = retry_after(&headers(&[("retry-after", &text)]), now());
            assert_eq!(found, expected.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn an_exhausted_window_is_waited_for() {
        for (list, expected) in [
            (vec![("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "30")], Some(30)),
            (vec![("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1800000012")], Some(12)),
            (vec![("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1700000000")], None),
            (vec![("x-ratelimit-remaining", "3"), ("x-ratelimit-reset", "30")], None),
            (vec![("ratelimit-remaining", "0"), ("ratelimit-reset", "7")], Some(7)),
            (vec![("ratelimit", "limit=100, remaining=0, reset=9")], Some(9)),
            (vec![("ratelimit", "\"default\";r=0;t=4")], Some(4)),
            (vec![("ratelimit", "\"default\";r=5;t=4")], None),
            (vec![("x-ratelimit-remaining", "+0"), ("x-ratelimit-reset", "30")], None),
            (vec![("ratelimit", "limit=100, remaining=0, reset=+9")], None),
            (vec![("x-ratelimit-remaining", "none"), ("x-ratelimit-reset", "-1")], None),
        ] {
            assert_eq!(exhausted(&headers(&list), now()), expected.map(Duration::from_secs), "{list:?}");
        }
    }

    #[test]
    fn what_is_left_is_read_before_nothing_is() {
        let window = |left, seconds| Some(Window { left, ends_in: Duration::from_secs(seconds) });
        for (list, expected) in [
            (vec![("x-ratelimit-remaining", "3"), ("x-ratelimit-reset", "30")], window(3, 30)),
            (vec![("x-rate-limit-remaining", "3"), ("x-rate-limit-reset", "1800000012")], window(3, 12)),
            (vec![("ratelimit", "\"default\";r=5;t=4")], window(5, 4)),
            (vec![("ratelimit", "limit=100, remaining=7, reset=9")], window(7, 9)),
            (vec![("x-ratelimit-remaining", "3")], None),
            (vec![("x-ratelimit-remaining", "3"), ("x-ratelimit-reset", "0")], None),
            (vec![("x-ratelimit-limit", "100")], None),
        ] {
            assert_eq!(left(&headers(&list), now()), expected, "{list:?}");
        }
    }
}
