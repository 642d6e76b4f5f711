//! Kinto: records by PUT and by batches, refusals by precondition, and runs that are killed (SIGKILL) in
//! their middle. What the server holds at the end is compared with the input.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::server::{Server, python_script};
use crate::oracle::{DELIVERED, FAILED, IN_DOUBT, Said};
use crate::world::{World, copied};

const SCHEMA: &str = r#"{ "type": "object", "required": ["id", "name"],
  "properties": { "id": { "type": "string" }, "name": { "type": "string" }, "age": { "type": "integer" } } }"#;

/// Rows, and what the server has to hold of them, by id.
fn people(count: usize) -> (String, BTreeMap<String, Value>) {
    let mut csv = String::from("id,name,age\n");
    let mut all = BTreeMap::new();
    for n in 0..count {
        let (id, name) = (format!("p{n:05}"), format!("Søren \"{n}\", 王"));
        let _ = writeln!(csv, "{id},\"{}\",{n}", name.replace('"', "\"\""));
        all.insert(id, json!({ "name": name, "age": n }));
    }
    (csv, all)
}

/// A server with the collections that are named, and a project for it with the pipeline `p` of an endpoint.
fn project((python, script): &(PathBuf, PathBuf), endpoint: &str, csv: &str) -> (World, Server) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let world = copied(root, &["templates/kinto", "schemas/kinto"]);
    let ini = root.join("tests/real/kinto.ini");
    let ini = ini.to_string_lossy();
    let script = script.to_string_lossy();
    let arguments = [&*script, "start", "--ini", &*ini, "--port", "PORT"];
    let server = Server::start(python, &arguments, &world.path(".")).with_login("user:word");
    for path in ["/v1/buckets/main", "/v1/buckets/main/collections/people"] {
        assert_eq!(server.ask("PUT", path, None).0, 201);
    }
    let world = world
        .file(".env", "U=user\nP=word\n")
        .file(
            "runner.yaml",
            format!("connections: {{ k: {{ connector: kinto, base_url: '{}/v1', user: {{ env: U }}, password: {{ env: P }} }} }}\n", server.url()),
        )
        .file("schemas/person.schema.json", SCHEMA)
        .pipeline(
            &format!(
                "connection: k\nendpoint: kinto/{endpoint}\nsource: {{ file: data/things.csv }}\n\
                 schema: schemas/person.schema.json\nkey: '{{{{ record.id }}}}'\n\
                 params: {{ bucket: main, collection: people, id: '{{{{ record.id }}}}' }}\n\
                 select: {{ exclude: [id] }}\n"
            ),
            csv,
        );
    (world, server)
}

/// What the server holds, by id, without what it adds.
fn held(server: &Server) -> BTreeMap<String, Value> {
    let (status, held) = server.ask("GET", "/v1/buckets/main/collections/people/records", None);
    assert_eq!(status, 200);
    let one = |record: &Value| {
        let mut record = record.clone();
        let fields = record.as_object_mut().expect("an object");
        fields.remove("last_modified").expect("a version");
        let id = fields.remove("id").expect("an id");
        (id.as_str().expect("text").to_owned(), record)
    };
    let all = held["data"].as_array().expect("a list");
    let by_id: BTreeMap<String, Value> = all.iter().map(one).collect();
    assert_eq!(by_id.len(), all.len(), "an id is there twice");
    by_id
}

/// Kills the run once the server holds so many records. False when the run ended before.
fn killed_at(world: &World, server: &Server, records: usize) -> bool {
    let running = world.start("apply p");
    let process = format!("/proc/{}/stat", running.id());
    // A process that ended and was not waited for yet is a `Z`.
    let lives = || std::fs::read_to_string(&process).is_ok_and(|stat| !stat.contains(") Z "));
    while lives() && held(server).len() < records {}
    running.kill(world).by_signal
}

#[test]
fn kinto_holds_every_record_once_after_kills_in_mid_run() {
    let Some(kinto) = python_script("kinto") else { return };
    for (endpoint, count) in [("put-record", 400), ("create-record", 400), ("batch", 2000)] {
        let (csv, expected) = people(count);
        let (world, server) = project(&kinto, endpoint, &csv);
        let mut kills = 0;
        for share in [count / 8, count / 3, count / 2] {
            kills += usize::from(killed_at(&world, &server, share));
        }
        assert!(kills > 0, "{endpoint}: nothing was left to kill");
        world.run("apply p").exits(0).says(" 0 failed, 0 invalid, 0 skipped, 0 in doubt");
        assert_eq!(Said::of(&world, "p").in_state(DELIVERED).len(), count, "{endpoint}");
        assert!(held(&server) == expected, "{endpoint}: the server holds something else than the input");
        world.run("status p --verify").exits(0);
    }
}

#[test]
fn kinto_refuses_a_record_that_is_there_and_the_record_stays_as_it_was() {
    let Some(kinto) = python_script("kinto") else { return };
    let (csv, mut expected) = people(5);
    let (world, server) = project(&kinto, "create-record", &csv);
    let there = json!({ "data": { "name": "was here before" } });
    assert_eq!(server.ask("PUT", "/v1/buckets/main/collections/people/records/p00002", Some(&there)).0, 201);
    world.run("check-connection k").exits(0);
    world.run("apply p").exits(1).says("4 delivered, 1 failed");
    let said = Said::of(&world, "p");
    assert_eq!(said.in_state(FAILED), [2]);
    assert!(world.outcomes("failed.csv").contains(",412,"));
    assert_eq!(said.rows[&2].class, "Precondition Failed");
    expected.insert("p00002".into(), there["data"].clone());
    assert_eq!(held(&server), expected);
}

#[test]
fn kinto_refuses_one_record_of_a_batch_and_takes_the_others() {
    let Some(kinto) = python_script("kinto") else { return };
    let (csv, expected) = people(5);
    // The third goes into a bucket that is not there.
    let (world, server) = project(&kinto, "batch", &csv);
    let pipeline = world.read("pipelines/p.yaml");
    let elsewhere = "bucket: \"{{ 'nowhere' if record.id == 'p00002' else 'main' }}\"";
    world.write("pipelines/p.yaml", pipeline.replace("bucket: main", elsewhere));
    world.run("apply p").exits(1).says("4 delivered, 1 failed");
    let said = Said::of(&world, "p");
    assert_eq!((said.in_state(FAILED), &*said.rows[&2].class), (vec![2], "Not Found"));
    let versions = |server: &Server| server.ask("GET", "/v1/buckets/main/collections/people/records", None).1;
    let before = versions(&server);
    // What was taken is not sent again: its versions stay.
    world.run("retry p").exits(1);
    assert_eq!(versions(&server), before);
    assert_eq!(held(&server).len(), 4);
    assert!(held(&server).iter().all(|(id, record)| expected[id] == *record));
}

#[test]
fn kinto_is_asked_about_records_whose_replies_came_too_late() {
    let Some(kinto) = python_script("kinto") else { return };
    let (csv, expected) = people(40);
    let (world, server) = project(&kinto, "create-record", &csv);
    let patient = world.read("pipelines/p.yaml");
    // Python answers nothing within a millisecond, neither a request nor a look.
    world.write(
        "pipelines/p.yaml",
        format!("{patient}delivery: {{ timeout: 1ms, stop_when: {{ consecutive: 1000 }} }}\n"),
    );
    let template = world.read("templates/kinto/create-record.yaml");
    world.write("templates/kinto/create-record.yaml", template.replace("after: 1s", "after: 1ms"));
    world.run("apply p").exits(6);
    // Whether any of them arrived is chance; the first one did.
    let first = *Said::of(&world, "p").in_state(IN_DOUBT).first().expect("one in doubt");
    let first = expected.keys().nth(usize::try_from(first).expect("small")).expect("a record").clone();
    let path = format!("/v1/buckets/main/collections/people/records/{first}");
    let arrived = server.ask("PUT", &path, Some(&json!({ "data": expected[&first] }))).0;
    assert!(matches!(arrived, 200 | 201), "{arrived}");
    world.write("pipelines/p.yaml", patient);
    world.run("reconcile p");
    world.run("apply p").exits(0).says(" 0 failed, 0 invalid, 0 skipped, 0 in doubt");
    let said = Said::of(&world, "p");
    assert_eq!(said.in_state(DELIVERED).len(), 40);
    let found = said.rows.values().filter(|row| row.class == "reconciled").count();
    assert!(found > 0, "{first} was not found");
    assert_eq!(held(&server), expected);
}
