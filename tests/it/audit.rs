//! What the reference promises in one line, each held against the real binary: options of sources,
//! selection, credentials, bodies, reading of replies, environments, and files of a run.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::world::{POST_THINGS, PUT_THINGS, Run, World, things};

/// A pipeline over a plain POST, one request at a time, with more keys at the top.
fn posting(source: &str, more: &str) -> String {
    format!(
        "connection: local\nendpoint: {{ method: POST, path: /things }}\nsource: {source}\n\
         delivery: {{ concurrency: 1, retry: {{ first_wait: 1ms, max_wait: 5ms }} }}\n{more}"
    )
}

/// The bodies that arrived, as text.
fn bodies(world: &World) -> Vec<String> {
    world.seen().iter().map(|seen| String::from_utf8_lossy(&seen.body).into_owned()).collect()
}

/// Runs a command with an environment.
fn with(world: &World, arguments: &str, environment: &[(&str, &str)]) -> Run {
    let mut command = world.command(arguments);
    command.envs(environment.iter().copied());
    Run::of(command.output().expect("the binary runs"), world)
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// A CSV source with options and a content, and the bodies that come of it.
#[track_caller]
fn csv(options: &str, content: &[u8], expected: &[&str]) {
    let source = format!("{{ file: data/things.csv, csv: {options} }}");
    let world = World::new().pipeline(&posting(&source, ""), content);
    world.run("apply p").exits(0);
    assert_eq!(bodies(&world), expected, "{options}");
}

#[test]
fn every_option_of_a_csv_source() {
    csv("{ delimiter: ';' }", b"id;name\n1;a,b\n", &[r#"{"id":"1","name":"a,b"}"#]);
    csv(r#"{ delimiter: "\t" }"#, b"id\tname\n1\ta\n", &[r#"{"id":"1","name":"a"}"#]);
    csv(r#"{ quote: "'" }"#, b"id,name\n1,'a,b'\n", &[r#"{"id":"1","name":"a,b"}"#]);
    csv("{ header: [id, name] }", b"1,a\n2,b\n", &[r#"{"id":"1","name":"a"}"#, r#"{"id":"2","name":"b"}"#]);
    csv("{ comment: '#' }", b"id\n# no record\n1\n", &[r#"{"id":"1"}"#]);
    csv("{ encoding: latin-1 }", b"id,name\n1,caf\xe9\n", &["{\"id\":\"1\",\"name\":\"caf\u{e9}\"}"]);
    csv("{ encoding: windows-1252 }", b"id,name\n1,\x80\n", &["{\"id\":\"1\",\"name\":\"\u{20ac}\"}"]);
    let utf_16 = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_be_bytes).collect() };
    csv("{ encoding: utf-16be }", &utf_16("id,name\n1,\u{f6}\n"), &["{\"id\":\"1\",\"name\":\"\u{f6}\"}"]);
    csv("{ encoding: utf-16 }", &utf_16("\u{feff}id\n1\n"), &[r#"{"id":"1"}"#]);
    csv(
        "{ null_words: [NULL, n/a] }",
        b"id,a,b\n1,NULL,n/a\n2,null,x\n",
        &[r#"{"id":"1"}"#, r#"{"id":"2","a":"null","b":"x"}"#],
    );
    csv("{ empty: text }", b"id,a\n1,\n", &[r#"{"id":"1","a":""}"#]);
    csv("{ empty: absent }", b"id,a\n1,\n", &[r#"{"id":"1"}"#]);
}

#[test]
fn every_kind_of_source() {
    let gz = |text: &str| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut packed, text.as_bytes()).expect("text");
        packed.finish().expect("gzip")
    };
    let id = r#"{"id":"1"}"#;
    for (source, path, content) in [
        ("{ file: data/a.tsv }", "data/a.tsv", b"id\n1\n".to_vec()),
        ("{ file: data/a.txt, format: tsv }", "data/a.txt", b"id\n1\n".to_vec()),
        ("{ file: data/a.json }", "data/a.json", br#"[{"id":"1"}]"#.to_vec()),
        (
            "{ file: data/a.json, pointer: /data/it~1ems }",
            "data/a.json",
            br#"{"x":[{"id":"0"}],"data":{"it/ems":[{"id":"1"}]},"y":1}"#.to_vec(),
        ),
        ("{ file: data/a.ndjson }", "data/a.ndjson", b"{\"id\":\"1\"}\n".to_vec()),
        ("{ file: data/a.jsonl }", "data/a.jsonl", b"{\"id\":\"1\"}\n".to_vec()),
        ("{ file: data/a.csv.gz }", "data/a.csv.gz", gz("id\n1\n")),
        ("{ file: data/a.ndjson.gz }", "data/a.ndjson.gz", gz("{\"id\":\"1\"}\n")),
    ] {
        let world = World::new().file("pipelines/p.yaml", posting(source, "")).file(path, content);
        world.run("apply p").exits(0);
        assert_eq!(bodies(&world), [id], "{source}");
    }
}

const NAMED: &str = "id,mail,secret_note\n1,a@x.com,s1\n2,b@x.com,s2\n1,c@x.com,s3\n3,d@x.com,s4\n";

/// What arrives of `NAMED` with a `select:`.
fn selected(select: &str) -> (Run, Vec<String>) {
    let more = format!("key: '{{{{ record.id }}}}'\nselect: {select}\n");
    let world = World::new().pipeline(&posting("{ file: data/things.csv }", &more), NAMED);
    let run = world.run("apply p");
    (run, bodies(&world))
}

#[test]
fn every_key_of_select() {
    let (run, sent) = selected("{ duplicates: keep_first, rename: { mail: email }, exclude: [secret_note] }");
    run.exits(0).says("3 delivered, 0 failed, 0 invalid, 1 skipped");
    assert_eq!(sent[0], r#"{"id":"1","email":"a@x.com"}"#);
    assert_eq!(sent.len(), 3);
    let (run, sent) = selected("{ duplicates: keep_last }");
    run.exits(0).says("3 delivered, 0 failed, 0 invalid, 1 skipped");
    let firsts: Vec<bool> = sent.iter().map(|body| body.contains("a@x.com")).collect();
    assert_eq!(firsts, [false, false, false], "the last of two is sent");
    let (run, sent) = selected("{ duplicates: allow }");
    run.exits(0).says("4 delivered");
    assert_eq!(sent.len(), 4);
    let (run, sent) = selected("{ duplicates: refuse }");
    assert_eq!((run.code, sent.len()), (1, 3), "{}", run.stderr);
    let (run, sent) = selected("{ duplicates: keep_first, limit: 2 }");
    run.exits(0);
    assert_eq!(sent.len(), 2);
    // The order: `where` sees new names, and is asked before repeated keys count.
    let (run, sent) = selected("{ rename: { mail: email }, where: \"{{ record.email != 'a@x.com' }}\" }");
    run.exits(0).says("3 delivered, 0 failed, 0 invalid, 1 skipped");
    assert_eq!(sent.len(), 3);
}

#[test]
fn nulls_are_left_out_unless_they_are_kept() {
    let input = r#"{"id":"1","a":null,"b":{"c":null}}"#;
    for (nulls, expected) in [
        ("", r#"{"id":"1","b":{}}"#),
        ("nulls: omit\n", r#"{"id":"1","b":{}}"#),
        ("nulls: keep\n", r#"{"id":"1","a":null,"b":{"c":null}}"#),
    ] {
        let source = "{ file: data/things.csv, format: ndjson }";
        let world = World::new().pipeline(&posting(source, nulls), input);
        world.run("apply p").exits(0);
        assert_eq!(bodies(&world), [expected], "{nulls}");
    }
}

#[test]
fn variables_have_types_defaults_and_ways_to_be_set() {
    let more = "vars:\n  since: { type: date }\n  n: { type: integer, default: 7 }\n  on: { type: boolean, default: false }\n  \
                list: { type: array, default: [1] }\n  word: plain\n\
                body: { since: '{{ vars.since }}', n: '{{ vars.n }}', on: '{{ vars.on }}', list: '{{ vars.list }}', word: '{{ vars.word }}' }\n";
    let world = || World::new().pipeline(&posting("{ file: data/things.csv }", more), things(1));
    let first = world();
    first
        .run("apply p --var since=2026-11-22 --var n=9 --var on=true --var list=[2,3] --var word=42")
        .exits(0);
    assert_eq!(bodies(&first), [r#"{"since":"2026-11-22","n":9,"on":true,"list":[2,3],"word":"42"}"#]);
    let second = world();
    with(
        &second,
        "apply p --var word=flag",
        &[("RUNNER_VAR_since", "2026-01-02"), ("RUNNER_VAR_word", "env")],
    )
    .exits(0);
    assert_eq!(bodies(&second), [r#"{"since":"2026-01-02","n":7,"on":false,"list":[1],"word":"flag"}"#]);
    for (wrong, named) in [
        ("", "since"),
        ("--var since=yesterday", "since"),
        ("--var since=2026-02-30", "since"),
        ("--var since=2026-11-22 --var n=x", "`n`"),
        ("--var since=2026-11-22 --var on=yes", "`on`"),
        ("--var since=2026-11-22 --var wrod=x", "word"),
    ] {
        let world = world();
        let run = world.run(&format!("apply p {wrong}")).says(named);
        assert!(run.code == 3 || run.code == 2, "{wrong}: {}\n{}", run.code, run.stderr);
        assert_eq!(world.seen().len(), 0, "{wrong}");
    }
}

const TOKEN: &str = "s3cret/tok\"en+1";

/// A connector with a kind of credentials.
fn with_auth(auth: &str) -> World {
    let world = World::new();
    let url = world.url();
    world
        .file(
            "templates/api/connector.yaml",
            format!(
                "settings:\n  token: {{ type: string, secret: true }}\n  user: {{ type: string, secret: true }}\n\
                 base_url: {url}\nauth: {auth}\nerrors: {{ message: '{{{{ response.text }}}}' }}\n"
            ),
        )
        .file("runner.yaml", "connections:\n  api: { connector: api, token: { env: API_TOKEN }, user: { env: API_USER } }\n")
        .pipeline(&POST_THINGS.replace("connection: local", "connection: api"), things(2))
}

#[test]
fn every_kind_of_credentials_arrives_and_is_masked() {
    let basic = "Basic YW5uYTpzM2NyZXQvdG9rImVuKzE=";
    let bearer = format!("Bearer {TOKEN}");
    for (auth, header, value) in [
        ("{ bearer: token }", "authorization", bearer.as_str()),
        ("{ basic: { user: user, password: token } }", "authorization", basic),
        ("{ api_key: { header: X-Api-Key, value: token } }", "x-api-key", TOKEN),
        ("{ api_key: { query: key, value: token } }", "", ""),
    ] {
        let world = with_auth(auth);
        let set = [("API_TOKEN", TOKEN), ("API_USER", "anna")];
        let run = with(&world, "apply p -vvv", &set).exits(0);
        for seen in world.seen() {
            if header.is_empty() {
                assert_eq!(seen.path, "/things?key=s3cret%2Ftok%22en%2B1");
            } else {
                assert_eq!(seen.headers[header], value, "{auth}");
            }
        }
        let shown = with(&world, "preview p", &set).exits(0);
        assert!(shown.stdout.contains("***"), "{}", shown.stdout);
        for text in [&run.stdout, &run.stderr, &shown.stdout, &shown.stderr] {
            for secret in [TOKEN, "s3cret", "YW5uYTpzM2NyZXQ"] {
                assert!(!text.contains(secret), "{auth}: {text}");
            }
        }
        with(&world, "apply p --fresh --yes", &[]).exits(3).says("API_TOKEN");
    }
}

#[test]
fn a_token_is_in_no_output_and_no_file_whatever_the_far_side_repeats() {
    // S22
    let world = with_auth("{ bearer: token }");
    let more = "responses: { file: true }\n";
    let pipeline = POST_THINGS.replace("connection: local", "connection: api");
    world.write("pipelines/p.yaml", format!("{pipeline}{more}"));
    world.write("data/things.csv", things(4));
    // Raw, within JSON, percent-encoded and in base64.
    world.answers(
        "* * body.id=t1 -> 400 body='s3cret/tok\"en+1 and s3cret%2Ftok%22en%2B1'\n\
         * * body.id=t2 -> 200 content-type=application/json body='{\"said\":\"s3cret/tok\\\"en+1\"}'\n\
         * * body.id=t3 -> 422 body='czNjcmV0L3RvayJlbisx' x-said='s3cret/tok\"en+1'",
    );
    let set = [
        ("API_TOKEN", TOKEN),
        ("API_USER", "anna"),
        ("RUNNER_LOG", "trace"),
        ("RUNNER_LOG_FILE", "log.jsonl"),
    ];
    let mut said = Vec::new();
    for arguments in [
        "apply p -vvv",
        "apply p --format json",
        "retry p -vvv --format jsonl",
        "status p --files",
        "try p --record t4 --again --yes",
    ] {
        let run = with(&world, arguments, &set);
        said.extend([(arguments.to_owned(), run.stdout), (arguments.to_owned(), run.stderr)]);
    }
    assert!(said.iter().any(|(_, text)| text.contains("***")), "nothing was masked");
    for path in files(&world.path(".runner")).into_iter().chain([world.path("log.jsonl")]) {
        let content = std::fs::read(&path).expect("a file");
        said.push((path.display().to_string(), String::from_utf8_lossy(&content).into_owned()));
    }
    for (place, text) in said {
        for secret in ["s3cret", "czNjcmV0"] {
            assert!(!text.contains(secret), "`{secret}` in {place}:\n{text}");
        }
    }
}

#[test]
fn digests_and_keys_do_not_depend_on_the_token() {
    // S28
    let world = with_auth("{ bearer: token }");
    world.answers("* * -> 422");
    with(&world, "apply p", &[("API_TOKEN", "one-token"), ("API_USER", "a")]).exits(1);
    world.answers("");
    // Another token is no changed meaning: the same run goes on.
    with(&world, "retry p", &[("API_TOKEN", "other-token"), ("API_USER", "a")]).exits(0);
    assert_eq!(world.seen().len(), 4);
}

#[test]
fn a_text_body_is_escaped_by_its_ending() {
    let awkward = "id,name\n1,\"a\"\"<&>'\\b\"\n";
    for (file, content, text, expected) in [
        (
            "b.json.j2",
            "json",
            r#"{"n": {{ record.name }}, "k": {{ record.id }}}"#,
            r#"{"n": "a\"<&>'\\b", "k": "1"}"#,
        ),
        ("b.xml.j2", "text", "<n>{{ record.name }}</n>", "<n>a&quot;&lt;&amp;&gt;&#x27;\\b</n>"),
        ("b.txt.j2", "text", "n={{ record.name }}", "n=a\"<&>'\\b"),
    ] {
        let pipeline = format!(
            "connection: local\nendpoint: {{ method: POST, path: /posted, content: {content}, body_file: {file} }}\n\
             source: {{ file: data/things.csv }}\n"
        );
        let world = World::new().pipeline(&pipeline, awkward).file(file, text).script("* * -> 200");
        world.run("apply p").exits(0);
        let sent = bodies(&world).concat();
        assert_eq!(sent.replace("&#39;", "&#x27;"), expected, "{file}");
    }
}

#[test]
fn every_kind_of_content() {
    for (content, body, kind, expected) in [
        (
            "form",
            "{ a: '{{ record.name }}', b: [1, 'x&y'] }",
            "application/x-www-form-urlencoded",
            "a=thing+1&b=1&b=x%26y",
        ),
        (
            "ndjson",
            "[{ a: '{{ record.id }}' }, { b: 2 }]",
            "application/x-ndjson",
            "{\"a\":\"t1\"}\n{\"b\":2}\n",
        ),
        ("text", "'hello {{ record.name }}'", "text/plain; charset=utf-8", "hello thing 1"),
        ("json", "'{{ record.name }}'", "application/json", "\"thing 1\""),
    ] {
        let pipeline = format!(
            "connection: local\nendpoint: {{ method: POST, path: /posted, content: {content}, body: {body} }}\n\
             source: {{ file: data/things.csv }}\n"
        );
        let world = World::new().pipeline(&pipeline, things(1)).script("* * -> 200");
        world.run("apply p").exits(0);
        let seen = world.seen();
        assert_eq!(seen[0].headers["content-type"], kind);
        assert_eq!(bodies(&world), [expected], "{content}");
    }
    let none = POST_THINGS.replace("path: /things }", "path: /things, content: none }");
    let world = World::new().pipeline(&none, things(1)).script("* * -> 200");
    world.run("apply p").exits(0);
    let seen = world.seen();
    assert!(seen[0].body.is_empty() && !seen[0].headers.contains_key("content-type"));
}

#[test]
fn every_word_of_outcome_rules() {
    let rules = "  outcomes:
    - { status: 404, then: skipped, class: gone, message: 'it is gone' }
    - { status: 409, then: delivered }
    - { status: 200, when: \"{{ response.body.state == 'no' }}\", then: failed, message: '{{ response.body.why }}' }
    - { status: 500, then: retry }
    - { status: [400, 422], when: \"{{ response.body.code == 'MAYBE' }}\", then: in_doubt }
    - { status: 4xx, then: failed, class: other }
  errors: { class: '{{ response.body.code }}', message: '{{ response.body.text }}' }
";
    let pipeline = POST_THINGS.replace(
        "endpoint: { method: POST, path: /things }\n",
        &format!("endpoint:\n  method: POST\n  path: /things\n{rules}"),
    );
    let world = World::new().pipeline(&pipeline, things(8)).script(
        "* * body.id=t1 -> 404\n* * body.id=t2 -> 409\n\
         * * body.id=t3 -> 200 content-type=application/json body='{\"state\":\"no\",\"why\":\"full\"}'\n\
         * * body.id=t4 first=2 -> 500\n\
         * * body.id=t5 -> 422 content-type=application/json body='{\"code\":\"MAYBE\"}'\n\
         * * body.id=t6 -> 422 content-type=application/json body='{\"code\":\"NO\",\"text\":\"x\"}'\n\
         * * body.id=t7 first=1 -> 429",
    );
    world
        .run("apply p --concurrency 1")
        .exits(6)
        .says("4 delivered, 2 failed, 0 invalid, 1 skipped, 1 in doubt");
    assert!(world.outcomes("skipped.csv").contains(",gone,it is gone"), "{}", world.outcomes("skipped.csv"));
    let failed = world.outcomes("failed.csv");
    assert!(failed.contains("full") && failed.contains(",other,x"), "{failed}");
    assert!(world.outcomes("in_doubt.csv").contains("t5"));
    assert_eq!(world.seen().len(), 8 + 2 + 1);
    // A refusal after an attempt that ended unknown settles only itself, unless a rule says more.
    let natural = |rule: &str| {
        PUT_THINGS.replace("  idempotency: natural\n", &format!("  idempotency: natural\n{rule}"))
    };
    for (rule, code) in [
        ("", 6),
        ("  outcomes: [{ status: 404, then: delivered, after_unknown: true }]\n", 0),
        ("  outcomes: [{ status: 404, then: failed, after_unknown: true }]\n", 1),
    ] {
        let world = World::new()
            .pipeline(&natural(rule), things(1))
            .script("* * #1 -> cut_after_effect\n* * -> 404 body=gone");
        let run = world.run("apply p");
        assert_eq!(run.code, code, "{rule}\n{}", run.stderr);
        assert_eq!(world.seen().len(), 2, "{rule}");
    }
    let stop = natural("  outcomes: [{ status: 403, then: stop, message: 'ask the owner' }]\n");
    let world = World::new().pipeline(&stop, things(3)).script("* * -> 403");
    world.run("apply p --concurrency 1").exits(9).says("ask the owner");
    assert_eq!(world.seen().len(), 1);
}

#[test]
fn an_idempotency_key_may_be_said_by_the_endpoint() {
    let keyed = POST_THINGS.replace(
        "path: /things }",
        "path: /things, idempotency: { header: Request-Id, value: 'thing-{{ record.id }}' } }",
    );
    let world = World::new().pipeline(&keyed, things(2)).script("* * #1 -> cut_after_effect");
    world.run("apply p --concurrency 1").exits(0);
    let mut keys: Vec<String> = world
        .seen()
        .iter()
        .map(|seen| seen.headers["request-id"].to_str().expect("text").to_owned())
        .collect();
    keys.sort();
    assert_eq!(keys, ["thing-t1", "thing-t1", "thing-t2"]);
}

#[test]
fn replies_are_held_against_their_schema_and_noted() {
    let pipeline =
        POST_THINGS.replace("path: /things }", "path: /things, response_schema: schemas/reply.json }");
    let world = World::new()
        .pipeline(&pipeline, things(2))
        .file("schemas/reply.json", r#"{"type":"object","required":["ok"]}"#)
        .script("* * body.id=t1 -> 200 content-type=application/json body='{\"ok\":1}'");
    world.run("apply p").exits(0).says("2 delivered");
    let rows = world.outcomes("delivered.csv");
    assert_eq!(rows.matches("response_schema").count(), 1, "{rows}");
}

#[test]
fn policies_of_doubt_that_a_pipeline_chooses() {
    let with = |pipeline: &str, delivery: &str| {
        pipeline.replace("delivery: { ", &format!("delivery: {{ {delivery}, "))
    };
    // At most once: what may have arrived is never repeated, even where a repeat is harmless.
    let world = World::new()
        .pipeline(&with(PUT_THINGS, "mode: at_most_once"), things(2))
        .script("* * #1 -> cut_after_effect\n* * #2 -> 429");
    world.run("apply p --concurrency 1").exits(6).says("1 delivered").says("1 in doubt");
    assert_eq!(world.seen().len(), 3, "what certainly did nothing is repeated");
    world.run("apply p").exits(6);
    assert_eq!(world.seen().len(), 3);
    let world = World::new().pipeline(&with(PUT_THINGS, "mode: at_most_once, in_doubt: resend"), things(2));
    world.run("apply p").exits(3).says("at_most_once");
    let world =
        World::new().pipeline(&with(POST_THINGS, "in_doubt: resend"), things(1)).script("* * #1 -> 500");
    world.run("apply p").exits(3).says("accept_duplicates: true");
    assert!(world.seen().is_empty());
    world.write("pipelines/p.yaml", with(POST_THINGS, "in_doubt: resend, accept_duplicates: true"));
    world.run("apply p").exits(0);
    assert_eq!(world.seen().len(), 2);
    let world = World::new().pipeline(&with(POST_THINGS, "in_doubt: skip"), things(1)).script("* * -> 500");
    world.run("apply p").exits(0).says("1 skipped");
}

#[test]
fn limits_of_time() {
    let with = |delivery: &str| POST_THINGS.replace("delivery: { ", &format!("delivery: {{ {delivery}, "));
    let world = World::new().pipeline(&with("timeout: 100ms"), things(1)).script("* * -> hang");
    world.run("apply p").exits(6).says("1 in doubt");
    let capped = POST_THINGS.replace("retry: { ", "retry: { max_retry_after: 2s, ");
    let world = World::new().pipeline(&capped, things(2)).script("* * -> 429 retry-after=3");
    world.run("apply p --concurrency 1").exits(7).says("max_retry_after");
    let world = World::new().pipeline(&with("durability: process"), things(2));
    world.run("apply p").exits(0);
}

#[test]
fn an_overlay_is_chosen_by_its_name() {
    let world = World::new();
    let url = world.url();
    let world = world
        .file(
            "runner.yaml",
            format!(
                "connections:\n  local: {{ base_url: 'http://127.0.0.1:1' }}\n\
                 environments:\n  live:\n    connections: {{ local: {{ base_url: '{url}' }} }}\n    confirm: true\n    defaults: {{ delivery: {{ concurrency: 3 }} }}\n"
            ),
        )
        .pipeline(&format!("{POST_THINGS}vars: {{ a: x }}\n"), things(2));
    world.run("apply p --env live").exits(2).says("--yes");
    world.run("apply p --env live --no-input").exits(2).says("--yes");
    assert_eq!(world.seen().len(), 0);
    // A command that is proposed goes where this one went.
    world.answers("* * -> 401");
    let flags = "runner apply p --env live --var 'a=b c'";
    let mut command = world.command("apply p --env live --yes --var");
    Run::of(command.arg("a=b c").output().expect("it runs"), &world).exits(9).says(flags);
    let mut command = world.command("status p --env live --var");
    let status = Run::of(command.arg("a=b c").output().expect("it runs"), &world).exits(0);
    assert!(status.stdout.contains(flags), "{}", status.stdout);
    let before = world.seen().len();
    world.answers("");
    with(&world, "apply p --yes --var a=b", &[("RUNNER_ENV", "live")]).exits(0);
    assert_eq!(world.seen().len(), before + 2);
    assert!(world.path(".runner/live/state/p.db").exists());
    assert!(world.run("list settings p --env live").exits(0).stdout.contains("concurrency"));
    world.run("apply p --env lvie").exits(3).says("live");
}

#[test]
fn state_may_lie_elsewhere_and_be_required() {
    let world = World::new().pipeline(POST_THINGS, things(2));
    with(&world, "apply p", &[("RUNNER_STATE", "elsewhere")]).exits(0);
    assert!(world.path("elsewhere/default/state/p.db").exists() && !world.path(".runner").exists());
    world.run("apply p --state-dir elsewhere").exits(0).says("nothing to do");
    assert_eq!(world.seen().len(), 2);
    let url = world.url();
    world.write(
        "runner.yaml",
        format!("connections:\n  local: {{ base_url: '{url}' }}\nstate: kept\nrequire_state: true\n"),
    );
    world.run("apply p").exits(5).says("kept").says("runner init --state");
    assert_eq!(world.seen().len(), 2);
    world.run("init --state").exits(0);
    world.run("apply p").exits(0);
    assert!(world.path("kept/default/state/p.db").exists());
}

#[test]
fn variables_come_from_a_file_but_never_over_the_environment() {
    let world = with_auth("{ bearer: token }")
        .file(".env", "API_TOKEN=from-dotenv\nAPI_USER=u\n")
        .file("other.env", "# said\nexport API_TOKEN='from-other'\nAPI_USER=u\n");
    let token = |at: usize| world.seen()[at].headers["authorization"].to_str().expect("text").to_owned();
    world.run("apply p").exits(0);
    assert_eq!(token(0), "Bearer from-dotenv");
    world.run("apply p --fresh --yes --env-file other.env").exits(0);
    assert_eq!(token(2), "Bearer from-other");
    with(&world, "apply p --fresh --yes", &[("API_TOKEN", "from-process")]).exits(0);
    assert_eq!(token(4), "Bearer from-process");
    world.run("apply p --fresh --yes --env-file none").exits(3).says("API_TOKEN");
    world.run("apply p --fresh --yes --env-file nowhere.env").exits(3).says("nowhere.env");
}

#[test]
fn what_earlier_runs_delivered_is_refused_skipped_or_sent_again_as_the_pipeline_says() {
    for (sync, code, requests) in [("", 5, 2), ("sync: new\n", 0, 3), ("sync: all\n", 0, 5)] {
        let world = World::new().pipeline(&format!("{POST_THINGS}{sync}"), things(2));
        world.run("apply p").exits(0);
        // The same keys and one more, in another order: another input.
        world.write("data/things.csv", "id,name\nt3,c\nt2,b\nt1,a\n");
        let run = world.run("apply p");
        assert_eq!((run.code, world.seen().len()), (code, requests), "{sync}\n{}", run.stderr);
    }
}

#[test]
fn other_input_may_close_an_unfinished_run() {
    for (more, code) in [("", 5), ("on_new_input: close\n", 0)] {
        let world =
            World::new().pipeline(&format!("{PUT_THINGS}{more}"), things(3)).script("* * after=1 -> 401");
        world.run("apply p --concurrency 1").exits(9);
        world.answers("");
        world.write("data/things.csv", "id,name\nn1,new\n");
        let run = world.run("apply p");
        assert_eq!(run.code, code, "{more}{}", run.stderr);
    }
}

#[test]
fn closed_runs_are_kept_as_the_project_says() {
    let world = World::new();
    let url = world.url();
    let world = world
        .file(
            "runner.yaml",
            format!("connections:\n  local: {{ base_url: '{url}' }}\nkeep: {{ runs: 2, days: 1 }}\n"),
        )
        .pipeline(PUT_THINGS, "");
    let apply = |n: u32| {
        world.write("data/things.csv", format!("id,name\nk{n},x\n"));
        world.run("apply p").exits(0);
    };
    let kept = || std::fs::read_dir(world.path(".runner/default/runs/p")).expect("runs").count();
    (1..=4).for_each(apply);
    assert_eq!(kept(), 4, "the young are kept");
    let long_ago = "UPDATE run SET started_at = '2020-01-01T00:00:00Z', closed_at = started_at";
    world.checkpoint("p").execute(long_ago, []).expect("an update");
    apply(5);
    assert!((2..=3).contains(&kept()), "{} runs are kept", kept());
}

#[test]
fn replies_are_kept_once_for_each_outcome_whatever_ends_the_process() {
    let pipeline = format!("{PUT_THINGS}responses: {{ file: true }}\n");
    let world = World::new().pipeline(&pipeline, things(120)).script("* * 7% -> 422\n* * -> delay 2ms");
    let mut starts = 0;
    loop {
        let so_far = world.seen().len() as u64;
        let running = world.start("apply p --concurrency 4");
        if so_far < 100 && world.until(&running, so_far + 17) {
            running.kill(&world);
        } else {
            let mut running = running;
            let run = running.ended(&world);
            assert!([1, 6].contains(&run.code), "{}", run.stderr);
            break;
        }
        starts += 1;
    }
    assert!(starts >= 3, "it was killed {starts} times");
    let text = world.outcomes("responses.ndjson");
    let mut ordinals: Vec<u64> = text
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).expect(line)["ordinal"]
                .as_u64()
                .expect("a number")
        })
        .collect();
    ordinals.sort_unstable();
    assert_eq!(ordinals, (0..120).collect::<Vec<u64>>());
}

#[test]
fn files_of_a_run_are_private_whatever_the_umask() {
    // S31
    let world = World::new().pipeline(&format!("{POST_THINGS}responses: {{ file: true }}\n"), things(3));
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "umask 000; exec \"$0\" apply p", env!("CARGO_BIN_EXE_runner")])
        .current_dir(world.path(""))
        .env_clear();
    Run::of(command.output().expect("it runs"), &world).exits(0);
    let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
    for file in files(&world.path(".runner")) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        let mut folder = file.parent().expect("a folder");
        while folder != world.path(".runner") {
            assert_eq!(mode(folder), 0o700, "{}", folder.display());
            folder = folder.parent().expect("a folder");
        }
    }
    // A folder that others can write to is not trusted.
    let state = world.path(".runner/default/state");
    std::fs::set_permissions(&state, Permissions::from_mode(0o777)).expect("rights");
    world.run("apply p").exits(5).says("others");
}

#[test]
fn file_names_never_come_from_records() {
    // S35
    let world = World::new().pipeline(
        &posting("{ file: data/things.csv }", "key: '{{ record.id }}'\nresponses: { file: true }\n"),
        "id\n../../x\n/etc/x\n..\n\"a\u{0}b\"\n",
    );
    let names = |world: &World| -> Vec<String> {
        files(&world.path(""))
            .iter()
            .filter(|path| !path.starts_with(world.path(".runner")))
            .map(|path| path.display().to_string())
            .collect()
    };
    let before = names(&world);
    world.run("apply p");
    assert_eq!(names(&world), before);
    let expected = [
        "p.db",
        "p.lock",
        "delivered.csv",
        "failed.csv",
        "invalid.csv",
        "skipped.csv",
        "in_doubt.csv",
        "unsent.csv",
        "unreadable.ndjson",
        "responses.ndjson",
        "summary.json",
        "manifest.json",
        "lock",
    ];
    for file in files(&world.path(".runner")) {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(expected.contains(&name.as_str()) || name.starts_with("p."), "{name}");
    }
}

#[test]
fn proxies_of_the_environment_and_redirects_are_not_followed() {
    // S08
    let other = World::new();
    let world = World::new().pipeline(POST_THINGS, things(2)).script(&format!(
        "* * body.id=t1 -> redirect {}/stolen 307\n* * body.id=t2 -> redirect {}/stolen 303",
        other.url(),
        other.url()
    ));
    let proxy = other.url();
    let set: Vec<(&str, &str)> = ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
        .into_iter()
        .map(|name| (name, proxy.as_str()))
        .collect();
    with(&world, "apply p", &set).exits(1).says("2 failed");
    assert_eq!((world.seen().len(), other.seen().len()), (2, 0));
}

#[test]
fn no_core_file_is_written() {
    // S30
    let world = World::new().pipeline(POST_THINGS, things(1)).script("* * -> hang");
    let mut running = world.start("apply p");
    assert!(world.until(&running, 1));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", running.id())).expect("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a line");
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    running.signal(rustix::process::Signal::KILL);
    running.ended(&world);
}

#[test]
fn commands_that_look_open_no_connection() {
    // S43
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    let there = format!("http://{}", listener.local_addr().expect("an address"));
    let world = World::new().pipeline(POST_THINGS, things(3)).script("* * body.id=t2 -> 500");
    world.run("apply p").exits(6);
    world.write(
        "runner.yaml",
        format!("connections:\n  local: {{ base_url: '{there}', check: {{ method: GET, path: /x }} }}\n"),
    );
    for arguments in [
        "validate --data",
        "plan p",
        "preview p --all",
        "status p --files",
        "list",
        "list settings p",
        "resolve p --skip --all",
        "apply p --dry-run",
    ] {
        world.run(arguments);
        let met = listener.accept().map(|_| ()).map_err(|error| error.kind());
        assert_eq!(met, Err(std::io::ErrorKind::WouldBlock), "{arguments}");
    }
}

#[test]
fn the_stand_in_listens_on_loopback_only() {
    // S45
    let world = with_auth("none");
    let run = world.run("sandbox api --listen 0.0.0.0:0");
    assert!([2, 3].contains(&run.code), "{}: {}", run.code, run.stderr);
    assert!(run.stderr.contains("loopback"), "{}", run.stderr);
}

#[test]
fn link_local_addresses_are_refused_in_every_spelling() {
    // S07
    for host in [
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "[::ffff:169.254.169.254]",
        "[fe80::1]",
    ] {
        let world = World::new()
            .file("runner.yaml", format!("connections:\n  local: {{ base_url: 'http://{host}' }}\n"))
            .pipeline(POST_THINGS, things(1));
        let run = world.run("apply p");
        assert!([3, 9].contains(&run.code), "{host}: {}\n{}", run.code, run.stderr);
        assert!(run.stderr.contains("link-local"), "{host}: {}", run.stderr);
    }
}

#[test]
fn a_switched_off_check_of_certificates_is_said_at_every_start() {
    // S02
    let world = World::new()
        .file(
            "runner.yaml",
            "connections:\n  local: { base_url: 'https://127.0.0.1:1', tls: { verify: false } }\n",
        )
        .pipeline(POST_THINGS, things(1));
    for _ in 0..2 {
        world.run("apply p").exits(7).says("warning[").says("certificate");
    }
}

#[test]
fn less_durability_is_said_where_one_looks() {
    let process = POST_THINGS.replace("delivery: { ", "delivery: { durability: process, ");
    let world = World::new().pipeline(&process, things(1));
    world.run("validate p").exits(0).says("warning[durability-process]");
    world.run("apply p").exits(0);
    for command in ["status", "status p"] {
        assert!(world.run(command).exits(0).stdout.contains("durability  process"), "{command}");
    }
}

#[test]
fn to_begin_again_over_unfinished_work_needs_a_yes() {
    let world = World::new().pipeline(PUT_THINGS, things(3)).script("* * after=1 -> 401");
    world.run("apply p --resume").exits(5);
    world.run("apply p --concurrency 1").exits(9);
    world.answers("");
    let before = world.seen().len();
    let run = world.run("apply p --fresh").says("--yes");
    assert_eq!((run.code, world.seen().len()), (2, before));
    world.run("apply p --fresh --yes").exits(0);
    assert_eq!(world.seen().len(), before + 3);
}

#[test]
fn several_pipelines_run_one_after_another() {
    let world = World::new()
        .pipeline(POST_THINGS, things(1))
        .file("pipelines/a.yaml", POST_THINGS)
        .file("pipelines/z.yaml", POST_THINGS)
        .script("* * -> 422");
    world.run("apply pipelines").exits(1);
    assert_eq!(world.seen().len(), 1, "the first that does not end well stops the list");
    let run = world.run("apply pipelines --keep-going --format json").exits(1);
    assert_eq!(world.seen().len(), 3);
    assert_eq!(run.json()["summary"]["earlier"].as_array().map(Vec::len), Some(2));
    let more = World::new().pipeline(POST_THINGS, things(9)).script("* * -> 422");
    more.run("apply p --stop-after 2 --concurrency 1").exits(9);
    assert_eq!(more.seen().len(), 2);
}

#[test]
fn names_of_ours_in_the_input_are_refused_and_our_own_columns_are_dropped() {
    let world = World::new().pipeline(POST_THINGS, "id,_runner_x\n1,a\n");
    world.run("apply p").exits(4).says("_runner_x");
    let world = World::new().pipeline(POST_THINGS, "id,_runner_run,_runner_status\n1,a,b\n");
    world.run("apply p").exits(0);
    assert_eq!(bodies(&world), [r#"{"id":"1"}"#]);
}

#[test]
fn a_comparison_of_text_with_a_number_is_found_before_anything_is_sent() {
    for comparison in ["> 17", "== 17"] {
        let select = format!("select: {{ where: '{{{{ record.name {comparison} }}}}' }}\n");
        let world = World::new().pipeline(&format!("{POST_THINGS}{select}"), things(2));
        world.run("validate p").says("| int");
    }
}

#[test]
fn a_whole_url_stays_on_its_connection() {
    // S06
    let world = World::new();
    let url = world.url();
    let pipeline = |to: &str| POST_THINGS.replace("path: /things", &format!("url: '{to}'"));
    let world = world.pipeline(&pipeline(&format!("{url}/things")), things(1));
    world.run("apply p").exits(0);
    world.write("pipelines/p.yaml", pipeline("http://other.example/things"));
    world.run("apply p").exits(3).says("connection");
    assert_eq!(world.seen().len(), 1);
}

#[test]
fn values_of_records_are_not_in_what_is_said_by_default() {
    // S29
    let input = "id,mail\n1,anna@example.com\n2,bob@example.com\n3,\"x\nerror[forged]: y\"\n";
    let more = "key: '{{ record.mail }}'\n";
    let world = World::new()
        .pipeline(&posting("{ file: data/things.csv }", more), input)
        .script("* * body.id=1 -> 422\n* * body.id=2 -> 500");
    for arguments in
        ["apply p", "retry p", "status p", "plan p", "apply p --format json", "apply p --dry-run"]
    {
        let run = world.run(arguments);
        for text in [&run.stdout, &run.stderr] {
            assert!(!text.contains("@example.com"), "{arguments}:\n{text}");
            assert!(!text.lines().any(|line| line.starts_with("error[forged]")), "{arguments}:\n{text}");
        }
    }
}

#[test]
fn a_body_against_its_schema_is_not_sent() {
    let schema = r#"{"type":"object","properties":{"name":{"maxLength":7}}}"#;
    let pipeline = POST_THINGS.replace("path: /things }", "path: /things, body_schema: schemas/body.json }");
    let world = World::new().pipeline(&pipeline, things(10)).file("schemas/body.json", schema);
    world.run("apply p").exits(1).says("9 delivered, 0 failed, 1 invalid");
    assert!(world.outcomes("invalid.csv").contains("/name"), "{}", world.outcomes("invalid.csv"));
    assert_eq!(world.seen().len(), 9);
}

#[test]
fn a_body_that_breaks_off_is_unknown_only_where_a_rule_has_to_read_it() {
    let rule = "outcomes: [{ status: 2xx, when: \"{{ response.body.state == 'no' }}\", then: failed }]";
    let capture = "captures: { id: '{{ response.body.id }}' }";
    let body = "content-type=application/json body='{\"id\":\"17\",\"more\":\"....................\"}'";
    for (more, code, class) in [(rule, 6, "reply-unreadable"), (capture, 0, "capture_missing")] {
        let pipeline = POST_THINGS.replace("path: /things }", &format!("path: /things, {more} }}"));
        let world = World::new().pipeline(&pipeline, things(1)).script("* * -> cut_in_body");
        world.run("apply p").exits(code);
        let rows = world.outcomes("in_doubt.csv") + &world.outcomes("delivered.csv");
        assert!(rows.contains(class), "{rows}");
        assert_eq!(world.seen().len(), 1);
        let whole = World::new().pipeline(&pipeline, things(1)).script(&format!("* * -> 200 {body}"));
        whole.run("apply p").exits(0);
    }
}

#[test]
fn a_request_is_made_of_what_endpoint_and_pipeline_say() {
    let pipeline = "\
connection: local
endpoint:
  method: POST
  path: '/things/{{ params.id }}/{{ params.part }}'
  params:
    id: { required: true }
    part: { default: main }
    n: { type: integer }
  query: { a: '{{ record.name }}', b: [1, 2], c: null, n: '{{ params.n }}' }
  headers: { X-One: 'one {{ run.pipeline }}' }
source: { file: data/things.csv }
params: { n: '{{ record.count | int + 1 }}' }
headers: { X-Two: '{{ vars.two }}' }
vars: { two: second }
method: PUT
";
    let world = World::new().pipeline(pipeline, "id,name,count\nt 1,a&b,4\n").script("* * -> 200");
    world.run("apply p").exits(0);
    let seen = &world.seen()[0];
    assert_eq!(seen.method.as_str(), "PUT");
    assert_eq!(seen.path, "/things/t%201/main?a=a%26b&b=1&b=2&n=5");
    assert_eq!(
        (&seen.headers["x-one"], &seen.headers["x-two"]),
        (&"one p".parse().unwrap(), &"second".parse().unwrap())
    );
    assert_eq!(
        bodies(&world),
        [r#"{"name":"a&b","count":"4"}"#],
        "a field that filled a parameter is left out"
    );
    world.write("pipelines/p.yaml", format!("{pipeline}body: '{{{{ record }}}}'\n"));
    world.run("apply p --fresh").exits(0);
    assert_eq!(bodies(&world)[1], r#"{"id":"t 1","name":"a&b","count":"4"}"#);
}

#[test]
fn programs_get_what_is_promised_to_them() {
    let world = World::new()
        .pipeline(&posting("{ file: data/things.csv }", "key: '{{ record.id }}'\n"), things(4))
        .script("* * body.id=t1 -> 422\n* * body.id=t2 -> 500");
    let run = with(&world, "apply p", &[("RUNNER_FORMAT", "json"), ("RUNNER_PROGRESS", "none")]).exits(6);
    let answer = run.json();
    assert_eq!(
        (&answer["class"], &answer["exit_code"], &answer["command"]),
        (&"in_doubt".into(), &6.into(), &"apply".into())
    );
    let summary = &answer["summary"];
    let counts = serde_json::json!({"total": 4, "delivered": 2, "failed": 1, "invalid": 0, "skipped": 0, "in_doubt": 1, "unsent": 0});
    assert_eq!(summary["counts"], counts);
    assert_eq!(summary["attempts"], 4);
    for key in ["run_id", "state", "seconds", "files"] {
        assert!(!summary[key].is_null(), "{key}: {summary}");
    }
    let files: Vec<&String> = summary["files"].as_object().expect("paths").keys().collect();
    assert_eq!(files, ["delivered", "failed", "in_doubt"]);
    world.write("data/things.csv", "id,name\nn1,x\nn2,x\n");
    world.answers("");
    let events = world.run("apply p --format jsonl -v").exits(0);
    let events: Vec<serde_json::Value> =
        events.stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let named = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!((named("run_started"), named("record"), named("run_ended")), (1, 2, 1), "{events:?}");
    // What is over keeps its class, and says that there is nothing to do.
    let world = World::new().pipeline(POST_THINGS, things(2)).script("* * body.id=t1 -> 422");
    world.run("apply p").exits(1);
    world.run("apply p").exits(1).says("nothing to do");
    let quiet = world.run("apply p -q").exits(1);
    assert!(quiet.stderr.lines().count() <= 1, "{}", quiet.stderr);
}

#[test]
fn a_key_in_the_query_or_in_headers_of_the_connector_is_in_no_file() {
    // S22
    let world = with_auth("{ api_key: { query: key, value: token } }");
    let connector = world.read("templates/api/connector.yaml");
    world.write(
        "templates/api/connector.yaml",
        format!("{connector}headers: {{ X-Also: '{{{{ connection.token }}}}' }}\n"),
    );
    let pipeline = POST_THINGS.replace("connection: local", "connection: api");
    world.write("pipelines/p.yaml", format!("{pipeline}responses: {{ file: true }}\n"));
    world.answers("* * #1 -> 500");
    let set = [("API_TOKEN", TOKEN), ("API_USER", "anna")];
    let run = with(&world, "apply p -vvv", &set).exits(6);
    assert_eq!(world.seen()[0].headers["x-also"], TOKEN);
    let again = with(&world, "try p --record t1 --again -vvv", &set);
    let mut said = vec![run.stdout, run.stderr, again.stdout, again.stderr];
    for path in files(&world.path(".runner")) {
        said.push(String::from_utf8_lossy(&std::fs::read(path).expect("a file")).into_owned());
    }
    for text in said {
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[test]
fn links_under_names_of_ours_are_refused() {
    // S32
    let world = World::new()
        .pipeline(&format!("{PUT_THINGS}responses: {{ file: true }}\n"), things(4))
        .script("* * after=2 -> 401");
    world.run("apply p --concurrency 1").exits(9);
    world.answers("");
    let responses = files(&world.path(".runner/default/runs"))
        .into_iter()
        .find(|path| path.ends_with("responses.ndjson"))
        .expect("replies");
    let aside = world.path("aside");
    std::fs::rename(&responses, &aside).expect("a move");
    let before = std::fs::read(&aside).expect("a file");
    std::os::unix::fs::symlink(&aside, &responses).expect("a link");
    world.run("apply p").exits(5).says("responses.ndjson");
    assert_eq!(std::fs::read(&aside).expect("a file"), before);
    let world = World::new().pipeline(PUT_THINGS, things(1)).file("elsewhere/x", "");
    std::fs::create_dir_all(world.path(".runner/default")).expect("folders");
    std::os::unix::fs::symlink(world.path("elsewhere"), world.path(".runner/default/state")).expect("a link");
    let run = world.run("apply p");
    assert_eq!((run.code, world.seen().len()), (5, 0), "{}", run.stderr);
}

#[test]
fn of_many_starts_at_once_one_runs() {
    // S34
    let world = World::new().pipeline(POST_THINGS, things(12)).script("* * -> delay 150ms");
    let mut starts: Vec<_> = (0..8).map(|_| world.start("apply p --concurrency 2")).collect();
    let mut codes: Vec<i32> = starts.iter_mut().map(|start| start.ended(&world).code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 5, 5, 5, 5, 5, 5, 5]);
    assert_eq!(world.seen().len(), 12);
}

#[test]
fn what_drives_a_terminal_is_escaped_wherever_it_comes_from() {
    // S37
    let world = World::new()
        .pipeline(
            &posting("{ file: data/things.csv }", "key: { value: '{{ record.id }}', public: true }\n"),
            "id\n\"a\u{1b}[31m\u{202e}b\"\n",
        )
        .script("* * -> 422 message=\"no\u{1b}[2J\u{202e}\u{9b}\"");
    for arguments in ["apply p -vvv", "status p", "retry p -v", "preview p", "plan p"] {
        let run = world.run(arguments);
        for text in [&run.stdout, &run.stderr] {
            let found = text.chars().find(|char| matches!(char, '\u{1b}' | '\u{9b}' | '\u{202e}'));
            assert_eq!(found, None, "{arguments}: {text:?}");
        }
    }
}

#[test]
fn the_command_that_goes_on_names_the_input_of_this_one() {
    let world = World::new()
        .pipeline(PUT_THINGS, things(1))
        .file("data/other.csv", things(3))
        .script("* * after=1 -> 401");
    world
        .run("apply p --input data/other.csv --concurrency 1")
        .exits(9)
        .says("runner apply p --input data/other.csv");
    world.answers("");
    world.run("apply p --input data/other.csv").exits(0).says("3 delivered");
}
