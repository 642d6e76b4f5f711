//! What a request does to the objects, and what is answered.
//!
//! Pure over rules and store: no socket, no script, and a change is only described, so that the
//! journal can stand before it.

use std::borrow::Cow;

use serde_json::Value;

use super::api::{Api, Deed, Prepared};
use super::json::{Fields, plain, write_text};
use super::proto::Request;
use super::rules::{BatchRoute, ItemResult, Object, RequestView, Route, ScriptedReply};
use super::server::Unknown;
use super::store::{Address, Change, Store};

/// Names of queries that turn pages, sort or speak of times, and filter nothing.
const NOT_FILTERS: [&str; 13] = [
    "page",
    "items_per_page",
    "per_page",
    "limit",
    "offset",
    "sort_by",
    "sort_order",
    "sort",
    "created_from",
    "created_to",
    "updated_from",
    "updated_to",
    "from_time",
];

/// What a request does and gets.
pub(super) struct Plan {
    pub(super) reply: ScriptedReply,
    /// Several where the request holds a list of objects.
    pub(super) changes: Vec<Change>,
    pub(super) object: Option<String>,
}

impl Plan {
    fn refused(reply: ScriptedReply) -> Self {
        Self { reply, changes: Vec::new(), object: None }
    }
}

impl Api {
    /// What the request changes and gets, with the objects as they are.
    pub(super) fn plan(&self, request: &Request, prepared: &Prepared, store: &Store) -> Plan {
        let (deed, at) = match &prepared.verdict {
            Ok((deed, at)) => (*deed, at.clone()),
            Err(reply) => return Plan::refused(reply.clone()),
        };
        let route = prepared.route.and_then(|at| self.rules.routes.get(at));
        match deed {
            Deed::List => self.list(request, prepared, &at, route, store),
            Deed::Read => match store.get(&at) {
                Some(object) => {
                    let reply = reply(200, request, prepared, route, &at.id, &object);
                    Plan { reply, changes: Vec::new(), object: Some(at.id) }
                }
                None => self.missing(request, prepared, route, &at),
            },
            Deed::Delete => match store.get(&at) {
                Some(object) => {
                    let usual = ScriptedReply::empty(204);
                    let reply = match route.and_then(|route| route.reply.as_ref()) {
                        Some(make) => make(&view(request, prepared), &object_of(&at.id, &object)),
                        None => usual,
                    };
                    let object = Some(at.id.clone());
                    Plan { reply, changes: vec![Change::Remove(at)], object }
                }
                None => self.missing(request, prepared, route, &at),
            },
            Deed::Create | Deed::Put | Deed::Patch => self.write(deed, at, request, prepared, route, store),
        }
    }

    fn write(
        &self,
        deed: Deed,
        mut at: Address,
        request: &Request,
        prepared: &Prepared,
        route: Option<&Route>,
        store: &Store,
    ) -> Plan {
        if let Some(batch) = route.and_then(|route| route.batch.as_ref()) {
            return self.write_all(&at, request, prepared, batch, store);
        }
        let old = if deed == Deed::Create { None } else { store.get(&at) };
        if deed != Deed::Create && old.is_none() && !self.makes_unknown(&at, route) {
            return self.missing(request, prepared, route, &at);
        }
        let token = route.and_then(|route| request.headers.get(route.idempotency.as_ref()?));
        let token = token.and_then(|token| token.to_str().ok()).filter(|_| deed == Deed::Create);
        if let Some(object) = token.and_then(|token| store.by_token(at.table, token)) {
            let id = id_of(&object);
            let reply = reply(201, request, prepared, route, &id, &object);
            return Plan { reply, changes: Vec::new(), object: Some(id) };
        }
        let body = match &prepared.json {
            Some(form) if prepared.is_form => Cow::Owned(form.to_string().into_bytes()),
            _ => body_object(&request.body),
        };
        let given = Fields::parse(&body).unwrap_or_default();
        if deed == Deed::Create {
            at.id = store.new_id(&request.body);
        }
        let fields = match &old {
            Some(old) => {
                let mut fields = Fields::parse(old).unwrap_or_default();
                if deed == Deed::Patch {
                    fields.merge(given);
                } else {
                    fields.update(given);
                }
                fields
            }
            None => given,
        };
        if let Some((field, holder)) = store.taken(&at, &fields) {
            let usual = || self.refuse(409, "ALREADY_EXISTS", &format!("another object has this `{field}`"));
            let holds = || object_of(&id_of(&holder), &holder);
            let own = route.and_then(|route| route.unique_reply.as_ref());
            let reply = own.map_or_else(usual, |make| make(&view(request, prepared), &holds()));
            return Plan { reply, changes: Vec::new(), object: Some(id_of(&holder)) };
        }
        let object = fields.to_bytes(&at.id);
        let status = if deed == Deed::Create { 201 } else { 200 };
        let reply = reply(status, request, prepared, route, &at.id, &object);
        // What the API adds to an object (a time, a state) is there when it is looked at, too.
        let object = match Fields::parse(&reply.body) {
            Ok(mut whole) if deed == Deed::Create && (200..300).contains(&reply.status) => {
                whole.update(Fields::parse(&object).unwrap_or_default());
                whole.to_bytes(&at.id)
            }
            _ => object,
        };
        let id = at.id.clone();
        let change = Change::Put { at, object, token: token.map(str::to_owned) };
        Plan { reply, changes: vec![change], object: Some(id) }
    }

    /// Makes an object of each item: each for itself where the reply tells of each, else all or none.
    fn write_all(
        &self,
        at: &Address,
        request: &Request,
        prepared: &Prepared,
        batch: &BatchRoute,
        store: &Store,
    ) -> Plan {
        let items = batch.items(&request.body);
        let (mut results, mut changes) = (Vec::with_capacity(items.len()), Vec::new());
        for (n, item) in items.into_iter().enumerate() {
            let text = item.to_string();
            let fields = Fields::parse(text.as_bytes()).unwrap_or_default();
            let at = Address { id: store.new_id(format!("{n}{text}").as_bytes()), ..at.clone() };
            let fault = match batch.check.as_ref().map_or(Ok(()), |check| check(&item)) {
                Err(message) => Some((400, "INVALID_ITEM", message)),
                Ok(()) => store
                    .taken(&at, &fields)
                    .map(|(field, _)| (409, "ALREADY_EXISTS", format!("another object has this `{field}`"))),
            };
            let (status, class, message) = fault.unwrap_or((201, "", String::new()));
            let object = fields.to_bytes(&at.id);
            results.push(ItemResult { status, class, message, object: object_of(&at.id, &object), item });
            if status == 201 {
                changes.push(Change::Put { at, object, token: None });
            }
        }
        let bad = results.iter().find(|result| result.status != 201);
        if let Some(bad) = bad.filter(|_| !batch.tells_each) {
            return Plan::refused(self.refuse(bad.status, bad.class, &bad.message));
        }
        let reply = (batch.reply)(&view(request, prepared), results);
        Plan { reply, changes, object: None }
    }

    /// Whether an update makes an object that is not there.
    fn makes_unknown(&self, at: &Address, route: Option<&Route>) -> bool {
        let made_by_post = self.collections.get(at.table).is_some_and(|known| known.made_by_post);
        // A path without id is a thing that is always there, such as settings.
        self.unknown == Unknown::Create
            || at.id.is_empty()
            || !made_by_post
            || route.is_some_and(|route| route.reply.is_some())
    }

    fn missing(&self, request: &Request, prepared: &Prepared, route: Option<&Route>, at: &Address) -> Plan {
        Plan::refused(match route.and_then(|route| route.reply.as_ref()) {
            Some(make) => make(&view(request, prepared), &Object { id: at.id.clone(), json: Value::Null }),
            None => self.refuse(404, "NOT_FOUND", "there is no such object"),
        })
    }

    fn list(
        &self,
        request: &Request,
        prepared: &Prepared,
        at: &Address,
        route: Option<&Route>,
        store: &Store,
    ) -> Plan {
        if let Some(single) = store.get(at) {
            return Plan::refused(reply(200, request, prepared, route, "", &single));
        }
        let secret = &self.rules.secrets.query;
        let filters: Vec<_> = prepared
            .query
            .iter()
            .filter(|(name, _)| !NOT_FILTERS.contains(&&**name) && !secret.contains(name))
            .collect();
        let number = |wanted: &str| {
            let found = prepared.query.iter().find(|(name, _)| name == wanted)?;
            found.1.parse::<usize>().ok()
        };
        let size = number("items_per_page").unwrap_or(usize::MAX);
        let skip = number("page").unwrap_or(1).saturating_sub(1).saturating_mul(size);
        let fits = |object: &Cow<'_, [u8]>| {
            filters.is_empty() || {
                let fields = Fields::parse(object).unwrap_or_default();
                filters.iter().all(|(name, value)| fields.get(name).is_some_and(|raw| plain(raw) == **value))
            }
        };
        let noun = self.collections.get(at.table).map_or("items", |known| known.list.noun());
        let mut out = b"{".to_vec();
        write_text(noun, &mut out);
        out.extend_from_slice(b":[");
        for (n, object) in store.list(at.table, &at.parents).filter(fits).skip(skip).take(size).enumerate() {
            if n > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&object);
        }
        out.extend_from_slice(b"]}");
        Plan::refused(reply(200, request, prepared, route, "", &out))
    }
}

/// The usual reply, or the one that the route makes.
fn reply(
    status: u16,
    request: &Request,
    prepared: &Prepared,
    route: Option<&Route>,
    id: &str,
    object: &[u8],
) -> ScriptedReply {
    match route.and_then(|route| route.reply.as_ref()) {
        Some(make) => make(&view(request, prepared), &object_of(id, object)),
        None => ScriptedReply::json_bytes(status, object.to_vec()),
    }
}

fn view<'a>(request: &'a Request, prepared: &'a Prepared) -> RequestView<'a> {
    RequestView {
        method: &request.method,
        path: request.path(),
        query: &prepared.query,
        params: &prepared.params,
        headers: &request.headers,
        body: prepared.json.as_ref().unwrap_or(&Value::Null),
    }
}

fn object_of(id: &str, object: &[u8]) -> Object {
    Object { id: id.to_owned(), json: serde_json::from_slice(object).unwrap_or_default() }
}

fn id_of(object: &[u8]) -> String {
    let fields = Fields::parse(object).unwrap_or_default();
    fields.get("id").map(plain).unwrap_or_default().into_owned()
}

/// What is stored of a body: an object as it is, a list as `items`, other JSON as `value`, text
/// as `text`.
fn body_object(body: &[u8]) -> Cow<'_, [u8]> {
    let wrapped =
        |name: &str, value: &[u8]| Cow::Owned([b"{\"", name.as_bytes(), b"\":", value, b"}"].concat());
    let valid = || serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
    match body.trim_ascii_start().first() {
        None => Cow::Borrowed(b"{}"),
        Some(b'{') if valid() => Cow::Borrowed(body),
        Some(b'[') if valid() => wrapped("items", body),
        _ if valid() => wrapped("value", body),
        _ => {
            let mut text = Vec::new();
            write_text(&String::from_utf8_lossy(body), &mut text);
            wrapped("text", &text)
        }
    }
}
