//! The interface of `CouchDB`, by `PouchDB`: bulk documents with conflicts among them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::server::{Server, node_package};
use crate::oracle::{FAILED, Said};
use crate::world::copied;

#[test]
fn documents_in_conflict_fail_and_the_others_of_their_calls_are_there_once() {
    let Some(_) = node_package("express-pouchdb") else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let world = copied(root, &["templates/couchdb", "schemas/couchdb"]);
    let script = root.join("tests/real/couch.js");
    let server = Server::start(Path::new("node"), &[&*script.to_string_lossy(), "PORT"], &world.path("."));
    assert_eq!(server.ask("PUT", "/people", None).0, 201);
    let there = json!({ "name": "was here before" });
    for id in ["d2", "d30"] {
        assert_eq!(server.ask("PUT", &format!("/people/{id}"), Some(&there)).0, 201);
    }
    let rows: Vec<String> = (0..40).map(|n| format!("d{n},Ünï {n}\n")).collect();
    let world = world
        .file(".env", "U=user\nP=word\n")
        .file(
            "runner.yaml",
            format!("connections: {{ c: {{ connector: couchdb, base_url: '{}', user: {{ env: U }}, password: {{ env: P }} }} }}\n", server.url()),
        )
        .pipeline(
            "connection: c\nendpoint: couchdb/bulk-docs\nsource: { file: data/things.csv }\nkey: '{{ record._id }}'\n\
             params: { database: people }\nselect: { rename: { id: _id } }\nbatch: { size: 7 }\n",
            format!("id,name\n{}", rows.concat()),
        );
    world.run("check-connection c").exits(0);
    world.run("apply p").exits(1).says("38 delivered, 2 failed");
    let said = Said::of(&world, "p");
    assert_eq!((said.in_state(FAILED), &*said.rows[&2].class), (vec![2, 30], "conflict"));
    let (_, all) = server.ask("GET", "/people/_all_docs?include_docs=true", None);
    let document = |row: &Value| (row["id"].as_str().expect("an id").to_owned(), row["doc"].clone());
    let held: BTreeMap<String, Value> = all["rows"].as_array().expect("rows").iter().map(document).collect();
    assert_eq!(held.len(), 40);
    for (id, document) in &held {
        let name = format!("Ünï {}", &id[1..]);
        let name = if ["d2", "d30"].contains(&&**id) { "was here before" } else { &name };
        assert_eq!(document["name"], name);
        // Written once: the first revision.
        assert!(document["_rev"].as_str().is_some_and(|rev| rev.starts_with("1-")), "{document}");
    }
    // One document alone, by its revision and without.
    let rev = held["d2"]["_rev"].as_str().expect("a revision");
    world.write("data/things.csv", format!("id,name,_rev\nd2,new,{rev}\nd3,new,\nd99,new,\n"));
    let put = world.read("pipelines/p.yaml");
    let put = put.replace("bulk-docs", "put-document").replace("_id }}", "id }}");
    let put: String = put
        .lines()
        .filter(|line| !line.starts_with("select") && !line.starts_with("batch"))
        .flat_map(|line| [line, "\n"])
        .collect();
    world.write("pipelines/put.yaml", put);
    world.run("apply put").exits(1).says("2 delivered, 1 failed");
    assert_eq!(server.ask("GET", "/people/d2", None).1["name"], "new");
    assert_eq!(server.ask("GET", "/people/d3", None).1["name"], "Ünï 3");
    assert_eq!(server.ask("GET", "/people/d99", None).1["name"], "new");
}
