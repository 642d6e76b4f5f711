//! The rows of the checkpoint as values.

use crate::model::{Counts, State};

/// One run as the checkpoint knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRow {
    /// Number of the run in this checkpoint, from 1.
    pub number: i64,
    /// `20261122T0214-3f9c`
    pub id: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// Connector, connection and base URL; a difference is a changed meaning.
    pub destination: String,
    /// Hash of what a key of it stands for: the destination, the pipeline as it was written with its
    /// variables and settings, and where its records come from. Only under the same one can it be told that a
    /// key vanished, and what that was. 0 where it went on under another.
    pub scope: u64,
    /// Digest of everything that decides what is sent.
    pub meaning: String,
    /// Digests of the files that the meaning was made from, as JSON: path to digest.
    pub meaning_files: String,
    /// The input as it was named.
    pub input: String,
    /// Sizes, times and inodes of the input's files, as JSON, to recognise it without reading.
    pub input_stamp: String,
    /// Records in the input.
    pub records: u64,
    /// Running digest over all records of the input.
    pub input_digest: u64,
    /// Ordinals below this may have been sent.
    pub lease: u64,
    /// Running digest over the records below `lease`.
    pub lease_digest: u64,
    /// Every record before this point is settled.
    pub settled: InputMark,
    /// Records that repeat a key of another; 0 means that no second look for them is needed.
    pub duplicates: u64,
    /// When it was closed: nothing of it is sent any more by itself.
    pub closed_at: Option<String>,
    /// The class with which the last start of it ended; empty while one is under way or crashed.
    pub class: String,
    /// Whether every record has an outcome.
    pub complete: bool,
}

/// A point in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InputMark {
    /// The next record.
    pub ordinal: u64,
    /// Its file, counted from 0 over the files of a glob.
    pub file: u32,
    /// Its first byte.
    pub byte: u64,
    /// Its line.
    pub line: u64,
    /// Running digest over all records before it.
    pub digest: u64,
}

/// One start of the program on a run.
#[derive(Debug, Clone, PartialEq)]
pub struct StartRow {
    /// Number of the start in this checkpoint.
    pub number: i64,
    /// The run's number.
    pub run: i64,
    /// RFC 3339, UTC.
    pub at: String,
    /// The machine's boot id; empty when none is known.
    pub boot: String,
    /// Digest of the meaning under which it sent.
    pub meaning: String,
    /// How it was allowed to send.
    pub grants: Grants,
    /// The class with which it ended; empty when it did not end in order.
    pub class: String,
}

/// What has to be on disk before a start sends a record. Recovery reads it back, as the policy of
/// the start that recovers may be another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grants {
    /// Whether every attempt has an intent. Otherwise only those of records with a row have one.
    pub intents: bool,
    /// Whether those intents survive a loss of power.
    pub durable_intents: bool,
    /// Records from here on are granted by the lease; those before it each by a row.
    pub leased_from: u64,
}

/// One record as the checkpoint knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordRow {
    /// Position in the input.
    pub ordinal: u64,
    /// Its state.
    pub state: State,
    /// Requests of it that may have left, over all starts.
    pub attempts: u32,
    /// Whether one of them ended without it being known what the far side did.
    pub unknown: bool,
    /// While in doubt: the far side was asked, and it could not be told.
    pub looked: bool,
    /// While pending: a durable grant to send it again was given, so that after a loss of power it
    /// may have been sent.
    pub granted: bool,
    /// Raised by `retry` after certain failures: a new idempotency key.
    pub generation: u32,
    /// HTTP status of the deciding reply; 0 without one.
    pub status: u16,
    /// Reason, as a stable word.
    pub class: String,
    /// Reason, for people.
    pub message: String,
    /// Hash of its key; 0 without one.
    pub key_hash: u64,
    /// Hash of what must not be in flight together with it; 0 without order.
    pub order_hash: u64,
    /// Hash of its content.
    pub digest: u64,
    /// Digest of the request that was or will be sent; 0 before one is rendered.
    pub request: u64,
    /// What was kept of the reply, as a JSON object; empty without captures. Where a record has steps, also
    /// while it is open: of each that was delivered the status under its name and its captures under
    /// `STEP.NAME`, and under `@` the name of the one that is or was under way.
    pub captures: String,
    /// Its key as it is, where a later run may have to name it; else empty.
    pub key: String,
    /// When this was noted, in milliseconds since 1970 by wall time; 0 is filled in on writing.
    pub at: i64,
    /// When its first request may have left; 0 where nothing asks for it.
    pub first_at: i64,
}

/// An attempt that was not the last, or not good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRow {
    /// Its number, from 1 over all starts.
    pub number: u32,
    /// When it ended: RFC 3339, UTC.
    pub at: String,
    /// HTTP status; 0 without one.
    pub status: u16,
    /// Why it was no success, as a stable word.
    pub class: String,
    /// Why, for people.
    pub message: String,
    /// The wait before the next step, in milliseconds.
    pub wait_ms: Option<i64>,
}

/// Something out of the ordinary that happened to a run or record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteRow {
    /// When: RFC 3339, UTC.
    pub at: String,
    /// What, as a word: `recovered`, `look`, `resolve:skip`, `retry`, `close`, `accept-changes`.
    pub what: String,
    /// In words.
    pub detail: String,
}

impl RecordRow {
    /// A record of which nothing is known but its place.
    #[must_use]
    pub const fn new(ordinal: u64, state: State) -> Self {
        Self {
            ordinal,
            state,
            attempts: 0,
            unknown: false,
            looked: false,
            granted: false,
            generation: 0,
            status: 0,
            class: String::new(),
            message: String::new(),
            key_hash: 0,
            order_hash: 0,
            digest: 0,
            request: 0,
            captures: String::new(),
            key: String::new(),
            at: 0,
            first_at: 0,
        }
    }
}

impl RecordRow {
    /// Whether a call of the record was delivered and others should have followed it: it is neither
    /// delivered nor untouched.
    #[must_use]
    pub fn is_half_done(&self) -> bool {
        is_half_done(self.state, &self.captures)
    }
}

/// The same of a row's columns.
pub(super) fn is_half_done(state: State, captures: &str) -> bool {
    // Alone in there, `@` names the first call; nothing was delivered then.
    state != State::Delivered
        && !captures.is_empty()
        && (captures.contains(',') || !captures.starts_with("{\"@\":"))
}

/// What a person decided about records in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Send again, knowing that it may arrive twice.
    Resend,
    /// Leave out.
    Skip,
    /// It is there.
    Delivered,
    /// It is not there and will not be sent.
    Failed,
}

impl Settlement {
    /// The state that follows.
    #[must_use]
    pub const fn state(self) -> State {
        match self {
            Self::Resend => State::Pending,
            Self::Skip => State::Skipped,
            Self::Delivered => State::Delivered,
            Self::Failed => State::Failed,
        }
    }

    /// The word in the checkpoint and in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resend => "resend",
            Self::Skip => "skip",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// Counts over states, from pairs of state and number.
pub(super) fn counts_of(pairs: impl IntoIterator<Item = (State, u64)>, total: u64) -> Counts {
    let mut counts = Counts::default();
    for (state, n) in pairs {
        *counts.of(state) += n;
    }
    // Records that were never reached have no row.
    counts.unsent += total.saturating_sub(counts.total());
    counts
}
