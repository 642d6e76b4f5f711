//! `pagination:` of an endpoint: how a list is read page by page.
//!
//! The connector says what all its lists have in common, an endpoint what its own list is; key by key
//! the endpoint's word goes first. An endpoint without the key is no list.

use std::num::NonZeroUsize;

use super::raw::{raw, words};
use super::values::{Count, Window};
use super::{Endpoint, Tree};
use crate::model::{Diagnostic, Number, Place, Placed, Problems};

raw! {
    /// How a list is read page by page.
    RawPagination, "`pagination`" {
        /// How the next page is asked for.
        kind: Option<Placed<Paging>>,
        /// The items of a page: an expression over `response` that gives a list.
        items: Option<Placed<String>>,
        /// Query parameter for the number, offset or cursor of the page.
        param: Option<Placed<String>>,
        /// Query parameter for the size of a page.
        size_param: Option<Placed<String>>,
        /// Items of a page that are asked for.
        size: Option<Window>,
        /// Number of the first page, 1 unless said; or offset of the first item, 0 unless said.
        start: Option<StartNumber>,
        /// How many pages there are, an expression over `response`; a list ends there.
        total_pages: Option<Placed<String>>,
        /// Cursor or URL of the next page, an expression over `response`; nothing ends the list.
        next: Option<Placed<String>>,
        /// More pages than these are an error; 100000 unless said.
        max_pages: Option<Count>,
    }
    wrong {
        "type" => "it is written `kind: page`",
        "page_param" => "it is written `param: page`",
        "cursor" => "it is written `next: \"{{ response.body.next_cursor }}\"`",
        "next_url" => "it is written `kind: next_url` with `next: EXPRESSION`",
        "data" => "it is written `items: \"{{ response.body.data }}\"`",
        "limit" => "it is written `size: 50`",
    }
}

/// The number of the first page.
#[derive(Debug, Clone, Copy)]
pub(super) struct StartNumber(u64);

impl super::raw::FromNode for StartNumber {
    fn read(node: &super::read::Node, what: &str, problems: &mut Problems) -> Option<Self> {
        if let super::read::Kind::Number(number) = &node.kind
            && let Some(number) = number.as_u64()
        {
            return Some(Self(number));
        }
        problems.push(super::raw::wrong_type(node, what, "a whole number"));
        None
    }
}

super::raw::published! {
    StartNumber => { "type": "integer", "minimum": 0 };
}

/// How the next page is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paging {
    /// There is one page.
    None,
    /// By its number.
    Page,
    /// By the number of items before it.
    Offset,
    /// By a cursor that the reply gives.
    Cursor,
    /// By a URL that the reply gives.
    NextUrl,
    /// By the `Link` header (RFC 8288), relation `next`.
    Link,
}

words!(Paging {
    "none" => Self::None,
    "page" => Self::Page,
    "offset" => Self::Offset,
    "cursor" => Self::Cursor,
    "next_url" => Self::NextUrl,
    "link" => Self::Link,
});

/// How a list is read page by page.
#[derive(Debug, Clone)]
pub struct Pagination {
    /// Where it was written.
    pub place: Place,
    /// How the next page is asked for.
    pub kind: Paging,
    /// The items of a page.
    pub items: Placed<String>,
    /// Query parameter for the number, offset or cursor of the page.
    pub param: Option<String>,
    /// Query parameter for the size of a page.
    pub size_param: Option<String>,
    /// Items of a page that are asked for.
    pub size: Option<NonZeroUsize>,
    /// Number of the first page, or offset of the first item.
    pub start: u64,
    /// How many pages there are.
    pub total_pages: Option<Placed<String>>,
    /// Cursor or URL of the next page.
    pub next: Option<Placed<String>>,
    /// More pages than these are an error.
    pub max_pages: u64,
}

impl Pagination {
    /// The query parameters that it adds to the endpoint's own.
    #[must_use]
    pub fn query(&self) -> Vec<(Placed<String>, Tree)> {
        let text = |name: &str, value: &str| {
            let name = Placed::new(name.to_owned(), self.place.clone());
            (name, Tree::Text(Placed::new(value.to_owned(), self.place.clone())))
        };
        let value = match self.kind {
            Paging::Page => "{{ page.number }}",
            Paging::Offset => "{{ page.offset }}",
            _ => "{{ page.cursor }}",
        };
        let own = self.param.as_deref().map(|name| text(name, value));
        let size = self.size_param.as_deref().zip(self.size).map(|(name, size)| {
            let number = Tree::Number(Number::from(size.get() as u64), self.place.clone());
            (Placed::new(name.to_owned(), self.place.clone()), number)
        });
        own.into_iter().chain(size).collect()
    }
}

/// Pages of a list, unless said.
const MOST_PAGES: u64 = 100_000;

/// The pagination of an endpoint, with what its connector says of all lists.
pub(super) fn resolve(
    own: &RawPagination,
    of_all: Option<&RawPagination>,
    endpoint: &Endpoint,
    problems: &mut Problems,
) -> Option<Pagination> {
    let place = own.place.clone();
    let errors = problems.errors();
    let kind = own.kind.clone().or_else(|| of_all.and_then(|raw| raw.kind.clone()));
    let Some(kind) = kind else {
        problems.at("missing-key", &place, "`pagination` needs `kind`");
        return None;
    };
    // What a connector says of numbers of pages means nothing to a list that has cursors.
    let of_all = of_all.filter(|raw| raw.kind.as_ref().is_none_or(|all| all.value == kind.value));
    let all =
        |pick: fn(&RawPagination) -> Option<Placed<String>>| pick(own).or_else(|| of_all.and_then(pick));
    let items = all(|raw| raw.items.clone());
    let (param, size_param) = (all(|raw| raw.param.clone()), all(|raw| raw.size_param.clone()));
    let (total_pages, next) = (all(|raw| raw.total_pages.clone()), all(|raw| raw.next.clone()));
    let size =
        own.size.or_else(|| of_all.and_then(|raw| raw.size)).and_then(|size| NonZeroUsize::new(size.0));
    let start = own.start.or_else(|| of_all.and_then(|raw| raw.start));
    let start = start.map_or(u64::from(kind.value != Paging::Offset), |start| start.0);
    let max_pages = own.max_pages.or_else(|| of_all.and_then(|raw| raw.max_pages));
    if !matches!(endpoint.method.value, http::Method::GET | http::Method::POST) {
        problems.push(
            Diagnostic::error("pagination", format!("{} reads no list", endpoint.method.value))
                .place(&endpoint.method.place)
                .help("a list is read with GET, or POST where a search is one"),
        );
    }
    let wants_next = matches!(kind.value, Paging::Cursor | Paging::NextUrl);
    if wants_next && next.is_none() {
        let what = if kind.value == Paging::Cursor { "cursor" } else { "URL" };
        problems.push(Diagnostic::error("missing-key", "`pagination` needs `next`").place(&kind.place).help(
            format!("say where the {what} of the next page stands: `next: \"{{{{ response.body.next }}}}\"`"),
        ));
    }
    for (key, written, fits) in [
        ("next", &next, wants_next),
        ("total_pages", &total_pages, kind.value == Paging::Page),
        ("param", &param, matches!(kind.value, Paging::Page | Paging::Offset | Paging::Cursor)),
    ] {
        if let Some(written) = written.as_ref().filter(|_| !fits) {
            problems.at(
                "pagination",
                &written.place,
                format!("`{key}` means nothing to a list of this kind"),
            );
        }
    }
    let has_number = matches!(kind.value, Paging::Page | Paging::Offset) || mentions_page(endpoint);
    if own.start.is_some() && !has_number {
        problems.at("pagination", &place, "`start` means nothing to a list of this kind");
    }
    if size_param.is_some() != size.is_some() {
        problems.push(
            Diagnostic::error("missing-key", "`size` and `size_param` belong together")
                .place(&place)
                .help("write `size_param: items_per_page, size: 50`"),
        );
    }
    if matches!(kind.value, Paging::Page | Paging::Offset | Paging::Cursor)
        && param.is_none()
        && !mentions_page(endpoint)
    {
        problems.push(
            Diagnostic::error("missing-key", "nothing in the request says which page is asked for")
                .place(&place)
                .help("name the query parameter with `param: page`, or use `page` in `query` or `body`"),
        );
    }
    let Some(items) = items else {
        problems.push(
            Diagnostic::error("missing-key", "`pagination` needs `items`")
                .place(&place)
                .help("say where the list stands in a reply: `items: \"{{ response.body.users }}\"`"),
        );
        return None;
    };
    (problems.errors() == errors).then(|| Pagination {
        place,
        kind: kind.value,
        items,
        param: param.map(|param| param.value),
        size_param: size_param.map(|param| param.value),
        size,
        start,
        total_pages,
        next,
        max_pages: max_pages.map_or(MOST_PAGES, |count| count.0),
    })
}

/// Whether the endpoint's own templates ask for a page.
fn mentions_page(endpoint: &Endpoint) -> bool {
    fn within(tree: &Tree) -> bool {
        match tree {
            Tree::Text(text) => text.value.contains("page."),
            Tree::List(items, _) => items.iter().any(within),
            Tree::Map(entries, _) => entries.iter().any(|(_, value)| within(value)),
            Tree::Null(_) | Tree::Bool(..) | Tree::Number(..) => false,
        }
    }
    endpoint.path.value.contains("page.")
        || endpoint.query.iter().any(|(_, value)| within(value))
        || endpoint.headers.iter().any(|(_, value)| value.value.contains("page."))
        || endpoint.body.as_ref().is_some_and(within)
}
