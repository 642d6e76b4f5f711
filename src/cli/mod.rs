//! Arguments in, exit code out.
//!
//! Flags are declared in `args` and stop there; `failure` alone turns an ending into text and an
//! exit code; `topics` holds the pages of `runner help TOPIC`.

pub mod args;
pub mod failure;
pub mod topics;
mod values;

pub use values::{Rate, Setting};

mod commands;
mod invocation;
mod logs;
mod table;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::model::Signal;
use crate::report::Reporter;

/// Runs the program: reads the command line, does what it says, gives the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Memory holds secrets: no core file is written of it.
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    let cli = match args::Cli::read(arguments) {
        Ok(cli) => cli,
        Err(unread) => return unread.show(),
    };
    let settings = cli.settings();
    if let Err(failure) = logs::start(&settings.logs) {
        return failure::show(&failure, &settings, crate::model::Mask::default());
    }
    let invocation = match invocation::Invocation::new(&cli) {
        Ok(invocation) => invocation,
        Err(failure) => return failure::show(&failure, &settings, crate::model::Mask::default()),
    };
    let reporter = Reporter::new(&settings, crate::model::Mask::default());
    match commands::run(&invocation, reporter) {
        Ok(ended) => {
            die_of(ended.signal);
            ended.code.map_or_else(|| failure::exit(ended.class), ExitCode::from)
        }
        Err(refused) => {
            let (failure, mut reporter) = refused.parts();
            reporter.hide(invocation.mask());
            let class = failure::report(&failure, reporter);
            die_of(failure.signal);
            failure::exit(class)
        }
    }
}

/// A shell loop around us stops only when it sees that we died of the signal.
fn die_of(signal: Option<Signal>) {
    if signal == Some(Signal::Interrupt) {
        let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGINT);
    }
}
