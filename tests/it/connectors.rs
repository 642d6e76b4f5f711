//! The shipped connectors beside Freshchat: what each API says in its own way is read rightly, and
//! nothing goes twice. The far side answers in the words of the API's documents.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use runner::sandbox::Seen;
use serde_json::Value;

use crate::oracle::{DELIVERED, FAILED, IN_DOUBT, PENDING, Said};
use crate::world::{World, copied};

/// This project with the connection `local` to the far side, by a connector of ours, and a pipeline `p`
/// over `data/things.csv`.
fn project(connector: &str, pipeline: &str, rows: &str) -> World {
    let world = copied(Path::new(env!("CARGO_MANIFEST_DIR")), &["templates", "schemas"]);
    let settings = match connector {
        "slack" => "bot_token: { env: T }",
        "stripe" => "secret_key: { env: T }",
        "zendesk" => "subdomain: acme, email: a@example.com, api_token: { env: T }",
        "github" => "token: { env: T }",
        _ => "user: { env: T }, password: { env: T }",
    };
    let path = if connector == "kinto" { "/v1" } else { "" };
    let connection = format!(
        "connections: {{ local: {{ connector: {connector}, base_url: '{}{path}', {settings} }} }}\n",
        world.url()
    );
    let pipeline = format!("connection: local\nsource: {{ file: data/things.csv }}\n{pipeline}");
    let world = world.file("runner.yaml", connection).file(".env", "T=secret\n").pipeline(&pipeline, rows);
    std::fs::set_permissions(world.path(".env"), std::fs::Permissions::from_mode(0o600)).expect("a mode");
    world
}

/// A rule of the far side that answers with JSON.
fn says(what: &str, status: &str, body: &str) -> String {
    format!("{what} -> {status} content-type=application/json body='{body}'\n")
}

fn header<'s>(seen: &'s Seen, name: &str) -> &'s str {
    seen.headers[name].to_str().expect("text")
}

const MESSAGES: &str = "\
endpoint: slack/post-message
key: { value: '{{ record.id }}', public: true }
delivery: { order_by: all, rate: 1000/s, force: true, retry: { first_wait: 1ms, max_wait: 5ms } }
";
const FOUR: &str = "id,channel,text\nm1,C01,one\nm2,C01,two\nm3,C99,three\nm4,C01,four\n";

#[test]
fn a_slack_reply_with_ok_false_is_no_success() {
    let world = project("slack", MESSAGES, FOUR).script(
        &[
            says(
                "POST /chat.postMessage body.channel=C99",
                "200",
                r#"{"ok":false,"error":"channel_not_found"}"#,
            ),
            says("POST /chat.postMessage #2", "200 retry-after=0", r#"{"ok":false,"error":"ratelimited"}"#),
            says("POST /chat.postMessage", "200", r#"{"ok":true,"ts":"1700000000.000100"}"#),
        ]
        .concat(),
    );
    world.run("apply p").exits(1).says("3 delivered, 1 failed");
    let said = Said::of(&world, "p");
    assert_eq!((said.in_state(DELIVERED), said.in_state(FAILED)), (vec![0, 1, 3], vec![2]));
    assert_eq!((said.rows[&1].attempts, said.rows[&2].attempts), (2, 1));
    assert_eq!(said.rows[&2].class, "channel_not_found");
    // The same bytes again: the id in the metadata is that of the record.
    let bodies: Vec<_> = world.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies.len(), 5);
    assert_eq!(bodies[1], bodies[2]);
    assert!(world.outcomes("delivered.csv").contains("1700000000.000100"));
}

#[test]
fn a_slack_token_that_is_refused_stops_the_run_before_it_goes_through_the_input() {
    let revoked = says("* *", "200", r#"{"ok":false,"error":"token_revoked"}"#);
    let world = project("slack", MESSAGES, FOUR).script(&revoked);
    world.run("apply p").exits(9).says("token_revoked");
    assert_eq!(world.seen().len(), 1);
    assert_eq!(Said::of(&world, "p").in_state(FAILED), [0_u64; 0]);
    // With a new token the same command goes on.
    world.answers(&says("* *", "200", r#"{"ok":true,"ts":"1.2"}"#));
    world.run("apply p").exits(0).says("4 delivered, 0 failed");
}

#[test]
fn what_slack_may_have_done_all_the_same_is_looked_for_by_the_id_in_its_metadata() {
    let message = "POST /chat.postMessage";
    let ok = says(message, "200", r#"{"ok":true,"ts":"1.2"}"#);
    let failed = says(&format!("{message} #1"), "200", r#"{"ok":false,"error":"internal_error"}"#);
    let nothing = says("GET /conversations.history", "200", r#"{"ok":true,"messages":[],"has_more":false}"#);
    let world = project("slack", MESSAGES, FOUR).script(&[&*failed, &nothing, &ok].concat());
    looks_at_once(&world, "slack/post-message");
    world.run("apply p").exits(0).says("4 delivered").says("1 had not arrived");
    let asked = world.asked();
    assert!(asked[1].starts_with("GET /conversations.history?channel=C01&oldest=1"), "{asked:?}");
    assert_eq!(asked.len(), 6);

    // The page of a proxy is no message: nobody knows, and the message is found.
    let world = project("slack", MESSAGES, "id,channel,text\nm1,C01,one\n");
    looks_at_once(&world, "slack/post-message");
    world.answers(&format!("{message} -> html 200\nGET ** -> 200 body='{{}}'\n"));
    world.run("apply p").exits(6);
    let body: Value = serde_json::from_slice(&world.seen()[0].body).expect("JSON");
    let id = &body["metadata"]["event_payload"];
    let found =
        format!(r#"{{"ok":true,"messages":[{{"text":"x"}},{{"metadata":{{"event_payload":{id}}}}}]}}"#);
    world.answers(&says("GET /conversations.history", "200", &found));
    world.run("reconcile p").exits(0);
    assert_eq!(Said::of(&world, "p").in_state(DELIVERED), [0]);
}

/// A template as it is shipped, but for the wait before a look.
fn looks_at_once(world: &World, endpoint: &str) {
    let path = format!("templates/{endpoint}.yaml");
    let template = world.read(&path);
    let at = template.find("after: ").expect("a wait");
    let end = at + template[at..].find('\n').expect("a line");
    world.write(&path, format!("{}after: 1ms{}", &template[..at], &template[end..]));
}

const CUSTOMERS: &str = "\
endpoint: stripe/create-customer
key: { value: '{{ record.reference }}', public: true }
delivery: { order_by: all, rate: 1000/s, force: true, retry: { first_wait: 1ms, max_wait: 5ms } }
";

#[test]
fn every_attempt_for_a_stripe_customer_has_the_same_key_and_the_same_form() {
    let rows = "reference,name,email,line1,city\n01,\"O'Brien & Söhne\",a+b@example.com,[1],Köln\n02,B,,,\n";
    let in_use = r#"{"error":{"type":"invalid_request_error","code":"idempotency_key_in_use"}}"#;
    let other =
        r#"{"error":{"type":"card_error","code":"card_declined","message":"Your card was declined."}}"#;
    let world = project("stripe", CUSTOMERS, rows).script(
        &[
            "POST /customers #1 -> cut_after_effect\nPOST /customers #2 -> 500 act\n".into(),
            says("POST /customers #3", "409", in_use),
            says("POST /customers #4", "200", r#"{"id":"cus_1"}"#),
            says("POST /customers", "402", other),
        ]
        .concat(),
    );
    world.run("apply p").exits(1).says("1 delivered, 1 failed");
    let seen = world.seen();
    assert_eq!(seen.len(), 5);
    let key = header(&seen[0], "idempotency-key");
    for attempt in &seen[..4] {
        assert_eq!((header(attempt, "idempotency-key"), &attempt.body), (key, &seen[0].body));
    }
    assert_ne!(header(&seen[4], "idempotency-key"), key);
    assert_eq!(header(&seen[0], "content-type"), "application/x-www-form-urlencoded");
    let form: BTreeMap<String, String> = url::form_urlencoded::parse(&seen[0].body).into_owned().collect();
    let expected = [
        ("address[city]", "Köln"),
        ("address[line1]", "[1]"),
        ("email", "a+b@example.com"),
        ("metadata[reference]", "01"),
        ("name", "O'Brien & Söhne"),
    ];
    assert_eq!(form, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    assert_eq!(&seen[4].body[..], b"name=B&metadata%5Breference%5D=02");
    let said = Said::of(&world, "p");
    assert_eq!(
        (&*said.rows[&1].class, &*said.rows[&1].message),
        ("card_declined", "Your card was declined.")
    );
}

#[test]
fn a_stripe_key_that_was_used_with_other_bytes_is_doubt() {
    let used = r#"{"error":{"type":"idempotency_error","message":"Keys can only be used …"}}"#;
    let world = project("stripe", CUSTOMERS, "reference,name\n01,A\n").script(&says("* *", "400", used));
    world.run("apply p").exits(6);
    assert_eq!(Said::of(&world, "p").rows[&0].class, "idempotency_error");
}

#[test]
fn a_zendesk_job_takes_users_and_says_later_what_became_of_them() {
    let users = "endpoint: zendesk/create-or-update-users\nkey: '{{ record.external_id }}'\nresponses: { file: true }\n";
    let rows = "external_id,name\n01,A\n02,B\n03,C\n";
    let queued = r#"{"job_status":{"id":"j1","status":"queued","results":null}}"#;
    let world = project("zendesk", users, rows).script(&says("* *", "200", queued));
    world.run("apply p").exits(0).says("3 delivered");
    let seen = world.seen();
    assert_eq!(seen.len(), 1);
    let body: Value = serde_json::from_slice(&seen[0].body).expect("JSON");
    assert_eq!(body["users"][2], serde_json::json!({ "external_id": "03", "name": "C" }));
    // `a@example.com/token:secret`
    assert_eq!(header(&seen[0], "authorization"), "Basic YUBleGFtcGxlLmNvbS90b2tlbjpzZWNyZXQ=");
    // What the first run left is the input of the question, which is asked once for each job.
    let left = world.outcomes("responses.ndjson");
    let jobs = "endpoint: zendesk/show-job-status\nkey: '{{ record.captures.job_id }}'\n\
                params: { job_id: '{{ record.captures.job_id }}' }\nselect: { duplicates: keep_first }\n\
                delivery: { retry: { first_wait: 1ms, max_wait: 5ms } }\n";
    let world = project("zendesk", jobs, "").file("data/things.ndjson", left);
    world.write("pipelines/p.yaml", world.read("pipelines/p.yaml").replace("things.csv", "things.ndjson"));
    let done = r#"{"job_status":{"id":"j1","status":"completed","progress":3,"results":[{"id":1,"status":"Created"},{"index":1,"error":"UserCreateError","details":"Email: is not valid"}]}}"#;
    world.answers(&[says("GET ** first=2", "200", queued), says("GET **", "200", done)].concat());
    world.run("apply p").exits(1).says("0 delivered, 1 failed, 0 invalid, 2 skipped");
    assert_eq!(world.asked(), ["GET /job_statuses/j1"; 3]);
    let failed = world.outcomes("failed.ndjson");
    assert!(failed.contains("job_results") && failed.contains("Email: is not valid"), "{failed}");
    // What is no job says nothing.
    world.answers("GET ** -> html 200");
    world.run("retry p").exits(6);
    world.run("resolve p --all --failed").exits(0);
    // Done without a failure.
    world.answers(&says(
        "GET **",
        "200",
        r#"{"job_status":{"status":"completed","results":[{"id":1}],"progress":1}}"#,
    ));
    world.run("retry p").exits(0).says("1 delivered");
}

const ISSUES: &str = "\
endpoint: github/create-issue
key: { value: '{{ record.id }}', public: true }
params: { owner: o, repo: r }
delivery: { order_by: all, rate: 1000/s, force: true, retry: { first_wait: 1ms, max_wait: 5ms } }
";
const TWO: &str = "id,title\ni1,One\ni2,Two\n";

#[test]
fn a_github_limit_in_a_403_is_waited_for_and_any_other_403_fails() {
    let limited = r#"{"message":"You have exceeded a secondary rate limit."}"#;
    let world = project("github", ISSUES, TWO).script(
        &[
            says("POST ** #1", "403 retry-after=0", limited),
            says("POST ** #2", "429 retry-after=0", limited),
            says("POST ** #3", "201", r#"{"number":7,"html_url":"https://example.com/7"}"#),
            says("POST **", "403", r#"{"message":"Resource not accessible by personal access token"}"#),
        ]
        .concat(),
    );
    world.run("apply p").exits(1).says("1 delivered, 1 failed");
    let said = Said::of(&world, "p");
    assert_eq!((said.rows[&0].attempts, said.rows[&1].attempts), (3, 1));
    let seen = world.seen();
    assert_eq!(header(&seen[0], "x-github-api-version"), "2022-11-28");
    assert_eq!(header(&seen[0], "accept"), "application/vnd.github+json");
}

#[test]
fn a_github_limit_that_lasts_stops_the_run_and_fails_nobody() {
    // The hour of the token is used up: the header says when the next begins.
    let spent = r#"{"message":"API rate limit exceeded"}"#;
    let answer = says("* *", "403 x-ratelimit-remaining=0 x-ratelimit-reset=3000", spent);
    let world = project("github", ISSUES, TWO).script(&answer);
    let run = world.run("apply p").exits(7);
    assert!(run.stderr.contains("asked to wait 50m"), "{}", run.stderr);
    assert_eq!(world.seen().len(), 1);
    assert_eq!(Said::of(&world, "p").in_state(PENDING), [0, 1]);

    // Without any header it is the connector that says how long, which is known before anything is sent.
    let pipeline = ISSUES.replace("max_wait: 5ms", "max_wait: 5ms, max_retry_after: 30s");
    let world = project("github", &pipeline, TWO).script("");
    world.run("apply p").exits(3).says("`wait` is 1m, and a run waits 30s at most");
}

#[test]
fn an_issue_in_doubt_is_found_by_the_mark_in_its_text() {
    let world = project("github", ISSUES, "id,title\ni1,One\n");
    looks_at_once(&world, "github/create-issue");
    world.answers("POST ** -> cut_after_effect\nGET ** -> 503\n");
    world.run("apply p").exits(6);
    let text: Value = serde_json::from_slice(&world.seen()[0].body).expect("JSON");
    let text = text["body"].to_string();
    assert!(text.contains("<!-- record "), "{text}");
    // Another issue, one without a text, and ours; the service writes line ends in its own way.
    let issues = format!(r#"[{{"body":null}},{{"body":"x"}},{{"body":{}}}]"#, text.replace(r"\n", r"\r\n"));
    world.answers(&says("GET **", "200", &issues));
    world.run("reconcile p").exits(0);
    assert_eq!(Said::of(&world, "p").in_state(DELIVERED), [0]);

    let world = project("github", ISSUES, "id,title\ni1,One\n");
    looks_at_once(&world, "github/create-issue");
    let none = says("GET **", "200", r#"[{"body":null},{"body":"<!-- record other -->"}]"#);
    let made = says("POST **", "201", r#"{"number":1,"html_url":"u"}"#);
    world.answers(&["POST ** #1 -> cut_before\n", &*none, &made].concat());
    world.run("apply p").exits(0).says("1 had not arrived");
}

/// The ids of the records in each call.
fn ids(world: &World, list: &str, id: &dyn Fn(&Value) -> String) -> Vec<Vec<String>> {
    let ids = |seen: &Seen| {
        let body: Value = serde_json::from_slice(&seen.body).expect("JSON");
        body[list].as_array().expect("a list").iter().map(id).collect()
    };
    world.seen().iter().map(ids).collect()
}

const FIVE: &str = "id,name\nd1,A\nd2,B\nd3,C\nd4,D\nd5,E\n";

#[test]
fn of_five_couchdb_documents_the_third_is_in_conflict_and_the_others_never_go_again() {
    let pipeline = "endpoint: couchdb/bulk-docs\nkey: '{{ record._id }}'\nparams: { database: people }\n\
                    select: { rename: { id: _id } }\n";
    // Its results are told apart by their ids, so that their order does not matter.
    let results = r#"[{"id":"d5","ok":true,"rev":"1-e"},{"id":"d1","rev":"1-a"},{"id":"d3","error":"conflict","reason":"Document update conflict."},{"id":"d2","ok":true,"rev":"1-b"},{"id":"d4","ok":true,"rev":"1-d"}]"#;
    let world = project("couchdb", pipeline, FIVE).script(&says("POST /people/_bulk_docs", "201", results));
    world.run("apply p").exits(1).says("4 delivered, 1 failed");
    world.run("apply p").exits(1);
    let id = |item: &Value| item["_id"].as_str().expect("an id").to_owned();
    assert_eq!(ids(&world, "docs", &id), [["d1", "d2", "d3", "d4", "d5"]]);
    let said = Said::of(&world, "p");
    assert_eq!((said.in_state(FAILED), &*said.rows[&2].class), (vec![2], "conflict"));
    assert!(world.outcomes("delivered.csv").contains(",1-a\n"));

    // Sent again because the first reply was lost: who now is in conflict may be our own write.
    let world = project("couchdb", pipeline, FIVE)
        .script(&["POST ** #1 -> cut_after_effect\n", &*says("POST **", "201", results)].concat());
    world.run("apply p --quiet").exits(6);
    let said = Said::of(&world, "p");
    assert_eq!((said.in_state(DELIVERED), said.in_state(IN_DOUBT)), (vec![0, 1, 3, 4], vec![2]));
    assert_eq!(world.seen().len(), 2);
}

#[test]
fn of_five_kinto_records_the_third_is_refused_and_the_others_never_go_again() {
    let pipeline =
        "endpoint: kinto/batch\nkey: '{{ record.id }}'\nparams: { bucket: main, collection: people }\n";
    let one = |status: u16, body: &str| {
        format!(r#"{{"status":{status},"path":"/v1/x","body":{body},"headers":{{}}}}"#)
    };
    let good = one(201, r#"{"data":{"last_modified":17}}"#);
    let bad =
        one(403, r#"{"code":403,"error":"Forbidden","message":"This user cannot access this resource."}"#);
    let replies = format!(r#"{{"responses":[{good},{good},{bad},{good},{good}]}}"#);
    let world = project("kinto", pipeline, FIVE).script(&says("POST /v1/batch", "200", &replies));
    world.run("apply p").exits(1).says("4 delivered, 1 failed");
    let path =
        |item: &Value| item["path"].as_str().expect("a path").rsplit('/').next().expect("an id").to_owned();
    assert_eq!(ids(&world, "requests", &path), [["d1", "d2", "d3", "d4", "d5"]]);
    assert_eq!(Said::of(&world, "p").rows[&2].message, "This user cannot access this resource.");
    world.answers(&says("POST /v1/batch", "200", &format!(r#"{{"responses":[{good}]}}"#)));
    world.run("retry p").exits(0);
    assert_eq!(ids(&world, "requests", &path)[1..], [["d3"]]);

    // An id cannot reach another path.
    let rows = "id,name\n../../../main,A\nd2,B\n";
    let world = project("kinto", pipeline, rows).script(&says(
        "POST /v1/batch",
        "200",
        &format!(r#"{{"responses":[{good}]}}"#),
    ));
    world.run("apply p").exits(1).says("1 delivered, 0 failed, 1 invalid");
    assert_eq!(ids(&world, "requests", &path), [["d2"]]);
}
