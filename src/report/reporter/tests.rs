use std::sync::{Arc, Mutex};
use std::time::Duration;

use insta::assert_snapshot;
use proptest::prelude::*;

use super::super::summary::tests::sample;
use super::super::tally::tests::started;
use super::super::{Streams, Surroundings, Target, WhenColor, WhenProgress};
use super::*;
use crate::model::{Counts, Outcome, RecordPlace, Secret, State, Value as Captures};

/// A reporter whose streams a test can read.
struct World {
    reporter: Reporter,
    out: Arc<Mutex<Vec<u8>>>,
    err: Arc<Mutex<Vec<u8>>>,
}

impl World {
    fn new(format: Format, volume: Volume) -> Self {
        let around = Surroundings::default();
        let mut settings =
            Settings::new("apply", format, WhenProgress::Auto, WhenColor::Auto, volume, &around);
        let (out, err) = <(Arc<Mutex<Vec<u8>>>, Arc<Mutex<Vec<u8>>>)>::default();
        settings.streams = Streams {
            answer: Target::Writer(Arc::clone(&out) as _),
            people: Target::Writer(Arc::clone(&err) as _),
        };
        let mask = Mask::new([&Secret::new("s3cr3t-token".into())]);
        Self { reporter: Reporter::new(&settings, mask), out, err }
    }

    fn stdout(&self) -> String {
        String::from_utf8(self.out.lock().unwrap().clone()).unwrap()
    }

    fn stderr(&self) -> String {
        String::from_utf8(self.err.lock().unwrap().clone()).unwrap()
    }
}

fn settled(ordinal: u64, key: &str, class: &str) -> Event {
    Event::Settled {
        ordinal,
        place: RecordPlace { file: "data/users.csv".into(), line: ordinal + 2, byte: 0 },
        key: Some(key.into()),
        outcome: Outcome {
            state: State::Failed,
            status: 409,
            class: class.into(),
            message: String::new(),
            attempts: 1,
            captures: Captures::Absent,
        },
    }
}

/// What every test of this file sends: a start, two records, a warning, the stop.
fn play(world: &mut World) {
    let start = Instant::now();
    world.reporter.event(&started(1_250, Counts::default(), None));
    world.reporter.event(&settled(0, "a-17", "CONFLICT"));
    world.reporter.event(&settled(1, "a-18", "echo s3cr3t-token"));
    world.reporter.event(&Event::Warning(Diagnostic::warning("slow", "the far side is slow")));
    world.reporter.tick_at(start + Duration::from_millis(10_500));
    world.reporter.event(&Event::Stopping { in_flight: 8, why: "SIGTERM".into() });
}

#[test]
fn people_read_all_of_it_on_stderr_and_stdout_stays_empty() {
    let mut world = World::new(Format::Human, Volume::Normal);
    play(&mut world);
    assert_eq!(world.reporter.finish(&sample()), Class::RecordsFailed);
    let (out, err) = (world.out, world.err);
    assert!(out.lock().unwrap().is_empty());
    let err = String::from_utf8(err.lock().unwrap().clone()).unwrap();
    // The pace is measured; here it only has to be there.
    let err = err.replace("0.2/s, 1 h 49 min left", "PACE");
    assert_snapshot!(err, @r"
    sync-users: run 20261122T0214-3f9c: 1,250 records, to https://acme.freshchat.com (connection freshchat)
    warning[slow]: the far side is slow
    sync-users: 2 of 1,250 records (0%): 0 delivered, 2 failed, 0 in doubt, PACE
    SIGTERM: finishing 8 requests

    sync-users: 1,246 delivered, 4 failed, 0 invalid, 0 skipped, 0 in doubt of 1,250 in 62 s (20/s)
    failed: 3 email already exists (409), 1 phone is not valid (422)      .runner/default/runs/sync-users/20261122T0214-3f9c/failed.csv
    next:   runner status sync-users   ·   runner retry pipelines/sync-users.yaml
    ");
}

#[test]
fn quiet_leaves_errors_and_the_counts() {
    let mut world = World::new(Format::Human, Volume::Quiet);
    play(&mut world);
    world.reporter.diagnostic(&Diagnostic::error("x", "y"));
    world.reporter.end_run(&sample());
    assert_snapshot!(world.stderr(), @r"
    error[x]: y

    sync-users: 1,246 delivered, 4 failed, 0 invalid, 0 skipped, 0 in doubt of 1,250 in 62 s (20/s)
    ");
}

#[test]
fn verbose_names_records_and_masks() {
    let mut world = World::new(Format::Human, Volume::Records);
    world.reporter.event(&settled(0, "a-17", "CONFLICT"));
    world.reporter.event(&settled(1, "a-18", "echo s3cr3t-token\u{202e}"));
    assert_snapshot!(world.stderr(), @r"
    failed     data/users.csv, line 2 (a-17) 409 CONFLICT
    failed     data/users.csv, line 3 (a-18) 409 echo ***\u{202e}
    ");
}

#[test]
fn json_is_one_object_with_errors_in_it() {
    let mut world = World::new(Format::Json, Volume::Normal);
    play(&mut world);
    world.reporter.diagnostic(&Diagnostic::error("x", "got s3cr3t-token"));
    world.reporter.end_run(&sample());
    world.reporter.end_run(&RunSummary { pipeline: "second".into(), ..sample() });
    let out = Arc::clone(&world.out);
    assert_eq!(world.reporter.close(Class::RecordsFailed), Class::RecordsFailed);
    let read: Value = serde_json::from_slice(&out.lock().unwrap()).unwrap();
    assert_eq!(read["exit_code"], 1);
    assert_eq!(read["summary"]["pipeline"], "second");
    assert_eq!(read["summary"]["earlier"][0]["pipeline"], "sync-users");
    assert_eq!(read["diagnostics"][0]["rule"], "slow");
    assert_eq!(read["diagnostics"][1]["message"], "got ***");
}

#[test]
fn jsonl_has_a_line_per_event_and_records_only_with_v() {
    for (volume, events) in [
        (Volume::Normal, "run_started warning progress run_ended"),
        (Volume::Records, "run_started record record warning progress run_ended"),
    ] {
        let mut world = World::new(Format::Jsonl, volume);
        play(&mut world);
        world.reporter.end_run(&sample());
        let out = world.stdout();
        assert!(!out.contains("s3cr3t-token"));
        let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let names: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
        assert_eq!(names.join(" "), events);
        assert_eq!(lines.last().unwrap()["summary"]["counts"]["delivered"], 1_246);
    }
}

#[test]
fn what_one_pipeline_hides_stays_hidden_behind_the_next() {
    let mut world = World::new(Format::Json, Volume::Normal);
    world.reporter.diagnostic(&Diagnostic::error("x", "got s3cr3t-token"));
    world.reporter.end_run(&RunSummary { next: vec!["s3cr3t-token".into()], ..sample() });
    world.reporter.hide(Mask::default());
    let out = Arc::clone(&world.out);
    assert_eq!(world.reporter.close(Class::Io), Class::Io);
    assert!(!String::from_utf8_lossy(&out.lock().unwrap()).contains("s3cr3t"));
}

#[test]
fn an_answer_that_cannot_be_written_is_an_io_failure() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    for (format, class) in [(Format::Json, Class::Io), (Format::Human, Class::RecordsFailed)] {
        let mut settings = World::new(format, Volume::Quiet).reporter.settings.clone();
        settings.streams.answer = Target::Writer(Arc::new(Mutex::new(Full)));
        assert_eq!(Reporter::new(&settings, Mask::default()).finish(&sample()), class, "{format:?}");
    }
}

#[test]
fn findings_have_a_limit() {
    let mut world = World::new(Format::Json, Volume::Quiet);
    for _ in 0..KEPT + 3 {
        world.reporter.diagnostic(&Diagnostic::warning("x", "y"));
    }
    let out = Arc::clone(&world.out);
    assert_eq!(world.reporter.answer(Class::Ok, 10, "", Value::Null), Class::Ok);
    let read: Value = serde_json::from_slice(&out.lock().unwrap()).unwrap();
    assert_eq!((read["exit_code"].as_u64(), read["diagnostics_left_out"].as_u64()), (Some(10), Some(3)));
}

#[test]
fn a_command_without_a_run_answers_on_stdout() {
    let world = World::new(Format::Human, Volume::Normal);
    let out = Arc::clone(&world.out);
    assert_eq!(world.reporter.answer(Class::Ok, 0, "token s3cr3t-token\n", Value::Null), Class::Ok);
    assert_eq!(String::from_utf8_lossy(&out.lock().unwrap()), "token ***\n");
}

#[test]
fn the_status_line_stands_by_itself() {
    let mut world = World::new(Format::Human, Volume::Normal);
    world.reporter.event(&started(1_250, Counts { delivered: 600, ..Counts::default() }, None));
    assert_snapshot!(world.reporter.status_line(), @"sync-users: 600 of 1,250 records (48%): 600 delivered, 0 failed, 0 in doubt");
}

proptest! {
    #[test]
    fn random_bytes_give_valid_lines_and_a_clean_terminal(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mut world = World::new(Format::Jsonl, Volume::Bodies);
        world.reporter.event(&settled(0, &text, &text));
        world.reporter.say(&text);
        world.reporter.diagnostic(&Diagnostic::warning("x", text.clone()).note(text.clone()));
        world.reporter.end_run(&RunSummary { pipeline: text.clone(), next: vec![text], ..sample() });
        for line in world.stdout().lines() {
            prop_assert!(serde_json::from_str::<Value>(line).is_ok(), "{}", line);
        }
        prop_assert_eq!(world.stdout().lines().count(), 3);
        prop_assert!(world.stderr().chars().all(|c| c == '\n' || !c.is_control()));
    }
}

#[test]
fn a_reporter_can_move_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Reporter>();
    is_send::<Settings>();
}
