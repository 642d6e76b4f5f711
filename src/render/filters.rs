//! The filters and functions that expressions have beside the engine's own.
//!
//! Invariant: all of them are pure. None touches files, network, clock or environment; `now` and
//! `uuid` are functions of the run and the record (ruling 10).

use base64::Engine as _;
use jiff::fmt::strtime;
use minijinja::value::{Rest, Value};
use minijinja::{AutoEscape, Environment, Error, State};
use sha2::Digest as _;

use crate::model::hex;

use super::convert::{Said, from_engine};
use super::engine;

/// Every filter, for messages and checks.
pub(super) const FILTERS: &[&str] = &[
    "abs",
    "attr",
    "base64",
    "batch",
    "bool",
    "capitalize",
    "chain",
    "count",
    "d",
    "date",
    "default",
    "dictsort",
    "first",
    "float",
    "format",
    "groupby",
    "hash",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "phone_e164",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "slice",
    "slug",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
    "urlencode",
    "zip",
];

/// Every test.
pub(super) const TESTS: &[&str] = &[
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "equalto",
    "even",
    "false",
    "float",
    "ge",
    "gt",
    "in",
    "int",
    "integer",
    "iterable",
    "le",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
    "upper",
];

/// Every function.
pub(super) const FUNCTIONS: &[&str] = &["dict", "namespace", "now", "range", "uuid"];

/// Adds them to an environment, and takes away what could print values or switch escaping off.
pub(super) fn install(env: &mut Environment<'static>) {
    for filter in ["safe", "escape", "e", "pprint"] {
        env.remove_filter(filter);
    }
    env.remove_global("debug");
    env.add_filter("default", default);
    env.add_filter("d", default);
    env.add_filter("tojson", to_json);
    env.add_filter("int", int);
    env.add_filter("float", float);
    env.add_filter("date", date);
    env.add_filter("slug", slug);
    env.add_filter("phone_e164", phone_e164);
    env.add_filter("hash", hash);
    env.add_filter("base64", base64);
    env.add_function("now", now);
    env.add_function("uuid", uuid);
}

fn says(message: impl Into<String>) -> Error {
    Said::new("filter", message).into()
}

/// Ours, because the engine's own knows neither null nor a missing parent (ruling 16).
#[expect(clippy::needless_pass_by_value, reason = "the engine gives the rest of the arguments so")]
fn default(value: &Value, args: Rest<Value>) -> Result<Value, Error> {
    let other = match args.as_slice() {
        [] => return Err(says("`default` needs a value: `default('…')` or `default(omit)`")),
        [other] | [other, _] => other,
        _ => return Err(says("`default` takes at most two arguments")),
    };
    let lax = args.get(1).is_some_and(Value::is_true);
    let replaced = value.is_undefined() || value.is_none() || (lax && !value.is_true());
    Ok(if replaced { other.clone() } else { value.clone() })
}

fn to_json(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(says("`tojson` of something that is missing"));
    }
    let json = from_engine(value)?.to_json();
    state.consume_fuel(json.len() as u64 / 8)?;
    // In a JSON body the text is already what the position asks for; anywhere else it is text.
    Ok(if matches!(state.auto_escape(), AutoEscape::Json) {
        Value::from_safe_string(json)
    } else {
        json.into()
    })
}

fn int(value: &Value, default: Option<Value>) -> Result<Value, Error> {
    let found = match value.as_str() {
        Some(text) => text.trim().parse::<i128>().ok().map(Value::from),
        None if value.is_integer() => Some(value.clone()),
        None if value.kind() == minijinja::value::ValueKind::Bool => {
            Some(Value::from(i64::from(value.is_true())))
        }
        #[expect(clippy::cast_possible_truncation, reason = "the bounds are checked and `int` cuts")]
        None => f64::try_from(value.clone())
            .ok()
            .filter(|float| value.is_number() && float.abs() < 1e38)
            .map(|float| Value::from(float as i128)),
    };
    found.or(default).ok_or_else(|| says("`int` needs digits; `| default(0) | int` for what may be empty"))
}

fn float(value: &Value, default: Option<Value>) -> Result<Value, Error> {
    let found = match value.as_str() {
        Some(text) => crate::model::Number::parse(text.trim()).map(|number| number.as_f64()),
        None if value.is_number() => {
            f64::try_from(value.clone()).ok().or_else(|| value.to_string().parse().ok())
        }
        None => None,
    };
    found
        .filter(|float| float.is_finite())
        .map(Value::from)
        .or(default)
        .ok_or_else(|| says("`float` needs a number; `| default(0) | float` for what may be empty"))
}

/// `date('%d.%m.%Y')` of a date, a date and time, or a time stamp with offset; the offset is kept.
fn date(text: &str, format: &str) -> Result<String, Error> {
    let unreadable = || says("`date` needs a text such as `2026-11-22` or `2026-11-22T02:14:00Z`");
    let pieces = jiff::fmt::temporal::Pieces::parse(text.trim()).map_err(|_| unreadable())?;
    let time = pieces.date().to_datetime(pieces.time().unwrap_or_default());
    let formatted = match pieces.to_numeric_offset() {
        Some(offset) => {
            let zoned = time.to_zoned(jiff::tz::TimeZone::fixed(offset)).map_err(|_| unreadable())?;
            strtime::format(format, &zoned)
        }
        None => strtime::format(format, time),
    };
    formatted.map_err(|_| says(format!("`date` cannot write the format `{format}` for this text")))
}

/// Lower case letters, digits and single dashes.
fn slug(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().flat_map(char::to_lowercase) {
        let plain = match c {
            'à'..='å' | 'ą' | 'ă' => "a",
            'æ' => "ae",
            'ç' | 'č' | 'ć' => "c",
            'è'..='ë' | 'ę' | 'ě' => "e",
            'ì'..='ï' => "i",
            'ñ' | 'ń' | 'ň' => "n",
            'ò'..='ö' | 'ø' => "o",
            'œ' => "oe",
            'ù'..='ü' | 'ů' => "u",
            'ý' | 'ÿ' => "y",
            'ß' => "ss",
            'ł' => "l",
            'ś' | 'š' => "s",
            'ź' | 'ż' | 'ž' => "z",
            c if c.is_ascii_alphanumeric() => {
                out.push(c);
                continue;
            }
            _ => {
                if !out.ends_with('-') && !out.is_empty() {
                    out.push('-');
                }
                continue;
            }
        };
        out.push_str(plain);
    }
    out.truncate(out.trim_end_matches('-').len());
    out
}

/// `+` and digits (E.164). A number without `+` or `00` needs the country's calling code.
fn phone_e164(text: &str, country: Option<Value>) -> Result<String, Error> {
    let bad = |why: &str| says(format!("`phone_e164` {why}"));
    let text = text.trim();
    if let Some(c) = text.chars().find(|c| !c.is_ascii_digit() && !" +-/().\u{a0}".contains(*c)) {
        return Err(bad(&format!("cannot read a number with U+{:04X} in it", u32::from(c))));
    }
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let whole = if text.starts_with('+') {
        digits
    } else if let Some(rest) = digits.strip_prefix("00") {
        rest.to_owned()
    } else {
        let country = country
            .ok_or_else(|| bad("needs a calling code for a number without `+`: `phone_e164('49')`"))?;
        let country = country.to_string();
        let code = country.trim_start_matches('+');
        if !(1..=3).contains(&code.len()) || !code.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad("takes a calling code such as '49'"));
        }
        format!("{code}{}", digits.strip_prefix('0').unwrap_or(&digits))
    };
    if !(7..=15).contains(&whole.len()) {
        return Err(bad("needs 7 to 15 digits"));
    }
    Ok(format!("+{whole}"))
}

fn hash(text: &str, algorithm: &str) -> Result<String, Error> {
    let bytes = match algorithm {
        "sha256" => sha2::Sha256::digest(text.as_bytes()).to_vec(),
        "sha512" => sha2::Sha512::digest(text.as_bytes()).to_vec(),
        _ => return Err(says("`hash` knows 'sha256' and 'sha512'")),
    };
    Ok(hex(&bytes))
}

fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn now(state: &State<'_, '_>) -> Result<String, Error> {
    engine::with_run(state, |run| run.values.started_at.to_string())
}

/// A UUID of version 8, made from run, record, step and the number of the call: a resend has the same.
fn uuid(state: &State<'_, '_>) -> Result<String, Error> {
    engine::with_run(state, |run| {
        let mut hasher = sha2::Sha256::new();
        hasher.update(run.values.id.as_bytes());
        hasher.update([0]);
        hasher.update(run.values.ordinal.to_le_bytes());
        hasher.update(run.values.step.to_le_bytes());
        hasher.update(run.next_call().to_le_bytes());
        let mut bytes = [0; 16];
        for (byte, hashed) in bytes.iter_mut().zip(hasher.finalize()) {
            *byte = hashed;
        }
        uuid::Uuid::new_v8(bytes).to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_name_is_known_to_the_engine() {
        let env = engine::base();
        for (names, test) in [(FILTERS, "filter"), (TESTS, "test")] {
            for name in names {
                let source = format!("'{name}' is {test}");
                let known = env.compile_expression_owned(source).unwrap().eval(()).unwrap();
                assert!(known.is_true(), "{test} {name}");
            }
        }
        for name in FUNCTIONS {
            assert!(env.globals().any(|(global, _)| global == *name), "{name}");
        }
        assert_eq!(env.globals().count(), FUNCTIONS.len());
    }

    #[test]
    fn filters_do_what_their_names_say() {
        let env = engine::base();
        for (source, expected) in [
            ("'Größe & Maß, 2. Teil '|slug", Ok("grosse-mass-2-teil")),
            ("'--'|slug", Ok("")),
            ("'2026-11-22'|date('%d.%m.%Y')", Ok("22.11.2026")),
            ("'2026-11-22T02:14:00+02:00'|date('%H:%M %z')", Ok("02:14 +0200")),
            ("'2026-11-22T02:14:00Z'|date('%s')", Ok("1795313640")),
            ("'soon'|date('%Y')", Err("`date` needs")),
            ("'2026-11-22'|date('%z')", Err("`date` cannot write")),
            ("'+49 (30) 1234-567'|phone_e164", Ok("+49301234567")),
            ("'0049 30 1234567'|phone_e164", Ok("+49301234567")),
            ("'030 1234567'|phone_e164('49')", Ok("+49301234567")),
            ("'030 1234567'|phone_e164(49)", Ok("+49301234567")),
            ("'030 1234567'|phone_e164", Err("needs a calling code")),
            ("'call me'|phone_e164", Err("cannot read")),
            ("'12'|phone_e164('1')", Err("7 to 15")),
            ("'a'|hash('sha256')", Ok("ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")),
            ("'a'|hash('md5')", Err("knows")),
            ("'a<b'|base64", Ok("YTxi")),
            ("'a,b'|split(',')|last", Ok("b")),
            ("'<a&\\'\\\"'|tojson", Ok("\"<a&'\\\"\"")),
            ("[1, {'a': none}]|tojson", Ok("[1,{\"a\":null}]")),
            ("' 7 '|int ~ ''", Ok("7")),
            ("'7.5'|int", Err("`int` needs")),
            ("none|int", Err("`int` needs")),
            ("('x'|int(3)) ~ ''", Ok("3")),
            ("'NaN'|float", Err("`float` needs")),
            ("none|default('x')", Ok("x")),
            ("''|default('x')", Ok("")),
            ("''|default('x', true)", Ok("x")),
            ("0|default('x', true)", Ok("x")),
            ("[]|default('x', true)", Ok("x")),
            ("none|default", Err("needs a value")),
        ] {
            let found = env.compile_expression_owned(source).unwrap().eval(());
            match (found, expected) {
                (Ok(value), Ok(expected)) => assert_eq!(value.as_str(), Some(expected), "{source}"),
                (Err(error), Err(part)) => {
                    let said = Said::of(&error).unwrap_or_else(|| panic!("{source}: {error:?}"));
                    assert!(said.message.contains(part), "{source}: {}", said.message);
                }
                (found, expected) => panic!("{source}: {found:?}, not {expected:?}"),
            }
        }
    }
}
