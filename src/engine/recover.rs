//! What a start that did not end in order left behind, settled by policy before anything is sent.
//!
//! In doubt are intents without outcome; after a reboot, and where that start wrote no intents,
//! every leased record without a row. The result is written as one durable step, which may be
//! interrupted at any point and repeated (guarantees.md 6).

use std::collections::HashSet;

use crate::config::{InDoubt, OnFailure};
use crate::model::{Class, Diagnostic, Failure, State};
use crate::outcome::{BatchRow, BatchState, Checkpoint, RecordRow, RunRow, StartRow};
use crate::render::RunValues;
use crate::source::Mark;

use super::dispatch::lanes::{KEY_LAPSED, has_lapsed};
use super::open::{Plan, StepRules};
use super::sieve::Known;
use super::steps::{Next, Passed};
use super::survey::drop_of;

/// What is known before sending goes on.
#[derive(Debug)]
pub struct Recovered {
    /// Settled and open records from the first that is not settled on.
    pub known: Known,
    /// Order values behind held records.
    pub held: Vec<(u64, u64)>,
    /// Records that will be sent again although they may have arrived.
    pub resent: u64,
    /// Records that are held since they may have arrived.
    pub doubtful: u64,
    /// Records in doubt about which the far side is asked.
    pub to_ask: u64,
    /// Their order values.
    pub undecided: Vec<(u64, u64)>,
    /// Calls with several records that go out again as they were.
    pub calls: Vec<BatchRow>,
    /// Rows of calls that say something else now.
    noted: Vec<BatchRow>,
}

/// Reads the rows of a run and settles the doubt among them.
pub fn recover(
    plan: &Plan,
    checkpoint: &Checkpoint,
    run: &RunRow,
    values: &RunValues,
    dropped: &[(u64, u64)],
    ask_again: bool,
) -> Result<Recovered, Failure> {
    let (recovered, rows) = look(plan, checkpoint, run, values, dropped, ask_again)?;
    if !rows.is_empty() || !recovered.noted.is_empty() {
        checkpoint.write_recovered(run, &rows, &recovered.noted)?;
    }
    Ok(recovered)
}

/// What [`recover`] would do, and the rows that it would write.
pub fn look(
    plan: &Plan,
    checkpoint: &Checkpoint,
    run: &RunRow,
    values: &RunValues,
    dropped: &[(u64, u64)],
    ask_again: bool,
) -> Result<(Recovered, Vec<RecordRow>), Failure> {
    checkpoint.check_unsettled(run)?;
    let last = checkpoint.latest_start(run)?;
    let crashed = last.as_ref().is_some_and(|start| start.class.is_empty());
    let rebooted = last.as_ref().is_some_and(StartRow::before_this_boot);
    // What was synced before a request left says all there is to say, also after a loss of power.
    let rebooted = rebooted && !last.as_ref().is_some_and(|start| start.grants.durable_intents);
    let changed = last.as_ref().is_some_and(|start| start.meaning != run.meaning);
    let now = jiff::Timestamp::now().as_millisecond();
    let forbidden = |row: &RecordRow| forbids(plan.rules_of(row), changed, now, row);
    // Calls with several records have no steps.
    let of_calls = plan.rules.first().in_doubt;
    // Nothing that it left in flight is older than the start itself.
    let began = last.as_ref().and_then(|start| start.at.parse::<jiff::Timestamp>().ok());
    // A start without a time is as old as can be.
    let began = began.map_or(1, jiff::Timestamp::as_millisecond);

    let mut known = Known::new(run.settled.ordinal);
    let mut held = Vec::new();
    let mut doubtful = Vec::new();
    let holds_rest = plan.pipeline.delivery.on_failure == OnFailure::HoldRest;
    let mut to_ask = 0;
    let mut undecided = Vec::new();
    let calls = checkpoint.open_batches(run)?;
    let in_calls: HashSet<u64> = calls.iter().flat_map(|call| &call.members).copied().collect();
    let mut take = |row: RecordRow| {
        // One that was asked about in vain is asked about again only when somebody says so.
        let asks =
            row.state == State::InDoubt && plan.rules_of(&row).is_some_and(|rules| rules.prober().is_some());
        if asks && (!row.looked || ask_again) {
            to_ask += 1;
            undecided.push((row.order_hash, row.ordinal));
            known.open.insert(row.ordinal, row);
            return Ok(());
        }
        let holds = row.state == State::InDoubt || holds_rest && row.state == State::Failed;
        if holds && row.order_hash != 0 {
            held.push((row.order_hash, row.ordinal));
        }
        if row.ordinal < run.settled.ordinal {
            return Ok(());
        }
        match row.state {
            // What became of it, its call says.
            State::Pending if in_calls.contains(&row.ordinal) => {
                known.open.insert(row.ordinal, row);
            }
            State::InFlight => doubtful.push(row),
            State::Pending if row.granted && crashed && rebooted => {
                // It may have left once more than the row says.
                doubtful.push(RecordRow { attempts: row.attempts + 1, ..row });
            }
            // What may have arrived is sent again with the same key and bytes, or not by itself.
            State::Pending if row.unknown && forbidden(&row).is_some() => doubtful.push(row),
            State::Pending => {
                known.open.insert(row.ordinal, row);
            }
            _ => known.settle(row.ordinal),
        }
        Ok(())
    };
    if orders(plan) {
        // Those below the mark matter only for order.
        let holding: &[State] = if holds_rest { &[State::InDoubt, State::Failed] } else { &[State::InDoubt] };
        checkpoint.each_row_in(run, run.settled.ordinal, holding, &mut take)?;
    }
    checkpoint.each_row(run, run.settled.ordinal, take)?;
    let mut keyless = Vec::new();
    if let Some(start) = last.filter(|start| crashed && start.leased_without_intents(run)) {
        let has_row = |ordinal: u64| {
            known.is_settled(ordinal)
                || in_calls.contains(&ordinal)
                || known.open.contains_key(&ordinal)
                || doubtful.iter().any(|row: &RecordRow| row.ordinal == ordinal)
        };
        let missing: Vec<RecordRow> = leased_without_row(plan, run, &start, values, dropped, has_row)?;
        // The key of a call is that of its records and bytes, and nobody knows any more which those were.
        let loses_key = plan.rules.first().is_keyed && plan.preparer.batch.is_some();
        if loses_key { keyless = missing } else { doubtful.extend(missing) }
    }
    let mut recovered = Recovered {
        known,
        held,
        resent: 0,
        doubtful: 0,
        to_ask,
        undecided,
        calls: Vec::new(),
        noted: Vec::new(),
    };
    for call in calls {
        let in_doubt = call.state == BatchState::InFlight || call.unknown || crashed && rebooted;
        let attempts = call.attempts + u32::from(call.state == BatchState::Waits && crashed && rebooted);
        let first_at = if call.first_at == 0 { began } else { call.first_at };
        let first = RecordRow { first_at, ..RecordRow::new(0, State::InFlight) };
        let sends_again = of_calls == InDoubt::Resend && forbidden(&first).is_none();
        if in_doubt && (!sends_again || changed) {
            // Its records part here: each is held, skipped, or goes out under the new meaning.
            for row in rows_of(plan, run, values, &call.members)? {
                let before = recovered.known.open.remove(&row.ordinal);
                let (made, generation) = before.map_or((0, 0), |before| (before.attempts, before.generation));
                doubtful.push(RecordRow { attempts: made + attempts, generation, first_at, ..row });
            }
            recovered.noted.push(BatchRow { state: BatchState::Settled, attempts, unknown: true, ..call });
            continue;
        }
        if changed {
            recovered.noted.push(BatchRow { state: BatchState::Settled, ..call });
            continue;
        }
        for ordinal in &call.members {
            recovered.known.calls.insert(*ordinal, call.number);
            if in_doubt {
                let known = recovered.known.open.remove(ordinal);
                let row = known.unwrap_or_else(|| RecordRow::new(*ordinal, State::Pending));
                recovered.known.open.insert(*ordinal, RecordRow { unknown: true, first_at, ..row });
            }
        }
        let call = BatchRow { state: BatchState::Waits, attempts, unknown: in_doubt, first_at, ..call };
        if in_doubt {
            recovered.resent += call.members.len() as u64;
            recovered.noted.push(call.clone());
        }
        recovered.calls.push(call);
    }
    let mut settle = |mut row: RecordRow| {
        if row.first_at == 0 {
            row.first_at = began;
        }
        let policy = plan.rules_of(&row).map_or(InDoubt::Hold, |rules| rules.in_doubt);
        let (policy, why) = match forbidden(&row) {
            Some(why) if policy == InDoubt::Resend => (InDoubt::Hold, why),
            _ => (policy, "the process ended while its request was under way"),
        };
        recovered.settle(row, policy, why)
    };
    let mut rows: Vec<RecordRow> = doubtful.into_iter().map(&mut settle).collect();
    for row in keyless {
        let policy = if of_calls == InDoubt::Resend { InDoubt::Hold } else { of_calls };
        rows.push(recovered.settle(RecordRow { first_at: began, ..row }, policy, LOST_CALL));
    }
    Ok((recovered, rows))
}

impl Recovered {
    fn settle(&mut self, row: RecordRow, policy: InDoubt, why: &str) -> RecordRow {
        let row = RecordRow { attempts: row.attempts.max(1), unknown: true, granted: false, ..row };
        match policy {
            InDoubt::Resend => {
                self.resent += 1;
                let row = RecordRow { state: State::Pending, ..row };
                self.known.open.insert(row.ordinal, row.clone());
                row
            }
            InDoubt::Skip => {
                self.known.settle(row.ordinal);
                RecordRow {
                    state: State::Skipped,
                    class: "in_doubt".into(),
                    message: "may have arrived; skipped by `in_doubt: skip`".into(),
                    ..row
                }
            }
            InDoubt::Probe => {
                self.to_ask += 1;
                self.undecided.push((row.order_hash, row.ordinal));
                let row = RecordRow {
                    state: State::InDoubt,
                    looked: false,
                    class: "process-ended".into(),
                    message: why.into(),
                    ..row
                };
                self.known.open.insert(row.ordinal, row.clone());
                row
            }
            InDoubt::Hold => {
                self.doubtful += 1;
                self.known.settle(row.ordinal);
                if row.order_hash != 0 {
                    self.held.push((row.order_hash, row.ordinal));
                }
                RecordRow { state: State::InDoubt, class: "process-ended".into(), message: why.into(), ..row }
            }
        }
    }
}

const LOST_CALL: &str =
    "may have arrived in a call of which a loss of power left nothing, and so under a key that nobody knows";

/// Why a request that may have arrived must not be sent again although its key makes that harmless
/// (P5): it would have other bytes, or the far side may have forgotten the key.
fn forbids(rules: Option<&StepRules>, changed: bool, now: i64, row: &RecordRow) -> Option<&'static str> {
    let Some(rules) = rules else {
        return Some("may have arrived in a call that the pipeline does not have any more");
    };
    if !rules.is_keyed {
        return None;
    }
    if changed {
        return Some("may have arrived before the pipeline changed; its key belongs to the old request");
    }
    rules.remembered.is_some_and(|kept| has_lapsed(row.first_at, now, kept)).then_some(KEY_LAPSED)
}

/// Rows of these records as the input has them now.
fn rows_of(
    plan: &Plan,
    run: &RunRow,
    values: &RunValues,
    ordinals: &[u64],
) -> Result<Vec<RecordRow>, Failure> {
    let wanted: HashSet<u64> = ordinals.iter().copied().collect();
    let last = wanted.iter().max().copied().unwrap_or_default();
    let mut rows = Vec::with_capacity(wanted.len());
    let mut source = plan.source()?;
    let mark = run.settled;
    source.seek(Mark { ordinal: mark.ordinal, file: mark.file, byte: mark.byte, line: mark.line })?;
    while let Some(record) = source.next() {
        let record = record?;
        if record.ordinal > last {
            break;
        }
        if wanted.contains(&record.ordinal) {
            rows.push(match plan.preparer.shape(record, values) {
                Ok(shaped) => shaped.identity.row(State::InFlight),
                Err(settled) => settled.identity.row(State::InFlight),
            });
        }
    }
    if rows.len() != wanted.len() {
        // Without a row each of them could go out again.
        let message = "the input no longer has all the records of a call that may have arrived";
        return Err(Failure::new(
            Class::Input,
            Diagnostic::error("input-changed", message)
                .note("nothing was sent")
                .help("put the input back as it was when the run began"),
        ));
    }
    Ok(rows)
}

fn orders(plan: &Plan) -> bool {
    plan.preparer.key.is_some() || plan.preparer.order_by.is_some()
}

/// Rows for the records that were granted for sending and of which nothing else is known. Records
/// that are never sent (skipped, invalid) are left to the reading thread.
fn leased_without_row(
    plan: &Plan,
    run: &RunRow,
    start: &StartRow,
    values: &RunValues,
    dropped: &[(u64, u64)],
    has_row: impl Fn(u64) -> bool,
) -> Result<Vec<RecordRow>, Failure> {
    let (from, changed) = (start.grants.leased_from, start.meaning != run.meaning);
    let mut rows = Vec::new();
    let mut source = plan.source()?;
    let mark = run.settled;
    source.seek(Mark { ordinal: mark.ordinal, file: mark.file, byte: mark.byte, line: mark.line })?;
    while let Some(record) = source.next() {
        let record = record?;
        if record.ordinal >= run.lease {
            break;
        }
        if record.ordinal < from || has_row(record.ordinal) || drop_of(dropped, record.ordinal).is_some() {
            continue;
        }
        let mut shaped = match plan.preparer.shape(record, values) {
            Ok(shaped) => shaped,
            // What the pipeline was then may have sent it.
            Err(settled) if changed => {
                rows.push(settled.identity.row(State::InFlight));
                continue;
            }
            Err(_) => continue,
        };
        let next = if plan.preparer.batch.is_some() {
            plan.preparer.request(&mut shaped, values, 0).ok().map(|request| Next { step: 0, request })
        } else {
            plan.preparer.request_after(&mut shaped, values, 0, &Passed::default()).ok().flatten()
        };
        let Some(next) = next else {
            if changed {
                rows.push(shaped.identity.row(State::InFlight));
            }
            continue;
        };
        let mut passed = Passed::default();
        passed.stand_at(&plan.preparer.steps.of(next.step).id);
        let row = shaped.identity.row(State::InFlight);
        rows.push(RecordRow { request: next.request.digest(), captures: passed.text(), ..row });
    }
    Ok(rows)
}
