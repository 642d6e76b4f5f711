//! Rows S22 and S23: no secret is shown or kept, whoever repeats it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use runner::model::Class;

use super::{TOKEN, posting, tree, with};
use crate::bad::tls::{Authority, Server};
use crate::world::{Run, World, things};

const CONFIG: i32 = Class::Config.code() as i32;

/// A world whose connection has one secret, used as `auth` and `headers` say.
pub fn with_secret(how: &str, endpoint: &str, more: &str) -> World {
    let world = World::new();
    let connector = format!(
        "settings:\n  token: {{ type: string, secret: true }}\nbase_url: {}\n{how}\n\
         check: {{ method: GET, path: /things/t1 }}\nerrors: {{ class: '{{{{ response.headers[\"x-said\"] }}}}', message: '{{{{ response.text }}}}' }}\n",
        world.url()
    );
    world
        .file("templates/api/connector.yaml", connector)
        .file("runner.yaml", "connections:\n  local: { connector: api, token: { env: API_TOKEN } }\n")
        .pipeline(
            &posting(endpoint, &format!("key: '{{{{ record.id }}}}'\nresponses: {{ file: true }}\n{more}")),
            things(4),
        )
}

/// Texts that are the same but for one layer of escapes.
fn unescaped(text: &str) -> [String; 3] {
    let mut json = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('\\') {
        json.push_str(before);
        let code = behind.strip_prefix('u').and_then(|code| code.get(..4));
        let code = code.and_then(|code| char::from_u32(u32::from_str_radix(code, 16).ok()?));
        rest = match code {
            Some(found) => {
                json.push(found);
                &behind[5..]
            }
            None => behind,
        };
    }
    json.push_str(rest);
    let html =
        [("&quot;", "\""), ("&#34;", "\""), ("&amp;", "&"), ("&#43;", "+"), ("&#47;", "/"), ("&#x2f;", "/")];
    let html = html.iter().fold(text.to_owned(), |text, (name, is)| text.replace(name, is));
    [json, html, percent_decode_str(text).decode_utf8_lossy().into_owned()]
}

/// The part of a secret, in whatever form, that stands in a text.
pub fn leak(secret: &str, text: &str) -> Option<String> {
    let mut layers = vec![text.to_owned()];
    for _ in 0..2 {
        layers.extend(layers.clone().iter().flat_map(|text| unescaped(text)));
        layers.sort();
        layers.dedup();
    }
    let halves = [&secret[..8], &secret[8..]].map(str::to_ascii_lowercase);
    let mut encoded: Vec<String> = Vec::new();
    for shift in 0..3 {
        let bytes: Vec<u8> = std::iter::repeat_n(0, shift).chain(secret.bytes()).collect();
        let whole = STANDARD.encode(&bytes);
        // Letters that tell of the secret alone, by halves.
        let (from, to) = ((shift * 8).div_ceil(6), bytes.len() * 8 / 6);
        let middle = usize::midpoint(from, to);
        encoded.extend([whole[from..middle].to_owned(), whole[middle..to].to_owned()]);
    }
    let hex = secret.bytes().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    layers.iter().find_map(|text| {
        let lower = text.to_ascii_lowercase();
        let standard = text.replace('-', "+").replace('_', "/");
        let plain = halves.iter().find(|half| lower.contains(half.as_str()));
        let base64 = encoded.iter().find(|part| standard.contains(part.as_str()));
        plain.or(base64).cloned().or_else(|| lower.contains(&hex).then(|| hex.clone()))
    })
}

#[test]
fn what_looks_for_a_secret_finds_each_form_of_it() {
    // S22: a test of the tests below.
    for form in forms() {
        assert!(leak(TOKEN, &format!("<{form}>")).is_some(), "{form}");
    }
    assert_eq!(leak(TOKEN, "a *** b mk7 %22 \\u0022"), None);
}

/// How a far side may repeat a secret.
fn forms() -> Vec<String> {
    let json = serde_json::to_string(TOKEN).expect("JSON");
    let json = json.trim_matches('"').to_owned();
    let percent = utf8_percent_encode(TOKEN, NON_ALPHANUMERIC).to_string();
    let hex = TOKEN.bytes().fold(String::new(), |hex, byte| hex + &format!("{byte:02X}"));
    vec![
        TOKEN.to_owned(),
        TOKEN.to_ascii_uppercase(),
        json.replace('/', "\\/"),
        json.replace("\\\"", "\\u0022").replace('/', "\\u002F"),
        TOKEN.chars().fold(String::new(), |all, c| all + &format!("\\u{:04x}", u32::from(c))),
        percent.to_lowercase(),
        percent.replace('%', "%25"),
        TOKEN.replace('&', "&amp;").replace('"', "&quot;"),
        TOKEN.replace('"', "&#34;").replace('/', "&#x2f;"),
        STANDARD.encode(TOKEN),
        STANDARD.encode(format!("u:{TOKEN}")),
        STANDARD.encode(format!("me:{TOKEN}!")),
        URL_SAFE_NO_PAD.encode(format!("anna:{TOKEN}")),
        STANDARD.encode(format!("u:{TOKEN}")).replace('+', "%2B").replace('/', "%2F").replace('=', "%3d"),
        hex.to_lowercase(),
        hex,
        percent,
        json,
    ]
}

/// Everything that a command said and everything that lies in the project's state and logs.
pub fn holds_no_secret(world: &World, runs: &[(&str, Run)]) {
    for (arguments, run) in runs {
        for (stream, text) in [("stdout", &run.stdout), ("stderr", &run.stderr)] {
            let found = leak(TOKEN, text);
            assert_eq!(found, None, "{stream} of `{arguments}`:\n{text}");
        }
    }
    let state = world.path(".runner");
    if state.is_dir() {
        for (path, content) in tree(&state) {
            let text = String::from_utf8_lossy(&content);
            assert_eq!(leak(TOKEN, &text), None, "{path}:\n{text}");
        }
    }
    for log in ["log.jsonl", "log.txt"] {
        let text = std::fs::read_to_string(world.path(log)).unwrap_or_default();
        assert_eq!(leak(TOKEN, &text), None, "{log}:\n{text}");
    }
}

#[test]
fn a_secret_is_in_no_output_and_no_file_of_any_command() {
    // S22, S27
    let said =
        "* * body.id=t1 -> 400 body='no'\n* * body.id=t2 -> 500\n* * body.id=t3 -> 429 retry-after=0\n";
    for how in [
        "auth: { bearer: token }",
        "auth: { basic: { user: token, password: token } }",
        "auth: { api_key: { header: X-Any-Name, value: token } }",
        "auth: { api_key: { query: q, value: token } }",
        "headers: { X-Custom: 'a {{ connection.token }} b' }",
    ] {
        let world = with_secret(how, "", "").script(said);
        let mut runs = Vec::new();
        let plain = [("API_TOKEN", TOKEN)];
        let to_stderr = [("API_TOKEN", TOKEN), ("RUNNER_LOG", "trace")];
        let to_json = [("API_TOKEN", TOKEN), ("RUNNER_LOG", "trace"), ("RUNNER_LOG_FILE", "log.jsonl")];
        let to_text = [("API_TOKEN", TOKEN), ("RUNNER_LOG", "trace"), ("RUNNER_LOG_FILE", "log.txt")];
        for (arguments, set) in [
            ("validate -vvv", &to_stderr[..]),
            ("validate --format json", &plain),
            ("plan p -vvv", &to_stderr),
            ("plan p --format json", &plain),
            ("preview p --all -vvv", &to_stderr),
            ("preview p --as json", &plain),
            ("preview p --as curl", &plain),
            ("preview p --format json", &plain),
            ("preview p --format jsonl", &plain),
            ("list", &to_stderr),
            ("list settings", &plain),
            ("list settings p --format json", &plain),
            ("list connections --format json", &plain),
            ("check-connection -vvv", &to_stderr),
            ("check-connection --format json", &to_json),
            ("apply p -vvv", &to_stderr),
            ("status p -vvv", &plain),
            ("status p --files --format json", &plain),
            ("retry p -vvv --format jsonl", &to_json),
            ("resolve p --resend --all -vvv", &plain),
            ("apply p -vvv --format json", &to_text),
            ("try p --record t4 --again --yes -vvv", &to_stderr),
            ("try p --record t4 --again --yes --format json", &plain),
            ("apply p --fresh --yes --format jsonl -vvv", &plain),
            ("apply nope", &plain),
            ("try p --record nope", &plain),
        ] {
            runs.push((arguments, with(&world, arguments, set)));
        }
        let previews = runs
            .iter()
            .filter(|(arguments, _)| arguments.starts_with("preview") && !arguments.ends_with("jsonl"));
        for (arguments, run) in previews {
            let hidden = if arguments.ends_with("curl") { "API_TOKEN" } else { "***" };
            assert!(run.stdout.contains(hidden), "{arguments}: {}", run.stdout);
        }
        let shown = &world.seen()[0];
        let sent = format!("{}\n{:?}", shown.path, shown.headers);
        assert!(leak(TOKEN, &sent).is_some(), "{how}: the far side got no credentials: {sent}");
        assert!(world.read("log.jsonl").contains("hyper") && world.path("log.txt").is_file());
        holds_no_secret(&world, &runs);
    }
}

#[test]
fn a_secret_is_in_no_message_of_a_failure() {
    // S22
    let set = [("API_TOKEN", TOKEN), ("RUNNER_LOG", "trace")];
    for how in ["auth: { bearer: token }", "auth: { api_key: { query: q, value: token } }"] {
        for script in [
            "* * -> cut_before",
            "* * -> cut_in_headers",
            "* * -> reset",
            "* * -> garbage",
            "* * -> endless_headers",
            "* * -> cut_in_body",
            "* * -> 401",
            "* * -> 404",
            "* * -> redirect /x 302",
        ] {
            let world = with_secret(how, "", "").script(script);
            let runs: Vec<_> =
                ["apply p -vvv", "try p --record t2 --again --format json", "check-connection -vvv"]
                    .map(|arguments| (arguments, with(&world, arguments, &set)))
                    .into();
            holds_no_secret(&world, &runs);
        }
        let server = Server::start(Authority::new("theirs").certify("localhost", false));
        let silent =
            std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        for url in [
            format!("https://localhost:{}", server.port()),
            format!("http://{silent}"),
            "https://no-such-host.invalid".to_owned(),
        ] {
            let world = with_secret(how, "", "").file("ca.pem", Authority::new("ours").pem());
            let connector = world.read("templates/api/connector.yaml").replace(&world.url(), &url);
            world.write("templates/api/connector.yaml", connector);
            let text =
                world.read("runner.yaml").replace("connector: api,", "connector: api, tls: { ca: ca.pem },");
            world.write("runner.yaml", text);
            let runs: Vec<_> = [
                "apply p -vvv",
                "apply p --format json",
                "try p --record t2 --format json",
                "check-connection -vvv",
            ]
            .map(|arguments| (arguments, with(&world, arguments, &set)))
            .into();
            assert!(runs.iter().all(|(_, run)| run.code != 0), "{url}");
            holds_no_secret(&world, &runs);
        }
    }
    // A setting that cannot be used is named and not shown.
    for value in [format!("{TOKEN}\n"), format!("{TOKEN}\u{1}"), format!("{TOKEN}é"), format!("{TOKEN} ")] {
        for how in ["auth: { bearer: token }", "headers: { X-A: '{{ connection.token }}' }"] {
            let world = with_secret(how, "", "");
            let run = with(&world, "apply p -vvv", &[("API_TOKEN", &value), ("RUNNER_LOG", "trace")]);
            holds_no_secret(&world, &[("apply", run)]);
        }
    }
    // Where the name of a variable belongs stands the value itself.
    let world = with_secret("auth: { bearer: token }", "", "");
    let quoted = serde_json::json!(TOKEN);
    for text in [format!("{{ env: {quoted} }}"), quoted.to_string(), format!("{{ file: {quoted} }}")] {
        world.write("runner.yaml", format!("connections:\n  local: {{ connector: api, token: {text} }}\n"));
        let run = with(&world, "apply p", &[]).exits(CONFIG);
        // A path is the name of a file; what it names is not there.
        if !text.contains("file") {
            holds_no_secret(&world, &[("apply", run)]);
        }
    }
}

/// A word of a script that is this text.
fn word(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[test]
fn a_secret_that_the_far_side_repeats_is_masked_before_it_is_kept_or_shown() {
    // S23
    let endpoint = ", captures: { said: '{{ response.body.said }}', all: '{{ response.body }}' }";
    let set = [("API_TOKEN", TOKEN), ("RUNNER_LOG", "trace"), ("RUNNER_LOG_FILE", "log.jsonl")];
    for form in forms() {
        let in_json = if form.contains('\\') { form.clone() } else { form.replace('"', "\\\"") };
        let object = format!("{{\"said\":\"<{in_json}>\",\"a {in_json}\":1}}");
        // One message is cut within it, whatever its form is.
        let long = format!("{}{form}{}", "x".repeat(492), "y".repeat(600));
        let header: String = form.chars().filter(|c| !c.is_control()).collect();
        let rules = format!(
            "* * body.id=t1 -> 400 content-type=application/json body={} x-said={}\n\
             * * body.id=t2 -> 200 content-type=application/json body={} x-said={}\n\
             * * body.id=t3 -> 307 location={} body={}\n\
             * * body.id=t4 -> 422 content-type=text/plain body={}\n",
            word(&object),
            word(&header),
            word(&object),
            word(&header),
            word(&format!("https://{header}.example.test/{header}")),
            word(&form),
            word(&long),
        );
        let world = with_secret("auth: { bearer: token }", endpoint, "").script(&rules);
        let mut runs = Vec::new();
        for arguments in [
            "apply p -vvv",
            "status p --files",
            "retry p -vvv --format jsonl",
            "apply p --format json",
            "try p --record t1 --again --yes",
            "try p --record t2 --again --yes --format json",
            "try p --record t3 --again --yes -vvv",
        ] {
            runs.push((arguments, with(&world, arguments, &set)));
        }
        assert!(world.seen().len() >= 8, "{form}");
        holds_no_secret(&world, &runs);
        // Who looks for a failure finds a mask, not nothing.
        assert!(world.outcomes("failed.csv").contains("***"), "{form}: {}", world.outcomes("failed.csv"));
    }
}

#[test]
fn a_secret_that_is_cut_by_a_limit_or_a_broken_reply_is_masked() {
    // S23
    let set = [("API_TOKEN", TOKEN)];
    for keep in [8, 10, TOKEN.len() - 1] {
        let world = with_secret("auth: { bearer: token }", "", "");
        let pipeline =
            world.read("pipelines/p.yaml").replace("delivery: { ", "delivery: { max_reply: 1KiB, ");
        world.write("pipelines/p.yaml", pipeline);
        let body = format!("{}{TOKEN}{}", "x".repeat(1024 - keep), "y".repeat(2000));
        world.answers(&format!("* * -> 200 content-type=text/plain body={}", word(&body)));
        let runs: Vec<_> = ["apply p -vvv", "try p --record t1 --again --yes --format json"]
            .map(|arguments| (arguments, with(&world, arguments, &set)))
            .into();
        assert!(world.outcomes("responses.ndjson").contains("xxx"), "the replies were kept");
        holds_no_secret(&world, &runs);
    }
    // Half of a body: as much of the secret as the sandbox sent.
    let body = format!("{}{TOKEN}", "x".repeat(7));
    let world = with_secret("auth: { bearer: token }", "", "").script("* * -> cut_in_body");
    world.answers(&format!("* * #1 -> 200 body={}\n* * -> cut_in_body", word(&body)));
    let run = with(&world, "apply p -vvv", &set);
    holds_no_secret(&world, &[("apply", run)]);
}
