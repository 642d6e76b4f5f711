//! A file as a lookup table: every row of it, found by key.
//!
//! The only reader that keeps what it read, so it keeps it packed and up to a limit. Invariant: a
//! table is whole or there is none; rows that could be mistaken for each other are an error.

use std::path::Path;

use sha2::Digest as _;

use super::{open, shown};
use crate::config::{Lookup, SourceSpec};
use crate::model::{Class, Diagnostic, Failure, NotTaken, Record, RecordPlace, Table, did_you_mean, hex};

/// Bytes of one table.
const MOST: usize = 512 << 20;

/// A table, and what was met that works and is probably not meant.
#[derive(Debug)]
pub struct ReadTable {
    /// The rows.
    pub table: Table,
    /// SHA-256 over the cells that are kept, whatever order the rows came in.
    pub digest: String,
    /// Warnings.
    pub warnings: Vec<Diagnostic>,
}

/// Reads the table of a lookup. `root` is the project's root, `spool` where rows of an API lie.
pub fn read_table(lookup: &Lookup, root: &Path, spool: Option<&Path>) -> Result<ReadTable, Failure> {
    let Lookup { name, source: spec, key, columns, .. } = lookup;
    let of = format!("lookups.{}", name.value);
    let mut source = open(spec, root, spool).map_err(|failure| about(failure, spec, &of))?;
    if let Some(known) = source.columns() {
        check_columns(lookup, known)?;
    }
    let keeps = |name: &str| columns.is_empty() || columns.iter().any(|column| column.value == name);
    let mut table = Table::new(&key.value);
    let mut lines: Vec<(u32, u64)> = Vec::new();
    let mut files: Vec<std::sync::Arc<str>> = Vec::new();
    let mut without: Option<(RecordPlace, u64)> = None;
    // Of the first row without a key.
    let mut names: Vec<String> = Vec::new();
    while let Some(record) = source.next() {
        let Record { place, fields, .. } = record.map_err(|failure| about(failure, spec, &of))?;
        let refused = |rule, message: String| {
            let finding = Diagnostic::error(rule, message).place(&name.place).at(place.to_string());
            Err(Failure::new(
                Class::Input,
                finding.note("a lookup is used whole or not at all; nothing was sent"),
            ))
        };
        let row = match fields {
            Ok(row) => row,
            Err(bad) => return refused(bad.rule, format!("a row of `{of}` cannot be read: {}", bad.message)),
        };
        match table.push(&row, keeps, spec.limits.columns) {
            Ok(()) => {}
            Err(NotTaken::NoKey) => {
                if without.is_none() {
                    names = row.names().map(str::to_owned).collect();
                }
                without.get_or_insert_with(|| (place.clone(), 0)).1 += 1;
                continue;
            }
            Err(NotTaken::BadKey) => {
                let message = format!("`{}` of `{of}` is neither text nor a number", shown(&key.value));
                return refused("lookup-key", message);
            }
            Err(NotTaken::TooManyColumns) => {
                let most = spec.limits.columns;
                let finding = Diagnostic::error(
                    "too-many-columns",
                    format!("the rows of `{of}` have more than {most} names together"),
                )
                .place(&name.place)
                .at(place.to_string())
                .help("keep only what is used: `columns: [id]`");
                return Err(Failure::new(Class::Input, finding));
            }
            Err(NotTaken::Repeated(first)) => {
                let (file, line) = lines.get(first).copied().unwrap_or_default();
                let file = files.get(file as usize).map_or("", |file| file);
                let message = format!("two rows of `{of}` have the same `{}`", shown(&key.value));
                let finding = Diagnostic::error("lookup-repeated", message)
                    .place(&name.place)
                    .at(place.to_string())
                    .note(format!("the first stands in {file}, line {line}"))
                    .help("each key needs one row; remove the other, or name another column with `key:`");
                return Err(Failure::new(Class::Input, finding));
            }
        }
        if files.last().is_none_or(|file| *file != place.file) {
            files.push(std::sync::Arc::clone(&place.file));
        }
        lines.push((u32::try_from(files.len() - 1).unwrap_or(0), place.line));
        if table.size() > MOST {
            let finding =
                Diagnostic::error("lookup-size", format!("`{of}` takes more than {} MiB", MOST >> 20))
                    .place(&name.place)
                    .help("keep only what is used: `columns: [id]`");
            return Err(Failure::new(Class::Input, finding));
        }
    }
    if source.columns().is_none() && !table.is_empty() {
        let known: Vec<String> = table.columns().iter().map(ToString::to_string).collect();
        check_columns(lookup, &known)?;
    }
    if table.is_empty() && without.is_some() {
        // Where no row has it, the name is wrong.
        check_columns(lookup, &names)?;
    }
    let mut warnings = source.warnings().to_vec();
    warnings.extend(without.map(|(place, rows)| {
        let message = format!("{rows} rows of `{of}` have no `{}` and are never found", shown(&key.value));
        Diagnostic::warning("lookup-no-key", message).place(&name.place).note(format!("the first: {place}"))
    }));
    if table.is_empty() {
        let finding = Diagnostic::warning("lookup-empty", format!("`{of}` has no rows")).place(&name.place);
        warnings.push(finding);
    }
    Ok(ReadTable { digest: digest(&table), table, warnings })
}

fn digest(table: &Table) -> String {
    let mut digest = sha2::Sha256::new();
    table.each_in_order(|row| {
        digest.update(row.len().to_le_bytes());
        digest.update(row);
    });
    hex(&digest.finalize())
}

/// Refuses a key, or a column to keep, that the table does not have.
fn check_columns(lookup: &Lookup, known: &[String]) -> Result<(), Failure> {
    let mut found = Vec::new();
    for wanted in std::iter::once(&lookup.key).chain(&lookup.columns) {
        if known.contains(&wanted.value) {
            continue;
        }
        let message = format!("`lookups.{}` has no column `{}`", lookup.name.value, shown(&wanted.value));
        let finding = Diagnostic::error("unknown-column", message).place(&wanted.place);
        found.push(match did_you_mean(&wanted.value, known.iter().map(String::as_str)) {
            Some(help) => finding.help(help),
            None => finding.note(format!(
                "it has: {}",
                known.iter().take(12).map(|name| format!("`{}`", shown(name))).collect::<Vec<_>>().join(", ")
            )),
        });
    }
    if found.is_empty() { Ok(()) } else { Err(Failure::of(Class::Config, found)) }
}

/// A failure of the file in words of the lookup.
fn about(mut failure: Failure, spec: &SourceSpec, of: &str) -> Failure {
    for finding in &mut failure.diagnostics {
        if finding.place.is_none() {
            finding.place.clone_from(&spec.place);
        }
        if let Some(help) = &mut finding.help {
            *help = help
                .replace("`source.file`, which counts from the project's root, or `--input`, which counts from here", &format!("`{of}.file`, which counts from the project's root"))
                .replace("source: {", &format!("{of}: {{"));
        }
        finding.notes.push(format!("it is the table `{of}`"));
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::super::tests::{folder, spec};
    use super::*;
    use crate::config::fixtures::template;
    use crate::model::{Number, Value};

    fn read(name: &str, bytes: &str, columns: &[&str]) -> Result<ReadTable, String> {
        let folder = folder(name, bytes.as_bytes());
        let lookup = Lookup {
            name: template("agents"),
            source: spec(name),
            listing: None,
            key: template("email"),
            columns: columns.iter().map(|name| template(name)).collect(),
        };
        read_table(&lookup, folder.path(), None).map_err(|failure| {
            let found = &failure.diagnostics[0];
            let at = found.at.clone().unwrap_or_default();
            format!(
                "{} {} @{at} {} {}",
                found.rule,
                found.message,
                found.notes.join("; "),
                found.help.clone().unwrap_or_default()
            )
        })
    }

    #[test]
    fn every_format_becomes_a_table() {
        for (name, text) in [
            ("a.csv", "email,id,x\na@b.c,7,1\n"),
            ("a.tsv", "email\tid\tx\na@b.c\t7\t1\n"),
            ("a.json", r#"[{"email":"a@b.c","id":"7","x":1}]"#),
            ("a.ndjson", "{\"email\":\"a@b.c\",\"id\":\"7\",\"x\":1}\n"),
        ] {
            let table = read(name, text, &["id"]).unwrap().table;
            let row = table.find("a@b.c").unwrap();
            assert_eq!(table.cell(row, "id"), Some(Value::text("7")), "{name}");
            assert_eq!(table.cell(row, "x"), None, "{name}");
        }
        let table = read("a.ndjson", "{\"email\":\"a\",\"id\":9007199254740993001}\n", &[]).unwrap().table;
        let digits = Value::Number(Number::parse("9007199254740993001").unwrap());
        assert_eq!(table.cell(0, "id"), Some(digits));
    }

    #[test]
    fn a_repeated_key_names_both_lines_and_no_value() {
        let said = read("a.csv", "email,id\nx@y,1\n\"m\nn\",2\nx@y,3\n", &[]).unwrap_err();
        assert!(said.starts_with("lookup-repeated two rows of `lookups.agents` have the same `email` @a.csv, line 5 the first stands in a.csv, line 2"), "{said}");
        assert!(!said.contains("x@y"), "{said}");
    }

    #[test]
    fn what_cannot_be_a_table_is_refused_as_a_whole() {
        for (name, text, columns, rule) in [
            ("a.csv", "email,id\nx\n", &[][..], "ragged-row"),
            ("a.csv", "mail,id\nx,1\n", &[], "unknown-column"),
            ("a.csv", "email,id\nx,1\n", &["ids"], "unknown-column"),
            ("a.ndjson", "{\"email\":[1]}\n", &[], "lookup-key"),
            ("a.ndjson", "{\"mail\":\"x\"}\n", &[], "unknown-column"),
            ("a.ndjson", "{\"email\":\"x\"}\n", &["id"], "unknown-column"),
        ] {
            let said = read(name, text, columns).unwrap_err();
            assert!(said.starts_with(rule), "{said}");
        }
        let said = read("a.csv", "email,id\nx,1\n", &["ids"]).unwrap_err();
        assert!(said.contains("did you mean `id`?"), "{said}");
    }

    #[test]
    fn rows_without_a_key_are_told() {
        let found = read("a.csv", "email,id\n,1\nx,2\n,3\n", &[]).unwrap();
        assert_eq!(found.table.len(), 1);
        assert_eq!(
            found.warnings[0].message,
            "2 rows of `lookups.agents` have no `email` and are never found"
        );
        assert_eq!(found.warnings[0].notes, ["the first: a.csv, line 2"]);
    }
}
