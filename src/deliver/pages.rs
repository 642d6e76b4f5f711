//! The pages of a list: which is asked for next, what a reply holds, and when the list ends.
//!
//! Pure: it makes requests and reads replies; sending and waiting are `engine::listing`'s.
//! Invariants: every page is asked on the origin of the connection; a list that would never end is
//! an error, and so is whatever could leave items out in silence.

use std::collections::HashSet;
use std::sync::Arc;

use url::Url;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::{Listing, Pagination, Paging, RecordLimits};
use crate::model::{Arrived, Diagnostic, Map, Number, Problems, Request, Value};
use crate::render::{Context, Known, Leaf, RenderError, RequestTemplate, Root, Scope};

use super::exchange::{self, Needs};
use super::link;

/// A list that is being read.
pub struct Pager {
    call: RequestTemplate,
    items: Leaf,
    total_pages: Option<Leaf>,
    next: Option<Leaf>,
    needs: Needs,
    pagination: Pagination,
    max_body: usize,
    base: Context,
    limits: RecordLimits,
    at: Position,
    /// Pages that were read.
    pages: u64,
    /// Items of the largest page so far.
    largest: usize,
    /// Hash of the items of the last page.
    last: u64,
    /// Hashes of cursors and URLs that were used.
    seen: HashSet<u64>,
}

/// Which page is asked for.
#[derive(Debug, Clone, Default)]
struct Position {
    number: u64,
    offset: u64,
    cursor: Option<String>,
    url: Option<Url>,
}

/// What a page held.
#[derive(Debug)]
pub struct Turned {
    /// Its items.
    pub items: Vec<Value>,
    /// Whether another page follows.
    pub more: bool,
}

/// Bytes of one reply: a page of a list is larger than the reply to a record.
pub const MOST_OF_A_PAGE: usize = 16 << 20;

const FIELDS: [&str; 4] = ["number", "offset", "cursor", "size"];

impl Pager {
    /// What expressions of a list may use: `vars` and `connection` of `scope`, and `page`.
    #[must_use]
    pub fn scope(scope: Scope) -> Scope {
        let fields: Vec<String> = FIELDS.iter().map(|name| (*name).to_owned()).collect();
        scope.allow(Root::Page, Known::Fields(fields.into()))
    }

    /// Compiles a list. `base` has the values of `vars` and `connection`, `scope` says what is known
    /// of them.
    pub fn compile(
        listing: &Listing,
        base: Context,
        scope: &Scope,
        max_body: usize,
        problems: &mut Problems,
    ) -> Option<Self> {
        let errors = problems.errors();
        let pagination = listing.endpoint.pagination.clone()?;
        let mut endpoint = listing.endpoint.clone();
        let added = pagination.query();
        endpoint.query.retain(|(name, _)| !added.iter().any(|(other, _)| other.value == name.value));
        endpoint.query.extend(added);
        // What is said of records is nothing to a list.
        endpoint.batch = None;
        let scope = Self::scope(scope.clone());
        let call = RequestTemplate::compile(&endpoint, &listing.connection, &[], &scope, problems);
        let reads = RequestTemplate::scope(&endpoint, &listing.connection, &scope)
            .allow(Root::Response, Known::Any)
            .allow(Root::Request, Known::Any);
        let mut leaf = |template| Leaf::compile(template, &reads, problems);
        let items = leaf(&pagination.items);
        let total_pages = pagination.total_pages.as_ref().and_then(&mut leaf);
        let next = pagination.next.as_ref().and_then(&mut leaf);
        if problems.errors() != errors {
            return None;
        }
        let (call, items) = (call?, items?);
        let mut needs = Needs::of(std::iter::once(&items).chain(&total_pages).chain(&next));
        needs.body = true;
        Some(Self {
            call,
            items,
            total_pages,
            next,
            needs,
            max_body,
            base,
            limits: RecordLimits { record: MOST_OF_A_PAGE, ..RecordLimits::default() },
            at: Position { number: pagination.start, ..Position::default() },
            pagination,
            pages: 0,
            largest: 0,
            last: 0,
            seen: HashSet::new(),
        })
    }

    /// The number of the page that is asked for, from 1.
    #[must_use]
    pub const fn page(&self) -> u64 {
        self.pages + 1
    }

    /// The request for the next page.
    ///
    /// # Errors
    /// That it cannot be rendered.
    pub fn request(&self) -> Result<Request, RenderError> {
        let mut context = self.context();
        let mut request = self.call.render(&mut context)?.finish(None, self.max_body)?;
        if let Some(url) = &self.at.url {
            request.url = url.clone();
        }
        Ok(request)
    }

    fn context(&self) -> Context {
        let mut page = Map::with_capacity(4);
        page.push("number", Value::Number(Number::from(self.at.number)));
        page.push("offset", Value::Number(Number::from(self.at.offset)));
        page.push("cursor", self.at.cursor.as_deref().map_or(Value::Null, Value::text));
        let size = self.pagination.size.map(|size| Number::from(size.get() as u64));
        page.push("size", size.map_or(Value::Null, Value::Number));
        self.base.clone().with(Root::Page, Arc::new(Value::Object(page)))
    }

    /// Reads a page and finds the next.
    ///
    /// # Errors
    /// That the reply is no page, or that the list would never end or lead elsewhere.
    pub fn turn(&mut self, arrived: &Arrived, request: &Request) -> Result<Turned, Box<Diagnostic>> {
        let (response, readable) = exchange::response(arrived, self.needs, &self.limits);
        if !readable {
            return Err(self.wrong("page-unreadable", "is not what its content type says").into());
        }
        let mut context = self.context().with(Root::Response, Arc::new(response));
        if self.needs.sent {
            context.set(Root::Request, Arc::new(exchange::request(request, None, &self.limits)));
        }
        let items = match self.items.value(&context) {
            Ok(Value::Array(items)) => items,
            Ok(Value::Null | Value::Absent) => Vec::new(),
            Ok(value) => {
                let message = format!("has {} where `items` should be a list", value.kind());
                return Err(self.wrong("page-unreadable", &message).into());
            }
            Err(error) => {
                let message = format!("has no list at `items`: {}", error.message);
                return Err(self.wrong("page-unreadable", &message).into());
            }
        };
        let more = match self.pagination.kind {
            Paging::None => false,
            Paging::Page | Paging::Offset => self.by_number(&items, &context)?,
            Paging::Cursor => self.by_cursor(&context)?,
            Paging::NextUrl => {
                let target = self.next_of(&context);
                self.by_url(target, request)?
            }
            Paging::Link => self.by_url(link::next(&arrived.headers), request)?,
        };
        self.pages += 1;
        if more && self.pages >= self.pagination.max_pages {
            let message = format!("the list does not end within {} pages", self.pagination.max_pages);
            return Err(Diagnostic::error("list-endless", message)
                .place(&self.pagination.place)
                .help("raise `max_pages` if there are so many")
                .into());
        }
        self.at.number += 1;
        self.at.offset += items.len() as u64;
        Ok(Turned { items, more })
    }

    /// A page that is empty, or shorter than one before, is the last where nobody says how many there
    /// are. The size that was asked for proves nothing: many servers have a limit below it.
    fn by_number(&mut self, items: &[Value], context: &Context) -> Result<bool, Box<Diagnostic>> {
        let mut bytes = Vec::new();
        for item in items {
            item.write_json(&mut bytes);
            bytes.push(b'\n');
        }
        let hash = xxh3_64(&bytes);
        if !items.is_empty() && self.pages > 0 && hash == self.last {
            return Err(self
                .wrong("page-repeated", "holds the same items as the page before")
                .help("the far side seems not to know the parameter of the page: look at `param`; a list with one page is `kind: none`")
                .into());
        }
        self.last = hash;
        let is_short = items.is_empty() || items.len() < self.largest;
        self.largest = self.largest.max(items.len());
        let total = self.total_pages.as_ref().map(|leaf| leaf.lenient_value(context));
        let total = match total {
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => text.parse().ok(),
            _ => None,
        };
        Ok(match total {
            Some(total) => self.pages + 1 < total,
            None => !is_short,
        })
    }

    fn by_cursor(&mut self, context: &Context) -> Result<bool, Box<Diagnostic>> {
        let Some(cursor) = self.next_of(context) else { return Ok(false) };
        if !self.seen.insert(xxh3_64(cursor.as_bytes())) {
            return Err(self.repeated("cursor"));
        }
        self.at.cursor = Some(cursor);
        Ok(true)
    }

    fn by_url(&mut self, target: Option<String>, request: &Request) -> Result<bool, Box<Diagnostic>> {
        let Some(target) = target else { return Ok(false) };
        let Ok(mut url) = request.url.join(&target) else {
            return Err(self.wrong("page-elsewhere", "names a next page that is no URL").into());
        };
        url.set_fragment(None);
        let has_user = !url.username().is_empty() || url.password().is_some();
        if url.origin() != request.url.origin() || has_user {
            return Err(self
                .wrong("page-elsewhere", "names a next page that lies elsewhere")
                .note(format!("it leads to {}, and the connection to {}", origin(&url), origin(&request.url)))
                .note("credentials go to the host of their connection only")
                .into());
        }
        if self.pages == 0 {
            self.seen.insert(xxh3_64(request.url.as_str().as_bytes()));
        }
        if !self.seen.insert(xxh3_64(url.as_str().as_bytes())) {
            return Err(self.repeated("URL"));
        }
        self.at.url = Some(url);
        Ok(true)
    }

    /// What the reply says of the next page; nothing, empty text and false end a list.
    fn next_of(&self, context: &Context) -> Option<String> {
        match self.next.as_ref()?.lenient_value(context) {
            Value::String(text) if !text.trim().is_empty() => Some(text.to_string()),
            Value::Number(number) => Some(number.as_str().to_owned()),
            _ => None,
        }
    }

    fn repeated(&self, what: &str) -> Box<Diagnostic> {
        self.wrong("list-endless", &format!("names a {what} of the next page that was used before"))
            .note("the list would never end")
            .into()
    }

    fn wrong(&self, rule: &'static str, what: &str) -> Diagnostic {
        Diagnostic::error(rule, format!("the reply of page {} {what}", self.page()))
            .place(&self.pagination.place)
    }
}

/// Scheme, host and port, without anything that could be a secret.
fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}
