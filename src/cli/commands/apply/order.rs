//! Several pipelines in one command: what goes before what, and what does not begin at all.
//!
//! Invariant: nothing is sent before all pipelines that were named could be read.

use std::path::{Path, PathBuf};

use crate::cli::commands::far_side;
use crate::cli::invocation::{Ask, Invocation};
use crate::config::{Pipeline, deletes_name, needs};
use crate::engine;
use crate::model::{Class, Diagnostic, Failure, Problems};
use crate::outcome::{Checkpoint, Folder};

/// Pipelines in the order in which they run.
pub struct Order {
    pipelines: Vec<(PathBuf, Vec<String>, Option<String>)>,
    sandbox: bool,
}

impl Order {
    /// Reads all of them; every mistake of all is told at once.
    pub fn of(
        invocation: &Invocation<'_>,
        named: &[PathBuf],
        ask: Ask<'_>,
        sandbox: bool,
    ) -> Result<Self, Failure> {
        let mut read: Vec<Pipeline> = Vec::with_capacity(named.len());
        let mut worst: Option<Failure> = None;
        for path in named {
            match invocation.pipeline(path, ask) {
                Ok((pipeline, _)) => read.push(pipeline),
                Err(mut failure) => match &mut worst {
                    Some(worst) => worst.diagnostics.append(&mut failure.diagnostics),
                    None => worst = Some(failure),
                },
            }
        }
        if let Some(mut failure) = worst {
            if named.len() > 1 {
                let last =
                    Diagnostic::error("not-started", "no pipeline was started, as not all could be read");
                failure.diagnostics.push(last.note("nothing was sent"));
            }
            return Err(failure);
        }
        let order = needs::order(&read)?;
        let one = |at: usize| {
            let pipeline = &read[at];
            let needs = pipeline.needs.iter().map(|need| need.value.clone()).collect();
            (named[at].clone(), needs, needs::file_name(&pipeline.path).map(str::to_owned))
        };
        Ok(Self { pipelines: order.into_iter().map(one).collect(), sandbox })
    }

    /// The files, each with what has to end well before it.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &[String], Option<&str>)> {
        self.pipelines.iter().map(|(path, needs, name)| (&**path, &**needs, name.as_deref()))
    }

    /// Why a pipeline cannot begin: one that it needs is not part of this command and did not end well.
    pub fn unmet(&self, invocation: &Invocation<'_>, name: &str, needs: &[String]) -> Result<(), Failure> {
        let mut problems = Problems::new();
        for need in needs {
            if self.pipelines.iter().any(|(_, _, other)| other.as_deref() == Some(need)) {
                continue;
            }
            let (pipeline, _) = invocation.pipeline(Path::new(need), Ask::default())?;
            let target =
                if self.sandbox { far_side::TARGET.to_owned() } else { pipeline.environment.clone() };
            let mut parts = vec![pipeline.name.clone()];
            parts.extend(pipeline.deletes.is_some().then(|| deletes_name(&pipeline.name)));
            let mut why = None;
            let mut newest = String::new();
            for (at, part) in parts.iter().enumerate() {
                let folder = Folder::new(&pipeline.state_dir, &target, part);
                let standing = match Checkpoint::open_to_read(&folder)? {
                    None => None,
                    Some(checkpoint) => engine::standing(&folder, &checkpoint)?,
                };
                if let (0, Some(last)) = (at, &standing) {
                    newest.clone_from(&last.run.id);
                }
                why = match standing {
                    None if at == 0 => Some("it never ran".to_owned()),
                    // Nothing has to have vanished, or from an older input.
                    None => None,
                    Some(last) if at > 0 && !last.run.input.contains(&newest) => None,
                    Some(last) if last.class == Some(Class::Ok) && last.state == "complete" => None,
                    Some(last) => Some(format!(
                        "{} is {}",
                        if at == 0 {
                            format!("its run {}", last.run.id)
                        } else {
                            format!("{part}, run {},", last.run.id)
                        },
                        last.class.map_or(last.state, |class| class.name()).replace('_', " ")
                    )),
                };
                if why.is_some() {
                    break;
                }
            }
            let Some(why) = why else { continue };
            problems.push(
                Diagnostic::error("needs-not-met", format!("{name} needs {need}, and {why}"))
                    .note("nothing was sent")
                    .help(format!(
                        "`{}` first; or `--ignore-needs`, which begins all the same",
                        invocation.typed("apply", Path::new(need), self.sandbox)
                    )),
            );
        }
        if problems.has_errors() {
            return Err(Failure::of(Class::State, problems.into_sorted()));
        }
        Ok(())
    }
}
