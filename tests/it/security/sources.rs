//! Rows S17 to S21: what files of the project, settings and variables can do.

use std::os::unix::fs::symlink;

use runner::model::Class;

use super::{connection, posting, traced, with};
use crate::world::{PUT_THINGS, World, things};

const CONFIG: i32 = Class::Config.code() as i32;

#[test]
fn templates_read_no_file_no_environment_and_start_nothing() {
    // S17
    for evil in [
        "{% include '/etc/passwd' %}",
        "{% include 'data/things.csv' %}",
        "{% import '/etc/passwd' as x %}{{ x }}",
        "{% from '/etc/passwd' import root %}",
        "{% extends '/etc/passwd' %}",
        "{{ include('/etc/passwd') }}",
        "{{ open('/etc/passwd').read() }}",
        "{{ read_file('/etc/passwd') }}",
        "{{ env.HOME }}",
        "{{ env('HOME') }}",
        "{{ environ['HOME'] }}",
        "{{ getenv('HOME') }}",
        "{{ os.environ }}",
        "{{ lookup('env', 'HOME') }}",
        "{{ system('id') }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ record.__class__ }}",
        "{{ self }}",
        "{{ self._TemplateReference__context }}",
        "{{ config }}",
        "{{ debug() }}",
        "{{ caller() }}",
        "{{ cycler.__init__ }}",
        "{{ connection.token }}",
        "{{ connection['tok' ~ 'en'] }}",
        "{{ connection }}",
        "{{ fetch('http://127.0.0.1') }}",
    ] {
        let connector = |url: &str| {
            format!(
                "settings: {{ token: {{ type: string, secret: true }} }}\nbase_url: {url}\nauth: {{ bearer: token }}\n"
            )
        };
        let world = World::new().file("data/things.csv", things(1)).file("b.txt.j2", evil);
        world.write("templates/api/connector.yaml", connector(&world.url()));
        world.write("runner.yaml", "connections:\n  local: { connector: api, token: { env: TOKEN } }\n");
        let quoted = serde_json::json!(evil);
        for pipeline in [
            posting("", &format!("body: {{ a: {quoted} }}\n")),
            posting(&format!(", headers: {{ X-A: {quoted} }}"), ""),
            posting(&format!(", query: {{ a: {quoted} }}"), ""),
            posting("", &format!("key: {quoted}\n")),
            posting("", &format!("vars: {{ v: x }}\nselect: {{ where: {quoted} }}\n")),
            posting(", content: text, body_file: b.txt.j2", ""),
        ] {
            world.write("pipelines/p.yaml", &pipeline);
            let run = with(&world, "apply p", &[("TOKEN", "s3cret-one"), ("HOME", "/home/s3cret")]);
            let said = format!("{}{}", run.stdout, run.stderr);
            assert!(!said.contains("s3cret") && !said.contains("root:"), "{evil}: {said}");
            for seen in world.seen() {
                let came = format!("{} {:?}", seen.path, String::from_utf8_lossy(&seen.body));
                assert!(!came.contains("s3cret") && !came.contains("root:"), "{evil}: {came}");
                let mut headers = seen.headers.clone();
                headers.remove("authorization");
                assert!(!format!("{headers:?}").contains("s3cret"), "{evil}: {headers:?}");
            }
            // What names nothing is a mistake of the template, found before anything is sent; only
            // the public settings of the connection are there to be read.
            if !["{{ connection }}", "{{ connection['tok' ~ 'en'] }}"].contains(&evil) {
                // A text body reads its names when it is made: its record is invalid.
                let text = pipeline.contains("body_file") && run.code == 1;
                assert!(run.code == CONFIG || text, "{evil}\n{pipeline}\n{}", run.stderr);
                assert_eq!(world.seen(), [], "{evil}");
            }
        }
    }
}

#[test]
fn no_path_in_a_file_of_the_project_leaves_its_root() {
    // S18
    let outside = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(outside.path().join(name), text).expect("a file");
    write("e.yaml", "method: POST\npath: /things\n");
    write("s.json", "{}");
    write("b.txt.j2", "outside-body");
    write("t.txt", "outside-token");
    let above = outside.path().display().to_string();
    let name = outside.path().file_name().expect("a name").to_string_lossy().into_owned();
    for to in [
        above.clone(),
        format!("../{name}"),
        format!("data/../../{name}"),
        "linked".to_owned(),
        "templates/linked".to_owned(),
    ] {
        for kind in ["endpoint", "schema", "body_schema", "body_file", "token", "ca"] {
            let world = World::new().file("data/things.csv", things(1)).file("templates/x.yaml", "");
            symlink(outside.path(), world.path("linked")).expect("a link");
            symlink(outside.path(), world.path("templates/linked")).expect("a link");
            let in_root = |file: &str| format!("{to}/{file}");
            let (pipeline, settings) = match kind {
                "endpoint" => {
                    (posting("", "").replace("{ method: POST, path: /things }", &in_root("e")), String::new())
                }
                "schema" => (posting("", &format!("schema: {}\n", in_root("s.json"))), String::new()),
                "body_schema" => {
                    (posting(&format!(", body_schema: {}", in_root("s.json")), ""), String::new())
                }
                "body_file" => (
                    posting(&format!(", content: text, body_file: {}", in_root("b.txt.j2")), ""),
                    String::new(),
                ),
                "token" => (posting("", ""), format!(", token: {{ file: {} }}", in_root("t.txt"))),
                _ => (posting("", ""), format!(", tls: {{ ca: {} }}", in_root("t.txt"))),
            };
            // Files of a connection may be named by absolute paths: a person put them there.
            if ["token", "ca"].contains(&kind) && to == above {
                continue;
            }
            world.write("pipelines/p.yaml", pipeline);
            let url = world.url();
            world.write("runner.yaml", connection(&url, &settings));
            if kind == "token" {
                world.write(
                    "templates/api/connector.yaml",
                    format!("settings: {{ token: {{ type: string, secret: true }} }}\nbase_url: {url}\nauth: {{ bearer: token }}\n"),
                );
                let text = world.read("runner.yaml").replace(&format!("base_url: '{url}'"), "connector: api");
                world.write("runner.yaml", text);
            }
            let run = world.run("apply p");
            assert_eq!(run.code, CONFIG, "{kind} {to}: {}", run.stderr);
            let said = format!("{}{}", run.stdout, run.stderr);
            assert!(!said.contains("outside-body") && !said.contains("outside-token"), "{said}");
            assert_eq!(world.seen(), [], "{kind} {to}");
        }
    }
    // Relative to the file and inside of the root is where all of them are found.
    let world = World::new().file("data/things.csv", things(1)).file("schemas/s.json", "{}");
    world.write("pipelines/p.yaml", posting("", "schema: schemas/s.json\n"));
    world.run("apply p").exits(0);
}

#[test]
fn a_schema_causes_no_connection_and_reads_nothing_outside() {
    // S19
    let world = World::new().pipeline(&format!("{PUT_THINGS}schema: s.json\n"), things(1));
    let reached = world.url();
    for reference in [
        format!("{reached}/s.json"),
        "https://json-schema.org/draft/2020-12/no-such".to_owned(),
        "ftp://127.0.0.1/x".to_owned(),
        "file:///etc/passwd".to_owned(),
        "//127.0.0.1/x".to_owned(),
        "/etc/passwd".to_owned(),
        "../../../../etc/passwd".to_owned(),
        "..%2f..%2fetc/passwd".to_owned(),
    ] {
        for keyword in ["$ref", "$dynamicRef", "$schema", "$recursiveRef"] {
            world.write("s.json", serde_json::json!({ keyword: reference }).to_string());
            for arguments in ["validate", "apply p"] {
                let run = world.run(arguments);
                // Keywords of other drafts say nothing in this one.
                let old = keyword == "$recursiveRef" && run.code == 0;
                assert!(run.code == CONFIG || old, "{keyword} {reference}: {}", run.stderr);
                assert!(!run.stderr.contains("root:"), "{}", run.stderr);
            }
            let seen = world.asked();
            assert!(seen.iter().all(|asked| asked.starts_with("PUT /things/")), "{seen:?}");
        }
    }
    world.write("s.json", serde_json::json!({ "$ref": format!("{reached}/s.json") }).to_string());
    let Some(trace) = traced(&world, world.command("validate")) else { return };
    assert_eq!((trace.run.code, trace.connects, trace.programs), (CONFIG, Vec::new(), 1));
}

#[test]
fn variables_and_settings_stay_the_text_that_they_are() {
    // S20, S16
    for value in [
        "{{ 7*7 }}",
        "{% if true %}x{% endif %}",
        "{{ record.name }}",
        "${HOME}",
        "$HOME",
        "`id`",
        "a: b",
        "- a",
        "!!int 7",
        "&a *a",
        "[1, 2]",
        "{ x: 1 }",
        "null",
        "true",
        "0x10",
        "# no comment",
        "'",
        "\"",
        "\\n",
        "%2F",
        "%s",
    ] {
        let world = World::new().file("data/things.csv", things(1));
        world.write(
            "templates/api/connector.yaml",
            format!("settings: {{ label: {{ type: string }} }}\nbase_url: {}\nheaders: {{ X-L: '{{{{ connection.label }}}}' }}\n", world.url()),
        );
        world.write(
            "runner.yaml",
            "connections:\n  local: { connector: api, label: { env: LABEL, secret: false } }\n",
        );
        world.write(
            "pipelines/p.yaml",
            posting("", "vars: { v: { type: string } }\nbody: { v: '{{ vars.v }}', l: '{{ connection.label }}', m: '<{{ vars.v }}>' }\n"),
        );
        let mut command = world.command("apply p --var");
        command.arg(format!("v={value}")).env("LABEL", value);
        crate::world::Run::of(command.output().expect("it runs"), &world).exits(0);
        let seen = &world.seen()[0];
        let body: serde_json::Value = serde_json::from_slice(&seen.body).expect("JSON");
        assert_eq!(body, serde_json::json!({ "v": value, "l": value, "m": format!("<{value}>") }));
        assert_eq!(seen.headers["x-l"], value);
        // By a file of variables nothing is expanded either.
        if !value.contains(['"', '\'', '#', '\\']) {
            world.write(".env", format!("LABEL='{value}'\n"));
            let mut command = world.command("apply p --fresh --yes --var");
            command.arg(format!("v={value}"));
            crate::world::Run::of(command.output().expect("it runs"), &world).exits(0);
            assert_eq!(world.seen()[1].headers["x-l"], value);
        }
    }
}

#[test]
fn yaml_that_is_more_than_data_is_refused() {
    // S21
    for (text, says) in [
        ("connection: !!python/object/apply:os.system ['id']\n", "tag"),
        ("connection: !include /etc/passwd\n", "tag"),
        ("connection: !ruby/object:Gem::Installer { i: x }\n", "tag"),
        ("connection: !!binary aWQ=\n", "tag"),
        ("connection: !<tag:example.test,2000:x> local\n", "tag"),
        ("connection: local\nconnection: other\n", "twice"),
        ("connection: *nowhere\n", ""),
        ("%TAG ! tag:example.test,2000:\n---\nconnection: !x local\n", "tag"),
    ] {
        let world = World::new().file("data/things.csv", things(1));
        world.write("pipelines/p.yaml", posting("", "").replace("connection: local\n", text));
        let run = world.run("validate").exits(CONFIG).says("pipelines/p.yaml");
        assert!(run.stderr.to_lowercase().contains(says), "{text}: {}", run.stderr);
        world.run("apply p").exits(CONFIG);
        assert_eq!(world.seen(), []);
    }
}
