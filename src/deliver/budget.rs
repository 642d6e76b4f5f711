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
    /// Failures of each class that has a limit, in the order of the limits.
    by_class: Vec<u64>,
    window: VecDeque<bool>,
    window_failures: usize,
    settled: u64,
    refused_in_canary: u64,
    /// Of each step of a record: attempts in a row without a good reply, and whether they put records in
    /// doubt. Another step's good replies say nothing of it.
    consecutive: Vec<(u64, bool)>,
}

/// Why it is enough.
#[derive(Debug, Clone, PartialEq)]
pub enum Enough {
    /// So many failed and invalid records.
    Failures(u64),
    /// So many failed and invalid records of one class.
    Class(String, u64),
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
            Self::Class(class, n) => {
                format!("{n} records ended with class {class} (`stop_when.classes`)")
            }
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
    pub fn new(limits: StopWhen) -> Self {
        Self {
            by_class: vec![0; limits.classes.len()],
            limits,
            failures: 0,
            window: VecDeque::new(),
            window_failures: 0,
            settled: 0,
            refused_in_canary: 0,
            consecutive: Vec::new(),
        }
    }

    /// Records still to be sent one at a time.
    #[must_use]
    pub fn in_canary(&self) -> bool {
        self.limits.canary.is_some_and(|canary| self.settled < canary)
    }

    /// An attempt ended with nothing usable: unknown, 5xx, no connection or 429.
    pub fn attempt_was_bad(&mut self, step: usize, put_in_doubt: bool) -> Option<Enough> {
        if self.consecutive.len() <= step {
            self.consecutive.resize(step + 1, (0, false));
        }
        let (attempts, in_doubt) = &mut self.consecutive[step];
        *attempts += 1;
        *in_doubt |= put_in_doubt;
        (*attempts >= self.limits.consecutive)
            .then_some(Enough::Consecutive { attempts: *attempts, in_doubt: *in_doubt })
    }

    /// An attempt brought a real answer, be it a refusal.
    pub fn attempt_was_answered(&mut self, step: usize) {
        if let Some(consecutive) = self.consecutive.get_mut(step) {
            *consecutive = (0, false);
        }
    }

    /// A record was found invalid before it was sent, with this class.
    pub fn record_was_invalid(&mut self, class: &str) -> Option<Enough> {
        self.count(class);
        self.over_failures(class)
    }

    /// A sent record has its outcome; the class is that of a failed one.
    pub fn record_settled(&mut self, failed_with: Option<&str>) -> Option<Enough> {
        let failed = failed_with.is_some();
        let in_canary = self.in_canary();
        self.settled += 1;
        if let Some(class) = failed_with {
            self.count(class);
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
            let share = self.window_failures as f64 / self.window.len() as f64;
            if self.window.len() >= self.limits.min_sample && share > rate {
                return Some(Enough::FailureRate(self.window_failures, self.window.len()));
            }
        }
        failed_with.and_then(|class| self.over_failures(class))
    }

    fn count(&mut self, class: &str) {
        self.failures += 1;
        for ((limited, _), count) in self.limits.classes.iter().zip(&mut self.by_class) {
            *count += u64::from(limited == class);
        }
    }

    /// The class comes first: it says more.
    fn over_failures(&self, class: &str) -> Option<Enough> {
        let mut classes = self.limits.classes.iter().zip(&self.by_class);
        let over = classes.find(|((limited, limit), count)| limited == class && *count >= limit);
        if let Some((_, count)) = over {
            return Some(Enough::Class(class.to_owned(), *count));
        }
        self.limits.failures.filter(|limit| self.failures >= *limit).map(|_| Enough::Failures(self.failures))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> StopWhen {
        StopWhen {
            failures: None,
            classes: Vec::new(),
            failure_rate: None,
            window: 10,
            min_sample: 10,
            canary: None,
            consecutive: 50,
        }
    }

    const FAILED: Option<&str> = Some("422");

    #[test]
    fn a_count_of_failures_is_enough() {
        let mut budget = Budget::new(StopWhen { failures: Some(2), ..limits() });
        assert_eq!(budget.record_settled(FAILED), None);
        assert_eq!(budget.record_settled(None), None);
        assert_eq!(budget.record_was_invalid("schema"), Some(Enough::Failures(2)));
    }

    #[test]
    fn a_class_has_a_count_of_its_own() {
        let classes = vec![("TAKEN".to_owned(), 2), ("schema".to_owned(), 2)];
        let mut budget = Budget::new(StopWhen { classes, failures: Some(5), ..limits() });
        assert_eq!(budget.record_settled(Some("TAKEN")), None);
        assert_eq!(budget.record_was_invalid("schema"), None);
        assert_eq!(budget.record_settled(Some("OTHER")), None);
        assert_eq!(budget.record_settled(None), None);
        assert_eq!(budget.record_was_invalid("schema"), Some(Enough::Class("schema".into(), 2)));
        assert_eq!(budget.record_settled(Some("TAKEN")), Some(Enough::Class("TAKEN".into(), 2)));
        assert_eq!(budget.record_settled(Some("OTHER")), Some(Enough::Failures(6)));
    }

    #[test]
    fn a_smaller_sample_is_judged_sooner() {
        let mut budget = Budget::new(StopWhen { failure_rate: Some(0.2), min_sample: 4, ..limits() });
        for _ in 0..3 {
            assert_eq!(budget.record_settled(FAILED), None);
        }
        assert_eq!(budget.record_settled(None), Some(Enough::FailureRate(3, 4)));
        let mut budget = Budget::new(StopWhen { failure_rate: Some(0.2), min_sample: 4, ..limits() });
        for n in 0..100 {
            assert_eq!(budget.record_settled((n % 5 == 4).then_some("422")), None, "{n}");
        }
    }

    #[test]
    fn a_rate_is_judged_only_over_a_full_window() {
        let mut budget = Budget::new(StopWhen { failure_rate: Some(0.2), ..limits() });
        for _ in 0..9 {
            assert_eq!(budget.record_settled(FAILED), None);
        }
        assert_eq!(budget.record_settled(FAILED), Some(Enough::FailureRate(10, 10)));
        let mut budget = Budget::new(StopWhen { failure_rate: Some(0.2), ..limits() });
        for n in 0..100 {
            assert_eq!(budget.record_settled((n % 5 == 0).then_some("422")), None, "{n}");
        }
    }

    #[test]
    fn a_canary_halts_when_more_than_half_are_refused() {
        let mut budget = Budget::new(StopWhen { canary: Some(3), ..limits() });
        assert!(budget.in_canary());
        assert_eq!(budget.record_settled(FAILED), None);
        assert_eq!(budget.record_settled(None), None);
        assert_eq!(budget.record_settled(FAILED), Some(Enough::Canary(2, 3)));
        assert!(!budget.in_canary());
    }

    #[test]
    fn bad_attempts_count_only_in_a_row() {
        let mut budget = Budget::new(StopWhen { consecutive: 2, ..limits() });
        assert_eq!(budget.attempt_was_bad(0, true), None);
        budget.attempt_was_answered(0);
        assert_eq!(budget.attempt_was_bad(0, false), None);
        assert_eq!(
            budget.attempt_was_bad(0, false),
            Some(Enough::Consecutive { attempts: 2, in_doubt: false })
        );
    }
}
