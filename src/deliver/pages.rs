//! The pages of a list: which is asked for next, what a reply holds, and when the list ends.
//!
//! Pure: it makes requests and reads replies; sending and waiting are `engine::listing`'s.
//! Invariants: every page is asked on the origin of the connection; a list that would never end is
//! an error, and so is whatever could leave items out in silence.

use std::collections::HashSet;
use std::sync::Arc;

use url::Url;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

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
    /// Hashes of the items of the first page and of the last one.
    first: u64,
    last: u64,
    /// Hashes of cursors and URLs that were used.
    seen: HashSet<u64>,
    /// Query parameters that carry credentials: they are added to every request.
    credentials: Vec<String>,
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
        let needs = Needs::of(std::iter::once(&items).chain(&total_pages).chain(&next)).with_body();
        Some(Self {
            call,
            items,
            total_pages,
            next,
            needs,
            max_body,
            base,
            limits: RecordLimits { record: MOST_OF_A_PAGE, ..RecordLimits::default() },
            at: match pagination.kind {
                Paging::Offset => Position { number: 1, offset: pagination.start, ..Position::default() },
                _ => Position { number: pagination.start, ..Position::default() },
            },
            pagination,
            pages: 0,
            first: 0,
            last: 0,
            seen: HashSet::new(),
            credentials: listing
                .connection
                .credentials
                .iter()
                .filter_map(|one| one.carrier.parameter())
                .collect(),
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
        let (response, readable) = exchange::response(arrived, &self.needs, &self.limits);
        // A reply without a body (RFC 9110 section 15.3.5) has no items.
        let is_empty = arrived.status == http::StatusCode::NO_CONTENT;
        if !readable && !is_empty {
            return Err(self.wrong("page-unreadable", "is not what its content type says").into());
        }
        let mut context = self.context().with(Root::Response, Arc::new(response));
        if self.needs.sent {
            context.set(Root::Request, Arc::new(exchange::request(request, None, &self.limits)));
        }
        let items = match self.items.value(&context) {
            _ if is_empty => Vec::new(),
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
                let target = self.next_of(&context)?;
                self.by_url(target, request)?
            }
            Paging::Link => self.by_url(link::next(&arrived.headers), request)?,
        };
        self.refuse_repeated(&items, more)?;
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

    /// Refuses a page that was there before: the far side does not know what it was asked for, or begins again
    /// behind its end, and would give items twice without an end.
    fn refuse_repeated(&mut self, items: &[Value], more: bool) -> Result<(), Box<Diagnostic>> {
        if items.is_empty() {
            return Ok(());
        }
        let mut hasher = Xxh3::new();
        let mut bytes = Vec::new();
        for item in items {
            bytes.clear();
            item.write_json(&mut bytes);
            bytes.push(b'\n');
            hasher.update(&bytes);
        }
        let hash = hasher.digest();
        let is_numbered = matches!(self.pagination.kind, Paging::Page | Paging::Offset);
        let before = match self.pages {
            0 => None,
            // With a cursor or URL it is one of its own, and may be the last.
            _ if hash == self.last && (is_numbered || more) => Some("the page before"),
            _ if is_numbered && hash == self.first => Some("the first page"),
            _ => None,
        };
        if self.pages == 0 {
            self.first = hash;
        }
        self.last = hash;
        let Some(before) = before else { return Ok(()) };
        let help = if is_numbered {
            "the far side seems not to know the parameter of the page: look at `param`; a list with one page is `kind: none`, and one that \
             begins again behind its end needs `total_pages`"
        } else {
            "the far side seems not to know what it is asked for: look at `param` and `next`"
        };
        Err(self.wrong("page-repeated", &format!("holds the same items as {before}")).help(help).into())
    }

    /// A page that is empty is the last where nobody says how many there are. That one is short proves nothing:
    /// many servers have a limit below the size that was asked for, others leave out what one may not see.
    fn by_number(&self, items: &[Value], context: &Context) -> Result<bool, Box<Diagnostic>> {
        let total = self.total_pages.as_ref().map(|leaf| leaf.lenient_value(context));
        let total = match total {
            None | Some(Value::Absent | Value::Null) => return Ok(!items.is_empty()),
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        let Some(total) = total else {
            let message = "has no whole number where `total_pages` should be one";
            return Err(self.wrong("page-unreadable", message).into());
        };
        if total == 0 && !items.is_empty() {
            let message = "has items, and says with `total_pages` that there is no page";
            return Err(self.wrong("page-unreadable", message).into());
        }
        Ok(self.pages + 1 < total)
    }

    fn by_cursor(&mut self, context: &Context) -> Result<bool, Box<Diagnostic>> {
        let Some(cursor) = self.next_of(context)? else { return Ok(false) };
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
        self.without_credentials(&mut url);
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
    fn next_of(&self, context: &Context) -> Result<Option<String>, Box<Diagnostic>> {
        let Some(next) = &self.next else { return Ok(None) };
        match next.lenient_value(context) {
            Value::Absent | Value::Null | Value::Bool(false) => Ok(None),
            Value::String(text) if text.trim().is_empty() => Ok(None),
            Value::String(text) => Ok(Some(text.to_string())),
            Value::Number(number) => Ok(Some(number.as_str().to_owned())),
            value => {
                let message = format!("has {} where `next` should be text", value.kind());
                Err(self.wrong("page-unreadable", &message).into())
            }
        }
    }

    /// Takes out what is added to every request: far sides repeat it in the next URL.
    fn without_credentials(&self, url: &mut Url) {
        let is_one = |name: &str| self.credentials.iter().any(|known| known == name);
        if !url.query_pairs().any(|(name, _)| is_one(&name)) {
            return;
        }
        // What stays, stays as it is written.
        let kept: Vec<&str> = url
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !url::form_urlencoded::parse(pair.as_bytes()).any(|(name, _)| is_one(&name)))
            .collect();
        let kept = kept.join("&");
        url.set_query((!kept.is_empty()).then_some(&kept));
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

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::config::fixtures::{connection, endpoint, template};
    use crate::render::RunValues;

    fn pager(kind: Paging, change: impl FnOnce(&mut Pagination)) -> Pager {
        let mut pagination = Pagination {
            place: template("pagination").place,
            kind,
            items: template("{{ response.body.items }}"),
            param: Some("at".into()),
            size_param: Some("n".into()),
            size: std::num::NonZeroUsize::new(2),
            start: u64::from(kind != Paging::Offset),
            total_pages: None,
            next: None,
            max_pages: 100,
        };
        change(&mut pagination);
        let mut endpoint = endpoint("/things");
        endpoint.method.value = http::Method::GET;
        endpoint.content = crate::config::Content::None;
        endpoint.pagination = Some(pagination);
        let listing = Listing { endpoint, connection: connection("https://a.example/v2") };
        let (context, mut problems) = (Context::new(RunValues::of_nobody()), Problems::new());
        let pager = Pager::compile(&listing, context, &Scope::new(), 1 << 20, &mut problems);
        pager.unwrap_or_else(|| panic!("{:?}", problems.into_sorted()))
    }

    /// What is asked for next, and what a reply to it says: how many items and whether more follow, or
    /// the rule that it breaks.
    fn turn(pager: &mut Pager, link: &str, body: &str) -> (String, Result<(usize, bool), &'static str>) {
        let request = pager.request().expect("a request");
        let mut headers = HeaderMap::new();
        if !link.is_empty() {
            headers.insert(http::header::LINK, link.parse().expect("a header"));
        }
        let body = bytes::Bytes::copy_from_slice(body.as_bytes());
        let arrived = Arrived { status: StatusCode::OK, headers, body, complete: true };
        let turned = pager.turn(&arrived, &request);
        let asked = request.url.as_str().trim_start_matches("https://a.example").to_owned();
        (asked, turned.map(|turned| (turned.items.len(), turned.more)).map_err(|found| found.rule))
    }

    /// Turns all pages: what was asked for, and the last answer.
    fn all(mut pager: Pager, bodies: &[&str]) -> (Vec<String>, Result<(usize, bool), &'static str>) {
        let mut asked = Vec::new();
        for body in bodies {
            let (url, turned) = turn(&mut pager, "", body);
            asked.push(url);
            if !matches!(turned, Ok((_, true))) {
                assert_eq!(asked.len(), bodies.len(), "it ended early: {turned:?}");
                return (asked, turned);
            }
        }
        (asked, Ok((0, true)))
    }

    const TWO: &str = r#"{"items":[1,2]}"#;
    const OTHER: &str = r#"{"items":[3,4]}"#;
    const ONE: &str = r#"{"items":[5]}"#;
    const NONE: &str = r#"{"items":[]}"#;

    #[test]
    fn numbers_and_offsets_end_at_an_empty_page() {
        let page = |change: fn(&mut Pagination)| pager(Paging::Page, change);
        // A short page in the middle is no end.
        let (asked, last) = all(page(|_| {}), &[TWO, ONE, OTHER, NONE]);
        let at = |n| format!("/v2/things?at={n}&n=2");
        assert_eq!(asked, [at(1), at(2), at(3), at(4)]);
        assert_eq!(last, Ok((0, false)));
        assert_eq!(all(page(|_| {}), &[TWO, NONE]).1, Ok((0, false)));
        assert_eq!(all(page(|_| {}), &[r#"{"items":null}"#]).1, Ok((0, false)));
        // One item where two were asked for: the far side may give one at a time.
        let (asked, last) = all(pager(Paging::Offset, |_| {}), &[ONE, r#"{"items":[6]}"#, NONE]);
        assert_eq!(asked, ["/v2/things?at=0&n=2", "/v2/things?at=1&n=2", "/v2/things?at=2&n=2"]);
        assert_eq!(last, Ok((0, false)));
        let counted = page(|pagination| {
            pagination.start = 0;
            pagination.total_pages = Some(template("{{ response.body.pages }}"));
        });
        let (asked, last) = all(counted, &[r#"{"items":[1],"pages":2}"#, r#"{"items":[2,3],"pages":"2"}"#]);
        assert_eq!(asked, ["/v2/things?at=0&n=2", "/v2/things?at=1&n=2"]);
        assert_eq!(last, Ok((2, false)));
        let counted = || page(|p| p.total_pages = Some(template("{{ response.body.pages }}")));
        for wrong in ["\"two\"", "1.5", "-1", "true", "[2]"] {
            let body = format!(r#"{{"items":[1],"pages":{wrong}}}"#);
            assert_eq!(all(counted(), &[&body]).1, Err("page-unreadable"), "{wrong}");
        }
        // Nobody says how many there are: the list goes on to an empty page.
        assert_eq!(all(counted(), &[r#"{"items":[1],"pages":null}"#, NONE]).1, Ok((0, false)));
    }

    #[test]
    fn a_reply_without_a_body_is_an_empty_page() {
        let mut pager = pager(Paging::Page, |_| {});
        assert_eq!(turn(&mut pager, "", TWO).1, Ok((2, true)));
        let request = pager.request().expect("a request");
        let (status, body) = (StatusCode::NO_CONTENT, bytes::Bytes::new());
        let arrived = Arrived { status, headers: HeaderMap::new(), body, complete: true };
        let turned = pager.turn(&arrived, &request).expect("a page");
        assert_eq!((turned.items.len(), turned.more), (0, false));
    }

    #[test]
    fn cursors_are_encoded_and_never_used_twice() {
        let cursor = || pager(Paging::Cursor, |p| p.next = Some(template("{{ response.body.next }}")));
        let (asked, last) = all(
            cursor(),
            &[r#"{"items":[1],"next":"a b&c"}"#, r#"{"items":[],"next":7}"#, r#"{"items":[2],"next":""}"#],
        );
        assert_eq!(asked, ["/v2/things?n=2", "/v2/things?at=a%20b%26c&n=2", "/v2/things?at=7&n=2"]);
        assert_eq!(last, Ok((1, false)));
        for end in ["null", "false", "\" \""] {
            assert_eq!(
                all(cursor(), &[&format!(r#"{{"items":[1],"next":{end}}}"#)]).1,
                Ok((1, false)),
                "{end}"
            );
        }
        assert_eq!(all(cursor(), &[ONE]).1, Ok((1, false)), "none is no next one");
        for wrong in [r#"{"href":"/x"}"#, "true", r#"["a"]"#] {
            let body = format!(r#"{{"items":[1],"next":{wrong}}}"#);
            assert_eq!(all(cursor(), &[&body]).1, Err("page-unreadable"), "{wrong}");
        }
        let looped = r#"{"items":[1],"next":"a"}"#;
        assert_eq!(all(cursor(), &[looped, looped]).1, Err("list-endless"));
    }

    #[test]
    fn next_urls_stay_on_the_origin() {
        let url = || pager(Paging::NextUrl, |p| p.next = Some(template("{{ response.body.next }}")));
        let to = |target: &str| format!(r#"{{"items":[1],"next":"{target}"}}"#);
        for (target, asked) in [
            ("/v2/things?page=2", "/v2/things?page=2"),
            ("?page=2#x", "/v2/things?page=2"),
            ("https://a.example/other?x=%20", "/other?x=%20"),
            ("https://A.example:443/v2/x", "/v2/x"),
        ] {
            let mut pager = url();
            assert_eq!(turn(&mut pager, "", &to(target)).1, Ok((1, true)), "{target}");
            assert_eq!(turn(&mut pager, "", ONE).0, asked, "{target}");
        }
        for target in [
            "https://b.example/v2/things",
            "http://a.example/v2/things",
            "https://a.example:8443/v2/things",
            "https://a.example.evil/v2",
            "//b.example/x",
            "https://me@a.example/x",
            "https://a.example:x/",
            "file:///etc/passwd",
        ] {
            assert_eq!(turn(&mut url(), "", &to(target)).1, Err("page-elsewhere"), "{target}");
        }
        // What is added to every request is not added twice.
        let mut keyed = url();
        keyed.credentials = vec!["key".into()];
        assert_eq!(turn(&mut keyed, "", &to("/v2/things?key=s&p=a%2fb&k%65y=s&n=2")).1, Ok((1, true)));
        assert_eq!(turn(&mut keyed, "", &to("/v2/things?key=s")).0, "/v2/things?p=a%2fb&n=2");
        let mut pager = pager(Paging::Link, |_| {});
        assert_eq!(turn(&mut pager, "</v2/things?p=2>; rel=\"next\"", ONE).1, Ok((1, true)));
        assert_eq!(
            turn(&mut pager, "</v2/things?n=2>; rel=next", ONE).1,
            Err("list-endless"),
            "the first again"
        );
    }

    #[test]
    fn an_offset_may_begin_at_another_number_than_0() {
        let from = |start| pager(Paging::Offset, |pagination| pagination.start = start);
        let (mut usual, mut from_one) = (from(0), from(1));
        assert_eq!(turn(&mut usual, "", TWO).0, "/v2/things?at=0&n=2");
        assert_eq!(turn(&mut usual, "", TWO).0, "/v2/things?at=2&n=2");
        assert_eq!(turn(&mut from_one, "", TWO).0, "/v2/things?at=1&n=2");
        assert_eq!(turn(&mut from_one, "", ONE).0, "/v2/things?at=3&n=2");
    }

    #[test]
    fn what_is_no_page_is_said() {
        let one = |body: &str| turn(&mut pager(Paging::None, |_| {}), "", body).1;
        assert_eq!(one(TWO), Ok((2, false)));
        for body in ["{", "{}", "[]", r#"{"items":{}}"#, r#"{"items":"x"}"#] {
            assert_eq!(one(body), Err("page-unreadable"), "{body}");
        }
        for kind in [Paging::Page, Paging::Offset, Paging::Cursor] {
            let cursor = |pagination: &mut Pagination| {
                pagination.next = (kind == Paging::Cursor).then(|| template("{{ response.body.next }}"));
            };
            let page = |cursor: &str| format!(r#"{{"items":[1,2],"next":"{cursor}"}}"#);
            assert_eq!(
                all(pager(kind, cursor), &[&page("a"), &page("b")]).1,
                Err("page-repeated"),
                "{kind:?}"
            );
        }
        assert_eq!(all(pager(Paging::Page, |_| {}), &[TWO, OTHER, TWO]).1, Err("page-repeated"));
        let none =
            |pagination: &mut Pagination| pagination.total_pages = Some(template("{{ response.body.n }}"));
        assert_eq!(all(pager(Paging::Page, none), &[r#"{"items":[1],"n":0}"#]).1, Err("page-unreadable"));
        assert_eq!(all(pager(Paging::Page, none), &[r#"{"items":[],"n":0}"#]).1, Ok((0, false)));
        let short = || pager(Paging::Page, |pagination| pagination.max_pages = 2);
        assert_eq!(all(short(), &[TWO, OTHER]).1, Err("list-endless"));
        assert_eq!(all(short(), &[TWO, NONE]).1, Ok((0, false)));
    }
}
