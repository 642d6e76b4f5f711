//! Checks what an expression names of lookup tables: the table, and the column behind its key.
//!
//! Apart because a table is no value: it may stand only where a row of it is asked for.

use super::super::context::{Known, Root};
use super::super::path::{Path, Step, field_step};
use super::super::scan::{Token, Word};
use super::Check;
use crate::model::{Diagnostic, nearest};

impl Check<'_> {
    /// Whether a path below `lookups` is good; what is wrong is reported.
    pub(super) fn known_lookup(
        &mut self,
        path: &Path,
        tokens: &[Token<'_>],
        at: usize,
        taken: usize,
    ) -> bool {
        // That it cannot be used here is said with the other names.
        let Some(known) = self.scope.get(Root::Lookups).cloned() else { return true };
        let all = tokens.get(at..at + taken).unwrap_or_default();
        let (Some(first), Some(last)) = (all.first(), all.last()) else { return false };
        let place = self.place(first.span.start..last.span.end);
        let after = tokens.get(at + taken..).unwrap_or_default();
        let asked = after.first().is_some_and(|token| token.is_sign("["))
            || at
                .checked_sub(1)
                .and_then(|before| tokens.get(before))
                .is_some_and(|token| token.is_name("in"));
        let is_whole = path.steps.is_empty() || path.whole_table().is_some() && !asked;
        if is_whole {
            let name = path.whole_table().unwrap_or("agents");
            self.report(
                Diagnostic::error("lookup-whole", "a lookup is asked for one row").place(&place).help(
                    format!("write `lookups.{name}[record.email].id`, or `record.email in lookups.{name}`"),
                ),
            );
            return false;
        }
        let Known::Tables(tables) = known else { return true };
        let Some(table) = tables.iter().find(|table| path.first_name() == Some(&table.name)) else {
            let name = path.first_name().unwrap_or_default();
            let mut found =
                Diagnostic::error("unknown-lookup", format!("there is no lookup `{name}`")).place(&place);
            found.help = Some(match nearest(name, tables.iter().map(|table| table.name.as_str())) {
                Some(near) => format!("did you mean `lookups.{near}`?"),
                None => format!(
                    "declare it in the pipeline: `lookups: {{ {name}: {{ file: data/{name}.csv, key: id }} }}`"
                ),
            });
            self.report(found);
            return false;
        };
        let column = match path.steps.get(2) {
            Some(Step::Name(column, _)) => Some(&**column),
            Some(_) => None,
            // The key is calculated, so the column stands behind its bracket.
            None => behind_bracket(after).map(|name| name.text),
        };
        let unknown = column
            .zip(table.columns.as_ref())
            .filter(|(column, known)| !known.iter().any(|name| name == column));
        if let Some((column, known)) = unknown {
            let message = format!("`lookups.{}` has no column `{column}`", table.name);
            let mut found = Diagnostic::error("unknown-field", message).place(&place);
            if let Some(near) = nearest(column, known.iter().map(String::as_str)) {
                found.help = Some(format!("did you mean `{}`?", field_step(near).trim_start_matches('.')));
            } else {
                let some: Vec<_> = known.iter().take(12).map(|name| format!("`{name}`")).collect();
                found = found.note(format!("it has: {}", some.join(", ")));
            }
            self.report(found);
            return false;
        }
        true
    }
}

/// The name behind the bracket that opens here: `[…].name`.
fn behind_bracket<'t, 's>(tokens: &'t [Token<'s>]) -> Option<&'t Token<'s>> {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        if token.is_sign("[") {
            depth += 1;
        } else if token.is_sign("]") {
            depth = depth.checked_sub(1)?;
        }
        if depth == 0 {
            let dot = tokens.get(at + 1).filter(|token| token.is_sign("."))?;
            return tokens.get(at + 2).filter(|name| name.word == Word::Name && dot.is_sign("."));
        }
    }
    None
}
