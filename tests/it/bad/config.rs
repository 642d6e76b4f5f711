//! Rows B035 to B052: pipeline, YAML, connection, command line.

use runner::model::Class;

use super::{Case, bad};
use crate::world::{PUT_THINGS, things};

/// A pipeline with these lines behind the usual ones.
fn with(lines: &str) -> String {
    format!("{PUT_THINGS}{lines}")
}

/// The pipeline with another `delivery:`.
fn delivery(text: &str) -> String {
    PUT_THINGS.replace(
        "delivery: { retry: { first_wait: 1ms, max_wait: 5ms } }",
        &format!("delivery: {{ {text} }}"),
    )
}

/// A case whose connection is written like this, over good input.
fn connection(row: &'static str, text: &str) -> Case {
    bad(row).input(things(2)).file("runner.yaml", format!("connections:\n  local:\n{text}"))
}

/// An existing far side with a token.
fn with_token(row: &'static str) -> Case {
    let case = bad(row).input(things(2));
    let url = case.world.url();
    case.file(
        "runner.yaml",
        format!("connections:\n  local:\n    base_url: \"{url}\"\n    auth: {{ bearer: api_token }}\n    api_token: {{ env: API_TOKEN }}\n"),
    )
}

#[test]
fn an_unknown_key() {
    bad("B035")
        .pipeline(delivery("retrys: { attempts: 3 }"))
        .input(things(2))
        .exits(Class::Config)
        .rule("unknown-key")
        .names(["pipelines/p.yaml:9:", "`retrys`", "`retry`"])
        .sent(0);
}

#[test]
fn a_key_twice_in_one_mapping() {
    // S21
    bad("B036")
        .pipeline(with("select:\n  limit: 1\n  limit: 2\n"))
        .input(things(2))
        .exits(Class::Config)
        .rule("duplicate-key")
        .names(["pipelines/p.yaml:12:", "lines 11 and 12"])
        .sent(0);
}

#[test]
fn a_tab_for_indentation() {
    bad("B037")
        .pipeline(with("select:\n\tlimit: 1\n"))
        .input(things(2))
        .exits(Class::Config)
        .rule("tab-indentation")
        .names(["pipelines/p.yaml:11:", "tab"])
        .sent(0);
}

#[test]
fn an_alias_bomb() {
    // S21, S41
    let mut text = String::from("a: &a [1,1,1,1,1,1,1,1,1]\n");
    for (name, of) in ["b", "c", "d", "e", "f", "g", "h"].into_iter().zip(["a", "b", "c", "d", "e", "f", "g"])
    {
        let nine = vec![format!("*{of}"); 9].join(",");
        text = format!("{text}{name}: &{name} [{nine}]\n");
    }
    bad("B038")
        .pipeline(text)
        .input(things(2))
        .exits(Class::Config)
        .rule("yaml-limit")
        .names(["pipelines/p.yaml:", "10000 nodes"])
        .sent(0);
}

#[test]
fn a_country_that_is_no_boolean() {
    bad("B039")
        .pipeline(with("body: { country: NO, answer: yes, off: off }\n"))
        .input(things(1))
        .exits(Class::Ok)
        .bodies([r#"{"country":"NO","answer":"yes","off":"off"}"#]);
}

#[test]
fn two_documents() {
    bad("B040")
        .pipeline(with("---\nname: other\n"))
        .input(things(2))
        .exits(Class::Config)
        .rule("second-document")
        .names(["pipelines/p.yaml:10:"])
        .sent(0);
}

#[test]
fn concurrency_out_of_range() {
    for value in ["0", "-1", "many", "1000000"] {
        bad("B041")
            .pipeline(delivery(&format!("concurrency: {value}")))
            .input(things(2))
            .exits(Class::Config)
            .names(["pipelines/p.yaml:9:", value, "1 to 1024"])
            .sent(0);
    }
}

#[test]
fn a_duration_without_unit() {
    bad("B042")
        .pipeline(delivery("timeout: 30"))
        .input(things(2))
        .exits(Class::Config)
        .names(["pipelines/p.yaml:9:", "`30s`"])
        .sent(0);
}

#[test]
fn a_template_that_is_missing() {
    let pipeline = "connection: local\nendpoint: shop/create\nsource: { file: data/things.csv }\n";
    bad("B043")
        .pipeline(pipeline)
        .input(things(2))
        .exits(Class::Config)
        .names(["pipelines/p.yaml:2:", "templates/shop/create.yaml"])
        .sent(0);
}

#[test]
fn a_template_outside_of_the_root() {
    // S18
    let pipeline = "connection: local\nendpoint: ../../etc/passwd\nsource: { file: data/things.csv }\n";
    bad("B044")
        .pipeline(pipeline)
        .input(things(2))
        .exits(Class::Config)
        .rule("path-outside-root")
        .names(["pipelines/p.yaml:2:", "../../etc/passwd", "[ROOT]"])
        .sent(0);
}

#[test]
fn a_variable_that_is_not_set() {
    with_token("B045")
        .exits(Class::Config)
        .rule("variable-unset")
        .names(["API_TOKEN", "runner.yaml:5:"])
        .sent(0);
}

#[test]
fn a_variable_that_is_set_to_nothing() {
    with_token("B045")
        .env("API_TOKEN", "")
        .exits(Class::Config)
        .rule("variable-unset")
        .names(["API_TOKEN", "runner.yaml:5:"])
        .sent(0);
}

#[test]
fn a_token_that_ends_in_a_newline() {
    with_token("B046")
        .env("API_TOKEN", "s3cr3t-t0ken\n")
        .exits(Class::Config)
        .names(["API_TOKEN", "newline", "runner.yaml:5:"])
        .hides("s3cr3t")
        .sent(0);
}

#[test]
fn credentials_over_plain_http() {
    // S04
    connection(
        "B047",
        "    base_url: http://api.example.test/v2\n    auth: { bearer: api_token }\n    api_token: { env: API_TOKEN }\n",
    )
    .env("API_TOKEN", "s3cr3t-t0ken")
    .exits(Class::Config)
    .rule("plain-http")
    .names(["http://api.example.test", "allow_plain_http"])
    .hides("s3cr3t");
}

#[test]
fn a_password_in_the_base_url() {
    connection("B048", "    base_url: https://user:hunter2pass@api.example.test/\n")
        .exits(Class::Config)
        .rule("base-url-userinfo")
        .names(["api.example.test", "runner.yaml:3:"])
        .hides("hunter2pass");
}

#[test]
fn a_query_or_fragment_in_the_base_url() {
    for (url, part) in
        [("https://api.example.test/v2?x=1", "query"), ("https://api.example.test/v2#top", "fragment")]
    {
        connection("B049", &format!("    base_url: {url}\n"))
            .exits(Class::Config)
            .rule("base-url-part")
            .names([part, "runner.yaml:3:"]);
    }
}

#[test]
fn a_pipeline_of_50_mib() {
    let text = with(&"#".repeat((50 << 20) - PUT_THINGS.len()));
    bad("B050")
        .pipeline(text)
        .input(things(2))
        .exits(Class::Config)
        .names(["52428800", "1 MiB", "pipelines/p.yaml"])
        .sent(0);
}

#[test]
fn five_mistakes_at_once() {
    let pipeline = "\
connection: locl
endpoint:
  method: PUTT
  path: /things/{{ params.id }}
  params: { id: { required: maybe } }
source: { fil: data/things.csv }
key: '{{ record.id }}'
delivery:
  timeout: 30
  concurrency: 0
";
    let ended = bad("B051").pipeline(pipeline).input(things(2)).exits(Class::Config).sent(0);
    for line in [1, 3, 5, 6, 9, 10] {
        assert!(
            ended.run.stderr.contains(&format!("pipelines/p.yaml:{line}:")),
            "line {line}:\n{}",
            ended.run.stderr
        );
    }
}

#[test]
fn an_unknown_flag() {
    // `plan` is what looks without sending; no command has `--dry-run`.
    bad("B052")
        .input(things(2))
        .arguments("apply p --resum")
        .exits(Class::Usage)
        .names(["`--resume`"])
        .sent(0);
    bad("B052")
        .input(things(2))
        .arguments("apply p --dryrun")
        .exits(Class::Usage)
        .names(["--dryrun"])
        .sent(0);
}
