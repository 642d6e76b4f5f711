use clap::ValueEnum as _;

use super::*;
use crate::outcome::Settlement;

fn read(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_declaration_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn the_help_of_every_command() {
    // A terminal around the test must not change the page.
    let wide = || Cli::command().term_width(100);
    let mut pages = page(wide(), None).unwrap();
    let mut root = wide();
    root.build();
    let names: Vec<String> = root.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    for name in names {
        pages.extend(["\n==== ", &name, " ====\n"]);
        // The flags of everywhere are on the first page.
        let text = page(wide(), Some(&name)).unwrap();
        pages.push_str(text.split("\nEverywhere:").next().unwrap());
    }
    insta::with_settings!({ snapshot_path => "../snapshots", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("help", pages.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
    });
}

#[test]
fn flags_of_everywhere_work_before_and_after_the_command() {
    for line in [
        "runner -C shop --env staging --var a=1 --format json -vv apply users",
        "runner apply users -C shop --env staging --var a=1 --format=json -v -v",
    ] {
        let cli = read(line).unwrap();
        let everywhere = cli.everywhere;
        assert_eq!(everywhere.directory, Some("shop".into()), "{line}");
        assert_eq!(everywhere.environment.as_deref(), Some("staging"), "{line}");
        assert_eq!(everywhere.vars.len(), 1, "{line}");
        assert_eq!((everywhere.format, everywhere.verbose), (Format::Json, 2), "{line}");
    }
}

#[test]
fn lines_that_are_right() {
    for line in [
        "apply a b --keep-going --sandbox --yes",
        "apply a -n --input - --limit 5 --where record.x>1 --record k --record l",
        "apply a --resume --accept-changes --again --max-duration 2h --stop-after 9 --concurrency 4 --rate 20/s",
        "apply a --fresh",
        "apply a --close",
        "plan a --detailed-exitcode --sandbox --input b.csv",
        "preview a --ordinal 0 --ordinal 7 --as curl",
        "preview a --all --as json",
        "preview a --sample",
        "try a --sample",
        "try a --payload - --sandbox",
        "try a --record k --again",
        "check-connection",
        "retry a --where status==422 --limit 1 --accept-changes --rate 300/min",
        "resolve a --resend --all",
        "resolve a --failed --record k --record l",
        "resolve a --delivered --ordinal 0",
        "status",
        "status a --files --verify --sandbox",
        "list",
        "list settings",
        "sandbox freshchat --listen [::1]:8080 --script s.yaml --store d --journal j",
        "schema pipeline",
        "schema --all --out schemas",
        "init --state",
        "init shop --connector freshchat",
        "validate",
        "validate a b --data --strict --exit-zero",
        "completions bash",
        "help doubt",
    ] {
        let found = read(&format!("runner {line}")).err().map(|error| error.to_string());
        assert_eq!(found, None, "{line}");
    }
}

#[test]
fn lines_that_are_refused_with_2() {
    for line in [
        "apply",
        "appl users",
        "apply a --dryrun",
        "apply a --dry",
        "apply a --concurrency 0",
        "apply a --concurrency -1",
        "apply a --limit 0",
        "apply a --stop-after 0",
        "apply a --rate 20",
        "apply a --rate 0/s",
        "apply a --max-duration 30",
        "apply a --max-duration 0s",
        "apply a --fresh --resume",
        "apply a --fresh --close",
        "apply a --close --resume",
        "apply a --fresh --accept-changes",
        "apply a --format yaml",
        "apply a --var novalue",
        "apply a --token x",
        "preview a --all --limit 3",
        "preview a --sample --record k",
        "try a --sample --payload f",
        "try a --record k --sample",
        "resolve a --resend",
        "resolve a --all",
        "resolve a --resend --skip --all",
        "resolve a --skip --all --record k",
        "resolve a --skip --ordinal -1",
        "sandbox --listen nowhere",
        "schema",
        "schema --all",
        "schema pipeline --all --out d",
        "schema kind",
        "list things",
        "test a",
        "explode a b",
        "completions cmd",
    ] {
        let error = read(&format!("runner {line}")).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn events_are_for_commands_that_have_them() {
    assert!(read("runner apply a --format jsonl").unwrap().misfit().is_none());
    let found = read("runner validate --format jsonl").unwrap().misfit().unwrap();
    assert_eq!(found.message, "`validate` has no events, so there is no `--format jsonl`");
}

#[test]
fn a_settlement_is_one_choice() {
    for (flag, choice) in [
        ("resend", Settlement::Resend),
        ("skip", Settlement::Skip),
        ("delivered", Settlement::Delivered),
        ("failed", Settlement::Failed),
    ] {
        let Command::Resolve(resolve) = read(&format!("runner resolve a --{flag} --all")).unwrap().command
        else {
            panic!("another command");
        };
        assert_eq!(resolve.settlement.choice(), choice);
    }
}

#[test]
fn help_knows_commands_and_topics_and_suggests() {
    assert!(help(Some("doubt")).unwrap().starts_with("DOUBT\n"));
    assert!(help(Some("apply")).unwrap().contains("Usage: runner apply"));
    let failure = help(Some("exit-code")).unwrap_err();
    assert_eq!(failure.diagnostics[0].help.as_deref(), Some("did you mean `exit-codes`?"));
    assert!(help(Some("zzz")).unwrap_err().diagnostics[0].help.as_ref().unwrap().starts_with("topics: "));
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in clap_complete::Shell::value_variants() {
        let script = String::from_utf8(completions(*shell)).unwrap();
        assert!(script.contains("check-connection"), "{shell}");
    }
}
