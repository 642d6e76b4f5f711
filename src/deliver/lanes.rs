//! How many requests may be in flight where nobody said: as many as the far side takes without slowing down.
//!
//! After TCP Vegas. The requests that wait over there are `lanes × (1 - base / latency)`, with the latency of
//! an idle far side as `base`. Lanes are doubled until latency grows, then moved by a tenth so that a small part of
//! them waits. Latencies are averaged as logarithms, which a few very slow replies do not move.
//! What is done is checked: lanes that are taken away and bring no faster replies were not in excess, so `base`
//! was out of date. Pure: the caller brings the time.

use std::time::{Duration, Instant};

use super::noise::Noise;

/// Lanes at the start: what a fixed number would be if nobody said one.
const FIRST: f64 = 8.0;
/// A round has so many replies at the least, so that a handful decides nothing.
const LEAST_REPLIES: f64 = 8.0;
/// A round goes on until its mean is known to this share, or it has four replies a lane.
const PRECISE: f64 = 0.05;
/// One and this share of the lanes may wait over there: with fewer, lanes are added, with twice as many taken away.
const WAIT: f64 = 0.1;
/// Latency that differs from `base` by less than this logarithm is as good as `base`.
const SAME: f64 = 0.1;
/// Latency that has grown by this logarithm while lanes were doubled has grown.
const GROWN: f64 = 0.2;
/// After so many rounds fewer lanes are tried, to see what `base` is now.
const ROUNDS_TO_LOOK: u32 = 40;
/// With so many times the lanes of an overload, it is not met any more.
const PASSED: f64 = 1.25;
/// Overloads that come again within so many replies, or so many for each lane: to take lanes away did not help.
const SOON: f64 = 512.0;
const ROUNDS_IN_VAIN: f64 = 10.0;
/// Rounds between two tries where an overload was met before, at the most.
const MOST_PATIENCE: u32 = 80;

/// A number of lanes that follows the far side.
#[derive(Debug)]
pub struct Lanes {
    most: f64,
    limit: f64,
    /// Below this, lanes are doubled: so many were taken well before.
    known: f64,
    base: Option<Mean>,
    round: Round,
    /// What fewer lanes are compared with.
    before_cut: Option<(f64, f64)>,
    last_overload: Option<Instant>,
    noise: Noise,
    /// Whether anything was answered since then.
    was_answered: bool,
    /// Rounds before one more is tried where an overload was met, and how many lanes that were.
    patience: u32,
    met_at: f64,
    quiet: u32,
    rounds: u32,
}

/// The mean logarithm of some latencies.
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    n: f64,
    sum: f64,
    squares: f64,
}

/// Replies to what was sent with the present number of lanes.
#[derive(Debug)]
struct Round {
    since: Instant,
    replies: Mean,
    /// Whether all lanes were in use; otherwise their number had no effect.
    was_full: bool,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.n += 1.0;
        self.sum += value;
        self.squares += value * value;
    }

    fn merge(&mut self, other: Self) {
        // What was seen long ago counts less.
        let old = (4.0 * other.n / self.n).min(1.0);
        self.n = self.n * old + other.n;
        self.sum = self.sum * old + other.sum;
        self.squares = self.squares * old + other.squares;
    }

    fn value(&self) -> f64 {
        self.sum / self.n.max(1.0)
    }

    /// How far the mean may be off, about: the variance of it.
    fn variance(&self) -> f64 {
        let mean = self.value();
        (self.squares / self.n.max(1.0) - mean * mean).max(0.0) / self.n.max(1.0)
    }
}

impl Lanes {
    /// So many lanes at the most.
    #[must_use]
    pub fn up_to(most: usize, now: Instant) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "there are at most 1024 lanes")]
        let most = most as f64;
        Self {
            most,
            limit: FIRST.min(most),
            known: f64::INFINITY,
            base: None,
            round: Round { since: now, replies: Mean::default(), was_full: false },
            before_cut: None,
            last_overload: None,
            noise: Noise::new(),
            was_answered: true,
            patience: 0,
            met_at: 0.0,
            quiet: 0,
            rounds: 0,
        }
    }

    /// Requests that may be in flight.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to 1024")]
    pub const fn now(&self) -> usize {
        self.limit as usize
    }

    /// A reply came to what left then, and `in_flight` were under way until it did.
    pub fn answered(&mut self, now: Instant, began: Instant, in_flight: usize) {
        self.noise.accepted(began);
        self.round.was_full |= in_flight >= self.now();
        self.was_answered |= self.last_overload.is_some_and(|last| began >= last);
        // What left before the round says something of another number of lanes.
        if began < self.round.since {
            return;
        }
        self.round.replies.add((now - began).max(Duration::from_micros(1)).as_secs_f64().ln());
        if self.round_is_over() {
            self.decide();
            self.round = Round { since: now, replies: Mean::default(), was_full: false };
        }
    }

    fn is_doubling(&self) -> bool {
        self.limit < self.known && self.before_cut.is_none()
    }

    fn round_is_over(&self) -> bool {
        let Mean { n, .. } = self.round.replies;
        let enough = self.limit.max(LEAST_REPLIES);
        if self.is_doubling() {
            return n >= enough / 2.0;
        }
        n >= 4.0 * enough || n >= enough && self.round.replies.variance() <= PRECISE * PRECISE
    }

    fn decide(&mut self) {
        let Round { replies, was_full, .. } = self.round;
        if !was_full {
            return;
        }
        let latency = replies.value();
        let Some(base) = &mut self.base else {
            self.base = Some(replies);
            return self.double();
        };
        let grown = latency - base.value();
        if let Some((lanes, before)) = self.before_cut.take() {
            return self.judge_cut(lanes, before, replies);
        }
        if self.limit < self.known {
            let noise = 2.0 * (replies.variance() + base.variance()).sqrt();
            if grown <= GROWN.max(noise) {
                base.merge(replies);
                return self.double();
            }
            // How much, a whole round tells.
            self.known = 0.0;
            return;
        }
        self.rounds += 1;
        let at_work = self.limit * (-grown).exp();
        let wait = self.limit - at_work;
        if wait > 2.0 * self.enough_wait() {
            self.cut_to(at_work + self.enough_wait(), latency);
        } else if self.rounds >= ROUNDS_TO_LOOK {
            self.cut_to(self.limit * 0.8, latency);
        } else if wait < self.enough_wait() {
            self.grow();
        }
    }

    /// So many may wait over there, so that it never runs dry.
    fn enough_wait(&self) -> f64 {
        1.0 + self.limit * WAIT
    }

    fn double(&mut self) {
        self.limit = (self.limit * 2.0).min(self.known.max(self.limit)).min(self.most);
    }

    fn grow(&mut self) {
        self.quiet += 1;
        if self.quiet < self.patience {
            return;
        }
        self.quiet = 0;
        if self.limit > PASSED * self.met_at {
            self.patience = 0;
        }
        let step = if self.patience > 0 { 1.0 } else { (self.limit * 0.1).max(1.0) };
        self.limit = (self.limit + step).min(self.most);
    }

    fn cut_to(&mut self, lanes: f64, latency: f64) {
        self.rounds = 0;
        let lanes = lanes.max(self.limit / 2.0).min(self.limit - 1.0).max(1.0);
        if lanes < self.limit {
            self.before_cut = Some((self.limit, latency));
            self.limit = lanes;
        }
    }

    /// With fewer lanes: were the others in excess?
    fn judge_cut(&mut self, lanes: f64, before: f64, replies: Mean) {
        let Some(base) = &mut self.base else { return };
        let latency = replies.value();
        let cut = (lanes / self.limit).ln();
        if before - latency < cut / 2.0 {
            // Replies are no faster: so long they take by themselves.
            *base = replies;
            self.limit = lanes;
        } else if latency < base.value() {
            // So there were some in excess all the time, and may still be.
            *base = replies;
            self.rounds = ROUNDS_TO_LOOK;
        } else if latency - base.value() < SAME {
            base.merge(replies);
            // The queue is gone, and came of lanes that can be told now.
            let at_work = lanes * (base.value() - before).exp();
            self.limit = (at_work + self.enough_wait()).clamp(self.limit, lanes);
        }
    }

    /// The far side cannot keep up: it said so, or did not answer what left then.
    pub fn overloaded(&mut self, now: Instant, began: Instant) {
        self.noise.refused(began);
        // All that was under way when lanes were taken away says the same once more.
        if self.last_overload.is_some_and(|last| began < last) || !self.noise.is_passed() {
            return;
        }
        self.last_overload = Some(now);
        if self.noise.act(now, SOON.max(ROUNDS_IN_VAIN * self.limit)) {
            (self.limit, self.patience) = (self.limit.max(self.met_at).min(self.most), 0);
            (self.before_cut, self.quiet) = (None, 0);
            self.round = Round { since: now, replies: Mean::default(), was_full: false };
            return;
        }
        // Where nothing was answered in between, it is not the number of lanes.
        if std::mem::take(&mut self.was_answered) {
            self.known = (self.limit * 0.9).max(1.0);
            self.met_at = self.limit;
            self.patience = (self.patience * 2).clamp(10, MOST_PATIENCE);
        }
        self.limit = (self.limit * 0.75).max(1.0);
        self.before_cut = None;
        self.quiet = 0;
        self.round = Round { since: now, replies: Mean::default(), was_full: false };
    }
}
