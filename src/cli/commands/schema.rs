//! `runner schema`: the JSON Schemas of our own files, for editors and CI.

use std::path::Path;

use serde_json::json;

use super::{Ended, Refused};
use crate::cli::args::{Schema, SchemaKind};
use crate::cli::invocation::Invocation;
use crate::config;
use crate::model::{Class, Failure};
use crate::report::Reporter;

/// `runner schema`
pub fn schema(invocation: &Invocation<'_>, args: &Schema, mut reporter: Reporter) -> Result<Ended, Refused> {
    if let Some(kind) = args.kind {
        let (text, value) = (text(kind.name()), config::published_schema(kind.name()));
        let summary = value.unwrap_or_default();
        return Ok(Ended::of(reporter.answer(Class::Ok, Class::Ok.code(), &text, summary)));
    }
    // The command line has either a kind or a folder.
    let folder = args.out.clone().unwrap_or_default();
    let mut files = Vec::new();
    for kind in config::KINDS {
        let name = folder.join(file_name(kind));
        if let Err(failure) = write(&invocation.cwd().join(&name), &text(kind)) {
            return Err(Refused::new(failure, reporter));
        }
        reporter.say(&format!("wrote {}", name.display()));
        files.push(name.to_string_lossy().into_owned());
    }
    Ok(Ended::of(reporter.answer(Class::Ok, Class::Ok.code(), "", json!({ "files": files }))))
}

impl SchemaKind {
    /// The kind's name in `config` and in file names.
    const fn name(self) -> &'static str {
        match self {
            Self::Runner => "runner",
            Self::Connector => "connector",
            Self::Endpoint => "endpoint",
            Self::Pipeline => "pipeline",
        }
    }
}

/// The name of a kind's file.
pub fn file_name(kind: &str) -> String {
    format!("{kind}.schema.json")
}

/// The text of a kind's file.
pub fn text(kind: &str) -> String {
    let schema = config::published_schema(kind).unwrap_or_default();
    // A value of JSON can always be written as JSON.
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(|error| Failure::io("make the folder", folder, &error))?;
    // Not private like state: it is checked in and read by others.
    std::fs::write(path, text).map_err(|error| Failure::io("write", path, &error))
}
