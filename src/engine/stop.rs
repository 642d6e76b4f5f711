//! Signals from outside, as a stream that the loop listens to.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::model::{Class, Diagnostic, Failure};

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

/// Receives signals.
#[derive(Debug)]
pub struct StopLine {
    receiver: mpsc::UnboundedReceiver<Signal>,
    _keep: mpsc::UnboundedSender<Signal>,
}

impl StopLine {
    /// Listens to the signals of this process; has to be called within a runtime.
    pub fn listen() -> Result<Self, Failure> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let kinds = [
            (SignalKind::interrupt(), Signal::Interrupt),
            (SignalKind::terminate(), Signal::Terminate),
            (SignalKind::hangup(), Signal::Hangup),
            (SignalKind::user_defined1(), Signal::Status),
        ];
        for (kind, meaning) in kinds {
            let mut stream = signal(kind).map_err(|error| {
                Failure::new(Class::Io, Diagnostic::error("io", format!("cannot listen to signals: {error}")))
            })?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while stream.recv().await.is_some() {
                    if sender.send(meaning).is_err() {
                        break;
                    }
                }
            });
        }
        Ok(Self { receiver, _keep: sender })
    }

    /// The next signal.
    pub async fn next(&mut self) -> Signal {
        match self.receiver.recv().await {
            Some(signal) => signal,
            // The sender is kept here, so the channel never closes.
            None => std::future::pending().await,
        }
    }
}
