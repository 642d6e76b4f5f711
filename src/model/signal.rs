//! Signals of the system, as far as something follows from them.

/// What was asked from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// A supervisor asks to end.
    Terminate,
    /// The terminal went away.
    Hangup,
    /// Print one status line.
    Status,
}

impl Signal {
    /// The name for messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "interrupted (SIGINT)",
            Self::Terminate => "asked to end (SIGTERM)",
            Self::Hangup => "the terminal went away (SIGHUP)",
            Self::Status => "status (SIGUSR1)",
        }
    }
}
