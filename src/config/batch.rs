//! `batch:` of an endpoint or a pipeline: several records in one call.
//!
//! An endpoint says what its API takes (envelope, results, the most records); a pipeline says how much
//! of it is used. Key by key the pipeline's word goes before the endpoint's.

use std::num::NonZeroUsize;

use super::raw::{Entries, FromNode, Needed, raw, words};
use super::read::{Kind, Node};
use super::values::{Size, Window};
use super::{Batch, Content, Endpoint, Grouping, ItemReplies, Matching, Missing, OnReject, Tree};
use crate::model::{Diagnostic, Placed, Problems};

raw! {
    /// Several records in one call.
    RawBatch, "`batch`" {
        /// At most so many records in one call; 100 unless said.
        size: Option<Window>,
        /// At most so many bytes in one body.
        max_bytes: Option<Size>,
        /// Which records share a call; in the order of the input unless said.
        algorithm: Option<Placed<Algorithm>>,
        /// Only records with the same value share a call.
        group_by: Option<Placed<String>>,
        /// What one record contributes; the endpoint's `body`, or the record, unless said.
        item: Option<Tree>,
        /// The whole body; the plain list, `{{ batch.items }}`, unless said.
        body: Option<Tree>,
        /// Where the reply says what became of each record.
        replies: Option<RawReplies>,
        /// What follows when the whole call is refused and certainly did nothing.
        on_reject: Option<OnReject>,
    }
    wrong {
        "max_wait" => "every source is read as a whole before anything is sent, so no call waits for records",
        "max_size" => "it is written `size: 100`, in records, or `max_bytes: 1MiB`",
        "items" => "it is written `item: …`, what one record contributes; the whole body is `body: …`",
        "envelope" => "it is written `body: { users: \"{{ batch.items }}\" }`",
        "by_field" => "it is written `group_by: EXPRESSION`",
        "results" => "it is written `replies: { at: \"{{ response.body.results }}\" }`",
    }
}

raw! {
    /// Where the reply to a call says what became of each record.
    RawReplies, "`replies`" {
        /// The list of results, an expression over `response`.
        at: Needed<Placed<String>>,
        /// Which result belongs to which record: `position`, or by equal values.
        r#match: Option<RawMatch>,
        /// True when the record arrived, an expression over `reply`, `item` and `response`.
        delivered: Option<Placed<String>>,
        /// The HTTP status of one result; it is read as that of a call would be.
        status: Option<Placed<String>>,
        /// The machine word of a refusal.
        class: Option<Placed<String>>,
        /// The human text of a refusal.
        message: Option<Placed<String>>,
        /// What to keep of one result.
        captures: Entries<Placed<String>>,
        /// What a record without a result means; in doubt unless said.
        missing: Option<Missing>,
    }
    wrong {
        "id" => "it is written `match: { item: \"{{ item.id }}\", reply: \"{{ reply.id }}\" }`",
        "failed" => "it is written `delivered: EXPRESSION`, true for the good ones",
        "error" => "it is written `class: EXPRESSION` and `message: EXPRESSION`",
    }
}

raw! {
    /// Two expressions that are equal for a record and its result.
    RawPair, "`match`" {
        /// Over `item`.
        item: Needed<Placed<String>>,
        /// Over `reply`.
        reply: Needed<Placed<String>>,
    }
}

/// `position`, or a pair of expressions.
#[derive(Debug, Clone)]
pub(super) struct RawMatch(Matching);

impl FromNode for RawMatch {
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        if let Kind::Map(_) = node.kind {
            let raw = RawPair::read(node, what, problems)?;
            return Some(Self(Matching::Equal { item: raw.item.0?, reply: raw.reply.0? }));
        }
        super::raw::word(node, what, &["position"], problems).map(|_| Self(Matching::Position))
    }
}

impl schemars::JsonSchema for RawMatch {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Match".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let pair = generator.subschema_for::<RawPair>();
        schemars::json_schema!({ "anyOf": [{ "enum": ["position"] }, pair] })
    }
}

/// `algorithm:` as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    InOrder,
    ByField,
    BySize,
    Balanced,
}

words!(Algorithm {
    "in_order" => Algorithm::InOrder,
    "by_field" => Algorithm::ByField,
    "by_size" => Algorithm::BySize,
    "balanced" => Algorithm::Balanced,
});
words!(OnReject {
    "fail" => Self::Fail,
    "bisect" => Self::Bisect,
});
words!(Missing {
    "in_doubt" => Self::InDoubt,
    "delivered" => Self::Delivered,
    "failed" => Self::Failed,
});

/// Lays a pipeline's `batch` over that of its endpoint, key by key.
pub(super) fn merged(endpoint: Option<&RawBatch>, pipeline: Option<&RawBatch>) -> Option<RawBatch> {
    let (below, above) = match (endpoint, pipeline) {
        (Some(one), None) | (None, Some(one)) => return Some(one.clone()),
        (None, None) => return None,
        (Some(below), Some(above)) => (below.clone(), above.clone()),
    };
    Some(RawBatch {
        place: above.place,
        size: above.size.or(below.size),
        max_bytes: above.max_bytes.or(below.max_bytes),
        algorithm: above.algorithm.or(below.algorithm),
        group_by: above.group_by.or(below.group_by),
        item: above.item.or(below.item),
        body: above.body.or(below.body),
        replies: above.replies.or(below.replies),
        on_reject: above.on_reject.or(below.on_reject),
    })
}

/// Makes the rules of batches, or notes what is wrong. `content`, `body` and the method are those that the
/// pipeline left the endpoint with.
pub(super) fn resolve(raw: &RawBatch, endpoint: &Endpoint, problems: &mut Problems) -> Option<Batch> {
    let errors = problems.errors();
    let mut bad = |message: String, help: &str| {
        problems.push(Diagnostic::error("batch", message).place(&raw.place).help(help.to_owned()));
    };
    match endpoint.content {
        Content::Json | Content::Ndjson | Content::Csv => {}
        Content::Form | Content::Xml if raw.body.is_some() => {}
        Content::Xml => bad(
            "an XML document has one root, so a batch in it needs a `body`".into(),
            "write `batch: { body: { users: { user: \"{{ batch.items }}\" } } }`",
        ),
        Content::Form => bad(
            "a form is no list, so a batch in it needs a `body`".into(),
            "write `batch: { body: { users: \"{{ batch.items | tojson }}\" } }`",
        ),
        Content::Multipart => bad(
            "a multipart body is made of one record".into(),
            "leave out `batch`: a call has one record then, or use `content: json`",
        ),
        Content::Text | Content::None => bad(
            "a batch is sent as a list, and the endpoint's `content` has none".into(),
            "use `content: json`, `ndjson`, `csv` or `xml`",
        ),
    }
    if endpoint.body_file.is_some() {
        bad(
            "a `body_file` is the body of one record".into(),
            "write what one record contributes as `batch: { item: … }`",
        );
    }
    let method = &endpoint.method.value;
    if matches!(*method, http::Method::GET | http::Method::HEAD) {
        bad(format!("{method} has no body in which several records could stand"), "leave `batch` out");
    }
    if endpoint.idempotency.value().is_some() {
        bad(
            "the endpoint makes its idempotency key of one record, and a call has several".into(),
            "leave `value` out of `idempotency`: each call then gets a key of its own",
        );
    }
    let grouping = grouping(raw, problems);
    let replies = raw.replies.as_ref().and_then(|replies| item_replies(replies, problems));
    (problems.errors() == errors).then(|| Batch {
        place: raw.place.clone(),
        size: raw.size.and_then(|size| NonZeroUsize::new(size.0)).unwrap_or(Batch::DEFAULT_SIZE),
        max_bytes: raw.max_bytes.map(|size| size.0),
        grouping: grouping.unwrap_or(Grouping::InOrder),
        group_by: raw.group_by.clone(),
        item: raw.item.clone(),
        body: raw.body.clone(),
        replies,
        on_reject: raw.on_reject.unwrap_or_default(),
    })
}

fn grouping(raw: &RawBatch, problems: &mut Problems) -> Option<Grouping> {
    let Some(Placed { value, place }) = &raw.algorithm else { return Some(Grouping::InOrder) };
    match value {
        Algorithm::InOrder => Some(Grouping::InOrder),
        Algorithm::ByField if raw.group_by.is_some() => Some(Grouping::InOrder),
        Algorithm::ByField => {
            problems.push(
                Diagnostic::error("batch", "`by_field` needs the field")
                    .place(place)
                    .help("add `group_by: \"{{ record.org_id }}\"`"),
            );
            None
        }
        Algorithm::BySize if raw.max_bytes.is_some() => Some(Grouping::BySize),
        Algorithm::BySize => {
            problems.push(
                Diagnostic::error("batch", "`by_size` fills calls by bytes, and does not know how many")
                    .place(place)
                    .help("add `max_bytes: 1MiB`"),
            );
            None
        }
        Algorithm::Balanced => Some(Grouping::Balanced),
    }
}

fn item_replies(raw: &RawReplies, problems: &mut Problems) -> Option<ItemReplies> {
    if let (Some(_), Some(status)) = (&raw.delivered, &raw.status) {
        problems.push(
            Diagnostic::error("batch", "both `delivered` and `status` decide about a result")
                .place(&status.place)
                .help("keep one of them"),
        );
    }
    Some(ItemReplies {
        at: raw.at.0.clone()?,
        matching: raw.r#match.as_ref().map_or(Matching::Position, |raw| raw.0.clone()),
        delivered: raw.delivered.clone(),
        status: raw.status.clone(),
        class: raw.class.clone(),
        message: raw.message.clone(),
        captures: raw.captures.0.clone(),
        missing: raw.missing.unwrap_or_default(),
    })
}
