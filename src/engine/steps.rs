//! The calls of a record in their order: which is next, and what it may read of those before it.
//!
//! Pure, but for the files that a body names (`attach`). What a call brought is kept as one flat object, in memory as in the checkpoint: under a step's
//! name the status of its reply, under `STEP.NAME` what was captured of it, under `@` the name of the step
//! that is under way. So what is durable is exactly
//! what later calls can read, and a record goes on after a crash with the bytes that it would have had.
//! Invariant: a step whose name is in there is never sent again by itself.

use std::sync::Arc;

use crate::config::RecordLimits;
use crate::model::{Map, Number, Request, Str, Value};
use crate::outcome::{MOST_CONTENT, RecordRow};
use crate::render::{Context, Draft, Leaf, RenderError, RequestTemplate, Root, RunValues};
use crate::schema::Schema;
use crate::source::parse_json;

use super::prepare::{Idempotency, Preparer, Refused, Shaped, hash, listed};
use super::stand_in::SANDBOX;
use super::survey::chain;

/// One call of a record, compiled.
pub struct StepTemplate {
    /// Its name; empty where a record has one call.
    pub id: Str,
    /// What has to be true, or false, of a record for it.
    pub when: Option<(Leaf, bool)>,
    /// Whether it changes nothing over there.
    pub only_looks: bool,
    /// The request.
    pub template: RequestTemplate,
    /// Schema of bodies.
    pub body_schema: Option<Schema>,
    /// The idempotency key, when the endpoint wants one.
    pub idempotency: Idempotency,
    /// Names of what is captured of its reply.
    pub captures: Arc<[String]>,
}

/// What the calls of a record brought so far, and at which it stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Passed {
    brought: Map,
    /// The name of the call that is or was under way; empty where there was none.
    at: Str,
}

/// At most so many bytes of captures are kept of one record.
const MOST_CAPTURED: usize = 4096;
/// The name under which the call stands that is under way: no step can have it.
const AT: &str = "@";

impl Passed {
    /// What a row of the checkpoint says; `None` when it cannot be read.
    #[must_use]
    pub fn of(row: Option<&RecordRow>) -> Option<Self> {
        let text = row.map_or("", |row| row.captures.as_str());
        if text.is_empty() {
            return Some(Self::default());
        }
        // It is as deep as a reply may be and one level more, and never longer than what is kept of one.
        let limits = RecordLimits { depth: 2 * MOST_CAPTURED, ..RecordLimits::default() };
        let Ok(Value::Object(mut brought)) = parse_json(text.as_bytes(), &limits) else { return None };
        let at = brought.remove(AT).and_then(|at| at.as_str().map(Str::from)).unwrap_or_default();
        Some(Self { brought, at })
    }

    /// Whether this step was delivered.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.brought.get(id).is_some()
    }

    /// Whether no step was delivered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.brought.is_empty()
    }

    /// The names of the steps that were delivered.
    fn names(&self) -> impl Iterator<Item = &str> {
        // A name has no dot; what was captured has one behind the name.
        self.brought.names().filter(|name| !name.contains('.'))
    }

    /// The call that is or was under way.
    #[must_use]
    pub fn at(&self) -> &str {
        &self.at
    }

    /// A call is under way; none, for an empty name.
    pub fn stand_at(&mut self, id: &str) {
        if *self.at != *id {
            self.at = id.into();
        }
    }

    /// The same of a record that stands at no call.
    #[must_use]
    pub fn without_place(&self) -> Self {
        Self { at: "".into(), ..self.clone() }
    }

    /// A step was delivered.
    ///
    /// # Errors
    /// What its reply brought is more than is kept of a record: then nothing of it is.
    pub fn add(&mut self, id: &str, status: u16, captures: &Value) -> Result<(), usize> {
        let before = self.brought.len();
        self.brought.push(id, Value::Number(Number::from(u64::from(status))));
        if let Value::Object(captures) = captures {
            for (name, value) in captures {
                self.brought.push(format!("{id}.{name}"), value.clone());
            }
        }
        let bytes = self.text().len();
        if bytes <= MOST_CAPTURED || self.brought.len() == before + 1 {
            return Ok(());
        }
        let kept = self.brought.iter().take(before + 1).cloned().collect();
        self.brought = kept;
        Err(bytes)
    }

    /// A person says what the reply to a step that was delivered should have brought.
    pub fn say(&mut self, id: &str, name: &str, value: &str) {
        let name = format!("{id}.{name}");
        self.brought.remove(&name);
        self.brought.push(name, Value::text(value));
    }

    /// A step is to be made again.
    pub fn forget(&mut self, id: &str) {
        let of_it = format!("{id}.");
        let kept = self.brought.iter().filter(|(name, _)| **name != *id && !name.starts_with(&of_it));
        self.brought = kept.cloned().collect();
    }

    /// What people are told: captures under `STEP.NAME`, statuses under `STEP`.
    #[must_use]
    pub fn to_value(&self) -> Value {
        if self.brought.is_empty() { Value::Absent } else { Value::Object(self.brought.clone()) }
    }

    /// The same as the checkpoint has it, with the call that is under way: JSON.
    #[must_use]
    pub fn text(&self) -> String {
        let mut all = Map::with_capacity(self.brought.len() + 1);
        if !self.at.is_empty() {
            all.push(AT, Value::String(Str::clone(&self.at)));
        }
        all.extend(self.brought.iter().cloned());
        if all.is_empty() { String::new() } else { Value::Object(all).to_json() }
    }

    /// What expressions read as `steps`: of each step before this one its captures and its status.
    fn steps<'s>(&self, steps: impl Iterator<Item = &'s StepTemplate>) -> Value {
        let mut all = Map::new();
        for step in steps {
            let status = self.brought.get(&step.id);
            let mut captures = Map::new();
            for name in step.captures.iter() {
                if let Some(value) = self.brought.get(&format!("{}.{name}", step.id)) {
                    captures.push(name.as_str(), value.clone());
                }
            }
            let mut one = Map::with_capacity(3);
            one.push("captures", Value::Object(captures));
            one.push("status", status.cloned().unwrap_or(Value::Null));
            one.push("skipped", Value::Bool(status.is_none()));
            all.push(Str::clone(&step.id), Value::Object(one));
        }
        Value::Object(all)
    }
}

/// Why a record has no next call.
#[derive(Debug)]
pub struct Stuck {
    /// The step that cannot be made.
    pub step: usize,
    /// Why.
    pub refused: Refused,
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

impl Preparer {
    /// Whether the calls of a record have names, as it has or may have several.
    #[must_use]
    pub fn has_steps(&self) -> bool {
        !self.steps.first().id.is_empty()
    }

    /// What a row says of the record's calls, made fit for going on with it: a look that led to nothing yet
    /// is old. `None` when it speaks of calls that the pipeline does not have.
    #[must_use]
    pub fn passed(&self, row: Option<&RecordRow>) -> Option<Passed> {
        if !self.has_steps() {
            // Of a record with one call nothing is kept while it is open.
            return row.is_none_or(|row| row.captures.is_empty()).then(Passed::default);
        }
        let mut passed = Passed::of(row)?;
        let knows = |name: &str| self.steps.iter().any(|step| *step.id == *name);
        if !passed.names().all(knows) || !passed.at.is_empty() && !knows(&passed.at) {
            return None;
        }
        // One that was sent by a pipeline without steps.
        if row.is_some_and(|row| row.unknown && passed.at.is_empty()) {
            return None;
        }
        // What was sent goes out again as it was; anything else by what is there now.
        let is_bound = row.is_some_and(|row| row.unknown && row.request != 0);
        let wrote = self.wrote(&passed);
        for step in self.steps.iter().filter(|step| step.only_looks && !is_bound && !wrote) {
            passed.forget(&step.id);
        }
        Some(passed)
    }

    /// Whether one of the steps that were delivered changed something over there.
    #[must_use]
    pub fn wrote(&self, passed: &Passed) -> bool {
        self.steps.iter().any(|step| !step.only_looks && passed.has(&step.id))
    }

    /// The position of the step at which a row says that its record stands; `None` for one that the
    /// pipeline does not have.
    #[must_use]
    pub fn step_of(&self, row: &RecordRow) -> Option<usize> {
        if !self.has_steps() {
            return row.captures.is_empty().then_some(0);
        }
        let at = Passed::of(Some(row))?.at;
        self.steps.iter().position(|step| step.id == at)
    }

    /// The next call of a record after those that it has passed; `None` when no step is left for it.
    ///
    /// # Errors
    /// The step that cannot be made, and why.
    pub fn next(
        &self,
        context: &mut Context,
        run: &RunValues,
        ordinal: u64,
        generation: u32,
        passed: &Passed,
    ) -> Result<Option<Next>, Box<Stuck>> {
        if !self.has_steps() {
            let request = self.call(self.steps.first(), context, run, ordinal, generation);
            return request
                .map(|request| Some(Next { step: 0, request }))
                .map_err(|refused| Box::new(Stuck { step: 0, refused }));
        }
        let open = self.steps.iter().rposition(|step| passed.has(&step.id)).map_or(0, |last| last + 1);
        for (at, step) in self.steps.iter().enumerate().skip(open) {
            let run = self.enter(context, run, ordinal, at, passed);
            match step.is_for(context) {
                Ok(false) => {}
                Ok(true) => {
                    let request = self.call(step, context, &run, ordinal, generation);
                    return request
                        .map(|request| Some(Next { step: at, request }))
                        .map_err(|refused| Box::new(Stuck { step: at, refused }));
                }
                Err(error) => return Err(Box::new(Stuck { step: at, refused: error.into() })),
            }
        }
        Ok(None)
    }

    /// Sets what the expressions of a step can read; gives the values of the run for it.
    fn enter(
        &self,
        context: &mut Context,
        run: &RunValues,
        ordinal: u64,
        at: usize,
        passed: &Passed,
    ) -> RunValues {
        let run = RunValues { step: u32::try_from(at).unwrap_or(u32::MAX), ordinal, ..run.clone() };
        context.set_run(run.clone());
        context.set(Root::Steps, Arc::new(passed.steps(self.steps.iter().take(at))));
        run
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
                let run = self.enter(context, run, ordinal, at, &marked);
                let is_certain = match &step.when {
                    None => true,
                    // A condition over a mark is no condition yet.
                    Some((when, _)) if when.reads().any(|path| path.starts_with("steps")) => false,
                    Some(_) => match step.is_for(context) {
                        Ok(false) => continue,
                        Ok(true) => true,
                        Err(_) => false,
                    },
                };
                let request = self.call(step, context, &run, ordinal, 0).map_err(|refused| refused.words().1);
                found.push(Ahead { id: Str::clone(&step.id), is_certain, request });
            }
            if at >= after.step {
                let mut captures = Map::new();
                for name in step.captures.iter() {
                    captures.push(name.as_str(), Value::text(format!("__{}.{name}__", step.id)));
                }
                // Marks are short.
                let _ = marked.add(&step.id, 200, &Value::Object(captures));
            }
        }
        found
    }

    /// A digest of all that a record sends, whatever run it belongs to and wherever it stands: equal
    /// digests mean that nothing new would be sent. Never 0, at most [`MOST_CONTENT`].
    #[must_use]
    pub fn content(&self, shaped: &Shaped) -> u64 {
        let run = RunValues { pipeline: Str::clone(&self.pipeline), ..RunValues::of_nobody() };
        let mut shaped = Shaped { identity: shaped.identity.clone(), context: shaped.context.clone() };
        shaped.identity.ordinal = 0;
        shaped.context.set_run(run.clone());
        let digest_of = |mut request: Request| {
            if *self.target == *SANDBOX {
                // It listens on another port each time, and is the same far side.
                let _ = request.url.set_port(None);
            }
            request.digest()
        };
        // The same at another place, or with another account, is not the same.
        let mut digest = self.destination;
        if self.batch.is_some() {
            if let Ok(request) = self.request(&mut shaped, &run, 0) {
                digest = chain(digest, digest_of(request));
            }
            return digest.clamp(1, MOST_CONTENT);
        }
        let passed = Passed::default();
        if let Ok(Some(next)) = self.request_after(&mut shaped, &run, 0, &passed) {
            let ahead = self.ahead(&mut shaped.context, &run, 0, &next, &passed);
            digest = chain(chain(digest, next.step as u64), digest_of(next.request));
            for ahead in ahead {
                digest = chain(digest, hash(&ahead.id));
                digest = chain(digest, ahead.request.map_or(0, digest_of));
            }
        }
        digest.clamp(1, MOST_CONTENT)
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
        let mut request = draft.finish(key.as_deref(), self.max_body)?;
        self.attachments.attach(&mut request)?;
        Ok(request)
    }
}

impl StepTemplate {
    /// Whether it is for the record of this context.
    fn is_for(&self, context: &Context) -> Result<bool, RenderError> {
        match &self.when {
            None => Ok(true),
            Some((when, wanted)) => Ok(when.truth(context)? == *wanted),
        }
    }

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

    /// That of a call under way.
    pub fn of(&self, step: usize) -> &T {
        // Whoever has a call has its step from here.
        self.0.get(step).unwrap_or_else(|| self.first())
    }

    /// That of a call that a row speaks of.
    pub fn get(&self, step: usize) -> Option<&T> {
        self.0.get(step)
    }

    /// All in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }
}
