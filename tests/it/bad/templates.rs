//! Rows B053 to B069: expressions, URLs, headers, bodies.

use runner::model::Class;

use super::{Case, Ended, bad};
use crate::world::PUT_THINGS;

/// A record whose `id` stands in the path.
fn in_path(row: &'static str, id: &str) -> Case {
    let first = serde_json::json!({ "id": id, "name": "a" });
    bad(row)
        .pipeline(PUT_THINGS.replace("things.csv", "things.ndjson").replace("key: '{{ record.id }}'\n", ""))
        .file("data/things.ndjson", format!("{first}\n{{\"id\":\"t2\",\"name\":\"b\"}}\n"))
}

/// The first record was not sent, its neighbour was.
#[track_caller]
fn refused(case: Case) -> Ended {
    case.exits(Class::RecordsFailed).names(["line 1", "`params.id`"]).asked(["PUT /things/t2"])
}

/// A case with this body over one record.
fn body(row: &'static str, body: &str, record: &serde_json::Value) -> Case {
    bad(row)
        .pipeline(format!("{}body: {body}\n", PUT_THINGS.replace("things.csv", "things.ndjson")))
        .file("data/things.ndjson", format!("{record}\n"))
}

#[test]
fn a_name_that_is_not_there() {
    bad("B053")
        .pipeline(format!("{PUT_THINGS}body: {{ email: '{{{{ emial }}}}' }}\n"))
        .input("id,email\nt1,a\n")
        .exits(Class::Config)
        .names(["pipelines/p.yaml:10:", "`emial`", "email"])
        .sent(0);
    bad("B053")
        .pipeline(format!("{PUT_THINGS}body: {{ email: '{{{{ record.emial }}}}' }}\n"))
        .input("id,email\nt1,a\n")
        .exits(Class::Config)
        .names(["pipelines/p.yaml:10:", "`emial`", "`record.email`"])
        .sent(0);
}

#[test]
fn null_or_nothing_in_a_path() {
    for record in ["{\"id\":null,\"name\":\"a\"}", "{\"name\":\"a\"}"] {
        bad("B054")
            .pipeline(
                PUT_THINGS.replace("things.csv", "things.ndjson").replace("key: '{{ record.id }}'\n", ""),
            )
            .file("data/things.ndjson", format!("{record}\n{{\"id\":\"t2\"}}\n"))
            .exits(Class::RecordsFailed)
            .names(["line 1", "`id`", "pipelines/p.yaml:"])
            .asked(["PUT /things/t2"]);
    }
}

#[test]
fn an_empty_path_parameter() {
    refused(in_path("B055", "")).names(["pipelines/p.yaml:"]);
}

#[test]
fn a_path_parameter_that_leads_up() {
    refused(in_path("B056", "..")).names(["pipelines/p.yaml:"]);
}

#[test]
fn a_path_parameter_that_is_a_dot() {
    refused(in_path("B057", ".")).names(["pipelines/p.yaml:"]);
}

#[test]
fn a_slash_in_a_path_parameter() {
    in_path("B058", "a/b").exits(Class::Ok).asked(["PUT /things/a%2Fb", "PUT /things/t2"]);
}

#[test]
fn a_query_or_fragment_in_a_path_parameter() {
    in_path("B059", "a?x=1").exits(Class::Ok).asked(["PUT /things/a%3Fx%3D1", "PUT /things/t2"]);
    in_path("B059", "a#f").exits(Class::Ok).asked(["PUT /things/a%23f", "PUT /things/t2"]);
}

#[test]
fn an_encoded_parent_in_a_path_parameter() {
    refused(in_path("B060", "%2e%2e"));
}

#[test]
fn a_line_end_in_a_path_parameter() {
    refused(in_path("B061", "a\r\nb")).names(["U+000D"]);
}

#[test]
fn a_letter_with_an_accent_in_a_path_parameter() {
    in_path("B062", "é").exits(Class::Ok).asked(["PUT /things/%C3%A9", "PUT /things/t2"]);
}

#[test]
fn a_line_end_in_a_header() {
    // S13
    let record = serde_json::json!({ "id": "t1", "name": "a\r\nX-Evil: 1" });
    let ended = bad("B063")
        .pipeline(format!(
            "{}headers: {{ X-Name: '{{{{ record.name }}}}' }}\n",
            PUT_THINGS.replace("things.csv", "things.ndjson")
        ))
        .file("data/things.ndjson", format!("{record}\n{{\"id\":\"t2\",\"name\":\"b\"}}\n"))
        .exits(Class::RecordsFailed)
        .names(["line 1", "`x-name`", "U+000D"])
        .asked(["PUT /things/t2"]);
    let seen = ended.world.seen();
    assert_eq!(seen[0].headers["x-name"], "b");
    assert!(!seen[0].headers.contains_key("x-evil"));
}

#[test]
fn text_that_needs_escapes() {
    // S15
    let text = "\"quotes\" back\\slash\nnewline\ttab 😀 \u{2028}";
    let record = serde_json::json!({ "id": "t1", "name": text });
    let ended = body("B064", "{ name: '{{ record.name }}', more: 'x {{ record.name }}' }", &record)
        .exits(Class::Ok)
        .sent(1);
    let sent: serde_json::Value = serde_json::from_slice(&ended.world.seen()[0].body).expect("JSON");
    assert_eq!(sent["name"], text);
    assert_eq!(sent["more"], format!("x {text}"));
}

#[test]
fn an_expression_in_a_record() {
    // S16
    for text in ["{{ 7*7 }}", "{% include 'x' %}"] {
        let record = serde_json::json!({ "id": "t1", "name": text });
        let ended = body("B065", "{ name: '{{ record.name }}', more: 'x {{ record.name }}' }", &record)
            .exits(Class::Ok)
            .sent(1);
        let sent: serde_json::Value = serde_json::from_slice(&ended.world.seen()[0].body).expect("JSON");
        assert_eq!(sent["name"], text);
        assert_eq!(sent["more"], format!("x {text}"));
    }
}

#[test]
fn a_text_body_that_is_not_json() {
    let pipeline = "\
connection: local
endpoint: shop/create
source: { file: data/things.csv }
key: '{{ record.id }}'
";
    let template = "method: POST\npath: /things\ncontent: json\nbody_file: create.json.j2\n";
    bad("B066")
        .pipeline(pipeline)
        .file("templates/shop/connector.yaml", "title: Shop\nbase_url: http://127.0.0.1\nauth: none\n")
        .file("templates/shop/create.yaml", template)
        .file("templates/shop/create.json.j2", "{ \"id\": {{ record.id }}, oops }\n")
        .input("id,name\nt1,a\nt2,b\n")
        .exits(Class::RecordsFailed)
        .names(["line 2", "templates/shop/create.json.j2:", "line 1, column 15 of the rendered text"])
        .sent(0);
}

#[test]
fn work_without_end() {
    // S41
    let loop_ = "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}";
    let too_much = [
        "{{ 'x' * 1000000000 }}",
        "{{ range(1000000000) | list | length }}",
        "{{ ('x' * 100000) | replace('x', 'x' * 100000) }}",
        "{{ 'x' | indent(1000000000, true) }}",
        "{{ [1] | batch(1000000000, 0) }}",
        "{{ [1] | slice(1000000000) }}",
        "{{ '%01000000000d' | format(1) }}",
        loop_,
    ];
    let too_deep = [
        "{% macro m(n) %}{{ m(n) }}{% endmacro %}{{ m(1) }}",
        "{% macro m(n) %}{{ m(n) }}{{ m(n) }}{% endmacro %}{{ m(1) }}",
    ];
    for text in too_much.iter().chain(&too_deep) {
        let ended = body("B067", &format!("{{ name: \"{text}\" }}"), &serde_json::json!({ "id": "t1" }))
            .exits_one_of([Class::Config, Class::RecordsFailed])
            .names(["pipelines/p.yaml:10:"])
            .sent(0);
        if too_much.contains(text) {
            ended.rule("render-limit").names(["1,000,000 steps", "8 MiB"]);
        }
    }
}

#[test]
fn a_body_over_the_limit() {
    let pipeline = PUT_THINGS.replace("delivery: { ", "delivery: { max_body: 1KiB, ");
    bad("B068")
        .pipeline(pipeline)
        .input(format!("id,name\nt1,{}\nt2,b\n", "x".repeat(2000)))
        .exits(Class::RecordsFailed)
        .names(["line 2", "2011", "1024"])
        .asked(["PUT /things/t2"]);
}

#[test]
fn html_in_a_value() {
    let record = serde_json::json!({ "id": "t1", "name": "<b>&\"" });
    body("B069", "{ name: '{{ record.name }}', more: 'x{{ record.name }}' }", &record)
        .exits(Class::Ok)
        .bodies([r#"{"name":"<b>&\"","more":"x<b>&\""}"#]);
}
