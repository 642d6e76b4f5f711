//! Rows S37 to S39: what others can make of what is shown.

use std::fmt::Write as _;

use super::{connection, posting, words};
use crate::world::{PUT_THINGS, Run, World, things};

/// What drives a terminal (a tab within a shown body does not), turns the direction of text or breaks a line.
fn is_unsafe(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t'))
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// All of it in one text, each within its own brackets.
fn unsafe_text() -> String {
    let all = ('\0'..='\u{9f}').chain('\u{2028}'..='\u{202e}').chain('\u{2066}'..='\u{2069}');
    all.filter(|c| is_unsafe(*c) && *c != '\0').fold(String::new(), |mut text, c| {
        let _ = write!(text, "<{c}[31m>");
        text
    })
}

#[track_caller]
fn is_safe(what: &str, text: &str) {
    let found = text.chars().find(|c| is_unsafe(*c));
    assert_eq!(found, None, "{what}: {text:?}");
}

/// JSON has its own escapes: no byte of it is a control character.
#[track_caller]
fn is_safe_run(arguments: &str, run: &Run) {
    is_safe(&format!("stderr of {arguments}"), &run.stderr);
    is_safe(&format!("stdout of {arguments}"), &run.stdout);
}

#[test]
fn control_and_direction_characters_from_outside_are_shown_escaped() {
    // S37
    let evil = unsafe_text();
    let record = serde_json::json!({ "id": evil, "v": evil, evil.clone(): 1 }).to_string();
    // What can stand in a script and in a header.
    let said: String = evil.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    let quoted = said.replace('\\', "\\\\").replace('"', "\\\"");
    let public = "key: { value: '{{ record.id }}', public: true }\nresponses: { file: true }\n";
    let endpoint = ", captures: { c: '{{ response.body }}' }, errors: { class: '{{ response.text }}', message: '{{ response.text }}' }";
    for (script, log) in [
        (format!("* * -> 422 body=\"{quoted}\" content-type=text/plain"), "log.txt"),
        (format!("* * -> 200 body=\"{quoted}\" content-type=text/plain"), "log.jsonl"),
        (format!("* * -> 307 body=\"{quoted}\" location=\"/{}\"", "\u{9b}31m\u{202e}"), "log.txt"),
        ("* * -> esc 400".to_owned(), "log.txt"),
        ("* * -> garbage".to_owned(), "log.txt"),
    ] {
        let world = World::new()
            .file("pipelines/p.yaml", posting(endpoint, public).replace("things.csv", "v.ndjson"))
            .file("data/v.ndjson", &record)
            .script(&script);
        for arguments in [
            "apply p -vvv",
            "status p",
            "status p --verify",
            "retry p -vvv",
            "preview p",
            "preview p --as curl",
            "preview p --as json",
            "plan p -v",
            "list runs",
            "validate --data",
            "apply p --fresh --yes --format json",
            "apply p --fresh --yes --format jsonl -vvv",
            "preview p --format json",
        ] {
            let mut command = world.command(arguments);
            command.envs([("RUNNER_LOG", "trace"), ("RUNNER_LOG_FILE", log)]);
            is_safe_run(arguments, &Run::of(command.output().expect("it runs"), &world));
            let mut command = world.command(arguments);
            command.env("RUNNER_LOG", "trace");
            is_safe_run(arguments, &Run::of(command.output().expect("it runs"), &world));
        }
        let shown = words(&world, &["try", "p", "--record", &evil, "--again", "--yes", "-vvv"]);
        is_safe_run("try p", &shown);
        is_safe("the log", &world.read(log));
        assert!(world.seen().len() > 3, "{script}");
    }
}

#[test]
fn what_is_wrong_in_a_file_or_a_command_line_is_shown_escaped() {
    // S37
    let evil = unsafe_text();
    let in_yaml = serde_json::json!(evil).to_string();
    let raw: String = evil.chars().filter(|c| *c >= '\u{a0}').collect();
    let world = World::new().pipeline(PUT_THINGS, things(1));
    for pipeline in [
        format!("{PUT_THINGS}x{raw}: 1\n"),
        format!("{PUT_THINGS}{in_yaml}: 1\n"),
        PUT_THINGS.replace("connection: local", &format!("connection: {in_yaml}")),
        PUT_THINGS.replace("data/things.csv", &format!("{}", in_yaml.trim_matches('"'))),
        PUT_THINGS.replace("file: data/things.csv", &format!("file: {in_yaml}")),
        PUT_THINGS.replace("{{ record.id }}", "{{ record[\\\"\u{202e}\\\"] }}"),
        PUT_THINGS.replace("'{{ record.id }}'", &format!("'{{{{ record.id | {raw} }}}}'")),
        format!("{PUT_THINGS}schema: {in_yaml}\n"),
        format!("{PUT_THINGS}# {raw}\n  broken: [\n"),
        format!("{PUT_THINGS}description: {in_yaml}\n"),
        format!("{PUT_THINGS}name: {in_yaml}\n"),
    ] {
        world.write("pipelines/p.yaml", pipeline);
        for arguments in
            ["validate", "apply p -vvv", "validate --format json", "plan p", "list", "list pipelines"]
        {
            is_safe_run(arguments, &world.run(arguments));
        }
    }
    world.write("pipelines/p.yaml", PUT_THINGS);
    let url = world.url();
    for more in
        [format!(", {in_yaml}: 1"), format!(", proxy: {in_yaml}"), format!(", headers: {{ {in_yaml}: x }}")]
    {
        world.write("runner.yaml", connection(&url, &more));
        for arguments in ["validate", "list settings", "check-connection local"] {
            is_safe_run(arguments, &world.run(arguments));
        }
    }
    world.write("runner.yaml", connection(&url, ""));
    // A header of a CSV, the name of an input, words of the command line.
    world.write("data/things.csv", format!("id,\"{evil}\",\"{evil}\"\n1,2,3\n"));
    is_safe_run("apply", &world.run("apply p"));
    world.write("data/things.csv", format!("id,\"a{evil}\"\n1,2,3,4\n"));
    is_safe_run("apply", &world.run("apply p -vvv"));
    let name: String = evil.chars().filter(|c| *c != '/').take(60).collect();
    for arguments in [
        vec!["apply", "p", "--input", &name],
        vec!["apply", &name],
        vec![&*evil],
        vec!["apply", "p", &*evil],
        vec!["apply", "p", "--var", &*evil],
        vec!["apply", "p", "--where", &*evil],
        vec!["apply", "p", "--record", &*evil],
        vec!["apply", "p", "--env", &*evil],
        vec!["apply", "p", "--rate", &*evil],
        vec!["apply", "p", "--format", &*evil],
        vec!["help", &*evil],
        vec!["init", "x", "--connector", &*evil],
        vec!["-C", &name, "list"],
    ] {
        is_safe_run(&arguments.join(" "), &words(&world, &arguments));
    }
}

#[test]
fn a_value_cannot_forge_a_line_of_output_or_of_a_log() {
    // S38
    let forged = "x\nerror[forged]: all is lost\r\nerror[forged]: twice\u{2028}error[forged]\u{85}error[forged]\u{b}error[forged]";
    let record = serde_json::json!({ "id": forged, "forged\nerror[forged]: x": 1 }).to_string();
    let forged_log = "2026-11-25T00:00:00Z ERROR forged";
    let more = serde_json::json!({ "id": format!("y\n{forged_log}\n{{\"event\":\"forged\"}}") }).to_string();
    let endpoint = ", errors: { message: '{{ response.body.error }}', class: '{{ response.body.error }}' }";
    let reply = "content-type=application/json body=\"{\\\"error\\\":\\\"no\\nerror[forged]: a\\n2026-11-25T00:00:00Z ERROR forged\\\"}\"";
    let world = World::new()
        .file(
            "pipelines/p.yaml",
            posting(endpoint, "key: { value: '{{ record.id }}', public: true }\n")
                .replace("things.csv", "v.ndjson"),
        )
        .file("data/v.ndjson", format!("{record}\n{more}\n"))
        .script(&format!("* * -> 422 {}", reply.replace("\\n", "\\\\n")));
    for arguments in
        ["apply p -vvv", "retry p -vvv", "status p", "preview p", "plan p -v", "apply p --format jsonl -vvv"]
    {
        for log in ["log.txt", "log.jsonl"] {
            let mut command = world.command(arguments);
            command.envs([("RUNNER_LOG", "trace"), ("RUNNER_LOG_FILE", log)]);
            let run = Run::of(command.output().expect("it runs"), &world);
            for text in [&run.stdout, &run.stderr, &world.read(log)] {
                let lines = text.split(['\n', '\r', '\u{2028}', '\u{85}', '\u{b}']);
                for line in lines {
                    let begins = line.trim_start();
                    assert!(
                        !begins.starts_with("error[forged]")
                            && !begins.starts_with(forged_log)
                            && !begins.starts_with("{\"event\":\"forged\""),
                        "{arguments}: {line}\n{text}"
                    );
                }
            }
        }
    }
    assert!(world.seen().len() >= 2);
}

#[test]
fn output_for_programs_is_one_json_value_a_line_whatever_comes_in() {
    // S39
    let mut chance = fastrand::Rng::with_seed(39);
    let mut bytes = |most: usize| -> Vec<u8> {
        let tokens: [&[u8]; 14] = [
            b",",
            b"\"",
            b"\n",
            b"\r",
            b"{",
            b"}",
            b"[",
            b"]",
            b":",
            b"id",
            b"\\",
            b"\xff",
            b"\0",
            b"\xef\xbb\xbf",
        ];
        (0..chance.usize(0..most))
            .flat_map(|_| {
                if chance.bool() {
                    tokens[chance.usize(0..tokens.len())].to_vec()
                } else {
                    vec![chance.u8(..)]
                }
            })
            .collect()
    };
    let mut lines = 0;
    for round in 0..60 {
        let (name, head) =
            [("csv", "id,v\n"), ("json", "[{\"id\":1},"), ("ndjson", "{\"id\":1}\n")][round % 3];
        let mut input = if round % 2 == 0 { head.as_bytes().to_vec() } else { Vec::new() };
        input.extend(bytes(400));
        let world = World::new()
            .file(
                "pipelines/p.yaml",
                posting("", "key: '{{ record.id }}'\n").replace("things.csv", &format!("v.{name}")),
            )
            .file(&format!("data/v.{name}"), &input)
            .script("* * -> 200");
        if round % 5 == 4 {
            let mut text = world.read("pipelines/p.yaml").into_bytes();
            text.extend(bytes(60));
            world.write("pipelines/p.yaml", text);
        }
        for arguments in ["apply p --fresh --yes", "plan p", "preview p --all", "validate --data", "status p"]
        {
            for format in ["json", "jsonl"] {
                let output =
                    world.command(&format!("{arguments} --format {format} -vvv")).output().expect("it runs");
                let text =
                    String::from_utf8(output.stdout).unwrap_or_else(|error| panic!("{arguments}: {error}"));
                assert!(text.ends_with('\n'), "{arguments} --format {format}, round {round}: {text:?}");
                for line in text.split_terminator('\n') {
                    let value: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| {
                        panic!("{arguments} --format {format}, round {round}: {error}: {line}")
                    });
                    assert!(value.is_object());
                    lines += 1;
                }
                assert!(format == "jsonl" || text.lines().count() == 1, "{text}");
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(!said.contains("panicked"), "{said}");
            }
        }
    }
    assert!(lines > 600, "{lines}");
}
