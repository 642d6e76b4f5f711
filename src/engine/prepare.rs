//! One record to one request: select, check, name, render, check again.
//!
//! Every step is a stage's; this file only joins them and turns what they refuse into an
//! outcome. Invariant: a record at fault never stops its neighbours.

use std::sync::Arc;

use crate::model::{Outcome, Record, Request, State, Str, Value, hex};
use crate::outcome::RecordRow;
use crate::render::{Context, Draft, Leaf, RenderError, Root, RunValues};
use crate::schema::{Schema, Violation};
use crate::select::Selection;

use super::attach::Attachments;
use super::block::{Call, Identity, Member, Settled};
use super::grouping::Rules;
use super::steps::{Next, Passed, PerStep, StepTemplate, Stuck};

/// Everything that turns a record into a request, compiled once.
#[expect(clippy::struct_excessive_bools, reason = "each says what somebody else wants kept")]
pub struct Preparer {
    /// `select:`
    pub selection: Selection,
    /// Schema of records.
    pub schema: Option<Schema>,
    /// What identifies a record.
    pub key: Option<Leaf>,
    /// Whether keys may be shown as they are.
    pub key_is_public: bool,
    /// What must not be in flight together, when it is not the key.
    pub order_by: Option<Leaf>,
    /// The calls of a record.
    pub steps: PerStep<StepTemplate>,
    /// Context with everything but the record: vars, connection.
    pub base: Context,
    /// Name of the pipeline, for idempotency keys.
    pub pipeline: Str,
    /// The target, for idempotency keys.
    pub target: Str,
    /// Hash of connector, connection and base URL.
    pub destination: u64,
    /// Bytes of a rendered body.
    pub max_body: usize,
    /// The files that bodies may name.
    pub attachments: Attachments,
    /// Whether anybody wants to see keys of single records, or a file keeps them.
    pub keep_keys: bool,
    /// Whether the checkpoint keeps keys, for a later run that has to name what is not in its input any more.
    pub notes_keys: bool,
    /// Whether a request in doubt is asked about: then what it was made of is kept with it.
    pub keep_contexts: bool,
    /// How records share calls, where they do.
    pub batch: Option<BatchRules>,
    /// Whether it is kept what a record sent, so that a later run sends what changed.
    pub keep_content: bool,
}

/// How records share calls.
pub struct BatchRules {
    /// Limits and algorithm.
    pub rules: Rules,
    /// Only records with the same value share a call.
    pub group_by: Option<Leaf>,
    /// Bytes of the whole body.
    pub max_body: usize,
}

/// What one record contributes to a call with several, and with which records it can share one.
#[derive(Debug)]
pub struct Part {
    /// The record.
    pub member: Member,
    /// Method, URL and headers.
    pub head: Draft,
    /// The value of `group_by`, absent without one.
    pub group: Value,
    /// Equal for records that may share a call.
    pub key: u64,
    /// Bytes that it contributes, about.
    pub bytes: usize,
    /// The call that it belongs to since an earlier start.
    pub call: Option<u64>,
    /// Whether the checkpoint has a row of it.
    pub has_row: bool,
}

/// How the idempotency key of a record is made.
pub enum Idempotency {
    /// The endpoint wants none.
    None,
    /// A hash of run, pipeline, target, step, ordinal and generation.
    Hash,
    /// The endpoint says it.
    Value(Box<Leaf>),
}

/// A record after select, schema and key.
pub struct Shaped {
    /// Who it is.
    pub identity: Identity,
    /// Its context for rendering.
    pub context: Context,
}

impl Preparer {
    /// Everything up to the key. `Err` is the outcome of a record that is not sent.
    pub fn shape(&self, record: Record, run: &RunValues) -> Result<Shaped, Box<Settled>> {
        let mut identity = Identity {
            ordinal: record.ordinal,
            place: record.place,
            key: None,
            noted_key: None,
            key_hash: 0,
            order_hash: 0,
            digest: record.digest,
            sends: 0,
        };
        let mut fields = match record.fields {
            Ok(fields) => fields,
            Err(bad) => return Err(settled(identity, State::Invalid, bad.rule, bad.message)),
        };
        self.selection.rename(&mut fields);
        self.selection.retype(&mut fields);
        let value = Arc::new(Value::Object(fields));
        let mut context = self.base.clone();
        context.set_run(RunValues { ordinal: identity.ordinal, ..run.clone() });
        context.set(Root::Record, Arc::clone(&value));
        match self.selection.keeps(&context) {
            Ok(true) => {}
            Ok(false) => return Err(settled(identity, State::Skipped, "where", String::new())),
            Err(error) => return Err(at_fault(identity, error)),
        }
        if let Some(schema) = &self.schema
            && let Err(violations) = schema.check(&value)
        {
            return Err(settled(identity, State::Invalid, "schema", listed(&violations)));
        }
        if let Some(key) = &self.key {
            let mut text = String::new();
            if let Err(mut error) = key.text(&context, &mut text) {
                error.message = format!("the `key` of the pipeline: {}", error.message);
                return Err(at_fault(identity, error));
            }
            if text.is_empty() {
                return Err(settled(
                    identity,
                    State::Invalid,
                    "key-empty",
                    "the `key` of the pipeline is empty here".into(),
                ));
            }
            identity.key_hash = hash(&text);
            if self.keep_keys || self.notes_keys {
                let text = Str::from(text);
                identity.noted_key = self.notes_keys.then(|| text.clone());
                identity.key = self.keep_keys.then_some(text);
            }
        }
        match &self.order_by {
            None => identity.order_hash = identity.key_hash,
            Some(order) => {
                let mut text = String::new();
                if let Err(error) = order.text(&context, &mut text) {
                    return Err(at_fault(identity, error));
                }
                identity.order_hash = hash(&text);
            }
        }
        Ok(Shaped { identity, context })
    }

    /// The columns of the source that a key is made of, for [`Self::key_hash`]: `None` where that may be all. None
    /// of them where no key is wanted.
    pub fn key_columns(&self, is_wanted: bool) -> Option<Arc<[String]>> {
        match self.key.as_ref().filter(|_| is_wanted) {
            None => Some([].into()),
            Some(key) => self.selection.columns_of(key).map(Into::into),
        }
    }

    /// The hash of a record's key without the other checks; `None` when it has none. A cheap look
    /// for the first pass: types are given to cells only where the key can tell.
    pub fn key_hash(&self, record: Record, run: &RunValues) -> Option<u64> {
        self.key_text(record, run).map(|text| hash(&text))
    }

    /// The key of a record as it is; `None` when it has none.
    pub fn key_text(&self, record: Record, run: &RunValues) -> Option<String> {
        let key = self.key.as_ref()?;
        let mut fields = record.fields.ok()?;
        self.selection.rename(&mut fields);
        if !key.is_plain_path() {
            self.selection.retype(&mut fields);
        }
        let mut context = self.base.clone();
        context.set_run(RunValues { ordinal: record.ordinal, ..run.clone() });
        context.set(Root::Record, Arc::new(Value::Object(fields)));
        let mut text = String::new();
        key.text(&context, &mut text).ok()?;
        (!text.is_empty()).then_some(text)
    }

    /// The first request of a shaped record: of it alone, also where records share calls.
    pub fn request(&self, shaped: &mut Shaped, run: &RunValues, generation: u32) -> Result<Request, Refused> {
        if self.batch.is_some() {
            let draft = self.steps.first().draft(&mut shaped.context)?;
            let part = self.part(draft, shaped, None)?;
            let call = Call {
                number: 0,
                members: vec![part.member],
                head: part.head,
                group: part.group,
                is_stale: false,
            };
            return self.together(&call, run);
        }
        match self.request_after(shaped, run, generation, &Passed::default()) {
            Ok(Some(next)) => Ok(next.request),
            Ok(None) => Err(Refused::NoStep),
            Err(stuck) => Err(stuck.refused.of_step(&self.steps.of(stuck.step).id)),
        }
    }

    /// The next request of a shaped record that has passed some of its steps; `None` when no step is left
    /// for it.
    pub fn request_after(
        &self,
        shaped: &mut Shaped,
        run: &RunValues,
        generation: u32,
        passed: &Passed,
    ) -> Result<Option<Next>, Box<Stuck>> {
        self.next(&mut shaped.context, run, shaped.identity.ordinal, generation, passed)
    }

    /// What a shaped record contributes to a call with several; `known` is its row from an earlier start.
    pub fn part_of(&self, shaped: &mut Shaped, known: Option<&RecordRow>) -> Result<Part, Refused> {
        let draft = self.steps.first().draft(&mut shaped.context)?;
        self.part(draft, shaped, known)
    }

    fn part(&self, mut head: Draft, shaped: &Shaped, known: Option<&RecordRow>) -> Result<Part, Refused> {
        let (item, bytes) = head.take_item()?;
        let limit = self.batch.as_ref().map_or(usize::MAX, |batch| batch.rules.bytes);
        if bytes > limit {
            return Err(Refused::Body(format!(
                "it contributes {bytes} bytes, more than a call may have (`batch.max_bytes: {limit}`)"
            )));
        }
        let group = match self.batch.as_ref().and_then(|batch| batch.group_by.as_ref()) {
            None => Value::Absent,
            Some(leaf) => leaf.value(&shaped.context)?,
        };
        let key = match &group {
            Value::Absent => head.head_digest(),
            group => head.head_digest() ^ hash(&group.to_json()).rotate_left(1),
        };
        // A refusal means something else for what may have arrived before: such records have calls of their own.
        let key = if known.is_some_and(|row| row.unknown) { !key } else { key };
        let member = Member {
            identity: shaped.identity.clone(),
            item,
            made: known.map_or(0, |row| row.attempts),
            unknown: known.is_some_and(|row| row.unknown),
            first_at: known.filter(|row| row.unknown).map_or(0, |row| row.first_at),
            generation: known.map_or(0, |row| row.generation),
            block: 0,
        };
        Ok(Part { member, head, group, key, bytes, call: None, has_row: known.is_some() })
    }

    /// The request of a call with several records.
    pub fn together(&self, call: &Call, run: &RunValues) -> Result<Request, Refused> {
        // Numbers of calls are no positions: `uuid()` around the items is none of theirs.
        let number = call.number | 1 << 63;
        let mut context = self.base.clone();
        context.set_run(RunValues { ordinal: number, ..run.clone() });
        let items: Vec<&Value> = call.members.iter().map(|member| &member.item).collect();
        let draft =
            self.steps.first().template.together(&call.head, &items, call.group.clone(), &mut context)?;
        let key = match &self.steps.first().idempotency {
            Idempotency::Hash => Some(self.idempotency_key(run, number, 0)),
            Idempotency::None | Idempotency::Value(_) => None,
        };
        let max = self.batch.as_ref().map_or(self.max_body, |batch| batch.max_body);
        Ok(draft.finish(key.as_deref(), max)?)
    }

    /// Another hash of a record's key, to tell two keys with one hash apart.
    pub fn second_key_hash(&self, shaped: &Shaped) -> Option<u64> {
        let mut text = String::new();
        self.key.as_ref()?.text(&shaped.context, &mut text).ok()?;
        Some(xxhash_rust::xxh3::xxh3_64_with_seed(text.as_bytes(), 1))
    }

    /// Ruling 11: a hash of run, pipeline, target, step, ordinal and generation, so that it is the
    /// same on every automatic attempt in every process.
    pub(super) fn idempotency_key(&self, run: &RunValues, ordinal: u64, generation: u32) -> String {
        use sha2::Digest as _;
        let mut hasher = sha2::Sha256::new();
        for part in [&*run.id, &*self.pipeline, &*self.target] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.update(run.step.to_le_bytes());
        hasher.update(ordinal.to_le_bytes());
        hasher.update(generation.to_le_bytes());
        hex(&hasher.finalize()[..16])
    }
}

/// A key that is personal data, as it may be shown.
#[must_use]
pub fn hidden(key: &str) -> String {
    format!("#{:08x}", hash(key) >> 32)
}

/// The hash under which keys are compared; never 0, which means "no key".
#[must_use]
pub fn hash(text: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(text.as_bytes()).max(1)
}

/// Why a record has no request.
#[derive(Debug)]
pub enum Refused {
    /// It cannot be rendered.
    Render(Box<RenderError>),
    /// Its body breaks the endpoint's schema.
    Body(String),
    /// None of its steps is for it.
    NoStep,
}

impl From<RenderError> for Refused {
    fn from(error: RenderError) -> Self {
        Self::Render(Box::new(error))
    }
}

impl Refused {
    /// The same, said of a step; empty for the only call.
    #[must_use]
    pub fn of_step(self, id: &str) -> Self {
        match self {
            Self::Render(mut error) => {
                error.message = said_of(id, error.message);
                Self::Render(error)
            }
            Self::Body(violations) => Self::Body(said_of(id, violations)),
            Self::NoStep => Self::NoStep,
        }
    }

    /// Class and message of a refusal that is no single record's.
    #[must_use]
    pub fn words(self) -> (String, String) {
        match self {
            Self::Render(error) => {
                let class = error.class().into_owned();
                let message = error.notes.iter().fold(error.message, |text, note| format!("{text}; {note}"));
                (class, format!("{message} ({})", error.place))
            }
            Self::Body(violations) => ("body-schema".into(), violations),
            Self::NoStep => ("when".into(), NO_STEP.into()),
        }
    }

    /// The outcome of the record.
    #[must_use]
    pub fn settle(self, identity: Identity) -> Box<Settled> {
        match self {
            Self::Render(error) => at_fault(identity, *error),
            Self::Body(violations) => settled(identity, State::Invalid, "body-schema", violations),
            Self::NoStep => settled(identity, State::Skipped, "when", NO_STEP.into()),
        }
    }
}

/// A message about one of several calls names it.
#[must_use]
pub fn said_of(step: &str, message: String) -> String {
    if step.is_empty() || message.is_empty() { message } else { format!("step {step}: {message}") }
}

/// What is said of a record that no step is for.
pub const NO_STEP: &str = "no step is for it";

/// The outcome of a record that is not sent.
#[must_use]
pub fn settled(identity: Identity, state: State, class: &str, message: String) -> Box<Settled> {
    Box::new(Settled {
        identity,
        outcome: Outcome {
            state,
            status: 0,
            class: class.into(),
            message,
            attempts: 0,
            captures: Value::Absent,
        },
        known: None,
    })
}

fn at_fault(identity: Identity, error: RenderError) -> Box<Settled> {
    let class = error.class().into_owned();
    let mut message = error.message;
    for note in &error.notes {
        message.push_str("; ");
        message.push_str(note);
    }
    settled(identity, State::Invalid, &class, format!("{message} ({})", error.place))
}

/// All violations in one line: `/email is not an e-mail address; /phone is longer than …`.
pub(super) fn listed(violations: &[Violation]) -> String {
    let parts: Vec<String> = violations
        .iter()
        .map(|violation| {
            let pointer = if violation.pointer.is_empty() { "/" } else { &violation.pointer };
            format!("{pointer} {}", violation.message)
        })
        .collect();
    parts.join("; ")
}
