//! Lists of the sandbox: as many made-up items as an endpoint says, page by page as it reads them.
//!
//! Invariant: the same list at every reading, so that a second start over it has nothing to do.

use std::sync::Arc;

use crate::config::{Connection, Endpoint, Listing, Pagination, Paging};
use crate::model::{Map, Number, Problems, Value};
use crate::render::{Known, Nulls, Root, Scope, TreeTemplate};
use crate::sandbox::{Object, ReplyMaker, RequestView, ScriptedReply};

use super::{answer, broken, empty_context};

/// Items of a page where nobody says how many.
const USUAL_SIZE: usize = 20;

/// An item of a list, made up; `None` where its endpoint gives no example.
#[must_use]
pub fn example(listing: &Listing, number: u64) -> Option<Value> {
    let items = Items::compile(&listing.endpoint, &listing.connection, &mut Problems::new())?;
    items.make(number).ok()
}

/// Makes items: of `sandbox.item`, or of the endpoint's sample.
struct Items {
    name: String,
    tree: Option<TreeTemplate>,
    sample: Map,
    base: crate::render::Context,
}

impl Items {
    fn compile(endpoint: &Endpoint, connection: &Connection, problems: &mut Problems) -> Option<Self> {
        let scope = Scope::new().allow(Root::New, Known::Any).allow(Root::Connection, Known::Any);
        let tree = match &endpoint.sandbox.item {
            Some(tree) => Some(TreeTemplate::compile(tree, &scope, Nulls::Keep, problems)?),
            None => None,
        };
        if tree.is_none() && endpoint.sample.is_none() {
            return None;
        }
        let sample = endpoint.sample.clone().unwrap_or_default();
        Some(Self { name: endpoint.name.clone(), tree, sample, base: empty_context(connection) })
    }

    fn make(&self, number: u64) -> Result<Value, crate::render::RenderError> {
        let hash = xxhash_rust::xxh3::xxh3_128_with_seed(self.name.as_bytes(), number);
        let id = Value::text(uuid::Uuid::new_v8(hash.to_be_bytes()).to_string());
        let Some(tree) = &self.tree else {
            let mut item = self.sample.clone();
            item.insert("id", id);
            return Ok(Value::Object(item));
        };
        let mut new = Map::with_capacity(2);
        new.push("number", Value::Number(Number::from(number)));
        new.push("id", id);
        tree.value(&self.base.clone().with(Root::New, Arc::new(Value::Object(new))))
    }
}

/// The replies of a list; `None` where its endpoint does not say how many items it has.
pub(super) fn reply_maker(
    endpoint: &Endpoint,
    connection: &Connection,
    problems: &mut Problems,
) -> Option<ReplyMaker> {
    let (count, pagination) = (endpoint.sandbox.list?, endpoint.pagination.clone()?);
    let items = Items::compile(endpoint, connection, problems)?;
    Some(Box::new(move |request: &RequestView<'_>, _: &Object| {
        let page = Page::asked(&pagination, request, count);
        let made: Result<Vec<Value>, _> = (page.from..page.to).map(|at| items.make(at as u64 + 1)).collect();
        match made {
            Ok(made) => page.reply(&pagination, request, made, count),
            Err(error) => broken(&error),
        }
    }))
}

/// Which items are asked for.
struct Page {
    from: usize,
    to: usize,
    size: usize,
}

/// The query of our own next URLs.
const OFFSET: &str = "offset";

impl Page {
    fn asked(pagination: &Pagination, request: &RequestView<'_>, count: usize) -> Self {
        let number = |name: Option<&str>| {
            let name = name?;
            let (_, text) = request.query.iter().rev().find(|(known, _)| known == name)?;
            text.parse::<usize>().ok()
        };
        let size = number(pagination.size_param.as_deref())
            .or(pagination.size.map(std::num::NonZeroUsize::get))
            .unwrap_or(USUAL_SIZE)
            .max(1);
        let size = if pagination.kind == Paging::None { count.max(1) } else { size };
        let param = number(pagination.param.as_deref());
        let start = usize::try_from(pagination.start).unwrap_or(0);
        let behind_start = param.unwrap_or(start).saturating_sub(start);
        let from = match pagination.kind {
            Paging::None => 0,
            Paging::Page => behind_start.saturating_mul(size),
            Paging::Offset => behind_start,
            Paging::Cursor => param.unwrap_or(0),
            Paging::NextUrl | Paging::Link => number(Some(OFFSET)).unwrap_or(0),
        };
        let from = from.min(count);
        Self { from, to: from.saturating_add(size).min(count), size }
    }

    fn reply(
        &self,
        pagination: &Pagination,
        request: &RequestView<'_>,
        items: Vec<Value>,
        count: usize,
    ) -> ScriptedReply {
        let mut body = Value::Object(Map::new());
        put(&mut body, &pagination.items.value, Value::Array(items));
        if let Some(total) = &pagination.total_pages {
            let pages = count.div_ceil(self.size) as u64;
            put(&mut body, &total.value, Value::Number(Number::from(pages)));
        }
        let more = self.to < count;
        let url = || {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            query.extend_pairs(request.query.iter().filter(|(name, _)| name != OFFSET));
            query.append_pair(OFFSET, &self.to.to_string());
            format!("{}?{}", request.path, query.finish())
        };
        if let Some(next) = pagination.next.as_ref().filter(|_| more) {
            let text = if pagination.kind == Paging::NextUrl { url() } else { self.to.to_string() };
            put(&mut body, &next.value, Value::text(text));
        }
        let link = (pagination.kind == Paging::Link && more)
            .then(|| ("link".to_owned(), format!("<{}>; rel=\"next\"", url())));
        answer(Ok(body), 200, &Vec::from_iter(link))
    }
}

/// Puts a value where a plain `{{ response.body.a.b }}` reads it; other expressions read nothing of it.
fn put(body: &mut Value, expression: &str, value: Value) {
    let path = expression.trim().trim_start_matches("{{").trim_end_matches("}}");
    let path = path.split('|').next().unwrap_or_default().trim();
    let Some(path) = path.strip_prefix("response.body") else { return };
    let mut at = body;
    for name in path.split('.').filter(|name| !name.is_empty()) {
        if !matches!(at, Value::Object(_)) {
            *at = Value::Object(Map::new());
        }
        let Value::Object(map) = at else { return };
        if map.get(name).is_none() {
            map.push(name, Value::Null);
        }
        let Some(next) = map.get_mut(name) else { return };
        at = next;
    }
    *at = value;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lands_where_an_expression_reads_it() {
        let mut body = Value::Object(Map::new());
        put(&mut body, "{{ response.body.meta.pages }}", Value::Bool(true));
        put(&mut body, "{{ response.body.meta.next | default('') }}", Value::text("x"));
        put(&mut body, "{{ response.headers.x }}", Value::text("y"));
        assert_eq!(body.to_json(), r#"{"meta":{"pages":true,"next":"x"}}"#);
        put(&mut body, "{{ response.body }}", Value::Array(Vec::new()));
        assert_eq!(body.to_json(), "[]");
    }
}
