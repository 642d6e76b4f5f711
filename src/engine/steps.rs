//! The calls of a record in their order: which is next, and what it may read of those before it.
//!
//! Pure. What a call brought is kept as one flat object, in memory as in the checkpoint: under a step's
//! name the status of its reply, under `STEP.NAME` what was captured of it. So what is durable is exactly
//! what later calls can read, and a record goes on after a crash with the bytes that it would have had.
//! Invariant: a step whose name is in there is never sent again by itself.

use std::sync::Arc;

use crate::config::RecordLimits;
use crate::model::{Map, Number, Request, Str, Value};
use crate::outcome::RecordRow;
use crate::render::{Context, Draft, Leaf, RequestTemplate, Root, RunValues};
use crate::schema::Schema;
use crate::source::parse_json;

use super::prepare::{Idempotency, Preparer, Refused, Shaped, hash, listed};
use super::survey::chain;

/// One call of a record, compiled.
pub struct StepTemplate {
    /// Its name; empty where a record has one call.
    pub id: Str,
    /// A record for which this is false leaves it out.
    pub when: Option<Leaf>,
    /// The request.
    pub template: RequestTemplate,
    /// Schema of bodies.
    pub body_schema: Option<Schema>,
    /// The idempotency key, when the endpoint wants one.
    pub idempotency: Idempotency,
    /// Names of what is captured of its reply.
    pub captures: Arc<[String]>,
}

/// What the calls of a record brought so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Passed(Map);

/// At most so many bytes of captures are kept of one record.
const MOST_CAPTURED: usize = 4096;

impl Passed {
    /// What a row of the checkpoint says.
    #[must_use]
    pub fn of(row: Option<&RecordRow>) -> Self {
        let text = row.map_or("", |row| row.captures.as_str());
        match parse_json(text.as_bytes(), &RecordLimits::default()) {
            Ok(Value::Object(map)) => Self(map),
            _ => Self::default(),
        }
    }

    /// Whether this step was delivered.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.0.get(id).is_some()
    }

    /// Whether no step was delivered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A step was delivered. Captures that are more than is kept of a record are left out: a later step
    /// that needs them says so.
    pub fn add(&mut self, id: &str, status: u16, captures: &Value) {
        let mut with = self.0.clone();
        if let Value::Object(captures) = captures {
            for (name, value) in captures {
                with.push(format!("{id}.{name}"), value.clone());
            }
        }
        if Value::Object(with.clone()).to_json().len() <= MOST_CAPTURED {
            self.0 = with;
        }
        self.0.push(id, Value::Number(Number::from(u64::from(status))));
    }

    /// As it is kept.
    #[must_use]
    pub fn to_value(&self) -> Value {
        if self.0.is_empty() { Value::Absent } else { Value::Object(self.0.clone()) }
    }

    /// The same as the checkpoint has it: JSON, empty for nothing.
    #[must_use]
    pub fn text(&self) -> String {
        if self.0.is_empty() { String::new() } else { self.to_value().to_json() }
    }

    /// What expressions read as `steps`: of each step before this one its captures and its status.
    fn steps<'s>(&self, steps: impl Iterator<Item = &'s StepTemplate>) -> Value {
        let mut all = Map::new();
        for step in steps {
            let status = self.0.get(&step.id);
            let mut captures = Map::new();
            for name in step.captures.iter() {
                if let Some(value) = self.0.get(&format!("{}.{name}", step.id)) {
                    captures.push(name.as_str(), value.clone());
                }
            }
            let mut one = Map::with_capacity(3);
            one.push("captures", Value::Object(captures));
            one.push("status", status.cloned().unwrap_or(Value::Null));
            one.push("skipped", Value::Bool(status.is_none()));
            all.push(Arc::clone(&step.id), Value::Object(one));
        }
        Value::Object(all)
    }
}

/// A call of a record.
#[derive(Debug)]
pub struct Next {
    /// Which of its steps, from 0.
    pub step: usize,
    /// The request.
    pub request: Request,
}

/// A call that may follow.
#[derive(Debug)]
pub struct Ahead {
    /// The step's name.
    pub id: Str,
    /// Whether it follows whatever the replies bring.
    pub is_certain: bool,
    /// The request with marks, or why it cannot be told yet.
    pub request: Result<Request, String>,
}

impl Next {
    /// The step as a row keeps it.
    #[must_use]
    pub fn step_number(&self) -> u8 {
        u8::try_from(self.step).unwrap_or(u8::MAX)
    }
}

impl Preparer {
    /// Whether the calls of a record have names, as it has or may have several.
    #[must_use]
    pub fn has_steps(&self) -> bool {
        !self.steps.first().id.is_empty()
    }

    /// The step at which a record stands that has passed these; beyond the last when it has passed that.
    /// It may still be left out by its `when`.
    #[must_use]
    pub fn open_step(&self, passed: &Passed) -> usize {
        self.steps.iter().rposition(|step| passed.has(&step.id)).map_or(0, |last| last + 1)
    }

    /// The next call of a record after those that it has passed.
    ///
    /// # Errors
    /// Why it has none: it cannot be rendered, its body breaks the schema, or no step is left for it.
    pub fn next(
        &self,
        context: &mut Context,
        run: &RunValues,
        ordinal: u64,
        generation: u32,
        passed: &Passed,
    ) -> Result<Next, Refused> {
        let has_steps = self.has_steps();
        let open = if has_steps { self.open_step(passed) } else { 0 };
        for (at, step) in self.steps.iter().enumerate().skip(open) {
            let run = RunValues { step: u32::try_from(at).unwrap_or(u32::MAX), ..run.clone() };
            if has_steps {
                context.set_run(RunValues { ordinal, ..run.clone() });
                context.set(Root::Steps, Arc::new(passed.steps(self.steps.iter().take(at))));
            }
            let is_wanted = step.when.as_ref().map_or(Ok(true), |when| when.truth(context));
            let request = match is_wanted {
                Ok(false) => continue,
                Ok(true) => self.call(step, context, &run, ordinal, generation),
                Err(error) => Err(error.into()),
            };
            return match request {
                Ok(request) => Ok(Next { step: at, request }),
                Err(refused) if has_steps => Err(refused.of_step(&step.id)),
                Err(refused) => Err(refused),
            };
        }
        Err(Refused::NoStep)
    }

    /// The calls after one, for somebody who looks ahead: what their replies will bring is not known, so a
    /// mark stands in place of each capture. Those that are left out for certain are not among them.
    #[must_use]
    pub fn ahead(
        &self,
        context: &mut Context,
        run: &RunValues,
        ordinal: u64,
        after: &Next,
        passed: &Passed,
    ) -> Vec<Ahead> {
        let mut marked = passed.clone();
        let mut found = Vec::new();
        for (at, step) in self.steps.iter().enumerate() {
            if at > after.step {
                let run = RunValues { step: u32::try_from(at).unwrap_or(u32::MAX), ..run.clone() };
                context.set_run(RunValues { ordinal, ..run.clone() });
                context.set(Root::Steps, Arc::new(marked.steps(self.steps.iter().take(at))));
                let is_certain = match &step.when {
                    None => true,
                    // A condition over a mark is no condition yet.
                    Some(when) if when.reads().any(|path| path.starts_with("steps")) => false,
                    Some(when) => match when.truth(context) {
                        Ok(false) => continue,
                        Ok(true) => true,
                        Err(_) => false,
                    },
                };
                let request = self.call(step, context, &run, ordinal, 0).map_err(|refused| refused.words().1);
                found.push(Ahead { id: Arc::clone(&step.id), is_certain, request });
            }
            if at >= after.step {
                let mut captures = Map::new();
                for name in step.captures.iter() {
                    captures.push(name.as_str(), Value::text(format!("__{}.{name}__", step.id)));
                }
                marked.add(&step.id, 200, &Value::Object(captures));
            }
        }
        found
    }

    /// A digest of all that a record sends, whatever run it belongs to and wherever it stands: equal
    /// digests mean that nothing new would be sent. Never 0.
    #[must_use]
    pub fn content(&self, shaped: &Shaped) -> u64 {
        let run = RunValues { pipeline: Arc::clone(&self.pipeline), ..RunValues::of_nobody() };
        let mut shaped = Shaped { identity: shaped.identity.clone(), context: shaped.context.clone() };
        shaped.identity.ordinal = 0;
        shaped.context.set_run(run.clone());
        let mut digest = 0;
        if self.batch.is_some() {
            if let Ok(request) = self.request(&mut shaped, &run, 0) {
                digest = chain(digest, request.digest());
            }
            return digest.max(1);
        }
        let passed = Passed::default();
        if let Ok(next) = self.request_after(&mut shaped, &run, 0, &passed) {
            digest = chain(chain(digest, next.step as u64), next.request.digest());
            for ahead in self.ahead(&mut shaped.context, &run, 0, &next, &passed) {
                digest = chain(digest, hash(&ahead.id));
                digest = chain(digest, ahead.request.map_or(0, |request| request.digest()));
            }
        }
        digest.max(1)
    }

    /// One call of a record.
    fn call(
        &self,
        step: &StepTemplate,
        context: &mut Context,
        run: &RunValues,
        ordinal: u64,
        generation: u32,
    ) -> Result<Request, Refused> {
        let draft = step.draft(context)?;
        let key = match &step.idempotency {
            Idempotency::None => None,
            Idempotency::Hash => Some(self.idempotency_key(run, ordinal, generation)),
            Idempotency::Value(leaf) => {
                let mut text = String::new();
                leaf.text(context, &mut text)?;
                Some(text)
            }
        };
        Ok(draft.finish(key.as_deref(), self.max_body)?)
    }
}

impl StepTemplate {
    /// The request of a record, without its key.
    pub fn draft(&self, context: &mut Context) -> Result<Draft, Refused> {
        let draft = self.template.render(context)?;
        if let (Some(schema), Some(body)) = (&self.body_schema, draft.body())
            && let Err(violations) = schema.check(body)
        {
            return Err(Refused::Body(listed(&violations)));
        }
        Ok(draft)
    }
}

/// One thing for each call of a record: there is at least one.
pub struct PerStep<T>(Vec<T>);

impl<T> PerStep<T> {
    /// All in their order; `None` for none.
    pub fn new(all: Vec<T>) -> Option<Self> {
        (!all.is_empty()).then_some(Self(all))
    }

    /// That of the first call, or of the only one.
    pub fn first(&self) -> &T {
        // `new` takes no empty list.
        &self.0[0]
    }

    /// That of a call; beyond the last, of the last.
    pub fn of(&self, step: usize) -> &T {
        self.0.get(step).or_else(|| self.0.last()).unwrap_or_else(|| self.first())
    }

    /// All in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }
}
