//! What a start finds before it does anything: the run, the input, and what follows from both.
//!
//! Apart from the start itself, so that `plan` sees what `apply` would see. Nothing is written
//! here but temporary files of the first pass.

use std::path::Path;
use std::sync::Arc;

use crate::config::{Idempotency, OnNewInput, Sync};
use crate::model::{Class, Counts, Diagnostic, Failure};
use crate::outcome::{Checkpoint, NewRun, RunRow};
use crate::render::RunValues;
use crate::source;

use super::copies::Copies;
use super::open::Plan;
use super::resume::{self, Decision, Now};
use super::survey::{LeavesOut, Survey};
use super::vanished::{self, Doomed, Gone, Vanished};
use super::{Observer, Start, identity, survey};

/// What a start finds.
pub struct Look {
    /// The run that this input belongs to, or else the newest, and its counts.
    pub last: Option<(RunRow, Counts)>,
    /// What to do, or why not.
    pub decision: Result<Decision, Failure>,
    /// What a new run would begin with.
    pub new: NewRun,
    /// Values of a new run.
    pub new_values: RunValues,
    /// Records that are not sent because of their key, sorted.
    pub dropped: Arc<[(u64, u64)]>,
    /// Records whose key an earlier run delivered.
    pub delivered_before: u64,
    /// Whether the input was read, because its files are not those that the run knows.
    pub surveyed: bool,
    /// Which of the records that an earlier run delivered are left out.
    pub leaves_out: LeavesOut,
    /// What the input does not have any more; known where it was read and that matters.
    pub vanished: Vanished,
    /// The input is an outcome file of the run: copies of its records.
    pub copies: Option<Copies>,
    /// The run that wrote the input, where it is not kept any more.
    pub gone: Option<String>,
}

/// Looks. `folder` takes temporary files.
pub fn look(
    plan: &Plan,
    start: &Start,
    checkpoint: Option<&Checkpoint>,
    folder: &Path,
    observer: &mut dyn Observer,
) -> Result<Look, Failure> {
    let pipeline = &plan.pipeline;
    let runs = checkpoint.map(Checkpoint::runs).transpose()?.unwrap_or_default();
    checkpoint.map_or(Ok(()), Checkpoint::check_small)?;
    let newest_is_open = match (checkpoint, runs.last()) {
        (Some(checkpoint), Some(run)) => run.closed_at.is_none() && checkpoint.counts(run)?.unsent > 0,
        _ => false,
    };
    // What is not finished comes before all else. An input of which an older run knew, put back, is a change
    // of what was delivered last.
    let compares = pipeline.sync == Some(Sync::Changed) && start.is_of_input();
    let candidates: Vec<&RunRow> =
        runs.iter().rev().take(if newest_is_open || compares { 1 } else { usize::MAX }).collect();
    let stamp = source::stamp(&pipeline.source, &pipeline.root, plan.spool.as_deref())?;
    let stamp = serde_json::to_string(&stamp).unwrap_or_default();
    let input = pipeline.source.file.clone();

    // The id and time of a run that goes on are those that it began with.
    let new_values = identity::new_run(&pipeline.name);
    let mut digests = identity::meaning_digests(plan);
    let untouched = candidates.iter().copied().find(|run| {
        !start.fresh
            && run.input == input
            && run.input_stamp == stamp
            && run.duplicates == 0
            && plan.spool.is_none()
            // Another meaning can name other keys.
            && run.meaning == digests.meaning
    });
    let survey_values =
        runs.last().map_or_else(|| new_values.clone(), |run| identity::values(run, &pipeline.name));
    let mut survey = None;
    if untouched.is_none() {
        // It is asked of all that was ever sent.
        checkpoint.map_or(Ok(()), Checkpoint::check_now)?;
        let digests_at: Vec<u64> = candidates.iter().flat_map(|run| [run.records, run.lease]).collect();
        survey = Some(survey::survey(plan, folder, &digests_at, true, &survey_values, observer)?);
    }
    // Commands that name records of a run by themselves take its own input.
    let takes_copies = !start.fresh && start.is_of_input();
    let copies = survey.as_mut().and_then(|survey| survey.copies.take()).filter(|_| takes_copies);
    let parent = copies.as_ref().and_then(|copies| runs.iter().find(|run| run.id == copies.run));
    let gone = copies.as_ref().filter(|_| parent.is_none()).map(|copies| copies.run.clone());
    let copies = copies.filter(|_| parent.is_some());
    if copies.is_some() {
        // It says nothing of the run's own input.
        survey = None;
    }
    let last = parent.or(untouched).or_else(|| resume::run_of(&candidates, survey.as_ref())).cloned();
    let survey_values = match &last {
        Some(run) => identity::values(run, &pipeline.name),
        None => survey_values,
    };
    let last_counts = match (checkpoint, &last) {
        (Some(checkpoint), Some(run)) => Some(checkpoint.counts(run)?),
        _ => None,
    };
    let mut destination = identity::destination(&pipeline.connection, &start.target);
    if let Some(run) = last.as_ref().filter(|_| !pipeline.connection.unset.is_empty()) {
        // Without its settings it cannot be told whether the destination is the same; only
        // commands that send nothing come here.
        destination.clone_from(&run.destination);
        digests.meaning.clone_from(&run.meaning);
        digests.files.clone_from(&run.meaning_files);
    }
    let scope = identity::scope(pipeline, &start.target);
    let changed = last
        .as_ref()
        .map(|run| identity::changed_files(&run.meaning_files, &digests.files))
        .unwrap_or_default();
    let may_have_arrived = match (checkpoint, &last) {
        (Some(checkpoint), Some(run)) => checkpoint.may_have_arrived(run)?,
        _ => false,
    };
    let rows_beyond_lease = match (checkpoint, &last) {
        (Some(checkpoint), Some(run)) => checkpoint.has_rows_from(run, run.lease)?,
        _ => false,
    };
    let now = Now {
        destination: &destination,
        meaning: &digests.meaning,
        changed_files: &changed,
        survey: survey.as_ref(),
        input: &input,
        may_have_arrived,
        copies: copies.is_some(),
        rows_beyond_lease,
    };
    let mut asked = start.clone();
    asked.close |= pipeline.on_new_input == OnNewInput::Close;
    let last = last.zip(last_counts);
    let decision =
        resume::decide(last.as_ref().map(|(run, counts)| (run, *counts)), &now, &asked, &start.command);

    let goes_on = matches!(decision, Ok(Decision::GoOn { .. }));
    let before = match &last {
        Some((run, _)) if goes_on => run.number,
        _ => i64::MAX >> 41,
    };
    let leaves_out = match pipeline.sync {
        Some(Sync::New) => LeavesOut::Delivered,
        Some(Sync::Changed) => LeavesOut::Unchanged,
        Some(Sync::All) | None => LeavesOut::None,
    };
    let mut dropped: Arc<[(u64, u64)]> = Arc::new([]);
    let (mut delivered_before, mut vanished) = (0, Vanished::default());
    let surveyed = survey.is_some();
    let (mut records, mut digest) = (0, 0);
    if let Some(survey) = &mut survey {
        let values = if goes_on { &survey_values } else { &new_values };
        let leaves_out = if start.again { LeavesOut::None } else { leaves_out };
        survey.compare_keys(plan, values, leaves_out, |each| match checkpoint {
            Some(checkpoint) if last.is_some() && !start.fresh => {
                checkpoint.keys_of_earlier_runs(before, each)
            }
            _ => Ok(()),
        })?;
        dropped = Arc::clone(&survey.dropped);
        delivered_before = survey.delivered_before;
        // Another input than the pipeline's own says nothing of what it does not have.
        if pipeline.sync == Some(Sync::Changed) && pipeline.source.place.is_some() {
            let doomed = match checkpoint {
                Some(checkpoint) if vanished::deletes(pipeline, start).is_some() => {
                    Gone { checkpoint, before, scope, hashes: &survey.gone }
                        .doomed_alone(plan, start, None)?
                }
                _ => Doomed::default(),
            };
            let Survey { records, known_keys: known, vanished: gone, without_key, .. } = *survey;
            vanished = Vanished { records, known, gone, without_key, doomed };
        }
        (records, digest) = (survey.records, survey.digest);
    }
    let new = NewRun {
        id: new_values.id.to_string(),
        started_at: new_values.started_at.to_string(),
        destination,
        scope,
        meaning: digests.meaning,
        meaning_files: digests.files,
        input,
        input_stamp: stamp,
        records,
        input_digest: digest,
        duplicates: dropped.len() as u64,
    };
    Ok(Look {
        last,
        decision,
        new,
        new_values,
        dropped,
        delivered_before,
        surveyed,
        leaves_out,
        vanished,
        copies,
        gone,
    })
}

impl Look {
    /// Refuses what would act twice, or delete too much.
    pub fn refuse(&self, plan: &Plan, start: &Start) -> Result<(), Failure> {
        match self.decision {
            Ok(Decision::Begin { .. }) => self.refuse_repeats(plan, start)?,
            Ok(Decision::GoOn { input_changed: true, .. }) => {}
            Ok(Decision::GoOn { .. }) | Err(_) => return Ok(()),
        }
        self.vanished.refuse_too_many(&plan.pipeline, start)
    }

    /// Ruling 5: a plain POST of what an earlier run delivered is refused unless somebody says so.
    fn refuse_repeats(&self, plan: &Plan, start: &Start) -> Result<(), Failure> {
        let harmless = plan.pipeline.steps().all(|step| step.endpoint.idempotency != Idempotency::None);
        let said = start.again || start.fresh || plan.pipeline.sync.is_some();
        if self.delivered_before == 0 || harmless || said {
            return Ok(());
        }
        Err(Failure::new(
            Class::State,
            Diagnostic::error(
                "delivered-before",
                format!(
                    "{} records have keys that earlier runs delivered, and a repeat could act twice",
                    self.delivered_before
                ),
            )
            .note("nothing was sent")
            .help(format!(
                "`sync: new` in the pipeline leaves them out, `sync: all` sends them;\nor `{} --again` sends them this time",
                start.command
            )),
        ))
    }
}
