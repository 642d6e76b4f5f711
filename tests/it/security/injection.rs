//! Rows S12 to S21: what a value or a file of the project can make of a request.

use std::os::unix::fs::symlink;

use percent_encoding::percent_decode_str;
use runner::model::Class;

use super::{connection, posting, traced, with, words};
use crate::world::{PUT_THINGS, World, things};

const CONFIG: i32 = Class::Config.code() as i32;

/// Awkward texts of a path: all that has a meaning in a URL, then texts of such parts by chance.
fn corpus() -> Vec<String> {
    let fixed = [
        "a",
        ".",
        "..",
        "...",
        "%2e",
        "%2e%2e",
        "%2E.",
        ".%2e",
        "%252e%252e",
        "a/b",
        "/",
        "//",
        "/..",
        "../",
        "..;/",
        "..\\",
        "\\",
        "a?b=c",
        "?",
        "#",
        "a#b",
        ";",
        ";a=b",
        "a;b",
        "&",
        "=",
        "+",
        "%",
        "%%",
        "%2",
        "%2f",
        "%2F",
        "%5c",
        "%00",
        "%0d%0a",
        "%zz",
        "%ff",
        "a b",
        "~",
        "*",
        "'",
        "\"",
        "<",
        "[",
        "]",
        "{",
        "|",
        "^",
        "`",
        "@",
        ":",
        "a:b@c",
        "!",
        "$",
        ",",
        "(",
        ")",
        "é",
        "\u{ff0e}\u{ff0e}",
        "\u{2025}",
        "\u{202e}",
        "\u{feff}",
        "\u{1f600}",
        "%c0%ae",
        "%u002e",
        "\u{7f}",
        "\t",
        "\n",
        "\r\n",
        "\u{1}",
        "\u{85}",
    ];
    let parts = [
        "%", "2", "e", "E", "f", "5", "c", ".", "/", "\\", "?", "#", ";", "a", "é", ":", "@", "%2e", "%2f",
        " ",
    ];
    let mut chance = fastrand::Rng::with_seed(12);
    let mut random =
        || (0..chance.usize(1..6)).map(|_| parts[chance.usize(0..parts.len())]).collect::<String>();
    fixed.into_iter().map(str::to_owned).chain((0..1500).map(|_| random())).collect()
}

/// Records of one field as NDJSON.
fn ndjson(values: &[String]) -> String {
    values.iter().map(|value| serde_json::json!({ "v": value }).to_string() + "\n").collect()
}

#[test]
fn a_path_parameter_is_one_segment_or_refused() {
    // S12
    let values = corpus();
    for (path, before, after) in [
        ("/a/{{ params.v }}/b/{{ record.v }}", 2, ""),
        ("/x{{ params.v }}y/z", 1, "y"),
        ("/{{ params.v }}", 1, ""),
        ("/a.{{ params.v }}", 1, ""),
    ] {
        let pipeline = format!(
            "connection: local\nendpoint:\n  method: POST\n  path: '{path}'\n  params: {{ v: {{ required: true }} }}\n\
             source: {{ file: data/v.ndjson }}\nbody: '{{{{ record }}}}'\ndelivery: {{ concurrency: 8 }}\n"
        );
        let world = World::new()
            .file("pipelines/p.yaml", pipeline)
            .file("data/v.ndjson", ndjson(&values))
            .script("* * -> 200");
        world.run("apply p").exits(1);
        let wanted = path.matches('/').count();
        for seen in world.seen() {
            let body: serde_json::Value = serde_json::from_slice(&seen.body).expect("a body");
            let value = body["v"].as_str().expect("the value");
            assert!(!seen.path.contains(['?', '#', '\\']), "{value:?}: {}", seen.path);
            let segments: Vec<&str> = seen.path.split('/').collect();
            assert_eq!(segments.len() - 1, wanted, "{value:?}: {}", seen.path);
            let once = percent_decode_str(segments[before]).decode_utf8().expect("UTF-8").into_owned();
            assert!(once.ends_with(&format!("{value}{after}")), "{value:?}: {}", seen.path);
            for segment in &segments {
                let once = percent_decode_str(segment).decode_utf8_lossy().into_owned();
                let twice = percent_decode_str(&once).decode_utf8_lossy().into_owned();
                assert!(
                    ![".", ".."].contains(&&*once) && ![".", ".."].contains(&&*twice),
                    "{value:?}: {}",
                    seen.path
                );
                assert!(!twice.chars().any(char::is_control), "{value:?}: {}", seen.path);
            }
        }
        let (sent, refused) = (world.seen().len(), world.outcomes("invalid.ndjson").lines().count());
        assert_eq!(sent + refused, values.len(), "{path}");
        assert!(refused >= 6 && sent > 1000, "{path}: {sent} sent, {refused} refused");
    }
}

#[test]
fn a_line_end_or_nul_is_refused_in_every_header_whatever_its_source() {
    // S13
    let endpoint = |value: &str| posting(&format!(", headers: {{ X-A: '{value}' }}"), "vars: { v: x }\n");
    for evil in [
        "a\r\nX-Evil: 1",
        "a\nX-Evil: 1",
        "a\rX-Evil: 1",
        "a\0b",
        "a\u{b}b",
        "a\u{7f}b",
        "a\u{2028}b",
        "\nX-Evil: 1",
    ] {
        let record = serde_json::json!({ "id": 1, "v": evil }).to_string();
        let of_record = endpoint("{{ record.v }}").replace("things.csv", "v.ndjson");
        let world = World::new().file("pipelines/p.yaml", of_record).file("data/v.ndjson", record);
        world.run("apply p").exits(1).says("1 invalid");
        assert_eq!(world.seen(), []);
        // The same by a filter that makes it from harmless text.
        let built = format!("{{{{ {} }}}}", serde_json::json!(evil));
        let world = World::new().file("data/things.csv", things(1));
        let pipeline = endpoint("X").replace("'X'", &serde_json::json!(built).to_string());
        world.write("pipelines/p.yaml", pipeline);
        let run = world.run("apply p");
        assert!([1, CONFIG].contains(&run.code), "{evil:?}: {}", run.stderr);
        // In the template's own text.
        world.write("pipelines/p.yaml", endpoint("X").replace("'X'", &serde_json::json!(evil).to_string()));
        let run = world.run("apply p");
        assert!([1, CONFIG].contains(&run.code), "{evil:?}: {}", run.stderr);
        // In the header of the idempotency key and in one of the connection.
        let keyed = format!(
            ", idempotency: {{ header: X-Key, value: {}, remembered: 1h }}",
            serde_json::json!("{{ vars.v }}")
        );
        world.write("pipelines/p.yaml", posting(&keyed, "vars: { v: x }\n"));
        if !evil.contains('\0') {
            let run = words(&world, &["apply", "p", "--var", &format!("v={evil}")]);
            assert!([1, 2, CONFIG].contains(&run.code), "{evil:?}: {} {}", run.code, run.stderr);
        }
        let text = serde_json::json!(evil).to_string();
        world.write("runner.yaml", connection(&world.url(), &format!(", headers: {{ X-C: {text} }}")));
        world.write("pipelines/p.yaml", posting("", ""));
        let run = world.run("apply p");
        assert!([1, CONFIG].contains(&run.code), "{evil:?}: {}", run.stderr);
        // And from the environment, secret or not.
        if !evil.contains('\0') {
            for secret in ["true", "false"] {
                let url = world.url();
                world.write(
                    "templates/api/connector.yaml",
                    format!(
                        "settings: {{ token: {{ type: string, secret: {secret} }} }}\nbase_url: {url}\n\
                         headers: {{ X-T: '{{{{ connection.token }}}}' }}\n"
                    ),
                );
                let setting = format!("{{ env: TOKEN, secret: {secret} }}");
                world.write(
                    "runner.yaml",
                    format!("connections:\n  local: {{ connector: api, token: {setting} }}\n"),
                );
                let run = with(&world, "apply p", &[("TOKEN", evil)]);
                assert!([1, CONFIG].contains(&run.code), "{evil:?}: {} {}", run.code, run.stderr);
            }
        }
        assert_eq!(world.seen(), [], "{evil:?}");
    }
}

#[test]
fn headers_that_frame_a_message_or_name_its_host_cannot_be_set() {
    // S14
    let names = [
        "Host",
        "hOsT",
        "Content-Length",
        "Transfer-Encoding",
        "transfer-encoding",
        "Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Upgrade",
        "Proxy-Authorization",
        "Proxy-Connection",
        "HTTP2-Settings",
        "Expect",
        "Authorization",
    ];
    for name in names {
        for value in ["x", "{{ record.name }}"] {
            let world = World::new().file("data/things.csv", things(1));
            for pipeline in [
                posting(&format!(", headers: {{ {name}: '{value}' }}"), ""),
                posting("", &format!("headers: {{ {name}: '{value}' }}\n")),
                posting(&format!(", idempotency: {{ header: {name}, remembered: 1h }}"), ""),
            ] {
                world.write("pipelines/p.yaml", pipeline);
                world.run("validate").exits(CONFIG).says("header-name");
                world.run("apply p").exits(CONFIG);
            }
            if !value.contains("record") {
                world.write("pipelines/p.yaml", posting("", ""));
                world.write(
                    "runner.yaml",
                    connection(&world.url(), &format!(", headers: {{ {name}: {value} }}")),
                );
                world.run("apply p").exits(CONFIG);
            }
            assert_eq!(world.seen(), [], "{name}");
        }
    }
    // What is no name of a header at all, and names that an expression would have to make.
    for name in [
        "",
        " Host",
        "Host ",
        "Host:",
        "X-A\\r\\nHost",
        "{{ record.name }}",
        "X\\0",
        "H\u{f6}st",
        ":authority",
    ] {
        let world = World::new()
            .file("data/things.csv", things(1))
            .file("pipelines/p.yaml", posting(&format!(", headers: {{ \"{name}\": x }}"), ""));
        world.run("apply p").exits(CONFIG);
        assert_eq!(world.seen(), [], "{name}");
    }
}

/// Text by chance, with more of what a format could trip over.
fn text(chance: &mut fastrand::Rng) -> String {
    let special = [
        '"', '\\', '\n', '\r', '\t', '\0', '\u{1b}', '/', '<', '&', '{', '}', '%', '=', '+', '\u{2028}',
        '\u{feff}',
    ];
    (0..chance.usize(0..24))
        .map(|_| match chance.u8(0..4) {
            0 => special[chance.usize(0..special.len())],
            1 => chance.char(..),
            _ => chance.char(' '..'~'),
        })
        .collect()
}

#[test]
fn any_text_in_any_field_arrives_as_that_text() {
    // S15, S16
    let mut chance = fastrand::Rng::with_seed(15);
    let texts: Vec<String> = (0..3000)
        .map(|_| text(&mut chance))
        .chain(["{{ 7*7 }}", "{% if true %}x{% endif %}", "{# c #}", "${HOME}", "$(id)"].map(str::to_owned))
        .collect();
    let body = "body: { plain: '{{ record.v }}', mixed: '<{{ record.v }}>', list: ['{{ record.v }}'], made: '{{ record.v | trim | string ~ record.v }}' }\n";
    let world = World::new()
        .file(
            "pipelines/p.yaml",
            posting("", body).replace("things.csv", "v.ndjson").replace("concurrency: 1", "concurrency: 8"),
        )
        .file("data/v.ndjson", ndjson(&texts))
        .script("* * -> 200");
    world.run("apply p").exits(0);
    let mut came: Vec<String> = Vec::new();
    for seen in world.seen() {
        let body: serde_json::Value = serde_json::from_slice(&seen.body).expect("JSON");
        let plain = body["plain"].as_str().expect("text").to_owned();
        assert_eq!(body["mixed"].as_str(), Some(&*format!("<{plain}>")));
        assert_eq!(body["list"][0].as_str(), Some(&*plain));
        assert!(body["made"].as_str().is_some_and(|made| made.ends_with(&plain)));
        assert_eq!(body.as_object().expect("an object").len(), 4);
        came.push(plain);
    }
    let mut sent = texts;
    came.sort();
    sent.sort();
    assert!(came == sent, "texts arrived changed");
}

#[test]
fn any_text_in_a_form_or_a_query_arrives_as_that_text() {
    // S15
    let mut chance = fastrand::Rng::with_seed(16);
    let texts: Vec<String> = (0..1000).map(|_| text(&mut chance)).filter(|text| !text.is_empty()).collect();
    let form = ", content: form, query: { q: '{{ record.v }}' }";
    let pipeline = posting(form, "body: { a: '{{ record.v }}', b: x }\n").replace("things.csv", "v.ndjson");
    let world = World::new()
        .file("pipelines/p.yaml", pipeline)
        .file("data/v.ndjson", ndjson(&texts))
        .script("* * -> 200");
    world.run("apply p").exits(0);
    let came = world.seen();
    assert_eq!(came.len(), texts.len());
    for (seen, text) in came.iter().zip(&texts) {
        let fields: Vec<(String, String)> = url::form_urlencoded::parse(&seen.body).into_owned().collect();
        assert_eq!(fields, [("a".to_owned(), text.clone()), ("b".to_owned(), "x".to_owned())]);
        let query = seen.path.split_once('?').expect("a query").1;
        let query: Vec<(String, String)> =
            url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        assert_eq!(query, [("q".to_owned(), text.clone())]);
    }
}

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
