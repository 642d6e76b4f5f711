//! `runner validate`: every mistake, each once, with its place; records with `--data`.

use std::path::Path;

use crate::world::{PUT_THINGS, World, things};

const SCHEMA: &str = r#"{
  "type": "object",
  "properties": { "id": { "type": "string" }, "name": { "type": "string", "maxLength": 8 } },
  "required": ["id", "name"]
}
"#;

#[test]
fn all_mistakes_of_a_pipeline_are_shown_in_one_go() {
    let world = World::new().pipeline(
        "\
connection: local
endpoint: { method: POST, path: /things }
source: { file: data/things.csv }
key: '{{ record.idd }}'
body:
  name: '{{ record.name | upperr }}'
  other: '{{ recrd.id }}'
delivery:
  retries: 3
  timeout: 30
",
        things(1),
    );
    let checked = world.run("validate").exits(3);
    insta::assert_snapshot!(checked.stderr, @r"
    error[unknown-field]: `record` has no field `idd`
      --> pipelines/p.yaml:4:10
     4 | key: '{{ record.idd }}'
       |          ^^^^^^^^^^
    help: did you mean `record.id`? `| default(omit)` leaves the key out where it is missing

    error[unknown-filter]: there is no filter `upperr`
      --> pipelines/p.yaml:6:27
     6 |   name: '{{ record.name | upperr }}'
       |                           ^^^^^^
    help: did you mean `upper`?

    error[unknown-name]: there is no name `recrd`
      --> pipelines/p.yaml:7:14
     7 |   other: '{{ recrd.id }}'
       |              ^^^^^
       = names that can be used here: `run`, `record`, `vars`, `connection`, `params`, `body_fields`
    help: did you mean `record`?

    error[unknown-key]: `retries` is not a key of `delivery`
      --> pipelines/p.yaml:9:3
     9 |   retries: 3
       |   ^^^^^^^
    help: did you mean `retry`? It is written `retry: { attempts: 3 }`

    error[bad-value]: `timeout` is `30`, which has no unit
      --> pipelines/p.yaml:10:12
    10 |   timeout: 30
       |            ^^
    help: write `30s` for seconds, `30ms` for milliseconds

    checked 1 pipeline: 5 errors
    ");
    assert_eq!(checked.stdout, "");
    let json = world.run("validate --format json").exits(3).json();
    assert_eq!(json["summary"]["errors"], 5);
    assert_eq!(json["diagnostics"].as_array().unwrap().len(), 5);
    assert_eq!(json["diagnostics"][0]["line"], 4);
    assert!(world.seen().is_empty());
}

#[test]
fn a_mistake_in_a_shared_file_is_shown_once() {
    let template = "method: PUT\npath: /things/{{ params.id }}\nparams: { id: { required: true } }\nbody: { a: '{{ reccord.id }}' }\n";
    let pipeline = "connection: c\nendpoint: api/put\nsource: { file: data/things.csv }\n";
    let world = World::new()
        .file("runner.yaml", "connections: { c: { connector: api } }\n")
        .file("templates/api/connector.yaml", "base_url: http://127.0.0.1:1\nauth: none\n")
        .file("templates/api/put.yaml", template)
        .file("pipelines/one.yaml", pipeline)
        .file("pipelines/two.yaml", pipeline)
        .file("data/things.csv", things(1));
    let checked = world.run("validate").exits(3);
    assert_eq!(checked.stderr.matches("there is no name `reccord`").count(), 1, "{}", checked.stderr);
    checked.says("checked 2 pipelines, 1 endpoint, 1 connector: 1 error\n");
    // An endpoint that no pipeline uses is looked at as well.
    std::fs::remove_dir_all(world.path("pipelines")).unwrap();
    world.run("validate").exits(3).says("there is no name `reccord`");
}

#[test]
fn the_files_of_this_repository_are_valid() {
    let world = World::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for part in ["templates", "schemas", "pipelines"] {
        copy(&root.join(part), &world.path(part));
    }
    std::fs::copy(root.join("runner.yaml"), world.path("runner.yaml")).unwrap();
    let checked = world.run("validate --strict").exits(0);
    assert_eq!(checked.stderr, "checked 23 pipelines, 28 endpoints, 10 connectors: nothing found\n");
    assert!(!world.path(".runner").exists());
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn warnings_are_errors_only_where_that_is_asked_for() {
    let world = World::new().pipeline(PUT_THINGS, things(1));
    std::fs::remove_file(world.path("data/things.csv")).unwrap();
    world.run("validate").exits(0).says("warning[input-missing]").says("1 warning\n");
    world.run("validate --strict").exits(3).says("error[input-missing]").says(": 1 error\n");
    let shown = world.run("validate --strict --exit-zero --format json").exits(0);
    let json = shown.json();
    assert_eq!((json["class"].as_str(), json["exit_code"].as_u64()), (Some("config"), Some(0)));
    world.run("validate --data").exits(4).says("error[input-missing]");
}

#[test]
fn records_are_checked_and_equal_findings_are_grouped() {
    let mut csv = things(4);
    csv.push_str("t5,much too long\nt6,also too long\n,nameless\nt1,again\nt7\n");
    let pipeline = PUT_THINGS.replace("key:", "schema: schemas/thing.schema.json\nkey:");
    let world = World::new().pipeline(&pipeline, csv).file("schemas/thing.schema.json", SCHEMA);
    world.run("validate").exits(0);
    let checked = world.run("validate --data").exits(1);
    insta::assert_snapshot!(checked.stderr, @r"
    error[record-invalid]: 3 of 9 records of data/things.csv break schemas/thing.schema.json
      --> pipelines/p.yaml:8:9
     8 | schema: schemas/thing.schema.json
       |         ^^^^^^^^^^^^^^^^^^^^^^^^^
       | /name  is longer than 8 characters  2 records  lines 6, 7
       | /id    is required                  1 record   line 8

    error[record-invalid]: 1 of 9 records of data/things.csv repeats the key of another record
      --> p in pipelines/p.yaml
       | another record has the same key and goes first  1 record  line 9

    error[record-invalid]: 1 of 9 records of data/things.csv: ragged-row
      --> p in pipelines/p.yaml
       | 1 field found, 2 fields expected by the header  1 record  line 10
       = these records would not be sent; the others would
    help: correct the input or the mapping, then `runner validate --data` again

    checked 1 pipeline, 9 records: 3 errors, 5 invalid records
    ");
    let json = world.run("validate --data --format json").exits(1).json();
    assert_eq!(json["summary"]["records"]["checked"], 9);
    assert_eq!(json["summary"]["records"]["invalid"], 5);
    let first = &json["summary"]["inputs"][0]["findings"][0];
    assert_eq!(first["count"], 2);
    assert_eq!(first["first"][0]["line"], 6);
    assert!(!world.path(".runner").exists());
    assert!(world.seen().is_empty());
    // What is checked is what is sent.
    world.run("apply p").exits(1).says("4 delivered, 0 failed, 5 invalid");
}

#[test]
fn a_record_that_cannot_be_rendered_is_found() {
    let pipeline = PUT_THINGS.replace("source:", "  body: { n: '{{ record.name | int }}' }\nsource:");
    let world = World::new().pipeline(&pipeline, "id,name\nt1,1\nt2,two\n");
    let checked = world.run("validate --data").exits(1);
    checked.says("1 of 2 records of data/things.csv").says("line 3");
}

#[test]
fn an_input_that_cannot_be_read_to_its_end_is_of_class_input() {
    let world = World::new().pipeline(PUT_THINGS, "id,name\nt1,a\nt2,\"open\n");
    world.run("validate --data").exits(4).says("error[unclosed-quote]");
}

#[test]
fn files_are_checked_by_path_or_name_and_nothing_else_is() {
    let world = World::new().pipeline(PUT_THINGS, things(1)).file("pipelines/broken.yaml", "connection: 5\n");
    for named in ["p", "pipelines/p.yaml"] {
        let checked = world.run(&format!("validate {named}")).exits(0);
        assert_eq!(checked.stderr, "checked 1 pipeline: nothing found\n");
    }
    world.run("validate data").exits(3).says("there is no file of a project in data");
    world.run("validate brokn").exits(3).says("did you mean `broken`?");
    // The last line stays under -q.
    let quiet = world.run("validate p -q").exits(0);
    assert_eq!(quiet.stderr.lines().count(), 1);
}

#[test]
fn a_pipeline_over_standard_input_is_checked_without_it() {
    let world = World::new().pipeline(&PUT_THINGS.replace("data/things.csv", "'-'"), things(1));
    let pipeline = world.read("pipelines/p.yaml").replace("'-' }", "'-', format: csv }");
    world.write("pipelines/p.yaml", pipeline);
    world.run("validate --strict").exits(0);
    world.run("validate --data").exits(0).says("reads standard input, which is not checked");
}

#[test]
fn a_wait_that_no_run_would_wait_is_found() {
    let waits = |wait: &str, more: &str| {
        PUT_THINGS
            .replace(
                "  idempotency: natural\n",
                &format!(
                    "  idempotency: natural\n  outcomes: [{{ status: 409, then: retry, wait: {wait} }}]\n"
                ),
            )
            .replace("first_wait: 1ms,", &format!("first_wait: 1ms,{more}"))
    };
    let world = World::new().pipeline(&waits("10m", ""), things(1));
    world.run("validate").exits(3).says("`wait` is 10m, and a run waits 5m at most").says("max_retry_after");
    world.write("pipelines/p.yaml", waits("10m", " max_retry_after: 10m,"));
    world.run("validate").exits(0);
}
