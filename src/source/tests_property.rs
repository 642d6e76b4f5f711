//! What holds for every input: seeking, the splitter against `serde_json`, rows against
//! the csv crate, and records that are dropped because they are too large.

use proptest::prelude::*;

use super::tests::{folder, gzip, spec};
use super::*;
use crate::model::Value;

/// A record as text that tells it from every other one.
fn shape(item: &Result<Record, Failure>) -> String {
    match item {
        Ok(record) => format!("{} {:?} {} {:?}", record.ordinal, record.place, record.digest, record.fields),
        Err(failure) => format!("{} {}", failure.class, failure.diagnostics[0].message),
    }
}

fn rest(source: &mut Box<dyn Source>) -> Vec<String> {
    std::iter::from_fn(|| source.next()).map(|item| shape(&item)).collect()
}

/// Every mark leads to the same rest, from a fresh source and from a used one.
fn check_marks(spec: &SourceSpec, root: &Path) {
    let mut source = open(spec, root, None).unwrap();
    let mut marks = vec![source.mark()];
    let mut all = Vec::new();
    while let Some(item) = source.next() {
        all.push(shape(&item));
        if item.is_err() {
            break;
        }
        marks.push(source.mark());
    }
    let mut used = open(spec, root, None).unwrap();
    for (at, mark) in marks.iter().enumerate().rev() {
        let mut fresh = open(spec, root, None).unwrap();
        fresh.seek(*mark).unwrap();
        assert_eq!(fresh.mark().ordinal, mark.ordinal);
        assert_eq!(rest(&mut fresh), all[at..], "fresh, {mark:?}");
        used.seek(*mark).unwrap();
        assert_eq!(rest(&mut used), all[at..], "used, {mark:?}");
    }
}

/// Text made of what matters to a CSV reader.
fn csv_text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just(","),
        Just("\""),
        Just("\"\""),
        Just("\n"),
        Just("\r\n"),
        Just("a"),
        Just("é"),
        Just(" "),
        Just("\"x\ny\""),
        Just(",\"q,\"\"r\","),
        Just("\n\n"),
        Just("#"),
    ];
    proptest::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "[a-z\"\\\\{}\\[\\],:\u{1f600}\n]{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            proptest::collection::btree_map("[a-c\"\\\\}]{0,3}", inner, 0..5)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_mark_of_a_csv_file_leads_to_the_same_rest(text in csv_text(), mark in any::<bool>()) {
        let text = format!("{}h,i\n{text}", if mark { "\u{feff}" } else { "" });
        let folder = folder("a.csv", text.as_bytes());
        std::fs::write(folder.path().join("b.csv"), "h,i\n1,2\n\n3,4").unwrap();
        std::fs::write(folder.path().join("z.csv.gz"), gzip(text.as_bytes())).unwrap();
        for file in ["a.csv", "?.csv", "z.csv.gz"] {
            check_marks(&spec(file), folder.path());
        }
    }

    #[test]
    fn every_mark_of_a_json_file_leads_to_the_same_rest(
        items in proptest::collection::vec(json_value(), 0..6),
        cut in any::<bool>(),
        pretty in any::<bool>(),
    ) {
        let list = serde_json::Value::from(items.clone());
        let document = serde_json::json!({ "a": 1, "list": list, "z": [] });
        let mut text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) }.unwrap();
        if cut {
            text.truncate(text.rfind(']').unwrap());
        }
        let folder = folder("a.json", text.as_bytes());
        let lines: Vec<_> = items.iter().map(ToString::to_string).filter(|line| !line.starts_with('[')).collect();
        std::fs::write(folder.path().join("a.ndjson"), lines.join("\n")).unwrap();
        check_marks(&SourceSpec { pointer: "/list".into(), ..spec("a.json") }, folder.path());
        check_marks(&spec("a.ndjson"), folder.path());
    }

    #[test]
    fn the_splitter_agrees_with_serde_json(
        items in proptest::collection::vec(json_value(), 0..8),
        before in json_value(),
        behind in json_value(),
        pretty in any::<bool>(),
    ) {
        let items: Vec<_> = items.into_iter().map(|value| serde_json::json!({ "v": value })).collect();
        let mut document = serde_json::json!({ "before": before });
        document["list"] = items.clone().into();
        document["behind"] = behind;
        let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) }.unwrap();
        let folder = folder("a.json", text.as_bytes());
        let mut source = open(&SourceSpec { pointer: "/list".into(), ..spec("a.json") }, folder.path(), None).unwrap();
        let mut found = Vec::new();
        while let Some(record) = source.next() {
            let record = record.unwrap();
            let from = usize::try_from(record.place.byte).unwrap();
            prop_assert_eq!(text.as_bytes()[from], b'{');
            prop_assert_eq!(record.place.line, text[..from].matches('\n').count() as u64 + 1);
            found.push(serde_json::from_str::<serde_json::Value>(&Value::Object(record.fields.unwrap()).to_json()).unwrap());
        }
        prop_assert_eq!(found, items);
    }

    #[test]
    fn a_json_value_is_read_as_serde_json_reads_it(value in json_value()) {
        let text = value.to_string();
        let ours = parse_json(text.as_bytes(), &crate::config::RecordLimits::default()).unwrap();
        prop_assert_eq!(ours.to_json(), text);
    }

    #[test]
    fn rows_agree_with_the_csv_crate(text in csv_text()) {
        // Where that crate passes a fault over in silence, ours is a record or input at fault.
        let text = format!("h,i\n{text}");
        let folder = folder("a.csv", text.as_bytes());
        let mut source = open(&spec("a.csv"), folder.path(), None).unwrap();
        let mut reader = ::csv::ReaderBuilder::new().flexible(true).has_headers(true).from_reader(text.as_bytes());
        for theirs in reader.records() {
            let theirs = theirs.unwrap();
            let ours = match source.next() {
                Some(Ok(ours)) => ours,
                Some(Err(failure)) => {
                    prop_assert_eq!(failure.diagnostics[0].rule, "unclosed-quote");
                    return Ok(());
                }
                None => return Err(TestCaseError::fail("a record is missing")),
            };
            match ours.fields {
                Ok(map) => {
                    let cells: Vec<_> = map.iter().map(|(_, value)| value.as_str().unwrap_or_default().to_owned()).collect();
                    prop_assert_eq!(cells, theirs.iter().map(str::to_owned).collect::<Vec<_>>());
                }
                Err(bad) if bad.rule == "ragged-row" => prop_assert_ne!(theirs.len(), 2),
                Err(bad) => prop_assert_eq!(bad.rule, "text-after-quote"),
            }
        }
        prop_assert!(source.next().is_none());
    }

    #[test]
    fn records_over_a_limit_do_not_move_the_others(
        text in csv_text(),
        items in proptest::collection::vec(json_value(), 0..6),
        record in 1usize..60,
    ) {
        let lines: Vec<_> = items.iter().map(|item| format!("{{\"v\":{item}}}")).collect();
        let files = [
            ("a.csv", format!("h,i\n{text}")),
            ("a.json", format!("[{}]", lines.join(" ,\n"))),
            ("a.ndjson", lines.join("\n")),
        ];
        for (name, text) in files {
            let folder = folder(name, text.as_bytes());
            let wide = spec(name);
            let narrow = SourceSpec { limits: crate::config::RecordLimits { record, field: 1 << 20, ..wide.limits }, ..wide.clone() };
            let mut all = open(&wide, folder.path(), None).unwrap();
            let mut some = match open(&narrow, folder.path(), None) {
                Ok(source) => source,
                Err(failure) => {
                    prop_assert_eq!((failure.diagnostics[0].rule, record < 3), ("record-too-large", true));
                    continue;
                }
            };
            while let Some(expected) = all.next() {
                let found = some.next().unwrap();
                let failed = expected.is_err();
                let too_large = matches!(&found, Ok(Record { fields: Err(bad), .. }) if bad.rule == "record-too-large");
                if too_large {
                    let (found, expected) = (found.unwrap(), expected.unwrap());
                    prop_assert_eq!((found.ordinal, found.place), (expected.ordinal, expected.place));
                } else {
                    prop_assert_eq!(shape(&found), shape(&expected));
                }
                if !failed {
                    prop_assert_eq!(some.mark(), all.mark());
                }
            }
            prop_assert!(some.next().is_none());
        }
    }
}
