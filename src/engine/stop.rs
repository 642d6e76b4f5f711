//! Signals from outside: as a stream that the loop listens to, or noted for whoever looks from time to time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::model::{Class, Diagnostic, Failure, Signal};

/// Receives signals.
#[derive(Debug)]
pub struct StopLine {
    receiver: mpsc::UnboundedReceiver<Signal>,
    _keep: mpsc::UnboundedSender<Signal>,
}

impl StopLine {
    /// Listens to the signals of this process; has to be called within a runtime.
    pub fn listen() -> Result<Self, Failure> {
        if let Some(noted) = NOTED.get() {
            noted.ends.store(false, Ordering::SeqCst);
        }
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

/// What was noted, for the whole process.
static NOTED: OnceLock<Noted> = OnceLock::new();

struct Noted {
    /// Which signal it was; 0 is none.
    which: Arc<AtomicUsize>,
    /// Whether somebody asked for a status.
    status: Arc<AtomicBool>,
    /// Whether signals end the process by themselves, as they do where nobody looks.
    ends: Arc<AtomicBool>,
    /// The same of Ctrl-C alone.
    interrupt_ends: Arc<AtomicBool>,
}

const SIGNALS: [(i32, Signal); 3] =
    [(SIGINT, Signal::Interrupt), (SIGTERM, Signal::Terminate), (SIGHUP, Signal::Hangup)];

/// What can end the work before a run is decided. While it lives, signals are noted and do nothing else; after
/// it they end the process as by default, until somebody listens again.
pub struct Until {
    deadline: Option<Instant>,
}

impl Until {
    /// Notes signals from here on; work ends at the deadline as well.
    pub fn signal_or(deadline: Option<Instant>) -> Result<Self, Failure> {
        if NOTED.get().is_none() {
            let noted = note().map_err(|error| {
                Failure::new(Class::Io, Diagnostic::error("io", format!("cannot listen to signals: {error}")))
            })?;
            let _ = NOTED.set(noted);
        }
        if let Some(noted) = NOTED.get() {
            noted.which.store(0, Ordering::SeqCst);
            noted.ends.store(false, Ordering::SeqCst);
        }
        Ok(Self { deadline })
    }

    /// When work ends by itself.
    pub const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The signal that came.
    pub fn signal(&self) -> Option<Signal> {
        let which = NOTED.get()?.which.load(Ordering::SeqCst);
        which.checked_sub(1).and_then(|at| SIGNALS.get(at)).map(|(_, signal)| *signal)
    }

    /// Whether somebody asked for a status since this was asked last.
    pub fn wants_status(&self) -> bool {
        NOTED.get().is_some_and(|noted| noted.status.swap(false, Ordering::SeqCst))
    }
}

impl Drop for Until {
    fn drop(&mut self) {
        if let Some(noted) = NOTED.get() {
            noted.ends.store(true, Ordering::SeqCst);
        }
    }
}

/// Does what may wait for somebody else for ever, such as a pager that shows a page: Ctrl-C ends the process then,
/// which has to leave nothing behind.
pub fn may_block<T>(work: impl FnOnce() -> T) -> T {
    let set = |ends| {
        if let Some(noted) = NOTED.get() {
            noted.interrupt_ends.store(ends, Ordering::SeqCst);
        }
    };
    set(true);
    let done = work();
    set(false);
    done
}

fn note() -> std::io::Result<Noted> {
    let noted = Noted {
        which: Arc::default(),
        status: Arc::default(),
        ends: Arc::default(),
        interrupt_ends: Arc::default(),
    };
    signal_hook::flag::register_conditional_default(SIGINT, Arc::clone(&noted.interrupt_ends))?;
    for (at, (signal, _)) in SIGNALS.into_iter().enumerate() {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&noted.ends))?;
        signal_hook::flag::register_usize(signal, Arc::clone(&noted.which), at + 1)?;
    }
    signal_hook::flag::register(SIGUSR1, Arc::clone(&noted.status))?;
    Ok(noted)
}
