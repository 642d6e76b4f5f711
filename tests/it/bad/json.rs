//! Rows B022 to B034: JSON and NDJSON.

use runner::model::Class;

use super::{Case, bad};
use crate::world::PUT_THINGS;

/// A case over `data/things.ndjson`.
fn ndjson(row: &'static str, content: impl AsRef<[u8]>) -> Case {
    bad(row).pipeline(PUT_THINGS.replace("things.csv", "things.ndjson")).file("data/things.ndjson", content)
}

/// A case over `data/things.json`.
fn json(row: &'static str, content: impl AsRef<[u8]>) -> Case {
    bad(row).pipeline(PUT_THINGS.replace("things.csv", "things.json")).file("data/things.json", content)
}

#[test]
fn a_line_that_is_not_json() {
    ndjson("B022", "{\"id\":\"t1\"}\n{\"id\":\"t2\"}\n{\"id\":\"t3\"}\n{\"id\": oops}\n{\"id\":\"t5\"}\n")
        .exits(Class::RecordsFailed)
        .names(["data/things.ndjson, line 4", "column 8"])
        .sent(4);
}

#[test]
fn a_last_line_that_is_cut() {
    ndjson("B023", "{\"id\":\"t1\"}\n{\"id\":\"t2\", \"na")
        .exits(Class::RecordsFailed)
        .names(["line 2", "ends"])
        .asked(["PUT /things/t1"]);
}

#[test]
fn nesting_without_end() {
    let deep = format!("{{\"id\":\"t2\",\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    ndjson("B024", format!("{{\"id\":\"t1\"}}\n{deep}\n{{\"id\":\"t3\"}}\n"))
        .exits(Class::RecordsFailed)
        .names(["line 2", "64"])
        .asked(["PUT /things/t1", "PUT /things/t3"]);
    json("B024", format!("[{{\"id\":\"t1\"}},{deep},{{\"id\":\"t3\"}}]"))
        .exits(Class::RecordsFailed)
        .names(["64"])
        .asked(["PUT /things/t1", "PUT /things/t3"]);
    let open = "[".repeat(100_000);
    ndjson("B024", format!("{{\"id\":\"t1\"}}\n{open}\n{{\"id\":\"t3\"}}\n"))
        .exits(Class::RecordsFailed)
        .names(["line 2"])
        .asked(["PUT /things/t1", "PUT /things/t3"]);
    json("B024", open).exits_one_of([Class::Input, Class::RecordsFailed]).names(["line 1"]).sent(0);
}

#[test]
fn integers_beyond_a_float() {
    ndjson("B025", "{\"id\":9007199254740993,\"n\":18446744073709551616}\n")
        .exits(Class::Ok)
        .asked(["PUT /things/9007199254740993"])
        .bodies([r#"{"n":18446744073709551616}"#]);
}

#[test]
fn a_number_keeps_its_digits() {
    ndjson("B026", "{\"id\":\"t1\",\"n\":1.10}\n").exits(Class::Ok).bodies([r#"{"n":1.10}"#]);
}

#[test]
fn not_a_number() {
    ndjson("B027", "{\"id\":\"t1\",\"n\":NaN}\n{\"id\":\"t2\",\"n\":Infinity}\n{\"id\":\"t3\",\"n\":-Infinity}\n{\"id\":\"t4\"}\n")
        .exits(Class::RecordsFailed)
        .names(["line 1, column 16", "line 2, column 16", "line 3, column 17"])
        .asked(["PUT /things/t4"]);
}

#[test]
fn a_lone_surrogate() {
    ndjson("B028", "{\"id\":\"t1\",\"name\":\"\\ud800\"}\n{\"id\":\"t2\"}\n")
        .exits(Class::RecordsFailed)
        .names(["line 1", "name", "surrogate"])
        .asked(["PUT /things/t2"]);
}

#[test]
fn a_name_twice_in_one_object() {
    ndjson("B029", "{\"id\":\"t1\",\"id\":\"t2\"}\n{\"id\":\"t3\"}\n")
        .exits(Class::RecordsFailed)
        .names(["line 1", "`id`"])
        .asked(["PUT /things/t3"]);
    ndjson("B029", "{\"id\":\"t1\",\"a\":[{\"b\":1,\"b\":2}]}\n{\"id\":\"t3\"}\n")
        .exits(Class::RecordsFailed)
        .names(["line 1", "`b`"])
        .asked(["PUT /things/t3"]);
}

#[test]
fn a_top_level_that_is_no_list() {
    for (content, found) in
        [("\"text\"", "text"), ("7", "a number"), ("null", "null"), ("true", "true or false")]
    {
        json("B030", content).exits(Class::Input).names([found, "list"]).sent(0);
    }
    for content in ["", " \n", "["] {
        json("B030", content).exits(Class::Input).names(["data/things.json"]).sent(0);
    }
}

#[test]
fn an_element_that_is_no_object() {
    json("B031", "[{\"id\":\"t1\"}, 7]")
        .exits(Class::RecordsFailed)
        .names(["element 1", "a number"])
        .asked(["PUT /things/t1"]);
}

#[test]
fn json_with_a_byte_order_mark() {
    json("B032", b"\xEF\xBB\xBF[{\"id\":\"t1\"}]").exits(Class::Ok).asked(["PUT /things/t1"]);
}

#[test]
fn two_values_in_a_json_file() {
    json("B033", "{\"id\":\"t1\"} {\"id\":\"t2\"}").exits(Class::Input).names(["byte 12", "ndjson"]).sent(0);
}

#[test]
fn a_pointer_that_leads_nowhere() {
    let pipeline =
        PUT_THINGS.replace("file: data/things.csv", "file: data/things.json, pointer: /data/items");
    bad("B034")
        .pipeline(pipeline)
        .file("data/things.json", r#"{"data":{"users":[],"pages":2}}"#)
        .exits(Class::Input)
        .names(["/data/items", "users", "pages"])
        .sent(0);
}
