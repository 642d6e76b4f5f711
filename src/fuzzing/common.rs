//! What the targets share: taking an input apart, a folder to work in, and configuration that is
//! made without YAML.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub(super) use crate::config::fixtures::{connection, endpoint, template};
use crate::config::{CsvOptions, RecordLimits, SourceSpec};
use crate::model::Diagnostic;
use crate::render::RunValues;

/// An input that is taken apart from its front.
pub(super) struct Input<'d>(&'d [u8]);

/// Ends a part of an input. It is no byte of UTF-8.
const END: u8 = 0xFF;

impl<'d> Input<'d> {
    pub const fn new(data: &'d [u8]) -> Self {
        Self(data)
    }

    /// The next byte; 0 at the end.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    /// One of these.
    pub fn choice<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// The bytes up to the next end of a part.
    pub fn part(&mut self) -> &'d [u8] {
        let end = self.0.iter().position(|byte| *byte == END).unwrap_or(self.0.len());
        let part = &self.0[..end];
        self.0 = self.0.get(end + 1..).unwrap_or_default();
        part
    }

    /// A part as text.
    pub fn text(&mut self) -> Cow<'d, str> {
        String::from_utf8_lossy(self.part())
    }

    pub const fn rest(self) -> &'d [u8] {
        self.0
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A folder of this thread, removed when the thread ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("runner-fuzz-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder for temporary files");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

thread_local! {
    static SCRATCH: Scratch = Scratch::new();
}

/// A folder that this thread alone works in.
pub(super) fn scratch() -> PathBuf {
    SCRATCH.with(|scratch| scratch.0.clone())
}

/// Writes a file below a folder.
pub(super) fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    let parent = path.parent().expect("a file has a folder");
    std::fs::create_dir_all(parent).expect("a folder");
    std::fs::write(path, bytes).expect("a file");
}

/// A source as the command line names it.
pub(super) fn source(file: &str) -> SourceSpec {
    SourceSpec {
        fields: None,
        file: file.into(),
        place: None,
        format: None,
        pointer: String::new(),
        csv: CsvOptions::default(),
        limits: RecordLimits::default(),
    }
}

pub(super) fn run() -> RunValues {
    RunValues {
        id: "20261122T0214-3f9c".into(),
        started_at: jiff::Timestamp::UNIX_EPOCH,
        pipeline: "sync".into(),
        ordinal: 7,
        step: 0,
    }
}

/// What holds for every message: it says something, and its place lies in its file.
pub(super) fn check_diagnostic(found: &Diagnostic) {
    assert!(!found.message.is_empty() && !found.rule.is_empty(), "{found:?}");
    if let Some(place) = &found.place {
        let text = &place.source.text;
        assert!(text.get(place.span.clone()).is_some(), "{}: {:?} of {text:?}", found.rule, place.span);
        let (line, column) = place.line_column();
        let lines = text.split('\n').count();
        assert!((1..=lines).contains(&line) && column >= 1, "{}: {line}:{column} of {lines}", found.rule);
        assert!(place.end_line_column() >= (line, column), "{}", found.rule);
    }
}
