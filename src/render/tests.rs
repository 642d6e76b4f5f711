//! The rules of rendering as tables: record, template, what must come out.

use std::sync::Arc;

use proptest::prelude::*;

use super::context::tests::{context, run, value};
use super::*;
use crate::config::fixtures::{self, connection};
use crate::config::{
    BodyFile, Content, Endpoint, Escape, HeaderTemplate, Idempotency, Param, ParamKind, Template, Tree,
};
use crate::model::{Diagnostic, Map, Place, Placed, Problems, SourceText, Value};

/// A leaf as it would stand in a file: quoted, behind a key.
pub(super) fn template(text: &str) -> Template {
    let file = format!("name: x\nbody: '{text}'\n");
    let source = Arc::new(SourceText { path: "templates/t.yaml".into(), text: file });
    Placed::new(text.into(), Place::new(source, 14..16 + text.len()))
}

pub(super) fn placed(text: &str) -> Placed<String> {
    template(text)
}

fn fields(names: &[&str]) -> Arc<[String]> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub(super) fn any() -> Scope {
    Scope::new()
        .allow(Root::Record, Known::Any)
        .allow(Root::Vars, Known::Any)
        .allow(Root::Response, Known::Any)
}

fn compiled(text: &str, scope: &Scope) -> Result<Leaf, Vec<Diagnostic>> {
    let mut problems = Problems::new();
    let leaf = Leaf::compile(&template(text), scope, &mut problems);
    match leaf {
        Some(leaf) if !problems.has_errors() => Ok(leaf),
        _ => Err(problems.into_sorted()),
    }
}

/// The leaf's value as JSON, or the rule that it breaks.
fn rendered(record: &str, text: &str) -> Result<String, String> {
    match compiled(text, &any()) {
        Err(found) => Err(format!("config:{}", found[0].rule)),
        Ok(leaf) => match leaf.value(&context(record)) {
            Ok(Value::Absent) => Ok("absent".into()),
            Ok(value) => Ok(value.to_json()),
            Err(error) => Err(error.rule.into()),
        },
    }
}

#[test]
fn leaves_give_what_their_rules_say() {
    let record = r#"{"a":1.10,"n":5,"big":12345678901234567890123456789012345678901234567890,"t":"x","e":"","f":true,
        "nil":null,"l":[1,2],"o":{"k":"v","d":{"p":1.50}},"id":9007199254740993,"j":"{{ 7*7 }}","x y":"z","h":"<b>&\""}"#;
    for (text, expected) in [
        // typed and text
        ("plain", Ok("\"plain\"")),
        ("{{ record.a }}", Ok("1.10")),
        ("{{ record.id }}", Ok("9007199254740993")),
        ("{{ record.big }}", Ok("12345678901234567890123456789012345678901234567890")),
        ("{{ record.f }}", Ok("true")),
        ("{{ record.nil }}", Ok("null")),
        ("{{ record.l }}", Ok("[1,2]")),
        ("{{ record.o }}", Ok("{\"k\":\"v\",\"d\":{\"p\":1.50}}")),
        ("a={{ record.a }} f={{ record.f }}", Ok("\"a=1.10 f=true\"")),
        ("{{ record.n }} ", Ok("\"5 \"")),
        ("{{ record.t }}{# no #}", Ok("\"x\"")),
        (" {{- record.n -}} ", Ok("5")),
        ("x{{ record.nil }}", Err("not-text")),
        ("x{{ record.l }}", Err("not-text")),
        ("x{{ record.o }}", Err("not-text")),
        ("x{{ record.l | tojson }}", Ok("\"x[1,2]\"")),
        ("x{{ record.o | tojson }}", Ok("\"x{\\\"k\\\":\\\"v\\\",\\\"d\\\":{\\\"p\\\":1.50}}\"")),
        ("x{{ record.a | tojson }}", Ok("\"x1.10\"")),
        ("{{ record.h | tojson }}", Ok("\"\\\"<b>&\\\\\\\"\\\"\"")),
        // data is never a template (B065, S16)
        ("{{ record.j }}", Ok("\"{{ 7*7 }}\"")),
        ("{{ record.j | upper }}!", Ok("\"{{ 7*7 }}!\"")),
        // missing, default, omit
        ("{{ record.nope }}", Err("missing-field")),
        ("{{ record.nope.deep }}", Err("missing-field")),
        ("{{ record.nil.deep }}", Err("missing-field")),
        ("{{ record.t.deep }}", Err("missing-field")),
        ("{{ record.l[7] }}", Err("missing-field")),
        ("{{ record.nope.deep | default('d') }}", Ok("\"d\"")),
        ("{{ record.nope.deep | default(1.10) }}", Ok("1.10")),
        ("{{ record.nope.deep | default('d') | upper }}", Ok("\"D\"")),
        ("{{ record.nil | default('d') }}", Ok("\"d\"")),
        ("{{ record.nil | default(omit) }}", Ok("absent")),
        ("{{ record.t | default(omit) }}", Ok("\"x\"")),
        ("{{ record.e | default('d') }}", Ok("\"\"")),
        ("{{ record.e | default('d', true) }}", Ok("\"d\"")),
        ("{{ record.e | default(record.t, true) }}", Ok("\"x\"")),
        ("{{ omit }}", Ok("absent")),
        ("{{ 'y' if record.f else omit }}", Ok("\"y\"")),
        ("{{ 'y' if not record.f else omit }}", Ok("absent")),
        ("{{ 'y' if not record.f }}", Ok("null")),
        ("x{{ record.nil | default(omit) }}", Err("not-text")),
        ("{{ record.nope is defined }}", Ok("false")),
        ("{{ record.nope == 1 }}", Err("missing-field")),
        ("{{ record['x y'] }}", Ok("\"z\"")),
        ("{{ record['x y'] | upper }}", Ok("\"Z\"")),
        ("{{ record.l[0] + record.l[-1] }}", Ok("3")),
        // numbers in expressions
        ("{{ record.n + 1 }}", Ok("6")),
        ("{{ record.id + 1 }}", Ok("9007199254740994")),
        ("{{ record.a * 2 }}", Ok("2.2")),
        ("{{ record.n / 2 }}", Ok("2.5")),
        ("{{ record.a == 1.1 }}", Ok("true")),
        ("{{ record.a > 1 }}", Ok("true")),
        ("{{ record.a ~ ' EUR' }}", Ok("\"1.10 EUR\"")),
        ("{{ record.a | string }}", Ok("\"1.10\"")),
        ("{{ record.f ~ '' }}", Ok("\"true\"")),
        ("{{ record.nil ~ '' }}", Err("not-text")),
        ("{{ record.l ~ '' }}", Err("not-text")),
        ("{{ [record.a] }}", Err("number-not-exact")),
        ("{{ record.big + 1 }}", Err("number-not-exact")),
        ("{{ record.big | float > 1 }}", Ok("true")),
        ("{{ record.o.d }}", Ok("{\"p\":1.50}")),
        ("{{ [record.o.d] }}", Ok("[{\"p\":1.50}]")),
        ("{{ 1e308 * 10 }}", Err("config:number-not-exact")),
        ("{{ 2 ** 70 }}", Ok("1180591620717411303424")),
        ("{{ record.n / 0 }}", Err("expression")),
        ("{{ record.n // 0 }}", Err("expression")),
        ("{{ record.t + 1 }}", Err("expression")),
        ("{{ record.t | int }}", Err("filter")),
        // typed results
        ("{{ {'a': record.n, 'b': [record.t]} }}", Ok("{\"a\":5,\"b\":[\"x\"]}")),
        ("{{ record.l | map('string') | list }}", Ok("[\"1\",\"2\"]")),
        ("{{ record.o.k in ['v'] }}", Ok("true")),
        ("{{ record.l | length }}", Ok("2")),
        ("{{ record.o | length }}", Ok("2")),
        // statements
        ("{% if record.f %}yes {{ record.a | string }}{% endif %}", Ok("\"yes 1.10\"")),
        ("{% for item in record.l %}{{ item }};{% endfor %}", Ok("\"1;2;\"")),
        ("{% set n = record.n %}{{ n + 1 }}", Ok("\"6\"")),
        ("{% raw %}{{ x }}{% endraw %}", Ok("\"{{ x }}\"")),
        ("{% if record.nope %}{% endif %}", Err("missing-field")),
        // limits (B067)
        ("{{ 'x' * 1000000000 }}", Err("config:render-limit")),
        ("{{ record.t * 1000000000 }}", Err("render-limit")),
        ("{{ 'x' * 9000000 }}", Err("config:render-limit")),
        ("{% for i in range(1000000000) %}x{% endfor %}", Err("render-limit")),
        (
            "{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}",
            Err("render-limit"),
        ),
        ("{{ range(9999) | map('string') | join }}{{ range(1000000000) }}", Err("config:render-limit")),
        // the run
        ("{{ run.id }}", Ok("\"20261122T0214-3f9c\"")),
        ("{{ run.started_at }}", Ok("\"2026-11-22T02:14:00Z\"")),
        ("{{ now() }}", Ok("\"2026-11-22T02:14:00Z\"")),
        ("{{ now() | date('%Y') }}", Ok("\"2026\"")),
    ] {
        let found = rendered(record, text);
        assert_eq!(found.as_deref().map_err(String::as_str), expected, "{text}");
    }
}

#[test]
fn an_absent_cell_reads_as_null_and_is_never_a_missing_field() {
    let mut map = Map::new();
    map.push("gone", Value::Absent);
    let context = Context::new(run()).with(Root::Record, Arc::new(Value::Object(map)));
    for (text, expected) in [
        ("{{ record.gone }}", Value::Null),
        ("{{ record.gone is none }}", Value::Bool(true)),
        ("{{ record.gone | default('d') }}", Value::text("d")),
        ("{{ record.gone | default('d') | upper }}", Value::text("D")),
    ] {
        assert_eq!(compiled(text, &any()).unwrap().value(&context).unwrap(), expected, "{text}");
    }
}

#[test]
fn mistakes_are_found_before_any_record_and_at_their_place() {
    let scope = Scope::new()
        .allow(Root::Record, Known::Text(fields(&["email", " id", "Customer ID", "age", "x.y"])))
        .allow(Root::Vars, Known::Fields(fields(&["since"])));
    for (text, rule, marked, help) in [
        (
            "{{ record.emial }}",
            "unknown-field",
            "record.emial",
            "did you mean `record.email`? `| default(omit)`",
        ),
        ("{{ emial }}", "unknown-name", "emial", "did you mean `record.email`?"),
        ("{{ record.id }}", "unknown-field", "record.id", "did you mean `record[' id']`?"),
        (
            "a {{ record.CustomerID | upper }}",
            "unknown-field",
            "record.CustomerID",
            "`record['Customer ID']`",
        ),
        ("{{ record.x.y }}", "unknown-field", "record.x.y", ""),
        ("{{ vars.sinse }}", "unknown-field", "vars.sinse", "did you mean `vars.since`"),
        ("{{ run.idd }}", "unknown-field", "run.idd", "did you mean `run.id`"),
        ("{{ rec.email }}", "unknown-name", "rec", "did you mean `record`?"),
        ("{{ recrd.email }}", "unknown-name", "recrd", "did you mean `record`?"),
        ("{{ response.body }}", "unknown-name", "response.body", ""),
        ("{{ env.HOME }}", "unknown-name", "env", "cannot read the environment"),
        ("{{ _0 }}", "unknown-name", "_0", ""),
        ("{{ __run }}", "unknown-name", "__run", ""),
        ("{{ record.age > 5 }}", "text-and-number", "record.age", "`record.age | int`"),
        ("{{ 5 <= record.age }}", "text-and-number", "record.age", ""),
        ("{{ record.age == -5 }}", "text-and-number", "record.age", ""),
        ("{{ record.email | uper }}", "unknown-filter", "uper", "did you mean `upper`?"),
        ("{{ record.email | safe }}", "unknown-filter", "safe", ""),
        ("{{ record.email is strng }}", "unknown-test", "strng", "did you mean `string`?"),
        ("{{ debug() }}", "unknown-function", "debug", ""),
        ("{{ record.email.upper() }}", "unknown-function", "upper", "`record.email | upper`"),
        ("{{ record.email", "template-syntax", "{{", ""),
        ("{{ }}", "template-syntax", "", ""),
        ("{{ record.email + }}", "template-syntax", "", ""),
        ("{% include \"/etc/passwd\" %}", "template-file", "include", ""),
        ("{% import \"x\" as x %}", "template-file", "import", ""),
        ("{% extends \"x\" %}", "template-file", "extends", ""),
        ("{% from \"x\" import y %}", "template-file", "from", ""),
        ("{% autoescape false %}{% endautoescape %}", "template-syntax", "autoescape", ""),
        ("{% for record in [1] %}{% endfor %}", "reserved-name", "record", ""),
        ("{% set _1 = 2 %}", "reserved-name", "_1", ""),
        ("{% if record.nope %}{% endif %}", "unknown-field", "record.nope", ""),
        ("{% if record.email %}", "template-syntax", "", ""),
    ] {
        let found = compiled(text, &scope).map(|_| ()).expect_err(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        let found = &found[0];
        assert_eq!(found.rule, rule, "{text}: {}", found.message);
        let place = found.place.as_ref().unwrap();
        let drawn = &place.source.text[place.span.clone()];
        assert!(marked.is_empty() || drawn == marked, "{text}: {drawn}");
        assert!(found.help.as_deref().unwrap_or_default().contains(help), "{text}: {:?}", found.help);
    }
    for good in [
        "{{ record.age | int > 5 }}",
        "{{ record.age > '5' }}",
        "{{ record.nope | default('x') }}",
        "{{ record.nope is defined }}",
        "{{ record['x.y'] }}",
        "{{ record.email if record.age is not none else null }}",
        "{{ range(0, 3) | map('string') | join(d=',') }}",
        "{{ dict(record=1) }}",
        "{% for x in range(2) recursive %}{{ loop.index }}{% endfor %}",
        "{% for item in [1, 2] if item > 1 %}{{ item }}{% endfor %}",
        "{% set ns = namespace(n=0) %}{% set ns.n = 1 %}{{ ns.n }}",
        "{% macro m(a, b=1) %}{{ a ~ b }}{% endmacro %}{{ m(record.email) }}",
        "{% with a = record.email %}{{ a }}{% endwith %}",
    ] {
        let context = context(r#"{"email":"e","age":"7"," id":"1","x.y":"d"}"#);
        let leaf = compiled(good, &scope).unwrap_or_else(|found| panic!("{good}: {found:?}"));
        leaf.value(&context).unwrap_or_else(|error| panic!("{good}: {error}"));
    }
}

#[test]
fn a_semicolon_file_read_with_comma_names_the_delimiter() {
    let scope = Scope::new().allow(Root::Record, Known::Text(fields(&["id;name;email"])));
    let found = compiled("{{ record.id }}", &scope).unwrap_err();
    assert_eq!(found[0].notes, ["the only column seen is `id;name;email`"]);
    assert_eq!(found[0].help.as_deref(), Some("say it: `source: { csv: { delimiter: \";\" } }`"));
}

#[test]
fn errors_of_records_show_names_and_places_but_no_values() {
    let record = r#"{"email":"SECRET","n":"SECRET","o":{"street":"SECRET"}}"#;
    for (text, message, help) in [
        ("{{ record.emial }}", "`record` has no field `emial`", "did you mean `record.email`?"),
        ("{{ record.o.stret }}", "`record.o` has no field `stret`", "did you mean `record.o.street`?"),
        ("{{ record.n.x }}", "`record.n` is text, so it has no field `x`", "default"),
        ("x {{ record.n * 2.5 }}", "`record.n * 2.5` cannot be calculated", ""),
        ("{{ record.n | int + 1 }}", "`int` needs digits", "default(0)"),
        ("{{ record.n | date('%Y') }}", "`date` needs", ""),
        ("{{ record.emial | upper }}", "`record` has no field `emial`", "record.email"),
        ("{{ record.n - record.o }}", "`record.n - record.o` cannot be calculated", ""),
        ("{{ record.n | phone_e164 }}", "cannot read a number with U+0053", ""),
        ("{{ record.email | round }}", "cannot be calculated", ""),
    ] {
        let error = compiled(text, &any()).unwrap().value(&context(record)).expect_err(text);
        let shown = format!("{error:?}{error}");
        assert!(error.message.contains(message), "{text}: {}", error.message);
        assert!(error.help.as_deref().unwrap_or_default().contains(help), "{text}: {:?}", error.help);
        assert!(!shown.contains("SECRET"), "{text}: {shown}");
        assert!(error.place.to_string().starts_with("templates/t.yaml:2:"), "{}", error.place);
    }
}

#[test]
fn uuids_differ_by_record_and_call_and_not_by_attempt() {
    let leaf = compiled("{{ uuid() }} {{ uuid() }}", &any()).unwrap();
    let render = |ordinal| {
        let mut out = String::new();
        leaf.text(&Context::new(RunValues { ordinal, ..run() }), &mut out).unwrap();
        out
    };
    let (first, second) = (render(1), render(2));
    assert_eq!(first, render(1));
    let all: std::collections::HashSet<_> = first.split(' ').chain(second.split(' ')).collect();
    assert_eq!(all.len(), 4);
    assert!(all.iter().all(|id| id.len() == 36 && id.as_bytes()[14] == b'8'), "{all:?}");
}

#[test]
fn conditions_are_true_or_false_and_text_is_neither() {
    for (text, expected) in [
        ("record.status == 'active'", Ok(true)),
        ("record.status != 'active'", Ok(false)),
        ("record.gone", Ok(false)),
        ("record.n", Ok(true)),
        ("record.l", Ok(false)),
        ("record.status", Err("not-a-condition")),
        ("record.nope", Err("missing-field")),
    ] {
        let leaf = Leaf::bare(&template(text), &any(), &mut Problems::new()).unwrap();
        let found = leaf.truth(&context(r#"{"status":"active","gone":null,"n":1,"l":[]}"#));
        assert_eq!(found.map_err(|error| error.rule), expected, "{text}");
    }
    let mut problems = Problems::new();
    assert!(Leaf::bare(&template("record.a }} x"), &any(), &mut problems).is_none());
    assert!(problems.has_errors());
}

#[test]
fn a_reply_without_the_field_is_no_match_and_no_error() {
    let context = Context::new(run())
        .with(Root::Response, Arc::new(value(r#"{"status":400,"body":{"code":"X","list":[1],"nil":null}}"#)));
    for (text, truth, shown) in [
        ("{{ response.body.code == 'X' }}", true, "true"),
        ("{{ response.body.nope == 'X' }}", false, ""),
        ("{{ response.body.nope != 'X' }}", false, ""),
        ("{{ response.body.nope.deeper }}", false, ""),
        ("{{ response.body.nope == 'X' or response.body.code == 'X' }}", true, ""),
        ("{{ response.body.nope == 'X' or response.body.code == 'Y' }}", false, ""),
        ("{{ response.body.nope == 'X' and response.body.code == 'X' }}", false, ""),
        ("{{ response.body.list }}", true, "[1]"),
        ("no {{ response.body.nope }}: {{ response.body.code }}", true, "no : X"),
        ("{{ response.body.nil }}", false, ""),
        ("{{ response.body.code | int }}", false, ""),
    ] {
        let leaf = compiled(text, &any()).unwrap();
        assert_eq!(leaf.lenient_truth(&context), truth, "{text}");
        assert_eq!(leaf.lenient_text(&context), shown, "{text}");
    }
    let leaf = compiled("{{ response.body.a.b ~ record[response.status] }}", &any()).unwrap();
    let mut reads: Vec<_> = leaf.reads().collect();
    reads.sort();
    assert_eq!(reads, ["record[response.status]", "response.body.a.b", "response.status"]);
}

pub(super) fn endpoint() -> Endpoint {
    fixtures::endpoint("/users")
}

fn param(name: &str) -> Param {
    Param {
        name: placed(name),
        kind: ParamKind::String,
        required: true,
        description: None,
        default: None,
        binding: None,
    }
}

fn with_path(path: &str) -> Endpoint {
    Endpoint { path: template(path), params: vec![param("id")], content: Content::None, ..endpoint() }
}

pub(super) fn request_template(endpoint: &Endpoint) -> Result<RequestTemplate, Vec<Diagnostic>> {
    let mut problems = Problems::new();
    let made = RequestTemplate::compile(
        endpoint,
        &connection("https://api.example.com/v2"),
        &[],
        &any(),
        &mut problems,
    );
    match made {
        Some(made) if !problems.has_errors() => Ok(made),
        _ => Err(problems.into_sorted()),
    }
}

pub(super) fn request(endpoint: &Endpoint, record: &str) -> Result<crate::model::Request, RenderError> {
    let made = request_template(endpoint).unwrap_or_else(|found| panic!("{found:?}"));
    made.render(&mut context(record))?.finish(Some("key-1"), 1 << 20)
}

pub(super) fn record_with(name: &str, text: &str) -> String {
    serde_json::json!({ name: text }).to_string()
}

#[test]
fn a_path_value_is_exactly_one_segment_or_refused() {
    for (text, expected) in [
        ("a/b", Ok("/v2/users/a%2Fb")),
        ("a?x=1", Ok("/v2/users/a%3Fx%3D1")),
        ("a#f", Ok("/v2/users/a%23f")),
        ("é", Ok("/v2/users/%C3%A9")),
        ("a.b-c_d~e", Ok("/v2/users/a.b-c_d~e")),
        ("100%", Ok("/v2/users/100%25")),
        ("...", Ok("/v2/users/...")),
        (" ", Ok("/v2/users/%20")),
        ("@evil.example", Ok("/v2/users/%40evil.example")),
        ("\\\\evil", Ok("/v2/users/%5C%5Cevil")),
        ("", Err("is empty")),
        (".", Err("is `.` or `..`")),
        ("..", Err("is `.` or `..`")),
        ("%2e%2e", Err("is `.` or `..`")),
        ("%2E", Err("is `.` or `..`")),
        ("a\r\nb", Err("U+000D")),
        ("a%0db", Err("U+000D")),
        ("a\0", Err("U+0000")),
        ("a\u{85}", Err("U+0085")),
    ] {
        let found = request(&with_path("/users/{{ params.id }}"), &record_with("id", text));
        match (found, expected) {
            (Ok(request), Ok(path)) => {
                assert_eq!(request.url.path(), path, "{text:?}");
                assert_eq!((request.url.query(), request.url.fragment()), (None, None), "{text:?}");
                assert_eq!(request.url.host_str(), Some("api.example.com"));
            }
            (Err(error), Err(why)) => {
                assert!(
                    error.message.contains(why) && error.message.contains("params.id"),
                    "{}",
                    error.message
                );
                assert_eq!(error.rule, "path-value");
                assert_eq!(&error.place.source.text[error.place.span.clone()], "params.id");
            }
            (found, expected) => panic!("{text:?}: {found:?}, not {expected:?}"),
        }
    }
}

#[test]
fn segments_of_template_and_values_together_are_judged_as_a_whole() {
    for (path, text, expected) in [
        ("/a.{{ params.id }}", "x", Ok("/v2/a.x")),
        ("/{{ params.id }}{{ params.id }}", ".", Err("path-value")),
        ("/.{{ params.id }}", ".", Err("path-value")),
        ("/%2e{{ params.id }}/x", "%2e", Err("path-value")),
        ("/x/", "y", Ok("/v2/x/")),
        ("/{{ params.id }}/{{ params.id }}/", "y", Ok("/v2/y/y/")),
        ("/{{ params.id | upper }}-{{ vars.n }}", "y", Err("missing-field")),
    ] {
        let found = request(&with_path(path), &record_with("id", text));
        match (found, expected) {
            (Ok(request), Ok(expected)) => assert_eq!(request.url.path(), expected, "{path}"),
            (Err(error), Err(rule)) => assert_eq!(error.rule, rule, "{path}"),
            (found, expected) => panic!("{path}: {found:?}, not {expected:?}"),
        }
    }
    for (path, rule) in [
        ("users", "path-template"),
        ("/a?b=1", "path-template"),
        ("/a#b", "path-template"),
        ("/../x", "path-template"),
        ("/%2E%2e/x", "path-template"),
        ("/a b", "path-template"),
        ("/a\\b", "path-template"),
        ("/{% if 1 %}a{% endif %}", "template-syntax"),
        ("/{{ params.idd }}", "unknown-field"),
    ] {
        let found = request_template(&with_path(path)).map(|_| ()).expect_err(path);
        assert_eq!(found[0].rule, rule, "{path}");
    }
}

#[test]
fn a_missing_or_wrong_parameter_names_itself() {
    let mut endpoint = with_path("/users/{{ params.id }}");
    for (record, rule) in
        [(r#"{"id":null}"#, "param-missing"), ("{}", "param-missing"), (r#"{"id":[1]}"#, "param-type")]
    {
        let error = request(&endpoint, record).unwrap_err();
        assert_eq!(error.rule, rule, "{record}");
        assert!(error.message.contains("`id`"), "{}", error.message);
    }
    endpoint.params[0].required = false;
    let error = request(&endpoint, "{}").unwrap_err();
    assert_eq!(error.rule, "path-value");
    assert!(error.message.contains("params.id"), "{}", error.message);
    endpoint.params[0].default = Some(Value::text("me"));
    assert_eq!(request(&endpoint, r#"{"id":null}"#).unwrap().url.path(), "/v2/users/me");
    endpoint.params[0].kind = ParamKind::Integer;
    assert_eq!(
        request(&endpoint, r#"{"id":"12345678901234567890123"}"#).unwrap().url.path(),
        "/v2/users/12345678901234567890123"
    );
    assert_eq!(request(&endpoint, r#"{"id":"1.0"}"#).unwrap_err().rule, "param-type");
    endpoint.params[0].binding = Some(Tree::Text(template("{{ record.nr | default(7) }}")));
    assert_eq!(request(&endpoint, "{}").unwrap().url.path(), "/v2/users/7");
    let mut problems = Problems::new();
    endpoint.params = vec![param("id")];
    let scope = Scope::new().allow(Root::Record, Known::Text(fields(&["other"])));
    let made =
        RequestTemplate::compile(&endpoint, &connection("https://a.example"), &[], &scope, &mut problems);
    assert!(made.is_none());
    assert_eq!(problems.all()[0].rule, "param-missing");
}

#[test]
fn query_values_are_encoded_repeated_or_left_out() {
    let query = |name: &str, tree: Tree| (placed(name), tree);
    let text = |text: &str| Tree::Text(template(text));
    let mut endpoint = endpoint();
    endpoint.content = Content::None;
    endpoint.query = vec![
        query("a b&", text("{{ record.q }}")),
        query("list", text("{{ record.l }}")),
        query("nil", text("{{ record.nil }}")),
        query("gone", text("{{ record.nope | default(omit) }}")),
        query("flag", Tree::Bool(true, template("").place)),
        query("n", text("{{ record.n }}")),
    ];
    let record = r#"{"q":"x&y=z#+ é\r\n","l":["1",null,2],"nil":null,"n":1.10,"o":{"a":1}}"#;
    let found = request(&endpoint, record).unwrap();
    assert_eq!(
        found.url.query(),
        Some("a%20b%26=x%26y%3Dz%23%2B%20%C3%A9%0D%0A&list=1&list=2&flag=true&n=1.10")
    );
    endpoint.query = vec![query("o", text("{{ record.o }}"))];
    let error = request(&endpoint, record).unwrap_err();
    assert_eq!(error.rule, "query-value");
    assert!(error.message.contains("`o`"), "{}", error.message);
    endpoint.query = vec![query("o", text("{{ record.nil }}"))];
    assert_eq!(request(&endpoint, record).unwrap().url.query(), None);
}

#[test]
fn header_values_cannot_end_their_header() {
    for (text, expected) in [
        ("plain text", Ok("plain text")),
        ("a\r\nX-Evil: 1", Err("U+000D")),
        ("a\nb", Err("U+000A")),
        ("a\0b", Err("U+0000")),
        ("a\tb", Err("U+0009")),
        ("a\u{7f}", Err("U+007F")),
        ("é", Err("U+00E9")),
    ] {
        let mut endpoint = Endpoint { content: Content::None, ..endpoint() };
        for source in ["{{ record.h }}", "x{{ record.h }}", "{{ record.h ~ '' }}", "{{ vars.h }}"] {
            endpoint.headers = vec![(placed("X-Note"), template(source))];
            let made = request_template(&endpoint).unwrap();
            let mut context = context(&record_with("h", text));
            context.set(Root::Vars, Arc::new(value(&record_with("h", text))));
            match (made.render(&mut context), expected) {
                (Ok(draft), Ok(expected)) => {
                    assert!(draft.headers["x-note"].to_str().unwrap().ends_with(expected));
                }
                (Err(error), Err(code)) => {
                    assert_eq!(error.rule, "header-value");
                    assert!(
                        error.message.contains("`x-note`") && error.message.contains(code),
                        "{}",
                        error.message
                    );
                }
                (found, expected) => panic!("{text:?}: {found:?}, not {expected:?}"),
            }
        }
    }
    let mut endpoint = endpoint();
    endpoint.headers = vec![(placed("X-A"), template("a\nb"))];
    assert_eq!(request(&endpoint, "{}").unwrap_err().rule, "header-value");
    endpoint.headers = vec![(placed("X-A"), template("{{ record.n }}"))];
    assert_eq!(request(&endpoint, r#"{"n":null}"#).unwrap_err().rule, "header-value");
    endpoint.headers = vec![(placed("X-A"), template("{{ record.n | default(omit) }}"))];
    assert!(!request(&endpoint, r#"{"n":null}"#).unwrap().headers.contains_key("x-a"));
}

#[test]
fn headers_that_frame_the_message_or_prove_the_sender_are_refused() {
    for name in [
        "Connection",
        "Keep-Alive",
        "Proxy-Authorization",
        "Proxy-X",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "content-length",
        "HOST",
        "Authorization",
        "X Y",
        "X:Y",
        "",
        "é",
        "X\r\nY",
    ] {
        let mut endpoint = endpoint();
        endpoint.headers = vec![(placed(name), template("x"))];
        let found = request_template(&endpoint).map(|_| ()).expect_err(name);
        assert_eq!((found.len(), found[0].rule), (1, "header-name"), "{name}");
        endpoint.headers.clear();
        endpoint.idempotency = Idempotency::Header { name: name.into(), remembered: None, value: None };
        assert_eq!(request_template(&endpoint).map(|_| ()).expect_err(name)[0].rule, "header-name");
    }
}

#[test]
fn later_headers_win_and_the_idempotency_key_has_its_header() {
    let mut connection = connection("https://api.example.com");
    connection.headers = vec![
        ("Accept".into(), HeaderTemplate::Plain(template("application/json"))),
        ("X-Team".into(), HeaderTemplate::Plain(template("connector"))),
        ("X-Key".into(), HeaderTemplate::Secret(crate::model::Secret::new("hidden".into()))),
    ];
    let mut endpoint = endpoint();
    endpoint.headers =
        vec![(placed("x-team"), template("endpoint")), (placed("X-TEAM"), template("pipeline"))];
    endpoint.idempotency =
        Idempotency::Header { name: "Idempotency-Key".into(), remembered: None, value: None };
    let made = RequestTemplate::compile(&endpoint, &connection, &[], &any(), &mut Problems::new()).unwrap();
    let draft = made.render(&mut context(r#"{"a":1}"#)).unwrap();
    assert_eq!(draft.own_key(), None);
    let request = draft.finish(Some("k-1"), 100).unwrap();
    let shown: Vec<_> =
        request.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    assert_eq!(shown.len(), 4);
    for line in [
        "accept: application/json",
        "x-team: pipeline",
        "content-type: application/json",
        "idempotency-key: k-1",
    ] {
        assert!(shown.iter().any(|shown| shown == line), "{line} in {shown:?}");
    }
    endpoint.idempotency = Idempotency::Header {
        name: "Idempotency-Key".into(),
        remembered: None,
        value: Some(template("r-{{ record.a }}")),
    };
    let made = RequestTemplate::compile(&endpoint, &connection, &[], &any(), &mut Problems::new()).unwrap();
    let draft = made.render(&mut context(r#"{"a":1}"#)).unwrap();
    assert_eq!(draft.own_key(), Some("r-1"));
    assert_eq!(draft.finish(Some("k-1"), 100).unwrap().headers["idempotency-key"], "r-1");
}

fn body_of(endpoint: &Endpoint, record: &str) -> Result<String, String> {
    let request = request(endpoint, record).map_err(|error| error.rule.to_owned())?;
    Ok(String::from_utf8(request.body.to_vec()).unwrap())
}

#[test]
fn bodies_are_written_by_their_content() {
    let map = |entries: &[(&str, &str)]| {
        let entries = entries.iter().map(|(name, text)| (placed(name), Tree::Text(template(text))));
        Some(Tree::Map(entries.collect(), template("").place))
    };
    let one = |text: &str| Some(Tree::Text(template(text)));
    let record =
        r#"{"a":1.10,"t":"x y&z","nil":null,"l":["p","q"],"o":{"k":null,"v":1},"rows":[{"i":1},{"i":2}]}"#;
    for (content, keep, body, expected) in [
        (
            Content::Json,
            false,
            None,
            Ok(r#"{"a":1.10,"t":"x y&z","l":["p","q"],"o":{"v":1},"rows":[{"i":1},{"i":2}]}"#),
        ),
        (
            Content::Json,
            true,
            one("{{ body_fields }}"),
            Ok(
                r#"{"a":1.10,"t":"x y&z","nil":null,"l":["p","q"],"o":{"k":null,"v":1},"rows":[{"i":1},{"i":2}]}"#,
            ),
        ),
        (
            Content::Json,
            false,
            map(&[("u", "{{ body_fields }}")]),
            Ok(r#"{"u":{"a":1.10,"t":"x y&z","l":["p","q"],"o":{"v":1},"rows":[{"i":1},{"i":2}]}}"#),
        ),
        (
            Content::Json,
            false,
            map(&[("x", "{{ record.nil }}"), ("y", "{{ record.a }}")]),
            Ok(r#"{"y":1.10}"#),
        ),
        (Content::Json, true, map(&[("x", "{{ record.nil }}"), ("y", "{{ omit }}")]), Ok(r#"{"x":null}"#)),
        (Content::Json, false, one("{{ record.l }}"), Ok(r#"["p","q"]"#)),
        (Content::Json, false, one("{{ omit }}"), Ok("")),
        (
            Content::Form,
            false,
            map(&[("a b", "{{ record.t }}"), ("l", "{{ record.l }}"), ("n", "{{ record.nil }}")]),
            Ok("a+b=x+y%26z&l=p&l=q"),
        ),
        (Content::Form, false, map(&[("o", "{{ record.o }}")]), Err("body-value")),
        (
            Content::Form,
            false,
            map(&[("o", "{{ record.o | tojson }}")]),
            Ok("o=%7B%22k%22%3Anull%2C%22v%22%3A1%7D"),
        ),
        (Content::Form, false, one("{{ record.l }}"), Err("body-value")),
        (Content::Ndjson, false, one("{{ record.rows }}"), Ok("{\"i\":1}\n{\"i\":2}\n")),
        (Content::Ndjson, false, one("{{ record.o }}"), Err("body-value")),
        (Content::Text, false, one("t={{ record.t }}"), Ok("t=x y&z")),
        (Content::None, false, None, Ok("")),
    ] {
        let endpoint = Endpoint { content, keep_nulls: keep, body, ..endpoint() };
        assert_eq!(
            body_of(&endpoint, record).as_deref().map_err(String::as_str),
            expected,
            "{:?}",
            endpoint.body
        );
    }
    for (content, body) in [(Content::None, one("x")), (Content::Text, None), (Content::Ndjson, None)] {
        let endpoint = Endpoint { content, body, ..endpoint() };
        assert_eq!(request_template(&endpoint).map(|_| ()).unwrap_err()[0].rule, "body-template");
    }
    let get = Endpoint { method: Placed::new(http::Method::GET, template("").place), ..endpoint() };
    let found = request(&get, record).unwrap();
    assert!(found.body.is_empty() && !found.headers.contains_key("content-type"));
}

#[test]
fn the_default_body_leaves_out_excluded_fields_and_default_params() {
    let mut endpoint = with_path("/users/{{ params.id }}/{{ params.team }}");
    endpoint.content = Content::Json;
    endpoint.params.push(Param { binding: Some(Tree::Text(template("{{ record.t }}"))), ..param("team") });
    let made = |exclude: &[Placed<String>]| {
        RequestTemplate::compile(
            &endpoint,
            &connection("https://a.example"),
            exclude,
            &any(),
            &mut Problems::new(),
        )
        .unwrap()
    };
    let record = r#"{"id":"7","t":"x","secret":"s","name":"n"}"#;
    let many: Vec<_> = (0..20).map(|n| placed(&format!("f{n}"))).chain([placed("secret")]).collect();
    for exclude in [vec![placed("secret")], many] {
        let draft = made(&exclude).render(&mut context(record)).unwrap();
        assert_eq!(draft.body().unwrap().to_json(), r#"{"t":"x","name":"n"}"#);
        assert_eq!(draft.finish(None, 100).unwrap().url.as_str(), "https://a.example/users/7/x");
    }
}

#[test]
fn body_files_escape_by_their_kind_and_must_be_what_they_say() {
    let file = |text: &str, escape| Some(BodyFile { text: template(text), escape });
    let record = r#"{"t":"<a>&\"q\" {{ 7*7 }}","n":1.10,"l":[{"i":"x"},{"i":"y"}],"nil":null}"#;
    for (content, escape, text, expected) in [
        (
            Content::Json,
            Escape::Json,
            r#"{"t": {{ record.t }}, "n": {{ record.n | tojson }}}"#,
            Ok(r#"{"t": "<a>&\"q\" {{ 7*7 }}", "n": 1.10}"#),
        ),
        (
            Content::Json,
            Escape::Json,
            r"[{% for x in record.l %}{{ x.i }}{% if not loop.last %},{% endif %}{% endfor %}]",
            Ok(r#"["x","y"]"#),
        ),
        (Content::Json, Escape::Json, r#"{"n": {{ record.nil }}}"#, Ok(r#"{"n": null}"#)),
        (
            Content::Json,
            Escape::Json,
            r#"{"t": {{ record.t | tojson }}}"#,
            Ok(r#"{"t": "<a>&\"q\" {{ 7*7 }}"}"#),
        ),
        (Content::Json, Escape::Json, r#"{"t": "{{ record.t }}"}"#, Err("body-not-json")),
        (Content::Json, Escape::Json, "{", Err("body-not-json")),
        (
            Content::Text,
            Escape::Xml,
            "<r>{{ record.t }}</r>\n",
            Ok("<r>&lt;a&gt;&amp;&quot;q&quot; {{ 7*7 }}</r>\n"),
        ),
        (
            Content::Text,
            Escape::Xml,
            "<r>{{ record.l | tojson }}</r>",
            Ok("<r>[{&quot;i&quot;:&quot;x&quot;},{&quot;i&quot;:&quot;y&quot;}]</r>"),
        ),
        (
            Content::Text,
            Escape::Xml,
            "{% set x %}<b>{{ record.n | string }}</b>{% endset %}{{ x }}",
            Ok("<b>1.10</b>"),
        ),
        (Content::Text, Escape::Xml, "{{ record.nil }}", Err("not-text")),
        (Content::Text, Escape::None, "{{ record.t }}", Ok("<a>&\"q\" {{ 7*7 }}")),
    ] {
        let endpoint = Endpoint { content, body_file: file(text, escape), ..endpoint() };
        assert_eq!(body_of(&endpoint, record).as_deref().map_err(String::as_str), expected, "{text}");
    }
    let endpoint =
        Endpoint { content: Content::Text, body_file: file("{{ record.t }}", Escape::Xml), ..endpoint() };
    assert_eq!(body_of(&endpoint, &record_with("t", "a\u{1}")).unwrap_err(), "xml-character");
}

#[test]
fn a_body_over_the_limit_says_size_and_limit_without_being_written() {
    let leaf = || (placed("x"), Tree::Text(template("{{ record.t }}")));
    let entries: Vec<_> = (0..1000).map(|n| (placed(&format!("k{n}")), leaf().1)).collect();
    let endpoint = Endpoint { body: Some(Tree::Map(entries, template("").place)), ..endpoint() };
    let error = request(&endpoint, &record_with("t", &"y".repeat(1 << 20))).unwrap_err();
    assert_eq!(error.rule, "body-too-large");
    assert!(
        error.message.contains("1048") && error.message.contains("limit is 1048576"),
        "{}",
        error.message
    );
    let made = request_template(&self::endpoint()).unwrap();
    let draft = || made.render(&mut context(r#"{"a":"bc"}"#)).unwrap();
    assert_eq!(draft().finish(None, 10).unwrap().body, r#"{"a":"bc"}"#);
    assert_eq!(draft().finish(None, 9).unwrap_err().rule, "body-too-large");
}

#[test]
fn a_look_at_the_far_side_uses_the_same_rules() {
    let mut connection = connection("https://api.example.com/v2");
    connection.headers = vec![("Accept".into(), HeaderTemplate::Plain(template("application/json")))];
    let endpoint = with_path("/users/{{ params.id }}");
    let scope = RequestTemplate::scope(&endpoint, &connection, &any());
    let query = [(placed("q"), Tree::Text(template("{{ record.id }}")))];
    let path = template("/users/{{ params.id }}/state");
    let call =
        CallTemplate::compile(&http::Method::GET, &path, &query, &connection, &scope, &mut Problems::new())
            .unwrap();
    let context = context(r#"{"id":"a/b"}"#).with(Root::Params, Arc::new(value(r#"{"id":"a/b"}"#)));
    let request = call.render(&context).unwrap();
    assert_eq!(request.url.as_str(), "https://api.example.com/v2/users/a%2Fb/state?q=a%2Fb");
    assert_eq!((request.headers["accept"].as_bytes(), request.body.len()), (&b"application/json"[..], 0));
}

#[test]
fn a_base_url_that_cannot_be_used_is_a_config_error() {
    for bad in [
        "",
        "example.com",
        "ftp://a.example",
        "https://u:p@a.example",
        "https://a.example?x=1",
        "https://a.example#f",
    ] {
        let mut problems = Problems::new();
        let made = RequestTemplate::compile(&endpoint(), &connection(bad), &[], &any(), &mut problems);
        assert!(made.is_none(), "{bad}");
        assert_eq!(problems.all()[0].rule, "base-url", "{bad}");
    }
}

#[test]
fn deep_nesting_is_refused_and_does_not_end_the_process() {
    for many in [30, 40, 200, 900, 50_000] {
        for text in [
            format!("{{{{ {}1{} }}}}", "(".repeat(many), ")".repeat(many)),
            format!("{{{{ {}1{} }}}}", "[".repeat(many), "]".repeat(many)),
            format!("{{{{ {}record.a{} }}}}", "record[".repeat(many), "]".repeat(many)),
            format!("{{{{ {}1 }}}}", "not ".repeat(many)),
            format!("{{{{ {}1 }}}}", "-".repeat(many)),
            format!("{{{{ 1{} }}}}", " + 1".repeat(many)),
            format!("{{{{ 1{} }}}}", " ** 1".repeat(many)),
            format!("{{{{ record.a{} }}}}", " or record.a".repeat(many)),
            format!("{{{{ record.a{} }}}}", "|string".repeat(many)),
            format!("{{{{ 1{} }}}}", " if record.a else 1".repeat(many)),
            format!("{{{{ record{} }}}}", ".a".repeat(many)),
            format!("{{{{ (record){} }}}}", ".a".repeat(many)),
            format!("{}{}", "{% if 1 %}".repeat(many), "{% endif %}".repeat(many)),
            format!("{{% if 1 %}}{}{{% endif %}}", "{% elif 1 %}".repeat(many)),
            format!("{}{}", "{% for x in [1] %}".repeat(many), "{% endfor %}".repeat(many)),
            format!("{}{}", "{% set x %}".repeat(many), "{% endset %}".repeat(many)),
        ] {
            match compiled(&text, &any()) {
                Ok(leaf) => drop(leaf.value(&context(r#"{"a":1}"#))),
                Err(found) => {
                    assert!(["template-syntax", "render-limit"].contains(&found[0].rule), "{found:?}");
                }
            }
            if many == 50_000 {
                assert!(compiled(&text, &any()).is_err(), "{}", &text[..20]);
            }
        }
    }
}

#[test]
fn compiled_templates_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<RequestTemplate>();
    shared::<Leaf>();
    shared::<Context>();
}

proptest! {
    #[test]
    fn any_text_in_any_field_arrives_as_that_text(name in any_text(), text in any_text()) {
        let body = request(&endpoint(), &record_with(&name, &text)).unwrap().body;
        let back: serde_json::Value = serde_json::from_slice(&body).unwrap();
        prop_assert_eq!(&back[&name], &serde_json::Value::String(text.clone()));

        let tree = Tree::Map(vec![(placed("x"), Tree::Text(template("a {{ record.t }}")))], template("").place);
        let endpoint = Endpoint { body: Some(tree), ..endpoint() };
        let body = request(&endpoint, &record_with("t", &text)).unwrap().body;
        let back: serde_json::Value = serde_json::from_slice(&body).unwrap();
        prop_assert_eq!(&back["x"], &serde_json::Value::String(format!("a {text}")));
    }

    #[test]
    fn any_text_is_one_path_segment_or_refused(text in any_text()) {
        if let Ok(request) = request(&with_path("/users/{{ params.id }}/x"), &record_with("id", &text)) {
            let segments: Vec<_> = request.url.path_segments().unwrap().collect();
            prop_assert_eq!(segments.len(), 4);
            let back = percent_encoding::percent_decode_str(segments[2]).decode_utf8().unwrap();
            prop_assert_eq!(back.as_ref(), text.as_str());
            prop_assert_eq!(request.url.host_str(), Some("api.example.com"));
            prop_assert_eq!(request.url.query(), None);
        } else {
            let once = percent_encoding::percent_decode_str(&text).decode_utf8_lossy();
            let refused = text.is_empty() || [".", ".."].contains(&&*once) || text.chars().chain(once.chars()).any(char::is_control);
            prop_assert!(refused, "{:?}", text);
        }
    }

    #[test]
    fn any_text_in_a_header_is_that_text_or_refused(text in any_text()) {
        let endpoint = Endpoint { headers: vec![(placed("X-A"), template("{{ record.t }}"))], ..endpoint() };
        if let Ok(request) = request(&endpoint, &record_with("t", &text)) {
            prop_assert_eq!(request.headers["x-a"].as_bytes(), text.as_bytes());
        } else {
            prop_assert!(text.chars().any(|c| !(' '..='~').contains(&c)), "{:?}", text);
        }
    }

    #[test]
    fn no_template_text_makes_the_compiler_fall_over(text in "[ -~é\n]{0,40}", inner in "[a-z0-9_.'\"|()\\[\\]{}%~+* -]{0,30}") {
        for text in [text.clone(), format!("{{{{ {inner} }}}}"), format!("{{% {inner} %}}{text}")] {
            if let Ok(leaf) = compiled(&text, &any()) {
                let _ = leaf.value(&context(r#"{"a":1}"#));
            }
        }
    }
}

pub(super) fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![proptest::arbitrary::any::<String>(), "[./%2eE0dDaA\\\\?#@:&=+ {}<>\"\r\n\0é-]{0,12}",]
}
