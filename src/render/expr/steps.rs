//! Checks what an expression reads of the steps before its own.

use std::sync::Arc;

use super::super::path::{Path, Step};
use crate::model::{Diagnostic, nearest};

/// What is wrong with a path into the steps before this one: only captures outlive a crash, so only they
/// can be read.
pub(super) fn unknown(path: &Path, steps: &[(String, Arc<[String]>)]) -> Option<Diagnostic> {
    let mut names = path.steps.iter().map(|step| match step {
        Step::Name(name, _) => Some(&**name),
        Step::Index(_) | Step::Of(_) => None,
    });
    let error = |message: String| Some(Diagnostic::error("unknown-step", message));
    let listed = |names: Vec<&str>| match names.as_slice() {
        [] => "there are none".to_owned(),
        names => names.join(", "),
    };
    let earlier = || listed(steps.iter().map(|(name, _)| name.as_str()).collect());
    let Some(Some(id)) = names.next() else {
        return error("`steps` is followed by the name of an earlier step".into())
            .map(|found| found.note(format!("earlier steps: {}", earlier())));
    };
    let Some((_, captures)) = steps.iter().find(|(name, _)| name == id) else {
        let found = error(format!("there is no earlier step `{id}`"))?;
        return Some(match nearest(id, steps.iter().map(|(name, _)| name.as_str())) {
            Some(near) => found.help(format!("did you mean `steps.{near}`?")),
            None => found.note(format!("earlier steps: {}", earlier())),
        });
    };
    match names.next() {
        Some(Some(last @ ("status" | "skipped"))) => match names.next() {
            None => None,
            Some(_) => error(format!("`steps.{id}.{last}` has nothing in it")),
        },
        Some(Some("captures")) => {
            let Some(Some(name)) = names.next() else { return None };
            if captures.iter().any(|known| known == name) {
                return None;
            }
            let found = error(format!("the step `{id}` captures no `{name}`"))?
                .note(format!("its captures: {}", listed(captures.iter().map(String::as_str).collect())));
            Some(match nearest(name, captures.iter().map(String::as_str)) {
                Some(near) => found.help(format!("did you mean `steps.{id}.captures.{near}`?")),
                None => found.help(format!(
                    "say it in that step: `captures: {{ {name}: \"{{{{ response.body.… }}}}\" }}`"
                )),
            })
        }
        _ => error(format!("of the step `{id}` only its captures are kept, and its `status`")).map(|found| {
            found.help(format!(
                "name what is needed in that step, `captures: {{ id: \"{{{{ response.body.id }}}}\" }}`, and read `steps.{id}.captures.id`"
            ))
        }),
    }
}
