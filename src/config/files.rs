//! The files of a project: found below its root, read once, kept for messages.
//!
//! Separate because one rule holds for every reference from file to file: paths are relative to
//! the root and never leave it, also not by a link. Whatever was read is part of a pipeline's
//! meaning and can be listed.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::read::{self, Node};
use crate::model::{Diagnostic, Place, Placed, Problems, SourceText, nearest};

/// The files of one project that were read so far.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    read: BTreeMap<String, Arc<SourceText>>,
}

impl Files {
    /// Files below a root, which is absolute and without links.
    pub(super) const fn new(root: PathBuf) -> Self {
        Self { root, read: BTreeMap::new() }
    }

    /// The root.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// All texts that were read, by path.
    pub(super) fn texts(self) -> Vec<Arc<SourceText>> {
        self.read.into_values().collect()
    }

    /// The absolute path of a reference that stays below the root.
    pub(super) fn inside(&self, path: &str) -> Result<PathBuf, Box<Diagnostic>> {
        let outside = || {
            let root = self.root.display();
            Box::new(
                Diagnostic::error(
                    "path-outside-root",
                    format!("`{path}` leads out of the project, whose root is {root}"),
                )
                .help("put the file below the root and name it relative to the root"),
            )
        };
        let mut parts = Vec::new();
        for part in Path::new(path).components() {
            match part {
                Component::Normal(name) => parts.push(name),
                Component::CurDir => {}
                Component::ParentDir => {
                    parts.pop().ok_or_else(outside)?;
                }
                Component::RootDir | Component::Prefix(_) => return Err(outside()),
            }
        }
        let full = parts.iter().fold(self.root.clone(), |full, part| full.join(part));
        match full.canonicalize() {
            Ok(real) if !real.starts_with(&self.root) => Err(outside()),
            Ok(real) => Ok(real),
            Err(_) => Ok(full),
        }
    }

    /// The text of a file that a place refers to, or a finding at that place.
    pub(super) fn text(
        &mut self,
        path: &Placed<String>,
        rule: &'static str,
        what: &str,
        problems: &mut Problems,
    ) -> Option<Arc<SourceText>> {
        let full = match self.inside(&path.value) {
            Ok(full) => full,
            Err(finding) => {
                problems.push(finding.place(&path.place));
                return None;
            }
        };
        if !full.exists() {
            let finding = Diagnostic::error(rule, format!("{what} `{}` is not there", path.value))
                .place(&path.place)
                .note(format!("looked for {}", full.display()));
            problems.push(match self.neighbour(&full) {
                Some(near) => finding.help(format!("did you mean `{near}`?")),
                None => finding,
            });
            return None;
        }
        match self.load(&full) {
            Ok(source) => Some(source),
            Err(finding) => {
                problems.push(finding.place(&path.place));
                None
            }
        }
    }

    /// Reads an absolute path below the root, once.
    pub(super) fn load(&mut self, full: &Path) -> Result<Arc<SourceText>, Box<Diagnostic>> {
        let shown = self.shown(full);
        if let Some(known) = self.read.get(&shown) {
            return Ok(Arc::clone(known));
        }
        let source = read::read_text(full, &shown)?;
        self.read.insert(shown, Arc::clone(&source));
        Ok(source)
    }

    /// Reads and parses a file of ours.
    pub(super) fn yaml(&mut self, full: &Path, problems: &mut Problems) -> Option<Node> {
        match self.load(full) {
            Ok(source) => {
                let node = read::parse(&source, problems)?;
                super::secrets::scan(&node, problems);
                Some(node)
            }
            Err(finding) => {
                problems.push(*finding);
                None
            }
        }
    }

    /// A path as a person types it from the root.
    pub(super) fn shown(&self, full: &Path) -> String {
        full.strip_prefix(&self.root).unwrap_or(full).to_string_lossy().into_owned()
    }

    /// The existing file in the same folder whose name is nearest.
    fn neighbour(&self, full: &Path) -> Option<String> {
        let name = full.file_name()?.to_string_lossy().into_owned();
        let folder = full.parent()?;
        let mut names = names_in(folder);
        names.retain(|name| name != "connector.yaml");
        let near = nearest(&name, names.iter().map(String::as_str))?;
        Some(self.shown(&folder.join(near)))
    }
}

/// The names in a folder, sorted; empty when it is not there.
pub(super) fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
    names.sort();
    names
}

/// Whether a file name is one of YAML.
pub(super) fn is_yaml(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|ending| ending == "yaml" || ending == "yml")
}

/// Every YAML file below a folder, sorted, at most eight folders deep; links are not followed.
pub(super) fn yaml_below(folder: &Path) -> Vec<PathBuf> {
    fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
        for name in names_in(folder) {
            let path = folder.join(&name);
            let Ok(about) = std::fs::symlink_metadata(&path) else { continue };
            if about.is_dir() && depth > 0 && !name.starts_with('.') {
                walk(&path, depth - 1, found);
            } else if !about.is_dir() && is_yaml(&name) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, 8, &mut found);
    found
}

/// A place for what a whole file lacks.
pub(super) fn start_of(node: &Node) -> Place {
    Place::start_of(Arc::clone(&node.place.source))
}
