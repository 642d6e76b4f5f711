//! Rows S24 to S30: where secrets may come from, and what a log tells of records.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use runner::model::Class;
use rustix::process::Signal;

use super::secrets::{holds_no_secret, leak, with_secret};
use super::{TOKEN, posting, with, words};
use crate::world::{World, things};

const CONFIG: i32 = Class::Config.code() as i32;

#[test]
fn no_flag_takes_a_secret_and_no_process_shows_one() {
    // S24
    let world = with_secret("auth: { bearer: token }", "", "").script("* * -> hang");
    for flag in [
        "--token",
        "--api-token",
        "--api-key",
        "--password",
        "--secret",
        "--auth",
        "--bearer",
        "--header",
        "-H",
        "-u",
        "--user",
    ] {
        for arguments in
            [vec!["apply", "p", flag, TOKEN], vec!["check-connection", flag, TOKEN], vec![flag, TOKEN]]
        {
            let run = words(&world, &arguments).exits(2);
            assert!(!run.stderr.contains(TOKEN), "{}", run.stderr);
        }
        let run = words(&world, &["apply", "p", &format!("{flag}={TOKEN}")]).exits(2);
        assert_eq!(leak(TOKEN, &run.stderr), None, "{}", run.stderr);
    }
    let help = world.run("help").stdout;
    let commands = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let commands: Vec<&str> = commands
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.contains(&"apply") && commands.len() > 10, "{commands:?}");
    for command in commands {
        let help = world.run(&format!("{command} --help")).stdout.to_lowercase();
        let flags = help.split_whitespace().filter(|word| word.starts_with("--"));
        for flag in flags {
            assert!(
                !["token", "secret", "password", "auth", "api-key"].iter().any(|word| flag.contains(word)),
                "{command} {flag}"
            );
        }
    }
    let mut command = world.command("apply p");
    command.env("API_TOKEN", TOKEN);
    let mut running = crate::world::Running::of(&mut command);
    assert!(world.until(&running, 1));
    let mut shown = String::new();
    for thread in std::fs::read_dir(format!("/proc/{}/task", running.id())).expect("threads").flatten() {
        for file in ["cmdline", "comm"] {
            let _ =
                write!(shown, "{}", std::fs::read_to_string(thread.path().join(file)).unwrap_or_default());
        }
    }
    assert!(shown.contains("apply"), "{shown}");
    assert_eq!(leak(TOKEN, &shown), None);
    running.signal(Signal::KILL);
    running.ended(&world);
}

#[test]
fn a_secret_that_is_written_into_a_file_is_reported_with_its_place() {
    // S25
    let long = "q8Zr2LxT9vB4nK7mW1cY5hJ3";
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N";
    for (text, stops) in [
        (posting(&format!(", headers: {{ X-Auth: 'Bearer {long}' }}"), ""), true),
        (posting("", &format!("body: {{ a: '{jwt}' }}\n")), true),
        (posting(&format!(", headers: {{ X-Api-Key: {long} }}"), ""), false),
        (posting("", &format!("vars: {{ api_token: {long} }}\n")), false),
    ] {
        let world = World::new().pipeline(&text, things(1));
        for arguments in ["validate", "validate --format json", "apply p -vvv", "plan p"] {
            let run = world.run(arguments);
            let said = format!("{}{}", run.stdout, run.stderr);
            assert!(
                said.contains("secret-in-file") && said.contains("pipelines/p.yaml"),
                "{arguments}: {said}"
            );
            assert!(!said.contains(long) && !said.contains(&jwt[25..]), "{arguments}: {said}");
            assert!(!stops || run.code == CONFIG, "{arguments}: {said}");
        }
    }
}

#[test]
fn a_file_of_secrets_that_others_can_read_is_reported() {
    // S26
    for (file, setting) in [
        ("secret/t.txt", "{ file: secret/t.txt }"),
        (".env", "{ env: API_TOKEN }"),
        ("my.env", "{ env: API_TOKEN }"),
    ] {
        let content =
            if file.ends_with("env") { format!("API_TOKEN={TOKEN}\n") } else { format!("{TOKEN}\n") };
        let world = with_secret("auth: { bearer: token }", "", "").file(file, content);
        world
            .write("runner.yaml", format!("connections:\n  local: {{ connector: api, token: {setting} }}\n"));
        let flag = if file == "my.env" { " --env-file my.env" } else { "" };
        for (mode, open) in
            [(0o644, true), (0o640, true), (0o604, true), (0o666, true), (0o600, false), (0o400, false)]
        {
            std::fs::set_permissions(world.path(file), std::fs::Permissions::from_mode(mode))
                .expect("rights");
            let run = world.run(&format!("validate{flag}")).exits(0);
            assert_eq!(run.stderr.contains("secret-file-open"), open, "{file} {mode:o}: {}", run.stderr);
            let cure = run.stderr.lines().any(|line| line.contains("chmod 600") && line.ends_with(file));
            assert_eq!(cure, open, "{}", run.stderr);
            assert_eq!(run.stderr.matches("secret-file-open").count(), usize::from(open), "{}", run.stderr);
            holds_no_secret(&world, &[("validate", run)]);
        }
        world.run(&format!("apply p{flag}")).exits(0);
    }
}

#[test]
fn digests_and_idempotency_keys_are_the_same_for_another_token() {
    // S28
    let endpoint = ", idempotency: { header: Idempotency-Key, remembered: 1h }";
    let world = with_secret("auth: { bearer: token }", endpoint, "").script("* * after=2 -> hang");
    let mut command = world.command("apply p --concurrency 3");
    let mut running = crate::world::Running::of(command.env("API_TOKEN", "the-first-token"));
    assert!(world.until(&running, 4));
    running.signal(Signal::KILL);
    running.ended(&world);
    let digests = |world: &World, folder: &str| -> Vec<(i64, i64)> {
        let checkpoint = rusqlite::Connection::open(world.path(folder)).expect("a checkpoint");
        let mut rows = checkpoint
            .prepare("SELECT id & 1099511627775, digest FROM record WHERE state = 2 ORDER BY 1")
            .expect("rows");
        rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .expect("rows")
            .map(|row| row.expect("a row"))
            .collect()
    };
    world.answers("");
    with(&world, "apply p", &[("API_TOKEN", "another-token")]).exits(0);
    let mut keys: std::collections::BTreeMap<Vec<u8>, std::collections::BTreeSet<String>> =
        std::collections::BTreeMap::new();
    let (mut tokens, mut repeats) = (std::collections::BTreeSet::new(), 0);
    for seen in world.seen() {
        tokens.insert(seen.headers["authorization"].to_str().expect("text").to_owned());
        let of_record = keys.entry(seen.body.to_vec()).or_default();
        repeats += usize::from(!of_record.is_empty());
        of_record.insert(seen.headers["idempotency-key"].to_str().expect("text").to_owned());
    }
    assert_eq!((tokens.len(), keys.len()), (2, 4));
    assert!(repeats >= 2, "what was in flight went again: {repeats}");
    assert!(keys.values().all(|keys| keys.len() == 1), "{keys:?}");
    // A whole run by itself with either token.
    for (token, state) in [("the-first-token", "one"), ("another-token", "two")] {
        with(&world, &format!("apply p --state-dir {state}"), &[("API_TOKEN", token)]).exits(0);
    }
    let (one, two) = (digests(&world, "one/default/state/p.db"), digests(&world, "two/default/state/p.db"));
    assert_eq!(one.len(), 4);
    assert_eq!(one, two);
    assert_eq!(digests(&world, ".runner/default/state/p.db").len(), 4);
}

#[test]
fn a_log_names_no_value_of_a_record() {
    // S29
    let input =
        "id,mail,phone\n1,anna@example.test,+49 171 5550100\n2,bob@example.test,+49 171 5550101\n3,,x\n";
    let world = World::new()
        .pipeline(&posting("", "key: '{{ record.mail }}'\nschema: s.json\n"), input)
        .file(
            "s.json",
            r#"{"properties":{"phone":{"pattern":"^[+]"},"mail":{"minLength":1}},"required":["mail"]}"#,
        )
        .script("* * body.id=1 -> 422 message='anna'\n* * body.id=2 -> 500");
    let set = [("RUNNER_LOG", "runner=trace"), ("RUNNER_LOG_FILE", "log.jsonl")];
    for arguments in [
        "apply p -vv",
        "status p",
        "retry p",
        "plan p",
        "validate --data",
        "resolve p --skip --all",
        "apply p --format jsonl",
    ] {
        let run = with(&world, arguments, &set);
        let shown = format!("{}{}", run.stdout, run.stderr);
        for value in ["example.test", "5550100", "5550101"] {
            assert!(!shown.contains(value), "{arguments}: {shown}");
        }
    }
    let log = world.read("log.jsonl");
    assert!(log.contains("run decided") && !log.contains("example.test") && !log.contains("55501"), "{log}");
    // Whoever wants values asks for them.
    assert!(world.run("preview p --all").stdout.contains("anna@example.test"));
}
