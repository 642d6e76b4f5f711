//! Checks the names in an expression before any record is read, and gives each of its paths a slot.
//!
//! Every path is replaced in the engine's source by a short name of the same length, padded with
//! blanks: paths are then resolved by our own code, digits and all, and places in the engine's
//! errors still count bytes of what the user wrote.

mod lookup;
mod steps;

use std::collections::HashSet;
use std::ops::Range;

use super::context::{Known, Root, Scope};
use super::filters;
use super::path::{Path, field_step};
use super::scan::{Fault, Token, Word};
use crate::config::Template;
use crate::model::{Diagnostic, Place, Problems, nearest};

/// How the value of a path goes into the engine, told by what stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// A number must print as it is written.
    Exact,
    /// A number must be of the same value: it is calculated or compared with.
    Value,
    /// A number may be rounded: the expression says so.
    Nearest,
    /// The text that it has in text: it is joined to other text.
    Text,
    /// As it is, for `tojson`.
    Whole,
}

/// One path of an expression.
#[derive(Debug)]
pub(super) struct Slot {
    pub path: Path,
    pub mode: Mode,
    pub span: Range<usize>,
}

impl Slot {
    /// Whether it stands within these bytes of its leaf.
    pub fn is_within(&self, within: Option<&Range<usize>>) -> bool {
        within.is_none_or(|within| within.start <= self.span.start && self.span.end <= within.end)
    }
}

/// An expression or template, checked and rewritten.
#[derive(Debug)]
pub(super) struct Checked {
    pub source: String,
    pub slots: Vec<Slot>,
    /// Whether it calls `now` or `uuid`.
    pub calls: bool,
}

/// At most so many paths in one leaf: as many as short names of three letters.
const MAX_SLOTS: usize = 36 * 36;

/// Statements within statements.
const MAX_NESTING: usize = 50;

/// The short name of a slot.
pub(super) fn slot_name(index: usize) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let digit = |n: usize| DIGITS.get(n % 36).copied().map_or('0', char::from);
    if index < 36 { format!("_{}", digit(index)) } else { format!("_{}{}", digit(index / 36), digit(index)) }
}

/// The slot of a short name.
pub(super) fn slot_index(name: &str) -> Option<usize> {
    let digits = name.strip_prefix('_').filter(|digits| (1..=2).contains(&digits.len()))?;
    if digits.len() == 2 && digits.starts_with('0') {
        return None;
    }
    digits.chars().try_fold(0, |sum, c| {
        let digit = c.to_digit(36).filter(|_| !c.is_ascii_uppercase())?;
        Some(sum * 36 + usize::try_from(digit).ok()?)
    })
}

const KEYWORDS: [&str; 13] =
    ["and", "or", "not", "in", "is", "if", "else", "true", "false", "True", "False", "none", "None"];

/// The check of one leaf or template.
pub(super) struct Check<'a> {
    template: &'a Template,
    scope: &'a Scope,
    problems: &'a mut Problems,
    locals: HashSet<String>,
    /// Open statements, each with the branches that it has so far.
    open: Vec<usize>,
    out: Checked,
    failed: bool,
}

impl<'a> Check<'a> {
    pub fn new(template: &'a Template, scope: &'a Scope, problems: &'a mut Problems) -> Self {
        let out = Checked { source: template.value.clone(), slots: Vec::new(), calls: false };
        Self { template, scope, problems, locals: HashSet::new(), open: Vec::new(), out, failed: false }
    }

    /// What was checked, if nothing is wrong with it.
    pub fn finish(self) -> Option<Checked> {
        (!self.failed).then_some(self.out)
    }

    /// The place of some bytes of the leaf.
    pub fn place(&self, span: Range<usize>) -> Place {
        self.template.place.within(&self.template.value, span)
    }

    pub fn fault(&mut self, fault: Fault) {
        let place = self.place(fault.at);
        self.report(Diagnostic::error("template-syntax", fault.message).place(&place));
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        self.failed = true;
        self.problems.push(diagnostic);
    }

    /// Checks the words of a `{{ … }}` or of a bare expression.
    pub fn expression(&mut self, tokens: &[Token<'_>]) {
        self.names(tokens);
    }

    /// Checks the words of a `{% … %}`.
    pub fn statement(&mut self, tokens: &[Token<'_>]) {
        let Some((first, rest)) = tokens.split_first() else { return };
        self.nest(first, rest);
        match first.text {
            "include" | "import" | "from" | "extends" | "block" => {
                let place = self.place(first.span.clone());
                let message =
                    format!("`{{% {} %}}` is not available: a template cannot read files", first.text);
                self.report(
                    Diagnostic::error("template-file", message)
                        .place(&place)
                        .help("write the text where it is needed"),
                );
            }
            "autoescape" => {
                let place = self.place(first.span.clone());
                let message = "escaping follows the kind of the body and cannot be changed";
                self.report(Diagnostic::error("template-syntax", message).place(&place));
            }
            "raw" | "endraw" => {}
            "for" => {
                self.locals.insert("loop".into());
                let names = rest.iter().take_while(|token| !token.is_name("in")).count();
                self.declare(rest.get(..names).unwrap_or_default());
                let tail = rest.get(names + 1..).unwrap_or_default();
                let end =
                    tail.len() - usize::from(tail.last().is_some_and(|token| token.is_name("recursive")));
                self.names(tail.get(..end).unwrap_or_default());
            }
            "set" => {
                let names = rest.iter().take_while(|token| !token.is_sign("=")).count();
                self.declare(rest.get(..names).unwrap_or_default());
                self.names(rest.get(names..).unwrap_or_default());
            }
            "macro" | "call" => {
                self.locals.insert("caller".into());
                let close = rest.iter().position(|token| token.is_sign(")")).unwrap_or(rest.len());
                let (head, tail) = rest.split_at(close);
                let own = first.is_name("macro") || head.first().is_some_and(|token| token.is_sign("("));
                if own {
                    self.declare(head);
                    self.names(tail);
                } else {
                    self.names(rest);
                }
            }
            "with" => {
                let named: Vec<_> = rest
                    .windows(2)
                    .filter(|pair| pair.get(1).is_some_and(|sign| sign.is_sign("=")))
                    .filter_map(|pair| pair.first().cloned())
                    .collect();
                self.declare(&named);
                self.names(rest);
            }
            _ => self.names(rest),
        }
    }

    /// Follows how deep statements stand in each other, because the engine does so recursively.
    fn nest(&mut self, first: &Token<'_>, rest: &[Token<'_>]) {
        match first.text {
            "elif" => {
                if let Some(branches) = self.open.last_mut() {
                    *branches += 1;
                }
            }
            "if" | "for" | "with" | "macro" | "call" | "filter" => self.open.push(1),
            "set" if !rest.iter().any(|token| token.is_sign("=")) => self.open.push(1),
            end if end.starts_with("end") => drop(self.open.pop()),
            _ => {}
        }
        if !self.failed && self.open.iter().sum::<usize>() > MAX_NESTING {
            let place = self.place(first.span.clone());
            let message = format!("statements stand more than {MAX_NESTING} deep in each other");
            self.report(Diagnostic::error("render-limit", message).place(&place));
        }
    }

    /// Names that the template gives to values of its own.
    fn declare(&mut self, tokens: &[Token<'_>]) {
        for token in tokens.iter().filter(|token| token.word == Word::Name) {
            let taken = Root::from_name(token.text).is_some_and(|root| self.scope.get(root).is_some());
            if taken || slot_index(token.text).is_some() {
                let place = self.place(token.span.clone());
                let message = format!("`{}` already has a meaning and cannot be set", token.text);
                self.report(
                    Diagnostic::error("reserved-name", message).place(&place).help("take another name"),
                );
            }
            self.locals.insert(token.text.to_owned());
        }
    }

    fn names(&mut self, tokens: &[Token<'_>]) {
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let before = at.checked_sub(1).and_then(|before| tokens.get(before));
            let after = tokens.get(at + 1);
            at += 1;
            let follows = |sign: &str| before.is_some_and(|before| before.is_sign(sign));
            let called = after.is_some_and(|after| after.is_sign("("));
            if token.word != Word::Name || follows(".") {
                continue;
            }
            if follows("|") {
                self.known_word("unknown-filter", "filter", token, filters::FILTERS);
                continue;
            }
            if before.is_some_and(|before| before.is_name("is")) && token.text != "not"
                || before.is_some_and(|before| before.is_name("not"))
                    && at.checked_sub(3).and_then(|is| tokens.get(is)).is_some_and(|is| is.is_name("is"))
            {
                self.known_word("unknown-test", "test", token, filters::TESTS);
                continue;
            }
            let named = after.is_some_and(|after| after.is_sign("=")) && (follows("(") || follows(","));
            if named || KEYWORDS.contains(&token.text) || self.locals.contains(token.text) {
                continue;
            }
            if called {
                self.known_word("unknown-function", "function", token, filters::FUNCTIONS);
                self.out.calls |= matches!(token.text, "now" | "uuid");
                continue;
            }
            let rest = tokens.get(at - 1..).unwrap_or_default();
            match Path::read(rest) {
                Some((path, taken)) => {
                    self.path(path, tokens, at - 1, taken);
                    at += taken - 1;
                }
                None if matches!(token.text, "omit" | "null") => {}
                None => self.unknown_name(token),
            }
        }
    }

    fn known_word(&mut self, rule: &'static str, kind: &str, token: &Token<'_>, known: &[&str]) {
        if known.contains(&token.text) || self.locals.contains(token.text) {
            return;
        }
        let place = self.place(token.span.clone());
        let mut found = Diagnostic::error(rule, format!("there is no {kind} `{}`", token.text)).place(&place);
        found.help = crate::model::did_you_mean(token.text, known.iter().copied());
        self.report(found);
    }

    fn unknown_name(&mut self, token: &Token<'_>) {
        let place = self.place(token.span.clone());
        let mut found =
            Diagnostic::error("unknown-name", format!("there is no name `{}`", token.text)).place(&place);
        let field = self.scope.get(Root::Record).and_then(|known| match known {
            Known::Any | Known::Steps(_) | Known::Tables(_) => None,
            Known::Fields(fields) | Known::Text(fields) => {
                nearest(token.text, fields.iter().map(String::as_str))
            }
        });
        found.help = match (token.text, field, nearest(token.text, self.scope.names())) {
            ("env", ..) => {
                Some("expressions cannot read the environment; use a variable: `vars.name`".into())
            }
            // `rec` is the beginning of `record` rather than a slip of the pen for a field.
            (text, _, Some(name)) if name.starts_with(text) => Some(format!("did you mean `{name}`?")),
            (_, Some(field), _) => Some(format!("did you mean `record{}`?", field_step(field))),
            (_, None, Some(name)) => Some(format!("did you mean `{name}`?")),
            _ => None,
        };
        let names: Vec<_> = self.scope.names().map(|name| format!("`{name}`")).collect();
        self.report(found.note(format!("names that can be used here: {}", names.join(", "))));
    }

    /// Checks a path and gives it a slot.
    fn path(&mut self, path: Path, tokens: &[Token<'_>], at: usize, taken: usize) {
        let all = tokens.get(at..at + taken).unwrap_or_default();
        let (Some(first), Some(last)) = (all.first(), all.last()) else { return };
        let span = first.span.start..last.span.end;
        let after = |n: usize| tokens.get(at + taken + n);
        let before = |n: usize| at.checked_sub(n).and_then(|at| tokens.get(at));
        let filter =
            after(0).filter(|pipe| pipe.is_sign("|")).and_then(|_| after(1)).map_or("", |filter| filter.text);
        let tested = after(0).is_some_and(|is| is.is_name("is"))
            && [after(1), after(2)]
                .iter()
                .flatten()
                .any(|test| ["defined", "undefined"].contains(&test.text));
        let optional = ["default", "d"].contains(&filter) || tested;
        if after(0).is_some_and(|open| open.is_sign("(")) {
            let method = last.text;
            let place = self.place(last.span.clone());
            let message = format!("values have no methods: `{method}()` cannot be called");
            let mut found = Diagnostic::error("unknown-function", message).place(&place);
            let near = nearest(method, filters::FILTERS.iter().copied());
            found.help = near.map(|near| {
                format!(
                    "filters do such things: `{} | {near}`",
                    path.shown(path.steps.len().saturating_sub(1))
                )
            });
            return self.report(found);
        }
        let compared = |token: Option<&Token<'_>>| {
            token.is_some_and(|token| {
                token.word == Word::Sign && ["<", ">", "<=", ">=", "==", "!="].contains(&token.text)
            })
        };
        let number = |token: Option<&Token<'_>>| token.is_some_and(|token| token.word == Word::Number);
        let beside_number = compared(after(0))
            && (number(after(1)) || after(1).is_some_and(|minus| minus.is_sign("-")) && number(after(2)))
            || compared(before(1)) && number(before(2));
        if beside_number
            && !path.steps.is_empty()
            && let Some(Known::Text(_)) = self.scope.get(path.root)
        {
            let shown = path.shown(usize::MAX);
            let place = self.place(span.clone());
            self.report(
                Diagnostic::error(
                    "text-and-number",
                    format!("`{shown}` is text and is compared to a number"),
                )
                .place(&place)
                .note("text and numbers are never equal, and one is always the greater")
                .help(format!(
                    "write `{shown} | int` or `{shown} | float`, or give the pipeline a `schema:`"
                )),
            );
        }
        if path.root == Root::Lookups && !self.known_lookup(&path, tokens, at, taken) {
            return;
        }
        let mut outer = true;
        path.each(&mut |path| {
            self.known_path(path, &span, optional && outer);
            outer = false;
        });
        let arithmetic = |token: Option<&Token<'_>>| {
            token.is_some_and(|t| {
                t.word == Word::Sign && ["+", "-", "*", "/", "//", "%", "**"].contains(&t.text)
            })
        };
        let joined = |token: Option<&Token<'_>>| token.is_some_and(|token| token.is_sign("~"));
        let mode = match filter {
            "tojson" => Mode::Whole,
            "string" => Mode::Text,
            "float" | "int" | "round" => Mode::Nearest,
            "abs" => Mode::Value,
            "" if arithmetic(after(0)) || arithmetic(before(1)) => Mode::Value,
            "" if joined(after(0)) || joined(before(1)) => Mode::Text,
            "" if compared(after(0)) || compared(before(1)) => Mode::Value,
            _ => Mode::Exact,
        };
        let index = self.out.slots.len();
        if index >= MAX_SLOTS {
            let place = self.place(span);
            let message = format!("more than {MAX_SLOTS} fields in one template");
            return self.report(Diagnostic::error("render-limit", message).place(&place));
        }
        let padded = format!("{:width$}", slot_name(index), width = span.len());
        self.out.source.replace_range(span.clone(), &padded);
        self.out.slots.push(Slot { path, mode, span });
    }

    fn known_path(&mut self, path: &Path, span: &Range<usize>, optional: bool) {
        let Some(known) = self.scope.get(path.root) else {
            let place = self.place(span.clone());
            let names: Vec<_> = self.scope.names().map(|name| format!("`{name}`")).collect();
            self.report(
                Diagnostic::error("unknown-name", format!("`{}` cannot be used here", path.root.name()))
                    .place(&place)
                    .note(format!("names that can be used here: {}", names.join(", "))),
            );
            return;
        };
        let fields = match known {
            // Of tables more is known (`lookup`).
            Known::Any | Known::Tables(_) => return,
            Known::Steps(known_steps) => {
                if let Some(found) = steps::unknown(path, known_steps) {
                    let place = self.place(span.clone());
                    self.report(found.place(&place));
                }
                return;
            }
            Known::Fields(fields) | Known::Text(fields) => fields,
        };
        let Some(name) =
            path.first_name().filter(|name| !optional && !fields.iter().any(|field| field == name))
        else {
            return;
        };
        let place = self.place(span.clone());
        self.report(unknown_field(path.root, name, fields).place(&place));
    }
}

/// A field that no record has: the nearest name, or why there is only one.
fn unknown_field(root: Root, name: &str, fields: &[String]) -> Diagnostic {
    let shown = root.name();
    let found = Diagnostic::error("unknown-field", format!("`{shown}` has no field `{name}`"));
    if let [only] = fields
        && root == Root::Record
        && let Some(mark) = [';', '\t', '|'].into_iter().find(|mark| only.contains(*mark))
    {
        let written = if mark == '\t' { "\\t".to_owned() } else { mark.to_string() };
        return found
            .note(format!("the only column seen is `{}`", only.escape_debug()))
            .help(format!("say it: `source: {{ csv: {{ delimiter: \"{written}\" }} }}`"));
    }
    let default = "`| default(omit)` leaves the key out where it is missing";
    if let Some(near) = nearest(name, fields.iter().map(String::as_str)) {
        return found.help(format!("did you mean `{shown}{}`? {default}", field_step(near)));
    }
    let some: Vec<_> = fields.iter().take(12).map(|field| format!("`{field}`")).collect();
    let more = if fields.len() > some.len() { ", …" } else { "" };
    let listed = if some.is_empty() { "it has none".to_owned() } else { some.join(", ") };
    found.note(format!("fields of `{shown}`: {listed}{more}")).help(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_names_and_indexes_agree_and_are_short() {
        for index in 0..MAX_SLOTS {
            let name = slot_name(index);
            assert!(name.len() <= 3, "{name}");
            assert_eq!(slot_index(&name), Some(index), "{name}");
        }
        for other in ["_", "_abc", "a", "__", "_A", "_00"] {
            assert_eq!(slot_index(other), None, "{other}");
        }
    }
}
