//! The canonical text of what decides which requests a pipeline sends.
//!
//! Compared between the starts of a run: the same text means the same requests for the same
//! record. Invariant: no place, comment, number of lanes, wait, base URL or secret is in it.

use serde_json::{Value as Json, json};

use super::{
    Batch, Connection, Endpoint, HeaderTemplate, Idempotency, Key, Listing, Lookup, Matching, OutcomeRule,
    Select, SourceSpec, Step, Template, Tree,
};
use crate::model::{Map, Placed};

/// The parts of a pipeline that have a meaning.
pub(super) struct Meaning<'a> {
    pub(super) connection: &'a Connection,
    pub(super) first: &'a Step,
    pub(super) later: &'a [Step],
    pub(super) source: &'a SourceSpec,
    pub(super) listing: Option<&'a Listing>,
    pub(super) schema: Option<&'a Placed<String>>,
    pub(super) key: Option<&'a Key>,
    pub(super) vars: &'a Map,
    pub(super) lookups: &'a [Lookup],
    pub(super) select: &'a Select,
    pub(super) order_by: Option<&'a Template>,
}

/// The text, with its parts in a fixed order.
pub(super) fn text(of: &Meaning<'_>) -> String {
    let mut meaning = json!({
        "version": 1,
        "endpoint": endpoint(&of.first.endpoint),
        "connection": {
            "connector": of.connection.connector,
            "settings": crate::model::Value::Object(of.connection.settings.clone()).to_json(),
            "headers": of.connection.headers.iter().map(|(name, value)| match value {
                HeaderTemplate::Plain(text) => json!([name, text.value]),
                HeaderTemplate::Secret(_) => json!([name, null]),
            }).collect::<Vec<_>>(),
        },
        "source": {
            "format": of.source.format.map(|format| format!("{format:?}")),
            "pointer": of.source.pointer,
            "csv": format!("{:?}", of.source.csv),
        },
        "schema": of.schema.map(|path| &path.value),
        "key": of.key.map(|key| &key.value.value),
        "vars": crate::model::Value::Object(of.vars.clone()).to_json(),
        "select": {
            "rename": of.select.rename.iter().map(|(from, to)| json!([from.value, to])).collect::<Vec<_>>(),
            "where": of.select.filter.as_ref().map(|text| &text.value),
            "exclude": of.select.exclude.iter().map(|name| &name.value).collect::<Vec<_>>(),
            "duplicates": format!("{:?}", of.select.duplicates),
            "limit": of.select.limit,
        },
        "order_by": of.order_by.map(|text| &text.value),
    });
    // Parts that came later stand there only where they say something: what was a run's meaning
    // before stays it.
    if !of.lookups.is_empty() {
        meaning["lookups"] = of.lookups.iter().map(lookup).collect();
    }
    if let Some(listing) = of.listing {
        meaning["listing"] = self::listing(listing);
    }
    if !of.first.id.is_empty() {
        let step = |step: &Step| {
            json!([
                step.id,
                step.when.as_ref().map(|when| json!([when.value.value, when.is])),
                endpoint(&step.endpoint)
            ])
        };
        meaning["steps"] = std::iter::once(of.first).chain(of.later).map(step).collect();
    }
    meaning.to_string()
}

fn endpoint(endpoint: &Endpoint) -> Json {
    json!({
        "method": endpoint.method.value.as_str(),
        "path": endpoint.path.value,
        "params": endpoint.params.iter().map(|param| json!({
            "name": param.name.value,
            "type": format!("{:?}", param.kind),
            "required": param.required,
            "default": param.default.as_ref().map(crate::model::Value::to_json),
            "binding": param.binding.as_ref().map(tree),
        })).collect::<Vec<_>>(),
        "query": trees(&endpoint.query),
        "headers": templates(&endpoint.headers),
        "content": format!("{:?}", endpoint.content),
        "body": endpoint.body.as_ref().map(tree),
        "body_file": endpoint.body_file.as_ref().map(|file| json!([file.text.value, format!("{:?}", file.escape)])),
        "keep_nulls": endpoint.keep_nulls,
        "body_schema": endpoint.body_schema.as_ref().map(|path| &path.value),
        "idempotency": idempotency(&endpoint.idempotency),
        "outcomes": endpoint.outcomes.iter().map(outcome).collect::<Vec<_>>(),
        "captures": templates(&endpoint.captures),
        "batch": endpoint.batch.as_ref().map(batch),
    })
}

/// What decides which records a list has. How its pages are read is no meaning.
fn listing(of: &Listing) -> Json {
    let Listing { endpoint, connection } = of;
    json!({
        "connector": connection.connector,
        "connection": connection.name,
        "method": endpoint.method.value.as_str(),
        "path": endpoint.path.value,
        "params": endpoint.params.iter().map(|param| json!([
            param.name.value,
            param.default.as_ref().map(crate::model::Value::to_json),
            param.binding.as_ref().map(tree),
        ])).collect::<Vec<_>>(),
        "query": trees(&endpoint.query),
        "headers": templates(&endpoint.headers),
        "body": endpoint.body.as_ref().map(tree),
        "items": endpoint.pagination.as_ref().map(|pagination| &pagination.items.value),
    })
}

/// The table itself is known by the digest of its file.
fn lookup(of: &Lookup) -> Json {
    json!({
        "name": of.name.value,
        "key": of.key.value,
        "columns": of.columns.iter().map(|column| &column.value).collect::<Vec<_>>(),
        "format": of.source.format.map(|format| format!("{format:?}")),
        "pointer": of.source.pointer,
        "csv": format!("{:?}", of.source.csv),
        "listing": of.listing.as_deref().map(listing),
    })
}

fn templates(entries: &[(Placed<String>, Template)]) -> Json {
    entries.iter().map(|(name, text)| json!([name.value, text.value])).collect()
}

fn trees(entries: &[(Placed<String>, Tree)]) -> Json {
    entries.iter().map(|(name, value)| json!([name.value, tree(value)])).collect()
}

/// A number is told from the text of its digits by standing in an object.
fn tree(of: &Tree) -> Json {
    match of {
        Tree::Null(_) => Json::Null,
        Tree::Bool(value, _) => json!(value),
        Tree::Number(number, _) => json!({ "number": number.as_str() }),
        Tree::Text(text) => json!(text.value),
        Tree::List(items, _) => items.iter().map(tree).collect(),
        Tree::Map(entries, _) => json!({ "map": trees(entries) }),
    }
}

fn idempotency(of: &Idempotency) -> Json {
    match of {
        Idempotency::None => json!("none"),
        Idempotency::Natural => json!("natural"),
        Idempotency::Header { name, value, .. } => json!([name, value.as_ref().map(|text| &text.value)]),
    }
}

/// How records share calls, and how the reply is read. Sizes are no meaning: a run can go on with others.
fn batch(of: &Batch) -> Json {
    json!({
        "group_by": of.group_by.as_ref().map(|text| &text.value),
        "item": of.item.as_ref().map(tree),
        "body": of.body.as_ref().map(tree),
        "replies": of.replies.as_ref().map(|replies| json!({
            "at": replies.at.value,
            "match": match &replies.matching {
                Matching::Position => json!("position"),
                Matching::Equal { item, reply } => json!([item.value, reply.value]),
            },
            "delivered": replies.delivered.as_ref().map(|text| &text.value),
            "status": replies.status.as_ref().map(|text| &text.value),
            "captures": templates(&replies.captures),
            "missing": format!("{:?}", replies.missing),
        })),
    })
}

fn outcome(of: &OutcomeRule) -> Json {
    json!([
        of.statuses.iter().map(|status| format!("{status:?}")).collect::<Vec<_>>(),
        of.when.as_ref().map(|text| &text.value),
        format!("{:?}", of.then),
        of.class,
        of.after_unknown,
    ])
}
