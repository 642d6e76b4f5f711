//! What passes from the reading thread to the loop that sends: records in blocks.
//!
//! A block is what one lease covers: it reaches the loop only once its lease is durable.

use std::sync::Arc;

use crate::model::{Outcome, RecordPlace, Request, State, Str, Value};
use crate::outcome::{BatchRow, BatchState, InputMark, RecordRow};
use crate::render::{Context, Draft};

use super::steps::Passed;

/// Records that one durable lease covers.
#[derive(Debug)]
pub struct Block {
    /// In input order; records that earlier starts settled are not among them.
    pub items: Vec<Prepared>,
    /// The end of the block in the input.
    pub mark: InputMark,
    /// Records of it that come to the loop, in this block or, as part of a call, in a later one.
    pub records: usize,
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
    /// A record that waited for others and can be in no call; the block that it came in.
    SettledPart(Box<Settled>, u64),
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
    /// Which of the record's steps this is, from 0.
    pub step: usize,
    /// What the steps before it brought; `None` where a record has one call.
    pub passed: Option<Box<Passed>>,
    /// What its request was made of; kept where a look may be made of it, or another request.
    pub context: Option<Box<Context>>,
    /// All the records of the call, where it has several; `identity` is the first one's then, and `made`
    /// counts the call's own attempts.
    pub call: Option<Box<Call>>,
}

/// A call with several records.
#[derive(Debug)]
pub struct Call {
    /// Its number in the run; 0 until its request is made.
    pub number: u64,
    /// Its records, in their order.
    pub members: Vec<Member>,
    /// Method, URL and headers, which are the same for all.
    pub head: Draft,
    /// The value of `group_by`, absent without one.
    pub group: Value,
    /// Records were taken out of it since its request was made.
    pub is_stale: bool,
}

/// One record of a call.
#[derive(Debug)]
pub struct Member {
    /// Who it is.
    pub identity: Identity,
    /// What it contributes.
    pub item: Value,
    /// Attempts before this call, over all starts.
    pub made: u32,
    /// Whether one of them ended unknown.
    pub unknown: bool,
    /// When the first of them may have left, where one ended unknown.
    pub first_at: i64,
    /// Raised by `retry`.
    pub generation: u32,
    /// The block that it came in.
    pub block: u64,
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
    /// Its key, where the checkpoint keeps it for later runs.
    pub noted_key: Option<Str>,
    /// Hash of its key, 0 without one.
    pub key_hash: u64,
    /// Hash of its order value, 0 without order.
    pub order_hash: u64,
    /// Hash of its content.
    pub digest: u64,
    /// Digest of all that it sends, whatever the run is; 0 where nobody asks for it.
    pub sends: u64,
}

/// A record that is settled without being sent.
#[derive(Debug)]
pub struct Settled {
    /// Who it is.
    pub identity: Identity,
    /// What became of it.
    pub outcome: Outcome,
    /// Its row, where a request of it arrived or may have: what it says of that stays.
    pub known: Option<Box<RecordRow>>,
}

impl Identity {
    /// Of a call without records, which nothing makes.
    fn of_nobody() -> Self {
        let place = RecordPlace { file: "".into(), line: 0, byte: 0 };
        Self {
            ordinal: 0,
            place,
            key: None,
            noted_key: None,
            key_hash: 0,
            order_hash: 0,
            digest: 0,
            sends: 0,
        }
    }

    /// A checkpoint row of this record in a state.
    #[must_use]
    pub fn row(&self, state: State) -> RecordRow {
        RecordRow {
            key_hash: self.key_hash,
            order_hash: self.order_hash,
            digest: self.digest,
            key: self.noted_key.as_deref().unwrap_or_default().to_owned(),
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
                Value::Absent => String::new(),
                captures => captures.to_json(),
            },
            // What the next run compares with, where it sends what changed.
            request: if outcome.state == State::Delivered { self.sends } else { 0 },
            ..self.row(outcome.state)
        }
    }
}

impl Call {
    /// The order values of its records, each once.
    #[must_use]
    pub fn orders(&self) -> Vec<u64> {
        let mut orders: Vec<u64> =
            self.members.iter().map(|member| member.identity.order_hash).filter(|hash| *hash != 0).collect();
        orders.sort_unstable();
        orders.dedup();
        orders
    }

    /// Takes out the records for which this is true.
    pub fn take_out(&mut self, is_out: impl Fn(&Member) -> bool) -> Vec<Member> {
        let (out, stay): (Vec<Member>, Vec<Member>) =
            std::mem::take(&mut self.members).into_iter().partition(is_out);
        self.members = stay;
        self.is_stale |= !out.is_empty();
        out
    }
}

impl Member {
    /// A checkpoint row of this record, `made` attempts of its call counted.
    #[must_use]
    pub fn row(&self, state: State, made: u32) -> RecordRow {
        RecordRow {
            attempts: self.made + made,
            unknown: self.unknown,
            first_at: self.first_at,
            generation: self.generation,
            ..self.identity.row(state)
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
            call: None,
            step: 0,
            passed: None,
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

    /// A call with several records whose request is made; it has at least one. `known` is its row from an
    /// earlier start.
    #[must_use]
    pub fn of_call(call: Call, request: Request, known: Option<&BatchRow>) -> Self {
        let identity = match call.members.first() {
            Some(first) => first.identity.clone(),
            None => Identity::of_nobody(),
        };
        // What is unknown of one of its records is unknown of the call.
        let unknown = call.members.iter().any(|member| member.unknown);
        let first_at = call.members.iter().map(|member| member.first_at).filter(|at| *at != 0).min();
        Self {
            made: known.map_or(0, |row| row.attempts),
            unknown: unknown || known.is_some_and(|row| row.unknown),
            first_at: known.map_or(0, |row| row.first_at).max(first_at.unwrap_or(0)),
            call: Some(Box::new(call)),
            ..Self::new(identity, request, None)
        }
    }

    /// Whether a call of it is noted: it was sent before, in this start or an earlier one.
    #[must_use]
    pub const fn is_sent(&self) -> bool {
        self.unknown || self.made > 0
    }

    /// The row of its call as it stands now, where it has several records.
    #[must_use]
    pub fn call_row(&self, state: BatchState) -> Option<BatchRow> {
        let call = self.call.as_ref()?;
        Some(BatchRow {
            number: call.number,
            state,
            attempts: self.made,
            unknown: self.unknown,
            members: call.members.iter().map(|member| member.identity.ordinal).collect(),
            request: self.request.digest(),
            first_at: self.first_at,
        })
    }

    /// A checkpoint row of this record as it stands now.
    #[must_use]
    pub fn row(&self, state: State) -> RecordRow {
        RecordRow {
            attempts: self.made,
            unknown: self.unknown,
            first_at: self.first_at,
            looked: self.doubt.as_ref().is_some_and(|doubt| doubt.looks > 0),
            captures: self.passed.as_ref().map_or_else(String::new, |passed| passed.text()),
            generation: self.generation,
            request: self.request.digest(),
            ..self.identity.row(state)
        }
    }
}
