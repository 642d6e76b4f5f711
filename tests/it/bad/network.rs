//! Rows B076 to B093, as far as the stand-in's script goes: network and replies.

use runner::model::Class;

use super::tls::{Authority, Server};
use super::{Case, bad};
use crate::world::{POST_THINGS, World, things};

/// A case over a plain POST: what may have arrived is held.
fn post(row: &'static str, n: usize, script: &str) -> Case {
    bad(row).pipeline(POST_THINGS).input(things(n)).script(script)
}

/// The pipeline with more in `delivery:`.
fn delivery(pipeline: &str, more: &str) -> String {
    pipeline.replace("delivery: { ", &format!("delivery: {{ {more}, "))
}

#[test]
fn nobody_listens() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .expect("a port")
        .port();
    bad("B076")
        .pipeline(POST_THINGS)
        .input(things(3))
        .file("runner.yaml", format!("connections:\n  local: {{ base_url: \"http://127.0.0.1:{port}\" }}\n"))
        .exits(Class::Stopped)
        .rule("far-side-down")
        .names([
            &format!("127.0.0.1:{port}"),
            "refused",
            "attempts were made",
            "0 in doubt",
            "runner apply p",
        ]);
}

#[test]
fn a_certificate_that_is_not_good() {
    // S01
    let ours = Authority::new("ours");
    let cases = [
        (Authority::new("theirs").certify("localhost", false), "not trusted"),
        (ours.certify("localhost", true), "has expired"),
        (ours.certify("example.test", false), "is for another name"),
    ];
    for (identity, which) in cases {
        let server = Server::start(identity);
        let host = format!("localhost:{}", server.port());
        bad("B077")
            .pipeline(POST_THINGS)
            .input(things(3))
            .file("ca.pem", ours.pem())
            .file(
                "runner.yaml",
                format!("connections:\n  local: {{ base_url: \"https://{host}\", tls: {{ ca: ca.pem }} }}\n"),
            )
            .exits(Class::Halted)
            .rule("certificate")
            .names([&host, which, "tls: { ca:", "0 in doubt"]);
        assert_eq!(server.requests(), 0);
    }
    // The same with a good one, so that it is the certificate that the cases above are about.
    let server = Server::start(ours.certify("localhost", false));
    let host = format!("localhost:{}", server.port());
    bad("B077")
        .pipeline(POST_THINGS)
        .input(things(3))
        .file("ca.pem", ours.pem())
        .file(
            "runner.yaml",
            format!("connections:\n  local: {{ base_url: \"https://{host}\", tls: {{ ca: ca.pem }} }}\n"),
        )
        .exits(Class::Ok);
    assert_eq!(server.requests(), 3);
}

#[test]
fn a_ca_file_without_certificates() {
    bad("B077")
        .input(things(1))
        .file("ca.pem", "not a certificate")
        .file(
            "runner.yaml",
            "connections:\n  local: { base_url: \"https://localhost:1\", tls: { ca: ca.pem } }\n",
        )
        .exits(Class::Config)
        .rule("ca-not-pem")
        .names(["ca.pem", "no PEM certificates"]);
}

#[test]
fn a_refused_token() {
    let case = post("B078", 30, "POST /things -> 401");
    let url = case.world.url();
    let ended = case
        .pipeline(delivery(POST_THINGS, "concurrency: 4"))
        .file(
            "runner.yaml",
            format!("connections:\n  local:\n    base_url: \"{url}\"\n    auth: {{ bearer: api_token }}\n    api_token: {{ env: API_TOKEN }}\n"),
        )
        .env("API_TOKEN", "s3cr3t-t0ken")
        .exits(Class::Halted)
        .rule("credentials-refused")
        .names(["connection `local`", "API_TOKEN"])
        .hides("s3cr3t");
    assert!((1..=4).contains(&ended.world.seen().len()), "{}", ended.world.seen().len());
}

#[test]
fn a_wait_that_is_asked_for() {
    let ended = post("B079", 2, "POST /things #1 -> 429 retry-after=2")
        .pipeline(delivery(POST_THINGS, "concurrency: 1"))
        .arguments("apply p -vv")
        .exits(Class::Ok)
        .names(["429"])
        .sent(3);
    let seen = ended.world.seen();
    // What was asked for is kept, by the far side's own clock.
    assert!(seen[1].at_ms >= seen[0].at_ms + 2000, "{} {}", seen[0].at_ms, seen[1].at_ms);
}

#[test]
fn a_wait_of_years() {
    post("B080", 3, "POST /things -> 429 retry-after=99999999")
        .pipeline(delivery(POST_THINGS, "concurrency: 1"))
        .exits(Class::Stopped)
        .rule("wait-too-long")
        .names(["asked to wait", "max_retry_after", "5m", "runner apply p"])
        .sent(1);
}

#[test]
fn a_wait_that_is_none() {
    for wait in ["-5", "soon", "date-2"] {
        post("B081", 2, &format!("POST /things #1 -> 429 retry-after={wait}")).exits(Class::Ok).sent(3);
    }
}

#[test]
fn a_server_error_to_a_plain_post() {
    for status in [500, 504] {
        post("B082", 3, &format!("POST /things -> {status}"))
            .exits(Class::InDoubt)
            .names(["3 in doubt", "runner resolve p", &status.to_string()])
            .sent(3);
    }
}

#[test]
fn a_far_side_that_reads_and_closes() {
    post("B083", 3, "POST /things #2 -> cut_before")
        .pipeline(delivery(POST_THINGS, "concurrency: 1"))
        .exits(Class::InDoubt)
        .names(["1 in doubt", "runner resolve p", "data/things.csv, line 3"])
        .sent(3);
}

#[test]
fn a_far_side_that_never_answers() {
    // S11
    post("B084", 3, "POST /things -> hang")
        .pipeline(delivery(POST_THINGS, "timeout: 200ms"))
        .exits(Class::InDoubt)
        .names(["3 in doubt", "no reply within 200ms"])
        .sent(3);
}

#[test]
fn a_redirect_to_another_host() {
    // S05
    for status in [302, 307] {
        let other = World::new();
        let target = format!("{}/things", other.url());
        post("B085", 2, &format!("POST /things -> redirect {target} {status}"))
            .exits(Class::RecordsFailed)
            .names([&status.to_string(), other.far_side().addr().to_string().as_str()])
            .sent(2);
        assert_eq!(other.seen().len(), 0);
    }
}

#[test]
fn a_reply_whose_body_breaks_off() {
    post("B086", 3, "POST /things #2 -> cut_in_body").exits(Class::Ok).names(["3 delivered"]).sent(3);
}

#[test]
fn a_page_of_html() {
    post("B087", 2, "POST /things -> html").exits(Class::Ok).names(["2 delivered"]).sent(2);
    post("B087", 2, "POST /things -> html 400")
        .exits(Class::RecordsFailed)
        .names(["2 failed", "400", "<"])
        .sent(2);
}

#[test]
fn a_reply_that_unpacks_to_10_gib() {
    // S11, S41
    post("B088", 2, "POST /things #1 -> gzip_bomb 10GiB").exits(Class::Ok).names(["2 delivered"]).sent(2);
}

#[test]
fn reply_headers_without_end() {
    // S11
    post("B089", 2, "POST /things #1 -> endless_headers")
        .exits(Class::InDoubt)
        .names(["1 in doubt", "1 delivered"])
        .sent(2);
}

#[test]
fn a_reply_byte_by_byte() {
    // S11
    post("B090", 2, "POST /things #1 -> slow_body 100ms")
        .pipeline(delivery(POST_THINGS, "timeout: 300ms"))
        .exits(Class::Ok)
        .names(["2 delivered"])
        .sent(2);
}

/// Three things in one call whose reply says what became of each.
const THREE_TOGETHER: &str = "\
connection: local
endpoint: { method: POST, path: /bulk }
source: { file: data/things.csv }
batch: { replies: { at: '{{ response.body.results }}', delivered: '{{ reply.ok }}', message: '{{ reply.why }}',
  match: { item: '{{ item.id }}', reply: '{{ reply.id }}' } } }
";

fn results(list: &str) -> String {
    format!("POST /bulk -> 207 content-type=application/json body='{{\"results\":[{list}]}}'")
}

#[test]
fn one_bad_result_of_three() {
    let list = r#"{"id":"t1","ok":true},{"id":"t2","ok":false,"why":"no such plan"},{"id":"t3","ok":true}"#;
    let ended = post("B091", 3, &results(list))
        .pipeline(THREE_TOGETHER)
        .exits(Class::RecordsFailed)
        .names(["2 delivered", "1 failed", "no such plan"])
        .sent(1);
    // Only the bad one goes again.
    ended.world.answers(&results(r#"{"id":"t2","ok":true}"#));
    ended.world.run("retry p").exits(0);
    let again = ended.world.seen().pop().expect("a request");
    assert_eq!(String::from_utf8_lossy(&again.body), r#"[{"id":"t2","name":"thing 2"}]"#);
}

#[test]
fn two_results_of_three() {
    let list = r#"{"id":"t1","ok":true},{"id":"t3","ok":true}"#;
    post("B092", 3, &results(list))
        .pipeline(THREE_TOGETHER)
        .exits(Class::InDoubt)
        .names(["2 delivered", "1 in doubt", "the reply says nothing of it"])
        .sent(1);
}

#[test]
fn a_reply_that_drives_the_terminal() {
    let reading = "errors: { class: '{{ response.body.status }}', message: '{{ response.body.message }}' }";
    let pipeline = POST_THINGS.replace("path: /things }", &format!("path: /things, {reading} }}"));
    let ended = post("B093", 2, "POST /things -> esc")
        .pipeline(pipeline)
        .arguments("apply p -vvv")
        .exits(Class::RecordsFailed)
        .names(["2 failed", "\\u{1b}[2J"])
        .sent(2);
    assert!(!ended.run.stderr.contains('\u{1b}') && !ended.run.stdout.contains('\u{1b}'));
}
