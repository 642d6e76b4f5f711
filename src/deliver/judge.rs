//! Decides what follows one attempt: delivered, refused, again, or in doubt.
//!
//! Pure on purpose: waiting and sending live elsewhere in `deliver`, so every rule is tested
//! without a clock or a socket. Invariant: a record is failed only when no attempt of it ended
//! unknown; where it is unknown whether the far side acted, the request is repeated only where
//! the policy says that repeating is harmless.

use std::time::Duration;

use crate::config::{InDoubt, Retry};

/// What one reply says about the far side (guarantees.md 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// It acted.
    Acted,
    /// It said no, for good.
    Refused {
        /// An outcome rule with `after_unknown` decides also for earlier attempts.
        settles_unknown: bool,
    },
    /// It did nothing yet, and may later; with the wait that it asked for.
    NotNow {
        /// From `Retry-After` or a rate header.
        asked: Option<Duration>,
    },
    /// Nothing reached it.
    NotSent,
    /// It may have acted.
    Unknown,
    /// A rule says that the record is not needed.
    NotNeeded,
    /// The run has to stop: credentials refused, or a rule with `then: stop`.
    Stop,
}

/// What is known of a record's attempts so far, the one judged included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tries {
    /// Attempts made, from 1.
    pub made: u32,
    /// Whether an earlier one ended unknown.
    pub earlier_unknown: bool,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The far side acted.
    Delivered,
    /// It said no, and no attempt of the record can have acted.
    Failed,
    /// The tries ran out, and every one certainly did nothing.
    GaveUp,
    /// Left out by rule.
    Skipped,
    /// May have been applied: hold it.
    InDoubt,
    /// Send again, at the earliest after the wait.
    Again {
        /// How long.
        after: Duration,
    },
    /// The far side asks for a wait beyond the cap: the run stops, the record stays pending.
    TooLong {
        /// What it asked for.
        asked: Duration,
    },
    /// The run has to stop; the record goes back to pending.
    Stop,
}

/// Judges one attempt. `chance` is a random number from 0 to 1 for the jitter.
#[must_use]
pub fn judge(meaning: &Meaning, tries: Tries, policy: InDoubt, retry: &Retry, chance: f64) -> Verdict {
    let left = tries.made < retry.attempts.get();
    let backoff = || backoff(tries.made, retry, chance);
    let settle_doubt = || match policy {
        InDoubt::Skip => Verdict::Skipped,
        InDoubt::Resend | InDoubt::Hold | InDoubt::Probe => Verdict::InDoubt,
    };
    match meaning {
        Meaning::Acted => Verdict::Delivered,
        Meaning::NotNeeded => Verdict::Skipped,
        Meaning::Refused { settles_unknown } if tries.earlier_unknown && !settles_unknown => settle_doubt(),
        Meaning::Refused { .. } => Verdict::Failed,
        Meaning::Stop => Verdict::Stop,
        Meaning::Unknown if policy == InDoubt::Resend && left => Verdict::Again { after: backoff() },
        Meaning::Unknown => settle_doubt(),
        Meaning::NotNow { asked: Some(asked) } if *asked > retry.max_retry_after => {
            Verdict::TooLong { asked: *asked }
        }
        // A server that names its own wait knows better than our schedule.
        Meaning::NotNow { asked } if left => Verdict::Again { after: asked.unwrap_or_else(backoff) },
        Meaning::NotSent if left => Verdict::Again { after: backoff() },
        Meaning::NotNow { .. } | Meaning::NotSent if tries.earlier_unknown => settle_doubt(),
        Meaning::NotNow { .. } | Meaning::NotSent => Verdict::GaveUp,
    }
}

/// Exponential backoff with full jitter: anywhere between nothing and the doubled wait, so that
/// lanes that failed together do not come back together.
#[must_use]
pub fn backoff(made: u32, retry: &Retry, chance: f64) -> Duration {
    let doublings = made.saturating_sub(1).min(30);
    let ceiling = retry.first_wait.saturating_mul(1 << doublings).min(retry.max_wait);
    ceiling.mul_f64(chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn retry() -> Retry {
        Retry {
            attempts: NonZeroU32::new(3).unwrap(),
            first_wait: Duration::from_millis(500),
            max_wait: Duration::from_mins(1),
            max_retry_after: Duration::from_mins(5),
        }
    }

    fn check(meaning: Meaning, made: u32, earlier_unknown: bool, policy: InDoubt) -> Verdict {
        judge(&meaning, Tries { made, earlier_unknown }, policy, &retry(), 1.0)
    }

    const AGAIN: Verdict = Verdict::Again { after: Duration::from_millis(500) };
    const REFUSED: Meaning = Meaning::Refused { settles_unknown: false };

    #[test]
    fn failed_means_certain() {
        assert_eq!(check(REFUSED, 1, false, InDoubt::Resend), Verdict::Failed);
        assert_eq!(check(REFUSED, 2, true, InDoubt::Resend), Verdict::InDoubt);
        assert_eq!(
            check(Meaning::Refused { settles_unknown: true }, 2, true, InDoubt::Resend),
            Verdict::Failed
        );
        for meaning in [Meaning::NotSent, Meaning::NotNow { asked: None }] {
            assert_eq!(check(meaning, 3, false, InDoubt::Hold), Verdict::GaveUp);
            assert_eq!(check(meaning, 3, true, InDoubt::Resend), Verdict::InDoubt);
        }
    }

    #[test]
    fn doubt_is_repeated_only_where_the_policy_says_so() {
        assert_eq!(check(Meaning::Unknown, 1, false, InDoubt::Resend), AGAIN);
        assert_eq!(check(Meaning::Unknown, 3, false, InDoubt::Resend), Verdict::InDoubt);
        assert_eq!(check(Meaning::Unknown, 1, false, InDoubt::Hold), Verdict::InDoubt);
        assert_eq!(check(Meaning::Unknown, 1, false, InDoubt::Probe), Verdict::InDoubt);
        assert_eq!(check(Meaning::Unknown, 1, false, InDoubt::Skip), Verdict::Skipped);
    }

    #[test]
    fn what_certainly_did_nothing_is_repeated_under_every_policy() {
        for policy in [InDoubt::Resend, InDoubt::Hold, InDoubt::Probe, InDoubt::Skip] {
            assert_eq!(check(Meaning::NotSent, 1, false, policy), AGAIN);
            assert_eq!(check(Meaning::NotNow { asked: None }, 1, false, policy), AGAIN);
        }
    }

    #[test]
    fn an_asked_wait_is_kept_and_one_beyond_the_cap_stops() {
        // S42
        let asked = |seconds| Meaning::NotNow { asked: Some(Duration::from_secs(seconds)) };
        assert_eq!(
            check(asked(2), 1, false, InDoubt::Hold),
            Verdict::Again { after: Duration::from_secs(2) }
        );
        assert_eq!(
            check(asked(99_999_999), 1, false, InDoubt::Hold),
            Verdict::TooLong { asked: Duration::from_secs(99_999_999) }
        );
    }

    #[test]
    fn backoff_doubles_up_to_its_end_and_never_overflows() {
        // S42
        let retry = retry();
        assert_eq!(backoff(1, &retry, 1.0), Duration::from_millis(500));
        assert_eq!(backoff(3, &retry, 1.0), Duration::from_secs(2));
        assert_eq!(backoff(u32::MAX, &retry, 1.0), Duration::from_mins(1));
        assert_eq!(backoff(3, &retry, 0.0), Duration::ZERO);
    }
}
