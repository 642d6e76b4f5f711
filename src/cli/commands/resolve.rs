//! `runner resolve`: settles records in doubt by hand.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::status::{as_warnings, counts_in_words, counts_json, input_flag, next_of, plan_of};
use super::{Ended, Refused, far_side};
use crate::cli::args::Resolve as Args;
use crate::cli::invocation::{Ask, Invocation};
use crate::engine::{self, Resolved, Select};
use crate::model::{Class, Counts, Diagnostic, Failure};
use crate::outcome::{Checkpoint, Folder, Settlement};
use crate::report::Reporter;
use crate::report::text::counted;

/// `runner resolve`
pub fn resolve(invocation: &Invocation<'_>, args: &Args, mut reporter: Reporter) -> Result<Ended, Refused> {
    match settle(invocation, args, &mut reporter) {
        Ok((human, summary)) => Ok(Ended::of(reporter.answer(Class::Ok, 0, &human, summary))),
        Err(failure) => Err(Refused::new(failure, reporter)),
    }
}

fn settle(
    invocation: &Invocation<'_>,
    args: &Args,
    reporter: &mut Reporter,
) -> Result<(String, Value), Failure> {
    let (pipeline, _) = invocation.pipeline(&args.pipeline, Ask::default())?;
    let target = if args.sandbox { far_side::TARGET } else { &pipeline.environment };
    let folder = Folder::new(&pipeline.state_dir, target, &pipeline.name);
    if !folder.database().exists() {
        return Err(Failure::new(
            Class::State,
            Diagnostic::error("nothing-held", format!("{} has no runs", pipeline.name))
                .note("nothing was changed")
                .help("`runner status` shows the runs that are kept; the sandbox has its own (`--sandbox`)"),
        ));
    }
    let lock = folder.lock()?;
    let checkpoint = Checkpoint::open(&folder)?;
    let select = if args.which.all {
        Select::All
    } else if args.which.ordinals.is_empty() {
        let public = pipeline.key.as_ref().is_some_and(|key| key.public);
        Select::Keys { keys: args.which.records.clone(), public }
    } else {
        Select::Ordinals(args.which.ordinals.clone())
    };
    let settlement = args.settlement.choice();
    let resolved = engine::resolve(&checkpoint, settlement, &select, &|step| pipeline.is_followed(step))?;
    // What was decided is on disk; the files can be made later, too.
    for each in &resolved {
        let made = plan_of(pipeline.clone(), &folder, &each.run)
            .and_then(|plan| engine::rewrite(&plan, &folder, &checkpoint, &each.run));
        if let Err(failure) = made {
            for warning in as_warnings(failure) {
                reporter.diagnostic(&warning);
            }
        }
    }
    let newest = checkpoint.latest_run()?;
    let left = newest.as_ref().map(|run| checkpoint.counts(run)).transpose()?.unwrap_or_default();
    let is_closed = newest.as_ref().is_some_and(|run| run.closed_at.is_some());
    let input = newest.as_ref().map(|run| input_flag(invocation, run)).unwrap_or_default();
    let can_ask = pipeline.can_ask();
    drop(lock);
    let next = next_of(&left, is_closed, can_ask, &input, &|command| {
        invocation.typed(command, &args.pipeline, args.sandbox)
    });
    Ok(answer(
        &pipeline.name,
        settlement,
        &resolved,
        &next,
        &invocation.typed("apply", &args.pipeline, args.sandbox),
    ))
}

fn answer(
    pipeline: &str,
    settlement: Settlement,
    resolved: &[Resolved],
    next: &[String],
    apply: &str,
) -> (String, Value) {
    let what = match settlement {
        Settlement::Resend => "goes out again",
        Settlement::Skip => "skipped",
        Settlement::Delivered => "delivered",
        Settlement::Failed => "failed",
    };
    let mut human = String::new();
    for Resolved { run, before, after, records } in resolved {
        let _ =
            writeln!(human, "{pipeline}: {}: {what}, run {}", counted(*records, "record", "records"), run.id);
        let row = |out: &mut String, name: &str, counts: &Counts| {
            let _ = writeln!(out, "  {name:<12}{}", counts_in_words(counts));
        };
        row(&mut human, "before", before);
        row(&mut human, "after", after);
    }
    if settlement == Settlement::Resend {
        let _ = writeln!(human, "nothing was sent yet");
    }
    for (at, next) in next.iter().enumerate() {
        let _ = writeln!(human, "{:<6}{next}", if at == 0 { "next:" } else { "" });
    }
    let summary = json!({
        "pipeline": pipeline,
        "settled": settlement.name(),
        "runs": resolved.iter().map(|Resolved { run, before, after, records }| json!({
            "run_id": run.id,
            "records": records,
            "before": counts_json(before),
            "counts": counts_json(after),
        })).collect::<Vec<_>>(),
        "next": next,
        "apply": apply,
    });
    (human, summary)
}
