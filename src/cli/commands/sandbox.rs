//! `runner sandbox`: the stand-in as a server on loopback.

use super::{Ended, Refused};
use crate::cli::args::Sandbox as Args;
use crate::cli::invocation::Invocation;
use crate::engine::stand_in;
use crate::model::{Class, Diagnostic, Failure, did_you_mean};
use crate::report::Reporter;
use crate::sandbox::{Bodies, Options, Sandbox, Script};

/// Serves until it is interrupted.
pub fn sandbox(invocation: &Invocation<'_>, args: &Args, mut reporter: Reporter) -> Result<Ended, Refused> {
    let handle = match start(invocation, args) {
        Ok(handle) => handle,
        Err(failure) => return Err(Refused::new(failure, reporter)),
    };
    // The first line is what a script reads: the address alone.
    reporter.announce(&handle.url());
    reporter.say("serving until Ctrl-C; requests to any other address never leave this machine");
    let ended = wait();
    drop(handle);
    match ended {
        Ok(()) => Ok(Ended::of(reporter.close(Class::Ok))),
        Err(failure) => Err(Refused::new(failure, reporter)),
    }
}

fn start(invocation: &Invocation<'_>, args: &Args) -> Result<crate::sandbox::Handle, Failure> {
    let project = invocation.project()?;
    let mut rules: Option<crate::sandbox::Rules> = None;
    let mut known = Vec::new();
    for named in &project.connections {
        let (connection, _) = invocation.connection(&project, named)?;
        let Some(connector) = connection.connector.clone() else { continue };
        known.push(connector.clone());
        let wanted = args.connector.as_ref().is_none_or(|wanted| *wanted == connector || wanted == named);
        if wanted && rules.is_none() {
            let endpoints = invocation.endpoints(&project, &connector)?;
            rules = Some(stand_in::rules(&connection, &endpoints, &project.root)?);
        }
    }
    let Some(rules) = rules else {
        let wanted = args.connector.as_deref().unwrap_or("a connector");
        let mut diagnostic =
            Diagnostic::error("connector-missing", format!("no connection of this project uses {wanted}"));
        diagnostic.help = did_you_mean(wanted, known.iter().map(String::as_str));
        return Err(Failure::new(Class::Usage, diagnostic));
    };
    let script = match &args.script {
        None => Script::default(),
        Some(path) => {
            let full = invocation.cwd().join(path);
            let text = std::fs::read_to_string(&full)
                .map_err(|error| Failure::io("read the script", path, &error))?;
            Script::parse(&path.to_string_lossy(), &text).map_err(Failure::config)?
        }
    };
    let options = Options {
        listen: args.listen,
        store: args.store.as_ref().map(|store| invocation.cwd().join(store)),
        journal: args.journal.as_ref().map(|journal| invocation.cwd().join(journal)),
        script,
        remember: 0,
        bodies: if args.ids_only { Bodies::Drop } else { Bodies::Keep },
        ..Options::default()
    };
    Sandbox::start(rules, options)
}

/// Waits for a signal.
fn wait() -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Class::Io, Diagnostic::error("io", format!("cannot listen to signals: {error}")))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}
