//! How old a token is, by the clock that runs on while the machine sleeps and the one that nobody sets.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// A moment by both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) steady: Instant,
    pub(super) wall: SystemTime,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self { steady: Instant::now(), wall: SystemTime::now() }
    }

    /// The time from here to a later moment, as the clock says that counted more: the steady one stands
    /// still while the machine sleeps, and the other may be set back. A token that is taken for older than
    /// it is costs a request; one that ended would be refused.
    pub(super) fn until(self, later: Self) -> Duration {
        let wall = later.wall.duration_since(self.wall).unwrap_or_default();
        wall.max(later.steady.saturating_duration_since(self.steady))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_that_counted_more_is_believed() {
        let begin = Moment::now();
        let after = |steady: u64, wall: i64| {
            let by = Duration::from_secs(wall.unsigned_abs());
            let wall = if wall < 0 { begin.wall - by } else { begin.wall + by };
            begin.until(Moment { steady: begin.steady + Duration::from_secs(steady), wall }).as_secs()
        };
        assert_eq!(after(5, 5), 5);
        assert_eq!(after(5, 3600), 3600, "it slept");
        assert_eq!(after(5, -3600), 5, "it was set back");
    }
}
