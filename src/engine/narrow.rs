//! What one start leaves pending on purpose: `--where`, `--record`, `--limit`, `retry`.
//!
//! Unlike `select:` in the file, these are not meaning: the rest stays pending and the next start
//! sends it (ruling 27).

use std::collections::BTreeSet;

use crate::render::Leaf;

use super::prepare::{Shaped, hash};

/// The narrowing of one start.
#[derive(Debug, Default)]
pub struct Narrow {
    /// At most this many requests.
    pub limit: Option<u64>,
    /// Hashes of the keys that are wanted.
    pub keys: Option<BTreeSet<u64>>,
    /// Only these ordinals.
    pub only: Option<BTreeSet<u64>>,
    /// The input itself holds only what is wanted: copies of a run's records.
    pub picked: bool,
    /// Only records for which this is true; one for which it cannot be told is left out.
    pub filter: Option<Leaf>,
}

impl Narrow {
    /// Only the records with these keys; all when none is given.
    #[must_use]
    pub fn to_keys(mut self, keys: &[String]) -> Self {
        self.keys = (!keys.is_empty()).then(|| keys.iter().map(|key| hash(key)).collect());
        self
    }

    /// Whether enough was sent.
    #[must_use]
    pub fn is_over(&self, sent: u64) -> bool {
        self.limit.is_some_and(|limit| sent >= limit)
    }

    /// Whether no record from this ordinal on is wanted.
    #[must_use]
    pub fn ends_before(&self, ordinal: u64) -> bool {
        self.only.as_ref().is_some_and(|only| only.last().is_none_or(|last| *last < ordinal))
    }

    /// Whether a record is wanted, by its place.
    #[must_use]
    pub fn wants(&self, ordinal: u64) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&ordinal))
    }

    /// Whether a record is wanted, by its key and fields.
    #[must_use]
    pub fn keeps(&self, shaped: &Shaped) -> bool {
        self.keys.as_ref().is_none_or(|keys| keys.contains(&shaped.identity.key_hash))
            && self.filter.as_ref().is_none_or(|filter| filter.truth(&shaped.context).unwrap_or(false))
    }

    /// Whether it picks single records.
    #[must_use]
    pub const fn is_selective(&self) -> bool {
        self.keys.is_some() || self.only.is_some() || self.filter.is_some() || self.picked
    }

    /// Whether it leaves anything out at all.
    #[must_use]
    pub const fn is_narrow(&self) -> bool {
        self.is_selective() || self.limit.is_some()
    }
}
