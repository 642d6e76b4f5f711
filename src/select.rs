//! Which records, and in which shape: rename, typing, `where`.
//!
//! Separate from `source`, which knows files, and from `schema`, which judges what comes out
//! here. The order is fixed (rename → typing → where → schema → key → duplicates → limit), so
//! that a pipeline reads the same whoever wrote it.

use crate::config::{RecordLimits, Select};
use crate::model::{Diagnostic, Map, Problems, Str, Value, did_you_mean};
use crate::render::{Context, Leaf, RenderError, Root, Scope};
use crate::schema::Typing;
use crate::source::parse_json;

/// The compiled `select:` of a pipeline.
#[derive(Debug)]
pub struct Selection {
    rename: Vec<(Str, Str)>,
    typing: Option<Typing>,
    filter: Option<Leaf>,
    limits: RecordLimits,
}

impl Selection {
    /// Compiles `select:`. `columns` are those of the source when it names them, `typing` is the
    /// schema's when the source is text.
    pub fn compile(
        select: &Select,
        columns: Option<&[String]>,
        typing: Option<Typing>,
        limits: RecordLimits,
        scope: &Scope,
        problems: &mut Problems,
    ) -> Option<Self> {
        let errors = problems.errors();
        if let Some(columns) = columns {
            let names = Self::renamed(select, columns);
            for unknown in select.exclude.iter().filter(|name| !names.contains(&name.value)) {
                let mut diagnostic = Diagnostic::warning(
                    "unknown-field",
                    format!("`select.exclude` names `{}`, which records do not have", unknown.value),
                )
                .place(&unknown.place);
                diagnostic.help = did_you_mean(&unknown.value, names.iter().map(String::as_str));
                problems.push(diagnostic);
            }
            for (from, to) in &select.rename {
                if !columns.contains(&from.value) {
                    let mut diagnostic = Diagnostic::error(
                        "missing-field",
                        format!("`select.rename` names `{}`, which the source does not have", from.value),
                    )
                    .place(&from.place);
                    diagnostic.help = did_you_mean(&from.value, columns.iter().map(String::as_str));
                    problems.push(diagnostic);
                }
                let taken =
                    columns.contains(to) && !select.rename.iter().any(|(other, _)| other.value == *to);
                if taken {
                    problems.at(
                        "name-taken",
                        &from.place,
                        format!("`select.rename` gives the name `{to}`, which another column has"),
                    );
                }
            }
        }
        let filter = match &select.filter {
            Some(template) => Some(Leaf::compile(template, scope, problems)?),
            None => None,
        };
        let rename =
            select.rename.iter().map(|(from, to)| (from.value.as_str().into(), to.as_str().into())).collect();
        (problems.errors() == errors).then_some(Self { rename, typing, filter, limits })
    }

    /// The names that records have after renaming.
    #[must_use]
    pub fn renamed(select: &Select, columns: &[String]) -> Vec<String> {
        let new_name =
            |column: &String| select.rename.iter().find(|(from, _)| from.value == *column).map(|(_, to)| to);
        columns.iter().map(|column| new_name(column).unwrap_or(column).clone()).collect()
    }

    /// Renames the fields.
    pub fn rename(&self, fields: &mut Map) {
        for (name, _) in fields.iter_mut() {
            if let Some((_, to)) = self.rename.iter().find(|(from, _)| from == name) {
                *name = to.clone();
            }
        }
    }

    /// The columns of the source that a leaf reads; `None` where that cannot be told.
    #[must_use]
    pub fn columns_of(&self, leaf: &Leaf) -> Option<Vec<String>> {
        let mut columns = Vec::new();
        for path in leaf.reads() {
            let Some(behind) = path.strip_prefix(Root::Record.name()) else { continue };
            // A name that is no word stands in brackets, and so does what is calculated.
            let name = behind.strip_prefix('.')?.split(['.', '[']).next()?;
            let written =
                self.rename.iter().filter(|(_, to)| **to == *name).map(|(from, _)| from.to_string());
            columns.extend(written.chain([name.to_owned()]));
        }
        Some(columns)
    }

    /// Turns cells into the types that the schema gives them.
    pub fn retype(&self, fields: &mut Map) {
        if let Some(typing) = &self.typing {
            typing.apply(fields, &|text: &str| -> Option<Value> {
                parse_json(text.as_bytes(), &self.limits).ok()
            });
        }
    }

    /// Whether the record is wanted; `context` holds it.
    pub fn keeps(&self, context: &Context) -> Result<bool, RenderError> {
        debug_assert!(context.get(Root::Record).is_some());
        self.filter.as_ref().map_or(Ok(true), |filter| filter.truth(context))
    }
}
