//! `runner init`: a project that runs at once against the sandbox.
//!
//! Invariant: nothing that is there is changed; each file is made new or kept and named.

mod files;

use std::fmt::Write as _;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Ended, Refused};
use crate::cli::args::Init;
use crate::cli::invocation::{Ask, Invocation, shell_word};
use crate::config::{self, Inputs};
use crate::model::{Class, Diagnostic, Failure, did_you_mean};
use crate::report::{Reporter, text};
use files::{CONNECTORS, Connector};

/// `runner init`
pub fn init(invocation: &Invocation<'_>, args: &Init, mut reporter: Reporter) -> Result<Ended, Refused> {
    let done = if args.state {
        make_state(invocation, &args.dir)
    } else {
        connector(args.connector.as_deref())
            .and_then(|connector| make_project(invocation, &args.dir, connector, &mut reporter))
    };
    match done {
        Ok((words, summary)) => Ok(Ended::of(reporter.answer(Class::Ok, Class::Ok.code(), &words, summary))),
        Err(failure) => Err(Refused::new(failure, reporter)),
    }
}

/// What was done, for people and for programs.
type Done = (String, serde_json::Value);

fn connector(named: Option<&str>) -> Result<&'static Connector, Failure> {
    let named = named.unwrap_or(CONNECTORS[0].name);
    CONNECTORS.iter().find(|connector| connector.name == named).ok_or_else(|| {
        let known = CONNECTORS.iter().map(|connector| connector.name);
        let help = did_you_mean(named, known.clone())
            .unwrap_or_else(|| format!("there is: {}", known.collect::<Vec<_>>().join(", ")));
        Failure::new(
            Class::Usage,
            Diagnostic::error("connector-missing", format!("no connector `{named}` comes with runner"))
                .help(help),
        )
    })
}

fn make_project(
    invocation: &Invocation<'_>,
    dir: &Path,
    connector: &Connector,
    reporter: &mut Reporter,
) -> Result<Done, Failure> {
    let root = invocation.cwd().join(dir);
    let (mut made, mut kept) = (Vec::new(), Vec::new());
    for (path, content) in files::of(connector) {
        let is_new = write_new(&root.join(&path), &content)?;
        if is_new { &mut made } else { &mut kept }.push(path);
    }
    for warning in left_open(&root, &kept, connector) {
        reporter.diagnostic(&warning);
    }
    let next = ["runner validate".to_owned(), format!("runner apply {} --sandbox", connector.pipeline)];
    let mut words = String::new();
    let place = dir.display().to_string();
    let place = text::line(if place == "." { "this folder" } else { &place }).into_owned();
    let _ = match made.len() as u64 {
        0 => writeln!(words, "nothing was made: all files are in {place} already"),
        n => write!(words, "made {} in {place}:\n{}", text::counted(n, "file", "files"), listed(&made)),
    };
    if !made.is_empty() && !kept.is_empty() {
        let _ = write!(words, "kept as they are:\n{}", listed(&kept));
    }
    words.push_str("next:\n");
    if dir != Path::new(".") {
        let _ = writeln!(words, "  cd {}", text::line(&shell_word(&dir.display().to_string())));
    }
    for command in &next {
        let _ = writeln!(words, "  {command}");
    }
    let summary = json!({ "folder": dir.to_string_lossy(), "connector": connector.name, "made": made, "kept": kept, "next": next });
    Ok((words, summary))
}

/// Paths below each other; those of one folder on one line.
fn listed(paths: &[String]) -> String {
    let mut folders: Vec<(&str, Vec<&str>)> = Vec::new();
    for path in paths {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        match folders.iter_mut().find(|(known, _)| *known == folder) {
            Some((_, names)) => names.push(name),
            None => folders.push((folder, vec![name])),
        }
    }
    let mut out = String::new();
    for (folder, names) in folders {
        let slash = if folder.is_empty() { "" } else { "/" };
        let line = match names.as_slice() {
            [_, _, _, _, ..] if !folder.is_empty() => {
                format!("{folder}/ ({} files)", names.len())
            }
            names => names.iter().map(|name| format!("{folder}{slash}{name}")).collect::<Vec<_>>().join("  "),
        };
        let _ = writeln!(out, "  {line}");
    }
    out
}

/// Makes a file and its folders; false when something is there under its name.
fn write_new(path: &Path, content: &str) -> Result<bool, Failure> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| Failure::io("make the folder", folder, &error))?;
    }
    let mut file = match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(Failure::io("make", path, &error)),
    };
    file.write_all(content.as_bytes()).map_err(|error| {
        // Half a file would be kept by the next start.
        let _ = std::fs::remove_file(path);
        Failure::io("write", path, &error)
    })?;
    Ok(true)
}

/// What the kept files may lack.
fn left_open(root: &Path, kept: &[String], connector: &Connector) -> Vec<Diagnostic> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let is_kept = |path: &str| kept.iter().any(|kept| kept == path);
    let mut found = Vec::new();
    if is_kept(".gitignore") {
        let text = read(".gitignore");
        let has = |name: &str| text.lines().any(|line| line.trim().trim_matches('/') == name);
        let missing: Vec<&str> = [".runner", ".env"].into_iter().filter(|name| !has(name)).collect();
        if !missing.is_empty() {
            found.push(
                Diagnostic::warning(
                    "not-ignored",
                    format!("the .gitignore that was kept does not name {}", missing.join(" and ")),
                )
                .help("add a line for each: state and tokens do not belong into a repository"),
            );
        }
    }
    let wanted = format!("connector: {}", connector.name);
    if is_kept("runner.yaml") && !read("runner.yaml").contains(&wanted) {
        found.push(
            Diagnostic::warning(
                "connection-missing",
                format!("the runner.yaml that was kept has no connection of the connector {}", connector.name),
            )
            .help(format!(
                "add it under `connections:` as `{0}: {{ {wanted}, … }}`; templates/{0}/connector.yaml says its settings",
                connector.name
            )),
        );
    }
    found
}

/// `--state`: the folder that `require_state: true` asks for.
fn make_state(invocation: &Invocation<'_>, dir: &Path) -> Result<Done, Failure> {
    let cwd = invocation.cwd().join(dir);
    let project = invocation.with_inputs(Ask::default(), |inputs| {
        config::load_project(&Inputs { cwd: &cwd, env_file: inputs.env_file.clone(), ..*inputs })
    })?;
    let folder: PathBuf = project.state_dir;
    let shown = invocation.shown(&folder);
    let is_new = !folder.is_dir();
    if is_new {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| Failure::io("make the folder", &folder, &error))?;
    }
    let words = if is_new { "made the state folder" } else { "there is a state folder already:" };
    let words = format!("{words} {}\n", text::line(&shown.to_string_lossy()));
    Ok((words, json!({ "state": folder, "made": is_new })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_name_of_a_connector_is_suggested() {
        let failure = connector(Some("freshchart")).err().unwrap();
        assert_eq!(failure.diagnostics[0].help.as_deref(), Some("did you mean `freshchat`?"));
        assert!(connector(None).is_ok());
    }
}
