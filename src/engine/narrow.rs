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
    /// Hash of the one key that is wanted.
    pub key: Option<u64>,
    /// Only these ordinals.
    pub only: Option<BTreeSet<u64>>,
    /// Only records for which this is true; one for which it cannot be told is left out.
    pub filter: Option<Leaf>,
}

impl Narrow {
    /// Only the record with this key.
    #[must_use]
    pub fn to_key(mut self, key: &str) -> Self {
        self.key = Some(hash(key));
        self
    }

    /// Whether enough was sent.
    #[must_use]
    pub fn is_over(&self, sent: u64) -> bool {
        self.limit.is_some_and(|limit| sent >= limit)
    }

    /// Whether a record is wanted, by its place.
    #[must_use]
    pub fn wants(&self, ordinal: u64) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&ordinal))
    }

    /// Whether a record is wanted, by its key and fields.
    #[must_use]
    pub fn keeps(&self, shaped: &Shaped) -> bool {
        self.key.is_none_or(|key| shaped.identity.key_hash == key)
            && self.filter.as_ref().is_none_or(|filter| filter.truth(&shaped.context).unwrap_or(false))
    }

    /// Whether it picks single records.
    #[must_use]
    pub const fn is_selective(&self) -> bool {
        self.key.is_some() || self.only.is_some() || self.filter.is_some()
    }

    /// Whether it leaves anything out at all.
    #[must_use]
    pub const fn is_narrow(&self) -> bool {
        self.is_selective() || self.limit.is_some()
    }
}
