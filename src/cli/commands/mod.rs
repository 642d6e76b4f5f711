//! One file a command; each loads what it needs, calls the engine and reports.

mod apply;
mod check_connection;
mod completions;
mod far_side;
mod help;
mod init;
mod list;
mod plan;
mod preview;
mod request;
mod resolve;
mod sandbox;
mod schema;
mod status;
mod try_one;
mod validate;

use crate::model::Failure;
use crate::report::Reporter;

use super::args::Command;
use super::workplace::Workplace;

pub use apply::Ended;

/// Why a command cannot go on, with the reporter that has to say it.
pub struct Refused(Box<(Failure, Reporter)>);

impl Refused {
    fn new(failure: Failure, reporter: Reporter) -> Self {
        Self(Box::new((failure, reporter)))
    }

    /// Both parts.
    pub fn parts(self) -> (Failure, Reporter) {
        *self.0
    }
}

/// Runs the command. The class to exit with comes back with the signal that ended it, if any.
pub fn run(workplace: &Workplace<'_>, reporter: Reporter) -> Result<Ended, Refused> {
    match &workplace.cli().command {
        Command::Apply(args) => apply::apply(workplace, args, reporter),
        Command::Retry(args) => apply::retry(workplace, args, reporter),
        Command::Plan(args) => plan::plan(workplace, args, reporter),
        Command::Preview(args) => preview::preview(workplace, args, reporter),
        Command::Try(args) => try_one::try_one(workplace, args, reporter),
        Command::Status(args) => status::status(workplace, args, reporter),
        Command::Resolve(args) => resolve::resolve(workplace, args, reporter),
        Command::Sandbox(args) => sandbox::sandbox(workplace, args, reporter),
        Command::Init(args) => init::init(workplace, args, reporter),
        Command::Validate(args) => validate::validate(workplace, args, reporter),
        Command::CheckConnection(args) => check_connection::check_connection(workplace, args, reporter),
        Command::List(args) => list::list(workplace, args, reporter),
        Command::Schema(args) => schema::schema(workplace, args, reporter),
        Command::Completions(args) => Ok(completions::completions(args, reporter)),
        Command::Help(args) => help::help(args, reporter),
    }
}
