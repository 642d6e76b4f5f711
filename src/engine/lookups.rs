//! Reads the lookup tables of a pipeline: for its expressions, and their digests for its meaning.
//!
//! Invariant: a table that changed is another meaning, so a run never uses two versions of one
//! without being told to.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{Lookup, Pipeline};
use crate::model::{Class, Diagnostic, Failure, Severity, Tables};
use crate::outcome::manifest::FileDigest;
use crate::render::KnownTable;
use crate::source;

use super::open::Wanted;

/// A file that a table was read from.
#[derive(Debug, Clone)]
pub struct TableFile {
    /// As the pipeline names it, with its digest.
    pub digest: FileDigest,
    /// Where it lies.
    pub path: PathBuf,
    /// Whether the path is a list of an API.
    pub is_list: bool,
    /// The digest of what the table keeps of it, and of its other files.
    pub cells: String,
}

/// The tables of a pipeline.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    pub tables: Tables,
    /// What expressions may know of them.
    pub known: Vec<KnownTable>,
    pub files: Vec<TableFile>,
}

/// Reads all tables; where the input may be missing, so may they.
pub(super) fn read(
    pipeline: &Pipeline,
    wanted: &Wanted,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Lookups, Failure> {
    let mut lookups = Lookups::default();
    for lookup in &pipeline.lookups {
        let name = &lookup.name.value;
        let kept = || wanted.folder.as_ref().map(|folder| folder.lookup(name));
        let spool = wanted.new_tables.get(name).cloned().or_else(kept);
        let spool = spool.filter(|spool| lookup.source.is_api() && spool.is_file());
        if lookup.source.is_api() && spool.is_none() {
            if !wanted.input_may_be_missing {
                return Err(not_read(lookup));
            }
            lookups.known.push(KnownTable { name: lookup.name.value.clone(), columns: None });
            continue;
        }
        match one(pipeline, lookup, spool.as_deref(), &mut lookups, warnings) {
            Ok(()) => {}
            Err(failure)
                if wanted.input_may_be_missing && failure.class == Class::Input && is_missing(&failure) =>
            {
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

/// How the digests of a run name a table that is a list.
pub(super) fn name_of(lookup: &Lookup) -> String {
    format!("{} lookups.{}", lookup.source.file, lookup.name.value)
}

fn not_read(lookup: &Lookup) -> Failure {
    let (table, name) = (&lookup.name.value, &lookup.source.file);
    let finding = Diagnostic::error("list-not-read", format!("the table `lookups.{table}` was not read yet"))
        .place(&lookup.name.place)
        .note(format!("`apply` reads {name} when it starts; this command asks nobody"))
        .help("try it with `apply --sandbox`, or with a file in place of the endpoint");
    Failure::new(Class::Input, finding)
}

fn is_missing(failure: &Failure) -> bool {
    failure.diagnostics.iter().all(|finding| finding.rule == "input-missing")
}

fn one(
    pipeline: &Pipeline,
    lookup: &Lookup,
    spool: Option<&Path>,
    lookups: &mut Lookups,
    warnings: &mut Vec<Diagnostic>,
) -> Result<(), Failure> {
    let root = &pipeline.root;
    let before = source::stamp(&lookup.source, root, spool);
    let read = source::read_table(lookup, root, spool)?;
    for (name, path) in source::files(&lookup.source, root, spool)? {
        let is_list = spool.is_some();
        let name = if is_list { name_of(lookup) } else { name };
        let (digest, cells) = (FileDigest::of_file(&name, &path), read.digest.clone());
        lookups.files.push(TableFile { digest, path, is_list, cells });
    }
    let after = source::stamp(&lookup.source, root, spool);
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
