//! Where something was written: a file and a byte range in it.
//!
//! A place carries the text it points into, so that a message can draw the line wherever it is
//! raised, without reading the file again.

use std::ops::Range;
use std::sync::Arc;

/// A file of the project as it was read, kept for messages.
#[derive(Debug)]
pub struct SourceText {
    /// The path as a person would type it from the project's root.
    pub path: String,
    /// The whole text.
    pub text: String,
}

/// A byte range in a file of the project.
#[derive(Debug, Clone)]
pub struct Place {
    /// The file.
    pub source: Arc<SourceText>,
    /// The bytes in `source.text`; clamped to it and to character borders.
    pub span: Range<usize>,
}

impl Place {
    /// A place in `source`; a range that is out of bounds is clamped.
    #[must_use]
    pub fn new(source: Arc<SourceText>, span: Range<usize>) -> Self {
        let text = &source.text;
        let start = text.floor_char_boundary(span.start.min(text.len()));
        let end = text.ceil_char_boundary(span.end.clamp(start, text.len()));
        Self { source, span: start..end }
    }

    /// The start of the file.
    #[must_use]
    pub fn start_of(source: Arc<SourceText>) -> Self {
        Self { source, span: 0..0 }
    }

    /// The path of the file, relative to the project's root.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.source.path
    }

    /// Line and column of the start, both from 1; columns count characters.
    #[must_use]
    pub fn line_column(&self) -> (usize, usize) {
        line_column(&self.source.text, self.span.start)
    }

    /// Line and column just past the end, both from 1.
    #[must_use]
    pub fn end_line_column(&self) -> (usize, usize) {
        line_column(&self.source.text, self.span.end)
    }

    /// The place of a part of a scalar's value: `part` counts bytes in `value`.
    ///
    /// Exact where the value stands literally in the file (plain, quoted and block scalars
    /// without escapes before the part); the whole scalar otherwise.
    #[must_use]
    pub fn within(&self, value: &str, part: Range<usize>) -> Self {
        let written = &self.source.text[self.span.clone()];
        let Some(needle) = value.get(part.clone()) else { return self.clone() };
        if let Some(offset) = written.find(value) {
            let start = self.span.start + offset + part.start;
            return Self::new(Arc::clone(&self.source), start..start + part.len());
        }
        // A block scalar is indented in the file: the part alone may still be found, when it is
        // written once.
        let mut found = written.match_indices(needle);
        match (found.next(), found.next()) {
            (Some((offset, _)), None) if !needle.is_empty() => {
                let start = self.span.start + offset;
                Self::new(Arc::clone(&self.source), start..start + needle.len())
            }
            _ => self.clone(),
        }
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.source.path == other.source.path && self.span == other.span
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (line, column) = self.line_column();
        write!(f, "{}:{line}:{column}", self.source.path)
    }
}

fn line_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at];
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (line, column)
}

/// A value together with where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub place: Place,
}

impl<T> Placed<T> {
    /// Puts a value at a place.
    pub const fn new(value: T, place: Place) -> Self {
        Self { value, place }
    }

    /// Another value at the same place.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Placed<U> {
        Placed { value: change(self.value), place: self.place }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Arc<SourceText> {
        Arc::new(SourceText { path: "a.yaml".into(), text: text.into() })
    }

    #[test]
    fn lines_and_columns_count_from_one_and_in_characters() {
        let place = Place::new(source("a: é\nb: ü!x"), 11..12);
        assert_eq!(place.to_string(), "a.yaml:2:5");
    }

    #[test]
    fn a_range_outside_the_text_is_clamped() {
        let place = Place::new(source("é"), 1..99);
        assert_eq!(place.span, 0..2);
    }

    #[test]
    fn a_part_of_a_quoted_scalar_is_found_exactly() {
        let place = Place::new(source("k: \"{{ record.a }}\""), 3..19);
        let part = place.within("{{ record.a }}", 3..11);
        assert_eq!(&part.source.text[part.span.clone()], "record.a");
    }
}
