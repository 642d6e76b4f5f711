//! Reads the lookup tables of a pipeline: for its expressions, and their digests for its meaning.
//!
//! Invariant: a table that changed is another meaning, so a run never uses two versions of one
//! without being told to.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Lookup, Pipeline};
use crate::model::{Class, Diagnostic, Failure, Severity, Tables};
use crate::outcome::manifest::FileDigest;
use crate::render::KnownTable;
use crate::source;

/// A file that a table was read from.
#[derive(Debug, Clone)]
pub struct TableFile {
    /// As the pipeline names it, with its digest.
    pub digest: FileDigest,
    /// Where it lies.
    pub path: PathBuf,
}

/// The tables of a pipeline.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    pub tables: Tables,
    /// What expressions may know of them.
    pub known: Vec<KnownTable>,
    pub files: Vec<TableFile>,
}

/// Reads all tables; with `may_be_missing` one that is not there is a warning.
pub(super) fn read(
    pipeline: &Pipeline,
    may_be_missing: bool,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Lookups, Failure> {
    let mut lookups = Lookups::default();
    for lookup in &pipeline.lookups {
        match one(pipeline, lookup, &mut lookups, warnings) {
            Ok(()) => {}
            Err(failure) if may_be_missing && failure.class == Class::Input && is_missing(&failure) => {
                lookups.known.push(KnownTable { name: lookup.name.value.clone(), columns: None });
                warnings.extend(
                    failure
                        .diagnostics
                        .into_iter()
                        .map(|finding| Diagnostic { severity: Severity::Warning, ..finding }),
                );
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(lookups)
}

fn is_missing(failure: &Failure) -> bool {
    failure.diagnostics.iter().all(|finding| finding.rule == "input-missing")
}

fn one(
    pipeline: &Pipeline,
    lookup: &Lookup,
    lookups: &mut Lookups,
    warnings: &mut Vec<Diagnostic>,
) -> Result<(), Failure> {
    let root = &pipeline.root;
    let before = source::stamp(&lookup.source, root, None);
    let read = source::read_table(lookup, root, None)?;
    for (name, path) in source::files(&lookup.source, root, None)? {
        lookups.files.push(TableFile { digest: FileDigest::of_file(&name, &path), path });
    }
    let after = source::stamp(&lookup.source, root, None);
    if before.ok() != after.ok() {
        let message = format!("the table of `lookups.{}` changed while it was read", lookup.name.value);
        let finding = Diagnostic::error("lookup-changed", message).place(&lookup.name.place);
        return Err(Failure::new(Class::Input, finding.help("start again once it is written")));
    }
    warnings.extend(read.warnings);
    let columns = read.table.columns().iter().map(ToString::to_string).collect();
    // A table without rows tells nothing of its columns.
    let columns = Some(columns).filter(|_| !read.table.is_empty());
    lookups.known.push(KnownTable { name: lookup.name.value.clone(), columns });
    lookups.tables.push((lookup.name.value.as_str().into(), Arc::new(read.table)));
    Ok(())
}
