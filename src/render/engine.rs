//! The template engine: one environment for all expressions, one for each text template.
//!
//! Apart from the leaves so that nothing else names the engine. Invariant: there is no loader and no
//! name beside slots, our functions and `omit`; fuel and size bound every evaluation, never a clock
//! (ruling 10).

use std::io;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use minijinja::value::{Object, Value as EngineValue};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Expression, Output, State, UndefinedBehavior};

use super::context::{Context, RunState};
use super::convert::{MAX_TEXT, Node, Said, from_engine, not_text, omit, to_engine, too_large};
use super::direct::Direct;
use super::error::RenderError;
use super::expr::{Checked, Slot, slot_index};
use super::filters;
use super::scan::Words;
use super::tables::Rows;
use crate::config::{Escape, Template};
use crate::model::{Diagnostic, Place, Problems, Value};

/// Steps of one evaluation (guarantees, section 8).
const FUEL: u64 = 1_000_000;

static BASE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut env = Environment::new();
    env.set_debug(false);
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_fuel(Some(FUEL));
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_formatter(write);
    let syntax = minijinja::syntax::SyntaxConfig::builder().keep_trailing_newline(true).build();
    env.set_syntax(syntax.unwrap_or_default());
    filters::install(&mut env);
    env
});

/// The environment of all expressions.
pub(super) fn base() -> &'static Environment<'static> {
    &BASE
}

/// How the engine writes a value into text, by the escaping of the position.
fn write(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &EngineValue) -> Result<(), Error> {
    let escape = state.auto_escape().clone();
    if value.is_safe() && !matches!(escape, AutoEscape::None) {
        return Ok(out.write_str(value.as_str().unwrap_or_default())?);
    }
    let value = if value.is_undefined() { Value::Null } else { from_engine(value)? };
    if matches!(escape, AutoEscape::Json) {
        if matches!(value, Value::Absent) {
            return Err(Said::new("not-text", "`omit` cannot leave anything out of a text").into());
        }
        return Ok(out.write_str(&value.to_json())?);
    }
    let mut text = String::new();
    write_text(&value, &mut text)?;
    if matches!(escape, AutoEscape::Html) {
        text = xml(&text)?;
    }
    Ok(out.write_str(&text)?)
}

/// A value as text: what it is, `true`, `false`, or its digits.
pub(super) fn write_text(value: &Value, out: &mut String) -> Result<(), Said> {
    match value {
        Value::String(text) => out.push_str(text),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => out.push_str(number.as_str()),
        value => return Err(not_text(value)),
    }
    Ok(())
}

pub(super) fn xml(text: &str) -> Result<String, Said> {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\r' => out.push_str("&#13;"),
            '\t' | '\n' => out.push(c),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {
                let message = format!("U+{:04X} cannot stand in XML", u32::from(c));
                return Err(Said::new("xml-character", message));
            }
            _ => out.push(c),
        }
    }
    Ok(out)
}

/// What the engine sees: slots by their short names, `omit`, `null`, and the run for our functions.
struct Names {
    slots: Vec<Option<EngineValue>>,
    run: Arc<RunState>,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("names")
    }
}

const RUN: &str = "__run";

impl Object for Names {
    fn get_value(self: &Arc<Self>, key: &EngineValue) -> Option<EngineValue> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<EngineValue> {
        match key {
            "omit" => Some(omit()),
            "null" => Some(EngineValue::from(())),
            RUN => Some(EngineValue::from_dyn_object(Arc::clone(self))),
            _ => self.slots.get(slot_index(key)?)?.clone(),
        }
    }
}

/// Gives the run to a function of ours.
pub(super) fn with_run<T>(state: &State<'_, '_>, use_it: impl FnOnce(&RunState) -> T) -> Result<T, Error> {
    let names = state.lookup(RUN).and_then(|names| names.downcast_object::<Names>());
    let names = names.ok_or_else(|| Said::new("filter", "the run is not known here"))?;
    Ok(use_it(&names.run))
}

fn names(slots: &[Slot], context: &Context) -> EngineValue {
    let slots = slots.iter().map(|slot| slot_value(slot, context)).collect();
    EngineValue::from_object(Names { slots, run: Arc::clone(context.run_state()) })
}

fn slot_value(slot: &Slot, context: &Context) -> Option<EngineValue> {
    if let Some(name) = slot.path.whole_table() {
        return Some(EngineValue::from_object(Rows(Arc::clone(context.table(name)?))));
    }
    let value = slot.path.find(context).ok()?;
    if let Some(value) = to_engine(&value, slot.mode) {
        return Some(value);
    }
    let node = match context.get(slot.path.root) {
        Some(root) => {
            let mut at = Vec::with_capacity(slot.path.steps.len());
            slot.path.walk(context, slot.path.steps.len(), |step| at.push(step)).ok()?;
            Node::new(Arc::clone(root), at)
        }
        None => Node::new(Arc::new(value.into_owned()), Vec::new()),
    };
    Some(EngineValue::from_object(node))
}

/// A compiled expression.
#[derive(Debug)]
pub(super) struct Compiled {
    expression: Expression<'static, 'static>,
    /// The same without the engine, where it is one of the usual.
    direct: Option<Box<Direct>>,
    slots: Vec<Slot>,
    /// Where the expression begins in its leaf.
    offset: usize,
    calls: bool,
}

impl Compiled {
    /// Compiles the part of a checked leaf between `inner`'s ends.
    pub fn new(
        checked: Checked,
        words: &Words<'_>,
        template: &Template,
        problems: &mut Problems,
    ) -> Option<Self> {
        let inner = &words.inner;
        let source = checked.source.get(inner.clone()).unwrap_or_default().to_owned();
        match base().compile_expression_owned(source) {
            Ok(expression) => {
                let Checked { slots, calls, .. } = checked;
                let direct = Direct::read(&words.tokens).map(Box::new);
                Some(Self { expression, direct, slots, offset: inner.start, calls })
            }
            Err(error) => {
                problems.push(syntax_error(&error, template, inner.start, inner));
                None
            }
        }
    }

    /// Whether the result is the same for every record.
    pub const fn is_constant(&self) -> bool {
        self.slots.is_empty() && !self.calls
    }

    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub fn value(&self, context: &Context, template: &Template) -> Result<Value, RenderError> {
        match self.direct(context) {
            Some(value) => Ok(value),
            None => self.by_engine(context, template),
        }
    }

    /// The value; null where anything goes wrong.
    pub fn lenient(&self, context: &Context) -> Value {
        self.direct(context).unwrap_or_else(|| {
            let found = self.expression.eval(names(&self.slots, context)).ok();
            found.and_then(|found| from_engine(&found).ok()).unwrap_or(Value::Null)
        })
    }

    /// The value without the engine, where that is known.
    pub(super) fn direct(&self, context: &Context) -> Option<Value> {
        self.direct.as_ref()?.value(context)
    }

    /// The value as the engine finds it.
    pub(super) fn by_engine(&self, context: &Context, template: &Template) -> Result<Value, RenderError> {
        let error = |error: &Error| explain(error, &self.slots, context, template, self.offset);
        let found = self.expression.eval(names(&self.slots, context)).map_err(|e| error(&e))?;
        if found.is_undefined()
            && let Some(missing) = first_missing(&self.slots, None, context, template)
                .or_else(|| no_row(&self.slots, None, template))
        {
            return Err(missing);
        }
        from_engine(&found).map_err(|e| error(&e))
    }
}

/// A compiled text template.
#[derive(Debug)]
pub(super) struct Text {
    env: Environment<'static>,
    slots: Vec<Slot>,
}

const TEXT: &str = "text";

impl Text {
    /// Compiles a checked template with the escaping of its position.
    pub fn new(
        checked: Checked,
        escape: Escape,
        template: &Template,
        problems: &mut Problems,
    ) -> Option<Self> {
        let mut env = base().clone();
        env.set_auto_escape_callback(move |_| match escape {
            Escape::None => AutoEscape::None,
            Escape::Json => AutoEscape::Json,
            Escape::Xml => AutoEscape::Html,
        });
        if let Err(error) = env.add_template_owned(TEXT, checked.source) {
            problems.push(syntax_error(&error, template, 0, &(0..template.value.len())));
            return None;
        }
        Some(Self { env, slots: checked.slots })
    }

    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub fn render(
        &self,
        context: &Context,
        template: &Template,
        out: &mut String,
    ) -> Result<(), RenderError> {
        let error = |error: &Error| explain(error, &self.slots, context, template, 0);
        let compiled = self.env.get_template(TEXT).map_err(|e| error(&e))?;
        let mut sink = Sink { bytes: Vec::new(), full: false };
        let done = compiled.render_captured_to(names(&self.slots, context), &mut sink).map(drop);
        if sink.full {
            return Err(limit(&template.place));
        }
        done.map_err(|e| error(&e))?;
        // The engine writes whole UTF-8 strings.
        out.push_str(&String::from_utf8(sink.bytes).unwrap_or_default());
        Ok(())
    }
}

/// Output that ends at the limit.
struct Sink {
    bytes: Vec<u8>,
    full: bool,
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_TEXT {
            self.full = true;
            return Err(io::Error::other("full"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The error of a rendering that takes too many steps or grows too large.
pub(super) fn limit(place: &Place) -> RenderError {
    RenderError::new("render-limit", place, too_large().message)
        .note("limits of one rendering: 1,000,000 steps, 8 MiB")
        .help("write less in one leaf, or loop over less")
}

fn syntax_error(error: &Error, template: &Template, offset: usize, whole: &Range<usize>) -> Diagnostic {
    let span = error.range().map_or_else(|| whole.clone(), |range| range.start + offset..range.end + offset);
    let place = template.place.within(&template.value, span);
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    Diagnostic::error("template-syntax", format!("the expression cannot be read: {detail}")).place(&place)
}

fn first_missing(
    slots: &[Slot],
    within: Option<&Range<usize>>,
    context: &Context,
    template: &Template,
) -> Option<RenderError> {
    slots.iter().filter(|slot| slot.is_within(within) && slot.path.whole_table().is_none()).find_map(|slot| {
        let miss = slot.path.find(context).err()?;
        let place = template.place.within(&template.value, slot.span.clone());
        Some(RenderError::missing(&slot.path, miss, context, &place))
    })
}

/// The lookup table that was asked for a row that it does not have, where the key was calculated.
fn no_row(slots: &[Slot], within: Option<&Range<usize>>, template: &Template) -> Option<RenderError> {
    let mut tables = slots.iter().filter(|slot| slot.is_within(within));
    let (slot, table) = tables.find_map(|slot| Some((slot, slot.path.whole_table()?)))?;
    let place = template.place.within(&template.value, slot.span.clone());
    Some(RenderError::no_row(table, "the key that is calculated here", &place))
}

/// An error of the engine in our words: without values of the record.
fn explain(
    error: &Error,
    slots: &[Slot],
    context: &Context,
    template: &Template,
    offset: usize,
) -> RenderError {
    let range = error.range().map(|range| {
        let end = range.end + offset;
        // The engine saw a short name where the path stands.
        let slot = slots.iter().find(|slot| slot.span.start < end && end <= slot.span.end);
        range.start + offset..slot.map_or(end, |slot| slot.span.end)
    });
    let place = range
        .clone()
        .map_or_else(|| template.place.clone(), |range| template.place.within(&template.value, range));
    if let Some(said) = Said::of(error) {
        return match said.rule {
            "render-limit" => limit(&place),
            rule => match said.message.split_once("; ") {
                Some((message, help)) => RenderError::new(rule, &place, message).help(help),
                None => RenderError::new(rule, &place, said.message.clone()),
            },
        };
    }
    let written = range
        .clone()
        .and_then(|range| template.value.get(range))
        .map_or_else(|| "the expression".to_owned(), |text| format!("`{}`", text.trim()));
    match error.kind() {
        ErrorKind::OutOfFuel | ErrorKind::WriteFailure => limit(&place),
        ErrorKind::UndefinedError => first_missing(slots, range.as_ref(), context, template)
            .or_else(|| first_missing(slots, None, context, template))
            .or_else(|| no_row(slots, range.as_ref(), template))
            .or_else(|| no_row(slots, None, template))
            .unwrap_or_else(|| RenderError::new("missing-field", &place, format!("{written} is not there"))),
        _ => {
            let detail = error.detail().unwrap_or_default();
            // Other details may hold values of the record.
            let safe = ["tried to use", "range has too many", "value of type", "object is not callable"];
            let why = if safe.iter().any(|start| detail.starts_with(start)) {
                format!(": {detail}")
            } else {
                " from the values of this record".to_owned()
            };
            if detail.starts_with("range has too many") {
                return limit(&place);
            }
            RenderError::new("expression", &place, format!("{written} cannot be calculated{why}"))
        }
    }
}
