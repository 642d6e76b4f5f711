//! Rows S01 to S11: where requests go, and what goes with them.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;

use runner::model::Class;

use super::{connection, posting, skipped, traced, with};
use crate::bad::tls::{Authority, Server};
use crate::world::{POST_THINGS, PUT_THINGS, Run, World, things};

const HALTED: i32 = Class::Halted.code() as i32;
const CONFIG: i32 = Class::Config.code() as i32;
const STOPPED: i32 = Class::Stopped.code() as i32;

/// A world whose far side speaks TLS.
fn over_tls(server: &Server, more: &str) -> World {
    let url = format!("https://localhost:{}", server.port());
    World::new().file("runner.yaml", connection(&url, more)).pipeline(POST_THINGS, things(2))
}

#[test]
fn no_variable_of_the_environment_makes_a_bad_certificate_good() {
    // S01
    let ours = Authority::new("ours");
    for identity in [
        Authority::new("theirs").certify("localhost", false),
        ours.certify("localhost", true),
        ours.certify("example.test", false),
    ] {
        let server = Server::start(identity);
        let world = over_tls(&server, ", tls: { ca: ca.pem }").file("ca.pem", ours.pem());
        let key_log = world.path("keys.log").display().to_string();
        let set = [
            ("NODE_TLS_REJECT_UNAUTHORIZED", "0"),
            ("PYTHONHTTPSVERIFY", "0"),
            ("GIT_SSL_NO_VERIFY", "1"),
            ("CURL_INSECURE", "1"),
            ("RUNNER_INSECURE", "1"),
            ("RUNNER_TLS_VERIFY", "false"),
            ("RUSTLS_DANGEROUS", "1"),
            ("SSLKEYLOGFILE", &key_log),
        ];
        with(&world, "apply p", &set).exits(HALTED).says("certificate");
        assert_eq!(server.requests(), 0);
        // Whoever has the keys of a connection reads it.
        assert!(!world.path("keys.log").exists());
    }
}

#[test]
fn a_certificate_that_is_not_checked_is_said_by_every_command_that_sends() {
    // S02
    let server = Server::start(Authority::new("theirs").certify("localhost", false));
    let world = over_tls(&server, ", check: { method: GET, path: /x }, tls: { verify: false }");
    for arguments in
        ["apply p", "apply p --fresh --yes", "try p --record t1 --again", "check-connection local"]
    {
        let run = world.run(arguments).exits(0).says("warning[tls-unverified]");
        assert!(run.stderr.contains("runner.yaml"), "{arguments}: {}", run.stderr);
    }
    let told = world.run("apply p --format json").exits(0).json();
    assert!(told["diagnostics"].to_string().contains("tls-unverified"), "{told}");
    assert!(server.requests() > 2);
    // Nothing else switches it off, whatever it is called.
    for more in ["insecure: true", "verify: 'no'", "verify: 0", "danger: true"] {
        world.write("runner.yaml", connection("https://localhost", &format!(", tls: {{ {more} }}")));
        world.run("validate").exits(CONFIG);
    }
}

/// A far side that takes a greeting and answers with this version of TLS.
fn answers_with_version(listener: TcpListener, minor: u8) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut hello = vec![0; 4096];
        let read = stream.read(&mut hello).expect("a greeting");
        hello.truncate(read);
        // A complete ServerHello without extensions: the version it names is the one that is used.
        let mut reply = vec![22, 3, minor, 0, 42, 2, 0, 0, 38, 3, minor];
        reply.extend([7; 32]);
        reply.extend([0, 0xc0, 0x13, 0]);
        let _ = stream.write_all(&reply);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        hello.extend(rest);
        hello
    })
}

#[test]
fn tls_below_1_2_is_neither_offered_nor_taken() {
    // S03
    for minor in [1, 2] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("https://localhost:{}", listener.local_addr().expect("an address").port());
        let pipeline = POST_THINGS.replace("retry: { ", "retry: { attempts: 1, ");
        let ca = Authority::new("ours").pem();
        let world = World::new()
            .file("runner.yaml", connection(&url, ", tls: { ca: ca.pem }"))
            .file("ca.pem", ca)
            .pipeline(&pipeline, things(1));
        let server = answers_with_version(listener, minor);
        world.run("apply p").exits(STOPPED).says("0 in doubt");
        let sent = server.join().expect("no panic");
        // The extension that lists what is offered: 1.3 and 1.2 (RFC 8446, 4.2.1).
        let offered = sent.windows(9).any(|bytes| bytes == [0, 43, 0, 5, 4, 3, 4, 3, 3]);
        assert!(offered, "the greeting offers other versions: {sent:02x?}");
        assert!(!sent.windows(5).any(|bytes| bytes == b"POST " || bytes == b"thing"));
    }
}

#[test]
fn credentials_go_over_plain_http_to_this_machine_only() {
    // S04
    let secret = "connector: api, token: { env: TOKEN }";
    for (host, code) in [
        ("http://10.0.0.1", CONFIG),
        ("http://example.test", CONFIG),
        ("http://localhost.example.test", CONFIG),
        ("http://127.0.0.1.example.test", CONFIG),
        ("http://0.0.0.0:1", CONFIG),
        ("http://[::]:1", CONFIG),
        ("http://[::ffff:10.0.0.1]", CONFIG),
        ("HTTP://EXAMPLE.TEST", CONFIG),
        ("http://loc\u{ad}alhost.test", CONFIG),
        ("http://127.0.0.1:1", 0),
        ("http://127.1:1", 0),
        ("http://[::1]:1", 0),
        ("http://LOCALHOST:1", 0),
    ] {
        for auth in [
            "auth: { bearer: token }",
            "auth: { api_key: { header: X-Key, value: token } }",
            "auth: { api_key: { query: key, value: token } }",
            "headers: { X-Token: 'a {{ connection.token }}' }",
        ] {
            let connector = format!(
                "settings: {{ token: {{ type: string, secret: true }} }}\nbase_url: '{host}'\n{auth}\n"
            );
            let world = World::new()
                .file("templates/api/connector.yaml", connector)
                .file("runner.yaml", format!("connections:\n  local: {{ {secret} }}\n"))
                .pipeline(POST_THINGS, things(1));
            let run = with(&world, "validate", &[("TOKEN", "x-y-z-1")]);
            assert_eq!(run.code, code, "{host} {auth}\n{}{}", run.stdout, run.stderr);
            assert_eq!(run.stderr.contains("plain-http"), code == CONFIG, "{host}: {}", run.stderr);
        }
    }
}

#[test]
fn no_redirect_is_followed_whatever_its_kind() {
    // S05
    let other = World::new();
    let host = other.far_side().addr().to_string();
    for status in [300, 301, 302, 303, 304, 305, 307, 308] {
        for target in [format!("http://{host}/stolen"), format!("//{host}/stolen"), "/elsewhere".to_owned()] {
            let world = World::new()
                .file("runner.yaml", "")
                .pipeline(POST_THINGS, things(1))
                .script(&format!("* * -> {status} location='{target}' refresh='0; url={target}'"));
            world.write("runner.yaml", connection(&world.url(), ", check: { method: GET, path: /check }"));
            world.run("apply p").exits(1).says("1 failed");
            world.run("check-connection local");
            world.run("try p --record t1 --again");
            assert_eq!(world.asked(), ["POST /things", "GET /check", "POST /things"], "{status}");
        }
    }
    assert_eq!(other.seen(), []);
}

#[test]
fn no_value_moves_a_request_to_another_host() {
    // S06, S12
    let other = World::new();
    let evil = other.far_side().addr().to_string();
    let mut rows = String::from("id,v\n");
    let values = [
        "//EVIL/",
        "///EVIL",
        "http://EVIL/",
        "HTTP:EVIL",
        "@EVIL",
        "x@EVIL/",
        ":80@EVIL",
        "\\\\EVIL",
        "\\EVIL",
        "/\\EVIL",
        "..//EVIL",
        "/../..//EVIL",
        "%2f%2fEVIL",
        "%5cEVIL",
        "?//EVIL",
        "#@EVIL",
        ";@EVIL",
        "EVIL",
        "\u{ff0f}\u{ff0f}EVIL",
        "\u{2044}EVIL",
        "。EVIL",
        "．．/EVIL",
        "\u{200b}//EVIL",
        ".EVIL",
        "..EVIL",
        "HTTP/1.1",
        "* ",
        "http:",
        "javascript:x",
    ];
    for (at, value) in values.iter().enumerate() {
        rows.push_str(&format!("{at},\"{}\"\n", value.replace("EVIL", &evil)));
    }
    for path in
        ["/{{ record.v }}", "/{{ record.v }}/x", "/a{{ record.v }}", "/things/{{ record.v }}/{{ record.v }}"]
    {
        let endpoint = format!(
            "connection: local\nmethod: POST\n\
             endpoint: {{ method: POST, path: '{path}', query: {{ q: '{{{{ record.v }}}}', host: '{{{{ vars.v }}}}' }}, \
             headers: {{ X-Forwarded-Host: '{{{{ vars.v }}}}' }} }}\n\
             vars: {{ v: x }}\nsource: {{ file: data/things.csv }}\nkey: '{{{{ record.v }}}}'\n\
             delivery: {{ concurrency: 4 }}\n"
        );
        let world = World::new().pipeline(&endpoint, &rows).script("* * -> 200");
        let ours = world.far_side().addr().to_string();
        world.run(&format!("apply p --var v=//{evil}/"));
        let seen = world.seen();
        // Most are plain text within a segment; a segment of dots is refused.
        assert!(seen.len() + 3 >= values.len(), "{path}: {}", seen.len());
        let segments = path.matches('/').count();
        for seen in &seen {
            assert_eq!(seen.headers["host"], ours);
            let (before, query) = seen.path.split_once('?').expect("a query");
            assert_eq!(before.matches('/').count(), segments, "{}", seen.path);
            assert_eq!(query.matches(['=', '&', '?', '#']).count(), 3, "{}", seen.path);
        }
    }
    assert_eq!(other.seen(), []);
}

#[test]
fn no_setting_and_no_template_moves_a_request_to_another_host() {
    // S06
    let other = World::new();
    let evil = other.far_side().addr().to_string();
    for value in
        ["EVIL/", "EVIL\\", "EVIL?", "EVIL#", "x@EVIL/", "EVIL/x", "EVIL/../", "/EVIL", "EVIL\u{ff0f}"]
    {
        let world = World::new()
            .file(
                "templates/api/connector.yaml",
                "settings: { sub: { type: string } }\nbase_url: 'http://{{ connection.sub }}.api.example.test/v2'\n",
            )
            .file("runner.yaml", "connections:\n  local: { connector: api, sub: { env: SUB, secret: false } }\n")
            .pipeline(POST_THINGS, things(1));
        let value = value.replace("EVIL", &evil);
        let run = with(&world, "apply p", &[("SUB", &value)]);
        assert_eq!(run.code, CONFIG, "{value}: {}", run.stderr);
    }
    // A whole URL in an endpoint: its origin is that of the connection, and written out.
    for url in [
        "{{ record.v }}",
        "URL{{ record.v }}",
        "URL{{ record.v }}/things",
        "http://{{ record.v }}/things",
        "{{ record.s }}://EVIL/",
        "http://EVIL/things",
        "//EVIL/things",
        "URL@EVIL/",
        "URL.EVIL/",
        "https:/EVIL",
    ] {
        let world = World::new();
        let url = url.replace("URL", &world.url()).replace("EVIL", &evil);
        let pipeline = posting("", "").replace("path: /things", &format!("url: '{url}'"));
        let world = world.pipeline(&pipeline, format!("v,s\n.x,http\n@{evil},http\n:80,http\n{evil},http\n"));
        let run = world.run("apply p");
        assert!([1, CONFIG].contains(&run.code), "{url}: {} {}", run.code, run.stderr);
        assert_eq!(world.seen(), [], "{url}");
    }
    assert_eq!(other.seen(), []);
}

/// Link-local and metadata addresses as they may be written in a URL.
const REFUSED: [&str; 25] = [
    "169.254.169.254",
    "169.254.169.254.",
    "169.254.1.1",
    "2852039166",
    "0xa9fea9fe",
    "0XA9FEA9FE",
    "0251.0376.0251.0376",
    "0xa9.0xfe.0xa9.0xfe",
    "169.254.43518",
    "169.16689662",
    "169.254.169.0xfe",
    "%31%36%39.254.169.254",
    "１６９.254.169.254",
    "169。254。169。254",
    "100.100.100.200",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[::169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
    "[fe80::1]",
    "[fe80:0:0:0:0:0:0:1]",
    "[fd00:ec2::254]",
    "metadata.google.internal",
    "METADATA.GOOGLE.INTERNAL.",
];

#[test]
fn addresses_of_this_machine_alone_are_refused_in_every_spelling() {
    // S07
    for host in REFUSED {
        for scheme in ["http", "https"] {
            let world = World::new()
                .file("runner.yaml", connection(&format!("{scheme}://{host}/v1"), ""))
                .pipeline(POST_THINGS, things(1));
            world.run("validate").exits(CONFIG).says("address-refused");
            world.run("apply p").exits(CONFIG).says("address-refused");
        }
        // Nor is it asked to pass requests on.
        let world = World::new().pipeline(POST_THINGS, things(1));
        world.write("runner.yaml", connection(&world.url(), &format!(", proxy: 'http://{host}:3128'")));
        world.run("apply p").exits(CONFIG).says("address-refused");
    }
    let world = World::new().pipeline(POST_THINGS, things(1));
    for host in &REFUSED[..4] {
        world.write("runner.yaml", connection(&format!("http://{host}"), ""));
        let Some(trace) = traced(&world, world.command("apply p")) else { return };
        assert_eq!((trace.run.code, trace.connects), (CONFIG, Vec::new()), "{host}");
    }
}

#[test]
fn a_name_that_leads_to_such_an_address_is_refused_where_it_is_resolved() {
    // S07: names are given to the machine in a file of hosts that only this start sees.
    let addresses = [
        "169.254.169.254",
        "fe80::1",
        "fd00:ec2::254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "100.100.100.200",
    ];
    for (address, refused) in
        addresses.into_iter().map(|address| (address, true)).chain([("127.0.0.1", false)])
    {
        let world = World::new().file("hosts", format!("{address} api.example.test\n"));
        let url = format!("http://api.example.test:{}", world.far_side().addr().port());
        let world = world.file("runner.yaml", connection(&url, "")).pipeline(POST_THINGS, things(1));
        let plain = world.command("apply p");
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--map-root-user",
                "sh",
                "-c",
                "mount --bind hosts /etc/hosts && exec \"$0\" \"$@\"",
            ])
            .arg(plain.get_program())
            .args(plain.get_args());
        let probe = Command::new("unshare")
            .args(["--mount", "--map-root-user", "sh", "-c", "mount --bind hosts /etc/hosts"])
            .current_dir(world.path(""))
            .output();
        if !probe.is_ok_and(|output| output.status.success()) {
            return skipped("names cannot be given without namespaces of the system");
        }
        let Some(trace) = traced(&world, command) else { return };
        if refused {
            let run = trace.run.exits(HALTED).says("metadata address refused");
            assert!(!run.stderr.contains("1 in doubt"), "{}", run.stderr);
            let port = format!(":{}", world.far_side().addr().port());
            let there: Vec<_> = trace.connects.iter().filter(|to| to.ends_with(&port)).collect();
            assert_eq!(there, Vec::<&String>::new(), "{address}");
        } else {
            trace.run.exits(0);
            assert_eq!(world.seen().len(), 1);
        }
    }
}

#[test]
fn nothing_leads_from_one_record_to_the_next() {
    // S09
    let endpoint = ", headers: { X-Id: '{{ record.id }}' }";
    let world = World::new().pipeline(&posting(endpoint, ""), things(6)).script(
        "* * #1 -> 200 set-cookie='sid=1; Path=/' www-authenticate='Basic realm=x' etag='\"1\"' alt-svc='h2=\":1\"'\n\
         * * #2 -> 422 set-cookie='sid=2' strict-transport-security='max-age=1' last-modified='Mon, 01 Jan 2024 00:00:00 GMT'\n\
         * * #3 -> 307 location=/things set-cookie=sid=3\n\
         * * #4 -> 200 set-cookie=sid=4 connection=close",
    );
    world.run("apply p").exits(1);
    let seen = world.seen();
    assert_eq!(seen.len(), 6);
    let plain = |at: usize| {
        let mut headers = seen[at].headers.clone();
        let id = headers.remove("x-id").expect("an id of its own");
        assert_eq!(id, format!("t{}", at + 1));
        headers
    };
    for at in 1..6 {
        assert_eq!(plain(at), plain(0), "request {at}");
    }
    assert!(
        ["cookie", "referer", "authorization", "if-none-match"]
            .iter()
            .all(|name| !plain(5).contains_key(*name))
    );
}

#[test]
fn what_arrives_is_what_the_checkpoint_counts_although_connections_are_closed() {
    // S10, S42
    let faults = "* * 4% seed=1 -> cut_before\n* * 4% seed=2 -> cut_after_effect\n* * 4% seed=3 -> reset\n\
         * * 4% seed=4 -> cut_in_headers\n* * 20% seed=5 -> close\n* * 4% seed=6 -> 503 retry-after=0\n";
    for (pipeline, n, more) in [
        (PUT_THINGS, 3000, ""),
        (POST_THINGS, 2000, ""),
        // Here the connection is gone when the next request is written, so some attempts do not arrive.
        (PUT_THINGS, 2000, "* * 30% seed=7 -> close_silent\n"),
        (POST_THINGS, 2000, "* * 30% seed=7 -> close_silent\n"),
    ] {
        let world = World::new().pipeline(pipeline, things(n)).script(&format!("{faults}{more}"));
        world.run("apply p");
        let mut arrived = vec![0_u32; n];
        for seen in world.seen() {
            let body: serde_json::Value = serde_json::from_slice(&seen.body).unwrap_or_default();
            let id = seen.path.rsplit("/t").next().and_then(|id| id.parse().ok());
            let id: usize = id.unwrap_or_else(|| {
                body["id"].as_str().and_then(|id| id.strip_prefix('t')?.parse().ok()).expect("an id")
            });
            arrived[id - 1] += 1;
        }
        let checkpoint = world.checkpoint("p");
        let mut rows = checkpoint.prepare("SELECT id & 1099511627775, attempts FROM record").expect("rows");
        let rows =
            rows.query_map([], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, u32>(1)?))).expect("rows");
        let mut counted = 0;
        for row in rows {
            let (ordinal, attempts) = row.expect("a row");
            let came = arrived[ordinal as usize];
            let fits = if more.is_empty() { came == attempts } else { came <= attempts };
            assert!(fits, "record {ordinal}: {came} arrived, {attempts} are known");
            assert!(attempts <= 4, "record {ordinal}: {attempts}");
            counted += u64::from(came);
        }
        assert_eq!(counted, world.seen().len() as u64);
        let repeated = arrived.iter().filter(|times| **times > 1).count();
        // A POST that may have acted is not sent twice; what was refused for now is.
        assert!(repeated > 10, "{repeated}");
    }
}

#[test]
fn a_far_side_that_takes_connections_and_is_silent_meets_the_limit_of_connecting() {
    // S11: the system accepts, nobody ever answers the greeting of TLS.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://localhost:{}", listener.local_addr().expect("an address").port());
    let pipeline = POST_THINGS
        .replace("delivery: { ", "delivery: { connect_timeout: 100ms, ")
        .replace("retry: { ", "retry: { attempts: 2, ");
    let world = World::new()
        .file("runner.yaml", connection(&url, ", tls: { ca: ca.pem }"))
        .file("ca.pem", Authority::new("ours").pem())
        .pipeline(&pipeline, things(1));
    // What could not connect is certain, so nothing is in doubt.
    let run: Run = world.run("apply p").exits(STOPPED);
    assert!(run.stderr.contains("0 in doubt"), "{}", run.stderr);
}
