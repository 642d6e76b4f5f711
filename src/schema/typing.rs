//! Turns CSV cells into what the schema says they are.
//!
//! Separate from checking, and pure: the types of all fields are worked out once. Invariant: a
//! cell changes only when it is exactly what its field admits; everything else stays text, and the
//! schema reports it.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map as Json, Value as JsonValue};

use super::files::{self, Document};
use super::walk;
use crate::model::{Map, Number, Value};

/// A cell with more digits stays text.
const MAX_DIGITS: usize = 128;
/// References and groups within each other that are followed.
const MAX_DEPTH: usize = 32;
/// Schemas that are looked at in all: references can double at every level.
const MAX_STEPS: usize = 50_000;

/// The types that a field admits, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Types(u8);

impl Types {
    const NULL: Self = Self(1);
    const BOOLEAN: Self = Self(2);
    const INTEGER: Self = Self(4);
    const FRACTION: Self = Self(8);
    const STRING: Self = Self(16);
    const ARRAY: Self = Self(32);
    const OBJECT: Self = Self(64);
    /// Nothing is known.
    const ANY: Self = Self(127);
    const NONE: Self = Self(0);

    const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn named(name: &str) -> Self {
        match name {
            "null" => Self::NULL,
            "boolean" => Self::BOOLEAN,
            "integer" => Self::INTEGER,
            "number" => Self::INTEGER.or(Self::FRACTION),
            "string" => Self::STRING,
            "array" => Self::ARRAY,
            "object" => Self::OBJECT,
            _ => Self::ANY,
        }
    }

    fn of(value: &JsonValue) -> Self {
        match value {
            JsonValue::Null => Self::NULL,
            JsonValue::Bool(_) => Self::BOOLEAN,
            JsonValue::Number(_) => Self::named("number"),
            JsonValue::String(_) => Self::STRING,
            JsonValue::Array(_) => Self::ARRAY,
            JsonValue::Object(_) => Self::OBJECT,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Field {
    types: Types,
    /// What an empty cell becomes.
    empty: Empty,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Empty {
    Absent,
    Null,
}

/// The types of a schema's fields, as far as they can change a cell. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Typing {
    fields: Arc<HashMap<String, Field>>,
}

/// Up to so many fields are looked for among the cells, instead of each cell among them.
const FEW: usize = 8;

impl Typing {
    /// Turns text cells into values, where they are exactly what their field admits.
    ///
    /// `parse` reads a JSON text and keeps the digits of its numbers; `None` when it is not JSON.
    pub fn apply(&self, fields: &mut Map, parse: &dyn Fn(&str) -> Option<Value>) {
        if self.fields.len() <= FEW {
            for (name, field) in self.fields.iter() {
                fields.get_mut(name).into_iter().for_each(|value| field.apply(value, parse));
            }
            return;
        }
        for (name, value) in fields {
            self.fields.get(&**name).into_iter().for_each(|field| field.apply(value, parse));
        }
    }
}

impl Field {
    /// Whether a cell is always what it was.
    const fn changes_nothing(self) -> bool {
        self.types.has(Types::STRING) && matches!(self.empty, Empty::Absent)
    }

    fn apply(self, value: &mut Value, parse: &dyn Fn(&str) -> Option<Value>) {
        match value {
            Value::Absent if self.empty == Empty::Null => *value = Value::Null,
            Value::String(text) => {
                if let Some(typed) = typed(self.types, text, parse) {
                    *value = typed;
                }
            }
            _ => {}
        }
    }
}

fn typed(types: Types, text: &str, parse: &dyn Fn(&str) -> Option<Value>) -> Option<Value> {
    if types.has(Types::STRING) {
        return None;
    }
    match text.as_bytes().first()? {
        b't' if text == "true" && types.has(Types::BOOLEAN) => Some(Value::Bool(true)),
        b'f' if text == "false" && types.has(Types::BOOLEAN) => Some(Value::Bool(false)),
        b'-' | b'0'..=b'9' if text.len() <= MAX_DIGITS => {
            let number = Number::parse(text)?;
            let fits =
                types.has(Types::FRACTION) || (types.has(Types::INTEGER) && number.is_written_as_integer());
            fits.then_some(Value::Number(number))
        }
        // The parser allows space around a value, a cell does not.
        b'[' if types.has(Types::ARRAY) && text.ends_with(']') => {
            parse(text).filter(|value| matches!(value, Value::Array(_)))
        }
        b'{' if types.has(Types::OBJECT) && text.ends_with('}') => {
            parse(text).filter(|value| matches!(value, Value::Object(_)))
        }
        _ => None,
    }
}

/// Works out the typing of a schema, and the names of its fields if `properties` says them.
pub(super) fn of(documents: &[Document]) -> (Typing, Option<Vec<String>>) {
    let reader = Reader { documents, steps: Cell::new(0) };
    let top = documents.first().map(|document| reader.shape(0, &document.value, 0)).unwrap_or_default();
    let names = (!top.names.is_empty()).then(|| top.names.clone());
    let fields = top
        .types
        .iter()
        .map(|(name, types)| {
            let says_null = *types != Types::ANY && types.has(Types::NULL);
            let empty = if says_null && top.required.contains(name) { Empty::Null } else { Empty::Absent };
            (name.clone(), Field { types: *types, empty })
        })
        .filter(|(_, field)| !field.changes_nothing())
        .collect();
    (Typing { fields: Arc::new(fields) }, names)
}

/// What a schema says about the fields of an object.
#[derive(Debug, Default)]
struct Shape {
    /// In the order of the schema.
    names: Vec<String>,
    types: HashMap<String, Types>,
    required: HashSet<String>,
}

impl Shape {
    fn add(&mut self, name: &str, types: Types) {
        if !self.names.iter().any(|known| known == name) {
            self.names.push(name.to_owned());
        }
        let known = self.types.entry(name.to_owned()).or_insert(Types::ANY);
        *known = known.and(types);
    }

    /// Both apply.
    fn meet(&mut self, other: Self) {
        for name in &other.names {
            self.add(name, other.types.get(name).copied().unwrap_or(Types::ANY));
        }
        self.required.extend(other.required);
    }

    /// One of several applies: a type is known only where all of them know one.
    fn any(shapes: &[Self]) -> Self {
        let mut all = Self::default();
        for shape in shapes {
            for name in &shape.names {
                if !all.types.contains_key(name) {
                    let types = shapes.iter().fold(Types::NONE, |types, shape| {
                        types.or(shape.types.get(name).copied().unwrap_or(Types::ANY))
                    });
                    all.add(name, types);
                }
            }
        }
        if let Some((first, rest)) = shapes.split_first() {
            let everywhere = |name: &&String| rest.iter().all(|shape| shape.required.contains(*name));
            all.required = first.required.iter().filter(everywhere).cloned().collect();
        }
        all
    }
}

struct Reader<'a> {
    documents: &'a [Document],
    steps: Cell<usize>,
}

impl<'a> Reader<'a> {
    /// The members of a schema, and where its reference leads; none when it is too far in to tell.
    fn look(
        &self,
        number: usize,
        schema: &'a JsonValue,
        depth: usize,
    ) -> Option<(&'a Json<String, JsonValue>, Target<'a>)> {
        self.steps.set(self.steps.get() + 1);
        if depth >= MAX_DEPTH || self.steps.get() > MAX_STEPS {
            return None;
        }
        let map = schema.as_object()?;
        let target = match map.get("$ref").and_then(JsonValue::as_str) {
            None => Target::None,
            Some(text) => files::resolve(self.documents, number, text)
                .map_or(Target::Unknown, |(n, s)| Target::At(n, s)),
        };
        Some((map, target))
    }

    /// Whether `$ref` hides what stands beside it in this document.
    fn stands_alone(&self, number: usize) -> bool {
        self.documents.get(number).is_some_and(|document| walk::reference_stands_alone(document.draft))
    }

    fn shape(&self, number: usize, schema: &'a JsonValue, depth: usize) -> Shape {
        let mut shape = Shape::default();
        let Some((map, target)) = self.look(number, schema, depth) else {
            return shape;
        };
        if let Target::At(number, schema) = target {
            shape.meet(self.shape(number, schema, depth + 1));
        }
        if !matches!(target, Target::None) && self.stands_alone(number) {
            return shape;
        }
        for (name, field) in map.get("properties").and_then(JsonValue::as_object).into_iter().flatten() {
            shape.add(name, self.types(number, field, depth + 1));
        }
        let required = map.get("required").and_then(JsonValue::as_array).into_iter().flatten();
        shape.required.extend(required.filter_map(JsonValue::as_str).map(str::to_owned));
        for part in list(map, "allOf") {
            shape.meet(self.shape(number, part, depth + 1));
        }
        for group in ["anyOf", "oneOf"] {
            let shapes: Vec<Shape> =
                list(map, group).iter().map(|part| self.shape(number, part, depth + 1)).collect();
            shape.meet(Shape::any(&shapes));
        }
        shape
    }

    fn types(&self, number: usize, schema: &'a JsonValue, depth: usize) -> Types {
        let Some((map, target)) = self.look(number, schema, depth) else {
            return Types::ANY;
        };
        let mut types = match target {
            Target::At(number, schema) => self.types(number, schema, depth + 1),
            Target::Unknown | Target::None => Types::ANY,
        };
        if !matches!(target, Target::None) && self.stands_alone(number) {
            return types;
        }
        match map.get("type") {
            Some(JsonValue::String(name)) => types = types.and(Types::named(name)),
            Some(JsonValue::Array(names)) => {
                let names = names.iter().filter_map(JsonValue::as_str);
                types = types.and(names.fold(Types::NONE, |all, name| all.or(Types::named(name))));
            }
            _ => {}
        }
        if let Some(choices) = map.get("enum").and_then(JsonValue::as_array) {
            types = types.and(choices.iter().fold(Types::NONE, |all, choice| all.or(Types::of(choice))));
        }
        if let Some(value) = map.get("const") {
            types = types.and(Types::of(value));
        }
        for part in list(map, "allOf") {
            types = types.and(self.types(number, part, depth + 1));
        }
        for group in ["anyOf", "oneOf"] {
            let parts = list(map, group);
            if !parts.is_empty() {
                let each = parts.iter().map(|part| self.types(number, part, depth + 1));
                types = types.and(each.fold(Types::NONE, Types::or));
            }
        }
        types
    }
}

/// Where a reference leads.
enum Target<'a> {
    None,
    Unknown,
    At(usize, &'a JsonValue),
}

fn list<'a>(map: &'a Json<String, JsonValue>, keyword: &str) -> &'a [JsonValue] {
    map.get(keyword).and_then(JsonValue::as_array).map(Vec::as_slice).unwrap_or_default()
}
