//! The body of a call that carries several records: what each contributes, and what stands around it.

use std::sync::Arc;

use super::body::{Body, data};
use super::context::{Context, Known, Root, Scope};
use super::error::RenderError;
use super::request::RequestTemplate;
use super::tree::{Nulls, TreeTemplate};
use crate::config::{Batch, Connection, Content, Endpoint};
use crate::model::{Map, Number, Place, Problems, Value};

/// The fields of `batch`.
const FIELDS: [&str; 3] = ["items", "size", "group"];

/// A compiled envelope.
#[derive(Debug)]
pub(super) struct Envelope {
    /// `None` is the plain list.
    tree: Option<TreeTemplate>,
    content: Content,
    place: Place,
}

impl Envelope {
    /// Compiles the envelope of an endpoint. It sees no record: there are several.
    pub fn compile(
        endpoint: &Endpoint,
        batch: &Batch,
        connection: &Connection,
        scope: &Scope,
        problems: &mut Problems,
    ) -> Option<Self> {
        let fields: Vec<String> = FIELDS.iter().map(|name| (*name).to_owned()).collect();
        let mut around = Scope::new()
            .allow(Root::Connection, RequestTemplate::settings(connection))
            .allow(Root::Batch, Known::Fields(fields.into()));
        for root in [Root::Vars, Root::Lookups] {
            if let Some(known) = scope.get(root) {
                around = around.allow(root, known.clone());
            }
        }
        let nulls = if endpoint.keep_nulls { Nulls::Keep } else { Nulls::Drop };
        let (tree, place) = match &batch.body {
            None => (None, &batch.place),
            Some(tree) => (Some(TreeTemplate::compile(tree, &around, nulls, problems)?), tree.place()),
        };
        let is_list = tree.as_ref().is_some_and(|tree| tree.is_path(Root::Batch, "items"));
        Some(Self { tree: tree.filter(|_| !is_list), content: endpoint.content, place: place.clone() })
    }

    pub const fn content(&self) -> Content {
        self.content
    }

    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// The body around these items. In NDJSON an item that is a list is one line for each element, as
    /// bulk APIs want an action and its document below each other.
    pub fn render(&self, items: &[&Value], group: Value, context: &mut Context) -> Result<Body, RenderError> {
        let copied = || Value::Array(items.iter().map(|item| (*item).clone()).collect());
        let Some(tree) = &self.tree else {
            // A plain list is written from where the items are.
            return match self.content {
                Content::Ndjson => Ok(Body::Written(lines(items))),
                Content::Json => Ok(Body::Written(list(items))),
                other => data(copied(), other, &self.place),
            };
        };
        let mut batch = Map::with_capacity(FIELDS.len());
        batch.push("size", Value::Number(Number::from(items.len() as u64)));
        batch.push("items", copied());
        batch.push("group", group);
        context.set(Root::Batch, Arc::new(Value::Object(batch)));
        data(tree.value(context)?, self.content, &self.place)
    }
}

fn lines(items: &[&Value]) -> Vec<u8> {
    let mut out = Vec::new();
    for item in items {
        let parts = match item {
            Value::Array(parts) => parts.as_slice(),
            one => std::slice::from_ref(*one),
        };
        for part in parts.iter().filter(|part| !matches!(part, Value::Absent)) {
            part.write_json(&mut out);
            out.push(b'\n');
        }
    }
    out
}

fn list(items: &[&Value]) -> Vec<u8> {
    let mut out = vec![b'['];
    for item in items.iter().filter(|item| !matches!(item, Value::Absent)) {
        if out.len() > 1 {
            out.push(b',');
        }
        item.write_json(&mut out);
    }
    out.push(b']');
    out
}
