//! The wiring, over real sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::model::Class;

fn route(name: &str, method: Method, path: &str) -> Route {
    Route::new(name, method, PathPattern::parse(path).unwrap())
}

fn rules() -> Rules {
    let mut create = route("create-user", Method::POST, "/v2/users");
    create.unique = vec!["email".to_owned()];
    create.check_body = Some(Box::new(|body| match body.get("bad") {
        None => Ok(()),
        Some(_) => Err("`bad` is not allowed".to_owned()),
    }));
    create.idempotency = Some(http::HeaderName::from_static("idempotency-key"));
    let mut talk = route("talk", Method::POST, "/v2/conversations");
    talk.reply = Some(Box::new(|request, object| {
        let body =
            json!({ "conversation_id": object.id, "of": request.body["user"], "q": request.query.len() });
        ScriptedReply::json(202, &body)
    }));
    Rules::new(vec![
        create,
        route("update-user", Method::PUT, "/v2/users/{user_id}"),
        route("patch-user", Method::PATCH, "/v2/users/{user_id}"),
        route("delete-user", Method::DELETE, "/v2/users/{user_id}"),
        route("update-agent", Method::PUT, "/v2/agents/{agent_id}"),
        talk,
        route("send-message", Method::POST, "/v2/conversations/{conversation_id}/messages"),
        route("settings", Method::PUT, "/v2/settings"),
    ])
}

fn start(script: &str) -> Handle {
    let script = Script::parse("script", script).unwrap();
    Sandbox::start(rules(), Options { script, ..Options::default() }).unwrap()
}

fn request(line: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{line} HTTP/1.1\r\nhost: a\r\n{headers}content-length: {length}\r\n\r\n{body}").into_bytes()
}

/// All that comes back until the far side closes, and how that ended.
async fn raw(sandbox: &Handle, bytes: &[u8]) -> (Vec<u8>, std::io::Result<()>) {
    let mut stream = TcpStream::connect(sandbox.addr()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut got = Vec::new();
    let ended = stream.read_to_end(&mut got).await.map(|_| ());
    (got, ended)
}

/// Status, head and body of a whole reply.
async fn ask_with(sandbox: &Handle, line: &str, headers: &str, body: &str) -> (u16, String, Vec<u8>) {
    let (got, ended) = raw(sandbox, &request(line, &format!("connection: close\r\n{headers}"), body)).await;
    ended.unwrap();
    let end = memchr::memmem::find(&got, b"\r\n\r\n").expect("reply headers");
    let head = String::from_utf8(got[..end].to_vec()).unwrap();
    let body = got[end + 4..].to_vec();
    (head[9..12].parse().unwrap(), head, body)
}

async fn ask(sandbox: &Handle, line: &str, body: &str) -> (u16, Value) {
    let (status, _, body) = ask_with(sandbox, line, "", body).await;
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn objects_are_made_read_changed_and_removed() {
    let sandbox = start("");
    let (status, made) = ask(&sandbox, "POST /v2/users", r#"{"email":"a@b","n":1.10,"p":{"x":1}}"#).await;
    assert_eq!(status, 201);
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 36);
    let at = |method: &str| format!("{method} /v2/users/{id}");
    let (_, _, body) = ask_with(&sandbox, &at("GET"), "", "").await;
    assert_eq!(body, format!(r#"{{"id":"{id}","email":"a@b","n":1.10,"p":{{"x":1}}}}"#).as_bytes());
    assert_eq!(
        ask(&sandbox, &at("PUT"), r#"{"n":2}"#).await.1,
        json!({"id": id, "email": "a@b", "n": 2, "p": {"x": 1}})
    );
    assert_eq!(
        ask(&sandbox, &at("PATCH"), r#"{"n":null,"p":{"y":2}}"#).await.1["p"],
        json!({"x": 1, "y": 2})
    );
    assert_eq!(ask(&sandbox, &at("DELETE"), "").await, (204, Value::Null));
    for method in ["GET", "PUT", "PATCH", "DELETE"] {
        let (status, body) = ask(&sandbox, &at(method), "{}").await;
        assert_eq!((status, &body["status"]), (404, &json!("NOT_FOUND")), "{method}");
    }
    assert_eq!(sandbox.tally(), Tally { requests: 9, accepted: 4 });
}

#[tokio::test]
async fn updates_make_what_no_route_makes_by_post() {
    let sandbox = start("");
    assert_eq!(
        ask(&sandbox, "PUT /v2/agents/a%2F7", r#"{"n":1}"#).await,
        (200, json!({"id": "a/7", "n": 1}))
    );
    assert_eq!(ask(&sandbox, "GET /v2/agents/a%2F7", "").await.0, 200);
    assert_eq!(ask(&sandbox, "PUT /v2/settings", r#"{"a":1}"#).await, (200, json!({"a": 1})));
    assert_eq!(ask(&sandbox, "PUT /v2/settings", r#"{"b":2}"#).await.1, json!({"a": 1, "b": 2}));
    assert_eq!(ask(&sandbox, "GET /v2/settings", "").await.1, json!({"a": 1, "b": 2}));
    let options = Options { unknown: Unknown::Create, ..Options::default() };
    let lenient = Sandbox::start(rules(), options).unwrap();
    assert_eq!(ask(&lenient, "PATCH /v2/users/9", r#"{"n":1}"#).await, (200, json!({"id": "9", "n": 1})));
}

#[tokio::test]
async fn lists_are_filtered_and_cut_into_pages() {
    let sandbox = start("");
    for n in 0..5 {
        let body = format!(r#"{{"email":"{n}@b","n":{n},"even":{}}}"#, n % 2 == 0);
        ask(&sandbox, "POST /v2/users", &body).await;
    }
    let cases: [(&str, &[u64]); 6] = [
        ("", &[0, 1, 2, 3, 4]),
        ("?email=3%40b", &[3]),
        ("?even=true", &[0, 2, 4]),
        ("?even=true&n=2&page=1", &[2]),
        ("?page=2&items_per_page=2", &[2, 3]),
        ("?none=1", &[]),
    ];
    for (query, expected) in cases {
        let (status, body) = ask(&sandbox, &format!("GET /v2/users{query}"), "").await;
        let found: Vec<_> =
            body["users"].as_array().unwrap().iter().map(|user| user["n"].as_u64().unwrap()).collect();
        assert_eq!((status, &found[..]), (200, expected), "{query}");
    }
}

#[tokio::test]
async fn nested_collections_keep_their_parents_apart() {
    let sandbox = start("");
    for parent in ["c1", "c2", "c1"] {
        assert_eq!(
            ask(&sandbox, &format!("POST /v2/conversations/{parent}/messages"), r#"{"t":1}"#).await.0,
            201
        );
    }
    assert_eq!(sandbox.objects("/v2/conversations/c1/messages").len(), 2);
    assert_eq!(sandbox.objects("/v2/conversations/c2/messages").len(), 1);
    assert_eq!(sandbox.objects("/v2/conversations").len(), 0);
    assert_eq!(sandbox.object_count(), 3);
}

#[tokio::test]
async fn a_route_may_make_its_own_reply() {
    let sandbox = start("");
    let (status, body) = ask(&sandbox, "POST /v2/conversations?a=1&b=2", r#"{"user":"u"}"#).await;
    let stored = sandbox.objects("/v2/conversations");
    assert_eq!((status, &body["of"], &body["q"]), (202, &json!("u"), &json!(2)));
    // What the reply says of the object is there when it is looked at, too.
    let object = json!({"id": body["conversation_id"], "conversation_id": body["conversation_id"], "of": "u", "q": 2, "user": "u"});
    assert_eq!(stored, [object]);
}

#[tokio::test]
async fn refusals_have_the_shape_of_the_api_and_no_effect() {
    let sandbox = start("");
    ask(&sandbox, "POST /v2/users", r#"{"email":"taken"}"#).await;
    let cases = [
        ("POST /v2/nothing", "{}", 404, "NOT_FOUND"),
        ("PATCH /v2/users", "{}", 405, "METHOD_NOT_ALLOWED"),
        ("PATCH /v2/agents/7", "{}", 405, "METHOD_NOT_ALLOWED"),
        ("POST /v2/users", "{", 400, "INVALID_JSON"),
        ("POST /v2/users", r#"{"bad":1}"#, 400, "INVALID_BODY"),
        ("POST /v2/users", r#"{"email":"t\u0061ken"}"#, 409, "ALREADY_EXISTS"),
        ("PUT /v2/agents/7", "nope", 400, "INVALID_JSON"),
    ];
    for (line, body, status, class) in cases {
        let (got, reply) = ask(&sandbox, line, body).await;
        assert_eq!(
            (got, &reply["status"], &reply["code"]),
            (status, &json!(class), &json!(status)),
            "{line} {body}"
        );
    }
    assert_eq!(sandbox.tally().accepted, 1);
}

#[tokio::test]
async fn a_unique_value_is_free_again_when_its_holder_gives_it_up() {
    let sandbox = start("");
    let (_, first) = ask(&sandbox, "POST /v2/users", r#"{"email":"a"}"#).await;
    let at = format!("/v2/users/{}", first["id"].as_str().unwrap());
    assert_eq!(ask(&sandbox, &format!("PUT {at}"), r#"{"email":"a"}"#).await.0, 200);
    assert_eq!(ask(&sandbox, &format!("PUT {at}"), r#"{"email":"b"}"#).await.0, 200);
    assert_eq!(ask(&sandbox, "POST /v2/users", r#"{"email":"a"}"#).await.0, 201);
    assert_eq!(ask(&sandbox, &format!("PUT {at}"), r#"{"email":"a"}"#).await.0, 409);
    assert_eq!(ask(&sandbox, &format!("DELETE {at}"), "").await.0, 204);
    assert_eq!(ask(&sandbox, "POST /v2/users", r#"{"email":"b"}"#).await.0, 201);
    assert_eq!(ask(&sandbox, "POST /v2/users", r#"{"email":null}"#).await.0, 201);
    assert_eq!(ask(&sandbox, "POST /v2/users", r#"{"email":null}"#).await.0, 201);
}

#[tokio::test]
async fn a_unique_reply_gets_the_object_that_is_there() {
    let mut rules = rules();
    rules.routes[0].unique_reply =
        Some(Box::new(|_, holder| ScriptedReply::json(200, &json!({ "there": holder.id }))));
    let sandbox = Sandbox::start(rules, Options::default()).unwrap();
    let (_, first) = ask(&sandbox, "POST /v2/users", r#"{"email":"a"}"#).await;
    assert_eq!(
        ask(&sandbox, "POST /v2/users", r#"{"email":"a"}"#).await,
        (200, json!({ "there": first["id"] }))
    );
}

#[tokio::test]
async fn a_repeated_idempotency_key_is_answered_again_without_effect() {
    let sandbox = start("");
    let key = "idempotency-key: k1\r\n";
    let (_, _, first) = ask_with(&sandbox, "POST /v2/users", key, r#"{"email":"a"}"#).await;
    let (status, _, again) = ask_with(&sandbox, "POST /v2/users", key, r#"{"email":"a"}"#).await;
    assert_eq!((status, again), (201, first));
    assert_eq!(sandbox.journal().iter().map(|seen| seen.accepted).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn only_the_right_credentials_are_let_in() {
    let mut rules = rules();
    rules.auth = Some(Box::new(|knock| {
        knock.headers.get("authorization").is_some_and(|value| value == "Bearer right")
            || knock.query.contains("key=right")
    }));
    let sandbox = Sandbox::start(rules, Options::default()).unwrap();
    for (line, header, expected) in [
        ("POST /v2/users", "", 401),
        ("POST /v2/users", "authorization: Bearer wrong\r\n", 401),
        ("POST /v2/users", "authorization: Bearer right\r\n", 201),
        ("POST /v2/users?key=right", "", 201),
        ("GET /v2/nothing", "", 401),
    ] {
        assert_eq!(ask_with(&sandbox, line, header, "{}").await.0, expected, "{line} {header}");
    }
    assert_eq!(sandbox.object_count(), 2);
}

#[tokio::test]
async fn a_store_brings_objects_back_and_cuts_a_torn_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/objects.ndjson");
    let options = || Options { store: Some(path.clone()), ..Options::default() };
    let first = Sandbox::start(rules(), options()).unwrap();
    let mut ids = Vec::new();
    for n in 0..3 {
        let key = format!("idempotency-key: k{n}\r\n");
        let (_, _, body) =
            ask_with(&first, "POST /v2/users", &key, &format!(r#"{{"email":"{n}","v":1.0}}"#)).await;
        ids.push(serde_json::from_slice::<Value>(&body).unwrap()["id"].as_str().unwrap().to_owned());
    }
    ask(&first, &format!("PUT /v2/users/{}", ids[1]), r#"{"email":"x\"é"}"#).await;
    ask(&first, &format!("DELETE /v2/users/{}", ids[2]), "").await;
    ask(&first, "POST /v2/conversations/ü/messages", "[1,2]").await;
    let busy = Sandbox::start(rules(), options()).err().unwrap();
    assert_eq!(busy.class, Class::State);
    drop(first);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&whole[..], b"{\"in\":\"/v2/us"].concat()).unwrap();

    let second = Sandbox::start(rules(), options()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), whole);
    assert_eq!(
        second.objects("/v2/users"),
        [json!({"id": ids[0], "email": "0", "v": 1.0}), json!({"id": ids[1], "email": "x\"é", "v": 1.0})]
    );
    assert_eq!(second.objects("/v2/conversations/%C3%BC/messages")[0]["items"], json!([1, 2]));
    for (email, expected) in [("0", 409), ("1", 201), ("2", 201), ("x\\\"é", 409)] {
        assert_eq!(
            ask(&second, "POST /v2/users", &format!(r#"{{"email":"{email}"}}"#)).await.0,
            expected,
            "{email}"
        );
    }
    let (_, _, again) =
        ask_with(&second, "POST /v2/users", "idempotency-key: k0\r\n", r#"{"email":"9"}"#).await;
    assert_eq!(serde_json::from_slice::<Value>(&again).unwrap()["id"], json!(ids[0]));
    drop(second);

    std::fs::write(&path, [&whole[..20], b"\n", &whole[..]].concat()).unwrap();
    let damaged = Sandbox::start(rules(), options()).err().unwrap();
    assert_eq!(damaged.class, Class::State);
    assert!(damaged.diagnostics[0].message.contains("line 1"), "{}", damaged.diagnostics[0].message);
}

#[tokio::test]
async fn the_same_requests_get_the_same_ids() {
    let mut seen = Vec::new();
    for _ in 0..2 {
        let sandbox = start("");
        let mut ids = Vec::new();
        for body in ["{}", "{}", r#"{"a":1}"#] {
            ids.push(ask(&sandbox, "POST /v2/users", body).await.1["id"].clone());
        }
        seen.push(ids);
    }
    assert_eq!(seen[0], seen[1]);
    assert_ne!(seen[0][0], seen[0][1]);
}

#[tokio::test]
async fn what_was_answered_is_in_the_journal_of_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.ndjson");
    let options = Options { journal: Some(path.clone()), ..Options::default() };
    let sandbox = Sandbox::start(rules(), options).unwrap();
    sandbox.set_script(Script::parse("s", "* * #2 -> cut_after_effect").unwrap());
    for n in 0..3 {
        let body = format!("{{\"n\":{n}}}");
        let (_, ended) = raw(&sandbox, &request("POST /v2/users?x", "connection: close\r\n", &body)).await;
        ended.unwrap();
        // Read while the sandbox is still there, right after the answer or the cut.
        let read = read_journal(&path).unwrap();
        assert_eq!(read.len(), n + 1);
        assert_eq!(read[n].body, format!("{{\"n\":{n}}}"));
    }
    let read = read_journal(&path).unwrap();
    assert_eq!(read, sandbox.journal());
    let told: Vec<_> =
        read.iter().map(|seen| (seen.seq, seen.status, seen.action.as_deref(), seen.accepted)).collect();
    assert_eq!(
        told,
        [(1, Some(201), None, true), (2, None, Some("cut_after_effect"), true), (3, Some(201), None, true)]
    );
    assert_eq!(read[0].path, "/v2/users?x");
    assert_eq!(read[0].route.as_deref(), Some("create-user"));
    assert_eq!(sandbox.objects("/v2/users")[2]["id"].as_str(), read[2].object.as_deref());
}

#[tokio::test]
async fn only_loopback_is_listened_on() {
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let options = Options { listen: listen.parse().unwrap(), ..Options::default() };
        let failure = Sandbox::start(rules(), options).err().expect(listen);
        assert_eq!((failure.class, failure.diagnostics[0].rule), (Class::Usage, "sandbox-listen"));
    }
    let taken = start("");
    let options = Options { listen: taken.addr(), ..Options::default() };
    assert_eq!(Sandbox::start(rules(), options).err().unwrap().class, Class::Io);
}

#[tokio::test]
async fn it_is_gone_once_dropped() {
    let sandbox = start("");
    let addr = sandbox.addr();
    let mut open = TcpStream::connect(addr).await.unwrap();
    drop(sandbox);
    assert!(TcpStream::connect(addr).await.is_err());
    let mut rest = Vec::new();
    assert!(matches!(open.read_to_end(&mut rest).await, Ok(0) | Err(_)));
}

/// What a client gets of one POST under a script, and whether it had its effect.
async fn under(script: &str) -> (Vec<u8>, std::io::Result<()>, Seen, usize) {
    let sandbox = start(script);
    let (got, ended) = raw(&sandbox, &request("POST /v2/users", "connection: close\r\n", "{}")).await;
    let seen = sandbox.journal().pop().unwrap();
    (got, ended, seen, sandbox.object_count())
}

#[tokio::test]
async fn cuts_come_with_and_without_effect() {
    let cases = [
        ("cut_before", "", false),
        ("cut_after_effect", "", true),
        ("cut_in_headers", "HTTP/1.1 200 OK\r\ncontent-type: appli", false),
        ("cut_in_headers act", "HTTP/1.1 200 OK\r\ncontent-type: appli", true),
    ];
    for (action, expected, acted) in cases {
        let (got, ended, seen, objects) = under(&format!("* * -> {action}")).await;
        ended.unwrap();
        assert_eq!(String::from_utf8(got).unwrap(), expected, "{action}");
        assert_eq!((seen.status, seen.accepted, objects), (None, acted, usize::from(acted)), "{action}");
    }
    let (got, ended, seen, objects) = under("* * -> cut_in_body").await;
    ended.unwrap();
    let text = String::from_utf8(got).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 201 Created") && head.contains("content-length: 45"), "{head}");
    assert_eq!((body.len(), seen.status, seen.accepted, objects), (22, Some(201), true, 1));
}

#[tokio::test]
async fn a_reset_is_a_reset() {
    for (action, acted) in [("reset", false), ("reset act", true)] {
        let (got, ended, seen, _) = under(&format!("* * -> {action}")).await;
        assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!((got.len(), seen.accepted), (0, acted));
    }
}

#[tokio::test]
async fn a_hang_is_noted_and_never_answered() {
    let sandbox = start("* * -> hang");
    let mut noted = sandbox.requests();
    let mut stream = TcpStream::connect(sandbox.addr()).await.unwrap();
    stream.write_all(&request("POST /v2/users", "", "{}")).await.unwrap();
    noted.wait_for(|count| *count == 1).await.unwrap();
    assert_eq!((sandbox.journal()[0].status, sandbox.journal()[0].accepted), (None, false));
    let mut one = [0];
    let answered = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut one)).await;
    assert!(answered.is_err());
    // Others are served meanwhile, and stopping does not wait for it.
    sandbox.set_script(Script::default());
    assert_eq!(ask(&sandbox, "POST /v2/users", "{}").await.0, 201);
}

#[tokio::test]
async fn bytes_that_are_not_http_and_headers_without_end() {
    let (got, _, seen, _) = under("* * -> garbage").await;
    assert!(!got.starts_with(b"HTTP") && !got.is_empty());
    assert_eq!((seen.status, seen.accepted), (None, false));
    let sandbox = start("* * -> endless_headers");
    let mut stream = TcpStream::connect(sandbox.addr()).await.unwrap();
    stream.write_all(&request("GET /v2/users", "", "")).await.unwrap();
    let mut got = vec![0; 1 << 20];
    stream.read_exact(&mut got).await.unwrap();
    assert!(got.starts_with(b"HTTP/1.1 200 OK\r\n") && memchr::memmem::find(&got, b"\r\n\r\n").is_none());
}

#[tokio::test]
async fn scripted_replies_say_what_the_line_says() {
    let cases = [
        ("429 retry-after=2", 429, "retry-after: 2", "TOO_MANY_REQUESTS", false),
        ("429 retry-after=soon", 429, "retry-after: soon", "TOO_MANY_REQUESTS", false),
        ("503 retry-after=date+60 act", 503, "retry-after: ", " GMT", true),
        ("500 act", 500, "application/json", "INTERNAL_ERROR", true),
        ("200", 200, "content-length: 0", "", true),
        ("200 no_act", 200, "content-length: 0", "", false),
        ("400 class=INVALID message=\"no such thing\"", 400, "", r#""message":"no such thing""#, false),
        ("207 body='{\"ok\":[1]}' content-type=text/x", 207, "content-type: text/x", r#"{"ok":[1]}"#, true),
        ("html", 200, "text/html", "<h1>", true),
        ("html 502", 502, "text/html", "<h1>", false),
        ("redirect http://127.0.0.1:9/x", 307, "location: http://127.0.0.1:9/x", "", false),
        ("redirect /y 302", 302, "location: /y", "", false),
        ("esc", 400, "", r"\u001b[2J", false),
        ("close", 201, "connection: close", "\"id\"", true),
        ("delay 1ms", 201, "", "\"id\"", true),
        ("late 1ms", 201, "", "\"id\"", true),
        ("slow_body 0ms", 201, "", "\"id\"", true),
    ];
    for (action, status, head, body, acted) in cases {
        let (got, ended, seen, objects) = under(&format!("* * -> {action}")).await;
        ended.unwrap();
        let text = String::from_utf8(got).unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{action}: {text}");
        assert!(text.contains(head) && text.contains(body), "{action}: {text}");
        assert_eq!(
            (seen.status, seen.accepted, objects),
            (Some(status), acted, usize::from(acted)),
            "{action}"
        );
    }
}

#[tokio::test]
async fn a_connection_is_kept_until_it_is_closed_in_silence() {
    let sandbox = start("* * #2 -> close_silent");
    let mut stream = TcpStream::connect(sandbox.addr()).await.unwrap();
    stream.write_all(&request("GET /v2/users", "", "")).await.unwrap();
    let mut first = [0; 1024];
    let n = stream.read(&mut first).await.unwrap();
    assert!(first[..n].ends_with(b"{\"users\":[]}"));
    stream.write_all(&request("GET /v2/users", "", "")).await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    let rest = String::from_utf8(rest).unwrap();
    assert!(rest.ends_with("{\"users\":[]}") && !rest.contains("connection"), "{rest}");
    assert_eq!(sandbox.journal().iter().map(|seen| seen.connection).collect::<Vec<_>>(), [1, 1]);
}

#[tokio::test]
async fn a_bomb_is_valid_gzip_of_the_size_that_was_asked_for() {
    use std::io::Read as _;
    let sandbox = start("* * -> gzip_bomb 64MiB");
    let (_, head, mut body) = ask_with(&sandbox, "POST /v2/users", "", "{}").await;
    assert!(head.contains("content-encoding: gzip") && head.contains("transfer-encoding: chunked"));
    let mut packed = Vec::new();
    loop {
        let line = memchr::memmem::find(&body, b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&body[..line]).unwrap(), 16).unwrap();
        packed.extend_from_slice(&body[line + 2..line + 2 + size]);
        body.drain(..line + size + 4);
        if size == 0 {
            break;
        }
    }
    assert!(packed.len() < 200_000, "{}", packed.len());
    let mut decoder = flate2::read::GzDecoder::new(&packed[..]);
    let (mut total, mut buffer) = (0, vec![1; 1 << 16]);
    loop {
        let n = decoder.read(&mut buffer).unwrap();
        if n == 0 {
            break;
        }
        assert!(buffer[..n].iter().all(|byte| *byte == 0));
        total += n;
    }
    assert_eq!(total, 64 << 20);
}

#[tokio::test]
async fn bodies_come_in_chunks_and_bad_requests_are_not_noted() {
    let sandbox = start("");
    let chunked = "POST /v2/users HTTP/1.1\r\ntransfer-encoding: chunked\r\nconnection: close\r\nexpect: 100-continue\r\n\r\n4;x=y\r\n{\"a\"\r\n3\r\n:1}\r\n0\r\ntrailer: 1\r\n\r\n";
    let (got, _) = raw(&sandbox, chunked.as_bytes()).await;
    assert!(got.starts_with(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 "));
    assert_eq!(sandbox.objects("/v2/users")[0]["a"], json!(1));
    for bad in [
        "nonsense\r\n\r\n",
        "POST /v2/users HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        "POST /v2/users HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n",
        "POST /v2/users HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "POST /v2/users HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc",
        "POST /v2/users HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n",
    ] {
        let (got, _) = raw(&sandbox, bad.as_bytes()).await;
        assert!(got.starts_with(b"HTTP/1.1 4") || got.starts_with(b"HTTP/1.1 5"), "{bad}");
    }
    let mut half = TcpStream::connect(sandbox.addr()).await.unwrap();
    half.write_all(b"POST /v2/users HTTP/1.1\r\ncontent-length: 9\r\n\r\n{}").await.unwrap();
    half.shutdown().await.unwrap();
    let mut nothing = Vec::new();
    half.read_to_end(&mut nothing).await.unwrap();
    assert!(nothing.is_empty());
    assert_eq!(sandbox.tally().requests, 1);
}

#[tokio::test]
async fn bodies_can_be_left_out_for_measuring() {
    let options = Options { bodies: Bodies::Drop, remember: 1, ..Options::default() };
    let sandbox = Sandbox::start(rules(), options).unwrap();
    let (status, made) = ask(&sandbox, "POST /v2/users", r#"{"email":"a"}"#).await;
    assert_eq!((status, &made["email"]), (201, &json!("a")));
    assert_eq!(sandbox.objects("/v2/users"), [json!({ "id": made["id"] })]);
    assert_eq!(ask(&sandbox, "POST /v2/users", r#"{"email":"a"}"#).await.0, 409);
    assert!(sandbox.journal().len() == 1 && sandbox.journal()[0].body.is_empty());
    assert_eq!(sandbox.tally(), Tally { requests: 2, accepted: 1 });
}

#[tokio::test]
async fn sixty_four_connections_are_served_and_every_request_counted() {
    let sandbox = Arc::new(start("* * 20% seed=3 -> 500"));
    let good = Arc::new(AtomicU64::new(0));
    let lanes = (0..64).map(|lane| {
        let (sandbox, good) = (Arc::clone(&sandbox), Arc::clone(&good));
        tokio::spawn(async move {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            for n in 0..10 {
                let url = format!("{}/v2/users", sandbox.url());
                let reply =
                    client.post(url).body(format!(r#"{{"email":"{lane}-{n}"}}"#)).send().await.unwrap();
                good.fetch_add(u64::from(reply.status() == 201), Ordering::Relaxed);
                reply.bytes().await.unwrap();
            }
        })
    });
    for lane in lanes.collect::<Vec<_>>() {
        lane.await.unwrap();
    }
    let good = good.load(Ordering::Relaxed);
    assert_eq!(sandbox.tally(), Tally { requests: 640, accepted: good });
    assert_eq!(sandbox.object_count() as u64, good);
    let journal = sandbox.journal();
    assert_eq!(journal.iter().map(|seen| seen.seq).collect::<Vec<_>>(), (1..=640).collect::<Vec<_>>());
    assert_eq!(
        journal.iter().map(|seen| seen.connection).collect::<std::collections::HashSet<_>>().len(),
        64
    );
    assert!(good < 640 && good > 320, "{good}");
}
