//! `deletes`: the pipeline that deletes what is not in the input any more.
//!
//! It is a pipeline like any other, whose records are the keys that vanished: so its calls are retried,
//! accounted for and gone on with as all others are. Here it is written down; `Loader` reads it like a file.

use std::sync::Arc;

use super::pipeline::{RawDeletes, RawPipeline};
use super::read::{self, Kind, Node};
use super::{Cap, Content, Duplicates, Pipeline, Sync};
use crate::model::{Diagnostic, Place, Placed, Problems, SourceText};

/// What is the same in all of them. The same key names the same thing here and in the other's checkpoint.
const WRITTEN: &str = "\
name: NAME
connection: CONNECTION
source: { file: \"-\", format: ndjson }
key: { value: \"{{ record.key }}\", public: false }
sync: all
on_new_input: close
";

/// What is known of a key that vanished: itself, the run that delivered it, what was captured then, and the run
/// and the digest of the input that does not have it. The last two make each file of keys one of its own.
pub(super) const FIELDS: &[&str] = &["key", "run", "captures", "missing_in", "input"];

/// Keys of `delivery` that speak of the other's records or calls.
const NOT_TAKEN: [&str; 3] = ["order_by", "in_doubt", "mode"];

/// What is deleted, and how much of it at the most.
#[derive(Debug, Clone)]
pub struct Deletes {
    /// The pipeline that does it; its input is named once it is known.
    pub pipeline: Pipeline,
    /// More than this is refused.
    pub cap: Cap,
    /// Where that is said.
    pub place: Place,
}

/// What the pipeline that deletes is called.
#[must_use]
pub fn name_of(pipeline: &str) -> String {
    format!("{pipeline}.deletes")
}

impl Cap {
    /// Whether so many of so many may be deleted.
    #[must_use]
    pub fn allows(self, vanished: u64, known: u64) -> bool {
        match self {
            Self::Count(most) => vanished <= most,
            Self::Share { millionths } => {
                u128::from(vanished) * 1_000_000 <= u128::from(known) * u128::from(millionths)
            }
        }
    }
}

impl std::fmt::Display for Cap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(most) => f.write_str(&crate::model::number(*most)),
            Self::Share { millionths } => {
                let (whole, rest) = (millionths / 10_000, millionths % 10_000);
                let rest = if rest == 0 { String::new() } else { format!(".{rest:04}") };
                write!(f, "{whole}{} %", rest.trim_end_matches('0'))
            }
        }
    }
}

/// What a mapping of `delivery` says of calls of any kind.
pub(super) fn of_any_calls(mut delivery: Node) -> Node {
    if let Kind::Map(keys) = &mut delivery.kind {
        keys.retain(|(key, _)| !NOT_TAKEN.contains(&&*key.value));
    }
    delivery
}

/// Refuses a call whose body would be all that is known of a key.
pub(super) fn check_body(made: &Pipeline, problems: &mut Problems) {
    let endpoint = made.endpoint();
    let is_said = match &endpoint.batch {
        Some(batch) => batch.item.is_some() || batch.body.is_some() || endpoint.body.is_some(),
        None => endpoint.body.is_some() || endpoint.body_file.is_some(),
    };
    let has_none =
        matches!(endpoint.method.value.as_str(), "DELETE" | "GET" | "HEAD") && endpoint.batch.is_none();
    if is_said || has_none || endpoint.content == Content::None {
        return;
    }
    problems.push(
        Diagnostic::error("deletes-body", "what deletes has a body, and nothing says what is in it")
            .place(&endpoint.place)
            .help("write `deletes: { body: { id: \"{{ record.captures.id }}\" } }`, or `content: none`"),
    );
}

/// Checks what stands beside it.
pub(super) fn check(raw: &RawPipeline, problems: &mut Problems) {
    let Some(deletes) = &raw.deletes else { return };
    let place = deletes.max.0.as_ref().map(|max| max.place.clone());
    let place = place.or_else(|| deletes.endpoint.0.as_ref().map(|node| node.place.clone()));
    let mut refuse = |rule, message: &str, help: &str| {
        let finding = Diagnostic::error(rule, message).help(help);
        problems.push(match &place {
            Some(place) => finding.place(place),
            None => finding,
        });
    };
    if raw.sync.as_ref().is_none_or(|sync| sync.value != Sync::Changed) {
        refuse(
            "deletes-without-sync",
            "`deletes` needs `sync: changed`: only then it is known what vanished",
            "add `sync: changed`, or take `deletes` out",
        );
    }
    let allows = raw.select.as_ref().and_then(|select| select.duplicates) == Some(Duplicates::Allow);
    if allows {
        refuse(
            "deletes-of-several",
            "`deletes` knows one thing for each key, and `duplicates: allow` makes several",
            "take another `key`, or another `select: { duplicates: … }`",
        );
    }
}

/// The pipeline as if it had been written, with the places of what was.
pub(super) fn written(raw: &RawPipeline, of: &Node, pipeline: &str) -> Option<Node> {
    let deletes: &RawDeletes = raw.deletes.as_ref()?;
    let (connection, endpoint) = (raw.connection.0.as_ref()?, deletes.endpoint.0.as_ref()?);
    let source = Arc::new(SourceText { path: "deletes".into(), text: WRITTEN.into() });
    let mut node = read::parse(&source, &mut Problems::new())?;
    let Kind::Map(entries) = &mut node.kind else { return None };
    let mut put = |key: &str, value: &Node| match entries.iter_mut().find(|(known, _)| known.value == key) {
        Some((_, old)) => *old = value.clone(),
        None => entries.push((Placed::new(key.to_owned(), value.place.clone()), value.clone())),
    };
    put("name", &Node { kind: Kind::Text(name_of(pipeline)), place: endpoint.place.clone() });
    put("connection", connection);
    put("endpoint", endpoint);
    let own = [
        ("params", &deletes.params),
        ("headers", &deletes.headers),
        ("body", &deletes.body),
        ("batch", &deletes.batch),
    ];
    for (key, value) in own {
        if let Some(value) = value {
            put(key, value);
        }
    }
    if let Some(vars) = of.get("vars") {
        put("vars", vars);
    }
    if let Some(delivery) = &raw.delivery {
        put("delivery", &of_any_calls(delivery.clone()));
    }
    Some(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_is_a_number_or_a_share() {
        let share = |millionths| Cap::Share { millionths };
        for (cap, vanished, known, allows) in [
            (Cap::Count(3), 3, 5, true),
            (Cap::Count(3), 4, 1_000_000, false),
            (share(10_000), 10, 1000, true),
            (share(10_000), 11, 1000, false),
            (share(10_000), 1, 99, false),
            (share(10_000), 0, 0, true),
            (share(1_000_000), 5, 5, true),
            // What a float would round.
            (share(290_000), 29, 100, true),
            (share(570_000), 57, 100, true),
        ] {
            assert_eq!(cap.allows(vanished, known), allows, "{cap:?} {vanished} {known}");
        }
        let shown = [share(290_000), share(5_000), share(1), Cap::Count(1000)].map(|cap| cap.to_string());
        assert_eq!(shown, ["29 %", "0.5 %", "0.0001 %", "1,000"]);
    }
}
