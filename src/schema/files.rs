//! Reads a schema and the files it refers to, and makes every reference absolute.
//!
//! The only file access of this stage. Invariants: nothing outside the project's root is opened,
//! also not through a link; URLs are names and are never fetched; afterwards every reference leads
//! to a loaded file (`root:///N`, its number in the list) or to a name within one.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use jsonschema::Draft;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use url::Url;

use super::locate::{self, Part};
use super::walk;
use crate::model::{Diagnostic, Place, Problems, SourceText};

/// A schema file may be at most this long.
const MAX_BYTES: u64 = 8 * 1024 * 1024;
/// A schema may refer to at most this many files.
const MAX_FILES: usize = 500;

/// One schema file.
pub(super) struct Document {
    pub(super) source: Arc<SourceText>,
    pub(super) draft: Draft,
    /// Its content; references are absolute once all files are loaded.
    pub(super) value: Value,
    /// Where the real file lies, links resolved.
    real: PathBuf,
    /// Named parts: absolute URL by pointer; the empty pointer is the document itself.
    names: Vec<(String, Url)>,
    references: Vec<Reference>,
}

/// One `$ref`, `$dynamicRef` or `$recursiveRef` that is not only a fragment.
struct Reference {
    /// Pointer of its text in the document.
    pointer: String,
    text: String,
    /// The URL of the named part that it stands in.
    base: Url,
}

/// The URI under which a document is known to the validator.
pub(super) fn uri(number: usize) -> String {
    format!("root:///{number}")
}

/// Reads the schema at `path` and all files it refers to; the schema itself is the first.
pub(super) fn load(
    root: &Path,
    path: &str,
    named_at: &Place,
    problems: &mut Problems,
) -> Option<Vec<Document>> {
    let real_root = match root.canonicalize() {
        Ok(real) => real,
        Err(cause) => {
            let message = format!("cannot read the project's root {}: {}", root.display(), cause.kind());
            problems.at("schema-file", named_at, message);
            return None;
        }
    };
    let mut loader = Loader { real_root, documents: Vec::new(), problems };
    loader.open(Path::new(""), path, named_at, None)?;
    let mut number = 0;
    while number < loader.documents.len() {
        loader.follow(number);
        number += 1;
    }
    loader.rewrite();
    Some(loader.documents)
}

/// Where a reference in document `number` leads, if that can be told without the validator.
pub(super) fn resolve<'a>(
    documents: &'a [Document],
    number: usize,
    text: &str,
) -> Option<(usize, &'a Value)> {
    let (file, fragment) = text.split_once('#').unwrap_or((text, ""));
    let number = if file.is_empty() {
        // Within a part with a name of its own the pointer would start there.
        (!documents.get(number)?.has_named_parts()).then_some(number)?
    } else {
        file.strip_prefix("root:///")?.parse().ok()?
    };
    let pointer = percent_decode_str(fragment).decode_utf8().ok()?;
    Some((number, documents.get(number)?.value.pointer(&pointer)?))
}

struct Loader<'a> {
    real_root: PathBuf,
    documents: Vec<Document>,
    problems: &'a mut Problems,
}

/// A reference with a scheme, such as `https:`, is a name.
fn is_url(text: &str) -> bool {
    let scheme = text.split([':', '/', '?', '#']).next().unwrap_or_default();
    text.starts_with("//")
        || (text.as_bytes().get(scheme.len()) == Some(&b':')
            && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)))
}

impl Loader<'_> {
    /// Loads all files that a document refers to.
    fn follow(&mut self, number: usize) {
        let Some(document) = self.documents.get_mut(number) else { return };
        let references = std::mem::take(&mut document.references);
        let source = Arc::clone(&document.source);
        let draft = document.draft;
        let folder = Path::new(&source.path).parent().map(Path::to_path_buf).unwrap_or_default();
        let names: Vec<Url> = document.names.iter().map(|(_, name)| name.clone()).collect();
        for Reference { pointer, text, base } in references {
            let (file, fragment) = text.split_once('#').unwrap_or((&text, ""));
            let is_name = base.join(file).is_ok_and(|meant| names.contains(&meant));
            if is_url(&text) || is_name {
                // Known only once all files are loaded.
                if let Some(document) = self.documents.get_mut(number) {
                    document.references.push(Reference { pointer, text, base });
                }
                continue;
            }
            let place = locate::place(&source, &pointer, Part::Value);
            let decoded = percent_decode_str(file).decode_utf8_lossy();
            if let Some(target) = self.open(&folder, &decoded, &place, Some(draft)) {
                self.point(number, &pointer, &format!("{}#{fragment}", uri(target)));
            }
        }
    }

    fn point(&mut self, number: usize, pointer: &str, to: &str) {
        let document = self.documents.get_mut(number);
        if let Some(text) = document.and_then(|document| document.value.pointer_mut(pointer)) {
            *text = Value::String(to.to_owned());
        }
    }

    /// Resolves the references that are names, and makes the names themselves absolute.
    fn rewrite(&mut self) {
        // Where each name leads: to a document, or to a part of one that keeps its name.
        let mut known: HashMap<Url, String> = HashMap::new();
        for (number, document) in self.documents.iter().enumerate() {
            for (pointer, name) in &document.names {
                let target = if pointer.is_empty() { uri(number) } else { name.to_string() };
                known.entry(name.clone()).or_insert(target);
            }
        }
        for number in 0..self.documents.len() {
            let Some(document) = self.documents.get_mut(number) else { continue };
            let references = std::mem::take(&mut document.references);
            let source = Arc::clone(&document.source);
            let id = walk::id_keyword(document.draft);
            for (pointer, name) in document.names.clone() {
                let part = document.value.pointer_mut(&pointer).and_then(Value::as_object_mut);
                let Some(part) = part else { continue };
                if pointer.is_empty() {
                    part.shift_remove(id);
                } else {
                    part.insert(id.to_owned(), Value::String(name.to_string()));
                }
            }
            for Reference { pointer, text, base } in references {
                let (file, fragment) = text.split_once('#').unwrap_or((&text, ""));
                let target = base.join(file).ok().and_then(|name| known.get(&name).cloned());
                if let Some(target) = target {
                    self.point(number, &pointer, &format!("{target}#{fragment}"));
                } else if Draft::default().detect(&serde_json::json!({ "$schema": file })) == Draft::Unknown {
                    let place = locate::place(&source, &pointer, Part::Value);
                    let message =
                        format!("`{text}` is not a file of this project, and schemas are never fetched");
                    let root = format!("the root is {}", self.real_root.display());
                    self.problems.push(
                        Diagnostic::error("schema-reference", message)
                            .place(&place)
                            .note(root)
                            .help("save it beside this schema and refer to it by its file name"),
                    );
                }
            }
        }
    }

    /// The number of the document at `path`, seen from a folder below the root.
    fn open(&mut self, folder: &Path, path: &str, place: &Place, draft: Option<Draft>) -> Option<usize> {
        let outside = |loader: &mut Self| {
            let message = format!("`{path}` leads outside the project's root");
            let root = format!("the root is {}", loader.real_root.display());
            loader.problems.push(
                Diagnostic::error("schema-reference", message)
                    .place(place)
                    .note(root)
                    .help("keep schemas inside the project and refer to them by a relative path"),
            );
            None
        };
        let Some(shown) = below_root(folder, path) else { return outside(self) };
        let cannot = |why: &str| {
            Diagnostic::error("schema-file", format!("cannot read the schema {}: {why}", shown.display()))
                .place(place)
        };
        let real = match self.real_root.join(&shown).canonicalize() {
            Ok(real) if real.starts_with(&self.real_root) => real,
            Ok(_) => return outside(self),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                let mut problem = cannot("there is no such file");
                problem.help = neighbour(&self.real_root.join(&shown));
                self.problems.push(problem);
                return None;
            }
            Err(cause) => {
                self.problems.push(cannot(&cause.kind().to_string()));
                return None;
            }
        };
        if let Some(number) = self.documents.iter().position(|document| document.real == real) {
            return Some(number);
        }
        if self.documents.len() >= MAX_FILES {
            self.problems.push(cannot(&format!("a schema may refer to at most {MAX_FILES} files")));
            return None;
        }
        let text = match read(&real) {
            Ok(text) => text,
            Err(why) => {
                self.problems.push(cannot(&why));
                return None;
            }
        };
        let shown = shown.to_string_lossy().into_owned();
        let source = Arc::new(SourceText { path: shown, text });
        let number = self.documents.len();
        let document = parse(source, real, number, draft, self.problems)?;
        self.documents.push(document);
        Some(number)
    }
}

/// The path below the root, without `.` and `..`; none if it leaves the root on its way.
fn below_root(folder: &Path, path: &str) -> Option<PathBuf> {
    let mut below = PathBuf::new();
    for part in folder.join(path).components() {
        match part {
            Component::Normal(name) => below.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !below.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(below)
}

fn neighbour(path: &Path) -> Option<String> {
    let wanted = path.file_name()?.to_string_lossy().into_owned();
    let entries = path.parent()?.read_dir().ok()?.take(1000);
    let names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    crate::model::did_you_mean(&wanted, names.iter().map(String::as_str))
}

fn read(real: &Path) -> Result<String, String> {
    // Asked before opening: a pipe would wait for its writer.
    let about = real.metadata().map_err(|cause| cause.kind().to_string())?;
    if !about.is_file() {
        return Err("it is not a file".into());
    }
    let file = std::fs::File::open(real).map_err(|cause| cause.kind().to_string())?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|cause| cause.kind().to_string())?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("it is longer than {} MiB", MAX_BYTES / 1024 / 1024));
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

fn parse(
    source: Arc<SourceText>,
    real: PathBuf,
    number: usize,
    inherited: Option<Draft>,
    problems: &mut Problems,
) -> Option<Document> {
    let mut value: Value = match serde_json::from_str(&source.text) {
        Ok(value) => value,
        Err(error) => {
            problems.at("schema-json", &place_of(&source, &error), json_message(&error));
            return None;
        }
    };
    let draft = inherited.unwrap_or_default().detect(&value);
    if draft == Draft::Unknown {
        let place = locate::place(&source, "/$schema", Part::Value);
        problems.push(
            Diagnostic::error("schema-draft", "this `$schema` is none of the drafts 4, 6, 7, 2019-09 and 2020-12")
                .place(&place)
                .help("write `https://json-schema.org/draft/2020-12/schema`, or `http://json-schema.org/draft-07/schema#`"),
        );
        return None;
    }
    // A file without `$schema` is of the draft of the one that refers to it.
    if let (Some(map), Some(name)) = (value.as_object_mut(), draft_url(draft)) {
        map.entry("$schema").or_insert_with(|| Value::String(name.to_owned()));
    }
    let own = Url::parse(&uri(number)).ok()?;
    let (names, references) = survey(&value, draft, &own);
    Some(Document { source, draft, value, real, names, references })
}

/// The named parts of a document, and the references to other ones.
fn survey(value: &Value, draft: Draft, own: &Url) -> (Vec<(String, Url)>, Vec<Reference>) {
    let mut names: Vec<(String, Url)> = Vec::new();
    let mut references = Vec::new();
    // The named parts around the schema that is looked at, outermost first.
    let mut around: Vec<(String, Url)> = vec![(String::new(), own.clone())];
    let id = walk::id_keyword(draft);
    walk::walk(value, &mut |pointer, map, _| {
        let inside =
            |part: &str| part.is_empty() || pointer == part || pointer.starts_with(&format!("{part}/"));
        around.retain(|(part, _)| inside(part));
        let hidden = walk::reference_stands_alone(draft) && map.contains_key("$ref");
        let base = around.last().map_or_else(|| own.clone(), |(_, base)| base.clone());
        let name = map.get(id).and_then(Value::as_str).filter(|name| !name.starts_with('#') && !hidden);
        let base = match name.and_then(|name| base.join(name.trim_end_matches('#')).ok()) {
            Some(name) => {
                names.push((pointer.to_owned(), name.clone()));
                around.push((pointer.to_owned(), name.clone()));
                name
            }
            None => base,
        };
        for keyword in ["$ref", "$dynamicRef", "$recursiveRef"] {
            let Some(text) = map.get(keyword).and_then(Value::as_str) else { continue };
            if !text.is_empty() && !text.starts_with('#') {
                let pointer = locate::join(pointer, keyword);
                references.push(Reference { pointer, text: text.to_owned(), base: base.clone() });
            }
        }
    });
    (names, references)
}

const fn draft_url(draft: Draft) -> Option<&'static str> {
    Some(match draft {
        Draft::Draft4 => "http://json-schema.org/draft-04/schema#",
        Draft::Draft6 => "http://json-schema.org/draft-06/schema#",
        Draft::Draft7 => "http://json-schema.org/draft-07/schema#",
        Draft::Draft201909 => "https://json-schema.org/draft/2019-09/schema",
        Draft::Draft202012 => "https://json-schema.org/draft/2020-12/schema",
        _ => return None,
    })
}

fn place_of(source: &Arc<SourceText>, error: &serde_json::Error) -> Place {
    let line = error.line().saturating_sub(1);
    let start: usize = source.text.split_inclusive('\n').take(line).map(str::len).sum();
    let at = start + error.column().saturating_sub(1);
    Place::new(Arc::clone(source), at..at + 1)
}

fn json_message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    format!("this schema is not JSON: {}", text.get(..end).unwrap_or(&text).to_lowercase())
}

impl Document {
    /// Whether a part of the document, not the whole, has a name of its own.
    pub(super) fn has_named_parts(&self) -> bool {
        self.names.iter().any(|(pointer, _)| !pointer.is_empty())
    }

    /// The parts that have a name of their own, by that name.
    pub(super) fn named_parts(&self) -> impl Iterator<Item = (String, Value)> {
        let parts = self.names.iter().filter(|(pointer, _)| !pointer.is_empty());
        parts.filter_map(|(pointer, name)| Some((name.to_string(), self.value.pointer(pointer)?.clone())))
    }
}
