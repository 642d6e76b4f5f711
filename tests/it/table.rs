//! A table of rows against the tests that there are: every row names one or says why not.
//!
//! The tests are read as text, so that a name that is gone, a row that its test does not mention
//! and a test that no row knows are found where the table is looked at.

use std::collections::{BTreeMap, BTreeSet};

/// A module of tests: its name in the table, and its text.
pub type Module = (&'static str, &'static str);

/// A table and what it is about.
pub struct Table {
    /// Lines of three cells: row, test or `-`, remark or reason.
    pub text: &'static str,
    /// Every row that there has to be, in order.
    pub rows: Vec<String>,
    /// Modules that exist for the table: each of their tests is in a row.
    pub own: &'static [Module],
    /// Modules that a row may point to.
    pub others: &'static [Module],
}

/// The cases of the torture harness; a row points to one as `torture::T05`.
const TORTURE: &str = include_str!("../torture/cases/mod.rs");

/// The line of a case of the torture harness, with the rows that stand behind it.
fn torture(test: &str) -> Option<&'static str> {
    let case = format!("(\"{} ", test.strip_prefix("torture::")?);
    TORTURE.lines().find(|line| line.contains(&case))
}

/// `module::function` of every test, and its text.
fn tests(modules: &[Module]) -> BTreeMap<String, &'static str> {
    let mut found = BTreeMap::new();
    for (module, text) in modules {
        for part in text.split("#[test]\n").skip(1) {
            let at = part.find("fn ").expect("a function behind #[test]");
            let indent = part[..at].lines().last().unwrap_or_default();
            let name = part[at + 3..].split('(').next().unwrap_or_default();
            let end = format!("\n{indent}}}\n");
            found.insert(format!("{module}::{name}"), part.split(&*end).next().unwrap_or_default());
        }
    }
    found
}

impl Table {
    /// Fails with what is wrong.
    pub fn check(&self) {
        assert_eq!(self.faults(), Vec::<String>::new());
    }

    fn faults(&self) -> Vec<String> {
        let own = tests(self.own);
        let all: BTreeMap<_, _> = own.clone().into_iter().chain(tests(self.others)).collect();
        let (mut faults, mut rows, mut named) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        for line in self.text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let cells: Vec<&str> = line.split('\t').collect();
            let [row, test, remark] = cells[..] else {
                faults.push(format!("not three cells: {line:?}"));
                continue;
            };
            rows.insert(row.to_owned());
            match all.get(test).copied().or_else(|| torture(test)) {
                _ if test == "-" && remark.len() > 20 => {}
                _ if test == "-" => faults.push(format!("{row} has neither a test nor a reason")),
                None => faults.push(format!("{row}: there is no test {test}")),
                Some(body) if !body.contains(row) => faults.push(format!("{test} does not name {row}")),
                Some(_) => {}
            }
            named.insert(test);
        }
        let wanted: BTreeSet<String> = self.rows.iter().cloned().collect();
        faults.extend(wanted.difference(&rows).map(|row| format!("{row} is missing")));
        faults.extend(rows.difference(&wanted).map(|row| format!("there is no row {row}")));
        let unnamed = own.keys().filter(|test| !named.contains(test.as_str()));
        faults.extend(unnamed.map(|test| format!("{test} is in no row")));
        faults
    }
}

#[test]
fn what_is_wrong_with_a_table_is_found() {
    let own: &[Module] = &[("m", "#[test]\nfn one() {\n    \"R1\"\n}\n\n#[test]\nfn two() {\n}\n")];
    let others: &[Module] = &[("n", "    #[test]\n    #[ignore]\n    fn three() {\n        // R2\n    }\n")];
    let faults = |text| Table { text, rows: vec!["R1".into(), "R2".into()], own, others }.faults();
    assert_eq!(
        faults("# head\nR1\tm::one\t\nR2\tn::three\t\nR2\t-\ta reason that says enough\n"),
        ["m::two is in no row"]
    );
    assert_eq!(
        faults("R1\tm::two\t\nR2\t-\tshort\nR3\tn::one\t\nbroken\n"),
        [
            "m::two does not name R1",
            "R2 has neither a test nor a reason",
            "R3: there is no test n::one",
            "not three cells: \"broken\"",
            "there is no row R3",
            "m::one is in no row"
        ]
    );
    assert_eq!(faults("R1\tm::one\t\nR1\tm::two\t\n"), ["m::two does not name R1", "R2 is missing"]);
    assert!(torture("torture::T05").is_some_and(|line| line.contains("B104")));
    assert_eq!(torture("torture::T99").or(torture("T05")), None);
}
