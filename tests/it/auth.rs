//! Credentials that are fetched, signed or shown in a handshake, with the real binary.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::AUTHORIZATION;
use rcgen::KeyPair;
use runner::sandbox::{Options, PathPattern, Route, Rules, Sandbox, ScriptedReply};

use crate::bad::tls::{Authority, Server};
use crate::world::{POST_THINGS, PUT_THINGS, Run, World, things};

pub const SECRET: &str = "client-secret-4711";

/// A token endpoint of the far side that gives one token after the other.
pub const TOKENS: &str = r#"
POST /login #1 -> 200 body='{"access_token":"first-token-0815","token_type":"Bearer","expires_in":3600}'
POST /login #2 -> 200 body='{"access_token":"second-token-0815","token_type":"Bearer","expires_in":3600}'
POST /login -> 200 body='{"access_token":"later-token-0815","token_type":"Bearer","expires_in":3600}'
"#;

/// A project whose connection gets its tokens from the far side.
pub fn oauth2(pipeline: &str, n: usize, script: &str) -> World {
    let world = World::new();
    let yaml = format!(
        "connections:\n  local:\n    base_url: \"{url}\"\n    id: client-7\n    secret: {{ env: CLIENT_SECRET }}\n    \
         auth:\n      oauth2:\n        grant: client_credentials\n        token_url: \"{url}/login\"\n        \
         client_id: id\n        client_secret: secret\n        scope: things.write\n    \
         check: {{ path: /things/t1 }}\n",
        url = world.url()
    );
    world.file("runner.yaml", yaml).pipeline(pipeline, things(n)).script(script)
}

pub fn run(world: &World, arguments: &str) -> Run {
    Run::of(world.command(arguments).env("CLIENT_SECRET", SECRET).output().expect("it runs"), world)
}

/// The tokens that requests to the API carried, in their order.
pub fn carried(world: &World) -> Vec<String> {
    let value = |seen: &runner::sandbox::Seen| {
        let value = seen.headers.get(AUTHORIZATION).map(|value| value.to_str().expect("text").to_owned());
        value.unwrap_or_default()
    };
    world.seen().iter().filter(|seen| seen.path != "/login").map(value).collect()
}

pub fn asked_for_tokens(world: &World) -> usize {
    world.seen().iter().filter(|seen| seen.path == "/login").count()
}

/// Fails if one of the texts stands in a file below a folder.
#[track_caller]
pub fn stands_nowhere(folder: &Path, texts: &[&str]) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            stands_nowhere(&path, texts);
            continue;
        }
        let content = std::fs::read(&path).expect("a file");
        for text in texts {
            let found = content.windows(text.len()).any(|part| part == text.as_bytes());
            assert!(!found, "{text} stands in {}", path.display());
        }
    }
}

#[test]
fn one_token_serves_all_lanes_and_stands_in_no_file() {
    // S22
    let pipeline =
        PUT_THINGS.replace("delivery: { ", "responses: { keep: true }\ndelivery: { concurrency: 64, ");
    let pipeline = pipeline.replace("responses: { keep: true }\n", "");
    // Every reply repeats the token.
    let echo = format!("{TOKENS}PUT /things/t7 -> 400 class=X message=\"not with first-token-0815\"\n");
    let world = oauth2(&pipeline, 300, &echo);
    let ended = run(&world, "apply p -vvv").exits(1).says("299 delivered");
    assert_eq!(asked_for_tokens(&world), 1);
    let tokens = carried(&world);
    assert_eq!(tokens.len(), 300);
    run(&world, "check-connection local").exits(0);
    assert_eq!(asked_for_tokens(&world), 2);
    assert!(tokens.iter().all(|token| token == "Bearer first-token-0815"));
    let asked = world.seen().into_iter().find(|seen| seen.path == "/login").expect("a token call");
    assert_eq!(&asked.body[..], b"grant_type=client_credentials&scope=things.write");
    let secrets = ["first-token-0815", SECRET];
    for text in secrets {
        assert!(!ended.stdout.contains(text) && !ended.stderr.contains(text), "{text} is shown");
    }
    assert!(ended.stderr.contains("not with ***"), "{}", ended.stderr);
    stands_nowhere(&world.path(".runner"), &secrets);
}

#[test]
fn a_token_that_the_api_refuses_is_renewed_once_for_all_lanes() {
    // A far side that takes every token but the first it gave.
    let given = AtomicUsize::new(0);
    let path = PathPattern::parse("/things/{id}").expect("a path");
    let mut rules = Rules::new(vec![Route::new("put", http::Method::PUT, path)]);
    rules.token = Some(Box::new(move |_| {
        let token = format!("token-number-{}", given.fetch_add(1, Ordering::SeqCst) + 1);
        ScriptedReply::json(200, &serde_json::json!({ "access_token": token, "token_type": "bearer" }))
    }));
    rules.auth = Some(Box::new(|knock| {
        let token = knock.headers.get(AUTHORIZATION).expect("a token");
        token != "Bearer token-number-1"
    }));
    let far_side = Sandbox::start(rules, Options::default()).expect("it starts");
    let pipeline = PUT_THINGS.replace("delivery: { ", "delivery: { concurrency: 64, ");
    let world = oauth2(&pipeline, 200, "");
    let yaml = world.read("runner.yaml").replace("/login", "/.sandbox/token");
    world.write("runner.yaml", yaml.replace(&world.url(), &far_side.url()));
    run(&world, "apply p").exits(0).says("200 delivered");
    let seen = far_side.journal();
    let (tokens, calls): (Vec<_>, Vec<_>) = seen.iter().partition(|seen| seen.path == "/.sandbox/token");
    assert_eq!(tokens.len(), 2);
    let with_first =
        calls.iter().filter(|seen| seen.headers[AUTHORIZATION] == "Bearer token-number-1").count();
    assert!((1..=64).contains(&with_first), "{with_first}");
    assert_eq!(calls.len(), 200 + with_first, "each refused request went out once more");
    assert_eq!(far_side.tally().requests, calls.len() as u64, "calls for tokens are not counted");
}

#[test]
fn a_token_that_is_refused_again_halts_the_run() {
    let script = format!("{TOKENS}POST /things -> 401\n");
    let world = oauth2(&POST_THINGS.replace("delivery: { ", "delivery: { concurrency: 1, "), 20, &script);
    run(&world, "apply p").exits(9).says("credentials-refused").says("CLIENT_SECRET");
    assert_eq!(carried(&world), ["Bearer first-token-0815", "Bearer second-token-0815"]);
    // A start later on goes on where this one ended.
    world.answers(TOKENS);
    run(&world, "apply p").exits(0).says("20 delivered");
    assert_eq!(world.far_side().objects("/things").len(), 20);
}

#[test]
fn a_rule_that_takes_401_for_an_answer_does_not_ask_for_a_token_each_time() {
    let pipeline =
        POST_THINGS.replace("path: /things }", "path: /things, outcomes: [{ status: 401, then: failed }] }");
    let world = oauth2(&pipeline, 20, &format!("{TOKENS}POST /things -> 401\n"));
    run(&world, "apply p").exits(1).says("20 failed");
    assert_eq!(asked_for_tokens(&world), 2);
}

#[test]
fn a_token_endpoint_that_refuses_halts_the_run_before_anything_is_sent() {
    let body = r#"'{"error":"invalid_client","error_description":"no client-secret-4711 here"}'"#;
    let world = oauth2(POST_THINGS, 200, &format!("POST /login -> 401 body={body}\n"));
    let ended = run(&world, "apply p").exits(9).says("token-refused").says("`local`").says("invalid_client");
    let ended = ended
        .says("no *** here")
        .says("0 delivered")
        .says("200 unsent")
        .says("nothing was sent\n")
        .says("[HOST]");
    assert!(!ended.stderr.contains(SECRET), "{}", ended.stderr);
    assert_eq!((asked_for_tokens(&world), world.seen().len()), (1, 1));
    run(&world, "check-connection local").exits(9).says("invalid_client");
    stands_nowhere(&world.path(".runner"), &[SECRET]);
}

#[test]
fn a_token_endpoint_that_is_down_is_asked_again_like_a_far_side() {
    let world =
        oauth2(POST_THINGS, 5, &format!("POST /login first=2 -> 503\n{}", TOKENS.replace("#1", "#3")));
    run(&world, "apply p").exits(0).says("5 delivered").says("0 in doubt");
    let world = oauth2(POST_THINGS, 5, "POST /login -> 503\n");
    run(&world, "apply p").exits(7).says("token-unavailable").says("answered 503").says("5 unsent");
    assert!(carried(&world).is_empty());
}

/// A connector with settings and `auth`, an endpoint and a pipeline of it.
fn connector(auth: &str, settings: &[&str]) -> World {
    let (mut declared, mut given) = (String::new(), String::new());
    for name in settings {
        declared.extend(["  ", name, ": { type: string, secret: true }\n"]);
        given.extend(["    ", name, ": { env: ", &name.to_uppercase(), " }\n"]);
    }
    World::new()
        .file(
            "templates/x/connector.yaml",
            format!("settings:\n{declared}base_url: https://api.example.com/v1\nauth: {auth}\ncheck: {{ path: /things }}\n"),
        )
        .file(
            "templates/x/add.yaml",
            "method: POST\npath: /things\nquery: { q: 'a b+c' }\nparams: { name: { required: true } }\nbody: { name: '{{ params.name }}' }\n",
        )
        .file("runner.yaml", format!("connections:\n  x:\n    connector: x\n{given}"))
        .pipeline(
            "connection: x\nendpoint: x/add\nparams: { name: '{{ record.name }}' }\nsource: { file: data/things.csv }\nkey: '{{ record.id }}'\n",
            things(5),
        )
}

const KINDS: [(&str, &[&str], &str); 8] = [
    (
        "{ oauth2: { grant: client_credentials, token_url: 'https://login.example.com/token', client_id: id, client_secret: key, audience: api } }",
        &["id", "key"],
        "# ACCESS_TOKEN: the `access_token` that https://login.example.com/token gives, with $ID, $KEY",
    ),
    (
        "{ oauth2: { grant: refresh_token, send: body, token_url: 'https://login.example.com/token', client_id: id, refresh_token: key } }",
        &["id", "key"],
        "Bearer $ACCESS_TOKEN",
    ),
    (
        "{ oauth2: { grant: password, token_url: 'https://login.example.com/token', client_id: id, user: name, password: key, params: { resource: '{{ connection.id }}' } } }",
        &["id", "name", "key"],
        "Bearer $ACCESS_TOKEN",
    ),
    (
        "{ jwt: { algorithm: RS256, key: key, issuer: '{{ connection.id }}', claims: { aud: [a, b], n: 1 } } }",
        &["id", "key"],
        "# SIGNED_TOKEN: the token that is signed, with $KEY",
    ),
    ("{ jwt: { algorithm: HS256, key: key, header: X-Jwt, scheme: '' } }", &["key"], "X-Jwt: $SIGNED_TOKEN"),
    (
        "{ hmac: { key: key, header: X-Signature, prefix: 'v1=', sign: [method, path, query, time, body], time: { header: X-Time, format: http } } }",
        &["key"],
        "X-Signature: v1=$SIGNATURE",
    ),
    (
        "{ hmac: { algorithm: sha512, encoding: base64, key: key, header: X-Signature, join: '', sign: [body_sha256] } }",
        &["key"],
        "X-Signature: $SIGNATURE",
    ),
    (
        "{ aws_sigv4: { access_key: id, secret_key: key, region: eu-central-1, service: sqs } }",
        &["id", "key"],
        "--aws-sigv4 'aws:amz:eu-central-1:sqs'",
    ),
];

#[test]
fn a_session_token_is_signed_where_there_is_one() {
    let auth = "{ aws_sigv4: { access_key: id, secret_key: key, session_token: session, region: eu-central-1, service: sqs } }";
    let world = connector(auth, &["id", "key", "session"]);
    let far_side = World::new();
    let optional = world
        .read("templates/x/connector.yaml")
        .replace(
            "session: { type: string, secret: true }",
            "session: { type: string, secret: true, required: false }",
        )
        .replace("https://api.example.com/v1", &far_side.url());
    world.write("templates/x/connector.yaml", &optional);
    let given = world.read("runner.yaml");
    let with = |arguments: &str, session: Option<&str>| {
        let mut command = world.command(arguments);
        command.env("ID", "AKIDEXAMPLE").env("KEY", "a-secret-key");
        if let Some(session) = session {
            command.env("SESSION", session);
        }
        Run::of(command.output().expect("it runs"), &world).exits(0)
    };
    with("apply p", Some("a-session-token")).says("5 delivered");
    // Not there, empty, and not named by the connection.
    with("apply p --fresh", None);
    with("apply p --fresh", Some(""));
    world.write("runner.yaml", given.replace("    session: { env: SESSION }\n", ""));
    with("apply p --fresh", Some("a-session-token"));
    world.write("templates/x/connector.yaml", optional.replace("required: false", "default: ''"));
    with("apply p --fresh", Some("a-session-token"));
    let seen = far_side.seen();
    for (at, seen) in seen.iter().enumerate() {
        let token = seen.headers.get("x-amz-security-token").map(|token| token.to_str().expect("text"));
        assert_eq!(token, (at < 5).then_some("a-session-token"), "{at}");
        let signed = seen.headers[AUTHORIZATION].to_str().expect("text").contains("x-amz-security-token");
        assert_eq!(signed, at < 5, "{at}");
    }
    assert_eq!(seen.len(), 25);
    assert!(!with("preview p --as curl --limit 1", None).stdout.contains("Security-Token"));
    world.write("templates/x/connector.yaml", &optional);
    world.write("runner.yaml", &given);
    let curl = with("preview p --as curl --limit 1", Some("x-session")).stdout;
    assert!(curl.contains("X-Amz-Security-Token: $SESSION") && !curl.contains("x-session"), "{curl}");
    with("apply p --sandbox", None).says("5 delivered");
    with("apply p --sandbox --fresh", Some("a-session-token")).says("5 delivered");
}

#[test]
fn a_setting_that_auth_needs_is_not_left_out_in_silence() {
    for auth in [
        "{ bearer: key }",
        "{ hmac: { key: key, header: X-S, sign: [body] } }",
        "{ oauth2: { grant: client_credentials, token_url: 'https://x.test', client_id: id, client_secret: key } }",
    ] {
        let world = connector(auth, &["id", "key"]);
        let optional = world.read("templates/x/connector.yaml").replace(
            "key: { type: string, secret: true }",
            "key: { type: string, secret: true, required: false }",
        );
        world.write("templates/x/connector.yaml", optional);
        world.run("apply p").exits(3).says("missing-setting").says("`key`");
    }
}

#[test]
fn every_kind_works_in_the_sandbox_and_offline_without_a_secret() {
    for (auth, settings, shown) in KINDS {
        let world = connector(auth, settings);
        world.run("validate --strict p").exits(0);
        let curl = world.run("preview p --as curl --limit 1").exits(0);
        assert!(curl.stdout.contains(shown), "{auth}: {}", curl.stdout);
        world.run("plan p").exits(0);
        world.run("apply p").exits(3).says("variable-unset");
        world.run("apply p --sandbox").exits(0).says("5 delivered");
        world.run("apply p --sandbox").exits(0).says("nothing to do");
    }
}

#[test]
fn the_stand_in_refuses_what_is_signed_by_another_key() {
    for (auth, settings, _) in KINDS {
        let world = connector(auth, settings);
        // The stand-in knows no key of the environment; the binary proves itself with one.
        let served = crate::world::Running::of(
            &mut world.command("sandbox x --listen 127.0.0.1:0 --journal j.ndjson"),
        );
        let url = served.first_line();
        let yaml = world.read("templates/x/connector.yaml").replace("https://api.example.com", &url);
        world.write(
            "templates/x/connector.yaml",
            yaml.replace("https://login.example.com/token", &format!("{url}/.sandbox/token")),
        );
        let with = |key: &str| {
            let mut command = world.command("apply p --fresh");
            command.env("ID", "sandbox-token").env("NAME", "sandbox-token").env("KEY", key);
            Run::of(command.output().expect("it runs"), &world)
        };
        if auth.contains("RS256") {
            continue;
        }
        with("sandbox-token").exits(0);
        if auth.contains("jwt") || auth.contains("hmac") || auth.contains("sigv4") {
            with("another-key").exits(9).says("credentials-refused");
        }
        drop(served.kill(&world));
        // A form for a token holds secrets, and signatures are as good as these.
        let journal = world.read("j.ndjson");
        assert_eq!(journal.contains(".sandbox/token"), auth.contains("oauth2"));
        for text in ["grant_type", "Bearer ", "Signature=", "v1="] {
            assert!(!journal.contains(text), "{auth}: {journal}");
        }
    }
}

#[test]
fn mistakes_are_found_before_anything_is_sent() {
    for (auth, rule) in [
        (
            "{ oauth2: { grant: refresh_token, token_url: 'https://x.test', client_id: key } }",
            "`oauth2` needs `refresh_token`",
        ),
        (
            "{ oauth2: { grant: client_credentials, token_url: 'https://x.test', client_id: key } }",
            "`oauth2` needs `client_secret`",
        ),
        (
            "{ oauth2: { grant: client_credentials, token_url: 'http://x.test/t', client_id: key, client_secret: key } }",
            "plain-http",
        ),
        (
            "{ oauth2: { grant: client_credentials, token_url: 'https://169.254.169.254/t', client_id: key, client_secret: key } }",
            "address-refused",
        ),
        (
            "{ oauth2: { grant: client_credentials, token_url: 'https://x.test/{{ connection.key }}', client_id: key, client_secret: key } }",
            "secret-in-url",
        ),
        (
            "{ oauth2: { grant: client_credentials, token_url: 'https://x.test/?a=b', client_id: key, client_secret: key } }",
            "token-url-part",
        ),
        (
            "{ oauth2: { grant: client_credentials, token_url: 'https://x.test', client_id: key, client_secret: key, params: { scope: a } } }",
            "is not set by `params`",
        ),
        ("{ hmac: { key: key, header: X-S, sign: [time, body] } }", "no header tells it"),
        ("{ hmac: { key: key, header: X-S } }", "`hmac` needs `sign`"),
        ("{ hmac: { key: key, header: Host, sign: [body] } }", "header-not-allowed"),
        ("{ jwt: { algorithm: HS256, key: key, claims: { exp: 1 } } }", "is set by `lifetime`"),
        ("{ jwt: { algorithm: ES384, key: key } }", "unknown-word"),
        ("{ jwt: { algorithm: HS256, key: key }, bearer: key }", "exactly one kind"),
        ("{ aws_sigv4: { access_key: key, secret_key: key, region: x } }", "`aws_sigv4` needs `service`"),
    ] {
        connector(auth, &["key"]).run("validate p").exits(3).says(rule);
    }
    let world = connector("{ jwt: { algorithm: RS256, key: key } }", &["key"]);
    let ended =
        Run::of(world.command("apply p").env("KEY", "hunter2-hunter2").output().expect("it runs"), &world);
    let ended = ended.exits(3).says("signing-key").says("nothing was sent");
    assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    // What `auth` sets, no template sets.
    for (auth, header) in [
        ("{ hmac: { key: key, header: X-S, sign: [time], time: { header: X-Time } } }", "X-Time"),
        ("{ jwt: { algorithm: HS256, key: key, header: X-Jwt } }", "X-Jwt"),
        ("{ aws_sigv4: { access_key: key, secret_key: key, region: x, service: y } }", "X-Amz-Date"),
        ("{ api_key: { header: X-Key, value: key } }", "X-Key"),
    ] {
        let world = connector(auth, &["key"]);
        let endpoint = world.read("templates/x/add.yaml");
        world.write("templates/x/add.yaml", format!("{endpoint}headers: {{ {header}: mine }}\n"));
        world.run("validate p").exits(3).says("header-name").says("is set by the connection's `auth`");
    }
}

/// A project whose far side asks for a client certificate.
fn mutual(server: &Server, authority: &Authority, tls: &str) -> World {
    let yaml = format!(
        "connections:\n  local:\n    base_url: \"https://localhost:{}\"\n    tls: {{ ca: ca.pem{tls} }}\n    \
         check: {{ path: /things }}\n",
        server.port()
    );
    let world = World::new().file("runner.yaml", yaml).file("ca.pem", authority.pem());
    world.pipeline(POST_THINGS, things(3))
}

#[test]
fn a_client_certificate_is_shown_to_a_far_side_that_asks_for_it() {
    let (authority, stranger) = (Authority::new("authority"), Authority::new("stranger"));
    let server = Server::demanding(authority.certify("localhost", false), &authority);
    let identity = |authority: &Authority| authority.certify("client", false).to_pem();
    let write = |world: World, (certificate, key): (String, String)| {
        let world = world.file("client.pem", certificate).file("client.key", key);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(world.path("client.key"), mode).expect("a mode");
        world
    };
    let tls = ", cert: client.pem, key: client.key";
    let world = write(mutual(&server, &authority, tls), identity(&authority));
    world.run("check-connection local").exits(0);
    world.run("apply p").exits(0).says("3 delivered");
    assert_eq!(server.requests(), 4);

    let world = write(mutual(&server, &authority, tls), identity(&stranger));
    world.run("apply p").exits(9).says("client-certificate").says("0 in doubt");
    let world = mutual(&server, &authority, "");
    world.run("apply p").exits(9).says("client-certificate").says("0 in doubt");
    assert_eq!(server.requests(), 4, "nothing was read of those who did not prove themselves");

    let world = mutual(&server, &authority, tls).file("client.pem", "x").file("client.key", "y");
    world.run("apply p").exits(3).says("client-certificate").says("can be read by others");
    let (_, other) = identity(&authority);
    let (certificate, _) = identity(&authority);
    let world = write(mutual(&server, &authority, tls), (certificate, other));
    world.run("apply p").exits(3).says("client-certificate");
    mutual(&server, &authority, ", cert: ca.pem")
        .run("validate p")
        .exits(3)
        .says("`tls` needs `key` as well");
    mutual(&server, &authority, tls).run("validate p").exits(3).says("file-missing");
}

#[test]
fn a_key_in_a_file_signs_and_one_in_a_variable_may_have_its_lines_escaped() {
    let world = connector("{ jwt: { algorithm: ES256, key: key, issuer: us } }", &["key"]);
    let pem = KeyPair::generate().expect("a key").serialize_pem();
    world.write("key.pem", &pem);
    let far_side = World::new();
    let connector = world.read("templates/x/connector.yaml");
    world.write(
        "templates/x/connector.yaml",
        connector.replace("https://api.example.com/v1", &far_side.url()),
    );
    let with = |key: &str| {
        let mut command = world.command("apply p --fresh");
        Run::of(command.env("KEY", key).output().expect("it runs"), &world)
    };
    with(&pem).exits(0);
    with(&pem.replace('\n', "\\n")).exits(0);
    world.write("runner.yaml", "connections:\n  x: { connector: x, key: { file: key.pem } }\n");
    with("").exits(0);
    let sent = far_side.seen();
    assert_eq!(sent.len(), 15);
    for seen in sent {
        let token =
            seen.headers[AUTHORIZATION].to_str().expect("text").strip_prefix("Bearer ").expect("a token");
        assert_eq!(token.split('.').count(), 3);
        stands_nowhere(&world.path(".runner"), &[token]);
    }
}
