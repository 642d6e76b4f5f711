//! Tables for people: columns that line up, one of them cut where a terminal is too narrow.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::report::text;

/// Rows of cells under a heading for each column.
pub struct Table {
    rows: Vec<Vec<String>>,
    cut: usize,
    /// Columns that the last one needs, or it is left out.
    least: usize,
}

impl Table {
    /// A table with these headings.
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        let headings = headings.iter().map(|heading| heading.to_uppercase()).collect();
        Self { rows: vec![headings], cut: N.saturating_sub(1), least: 0 }
    }

    /// Cuts this column instead of the last.
    pub fn cut(mut self, column: usize) -> Self {
        self.cut = column;
        self
    }

    /// Leaves the last column out where there are fewer than so many columns for it.
    pub fn or_leave_out(mut self, least: usize) -> Self {
        self.least = least;
        self
    }

    /// Adds a row; control characters in it are escaped.
    pub fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.rows.push(cells.iter().map(|cell| text::line(cell).into_owned()).collect());
    }

    /// Whether there is nothing below the headings.
    pub fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// The lines, none wider than `width` unless the columns that are not cut are.
    pub fn draw(&self, width: Option<usize>) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widest = |at: usize| {
            self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.width()).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..columns).map(widest).collect();
        if let Some(width) = width {
            let others: usize =
                widths.iter().enumerate().filter(|(at, _)| *at != self.cut).map(|(_, w)| w + 2).sum();
            let room = width.saturating_sub(others);
            if room < self.least {
                widths.pop();
            } else if let Some(wide) = widths.get_mut(self.cut) {
                *wide = (*wide).min(room.max(12));
            }
        }
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, wide) in row.iter().zip(&widths) {
                let cell = cut(cell, *wide);
                line.push_str(&cell);
                line.push_str(&" ".repeat(wide.saturating_sub(cell.width()) + 2));
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// The columns of the terminal that stdout is, by `COLUMNS` or 80; `None` where it is none and
/// nothing has to be cut.
pub fn width() -> Option<usize> {
    use std::io::IsTerminal as _;
    let columns = || std::env::var("COLUMNS").ok()?.parse().ok().filter(|columns| *columns >= 40);
    std::io::stdout().is_terminal().then(|| columns().unwrap_or(80))
}

/// As much of a text as fits, with `…` where something is cut.
pub fn cut(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    let mut used = 1;
    let mut out = String::new();
    for char in text.chars() {
        used += char.width().unwrap_or(0);
        if used > room {
            break;
        }
        out.push(char);
    }
    format!("{}…", out.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_the_last_is_cut() {
        let mut table = Table::new(["name", "about"]);
        assert!(table.is_empty());
        table.row(["漢字", "wide characters take two columns"]);
        table.row(["plain\n", "short"]);
        assert_eq!(table.draw(Some(24)), "NAME     ABOUT\n漢字     wide character…\nplain\\n  short\n");
        assert!(table.draw(None).contains("take two columns\n"));
        let table = table.or_leave_out(20);
        assert_eq!(table.draw(Some(24)), "NAME\n漢字\nplain\\n\n");
        let table = Table { least: 0, ..table }.cut(0);
        assert!(table.draw(Some(30)).starts_with("NAME     ABOUT\n"));
    }
}
