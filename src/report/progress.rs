//! The bar; the only file that names `indicatif`.
//!
//! It draws nothing off a terminal, so it is only made where [`super::ProgressMode::Bar`] holds;
//! the words in it come from `tally`. Invariant: whatever else goes to stderr while a bar stands
//! goes through [`Bar::aside`].

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar on stderr; clones are the same bar.
#[derive(Clone)]
pub(super) struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// A bar that stands at `done` of `total`.
    pub(super) fn new(total: u64, done: u64) -> Self {
        // Ten times a second is what the engine's ticks give; more cannot be read.
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
        bar.set_style(style("{bar:10} {wide_msg}"));
        bar.set_position(done);
        Self { bar }
    }

    /// Shows where things stand; `waiting` is the second line.
    pub(super) fn show(&self, done: u64, words: String, waiting: Option<String>) {
        match waiting {
            Some(waiting) => {
                self.bar.set_style(style("{bar:10} {wide_msg}\n{prefix}"));
                self.bar.set_prefix(waiting);
            }
            None => self.bar.set_style(style("{bar:10} {wide_msg}")),
        }
        self.bar.set_position(done);
        self.bar.set_message(words);
    }

    /// Takes the bar away while something else is written.
    pub(super) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    /// Takes the bar away for good.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl std::fmt::Debug for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bar({}/{:?})", self.bar.position(), self.bar.length())
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("##-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_templates_are_understood() {
        for template in ["{bar:10} {wide_msg}", "{bar:10} {wide_msg}\n{prefix}"] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn what_is_written_aside_gives_its_value_back() {
        let bar = Bar::new(10, 3);
        bar.show(4, "4/10".into(), Some("waiting 2 s".into()));
        assert_eq!(bar.aside(|| 7), 7);
        assert_eq!(format!("{bar:?}"), "Bar(4/Some(10))");
        bar.clear();
    }
}
