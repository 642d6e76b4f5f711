//! `tests/bad_input.tsv` against the tests that there are.

use crate::table::{Module, Table};

const OWN: &[Module] = &[
    ("input", include_str!("input.rs")),
    ("json", include_str!("json.rs")),
    ("config", include_str!("config.rs")),
    ("templates", include_str!("templates.rs")),
    ("schema", include_str!("schema.rs")),
    ("network", include_str!("network.rs")),
    ("state", include_str!("state.rs")),
];

#[test]
fn every_row_has_a_test_or_a_reason() {
    Table {
        text: include_str!("../../bad_input.tsv"),
        rows: (1..=109).map(|n| format!("B{n:03}")).collect(),
        own: OWN,
        others: &[],
    }
    .check();
}
