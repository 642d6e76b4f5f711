//! When a plain line is due off a terminal.
//!
//! Pure: a line every 10 s in the first minute, then every 60 s, so that a log of a night stays
//! readable and a hanging run is seen soon.

use std::time::{Duration, Instant};

/// The schedule of one run's lines.
#[derive(Debug)]
pub(super) struct Schedule {
    started: Instant,
    next: Instant,
    steps: Steps,
}

#[derive(Debug, Clone, Copy)]
enum Steps {
    /// 10 s in the first minute, then 60 s.
    ForPeople,
    /// Always 5 s.
    ForPrograms,
}

impl Schedule {
    pub(super) fn for_people(at: Instant) -> Self {
        Self::new(at, Steps::ForPeople)
    }

    pub(super) fn for_programs(at: Instant) -> Self {
        Self::new(at, Steps::ForPrograms)
    }

    fn new(at: Instant, steps: Steps) -> Self {
        let mut schedule = Self { started: at, next: at, steps };
        schedule.advance(at);
        schedule
    }

    /// Whether a line is due now; a late look gets one line, not all that were missed.
    pub(super) fn is_due(&mut self, at: Instant) -> bool {
        let due = at >= self.next;
        if due {
            self.advance(at);
        }
        due
    }

    fn advance(&mut self, at: Instant) {
        let elapsed = at.saturating_duration_since(self.started).as_secs();
        let step = match self.steps {
            Steps::ForPrograms => 5,
            Steps::ForPeople if elapsed < 60 => 10,
            Steps::ForPeople => 60,
        };
        // On the grid of the start, so that lines do not drift.
        let next = (elapsed / step + 1) * step;
        self.next = self.started.checked_add(Duration::from_secs(next)).unwrap_or(self.next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(mut schedule: Schedule, start: Instant, ticks_of_ms: u64, until_s: u64) -> Vec<u64> {
        (0..=until_s * 1000 / ticks_of_ms)
            .filter(|tick| schedule.is_due(start + Duration::from_millis(tick * ticks_of_ms)))
            .map(|tick| tick * ticks_of_ms / 1000)
            .collect()
    }

    #[test]
    fn every_ten_seconds_in_the_first_minute_then_every_sixty() {
        let start = Instant::now();
        let seconds = due(Schedule::for_people(start), start, 100, 200);
        assert_eq!(seconds, [10, 20, 30, 40, 50, 60, 120, 180]);
        assert_eq!(due(Schedule::for_programs(start), start, 100, 12), [5, 10]);
    }

    #[test]
    fn a_late_look_gets_one_line() {
        let start = Instant::now();
        let mut schedule = Schedule::for_people(start);
        assert!(schedule.is_due(start + Duration::from_secs(35)));
        assert!(!schedule.is_due(start + Duration::from_secs(36)));
        assert!(schedule.is_due(start + Duration::from_secs(40)));
    }
}
