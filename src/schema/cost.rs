//! Finds schemas that would check one value too many times.
//!
//! Separate because neither compiling nor the meta-schema looks at it: a few references that double
//! at every step are short to write and take for ever to follow. Invariant: linear in the size of
//! the schema files, whatever they refer to.

use std::collections::HashMap;

use serde_json::Value;

use super::files::{self, Document};
use super::walk;

/// Schemas that may apply to one and the same value.
const MAX_CHECKS: u64 = 100_000;
/// References and groups within each other that may apply to one and the same value; with the
/// depth of values this bounds the stack.
const MAX_STEPS: usize = 100;

/// Keywords whose schemas apply to the same value as the schema that they stand in.
const IN_PLACE: [&str; 9] =
    ["allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies"];

/// What it takes to check one value against a schema.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    checks: u64,
    steps: usize,
}

impl Cost {
    const TOO_MUCH: Self = Self { checks: u64::MAX, steps: usize::MAX };
}

/// Works out costs, each schema once.
pub(super) struct Costs<'a> {
    documents: &'a [Document],
    /// By address: the documents are not changed meanwhile. `None` while it is being worked out.
    known: HashMap<usize, Option<Cost>>,
}

impl<'a> Costs<'a> {
    pub(super) fn new(documents: &'a [Document]) -> Self {
        Self { documents, known: HashMap::new() }
    }

    /// Why a schema cannot be used, if it is too costly.
    pub(super) fn too_costly(&mut self, number: usize, schema: &'a Value) -> Option<String> {
        let cost = self.of(number, schema, 0);
        if cost.steps > MAX_STEPS {
            Some(format!(
                "more than {MAX_STEPS} references and groups within each other apply to one value here"
            ))
        } else if cost.checks > MAX_CHECKS {
            Some(format!("more than {MAX_CHECKS} schemas apply to one value here"))
        } else {
            None
        }
    }

    /// The most references and groups within each other that apply to one value, anywhere.
    pub(super) fn most_steps(&mut self) -> usize {
        let mut most = 0;
        for (number, document) in self.documents.iter().enumerate() {
            for pointer in walk::pointers(&document.value) {
                let schema = document.value.pointer(&pointer);
                most = most.max(schema.map_or(0, |schema| self.of(number, schema, 0).steps));
            }
        }
        most
    }

    fn of(&mut self, number: usize, schema: &'a Value, depth: usize) -> Cost {
        let Some(map) = schema.as_object() else { return Cost { checks: 1, steps: 0 } };
        let address = std::ptr::from_ref(schema) as usize;
        match self.known.get(&address) {
            Some(Some(cost)) => return *cost,
            // A circle: the validator goes through it once.
            Some(None) => return Cost::default(),
            None => {}
        }
        if depth > MAX_STEPS {
            return Cost::TOO_MUCH;
        }
        self.known.insert(address, None);
        let mut cost = Cost { checks: 1, steps: 0 };
        let mut add = |part: Cost| {
            cost.checks = cost.checks.saturating_add(part.checks);
            cost.steps = cost.steps.max(part.steps.saturating_add(1));
        };
        let target = map.get("$ref").and_then(Value::as_str);
        if let Some((number, target)) = target.and_then(|text| files::resolve(self.documents, number, text)) {
            add(self.of(number, target, depth + 1));
        }
        for keyword in IN_PLACE {
            match map.get(keyword) {
                Some(Value::Array(parts)) => {
                    for part in parts {
                        add(self.of(number, part, depth + 1));
                    }
                }
                Some(Value::Object(parts)) if keyword.starts_with("depend") => {
                    for part in parts.values() {
                        add(self.of(number, part, depth + 1));
                    }
                }
                Some(part) => add(self.of(number, part, depth + 1)),
                None => {}
            }
        }
        self.known.insert(address, Some(cost));
        cost
    }
}
