//! `runner completions`: the completion script of a shell.

use serde_json::json;

use super::Ended;
use crate::cli::args::{self, Completions};
use crate::model::Class;
use crate::report::Reporter;

/// `runner completions`
pub fn completions(args: &Completions, reporter: Reporter) -> Ended {
    let script = String::from_utf8_lossy(&args::completions(args.shell)).into_owned();
    let summary = json!({ "shell": args.shell.to_string(), "script": script });
    Ended::of(reporter.answer(Class::Ok, Class::Ok.code(), &script, summary))
}
