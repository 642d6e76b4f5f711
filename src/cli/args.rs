//! Every command and flag, declared once; the doc comments are the help.
//!
//! Nothing is done here but reading. Invariants: no flag takes a secret, nothing may be
//! abbreviated, and a value that no command could use is refused before any command sees it.

mod project;
mod runs;
mod sending;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args, CommandFactory as _, Parser, Subcommand};

use super::values::{self, Setting};
use super::{failure, topics};
use crate::model::{Class, Diagnostic, Failure, did_you_mean};
use crate::report::{Format, Settings, Surroundings, Volume, WhenColor, WhenProgress};

pub use project::{
    CheckConnection, Completions, Help, Init, List, Listing, Sandbox, Schema, SchemaKind, Validate,
};
pub use runs::{Explain, Held, Reconcile, Resolve, Retry, SettlementFlags, Status};
pub use sending::{Apply, Extract, ExtractForm, Pace, Plan, Preview, PreviewForm, Selection, Try, WhichRun};

/// The version, and what it was made of as far as the build could tell.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), env!("RUNNER_MADE_OF"));

/// Send records as HTTP requests, one known outcome for each
///
/// Reads records from CSV or JSON, makes one request of each by the templates of a project, and
/// remembers what became of every record, so that a run can go on after any stop.
#[derive(Debug, Parser)]
#[command(
    name = "runner",
    version = VERSION,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 80,
    after_help = "`runner help TOPIC` explains: exit-codes, environment, formats, doubt"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Flags that every command has.
    #[command(flatten)]
    pub everywhere: Everywhere,
}

/// Flags that work before and after the command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Everywhere {
    /// Work as if started in DIR
    #[arg(short = 'C', value_name = "DIR", global = true)]
    pub directory: Option<PathBuf>,

    /// Overlay of runner.yaml to use
    #[arg(long = "env", value_name = "NAME", global = true, env = "RUNNER_ENV", hide_env_values = true, value_parser = values::not_empty)]
    pub environment: Option<String>,

    /// Set a variable of the pipeline; repeatable
    #[arg(long = "var", value_name = "NAME=VALUE", global = true, value_parser = values::setting)]
    pub vars: Vec<Setting>,

    /// Read this instead of .env; `none` reads no such file
    #[arg(long, value_name = "FILE", global = true)]
    pub env_file: Option<PathBuf>,

    /// Keep state here instead of in .runner
    #[arg(long, value_name = "DIR", global = true, env = "RUNNER_STATE", hide_env_values = true)]
    pub state_dir: Option<PathBuf>,

    /// What stdout holds
    #[arg(
        long,
        value_name = "FORMAT",
        global = true,
        env = "RUNNER_FORMAT",
        hide_env_values = true,
        default_value = "human",
        hide_default_value = true
    )]
    pub format: Format,

    /// Colours
    #[arg(long, value_name = "WHEN", global = true, default_value = "auto", hide_default_value = true)]
    pub color: WhenColor,

    /// How progress is shown on stderr
    #[arg(
        long,
        value_name = "HOW",
        global = true,
        env = "RUNNER_PROGRESS",
        hide_env_values = true,
        default_value = "auto",
        hide_default_value = true
    )]
    pub progress: WhenProgress,

    /// Only errors and the last line
    #[arg(short = 'q', long = "quiet", global = true)]
    pub quiet: bool,

    /// A line per record; twice: request lines and statuses; three times: headers and bodies, masked
    #[arg(short = 'v', long = "verbose", global = true, action = ArgAction::Count)]
    pub verbose: u8,

    /// Never ask; a missing answer is an error that names the flag
    #[arg(long, global = true, env = "RUNNER_NO_INPUT", hide_env_values = true, value_parser = FalseyValueParser::new())]
    pub no_input: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a project that runs at once against the sandbox
    Init(Init),
    /// Check all files of the project without sending anything
    Validate(Validate),
    /// Show what `apply` would do with the whole input
    Plan(Plan),
    /// Show the requests themselves, of the first 3 records
    Preview(Preview),
    /// Write the records of a pipeline's source to a file or stdout
    ///
    /// Reads the source, a list of an API or a file, and writes what `select` makes of it: renamed,
    /// typed by the schema, without excluded fields and without records for which `where` is false.
    /// Records are not checked against the schema, and repeated keys stay.
    Extract(Extract),
    /// Send one real request and show the reply in full
    Try(Try),
    /// Ask the far side whether the connection works
    CheckConnection(CheckConnection),
    /// Run pipelines, or go on with their runs
    Apply(Apply),
    /// Show where runs stand and what to type next
    Status(Status),
    /// Show everything known about one record
    Explain(Explain),
    /// Send failed records again, as part of the same run
    Retry(Retry),
    /// Settle records in doubt by hand
    Resolve(Resolve),
    /// Ask the far side what became of records in doubt
    Reconcile(Reconcile),
    /// List what the project has
    List(List),
    /// Start the stand-in for the far side
    Sandbox(Sandbox),
    /// Print the JSON Schema of a project file
    Schema(Schema),
    /// Print the completion script of a shell
    Completions(Completions),
    /// Explain a command or a topic
    Help(Help),
}

impl Cli {
    /// Reads a command line, the program's name first.
    pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, failure::Unread> {
        let args: Vec<OsString> = args.into_iter().collect();
        let mut cli = Self::try_parse_from(&args).map_err(|error| failure::Unread::new(&error, &args))?;
        if let Some(found) = cli.misfit() {
            let is_typed = args.iter().any(|arg| arg.to_string_lossy().starts_with("--format"));
            if is_typed {
                return Err(failure::Unread::refused(Failure::new(Class::Usage, found), cli.settings()));
            }
            // The environment says it for all commands; one object is what comes nearest.
            cli.everywhere.format = Format::Json;
        }
        Ok(cli)
    }

    /// How this command reports.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let Everywhere { format, progress, color, quiet, verbose, .. } = self.everywhere;
        let volume = Volume::from_flags(quiet, verbose);
        Settings::new(self.command.name(), format, progress, color, volume, &Surroundings::look())
    }

    /// What each flag alone cannot tell.
    fn misfit(&self) -> Option<Diagnostic> {
        let has_events = matches!(self.command, Command::Apply(_) | Command::Retry(_));
        if self.everywhere.format == Format::Jsonl && !has_events {
            let name = self.command.name();
            return Some(
                Diagnostic::error(
                    "usage",
                    format!("`{name}` has no events, so there is no `--format jsonl`"),
                )
                .help(format!("`runner {name} --format json` gives one object")),
            );
        }
        None
    }
}

impl Command {
    /// The name that is typed.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Init(_) => "init",
            Self::Validate(_) => "validate",
            Self::Plan(_) => "plan",
            Self::Preview(_) => "preview",
            Self::Extract(_) => "extract",
            Self::Try(_) => "try",
            Self::CheckConnection(_) => "check-connection",
            Self::Apply(_) => "apply",
            Self::Status(_) => "status",
            Self::Explain(_) => "explain",
            Self::Retry(_) => "retry",
            Self::Resolve(_) => "resolve",
            Self::Reconcile(_) => "reconcile",
            Self::List(_) => "list",
            Self::Sandbox(_) => "sandbox",
            Self::Schema(_) => "schema",
            Self::Completions(_) => "completions",
            Self::Help(_) => "help",
        }
    }
}

/// The text of `runner help [COMMAND|TOPIC]`.
pub fn help(topic: Option<&str>) -> Result<String, Failure> {
    page(Cli::command(), topic)
}

fn page(mut root: clap::Command, topic: Option<&str>) -> Result<String, Failure> {
    // Gives subcommands their full name and the global flags.
    root.build();
    let Some(topic) = topic else { return Ok(root.render_long_help().to_string()) };
    if let Some(text) = topics::text(topic) {
        return Ok(text.to_owned());
    }
    if let Some(command) = root.find_subcommand_mut(topic) {
        return Ok(command.render_long_help().to_string());
    }
    let commands = root.get_subcommands().map(|command| command.get_name().to_owned());
    let known: Vec<String> = commands.chain(topics::names().map(str::to_owned)).collect();
    let found = Diagnostic::error("usage", format!("there is no command and no topic `{topic}`"));
    let help = did_you_mean(topic, known.iter().map(String::as_str)).unwrap_or_else(|| {
        format!(
            "topics: {}; `runner help` lists the commands",
            topics::names().collect::<Vec<_>>().join(", ")
        )
    });
    Err(Failure::new(Class::Usage, found.help(help)))
}

/// The completion script of a shell.
#[must_use]
pub fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "runner", &mut script);
    script
}

#[cfg(test)]
mod tests;
