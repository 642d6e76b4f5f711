//! Which route takes a request, and whether it may: all that can be judged without the objects,
//! and so without their lock.

use http::Method;
use serde_json::Value;

use super::forms::fields;
use super::proto::Request;
use super::rules::{Knock, PathPattern, Route, Rules, ScriptedReply, TOKEN_PATH};
use super::server::Unknown;
use super::store::Address;

/// Names and decoded values.
pub(super) type Params = Vec<(String, String)>;

/// The rules, with what follows from them.
pub(super) struct Api {
    pub(super) rules: Rules,
    pub(super) collections: Vec<Collection>,
    pub(super) unknown: Unknown,
}

pub(super) struct Collection {
    shape: String,
    pub(super) list: PathPattern,
    item: PathPattern,
    unique: Vec<String>,
    /// Whether objects are made by POST.
    pub(super) made_by_post: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
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
    pub(super) route: Option<usize>,
    pub(super) params: Params,
    pub(super) query: Params,
    /// Parsed only where somebody looks at it.
    pub(super) json: Option<Value>,
    /// Whether that is the fields of a form.
    pub(super) is_form: bool,
    pub(super) verdict: Result<(Deed, Address), ScriptedReply>,
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
            is_form: false,
            verdict: Err(ScriptedReply::empty(404)),
        };
        if reads_body {
            prepared.json = serde_json::from_slice(&request.body).ok();
            if prepared.json.is_none() {
                prepared.json = fields(&request.headers, &request.body);
            }
        }
        prepared.verdict = self.judge(request, &mut prepared);
        prepared
    }

    fn judge(&self, request: &Request, prepared: &mut Prepared) -> Result<(Deed, Address), ScriptedReply> {
        let knock = Knock {
            method: &request.method,
            path: request.path(),
            query: request.query(),
            headers: &request.headers,
            body: &request.body,
        };
        if let Some(token) = self.rules.token.as_ref().filter(|_| is_token_call(request.path())) {
            return Err(token(&knock));
        }
        if self.rules.auth.as_ref().is_some_and(|right| !right(&knock)) {
            return Err(self.refuse(401, "UNAUTHENTICATED", "the credentials are missing or wrong"));
        }
        let (deed, address) = self.find(request, prepared)?;
        let Some(route) = prepared.route.and_then(|at| self.rules.routes.get(at)) else {
            return Ok((deed, address));
        };
        let writes = matches!(deed, Deed::Create | Deed::Put | Deed::Patch);
        if !route.content_json && !request.body.is_empty() {
            let form = fields(&request.headers, &request.body);
            prepared.is_form = form.is_some();
            let text = || Value::String(String::from_utf8_lossy(&request.body).into_owned());
            prepared.json = Some(form.unwrap_or_else(text));
        }
        if route.content_json && writes {
            let looked_at = route.check_body.is_some()
                || route.reply.is_some()
                || route.unique_reply.is_some()
                || route.batch.is_some();
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
        let (mut best, mut known): (Option<(usize, &Route, Params)>, bool) = (None, false);
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
}

/// Whether a path is that of the token endpoint.
pub(super) fn is_token_call(path: &str) -> bool {
    path.split('?').next() == Some(TOKEN_PATH)
}

fn values(params: Params) -> Vec<String> {
    params.into_iter().map(|(_, value)| value).collect()
}
