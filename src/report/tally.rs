//! Where a run stands: counts, pace, time left, and the words for them.
//!
//! Pure: time comes in as `Instant`. Settling a record only counts, everything else is worked out
//! when somebody looks. Invariant: what earlier starts settled is part of `done`, never of the
//! pace.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::text::{counted, duration, float, number, rate};
use crate::model::{Counts, Event, Pacing, Pause, State};

/// The pace is taken over this time.
const WINDOW: Duration = Duration::from_secs(20);
/// Samples are this far apart, so that a window has at most 41 of them.
const STEP: Duration = Duration::from_millis(500);
/// An estimate beyond this says nothing.
const LONGEST: f64 = 86_400.0 * 999.0;

/// The standing of one run in this start.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) pipeline: String,
    total: u64,
    before: Counts,
    now: Counts,
    limit: Option<f64>,
    started: Instant,
    samples: VecDeque<(Instant, u64)>,
    pace: Option<f64>,
    pause: Option<(Pause, Instant)>,
    /// Where adaptive concurrency stands, if it is.
    pub(super) pacing: Option<Pacing>,
}

impl Tally {
    /// Nothing runs yet.
    pub(super) fn idle(at: Instant) -> Self {
        Self {
            pipeline: String::new(),
            total: 0,
            before: Counts::default(),
            now: Counts::default(),
            limit: None,
            started: at,
            samples: VecDeque::new(),
            pace: None,
            pause: None,
            pacing: None,
        }
    }

    /// A run begins or goes on; `None` for any other event.
    pub(super) fn of(event: &Event, at: Instant) -> Option<Self> {
        let Event::RunStarted { pipeline, total, before, rate, .. } = event else { return None };
        Some(Self {
            pipeline: pipeline.clone(),
            total: *total,
            before: *before,
            limit: rate.filter(|rate| rate.is_finite() && *rate > 0.0),
            samples: VecDeque::from([(at, 0)]),
            ..Self::idle(at)
        })
    }

    /// A record has an outcome: once per record, so it only counts.
    pub(super) const fn settle(&mut self, state: State) {
        *self.now.of(state) += 1;
    }

    /// All sending waits, or goes on again.
    pub(super) fn pause(&mut self, pause: Option<Pause>, at: Instant) {
        self.pause = pause.map(|pause| {
            let until = at.checked_add(pause.wait).unwrap_or(at);
            (pause, until)
        });
        // The time waited is no part of the pace.
        self.samples.clear();
        self.samples.push_back((at, self.now.settled()));
    }

    /// Takes a sample for the pace when one is due.
    pub(super) fn sample(&mut self, at: Instant) {
        if self.pause.is_some() {
            return;
        }
        if self.samples.back().is_some_and(|(last, _)| at.saturating_duration_since(*last) < STEP) {
            return;
        }
        self.samples.push_back((at, self.now.settled()));
        while self.samples.len() > 2
            && self.samples.front().is_some_and(|(first, _)| at.saturating_duration_since(*first) > WINDOW)
        {
            self.samples.pop_front();
        }
        if let (Some((t0, n0)), Some((t1, n1))) = (self.samples.front(), self.samples.back()) {
            let seconds = t1.saturating_duration_since(*t0).as_secs_f64();
            if seconds > 0.0 {
                self.pace = Some(float(n1.saturating_sub(*n0)) / seconds);
            }
        }
    }

    /// Records with an outcome, those of earlier starts among them.
    pub(super) fn done(&self) -> u64 {
        (self.before.settled() + self.now.settled()).min(self.total)
    }

    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// Counts over all starts.
    pub(super) fn counts(&self) -> Counts {
        let (a, b) = (&self.before, &self.now);
        Counts {
            delivered: a.delivered + b.delivered,
            failed: a.failed + b.failed,
            invalid: a.invalid + b.invalid,
            skipped: a.skipped + b.skipped,
            in_doubt: a.in_doubt + b.in_doubt,
            unsent: self.total - self.done(),
        }
    }

    /// Records a second of late; `None` before the first sample.
    pub(super) const fn pace(&self) -> Option<f64> {
        self.pace
    }

    /// How long it will probably take; limits are known even before there is a pace.
    pub(super) fn left(&self, at: Instant) -> Option<Duration> {
        let remaining = float(self.total - self.done());
        let pace = match (self.pace.filter(|pace| *pace > 0.0), self.limit) {
            (Some(pace), Some(limit)) => pace.min(limit),
            (Some(pace), None) => pace,
            (None, limit) => limit?,
        };
        let seconds = remaining / pace + self.waiting(at).map_or(0.0, |(wait, _)| wait.as_secs_f64());
        (seconds <= LONGEST).then(|| Duration::from_secs_f64(seconds))
    }

    /// How much of a pause is left, and why.
    pub(super) fn waiting(&self, at: Instant) -> Option<(Duration, &str)> {
        let (pause, until) = self.pause.as_ref()?;
        Some((until.saturating_duration_since(at), &pause.why))
    }

    /// Time since this start began.
    pub(super) fn elapsed(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.started)
    }

    /// What stands beside the bar. What is wanted most comes first: a narrow terminal cuts the end.
    pub(super) fn beside_bar(&self, at: Instant) -> String {
        let counts = self.counts();
        let mut parts = vec![format!("{}/{}", number(self.done()), number(self.total))];
        parts.extend(self.pace.map(rate));
        parts.extend(self.left(at).map(|left| format!("{} left", duration(whole_seconds(left)))));
        parts.push(format!("{} delivered", number(counts.delivered)));
        parts.push(format!("{} failed", number(counts.failed)));
        parts.push(format!("{} in doubt", number(counts.in_doubt)));
        parts.extend(self.pacing.map(|pacing| format!("concurrency {}", pacing.lanes)));
        parts.join(" · ")
    }

    /// The line below the bar while all sending waits.
    pub(super) fn waiting_words(&self, at: Instant) -> Option<String> {
        let (wait, why) = self.waiting(at)?;
        Some(format!("waiting {} ({why})", duration(whole_seconds(wait))))
    }

    /// One plain line.
    pub(super) fn plain(&self, at: Instant) -> String {
        let counts = self.counts();
        let percent =
            (self.done() * 100).checked_div(self.total).map(|n| format!(" ({n}%)")).unwrap_or_default();
        let mut line = format!(
            "{}: {} of {}{percent}: {} delivered, {} failed, {} in doubt",
            self.pipeline,
            number(self.done()),
            counted(self.total, "record", "records"),
            number(counts.delivered),
            number(counts.failed),
            number(counts.in_doubt),
        );
        let more = [
            self.pace.map(rate),
            self.left(at).map(|left| format!("{} left", duration(whole_seconds(left)))),
            self.waiting_words(at),
        ];
        for part in more.into_iter().flatten() {
            line.push_str(", ");
            line.push_str(&part);
        }
        line
    }
}

/// Rounded up, so that an estimate does not flicker and a wait does not end at zero too early.
fn whole_seconds(d: Duration) -> Duration {
    Duration::from_secs(d.as_secs().saturating_add(u64::from(d.subsec_nanos() > 0)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::report) fn started(total: u64, before: Counts, rate: Option<f64>) -> Event {
        Event::RunStarted {
            pipeline: "sync-users".into(),
            run: "20261122T0214-3f9c".into(),
            connection: "freshchat".into(),
            host: "https://acme.freshchat.com".into(),
            total,
            resumed: before.settled() > 0,
            before,
            rate,
        }
    }

    fn tally(total: u64, before: Counts, rate: Option<f64>, at: Instant) -> Tally {
        Tally::of(&started(total, before, rate), at).unwrap()
    }

    fn settle(tally: &mut Tally, n: u64) {
        for _ in 0..n {
            tally.settle(State::Delivered);
        }
    }

    #[test]
    fn earlier_starts_count_as_done_but_not_into_the_pace() {
        let t0 = Instant::now();
        let before = Counts { delivered: 590, failed: 10, unsent: 650, ..Counts::default() };
        let mut tally = tally(1_250, before, None, t0);
        assert_eq!((tally.done(), tally.pace(), tally.left(t0)), (600, None, None));
        settle(&mut tally, 50);
        tally.sample(t0 + Duration::from_secs(5));
        assert_eq!((tally.done(), tally.pace()), (650, Some(10.0)));
        assert_eq!(tally.left(t0), Some(Duration::from_mins(1)));
        let at = t0 + Duration::from_secs(5);
        insta::assert_snapshot!(tally.beside_bar(at), @"650/1,250 · 10/s · 60 s left · 640 delivered · 10 failed · 0 in doubt");
        insta::assert_snapshot!(tally.plain(at), @"sync-users: 650 of 1,250 records (52%): 640 delivered, 10 failed, 0 in doubt, 10/s, 60 s left");
        tally.pacing = Some(Pacing { lanes: 13, per_second: None });
        assert!(tally.beside_bar(at).ends_with(" · concurrency 13"));
    }

    #[test]
    fn the_time_left_knows_the_rate_limit() {
        let t0 = Instant::now();
        let mut tally = tally(1_000, Counts::default(), Some(20.0), t0);
        assert_eq!(tally.left(t0), Some(Duration::from_secs(50)));
        // A burst at the start is no reason to promise more than the limit allows.
        settle(&mut tally, 200);
        tally.sample(t0 + Duration::from_secs(1));
        assert_eq!(tally.left(t0), Some(Duration::from_secs(40)));
    }

    #[test]
    fn the_pace_forgets_what_was_long_ago_and_what_was_waited() {
        let t0 = Instant::now();
        let mut tally = tally(100_000, Counts::default(), None, t0);
        for second in 1..=60 {
            settle(&mut tally, if second <= 30 { 100 } else { 10 });
            tally.sample(t0 + Duration::from_secs(second));
        }
        assert_eq!(tally.pace(), Some(10.0));

        let at = t0 + Duration::from_mins(1);
        let pause = Pause { wait: Duration::from_secs(12), why: "429 from acme.freshchat.com".into() };
        tally.pause(Some(pause), at);
        tally.sample(at + Duration::from_secs(6));
        assert_eq!(tally.pace(), Some(10.0));
        insta::assert_snapshot!(tally.waiting_words(at).unwrap(), @"waiting 12 s (429 from acme.freshchat.com)");
        tally.pause(None, at + Duration::from_secs(12));
        settle(&mut tally, 10);
        tally.sample(at + Duration::from_secs(13));
        assert_eq!(tally.pace(), Some(10.0));
        assert_eq!(tally.waiting_words(at), None);
    }

    #[test]
    fn odd_numbers_break_nothing() {
        let t0 = Instant::now();
        let mut none = tally(0, Counts::default(), Some(f64::NAN), t0);
        none.settle(State::Delivered);
        none.pause(Some(Pause { wait: Duration::MAX, why: String::new() }), t0);
        assert_eq!((none.done(), none.left(t0)), (0, None));
        assert!(none.plain(t0).starts_with("sync-users: 0 of 0 records: "));
        let slow = tally(u64::MAX, Counts::default(), Some(1e-300), t0);
        assert_eq!(slow.left(t0), None);
    }
}
