//! One file a command; each loads what it needs, calls the engine and reports.

mod apply;
mod check_connection;
mod completions;
mod explain;
mod extract;
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
use super::invocation::Invocation;

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
pub fn run(invocation: &Invocation<'_>, reporter: Reporter) -> Result<Ended, Refused> {
    match &invocation.cli().command {
        Command::Apply(args) => apply::apply(invocation, args, reporter),
        Command::Retry(args) => apply::retry(invocation, args, reporter),
        Command::Plan(args) => plan::plan(invocation, args, reporter),
        Command::Preview(args) => preview::preview(invocation, args, reporter),
        Command::Try(args) => try_one::try_one(invocation, args, reporter),
        Command::Status(args) => status::status(invocation, args, reporter),
        Command::Reconcile(args) => apply::reconcile(invocation, args, reporter),
        Command::Extract(args) => extract::extract(invocation, args, reporter),
        Command::Explain(args) => explain::explain(invocation, args, reporter),
        Command::Resolve(args) => resolve::resolve(invocation, args, reporter),
        Command::Sandbox(args) => sandbox::sandbox(invocation, args, reporter),
        Command::Init(args) => init::init(invocation, args, reporter),
        Command::Validate(args) => validate::validate(invocation, args, reporter),
        Command::CheckConnection(args) => check_connection::check_connection(invocation, args, reporter),
        Command::List(args) => list::list(invocation, args, reporter),
        Command::Schema(args) => schema::schema(invocation, args, reporter),
        Command::Completions(args) => Ok(completions::completions(args, reporter)),
        Command::Help(args) => help::help(args, reporter),
    }
}
