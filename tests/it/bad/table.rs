//! `tests/bad_input.tsv` against the tests that there are: every row has one or says why not.

use std::collections::BTreeSet;

const TABLE: &str = include_str!("../../bad_input.tsv");
const MODULES: [(&str, &str); 7] = [
    ("input", include_str!("input.rs")),
    ("json", include_str!("json.rs")),
    ("config", include_str!("config.rs")),
    ("templates", include_str!("templates.rs")),
    ("schema", include_str!("schema.rs")),
    ("network", include_str!("network.rs")),
    ("state", include_str!("state.rs")),
];

/// `module::function` of every test, with the rows that its text names.
fn tests() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (module, text) in MODULES {
        for part in text.split("#[test]\n").skip(1) {
            let name = part.trim_start_matches("fn ").split('(').next().unwrap_or_default();
            let body = part.split("\n}\n").next().unwrap_or_default();
            found.push((format!("{module}::{name}"), body.to_owned()));
        }
    }
    found
}

#[test]
fn every_row_has_a_test_or_a_reason() {
    let tests = tests();
    let mut rows = BTreeSet::new();
    let mut named = BTreeSet::new();
    for line in TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let cells: Vec<&str> = line.split('\t').collect();
        let [row, test, remark] = cells[..] else { panic!("not three cells: {line:?}") };
        rows.insert(row);
        let untested = test == "-";
        assert!(!untested || remark.len() > 20, "{row} has neither a test nor a reason");
        if !untested {
            let body = tests.iter().find(|(name, _)| name == test).map(|(_, body)| body);
            let body = body.unwrap_or_else(|| panic!("{row}: there is no test {test}"));
            assert!(body.contains(&format!("\"{row}\"")), "{test} does not try {row}");
            named.insert(test);
        }
    }
    let all: Vec<String> = (1..=109).map(|n| format!("B{n:03}")).collect();
    assert_eq!(rows.into_iter().collect::<Vec<_>>(), all, "rows of the table");
    for (name, _) in &tests {
        assert!(named.contains(name.as_str()), "{name} is in no row of the table");
    }
}
