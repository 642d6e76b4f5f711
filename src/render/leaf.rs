//! One leaf: a constant, a plain path, a typed expression, or text with parts.
//!
//! Invariant: a leaf is cut and compiled once; what a record brings is data and never read as a
//! template again.

use super::context::{Context, Scope};
use super::convert::MAX_TEXT;
use super::engine::{Text, limit, write_text};
use super::error::RenderError;
use super::expr::Check;
use super::part::{Part, What, holds, part};
use super::path::{Path, Step};
use super::scan::{self, Stretch, Until};
use crate::config::{Escape, Template};
use crate::model::{Place, Problems, Value};

/// One leaf of a template.
#[derive(Debug)]
pub struct Leaf {
    template: Template,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// The same for every record.
    Constant(Value),
    /// Exactly one expression: keeps its type.
    Single(Part),
    /// Text between and around expressions.
    Joined(Vec<Piece>),
    /// Text with statements.
    Text(Text),
}

/// A stretch of a joined leaf.
#[derive(Debug)]
pub(super) enum Piece {
    Raw(Box<str>),
    Part(Part),
}

/// Whether statements may stand in the leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statements {
    Allowed,
    Refused,
}

impl Leaf {
    /// Compiles a leaf; what is wrong with it is added to `problems`.
    pub fn compile(template: &Template, scope: &Scope, problems: &mut Problems) -> Option<Self> {
        Self::compile_with(template, scope, Statements::Allowed, problems)
    }

    pub(super) fn compile_with(
        template: &Template,
        scope: &Scope,
        statements: Statements,
        problems: &mut Problems,
    ) -> Option<Self> {
        let kind = match scan::stretches(&template.value) {
            Err(fault) => {
                Check::new(template, scope, problems).fault(fault);
                return None;
            }
            Ok(all) if all.iter().any(|stretch| matches!(stretch, Stretch::Statement(_))) => {
                if statements == Statements::Refused {
                    problems.at(
                        "template-syntax",
                        &template.place,
                        "statements cannot stand here, only `{{ … }}`",
                    );
                    return None;
                }
                Kind::Text(compile_text(&all, template, Escape::None, scope, problems)?)
            }
            Ok(all) => pieces(&all, template, scope, problems)?,
        };
        Self { template: template.clone(), kind }.settled(problems)
    }

    /// Compiles an expression that stands without `{{ }}`, such as that of `--where`.
    pub fn bare(template: &Template, scope: &Scope, problems: &mut Problems) -> Option<Self> {
        let words = match scan::words(&template.value, 0, Until::End) {
            Ok(words) => words,
            Err(fault) => {
                Check::new(template, scope, problems).fault(fault);
                return None;
            }
        };
        let part = part(&words, template, scope, problems)?;
        Self { template: template.clone(), kind: Kind::Single(part) }.settled(problems)
    }

    /// A template whose text is rendered whole, with statements and escaping: a body file.
    pub(super) fn file(
        template: &Template,
        escape: Escape,
        scope: &Scope,
        problems: &mut Problems,
    ) -> Option<Self> {
        match scan::stretches(&template.value) {
            Err(fault) => {
                Check::new(template, scope, problems).fault(fault);
                None
            }
            Ok(all) => {
                let text = compile_text(&all, template, escape, scope, problems)?;
                Some(Self { template: template.clone(), kind: Kind::Text(text) })
            }
        }
    }

    /// What does not depend on records is calculated now, so that its mistakes are found now.
    fn settled(mut self, problems: &mut Problems) -> Option<Self> {
        let mut constant = None;
        for piece in self.pieces() {
            let PieceRef::Part(part) = piece else { continue };
            if matches!(&part.what, What::Engine(compiled) if compiled.is_constant()) {
                match part.value(&no_context(), &self.template) {
                    Ok(value) => constant = Some(value),
                    Err(error) => {
                        problems.push(error.into());
                        return None;
                    }
                }
            }
        }
        if let (Some(value), Kind::Single(_)) = (constant, &self.kind) {
            self.kind = Kind::Constant(value);
        }
        Some(self)
    }

    /// Where it was written.
    #[must_use]
    pub const fn place(&self) -> &Place {
        &self.template.place
    }

    pub(super) const fn template(&self) -> &Template {
        &self.template
    }

    /// The pieces of the leaf, for positions that treat each value apart.
    pub(super) fn pieces(&self) -> Vec<PieceRef<'_>> {
        match &self.kind {
            Kind::Constant(value) => vec![PieceRef::Constant(value)],
            Kind::Single(part) => vec![PieceRef::Part(part)],
            Kind::Joined(pieces) => pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Raw(text) => PieceRef::Raw(text),
                    Piece::Part(part) => PieceRef::Part(part),
                })
                .collect(),
            Kind::Text(_) => Vec::new(),
        }
    }

    /// Whether the leaf is exactly one path into the data, which keeps digits and never depends on
    /// the types of cells.
    #[must_use]
    pub const fn is_plain_path(&self) -> bool {
        matches!(&self.kind, Kind::Single(Part { what: What::Path { .. }, .. }))
    }

    /// Whether the leaf is exactly this path.
    pub(super) fn is_path(&self, root: super::context::Root) -> bool {
        matches!(
            &self.kind,
            Kind::Single(Part { what: What::Path { path, default: None }, .. })
                if path.root == root && path.steps.is_empty()
        )
    }

    /// Whether the leaf is exactly this field of a root.
    pub(super) fn is_field(&self, root: super::context::Root, field: &str) -> bool {
        matches!(
            &self.kind,
            Kind::Single(Part { what: What::Path { path, default: None }, .. })
                if path.root == root && matches!(&path.steps[..], [Step::Name(name, _)] if **name == *field)
        )
    }

    /// Takes what the leaf reads out of the value of a root, where it is exactly a path of names below it; what
    /// is left has nothing there.
    #[must_use]
    pub fn take(&self, root: super::context::Root, value: &mut Value) -> Option<Value> {
        let Kind::Single(Part { what: What::Path { path, default: None }, .. }) = &self.kind else {
            return None;
        };
        let mut value = (path.root == root).then_some(value)?;
        for step in &path.steps {
            value = match (step, value) {
                (Step::Name(name, _), Value::Object(map)) => map.get_mut(name)?,
                _ => return None,
            };
        }
        Some(std::mem::take(value))
    }

    /// The value, with its type when the leaf is exactly one expression. `omit` is absent.
    pub fn value(&self, context: &Context) -> Result<Value, RenderError> {
        match &self.kind {
            Kind::Constant(value) => Ok(value.clone()),
            Kind::Single(part) => part.value(context, &self.template),
            Kind::Joined(_) | Kind::Text(_) => {
                let mut out = String::new();
                self.text(context, &mut out)?;
                Ok(Value::text(out))
            }
        }
    }

    /// Writes the leaf as text.
    pub fn text(&self, context: &Context, out: &mut String) -> Result<(), RenderError> {
        let start = out.len();
        match &self.kind {
            Kind::Constant(value) => {
                let place = &self.template.place;
                write_text(value, out).map_err(|said| RenderError::new(said.rule, place, said.message))?;
            }
            Kind::Single(part) => part.text(context, &self.template, out)?,
            Kind::Joined(pieces) => {
                for piece in pieces {
                    match piece {
                        Piece::Raw(text) => out.push_str(text),
                        Piece::Part(part) => part.text(context, &self.template, out)?,
                    }
                    if out.len() - start > MAX_TEXT {
                        return Err(limit(&self.template.place));
                    }
                }
            }
            Kind::Text(text) => text.render(context, &self.template, out)?,
        }
        Ok(())
    }

    /// Whether it holds. Null and absent do not, a number does unless it is 0, a list or object
    /// unless it is empty; text is an error, because `false` as text would hold as well.
    pub fn truth(&self, context: &Context) -> Result<bool, RenderError> {
        match self.value(context)? {
            Value::String(_) => Err(RenderError::new(
                "not-a-condition",
                &self.template.place,
                "the condition gives text, not true or false",
            )
            .help("compare it: `record.active == 'true'`")),
            value => Ok(holds(&value)),
        }
    }

    /// The value for expressions over a far side's reply: null where a field is missing or anything
    /// else goes wrong (ruling 3).
    #[must_use]
    pub fn lenient_value(&self, context: &Context) -> Value {
        match &self.kind {
            Kind::Joined(_) | Kind::Text(_) => Value::text(self.lenient_text(context)),
            Kind::Single(part) => part.lenient(context),
            Kind::Constant(value) => value.clone(),
        }
    }

    /// Whether it holds; false where a field is missing or anything else goes wrong.
    #[must_use]
    pub fn lenient_truth(&self, context: &Context) -> bool {
        if let Kind::Single(Part { sides, .. }) = &self.kind
            && !sides.is_empty()
        {
            let side = |side: &Part| holds(&side.lenient(context));
            return sides.iter().any(side);
        }
        holds(&self.lenient_value(context))
    }

    /// The text; what is missing or null is empty, lists and objects are JSON.
    #[must_use]
    pub fn lenient_text(&self, context: &Context) -> String {
        let mut out = String::new();
        let mut add = |value: &Value| match value {
            Value::Absent | Value::Null => {}
            value @ (Value::Array(_) | Value::Object(_)) => out.push_str(&value.to_json()),
            value => drop(write_text(value, &mut out)),
        };
        match &self.kind {
            Kind::Constant(value) => add(value),
            Kind::Single(part) => add(&part.lenient(context)),
            Kind::Joined(pieces) => {
                for piece in pieces {
                    match piece {
                        Piece::Raw(text) => add(&Value::text(&**text)),
                        Piece::Part(part) => add(&part.lenient(context)),
                    }
                }
            }
            Kind::Text(text) => {
                let mut whole = String::new();
                if text.render(context, &self.template, &mut whole).is_ok() {
                    add(&Value::text(whole));
                }
            }
        }
        out
    }

    /// Every path it reads, such as `response.body`.
    pub fn reads(&self) -> impl Iterator<Item = String> {
        let mut found = Vec::new();
        let mut see = |path: &Path| path.each(&mut |path| found.push(path.shown(usize::MAX)));
        if let Kind::Text(text) = &self.kind {
            text.slots().iter().for_each(|slot| see(&slot.path));
        }
        for piece in self.pieces() {
            match piece {
                PieceRef::Part(Part { what: What::Engine(compiled), .. }) => {
                    compiled.slots().iter().for_each(|slot| see(&slot.path));
                }
                PieceRef::Part(Part { what: What::Path { path, .. }, .. }) => see(path),
                PieceRef::Raw(_) | PieceRef::Constant(_) => {}
            }
        }
        found.into_iter()
    }
}

/// A piece as other positions see it.
pub(super) enum PieceRef<'l> {
    Raw(&'l str),
    Constant(&'l Value),
    Part(&'l Part),
}

fn pieces(all: &[Stretch<'_>], template: &Template, scope: &Scope, problems: &mut Problems) -> Option<Kind> {
    let mut found = Vec::with_capacity(all.len());
    let mut failed = false;
    for stretch in all {
        match stretch {
            Stretch::Raw(text) => found.push(Piece::Raw((*text).into())),
            Stretch::Expression(words) => match part(words, template, scope, problems) {
                Some(part) => found.push(Piece::Part(part)),
                None => failed = true,
            },
            Stretch::Statement(_) => {}
        }
    }
    if failed {
        return None;
    }
    if found.is_empty() || matches!(found.as_slice(), [Piece::Raw(_)]) {
        let text = match found.pop() {
            Some(Piece::Raw(text)) => text,
            _ => Box::default(),
        };
        return Some(Kind::Constant(Value::text(&*text)));
    }
    if found.len() == 1
        && let Some(Piece::Part(part)) = found.pop_if(|piece| matches!(piece, Piece::Part(_)))
    {
        return Some(Kind::Single(part));
    }
    Some(Kind::Joined(found))
}

fn compile_text(
    all: &[Stretch<'_>],
    template: &Template,
    escape: Escape,
    scope: &Scope,
    problems: &mut Problems,
) -> Option<Text> {
    let mut check = Check::new(template, scope, problems);
    for stretch in all {
        match stretch {
            Stretch::Raw(_) => {}
            Stretch::Expression(words) => check.expression(&words.tokens),
            Stretch::Statement(words) => check.statement(&words.tokens),
        }
    }
    Text::new(check.finish()?, escape, template, problems)
}

/// A context for what depends on nothing.
fn no_context() -> Context {
    Context::new(super::context::RunValues::of_nobody())
}
