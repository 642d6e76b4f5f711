//! Small values with their units: durations, rates, sizes, shares, statuses, counts.
//!
//! Each has one parser from text, used for files and for flags alike, whose error says the value,
//! the form or the range that is wanted, and what could be typed instead.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use super::raw::{FromNode, published, wrong_type};
use super::read::{Kind, Node};
use super::{Cap, StatusMatch};
use crate::model::{Diagnostic, Problems};

/// What is wrong with a value, and what could be typed.
#[derive(Debug, PartialEq)]
pub struct Wrong {
    /// The sentence after "`key` is `value`".
    pub message: String,
    /// Something to type.
    pub help: Option<String>,
}

fn wrong(message: impl Into<String>) -> Wrong {
    Wrong { message: message.into(), help: None }
}

/// The longest wait that can be set.
const MAX_DURATION: Duration = Duration::from_hours(720);

/// The most lanes that can be set.
pub const MAX_CONCURRENCY: usize = 1024;

/// Splits `500ms` into its number and its unit.
fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

/// `30s`, `500ms`, `5min`, `2h`, `1d`.
pub fn duration(text: &str) -> Result<Duration, Wrong> {
    let form = "which is not a time such as 30s, 500ms or 5min";
    let (number, unit) = split_unit(text.trim());
    let count: f64 = match number.parse() {
        Ok(count) if !number.starts_with('.') && !number.ends_with('.') => count,
        _ => return Err(wrong(form)),
    };
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "min" | "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        "" => {
            return Err(Wrong {
                message: "which has no unit".into(),
                help: Some(format!("write `{number}s` for seconds, `{number}ms` for milliseconds")),
            });
        }
        _ => return Err(wrong(form)),
    };
    match Duration::try_from_secs_f64(count * seconds) {
        Ok(value) if value <= MAX_DURATION => Ok(value),
        _ => Err(wrong("which is more than 30d")),
    }
}

/// `50/s`, `100/min`, `5000/h`, as requests a second.
pub fn rate(text: &str) -> Result<f64, Wrong> {
    let form = "which is not a rate such as 50/s, 100/min or 5000/h";
    let Some((number, unit)) = text.split_once('/') else {
        let number = text.trim();
        let help = number.parse::<f64>().is_ok().then(|| format!("write `{number}/s` for requests a second"));
        return Err(Wrong { message: form.into(), help });
    };
    let number = number.trim();
    if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(wrong(form));
    }
    let count: f64 = number.parse().map_err(|_| wrong(form))?;
    let seconds = match unit.trim() {
        "s" => 1.0,
        "min" | "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong(form)),
    };
    let rate: f64 = count / seconds;
    if count > 0.0 && (0.0001..=100_000.0).contains(&rate) {
        Ok(rate)
    } else {
        Err(wrong("which is not between 1/h and 100000/s"))
    }
}

/// `64KiB`, `1MiB`, in bytes.
pub fn size(text: &str) -> Result<usize, Wrong> {
    let form = "which is not a size such as 64KiB or 1MiB";
    let (number, unit) = split_unit(text.trim());
    let count: usize = number.parse().map_err(|_| wrong(form))?;
    let bytes = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "" => {
            return Err(Wrong {
                message: "which has no unit".into(),
                help: Some(format!("write `{number}B` for bytes, or use KiB or MiB")),
            });
        }
        _ => return Err(wrong(form)),
    };
    count
        .checked_mul(bytes)
        .filter(|bytes| (1..=MAX_SIZE).contains(bytes))
        .ok_or_else(|| wrong("which is not between 1B and 256MiB"))
}

const MAX_SIZE: usize = 256 << 20;

/// `5%`, as a share from 0 to 1.
pub fn percent(text: &str) -> Result<f64, Wrong> {
    let form = "which is not a share such as 5%";
    let Some(number) = text.trim().strip_suffix('%') else {
        let number = text.trim();
        let help = number.parse::<f64>().is_ok().then(|| format!("write `{number}%`"));
        return Err(Wrong { message: form.into(), help });
    };
    match number.trim().parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 100.0 => Ok(value / 100.0),
        Ok(_) => Err(wrong("which is not more than 0% and at most 100%")),
        Err(_) => Err(wrong(form)),
    }
}

/// A share in millionths, digit by digit: `29%`, `0.5%`.
fn millionths(text: &str) -> Result<u32, Wrong> {
    percent(text)?;
    let form = || wrong("which is not a share such as 1%, with at most four decimals");
    let number = text.trim().trim_end_matches('%').trim();
    let (whole, rest) = number.split_once('.').unwrap_or((number, ""));
    if rest.len() > 4 {
        return Err(form());
    }
    let whole: u32 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| form())? };
    let rest: u32 = format!("{rest:0<4}").parse().map_err(|_| form())?;
    Ok(whole * 10_000 + rest)
}

/// Lanes: 1 to 1024.
pub fn concurrency(text: &str) -> Result<NonZeroUsize, Wrong> {
    text.trim()
        .parse::<usize>()
        .ok()
        .filter(|count| *count <= MAX_CONCURRENCY)
        .and_then(NonZeroUsize::new)
        .ok_or_else(|| wrong(format!("but has to be a whole number from 1 to {MAX_CONCURRENCY}")))
}

/// `404` or `4xx`.
pub fn status(text: &str) -> Result<StatusMatch, Wrong> {
    let bad = || wrong("which is neither a status such as 404 nor a class such as 4xx");
    if let Some(class) = text.strip_suffix("xx") {
        return match class.parse::<u8>() {
            Ok(class @ 1..=5) => Ok(StatusMatch::Class(class)),
            _ => Err(bad()),
        };
    }
    match text.parse::<u16>() {
        Ok(status @ 100..=599) => Ok(StatusMatch::Exactly(status)),
        _ => Err(bad()),
    }
}

/// The written text of a scalar.
fn scalar(node: &Node) -> Option<&str> {
    match &node.kind {
        Kind::Text(text) => Some(text),
        Kind::Number(number) => Some(number.as_str()),
        _ => None,
    }
}

/// Reads a scalar by one of the parsers above.
fn parsed<T>(
    node: &Node,
    what: &str,
    wanted: &str,
    parse: impl Fn(&str) -> Result<T, Wrong>,
    problems: &mut Problems,
) -> Option<T> {
    let Some(text) = scalar(node) else {
        problems.push(wrong_type(node, what, wanted));
        return None;
    };
    match parse(text) {
        Ok(value) => Some(value),
        Err(Wrong { message, help }) => {
            let mut finding =
                Diagnostic::error("bad-value", format!("`{what}` is `{text}`, {message}")).place(&node.place);
            finding.help = help;
            problems.push(finding);
            None
        }
    }
}

macro_rules! units {
    ($( $(#[$meta:meta])* $name:ident($ty:ty), $wanted:literal, $parse:expr; )*) => {
        $(
            $(#[$meta])*
            #[derive(Debug, Clone, Copy)]
            pub(super) struct $name(pub(super) $ty);

            impl FromNode for $name {
                fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
                    parsed(node, what, $wanted, $parse, problems).map(Self)
                }
            }
        )*
    };
}

units! {
    /// A span of time.
    Span(Duration), "a time such as 30s", duration;
    /// Requests a second.
    Rate(f64), "a rate such as 50/s", rate;
    /// Bytes.
    Size(usize), "a size such as 1MiB", size;
    /// A share.
    Percent(f64), "a share such as 5%", percent;
    /// A number of keys, or a share of them.
    Most(Cap), "a number or a share such as 1%", |text| match text.parse::<u64>() {
        Ok(most) => Ok(Cap::Count(most)),
        Err(_) => millionths(text).map(|millionths| Cap::Share { millionths }),
    };
    /// Lanes.
    Lanes(NonZeroUsize), "a whole number", concurrency;
    /// A count of at least one.
    Count(u64), "a whole number", |text| count(text, 1, u64::MAX);
    /// A number of tries.
    Tries(NonZeroU32), "a whole number", |text| {
        let tries = count(text, 1, 100)?;
        u32::try_from(tries).ok().and_then(NonZeroU32::new).ok_or_else(|| wrong("which is too large"))
    };
    /// A window of outcomes.
    Window(usize), "a whole number", |text| {
        usize::try_from(count(text, 1, 100_000)?).map_err(|_| wrong("which is too large"))
    };
    /// A status of a reply.
    Status(u16), "a status such as 200", |text| match status(text)? {
        StatusMatch::Exactly(status) => Ok(status),
        StatusMatch::Class(_) => Err(wrong("but has to be one status such as 200")),
    };
}

fn count(text: &str, least: u64, most: u64) -> Result<u64, Wrong> {
    text.parse::<u64>().ok().filter(|count| (least..=most).contains(count)).ok_or_else(|| {
        if most == u64::MAX {
            wrong(format!("but has to be a whole number of at least {least}"))
        } else {
            wrong(format!("but has to be a whole number from {least} to {most}"))
        }
    })
}

impl FromNode for StatusMatch {
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        parsed(node, what, "a status such as 404 or 4xx", status, problems)
    }
}

/// An HTTP method.
impl FromNode for http::Method {
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        let word = super::raw::word(node, what, METHODS, problems)?;
        Self::from_bytes(word.as_bytes()).ok()
    }
}

const METHODS: &[&str] = &["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

/// The published form of a method.
#[derive(Debug, Clone)]
pub(super) struct Method(pub(super) http::Method);

impl FromNode for Method {
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        http::Method::read(node, what, problems).map(Self)
    }
}

/// One byte of a CSV file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Byte(pub(super) u8);

impl FromNode for Byte {
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        let text = String::read(node, what, problems)?;
        match text.as_bytes() {
            b"\\t" => Some(Self(b'\t')),
            [byte] if byte.is_ascii() && !matches!(byte, b'\r' | b'\n') => Some(Self(*byte)),
            _ => {
                problems.at("bad-value", &node.place, format!("`{what}` has to be one ASCII character"));
                None
            }
        }
    }
}

published! {
    Span => { "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(ms|s|min|m|h|d)$", "examples": ["30s", "500ms", "5min"] };
    Rate => { "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?/ ?(s|min|m|h)$", "examples": ["50/s", "100/min"] };
    Size => { "type": "string", "pattern": "^[0-9]+ ?(B|KiB|MiB|kB|KB|MB)$", "examples": ["1MiB"] };
    Percent => { "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?%$", "examples": ["5%"] };
    Most => { "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?%$", "examples": ["1%"] }] };
    Lanes => { "type": "integer", "minimum": 1, "maximum": 1024 };
    Count => { "type": "integer", "minimum": 1 };
    Tries => { "type": "integer", "minimum": 1, "maximum": 100 };
    Window => { "type": "integer", "minimum": 1, "maximum": 100_000 };
    Status => { "type": "integer", "minimum": 100, "maximum": 599 };
    Byte => { "type": "string", "minLength": 1, "maxLength": 2 };
    Method => { "enum": ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"] };
    StatusMatch => { "anyOf": [{ "type": "integer", "minimum": 100, "maximum": 599 }, { "type": "string", "pattern": "^([1-5]xx|[1-5][0-9][0-9])$" }] };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let ms = |text: &str| duration(text).map(|value| value.as_millis());
        for (text, want) in
            [("30s", 30_000), ("500ms", 500), ("5min", 300_000), ("1.5s", 1500), ("2h", 7_200_000)]
        {
            assert_eq!(ms(text), Ok(want), "{text}");
        }
        for bad in ["", "s", "-1s", "1e3s", "1 y", "31d", ".5s", "1.s", "99999999999999999999d", "1..2s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        let bare = duration("30").unwrap_err();
        assert_eq!(bare.help.as_deref(), Some("write `30s` for seconds, `30ms` for milliseconds"));
    }

    #[test]
    fn rates_sizes_and_shares() {
        assert_eq!(rate("50/s"), Ok(50.0));
        assert_eq!(rate("90/min"), Ok(1.5));
        assert_eq!(rate("3600 / h"), Ok(1.0));
        assert_eq!(rate("50").unwrap_err().help.as_deref(), Some("write `50/s` for requests a second"));
        for bad in ["0/s", "-1/s", "inf/s", "1/d", "many", "1e9/s", "NaN/s", "200000/s"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
        assert_eq!(size("64KiB"), Ok(65_536));
        for bad in ["", "0B", "1", "257MiB", "1TiB", "-1B", "99999999999999999999MiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(percent("5%"), Ok(0.05));
        for bad in ["5", "0%", "101%", "-1%", "NaN%", "x%"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lanes_and_statuses_have_a_range() {
        for bad in ["0", "-1", "many", "1000000", "1.5", ""] {
            let message = concurrency(bad).unwrap_err().message;
            assert_eq!(message, "but has to be a whole number from 1 to 1024", "{bad}");
        }
        assert_eq!(concurrency("1024").map(NonZeroUsize::get), Ok(1024));
        assert_eq!(status("4xx"), Ok(StatusMatch::Class(4)));
        assert_eq!(status("404"), Ok(StatusMatch::Exactly(404)));
        for bad in ["6xx", "xx", "99", "600", "40x", ""] {
            assert!(status(bad).is_err(), "{bad}");
        }
    }
}
