//! The calls that a pipeline makes of one record: one, several in order (`steps:`), or a look that
//! decides between two (`find:`).
//!
//! All three are brought into one shape here, so that nothing behind this file knows how they were
//! written: `find`, `create` and `update` are three steps with conditions. Invariant: there is at
//! least one call, and the names of steps are different and can stand in `steps.NAME`.

use super::batch::RawBatch;
use super::delivery::Doubt;
use super::endpoint::Nulls;
use super::pipeline::RawPipeline;
use super::raw::{Entries, Needed, raw};
use super::read::Node;
use super::values::Method;
use super::{Condition, Content, Endpoint, Idempotency, OutcomeRule, StatusMatch, Template, Then, Tree};
use crate::model::{Diagnostic, Place, Placed, Problems};

raw! {
    /// One of several calls of a record.
    RawStep, "a step" {
        /// Its name: later steps read `steps.NAME.captures`.
        id: Option<Placed<String>>,
        /// The template, such as `freshchat/create-user`, or an endpoint in place.
        #[schemars(with = "crate::config::published::NameOr<crate::config::endpoint::RawEndpoint>")]
        endpoint: Needed<Node>,
        /// A record for which this is false leaves the step out.
        when: Option<Placed<String>>,
        /// Binds the endpoint's parameters; by default a field of the same name.
        params: Entries<Tree>,
        /// Headers beside the endpoint's.
        headers: Entries<Placed<String>>,
        /// The method instead of the endpoint's.
        method: Option<Placed<Method>>,
        /// What the body is, instead of what the endpoint says.
        content: Option<Content>,
        /// The body instead of the endpoint's.
        body: Option<Tree>,
        /// What becomes of null values in the body.
        nulls: Option<Nulls>,
        /// What to keep of its reply, beside the endpoint's: `steps.ID.captures.NAME`.
        captures: Entries<Placed<String>>,
        /// What happens when it may have arrived, instead of what `delivery` says.
        in_doubt: Option<Placed<Doubt>>,
    }
    wrong {
        "name" => "it is written `id: NAME`",
        "if" => "it is written `when: EXPRESSION`",
        "batch" => "a call with several records cannot be a step",
        "connection" => "all steps use the pipeline's connection",
    }
}

raw! {
    /// Looks whether a record is there, before it is created or updated.
    RawFind, "`find`" {
        /// The call that looks: a template, or an endpoint in place.
        #[schemars(with = "crate::config::published::NameOr<crate::config::endpoint::RawEndpoint>")]
        endpoint: Needed<Node>,
        /// Binds the endpoint's parameters; by default a field of the same name.
        params: Entries<Tree>,
        /// Headers beside the endpoint's.
        headers: Entries<Placed<String>>,
        /// The body, where the look needs one.
        body: Option<Tree>,
        /// Over `response`: true when it is there. Any reply but a 404 means so unless said.
        exists: Option<Placed<String>>,
        /// What to keep of the reply: `steps.find.captures.NAME`.
        captures: Entries<Placed<String>>,
    }
    wrong {
        "request" => "it is written `endpoint: { method: GET, path: …, query: … }`",
        "when" => "it is written `exists: EXPRESSION`",
    }
}

/// At most so many steps: their names and captures are kept for every record that is under way.
const MOST_STEPS: usize = 16;

/// The name of the look in `find:`, and of the capture that tells what it found.
const FIND: &str = "find";
const EXISTS: &str = "exists";

/// One call as it is written, in the shape that all three ways share.
pub(super) struct Written<'r> {
    /// Its name among the steps; empty where there is one call.
    pub(super) id: String,
    /// Where that is said.
    pub(super) place: Place,
    pub(super) endpoint: &'r Node,
    pub(super) when: Option<Condition>,
    pub(super) params: &'r Entries<Tree>,
    pub(super) headers: &'r Entries<Placed<String>>,
    pub(super) method: Option<&'r Placed<Method>>,
    pub(super) content: Option<Content>,
    pub(super) body: Option<&'r Tree>,
    pub(super) nulls: Option<Nulls>,
    pub(super) batch: Option<&'r RawBatch>,
    pub(super) captures: Vec<(Placed<String>, Template)>,
    pub(super) in_doubt: Option<&'r Placed<Doubt>>,
    /// It changes nothing over there.
    pub(super) only_looks: bool,
    /// Whether it is said what the reply to a look means.
    pub(super) exists_is_said: bool,
}

impl<'r> Written<'r> {
    fn step(id: String, place: Place, raw: &'r RawStep) -> Option<Self> {
        Some(Self {
            id,
            place,
            endpoint: raw.endpoint.0.as_ref()?,
            when: raw.when.clone().map(|value| Condition { value, is: true }),
            params: &raw.params,
            headers: &raw.headers,
            method: raw.method.as_ref(),
            content: raw.content,
            body: raw.body.as_ref(),
            nulls: raw.nulls,
            batch: None,
            captures: raw.captures.0.clone(),
            in_doubt: raw.in_doubt.as_ref(),
            only_looks: false,
            exists_is_said: false,
        })
    }

    /// The rule that the look needs: nothing found is an answer, not a refusal. At a path that names no
    /// record a 404 says something of the endpoint.
    pub(super) fn rule(&self, path: &str) -> Option<OutcomeRule> {
        (self.only_looks && path.contains("{{")).then(|| OutcomeRule {
            statuses: vec![StatusMatch::Exactly(404)],
            when: None,
            then: Then::Delivered,
            wait: None,
            class: None,
            message: None,
            after_unknown: false,
            place: self.place.clone(),
        })
    }
}

/// The calls of a pipeline in their order, or what is wrong with how they are written.
pub(super) fn written<'r>(raw: &'r RawPipeline, problems: &mut Problems) -> Vec<Written<'r>> {
    match (&raw.endpoint, raw.steps.is_empty(), &raw.find) {
        (Some(_), true, None) => {
            without_find(raw, problems);
            one(raw).into_iter().collect()
        }
        (None, false, None) => {
            without_find(raw, problems);
            several(raw, problems)
        }
        (None, true, Some(find)) => upsert(raw, find, problems),
        (None, true, None) => {
            problems.push(
                Diagnostic::error("missing-key", "a pipeline needs `endpoint`").place(&raw.place).help(
                    "or `steps` for several calls of each record, or `find` with `create` and `update`",
                ),
            );
            Vec::new()
        }
        _ => {
            problems.push(
                Diagnostic::error("steps-mixed", "a pipeline has one of `endpoint`, `steps` and `find`")
                    .place(&raw.place)
                    .help("several calls of a record are `steps`; a look that decides is `find`, with `create` and `update`"),
            );
            Vec::new()
        }
    }
}

/// Nothing decides about `create` and `update`.
fn without_find(raw: &RawPipeline, problems: &mut Problems) {
    for (step, name) in [(&raw.create, "create"), (&raw.update, "update")] {
        if let Some(step) = step {
            problems.push(
                Diagnostic::error("steps-mixed", format!("`{name}` needs a `find` that decides about it"))
                    .place(&step.place)
                    .help("add `find:`, or leave it out and write the call as `endpoint` or as one of the `steps`"),
            );
        }
    }
}

/// What a condition or an answer is made of has to be an expression: a text without one is always the same.
fn is_expression(what: &str, template: &Template, problems: &mut Problems) {
    let text = template.value.trim();
    if text.starts_with("{{") && text.ends_with("}}") && text.matches("{{").count() == 1 {
        return;
    }
    problems.push(
        Diagnostic::error("not-a-condition", format!("`{what}` has to be one expression"))
            .place(&template.place)
            .help(format!("write `{what}: \"{{{{ … }}}}\"`, with something in it that is true or false")),
    );
}

/// A name that can stand in `steps.ID.captures.NAME`.
fn check_captures(captures: &[(Placed<String>, Template)], problems: &mut Problems) {
    for (name, _) in captures.iter().filter(|(name, _)| !is_name(&name.value)) {
        let shown = name.value.escape_debug();
        problems.push(
            Diagnostic::error("capture-name", format!("`{shown}` cannot be the name of a capture of a step"))
                .place(&name.place)
                .help(
                    "use letters, digits and `_`, a letter first: later steps read `steps.ID.captures.NAME`",
                ),
        );
    }
}

/// What is wrong with a call together with its endpoint, which is where it is known what it does.
pub(super) fn check(call: &Written<'_>, endpoint: &Endpoint, problems: &mut Problems) {
    if call.id.is_empty() {
        return;
    }
    check_captures(&endpoint.captures, problems);
    check_captures(&call.captures, problems);
    if !call.only_looks {
        return;
    }
    let method = &endpoint.method;
    let writes = matches!(method.value, http::Method::PUT | http::Method::PATCH | http::Method::DELETE);
    if writes || method.value == http::Method::POST && endpoint.idempotency != Idempotency::Natural {
        problems.push(
            Diagnostic::error(
                "find-writes",
                format!("`find` only looks, and {} may change something", method.value),
            )
            .place(&call.place)
            .help("use GET; a search that is a POST says `idempotency: natural` in its endpoint"),
        );
    }
    if call.exists_is_said {
        return;
    }
    if !endpoint.path.value.contains("{{") {
        problems.push(
            Diagnostic::error(
                "find-exists",
                "`find` has to say what its reply means: the path is the same for all records",
            )
            .place(&call.place)
            .help("add `exists: \"{{ response.body.… | length > 0 }}\"`"),
        );
    }
}

/// The one call of a pipeline without steps.
fn one(raw: &RawPipeline) -> Option<Written<'_>> {
    let endpoint = raw.endpoint.as_ref()?;
    Some(Written {
        id: String::new(),
        place: endpoint.place.clone(),
        endpoint,
        when: None,
        params: &raw.params,
        headers: &raw.headers,
        method: raw.method.as_ref(),
        content: raw.content,
        body: raw.body.as_ref(),
        nulls: raw.nulls,
        batch: raw.batch.as_ref(),
        captures: Vec::new(),
        in_doubt: None,
        only_looks: false,
        exists_is_said: false,
    })
}

fn several<'r>(raw: &'r RawPipeline, problems: &mut Problems) -> Vec<Written<'r>> {
    belongs_to_a_step(raw, problems);
    if raw.steps.len() > MOST_STEPS
        && let Some(step) = raw.steps.get(MOST_STEPS)
    {
        problems.at("steps-many", &step.place, format!("a record has at most {MOST_STEPS} steps"));
    }
    let mut all: Vec<Written<'r>> = Vec::with_capacity(raw.steps.len());
    for step in &raw.steps {
        let Some(id) = &step.id else {
            problems.push(
                Diagnostic::error("missing-key", "a step needs `id`")
                    .place(&step.place)
                    .help("later steps and the outcome files name it: `id: user`"),
            );
            continue;
        };
        if !is_name(&id.value) {
            problems.push(
                Diagnostic::error(
                    "step-id",
                    format!("`{}` cannot be the name of a step", id.value.escape_debug()),
                )
                .place(&id.place)
                .help("use letters, digits and `_`, a letter first: it is written `steps.NAME` elsewhere"),
            );
        }
        if let Some(when) = &step.when {
            is_expression("when", when, problems);
        }
        if all.iter().any(|other| other.id == id.value) {
            problems.at("step-id", &id.place, format!("there is another step `{}`", id.value));
        }
        all.extend(Written::step(id.value.clone(), id.place.clone(), step));
    }
    all
}

fn upsert<'r>(raw: &'r RawPipeline, find: &'r RawFind, problems: &mut Problems) -> Vec<Written<'r>> {
    belongs_to_a_step(raw, problems);
    if raw.create.is_none() && raw.update.is_none() {
        problems.push(
            Diagnostic::error("missing-key", "`find` needs `create`, `update` or both")
                .place(&find.place)
                .help("`create` is called for what is not there, `update` for what is; without one of them such records are skipped"),
        );
    }
    if let Some((name, _)) = find.captures.0.iter().find(|(name, _)| name.value == EXISTS) {
        problems.at("capture-name", &name.place, "what `find` found is captured as `exists` already");
    }
    let place = find.exists.as_ref().map_or(&find.place, |exists| &exists.place);
    let at = |text: &str| Placed::new(text.to_owned(), place.clone());
    if let Some(exists) = &find.exists {
        is_expression("exists", exists, problems);
    }
    let exists = find.exists.clone().unwrap_or_else(|| at("{{ response.status != 404 }}"));
    let mut all = Vec::new();
    if let Some(endpoint) = &find.endpoint.0 {
        let mut captures = find.captures.0.clone();
        captures.push((at(EXISTS), exists));
        all.push(Written {
            id: FIND.into(),
            place: find.place.clone(),
            endpoint,
            when: None,
            params: &find.params,
            headers: &find.headers,
            method: None,
            content: None,
            body: find.body.as_ref(),
            nulls: None,
            batch: None,
            captures,
            in_doubt: None,
            only_looks: true,
            exists_is_said: find.exists.is_some(),
        });
    }
    for (step, name, is) in [(&raw.create, "create", false), (&raw.update, "update", true)] {
        let Some(step) = step else { continue };
        if let Some(id) = &step.id {
            problems.at("step-id", &id.place, format!("the name of this step is `{name}`"));
        }
        if let Some(own) = &step.when {
            problems.push(
                Diagnostic::error("steps-mixed", format!("what `find` found decides about `{name}`"))
                    .place(&own.place)
                    .help("records are left out with `select: { where: … }`; other conditions need `steps`"),
            );
        }
        let call = Written::step(name.into(), step.place.clone(), step);
        let value = at("{{ steps.find.captures.exists }}");
        all.extend(call.map(|call| Written { when: Some(Condition { value, is }), ..call }));
    }
    all
}

/// What speaks of one call cannot stand beside several.
fn belongs_to_a_step(raw: &RawPipeline, problems: &mut Problems) {
    let first = |entries: &Entries<Tree>| entries.0.first().map(|(name, _)| name.place.clone());
    let header = raw.headers.0.first().map(|(name, _)| name.place.clone());
    let written = [
        ("params", first(&raw.params)),
        ("headers", header),
        ("method", raw.method.as_ref().map(|method| method.place.clone())),
        ("content", raw.content.map(|_| raw.place.clone())),
        ("body", raw.body.as_ref().map(|body| body.place().clone())),
        ("nulls", raw.nulls.map(|_| raw.place.clone())),
    ];
    for (key, place) in written.into_iter().filter_map(|(key, place)| Some((key, place?))) {
        problems.push(
            Diagnostic::error("steps-mixed", format!("`{key}` speaks of one call, and there are several"))
                .place(&place)
                .help("move it into the step that it is meant for"),
        );
    }
    if let Some(batch) = &raw.batch {
        problems.push(
            Diagnostic::error("steps-batch", "a call with several records cannot be a step")
                .place(&batch.place)
                .help("leave `batch` out, or make a pipeline of its own of each step"),
        );
    }
}

fn is_name(text: &str) -> bool {
    text.len() <= 40
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_stand_behind_a_dot() {
        for (text, good) in [
            ("user", true),
            ("user_2", true),
            ("User", true),
            ("", false),
            ("2nd", false),
            ("a-b", false),
            ("a.b", false),
            ("_a", false),
            ("ü", false),
        ] {
            assert_eq!(is_name(text), good, "{text}");
        }
    }
}
