//! How a command ended, as one of a few classes with a stable exit code.

/// The class of an ending. `runner help exit-codes` prints this table; the codes are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Every record delivered or skipped; nothing to do; no findings.
    Ok,
    /// Complete, and at least one record failed or is invalid.
    RecordsFailed,
    /// Wrong command line.
    Usage,
    /// Pipeline, template, schema, connection or variable wrong; nothing sent.
    Config,
    /// The input is unusable as a whole, at once or from a stated point on.
    Input,
    /// The run's state is locked, damaged, changed, missing or foreign; nothing sent.
    State,
    /// Otherwise complete; records are held in doubt.
    InDoubt,
    /// Ended early, may be started again as it is: signal, deadline, far side down.
    Stopped,
    /// Local disk or pipe failed; resumable.
    Io,
    /// Ended early; a person has to look, then it goes on.
    Halted,
    /// A fault of this program.
    Bug,
}

impl Class {
    /// All classes in the order in which one wins over the next when several apply.
    pub const BY_RANK: [Self; 11] = [
        Self::Bug,
        Self::Usage,
        Self::Config,
        Self::Io,
        Self::State,
        Self::Input,
        Self::Halted,
        Self::Stopped,
        Self::InDoubt,
        Self::RecordsFailed,
        Self::Ok,
    ];

    /// The process exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::RecordsFailed => 1,
            Self::Usage => 2,
            Self::Config => 3,
            Self::Input => 4,
            Self::State => 5,
            Self::InDoubt => 6,
            Self::Stopped => 7,
            Self::Io => 8,
            Self::Halted => 9,
            Self::Bug => 70,
        }
    }

    /// The name in machine output and messages, such as `records_failed`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::RecordsFailed => "records_failed",
            Self::Usage => "usage",
            Self::Config => "config",
            Self::Input => "input",
            Self::State => "state",
            Self::InDoubt => "in_doubt",
            Self::Stopped => "stopped",
            Self::Io => "io",
            Self::Halted => "halted",
            Self::Bug => "bug",
        }
    }

    /// The class with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::BY_RANK.into_iter().find(|class| class.name() == name)
    }

    /// The graver of two endings.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        Self::BY_RANK.into_iter().find(|class| *class == self || *class == other).unwrap_or(self)
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
