//! A plain path such as `record['Customer ID']` or `record.items[0].name`, found in our own values
//! without the template engine.
//!
//! Apart because it is the fast way (ruling 18): most leaves of most templates are plain paths, and
//! their values are copied digit by digit. Invariant: a lookup never fails otherwise than by
//! saying which step of the path is not there.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::context::{Context, Root};
use super::scan::{Token, Word};
use crate::model::{Map, Number, Value};

/// A root and the steps below it.
#[derive(Debug)]
pub(super) struct Path {
    pub root: Root,
    pub steps: Vec<Step>,
}

/// One step of a path.
#[derive(Debug)]
pub(super) enum Step {
    /// A field, and the position at which it was found last: records of one source mostly have
    /// the same shape, so that a wide record costs no more than a narrow one.
    Name(Box<str>, AtomicUsize),
    /// A list's element; negative counts from the end.
    Index(i64),
    /// A field whose name is the value of another path.
    Of(Box<Path>),
}

/// The path ends before its last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Miss {
    /// How many steps were there.
    pub found: usize,
}

/// A path may hold paths, but not without end.
const MAX_DEPTH: usize = 8;

impl Path {
    /// Reads a path from words that begin with the root's name; gives it and the words it takes.
    pub fn read(tokens: &[Token<'_>]) -> Option<(Self, usize)> {
        Self::read_at(tokens, 0)
    }

    fn read_at(tokens: &[Token<'_>], depth: usize) -> Option<(Self, usize)> {
        let first = tokens.first().filter(|token| token.word == Word::Name && depth < MAX_DEPTH)?;
        let root = Root::from_name(first.text)?;
        let mut steps = Vec::new();
        let mut at = 1;
        loop {
            let rest = tokens.get(at..).unwrap_or_default();
            let (step, taken) = match rest {
                [dot, name, ..] if dot.is_sign(".") && name.word == Word::Name => (Step::name(name.text), 2),
                [open, key, close, ..] if open.is_sign("[") && close.is_sign("]") => match &key.word {
                    Word::Text(Some(name)) => (Step::name(name), 3),
                    Word::Number => match key.text.parse() {
                        Ok(index) => (Step::Index(index), 3),
                        Err(_) => break,
                    },
                    Word::Name => match Self::read_at(rest.get(1..).unwrap_or_default(), depth + 1) {
                        Some((path, 1)) => (Step::Of(Box::new(path)), 3),
                        _ => break,
                    },
                    _ => break,
                },
                [open, minus, key, close, ..]
                    if open.is_sign("[")
                        && minus.is_sign("-")
                        && close.is_sign("]")
                        && key.word == Word::Number =>
                {
                    match key.text.parse::<i64>() {
                        Ok(index) => (Step::Index(-index), 4),
                        Err(_) => break,
                    }
                }
                [open, inner @ ..] if open.is_sign("[") => match Self::read_at(inner, depth + 1) {
                    Some((path, taken)) if inner.get(taken).is_some_and(|close| close.is_sign("]")) => {
                        (Step::Of(Box::new(path)), taken + 2)
                    }
                    _ => break,
                },
                _ => break,
            };
            steps.push(step);
            at += taken;
        }
        Some((Self { root, steps }, at))
    }

    /// The value at the end of the path. An absent value reads as null; a step below null or text
    /// is missing.
    pub fn find<'c>(&self, context: &'c Context) -> Result<Cow<'c, Value>, Miss> {
        self.walk(context, self.steps.len(), |_| {})
    }

    /// The same, as far as the first `steps`, and tells the position of each.
    pub fn walk<'c>(
        &self,
        context: &'c Context,
        steps: usize,
        took: impl FnMut(u32),
    ) -> Result<Cow<'c, Value>, Miss> {
        if self.root == Root::Run {
            return self.of_run(context);
        }
        let below = self.steps.get(..steps).unwrap_or(&self.steps);
        if self.root == Root::Lookups {
            return of_lookups(below, context, took);
        }
        let value = &**context.get(self.root).ok_or(Miss { found: 0 })?;
        Ok(match descend(value, below, 0, context, took)? {
            Value::Absent => Cow::Owned(Value::Null),
            value => Cow::Borrowed(value),
        })
    }

    fn of_run<'c>(&self, context: &Context) -> Result<Cow<'c, Value>, Miss> {
        let run = context.run();
        let field = |name: &str| match name {
            "id" => Some(Value::String(run.id.clone())),
            "started_at" => Some(Value::text(run.started_at.to_string())),
            "pipeline" => Some(Value::String(run.pipeline.clone())),
            _ => None,
        };
        match self.steps.as_slice() {
            [] => {
                let names = super::context::RUN_FIELDS;
                let fields = names.iter().filter_map(|name| Some(((*name).into(), field(name)?)));
                Ok(Cow::Owned(Value::Object(fields.collect())))
            }
            [Step::Name(name, _)] => field(name).map(Cow::Owned).ok_or(Miss { found: 0 }),
            _ => Err(Miss { found: 1 }),
        }
    }

    /// The path as a person writes it, up to so many steps.
    pub fn shown(&self, steps: usize) -> String {
        let mut out = self.root.name().to_owned();
        for step in self.steps.iter().take(steps) {
            let _ = match step {
                Step::Name(name, _) => write!(out, "{}", field_step(name)),
                Step::Index(index) => write!(out, "[{index}]"),
                Step::Of(path) => write!(out, "[{}]", path.shown(usize::MAX)),
            };
        }
        out
    }

    /// The name of the lookup table that it is, without a row: the engine asks for one by itself.
    pub fn whole_table(&self) -> Option<&str> {
        match (self.root, self.steps.as_slice()) {
            (Root::Lookups, [Step::Name(name, _)]) => Some(name),
            _ => None,
        }
    }

    /// This path and those inside its brackets.
    pub fn each(&self, see: &mut impl FnMut(&Self)) {
        see(self);
        for step in &self.steps {
            if let Step::Of(path) = step {
                path.each(see);
            }
        }
    }

    /// The name of the first step, when it is a plain one.
    pub fn first_name(&self) -> Option<&str> {
        match self.steps.first() {
            Some(Step::Name(name, _)) => Some(name),
            _ => None,
        }
    }
}

impl Step {
    fn name(name: &str) -> Self {
        Self::Name(name.into(), AtomicUsize::new(0))
    }
}

/// A field as a step: `.email`, or `['Customer ID']` when it is no identifier.
pub(super) fn field_step(name: &str) -> String {
    let mut chars = name.chars();
    let plain = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain {
        return format!(".{name}");
    }
    format!("['{}']", name.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// The value that so many steps lead to; `before` are those that were taken already.
fn descend<'v>(
    mut value: &'v Value,
    steps: &[Step],
    before: usize,
    context: &Context,
    mut took: impl FnMut(u32),
) -> Result<&'v Value, Miss> {
    for (found, step) in steps.iter().enumerate() {
        let miss = Miss { found: before + found };
        let next = match (step, value) {
            (Step::Name(name, hint), Value::Object(map)) => hinted(map, name, hint),
            (Step::Index(index), Value::Array(items)) => element(items, *index),
            (Step::Of(path), _) => {
                let key = path.find(context).map_err(|_| miss)?;
                match (&*key, value) {
                    (Value::String(name), Value::Object(map)) => position(map, name),
                    // Objects are often keyed by numbers that were written as text.
                    (Value::Number(number), Value::Object(map)) => position(map, number.as_str()),
                    (Value::Number(number), Value::Array(items)) => {
                        number.as_i64().and_then(|index| element(items, index))
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        let (at, next) = next.ok_or(miss)?;
        took(u32::try_from(at).unwrap_or(u32::MAX));
        value = next;
    }
    Ok(value)
}

/// A row of a lookup table, or what lies below it: `NAME[KEY].COLUMN`. Only the cell that is asked for
/// is made a value.
fn of_lookups<'c>(
    steps: &[Step],
    context: &'c Context,
    took: impl FnMut(u32),
) -> Result<Cow<'c, Value>, Miss> {
    let (Some(Step::Name(name, _)), rest) = (steps.first(), steps.get(1..).unwrap_or_default()) else {
        return Err(Miss { found: 0 });
    };
    let table = context.table(name).ok_or(Miss { found: 0 })?;
    let miss = Miss { found: 1 };
    let row = match rest.first() {
        Some(Step::Name(key, _)) => table.find(key),
        Some(Step::Index(key)) => table.find(&key.to_string()),
        Some(Step::Of(path)) => match &*path.find(context).map_err(|_| miss)? {
            Value::String(key) => table.find(key),
            Value::Number(key) => table.find(key.as_str()),
            _ => None,
        },
        None => None,
    };
    let row = row.ok_or(miss)?;
    let value = match rest.get(1) {
        None => Value::Object(table.row(row)),
        Some(Step::Name(column, _)) => table.cell(row, column).ok_or(Miss { found: 2 })?,
        Some(_) => return Err(Miss { found: 2 }),
    };
    let below = rest.get(2..).unwrap_or_default();
    let value = if below.is_empty() { value } else { descend(&value, below, 3, context, took)?.clone() };
    Ok(Cow::Owned(if matches!(value, Value::Absent) { Value::Null } else { value }))
}

fn hinted<'m>(map: &'m Map, name: &str, hint: &AtomicUsize) -> Option<(usize, &'m Value)> {
    let entries = map.iter().as_slice();
    let guess = hint.load(Ordering::Relaxed);
    if let Some((key, value)) = entries.get(guess)
        && &**key == name
    {
        return Some((guess, value));
    }
    let found = position(map, name)?;
    hint.store(found.0, Ordering::Relaxed);
    Some(found)
}

/// A field and its position.
pub(super) fn position<'m>(map: &'m Map, name: &str) -> Option<(usize, &'m Value)> {
    map.iter().enumerate().find(|(_, (key, _))| &**key == name).map(|(at, (_, value))| (at, value))
}

fn element(items: &[Value], index: i64) -> Option<(usize, &Value)> {
    let at = match usize::try_from(index) {
        Ok(at) => at,
        Err(_) => items.len().checked_sub(usize::try_from(index.unsigned_abs()).ok()?)?,
    };
    items.get(at).map(|value| (at, value))
}

/// A literal that may stand in `default(…)`, and the words it takes.
pub(super) fn literal(tokens: &[Token<'_>]) -> Option<(Value, usize)> {
    let first = tokens.first()?;
    let signed = |text: &str| Number::parse(text).map(Value::Number);
    match &first.word {
        Word::Text(Some(text)) => Some((Value::text(text.as_str()), 1)),
        Word::Number => Some((signed(first.text)?, 1)),
        Word::Sign if first.text == "-" => {
            let number = tokens.get(1).filter(|token| token.word == Word::Number)?;
            Some((signed(&format!("-{}", number.text))?, 2))
        }
        Word::Sign if first.text == "[" && tokens.get(1)?.is_sign("]") => Some((Value::Array(Vec::new()), 2)),
        Word::Sign if first.text == "{" && tokens.get(1)?.is_sign("}") => {
            Some((Value::Object(Map::new()), 2))
        }
        Word::Name => match first.text {
            "true" | "True" => Some((Value::Bool(true), 1)),
            "false" | "False" => Some((Value::Bool(false), 1)),
            "none" | "None" | "null" => Some((Value::Null, 1)),
            "omit" => Some((Value::Absent, 1)),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::context::tests::context;
    use super::super::scan::{Until, words};
    use super::*;

    fn read(text: &str) -> Option<(Path, usize)> {
        Path::read(&words(text, 0, Until::End).unwrap().tokens)
    }

    #[test]
    fn a_path_is_read_as_far_as_it_is_plain() {
        for (text, shown, taken) in [
            ("record", "record", 1),
            ("record.a.b", "record.a.b", 5),
            ("record['Customer ID'].x", "record['Customer ID'].x", 6),
            ("record[\" id\"]", "record[' id']", 4),
            ("record['it\\'s']", "record['it\\'s']", 4),
            ("record.items[0]", "record.items[0]", 6),
            ("record.items[-1]", "record.items[-1]", 7),
            ("lookups.agents[record.mail].id", "lookups.agents[record.mail].id", 10),
            ("record.a | upper", "record.a", 3),
            ("record[1 + 1]", "record", 1),
        ] {
            let (path, took) = read(text).unwrap();
            assert_eq!((path.shown(usize::MAX).as_str(), took), (shown, taken), "{text}");
        }
        assert!(read("emial.x").is_none());
    }

    #[test]
    fn a_value_is_found_or_the_missing_step_is_told() {
        let context =
            context(r#"{"a":{"b":1.10},"items":["x","y"],"gone":null,"text":"t","x y":2,"key":"b","n":1}"#);
        for (text, expected) in [
            ("record.a.b", Ok("1.10")),
            ("record.items[1]", Ok("\"y\"")),
            ("record.items[-2]", Ok("\"x\"")),
            ("record.gone", Ok("null")),
            ("record['x y']", Ok("2")),
            ("record.a[record.key]", Ok("1.10")),
            ("record.items[record.n]", Ok("\"y\"")),
            ("record.items[2]", Err(1)),
            ("record.items[-3]", Err(1)),
            ("record.gone.b", Err(1)),
            ("record.text.b", Err(1)),
            ("record.emial", Err(0)),
            ("run.pipeline", Ok("\"sync\"")),
            ("run.nope", Err(0)),
            ("params.x", Err(0)),
        ] {
            let (path, _) = read(text).unwrap();
            for _ in 0..2 {
                let found = path.find(&context).map(|value| value.to_json()).map_err(|miss| miss.found);
                assert_eq!(found, expected.map(str::to_owned), "{text}");
            }
        }
    }

    #[test]
    fn the_hint_follows_records_of_another_shape() {
        let (path, _) = read("record.b").unwrap();
        for (record, expected) in
            [(r#"{"a":1,"b":2}"#, "2"), (r#"{"b":3}"#, "3"), (r#"{"x":0,"y":0,"b":4}"#, "4")]
        {
            assert_eq!(path.find(&context(record)).unwrap().to_json(), expected);
        }
    }
}
