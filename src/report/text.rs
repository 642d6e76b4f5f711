//! Text that is safe to show and numbers that are easy to read.
//!
//! Separate because every writer needs it: nothing from outside reaches a terminal or a text log
//! but through [`line`] or [`block`]. Invariant: their result holds no control and no direction
//! character, so it can neither move the cursor nor forge a line.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

/// Text for one line: control and direction characters are shown as `\u{1b}`, newline, carriage
/// return and tab as `\n`, `\r` and `\t`.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    escape(text, |c| is_unsafe(c) || matches!(c, '\n' | '\t'))
}

/// Text that may have several lines: newlines and tabs stay, all else is as in [`line`].
#[must_use]
pub fn block(text: &str) -> Cow<'_, str> {
    escape(text, is_unsafe)
}

fn escape(text: &str, hit: impl Fn(char) -> bool) -> Cow<'_, str> {
    let Some(first) = text.find(&hit) else { return Cow::Borrowed(text) };
    let (clean, rest) = text.split_at(first);
    let mut out = String::with_capacity(text.len() + 8);
    out.push_str(clean);
    for c in rest.chars() {
        match c {
            c if !hit(c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
        }
    }
    Cow::Owned(out)
}

/// C0 without newline and tab, DEL, C1, and what turns the direction or breaks the line.
const fn is_unsafe(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        _ => false,
    }
}

pub use crate::model::number;

/// A number and its noun: `1 record`, `1,250 records`.
#[must_use]
pub fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(n), if n == 1 { one } else { many })
}

/// A duration: `420 ms`, `3.2 s`, `62 s`, `12 min 05 s`, `1 h 04 min`, `2 d 03 h`.
#[must_use]
pub fn duration(d: Duration) -> String {
    let seconds = d.as_secs().saturating_add(u64::from(d.subsec_millis() >= 500));
    let tenths = (d.as_millis() + 50) / 100;
    match d.as_millis() {
        0..1000 => format!("{} ms", d.as_millis()),
        1000..9950 if tenths.is_multiple_of(10) => format!("{} s", tenths / 10),
        1000..9950 => format!("{}.{} s", tenths / 10, tenths % 10),
        _ => match seconds {
            0..120 => format!("{seconds} s"),
            120..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
            3600..86_400 => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
            _ => format!("{} d {:02} h", number(seconds / 86_400), seconds % 86_400 / 3600),
        },
    }
}

/// An amount of data: `1 byte`, `512 bytes`, `1.5 MiB`.
#[must_use]
pub fn bytes(n: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    for (size, unit) in UNITS {
        if n >= size {
            let tenths = (u128::from(n) * 10 + u128::from(size) / 2) / u128::from(size);
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    counted(n, "byte", "bytes")
}

/// So many a second: `20/s`, `3.4/s`, `0.05/s`.
#[must_use]
pub fn rate(per_second: f64) -> String {
    if !per_second.is_finite() || per_second <= 0.0 {
        "0/s".into()
    } else if per_second < 0.095 {
        format!("{per_second:.2}/s")
    } else if per_second < 9.95 {
        format!("{per_second:.1}/s")
    } else {
        format!("{}/s", number(whole(per_second)))
    }
}

/// The nearest whole number of a float that is not negative; the largest when it is beyond.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, which is meant: rates and estimates, not money"
)]
pub(super) const fn whole(n: f64) -> u64 {
    n.round() as u64
}

/// A count as a float, for rates; beyond 2^53 the last digits do not matter.
#[expect(clippy::cast_precision_loss, reason = "rates and estimates, not money")]
pub(super) const fn float(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_can_steer_a_terminal_or_forge_a_line() {
        for (raw, shown) in [
            ("plain é 漢字 👍", "plain é 漢字 👍"),
            ("\u{1b}[2Jgone", "\\u{1b}[2Jgone"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\u{202e}b\u{2066}c\u{2069}", "a\\u{202e}b\\u{2066}c\\u{2069}"),
            ("\0\u{7}\u{7f}\u{85}", "\\u{0}\\u{7}\\u{7f}\\u{85}"),
            ("ok\nERROR forged\r\tx", "ok\\nERROR forged\\r\\tx"),
            ("a\u{2028}b", "a\\u{2028}b"),
        ] {
            assert_eq!(line(raw), shown);
        }
        assert_eq!(block("a\n\tb\r\n\u{1b}"), "a\n\tb\\r\n\\u{1b}");
    }

    #[test]
    fn numbers_have_separators_for_people() {
        for (n, shown) in [
            (0, "0"),
            (999, "999"),
            (1_250, "1,250"),
            (1_000_000, "1,000,000"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(number(n), shown);
        }
        assert_eq!(counted(1, "record", "records"), "1 record");
        assert_eq!(counted(0, "record", "records"), "0 records");
    }

    #[test]
    fn durations_use_two_units_at_most() {
        for (ms, shown) in [
            (0, "0 ms"),
            (420, "420 ms"),
            (999, "999 ms"),
            (2_000, "2 s"),
            (3_240, "3.2 s"),
            (9_940, "9.9 s"),
            (9_960, "10 s"),
            (62_000, "62 s"),
            (119_400, "119 s"),
            (119_600, "2 min 00 s"),
            (725_000, "12 min 05 s"),
            (3_599_900, "1 h 00 min"),
            (3_840_000, "1 h 04 min"),
            (183_600_000, "2 d 03 h"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), shown);
        }
        assert!(duration(Duration::MAX).ends_with(" h"));
    }

    #[test]
    fn amounts_and_rates_are_short() {
        for (n, shown) in
            [(0, "0 bytes"), (1, "1 byte"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB")]
        {
            assert_eq!(bytes(n), shown.replace("1023", "1,023"));
        }
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
        for (r, shown) in [
            (0.0, "0/s"),
            (f64::NAN, "0/s"),
            (-1.0, "0/s"),
            (0.05, "0.05/s"),
            (3.42, "3.4/s"),
            (20.16, "20/s"),
            (1250.0, "1,250/s"),
        ] {
            assert_eq!(rate(r), shown);
        }
    }
}
