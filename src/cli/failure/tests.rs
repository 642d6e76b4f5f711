use std::sync::{Arc, Mutex};

use insta::assert_snapshot;

use super::*;
use crate::cli::args::Cli;
use crate::report::{Streams, Target};

/// What a line that is no command writes, and its class.
fn tell(line: &str) -> (Class, String, String) {
    let args: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
    let mut unread = Cli::read(args).expect_err(line);
    unread.settings.stdout_colors = crate::report::Colors::Off;
    unread.settings.stderr_colors = crate::report::Colors::Off;
    let (out, err) = <(Arc<Mutex<Vec<u8>>>, Arc<Mutex<Vec<u8>>>)>::default();
    unread.settings.streams = Streams {
        answer: Target::Writer(Arc::clone(&out) as _),
        people: Target::Writer(Arc::clone(&err) as _),
    };
    let class = unread.tell();
    let read = |bytes: Arc<Mutex<Vec<u8>>>| String::from_utf8(bytes.lock().unwrap().clone()).unwrap();
    (class, read(out), read(err))
}

#[test]
fn a_mistyped_flag_is_suggested() {
    let (class, out, err) = tell("runner apply a --dryrun");
    assert_eq!((class, out.as_str()), (Class::Usage, ""));
    assert_snapshot!(err, @r"
    error[usage]: unexpected argument `--dryrun` found
       = usage: runner apply --dry-run <PIPELINE>...
    help: did you mean `--dry-run`?
    ");
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    assert_snapshot!(tell("runner apply").2, @r"
    error[usage]: the following required arguments were not provided: `<PIPELINE>...`
       = usage: runner apply <PIPELINE>...
    help: `runner apply --help` lists its flags
    ");
    assert_snapshot!(tell("runner aply a").2, @r"
    error[usage]: unrecognized subcommand `aply`
       = usage: runner [OPTIONS] <COMMAND>
    help: did you mean `apply`?
    ");
    assert_snapshot!(tell("runner apply a --concurrency 0").2, @r"
    error[usage]: invalid value `0` for `--concurrency <N>`: must be a whole number, at least 1
    help: `runner apply --help` lists its flags
    ");
    assert_snapshot!(tell("runner apply a --rate 20").2, @r"
    error[usage]: invalid value `20` for `--rate <R>`: write a number and its time: 20/s, 300/min, 5000/h
    help: `runner apply --help` lists its flags
    ");
    assert_snapshot!(tell("runner apply a --fresh --resume").2, @r"
    error[usage]: the argument `--fresh` cannot be used with `--resume`
       = usage: runner apply --fresh <PIPELINE>...
    help: `runner apply --help` lists its flags
    ");
    assert_snapshot!(tell("runner resolve a --skip").2, @r"
    error[usage]: the following required arguments were not provided: `<--record <KEY>|--ordinal <N>|--all>`
       = usage: runner resolve <--resend|--skip|--delivered|--failed> <--record <KEY>|--ordinal <N>|--all> <PIPELINE>
    help: `runner resolve --help` lists its flags
    ");
    assert_snapshot!(tell("runner schema knd").2, @r"
    error[usage]: invalid value `knd` for `[KIND]`
       = possible values: runner, connector, endpoint, pipeline
    help: `runner schema --help` lists its flags
    ");
    assert_snapshot!(tell("runner validate --format jsonl --color never").2, @r"
    error[usage]: `validate` has no events, so there is no `--format jsonl`
    help: `runner validate --format json` gives one object
    ");
}

#[test]
fn under_json_stdout_is_one_object_whatever_is_wrong() {
    for line in [
        "runner apply a --format json --dryrun",
        "runner --format=json",
        "runner --format json apply",
        "runner --format json schema",
        "runner --format json nothing-like-this",
        "runner apply a --format human --format json",
    ] {
        let (class, out, _) = tell(line);
        assert_eq!(class, Class::Usage, "{line}");
        let read: Value = serde_json::from_str(&out).expect(line);
        assert_eq!((read["class"].as_str(), read["exit_code"].as_u64()), (Some("usage"), Some(2)), "{line}");
        assert_eq!(read["diagnostics"][0]["rule"], "usage", "{line}");
    }
}

#[test]
fn help_and_version_are_answers() {
    let (class, out, err) = tell("runner --version");
    assert_eq!(
        (class, out, err),
        (Class::Ok, format!("runner {}\n", crate::cli::args::VERSION), String::new())
    );
    let (class, out, _) = tell("runner apply --help --format json");
    assert!(class == Class::Ok && out.contains("Usage: runner apply"), "{out}");
    let (class, out, err) = tell("runner");
    assert!(class == Class::Usage && out.is_empty() && err.contains("Usage: runner"), "{err}");
}

#[test]
fn what_is_typed_cannot_steer_the_terminal() {
    let (_, _, err) = tell("runner apply a --\u{1b}[2J\u{202e}");
    assert!(!err.contains(['\u{1b}', '\u{202e}']), "{err:?}");
}

#[test]
fn the_format_is_guessed_from_line_then_environment() {
    let guess = |line: &str, env| guess(&line.split(' ').map(OsString::from).collect::<Vec<_>>(), env).format;
    assert_eq!(guess("runner x", None), Format::Human);
    assert_eq!(guess("runner x", Some("json")), Format::Json);
    assert_eq!(guess("runner --format human x", Some("json")), Format::Human);
    assert_eq!(guess("runner x -- --format json", None), Format::Human);
    assert_eq!(guess("runner x --format", None), Format::Human);
}

#[test]
fn quotes_become_ticks_in_pairs() {
    assert_eq!(ticked("a 'b' c 'd'"), "a `b` c `d`");
    assert_eq!(ticked("it's"), "it's");
}
