//! The last lines of a run, and the summary that programs read.
//!
//! Pure. Invariant: the counts line comes first and always has the same shape; the lines below
//! name a file or a command, so that a person knows what to do next.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::json;
use super::style::{ERROR, GOOD, HELP, STRONG, WARNING};
use super::text::{counted, duration, float, line, number, rate};
use crate::model::{Class, Counts, Mask, Pacing, State};

/// At most so many kinds of a reason are named; the rest is counted.
const KINDS: usize = 5;

/// How one start of a run ended.
#[derive(Debug, Clone)]
pub struct RunSummary {
    /// The pipeline's name.
    pub pipeline: String,
    /// The run's id.
    pub run_id: String,
    /// How it ended.
    pub class: Class,
    /// The run's state in a word: `complete`, `partial`, `interrupted`, …
    pub state: String,
    /// Counts over all starts.
    pub counts: Counts,
    /// What earlier starts had settled.
    pub before: Counts,
    /// Requests that may have left in this start.
    pub attempts: u64,
    /// Where adaptive concurrency stood at the end, if it is.
    pub pacing: Option<Pacing>,
    /// How long this start took.
    pub seconds: f64,
    /// Why records were not delivered.
    pub reasons: Vec<Reason>,
    /// Outcome files by name (`failed`, `invalid`, `in_doubt`, `unsent`, …), as a person types them.
    pub files: Vec<(String, PathBuf)>,
    /// Commands to type next.
    pub next: Vec<String>,
    /// The run's folder.
    pub place: Option<PathBuf>,
}

/// A reason, and how many records have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The state that it led to.
    pub state: State,
    /// HTTP status of the deciding reply, 0 when there was none.
    pub status: u16,
    /// Stable word.
    pub class: String,
    /// For people; may be empty.
    pub message: String,
    /// Records with it.
    pub count: u64,
}

impl RunSummary {
    /// The line with the counts, which even `-q` shows.
    pub(super) fn counts_line(&self, mask: &Mask) -> String {
        let c = &self.counts;
        let look = if self.class == Class::Ok { GOOD } else { STRONG };
        let mut out = look.on(&format!("{}:", line(&mask.apply(&self.pipeline))));
        let _ = write!(
            out,
            " {} delivered, {} failed, {} invalid, {} skipped, {} in doubt",
            number(c.delivered),
            number(c.failed),
            number(c.invalid),
            number(c.skipped),
            number(c.in_doubt)
        );
        if c.unsent > 0 {
            let _ = write!(out, ", {} unsent", number(c.unsent));
        }
        let seconds = if self.seconds.is_finite() { self.seconds.clamp(0.0, 1e12) } else { 0.0 };
        let now = c.settled().saturating_sub(self.before.settled());
        let _ = write!(out, " of {} in {}", number(c.total()), duration(Duration::from_secs_f64(seconds)));
        if now > 0 && seconds > 0.0 {
            let _ = write!(out, " ({})", rate(float(now) / seconds));
        }
        if let Some(Pacing { lanes, per_second }) = self.pacing.filter(|_| now > 0) {
            let pace = per_second.map(|per_second| format!(" and {}", rate(per_second))).unwrap_or_default();
            let _ = write!(out, ", concurrency {lanes}{pace} at the end");
        }
        if self.before.settled() > 0 {
            let _ = write!(out, "; {} settled before", number(self.before.settled()));
        }
        out.push('\n');
        out
    }

    /// The lines below: reasons with their file, what to type next.
    pub(super) fn further_lines(&self, mask: &Mask) -> String {
        let mut rows = Vec::new();
        for (state, label, look) in [
            (State::Failed, "failed:", ERROR),
            (State::Invalid, "invalid:", ERROR),
            (State::InDoubt, "in doubt:", WARNING),
            (State::Pending, "unsent:", WARNING),
        ] {
            let mut counts = self.counts;
            let n = *counts.of(state);
            if n == 0 {
                continue;
            }
            let reasons = self.reasons_of(state, mask);
            let what = if reasons.is_empty() { counted(n, "record", "records") } else { reasons };
            rows.push((label, look, what, self.file_of(state, mask)));
        }
        if !self.next.is_empty() {
            let next: Vec<_> = self.next.iter().map(|next| line(&mask.apply(next)).into_owned()).collect();
            rows.push(("next:", HELP, next.join("   ·   "), None));
        }
        let labels = rows.iter().map(|(label, ..)| label.len()).max().unwrap_or(0);
        let mut out = String::new();
        for (label, look, what, file) in rows {
            let _ = write!(out, "{}{:2$} {what}", look.on(label), "", labels - label.len());
            if let Some(file) = file {
                let _ = write!(out, "      {file}");
            }
            out.push('\n');
        }
        out
    }

    /// The kinds of a state's reasons, the most frequent first.
    fn reasons_of(&self, state: State, mask: &Mask) -> String {
        let mut kinds: BTreeMap<(&str, u16), (u64, Option<&str>)> = BTreeMap::new();
        for reason in self.reasons.iter().filter(|reason| reason.state == state) {
            let kind = kinds.entry((&reason.class, reason.status)).or_insert((0, Some(&reason.message)));
            kind.0 += reason.count;
            // Messages that differ would fill the line; the class says what they have in common.
            kind.1 = kind.1.filter(|message| *message == reason.message && !message.is_empty());
        }
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        let rest = kinds.len().saturating_sub(KINDS);
        let mut parts: Vec<String> = kinds
            .iter()
            .take(KINDS)
            .map(|((class, status), (count, message))| {
                let why = message.unwrap_or(if class.is_empty() { "without a reason" } else { class });
                let mut part = format!("{} {}", number(*count), line(&mask.apply(why)));
                if *status != 0 {
                    let _ = write!(part, " ({status})");
                }
                part
            })
            .collect();
        if rest > 0 {
            parts.push(format!("{rest} more {}", if rest == 1 { "kind" } else { "kinds" }));
        }
        parts.join(", ")
    }

    fn file_of(&self, state: State, mask: &Mask) -> Option<String> {
        let name = if state == State::Pending { "unsent" } else { state.name() };
        let find = |name: &str| self.files.iter().find(|(file, _)| file == name);
        // Invalid because they could not even be read: those lie apart.
        let unread = || find("unreadable").filter(|_| state == State::Invalid);
        let (_, path) = find(name).or_else(unread)?;
        Some(line(&mask.apply(&path.to_string_lossy())).into_owned())
    }

    /// The summary for programs; not masked yet.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let files: serde_json::Map<String, Value> = self
            .files
            .iter()
            .map(|(name, path)| (name.clone(), Value::String(path.to_string_lossy().into_owned())))
            .collect();
        let reasons: Vec<Value> = self
            .reasons
            .iter()
            .map(|reason| {
                json!({
                    "state": if reason.state == State::Pending { "unsent" } else { reason.state.name() },
                    "status": (reason.status != 0).then_some(reason.status),
                    "class": reason.class,
                    "message": reason.message,
                    "count": reason.count,
                })
            })
            .collect();
        json!({
            "pipeline": self.pipeline,
            "run_id": self.run_id,
            "state": self.state,
            "class": self.class.name(),
            "counts": json::counts(&self.counts),
            "before": json::counts(&self.before),
            "attempts": self.attempts,
            "pacing": self.pacing.map(json::pacing),
            "seconds": self.seconds,
            "reasons": reasons,
            "files": files,
            "next": self.next,
            "place": self.place.as_ref().map(|place| place.to_string_lossy().into_owned()),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use anstream::adapter::strip_str;
    use insta::assert_snapshot;

    use super::*;

    fn reason(state: State, status: u16, class: &str, message: &str, count: u64) -> Reason {
        Reason { state, status, class: class.into(), message: message.into(), count }
    }

    pub(in crate::report) fn sample() -> RunSummary {
        let run = ".runner/default/runs/sync-users/20261122T0214-3f9c";
        RunSummary {
            pipeline: "sync-users".into(),
            run_id: "20261122T0214-3f9c".into(),
            class: Class::RecordsFailed,
            state: "complete".into(),
            counts: Counts { delivered: 1_246, failed: 4, ..Counts::default() },
            before: Counts::default(),
            attempts: 1_260,
            pacing: None,
            seconds: 62.0,
            reasons: vec![
                reason(State::Failed, 422, "PHONE", "phone is not valid", 1),
                reason(State::Failed, 409, "CONFLICT", "email already exists", 3),
            ],
            files: vec![("failed".into(), format!("{run}/failed.csv").into())],
            next: vec!["runner status sync-users".into(), "runner retry pipelines/sync-users.yaml".into()],
            place: Some(run.into()),
        }
    }

    fn text(summary: &RunSummary) -> String {
        let mask = Mask::default();
        strip_str(&(summary.counts_line(&mask) + &summary.further_lines(&mask))).to_string()
    }

    #[test]
    fn the_last_lines_of_a_run_with_failures() {
        assert_snapshot!(text(&sample()), @r"
        sync-users: 1,246 delivered, 4 failed, 0 invalid, 0 skipped, 0 in doubt of 1,250 in 62 s (20/s)
        failed: 3 email already exists (409), 1 phone is not valid (422)      .runner/default/runs/sync-users/20261122T0214-3f9c/failed.csv
        next:   runner status sync-users   ·   runner retry pipelines/sync-users.yaml
        ");
    }

    #[test]
    fn a_resumed_run_that_stopped_again() {
        let summary = RunSummary {
            class: Class::Stopped,
            counts: Counts { delivered: 700, in_doubt: 2, invalid: 1, unsent: 547, ..Counts::default() },
            before: Counts { delivered: 600, unsent: 650, ..Counts::default() },
            seconds: 5.15,
            reasons: vec![reason(State::InDoubt, 0, "timeout", "", 2)],
            files: vec![("in_doubt".into(), "in_doubt.csv".into())],
            next: vec!["runner resolve sync-users --skip --all".into()],
            ..sample()
        };
        assert_snapshot!(text(&summary), @r"
        sync-users: 700 delivered, 0 failed, 1 invalid, 0 skipped, 2 in doubt, 547 unsent of 1,250 in 5.2 s (20/s); 600 settled before
        invalid:  1 record
        in doubt: 2 timeout      in_doubt.csv
        unsent:   547 records
        next:     runner resolve sync-users --skip --all
        ");
    }

    #[test]
    fn where_adaptive_concurrency_ended_is_said_in_the_same_line() {
        let said = |per_second| {
            let pacing = Some(Pacing { lanes: 13, per_second });
            let summary = RunSummary { pacing, reasons: Vec::new(), next: Vec::new(), ..sample() };
            strip_str(&summary.counts_line(&Mask::default())).to_string()
                + &summary.to_json()["pacing"].to_string()
        };
        assert_snapshot!(said(None), @r#"
        sync-users: 1,246 delivered, 4 failed, 0 invalid, 0 skipped, 0 in doubt of 1,250 in 62 s (20/s), concurrency 13 at the end
        {"concurrency":13,"rate":null}
        "#);
        assert_snapshot!(said(Some(98.4)), @r#"
        sync-users: 1,246 delivered, 4 failed, 0 invalid, 0 skipped, 0 in doubt of 1,250 in 62 s (20/s), concurrency 13 and 98/s at the end
        {"concurrency":13,"rate":98.4}
        "#);
    }

    #[test]
    fn a_run_with_nothing_to_say_has_one_line() {
        let summary = RunSummary {
            class: Class::Ok,
            counts: Counts::default(),
            seconds: f64::NAN,
            reasons: Vec::new(),
            files: Vec::new(),
            next: Vec::new(),
            ..sample()
        };
        assert_snapshot!(text(&summary), @"sync-users: 0 delivered, 0 failed, 0 invalid, 0 skipped, 0 in doubt of 0 in 0 ms");
    }

    #[test]
    fn many_kinds_are_counted_and_messages_that_differ_give_way_to_their_class() {
        let mut reasons: Vec<Reason> =
            (0..8).map(|n| reason(State::Failed, 400 + n, &format!("c{n}"), "bad\nrow\u{1b}", 1)).collect();
        reasons.push(reason(State::Failed, 409, "CONFLICT", "a@example.com exists", 1));
        reasons.push(reason(State::Failed, 409, "CONFLICT", "b@example.com exists", 1));
        let summary = RunSummary { reasons, files: Vec::new(), next: Vec::new(), ..sample() };
        let shown = text(&summary);
        assert_snapshot!(shown.lines().nth(1).unwrap(), @r"failed: 2 CONFLICT (409), 1 bad\nrow\u{1b} (400), 1 bad\nrow\u{1b} (401), 1 bad\nrow\u{1b} (402), 1 bad\nrow\u{1b} (403), 4 more kinds");
    }

    #[test]
    fn programs_get_numbers_without_separators() {
        assert_snapshot!(sample().to_json(), @r#"{"pipeline":"sync-users","run_id":"20261122T0214-3f9c","state":"complete","class":"records_failed","counts":{"total":1250,"delivered":1246,"failed":4,"invalid":0,"skipped":0,"in_doubt":0,"unsent":0},"before":{"total":0,"delivered":0,"failed":0,"invalid":0,"skipped":0,"in_doubt":0,"unsent":0},"attempts":1260,"pacing":null,"seconds":62.0,"reasons":[{"state":"failed","status":422,"class":"PHONE","message":"phone is not valid","count":1},{"state":"failed","status":409,"class":"CONFLICT","message":"email already exists","count":3}],"files":{"failed":".runner/default/runs/sync-users/20261122T0214-3f9c/failed.csv"},"next":["runner status sync-users","runner retry pipelines/sync-users.yaml"],"place":".runner/default/runs/sync-users/20261122T0214-3f9c"}"#);
    }
}
