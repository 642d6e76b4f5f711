//! Rows S41 to S46: what a start may take, what it opens and what it is made of.

use std::path::Path;
use std::process::Stdio;

use sha2::{Digest as _, Sha256};

use super::{Trace, connection, posting, traced};
use crate::bad::limited;
use crate::world::{POST_THINGS, PUT_THINGS, Run, Running, World, things};

/// What any start may take of memory, in KiB.
const MEMORY: u64 = 300 * 1024;

/// The most memory that a process had so far, in KiB.
pub fn peak(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("a living process");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn bombs_in_files_end_within_their_limits() {
    // S41
    let nested = |open: &str, close: &str, n: usize| format!("{}{}", open.repeat(n), close.repeat(n));
    let aliases = (0..9).fold("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, n| {
        let refers = vec![format!("*a{n}"); 9].join(",");
        format!("{text}a{}: &a{} [{refers}]\n", n + 1, n + 1)
    });
    let of_body =
        |expression: &str| posting("", &format!("body: {{ a: {} }}\n", serde_json::json!(expression)));
    let schema = |text: &str| (posting("", "schema: s.json\n"), text.to_owned());
    let plain = |pipeline: String| (pipeline, String::new());
    let cases = [
        ("aliases", plain(posting("", &aliases))),
        ("flow", plain(posting("", &format!("vars: {}\n", nested("[", "]", 60_000))))),
        ("maps", plain(posting("", &format!("vars: {}x{}\n", "{a: ".repeat(60_000), "}".repeat(60_000))))),
        (
            "keys",
            plain(posting(
                "",
                &(0..60_000).fold("vars:\n".to_owned(), |text, n| text + &format!("  k{n}: 1\n")),
            )),
        ),
        ("repeat", plain(of_body("{{ 'x' * 1000000000 }}"))),
        ("range", plain(of_body("{% for a in range(100000000) %}x{% endfor %}"))),
        (
            "nested loops",
            plain(of_body(
                "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}",
            )),
        ),
        (
            "doubling",
            plain(of_body(&format!(
                "{{% set a = 'xxxxxxxxxx' %}}{}{{{{ a }}}}",
                "{% set a = a ~ a ~ a ~ a %}".repeat(30)
            ))),
        ),
        ("macro", plain(of_body("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"))),
        ("parentheses", plain(of_body(&format!("{{{{ {} }}}}", nested("(", ")", 20_000))))),
        ("filters", plain(of_body(&format!("{{{{ record.id{} }}}}", " | upper".repeat(30_000))))),
        (
            "where",
            plain(posting(
                "",
                &format!("select: {{ where: \"{}\" }}\n", vec!["record.id"; 20_000].join(" ~ ")),
            )),
        ),
        ("pattern", schema(r#"{"properties":{"name":{"pattern":"^(a+)+$"}}}"#)),
        (
            "large pattern",
            schema(r#"{"properties":{"name":{"pattern":"(((((a{1,100}){1,100}){1,100}){1,100}){1,100})"}}}"#),
        ),
        ("schema depth", schema(&format!("{}true{}", "{\"items\":".repeat(50_000), "}".repeat(50_000)))),
        (
            "schema loop",
            schema(
                r##"{"$defs":{"a":{"allOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/a"}]}},"$ref":"#/$defs/a"}"##,
            ),
        ),
        ("schema fan", schema(&fan())),
    ];
    for (name, (pipeline, schema)) in cases {
        let world = World::new()
            .pipeline(&pipeline, format!("id,name\n1,{}!\n", "a".repeat(50_000)))
            .file("s.json", schema)
            .script("* * -> 200");
        for arguments in ["validate", "apply p"] {
            // A minute is for machines under load; what has no limit never ends.
            let mut command = limited(
                &world,
                arguments,
                &format!("ulimit -v {}; ulimit -d {MEMORY}; exec timeout 60", 4 << 20),
            );
            let run = Run::of(command.output().expect("it runs"), &world);
            assert!(
                [0, 1, 3].contains(&run.code),
                "{name}, {arguments}: {} {}",
                run.code,
                &run.stderr.chars().take(2000).collect::<String>()
            );
            assert!(!run.stderr.contains("panicked"), "{name}");
        }
    }
}

/// Definitions of which each names the next ten times.
fn fan() -> String {
    let defs = (0..12).map(|n| {
        let next: Vec<_> =
            (0..10).map(|_| serde_json::json!({ "$ref": format!("#/$defs/d{}", n + 1) })).collect();
        (format!("d{n}"), serde_json::json!({ "anyOf": next }))
    });
    let mut defs: serde_json::Map<_, _> = defs.collect();
    defs.insert("d12".into(), false.into());
    serde_json::json!({ "$defs": defs, "$ref": "#/$defs/d0" }).to_string()
}

#[test]
fn bombs_in_the_input_end_within_their_limits() {
    // S41
    let squeezed = |unit: &[u8], times: usize| {
        use std::io::Write as _;
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        (0..times).for_each(|_| gz.write_all(unit).expect("memory"));
        gz.finish().expect("memory")
    };
    let mib = vec![b'x'; 1 << 20];
    // Less memory than the largest of them unpacks to; the allocator asks for 32 MiB at a time, for each thread.
    for (file, content) in [
        ("a.csv", format!("id,{}\n1,2\n", "c,".repeat(2_000_000)).into_bytes()),
        ("a.csv", format!("id\n{}\n", "x".repeat(6 << 20)).into_bytes()),
        ("a.csv", format!("id\n\"{}", "x\n".repeat(16 << 20)).into_bytes()),
        ("a.json", "[".repeat(4 << 20).into_bytes()),
        ("a.json", format!("[{{\"id\":{}}}]", "9".repeat(2 << 20)).into_bytes()),
        ("a.json", format!("[{{\"id\":\"{}\"}}]", "x".repeat(6 << 20)).into_bytes()),
        (
            "a.ndjson",
            format!("{{{}}}", (0..900_000).map(|n| format!("\"k{n}\":1")).collect::<Vec<_>>().join(","))
                .into_bytes(),
        ),
        ("a.csv.gz", [squeezed(b"id\n", 1), squeezed(&mib, 12)].concat()),
        ("a.ndjson.gz", squeezed(&mib, 264)),
        ("a.json.gz", [squeezed(b"[{\"id\":\"", 1), squeezed(&mib, 24)].concat()),
    ] {
        let pipeline = POST_THINGS.replace("data/things.csv", &format!("data/{file}"));
        let world = World::new().file("pipelines/p.yaml", pipeline).file(&format!("data/{file}"), content);
        let mut command = limited(&world, "apply p", "ulimit -d 262144; exec timeout 60");
        let run = Run::of(command.output().expect("it runs"), &world);
        let shown: String = run.stderr.chars().take(2000).collect();
        assert!([1, 3, 4].contains(&run.code), "{file}: {} {shown}", run.code);
        assert!(run.stderr.len() < 100_000 && !run.stderr.contains("panicked"), "{file}: {shown}");
    }
}

#[test]
fn memory_stays_bounded_while_replies_are_bombs() {
    // S41, S11
    let world = World::new()
        .pipeline(
            &format!("{PUT_THINGS}responses: {{ file: true }}\n")
                .replace("delivery: { ", "delivery: { timeout: 60s, "),
            things(7),
        )
        .script("* * first=4 -> gzip_bomb 1GiB\n* * #5 -> endless_headers\n* * after=6 -> hang\n");
    let mut running = world.start("apply p --concurrency 4");
    assert!(world.until(&running, 8), "{}", running.ended(&world).stderr);
    let most = peak(running.id());
    assert!(most < MEMORY, "{most} KiB");
    running.signal(rustix::process::Signal::KILL);
    running.ended(&world);
}

#[test]
fn attempts_are_bounded_and_so_is_every_wait() {
    // S42
    for (reply, records, attempts) in [
        ("503 retry-after=0", 6, 4),
        ("429 retry-after=0", 6, 4),
        ("408", 6, 4),
        ("425", 6, 4),
        ("500", 6, 4),
        ("cut_before", 6, 4),
        ("422", 6, 1),
        ("200", 6, 1),
    ] {
        let world = World::new().pipeline(PUT_THINGS, things(records)).script(&format!("* * -> {reply}"));
        world.run("apply p --concurrency 2");
        let mut times = std::collections::BTreeMap::new();
        for asked in world.asked() {
            *times.entry(asked).or_insert(0) += 1;
        }
        assert_eq!(times.len(), records, "{reply}");
        assert!(times.values().all(|times| *times == attempts), "{reply}: {times:?}");
    }
    // A wait beyond the cap is not waited: the start ends, however long it was asked to.
    let world = World::new()
        .pipeline(&PUT_THINGS.replace("retry: { ", "retry: { max_retry_after: 1s, "), things(3))
        .script("* * -> 429 retry-after=3600");
    world.run("apply p --concurrency 1").exits(7);
    assert_eq!(world.seen().len(), 1);
}

#[test]
fn commands_that_look_open_no_connection_and_start_no_program() {
    // S43
    let world = World::new().pipeline(POST_THINGS, things(3)).script("* * body.id=t2 -> 500");
    world.run("apply p").exits(6);
    let url = world.url();
    world.write("runner.yaml", connection(&url, ", check: { method: GET, path: /x }"));
    let before = world.seen().len();
    for arguments in [
        "validate --data",
        "plan p",
        "preview p --all",
        "preview p --as curl",
        "status p --verify",
        "status p --files",
        "list",
        "list settings p",
        "list runs",
        "apply p --dry-run",
        "resolve p --skip --all",
        "schema pipeline",
        "help exit-codes",
        "completions bash",
        "init new",
    ] {
        let Some(Trace { run, connects, programs }) = traced(&world, world.command(arguments)) else {
            return;
        };
        assert_eq!((connects, programs), (Vec::new(), 1), "{arguments}: {}", run.stderr);
    }
    assert_eq!(world.seen().len(), before);
    // The trace sees what there is to see.
    let trace = traced(&world, world.command("check-connection local")).expect("strace was here");
    assert_eq!(trace.connects, [world.far_side().addr().to_string()]);
}

#[test]
fn a_whole_run_talks_to_the_declared_host_alone() {
    // S44, S06
    let other = World::new();
    let world = World::new()
        .pipeline(
            &POST_THINGS.replace("path: /things }", "path: /things, captures: { u: '{{ response.body.next }}' } }"),
            format!("id,name,url\n1,http://{0}/x,http://{0}\n2,//{0},{0}\n3,@{0},x\n", other.far_side().addr()),
        )
        .script(&format!(
            "* * #1 -> redirect {0}/x 307\n* * #2 -> 200 link='<{0}/x>; rel=next' alt-svc='h2=\":443\"' content-type=application/json body='{{\"next\":\"{0}\"}}'",
            other.url()
        ));
    let here = world.far_side().addr().to_string();
    for arguments in
        ["apply p", "retry p", "try p --record 3 --again --yes", "status p", "apply p --fresh --yes"]
    {
        let Some(trace) = traced(&world, world.command(arguments)) else { return };
        assert!(trace.connects.iter().all(|to| *to == here), "{arguments}: {:?}", trace.connects);
        assert_eq!(trace.programs, 1, "{arguments}");
        // A look needs none, and all else has some.
        assert_eq!(trace.connects.is_empty(), arguments == "status p", "{arguments}: {}", trace.run.stderr);
    }
    assert_eq!(other.seen(), []);
    // Its own stand-in is on this machine as well.
    let trace = traced(&world, world.command("apply p --sandbox"));
    assert!(trace.is_none_or(|trace| trace.connects.iter().all(|to| to.starts_with("127.0.0.1:"))));
}

/// Addresses on which a process listens, as `/proc` writes them.
fn listens(id: u32) -> Vec<String> {
    let descriptors = std::fs::read_dir(format!("/proc/{id}/fd")).expect("a living process").flatten();
    let sockets: Vec<String> = descriptors
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter_map(|to| to.to_string_lossy().strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned))
        .collect();
    let mut found = Vec::new();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let text = std::fs::read_to_string(format!("/proc/{id}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let cells: Vec<&str> = line.split_whitespace().collect();
            let (local, state, inode) = (cells[1], cells[3], cells[9]);
            // 0A is LISTEN; a datagram socket has no such state.
            if sockets.iter().any(|socket| socket == inode) && (state == "0A" || table.starts_with("udp")) {
                found.push(local.to_owned());
            }
        }
    }
    found
}

#[test]
fn the_stand_in_listens_on_loopback_only() {
    // S45
    let world = World::new();
    world.write("templates/api/connector.yaml", "base_url: https://api.example.test\n");
    world.write("templates/api/make.yaml", "method: POST\npath: /things\n");
    world.write("runner.yaml", "connections:\n  local: { connector: api }\n");
    for listen in ["", " --listen 127.0.0.1:0", " --listen [::1]:0"] {
        let mut running = world.start(&format!("sandbox api{listen}"));
        if listen.contains("::1") && !Path::new("/proc/net/if_inet6").exists() {
            continue;
        }
        let line = running.first_line();
        let port =
            line.trim().trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
        let port = port.unwrap_or_else(|| panic!("no port in {line}"));
        let found = listens(running.id());
        let host = if listen.contains("::1") { "00000000000000000000000001000000" } else { "0100007F" };
        assert_eq!(found, [format!("{host}:{port:04X}")], "{listen}");
        running.signal(rustix::process::Signal::KILL);
        running.ended(&world);
    }
    for listen in
        ["0.0.0.0:0", "[::]:0", "10.0.0.1:0", "169.254.1.1:0", "example.test:0", ":0", "[::ffff:0.0.0.0]:0"]
    {
        let run = world.run(&format!("sandbox api --listen {listen}"));
        assert!([2, 3].contains(&run.code), "{listen}: {} {}", run.code, run.stderr);
    }
    // The one inside of a start.
    let mut command = world.command("apply p --sandbox");
    world.write("pipelines/p.yaml", "connection: local\nendpoint: api/make\nsource: { file: '-' }\n");
    command.stdin(Stdio::piped());
    let mut running = Running::of(&mut command);
    let found = listens(running.id());
    assert!(found.iter().all(|address| address.starts_with("0100007F:")), "{found:?}");
    running.signal(rustix::process::Signal::KILL);
    running.ended(&world);
}

#[test]
fn the_binary_tells_what_it_was_made_of_and_nothing_in_it_is_unsafe() {
    // S46
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect(path);
    let lock = read("Cargo.lock");
    let sources: Vec<&str> = lock.lines().filter(|line| line.starts_with("source = ")).collect();
    assert!(sources.len() > 100);
    let registry = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    assert!(sources.iter().all(|source| *source == registry), "{sources:?}");
    assert!(!lock.contains("git+"));
    let manifest = read("Cargo.toml");
    assert!(manifest.contains("[lints.rust]\nunsafe_code = \"forbid\"\n"));
    assert!(!manifest.contains("git = ") && !manifest.contains("[patch"));
    // `forbid` cannot be undone by an `allow`, so one line is enough; deny.toml holds the rest.
    let deny = read("deny.toml");
    for part in ["[advisories]", "yanked = \"deny\"", "unknown-git = \"deny\"", "unknown-registry = \"deny\""]
    {
        assert!(deny.contains(part), "deny.toml has no {part}");
    }
    let version = World::new().run("--version").exits(0).stdout;
    let hash = Sha256::digest(lock.as_bytes())
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .concat();
    let (name, made_of) = version.trim_end().split_once(" (").expect(&version);
    assert_eq!(name, format!("runner {}", env!("CARGO_PKG_VERSION")));
    assert!(made_of.ends_with(&format!("lock {hash})")), "{version}");
    // A source archive has no commit.
    let commit = made_of.strip_prefix("commit ").and_then(|rest| rest.split(',').next());
    assert_eq!(
        commit.is_some(),
        root.join(".git").exists() || std::env::var_os("RUNNER_COMMIT").is_some(),
        "{version}"
    );
    assert!(
        commit.is_none_or(|commit| commit.len() == 7 && commit.bytes().all(|byte| byte.is_ascii_hexdigit())),
        "{version}"
    );
}
