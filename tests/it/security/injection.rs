//! Rows S12 to S16: what a value can make of a request.

use percent_encoding::percent_decode_str;
use runner::model::Class;

use super::{connection, posting, with, words};
use crate::world::{World, things};

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
