//! A diagnostic as people see it.
//!
//! Own drawing, because the layout is promised: the line with its place, the line of the source
//! with carets, `|` rows, `=` notes, `help:`. Invariants: carets stand below what they mean
//! whatever the characters take in columns; every text is masked and escaped on its way in.

use std::borrow::Cow;
use std::fmt::Write as _;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::style::{ERROR, GUTTER, HELP, Look, NOTE, STRONG, WARNING};
use super::text;
use crate::model::{Diagnostic, Mask, Place, Severity};

/// A source line wider than this is shown as a window around the place.
const WIDEST: usize = 200;
/// The window's columns, and how many of them stand before the place.
const WINDOW: usize = 160;
const LEAD: usize = 40;

/// Several diagnostics in the given order, an empty line between them.
#[must_use]
pub fn draw_all(diagnostics: &[Diagnostic], mask: &Mask) -> String {
    diagnostics.iter().map(|diagnostic| draw(diagnostic, mask)).collect::<Vec<_>>().join("\n")
}

/// One diagnostic with its looks; ends with a newline.
#[must_use]
pub fn draw(diagnostic: &Diagnostic, mask: &Mask) -> String {
    let clean = |raw: &str| text::line(&mask.apply(raw)).into_owned();
    let (word, look) = match diagnostic.severity {
        Severity::Error => ("error", ERROR),
        Severity::Warning => ("warning", WARNING),
        Severity::Note => ("note", NOTE),
    };
    let mut drawing = Drawing { out: String::new(), gutter: 2 };
    let title = look.on(&format!("{word}[{}]", diagnostic.rule));
    let _ = writeln!(drawing.out, "{title}{}", STRONG.on(&format!(": {}", clean(&diagnostic.message))));

    if let Some(place) = &diagnostic.place {
        let (line, _) = place.line_column();
        drawing.gutter = line.to_string().len().max(2);
        drawing.arrow("-->", &clean(&place.to_string()));
        drawing.source(place, line, mask);
    }
    if let Some(at) = &diagnostic.at {
        drawing.arrow(if diagnostic.place.is_some() { ":::" } else { "-->" }, &clean(at));
    }
    for row in &diagnostic.rows {
        drawing.beside("|", &clean(row));
    }
    for note in diagnostic.notes.iter().map(String::as_str).chain(record_note(diagnostic).as_deref()) {
        drawing.several(&format!("{:1$} ", "", drawing.gutter), "=", GUTTER, note, mask);
    }
    if let Some(help) = &diagnostic.help {
        drawing.several("", "help:", HELP, help, mask);
    }
    drawing.out
}

/// The `= record:` line, unless whoever raised the diagnostic wrote one.
fn record_note(diagnostic: &Diagnostic) -> Option<String> {
    let record = diagnostic.record.as_ref()?;
    if diagnostic.notes.iter().any(|note| note.starts_with("record:")) {
        return None;
    }
    let mut note = format!("record: {record}");
    if let Some(pointer) = diagnostic.pointer.as_ref().filter(|pointer| !pointer.is_empty()) {
        let _ = write!(note, ", at {pointer}");
    }
    if let Some(count) = diagnostic.count.filter(|count| *count > 1) {
        let _ = write!(note, "; the same in {}", text::counted(count, "record", "records"));
    }
    Some(note)
}

struct Drawing {
    out: String,
    /// Columns of the line numbers.
    gutter: usize,
}

impl Drawing {
    fn arrow(&mut self, arrow: &str, place: &str) {
        let _ = writeln!(self.out, "{:1$}{2} {place}", "", self.gutter, GUTTER.on(arrow));
    }

    fn beside(&mut self, sign: &str, text: &str) {
        let _ = writeln!(self.out, "{:1$} {2} {text}", "", self.gutter, GUTTER.on(sign));
    }

    /// Text of several lines behind a sign; the further ones stand below the first.
    fn several(&mut self, before: &str, sign: &str, look: Look, text: &str, mask: &Mask) {
        let masked = mask.apply(text);
        let indent = before.len() + sign.len() + 1;
        for (i, line) in masked.lines().enumerate() {
            let line = text::line(line.trim_end_matches('\r'));
            // What was indented for this very column keeps its look.
            let _ = match i {
                0 => writeln!(self.out, "{before}{} {line}", look.on(sign)),
                _ => writeln!(self.out, "{:indent$}{}", "", line.trim_start()),
            };
        }
    }

    /// The line on which the place begins, and carets below it.
    fn source(&mut self, place: &Place, number: usize, mask: &Mask) {
        let text = &place.source.text;
        let Some((before, after)) = text.split_at_checked(place.span.start) else { return };
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let length = after.find('\n').unwrap_or(after.len());
        let line = text.get(start..place.span.start + length).unwrap_or_default();
        let line = line.strip_suffix('\r').unwrap_or(line);
        if text.is_empty() {
            return;
        }
        let from = (place.span.start - start).min(line.len());
        let to = place.span.end.saturating_sub(start).clamp(from, line.len());
        let (Some(left), Some(middle), Some(right)) = (line.get(..from), line.get(from..to), line.get(to..))
        else {
            return;
        };
        let bar = GUTTER.on("|");
        let numbered = GUTTER.on(&format!("{number:>0$}", self.gutter));
        if let Cow::Owned(masked) = mask.apply(line) {
            // Lengths differ from the file's: carets would point at the wrong place.
            let _ = writeln!(self.out, "{numbered} {bar} {}", first_columns(&shown(&masked), WINDOW));
            return;
        }
        let (left, line, carets) = window(&shown(left), &shown(middle), &shown(right));
        let _ = writeln!(self.out, "{numbered} {bar} {line}");
        let carets = ERROR.on(&"^".repeat(carets));
        let _ = writeln!(self.out, "{:1$} {bar} {2:left$}{carets}", "", self.gutter, "");
    }
}

/// What is shown of a line: columns before the carets, the line, how many carets.
fn window(left: &str, middle: &str, right: &str) -> (usize, String, usize) {
    let (before, under) = (left.width(), middle.width());
    if before + under + right.width() <= WIDEST {
        return (before, format!("{left}{middle}{right}").trim_end().to_owned(), under.max(1));
    }
    let left = if before > LEAD { format!("…{}", last_columns(left, LEAD)) } else { left.to_owned() };
    let before = left.width();
    let line = first_columns(&format!("{left}{middle}{right}"), WINDOW);
    let under = under.min(line.width().saturating_sub(before)).max(1);
    (before, line, under)
}

/// A source line without what a terminal would act on; a tab is four columns.
fn shown(text: &str) -> String {
    text::line(&text.replace('\t', "    ")).into_owned()
}

/// The beginning of the text, cut at so many columns.
fn first_columns(text: &str, columns: usize) -> String {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += c.width().unwrap_or(0);
        if used > columns {
            return format!("{}…", text.get(..at).unwrap_or_default());
        }
    }
    text.to_owned()
}

/// The end of the text that has at most so many columns.
fn last_columns(text: &str, columns: usize) -> &str {
    let mut used = 0;
    for (at, c) in text.char_indices().rev() {
        used += c.width().unwrap_or(0);
        if used > columns {
            return text.get(at + c.len_utf8()..).unwrap_or_default();
        }
    }
    text
}

#[cfg(test)]
mod tests;
