//! Turns an ending into text or JSON and an exit code; nothing else does.
//!
//! Invariant: under `--format json` stdout is one JSON value whatever goes wrong, also when the
//! command line itself could not be read.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use serde_json::Value;

use crate::model::{Class, Diagnostic, Failure, Mask};
use crate::report::{Format, Reporter, Settings, Surroundings, Volume, WhenColor, WhenProgress};

/// The process exit code of a class.
#[must_use]
pub fn exit(class: Class) -> ExitCode {
    ExitCode::from(class.code())
}

/// Shows why a command cannot go on: text on stderr, and the object on stdout where the format
/// asks for one.
#[must_use]
pub fn show(failure: &Failure, settings: &Settings, mask: Mask) -> ExitCode {
    exit(report(failure, Reporter::new(settings, mask)))
}

/// The same through a reporter that has said something already. Gives the class to exit with.
#[must_use]
pub fn report(failure: &Failure, mut reporter: Reporter) -> Class {
    for diagnostic in &failure.diagnostics {
        reporter.diagnostic(diagnostic);
    }
    reporter.answer(failure.class, failure.class.code(), "", Value::Null)
}

/// Why there is no command to run: help or version was asked for, or the line is wrong.
#[derive(Debug)]
pub struct Unread {
    said: Said,
    settings: Settings,
}

#[derive(Debug)]
enum Said {
    /// Help or version, for stdout.
    Answer(String),
    /// Help because nothing was asked for, for stderr.
    HelpInstead(String),
    Wrong(Failure),
}

impl Unread {
    /// What clap says about a line that it does not take as a command.
    #[must_use]
    pub fn new(error: &clap::Error, args: &[OsString]) -> Self {
        let text = error.render();
        let settings = guess(args, std::env::var("RUNNER_FORMAT").ok().as_deref());
        let said = match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Said::Answer(text.ansi().to_string()),
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Said::HelpInstead(text.ansi().to_string()),
            _ => Said::Wrong(Failure::new(
                Class::Usage,
                diagnostic(&text.to_string(), &settings.command, args),
            )),
        };
        Self { said, settings }
    }

    /// A line that was read and makes no sense.
    #[must_use]
    pub fn refused(failure: Failure, settings: Settings) -> Self {
        Self { said: Said::Wrong(failure), settings }
    }

    /// Says it.
    #[must_use]
    pub fn show(self) -> ExitCode {
        exit(self.tell())
    }

    fn tell(self) -> Class {
        let Self { said, mut settings } = self;
        match said {
            Said::Answer(text) => {
                // Help is text in every format.
                settings.format = Format::Human;
                Reporter::new(&settings, Mask::default()).answer(Class::Ok, 0, &text, Value::Null)
            }
            Said::HelpInstead(text) if settings.format == Format::Human => {
                settings.streams.answer = settings.streams.people.clone();
                settings.stdout_colors = settings.stderr_colors;
                let code = Class::Usage.code();
                Reporter::new(&settings, Mask::default()).answer(Class::Usage, code, &text, Value::Null)
            }
            Said::HelpInstead(_) => {
                let found = Diagnostic::error("usage", "no command is given")
                    .help("`runner help` lists the commands");
                report(&Failure::new(Class::Usage, found), Reporter::new(&settings, Mask::default()))
            }
            Said::Wrong(failure) => report(&failure, Reporter::new(&settings, Mask::default())),
        }
    }
}

/// Settings for a line that could not be read: what it says about format and colour all the same.
fn guess(args: &[OsString], format: Option<&str>) -> Settings {
    let words: Vec<&str> =
        args.iter().skip(1).map_while(|arg| arg.to_str()).take_while(|arg| *arg != "--").collect();
    let last = |flag: &str| {
        let split = words.windows(2).filter_map(|pair| match pair {
            [name, value] if *name == flag => Some(*value),
            _ => None,
        });
        let joined = words.iter().filter_map(|word| word.strip_prefix(flag)?.strip_prefix('='));
        split.chain(joined).last()
    };
    let format = match last("--format").or(format) {
        Some("json") => Format::Json,
        Some("jsonl") => Format::Jsonl,
        _ => Format::Human,
    };
    let color = match last("--color") {
        Some("always") => WhenColor::Always,
        Some("never") => WhenColor::Never,
        _ => WhenColor::Auto,
    };
    let command = words.iter().find(|word| !word.starts_with('-')).copied().unwrap_or_default();
    let known = super::args::help(Some(command)).is_ok();
    let command = if known { command } else { "" };
    Settings::new(command, format, WhenProgress::None, color, Volume::Normal, &Surroundings::look())
}

/// Flags whose value may come from a variable.
const FROM_ENVIRONMENT: [(&str, &str); 4] = [
    ("--format", "RUNNER_FORMAT"),
    ("--progress", "RUNNER_PROGRESS"),
    ("--env", "RUNNER_ENV"),
    ("--state-dir", "RUNNER_STATE"),
];

/// A usage error in the shape of all other messages.
///
/// Read from clap's text, because it words some twenty kinds of mistakes well: its first line and
/// the lines below it are the message, `tip:` the help.
fn diagnostic(text: &str, command: &str, args: &[OsString]) -> Diagnostic {
    let mut found = Diagnostic::error("usage", "");
    let mut tips = Vec::new();
    let mut arguments = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(message) = line.strip_prefix("error: ") {
            found.message = ticked(message.trim_end_matches('.'));
        } else if line.starts_with("tip: to pass ") {
            // That a mistyped flag is meant as a name of a file is the least likely of all.
        } else if let Some(tip) = line.strip_prefix("tip: ") {
            tips.push(match tip.split_once(": ") {
                Some((kind, name)) if kind.contains(" similar ") => format!("did you mean {}?", ticked(name)),
                _ => ticked(tip),
            });
        } else if let Some(usage) = line.strip_prefix("Usage: ") {
            found.notes.push(format!("usage: {usage}"));
        } else if let Some(values) =
            line.strip_prefix("[possible values: ").and_then(|rest| rest.strip_suffix(']'))
        {
            found.notes.push(format!("possible values: {values}"));
        } else if !line.is_empty() && !line.starts_with("For more information") {
            arguments.push(format!("`{line}`"));
        }
    }
    if !arguments.is_empty() {
        found.message = format!("{} {}", found.message, arguments.join(", "));
    }
    for (flag, variable) in FROM_ENVIRONMENT {
        let is_typed = args.iter().any(|arg| arg.to_string_lossy().starts_with(flag));
        if found.message.contains(&format!("for `{flag} ")) && !is_typed {
            found.notes.push(format!("it comes from the variable {variable}"));
        }
    }
    found.help = Some(if tips.is_empty() && command.is_empty() {
        "`runner help` lists the commands and flags".into()
    } else if tips.is_empty() {
        format!("`runner {command} --help` lists its flags")
    } else {
        tips.join("\n")
    });
    found
}

/// Names in our quotes: `'--x'` becomes `` `--x` ``.
fn ticked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\'') {
        let Some((inside, behind)) = after.split_once('\'') else { break };
        out.push_str(before);
        out.push('`');
        out.push_str(inside);
        out.push('`');
        rest = behind;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests;
