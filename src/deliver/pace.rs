//! How many requests a second the far side takes: learned from its refusals, or from what its headers say
//! before it refuses.
//!
//! After TCP CUBIC, as the adaptive retries of the AWS SDKs have it. The first refusals stop all sending; one
//! request at a time looks whether it is over, and what was taken until then is the pace. From there it grows a little
//! faster with every reply until the next refusal, and from then on stays just below what was taken. A header that names what is left
//! and until when gives the pace at once. Growth goes by replies and not by time, so that 5 a minute and 500 a second
//! are found in the same way. Pure: the caller brings the time.

use std::time::{Duration, Instant};

use super::headers::Window;
use super::noise::Noise;

/// The first wait after a refusal that names none; doubled while the refusals go on.
const FIRST_HOLD: Duration = Duration::from_millis(100);
const MOST_HOLD: Duration = Duration::from_secs(20);
/// Fewer replies than this say nothing about a pace.
const LEAST_REPLIES: f64 = 3.0;
/// So many say enough.
const ENOUGH: f64 = 20.0;
/// What is grown by while as many replies come as a guess was made from.
const A_TENTH: f64 = 0.1;
/// What a guess grows by with each reply, at the least.
const LEAST_GROWTH: f64 = 0.001;
/// So many replies it takes from a cut to the pace that was refused.
const REPLIES_TO_TOP: f64 = 2000.0;
/// How far below what was taken it begins then.
const BELOW: f64 = 0.03;
/// What is left is not spread over more than this: who may send a thousand now need not take an hour for it.
const SOON: Duration = Duration::from_secs(10);
/// A window that ends later than this says nothing about a pace.
const LONGEST: Duration = Duration::from_hours(24);
/// So many refusals in a row may come by chance.
const FEW: u32 = 3;
/// At least this share of a pace is kept at once.
const KEPT: f64 = 0.7;

/// A pace that follows the far side.
#[derive(Debug)]
pub struct Pace {
    learned: Option<Learned>,
    told: Option<Told>,
    recent: Recent,
    noise: Noise,
    since_hold: Taken,
    last_refusal: Option<Instant>,
    /// Refusals in a row, each of what left after the one before.
    refusals: u32,
    held_until: Option<Instant>,
    /// Whether the one request that looks is under way.
    is_looking: bool,
}

/// What refusals taught.
#[derive(Debug)]
struct Learned {
    /// Requests a second that were taken.
    top: f64,
    replies: f64,
    /// The highest that was refused of late.
    refused_at: f64,
    /// Growth with each reply while `top` is a first guess; `None` once it was confirmed.
    guess: Option<f64>,
}

/// What headers say.
#[derive(Debug)]
struct Told {
    left: u64,
    ends: Instant,
    /// The pace when the window was new, for the next one.
    fresh: f64,
    pace: Option<f64>,
    /// Nothing may leave before.
    closed_until: Option<Instant>,
}

/// What was taken since then.
#[derive(Debug)]
struct Taken {
    since: Instant,
    replies: f64,
}

/// What was taken of late.
#[derive(Debug)]
struct Recent {
    taken: Taken,
    /// The time before: how long, and how many.
    before: (f64, f64),
}

impl Learned {
    fn pace(&self) -> f64 {
        match self.guess {
            Some(growth) => self.top * (1.0 + growth).powf(self.replies),
            None => self.top * (1.0 + BELOW * (self.replies / REPLIES_TO_TOP - 1.0).powi(3)),
        }
    }
}

impl Taken {
    const fn since(now: Instant) -> Self {
        Self { since: now, replies: 0.0 }
    }

    fn seconds(&self, now: Instant) -> f64 {
        (now - self.since).as_secs_f64()
    }
}

impl Recent {
    const fn new(now: Instant) -> Self {
        Self { taken: Taken::since(now), before: (0.0, 0.0) }
    }

    fn add(&mut self, now: Instant) {
        self.taken.replies += 1.0;
        let span = self.taken.seconds(now);
        if span >= 1.0 && self.taken.replies >= ENOUGH {
            *self = Self { taken: Taken::since(now), before: (span, self.taken.replies) };
        }
    }

    /// Replies a second, where there were enough to tell.
    fn rate(&self, now: Instant) -> Option<f64> {
        let replies = self.before.1 + self.taken.replies;
        let span = self.before.0 + self.taken.seconds(now);
        (replies >= ENOUGH).then(|| replies / span.max(0.001))
    }
}

impl Pace {
    /// Nothing is known yet.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self {
            learned: None,
            told: None,
            recent: Recent::new(now),
            noise: Noise::new(),
            since_hold: Taken::since(now),
            last_refusal: None,
            refusals: 0,
            held_until: None,
            is_looking: false,
        }
    }

    /// Requests a second; `None` while nothing limits them.
    #[must_use]
    pub fn per_second(&self, now: Instant) -> Option<f64> {
        let learned = self.learned.as_ref().map(Learned::pace);
        let told = self
            .told
            .as_ref()
            .and_then(|told| if now < told.ends { told.pace } else { told.pace.map(|_| told.fresh) });
        match (learned, told) {
            (Some(learned), Some(told)) => Some(learned.min(told)),
            (one, other) => one.or(other),
        }
    }

    /// When the next request may leave at the earliest.
    #[must_use]
    pub fn not_before(&self, now: Instant) -> Option<Instant> {
        let closed = self.told.as_ref().and_then(|told| told.closed_until);
        self.held_until.max(closed).filter(|until| *until > now)
    }

    /// Whether one request at a time has to look first, and is under way.
    #[must_use]
    pub const fn waits_for_look(&self, in_flight: usize) -> bool {
        self.refusals > 0 && self.is_looking && in_flight > 0
    }

    /// A request leaves.
    pub const fn started(&mut self) {
        self.is_looking = self.is_held();
    }

    /// What left then ended and says nothing of a pace: another one may look.
    pub fn learned_nothing(&mut self, began: Instant) {
        if self.held_until.is_some_and(|until| began >= until) {
            self.is_looking = false;
        }
    }

    /// How long all sending stands still after a refusal.
    #[must_use]
    pub fn hold(&self, now: Instant) -> Option<Duration> {
        self.held_until.map(|until| until.saturating_duration_since(now))
    }

    /// Whether single requests look if a refusal is over.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.held_until.is_some()
    }

    /// The end of the window that headers told of.
    #[must_use]
    pub fn window_ends(&self) -> Option<Instant> {
        self.told.as_ref().map(|told| told.ends)
    }

    /// What left then was taken.
    pub fn accepted(&mut self, now: Instant, began: Instant) {
        self.recent.add(now);
        self.noise.accepted(began);
        self.since_hold.replies += 1.0;
        if self.since_hold.replies > 2.0 * REPLIES_TO_TOP {
            // What was long ago counts less.
            self.since_hold.since += (now - self.since_hold.since) / 2;
            self.since_hold.replies /= 2.0;
        }
        if self.refusals == 0 {
            return self.grow(now);
        }
        if self.last_refusal.is_some_and(|last| began < last) {
            return;
        }
        if self.is_held() {
            self.take_on(now);
        }
        self.recent = Recent::new(now);
        (self.refusals, self.held_until, self.is_looking) = (0, None, false);
    }

    fn grow(&mut self, now: Instant) {
        let Some(learned) = &mut self.learned else { return };
        // What is not used is not tried out either.
        if self.recent.rate(now).is_none_or(|rate| learned.pace() < 2.0 * rate) {
            learned.replies += 1.0;
        }
    }

    /// It is over: what was taken in all the time since the last wait, this one included, is the pace.
    fn take_on(&mut self, now: Instant) {
        if self.refusals <= FEW && self.noise.is_known() && self.learned.is_some() {
            // A few in a row, where single ones come anyway.
            self.since_hold = Taken::since(now);
            return;
        }
        let Taken { replies, .. } = self.since_hold;
        let rate = replies / self.since_hold.seconds(now).max(0.001);
        let (top, guess) = match &self.learned {
            Some(_) if replies >= ENOUGH => (rate, Some(A_TENTH / replies)),
            Some(learned) => (learned.pace() * KEPT, Some(LEAST_GROWTH)),
            None => (rate, Some((A_TENTH / replies).max(LEAST_GROWTH))),
        };
        if self.learned.is_some() || replies >= LEAST_REPLIES {
            self.learned = Some(Learned { top, replies: 0.0, refused_at: top, guess });
        }
        self.since_hold = Taken::since(now);
    }

    /// What left then was refused: too many.
    pub fn refused(&mut self, now: Instant, began: Instant) {
        self.noise.refused(began);
        // What was under way at the last refusal says the same once more.
        if self.last_refusal.is_some_and(|last| began < last) {
            return;
        }
        self.last_refusal = Some(now);
        self.is_looking = false;
        self.refusals += 1;
        if self.refusals == 1
            && let Some(learned) = &mut self.learned
        {
            if self.noise.is_known() && !self.noise.is_passed() {
                return;
            }
            let pace = learned.pace();
            if self.noise.act(now, REPLIES_TO_TOP / 2.0) {
                // What was refused before is as good as this one.
                learned.top = learned.refused_at.max(pace);
                (learned.guess, learned.replies) = (Some(LEAST_GROWTH), 0.0);
                return;
            }
            let taken = self.recent.rate(now).unwrap_or(pace).max(pace * KEPT);
            let is_again = learned.guess.is_none() && learned.replies < REPLIES_TO_TOP / 2.0;
            let refused_at = if is_again { learned.refused_at.max(pace) } else { pace };
            *learned = Learned { top: pace.min(taken), replies: 0.0, refused_at, guess: None };
            self.recent = Recent::new(now);
            return;
        }
        let hold = FIRST_HOLD.saturating_mul(1 << (self.refusals - 1).min(10)).min(MOST_HOLD);
        self.held_until = Some(now + hold);
    }

    /// The headers of a reply say how many may follow and until when. `in_flight` are under way, and `to_send`
    /// are to be sent in all.
    pub fn told(&mut self, now: Instant, began: Instant, window: Window, in_flight: usize, to_send: u64) {
        if window.ends_in > LONGEST {
            return;
        }
        let in_flight = in_flight as u64;
        // Half of the way ago, about.
        let said = began + (now - began) / 2;
        let ends = said + window.ends_in;
        match &mut self.told {
            // Times are whole seconds: the earliest end that was told of a window is the closest.
            Some(told) if said < told.ends && window.left <= told.left + in_flight => {
                told.ends = told.ends.min(ends);
                told.left = told.left.min(window.left);
            }
            // It goes on for longer than it seemed.
            Some(told) if window.left <= told.left => (told.ends, told.left) = (ends, window.left),
            told => {
                let fresh = spread(window.left, window.ends_in);
                // Windows follow each other: the end of one says more than whole seconds.
                let next = told.as_ref().map(|told| told.ends + window.ends_in).filter(|next| *next > said);
                let ends = next.map_or(ends, |next| next.min(ends));
                *told = Some(Told { left: window.left, ends, fresh, pace: None, closed_until: None });
            }
        }
        let Some(told) = &mut self.told else { return };
        // What is under way was not counted over there yet.
        let spare = told.left.saturating_sub(in_flight);
        let time = told.ends.saturating_duration_since(now);
        // Neither in one burst nor ever slower to the end.
        let pace = spread(spare.max(1), time).clamp(told.fresh / 2.0, told.fresh * 4.0);
        // Of a window that was told of when it was used up, the end is known and no pace.
        told.pace = (spare < to_send && told.fresh > 0.0).then_some(pace);
        told.closed_until = (spare == 0 && told.left < in_flight + to_send).then_some(told.ends);
    }
}

/// So many over a time, a second. Of a long time, most is sent soon and the rest ever slower.
fn spread(count: u64, time: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "beyond 2^52 a pace limits nothing")]
    let count = count as f64;
    count / time.min(SOON).as_secs_f64().max(0.001)
}
