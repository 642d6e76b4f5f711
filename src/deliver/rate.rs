//! When the next request may leave: a token bucket, and the pause that the far side asks for.
//!
//! Ours because the far side's word has to move it. Pure: the caller brings the time.

use std::time::{Duration, Instant};

/// A limit on requests a second, and a pause that can be set at any time.
#[derive(Debug)]
pub struct Rate {
    /// Time between two requests; `None` is no limit.
    interval: Option<Duration>,
    /// When the next token is there.
    next: Instant,
    paused_until: Option<Instant>,
}

/// How much unused time is kept: a burst is at most this long.
const BURST: Duration = Duration::from_millis(100);

impl Rate {
    /// A limit of `per_second` requests; `None` is no limit.
    #[must_use]
    pub fn new(per_second: Option<f64>, now: Instant) -> Self {
        let interval = per_second.filter(|rate| *rate > 0.0).map(|rate| Duration::from_secs_f64(1.0 / rate));
        Self { interval, next: now, paused_until: None }
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
        let earliest = now.checked_sub(BURST.max(interval)).unwrap_or(now);
        self.next = self.next.max(earliest) + interval;
        Ok(())
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
}
