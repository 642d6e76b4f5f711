//! How a command reports: decided once, from flags and surroundings.
//!
//! Separate and pure, so that every rule about terminals, `CI`, `TERM` and `NO_COLOR` is tested
//! without a terminal. [`Surroundings::look`] alone asks the process.

use std::io::IsTerminal as _;

use super::{LogSink, Streams};

/// What stdout holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Tables and sentences; may change in any release
    #[default]
    Human,
    /// One JSON object, whatever happens
    Json,
    /// Events, one JSON object a line (`apply`, `retry`)
    Jsonl,
}

/// `--progress`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum WhenProgress {
    /// A bar on a terminal, plain lines elsewhere
    #[default]
    Auto,
    /// A bar that redraws itself
    Bar,
    /// Plain lines without control characters
    Lines,
    /// Nothing
    None,
}

/// `--color`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum WhenColor {
    /// As the stream and `NO_COLOR`, `CLICOLOR_FORCE`, `FORCE_COLOR` say
    #[default]
    Auto,
    /// On every stream
    Always,
    /// On none
    Never,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressMode {
    /// A bar that redraws itself.
    Bar,
    /// Plain lines.
    Lines,
    /// Nothing.
    None,
}

/// Whether a stream gets colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colors {
    /// It does.
    On,
    /// They are stripped.
    Off,
}

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Volume {
    /// `-q`: errors and the last line.
    Quiet,
    /// Progress, warnings, summary.
    #[default]
    Normal,
    /// `-v`: a line per record.
    Records,
    /// `-vv`: request line and status.
    Requests,
    /// `-vvv`: reply headers and bodies, masked.
    Bodies,
}

impl Volume {
    /// The volume that `-q` and so many `-v` ask for; `-q` wins.
    #[must_use]
    pub const fn from_flags(quiet: bool, verbose: u8) -> Self {
        match (quiet, verbose) {
            (true, _) => Self::Quiet,
            (false, 0) => Self::Normal,
            (false, 1) => Self::Records,
            (false, 2) => Self::Requests,
            (false, _) => Self::Bodies,
        }
    }
}

/// What the process finds around it. Empty variables count as not set.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one fact about the outside, none is a choice")]
pub struct Surroundings {
    /// Whether standard output is a terminal.
    pub stdout_is_terminal: bool,
    /// Whether standard error is a terminal.
    pub stderr_is_terminal: bool,
    /// Whether `TERM` is `dumb`.
    pub dumb: bool,
    /// Whether `CI` is set.
    pub ci: bool,
    /// Whether `NO_COLOR` is set.
    pub no_color: bool,
    /// Whether `CLICOLOR_FORCE` or `FORCE_COLOR` is set to anything but 0.
    pub force_color: bool,
}

impl Surroundings {
    /// Asks the process.
    #[must_use]
    pub fn look() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let forced = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty() && v != "0");
        Self {
            stdout_is_terminal: std::io::stdout().is_terminal(),
            stderr_is_terminal: std::io::stderr().is_terminal(),
            dumb: std::env::var_os("TERM").is_some_and(|term| term == "dumb"),
            ci: set("CI"),
            no_color: set("NO_COLOR"),
            force_color: forced("CLICOLOR_FORCE") || forced("FORCE_COLOR"),
        }
    }

    const fn colors(&self, when: WhenColor, terminal: bool) -> Colors {
        match when {
            WhenColor::Always => Colors::On,
            WhenColor::Auto if self.no_color => Colors::Off,
            WhenColor::Auto if self.force_color || (terminal && !self.dumb) => Colors::On,
            WhenColor::Auto | WhenColor::Never => Colors::Off,
        }
    }

    const fn progress(&self, when: WhenProgress, volume: Volume) -> ProgressMode {
        match when {
            _ if matches!(volume, Volume::Quiet) => ProgressMode::None,
            WhenProgress::None => ProgressMode::None,
            // A bar off a terminal would be silent; lines are what is left of it.
            WhenProgress::Bar if self.stderr_is_terminal => ProgressMode::Bar,
            WhenProgress::Auto if self.stderr_is_terminal && !self.dumb && !self.ci => ProgressMode::Bar,
            WhenProgress::Lines | WhenProgress::Auto | WhenProgress::Bar => ProgressMode::Lines,
        }
    }
}

/// How one command reports.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The command's name, for machine output.
    pub command: String,
    /// What stdout holds.
    pub format: Format,
    /// How progress is shown.
    pub progress: ProgressMode,
    /// How much is said.
    pub volume: Volume,
    /// Colours of stdout.
    pub stdout_colors: Colors,
    /// Colours of stderr.
    pub stderr_colors: Colors,
    /// Whether a person sits at stderr, who may press Ctrl-C again.
    pub stderr_is_terminal: bool,
    /// Where text goes.
    pub streams: Streams,
    /// Where log lines come in.
    pub logs: LogSink,
}

impl Settings {
    /// Settings for a command, from its flags and what is around it.
    #[must_use]
    pub fn new(
        command: impl Into<String>,
        format: Format,
        progress: WhenProgress,
        color: WhenColor,
        volume: Volume,
        around: &Surroundings,
    ) -> Self {
        Self {
            command: command.into(),
            format,
            progress: around.progress(progress, volume),
            volume,
            stdout_colors: around.colors(color, around.stdout_is_terminal),
            stderr_colors: around.colors(color, around.stderr_is_terminal),
            stderr_is_terminal: around.stderr_is_terminal,
            streams: Streams::default(),
            logs: LogSink::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terminal() -> Surroundings {
        Surroundings { stdout_is_terminal: true, stderr_is_terminal: true, ..Surroundings::default() }
    }

    #[test]
    fn a_bar_needs_a_terminal_that_can_draw_one() {
        use WhenProgress as When;
        let pipe = Surroundings::default();
        let ci = Surroundings { ci: true, ..terminal() };
        let dumb = Surroundings { dumb: true, ..terminal() };
        for (around, when, volume, mode) in [
            (&terminal(), When::Auto, Volume::Normal, ProgressMode::Bar),
            (&pipe, When::Auto, Volume::Normal, ProgressMode::Lines),
            (&ci, When::Auto, Volume::Normal, ProgressMode::Lines),
            (&dumb, When::Auto, Volume::Normal, ProgressMode::Lines),
            (&ci, When::Bar, Volume::Normal, ProgressMode::Bar),
            (&pipe, When::Bar, Volume::Normal, ProgressMode::Lines),
            (&terminal(), When::Lines, Volume::Normal, ProgressMode::Lines),
            (&terminal(), When::None, Volume::Normal, ProgressMode::None),
            (&terminal(), When::Bar, Volume::Quiet, ProgressMode::None),
        ] {
            assert_eq!(around.progress(when, volume), mode, "{around:?} {when:?} {volume:?}");
        }
    }

    #[test]
    fn no_color_beats_force_and_the_flag_beats_all() {
        let no = Surroundings { no_color: true, force_color: true, ..terminal() };
        let force = Surroundings { force_color: true, ..Surroundings::default() };
        let dumb = Surroundings { dumb: true, ..terminal() };
        for (around, when, on_terminal, colors) in [
            (&terminal(), WhenColor::Auto, true, Colors::On),
            (&terminal(), WhenColor::Auto, false, Colors::Off),
            (&terminal(), WhenColor::Never, true, Colors::Off),
            (&no, WhenColor::Auto, true, Colors::Off),
            (&no, WhenColor::Always, false, Colors::On),
            (&force, WhenColor::Auto, false, Colors::On),
            (&dumb, WhenColor::Auto, true, Colors::Off),
        ] {
            assert_eq!(around.colors(when, on_terminal), colors, "{around:?} {when:?}");
        }
    }

    #[test]
    fn quiet_wins_over_verbose() {
        assert_eq!(Volume::from_flags(true, 3), Volume::Quiet);
        assert_eq!(Volume::from_flags(false, 0), Volume::Normal);
        assert_eq!(Volume::from_flags(false, 9), Volume::Bodies);
    }
}
