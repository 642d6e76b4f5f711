//! What passes from the reading thread to the loop that sends: records in blocks.
//!
//! A block is what one lease covers: it reaches the loop only once its lease is durable.

use std::sync::Arc;

use crate::model::{Outcome, RecordPlace, Request, State, Str};
use crate::outcome::{InputMark, RecordRow};
use crate::render::Context;

/// Records that one durable lease covers.
#[derive(Debug)]
pub struct Block {
    /// In input order; records that earlier starts settled are not among them.
    pub items: Vec<Prepared>,
    /// The end of the block in the input.
    pub mark: InputMark,
    /// Records in it that this start leaves pending on purpose (`--where`, `--limit`, `--record`).
    pub left_out: usize,
}

/// One record, ready to go or settled without sending.
#[derive(Debug)]
pub enum Prepared {
    /// To be sent.
    Send(Box<Job>),
    /// Invalid or skipped.
    Settled(Box<Settled>),
    /// May have arrived, and would go out with other bytes: it is held, for this reason.
    Held(Box<Job>, &'static str),
}

/// A record with its request.
#[derive(Debug)]
pub struct Job {
    /// Who it is.
    pub identity: Identity,
    /// What is sent; the same bytes at every attempt.
    pub request: Arc<Request>,
    /// Attempts so far, over all starts.
    pub made: u32,
    /// Attempts made in this start.
    pub made_now: u32,
    /// Whether an attempt so far ended unknown.
    pub unknown: bool,
    /// Whether the checkpoint has a row of it before it is sent, from an earlier start or as its
    /// grant: then every attempt needs an intent, or the row would say something that is not true
    /// any more.
    pub has_row: bool,
    /// When its first request left, in milliseconds since 1970; 0 before that.
    pub first_at: i64,
    /// Raised by `retry`: the generation of its idempotency key.
    pub generation: u32,
    /// The block it came in, counted by the loop.
    pub block: u64,
    /// How many good or bad replies the run had seen when this start first tried it.
    pub replies_before: u64,
    /// What is to be found out before anything else is done about it, if it may have arrived.
    pub doubt: Option<Box<Doubt>>,
    /// What its request was made of; kept where a look may be made of it.
    pub context: Option<Box<Context>>,
}

/// A request that may have arrived, while the far side is asked about it.
#[derive(Debug, Clone)]
pub struct Doubt {
    /// Looks made so far.
    pub looks: u32,
    /// HTTP status of the attempt in doubt; 0 without one.
    pub status: u16,
    /// Why it is in doubt, as a word.
    pub class: String,
    /// Why it is in doubt, for people.
    pub message: String,
}

/// What tells one record from another.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Position in the input.
    pub ordinal: u64,
    /// Where it stands.
    pub place: RecordPlace,
    /// Its key; kept only where somebody wants it.
    pub key: Option<Str>,
    /// Hash of its key, 0 without one.
    pub key_hash: u64,
    /// Hash of its order value, 0 without order.
    pub order_hash: u64,
    /// Hash of its content.
    pub digest: u64,
}

/// A record that is settled without being sent.
#[derive(Debug)]
pub struct Settled {
    /// Who it is.
    pub identity: Identity,
    /// What became of it.
    pub outcome: Outcome,
    /// Its row, where a request of it may have arrived: what it says of that stays.
    pub may_have_arrived: Option<Box<RecordRow>>,
}

impl Identity {
    /// A checkpoint row of this record in a state.
    #[must_use]
    pub fn row(&self, state: State) -> RecordRow {
        RecordRow {
            key_hash: self.key_hash,
            order_hash: self.order_hash,
            digest: self.digest,
            ..RecordRow::new(self.ordinal, state)
        }
    }

    /// A checkpoint row of this record with its outcome.
    #[must_use]
    pub fn outcome_row(&self, outcome: &Outcome) -> RecordRow {
        RecordRow {
            attempts: outcome.attempts,
            status: outcome.status,
            class: outcome.class.clone(),
            message: outcome.message.clone(),
            captures: match &outcome.captures {
                crate::model::Value::Absent => String::new(),
                captures => captures.to_json(),
            },
            ..self.row(outcome.state)
        }
    }
}

impl Job {
    /// A record to be sent; `known` is its row from an earlier start.
    #[must_use]
    pub fn new(identity: Identity, request: Request, known: Option<&RecordRow>) -> Self {
        Self {
            identity,
            request: Arc::new(request),
            made: known.map_or(0, |row| row.attempts),
            made_now: 0,
            unknown: known.is_some_and(|row| row.unknown),
            has_row: known.is_some(),
            first_at: known.map_or(0, |row| row.first_at),
            generation: known.map_or(0, |row| row.generation),
            block: 0,
            replies_before: 0,
            doubt: known.filter(|row| row.state == State::InDoubt).map(|row| {
                Box::new(Doubt {
                    looks: 0,
                    status: row.status,
                    class: row.class.clone(),
                    message: row.message.clone(),
                })
            }),
            context: None,
        }
    }

    /// A checkpoint row of this record as it stands now.
    #[must_use]
    pub fn row(&self, state: State) -> RecordRow {
        RecordRow {
            attempts: self.made,
            unknown: self.unknown,
            first_at: self.first_at,
            looked: self.doubt.as_ref().is_some_and(|doubt| doubt.looks > 0),
            generation: self.generation,
            request: self.request.digest(),
            ..self.identity.row(state)
        }
    }
}
