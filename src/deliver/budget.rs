//! When the run gives up: the error budget of `stop_when`.
//!
//! Pure: it sees how attempts and records ended and says when it is enough.

use std::collections::VecDeque;

use crate::config::StopWhen;

/// Counts failures against their limits.
#[derive(Debug)]
pub struct Budget {
    limits: StopWhen,
    failures: u64,
    window: VecDeque<bool>,
    window_failures: usize,
    settled: u64,
    refused_in_canary: u64,
    consecutive: u64,
    consecutive_in_doubt: bool,
}

/// Why it is enough.
#[derive(Debug, Clone, PartialEq)]
pub enum Enough {
    /// So many failed and invalid records.
    Failures(u64),
    /// Such a share of the last outcomes failed: failed, looked at.
    FailureRate(usize, usize),
    /// More than half of the first records were refused: refused, looked at.
    Canary(u64, u64),
    /// So many attempts in a row brought nothing.
    Consecutive {
        /// How many.
        attempts: u64,
        /// Whether they put records in doubt: then a person has to look.
        in_doubt: bool,
    },
}

impl Enough {
    /// The reason in words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Failures(n) => format!("{n} records failed or were invalid (`stop_when.failures`)"),
            Self::FailureRate(failed, window) => {
                format!("{failed} of the last {window} records failed (`stop_when.failure_rate`)")
            }
            Self::Canary(refused, n) => {
                format!("{refused} of the first {n} records were refused (`stop_when.canary`)")
            }
            Self::Consecutive { attempts, .. } => {
                format!("{attempts} attempts in a row brought no good reply (`stop_when.consecutive`)")
            }
        }
    }
}

impl Budget {
    /// Nothing happened yet.
    #[must_use]
    pub const fn new(limits: StopWhen) -> Self {
        Self {
            limits,
            failures: 0,
            window: VecDeque::new(),
            window_failures: 0,
            settled: 0,
            refused_in_canary: 0,
            consecutive: 0,
            consecutive_in_doubt: false,
        }
    }

    /// Records still to be sent one at a time.
    #[must_use]
    pub fn in_canary(&self) -> bool {
        self.limits.canary.is_some_and(|canary| self.settled < canary)
    }

    /// An attempt ended with nothing usable: unknown, 5xx, no connection or 429.
    pub fn attempt_was_bad(&mut self, put_in_doubt: bool) -> Option<Enough> {
        self.consecutive += 1;
        self.consecutive_in_doubt |= put_in_doubt;
        (self.consecutive >= self.limits.consecutive).then_some(Enough::Consecutive {
            attempts: self.consecutive,
            in_doubt: self.consecutive_in_doubt,
        })
    }

    /// An attempt brought a real answer, be it a refusal.
    pub const fn attempt_was_answered(&mut self) {
        self.consecutive = 0;
        self.consecutive_in_doubt = false;
    }

    /// A record was found invalid before it was sent.
    pub fn record_was_invalid(&mut self) -> Option<Enough> {
        self.failures += 1;
        self.over_failures()
    }

    /// A sent record has its outcome.
    pub fn record_settled(&mut self, failed: bool) -> Option<Enough> {
        let in_canary = self.in_canary();
        self.settled += 1;
        if failed {
            self.failures += 1;
        }
        if in_canary {
            self.refused_in_canary += u64::from(failed);
            let canary = self.limits.canary.unwrap_or(0);
            if self.settled == canary && self.refused_in_canary * 2 > canary {
                return Some(Enough::Canary(self.refused_in_canary, canary));
            }
        }
        if let Some(rate) = self.limits.failure_rate {
            self.window.push_back(failed);
            self.window_failures += usize::from(failed);
            if self.window.len() > self.limits.window && self.window.pop_front() == Some(true) {
                self.window_failures -= 1;
            }
            #[expect(clippy::cast_precision_loss, reason = "a window is far below 2^52")]
            let share = self.window_failures as f64 / self.limits.window as f64;
            if self.window.len() >= self.limits.window && share > rate {
                return Some(Enough::FailureRate(self.window_failures, self.limits.window));
            }
        }
        if failed { self.over_failures() } else { None }
    }

    fn over_failures(&self) -> Option<Enough> {
        self.limits.failures.filter(|limit| self.failures >= *limit).map(|_| Enough::Failures(self.failures))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> StopWhen {
        StopWhen { failures: None, failure_rate: None, window: 10, canary: None, consecutive: 50 }
    }

    #[test]
    fn a_count_of_failures_is_enough() {
        let mut budget = Budget::new(StopWhen { failures: Some(2), ..limits() });
        assert_eq!(budget.record_settled(true), None);
        assert_eq!(budget.record_settled(false), None);
        assert_eq!(budget.record_was_invalid(), Some(Enough::Failures(2)));
    }

    #[test]
    fn a_rate_is_judged_only_over_a_full_window() {
        let mut budget = Budget::new(StopWhen { failure_rate: Some(0.2), ..limits() });
        for _ in 0..9 {
            assert_eq!(budget.record_settled(true), None);
        }
        assert_eq!(budget.record_settled(true), Some(Enough::FailureRate(10, 10)));
        let mut budget = Budget::new(StopWhen { failure_rate: Some(0.2), ..limits() });
        for n in 0..100 {
            assert_eq!(budget.record_settled(n % 5 == 0), None, "{n}");
        }
    }

    #[test]
    fn a_canary_halts_when_more_than_half_are_refused() {
        let mut budget = Budget::new(StopWhen { canary: Some(3), ..limits() });
        assert!(budget.in_canary());
        assert_eq!(budget.record_settled(true), None);
        assert_eq!(budget.record_settled(false), None);
        assert_eq!(budget.record_settled(true), Some(Enough::Canary(2, 3)));
        assert!(!budget.in_canary());
    }

    #[test]
    fn bad_attempts_count_only_in_a_row() {
        let mut budget = Budget::new(StopWhen { consecutive: 2, ..limits() });
        assert_eq!(budget.attempt_was_bad(true), None);
        budget.attempt_was_answered();
        assert_eq!(budget.attempt_was_bad(false), None);
        assert_eq!(budget.attempt_was_bad(false), Some(Enough::Consecutive { attempts: 2, in_doubt: false }));
    }
}
