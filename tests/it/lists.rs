//! Sources that are lists of an API: every kind of pages, their ends, and what goes wrong on the way.

use std::fs;
use std::process::Stdio;

use rustix::process::Signal;

use crate::security::resources::peak;
use crate::world::{World, things};

/// A pipeline that PUTs every item of `/lists/KIND`, read by this pagination.
fn over(kind: &str, query: &str, pagination: &str) -> String {
    format!(
        "connection: local\n\
         endpoint:\n  method: PUT\n  path: '/things/{{{{ params.id }}}}'\n  params: {{ id: {{ required: true }} }}\n  idempotency: natural\n\
         source:\n  endpoint:\n    method: GET\n    path: /lists/{kind}\n    query: {{ {query} }}\n\
         \x20   pagination: {{ items: '{{{{ response.body.items }}}}', {pagination} }}\n\
         key: '{{{{ record.id }}}}'\n\
         delivery: {{ concurrency: 1, retry: {{ first_wait: 1ms, max_wait: 5ms }} }}\n"
    )
}

const PAGES: &str = "kind: page, param: page, size_param: size, size: 3";
const CURSOR: &str =
    "kind: cursor, param: cursor, size_param: size, size: 3, next: '{{ response.body.next }}'";

fn world(kind: &str, count: usize, pagination: &str) -> World {
    World::new().file("pipelines/p.yaml", over(kind, &format!("count: {count}"), pagination))
}

/// The lists that were asked for, as path and query.
fn asked(world: &World) -> Vec<String> {
    world.seen().iter().filter(|seen| seen.method == "GET").map(|seen| seen.path.clone()).collect()
}

/// The things that were put.
fn put(world: &World) -> Vec<String> {
    let puts = world.seen().into_iter().filter(|seen| seen.method == "PUT");
    puts.map(|seen| seen.path.trim_start_matches("/things/").to_owned()).collect()
}

fn ids(count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("i{n}")).collect()
}

#[test]
fn every_kind_of_pages_is_read_to_its_end() {
    let next = "next: '{{ response.body.next }}'";
    for (kind, pagination, pages) in [
        ("page", PAGES.to_owned(), 4),
        ("page", format!("{PAGES}, total_pages: '{{{{ response.body.pages }}}}'"), 3),
        ("zero", format!("{PAGES}, start: 0"), 4),
        ("offset", "kind: offset, param: offset, size_param: size, size: 3".to_owned(), 4),
        ("cursor", CURSOR.to_owned(), 3),
        ("url", format!("kind: next_url, {next}"), 3),
        ("link", "kind: link".to_owned(), 3),
        ("whole", "kind: none".to_owned(), 1),
    ] {
        let world = world(kind, 7, &pagination);
        world.run("apply p").exits(0).says("7 delivered, 0 failed").says(&format!("7 items on {pages} page"));
        assert_eq!(put(&world), ids(7), "{kind}");
        assert_eq!(asked(&world).len(), pages, "{kind}: {:?}", asked(&world));
        // The same list again is the same run.
        world.run("apply p").exits(0).says("nothing to do");
        assert_eq!(put(&world).len(), 7, "{kind}");
    }
}

#[test]
fn a_full_last_page_is_followed_by_an_empty_one() {
    for (kind, pagination) in
        [("page", PAGES), ("offset", "kind: offset, param: offset, size_param: size, size: 3")]
    {
        let world = world(kind, 6, pagination);
        world.run("apply p").exits(0).says("6 delivered");
        assert_eq!(asked(&world).len(), 3, "{kind}");
    }
    // Where it is said how many pages there are, nobody asks beyond.
    let world = world("page", 6, &format!("{PAGES}, total_pages: '{{{{ response.body.pages }}}}'"));
    world.run("apply p").exits(0).says("6 delivered");
    assert_eq!(asked(&world).len(), 2);
}

#[test]
fn a_server_with_a_smaller_limit_loses_no_items() {
    // 3 are asked for and 2 come: that is no last page.
    for (kind, pagination) in
        [("capped-page", PAGES), ("capped-offset", "kind: offset, param: offset, size_param: size, size: 3")]
    {
        let world = world(kind, 7, pagination);
        world.run("apply p").exits(0).says("7 delivered");
        assert_eq!(put(&world), ids(7), "{kind}");
    }
}

#[test]
fn an_empty_list_is_no_mistake() {
    let world = world("page", 0, PAGES);
    world.run("apply p").exits(0).says("0 items on 1 page");
    assert!(put(&world).is_empty());
}

#[test]
fn a_list_that_never_ends_or_leads_away_is_refused() {
    let url = "kind: next_url, next: '{{ response.body.next }}'";
    for (kind, pagination, said) in [
        ("loop", CURSOR, "names a cursor of the next page that was used before"),
        ("circle", url, "names a URL of the next page that was used before"),
        ("deaf", PAGES, "holds the same items as the page before"),
        ("elsewhere", url, "names a next page that lies elsewhere"),
        ("elsewhere-link", "kind: link", "names a next page that lies elsewhere"),
        ("user", url, "names a next page that lies elsewhere"),
        (
            "page",
            "kind: page, param: page, size_param: size, size: 1, max_pages: 3",
            "does not end within 3 pages",
        ),
        ("text", PAGES, "has text where `items` should be a list"),
        ("nothing", PAGES, "has no list at `items`"),
        ("html", PAGES, "is not what its content type says"),
    ] {
        let world = world(kind, 7, pagination);
        let run = world.run("apply p").exits(9).says(said).says("nothing was sent");
        assert!(!run.stderr.contains("127.0.0.1:1/"), "{}", run.stderr);
        assert!(put(&world).is_empty(), "{kind}");
        assert!(!world.path(".runner/default/state/p.list").exists(), "{kind}");
    }
}

#[test]
fn pages_wait_and_are_repeated_like_any_request() {
    for script in [
        "GET /lists/* #2 -> 429 retry-after=0",
        "GET /lists/* #2 -> 500",
        "GET /lists/* #2 -> 503\nGET /lists/* #3 -> 408",
        "GET /lists/* #3 -> reset",
        "GET /lists/* #3 -> cut_before",
        "GET /lists/* #3 -> cut_in_headers",
        "GET /lists/* #3 -> cut_in_body",
    ] {
        let world = world("page", 7, PAGES).script(script);
        world.run("apply p").exits(0).says("7 delivered");
        assert_eq!(put(&world), ids(7), "{script}");
        assert!(asked(&world).len() > 3, "{script}");
    }
}

#[test]
fn a_list_that_cannot_be_had_ends_the_start_with_nothing_sent() {
    for (reply, code, said) in [
        ("401", 9, "refused page 2"),
        ("404", 9, "refused page 2"),
        ("500", 7, "gave no page 2"),
        ("429 retry-after=9999", 7, "asks to wait"),
    ] {
        let world = world("page", 7, PAGES).script(&format!("GET /lists/* after=1 -> {reply}"));
        world
            .run("apply p")
            .exits(code)
            .says(said)
            .says("while reading api:GET /lists/page; nothing was sent");
        assert!(put(&world).is_empty());
        // What was read of it is not taken for the list.
        world.answers("");
        world.run("apply p").exits(0).says("7 delivered");
    }
}

#[test]
fn a_start_that_was_killed_while_it_read_reads_anew() {
    let world = world("page", 7, PAGES).script("GET /lists/* #3 -> hang");
    let running = world.start("apply p");
    assert!(world.until(&running, 3));
    running.kill(&world);
    assert!(!world.path(".runner/default/state/p.list").exists());
    world.answers("");
    world.run("apply p").exits(0).says("7 delivered");
    assert_eq!(put(&world), ids(7));
    let left = fs::read_dir(world.path(".runner/default/state/p.tmp")).unwrap().count();
    assert_eq!(left, 0, "what the killed start left is swept");
}

#[test]
fn a_run_goes_on_with_the_list_that_it_began_with() {
    let world = world("page", 7, PAGES).script("PUT /things/i4 -> 401");
    world.run("apply p").exits(9);
    let before = asked(&world).len();
    // The list grows meanwhile; the run is about what it was.
    world.write("pipelines/p.yaml", over("page", "count: 7", PAGES));
    world.answers("");
    world.run("apply p").exits(0).says("7 delivered");
    assert_eq!(asked(&world).len(), before, "the list was not read again");
    world.run("status p --verify").exits(0);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(world.path(".runner/default/state/p.list")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    // A finished run is followed by a new look.
    world.run("apply p").exits(0).says("nothing to do");
    assert!(asked(&world).len() > before);
}

#[test]
fn failed_records_are_retried_from_what_was_read() {
    let world = world("page", 7, PAGES).script("PUT /things/i4 -> 422");
    world.run("apply p").exits(1).says("6 delivered, 1 failed");
    let before = asked(&world).len();
    world.answers("");
    world.run("retry p").exits(0).says("7 delivered");
    assert_eq!(asked(&world).len(), before);
    let explained = world.run("explain p i4").exits(0);
    assert!(explained.stdout.contains("api:GET /lists/page"), "{}", explained.stdout);
}

#[test]
fn items_are_kept_as_they_came() {
    let pipeline = over("odd", "count: 1", "kind: none")
        .replace("idempotency: natural", "idempotency: natural\n  nulls: keep");
    let world = World::new().file("pipelines/p.yaml", pipeline);
    // The third is no object: a record at fault, and its neighbours go on.
    world.run("apply p").exits(1).says("2 delivered, 0 failed, 1 invalid");
    let bodies: Vec<String> = world
        .seen()
        .iter()
        .filter(|seen| seen.method == "PUT")
        .map(|seen| String::from_utf8_lossy(&seen.body).into_owned())
        .collect();
    assert_eq!(
        bodies,
        [
            r#"{"big":9007199254740993001,"price":1.10,"__proto__":{"x":1},"text":"a\nb,\"c\"","none":null}"#,
            r#"{"extra":[1,[2]]}"#,
        ]
    );
    let invalid = world.outcomes("unreadable.ndjson");
    assert!(invalid.contains("\"line\":3") || invalid.contains("line 3"), "{invalid}");
}

#[test]
fn a_hundred_thousand_items_take_no_more_memory_than_a_few() {
    let mut peaks = Vec::new();
    for count in [1_000, 100_000] {
        let world = world("page", count, "kind: page, param: page, size_param: size, size: 1000")
            .script("PUT * -> hang");
        let running = world.start("apply p");
        assert!(world.until(&running, (count / 1000) as u64 + 2), "it ended");
        peaks.push(peak(running.id()));
        running.kill(&world);
    }
    assert!(peaks[1] < 64 * 1024, "{peaks:?} KiB");
    assert!(peaks[1] < peaks[0] + 16 * 1024, "{peaks:?} KiB");
}

#[test]
fn looks_ask_nobody_and_say_so() {
    let pipeline = over("page", "count: 7", PAGES).replace(
        "    pagination:",
        "    sandbox: { list: 5, item: { id: 'made{{ new.number }}' } }\n    pagination:",
    );
    let world = World::new().file("pipelines/p.yaml", pipeline);
    world.run("validate").exits(0);
    let shown = world.run("preview p").exits(0).says("was not read yet: shown is one made-up item");
    assert!(shown.stdout.contains("/things/made1"), "{}", shown.stdout);
    world.run("plan p").exits(0).says("was not read yet");
    assert!(world.seen().is_empty());
    world.run("apply p --sandbox").exits(0).says("5 delivered");
    assert!(world.seen().is_empty());
    world.run("apply p").exits(0).says("7 delivered");
    let before = world.seen().len();
    let shown = world.run("preview p --all").exits(0).says("is shown as it was last read");
    assert_eq!(shown.stdout.matches("PUT ").count(), 7, "{}", shown.stdout);
    world.run("plan p").exits(0);
    assert_eq!(world.seen().len(), before);
}

#[test]
fn mistakes_of_a_list_are_found_before_it_is_asked_for() {
    let good = over("page", "count: 7", PAGES);
    for (from, to, said) in [
        ("kind: page, ", "", "`pagination` needs `kind`"),
        ("kind: page", "kind: pages", "did you mean `page`?"),
        ("items: '{{ response.body.items }}', ", "", "`pagination` needs `items`"),
        ("response.body.items", "respons.body.items", "did you mean `response`?"),
        ("param: page, ", "", "nothing in the request says which page"),
        ("size: 3", "max_pages: 3", "`size` and `size_param` belong together"),
        ("kind: page", "kind: cursor", "`pagination` needs `next`"),
        ("count: 7", "count: '{{ record.n }}'", "`record` cannot be used here"),
        ("count: 7", "count: '{{ page.nummer }}'", "did you mean `page.number`?"),
        ("method: GET", "method: DELETE", "reads no list"),
        ("source:\n", "source:\n  file: a.csv\n", "either `file` or `endpoint`"),
        ("source:\n", "source:\n  format: csv\n", "`format` belongs to a file"),
        ("source:\n", "source:\n  params: { x: 1 }\n", "has no parameter `x`"),
    ] {
        assert!(good.contains(from), "{from}");
        let world = World::new().file("pipelines/p.yaml", good.replacen(from, to, 1));
        world.run("validate").exits(3).says(said);
        world.run("apply p").exits(3).says(said);
        assert!(world.seen().is_empty(), "{to}");
    }
    let no_list = good.lines().filter(|line| !line.contains("pagination")).collect::<Vec<_>>().join("\n");
    World::new().file("pipelines/p.yaml", no_list).run("apply p").exits(3).says("is no list");
    let neither = "connection: local\nendpoint: { method: PUT, path: /x }\nsource: {}\n";
    World::new()
        .file("pipelines/p.yaml", neither)
        .run("validate")
        .exits(3)
        .says("needs `file`, `endpoint` or `responses`");
}

#[test]
fn another_input_may_stand_in_for_a_list() {
    let world = world("page", 7, PAGES).file("few.csv", things(2));
    world.run("apply p --input few.csv").exits(0).says("2 delivered");
    assert!(asked(&world).is_empty());
}

#[test]
fn a_list_may_have_a_connection_of_its_own() {
    let world = world("page", 4, PAGES);
    let other = crate::world::far_side(None);
    world.write(
        "runner.yaml",
        format!(
            "connections:\n  local: {{ base_url: '{}' }}\n  other: {{ base_url: '{}', tls: {{ verify: false }}, auth: {{ bearer: token }}, token: {{ env: OTHER }} }}\n",
            world.url(),
            other.url()
        ),
    );
    let pipeline = world.read("pipelines/p.yaml").replace("source:\n", "source:\n  connection: other\n");
    world.write("pipelines/p.yaml", pipeline);
    // Looks need no variable; what is asked for does.
    world.run("preview p").exits(4);
    world.run("validate").exits(0);
    world.run("apply p").exits(3).says("OTHER");
    let mut command = world.command("apply p");
    let run =
        crate::world::Run::of(command.env("OTHER", "sesame-1234567").output().expect("it runs"), &world);
    run.exits(0).says("4 delivered").says("warning[tls-unverified]");
    assert!(asked(&world).is_empty());
    assert_eq!(put(&world), ids(4));
    let seen = other.journal();
    assert!(seen.iter().all(|seen| seen.method == "GET"));
    assert_eq!(seen[0].headers["authorization"], "Bearer sesame-1234567");
    // The token goes with the list alone.
    assert!(world.seen().iter().all(|seen| !seen.headers.contains_key("authorization")));
}

#[test]
fn a_list_that_repeats_a_credential_ends_before_it_is_kept() {
    let world = World::new();
    let connection = format!(
        "connections:\n  local:\n    base_url: \"{}\"\n    token: {{ env: TOKEN }}\n    auth: {{ bearer: token }}\n",
        world.url()
    );
    let body = "{\"items\":[{\"id\":\"a\"},{\"id\":\"b\",\"used\":\"s3cr3t-of-the-list\"}]}";
    let world = world
        .file("runner.yaml", connection)
        .file("pipelines/p.yaml", over("x", "n: 1", PAGES))
        .file(".env", "TOKEN=s3cr3t-of-the-list\n")
        .script(&format!("GET /lists/x -> 200 body='{body}'"));
    let run = world
        .run("apply p")
        .exits(9)
        .says("item 2 of the list, on page 1, holds a secret of the connection local");
    assert!(!run.stderr.contains("s3cr3t"), "{}", run.stderr);
    assert!(put(&world).is_empty());
    let out = world.run("extract p");
    assert!(!out.stdout.contains("s3cr3t") && out.code == 9, "{}", out.stdout);
    for file in crate::world::below(&world.path(".runner")) {
        let bytes = fs::read(&file).expect("a file");
        assert!(!String::from_utf8_lossy(&bytes).contains("s3cr3t"), "{}", file.display());
    }
}

const LIST: &str = ".runner/default/state/p.list";

/// A script line: the list `x` has items with these ids.
fn has(ids: &[&str]) -> String {
    let items: Vec<String> = ids.iter().map(|id| format!("{{\"id\":\"{id}\"}}")).collect();
    format!("GET /lists/x -> 200 body='{{\"items\":[{}]}}'\n", items.join(","))
}

/// A run over the items `a`, `b` and `c` that ended behind `a`.
fn interrupted() -> World {
    let world = World::new().file("pipelines/p.yaml", over("x", "n: 1", "kind: none"));
    world.answers(&has(&["a", "b", "c"]));
    world.run("apply p --limit 1").exits(0);
    assert_eq!(put(&world), ["a"]);
    world
}

fn goes_on(world: &World) {
    world.answers("GET /lists/* -> 404");
    world.run("apply p").exits(0).says("3 delivered");
    assert_eq!(put(world), ["a", "b", "c"]);
    assert_eq!(fs::read_to_string(world.path(LIST)).unwrap().lines().count(), 3);
    let left = fs::read_dir(world.path(".runner/default/state")).unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert!(!left.iter().any(|name| name.contains(".new")), "{left:?}");
}

#[test]
fn a_start_that_is_refused_leaves_the_list_of_an_unfinished_run() {
    for (command, code) in [
        ("apply p --close --where record.(", 2),
        ("apply p --close --resume", 2),
        ("apply p --fresh --yes --max-duration 1ms", 7),
    ] {
        let world = interrupted();
        world.answers(&has(&["x", "y"]));
        let run = world.run(command);
        assert_eq!(run.code, code, "{command}: {}", run.stderr);
        goes_on(&world);
    }
    // The new list is found to be of no use only when it was read.
    let world = interrupted();
    world.answers(&has(&["x", "y"]).replace("]}", ",5,{\"id\":\"s\"}]}"));
    let text = world.read("pipelines/p.yaml") + "schema: schemas/none.json\n";
    let before = world.read("pipelines/p.yaml");
    world.write("pipelines/p.yaml", text);
    world.run("apply p --close").exits(3);
    world.write("pipelines/p.yaml", before);
    goes_on(&world);
}

#[test]
fn a_settled_run_keeps_its_list_where_the_next_one_is_refused() {
    let pipeline = over("x", "n: 1", "kind: none").replace("idempotency: natural", "idempotency: none");
    let script = has(&["a", "b"]) + "PUT /things/b -> 422";
    let world = World::new().file("pipelines/p.yaml", pipeline).script(&script);
    world.run("apply p").exits(1);
    world.answers(&has(&["a", "z"]));
    world.run("apply p").exits(5).says("error[delivered-before]");
    world.answers("GET /lists/* -> 404");
    world.run("retry p").exits(0).says("2 delivered");
}

#[test]
fn a_kill_between_two_lists_mixes_nothing() {
    // Killed when the run was begun and its list did not lie in its place yet.
    let world = interrupted();
    fs::rename(world.path(LIST), world.path(&format!("{LIST}.new"))).unwrap();
    world.write(LIST, "{\"id\":\"old\"}\n");
    goes_on(&world);
    // Killed before another run was begun.
    let world = interrupted();
    world.write(&format!("{LIST}.new"), "{\"id\":\"later\"}\n");
    goes_on(&world);
    // A state that was put back from a copy is still that of its run.
    let world = interrupted();
    let bytes = fs::read(world.path(LIST)).unwrap();
    fs::remove_file(world.path(LIST)).unwrap();
    world.write(LIST, bytes);
    goes_on(&world);
    // Another list in its place is not: it is read anew, and refused as it is another.
    let world = interrupted();
    world.write(LIST, "{\"id\":\"other\"}\n");
    world.answers(&has(&["x", "y"]));
    world.run("apply p").exits(5).says("error[input-changed]");
    assert_eq!(put(&world).len(), 1);
}

#[test]
fn retry_without_a_run_of_the_list_asks_nobody() {
    let world = world("page", 7, PAGES).file("few.csv", things(2)).script("PUT /things/t2 -> 422");
    world.run("retry p").exits(5).says("error[nothing-to-retry]");
    world.run("apply p --input few.csv").exits(1);
    world.run("retry p").exits(5).says("error[nothing-to-retry]");
    assert!(asked(&world).is_empty(), "{:?}", asked(&world));
}

/// What lies in the state folder and in the folder for temporary files below the project.
fn left(world: &World) -> Vec<String> {
    let mut left = Vec::new();
    for folder in [".runner/default/state", ".runner/default/state/p.tmp", "tmp", "."] {
        let entries = fs::read_dir(world.path(folder)).into_iter().flatten().flatten();
        left.extend(entries.map(|entry| entry.file_name().into_string().unwrap()));
    }
    left.retain(|name| {
        ["list", ".new", ".part", "runner-", "lookup-"].iter().any(|part| name.contains(part))
            && name != "pipelines"
    });
    left
}

#[test]
fn max_duration_bounds_the_reading_of_lists() {
    for script in ["GET /lists/* #2 -> hang", "GET /lists/* after=1 -> 429 retry-after=60"] {
        let world = world("page", 7, PAGES).script(script);
        let run = world.run("apply p --max-duration 300ms").exits(7).says("`--max-duration` is over");
        run.says("while reading api:GET /lists/page; nothing was sent");
        assert!(put(&world).is_empty());
        assert!(left(&world).is_empty(), "{:?}", left(&world));
        world.answers("");
        world.run("apply p").exits(0).says("7 delivered");
    }
}

#[test]
fn a_signal_ends_the_reading_of_a_list_and_leaves_nothing_half() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 7), (Signal::HUP, 7)] {
        let world = world("page", 7, PAGES).script("GET /lists/* #2 -> hang");
        let mut running = world.start("apply p");
        assert!(world.until(&running, 2));
        running.signal(signal);
        let run =
            running.ended(&world).exits(code).says("while reading api:GET /lists/page; nothing was sent");
        assert_eq!(run.by_signal, signal == Signal::INT);
        assert!(left(&world).is_empty(), "{:?}", left(&world));
        world.answers("");
        world.run("apply p").exits(0).says("7 delivered");
        assert_eq!(put(&world), ids(7));
    }
}

#[test]
fn a_signal_ends_extract_and_leaves_nothing_half() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 7)] {
        for arguments in ["extract p", "extract p --out out.csv", "extract p --out out.ndjson"] {
            let world = world("page", 7, PAGES).script("GET /lists/* #2 -> hang").file("tmp/x", "");
            let mut running =
                crate::world::Running::of(world.command(arguments).env("TMPDIR", world.path("tmp")));
            assert!(world.until(&running, 2));
            running.signal(signal);
            running.ended(&world).exits(code).says("nothing was sent");
            assert!(left(&world).is_empty(), "{:?}", left(&world));
            assert!(!world.path("out.csv").exists());
        }
        // Standard input that says nothing.
        let world = World::new().file("tmp/x", "").file(
            "pipelines/p.yaml",
            "connection: local\nendpoint: { method: POST, path: /things }\nsource: { file: '-', format: csv }\n",
        );
        let mut command = world.command("extract p --out out.csv");
        command.env("TMPDIR", world.path("tmp")).stdin(Stdio::piped());
        let mut running = crate::world::Running::of(&mut command);
        running.until_exists(&world.path("tmp"), "runner-");
        running.signal(signal);
        running.ended(&world).exits(code);
        assert!(left(&world).is_empty(), "{:?}", left(&world));
    }
}

#[test]
fn a_settled_run_without_files_gets_them_from_the_list_that_it_read() {
    let world = world("page", 4, PAGES).script("PUT /things/i4 -> delay 300ms");
    let mut running = world.start("apply p");
    assert!(world.until(&running, 3 + 4));
    running.signal(Signal::TERM);
    running.ended(&world).exits(7).says("4 delivered");
    assert!(world.outcomes("delivered.ndjson").is_empty());
    let before = asked(&world).len();
    world.answers("");
    world.run("apply p").exits(0).says("nothing to do").says("was not read again");
    assert_eq!(asked(&world).len(), before);
    assert_eq!(world.outcomes("delivered.ndjson").lines().count(), 4);
    // From here on it is looked for more.
    world.run("apply p").exits(0).says("nothing to do");
    assert!(asked(&world).len() > before);
}

#[test]
fn links_in_the_place_of_a_list_are_refused() {
    for name in ["p.list", "p.list.new", "p.lookup-known", "p.lookup-known.new"] {
        let table = "lookups:\n  known:\n    endpoint: { method: GET, path: /lists/whole, query: { count: 2 }, pagination: { kind: none, items: '{{ response.body.items }}' } }\n    key: id\n";
        let world = World::new().file("secret", "{\"id\":\"stolen\"}\n");
        world.write("pipelines/p.yaml", over("page", "count: 7", PAGES) + table);
        world.run("apply p --limit 1").exits(0);
        let place = world.path(&format!(".runner/default/state/{name}"));
        let _ = fs::remove_file(&place);
        std::os::unix::fs::symlink(world.path("secret"), &place).unwrap();
        let before = world.seen().len();
        for command in ["apply p", "plan p", "preview p", "explain p i1", "status p --files", "retry p"] {
            let run = world.run(command).exits(5).says("error[state-foreign]");
            assert!(!run.stdout.contains("stolen"), "{command}: {}", run.stdout);
        }
        assert_eq!(world.seen().len(), before, "{name}");
        assert_eq!(world.read("secret"), "{\"id\":\"stolen\"}\n");
    }
}

#[test]
fn names_that_stand_for_lists_are_no_files() {
    for name in ["api:GET /lists/page", "responses:p", "vanished:p"] {
        let source = format!(
            "connection: local\nendpoint: {{ method: POST, path: /things }}\nsource: {{ file: '{name}', format: csv }}\n"
        );
        let world = World::new().file("pipelines/p.yaml", source);
        for command in ["validate", "apply p", "plan p", "extract p"] {
            world.run(command).exits(3).says("error[file-name]").says("./");
        }
        let table = format!(
            "connection: local\nendpoint: {{ method: POST, path: /things }}\nsource: {{ file: data/things.csv }}\nlookups: {{ t: {{ file: '{name}', key: id, format: csv }} }}\n"
        );
        World::new().pipeline(&table, things(1)).run("validate").exits(3).says("error[file-name]");
    }
    // Such a file can be named all the same.
    let source =
        "connection: local\nendpoint: { method: POST, path: /things }\nsource: { file: './api:x.csv' }\n";
    let world = World::new().file("pipelines/p.yaml", source).file("api:x.csv", things(2));
    world.run("apply p").exits(0).says("2 delivered");
}
