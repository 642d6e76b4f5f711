//! `runner extract`: the source of a pipeline, as a file or on stdout.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::request::json_safe;
use super::{Ended, Refused, apply, far_side};
use crate::cli::args::{Extract as Args, ExtractForm};
use crate::cli::invocation::{Ask, Invocation};
use crate::engine::{Extracted, Form, Observer, Until, extract as write_source, may_block};
use crate::model::{Class, Diagnostic, Event, Failure, Reply, Request};
use crate::report::text::{self, counted};
use crate::report::{Format, Reporter};

/// `runner extract`
pub fn extract(invocation: &Invocation<'_>, args: &Args, mut reporter: Reporter) -> Result<Ended, Refused> {
    match written(invocation, args, &mut reporter) {
        Err(failure) => Err(Refused::new(failure, reporter)),
        Ok((extracted, out)) => Ok(finish(invocation, args, &extracted, out.as_ref(), reporter)),
    }
}

/// The file that was written.
struct Out {
    path: PathBuf,
    replaced: bool,
}

fn written(
    invocation: &Invocation<'_>,
    args: &Args,
    reporter: &mut Reporter,
) -> Result<(Extracted, Option<Out>), Failure> {
    let out = args.out.as_deref().filter(|out| *out != Path::new("-")).map(|out| invocation.cwd().join(out));
    let form = match (args.form, &out) {
        (Some(ExtractForm::Csv), _) => Form::Csv,
        (None, Some(out)) if out.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv")) => {
            Form::Csv
        }
        _ => Form::Ndjson,
    };
    if out.is_none() && invocation.cli().everywhere.format != Format::Human {
        return Err(Failure::new(
            Class::Usage,
            Diagnostic::error("usage", "stdout cannot hold both the records and the answer of `--format`")
                .help("name a file for the records: `--out FILE`"),
        ));
    }
    let ask = Ask { sandbox: args.sandbox, ..Ask::default() };
    let (mut pipeline, warnings) = invocation.pipeline(&args.pipeline, ask)?;
    reporter.hide(invocation.mask());
    for warning in &warnings {
        reporter.diagnostic(warning);
    }
    let sandbox = if args.sandbox { far_side::stand_in(invocation, &mut pipeline)? } else { Vec::new() };
    if args.sandbox {
        // Nobody has to be spared there.
        pipeline.delivery.rate = None;
    }
    apply::warn_unverified(&pipeline, reporter);
    let target = if args.sandbox { far_side::TARGET.to_owned() } else { pipeline.environment.clone() };
    let limit = args.limit.map(std::num::NonZeroU64::get);
    let until = Until::signal_or(None)?;
    let shared = std::cell::RefCell::new(reporter);
    let mut watcher = Shared(&shared);
    let extracted = if let Some(path) = &out {
        let mut new = NewFile::create(path)?;
        let extracted = write_source(
            pipeline,
            &target,
            form,
            limit,
            &until,
            &mut |bytes| new.write(bytes),
            &mut watcher,
        )?;
        let replaced = new.keep()?;
        (extracted, Some(Out { path: path.clone(), replaced }))
    } else {
        let is_terminal = std::io::stdout().is_terminal();
        let mut sink = |bytes: &[u8]| {
            let mut reporter = shared.borrow_mut();
            if !is_terminal {
                return Ok(may_block(|| reporter.data(bytes)));
            }
            // Whole lines: what a terminal would obey is shown instead.
            let text = String::from_utf8_lossy(bytes);
            let is_json = form == Form::Ndjson;
            let safe = if is_json { json_safe(&text) } else { text::block(&text).into_owned() };
            Ok(may_block(|| reporter.data(safe.as_bytes())))
        };
        (write_source(pipeline, &target, form, limit, &until, &mut sink, &mut watcher)?, None)
    };
    drop(sandbox);
    Ok(extracted)
}

fn finish(
    invocation: &Invocation<'_>,
    args: &Args,
    extracted: &Extracted,
    out: Option<&Out>,
    mut reporter: Reporter,
) -> Ended {
    let Extracted { records, left_out, invalid, .. } = extracted;
    for finding in extracted.warnings.iter().chain(&extracted.findings) {
        reporter.diagnostic(finding);
    }
    let more = invalid.saturating_sub(extracted.findings.len() as u64);
    if more > 0 {
        reporter.say(&format!("{} more like these", text::number(more)));
    }
    let place = out.map(|out| invocation.shown(&out.path));
    let replaced = out.is_some_and(|out| out.replaced);
    let as_new = if replaced { " in place of the old file" } else { "" };
    let to = place.as_ref().map(|place| format!(" to {}{as_new}", place.display())).unwrap_or_default();
    let mut words =
        format!("{}: {} written{to}", args.pipeline.display(), counted(*records, "record", "records"));
    for (count, what) in [(left_out, "left out by `where`"), (invalid, "invalid and not written")] {
        if *count > 0 {
            let _ = write!(words, ", {} {what}", text::number(*count));
        }
    }
    reporter.conclude(&words);
    let class = if *invalid > 0 { Class::RecordsFailed } else { Class::Ok };
    let summary = json!({
        "records": records,
        "left_out": left_out,
        "invalid": invalid,
        "out": place,
        "replaced": replaced,
    });
    let class = if out.is_some() {
        reporter.answer(class, class.code(), "", summary)
    } else {
        // The records were the answer.
        reporter.close(class)
    };
    Ended::of(class)
}

/// A file that appears under its name once it is whole.
struct NewFile {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    /// Whether there was a file before.
    replaces: bool,
    is_kept: bool,
}

impl NewFile {
    fn create(path: &Path) -> Result<Self, Failure> {
        let refused = |message: String, help: &str| {
            Failure::new(Class::Usage, Diagnostic::error("usage", message).help(help))
        };
        // A link stays one, and what it leads to is written.
        let (path, replaces) = match std::fs::symlink_metadata(path) {
            Err(_) => (path.to_owned(), false),
            Ok(_) => (path.canonicalize().unwrap_or_else(|_| path.to_owned()), true),
        };
        let name = path.file_name().filter(|_| !replaces || path.is_file());
        let Some(name) = name else {
            let message = format!("{} is no file", path.display());
            return Err(refused(
                message,
                "name a file: `--out agents.csv`; without `--out` the records go to stdout",
            ));
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        if !folder.is_dir() {
            let message = format!("there is no folder {}", folder.display());
            return Err(refused(message, "make it first, or name another file"));
        }
        let temporary = folder.join(format!(".{}.{}.new", name.to_string_lossy(), std::process::id()));
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(|error| Failure::io("make", &temporary, &error))?;
        Ok(Self { file, temporary, path, replaces, is_kept: false })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<bool, Failure> {
        self.file.write_all(bytes).map_err(|error| Failure::io("write", &self.temporary, &error))?;
        Ok(true)
    }

    /// Puts it in its place; whether it replaced another.
    fn keep(mut self) -> Result<bool, Failure> {
        self.file.sync_all().map_err(|error| Failure::io("write", &self.temporary, &error))?;
        std::fs::rename(&self.temporary, &self.path)
            .map_err(|error| Failure::io("rename to", &self.path, &error))?;
        self.is_kept = true;
        Ok(self.replaces)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_kept {
            // It is half of a file, and only in the way.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Passes on what the engine tells; stdout goes through the same reporter.
struct Shared<'a, 'r>(&'a std::cell::RefCell<&'r mut Reporter>);

impl Observer for Shared<'_, '_> {
    fn event(&mut self, event: &Event) {
        self.0.borrow_mut().event(event);
    }
    fn tick(&mut self) {
        self.0.borrow_mut().tick();
    }
    fn status(&mut self) {}
    fn attempted(&mut self, _: u64, _: &Request, _: &Reply, _: std::time::Duration) {}
}
