//! The few looks that text has on a terminal.
//!
//! Text is always written with them; a stream that wants no colour strips them. Invariant: outside
//! text is escaped before it gets a look, so stripping takes away nothing but these.

/// A look: the sequence that switches it on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look(&'static str);

pub(super) const ERROR: Look = Look("\x1b[1;31m");
pub(super) const WARNING: Look = Look("\x1b[1;33m");
pub(super) const NOTE: Look = Look("\x1b[1;36m");
pub(super) const HELP: Look = Look("\x1b[1;36m");
pub(super) const GOOD: Look = Look("\x1b[32m");
pub(super) const GUTTER: Look = Look("\x1b[1;34m");
pub(super) const STRONG: Look = Look("\x1b[1m");

impl Look {
    /// The text in this look.
    pub(super) fn on(self, text: &str) -> String {
        format!("{}{text}\x1b[0m", self.0)
    }
}
