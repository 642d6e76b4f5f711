//! What holds for every start on every run: nothing is begun anew over an open run, and nothing
//! goes on under another meaning or over other records, unless somebody said so.

use proptest::prelude::*;

use super::Start;
use super::resume::{Decision, Input, Now, compare_input, decide, run_of};
use super::survey::{Survey, chain};
use crate::model::Counts;
use crate::outcome::{InputMark, RunRow};

/// A run over records, of which the first `reached` may have been sent.
fn run(records: &[u64], reached: usize, closed: bool) -> RunRow {
    let digest = |upto: usize| records.iter().take(upto).fold(0, |digest, record| chain(digest, *record));
    RunRow {
        number: 1,
        id: "20261122T0214-3f9c".into(),
        started_at: String::new(),
        destination: "c https://a".into(),
        scope: 0,
        meaning: "m".into(),
        meaning_files: String::new(),
        input: "a.csv".into(),
        input_stamp: String::new(),
        records: records.len() as u64,
        input_digest: digest(records.len()),
        lease: reached as u64,
        lease_digest: digest(reached),
        settled: InputMark::default(),
        duplicates: 0,
        closed_at: closed.then(|| "2026-11-22T02:15:00Z".to_owned()),
        class: String::new(),
        complete: reached == records.len(),
    }
}

/// What the first pass says of records, asked for what the run knows.
fn survey(records: &[u64], run: &RunRow) -> Survey {
    let mut survey = Survey { records: records.len() as u64, ..Survey::default() };
    for (at, record) in (0u64..).zip(records) {
        if at == run.records || at == run.lease {
            survey.at.insert(at, survey.digest);
        }
        survey.digest = chain(survey.digest, *record);
    }
    if [run.records, run.lease].contains(&survey.records) {
        survey.at.insert(survey.records, survey.digest);
    }
    survey
}

/// What can happen to an input between two starts.
#[derive(Debug, Clone)]
enum Edit {
    Nothing,
    Append(u64),
    Change(usize),
    Remove(usize),
    Cut(usize),
    Swap(usize, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        Just(Edit::Nothing),
        (100u64..200).prop_map(Edit::Append),
        (0usize..9).prop_map(Edit::Change),
        (0usize..9).prop_map(Edit::Remove),
        (0usize..9).prop_map(Edit::Cut),
        (0usize..9, 0usize..9).prop_map(|(a, b)| Edit::Swap(a, b)),
    ]
}

fn edited(records: &[u64], edits: &[Edit]) -> Vec<u64> {
    let mut records = records.to_vec();
    for edit in edits {
        let length = records.len();
        match *edit {
            Edit::Append(record) => records.push(record),
            Edit::Change(at) if at < length => records[at] += 1000,
            Edit::Remove(at) if at < length => drop(records.remove(at)),
            Edit::Cut(at) => records.truncate(at),
            Edit::Swap(a, b) if a < length && b < length => records.swap(a, b),
            _ => {}
        }
    }
    records
}

fn start() -> impl Strategy<Value = Start> {
    (any::<bool>(), proptest::bool::weighted(0.2), any::<bool>(), any::<bool>()).prop_map(
        |(resume, fresh, close, accept_changes)| Start {
            resume,
            fresh,
            close,
            accept_changes,
            ..Start::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_start_never_forgets_what_a_run_has_sent(
        length in 0u64..9,
        reached in 0usize..9,
        settled in proptest::collection::vec(0u8..5, 0..9),
        edits in proptest::collection::vec(edit(), 0..3),
        closed in proptest::bool::weighted(0.2),
        (same_meaning, same_place, may_have_arrived) in (any::<bool>(), proptest::bool::weighted(0.8), any::<bool>()),
        start in start(),
    ) {
        let old: Vec<u64> = (1..=length).collect();
        let reached = reached.min(old.len());
        let run = run(&old, reached, closed);
        let mut counts = Counts::default();
        for state in settled.iter().take(reached) {
            match state {
                0 => counts.delivered += 1,
                1 => counts.failed += 1,
                2 => counts.invalid += 1,
                3 => counts.skipped += 1,
                _ => counts.in_doubt += 1,
            }
        }
        counts.unsent = length - counts.total();
        let records = edited(&old, &edits);
        let survey = survey(&records, &run);
        let now = Now {
            destination: if same_place { "c https://a" } else { "c https://b" },
            meaning: if same_meaning { "m" } else { "other" },
            changed_files: &[],
            survey: Some(&survey),
            input: "a.csv",
            may_have_arrived,
            copies: false,
            rows_beyond_lease: false,
        };

        // The model: what was reached, and is it still there?
        let same = records == old;
        let extended = !same && records.len() > old.len() && records.starts_with(&old);
        let begun_and_open = !run.complete && !closed && reached > 0;
        let mended = !same && !extended && begun_and_open && records.get(..reached) == old.get(..reached);
        let input = compare_input(&run, Some(&survey));
        let expected = if same { Input::Same } else if extended || mended { Input::Extended } else { Input::Other };
        prop_assert_eq!(input, expected, "{:?} and then {:?}, {} reached", old, records, reached);
        prop_assert_eq!(compare_input(&run, None), Input::Same);

        let open = counts.unsent > 0 && !closed;
        let changed = !(same_meaning && same_place);
        let sent = counts.delivered > 0 || counts.in_doubt > 0 || may_have_arrived;
        match decide(Some((&run, counts)), &now, &start, "runner apply p") {
            Ok(Decision::Begin { close }) => {
                prop_assert!(start.fresh || input == Input::Other, "the same records begin anew");
                prop_assert!(start.fresh || start.close || !open, "an open run is left in silence");
                prop_assert!(start.fresh || !start.resume || open, "`--resume` begins a run");
                prop_assert_eq!(close.is_some(), start.fresh || open);
            }
            Ok(Decision::GoOn { input_changed, take_meaning }) => {
                prop_assert!(!start.fresh);
                prop_assert!(input != Input::Other, "other records go on in an old run");
                prop_assert_eq!(input_changed, input == Input::Extended);
                let over = !open && input == Input::Same;
                prop_assert!(!changed || over || !sent || start.accept_changes, "another meaning is taken in silence");
                prop_assert_eq!(take_meaning, changed && !over);
            }
            Err(failure) => {
                prop_assert!(!start.fresh);
                let rule = failure.diagnostics[0].rule;
                match rule {
                    "input-changed" => prop_assert!(input == Input::Other && open && !start.close),
                    "nothing-to-resume" => prop_assert!(input == Input::Other && !open && start.resume),
                    "meaning-changed" => prop_assert!(changed && sent && !start.accept_changes && input != Input::Other),
                    other => prop_assert!(false, "{}", other),
                }
            }
        }
    }

    #[test]
    fn without_a_run_a_start_begins_one_or_says_that_there_is_none(start in start()) {
        let survey = Survey::default();
        let now = Now {
            destination: "d",
            meaning: "m",
            changed_files: &[],
            survey: Some(&survey),
            input: "a.csv",
            may_have_arrived: false,
            copies: false,
            rows_beyond_lease: false,
        };
        match decide(None, &now, &start, "runner apply p") {
            Ok(decision) => {
                prop_assert_eq!(decision, Decision::Begin { close: None });
                prop_assert!(!start.resume);
            }
            Err(failure) => {
                prop_assert_eq!(failure.diagnostics[0].rule, "nothing-to-resume");
                prop_assert!(start.resume);
            }
        }
    }

    #[test]
    fn an_input_goes_to_a_run_that_knows_its_records(
        lengths in proptest::collection::vec(0u64..5, 1..4),
        which in 0usize..4,
        reached in 0usize..5,
    ) {
        let inputs: Vec<Vec<u64>> =
            (1u64..).zip(&lengths).map(|(run, length)| (0..*length).map(|at| run * 10 + at).collect()).collect();
        let mut runs: Vec<RunRow> =
            inputs.iter().map(|records| run(records, reached.min(records.len()), false)).collect();
        for (number, run) in (1i64..).zip(&mut runs) {
            run.number = number;
        }
        let which = which % inputs.len();
        let records = &inputs[which];
        let newest_first: Vec<&RunRow> = runs.iter().rev().collect();
        let newest = newest_first[0];
        let survey = survey(records, newest);
        let found = run_of(&newest_first, Some(&survey)).unwrap();
        if !records.is_empty() && compare_input(newest, Some(&survey)) == Input::Other {
            prop_assert_eq!(found.number, runs[which].number);
        } else {
            prop_assert!(found.number == newest.number);
        }
    }
}
