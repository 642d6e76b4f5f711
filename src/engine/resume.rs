//! What a start does with what it finds: go on, begin anew, or refuse (rulings 1 to 8).
//!
//! The decision itself is pure; the files are read by the caller. Invariant: nothing is begun
//! again in silence, and nothing is sent under a meaning or to a place that the run does not know.

use crate::model::{Class, Counts, Diagnostic, Failure, number};
use crate::outcome::RunRow;

use super::Start;
use super::survey::Survey;

/// What is known of the input and the pipeline now, to compare with a run.
#[derive(Debug, Clone)]
pub struct Now<'a> {
    /// Connector, connection and base URL.
    pub destination: &'a str,
    /// Digest of the meaning.
    pub meaning: &'a str,
    /// Files of the meaning whose digest differs from the run's.
    pub changed_files: &'a [String],
    /// What the first pass found; `None` when the input's files are untouched.
    pub survey: Option<&'a Survey>,
    /// The input as it is named.
    pub input: &'a str,
    /// Whether a request of the run may have arrived without an outcome.
    pub may_have_arrived: bool,
    /// Whether the input is an outcome file of the run.
    pub copies: bool,
    /// Whether records behind the lease have rows (sent from a copy): then their places are fixed.
    pub rows_beyond_lease: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// There is no run, or the last one is over and this is other input.
    Begin {
        /// The run that is closed first, with its rest unsent, and why.
        close: Option<&'static str>,
    },
    /// Go on with the last run.
    GoOn {
        /// The input has more records than the run knew, or was edited behind the point reached.
        input_changed: bool,
        /// Take over the new meaning.
        take_meaning: bool,
    },
}

/// How the input compares with what a run knew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The same records.
    Same,
    /// The same records, and more behind them; or edited only behind the point reached.
    Extended,
    /// Other records.
    Other,
}

/// Compares the input with what a run knew.
#[must_use]
pub fn compare_input(run: &RunRow, survey: Option<&Survey>) -> Input {
    let Some(survey) = survey else { return Input::Same };
    if survey.records == run.records && survey.digest == run.input_digest {
        return Input::Same;
    }
    if survey.records > run.records && survey.at.get(&run.records) == Some(&run.input_digest) {
        return Input::Extended;
    }
    // What was not reached yet may be mended while the run is not finished.
    let begun_and_open = !run.complete && run.closed_at.is_none() && run.lease > 0;
    if begun_and_open && survey.at.get(&run.lease) == Some(&run.lease_digest) {
        return Input::Extended;
    }
    Input::Other
}

/// Whether the input has all the records that the run knew, and more behind them.
fn grew(run: &RunRow, survey: Option<&Survey>) -> bool {
    survey.is_some_and(|survey| survey.at.get(&run.records) == Some(&run.input_digest))
}

/// The run that an input belongs to (ruling 5: identity over all kept runs): the newest if it goes
/// on with it, else the newest that had the very same records, else the newest. `runs` has the
/// newest first.
#[must_use]
pub fn run_of<'r>(runs: &[&'r RunRow], survey: Option<&Survey>) -> Option<&'r RunRow> {
    let newest = runs.first()?;
    if compare_input(newest, survey) != Input::Other {
        return Some(newest);
    }
    let same = runs.iter().find(|run| run.records > 0 && compare_input(run, survey) == Input::Same);
    Some(same.unwrap_or(newest))
}

/// Decides what a start does. `counts` are those of the last run.
pub fn decide(
    last: Option<(&RunRow, Counts)>,
    now: &Now<'_>,
    start: &Start,
    command: &str,
) -> Result<Decision, Failure> {
    let Some((run, counts)) = last else {
        if start.resume {
            return Err(refuse(
                "nothing-to-resume",
                "there is no run to go on with".into(),
                "leave `--resume` out to begin one",
            ));
        }
        return Ok(Decision::Begin { close: None });
    };
    if start.fresh {
        return Ok(Decision::Begin { close: Some("fresh") });
    }
    let open = counts.unsent > 0 && run.closed_at.is_none();
    let mut input = compare_input(run, now.survey);
    if input == Input::Extended && now.rows_beyond_lease && !grew(run, now.survey) {
        input = Input::Other;
    }
    if input == Input::Other {
        if !open && start.resume {
            return Err(refuse(
                "nothing-to-resume",
                format!("run {} is over, and {} is other input", run.id, now.input),
                "leave `--resume` out to begin a new run",
            ));
        }
        if !open {
            return Ok(Decision::Begin { close: None });
        }
        if start.close {
            return Ok(Decision::Begin { close: Some("new input") });
        }
        return Err(input_changed(run, counts, now, command));
    }
    let meaning_is_same = run.meaning == now.meaning && run.destination == now.destination;
    let nothing_done = counts.delivered == 0 && counts.in_doubt == 0 && !now.may_have_arrived;
    // Of a run that is over nothing is sent, whatever the files say now; unless this start does.
    let sends = start.retry.is_some() || start.one.is_some() || now.copies;
    let over = !open && input == Input::Same && !sends;
    if meaning_is_same || over || nothing_done || start.accept_changes {
        return Ok(Decision::GoOn {
            input_changed: input == Input::Extended,
            take_meaning: !meaning_is_same && !over,
        });
    }
    Err(meaning_changed(run, counts, now, command))
}

fn refuse(rule: &'static str, message: String, help: &str) -> Failure {
    Failure::new(
        Class::State,
        Diagnostic::error(rule, message).note("nothing was sent").help(help.to_owned()),
    )
}

fn input_changed(run: &RunRow, counts: Counts, now: &Now<'_>, command: &str) -> Failure {
    let same_file = now.input == run.input;
    let message = if same_file {
        format!("{} is not the file that run {} began with", now.input, run.id)
    } else {
        format!("run {} over {} is not finished, and this is other input ({})", run.id, run.input, now.input)
    };
    let old = if same_file {
        format!("put the old file back and `{command}`")
    } else {
        format!("`{command}` with the old input goes on")
    };
    Failure::new(
        Class::State,
        Diagnostic::error("input-changed", message)
            .note(format!(
                "{} of {} records are settled; nothing was sent",
                number(counts.settled()),
                number(run.records)
            ))
            .help(format!(
                "{old},\nor `{command} --close` to leave the other {} unsent and begin with this input,\nor `{command} --fresh` to \
                 begin again (the {} delivered may be sent a second time)",
                number(counts.unsent),
                number(counts.delivered)
            )),
    )
}

fn meaning_changed(run: &RunRow, counts: Counts, now: &Now<'_>, command: &str) -> Failure {
    let what = if run.destination == now.destination {
        match now.changed_files {
            [] => "the pipeline's settings are".to_owned(),
            [one] => format!("{one} is"),
            many => format!("{} are", many.join(", ")),
        }
    } else {
        format!("the destination ({}) is", now.destination)
    };
    let mut diagnostic =
        Diagnostic::error("meaning-changed", format!("{what} not as it was when run {} began", run.id))
            .note(format!(
                "{} of {} records are settled under the old meaning; nothing was sent",
                number(counts.settled()),
                number(run.records)
            ))
            .help(meaning_choices(counts, command));
    if run.destination != now.destination {
        diagnostic = diagnostic.note(format!("the run began with {}", run.destination));
    }
    Failure::new(Class::State, diagnostic)
}

/// What can be done about a changed meaning, in commands that exist.
fn meaning_choices(counts: Counts, command: &str) -> String {
    let is_apply = command.starts_with("runner apply");
    let what = if is_apply { format!("the other {}", number(counts.unsent)) } else { "it".to_owned() };
    let fresh = format!(
        ",\nor `{command} --fresh` to begin again (the {} delivered are sent a second time)",
        number(counts.delivered)
    );
    format!(
        "put it back and `{command}`,\nor `{command} --accept-changes` to send {what} under the new meaning{}",
        if is_apply { &fresh } else { "" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::InputMark;

    fn run() -> RunRow {
        RunRow {
            number: 1,
            id: "20261122T0214-3f9c".into(),
            started_at: String::new(),
            destination: "freshchat https://a".into(),
            scope: 0,
            meaning: "m".into(),
            meaning_files: String::new(),
            input: "users.csv".into(),
            input_stamp: String::new(),
            records: 10,
            input_digest: 100,
            lease: 4,
            lease_digest: 40,
            settled: InputMark::default(),
            duplicates: 0,
            closed_at: None,
            class: String::new(),
            complete: false,
        }
    }

    fn survey(records: u64, digest: u64, at: &[(u64, u64)]) -> Survey {
        let mut survey = Survey::default();
        (survey.records, survey.digest) = (records, digest);
        survey.at.extend(at.iter().copied());
        survey
    }

    fn check(
        counts: Counts,
        survey: &Survey,
        meaning: &str,
        start: &Start,
    ) -> Result<Decision, &'static str> {
        let now = Now {
            destination: "freshchat https://a",
            meaning,
            changed_files: &[],
            survey: Some(survey),
            input: "users.csv",
            may_have_arrived: false,
            copies: false,
            rows_beyond_lease: false,
        };
        decide(Some((&run(), counts)), &now, start, "runner apply p")
            .map_err(|failure| failure.diagnostics[0].rule)
    }

    const OPEN: Counts = Counts { delivered: 3, failed: 0, invalid: 0, skipped: 0, in_doubt: 0, unsent: 7 };
    const UNTOUCHED: Counts =
        Counts { delivered: 0, failed: 0, invalid: 0, skipped: 0, in_doubt: 0, unsent: 10 };
    const DONE: Counts = Counts { delivered: 10, failed: 0, invalid: 0, skipped: 0, in_doubt: 0, unsent: 0 };

    #[test]
    fn the_same_input_goes_on_and_appended_records_too() {
        let start = Start::default();
        let same = survey(10, 100, &[]);
        let go_on = |input_changed| Ok(Decision::GoOn { input_changed, take_meaning: false });
        assert_eq!(check(OPEN, &same, "m", &start), go_on(false));
        assert_eq!(check(OPEN, &survey(12, 120, &[(10, 100)]), "m", &start), go_on(true));
        assert_eq!(check(DONE, &same, "m", &start), go_on(false));
    }

    #[test]
    fn an_input_belongs_to_the_run_that_had_its_records() {
        let old = RunRow { complete: true, ..run() };
        let newest = RunRow { number: 2, records: 3, input_digest: 30, complete: true, ..run() };
        let of = |survey: &Survey| run_of(&[&newest, &old], Some(survey)).map(|run| run.number);
        assert_eq!(of(&survey(3, 30, &[])), Some(2));
        assert_eq!(of(&survey(10, 100, &[(3, 31)])), Some(1), "the very same records as an older run");
        assert_eq!(of(&survey(12, 120, &[(10, 100), (3, 31)])), Some(2), "an older run does not grow");
        assert_eq!(of(&survey(10, 100, &[(3, 30)])), Some(2), "the newest goes on with what was added");
        assert_eq!(run_of(&[], Some(&survey(3, 30, &[]))), None);
    }

    #[test]
    fn what_was_not_reached_may_be_mended() {
        let mended = survey(10, 101, &[(4, 40)]);
        assert_eq!(
            check(OPEN, &mended, "m", &Start::default()),
            Ok(Decision::GoOn { input_changed: true, take_meaning: false })
        );
        let before = survey(10, 101, &[(4, 41)]);
        assert_eq!(check(OPEN, &before, "m", &Start::default()), Err("input-changed"));
    }

    #[test]
    fn other_input_begins_anew_only_when_nothing_is_left_open() {
        let other = survey(10, 7, &[]);
        assert_eq!(check(DONE, &other, "m", &Start::default()), Ok(Decision::Begin { close: None }));
        assert_eq!(check(OPEN, &other, "m", &Start::default()), Err("input-changed"));
        let close = Start { close: true, ..Start::default() };
        assert_eq!(check(OPEN, &other, "m", &close), Ok(Decision::Begin { close: Some("new input") }));
    }

    #[test]
    fn a_changed_meaning_is_free_only_while_nothing_is_done() {
        let same = survey(10, 100, &[]);
        assert_eq!(check(OPEN, &same, "other", &Start::default()), Err("meaning-changed"));
        let take = Ok(Decision::GoOn { input_changed: false, take_meaning: true });
        assert_eq!(check(UNTOUCHED, &same, "other", &Start::default()), take);
        let accept = Start { accept_changes: true, ..Start::default() };
        assert_eq!(check(OPEN, &same, "other", &accept), take);
    }
}
