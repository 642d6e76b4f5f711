//! What holds for every course of attempts: failed is certain, doubt is repeated only where the
//! policy says so, and attempts and waits have an end.

use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;

use super::judge::{Meaning, Tries, Verdict, backoff, judge};
use crate::config::{InDoubt, Retry};

fn meaning() -> impl Strategy<Value = Meaning> {
    prop_oneof![
        Just(Meaning::Acted),
        any::<bool>().prop_map(|settles_unknown| Meaning::Refused { settles_unknown }),
        proptest::option::of(0u64..1000)
            .prop_map(|asked| Meaning::NotNow { asked: asked.map(Duration::from_secs) }),
        Just(Meaning::NotSent),
        Just(Meaning::Unknown),
        Just(Meaning::Unknown),
        Just(Meaning::NotNeeded),
        Just(Meaning::Stop),
    ]
}

fn policy() -> impl Strategy<Value = InDoubt> {
    prop_oneof![Just(InDoubt::Resend), Just(InDoubt::Probe), Just(InDoubt::Hold), Just(InDoubt::Skip)]
}

fn retry() -> impl Strategy<Value = Retry> {
    (1u32..6, 0u64..2000, 0u64..100, 0u64..900).prop_map(|(attempts, first, most, asked)| Retry {
        attempts: NonZeroU32::new(attempts).unwrap(),
        first_wait: Duration::from_millis(first),
        max_wait: Duration::from_secs(most),
        max_retry_after: Duration::from_secs(asked),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_course_of_attempts_ends_in_what_is_known(
        meanings in proptest::collection::vec(meaning(), 8),
        policy in policy(),
        retry in retry(),
        chance in 0.0f64..=1.0,
    ) {
        let mut earlier_unknown = false;
        let mut made = 0;
        let mut ended = false;
        for meaning in meanings {
            made += 1;
            prop_assert!(made <= retry.attempts.get(), "{} attempts", made);
            let verdict = judge(&meaning, Tries { made, earlier_unknown }, policy, &retry, chance);
            let unknown = earlier_unknown || meaning == Meaning::Unknown;
            match verdict {
                Verdict::Delivered => prop_assert_eq!(meaning, Meaning::Acted),
                Verdict::Failed => {
                    let settled = meaning == Meaning::Refused { settles_unknown: true };
                    let refused = meaning == Meaning::Refused { settles_unknown: false };
                    prop_assert!(settled || refused && !unknown, "{:?} after an unknown one", meaning);
                }
                Verdict::GaveUp => {
                    prop_assert!(!unknown);
                    prop_assert_eq!(made, retry.attempts.get());
                }
                Verdict::InDoubt => prop_assert!(unknown && policy != InDoubt::Skip),
                Verdict::Skipped => {
                    prop_assert!(meaning == Meaning::NotNeeded || unknown && policy == InDoubt::Skip);
                }
                Verdict::Stop => prop_assert_eq!(meaning, Meaning::Stop),
                Verdict::TooLong { asked } => {
                    prop_assert!(asked > retry.max_retry_after);
                    prop_assert_eq!(meaning, Meaning::NotNow { asked: Some(asked) });
                }
                Verdict::Again { after } => {
                    prop_assert!(meaning != Meaning::Unknown || policy == InDoubt::Resend);
                    let by_itself = matches!(meaning, Meaning::NotSent | Meaning::NotNow { .. } | Meaning::Unknown);
                    prop_assert!(by_itself, "{:?} is repeated", meaning);
                    match meaning {
                        Meaning::NotNow { asked: Some(asked) } => prop_assert_eq!(after, asked),
                        _ => prop_assert!(after <= retry.max_wait),
                    }
                }
            }
            earlier_unknown = unknown;
            if !matches!(verdict, Verdict::Again { .. }) {
                ended = true;
                break;
            }
        }
        prop_assert!(ended, "the attempts have no end");
    }

    #[test]
    fn a_wait_is_never_longer_than_its_ends(made in any::<u32>(), retry in retry(), chance in any::<f64>()) {
        let wait = backoff(made, &retry, if chance.is_nan() { 0.5 } else { chance });
        prop_assert!(wait <= retry.max_wait);
        prop_assert!(wait <= retry.first_wait.saturating_mul(1 << made.saturating_sub(1).min(30)));
    }
}
