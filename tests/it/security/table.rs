//! `tests/security.tsv` against the tests that there are.

use crate::table::{Module, Table};

const OWN: &[Module] = &[
    ("transport", include_str!("transport.rs")),
    ("injection", include_str!("injection.rs")),
    ("sources", include_str!("sources.rs")),
    ("privacy", include_str!("privacy.rs")),
    ("secrets", include_str!("secrets.rs")),
    ("files", include_str!("files.rs")),
    ("output", include_str!("output.rs")),
    ("resources", include_str!("resources.rs")),
];

const OTHERS: &[Module] = &[
    ("auth", include_str!("../auth.rs")),
    ("audit", include_str!("../audit.rs")),
    ("look", include_str!("../look.rs")),
    ("project", include_str!("../project.rs")),
    ("bad::config", include_str!("../bad/config.rs")),
    ("bad::network", include_str!("../bad/network.rs")),
    ("bad::schema", include_str!("../bad/schema.rs")),
    ("bad::state", include_str!("../bad/state.rs")),
    ("bad::templates", include_str!("../bad/templates.rs")),
    ("deliver::judge", include_str!("../../../src/deliver/judge.rs")),
    ("config::base_url", include_str!("../../../src/config/base_url.rs")),
    ("model::secret", include_str!("../../../src/model/secret.rs")),
];

#[test]
fn every_row_has_a_test_or_a_reason() {
    Table {
        text: include_str!("../../security.tsv"),
        rows: (1..=46).map(|n| format!("S{n:02}")).collect(),
        own: OWN,
        others: OTHERS,
    }
    .check();
}
