//! Keys that earlier runs delivered and that the input does not have any more (`sync: changed`), and which of
//! them may be deleted.
//!
//! Found out twice by the same rules: before anything is sent, to refuse a start that would delete too much, and
//! when every record of the run has an outcome, for what is deleted then. Invariant: a key is deleted only if it
//! stands for something that was delivered under the same scope (destination, pipeline, variables, settings and
//! source), no record of the whole input can be it, and no key that stays stands for the same.

use std::sync::Arc;

use crate::config::{Deletes, Pipeline, Sync};
use crate::model::{
    Class, Diagnostic, Event, Failure, Map, Record, RecordPlace, Request, State, Value, number,
};
use crate::outcome::{Checkpoint, KeyState, KnownKey, RunRow};
use crate::render::RunValues;

use super::open::{self, Plan, Wanted};
use super::{Observer, Start};

/// How many keys stand for something, and what the input says of them.
#[derive(Debug, Clone, Default)]
pub struct Vanished {
    /// Records of the input.
    pub records: u64,
    /// Keys that earlier runs delivered.
    pub known: u64,
    /// Those of them that no record of the input has.
    pub gone: u64,
    /// Records of the input whose key cannot be told.
    pub without_key: u64,
    /// What may be deleted of those that are gone.
    pub doomed: Doomed,
}

/// How many of the keys that are gone may be deleted, and how many may not, by reason.
#[derive(Debug, Clone, Default)]
pub struct Doomed {
    /// Hashes of those that may be, ascending.
    pub hashes: Vec<u64>,
    /// They would be, but for a key that stays and stands for the same.
    shared: u64,
    /// They would be, but what they stand for may be in the input under a name that was not delivered yet.
    waiting: u64,
    unnamed: u64,
    elsewhere: u64,
    begun: u64,
}

/// What a run can tell of keys that are gone.
#[derive(Clone, Copy)]
pub struct Gone<'a> {
    /// Where it is kept what was delivered.
    pub checkpoint: &'a Checkpoint,
    /// What runs before this one know counts.
    pub before: i64,
    /// The scope of this one.
    pub scope: u64,
    /// Hashes of the keys, ascending.
    pub hashes: &'a [u64],
}

/// What deletes, where this start may.
pub fn deletes<'p>(pipeline: &'p Pipeline, start: &Start) -> Option<&'p Deletes> {
    // Another input than the pipeline's own says nothing of what it does not have, and who picks records
    // speaks of those.
    let picks = start.limit.is_some() || !start.records.is_empty() || start.filter.is_some();
    let may = !start.no_deletes
        && !start.fresh
        && !picks
        && pipeline.source.place.is_some()
        && pipeline.sync == Some(Sync::Changed);
    pipeline.deletes.as_deref().filter(|_| may)
}

impl Vanished {
    /// Refuses a start that would delete more than is allowed.
    pub fn refuse_too_many(&self, pipeline: &Pipeline, start: &Start) -> Result<(), Failure> {
        let Some(Deletes { cap, place, .. }) = deletes(pipeline, start) else { return Ok(()) };
        let count = self.doomed.count();
        // A file without any record is more often an export that failed than a wish to delete all.
        let is_empty = self.records == 0 && count > 0;
        if cap.allows(count, self.known) && !is_empty {
            return Ok(());
        }
        let known = number(self.known);
        let (rule, message) = if is_empty {
            let message = format!("the input has no record, and `deletes` would delete all {known} keys");
            ("input-empty", message)
        } else {
            let of = if self.known == 1 { "key" } else { "keys" };
            let are = if count == 1 { "is" } else { "are" };
            let message = format!(
                "{} of the {known} {of} that earlier runs delivered {are} not in the input any more, and `deletes` \
                 allows {cap}",
                number(count)
            );
            ("too-many-deletes", message)
        };
        let raise = if is_empty { "" } else { "if the input is whole, raise `max`;\n" };
        Err(Failure::new(
            Class::Input,
            Diagnostic::error(rule, message)
                .place(place)
                .note(format!("the input is {}; nothing was sent, nothing was deleted", pipeline.source.file))
                .help(format!(
                    "{raise}`{} --no-deletes` sends what is there and deletes nothing",
                    start.command
                )),
        ))
    }

    /// Says what vanished, and what follows.
    pub fn tell(&self, pipeline: &Pipeline, start: &Start, observer: &mut dyn Observer) {
        if self.gone == 0 {
            return;
        }
        let (keys, are) = if self.gone == 1 { ("key", "is") } else { ("keys", "are") };
        let message = format!(
            "{} {keys} that earlier runs delivered {are} not in the input any more",
            number(self.gone)
        );
        let note = if deletes(pipeline, start).is_none() || self.doomed.count() == 0 {
            "what they stand for on the far side stays as it is".to_owned()
        } else if self.without_key > 0 {
            "nothing is deleted while a record has no key: any of them may be what seems to have vanished"
                .to_owned()
        } else if self.doomed.count() == self.gone {
            "deleted once every record of the run has an outcome".to_owned()
        } else {
            format!(
                "{} of them deleted once every record of the run has an outcome",
                number(self.doomed.count())
            )
        };
        observer.event(&Event::Warning(Diagnostic::warning("vanished", message).note(note)));
    }
}

impl Gone<'_> {
    /// Tells of each key whether it may be deleted; `each` sees those that may.
    pub fn doomed(
        &self,
        mut each: impl FnMut(&KnownKey<'_>) -> Result<(), Failure>,
    ) -> Result<Doomed, Failure> {
        let mut found = Doomed::default();
        if self.hashes.is_empty() {
            return Ok(found);
        }
        self.checkpoint.last_of_keys(self.before, self.hashes, |known| {
            if known.state == KeyState::Begun {
                found.begun += 1;
            } else if known.scope != self.scope {
                found.elsewhere += 1;
            } else if known.key.is_empty() {
                found.unnamed += 1;
            } else {
                found.hashes.push(known.hash);
                return each(&known);
            }
            Ok(())
        })?;
        found.hashes.sort_unstable();
        Ok(found)
    }

    /// The same, without those whose deletion would be the very call that deletes what a key that stays stands for:
    /// one thing under two names, such as a customer whose address is the key and has changed. Where calls go by what
    /// was captured and a record of the run that is over was not delivered, that may be such a name: nothing is
    /// deleted then.
    pub fn doomed_alone(&self, plan: &Plan, start: &Start, over: Option<&RunRow>) -> Result<Doomed, Failure> {
        let Some(deletes) = plan.pipeline.deletes.as_deref().filter(|_| !self.hashes.is_empty()) else {
            return Ok(Doomed::default());
        };
        let wanted = Wanted { target: start.target.clone(), input_may_be_missing: true, ..Wanted::default() };
        let deleting = Calls(open::open(deletes.pipeline.clone(), &wanted)?);
        // 16 bytes for each that may be deleted and goes by what was captured.
        let mut calls: Vec<(u64, u64)> = Vec::new();
        let mut found = self.doomed(|known| {
            let digest = deleting.digest(known.key, known.captures);
            let by_captures = digest.filter(|_| digest != deleting.digest(known.key, "{}"));
            calls.extend(by_captures.map(|digest| (digest, known.hash)));
            Ok(())
        })?;
        if calls.is_empty() {
            // Each key is deleted by its own name.
            return Ok(found);
        }
        calls.sort_unstable();
        let same = |digest: u64| {
            let from = calls.partition_point(|(other, _)| *other < digest);
            calls[from..].iter().take_while(move |(other, _)| *other == digest).map(|(_, hash)| *hash)
        };
        // First every key that ever stood for one of them or for nobody knows what, then those that do.
        let mut near: Vec<u64> = Vec::new();
        self.checkpoint.keys_of_earlier_runs(ALL, |known| {
            let stays = self.hashes.binary_search(&known.hash).is_err() && known.state.is_delivery();
            let is_near = || match deleting.digest(known.key, known.captures) {
                Some(digest) => same(digest).next().is_some(),
                None => !known.key.is_empty(),
            };
            if stays && is_near() {
                near.push(known.hash);
            }
        })?;
        near.sort_unstable();
        near.dedup();
        let mut shared = Vec::new();
        let mut is_unknown = false;
        self.checkpoint.last_of_keys(ALL, &near, |known| {
            match deleting.digest(known.key, known.captures) {
                Some(digest) => shared.extend(same(digest)),
                None => is_unknown = true,
            }
            Ok(())
        })?;
        shared.sort_unstable();
        shared.dedup();
        found.shared = shared.len() as u64;
        found.hashes.retain(|hash| shared.binary_search(hash).is_err());
        let is_open = match over {
            Some(run) => self.has_open(run)?,
            None => false,
        };
        if is_unknown || is_open {
            found.waiting = found.hashes.len() as u64;
            found.hashes.clear();
        }
        Ok(found)
    }

    /// Whether a record of a run was not delivered although it should have been: it may stand for anything.
    fn has_open(&self, run: &RunRow) -> Result<bool, Failure> {
        let mut is_open = false;
        self.checkpoint.each_row(run, 0, |row| {
            is_open |= match row.state {
                State::Delivered => false,
                // A person or a rule left it out once it was sent, or an older run holds it.
                State::Skipped => row.attempts > 0 || row.class == "held",
                State::Failed | State::Invalid | State::InDoubt | State::InFlight | State::Pending => true,
            };
            Ok(())
        })?;
        Ok(is_open)
    }
}

/// Every run.
const ALL: i64 = i64::MAX >> 41;

/// The calls that delete.
struct Calls(Plan);

impl Calls {
    /// The digest of what a call is sent to and says; `None` where it cannot be made.
    fn digest(&self, key: &str, captures: &str) -> Option<u64> {
        let mut fields = Map::new();
        fields.push("key", Value::text(key));
        fields.push("captures", captures_of(captures));
        for other in ["run", "missing_in", "input"] {
            fields.push(other, Value::text("-"));
        }
        let place = RecordPlace { file: "".into(), line: 0, byte: 0 };
        let record = Record { ordinal: 0, place, digest: 0, copy_of: None, fields: Ok(fields) };
        let values = RunValues::of_nobody();
        let mut shaped = self.0.preparer.shape(record, &values).ok()?;
        let request = self.0.preparer.request(&mut shaped, &values, 0).ok()?;
        // Headers say how, not what.
        Some(Request { headers: http::HeaderMap::new(), ..request }.digest())
    }
}

impl Doomed {
    /// How many may be deleted.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.hashes.len() as u64
    }

    /// Says how many keys that vanished are not deleted, and why.
    pub fn tell_rest(&self, observer: &mut dyn Observer) {
        for (count, why) in [
            (
                self.unnamed,
                "they were delivered before the pipeline said `deletes`, and how they are called was not kept",
            ),
            (
                self.elsewhere,
                "since they were delivered or found unchanged, the pipeline, its variables, settings, source or \
                 destination became another",
            ),
            (self.begun, "not all of their calls were delivered"),
            (self.shared, "deleting them would delete what a key of the input stands for"),
            (
                self.waiting,
                "what they stand for may be in the input under a name that was not delivered: records of the run failed, are \
                 invalid, in doubt or held, or nothing was captured of one",
            ),
        ] {
            if count > 0 {
                let keys = if count == 1 { "key that vanished is" } else { "keys that vanished are" };
                let message = format!("{} {keys} not deleted", number(count));
                observer.event(&Event::Warning(Diagnostic::warning("not-deleted", message).note(why)));
            }
        }
    }
}

/// What was captured, as the call that deletes reads it: that of steps by the step's name.
pub fn captures_of(json: &str) -> Value {
    let Ok(serde_json::Value::Object(all)) = serde_json::from_str::<serde_json::Value>(json) else {
        return Value::Object(Map::new());
    };
    let mut captures = Map::new();
    for (name, value) in &all {
        let value = Value::from(value);
        match name.split_once('.') {
            // The status of a step, and the one that is under way.
            None if all.keys().any(|other| other.starts_with(&format!("{name}."))) || name == "@" => {}
            None => captures.insert(name.as_str(), value),
            Some((step, name)) => {
                let mut of_step = match captures.remove(step) {
                    Some(Value::Object(of_step)) => of_step,
                    _ => Map::new(),
                };
                of_step.push(Arc::from(name), value);
                captures.insert(step, Value::Object(of_step));
            }
        }
    }
    Value::Object(captures)
}

#[cfg(test)]
mod tests {
    use super::captures_of;

    #[test]
    fn what_steps_captured_stands_under_their_names() {
        for (kept, read) in [
            (r#"{"id":"t1"}"#, r#"{"id":"t1"}"#),
            (r#"{"one":200,"one.id":"t2","one.x":1.50}"#, r#"{"one":{"id":"t2","x":1.5}}"#),
            ("", "{}"),
        ] {
            assert_eq!(captures_of(kept).to_json(), read);
        }
    }
}
