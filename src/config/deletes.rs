//! `deletes`: the pipeline that deletes what is not in the input any more.
//!
//! It is a pipeline like any other, whose records are the keys that vanished: so its calls are retried,
//! accounted for and gone on with as all others are. Here it is written down; `Loader` reads it like a file.

use std::sync::Arc;

use super::pipeline::{RawDeletes, RawPipeline};
use super::read::{self, Kind, Node};
use super::{Cap, Sync};
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

/// What is known of a key that vanished.
pub(super) const FIELDS: &[&str] = &["key", "run", "captures"];

/// Keys of `delivery` that speak of the other's records or calls.
const NOT_TAKEN: [&str; 3] = ["order_by", "in_doubt", "mode"];

/// What is deleted, and how much of it at the most.
#[derive(Debug, Clone)]
pub struct Deletes {
    /// The pipeline that does it; its input is named once it is known.
    pub pipeline: super::Pipeline,
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
            #[expect(
                clippy::cast_precision_loss,
                reason = "what is lost is far below one record in a thousand"
            )]
            Self::Share(share) => vanished == 0 || vanished as f64 <= known as f64 * share,
        }
    }
}

/// Checks what stands beside it.
pub(super) fn check(raw: &RawPipeline, problems: &mut Problems) {
    let (Some(deletes), false) =
        (&raw.deletes, raw.sync.as_ref().is_some_and(|sync| sync.value == Sync::Changed))
    else {
        return;
    };
    let place = deletes.max.0.as_ref().map(|max| max.place.clone());
    let place = place.or_else(|| deletes.endpoint.0.as_ref().map(|node| node.place.clone()));
    let finding = Diagnostic::error(
        "deletes-without-sync",
        "`deletes` needs `sync: changed`: only then it is known what vanished",
    )
    .help("add `sync: changed`, or take `deletes` out");
    problems.push(match place {
        Some(place) => finding.place(&place),
        None => finding,
    });
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
        let mut delivery = delivery.clone();
        if let Kind::Map(keys) = &mut delivery.kind {
            keys.retain(|(key, _)| !NOT_TAKEN.contains(&&*key.value));
        }
        put("delivery", &delivery);
    }
    Some(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_is_a_number_or_a_share() {
        for (cap, vanished, known, allows) in [
            (Cap::Count(3), 3, 5, true),
            (Cap::Count(3), 4, 1_000_000, false),
            (Cap::Share(0.01), 10, 1000, true),
            (Cap::Share(0.01), 11, 1000, false),
            (Cap::Share(0.01), 1, 99, false),
            (Cap::Share(0.01), 0, 0, true),
            (Cap::Share(1.0), 5, 5, true),
        ] {
            assert_eq!(cap.allows(vanished, known), allows, "{cap:?} {vanished} {known}");
        }
    }
}
