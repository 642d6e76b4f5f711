//! Tables for people: columns that line up, the last one cut where a terminal ends.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::report::text;

/// Rows of cells under a heading for each column.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| heading.to_uppercase()).collect()] }
    }

    /// Adds a row; control characters in it are escaped.
    pub fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.rows.push(cells.iter().map(|cell| text::line(cell).into_owned()).collect());
    }

    /// Whether there is nothing below the headings.
    pub fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// The lines, none wider than `width` unless the columns before the last are.
    pub fn draw(&self, width: Option<usize>) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widest = |at: usize| {
            self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.width()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(widest).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (at, cell) in row.iter().enumerate() {
                let used = line.width();
                if at + 1 == columns {
                    let room = width.map(|width| width.saturating_sub(used).max(12));
                    line.push_str(&cut(cell, room));
                } else {
                    line.push_str(cell);
                    let wide = widths.get(at).copied().unwrap_or(0);
                    line.push_str(&" ".repeat(wide.saturating_sub(cell.width()) + 2));
                }
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

fn cut(text: &str, room: Option<usize>) -> String {
    let Some(room) = room.filter(|room| text.width() > *room) else { return text.to_owned() };
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
    }
}
