//! JSON: one value, one object a line, and lists. What is accepted is JSON, keeps every digit and
//! every character, and nothing that is no JSON is passed over in silence.

use serde_json::value::RawValue;

use super::common::{Input, scratch, source, write};
use super::csv::{check_mark, check_order, read};
use crate::config::RecordLimits;
use crate::model::Value;
use crate::source::parse_json;

/// The target.
pub fn ndjson(data: &[u8]) {
    let mut input = Input::new(data);
    match input.below(5) {
        0 => value(input.rest(), &RecordLimits::default()),
        1 => value(input.rest(), &RecordLimits { field: 8, record: 64, columns: 4, depth: 3, digits: 5 }),
        2 => lines(input.below(16), input.rest()),
        3 => list("", input.below(16), input.rest()),
        _ => list("/list", input.below(16), input.rest()),
    }
}

fn value(bytes: &[u8], limits: &RecordLimits) {
    match parse_json(bytes, limits) {
        Ok(value) => {
            let text = std::str::from_utf8(bytes).expect("JSON is UTF-8");
            assert!(serde_json::from_str::<Box<RawValue>>(text).is_ok(), "{text} is no JSON");
            let written = value.to_json();
            let again = parse_json(written.as_bytes(), &RecordLimits::default()).expect("it was JSON");
            assert_eq!(again, value);
            assert_eq!(numbers(text), numbers(&written), "{text}");
            if let Ok(theirs) = serde_json::from_str::<serde_json::Value>(text) {
                assert_eq!(serde_json::from_str::<serde_json::Value>(&written).ok(), Some(theirs));
            }
        }
        Err(fault) => {
            assert!(fault.offset <= bytes.len() && fault.column >= 1, "{fault:?}");
            let lines = memchr::memchr_iter(b'\n', bytes).count() as u64 + 1;
            assert!((1..=lines).contains(&fault.line), "{fault:?}");
            assert!(!fault.message.contains(char::is_control), "{fault:?}");
            let ours = ["duplicate-key", "json-too-deep", "field-too-large", "number-too-long"];
            if serde_json::from_slice::<serde_json::Value>(bytes).is_ok() {
                assert!(ours.contains(&fault.rule), "JSON is refused: {fault:?}");
            }
        }
    }
}

/// The numbers of a JSON text in its digits.
fn numbers(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let from = at;
        at += 1;
        match byte {
            b'"' => {
                while bytes.get(at).is_some_and(|byte| *byte != b'"') {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                while bytes.get(at).is_some_and(|byte| byte.is_ascii_digit() || b"+-.eE".contains(byte)) {
                    at += 1;
                }
                found.push(&text[from..at]);
            }
            _ => {}
        }
    }
    found
}

/// What a line is to be, found without the source.
fn is_record(line: &[u8]) -> bool {
    let found = parse_json(line, &RecordLimits::default());
    matches!(&found, Ok(Value::Object(map)) if !map.names().any(|name| name.starts_with("_runner")))
}

fn lines(at: usize, file: &[u8]) {
    let folder = scratch();
    let spec = source("a.ndjson");
    write(&folder, &spec.file, file);
    let Some(read) = read(&spec, &folder) else { return };
    let simple = !file.contains(&b'\r');
    check_order(&read, file, simple);
    check_mark(&spec, &folder, &read, at);
    if read.failure.is_some() || !simple {
        return;
    }
    let file = file.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(file);
    let blank = |line: &[u8]| line.iter().all(|byte| b" \t".contains(byte));
    let expected = file.split(|byte| *byte == b'\n').zip(1u64..).filter(|(line, _)| !blank(line));
    let expected: Vec<_> = expected.collect();
    assert_eq!(read.records.len(), expected.len(), "the number of lines");
    for (record, (line, number)) in read.records.iter().zip(expected) {
        assert_eq!(record.place.line, number);
        let start = line.iter().take_while(|byte| b" \t".contains(byte)).count();
        let ours = line.windows(7).any(|part| part == b"_runner");
        if !ours {
            assert_eq!(record.fields.is_ok(), is_record(line[start..].trim_ascii_end()), "line {number}");
        }
    }
}

fn list(pointer: &str, at: usize, file: &[u8]) {
    let folder = scratch();
    let mut spec = source("a.json");
    spec.pointer = pointer.into();
    write(&folder, &spec.file, file);
    let text = std::str::from_utf8(file).map(|text| text.strip_prefix('\u{feff}').unwrap_or(text));
    let whole = text.ok().and_then(|text| serde_json::from_str::<Box<RawValue>>(text).ok());
    let items = whole.as_ref().and_then(|whole| serde_json::from_str::<Vec<&RawValue>>(whole.get()).ok());
    let Some(read) = read(&spec, &folder) else { return };
    check_order(&read, file, !file.contains(&b'\r'));
    check_mark(&spec, &folder, &read, at);
    if read.failure.is_none() && read.records.iter().all(|record| record.fields.is_ok()) {
        assert!(whole.is_some(), "what is no JSON is read without a word");
    }
    if let Some(items) = items.filter(|_| pointer.is_empty()) {
        assert!(read.failure.is_none(), "JSON is refused: {:?}", read.failure);
        assert_eq!(read.records.len(), items.len(), "the number of elements");
        for (record, item) in read.records.iter().zip(items) {
            let from = usize::try_from(record.place.byte).expect("a byte of the file");
            assert!(file[from..].starts_with(item.get().as_bytes()), "{:?}", record.place);
            if !item.get().contains("_runner") {
                assert_eq!(record.fields.is_ok(), is_record(item.get().as_bytes()), "{}", item.get());
            }
        }
    }
}
