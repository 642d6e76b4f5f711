//! Which refusals come whatever is done about them: some far sides refuse one request in a hundred at any pace.
//!
//! Who slows down at each of those ends at a standstill, as every refusal is one more reason. So what is done is
//! checked: when as many come again soon after slowing down, more of them are taken for usual. Pure.

use std::time::Instant;

/// Weight of one reply in the share of refusals of late.
const WEIGHT: f64 = 1.0 / 128.0;
/// A share of refusals that is always usual.
const LEAST: f64 = 0.02;
/// More than this share is never usual.
const MOST: f64 = 0.25;
/// Fewer replies than this say nothing about a share.
const ENOUGH: f64 = 64.0;
/// With this share of the refusals before, it did not help.
const AS_MANY: f64 = 0.7;

/// The share of refusals of late, and what of it is usual.
#[derive(Debug)]
pub struct Noise {
    share: f64,
    usual: f64,
    /// When something was done about them.
    acted: Option<Instant>,
    /// Replies since it was last looked whether that helped, and the share at the last times, the oldest first.
    replies: f64,
    before: [f64; 3],
}

impl Noise {
    /// Nothing is known yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { share: 0.0, usual: LEAST, acted: None, replies: 0.0, before: [f64::INFINITY; 3] }
    }

    /// What left then was taken.
    pub fn accepted(&mut self, began: Instant) {
        self.count(began, 0.0);
    }

    /// What left then was refused.
    pub fn refused(&mut self, began: Instant) {
        self.count(began, 1.0);
    }

    fn count(&mut self, began: Instant, refused: f64) {
        // What was under way says nothing of what was done.
        if self.acted.is_none_or(|acted| began >= acted) {
            self.replies += 1.0;
            self.share += (refused - self.share) * WEIGHT;
        }
    }

    /// Whether refusals are more than the usual ones.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.share > self.usual
    }

    /// Something is done about them. Whether it was in vain the last times: as many came again within `soon` replies.
    pub fn act(&mut self, now: Instant, soon: f64) -> bool {
        self.acted = Some(now);
        if self.replies < ENOUGH {
            return false;
        }
        let in_vain = self.replies < soon && self.share < MOST && self.share > AS_MANY * self.before[0];
        self.usual = if in_vain {
            (self.share * 2.0).max(self.usual).clamp(2.0 * LEAST, MOST)
        } else {
            (self.usual * 0.9).max(LEAST)
        };
        self.before = [self.before[1], self.before[2], self.share];
        self.replies = 0.0;
        in_vain
    }

    /// Whether refusals were found to come whatever is done.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.usual > LEAST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many replies, of which each `nth` is refused; how often something was done.
    fn acts(noise: &mut Noise, replies: u32, nth: u32) -> u32 {
        let now = Instant::now();
        let mut acts = 0;
        for number in 1..=replies {
            if number % nth != 0 {
                noise.accepted(now);
                continue;
            }
            noise.refused(now);
            if !noise.is_known() || noise.is_passed() {
                noise.act(now, 1500.0);
                acts += 1;
            }
        }
        acts
    }

    #[test]
    fn what_comes_whatever_is_done_is_acted_on_for_a_while_and_then_borne() {
        for nth in [10, 20, 100, 1000] {
            let mut noise = Noise::new();
            assert!(acts(&mut noise, 20_000, nth) <= 60, "{nth}");
            assert_eq!(acts(&mut noise, 20_000, nth), 0, "{nth}");
        }
    }

    #[test]
    fn what_stops_when_something_is_done_about_it_stays_unusual() {
        let (mut noise, now) = (Noise::new(), Instant::now());
        for _ in 0..20 {
            (0..2000).for_each(|_| noise.accepted(now));
            noise.refused(now);
            assert!(!noise.act(now, 1500.0));
            assert!(!noise.is_known());
        }
    }

    #[test]
    fn what_was_under_way_says_nothing_of_what_was_done() {
        let (mut noise, now) = (Noise::new(), Instant::now());
        let later = now + std::time::Duration::from_secs(1);
        noise.refused(now);
        noise.act(later, 1500.0);
        (0..100).for_each(|_| noise.refused(now));
        assert!(!noise.is_passed());
        (0..3).for_each(|_| noise.refused(later));
        assert!(noise.is_passed());
    }
}
