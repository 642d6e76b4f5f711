//! JSON Schemas of records and bodies: compiled once, all violations of a value, types of cells.
//!
//! Separate so that only this folder knows the JSON Schema crate. Invariants: nothing outside the
//! project's root is read and nothing is fetched; a value is checked in bounded depth and in time
//! linear in its texts; no message holds a value.

mod cost;
mod files;
mod lint;
mod locate;
mod message;
mod node;
mod typing;
mod walk;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use jsonschema::{Retrieve, Uri, Validator};

pub use message::Violation;
pub use typing::Typing;

use crate::model::{Diagnostic, Place, Problems, SourceText, Value};
use cost::Costs;
use files::Document;
use locate::Part;

/// A value may be nested this deep.
const MAX_DEPTH: usize = 64;
/// Violations that are listed of one value.
const MAX_VIOLATIONS: usize = 1000;

/// Depth of a value times steps of a schema that any thread's stack has room for; four times as
/// much fits into 2 MiB without optimization.
const ROOMY: usize = 256;
/// Room for the deepest value and the longest steps, taken only as far as it is used.
const LARGE_STACK: usize = 64 * 1024 * 1024;

/// A compiled schema.
pub struct Schema {
    validator: Validator<node::Tree>,
    files: Vec<Arc<SourceText>>,
    typing: Typing,
    known_fields: Option<Vec<String>>,
    /// References and groups within each other that apply to one value.
    steps: usize,
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let files: Vec<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        f.debug_struct("Schema").field("files", &files).finish_non_exhaustive()
    }
}

impl Schema {
    /// Reads and compiles the schema at `path`, relative to the project's root.
    ///
    /// Every mistake goes to `problems`, at its place in the schema, else at `named_at`; `None`
    /// when one of them is an error.
    pub fn load(root: &Path, path: &str, named_at: &Place, problems: &mut Problems) -> Option<Self> {
        let errors_before = problems.errors();
        let documents = files::load(root, path, named_at, problems)?;
        for number in 0..documents.len() {
            lint::check(&documents, number, problems);
        }
        if problems.errors() > errors_before {
            return None;
        }
        let (typing, known_fields) = typing::of(&documents);
        let validator = compile(&documents, problems)?;
        let steps = Costs::new(&documents).most_steps();
        let files = documents.into_iter().map(|document| document.source).collect();
        Some(Self { validator, files, typing, known_fields, steps })
    }

    /// Whether a value keeps the schema.
    #[must_use]
    pub fn is_valid(&self, value: &Value) -> bool {
        let depth = depth(value, MAX_DEPTH + 1);
        depth <= MAX_DEPTH && self.with_room(depth, || self.validator.is_valid(value)).unwrap_or(false)
    }

    /// All rules that a value breaks (at most 1000 are listed).
    pub fn check(&self, value: &Value) -> Result<(), Vec<Violation>> {
        let depth = depth(value, MAX_DEPTH + 1);
        let found = if depth > MAX_DEPTH { None } else { self.with_room(depth, || self.violations(value)) };
        match found {
            Some(found) if found.is_empty() => Ok(()),
            Some(found) => Err(found),
            None => {
                let message = if depth > MAX_DEPTH {
                    format!("is nested deeper than {MAX_DEPTH} levels")
                } else {
                    "is nested too deep to be checked now".to_owned()
                };
                Err(vec![about_all("depth", message)])
            }
        }
    }

    fn violations(&self, value: &Value) -> Vec<Violation> {
        if self.validator.is_valid(value) {
            return Vec::new();
        }
        let mut seen = HashSet::new();
        let mut found: Vec<Violation> = self
            .validator
            .iter_errors(value)
            .flat_map(message::violations)
            // Two branches of a schema often ask for the same.
            .filter(|found| seen.insert((found.pointer.clone(), found.message.clone())))
            .take(MAX_VIOLATIONS + 1)
            .collect();
        if found.len() > MAX_VIOLATIONS {
            found.truncate(MAX_VIOLATIONS);
            let message = format!("breaks more than {MAX_VIOLATIONS} rules; the others are not listed");
            found.push(about_all("limit", message));
        }
        if found.is_empty() {
            // Never valid by omission, should the two ways to ask ever differ.
            found.push(about_all("schema", "does not keep the schema".into()));
        }
        found
    }

    /// Runs a check where the stack has room for it: the validator recurses by the depth of the
    /// value times the steps of the schema. `None` when there is no such place.
    fn with_room<T: Send>(&self, depth: usize, check: impl FnOnce() -> T + Send) -> Option<T> {
        if depth * (self.steps + 2) <= ROOMY {
            return Some(check());
        }
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(LARGE_STACK).spawn_scoped(scope, check);
            thread.ok()?.join().ok()
        })
    }

    /// The schema and all files it refers to, for digests; the schema itself is the first.
    #[must_use]
    pub fn files(&self) -> &[Arc<SourceText>] {
        &self.files
    }

    /// The typing of CSV cells by this schema.
    #[must_use]
    pub fn typing(&self) -> Typing {
        self.typing.clone()
    }

    /// The names of the fields, when the schema's `properties` says them.
    #[must_use]
    pub fn known_fields(&self) -> Option<Vec<String>> {
        self.known_fields.clone()
    }
}

/// Hands out the files that are already loaded, and nothing else.
struct Loaded(HashMap<String, serde_json::Value>);

impl Retrieve for Loaded {
    fn retrieve(
        &self,
        uri: &Uri<String>,
    ) -> Result<serde_json::Value, Box<dyn std::error::Error + Send + Sync>> {
        self.0.get(uri.as_str()).cloned().ok_or_else(|| format!("{uri} is not a file of this project").into())
    }
}

fn compile(documents: &[Document], problems: &mut Problems) -> Option<Validator<node::Tree>> {
    let first = documents.first()?;
    let mut loaded = HashMap::new();
    for (number, document) in documents.iter().enumerate() {
        loaded.extend(document.named_parts());
        loaded.insert(files::uri(number), document.value.clone());
    }
    let options = lint::options().with_retriever(Loaded(loaded)).with_base_uri(files::uri(0));
    match options.build(&first.value) {
        Ok(validator) => Some(validator),
        Err(error) => {
            let mut why = error.masked().to_string().to_lowercase();
            // Longer numbers first: `root:///1` is also the start of `root:///12`.
            for (number, document) in documents.iter().enumerate().rev() {
                why = why.replace(&files::uri(number), &document.source.path);
            }
            let place = locate::place(&first.source, error.schema_path().as_str(), Part::Value);
            problems.push(
                Diagnostic::error(
                    "schema-invalid",
                    format!("this schema cannot be used: {}", why.trim_end_matches('.')),
                )
                .place(&place),
            );
            None
        }
    }
}

fn about_all(rule: &str, message: String) -> Violation {
    Violation { pointer: String::new(), rule: rule.into(), message, schema_pointer: String::new() }
}

/// How deep a value is nested; the search ends at `limit`. Scalars are 0, `[]` is 1.
fn depth(value: &Value, limit: usize) -> usize {
    let deepest = |values: &mut dyn Iterator<Item = &Value>| {
        if limit <= 1 { 0 } else { values.map(|value| depth(value, limit - 1)).max().unwrap_or(0) }
    };
    match value {
        Value::Array(items) => 1 + deepest(&mut items.iter()),
        Value::Object(map) => 1 + deepest(&mut map.iter().map(|(_, value)| value)),
        _ => 0,
    }
}
