//! Rows B070 to B075: JSON Schema.

use runner::model::Class;

use super::{Case, bad};
use crate::world::PUT_THINGS;

/// A case over `data/things.ndjson` with a schema of records.
fn with_schema(row: &'static str, schema: &str) -> Case {
    bad(row)
        .pipeline(format!(
            "{}schema: schemas/thing.schema.json\n",
            PUT_THINGS.replace("things.csv", "things.ndjson")
        ))
        .file("schemas/thing.schema.json", schema)
        .file("data/things.ndjson", "{\"id\":\"t1\"}\n{\"id\":\"t2\"}\n")
}

#[test]
fn three_violations_in_one_record() {
    let schema = r#"{
        "type": "object",
        "required": ["id", "mail"],
        "properties": { "age": { "type": "integer" }, "name": { "type": "string", "maxLength": 3 } }
    }"#;
    with_schema("B070", schema)
        .file(
            "data/things.ndjson",
            "{\"id\":\"t1\",\"age\":\"old\",\"name\":\"too long\"}\n{\"id\":\"t2\",\"mail\":\"m\"}\n",
        )
        .exits(Class::RecordsFailed)
        .rule("schema")
        .names(["line 1", "/age", "integer", "/name", "3", "mail"])
        .asked(["PUT /things/t2"]);
}

#[test]
fn a_schema_that_is_none() {
    with_schema("B071", r#"{ "type": "objekt" }"#)
        .exits(Class::Config)
        .names(["schemas/thing.schema.json", "type"])
        .sent(0);
    with_schema("B071", "{ \"type\": \n").exits(Class::Config).names(["schemas/thing.schema.json"]).sent(0);
}

#[test]
fn a_reference_to_the_network() {
    // S19
    with_schema("B072", r#"{ "$ref": "https://example.test/s.json" }"#)
        .exits(Class::Config)
        .names(["https://example.test/s.json", "schemas/thing.schema.json"])
        .sent(0);
    // One that could be reached is not asked either.
    let case = with_schema("B072", "{}");
    let schema = format!("{{ \"$ref\": \"{}/things\" }}", case.world.url());
    case.file("schemas/thing.schema.json", schema).exits(Class::Config).sent(0);
}

#[test]
fn a_reference_outside_of_the_root() {
    // S19
    for reference in ["../../secret.json", "file:///etc/passwd"] {
        with_schema("B073", &format!("{{ \"$ref\": \"{reference}\" }}"))
            .exits(Class::Config)
            .names([reference, "root"])
            .sent(0);
    }
}

#[test]
fn a_pattern_that_explodes() {
    // S41
    let schema =
        r#"{ "type": "object", "properties": { "name": { "type": "string", "pattern": "^(a+)+$" } } }"#;
    let record = format!("{{\"id\":\"t1\",\"name\":\"{}!\"}}\n{{\"id\":\"t2\"}}\n", "a".repeat(50_000));
    with_schema("B074", schema)
        .file("data/things.ndjson", record)
        .exits(Class::RecordsFailed)
        .rule("schema")
        .names(["/name", "^(a+)+$"])
        .asked(["PUT /things/t2"]);
}

#[test]
fn a_pattern_that_looks_around() {
    for pattern in ["^(?=(a+)+$)a", "^(a+)\\\\1+b$", "^(a*)*b$", "(a{1,1000}){1,1000}b"] {
        let schema = format!(
            r#"{{ "type": "object", "properties": {{ "name": {{ "type": "string", "pattern": "{pattern}" }} }} }}"#
        );
        let record = format!("{{\"id\":\"t1\",\"name\":\"{}!\"}}\n{{\"id\":\"t2\"}}\n", "a".repeat(50_000));
        with_schema("B074", &schema)
            .file("data/things.ndjson", record)
            .exits_one_of([Class::Config, Class::RecordsFailed])
            .names(["pattern"]);
    }
}

#[test]
fn a_schema_that_refers_to_itself() {
    let schema = r##"{ "type": "object", "properties": { "a": { "$ref": "#" } } }"##;
    let deep = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    with_schema("B075", schema)
        .file("data/things.ndjson", format!("{{\"id\":\"t1\",\"a\":{deep}}}\n{{\"id\":\"t2\"}}\n"))
        .exits(Class::RecordsFailed)
        .names(["line 1", "64"])
        .asked(["PUT /things/t2"]);
    // A reference that never gets to a value says nothing about values, and has to end.
    for circle in [r##"{ "$ref": "#" }"##, r##"{ "allOf": [{ "$ref": "#" }] }"##] {
        with_schema("B075", circle).exits_one_of([Class::Config, Class::Ok]);
    }
    // As deep as the limit lets it be, the schema goes all the way.
    let within = format!("{}{{\"id\":\"t1\"}}{}", "{\"id\":\"t1\",\"a\":".repeat(60), "}".repeat(60));
    with_schema("B075", schema).file("data/things.ndjson", within).exits(Class::Ok).sent(1);
}
