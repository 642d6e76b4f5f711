//! Which pipelines have to go before which (`needs:`).
//!
//! Pure. A pipeline is named as on the command line: its path below `pipelines/` without the ending.

use std::path::Path;

use super::{Pipeline, project};
use crate::model::{Class, Diagnostic, Failure, Placed, Problems, did_you_mean};

/// Whether a name is that of a pipeline that is written down in another: `NAME.deletes`, `NAME.webhook`.
#[must_use]
pub fn is_of_follower(name: &str) -> bool {
    name.ends_with(".deletes") || name.ends_with(".webhook")
}

/// The name of a pipeline's file, or `None` for one that does not lie below `pipelines/`.
#[must_use]
pub fn file_name(path: &str) -> Option<&str> {
    let name = path.strip_prefix("pipelines/")?;
    name.strip_suffix(".yaml").or_else(|| name.strip_suffix(".yml"))
}

/// Checks that what is needed is there.
pub(super) fn check(
    needs: Vec<Placed<String>>,
    own: &str,
    root: &Path,
    problems: &mut Problems,
) -> Vec<Placed<String>> {
    if needs.is_empty() {
        return needs;
    }
    let all: Vec<String> = project::pipelines(root)
        .iter()
        .filter_map(|path| path.strip_prefix(root).ok()?.to_str().and_then(file_name).map(str::to_owned))
        .collect();
    for need in &needs {
        if file_name(own) == Some(&need.value) {
            problems.at("needs-itself", &need.place, "a pipeline cannot need itself");
        } else if !all.contains(&need.value) {
            let finding =
                Diagnostic::error("pipeline-missing", format!("there is no pipeline `{}`", need.value))
                    .place(&need.place);
            problems.push(match did_you_mean(&need.value, all.iter().map(String::as_str)) {
                Some(help) => finding.help(help),
                None => finding.help("`needs` names files below pipelines/, without their ending"),
            });
        }
    }
    needs
}

/// Positions in an order in which every pipeline comes behind those that it needs, else as they were
/// named; what is needed and not among them does not matter here.
///
/// # Errors
/// A circle.
pub fn order(pipelines: &[Pipeline]) -> Result<Vec<usize>, Failure> {
    let names: Vec<Option<&str>> = pipelines.iter().map(|pipeline| file_name(&pipeline.path)).collect();
    let at = |need: &str| names.iter().position(|name| *name == Some(need));
    let needs: Vec<Vec<usize>> = pipelines
        .iter()
        .map(|pipeline| pipeline.needs.iter().filter_map(|need| at(&need.value)).collect())
        .collect();
    match sorted(&needs) {
        Ok(order) => Ok(order),
        Err(circle) => {
            let shown: Vec<&str> = circle.iter().map(|at| names[*at].unwrap_or_default()).collect();
            let first = circle.first().and_then(|at| pipelines[*at].needs.first());
            let found = Diagnostic::error(
                "needs-circle",
                format!("these pipelines need each other: {}", shown.join(" → ")),
            );
            let found = match first {
                Some(need) => found.place(&need.place),
                None => found,
            };
            Err(Failure::new(Class::Config, found.help("take one of the `needs` out")))
        }
    }
}

/// Depth first, so that those that nothing asks to move stay where they are. The error is a circle,
/// its first member at both ends.
fn sorted(needs: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    fn visit(
        at: usize,
        needs: &[Vec<usize>],
        path: &mut Vec<usize>,
        order: &mut Vec<usize>,
    ) -> Result<(), Vec<usize>> {
        if order.contains(&at) {
            return Ok(());
        }
        if let Some(begin) = path.iter().position(|member| *member == at) {
            let mut circle = path[begin..].to_vec();
            circle.push(at);
            return Err(circle);
        }
        path.push(at);
        for need in &needs[at] {
            visit(*need, needs, path, order)?;
        }
        path.pop();
        order.push(at);
        Ok(())
    }
    let mut order = Vec::with_capacity(needs.len());
    for at in 0..needs.len() {
        visit(at, needs, &mut Vec::new(), &mut order)?;
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_comes_first_and_the_rest_stays() {
        for (needs, want) in [
            (vec![vec![], vec![], vec![]], vec![0, 1, 2]),
            (vec![vec![2], vec![], vec![]], vec![2, 0, 1]),
            (vec![vec![1, 2], vec![2], vec![]], vec![2, 1, 0]),
            (vec![vec![], vec![0], vec![0], vec![1, 2]], vec![0, 1, 2, 3]),
        ] {
            assert_eq!(sorted(&needs), Ok(want), "{needs:?}");
        }
    }

    #[test]
    fn a_circle_is_told_from_its_beginning_to_its_end() {
        assert_eq!(sorted(&[vec![1], vec![2], vec![1]]), Err(vec![1, 2, 1]));
        assert_eq!(sorted(&[vec![0]]), Err(vec![0, 0]));
    }

    #[test]
    fn a_name_is_the_path_below_the_folder() {
        assert_eq!(file_name("pipelines/a.yaml"), Some("a"));
        assert_eq!(file_name("pipelines/examples/b.yml"), Some("examples/b"));
        assert_eq!(file_name("elsewhere/c.yaml"), None);
    }
}
