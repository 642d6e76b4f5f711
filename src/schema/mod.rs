//! JSON Schemas of records and bodies: compiled once, all violations of a value, types of cells.
//!
//! Separate so that only this folder knows the JSON Schema crate. Invariants: nothing outside the
//! project's root is read and nothing is fetched; a value is checked in bounded depth and in time
//! linear in its texts; no message holds a value.

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
use files::Document;
use locate::Part;

/// A value may be nested this deep.
const MAX_DEPTH: usize = 64;
/// Violations that are listed of one value.
const MAX_VIOLATIONS: usize = 1000;

/// A compiled schema.
pub struct Schema {
    validator: Validator<node::Tree>,
    files: Vec<Arc<SourceText>>,
    typing: Typing,
    known_fields: Option<Vec<String>>,
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
        for document in &documents {
            lint::check(document, &documents, problems);
        }
        if problems.errors() > errors_before {
            return None;
        }
        let (typing, known_fields) = typing::of(&documents);
        let validator = compile(&documents, problems)?;
        let files = documents.into_iter().map(|document| document.source).collect();
        Some(Self { validator, files, typing, known_fields })
    }

    /// Whether a value keeps the schema.
    #[must_use]
    pub fn is_valid(&self, value: &Value) -> bool {
        too_deep(value, MAX_DEPTH).is_none() && self.validator.is_valid(value)
    }

    /// All rules that a value breaks (at most 1000 are listed).
    pub fn check(&self, value: &Value) -> Result<(), Vec<Violation>> {
        if let Some(pointer) = too_deep(value, MAX_DEPTH) {
            let message = format!("is nested deeper than {MAX_DEPTH} levels");
            return Err(vec![Violation {
                pointer,
                rule: "depth".into(),
                message,
                schema_pointer: String::new(),
            }]);
        }
        if self.validator.is_valid(value) {
            return Ok(());
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
            found.push(Violation {
                pointer: String::new(),
                rule: "limit".into(),
                message,
                schema_pointer: String::new(),
            });
        }
        Err(found)
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

/// The pointer to a value that is nested too deep, if there is one; the search itself ends there.
fn too_deep(value: &Value, left: usize) -> Option<String> {
    let is_container = |value: &Value| matches!(value, Value::Array(_) | Value::Object(_));
    if left == 0 {
        return is_container(value).then(String::new);
    }
    match value {
        Value::Array(items) => items
            .iter()
            .enumerate()
            .filter(|(_, item)| is_container(item))
            .find_map(|(index, item)| Some(format!("/{index}{}", too_deep(item, left - 1)?))),
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| is_container(value))
            .find_map(|(name, value)| Some(locate::join("", name) + &too_deep(value, left - 1)?)),
        _ => None,
    }
}
