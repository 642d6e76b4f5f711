//! The only place where the stages meet. [`apply`] reads top to bottom.
//!
//! A start looks at everything that can be looked at, decides what to do with what it finds,
//! settles the doubt of an earlier start, and then lets a reading thread and one sending loop
//! work until all is settled or something stops them.

mod attach;
pub mod block;
mod copies;
pub mod deletes;
mod dispatch;
mod explain;
mod extract;
mod feed;
mod finish;
mod gather;
pub mod grouping;
mod identity;
pub mod listing;
mod look;
mod lookups;
mod manifest;
mod narrow;
pub mod open;
mod plan;
pub mod prepare;
mod reconcile;
mod recover;
pub mod replies;
mod resolve;
mod resume;
mod retry;
mod session;
mod sieve;
mod spools;
pub mod stand_in;
mod status;
mod steps;
mod stop;
pub mod survey;
#[cfg(test)]
mod tests_property;
mod trial;
pub mod vanished;
mod verify;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Pipeline;
use crate::deliver::Sender;
use crate::model::{Class, Counts, Diagnostic, Event, Failure, Pacing, Reply, Request, Signal};
use crate::outcome::{Checkpoint, Folder, Reason, Use};
use crate::source::{self};

pub use dispatch::{Asked, Stopped};
pub use explain::{Explained, InRun, Named, consequence, explain};
pub use extract::{Extracted, Form, extract};
pub use finish::{Files, class_of, write_files};
pub use identity::{destination, meaning_digests};
pub use narrow::Narrow;
pub use open::{Plan, Wanted};
pub use plan::{Course, Forecast, Group, Prospect, Shown, Which};
pub use resolve::{Resolved, Select, resend, resolve};
pub use retry::Said;
pub use status::{Standing, names, rewrite, standing};
pub use steps::Ahead;
pub use stop::{Until, may_block};
pub use trial::{AdHoc, One, Tried};
pub use verify::verify;

use session::{Session, narrowing};
use spools::Spools;

/// Whom the engine tells what happens. All calls come from the thread that runs it.
pub trait Observer {
    /// Something happened.
    fn event(&mut self, event: &Event);
    /// About ten times a second: redraw.
    fn tick(&mut self);
    /// Somebody asked for a status line.
    fn status(&mut self);
    /// An attempt ended; called for every attempt, so it has to be cheap when nobody looks.
    fn attempted(&mut self, ordinal: u64, request: &Request, reply: &Reply, took: Duration);
}

/// What was asked of one start.
#[derive(Debug, Clone, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of its own; the command line refuses two that exclude each other"
)]
pub struct Start {
    /// The state's target: the environment, or `sandbox`.
    pub target: String,
    /// Go on with a run, or refuse.
    pub resume: bool,
    /// Begin again, whatever there is.
    pub fresh: bool,
    /// Send records again that earlier runs delivered.
    pub again: bool,
    /// Delete nothing that vanished from the input.
    pub no_deletes: bool,
    /// Close an unfinished run over other input.
    pub close: bool,
    /// Go on under a changed meaning.
    pub accept_changes: bool,
    /// At most so many requests.
    pub limit: Option<u64>,
    /// Only these keys.
    pub records: Vec<String>,
    /// Only records for which this expression is true.
    pub filter: Option<String>,
    /// End after this time.
    pub max_duration: Option<Duration>,
    /// Send failed records again: all, or those for which the expression is true.
    pub retry: Option<Option<String>>,
    /// With `retry`: what replies should have brought, for the one record that is chosen.
    pub captures: Vec<Said>,
    /// Only ask the far side about these records in doubt; nothing is sent.
    pub reconcile: Option<Select>,
    /// `try`: this one record.
    pub one: Option<One>,
    /// Of what vanished from another pipeline's input, what may be deleted now: hashes of keys, ascending
    /// ([`deletes::Deleting`]).
    pub deletes: Option<Arc<[u64]>>,
    /// Whether keys of single records are shown.
    pub show_keys: bool,
    /// How this command is typed, for messages.
    pub command: String,
}

/// How a start ended.
#[derive(Debug)]
pub struct Report {
    /// The run.
    pub run: String,
    /// The class.
    pub class: Class,
    /// Whether every record has an outcome, or why not.
    pub state: &'static str,
    /// Over all starts.
    pub counts: Counts,
    /// Before this start.
    pub before: Counts,
    /// Attempts begun in this start.
    pub attempts: u64,
    /// What the far side told about records in doubt.
    pub asked: Asked,
    /// Where adaptive concurrency stood at the end, if it is.
    pub pacing: Option<Pacing>,
    /// How long it took.
    pub took: Duration,
    /// Why records were not delivered.
    pub reasons: Vec<Reason>,
    /// The outcome files.
    pub files: Vec<crate::outcome::files::Written>,
    /// Where they lie.
    pub folder: std::path::PathBuf,
    /// What else is to be told.
    pub diagnostics: Vec<Diagnostic>,
    /// The signal that ended it.
    pub signal: Option<Signal>,
    /// Whether there was nothing to do.
    pub nothing_to_do: bool,
}

/// Runs a pipeline, or goes on with its run.
pub fn apply(pipeline: Pipeline, start: &Start, observer: &mut dyn Observer) -> Result<Report, Failure> {
    let begun = Instant::now();
    deletes::refuse_alone(&pipeline, start)?;
    // Asking for a status before there is one must not end the process, as the signal does by default.
    let unheard = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let _ = signal_hook::flag::register(signal_hook::consts::SIGUSR1, unheard);
    if let Some(failure) = pipeline.connection.unset_failure() {
        return Err(failure);
    }
    let sender = Sender::new(&pipeline.connection, &pipeline.delivery)?;
    let folder = Folder::new(&pipeline.state_dir, &start.target, &pipeline.name);
    let usage = if pipeline.require_state { Use::MustExist } else { Use::Create };
    // Mistakes of the files are told before anything is made on disk; standard input can only be
    // looked at once it lies in a file.
    let asks = pipeline.lists().next().is_some();
    let mut spools = None;
    let (plan, lock) = if asks || pipeline.source.is_stdin() {
        if asks {
            // Its own mistakes are told before anything is asked for.
            let wanted = Wanted { input_may_be_missing: true, ..start.wanted(None, &folder) };
            open::open(pipeline.clone(), &wanted)?;
        }
        folder.prepare(usage)?;
        let lock = folder.lock()?;
        folder.sweep();
        let stdin = pipeline.source.is_stdin().then(|| folder.stdin());
        if let Some(spool) = &stdin {
            source::spool(&mut std::io::stdin().lock(), spool)?;
        }
        let deadline = start.max_duration.map(|limit| begun + limit);
        let brought = Spools::bring(&pipeline, (&folder, stdin.as_deref()), (start, deadline), observer)?;
        let wanted =
            Wanted { new_tables: brought.new_tables(), ..start.wanted(brought.list().or(stdin), &folder) };
        spools = Some(brought);
        (open::open(pipeline, &wanted)?, lock)
    } else {
        let plan = open::open(pipeline, &start.wanted(None, &folder))?;
        folder.prepare(usage)?;
        let lock = folder.lock()?;
        folder.sweep();
        (plan, lock)
    };
    for warning in &plan.warnings {
        observer.event(&Event::Warning(warning.clone()));
    }
    let narrow = narrowing(&plan, start)?;
    let checkpoint = Checkpoint::open_to_start(&folder)?;
    deletes::settle(&plan.pipeline, &start.target, &checkpoint)?;
    let session = Session { plan, start, folder, checkpoint, spools, sender, narrow, begun, lock };
    session.run(observer)
}

impl Start {
    /// Whether it is the input that says which run this is about, and not records of a run.
    const fn is_of_input(&self) -> bool {
        self.retry.is_none() && self.reconcile.is_none() && self.one.is_none()
    }

    /// Refuses a start that is about records of a run, where no run is kept of its input.
    fn refuse_without_run(&self) -> Result<(), Failure> {
        if self.retry.is_some() {
            return Err(retry::no_run());
        }
        if self.reconcile.is_some() {
            return Err(reconcile::nothing_held("no run of this input is kept"));
        }
        Ok(())
    }

    fn wanted(&self, spool: Option<std::path::PathBuf>, folder: &Folder) -> Wanted {
        Wanted {
            target: self.target.clone(),
            show_keys: self.show_keys,
            spool,
            folder: Some(folder.clone()),
            ..Wanted::default()
        }
    }
}
