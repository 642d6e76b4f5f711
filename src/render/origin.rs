//! Which line of which file makes which part of a request.
//!
//! For people who ask why a request looks as it does: `runner explain`. Read from what was written,
//! so that it needs no record.

use crate::config::{Auth, Connection, Endpoint, HeaderTemplate, Idempotency, Tree};
use crate::model::Place;

/// One part of a request and where it was written.
#[derive(Debug, Clone)]
pub struct Origin {
    /// `method`, `path`, `param id`, `query page`, `header Accept`, `body /email`, `credentials`.
    pub part: String,
    /// Where.
    pub place: Place,
    /// What is written there; empty where the place says enough.
    pub written: String,
}

/// The parts of an endpoint's requests, in the order in which they go out.
#[must_use]
pub fn origins(endpoint: &Endpoint, connection: &Connection) -> Vec<Origin> {
    let mut found = Vec::new();
    let mut add = |part: String, place: &Place, written: &str| {
        found.push(Origin { part, place: place.clone(), written: written.trim().to_owned() });
    };
    add("base URL".into(), &connection.place, &connection.base_url);
    add("method".into(), &endpoint.method.place, endpoint.method.value.as_str());
    add("path".into(), &endpoint.path.place, &endpoint.path.value);
    for param in &endpoint.params {
        let name = format!("param {}", param.name.value);
        match &param.binding {
            Some(tree) => add(name, tree.place(), text_of(tree)),
            None => add(name, &param.name.place, "the record's field of this name"),
        }
    }
    for (name, tree) in &endpoint.query {
        add(format!("query {}", name.value), tree.place(), text_of(tree));
    }
    for (name, template) in &connection.headers {
        if let HeaderTemplate::Plain(text) = template
            && !endpoint.headers.iter().any(|(own, _)| own.value.eq_ignore_ascii_case(name))
        {
            add(format!("header {name}"), &text.place, &text.value);
        }
    }
    for (at, (name, text)) in endpoint.headers.iter().enumerate() {
        // Later ones win: the pipeline's stand behind the endpoint's.
        let is_replaced =
            endpoint.headers[at + 1..].iter().any(|(later, _)| later.value.eq_ignore_ascii_case(&name.value));
        if !is_replaced {
            add(format!("header {}", name.value), &text.place, &text.value);
        }
    }
    if let Idempotency::Header { name, value, .. } = &endpoint.idempotency {
        match value {
            Some(value) => add(format!("header {name}"), &value.place, &value.value),
            None => {
                add(
                    format!("header {name}"),
                    &endpoint.place,
                    "made of run, pipeline, record and generation",
                );
            }
        }
    }
    if !matches!(connection.auth, Auth::None) || !connection.credentials.is_empty() {
        add("credentials".into(), &connection.place, "added last, never shown");
    }
    let batch = endpoint.batch.as_ref();
    if let Some(around) = batch.and_then(|batch| batch.body.as_ref()) {
        body(around, "", &mut add);
    }
    if let Some(item) = batch.and_then(|batch| batch.item.as_ref()) {
        add("batch item".into(), item.place(), text_of(item));
        return found;
    }
    match (&endpoint.body, &endpoint.body_file) {
        (Some(tree), _) => body(tree, "", &mut add),
        (None, Some(file)) => add("body".into(), &file.text.place, ""),
        (None, None) => add(
            "body".into(),
            &endpoint.place,
            "by default: the record's fields, without excluded ones and parameters",
        ),
    }
    found
}

fn body(tree: &Tree, pointer: &str, add: &mut impl FnMut(String, &Place, &str)) {
    match tree {
        Tree::Map(entries, _) if !entries.is_empty() => {
            for (name, tree) in entries {
                let step = name.value.replace('~', "~0").replace('/', "~1");
                body(tree, &format!("{pointer}/{step}"), add);
            }
        }
        Tree::List(items, _) if !items.is_empty() => {
            for (at, tree) in items.iter().enumerate() {
                body(tree, &format!("{pointer}/{at}"), add);
            }
        }
        leaf => {
            let part = if pointer.is_empty() { "body".to_owned() } else { format!("body {pointer}") };
            add(part, leaf.place(), text_of(leaf));
        }
    }
}

/// What a leaf says; other values show at their place.
fn text_of(tree: &Tree) -> &str {
    match tree {
        Tree::Text(text) => &text.value,
        Tree::Number(number, _) => number.as_str(),
        Tree::Bool(true, _) => "true",
        Tree::Bool(false, _) => "false",
        Tree::Null(_) => "null",
        Tree::List(..) | Tree::Map(..) => "",
    }
}
