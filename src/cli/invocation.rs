//! Where a command works: the folder, the environment, the flags that every command has.
//!
//! Turns flags into the inputs of `config`, loads pipelines, and decides what state a command is
//! about. Nothing is sent and nothing is shown here.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::args::{Cli, Pace, Selection};
use crate::config::{self, DeliveryOverrides, EnvFile, Inputs, Pipeline, Project};
use crate::engine::{self, stand_in};
use crate::model::{Class, Diagnostic, Failure, Learned, Mask, Secret};

/// The folder, environment and common flags of a command.
pub struct Invocation<'a> {
    cli: &'a Cli,
    cwd: PathBuf,
    vars: Vec<(String, String)>,
    secrets: RefCell<Vec<Secret>>,
}

/// What a command says about one load of a pipeline.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask<'a> {
    /// Records of this start.
    pub selection: Option<&'a Selection>,
    /// How fast.
    pub pace: Option<&'a Pace>,
    /// Against the stand-in.
    pub sandbox: bool,
}

impl<'a> Invocation<'a> {
    /// Looks where the command was started.
    pub fn new(cli: &'a Cli) -> Result<Self, Failure> {
        let here = std::env::current_dir().map_err(|error| Failure::io("find", Path::new("."), &error))?;
        let cwd = match &cli.everywhere.directory {
            None => here,
            Some(directory) => {
                let path = here.join(directory);
                if !path.is_dir() {
                    return Err(Failure::new(
                        Class::Usage,
                        Diagnostic::error(
                            "usage",
                            format!("`-C` names {}, which is not a folder", directory.display()),
                        ),
                    ));
                }
                path
            }
        };
        let vars = cli.everywhere.vars.iter().map(|set| (set.name.clone(), set.value.clone())).collect();
        Ok(Self { cli, cwd, vars, secrets: RefCell::default() })
    }

    /// The command line.
    #[must_use]
    pub const fn cli(&self) -> &'a Cli {
        self.cli
    }

    /// The folder that paths on the command line are relative to.
    #[must_use]
    pub fn cwd(&self) -> &Path {
        &self.cwd
    }

    /// A mask for all secrets that were read so far, and for the tokens that come later.
    #[must_use]
    pub fn mask(&self) -> Mask {
        let mask = Mask::new(self.secrets.borrow().iter());
        mask.and_learned(&Learned::of_process())
    }

    /// Calls `work` with the inputs of `config`.
    pub fn with_inputs<T>(&self, ask: Ask<'_>, work: impl FnOnce(&Inputs<'_>) -> T) -> T {
        let everywhere = &self.cli.everywhere;
        let env_file = match everywhere.env_file.as_deref() {
            None => EnvFile::Default,
            Some(path) if path == Path::new("none") => EnvFile::Off,
            Some(path) => EnvFile::At(self.cwd.join(path)),
        };
        let input = ask.selection.and_then(|selection| selection.input.as_deref()).map(|input| {
            // Paths on the command line are relative to the working directory.
            if input == Path::new("-") {
                "-".to_owned()
            } else {
                self.cwd.join(input).to_string_lossy().into_owned()
            }
        });
        let environment = |name: &str| std::env::var(name).ok();
        let delivery = DeliveryOverrides {
            concurrency: ask.pace.and_then(|pace| pace.concurrency),
            rate: ask.pace.and_then(|pace| pace.rate).map(|rate| rate.0),
            unlimited: ask.sandbox,
        };
        let state = everywhere.state_dir.as_ref().map(|state| self.cwd.join(state));
        work(&Inputs {
            cwd: &self.cwd,
            env_name: everywhere.environment.as_deref(),
            env_file,
            vars: &self.vars,
            environment: &environment,
            input: input.as_deref(),
            delivery,
            state: state.as_deref(),
        })
    }

    /// Loads a pipeline by file or name, with its warnings.
    pub fn pipeline(&self, named: &Path, ask: Ask<'_>) -> Result<(Pipeline, Vec<Diagnostic>), Failure> {
        let (mut pipeline, problems) =
            self.with_inputs(ask, |inputs| config::load_pipeline(&named.to_string_lossy(), inputs))?;
        let target = if ask.sandbox { stand_in::SANDBOX.to_owned() } else { pipeline.environment.clone() };
        engine::replies::find(&mut pipeline, &target)?;
        self.remember(&pipeline.connection);
        let tables = pipeline.lookups.iter().filter_map(|lookup| lookup.listing.as_ref());
        for listing in pipeline.listing.iter().chain(tables) {
            self.remember(&listing.connection);
        }
        Ok((pipeline, problems.into_sorted()))
    }

    /// Loads the project.
    pub fn project(&self) -> Result<Project, Failure> {
        self.with_inputs(Ask::default(), config::load_project)
    }

    /// Loads the project that a pipeline belongs to, wherever the command was started.
    pub fn project_of(&self, pipeline: &Pipeline) -> Result<Project, Failure> {
        self.with_inputs(Ask::default(), |inputs| {
            config::load_project(&Inputs {
                cwd: &pipeline.root,
                env_file: inputs.env_file.clone(),
                ..*inputs
            })
        })
    }

    /// Loads a connection by name, with its warnings.
    pub fn connection(
        &self,
        project: &Project,
        name: &str,
    ) -> Result<(config::Connection, Vec<Diagnostic>), Failure> {
        let (connection, problems) =
            self.with_inputs(Ask::default(), |inputs| config::load_connection(project, name, inputs))?;
        self.remember(&connection);
        Ok((connection, problems.into_sorted()))
    }

    /// Loads the endpoints of a connector: those of `templates/<connector>/`.
    pub fn endpoints(&self, project: &Project, connector: &str) -> Result<Vec<config::Endpoint>, Failure> {
        let prefix = format!("{connector}/");
        project
            .endpoints
            .iter()
            .filter(|info| info.name.starts_with(&prefix))
            .map(|info| {
                self.with_inputs(Ask::default(), |inputs| config::load_endpoint(project, &info.name, inputs))
                    .map(|(endpoint, _)| endpoint)
            })
            .collect()
    }

    /// A path as a person would type it from here.
    #[must_use]
    pub fn shown(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.cwd).map_or_else(|_| path.to_owned(), Path::to_owned)
    }

    /// A command as it is typed again from here. The flags that decide on which account and on which
    /// state it works are repeated: without `--env` a hint would lead to another far side.
    #[must_use]
    pub fn typed(&self, command: &str, named: &Path, sandbox: bool) -> String {
        let name = named.to_string_lossy();
        // What is written down in another pipeline begins and goes on with that one.
        let name = match name.rsplit_once('.') {
            Some((other, "deletes" | "webhook")) if matches!(command, "apply" | "plan") => other,
            _ => &name,
        };
        let mut typed = format!("runner {command} {}", shell_word(name));
        if sandbox {
            typed.push_str(" --sandbox");
        }
        let everywhere = &self.cli.everywhere;
        let is_set = |name: &str, value: &OsStr| std::env::var_os(name).is_some_and(|set| set == value);
        let mut flag = |name: &str, value: &OsStr| {
            let _ = write!(typed, " {name} {}", shell_word(&value.to_string_lossy()));
        };
        if let Some(directory) = &everywhere.directory {
            flag("-C", directory.as_os_str());
        }
        if let Some(name) = &everywhere.environment
            && !is_set("RUNNER_ENV", name.as_ref())
        {
            flag("--env", name.as_ref());
        }
        for set in &everywhere.vars {
            flag("--var", format!("{}={}", set.name, set.value).as_ref());
        }
        if let Some(file) = &everywhere.env_file {
            flag("--env-file", file.as_os_str());
        }
        if let Some(folder) = &everywhere.state_dir
            && !is_set("RUNNER_STATE", folder.as_os_str())
        {
            flag("--state-dir", folder.as_os_str());
        }
        typed
    }

    fn remember(&self, connection: &config::Connection) {
        self.secrets.borrow_mut().extend(connection.secrets.iter().cloned());
        super::logs::hide(self.mask());
    }
}

/// A word as a shell takes it.
#[must_use]
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_needs_it() {
        assert_eq!(shell_word("a/b-c.d"), "a/b-c.d");
        assert_eq!(shell_word("a b's"), r"'a b'\''s'");
        assert_eq!(shell_word(""), "''");
    }
}
