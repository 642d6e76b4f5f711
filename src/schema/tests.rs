use std::path::Path;

use super::*;
use crate::model::{Map, Number, Severity};

/// A project in a folder of its own, with these files.
fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    root
}

fn load(root: &Path, path: &str) -> (Option<Schema>, Vec<Diagnostic>) {
    let pipeline = Arc::new(SourceText { path: "pipelines/p.yaml".into(), text: format!("schema: {path}") });
    let mut problems = Problems::new();
    let schema = Schema::load(root, path, &Place::new(pipeline, 8..8 + path.len()), &mut problems);
    assert_eq!(schema.is_none(), problems.has_errors(), "{:?}", problems.all());
    (schema, problems.into_sorted())
}

fn schema(text: &str) -> Schema {
    let root = project(&[("s.json", text)]);
    let (schema, problems) = load(root.path(), "s.json");
    schema.unwrap_or_else(|| panic!("{problems:?}"))
}

/// `place: message` of each finding, with the words that are marked.
fn findings(files: &[(&str, &str)]) -> Vec<String> {
    let root = project(files);
    let real = root.path().canonicalize().unwrap();
    let (_, problems) = load(root.path(), files[0].0);
    problems
        .iter()
        .map(|problem| {
            let place = problem.place.as_ref().unwrap();
            let help = problem.help.as_deref().map(|help| format!(" ({help})")).unwrap_or_default();
            let notes = problem.notes.join(", ").replace(&real.display().to_string(), "ROOT");
            let marked = &place.source.text[place.span.clone()];
            format!(
                "{place} {marked}: {}{help}{}{notes}",
                problem.message,
                if notes.is_empty() { "" } else { " = " }
            )
        })
        .collect()
}

fn value(json: &str) -> Value {
    Value::from(&serde_json::from_str::<serde_json::Value>(json).unwrap())
}

fn broken(schema: &Schema, value: &Value) -> Vec<String> {
    assert_eq!(schema.is_valid(value), schema.check(value).is_ok());
    let found = schema.check(value).err().unwrap_or_default();
    found.into_iter().map(|one| format!("{} {}: {}", one.pointer, one.rule, one.message)).collect()
}

#[test]
fn a_schema_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Schema>();
    shared::<Typing>();
}

#[test]
fn all_violations_are_found_and_none_shows_the_value() {
    let schema = schema(
        r#"{"type": "object", "required": ["id", "a/b"], "additionalProperties": false, "properties": {
            "id": {"type": "integer"}, "a/b": {}, "email": {"format": "email"}, "name": {"maxLength": 16, "minLength": 1},
            "state": {"enum": ["on", "off"]}, "n": {"type": "number", "minimum": 1.5, "multipleOf": 0.01},
            "tags": {"type": "array", "uniqueItems": true, "maxItems": 2, "items": {"type": ["string", "null"]}},
            "zip": {"pattern": "^[0-9]{5}$"}, "never": false, "only": {"const": "x"},
            "due": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
            "either": {"oneOf": [{"type": "string"}, {"type": "integer"}]}}}"#,
    );
    for (json, expected) in [
        (r#"{"id": 1, "a/b": 1, "due": null}"#, vec![]),
        (
            r#"{"id": "SECRET", "email": "SECRET", "name": "SECRET SECRET SECRET"}"#,
            vec![
                "/a~1b required: is required",
                "/email format: is not an e-mail address",
                "/id type: is not an integer",
                "/name maxLength: is longer than 16 characters",
            ],
        ),
        (
            r#"{"id": 1, "a/b": 1, "name": "", "state": "SECRET", "n": 1.4, "zip": "SECRET", "never": "SECRET", "only": "SECRET"}"#,
            vec![
                "/n minimum: is less than 1.5",
                "/name minLength: is empty",
                "/never falseSchema: is not allowed",
                "/only const: is not `x`",
                "/state enum: is none of `on`, `off`",
                "/zip pattern: does not match the pattern `^[0-9]{5}$`",
            ],
        ),
        (
            r#"{"id": 1, "a/b": 1, "tags": ["SECRET", "SECRET", 7], "due": "SECRET", "either": ["SECRET"], "extra": "SECRET"}"#,
            vec![
                "/due format: is not a date such as 2026-11-22",
                "/either oneOf: is neither text nor an integer",
                "/extra additionalProperties: is not a field that the schema knows",
                "/tags maxItems: has more than 2 elements",
                "/tags uniqueItems: has an element twice",
                "/tags/2 type: is neither null nor text",
            ],
        ),
        (r#""SECRET""#, vec![" type: is not an object"]),
    ] {
        let mut found = broken(&schema, &value(json));
        found.sort();
        assert_eq!(found, expected, "{json}");
        assert!(!format!("{:?}", schema.check(&value(json))).contains("SECRET"), "{json}");
    }
}

#[test]
fn every_keyword_speaks_without_the_value() {
    for (text, json, expected) in [
        (r#"{"exclusiveMinimum": 3}"#, "3", " exclusiveMinimum: is not greater than 3"),
        (r#"{"exclusiveMaximum": 3}"#, "3", " exclusiveMaximum: is not less than 3"),
        (r#"{"maximum": 3}"#, "4", " maximum: is greater than 3"),
        (r#"{"multipleOf": 0.01}"#, "1.105", " multipleOf: is not a multiple of 0.01"),
        (r#"{"minLength": 2}"#, r#""S""#, " minLength: is shorter than 2 characters"),
        (r#"{"minItems": 1}"#, "[]", " minItems: has fewer than 1 element"),
        (r#"{"minProperties": 1}"#, "{}", " minProperties: has fewer than 1 field"),
        (r#"{"maxProperties": 0}"#, r#"{"S": 1}"#, " maxProperties: has more than 0 fields"),
        (r#"{"not": {"type": "string"}}"#, r#""S""#, " not: has a shape that the schema rules out"),
        (
            r#"{"oneOf": [{"type": "string"}, {"maxLength": 3}]}"#,
            r#""S""#,
            " oneOf: matches more than one of the shapes that exclude each other",
        ),
        (
            r#"{"contains": {"type": "null"}}"#,
            r#"["S"]"#,
            " contains: has too few or too many elements of the shape that the schema asks for",
        ),
        (
            r#"{"propertyNames": {"maxLength": 2}}"#,
            r#"{"SSS": 1}"#,
            " propertyNames: has a field whose name is longer than 2 characters",
        ),
        (r#"{"dependentRequired": {"a": ["b"]}}"#, r#"{"a": "S"}"#, "/b required: is required"),
        (
            r#"{"prefixItems": [true], "unevaluatedItems": false}"#,
            r#"[1, "S"]"#,
            " unevaluatedItems: has elements that the schema does not know",
        ),
        (
            r#"{"properties": {"a": true}, "unevaluatedProperties": false}"#,
            r#"{"x": "S"}"#,
            "/x unevaluatedProperties: is not a field that the schema knows",
        ),
        (
            r#"{"enum": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}"#,
            "0",
            " enum: is none of `1`, `2`, `3`, `4`, `5`, `6`, `7`, `8`, 2 more",
        ),
        (
            r#"{"anyOf": [{"properties": {"k": {"const": "a"}, "n": {"type": "integer"}}}, {"properties": {"k": {"const": "b"}}}]}"#,
            r#"{"k": "a", "n": "S"}"#,
            "/n type: is not an integer",
        ),
    ] {
        assert_eq!(broken(&schema(text), &value(json)), [expected], "{text}");
    }
}

#[test]
fn numbers_are_judged_by_their_digits() {
    let number = |text: &str| Value::Number(Number::parse(text).unwrap());
    for (text, digits, valid) in [
        (r#"{"type": "integer"}"#, "12345678901234567890123", true),
        (r#"{"type": "integer"}"#, "1.0", true),
        (r#"{"$schema": "http://json-schema.org/draft-04/schema#", "type": "integer"}"#, "1.0", false),
        (r#"{"maximum": 10}"#, "1e400", false),
        (r#"{"minimum": 10}"#, "-1e400", false),
        (r#"{"maximum": 18446744073709551615}"#, "18446744073709551616", false),
        (r#"{"multipleOf": 0.01}"#, "1.10", true),
        (r#"{"const": 1}"#, "1.00", true),
    ] {
        assert_eq!(schema(text).is_valid(&number(digits)), valid, "{text} {digits}");
    }
}

#[test]
fn an_absent_field_is_missing() {
    let schema =
        schema(r#"{"required": ["a"], "maxProperties": 1, "properties": {"b": {"type": "string"}}}"#);
    let mut map = Map::new();
    map.push("a", Value::Absent);
    map.push("b", Value::Absent);
    assert_eq!(broken(&schema, &Value::Object(map)), ["/a required: is required"]);
}

#[test]
fn each_draft_is_read_by_its_own_rules() {
    let tuple = |draft: &str| format!(r#"{{"$schema": "{draft}", "items": [{{"type": "integer"}}]}}"#);
    for draft in [
        "http://json-schema.org/draft-04/schema#",
        "http://json-schema.org/draft-06/schema",
        "http://json-schema.org/draft-07/schema#",
        "https://json-schema.org/draft/2019-09/schema",
    ] {
        assert!(!schema(&tuple(draft)).is_valid(&value(r#"["x"]"#)), "{draft}");
    }
    let mistakes = findings(&[("s.json", &tuple("https://json-schema.org/draft/2020-12/schema"))]);
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert!(mistakes[0].contains("`items` is neither"), "{mistakes:?}");
}

#[test]
fn mistakes_in_a_schema_are_all_shown_at_their_places() {
    let text = r##"{
  "$schema": "http://json-schema.org/draft-07/schema#",
  "requird": ["a"],
  "x-ours": {"type": 1},
  "properties": {
    "a": {"type": "strnig"},
    "b": {"maxLength": -1},
    "c": {"pattern": "^(?=x)"},
    "d": {"pattern": "("},
    "e": {"format": "emial"},
    "f": {"format": "uuid"},
    "g": {"$ref": "#/definitions/adress", "maxLength": 3},
    "h": {"prefixItems": []},
    "i": {"type": ["string", "nul"]},
    "requird": {"enum": [{"requird": 1}], "format": "int64"}
  },
  "definitions": {"address": {}}
}"##;
    assert_eq!(
        findings(&[("schemas/s.json", text)]),
        [
            r#"schemas/s.json:3:3 "requird": `requird` is not a keyword of JSON Schema and has no effect (did you mean `required`?)"#,
            r#"schemas/s.json:6:19 "strnig": `strnig` is not a type of JSON Schema (did you mean `string`?)"#,
            "schemas/s.json:7:24 -1: `maxLength` is less than 0",
            r#"schemas/s.json:8:22 "^(?=x)": this pattern uses look-around, which cannot be matched in linear time and is not supported (split it into several patterns below `allOf` and `not`)"#,
            r#"schemas/s.json:9:22 "(": this pattern is not a regular expression, or it is too large"#,
            r#"schemas/s.json:10:21 "emial": `emial` is not a format that can be checked (did you mean `email`?)"#,
            r#"schemas/s.json:11:21 "uuid": the format `uuid` is not known in draft 7 (use `"$schema": "https://json-schema.org/draft/2020-12/schema"`, or a `pattern`)"#,
            r##"schemas/s.json:12:19 "#/definitions/adress": `/definitions/adress` does not exist in schemas/s.json (did you mean `address`?)"##,
            r#"schemas/s.json:12:43 "maxLength": `maxLength` has no effect beside `$ref` in draft 7"#,
            r#"schemas/s.json:13:11 "prefixItems": `prefixItems` has no effect in draft 7"#,
            r#"schemas/s.json:14:30 "nul": `nul` is not a type of JSON Schema (did you mean `null`?)"#,
        ]
    );
}

#[test]
fn files_that_are_no_schema_are_refused_at_their_place() {
    for (text, expected) in [
        ("{\n \"a\": }", "s.json:2:7 }: this schema is not JSON: expected value"),
        ("", "s.json:1:1 : this schema is not JSON: eof while parsing a value"),
        ("type: object", "s.json:1:2 y: this schema is not JSON: expected ident"),
        ("[]", "s.json:1:1 []: this schema is neither true or false nor an object"),
        (
            r#"{"$schema": "https://example.test/mine"}"#,
            r#"s.json:1:13 "https://example.test/mine": this `$schema` is none of the drafts 4, 6, 7, 2019-09 and 2020-12 (write `https://json-schema.org/draft/2020-12/schema`, or `http://json-schema.org/draft-07/schema#`)"#,
        ),
    ] {
        assert_eq!(findings(&[("s.json", text)]), [expected], "{text}");
    }
}

#[test]
fn references_out_of_the_project_are_refused_unopened() {
    let outside = " = the root is ROOT";
    let help = "(keep schemas inside the project and refer to them by a relative path)";
    let fetch = "(save it beside this schema and refer to it by its file name)";
    for (reference, expected) in [
        (
            "../../secret.json",
            format!("`../../secret.json` leads outside the project's root {help}{outside}"),
        ),
        (
            "%2e%2e/../secret.json",
            format!("`../../secret.json` leads outside the project's root {help}{outside}"),
        ),
        ("/etc/hostname", format!("`/etc/hostname` leads outside the project's root {help}{outside}")),
        ("link.json", format!("`link.json` leads outside the project's root {help}{outside}")),
        (
            "file:///etc/passwd",
            format!(
                "`file:///etc/passwd` is not a file of this project, and schemas are never fetched {fetch}{outside}"
            ),
        ),
        (
            "https://example.test/s.json",
            format!(
                "`https://example.test/s.json` is not a file of this project, and schemas are never fetched {fetch}{outside}"
            ),
        ),
        (
            "//example.test/s.json#/a",
            format!(
                "`//example.test/s.json#/a` is not a file of this project, and schemas are never fetched {fetch}{outside}"
            ),
        ),
        (
            "othr.json",
            "cannot read the schema schemas/othr.json: there is no such file (did you mean `other.json`?)"
                .into(),
        ),
        ("folder", "cannot read the schema schemas/folder: it is not a file".into()),
    ] {
        // The target exists and would be readable.
        let outer = project(&[("secret.json", "{}")]);
        let root = outer.path().join("root");
        std::fs::create_dir_all(root.join("schemas/folder")).unwrap();
        std::fs::write(root.join("schemas/other.json"), "{}").unwrap();
        std::os::unix::fs::symlink(outer.path().join("secret.json"), root.join("schemas/link.json")).unwrap();
        let text = format!(r#"{{"properties": {{"a": {{"$ref": "{reference}"}}}}}}"#);
        std::fs::write(root.join("schemas/s.json"), text).unwrap();
        let (_, problems) = load(&root, "schemas/s.json");
        let real = root.canonicalize().unwrap().display().to_string();
        let shown: Vec<String> = problems
            .iter()
            .map(|problem| {
                assert_eq!(problem.place.as_ref().unwrap().to_string(), "schemas/s.json:1:31");
                let help = problem.help.as_deref().map(|help| format!(" ({help})")).unwrap_or_default();
                let notes = if problem.notes.is_empty() {
                    String::new()
                } else {
                    format!(" = {}", problem.notes.join(", "))
                };
                format!("{}{help}{notes}", problem.message).replace(&real, "ROOT")
            })
            .collect();
        assert_eq!(shown, [expected], "{reference}");
    }
}

#[test]
fn a_schema_named_wrongly_is_reported_where_the_pipeline_names_it() {
    let root = project(&[("schemas/user.json", "{}")]);
    for (path, message) in [
        ("schemas/usr.json", "cannot read the schema schemas/usr.json: there is no such file"),
        ("../user.json", "`../user.json` leads outside the project's root"),
        ("/etc/passwd", "`/etc/passwd` leads outside the project's root"),
    ] {
        let (_, problems) = load(root.path(), path);
        assert_eq!(problems[0].message, message);
        assert_eq!(problems[0].place.as_ref().unwrap().to_string(), "pipelines/p.yaml:1:9");
    }
}

#[test]
fn references_between_files_work_and_urls_are_only_names() {
    let root = project(&[
        (
            "schemas/user.json",
            r##"{"$id": "https://example.test/schemas/user.json", "properties": {
                "address": {"$ref": "parts/my%20address.json#/definitions/address"},
                "self": {"$ref": "https://example.test/schemas/user.json#/$defs/short"},
                "by_name": {"$ref": "https://example.test/zip"},
                "embedded": {"$ref": "tag.json#/$defs/lower"},
                "friend": {"$ref": "#"}},
              "$defs": {"short": {"maxLength": 2},
                "tag": {"$id": "tag.json", "$defs": {"lower": {"pattern": "^[a-z]*$"}}}}}"##,
        ),
        (
            "schemas/parts/my address.json",
            r#"{"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"address": {
                "properties": {"zip": {"$ref": "../zip.json"}, "user": {"$ref": "../user.json"}}}}}"#,
        ),
        ("schemas/zip.json", r#"{"$id": "https://example.test/zip", "type": "string"}"#),
    ]);
    let (schema, problems) = load(root.path(), "schemas/user.json");
    assert!(problems.is_empty(), "{problems:?}");
    let schema = schema.unwrap();
    for (json, expected) in [
        (r#"{"address": {"zip": "1", "user": {"self": "ab"}}, "by_name": "x", "embedded": "a"}"#, vec![]),
        (r#"{"address": {"zip": 1}}"#, vec!["/address/zip type: is not text"]),
        (
            r#"{"address": {"user": {"self": "abc"}}}"#,
            vec!["/address/user/self maxLength: is longer than 2 characters"],
        ),
        (r#"{"by_name": 1}"#, vec!["/by_name type: is not text"]),
        (r#"{"embedded": "A"}"#, vec!["/embedded pattern: does not match the pattern `^[a-z]*$`"]),
        (
            r#"{"friend": {"friend": {"self": "abc"}}}"#,
            vec!["/friend/friend/self maxLength: is longer than 2 characters"],
        ),
    ] {
        assert_eq!(broken(&schema, &value(json)), expected, "{json}");
    }
    let files: Vec<&str> = schema.files().iter().map(|file| file.path.as_str()).collect();
    assert_eq!(files, ["schemas/user.json", "schemas/parts/my address.json", "schemas/zip.json"]);
}

#[test]
fn a_reference_into_another_file_that_leads_nowhere_is_an_error() {
    let found = findings(&[("s.json", r#"{"$ref": "other.json#/definitions/a"}"#), ("other.json", "{}")]);
    assert_eq!(found.len(), 1);
    assert!(found[0].ends_with("`/definitions/a` does not exist in other.json"), "{found:?}");
    assert!(found[0].starts_with("s.json:1:10 "), "{found:?}");
}

#[test]
fn a_pattern_that_could_explode_is_decided_at_once() {
    let schema = schema(r#"{"pattern": "^(a+)+$"}"#);
    let value = Value::text("a".repeat(50_000) + "!");
    assert_eq!(broken(&schema, &value), [" pattern: does not match the pattern `^(a+)+$`"]);
}

#[test]
fn a_deep_value_is_refused_without_a_crash() {
    let schema = schema(r##"{"properties": {"a": {"$ref": "#"}}, "items": {"$ref": "#"}}"##);
    let nested =
        |levels: usize| (1..levels).fold(Value::Array(Vec::new()), |inner, _| Value::Array(vec![inner]));
    assert!(schema.is_valid(&nested(64)));
    assert_eq!(broken(&schema, &nested(65)), [" depth: is nested deeper than 64 levels"]);
    let deep = nested(10_000);
    assert_eq!(broken(&schema, &deep), [" depth: is nested deeper than 64 levels"]);
    // Dropping it would need as much stack as it is deep.
    std::mem::forget(deep);
}

#[test]
fn a_schema_that_only_refers_to_itself_ends() {
    for text in [
        r##"{"$ref": "#"}"##,
        r##"{"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"anyOf": [{"$ref": "#"}]}}}"##,
    ] {
        let schema = schema(text);
        let _ = schema.check(&value(r#"{"a": 1}"#));
        assert!(schema.known_fields().is_none());
    }
}

/// `count` schemas, each with `text` in which `@` is a reference to the next; the last is a list of
/// the first.
fn chained(count: usize, text: &str) -> String {
    let parts: Vec<String> = (0..count)
        .map(|n| {
            format!(r#""d{n}": {},"#, text.replace('@', &format!(r##"{{"$ref": "#/$defs/d{}"}}"##, n + 1)))
        })
        .collect();
    format!(
        r##"{{"$ref": "#/$defs/d0", "$defs": {{{} "d{count}": {{"type": "array", "items": {{"$ref": "#"}}}}}}}}"##,
        parts.concat()
    )
}

#[test]
fn schemas_that_multiply_are_refused_at_once() {
    for (text, expected) in [
        (chained(30, r#"{"allOf": [@, @]}"#), "more than 100000 schemas apply to one value here"),
        (chained(5000, "@"), "more than 100 references and groups within each other apply to one value here"),
    ] {
        let found = findings(&[("s.json", &text)]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with(expected), "{found:?}");
    }
}

#[test]
fn the_longest_chains_of_references_do_not_crash() {
    for (text, rule) in [(chained(98, "@"), "type"), (chained(48, r#"{"anyOf": [@]}"#), "anyOf")] {
        let schema = schema(&text);
        let nested = |leaf| (1..64).fold(leaf, |inner, _| Value::Array(vec![inner]));
        assert!(schema.check(&nested(Value::Array(Vec::new()))).is_ok());
        let found = broken(&schema, &nested(Value::Null));
        assert_eq!(found, [format!("{} {rule}: is not a list", "/0".repeat(63))]);
    }
}

#[test]
fn a_schema_as_deep_as_its_parser_admits_is_compiled() {
    let text = format!("{}true{}", r#"{"items":"#.repeat(120), "}".repeat(120));
    assert!(schema(&text).is_valid(&value("[[[1]]]")));
}

#[test]
fn a_pattern_that_is_too_large_is_refused() {
    let found = findings(&[("s.json", r#"{"pattern": "((a{1000}){1000}){1000}"}"#)]);
    assert!(found[0].contains("or it is too large"), "{found:?}");
}

mod any_schema {
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::*;

    fn word() -> impl Strategy<Value = Json> {
        prop::sample::select(vec![
            json!("string"),
            json!("#"),
            json!("#/$defs/a"),
            json!("#a"),
            json!("::"),
            json!("http://["),
            json!("a b|%"),
            json!("s.json"),
            json!("s.json#/properties/a"),
            json!("http://json-schema.org/draft-07/schema#"),
            json!("%zz"),
            json!("mine.json"),
            json!("//"),
            json!("?"),
            json!("date"),
            json!("(?<a>"),
            json!("null"),
            json!(""),
            json!(0),
            json!(-1),
            json!(1e300),
            json!(1.5),
            json!(true),
            json!(false),
            json!(null),
            json!([]),
            json!({}),
            json!(["a", "a"]),
            json!(["string", "null"]),
        ])
    }

    fn any() -> impl Strategy<Value = Json> {
        word().prop_recursive(4, 24, 4, |inner| {
            let names = walk::KEYWORDS.iter().map(|keyword| keyword.name).chain(["a", "b", "x-y"]);
            let names = names.filter(|name| *name != "$schema").collect::<Vec<_>>();
            prop_oneof![
                4 => prop::collection::vec((prop::sample::select(names), inner.clone()), 0..4).prop_map(|members| {
                    Json::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
                }),
                1 => prop::collection::vec(inner, 0..4).prop_map(Json::Array),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn no_schema_and_no_value_makes_it_panic(
            mut schema in any(),
            value in any(),
            draft in prop::sample::select(vec!["http://json-schema.org/draft-04/schema#", "http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2019-09/schema", "https://json-schema.org/draft/2020-12/schema"]),
        ) {
            if let Json::Object(map) = &mut schema {
                map.insert("$schema".into(), draft.into());
            }
            let root = project(&[("s.json", &schema.to_string())]);
            if let (Some(schema), _) = load(root.path(), "s.json") {
                let value = Value::from(&value);
                assert_eq!(schema.is_valid(&value), schema.check(&value).is_ok());
                if let Value::Object(mut map) = value {
                    schema.typing().apply(&mut map, &parse);
                }
            }
        }
    }
}

#[test]
fn many_violations_are_bounded() {
    let schema = schema(r#"{"items": {"type": "string"}}"#);
    let found = broken(&schema, &Value::Array(vec![Value::Null; 5000]));
    assert_eq!(found.len(), MAX_VIOLATIONS + 1);
    assert_eq!(found[MAX_VIOLATIONS], " limit: breaks more than 1000 rules; the others are not listed");
}

fn parse(text: &str) -> Option<Value> {
    serde_json::from_str::<serde_json::Value>(text).ok().map(|value| Value::from(&value))
}

#[test]
fn cells_become_exactly_what_their_field_admits() {
    let schema = schema(
        r##"{"$schema": "http://json-schema.org/draft-07/schema#", "allOf": [{"$ref": "#/definitions/base"}],
            "properties": {"i": {"type": "integer"}, "n": {"type": ["number", "null"]}, "b": {"type": "boolean"},
              "l": {"type": "array"}, "o": {"$ref": "#/definitions/object"}, "s": {"type": "string"},
              "either": {"type": ["string", "integer"]}, "open": {}, "choice": {"enum": [1, 2]},
              "text_choice": {"enum": [1, "2"]}, "one": {"const": 3}, "any": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
            "definitions": {"object": {"type": "object"}, "base": {"properties": {"inherited": {"type": "integer"}}}}}"##,
    );
    for (field, cell, typed) in [
        ("i", "1", "1"),
        ("i", "-0", "-0"),
        ("i", "12345678901234567890123", "12345678901234567890123"),
        ("i", "1.0", r#""1.0""#),
        ("i", "01", r#""01""#),
        ("i", "+1", r#""+1""#),
        ("i", " 1", r#"" 1""#),
        ("i", "1e3", r#""1e3""#),
        ("i", "", r#""""#),
        ("n", "1.10", "1.10"),
        ("n", "-1e400", "-1e400"),
        ("n", ".5", r#"".5""#),
        ("n", "null", r#""null""#),
        ("b", "true", "true"),
        ("b", "false", "false"),
        ("b", "True", r#""True""#),
        ("b", "1", r#""1""#),
        ("l", r#"[1,{"a":null}]"#, r#"[1,{"a":null}]"#),
        ("l", " [1]", r#"" [1]""#),
        ("l", "[1", r#""[1""#),
        ("l", "{}", r#""{}""#),
        ("o", r#"{"a":1}"#, r#"{"a":1}"#),
        ("o", "[]", r#""[]""#),
        ("s", "1", r#""1""#),
        ("either", "1", r#""1""#),
        ("open", "1", r#""1""#),
        ("unknown", "1", r#""1""#),
        ("choice", "2", "2"),
        ("text_choice", "1", r#""1""#),
        ("one", "3", "3"),
        ("any", "7", "7"),
        ("inherited", "5", "5"),
    ] {
        let mut fields = Map::new();
        fields.push(field, Value::text(cell));
        schema.typing().apply(&mut fields, &parse);
        assert_eq!(fields.get(field).unwrap().to_json(), typed, "{field} {cell}");
    }
    let long = "9".repeat(129);
    let mut fields = Map::new();
    fields.push("i", Value::text(long.as_str()));
    schema.typing().apply(&mut fields, &parse);
    assert_eq!(fields.get("i"), Some(&Value::text(long.as_str())));
}

#[test]
fn an_empty_cell_is_null_only_where_null_is_asked_for() {
    let schema = schema(
        r#"{"required": ["nullable", "text", "open"], "properties": {
            "nullable": {"type": ["string", "null"]}, "text": {"type": "string"}, "open": {}, "optional": {"type": "null"}}}"#,
    );
    let mut fields = Map::new();
    for name in ["nullable", "text", "open", "optional", "unknown"] {
        fields.push(name, Value::Absent);
    }
    schema.typing().apply(&mut fields, &parse);
    let nulls: Vec<&str> =
        fields.iter().filter(|(_, value)| *value == Value::Null).map(|(name, _)| &**name).collect();
    assert_eq!(nulls, ["nullable"]);
}

#[test]
fn known_fields_stand_in_the_order_of_the_schema() {
    let schema = schema(
        r##"{"properties": {"z": {}, "a": {}}, "oneOf": [{"properties": {"c": {}}}, {"$ref": "#/$defs/d"}], "$defs": {"d": {"properties": {"d": {}}}}}"##,
    );
    assert_eq!(schema.known_fields().unwrap(), ["z", "a", "c", "d"]);
    assert!(schema_of_anything().known_fields().is_none());
}

fn schema_of_anything() -> Schema {
    schema("true")
}

#[test]
fn warnings_do_not_stop_a_schema() {
    let root = project(&[("s.json", r#"{"requird": ["a"]}"#)]);
    let (schema, problems) = load(root.path(), "s.json");
    assert!(schema.is_some());
    assert!(problems.iter().all(|problem| problem.severity == Severity::Warning));
    assert_eq!(problems.len(), 1);
}
