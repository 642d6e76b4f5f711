//! `runner apply` and `runner retry`: run pipelines, one after another.

mod followers;
mod order;

use std::path::{Path, PathBuf};
use std::time::Duration;

use order::Order;

use super::status::counts_in_words;
use super::{Refused, far_side, plan};
use crate::cli::args::{Apply, Reconcile, Retry, Selection};
use crate::cli::invocation::{Ask, Invocation, shell_word};
use crate::config::{InDoubt, Pipeline};
use crate::engine::{self, Observer, Report, Said, Select, Start};
use crate::model::{Class, Diagnostic, Event, Failure, Reply, Request, Signal, State};
use crate::outcome::{Checkpoint, Folder};
use crate::report::text::{counted, number};
use crate::report::{Reason, Reporter, RunSummary, Settings, Volume};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The class to exit with.
    pub class: Class,
    /// The signal that ended it in order, if one did.
    pub signal: Option<Signal>,
    /// Exit code of `plan --detailed-exitcode`, which is no class.
    pub code: Option<u8>,
}

impl Ended {
    /// Ended with a class.
    #[must_use]
    pub const fn of(class: Class) -> Self {
        Self { class, signal: None, code: None }
    }
}

/// What `apply` and `retry` have in common.
#[derive(Clone)]
struct Job<'a> {
    ask: Ask<'a>,
    sandbox: bool,
    yes: bool,
    start: Start,
    stop_after: Option<u64>,
}

/// `runner apply`
pub fn apply(invocation: &Invocation<'_>, args: &Apply, reporter: Reporter) -> Result<Ended, Refused> {
    let pipelines = match expand(invocation, &args.pipelines) {
        Ok(pipelines) => pipelines,
        Err(failure) => return Err(Refused::new(failure, reporter)),
    };
    let job = Job {
        ask: Ask { selection: Some(&args.selection), pace: Some(&args.pace), sandbox: args.sandbox },
        sandbox: args.sandbox,
        yes: args.yes,
        start: Start {
            resume: args.run.resume,
            fresh: args.run.fresh,
            again: args.run.again,
            close: args.run.close,
            no_deletes: args.no_deletes,
            accept_changes: args.run.accept_changes,
            limit: args.selection.limit.map(std::num::NonZeroU64::get),
            records: args.selection.records.clone(),
            filter: args.selection.filter.clone(),
            max_duration: args.max_duration,
            ..Start::default()
        },
        stop_after: args.stop_after.map(std::num::NonZeroU64::get),
    };
    if args.dry_run {
        return plan::all(invocation, &pipelines, &job.start, job.ask, (job.sandbox, false), reporter);
    }
    let order = match Order::of(invocation, &pipelines, job.ask, job.sandbox) {
        Ok(order) => order,
        Err(failure) => return Err(Refused::new(failure, reporter)),
    };
    in_order(invocation, &order, &job, args, reporter)
}

/// Runs pipelines one after another; what needs one that did not end well is not begun.
fn in_order(
    invocation: &Invocation<'_>,
    order: &Order,
    job: &Job<'_>,
    args: &Apply,
    mut reporter: Reporter,
) -> Result<Ended, Refused> {
    let is_one = order.iter().count() == 1;
    let mut worst = Class::Ok;
    let mut signal = None;
    let mut ended: Vec<(&str, Option<Class>)> = Vec::new();
    for (named, needs, name) in order.iter() {
        let name = name.unwrap_or("");
        let stands = || signal.is_some() || worst != Class::Ok && !args.keep_going;
        let missed = needs.iter().find(|need| {
            let of_this = ended.iter().find(|(other, _)| other == need);
            of_this.is_some_and(|(_, class)| *class != Some(Class::Ok)) && !args.ignore_needs
        });
        if stands() || missed.is_some() {
            let why =
                missed.map_or_else(String::new, |need| format!(": it needs {need}, which did not end well"));
            reporter.say(&format!("{}: not started{why}", named.display()));
            ended.push((name, None));
            continue;
        }
        let met = if args.ignore_needs { Ok(()) } else { order.unmet(invocation, name, needs) };
        match met.and_then(|()| one(invocation, named, job, "apply", &mut reporter)) {
            Ok(report) => {
                worst = worst.worst(report.class);
                signal = report.signal;
                ended.push((name, Some(report.class)));
            }
            Err(failure) if is_one => return Err(Refused::new(failure, reporter)),
            Err(failure) => {
                worst = worst.worst(failure.class);
                signal = failure.signal;
                ended.push((name, Some(failure.class)));
                for diagnostic in &failure.diagnostics {
                    reporter.diagnostic(diagnostic);
                }
            }
        }
    }
    if !is_one {
        let count =
            |wanted: fn(Option<Class>) -> bool| ended.iter().filter(|(_, class)| wanted(*class)).count();
        reporter.say(&format!(
            "{} pipelines: {} ended well, {} did not, {} not started",
            ended.len(),
            count(|class| class == Some(Class::Ok)),
            count(|class| class.is_some_and(|class| class != Class::Ok)),
            count(|class| class.is_none()),
        ));
    }
    Ok(Ended { class: reporter.close(worst), signal, code: None })
}

/// `runner retry`
pub fn retry(invocation: &Invocation<'_>, args: &Retry, reporter: Reporter) -> Result<Ended, Refused> {
    let selection = Selection { input: args.input.clone(), ..Selection::default() };
    let job = Job {
        ask: Ask { selection: Some(&selection), pace: Some(&args.pace), sandbox: args.sandbox },
        sandbox: args.sandbox,
        yes: args.yes,
        start: Start {
            accept_changes: args.accept_changes,
            limit: args.limit.map(std::num::NonZeroU64::get),
            retry: Some(args.filter.clone()),
            captures: args
                .captures
                .iter()
                .map(|said| Said {
                    step: said.step.clone(),
                    name: said.name.clone(),
                    value: said.value.clone(),
                })
                .collect(),
            ..Start::default()
        },
        stop_after: None,
    };
    alone(invocation, &args.pipeline, &job, "retry", reporter)
}

/// `runner reconcile`: a start of the run that only asks.
pub fn reconcile(
    invocation: &Invocation<'_>,
    args: &Reconcile,
    reporter: Reporter,
) -> Result<Ended, Refused> {
    let selection = Selection { input: args.input.clone(), ..Selection::default() };
    let select = if !args.ordinals.is_empty() {
        Select::Ordinals(args.ordinals.clone())
    } else if !args.records.is_empty() {
        Select::Keys { keys: args.records.clone(), public: false }
    } else {
        Select::All
    };
    let job = Job {
        ask: Ask { selection: Some(&selection), pace: Some(&args.pace), sandbox: args.sandbox },
        sandbox: args.sandbox,
        // It changes nothing over there.
        yes: true,
        start: Start { reconcile: Some(select), ..Start::default() },
        stop_after: None,
    };
    alone(invocation, &args.pipeline, &job, "reconcile", reporter)
}

fn alone(
    invocation: &Invocation<'_>,
    named: &Path,
    job: &Job<'_>,
    command: &str,
    mut reporter: Reporter,
) -> Result<Ended, Refused> {
    match one(invocation, named, job, command, &mut reporter) {
        Ok(report) => Ok(Ended { class: reporter.close(report.class), signal: report.signal, code: None }),
        Err(failure) => Err(Refused::new(failure, reporter)),
    }
}

fn one(
    invocation: &Invocation<'_>,
    named: &Path,
    job: &Job<'_>,
    command: &str,
    reporter: &mut Reporter,
) -> Result<Report, Failure> {
    let (mut pipeline, warnings) = invocation.pipeline(named, job.ask)?;
    reporter.hide(invocation.mask());
    for warning in &warnings {
        reporter.diagnostic(warning);
    }
    if let Some(failures) = job.stop_after {
        pipeline.delivery.stop_when.failures = Some(failures);
    }
    if job.start.reconcile.is_some() {
        look_only(&mut pipeline)?;
    }
    let target = if job.sandbox { far_side::TARGET.to_owned() } else { pipeline.environment.clone() };
    let deleting = followers::again(invocation, &mut pipeline, named, (job, &target, command), reporter)?;
    let followed = (pipeline.webhook.is_some() || pipeline.deletes.is_some()).then(|| pipeline.clone());
    let mut job = job.clone();
    job.start.deletes = deleting.as_ref().map(|(deleting, _)| deleting.keys());
    let report = send(invocation, pipeline, named, &job, command, reporter);
    if let Some((deleting, of)) = deleting {
        deleting.settle(&of, &target)?;
    }
    let mut report = report?;
    if let Some(followed) = followed
        && report.signal.is_none()
    {
        let of = (&job, &*target, command);
        let class = followers::run(invocation, &followed, named, of, report.class, reporter);
        report.class = report.class.worst(class);
    }
    Ok(report)
}

/// Sends a pipeline that was read.
fn send(
    invocation: &Invocation<'_>,
    mut pipeline: Pipeline,
    named: &Path,
    job: &Job<'_>,
    command: &str,
    reporter: &mut Reporter,
) -> Result<Report, Failure> {
    let typed = invocation.typed(command, named, job.sandbox);
    let sandbox = if job.sandbox {
        // The far side's limits are nobody's here.
        if job.ask.pace.is_none_or(|pace| pace.rate.is_none()) {
            pipeline.delivery.rate = None;
        }
        Some(far_side::stand_in(invocation, &mut pipeline)?)
    } else {
        if pipeline.confirm && !job.yes {
            confirm(invocation, &pipeline)?;
        }
        if job.start.fresh && !job.yes {
            confirm_fresh(invocation, &pipeline)?;
        }
        None
    };
    warn_unverified(&pipeline, reporter);
    let target = if job.sandbox { far_side::TARGET.to_owned() } else { pipeline.environment.clone() };
    let settings = invocation.cli().settings();
    let start =
        Start { target, command: typed, show_keys: settings.volume >= Volume::Records, ..job.start.clone() };
    let name = pipeline.name.clone();
    let can_ask = pipeline.can_ask();
    let report = engine::apply(pipeline, &start, &mut Watcher { reporter, settings: &settings })?;
    drop(sandbox);
    for diagnostic in &report.diagnostics {
        reporter.diagnostic(diagnostic);
    }
    if let Some(line) = asked(&name, &report) {
        reporter.say(&line);
    }
    if report.nothing_to_do {
        reporter.say(&format!("{name}: nothing to do, run {} is settled", report.run));
    }
    reporter.end_run(&summary(invocation, &name, named, &report, job, can_ask));
    Ok(report)
}

/// Has the far side asked about doubt, whatever the pipeline's own policy is.
fn look_only(pipeline: &mut Pipeline) -> Result<(), Failure> {
    if pipeline.can_ask() {
        for step in pipeline.steps_mut().filter(|step| step.endpoint.reconcile.is_some()) {
            step.in_doubt = InDoubt::Probe;
        }
        return Ok(());
    }
    Err(Failure::new(
        Class::Config,
        Diagnostic::error(
            "reconcile-missing",
            format!(
                "the endpoint {} does not say how to ask about a request in doubt",
                pipeline.endpoint().name
            ),
        )
        .place(&pipeline.endpoint().place)
        .note("nothing was asked, nothing was changed")
        .help("describe the look in its template (`reconcile:`), or decide by hand with `runner resolve`"),
    ))
}

/// What the far side told about records in doubt, in one line.
fn asked(name: &str, report: &Report) -> Option<String> {
    let engine::Asked { applied, not_applied, unclear } = report.asked;
    let parts: Vec<String> =
        [(applied, "had arrived"), (not_applied, "had not arrived"), (unclear, "could not be told")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{} {what}", number(count)))
            .collect();
    (!parts.is_empty()).then(|| {
        let all = counted(applied + not_applied + unclear, "record", "records");
        format!("{name}: asked about {all} in doubt: {}", parts.join(", "))
    })
}

/// The summary of a start, with the commands that come next.
fn summary(
    invocation: &Invocation<'_>,
    pipeline: &str,
    named: &Path,
    report: &Report,
    job: &Job<'_>,
    can_ask: bool,
) -> RunSummary {
    let counts = &report.counts;
    let typed = |command: &str| invocation.typed(command, named, job.sandbox);
    // Another file than the pipeline's: the run goes on only with the same one.
    let input = job.ask.selection.and_then(|selection| selection.input.as_deref());
    let input = input.filter(|input| *input != Path::new("-"));
    let input =
        input.map(|input| format!(" --input {}", shell_word(&input.to_string_lossy()))).unwrap_or_default();
    let mut next = Vec::new();
    if counts.unsent > 0 && report.class != Class::InDoubt || report.signal.is_some() {
        next.push(format!("{}{input}", typed("apply")));
    }
    if counts.in_doubt > 0 {
        if can_ask && report.asked.unclear == 0 {
            next.push(format!("{}{input}", typed("reconcile")));
        }
        next.push(format!("{} --all --resend (or --delivered, --failed, --skip)", typed("resolve")));
    }
    if counts.failed > 0 && counts.unsent == 0 {
        next.push(format!("{}{input}", typed("retry")));
    }
    RunSummary {
        pipeline: pipeline.to_owned(),
        run_id: report.run.clone(),
        class: report.class,
        state: report.state.to_owned(),
        counts: report.counts,
        before: report.before,
        attempts: report.attempts,
        pacing: report.pacing,
        seconds: report.took.as_secs_f64(),
        reasons: report
            .reasons
            .iter()
            .filter(|reason| reason.state != State::Skipped)
            .map(|reason| Reason {
                state: reason.state,
                status: reason.status,
                class: reason.class.clone(),
                message: reason.message.clone(),
                count: reason.count,
            })
            .collect(),
        files: report.files.iter().map(|file| (file.name.to_owned(), invocation.shown(&file.path))).collect(),
        next,
        place: Some(invocation.shown(&report.folder)),
    }
}

/// Folders stand for the pipelines in them, by name.
fn expand(invocation: &Invocation<'_>, named: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut pipelines = Vec::new();
    for path in named {
        let full = invocation.cwd().join(path);
        if !full.is_dir() {
            pipelines.push(path.clone());
            continue;
        }
        let entries =
            std::fs::read_dir(&full).map_err(|error| Failure::io("read the folder", path, &error))?;
        let mut found: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.file_name())
            .filter(|name| {
                name != "runner.yaml"
                    && Path::new(name).extension().is_some_and(|ending| ending == "yaml" || ending == "yml")
            })
            .map(|name| path.join(name))
            .collect();
        if found.is_empty() {
            return Err(Failure::new(
                Class::Config,
                Diagnostic::error("pipeline-missing", format!("there is no pipeline in {}", path.display()))
                    .help("`runner list pipelines` shows what there is"),
            ));
        }
        found.sort();
        pipelines.append(&mut found);
    }
    Ok(pipelines)
}

/// Asks before it sends to an environment that is marked `confirm: true`.
pub(super) fn confirm(invocation: &Invocation<'_>, pipeline: &Pipeline) -> Result<(), Failure> {
    let Pipeline { name, connection, environment, .. } = pipeline;
    let question = format!(
        "send {name} to {} (connection {}, environment {environment})?",
        connection.base_url, connection.name
    );
    let why = format!("the environment `{environment}` is marked `confirm: true`; nothing was sent");
    ask(invocation, &question, why)
}

/// Asks before `--fresh` drops a run that is not finished.
fn confirm_fresh(invocation: &Invocation<'_>, pipeline: &Pipeline) -> Result<(), Failure> {
    let folder = Folder::new(&pipeline.state_dir, &pipeline.environment, &pipeline.name);
    let Some(checkpoint) = Checkpoint::open_to_read(&folder)? else { return Ok(()) };
    // A run that is under way is refused by its lock, with a better message.
    let unfinished = engine::standing(&folder, &checkpoint)?
        .filter(|old| old.counts.unsent > 0 && old.run.closed_at.is_none() && old.state != "running");
    drop(checkpoint);
    let Some(old) = unfinished else { return Ok(()) };
    let question = format!(
        "begin {} again to {} (connection {}, environment {})? {} of {} records may have arrived and go out a \
         second time",
        pipeline.name,
        pipeline.connection.base_url,
        pipeline.connection.name,
        pipeline.environment,
        number(old.counts.delivered + old.counts.in_doubt),
        number(old.counts.total())
    );
    ask(
        invocation,
        &question,
        format!("run {} is not finished: {}; nothing was sent", old.run.id, counts_in_words(&old.counts)),
    )
}

/// Asks a person, who has to be there unless `--yes` answered.
fn ask(invocation: &Invocation<'_>, question: &str, why: String) -> Result<(), Failure> {
    use std::io::{IsTerminal as _, Write as _};
    let refused = |message: &str| {
        Failure::new(
            Class::Usage,
            Diagnostic::error("not-confirmed", message.to_owned()).note(why).help("`--yes` answers"),
        )
    };
    if invocation.cli().everywhere.no_input || !std::io::stdin().is_terminal() {
        return Err(refused("there is nobody to ask whether to send"));
    }
    let mut stderr = std::io::stderr().lock();
    let _ = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
    let mut answer = String::new();
    let _ = std::io::stdin().read_line(&mut answer);
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(refused("the answer was no")) }
}

/// Says at every start that nobody looks at certificates, of any connection that is used.
pub fn warn_unverified(pipeline: &Pipeline, reporter: &mut Reporter) {
    let tables = pipeline.lookups.iter().filter_map(|lookup| lookup.listing.as_ref());
    let lists = pipeline.listing.iter().chain(tables).map(|listing| &listing.connection);
    let mut said: Vec<&str> = Vec::new();
    for connection in std::iter::once(&pipeline.connection).chain(lists).filter(|it| it.tls.insecure) {
        if said.contains(&connection.name.as_str()) {
            continue;
        }
        said.push(&connection.name);
        reporter.diagnostic(
            &Diagnostic::warning(
                "tls-unverified",
                "certificates of this connection are not verified (`tls: { verify: false }`)",
            )
            .place(&connection.place),
        );
    }
}

/// Passes on what the engine tells.
struct Watcher<'a> {
    reporter: &'a mut Reporter,
    settings: &'a Settings,
}

impl Observer for Watcher<'_> {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Warning(diagnostic) => self.reporter.diagnostic(diagnostic),
            event => self.reporter.event(event),
        }
    }

    fn tick(&mut self) {
        self.reporter.tick();
    }

    fn status(&mut self) {
        self.reporter.show_status();
    }

    fn attempted(&mut self, ordinal: u64, request: &Request, reply: &Reply, took: Duration) {
        if self.settings.volume >= Volume::Requests {
            self.reporter.event(&Event::Attempted {
                ordinal,
                request: format!("{} {}", request.method, request.url),
                reply: reply.clone(),
                took,
            });
        }
    }
}
