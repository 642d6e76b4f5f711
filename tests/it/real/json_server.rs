//! json-server: what it stored is read afterwards and compared with the input field by field.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::server::{Server, node_package};
use crate::world::World;

const SCHEMA: &str = r#"{
  "type": "object",
  "required": ["id", "name"],
  "properties": {
    "id": { "type": "string" },
    "name": { "type": "string" },
    "code": { "type": "string" },
    "age": { "type": "integer" },
    "score": { "type": "number" },
    "active": { "type": "boolean" },
    "tags": { "type": "array" },
    "address": { "type": "object" }
  }
}"#;

/// The input as CSV, and what a far side has to hold of it; each value once in the words of CSV and once in
/// those of JSON.
fn people(count: usize) -> (String, Vec<Value>) {
    let texts = [
        "O'Brien",
        "Müller, \"Söhne\"",
        "two\nlines",
        "王小明",
        " blanks ",
        "{{ record.id }}",
        "null",
        "</x>&",
    ];
    let codes = ["0042", "1e5", "true", "-0", "12345678901234567890"];
    let mut csv = String::from("id,name,code,age,score,active,tags,address\n");
    let mut all = Vec::new();
    for n in 0..count {
        let text = texts[n % texts.len()];
        let name = format!("{text} {n}");
        let code = codes[n % codes.len()];
        let mut one = json!({ "id": format!("p{n:04}"), "name": name, "code": code });
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let _ = write!(csv, "p{n:04},{},{code},", quoted(&name));
        if n % 3 == 0 {
            csv.push(',');
        } else {
            let _ = write!(csv, "{},", n * 7_919);
            one["age"] = json!(n * 7_919);
        }
        let halves = i32::try_from(n).expect("a small number") - 100;
        let _ = write!(csv, "{halves}.5,{},", n % 2 == 0);
        one["score"] = json!(f64::from(halves) + if halves < 0 { -0.5 } else { 0.5 });
        one["active"] = json!(n % 2 == 0);
        let (tags, address) = (json!(["a", n, null]), json!({ "city": text, "no": n }));
        let _ = writeln!(csv, "{},{}", quoted(&tags.to_string()), quoted(&address.to_string()));
        one["tags"] = tags;
        one["address"] = address;
        all.push(one);
    }
    (csv, all)
}

fn sorted(mut all: Vec<Value>) -> Vec<Value> {
    all.sort_by(|one, two| one["id"].as_str().cmp(&two["id"].as_str()));
    all
}

#[test]
fn json_server_holds_every_record_once_with_its_types() {
    let Some(package) = node_package("json-server") else { return };
    let (csv, expected) = people(200);
    let pipeline = |name: &str, endpoint: &str| {
        format!(
            "name: {name}\nconnection: far\nendpoint: {{ {endpoint} }}\n\
             source: {{ file: data/people.csv }}\nschema: schemas/person.schema.json\nkey: '{{{{ record.id }}}}'\n"
        )
    };
    let world = World::new()
        .file("db.json", r#"{"people":[]}"#)
        .file("data/people.csv", csv)
        .file("schemas/person.schema.json", SCHEMA)
        .file("pipelines/create.yaml", pipeline("create", "method: POST, path: /people"));
    let put = "method: PUT, path: '/people/{{ params.id }}', params: { id: { required: true } }, idempotency: natural, \
               body: { name: '{{ record.name | upper }}', code: '{{ record.code }}' }";
    world.write("pipelines/change.yaml", pipeline("change", put));
    let bin = package.join("lib/cli/bin.js");
    let bin = bin.to_string_lossy();
    let folder = world.path(".");
    let arguments = [&*bin, "--quiet", "--host", "127.0.0.1", "--port", "PORT", "db.json"];
    let server = Server::start(Path::new("node"), &arguments, &folder);
    world.write("runner.yaml", format!("connections: {{ far: {{ base_url: '{}' }} }}\n", server.url()));

    world.run("apply create").exits(0).says("200 delivered, 0 failed");
    let (status, held) = server.ask("GET", "/people", None);
    assert_eq!(status, 200);
    assert_eq!(sorted(held.as_array().expect("a list").clone()), expected);

    // One that is there already: the server breaks (500), and nobody can say what it did.
    world.write("data/more.csv", "id,name\np0001,again\n");
    world.run("apply create --input data/more.csv --again").exits(6).says("1 in doubt");

    world.run("apply change").exits(0).says("200 delivered, 0 failed");
    let (_, held) = server.ask("GET", "/people", None);
    let changed = |one: &Value| {
        let name = one["name"].as_str().expect("a name").to_uppercase();
        json!({ "id": one["id"], "name": name, "code": one["code"] })
    };
    let expected: Vec<Value> = expected.iter().map(changed).collect();
    assert_eq!(sorted(held.as_array().expect("a list").clone()), expected);
    // What is not there is refused with its status.
    world.write("data/gone.csv", "id,name,code\nnobody,x,1\n");
    world.run("apply change --input data/gone.csv").exits(1).says("1 failed");
}

/// A list with a `Link` header is the source, another a lookup; each record is looked for, then made or changed.
#[test]
fn json_server_is_read_page_by_page_and_written_by_what_is_there() {
    let Some(package) = node_package("json-server") else { return };
    let old: Vec<Value> =
        (0..57).map(|n| json!({ "id": format!("s{n:03}"), "team": n % 3, "n": n })).collect();
    let there: Vec<Value> =
        (0..57).step_by(4).map(|n| json!({ "id": format!("s{n:03}"), "made": "before" })).collect();
    let teams =
        json!([{ "id": 0, "name": "red" }, { "id": 1, "name": "green" }, { "id": 2, "name": "blue" }]);
    let held = json!({ "old": old, "new": there, "teams": teams, "log": [] });
    let pipeline = "connection: far
source:
  endpoint:
    method: GET
    path: /old
    query: { _page: '1', _limit: '10' }
    pagination: { kind: link, items: '{{ response.body }}' }
lookups:
  teams:
    endpoint: { method: GET, path: /teams, pagination: { kind: none, items: '{{ response.body }}' } }
    key: id
key: '{{ record.id }}'
find:
  endpoint: { method: GET, path: '/new/{{ record.id }}' }
create:
  endpoint: { method: POST, path: /new, body: &new { id: '{{ record.id }}', n: '{{ record.n }}', team: '{{ lookups.teams[record.team].name }}', made: now } }
update:
  endpoint: { method: PUT, path: '/new/{{ record.id }}', body: *new, idempotency: natural }
sync: changed
deletes: { endpoint: { method: DELETE, path: '/new/{{ record.key }}', idempotency: natural }, max: 2% }
delivery: { concurrency: 4 }
";
    let world = World::new().file("db.json", held.to_string()).file("pipelines/p.yaml", pipeline);
    let bin = package.join("lib/cli/bin.js");
    let bin = bin.to_string_lossy();
    let arguments = [&*bin, "--quiet", "--host", "127.0.0.1", "--port", "PORT", "db.json"];
    let server = Server::start(Path::new("node"), &arguments, &world.path("."));
    world.write("runner.yaml", format!("connections: {{ far: {{ base_url: '{}' }} }}\n", server.url()));

    world.run("apply p").exits(0).says("57 delivered, 0 failed");
    let names = ["red", "green", "blue"];
    let expected: Vec<Value> = (0..57)
        .map(|n| json!({ "id": format!("s{n:03}"), "n": n, "team": names[n % 3], "made": "now" }))
        .collect();
    let (_, held) = server.ask("GET", "/new", None);
    assert_eq!(sorted(held.as_array().expect("a list").clone()), expected);
    // One item of the list changes: one record is sent.
    let (status, _) = server.ask("PUT", "/old/s005", Some(&json!({ "id": "s005", "team": 0, "n": 1000 })));
    assert_eq!(status, 200);
    world.run("apply p").exits(0).says("1 delivered, 0 failed, 0 invalid, 56 skipped");
    let (_, one) = server.ask("GET", "/new/s005", None);
    assert_eq!((&one["n"], &one["team"]), (&json!(1000), &json!("red")));
    // One is not in the list any more: it is deleted, and it alone. Three would be too many.
    let (status, _) = server.ask("DELETE", "/old/s007", None);
    assert_eq!(status, 200);
    world.run("apply p").exits(0).says("56 skipped").says("p.deletes: 1 delivered");
    assert_eq!(server.ask("GET", "/new/s007", None).0, 404);
    for id in ["s010", "s011", "s012"] {
        server.ask("DELETE", &format!("/old/{id}"), None);
    }
    world.run("apply p").exits(4).says("3 of the 56 keys");
    let (_, held) = server.ask("GET", "/new", None);
    assert_eq!(held.as_array().map(Vec::len), Some(56));
}

/// Several calls of each record, killed in the middle: each of them is there once.
#[test]
fn json_server_holds_every_step_once_after_a_kill() {
    let Some(package) = node_package("json-server") else { return };
    let pipeline = "connection: far
source: { file: data/people.csv }
key: '{{ record.id }}'
steps:
  - id: person
    endpoint: { method: PUT, path: '/people/{{ record.id }}', idempotency: natural, body: { id: '{{ record.id }}' }, captures: { id: '{{ response.body.id }}' } }
  - id: note
    endpoint: { method: POST, path: /notes, body: { person: '{{ steps.person.captures.id }}' } }
delivery: { concurrency: 2 }
";
    let rows: Vec<Value> = (0..80).map(|n| json!({ "id": format!("p{n:03}") })).collect();
    let csv: String =
        rows.iter().fold("id\n".to_owned(), |csv, row| csv + row["id"].as_str().expect("text") + "\n");
    let world = World::new()
        .file("db.json", json!({ "people": rows, "notes": [] }).to_string())
        .file("data/people.csv", csv)
        .file("pipelines/p.yaml", pipeline);
    let bin = package.join("lib/cli/bin.js");
    let bin = bin.to_string_lossy();
    let arguments = [&*bin, "--quiet", "--host", "127.0.0.1", "--port", "PORT", "db.json"];
    let server = Server::start(Path::new("node"), &arguments, &world.path("."));
    world.write("runner.yaml", format!("connections: {{ far: {{ base_url: '{}' }} }}\n", server.url()));
    let running = world.start("apply p --format jsonl -v");
    assert!(running.until_lines(30), "it ended before it was killed");
    running.kill(&world);
    let run = world.run("apply p");
    assert!([0, 6].contains(&run.code), "{}", run.stderr);
    let (_, held) = server.ask("GET", "/notes", None);
    let mut about: Vec<&str> = held
        .as_array()
        .expect("a list")
        .iter()
        .map(|note| note["person"].as_str().expect("a person"))
        .collect();
    let all = about.len();
    about.sort_unstable();
    about.dedup();
    assert_eq!(all, about.len(), "a note was made twice");
    // What may have arrived is held: with those that are there it makes all.
    let in_doubt = world.outcomes("in_doubt.csv").lines().skip(1).count();
    assert!(all <= 80 && all + in_doubt >= 80, "{all} are there, {in_doubt} in doubt");
}
