//! What a request means: which route takes it, what it changes and what is answered.
//!
//! Pure over rules and store: no socket, no script. What can be decided without the store is
//! decided before its lock is taken (`Api::prepare`); the rest is one short look (`Api::plan`),
//! which only describes the change, so that the journal can stand before it.

use std::borrow::Cow;

use http::Method;
use serde_json::Value;

use super::json::{Fields, plain};
use super::proto::Request;
use super::rules::{Object, PathPattern, RequestView, Route, Rules, ScriptedReply};
use super::server::Unknown;
use super::store::{Address, Change, Store};

/// Names of queries that turn pages or sort, and filter nothing.
const NOT_FILTERS: [&str; 8] =
    ["page", "items_per_page", "per_page", "limit", "offset", "sort_by", "sort_order", "sort"];

/// The rules, with what follows from them.
pub(super) struct Api {
    pub(super) rules: Rules,
    collections: Vec<Collection>,
    unknown: Unknown,
}

struct Collection {
    shape: String,
    list: PathPattern,
    item: PathPattern,
    unique: Vec<String>,
    /// Whether objects are made by POST.
    made_by_post: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Create,
    Read,
    List,
    Put,
    Patch,
    Delete,
}

/// A request as far as it can be judged without looking at the objects.
pub(super) struct Prepared {
    /// Index of the route that takes it.
    route: Option<usize>,
    params: Vec<(String, String)>,
    query: Vec<(String, String)>,
    /// Parsed only where somebody looks at it.
    pub(super) json: Option<Value>,
    verdict: Result<(Deed, Address), ScriptedReply>,
}

/// What a request does and gets.
pub(super) struct Plan {
    pub(super) reply: ScriptedReply,
    pub(super) change: Option<Change>,
    pub(super) object: Option<String>,
}

impl Plan {
    fn refused(reply: ScriptedReply) -> Self {
        Self { reply, change: None, object: None }
    }
}

impl Api {
    pub(super) fn new(rules: Rules, unknown: Unknown) -> Self {
        let mut collections: Vec<Collection> = Vec::new();
        for route in &rules.routes {
            let list = route.path.collection();
            let shape = list.shape();
            let at = collections.iter().position(|known| known.shape == shape).unwrap_or_else(|| {
                let (item, unique) = (list.item(), Vec::new());
                collections.push(Collection { shape, list, item, unique, made_by_post: false });
                collections.len() - 1
            });
            if let Some(collection) = collections.get_mut(at) {
                collection.made_by_post |= route.method == Method::POST && !route.path.is_item();
                for field in &route.unique {
                    if !collection.unique.contains(field) {
                        collection.unique.push(field.clone());
                    }
                }
            }
        }
        Self { rules, collections, unknown }
    }

    /// The tables that a store needs: the n-th is that of the n-th collection.
    pub(super) fn tables(&self) -> Vec<(String, Vec<String>)> {
        self.collections.iter().map(|known| (known.shape.clone(), known.unique.clone())).collect()
    }

    /// The collection at a path, and the ids above it.
    pub(super) fn collection(&self, path: &str) -> Option<(usize, Vec<String>)> {
        let fits = |(at, known): (usize, &Collection)| Some((at, values(known.list.matches(path)?)));
        self.collections.iter().enumerate().find_map(fits)
    }

    pub(super) fn route_name(&self, prepared: &Prepared) -> Option<String> {
        Some(self.rules.routes.get(prepared.route?)?.name.clone())
    }

    pub(super) fn refuse(&self, status: u16, class: &str, message: &str) -> ScriptedReply {
        ScriptedReply::json(status, &(self.rules.error)(status, class, message))
    }

    /// Finds the route and checks credentials and body.
    pub(super) fn prepare(&self, request: &Request, reads_body: bool) -> Prepared {
        let query = url::form_urlencoded::parse(request.query().as_bytes());
        let query = query.map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        let mut prepared = Prepared {
            route: None,
            params: Vec::new(),
            query,
            json: None,
            verdict: Err(ScriptedReply::empty(404)),
        };
        if reads_body {
            prepared.json = serde_json::from_slice(&request.body).ok();
        }
        prepared.verdict = self.judge(request, &mut prepared);
        prepared
    }

    fn judge(&self, request: &Request, prepared: &mut Prepared) -> Result<(Deed, Address), ScriptedReply> {
        if self.rules.auth.as_ref().is_some_and(|right| !right(&request.headers, request.query())) {
            return Err(self.refuse(401, "UNAUTHENTICATED", "the credentials are missing or wrong"));
        }
        let (deed, address) = self.find(request, prepared)?;
        let Some(route) = prepared.route.and_then(|at| self.rules.routes.get(at)) else {
            return Ok((deed, address));
        };
        let writes = matches!(deed, Deed::Create | Deed::Put | Deed::Patch);
        if !route.content_json && !request.body.is_empty() {
            prepared.json = Some(Value::String(String::from_utf8_lossy(&request.body).into_owned()));
        }
        if route.content_json && writes {
            let looked_at =
                route.check_body.is_some() || route.reply.is_some() || route.unique_reply.is_some();
            if looked_at && prepared.json.is_none() && !request.body.is_empty() {
                prepared.json = serde_json::from_slice(&request.body).ok();
            }
            let valid = request.body.is_empty()
                || prepared.json.is_some()
                || !looked_at && serde_json::from_slice::<serde::de::IgnoredAny>(&request.body).is_ok();
            if !valid {
                return Err(self.refuse(400, "INVALID_JSON", "the body is not JSON"));
            }
            if let Some(check) = &route.check_body
                && let Err(message) = check(prepared.json.as_ref().unwrap_or(&Value::Null))
            {
                return Err(self.refuse(400, "INVALID_BODY", &message));
            }
        }
        Ok((deed, address))
    }

    /// The most literal route for the method, else reading what some route writes.
    fn find(&self, request: &Request, prepared: &mut Prepared) -> Result<(Deed, Address), ScriptedReply> {
        let path = request.path();
        let (mut best, mut known): (Option<(usize, &Route, Vec<(String, String)>)>, bool) = (None, false);
        for (at, route) in self.rules.routes.iter().enumerate() {
            let Some(params) = route.path.matches(path) else { continue };
            known = true;
            let better =
                best.as_ref().is_none_or(|(_, best, _)| route.path.literals() > best.path.literals());
            if (route.method == request.method) && better {
                best = Some((at, route, params));
            }
        }
        if let Some((at, route, params)) = best {
            prepared.route = Some(at);
            let shape = route.path.collection().shape();
            let table = self.collections.iter().position(|known| known.shape == shape).unwrap_or(usize::MAX);
            let mut parents = values(params.clone());
            let id = if route.path.is_item() { parents.pop().unwrap_or_default() } else { String::new() };
            prepared.params = params;
            let deed = match (request.method.as_str(), route.path.is_item()) {
                ("POST", false) => Deed::Create,
                ("POST" | "PUT", _) => Deed::Put,
                ("PATCH", _) => Deed::Patch,
                ("DELETE", _) => Deed::Delete,
                (_, true) => Deed::Read,
                (_, false) => Deed::List,
            };
            return Ok((deed, Address { table, parents, id }));
        }
        let read = request.method == Method::GET;
        for (table, collection) in self.collections.iter().enumerate() {
            if let Some(params) = collection.list.matches(path) {
                known = true;
                if read {
                    return Ok((Deed::List, Address { table, parents: values(params), id: String::new() }));
                }
            } else if let Some(params) = collection.item.matches(path) {
                known = true;
                if read {
                    let mut parents = values(params.clone());
                    let id = parents.pop().unwrap_or_default();
                    prepared.params = params;
                    return Ok((Deed::Read, Address { table, parents, id }));
                }
            }
        }
        Err(if known {
            self.refuse(405, "METHOD_NOT_ALLOWED", "no endpoint has this method on this path")
        } else {
            self.refuse(404, "NOT_FOUND", "no endpoint has this path")
        })
    }

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
                    let reply = self.reply(200, request, prepared, route, &at.id, &object);
                    Plan { reply, change: None, object: Some(at.id) }
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
                    Plan { reply, change: Some(Change::Remove(at)), object }
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
        let old = if deed == Deed::Create { None } else { store.get(&at) };
        if deed != Deed::Create && old.is_none() && !self.makes_unknown(&at, route) {
            return self.missing(request, prepared, route, &at);
        }
        let token = route.and_then(|route| request.headers.get(route.idempotency.as_ref()?));
        let token = token.and_then(|token| token.to_str().ok()).filter(|_| deed == Deed::Create);
        if let Some(object) = token.and_then(|token| store.by_token(at.table, token)) {
            let id = id_of(&object);
            let reply = self.reply(201, request, prepared, route, &id, &object);
            return Plan { reply, change: None, object: Some(id) };
        }
        let body = body_object(&request.body);
        let given = Fields::parse(&body).unwrap_or_default();
        if deed == Deed::Create {
            at.id = store.new_id(&request.body);
        }
        let fields = match &old {
            Some(old) => {
                let mut fields = Fields::parse(old).unwrap_or_default();
                if deed == Deed::Patch {
                    fields.merge(given)
                } else {
                    fields.update(given)
                }
                fields
            }
            None => given,
        };
        if let Some((field, holder)) = store.taken(&at, &fields) {
            let reply = match route.and_then(|route| route.unique_reply.as_ref()) {
                Some(make) => make(&view(request, prepared), &object_of(&id_of(&holder), &holder)),
                None => {
                    let message = format!("another object has this `{field}`");
                    self.refuse(409, "ALREADY_EXISTS", &message)
                }
            };
            return Plan { reply, change: None, object: Some(id_of(&holder)) };
        }
        let object = fields.to_bytes(&at.id);
        let status = if deed == Deed::Create { 201 } else { 200 };
        let reply = self.reply(status, request, prepared, route, &at.id, &object);
        let id = at.id.clone();
        let change = Change::Put { at, object, token: token.map(str::to_owned) };
        Plan { reply, change: Some(change), object: Some(id) }
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
            return Plan::refused(self.reply(200, request, prepared, route, "", &single));
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
        super::json::write_text(noun, &mut out);
        out.extend_from_slice(b":[");
        for (n, object) in store.list(at.table, &at.parents).filter(fits).skip(skip).take(size).enumerate() {
            if n > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&object);
        }
        out.extend_from_slice(b"]}");
        Plan::refused(self.reply(200, request, prepared, route, "", &out))
    }

    fn reply(
        &self,
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
}

fn values(params: Vec<(String, String)>) -> Vec<String> {
    params.into_iter().map(|(_, value)| value).collect()
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
            super::json::write_text(&String::from_utf8_lossy(body), &mut text);
            wrapped("text", &text)
        }
    }
}
