//! The usual expressions, calculated on our own values without the template engine.
//!
//! Apart because it is only a shorter way (docs/performance.md): choices, comparisons of texts, small
//! objects and a handful of filters are most of what templates calculate. Invariant: where this gives
//! a value, the engine gives the same; whatever is unusual (a missing field, a number that is not a
//! plain integer, any error) gives none, and the engine decides and says what is wrong.

use super::context::Context;
use super::convert::weight;
use super::part::holds;
use super::path::Path;
use super::scan::{Token, Word};
use crate::model::{Map, Number, Str, Value};

/// Bytes of one result; the engine knows what to do with larger ones.
const MAX_BYTES: usize = 1 << 20;
/// An integer of so many digits is the same everywhere.
const MAX_DIGITS: usize = 18;

/// An expression that this file can calculate.
#[derive(Debug)]
pub(super) enum Direct {
    Constant(Value),
    Path(Path),
    /// `default(other)`, or `default(other, true)` for what does not hold either.
    Default {
        of: Box<Direct>,
        other: Box<Direct>,
        also_empty: bool,
    },
    Filter(Box<Direct>, Filter),
    Choice {
        when: Box<Direct>,
        then: Box<Direct>,
        other: Box<Direct>,
    },
    Not(Box<Direct>),
    /// The first of both that does not hold, else the second.
    And(Box<Direct>, Box<Direct>),
    /// The first of both that holds, else the second.
    Or(Box<Direct>, Box<Direct>),
    Equal(Box<Direct>, Box<Direct>),
    Unequal(Box<Direct>, Box<Direct>),
    /// Whether a text is in a list of texts, or in a text.
    In(Box<Direct>, Box<Direct>),
    /// Texts, one behind the other.
    Joined(Vec<Direct>),
    List(Vec<Direct>),
    Object(Vec<(Str, Direct)>),
}

/// Filters of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    Lower,
    Upper,
    Trim,
}

impl Direct {
    /// Reads an expression; `None` when any of it is none of the usual.
    pub fn read(tokens: &[Token<'_>]) -> Option<Self> {
        let mut reader = Reader { tokens, at: 0 };
        let read = reader.choice()?;
        (reader.at == tokens.len()).then_some(read)
    }

    /// The value; `None` when it is the engine's to tell.
    pub fn value(&self, context: &Context) -> Option<Value> {
        let mut left = MAX_BYTES;
        self.find(context, &mut left)
    }

    fn find(&self, context: &Context, left: &mut usize) -> Option<Value> {
        let value = match self {
            Self::Constant(value) => value.clone(),
            Self::Path(path) => {
                let value = path.find(context).ok()?;
                if !is_usual(&value) {
                    return None;
                }
                *left = left.checked_sub(weight(&value, *left))?;
                value.into_owned()
            }
            Self::Default { of, other, also_empty } => {
                // The engine calculates both, whichever it takes.
                let other = other.find(context, left)?;
                let value = match &**of {
                    Self::Path(path) if path.find(context).is_err() => Value::Null,
                    of => of.find(context, left)?,
                };
                match value {
                    Value::Absent => return None,
                    Value::Null => other,
                    value if *also_empty && !holds(&value) => other,
                    value => value,
                }
            }
            Self::Filter(of, filter) => match of.find(context, left)? {
                Value::String(text) => Value::text(filter.apply(&text)),
                _ => return None,
            },
            Self::Choice { when, then, other } => {
                let chosen = if when.truth(context, left)? { then } else { other };
                chosen.find(context, left)?
            }
            Self::Not(of) => Value::Bool(!of.truth(context, left)?),
            Self::And(first, second) => match first.find(context, left)? {
                Value::Absent => return None,
                value if holds(&value) => second.find(context, left)?,
                value => value,
            },
            Self::Or(first, second) => match first.find(context, left)? {
                Value::Absent => return None,
                value if holds(&value) => value,
                _ => second.find(context, left)?,
            },
            Self::Equal(first, second) => Value::Bool(equal(first, second, context, left)?),
            Self::Unequal(first, second) => Value::Bool(!equal(first, second, context, left)?),
            Self::In(of, all) => {
                let Value::String(of) = of.find(context, left)? else { return None };
                Value::Bool(match all.find(context, left)? {
                    Value::String(all) => all.contains(&*of),
                    Value::Array(all) if all.iter().all(|one| one.as_str().is_some()) => {
                        all.iter().any(|one| one.as_str() == Some(&of))
                    }
                    _ => return None,
                })
            }
            Self::Joined(parts) => {
                let mut text = String::new();
                for part in parts {
                    match part.find(context, left)? {
                        Value::String(part) => text.push_str(&part),
                        Value::Number(part) => text.push_str(part.as_str()),
                        _ => return None,
                    }
                }
                Value::text(text)
            }
            Self::List(items) => {
                Value::Array(items.iter().map(|item| item.find(context, left)).collect::<Option<_>>()?)
            }
            Self::Object(entries) => {
                let mut map = Map::with_capacity(entries.len());
                for (name, entry) in entries {
                    map.push(Str::clone(name), entry.find(context, left)?);
                }
                Value::Object(map)
            }
        };
        Some(value)
    }

    /// Whether it holds; `omit` is no condition.
    fn truth(&self, context: &Context, left: &mut usize) -> Option<bool> {
        match self.find(context, left)? {
            Value::Absent => None,
            value => Some(holds(&value)),
        }
    }
}

impl Filter {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "lower" => Self::Lower,
            "upper" => Self::Upper,
            "trim" => Self::Trim,
            _ => return None,
        })
    }

    fn apply(self, text: &str) -> String {
        match self {
            Self::Lower => text.to_lowercase(),
            Self::Upper => text.to_uppercase(),
            Self::Trim => text.trim().to_owned(),
        }
    }
}

/// Whether a value of a record goes through the engine as it is: all but numbers that are no plain
/// integers.
fn is_usual(value: &Value) -> bool {
    match value {
        Value::Number(number) => is_plain_integer(number.as_str()),
        _ => true,
    }
}

fn is_plain_integer(digits: &str) -> bool {
    let whole = digits.strip_prefix('-').unwrap_or(digits);
    whole.len() <= MAX_DIGITS
        && whole.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == "0" || !whole.starts_with('0'))
}

/// Kinds that are compared the same way everywhere.
fn equal(first: &Direct, second: &Direct, context: &Context, left: &mut usize) -> Option<bool> {
    match (first.find(context, left)?, second.find(context, left)?) {
        (Value::String(first), Value::String(second)) => Some(first == second),
        (Value::Bool(first), Value::Bool(second)) => Some(first == second),
        (Value::Number(first), Value::Number(second)) => Some(first == second),
        (Value::Null, Value::Null) => Some(true),
        (Value::Null, Value::String(_)) | (Value::String(_), Value::Null) => Some(false),
        _ => None,
    }
}

/// Reads words from left to right, each operator binding as in the engine.
struct Reader<'t, 's> {
    tokens: &'t [Token<'s>],
    at: usize,
}

impl<'t, 's> Reader<'t, 's> {
    fn peek(&self) -> Option<&'t Token<'s>> {
        self.tokens.get(self.at)
    }

    fn sign(&mut self, sign: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.is_sign(sign));
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.is_name(word));
        self.at += usize::from(found);
        found
    }

    /// A choice has both sides: without `else` it may be undefined.
    fn choice(&mut self) -> Option<Direct> {
        let then = self.or()?;
        if !self.word("if") {
            return Some(then);
        }
        let when = self.or()?;
        let other = if self.word("else") { self.choice()? } else { return None };
        Some(Direct::Choice { when: Box::new(when), then: Box::new(then), other: Box::new(other) })
    }

    fn or(&mut self) -> Option<Direct> {
        let mut first = self.and()?;
        while self.word("or") {
            first = Direct::Or(Box::new(first), Box::new(self.and()?));
        }
        Some(first)
    }

    fn and(&mut self) -> Option<Direct> {
        let mut first = self.not()?;
        while self.word("and") {
            first = Direct::And(Box::new(first), Box::new(self.not()?));
        }
        Some(first)
    }

    fn not(&mut self) -> Option<Direct> {
        if self.word("not") {
            return Some(Direct::Not(Box::new(self.not()?)));
        }
        self.comparison()
    }

    /// One comparison: several in a row are the engine's.
    fn comparison(&mut self) -> Option<Direct> {
        let first = self.joined()?;
        if self.sign("==") {
            return Some(Direct::Equal(Box::new(first), Box::new(self.joined()?)));
        }
        if self.sign("!=") {
            return Some(Direct::Unequal(Box::new(first), Box::new(self.joined()?)));
        }
        if self.word("in") {
            return Some(Direct::In(Box::new(first), Box::new(self.joined()?)));
        }
        if self.word("not") {
            return self.word("in").then_some(()).and_then(|()| {
                Some(Direct::Not(Box::new(Direct::In(Box::new(first), Box::new(self.joined()?)))))
            });
        }
        Some(first)
    }

    fn joined(&mut self) -> Option<Direct> {
        let first = self.filtered()?;
        if !self.peek().is_some_and(|token| token.is_sign("~")) {
            return Some(first);
        }
        let mut parts = vec![first];
        while self.sign("~") {
            parts.push(self.filtered()?);
        }
        Some(Direct::Joined(parts))
    }

    fn filtered(&mut self) -> Option<Direct> {
        let mut value = self.one()?;
        while self.sign("|") {
            let name = self.peek().filter(|token| token.word == Word::Name)?.text;
            self.at += 1;
            if !matches!(name, "default" | "d") {
                value = Direct::Filter(Box::new(value), Filter::named(name)?);
                if self.peek().is_some_and(|token| token.is_sign("(")) {
                    return None;
                }
                continue;
            }
            if !self.sign("(") {
                return None;
            }
            let other = Box::new(self.choice()?);
            let also_empty = self.sign(",");
            if also_empty && !(self.word("true") || self.word("True")) || !self.sign(")") {
                return None;
            }
            value = Direct::Default { of: Box::new(value), other, also_empty };
        }
        Some(value)
    }

    fn one(&mut self) -> Option<Direct> {
        let token = self.peek()?;
        match &token.word {
            Word::Text(text) => {
                let text = text.clone()?;
                self.at += 1;
                Some(Direct::Constant(Value::text(text))).filter(|_| self.is_over())
            }
            Word::Number => {
                let number = Number::parse(token.text).filter(|number| is_plain_integer(number.as_str()))?;
                self.at += 1;
                Some(Direct::Constant(Value::Number(number))).filter(|_| self.is_over())
            }
            Word::Name => self.named(token.text),
            Word::Sign => match token.text {
                "(" => {
                    self.at += 1;
                    let inner = self.choice()?;
                    // With a comma it would be a list.
                    (self.sign(")") && self.is_over()).then_some(inner)
                }
                "[" => self.list(),
                "{" => self.object(),
                _ => None,
            },
        }
    }

    fn named(&mut self, name: &str) -> Option<Direct> {
        let constant = match name {
            "true" | "True" => Value::Bool(true),
            "false" | "False" => Value::Bool(false),
            "none" | "None" | "null" => Value::Null,
            "omit" => Value::Absent,
            _ => {
                let (path, taken) = Path::read(self.tokens.get(self.at..)?)?;
                self.at += taken;
                // A table is asked for its rows by the engine.
                return (path.whole_table().is_none() && self.is_over()).then_some(Direct::Path(path));
            }
        };
        self.at += 1;
        self.is_over().then_some(Direct::Constant(constant))
    }

    /// Whether what was read ends here: nothing is called, taken out of it, or stands behind it.
    fn is_over(&self) -> bool {
        match self.peek() {
            None => true,
            Some(Token { word: Word::Sign, text, .. }) => {
                matches!(*text, "|" | "==" | "!=" | "~" | ")" | "]" | "}" | ",")
            }
            Some(Token { word: Word::Name, text, .. }) => {
                matches!(*text, "if" | "else" | "and" | "or" | "in" | "not")
            }
            Some(_) => false,
        }
    }

    fn list(&mut self) -> Option<Direct> {
        self.at += 1;
        let mut items = Vec::new();
        while !self.sign("]") {
            if !items.is_empty() && !self.sign(",") {
                return None;
            }
            items.push(self.choice()?);
        }
        self.is_over().then_some(Direct::List(items))
    }

    fn object(&mut self) -> Option<Direct> {
        self.at += 1;
        let mut entries: Vec<(Str, Direct)> = Vec::new();
        while !self.sign("}") {
            if !entries.is_empty() && !self.sign(",") {
                return None;
            }
            let Word::Text(Some(name)) = &self.peek()?.word else { return None };
            self.at += 1;
            if !self.sign(":") || entries.iter().any(|(known, _)| **known == **name) {
                return None;
            }
            entries.push((name.as_str().into(), self.choice()?));
        }
        self.is_over().then_some(Direct::Object(entries))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::context::tests::context;
    use super::super::part::{What, part};
    use super::super::scan::{Until, words};
    use super::super::tests::{any, template};
    use super::*;
    use crate::model::Problems;

    const RECORD: &str = r#"{"t":"x","u":"Ünï ","e":"","n":5,"z":0,"f":1.50,"neg":-7,"big":12345678901234567890,
        "yes":true,"no":false,"nil":null,"l":["x","y"],"m":[1,"x"],"none":[],"o":{"k":"v"},"p":{},"a b":"c","0":"-0"}"#;

    /// What both ways say of an expression: `None` where it is the engine's alone, or not read at all.
    fn both(text: &str) -> Option<(Option<Value>, Option<Value>)> {
        let template = template(text);
        let words = words(&template.value, 0, Until::End).ok()?;
        let part = part(&words, &template, &any(), &mut Problems::new())?;
        let What::Engine(compiled) = part.what else { return None };
        let context = context(RECORD);
        Some((compiled.direct(&context), compiled.by_engine(&context, &template).ok()))
    }

    #[test]
    fn what_is_usual_needs_no_engine() {
        for (text, expected) in [
            (
                r#"{"name": "t", "value": record.t} if record.t | default("") else omit"#,
                r#"{"name":"t","value":"x"}"#,
            ),
            (r#"{"name": "t"} if record.e | default("") else omit"#, "absent"),
            (r#"record.gone | default("active") == "active""#, "true"),
            ("record.gone | default(record.nil) | default(record.n)", "5"),
            (r#"record.e | trim | default("none", true)"#, "\"none\""),
            (r#"record.t ~ "-" ~ record.n"#, "\"x-5\""),
            ("record.t ~ record.yes", "engine"),
            ("record.t ~ record.f", "engine"),
            (r#"record.t in ["x", "z"] and record.t not in ["y"]"#, "true"),
            ("record.t in record.m", "engine"),
            (r#""n" in record.u"#, "true"),
            ("not record.yes or record.e", "\"\""),
            ("record.u | trim | upper", "\"ÜNÏ\""),
            (r#"[record.t, omit, record["a b"]]"#, r#"["x","c"]"#),
            (r#"{"a": record.o.k, "b": {"c": []}}"#, r#"{"a":"v","b":{"c":[]}}"#),
            ("record.n == 5 and record.z != 5", "true"),
            (r#"record.n == "5""#, "engine"),
            ("record.nil == none and record.t != null", "true"),
            ("record.yes if record.gone", "engine"),
            ("record.gone or record.t", "engine"),
            ("record.f or record.t", "engine"),
            ("omit or record.t", "engine"),
            ("record.n + 1", "engine"),
            ("(record.t, record.e)", "engine"),
            (r#""abc"[0]"#, "engine"),
        ] {
            let (direct, _) = both(text).unwrap();
            let said = direct.map_or("engine".into(), |value| match value {
                Value::Absent => "absent".into(),
                value => value.to_json(),
            });
            assert_eq!(said, expected, "{text}");
        }
    }

    fn expressions() -> impl Strategy<Value = String> {
        let one = prop_oneof![
            "record\\.(t|u|e|n|z|f|neg|big|yes|no|nil|l|m|none|o|p|gone|o\\.k|l\\[1\\]|gone\\.x)"
                .prop_map(|text| text),
            Just("record['a b']".to_owned()),
            Just("record['0']".to_owned()),
            "\"(x|y|5|true|)\"",
            "(true|false|none|omit|0|5|-7|07|1\\.5)",
        ];
        one.prop_recursive(4, 24, 3, |inner| {
            let i = || inner.clone();
            prop_oneof![
                (i(), i()).prop_map(|(a, b)| format!("{a} | default({b})")),
                (i(), i()).prop_map(|(a, b)| format!("{a} | d({b}, true)")),
                (i(), "(lower|upper|trim|length|string)").prop_map(|(a, name)| format!("{a} | {name}")),
                (i(), i(), i()).prop_map(|(a, b, c)| format!("{a} if {b} else {c}")),
                (i(), i()).prop_map(|(a, b)| format!("{a} if {b}")),
                (i(), "(and|or|==|!=|~|in|not in|<|\\+|is)", i())
                    .prop_map(|(a, sign, b)| format!("{a} {sign} {b}")),
                i().prop_map(|a| format!("not {a}")),
                i().prop_map(|a| format!("({a})")),
                (i(), i()).prop_map(|(a, b)| format!("[{a}, {b}]")),
                (i(), i()).prop_map(|(a, b)| format!("{{\"a\": {a}, \"b\": {b}}}")),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_engine_gives_the_same(text in expressions()) {
            if let Some((Some(direct), engine)) = both(&text) {
                prop_assert_eq!(Some(direct), engine, "{}", text);
            }
        }
    }
}
