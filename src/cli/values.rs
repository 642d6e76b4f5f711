//! Values of flags, checked where they are read.
//!
//! Invariant: what a flag gives to a command needs no further look: numbers are not zero where
//! zero means nothing, durations and rates have their unit.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

/// `--var NAME=VALUE`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The variable.
    pub name: String,
    /// Its value as it was written.
    pub value: String,
}

/// `--capture STEP.NAME=VALUE`: what a reply brought that nobody saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// The step's name.
    pub step: String,
    /// The name of what is captured.
    pub name: String,
    /// The value, as text.
    pub value: String,
}

/// `--rate`: requests a second, above zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate(
    /// Requests a second.
    pub f64,
);

pub(super) fn setting(text: &str) -> Result<Setting, String> {
    let (name, value) = text.split_once('=').ok_or("write it NAME=VALUE")?;
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        return Err("a name has letters, digits and `_`, and does not begin with a digit".into());
    }
    Ok(Setting { name: name.into(), value: value.into() })
}

pub(super) fn capture(text: &str) -> Result<Capture, String> {
    let (of, value) = text.split_once('=').ok_or("write it STEP.NAME=VALUE")?;
    match of.split_once('.') {
        Some((step, name)) if !step.is_empty() && !name.is_empty() => {
            Ok(Capture { step: step.into(), name: name.into(), value: value.into() })
        }
        _ => Err("write it STEP.NAME=VALUE".into()),
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text.trim()) {
        Ok(Duration::ZERO) => Err("must be longer than nothing".into()),
        Ok(duration) => Ok(duration),
        Err(_) => Err("write it with its unit: 90s, 15min, 2h".into()),
    }
}

pub(super) fn rate(text: &str) -> Result<Rate, String> {
    let wrong = || "write a number and its time: 20/s, 300/min, 5000/h".to_owned();
    let (number, unit) = text.split_once('/').ok_or_else(wrong)?;
    let seconds = match unit.trim() {
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number = number.trim();
    // The parser of floats also takes `inf`, `nan`, `1e400` and signs.
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(wrong());
    }
    let rate = number.parse::<f64>().map_err(|_| wrong())? / seconds;
    if rate > 0.0 && rate.is_finite() { Ok(Rate(rate)) } else { Err("must be above zero".into()) }
}

/// A whole number from 1; zero would mean nothing.
pub(super) fn positive(text: &str) -> Result<NonZeroU64, String> {
    text.trim().parse().map_err(|_| "must be a whole number, at least 1".into())
}

/// As [`positive`], for amounts of things in memory.
pub(super) fn amount(text: &str) -> Result<NonZeroUsize, String> {
    text.trim().parse().map_err(|_| "must be a whole number, at least 1".into())
}

pub(super) fn not_empty(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("must not be empty".into()) } else { Ok(text.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_a_unit_and_are_above_zero() {
        for (text, per_second) in
            [("20/s", 20.0), ("300/min", 5.0), (" 90 / m ", 1.5), ("3600/h", 1.0), ("0.5/s", 0.5)]
        {
            assert_eq!(rate(text), Ok(Rate(per_second)), "{text}");
        }
        for text in ["20", "0/s", "-1/s", "inf/s", "nan/s", "1e9/s", "/s", "20/", "20/day", "1.2.3/s", ""] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_a_unit_and_are_not_nothing() {
        assert_eq!(duration("1h 30min"), Ok(Duration::from_mins(90)));
        for text in ["", "0s", "30", "-3s", "soon", "99999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn zero_is_no_number_of_anything() {
        assert_eq!(positive("7").map(NonZeroU64::get), Ok(7));
        for text in ["0", "-1", "1.5", "1,000", "", "99999999999999999999999"] {
            assert!(positive(text).is_err() && amount(text).is_err(), "{text}");
        }
    }

    #[test]
    fn variables_are_a_name_and_a_value() {
        assert_eq!(
            setting("since=2026-11-22=x"),
            Ok(Setting { name: "since".into(), value: "2026-11-22=x".into() })
        );
        assert_eq!(setting("empty=").map(|s| s.value), Ok(String::new()));
        for text in ["since", "=x", "1a=x", "a-b=x", "ä=x", ""] {
            assert!(setting(text).is_err(), "{text}");
        }
        assert!(not_empty(" ").is_err() && not_empty("a").is_ok());
    }
}
