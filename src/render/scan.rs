//! Reads the words of an expression: which names, fields, filters and tests it uses, and where.
//!
//! The template engine tells names without their places and knows nothing of fields in brackets;
//! this scanner follows the engine's own lexer closely enough to point at each of them. It decides
//! nothing: what it does not understand is left to the engine, which then says what is wrong.

use std::ops::Range;

/// One word of an expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Word {
    /// A name or keyword.
    Name,
    /// A quoted text, unescaped; `None` when it holds an escape that only the engine knows.
    Text(Option<String>),
    /// A number.
    Number,
    /// An operator or bracket.
    Sign,
}

/// A word and the bytes in which it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token<'a> {
    pub word: Word,
    pub text: &'a str,
    pub span: Range<usize>,
}

impl Token<'_> {
    pub fn is_sign(&self, sign: &str) -> bool {
        self.word == Word::Sign && self.text == sign
    }

    pub fn is_name(&self, name: &str) -> bool {
        self.word == Word::Name && self.text == name
    }
}

/// Where the words end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// At the end of the text.
    End,
    /// At `}}`.
    Variable,
    /// At `%}`.
    Block,
}

/// The text cannot be read.
#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    pub at: Range<usize>,
    pub message: String,
}

/// The words of one expression.
#[derive(Debug)]
pub(super) struct Words<'a> {
    pub tokens: Vec<Token<'a>>,
    /// The bytes between the markers.
    pub inner: Range<usize>,
    /// Just behind the closing marker.
    pub next: usize,
    /// Whether the closing marker asks to drop the white space that follows.
    pub trim: bool,
}

/// Words of one expression. The engine reads and drops expressions recursively: this limit and the
/// next keep it far from the end of its stack.
const MAX_WORDS: usize = 1_000;

/// Brackets within brackets, signs in a row, and choices or powers in one expression.
const MAX_DEPTH: i32 = 32;

/// Reads words from `from` up to the closing marker.
pub(super) fn words(text: &str, from: usize, until: Until) -> Result<Words<'_>, Fault> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let (mut depth, mut run, mut chain) = (0_i32, 0_i32, 0_i32);
    let mut at = from;
    let end = match until {
        Until::End => "",
        Until::Variable => "}}",
        Until::Block => "%}",
    };
    loop {
        let Some(&byte) = bytes.get(at) else {
            if until == Until::End {
                return Ok(Words { tokens, inner: from..at, next: at, trim: false });
            }
            return Err(Fault { at: from.saturating_sub(2)..from, message: format!("`{end}` is missing") });
        };
        if byte.is_ascii_whitespace() {
            at += 1;
            continue;
        }
        let rest = text.get(at..).unwrap_or_default();
        if depth == 0 && !end.is_empty() {
            let mark = rest.strip_prefix(['-', '+']).unwrap_or(rest);
            if mark.starts_with(end) {
                let marker = rest.len() - mark.len();
                return Ok(Words {
                    tokens,
                    inner: from..at,
                    next: at + marker + end.len(),
                    trim: marker == 1 && byte == b'-',
                });
            }
        }
        let (word, len) = match byte {
            b'\'' | b'"' => {
                let Some(len) = quoted(rest) else {
                    return Err(Fault { at: at..at + 1, message: "a quote is never closed".into() });
                };
                (Word::Text(unescape(rest.get(1..len - 1).unwrap_or_default())), len)
            }
            b'0'..=b'9' => (Word::Number, number(rest)),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                let len = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
                (Word::Name, len)
            }
            _ => {
                match byte {
                    b'(' | b'[' | b'{' => depth += 1,
                    b')' | b']' | b'}' => depth -= 1,
                    _ => {}
                }
                let two =
                    rest.get(..2).is_some_and(|two| ["//", "**", "==", "!=", ">=", "<="].contains(&two));
                (Word::Sign, if two { 2 } else { rest.chars().next().map_or(1, char::len_utf8) })
            }
        };
        let span = at..at + len;
        let text = text.get(span.clone()).unwrap_or_default();
        run = if matches!(text, "not" | "-" | "+") { run + 1 } else { 0 };
        chain += i32::from(matches!(text, "else" | "**"));
        if tokens.len() >= MAX_WORDS || depth.max(run).max(chain) > MAX_DEPTH {
            let message = format!(
                "the expression is too long: at most {MAX_WORDS} words, nested or chained {MAX_DEPTH} deep"
            );
            return Err(Fault { at: span, message });
        }
        tokens.push(Token { word, text, span });
        at += len;
    }
}

/// Bytes of a quoted text with both quotes.
fn quoted(rest: &str) -> Option<usize> {
    let mut bytes = rest.bytes().enumerate();
    let (_, quote) = bytes.next()?;
    while let Some((at, byte)) = bytes.next() {
        if byte == b'\\' {
            bytes.next();
        } else if byte == quote {
            return Some(at + 1);
        }
    }
    None
}

/// Bytes of a number; a dot belongs to it only before a digit.
fn number(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let more = byte.is_ascii_alphanumeric()
            || *byte == b'_'
            || (*byte == b'.' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit))
            || (matches!(byte, b'+' | b'-')
                && at > 0
                && bytes.get(at - 1).is_some_and(|b| matches!(b, b'e' | b'E'))
                && bytes.get(at + 1).is_some_and(u8::is_ascii_digit));
        if !more {
            break;
        }
        at += 1;
    }
    at
}

fn unescape(inner: &str) -> Option<String> {
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match chars.next()? {
            c @ ('\\' | '\'' | '"' | '/') => c,
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let hex: String = chars.by_ref().take(4).collect();
                char::from_u32(u32::from_str_radix(&hex, 16).ok()?)?
            }
            _ => return None,
        });
    }
    Some(out)
}

/// A stretch of a leaf.
#[derive(Debug)]
pub(super) enum Stretch<'a> {
    /// Text as it stands; white space already dropped where a marker asks for it.
    Raw(&'a str),
    /// `{{ … }}`
    Expression(Words<'a>),
    /// `{% … %}`
    Statement(Words<'a>),
}

/// Cuts a text at its markers.
pub(super) fn stretches(text: &str) -> Result<Vec<Stretch<'_>>, Fault> {
    let mut out = Vec::new();
    let mut at = 0;
    let mut trim = false;
    while at < text.len() {
        let rest = text.get(at..).unwrap_or_default();
        let open = rest
            .match_indices('{')
            .map(|(open, _)| open)
            .find(|open| matches!(rest.as_bytes().get(open + 1), Some(b'{' | b'%' | b'#')));
        let mut raw = rest.get(..open.unwrap_or(rest.len())).unwrap_or_default();
        if std::mem::take(&mut trim) {
            raw = raw.trim_start();
        }
        let kind = open.and_then(|open| rest.as_bytes().get(open + 1));
        let dash = open.is_some_and(|open| rest.as_bytes().get(open + 2) == Some(&b'-'));
        if dash {
            raw = raw.trim_end();
        }
        if !raw.is_empty() {
            out.push(Stretch::Raw(raw));
        }
        let (Some(open), Some(kind)) = (open, kind) else { break };
        let plus = matches!(rest.as_bytes().get(open + 2), Some(b'-' | b'+'));
        let from = at + open + 2 + usize::from(plus);
        match kind {
            b'#' => {
                let Some(len) = text.get(from..).and_then(|rest| rest.find("#}")) else {
                    return Err(Fault { at: at + open..from, message: "`#}` is missing".into() });
                };
                trim = text.get(from..from + len).is_some_and(|inner| inner.ends_with('-'));
                at = from + len + 2;
            }
            b'%' => {
                let words = words(text, from, Until::Block)?;
                (trim, at) = (words.trim, words.next);
                let is_raw = words.tokens.first().is_some_and(|token| token.is_name("raw"));
                out.push(Stretch::Statement(words));
                if is_raw {
                    // The engine copies this part as it stands.
                    let rest = text.get(at..).unwrap_or_default();
                    at += rest
                        .find("endraw")
                        .and_then(|end| rest.get(..end)?.rfind("{%"))
                        .unwrap_or(rest.len());
                }
            }
            _ => {
                let words = words(text, from, Until::Variable)?;
                (trim, at) = (words.trim, words.next);
                out.push(Stretch::Expression(words));
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> String {
        match stretches(text) {
            Ok(all) => all
                .iter()
                .map(|stretch| match stretch {
                    Stretch::Raw(raw) => format!("[{raw}]"),
                    Stretch::Expression(words) => format!("<{}>", text[words.inner.clone()].trim()),
                    Stretch::Statement(words) => format!("%{}%", text[words.inner.clone()].trim()),
                })
                .collect(),
            Err(fault) => format!("{} at {:?}", fault.message, fault.at),
        }
    }

    #[test]
    fn a_leaf_is_cut_at_its_markers() {
        for (text, expected) in [
            ("", ""),
            ("plain } text }}", "[plain } text }}]"),
            ("{{ a }}", "<a>"),
            ("x{{ a }}y{{b}}", "[x]<a>[y]<b>"),
            ("{{ {'a': {'b': 1}} }}", "<{'a': {'b': 1}}>"),
            ("{{ '}}' }}", "<'}}'>"),
            ("{{ \"a\\\"}}\" }}", "<\"a\\\"}}\">"),
            ("a {{- b -}} c", "[a]<b>[c]"),
            ("a{# {{ no }} #}b", "[a][b]"),
            ("{% if a %}x{% endif %}", "%if a%[x]%endif%"),
            ("{% raw %}{{ no }}{% endraw %}", "%raw%%endraw%"),
            ("{{ a", "`}}` is missing at 0..2"),
            ("{{ 'a }}", "a quote is never closed at 3..4"),
            ("{ {a} }", "[{ {a} }]"),
            ("é{{ ü }}", "[é]<ü>"),
        ] {
            assert_eq!(shape(text), expected, "{text}");
        }
    }

    #[test]
    fn numbers_end_where_a_path_goes_on() {
        for (text, len) in [("1.5 ", 3), ("1.a", 1), ("1e+5)", 4), ("1_000-2", 5), ("0x1f]", 4)] {
            assert_eq!(number(text), len, "{text}");
        }
    }
}
