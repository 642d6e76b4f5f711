//! `runner help`: a command's page or a topic.

use serde_json::json;

use super::{Ended, Refused};
use crate::cli::args::{self, Help};
use crate::model::Class;
use crate::report::Reporter;

/// `runner help`
pub fn help(args: &Help, reporter: Reporter) -> Result<Ended, Refused> {
    match args::help(args.topic.as_deref()) {
        Ok(text) => {
            let summary = json!({ "topic": args.topic, "text": text });
            Ok(Ended::of(reporter.answer(Class::Ok, Class::Ok.code(), &text, summary)))
        }
        Err(failure) => Err(Refused::new(failure, reporter)),
    }
}
