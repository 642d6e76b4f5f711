//! What a bad input becomes: each row of the catalogue of bad inputs that concerns reading.

use std::io::Write;
use std::path::Path;

use std::sync::Arc;

use super::*;
use crate::config::{CsvOptions, Encoding, Format, RecordLimits};
use crate::model::{Class, Place, SourceText, Value};

/// A spec for a file named on the command line.
pub(super) fn spec(file: &str) -> SourceSpec {
    SourceSpec {
        fields: None,
        file: file.into(),
        place: None,
        format: None,
        pointer: String::new(),
        csv: CsvOptions::default(),
        limits: RecordLimits::default(),
    }
}

/// A folder with one file in it.
pub(super) fn folder(name: &str, bytes: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(name), bytes).unwrap();
    folder
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// A record as one line: `line N: {…}`, or `line N: rule: message`.
fn line_of(record: &Record) -> String {
    let what = match &record.fields {
        Ok(map) => Value::Object(map.clone()).to_json(),
        Err(bad) => format!("{}: {}", bad.rule, bad.message),
    };
    format!("{}: {what}", record.place.line)
}

/// A failure as text: class, rule, message and all that stands below it.
fn text_of(failure: &Failure) -> String {
    let found = &failure.diagnostics[0];
    let lines = [Some(found.message.clone()), found.at.clone(), found.help.clone()];
    let lines: Vec<_> = lines.into_iter().flatten().chain(found.notes.clone()).collect();
    format!("{} {}: {}", failure.class, found.rule, lines.join(" | "))
}

/// All records of a source as lines; a failure is the last.
fn lines(spec: &SourceSpec, root: &Path) -> Vec<String> {
    let mut source = match open(spec, root, None) {
        Ok(source) => source,
        Err(failure) => return vec![text_of(&failure)],
    };
    let mut lines = Vec::new();
    let mut ordinal = 0;
    while let Some(item) = source.next() {
        match item {
            Ok(record) => {
                assert_eq!(record.ordinal, ordinal, "every record takes an ordinal");
                ordinal += 1;
                lines.push(line_of(&record));
            }
            Err(failure) => lines.push(text_of(&failure)),
        }
    }
    assert!(source.next().is_none(), "nothing follows the end");
    lines
}

fn read(name: &str, bytes: impl AsRef<[u8]>) -> Vec<String> {
    read_with(name, bytes, |_| {})
}

fn read_with(name: &str, bytes: impl AsRef<[u8]>, change: impl FnOnce(&mut SourceSpec)) -> Vec<String> {
    let folder = folder(name, bytes.as_ref());
    let mut spec = spec(name);
    change(&mut spec);
    lines(&spec, folder.path())
}

/// The one failure that a file is; it holds all these texts.
#[track_caller]
fn fails(name: &str, bytes: impl AsRef<[u8]>, holds: &[&str]) {
    let found = read(name, bytes);
    let last = found.last().expect("a failure");
    for text in holds {
        assert!(last.contains(text), "{text:?} in {found:?}");
    }
}

/// The line at `at` holds all these texts.
#[track_caller]
fn holds(lines: &[String], at: usize, texts: &[&str]) {
    for text in texts {
        assert!(lines[at].contains(text), "{text:?} in {lines:?}");
    }
}

#[test]
fn b001_missing_directory_and_device_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("dir")).unwrap();
    let check = |file: &str, text: &str| {
        let found = lines(&spec(file), folder.path());
        assert!(found[0].starts_with(text), "{found:?}");
    };
    check("gone.csv", "input input-missing: the input gone.csv does not exist");
    check("gone/a.csv", "input input-missing: the input gone/a.csv does not exist");
    check("dir", "input input-is-directory: the input dir is a directory");
    check("/dev/null", "input input-not-a-file");
    check("*.csv", "input input-missing: no file matches *.csv");
}

#[test]
fn b002_b003_an_empty_file_is_a_fault_and_a_header_alone_is_none() {
    fails("a.csv", "", &["input empty-file", "a.csv", "header"]);
    fails("a.csv", "\n\r\n", &["input empty-file", "header"]);
    fails("a.json", "", &["input truncated", "a.json"]);
    assert!(read("a.csv", "id,name\n").is_empty());
    assert!(read("a.csv", "id,name").is_empty());
    assert!(read("a.ndjson", "").is_empty());
    assert!(read("a.json", "[ ]").is_empty());
}

#[test]
fn b004_b032_a_byte_order_mark_is_no_part_of_the_data() {
    assert_eq!(read("a.csv", "\u{feff}id\n1\n"), [r#"2: {"id":"1"}"#]);
    assert_eq!(read("a.csv", "\u{feff}\"id\"\n1\n"), [r#"2: {"id":"1"}"#]);
    assert_eq!(read("a.json", "\u{feff}[{\"id\":1}]"), [r#"1: {"id":1}"#]);
    assert_eq!(read("a.ndjson", "\u{feff}{\"id\":1}\n"), [r#"1: {"id":1}"#]);
}

#[test]
fn b005_undeclared_utf16_is_refused_and_declared_utf16_is_read() {
    let utf16 = |text: &str, little: bool| -> Vec<u8> {
        text.encode_utf16()
            .flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() })
            .collect()
    };
    let text = "\u{feff}id,name\n1,Zoë 😀\n";
    for (little, name) in [(true, "UTF-16 (little-endian)"), (false, "UTF-16 (big-endian)")] {
        fails(
            "a.csv",
            utf16(text, little),
            &["input undeclared-encoding", name, "iconv", "encoding: utf-16"],
        );
        let found = read_with("a.csv", utf16(text, little), |s| s.csv.encoding = Some(Encoding::Utf16));
        assert_eq!(found, [r#"2: {"id":"1","name":"Zoë 😀"}"#]);
    }
    let without_mark = utf16(&text[3..], true);
    fails("a.csv", &without_mark, &["input nul-byte", "utf-16"]);
    let found = read_with("a.csv", &without_mark, |s| s.csv.encoding = Some(Encoding::Utf16Le));
    assert_eq!(found, [r#"2: {"id":"1","name":"Zoë 😀"}"#]);
    let mut broken = utf16("id\n", true);
    broken.extend([0, 0xD8, b'\n', 0, b'2', 0]);
    let found = read_with("a.csv", &broken, |s| s.csv.encoding = Some(Encoding::Utf16Le));
    holds(&found, 0, &["2: not-utf16", "column `id`"]);
    assert_eq!(found[1], r#"3: {"id":"2"}"#);
}

#[test]
fn json_is_always_utf8() {
    fails("a.json", [0xFF, 0xFE, b'[', 0, b']', 0], &["input undeclared-encoding", "iconv -f UTF-16"]);
    let found = read_with("a.json", "[]", |s| s.csv.encoding = Some(Encoding::Utf16));
    holds(&found, 0, &["config bad-csv-options", "always UTF-8"]);
    holds(&read("a.ndjson", b"{}\n{\"a\":\"\xe9\"}\n{}"), 1, &["2: not-utf8", "line 2, column 7, byte 9"]);
}

#[test]
fn b006_a_latin1_byte_costs_its_row_alone() {
    let bytes = b"id,name\n1,a\n2,caf\xe9\n3,c\n";
    let found = read("a.csv", bytes);
    assert_eq!((&*found[0], &*found[2]), (r#"2: {"id":"1","name":"a"}"#, r#"4: {"id":"3","name":"c"}"#));
    holds(&found, 1, &["3: not-utf8", "column `name`", "(byte 17)", "latin1"]);
    let found = read_with("a.csv", bytes, |s| s.csv.encoding = Some(Encoding::Latin1));
    assert_eq!(found[1], r#"3: {"id":"2","name":"café"}"#);
}

#[test]
fn b007_b008_a_ragged_row_costs_itself_alone() {
    let found = read("a.csv", "a,b,c\n1,2,3\n4,5\n6,7,8,9\n1,2,3\n");
    assert_eq!(found[1], "3: ragged-row: 2 fields found, 3 fields expected by the header");
    assert_eq!(found[2], "4: ragged-row: 4 fields found, 3 fields expected by the header");
    assert_eq!(
        (&*found[0], &*found[3]),
        (r#"2: {"a":"1","b":"2","c":"3"}"#, r#"5: {"a":"1","b":"2","c":"3"}"#)
    );
    let found = read("a.csv", format!("a\n{}\n1\n", ",".repeat(100_000)));
    assert_eq!(
        found,
        ["2: ragged-row: 100001 fields found, 1 field expected by the header", r#"3: {"a":"1"}"#]
    );
}

#[test]
fn b009_an_unclosed_quote_fails_with_its_line() {
    let rows = "7,x\n".repeat(1000);
    let found = read("a.csv", format!("a,b\n1,ok\n2,\"open\n{rows}"));
    assert_eq!(found.len(), 2);
    holds(
        &found,
        1,
        &["input unclosed-quote: the quote that opens on line 3 is never closed", "a.csv line 3"],
    );
    fails("a.csv", "a,b\n1,\"x\ny\",\n", &["ragged-row"]);
    fails("a.csv", "a,b\n\"x\ny\",\"\n", &["unclosed-quote", "opens on line 3"]);
    fails("a.csv", "a,\"b\n1,2\n", &["unclosed-quote", "opens on line 1"]);
    // Also when more stands behind the quote than one record may have.
    let long = "x\n".repeat(3 << 20);
    fails("a.csv", format!("a,b\n1,\"\n\",\n{}\"{long}", "y,".repeat(9)), &["opens on line 4"]);
}

#[test]
fn text_behind_a_closing_quote_is_told() {
    let found = read("a.csv", "a,b\n\"x\"y,1\n\"z\" ,\"2\"\n\"q\"\"\",\"3\"\n");
    holds(&found, 0, &["2: text-after-quote", "column `a`"]);
    holds(&found, 1, &["3: text-after-quote", "column `a`"]);
    assert_eq!(found[2], r#"4: {"a":"q\"","b":"3"}"#);
}

#[test]
fn b010_b011_columns_have_one_name_each() {
    fails("a.csv", "email,id,email\n", &["input duplicate-column", "`email`", "column 1 and column 3"]);
    let folder = folder("a.csv", b"id,,name,\n1,2,3,4\n");
    let mut source = open(&spec("a.csv"), folder.path(), None).unwrap();
    assert_eq!(source.columns().unwrap(), ["id", "name"]);
    assert_eq!(source.warnings().len(), 1);
    assert!(source.warnings()[0].message.contains("columns 2, 4 of a.csv"), "{:?}", source.warnings());
    assert_eq!(line_of(&source.next().unwrap().unwrap()), r#"2: {"id":"1","name":"3"}"#);
    assert!(
        read("a.csv", format!("{}\n", (0..4096).map(|n| n.to_string()).collect::<Vec<_>>().join(",")))
            .is_empty()
    );
    let wide = (0..4097).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    fails("a.csv", wide, &["input too-many-columns", "4097", "4096"]);
}

#[test]
fn names_are_given_as_they_are_written() {
    assert_eq!(read("a.csv", " id,a.b\n1,2\n"), [r#"2: {" id":"1","a.b":"2"}"#]);
    let given = |s: &mut SourceSpec| s.csv.header = Some(vec!["x".into(), "y".into()]);
    assert_eq!(read_with("a.csv", "1,2\n", given), [r#"1: {"x":"1","y":"2"}"#]);
    assert!(read_with("a.csv", "", given).is_empty());
}

#[test]
fn columns_of_our_outcome_files_are_dropped_and_do_not_change_the_digest() {
    let before = folder("a.csv", b"id,n\n1,2\n");
    let after = folder("a.csv", b"id,n,_runner_run,_runner_status\r\n\"1\",\"2\",r,failed\r\n");
    let digest = |folder: &tempfile::TempDir| {
        let mut source = open(&spec("a.csv"), folder.path(), None).unwrap();
        assert_eq!(source.columns().unwrap(), ["id", "n"]);
        let record = source.next().unwrap().unwrap();
        assert_eq!(line_of(&record), r#"2: {"id":"1","n":"2"}"#);
        record.digest
    };
    assert_eq!(digest(&before), digest(&after));
    fails("a.csv", "id,_runner_status\n", &["input reserved-column", "_runner_status", "_runner_run"]);
    assert_eq!(read("a.ndjson", r#"{"id":1,"_runner":{"run":"r"}}"#), [r#"1: {"id":1}"#]);
    holds(&read("a.ndjson", r#"{"_runner_x":1}"#), 0, &["reserved-field", "_runner_x"]);
}

#[test]
fn cells_with_other_borders_have_another_digest() {
    let digest = |text: &str| {
        let folder = folder("a.csv", text.as_bytes());
        open(&spec("a.csv"), folder.path(), None).unwrap().next().unwrap().unwrap().digest
    };
    assert_ne!(digest("a,b\n12,3\n"), digest("a,b\n1,23\n"));
    assert_ne!(digest("a,b\n,x\n"), digest("a,b\nx,\n"));
    assert_eq!(digest("a,b\n\"1\",2\r\n"), digest("a,b\n1,\"2\""));
}

#[test]
fn b014_a_nul_byte_is_named() {
    let found = read("a.csv", "a,b\n1,x\0y\n2,z\n");
    holds(&found, 0, &["2: nul-byte", "column `b`", "U+0000"]);
    assert_eq!(found[1], r#"3: {"a":"2","b":"z"}"#);
}

#[test]
fn b015_a_field_over_the_limit_is_refused_and_its_neighbours_are_not() {
    let found = read("a.csv", format!("a,b\n1,{}\n2,x\n", "y".repeat(5 << 20)));
    assert_eq!(found[0], "2: field-too-large: column `b` has 5242880 bytes, the limit is 1048576");
    assert_eq!(found[1], r#"3: {"a":"2","b":"x"}"#);
    let found = read("a.csv", format!("a,b\n1,\"{}\"\n2,x\n", "y\n".repeat(5 << 19)));
    holds(&found, 0, &["2: field-too-large", "column `b` has 5242880 bytes"]);
    assert_eq!(found[1], format!("{}: {}", 3 + (5 << 19), r#"{"a":"2","b":"x"}"#));
    let fields = vec!["z".repeat(900 << 10); 5].join(",");
    let found = read("a.csv", format!("a,b,c,d,e\n{fields}\n1,2,3,4,5\n"));
    holds(&found, 0, &["2: record-too-large", "the limit is 4194304"]);
    assert_eq!(found.len(), 2);
    let found = read("a.csv", format!("a\n{}\n{}\n", "x".repeat(1 << 20), "x".repeat((1 << 20) + 1)));
    assert!(found[0].starts_with("2: {"), "the limit itself is allowed");
    holds(&found, 1, &["3: field-too-large", "1048577"]);
    let long = format!("{{\"a\":\"{}\"}}", "y".repeat(5 << 20));
    for (name, text) in
        [("a.ndjson", format!("{long}\n{{\"b\":1}}\n")), ("a.json", format!("[{long},\n{{\"b\":1}}]"))]
    {
        let found = read(name, text);
        holds(&found, 0, &["1: record-too-large", "the limit is 4194304"]);
        assert_eq!(found[1], r#"2: {"b":1}"#);
    }
}

#[test]
fn b016_b017_b018_lines_are_those_of_an_editor() {
    let found = read("a.csv", "a,b\n\n\r\n1,2\r\n\n3,\"x\n\ny\"\n4\n5,6");
    assert_eq!(found[0], r#"4: {"a":"1","b":"2"}"#);
    assert_eq!(found[1], r#"6: {"a":"3","b":"x\n\ny"}"#);
    holds(&found, 2, &["9: ragged-row"]);
    assert_eq!(found[3], r#"10: {"a":"5","b":"6"}"#);
    let found = read("a.csv", "a,b\r1,2\r\r3,\"x\ny\"\r4,5\r");
    assert_eq!(found, [r#"2: {"a":"1","b":"2"}"#, r#"4: {"a":"3","b":"x\ny"}"#, r#"6: {"a":"4","b":"5"}"#]);
    let found = read_with("a.csv", "# c\na\n# \"d\n1\n#\n2 # no\n", |s| s.csv.comment = Some(b'#'));
    assert_eq!(found, [r#"4: {"a":"1"}"#, r#"6: {"a":"2 # no"}"#]);
}

#[test]
fn b021_cells_are_text_as_written() {
    assert_eq!(
        read("a.csv", "a,b,c,d,e\n00123,1.10,1e5,TRUE, x \n"),
        [r#"2: {"a":"00123","b":"1.10","c":"1e5","d":"TRUE","e":" x "}"#]
    );
    assert_eq!(read("a.tsv", "a\tb\n1,2\t\"x\ty\"\n"), [r#"2: {"a":"1,2","b":"x\ty"}"#]);
    let semicolon = |s: &mut SourceSpec| {
        s.csv.delimiter = Some(b';');
        s.csv.quote = b'\'';
    };
    assert_eq!(read_with("a.csv", "a;'b'\n'1;''2';\"x\n", semicolon), [r#"2: {"a":"1;'2","b":"\"x"}"#]);
}

#[test]
fn an_empty_cell_is_absent_and_a_null_word_is_null() {
    let folder = folder("a.csv", b"a,b,c\n,NULL,\"\"\n");
    let mut with = spec("a.csv");
    with.csv.null_words = vec!["NULL".into()];
    let fields =
        |spec: &SourceSpec| open(spec, folder.path(), None).unwrap().next().unwrap().unwrap().fields.unwrap();
    let map = fields(&with);
    assert_eq!(map.get("a"), Some(&Value::Absent));
    assert_eq!(map.get("b"), Some(&Value::Null));
    assert_eq!(map.get("c"), Some(&Value::Absent));
    with.csv.empty_is_text = true;
    assert_eq!(fields(&with).get("a"), Some(&Value::text("")));
}

#[test]
fn b022_b023_a_broken_line_costs_itself_alone() {
    let found = read("a.ndjson", "{\"a\":1}\n\n{\"a\":2}\r\n{\"a\" 3}\n{\"a\":4}\n{\"a\":");
    assert_eq!((&*found[0], &*found[1], &*found[3]), (r#"1: {"a":1}"#, r#"3: {"a":2}"#, r#"5: {"a":4}"#));
    holds(&found, 2, &["4: not-json", "line 4, column 6"]);
    holds(&found, 4, &["6: not-json", "ends early", "line 6"]);
}

#[test]
fn b024_nesting_is_refused_by_depth_and_never_overflows() {
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for (name, text) in [("a.ndjson", format!("{deep}\n{{}}\n")), ("a.json", format!("[{deep},\n{{}}]"))] {
        let found = read(name, text);
        holds(&found, 0, &["1: ", "json-too-deep", "64 levels"]);
        assert_eq!(found[1], "2: {}");
    }
    fails("a.json", "[".repeat(100_000), &["input truncated"]);
}

#[test]
fn b025_b026_numbers_keep_every_digit() {
    let text = r#"{"a":9007199254740993,"b":18446744073709551616,"c":1.10,"d":-0.0}"#;
    assert_eq!(read("a.ndjson", text), [format!("1: {text}")]);
    assert_eq!(read("a.json", format!("[{text}]")), [format!("1: {text}")]);
    let long = format!("[{{\"n\":{}}}]", "1".repeat(129));
    holds(&read("a.json", long), 0, &["number-too-long", "field `n`", "129 digits", "128"]);
}

#[test]
fn b027_b028_b029_b031_a_bad_element_costs_itself_alone() {
    let text =
        "[{\"id\":0},\n {\"id\":NaN}, {\"n\":\"\\ud800\"},\n{\"id\":1,\"id\":2}, 7, -Infinity, {\"id\":6}]";
    let found = read("a.json", text);
    assert_eq!((&*found[0], &*found[6]), (r#"1: {"id":0}"#, r#"3: {"id":6}"#));
    holds(&found, 1, &["2: not-json", "element 1", "NaN", "line 2, column 8"]);
    holds(&found, 2, &["2: lone-surrogate", "field `n`", "line 2"]);
    holds(&found, 3, &["3: duplicate-key", "`id`", "line 3"]);
    holds(&found, 4, &["3: not-an-object: element 4: found a number"]);
    holds(&found, 5, &["3: not-json", "element 5"]);
    holds(&read("a.ndjson", "{}\n{\"v\":Infinity}\n"), 1, &["2: not-json", "Infinity", "line 2, column 6"]);
}

#[test]
fn b030_b033_b034_a_document_that_is_no_list_says_what_it_is() {
    fails("a.json", "\"text\"", &["input not-a-list", "text", "expected a list"]);
    fails("a.json", " 12 ", &["input not-a-list", "a number"]);
    fails("a.json", "{\"meta\":1,\"users\":[]}", &["input not-a-list", "pointer: /users"]);
    fails("a.json", "{\"a\":1}\n{\"a\":2}\n", &["input trailing-data", "byte 8", "ndjson"]);
    fails("a.json", "[{}] x", &["input trailing-data", "byte 5"]);
    fails("a.ndjson", "[{\"a\":1}]", &["input json-as-ndjson", "format: json"]);
    fails("a.ndjson", "{\n \"a\": 1\n}\n", &["input json-as-ndjson", "format: json"]);
    let at = |text: &str, pointer: &str| read_with("a.json", text, |s| s.pointer = pointer.into());
    let found = at(r#"{"data":{"rows":[],"total":0}}"#, "/data/items");
    holds(&found, 0, &["input pointer-not-found", "`/data/items`", "`/data` has `rows`, `total`"]);
    holds(&at(r#"{"data":7}"#, "/data/items"), 0, &["pointer-not-found", "`/data` is a number"]);
    holds(&at(r#"{"data":7}"#, "/data"), 0, &["not-a-list", "`/data` is a number"]);
    holds(&at("[[1]]", "/01"), 0, &["pointer-not-found"]);
    holds(&at("{}", "items"), 0, &["config bad-pointer"]);
}

#[test]
fn a_list_is_found_by_its_pointer() {
    let at = |text: &str, pointer: &str| read_with("a.json", text, |s| s.pointer = pointer.into());
    let one = [r#"1: {"id":1}"#];
    assert_eq!(at(r#"{"x":[{"id":9}],"d":{"y":"]}","i":[{"id":1}],"z":{}},"w":[1]}"#, "/d/i"), one);
    assert_eq!(at(r#"[0,{"a":[]},[{"id":1}],3]"#, "/2"), one);
    assert_eq!(at(r#"{"a/b":{"c~d":{"":[{"id":1}]}}}"#, "/a~1b/c~0d/"), one);
    assert_eq!(at("{\"\\u0061\":[{\"id\":1}]}", "/a"), one);
    let twice = at(r#"{"a":[{"id":1}],"a":[{"id":2}]}"#, "/a");
    holds(&twice, 1, &["input duplicate-key", "`a`"]);
    let trailing = at(r#"{"a":[{"id":1}]} {}"#, "/a");
    holds(&trailing, 1, &["input trailing-data", "byte 17"]);
}

#[test]
fn a_document_that_breaks_off_fails_behind_its_good_elements() {
    for (text, good, rule) in [
        ("[{\"a\":1},{\"a\"", 1, "truncated"),
        ("[{\"a\":1},", 1, "truncated"),
        ("[{\"a\":1}", 1, "truncated"),
        ("[", 0, "truncated"),
        ("[{\"a\":\"x", 0, "truncated"),
        ("[{\"a\":\"x\\", 0, "truncated"),
        ("[{\"a\":1},]", 1, "not-json"),
        ("[{\"a\":1} {\"a\":2}]", 1, "not-json"),
        ("[,]", 0, "not-json"),
        ("[{\"a\":1},{\"a\":[1}]", 1, "not-json"),
        ("[{\"a\":1}}", 1, "not-json"),
    ] {
        let found = read("a.json", text);
        assert_eq!(found.len(), good + 1, "{text}: {found:?}");
        holds(&found, good, &["input", rule, "a.json line 1"]);
    }
}

#[test]
fn compressed_files_are_read_by_their_ending() {
    let csv = "id,n\n1,a\n2,b\n";
    let good = [r#"2: {"id":"1","n":"a"}"#, r#"3: {"id":"2","n":"b"}"#];
    assert_eq!(read("a.csv.gz", gzip(csv.as_bytes())), good);
    assert_eq!(read("a.csv.zst", zstd::encode_all(csv.as_bytes(), 1).unwrap()), good);
    let members = [gzip(b"id,n\n1,a\n"), gzip(b"2,b\n")].concat();
    assert_eq!(read("a.csv.gz", members), good);
    assert_eq!(read("a.json.gz", gzip(b"[{\"id\":1}]")), [r#"1: {"id":1}"#]);
    fails("a.csv", gzip(csv.as_bytes()), &["input undeclared-compression", "gzip", ".gz"]);
    fails("a.csv.gz", csv, &["input damaged", "a.csv.gz"]);
    fails("a.csv.zst", csv, &["input damaged", "a.csv.zst"]);
}

#[test]
fn a_truncated_archive_fails_behind_what_it_gave() {
    let mut random = 1u64;
    let mut csv = String::from("id,n\n");
    for n in 0..20_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        csv += &[n.to_string(), random.to_string()].join(",");
        csv.push('\n');
    }
    for (name, packed) in
        [("a.csv.gz", gzip(csv.as_bytes())), ("a.csv.zst", zstd::encode_all(csv.as_bytes(), 1).unwrap())]
    {
        let found = read(name, &packed[..packed.len() - 100]);
        assert!(found.len() > 10_000, "{name}: {}", found.len());
        holds(&found, found.len() - 1, &["input truncated", name, "line"]);
        assert!(found[..found.len() - 1].iter().all(|line| line.contains("{\"id\"")), "{name}");
    }
}

#[test]
fn a_glob_is_one_source_in_bytewise_order() {
    let folder = folder("b.csv", b"id\n3\n");
    std::fs::write(folder.path().join("B.csv"), "id\n1\n2\n").unwrap();
    std::fs::write(folder.path().join("c.csv"), "\"id\"\r\n4\r\n").unwrap();
    std::fs::write(folder.path().join(".d.csv"), "id\n9\n").unwrap();
    let glob = spec("*.csv");
    let ids = [r#"2: {"id":"1"}"#, r#"3: {"id":"2"}"#, r#"2: {"id":"3"}"#, r#"2: {"id":"4"}"#];
    assert_eq!(lines(&glob, folder.path()), ids);
    let stamps = stamp(&glob, folder.path(), None).unwrap();
    assert_eq!(stamps.iter().map(|stamp| stamp.size).collect::<Vec<_>>(), [7, 5, 9]);
    let mut source = open(&glob, folder.path(), None).unwrap();
    assert_eq!(source.bytes_total(), Some(21));
    let files: Vec<_> =
        std::iter::from_fn(|| source.next()).map(|r| r.unwrap().place.file.to_string()).collect();
    assert_eq!(files, ["B.csv", "B.csv", "b.csv", "c.csv"]);
    assert_eq!(source.bytes_read(), 21);
    std::fs::write(folder.path().join("c.csv"), "id,x\n4,5\n").unwrap();
    let found = lines(&glob, folder.path());
    assert_eq!(found.len(), 1, "found before the first record");
    holds(&found, 0, &["input headers-differ", "B.csv and c.csv", "`x`"]);
}

#[test]
fn a_path_of_a_pipeline_stays_in_the_project() {
    let outside = folder("a.csv", b"id\n1\n");
    let project = folder("in.csv", b"id\n2\n");
    std::os::unix::fs::symlink(outside.path().join("a.csv"), project.path().join("link.csv")).unwrap();
    std::os::unix::fs::symlink(outside.path(), project.path().join("dir")).unwrap();
    let text = SourceText { path: "pipelines/a.yaml".into(), text: "source: x".into() };
    let place = Place::new(Arc::new(text), 8..9);
    let absolute = outside.path().join("a.csv").display().to_string();
    for file in
        ["link.csv", "dir/a.csv", "dir/*.csv", "l*.csv", "../x.csv", "sub/../../x.csv", absolute.as_str()]
    {
        let inside = SourceSpec { place: Some(place.clone()), ..spec(file) };
        let failure = open(&inside, project.path(), None).err().expect(file);
        assert_eq!((failure.class, failure.diagnostics[0].rule), (Class::Config, "path-outside"), "{file}");
        assert_eq!(failure.diagnostics[0].place.as_ref(), Some(&place));
    }
    let inside = SourceSpec { place: Some(place), ..spec("./in.csv") };
    assert_eq!(lines(&inside, project.path()), [r#"2: {"id":"2"}"#]);
    assert_eq!(lines(&spec("link.csv"), project.path()), [r#"2: {"id":"1"}"#]);
    assert_eq!(lines(&spec(&absolute), project.path()), [r#"2: {"id":"1"}"#]);
}

#[test]
fn standard_input_is_spooled_for_its_owner_alone_and_read_from_there() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("stdin");
    let text = format!("id\n{}", "1\n".repeat(100_000));
    assert_eq!(spool(&mut text.as_bytes(), &to).unwrap(), text.len() as u64);
    assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(spool(&mut text.as_bytes(), &to).unwrap_err().class, Class::Io, "nothing is overwritten");
    let stdin = SourceSpec { format: Some(Format::Csv), ..spec("-") };
    let mut source = open(&stdin, folder.path(), Some(&to)).unwrap();
    assert_eq!(&*source.next().unwrap().unwrap().place.file, "-");
    assert_eq!(open(&stdin, folder.path(), None).err().unwrap().class, Class::Bug);
    let untold = open(&spec("-"), folder.path(), Some(&to)).err().unwrap();
    assert_eq!((untold.class, untold.diagnostics[0].rule), (Class::Config, "unknown-format"));
}

#[test]
fn bad_options_are_refused() {
    for (delimiter, comment) in [(b'"', None), (b'\n', None), (0xA7, None), (b',', Some(b','))] {
        let found = read_with("a.csv", "a\n", |s| {
            s.csv.delimiter = Some(delimiter);
            s.csv.comment = comment;
        });
        holds(&found, 0, &["config bad-csv-options"]);
    }
}

#[test]
fn a_bad_record_keeps_its_first_bytes() {
    let folder = folder("a.csv", format!("a,b\n{}\nx\n", "y".repeat(5 << 20)).as_bytes());
    let mut source = open(&spec("a.csv"), folder.path(), None).unwrap();
    let mut next = || source.next().unwrap().unwrap().fields.unwrap_err();
    assert_eq!(next().bytes, "y".repeat(KEPT).as_bytes());
    assert_eq!(next().bytes, b"x");
}
