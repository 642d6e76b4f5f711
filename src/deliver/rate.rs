//! When the next request may leave: a token bucket, and the pause that the far side asks for.
//!
//! Ours because the far side's word has to move it. Pure: the caller brings the time.

use std::time::{Duration, Instant};

/// A limit on requests a second, and a pause that can be set at any time.
#[derive(Debug)]
pub struct Rate {
    /// Time between two requests; `None` is no limit.
    interval: Option<Duration>,
    /// The same by the limit that was set, whatever is learned.
    least: Option<Duration>,
    /// When the next token is there.
    next: Instant,
    /// How much unused time is kept: a burst is at most this long.
    burst: Duration,
    paused_until: Option<Instant>,
}

const BURST: Duration = Duration::from_millis(100);
/// Of a pace that was learned less is kept: it may come of a limit on requests at once.
const SHORT_BURST: Duration = Duration::from_millis(10);

impl Rate {
    /// A limit of `per_second` requests; `None` is no limit.
    #[must_use]
    pub fn new(per_second: Option<f64>, now: Instant) -> Self {
        let interval = interval_of(per_second);
        Self { interval, least: interval, next: now, burst: BURST, paused_until: None }
    }

    /// From here on it is the slower of the limit and `per_second`; `None` is the limit alone.
    pub fn slow_to(&mut self, per_second: Option<f64>) {
        let interval = self.least.max(interval_of(per_second));
        if interval == self.interval {
            return;
        }
        let old = self.interval.unwrap_or_default();
        // The next one is as far from the last as it is now to be.
        self.next = self.next.checked_sub(old).unwrap_or(self.next) + interval.unwrap_or_default();
        self.interval = interval;
        self.burst = if interval == self.least { BURST } else { SHORT_BURST };
    }

    /// Takes a token, or says when to ask again.
    pub fn take(&mut self, now: Instant) -> Result<(), Instant> {
        if let Some(until) = self.paused_until {
            if now < until {
                return Err(until);
            }
            self.paused_until = None;
            // What was not sent during a pause is not sent in one burst after it.
            self.next = self.next.max(now);
        }
        let Some(interval) = self.interval else { return Ok(()) };
        if self.next > now {
            return Err(self.next);
        }
        let earliest = now.checked_sub(self.burst.max(interval)).unwrap_or(now);
        self.next = self.next.max(earliest) + interval;
        Ok(())
    }

    /// Puts back the token that was taken last: nothing was sent for it.
    pub fn give_back(&mut self) {
        self.next = self.next.checked_sub(self.interval.unwrap_or_default()).unwrap_or(self.next);
    }

    /// Nothing leaves before `until`; a shorter pause does not end a longer one. Returns whether
    /// it changed anything.
    pub fn pause(&mut self, until: Instant) -> bool {
        if self.paused_until.is_some_and(|old| old >= until) {
            return false;
        }
        self.paused_until = Some(until);
        true
    }

    /// The end of the pause, if one lasts.
    #[must_use]
    pub fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.paused_until.filter(|until| *until > now)
    }
}

fn interval_of(per_second: Option<f64>) -> Option<Duration> {
    let seconds = per_second.filter(|rate| *rate > 0.0).map(|rate| 1.0 / rate)?;
    // A day is longer than any window.
    Some(Duration::from_secs_f64(seconds.min(86_400.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_rate_is_kept_over_any_second() {
        let start = Instant::now();
        let mut rate = Rate::new(Some(50.0), start);
        let (mut now, mut sent) = (start, 0);
        while now < start + ms(2000) {
            match rate.take(now) {
                Ok(()) => sent += 1,
                Err(when) => now = when,
            }
        }
        assert_eq!(sent, 100);
    }

    #[test]
    fn idle_time_is_not_saved_up_for_a_burst() {
        let start = Instant::now();
        let mut rate = Rate::new(Some(50.0), start);
        let later = start + ms(60_000);
        let burst = std::iter::from_fn(|| rate.take(later).ok()).count();
        assert!(burst <= 6, "{burst}");
    }

    #[test]
    fn nothing_leaves_during_a_pause_and_a_shorter_one_does_not_end_it() {
        let start = Instant::now();
        let mut rate = Rate::new(None, start);
        assert!(rate.pause(start + ms(2000)));
        assert!(!rate.pause(start + ms(500)));
        assert_eq!(rate.take(start + ms(1999)), Err(start + ms(2000)));
        assert_eq!(rate.take(start + ms(2000)), Ok(()));
    }

    #[test]
    fn what_was_learned_slows_and_never_goes_above_the_limit() {
        let start = Instant::now();
        let mut rate = Rate::new(Some(50.0), start);
        let sent = |rate: &mut Rate, from: Instant| {
            let (mut now, mut sent) = (from, 0);
            while now < from + ms(1000) {
                match rate.take(now) {
                    Ok(()) => sent += 1,
                    Err(when) => now = when,
                }
            }
            sent
        };
        rate.slow_to(Some(10.0));
        assert_eq!(sent(&mut rate, start), 10);
        rate.slow_to(Some(1000.0));
        assert_eq!(sent(&mut rate, start + ms(1000)), 50);
        // A token that is a minute away comes sooner once the pace is known better.
        rate.slow_to(Some(1.0 / 60.0));
        assert!(rate.take(start + ms(2000)).is_err());
        rate.slow_to(None);
        assert_eq!(rate.take(start + ms(2000)), Ok(()));
    }
}
