//! `runner extract`: the source of a pipeline as a file or on stdout.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use crate::security::resources::peak;
use crate::world::{POST_THINGS, PUT_THINGS, World, things};

const FROM_FILE: &str = "\
connection: local
endpoint: { method: POST, path: /things }
source: { file: data/things.csv }
schema: schemas/thing.json
select:
  rename: { name: title }
  where: '{{ record.id != 2 }}'
  exclude: [note]
";

const ROWS: &str = "id,name,note,tags\n1,\"a,\"\"b\"\"\nc\",x,[1]\n2,two,y,\n007,seven,z,\n";

fn from_file() -> World {
    World::new().pipeline(FROM_FILE, ROWS).file(
        "schemas/thing.json",
        r#"{"properties":{"id":{"type":"integer"},"tags":{"type":"array"},"title":{"maxLength":1}}}"#,
    )
}

fn from_list(kind: &str, count: usize) -> World {
    World::new().file(
        "pipelines/p.yaml",
        format!(
            "connection: local\nendpoint: {{ method: POST, path: /things }}\nsource:\n  endpoint:\n    method: GET\n    path: /lists/{kind}\n    query: {{ count: {count} }}\n    pagination: {{ kind: page, param: page, size_param: size, size: 3, items: '{{{{ response.body.items }}}}' }}\ndelivery: {{ retry: {{ first_wait: 1ms, max_wait: 5ms }} }}\n"
        ),
    )
}

#[test]
fn records_come_as_select_leaves_them() {
    let world = from_file();
    let run = world.run("extract p").exits(0).says("p: 2 records written, 1 left out by `where`");
    assert_eq!(
        run.stdout,
        "{\"id\":1,\"title\":\"a,\\\"b\\\"\\nc\",\"tags\":[1]}\n{\"id\":\"007\",\"title\":\"seven\"}\n"
    );
    world.run("extract p --out out.csv").exits(0).says("2 records written to out.csv");
    assert_eq!(world.read("out.csv"), "id,title,tags\n1,\"a,\"\"b\"\"\nc\",[1]\n007,seven,\n");
    assert_eq!(fs::metadata(world.path("out.csv")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        world.run("extract p --as csv --limit 1").exits(0).stdout,
        "id,title,tags\n1,\"a,\"\"b\"\"\nc\",[1]\n"
    );
    // Nothing was sent, and there is no state.
    assert!(world.seen().is_empty());
    assert!(!world.path(".runner").exists());
}

#[test]
fn a_list_is_read_to_its_end() {
    let world = from_list("page", 7);
    let run = world
        .run("extract p")
        .exits(0)
        .says("api:GET /lists/page: 7 items on 4 pages")
        .says("7 records written");
    assert_eq!(run.stdout.lines().count(), 7);
    assert!(run.stdout.starts_with("{\"id\":\"i1\"}\n"), "{}", run.stdout);
    let run = world.run("extract p --limit 4").exits(0);
    assert_eq!(run.stdout.lines().count(), 4);
    assert_eq!(world.seen().len(), 4 + 2, "pages beyond the limit are not asked for");
    assert!(!world.path(".runner").exists());
}

#[test]
fn columns_are_all_names_in_the_order_in_which_they_come() {
    let world = from_list("odd", 1);
    world.write(
        "pipelines/p.yaml",
        world
            .read("pipelines/p.yaml")
            .replace("kind: page, param: page, size_param: size, size: 3", "kind: none"),
    );
    let run = world
        .run("extract p --out all.csv")
        .exits(1)
        .says("2 records written to all.csv, 1 invalid and not written");
    assert!(run.stderr.contains("api:GET /lists/odd"), "{}", run.stderr);
    assert_eq!(
        world.read("all.csv"),
        "id,big,price,__proto__,text,none,extra\n\
         o1,9007199254740993001,1.10,\"{\"\"x\"\":1}\",\"a\nb,\"\"c\"\"\",,\n\
         o2,,,,,,\"[1,[2]]\"\n"
    );
    world.run("extract p --out all.ndjson").exits(1);
    assert_eq!(
        world.read("all.ndjson"),
        "{\"id\":\"o1\",\"big\":9007199254740993001,\"price\":1.10,\"__proto__\":{\"x\":1},\"text\":\"a\\nb,\\\"c\\\"\",\"none\":null}\n\
         {\"id\":\"o2\",\"extra\":[1,[2]]}\n"
    );
}

#[test]
fn a_file_is_whole_or_as_it_was() {
    let world = from_list("page", 7).script("GET /lists/* #3 -> 404").file("out.ndjson", "old\n");
    world.run("extract p --out out.ndjson").exits(9).says("refused page 3");
    assert_eq!(world.read("out.ndjson"), "old\n");
    let left: Vec<_> =
        fs::read_dir(world.path("")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".new")), "{left:?}");
    world.answers("");
    world.run("extract p --out out.ndjson").exits(0);
    assert_eq!(world.read("out.ndjson").lines().count(), 7);
}

#[test]
fn what_cannot_be_written_is_said() {
    let world = from_file();
    world.run("extract p --out nowhere/out.csv").exits(2).says("there is no folder");
    world.run("extract p --out data").exits(2).says("is no file");
    world.run("extract p --format json").exits(2);
    world.run("extract p --as xml").exits(2);
    let run = world.run("extract p --out out.csv --format json").exits(0);
    assert_eq!(run.json()["summary"]["records"], 2);
    world.write("data/things.csv", "id,name,note,tags\n1,one\n3,three,,\n");
    let run = world.run("extract p").exits(1).says("1 invalid and not written").says("data/things.csv");
    assert_eq!(run.stdout, "{\"id\":3,\"title\":\"three\"}\n");
}

#[test]
fn the_sandbox_makes_up_a_list() {
    let world = from_list("page", 7);
    let list =
        "    sandbox: { list: 5, item: { id: 'made{{ new.number }}', at: '{{ new.id }}' } }\n    pagination:";
    world.write("pipelines/p.yaml", world.read("pipelines/p.yaml").replace("    pagination:", list));
    for kind in ["page", "offset", "cursor", "next_url", "link", "none"] {
        let next = if ["cursor", "next_url"].contains(&kind) {
            ", next: '{{ response.body.meta.next }}'"
        } else {
            ""
        };
        let param = if ["page", "offset", "cursor"].contains(&kind) { "param: at, " } else { "" };
        let text = world.read("pipelines/p.yaml");
        let text: String = text
            .lines()
            .map(|line| match line.trim_start().strip_prefix("pagination:") {
                Some(_) => format!(
                    "    pagination: {{ kind: {kind}, {param}size_param: n, size: 2, items: '{{{{ response.body.data.items }}}}'{next} }}\n"
                ),
                None => format!("{line}\n"),
            })
            .collect();
        world.write("pipelines/p.yaml", text);
        let run = world.run("extract p --sandbox").exits(0).says("5 records written");
        assert!(run.stdout.starts_with("{\"id\":\"made1\",\"at\":\""), "{kind}: {}", run.stdout);
        assert_eq!(run.stdout, world.run("extract p --sandbox").stdout, "{kind}: the same each time");
    }
    assert!(world.seen().is_empty());
}

#[test]
fn a_large_source_takes_no_more_memory_than_a_small_one() {
    let world = World::new().pipeline(POST_THINGS, things(300_000));
    let mut command = world.command("extract p");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
    // Its output is not read to the end yet, so it lives while it is looked at.
    assert_eq!(lines.by_ref().take(200_000).count(), 200_000);
    let most = peak(child.id());
    assert_eq!(lines.count(), 100_000);
    assert!(child.wait().expect("it ends").success());
    assert!(most < 64 * 1024, "{most} KiB");
}

#[test]
fn only_a_file_is_replaced() {
    let world = World::new().pipeline(PUT_THINGS, things(3));
    world.run("extract p --out out.csv").exits(0).says("3 records written to out.csv");
    world.run("extract p --out out.csv").exits(0).says("to out.csv in place of the old file");
    // A link stays one.
    world.write("elsewhere/real.csv", "old");
    std::os::unix::fs::symlink("elsewhere/real.csv", world.path("link.csv")).expect("a link");
    world.run("extract p --out link.csv").exits(0);
    assert!(world.path("link.csv").is_symlink());
    assert!(world.read("elsewhere/real.csv").starts_with("id,name\n"));
    // What is no file is left alone.
    let pipe = world.path("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
    std::os::unix::fs::symlink("nowhere", world.path("dangling")).expect("a link");
    for out in ["pipe", "dangling", "data"] {
        world.run(&format!("extract p --out {out}")).exits(2).says("is no file");
    }
    assert!(!pipe.is_file() && pipe.exists() && !world.path("nowhere").exists());
}

#[test]
fn tables_that_are_lists_are_read_where_a_condition_looks_into_them() {
    let pipeline = format!(
        "{PUT_THINGS}lookups:\n  known:\n    endpoint: {{ method: GET, path: /lists/x, pagination: {{ kind: none, items: '{{{{ response.body.items }}}}' }} }}\n    key: id\n\
         body: {{ to: '{{{{ lookups.known[record.id].to }}}}' }}\n"
    );
    let world = World::new()
        .pipeline(&pipeline, things(3))
        .script("GET /lists/x -> 200 body='{\"items\":[{\"id\":\"t2\",\"to\":\"a\"}]}'");
    world.run("extract p").exits(0).says("3 records written");
    assert!(world.seen().is_empty());
    let chosen = pipeline + "select: { where: \"{{ lookups.known[record.id] is defined }}\" }\n";
    world.write("pipelines/p.yaml", chosen);
    let run = world.run("extract p").exits(0).says("1 record written");
    assert!(run.stdout.contains("t2"), "{}", run.stdout);
    assert_eq!(world.asked(), ["GET /lists/x"]);
    assert!(!world.path(".runner").exists());
}
