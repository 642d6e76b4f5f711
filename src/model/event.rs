//! What happened, as data: the only bridge from the engine to people and machine output.

use std::time::Duration;

use super::{Class, Counts, Diagnostic, Outcome, RecordPlace, Reply};

/// One thing that happened in a run.
#[derive(Debug, Clone)]
pub enum Event {
    /// The run is about to send its first request, or goes on.
    RunStarted {
        /// The pipeline's name.
        pipeline: String,
        /// The run's id.
        run: String,
        /// The connection's name.
        connection: String,
        /// Scheme, host and port.
        host: String,
        /// Records in the input.
        total: u64,
        /// What earlier starts of this run settled.
        before: Counts,
        /// Whether this start goes on with a run.
        resumed: bool,
        /// Requests a second that the limits allow, if any.
        rate: Option<f64>,
    },
    /// A record has an outcome.
    Settled {
        /// Position in the input.
        ordinal: u64,
        /// Where it stands.
        place: RecordPlace,
        /// Its key, or a hash of it where keys are personal data; `None` without a key.
        key: Option<String>,
        /// What became of it.
        outcome: Outcome,
    },
    /// An attempt ended and will be followed by another.
    Retrying {
        /// Position in the input.
        ordinal: u64,
        /// The attempt that ended, from 1.
        attempt: u32,
        /// Why, in a word or two: `429`, `connect`.
        why: String,
        /// The wait before the next.
        wait: Duration,
    },
    /// An attempt ended: request line and reply, for `-vv`.
    Attempted {
        /// Position in the input.
        ordinal: u64,
        /// Method and URL.
        request: String,
        /// What came back.
        reply: Reply,
        /// From the first byte to the end of the reply.
        took: Duration,
    },
    /// A page of a list was read.
    Listing {
        /// What is read, such as `api:freshchat/list-agents`.
        source: String,
        /// Pages so far.
        pages: u64,
        /// Items so far.
        items: u64,
        /// Whether it was the last.
        done: bool,
    },
    /// All sending waits, or goes on again.
    Paused(Option<Pause>),
    /// Adaptive concurrency stands elsewhere.
    Paced(Pacing),
    /// Something worth saying that stops nothing.
    Warning(Diagnostic),
    /// The run stops: no new attempt; so many are still under way.
    Stopping {
        /// Attempts under way.
        in_flight: usize,
        /// Why, in a few words.
        why: String,
    },
    /// This start ended.
    RunEnded {
        /// Counts over all starts.
        counts: Counts,
        /// Requests that may have left in this start.
        attempts: u64,
        /// How this start ended.
        class: Class,
    },
}

/// Where adaptive concurrency stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pacing {
    /// Requests that may be in flight.
    pub lanes: usize,
    /// Requests a second, where the far side limits them.
    pub per_second: Option<f64>,
}

/// Why and how long all sending waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Pause {
    /// How long from now.
    pub wait: Duration,
    /// Who asked: `429 from acme.freshchat.com`.
    pub why: String,
}
