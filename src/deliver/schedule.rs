//! Which request starts next, and when: the one step that joins lanes, pace, pauses, repeats and order.
//!
//! Pure: the caller brings the time and says how attempts ended, so that a simulation drives the same code
//! (`benches/simulation`). Invariants: of each order value at most one job is out; nothing leaves in a pause;
//! what waits the longest goes first.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use super::felt::Felt;
use super::headers::Window;
use super::lanes::Lanes;
use super::order::Order;
use super::pace::Pace;
use super::rate::Rate;
use crate::config::Concurrency;

/// What waits to be sent, and the rules by which it leaves.
#[derive(Debug)]
pub struct Schedule<J> {
    /// Whose turn it is among those with the same order value.
    pub order: Order<J>,
    ready: VecDeque<J>,
    later: BinaryHeap<Reverse<Due<J>>>,
    turn: u64,
    rate: Rate,
    most_lanes: usize,
    /// Where the number of lanes follows the far side.
    adaptive: Option<Box<(Lanes, Pace)>>,
    most_waiting: usize,
}

#[derive(Debug)]
struct Due<J> {
    at: Instant,
    turn: u64,
    job: J,
}

impl<J> PartialEq for Due<J> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.turn) == (other.at, other.turn)
    }
}
impl<J> Eq for Due<J> {}
impl<J> PartialOrd for Due<J> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<J> Ord for Due<J> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.turn).cmp(&(other.at, other.turn))
    }
}

/// What the schedule does not hold itself.
#[derive(Debug, Clone, Copy)]
pub struct Around {
    /// Requests under way.
    pub in_flight: usize,
    /// Whether there is something that the schedule was not given yet.
    pub has_new: bool,
    /// Whether only one may be under way, whatever else holds.
    pub one_at_a_time: bool,
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<J> {
    /// This one starts.
    Start(J),
    /// One more could start: give something new by [`Schedule::ready`], or have none.
    TakeNew,
    /// Nothing, until then or until something lands.
    Wait(Option<Instant>),
}

/// The end of an attempt.
#[derive(Debug, Clone, Copy)]
pub struct Landing {
    /// When it began.
    pub began: Instant,
    /// How it ended.
    pub felt: Felt,
    /// What its headers say.
    pub window: Option<Window>,
    /// Requests still under way.
    pub in_flight: usize,
    /// Requests still to be sent, about.
    pub to_send: u64,
}

impl<J> Schedule<J> {
    /// Nothing waits yet. At most about `most_waiting` jobs are held back: a far side that throttles must not
    /// make us hoard.
    #[must_use]
    pub fn new(concurrency: Concurrency, rate: Option<f64>, most_waiting: usize, now: Instant) -> Self {
        let most_lanes = concurrency.most().get();
        let adaptive = match concurrency {
            Concurrency::Fixed(_) => None,
            Concurrency::Adaptive { .. } => Some(Box::new((Lanes::up_to(most_lanes, now), Pace::new(now)))),
        };
        Self {
            order: Order::default(),
            ready: VecDeque::new(),
            later: BinaryHeap::new(),
            turn: 0,
            rate: Rate::new(rate, now),
            most_lanes,
            adaptive,
            most_waiting: most_waiting.max(4 * most_lanes),
        }
    }

    /// What is to be done now; asked again until it is to wait.
    pub fn step(&mut self, now: Instant, around: Around) -> Step<J> {
        let lanes = if around.one_at_a_time { 1 } else { self.lanes() };
        if around.in_flight >= lanes {
            return Step::Wait(None);
        }
        let may_take = around.has_new && self.order.waiting() + self.later.len() < self.most_waiting;
        // What was refused is not used up by looking whether that is over.
        let spares_due = self.looks() && (may_take || !self.ready.is_empty());
        let is_due = !spares_due && self.later.peek().is_some_and(|due| due.0.at <= now);
        if self.ready.is_empty() && !is_due {
            if may_take {
                return Step::TakeNew;
            }
            return Step::Wait(self.later.peek().map(|due| due.0.at));
        }
        if let Some(adaptive) = &self.adaptive {
            let (_, pace) = &**adaptive;
            if pace.waits_for_look(around.in_flight) {
                return Step::Wait(None);
            }
            if let Some(until) = pace.not_before(now) {
                return Step::Wait(Some(until));
            }
        }
        if let Err(until) = self.rate.take(now) {
            return Step::Wait(Some(until));
        }
        // A record that waits the longest goes first.
        let due = if is_due { self.later.pop().map(|due| due.0.job) } else { None };
        let Some(job) = due.or_else(|| self.ready.pop_front()) else { return Step::Wait(None) };
        if let Some(adaptive) = &mut self.adaptive {
            adaptive.1.started();
        }
        Step::Start(job)
    }

    /// What was to start now was settled without a request.
    pub fn was_not_sent(&mut self, now: Instant) {
        self.rate.give_back();
        self.learned_nothing(now);
    }

    /// What started then ended and says nothing of the far side.
    pub fn learned_nothing(&mut self, began: Instant) {
        if let Some(adaptive) = &mut self.adaptive {
            adaptive.1.learned_nothing(began);
        }
    }

    /// Whether single requests look if a refusal is over.
    fn looks(&self) -> bool {
        self.adaptive.as_ref().is_some_and(|adaptive| adaptive.1.is_held())
    }

    /// It is the turn of a job.
    pub fn ready(&mut self, job: J) {
        self.ready.push_back(job);
    }

    /// It is the turn of a job, before all others.
    pub fn ready_first(&mut self, job: J) {
        self.ready.push_front(job);
    }

    /// A job is to be sent, but not before.
    pub fn later(&mut self, at: Instant, job: J) {
        self.turn += 1;
        self.later.push(Reverse(Due { at, turn: self.turn, job }));
    }

    /// Nothing leaves before `until`. Whether that is later than what was known.
    pub fn pause(&mut self, until: Instant) -> bool {
        self.rate.pause(until)
    }

    /// When the window ends that the far side's headers told of; kept only where lanes are adaptive.
    #[must_use]
    pub fn window_ends(&self) -> Option<Instant> {
        self.adaptive.as_ref().and_then(|adaptive| adaptive.1.window_ends())
    }

    /// How long all sending stands still after a refusal that named no wait.
    #[must_use]
    pub fn hold(&self, now: Instant) -> Option<Duration> {
        self.adaptive.as_ref().and_then(|adaptive| adaptive.1.hold(now))
    }

    /// Requests that may be under way at once.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.adaptive.as_ref().map_or(self.most_lanes, |adaptive| adaptive.0.now())
    }

    /// Requests a second that were learned; `None` where nothing was, or had to be.
    #[must_use]
    pub fn pace(&self, now: Instant) -> Option<f64> {
        self.adaptive.as_ref().and_then(|adaptive| adaptive.1.per_second(now))
    }

    /// Whether the ends of attempts change anything.
    #[must_use]
    pub const fn learns(&self) -> bool {
        self.adaptive.is_some()
    }

    /// Learns from the end of an attempt.
    pub fn landed(&mut self, now: Instant, landing: Landing) {
        let Some(adaptive) = &mut self.adaptive else { return };
        let (lanes, pace) = &mut **adaptive;
        let Landing { began, felt, window, in_flight, to_send } = landing;
        match felt {
            Felt::Answered => {
                lanes.answered(now, began, in_flight + 1);
                pace.accepted(now, began);
            }
            Felt::Throttled => {
                lanes.overloaded(now, began);
                pace.refused(now, began);
            }
            Felt::Overloaded => {
                lanes.overloaded(now, began);
                pace.learned_nothing(began);
            }
            Felt::Nothing => pace.learned_nothing(began),
        }
        if let Some(window) = window {
            pace.told(now, began, window, in_flight, to_send);
        }
        self.rate.slow_to(pace.per_second(now));
    }

    /// Whether nothing waits but for its turn in order.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.later.is_empty()
    }

    /// Takes out all that waits, when the run stops.
    pub fn drain(&mut self) -> Vec<J> {
        let waiting = self.ready.drain(..).chain(self.later.drain().map(|due| due.0.job));
        waiting.chain(self.order.drain()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    const NEW: Around = Around { in_flight: 0, has_new: true, one_at_a_time: false };
    const OLD: Around = Around { has_new: false, ..NEW };

    fn schedule(rate: Option<f64>, now: Instant) -> Schedule<char> {
        let two = NonZeroUsize::new(2).unwrap();
        Schedule::new(Concurrency::Fixed(two), rate, 0, now)
    }

    #[test]
    fn what_waits_the_longest_goes_first_and_new_ones_last() {
        let now = Instant::now();
        let mut schedule = schedule(None, now);
        assert_eq!(schedule.step(now, OLD), Step::Wait(None));
        assert_eq!(schedule.step(now, NEW), Step::TakeNew);
        schedule.ready('c');
        schedule.ready_first('b');
        schedule.later(now + Duration::from_secs(2), 'd');
        schedule.later(now, 'a');
        for expected in ['a', 'b', 'c'] {
            assert_eq!(schedule.step(now, NEW), Step::Start(expected));
        }
        let due = now + Duration::from_secs(2);
        assert_eq!(schedule.step(now, OLD), Step::Wait(Some(due)));
        assert_eq!(schedule.step(due, OLD), Step::Start('d'));
        assert!(schedule.is_empty());
    }

    #[test]
    fn lanes_and_the_canary_are_waited_for_without_a_clock() {
        let now = Instant::now();
        let mut schedule = schedule(None, now);
        schedule.ready('a');
        assert_eq!(schedule.step(now, Around { in_flight: 2, ..NEW }), Step::Wait(None));
        let canary = Around { in_flight: 1, one_at_a_time: true, ..NEW };
        assert_eq!(schedule.step(now, canary), Step::Wait(None));
        assert_eq!(schedule.step(now, Around { in_flight: 1, ..NEW }), Step::Start('a'));
    }

    #[test]
    fn no_more_is_taken_than_may_wait() {
        let now = Instant::now();
        let mut schedule = schedule(None, now);
        // Four for each lane.
        let due = now + Duration::from_secs(1);
        for _ in 0..8 {
            assert_eq!(schedule.step(now, NEW), Step::TakeNew);
            schedule.later(due, 'x');
        }
        assert_eq!(schedule.step(now, NEW), Step::Wait(Some(due)));
    }

    #[test]
    fn a_pause_and_the_rate_hold_back_what_is_ready_and_take_nothing_in_vain() {
        let now = Instant::now();
        let mut schedule = schedule(Some(1.0), now);
        let second = Duration::from_secs(1);
        assert!(schedule.pause(now + second));
        // Without a job no token is taken.
        assert_eq!(schedule.step(now, OLD), Step::Wait(None));
        schedule.ready('a');
        schedule.ready('b');
        assert_eq!(schedule.step(now, NEW), Step::Wait(Some(now + second)));
        assert_eq!(schedule.step(now + second, NEW), Step::Start('a'));
        assert_eq!(schedule.step(now + second, NEW), Step::Wait(Some(now + 2 * second)));
    }

    #[test]
    fn what_is_settled_without_a_request_takes_nothing() {
        let now = Instant::now();
        let mut limited = schedule(Some(1.0), now);
        for job in ['a', 'b', 'c'] {
            limited.ready(job);
        }
        assert_eq!(limited.step(now, OLD), Step::Start('a'));
        limited.was_not_sent(now);
        assert_eq!(limited.step(now, OLD), Step::Start('b'));
        let Step::Wait(Some(until)) = limited.step(now, OLD) else { panic!("it has a limit") };
        assert_eq!(until, now + Duration::from_secs(1));

        let mut held = adaptive(now);
        held.landed(now, landing(now, Felt::Throttled, None));
        held.ready('a');
        held.ready('b');
        let Step::Wait(Some(over)) = held.step(now, OLD) else { panic!("a refusal holds") };
        let still = Around { in_flight: 3, ..OLD };
        assert_eq!(held.step(over, still), Step::Start('a'));
        held.was_not_sent(over);
        // It looked at nothing, so the next one does.
        assert_eq!(held.step(over, still), Step::Start('b'));
    }

    #[test]
    fn what_waits_is_given_back_when_the_run_stops() {
        let now = Instant::now();
        let mut schedule = schedule(None, now);
        schedule.ready('a');
        schedule.later(now, 'b');
        let _ = schedule.order.enter(7, 'x');
        let _ = schedule.order.enter(7, 'c');
        assert_eq!(schedule.drain(), ['a', 'b', 'c']);
        assert!(schedule.is_empty());
    }

    fn landing(began: Instant, felt: Felt, left: Option<(u64, u64)>) -> Landing {
        let window = left.map(|(left, seconds)| Window { left, ends_in: Duration::from_secs(seconds) });
        Landing { began, felt, window, in_flight: 0, to_send: 1000 }
    }

    fn adaptive(now: Instant) -> Schedule<char> {
        let most = NonZeroUsize::new(64).unwrap();
        Schedule::new(Concurrency::Adaptive { most }, None, 0, now)
    }

    #[test]
    fn headers_slow_down_before_anything_is_refused() {
        let start = Instant::now();
        let mut schedule = adaptive(start);
        let now = start + Duration::from_millis(100);
        schedule.landed(now, landing(start, Felt::Answered, Some((20, 10))));
        assert!(
            schedule.pace(now).is_some_and(|pace| (1.9..2.1).contains(&pace)),
            "{:?}",
            schedule.pace(now)
        );
        // As many as are left are under way already: nothing more before the window is over.
        let landing = Landing { in_flight: 3, ..landing(start, Felt::Answered, Some((3, 10))) };
        schedule.landed(now, landing);
        schedule.ready('a');
        let Step::Wait(Some(until)) = schedule.step(now, Around { in_flight: 3, ..NEW }) else {
            panic!("it starts")
        };
        assert_eq!(until, start + Duration::from_millis(50) + Duration::from_secs(10));
    }

    #[test]
    fn what_is_left_for_all_that_is_to_be_sent_is_no_limit() {
        let now = Instant::now();
        let mut schedule = adaptive(now);
        schedule.landed(now, landing(now, Felt::Answered, Some((1001, 3600))));
        assert_eq!(schedule.pace(now), None);
    }

    #[test]
    fn after_a_refusal_one_looks_alone_and_then_a_pace_is_kept() {
        let start = Instant::now();
        let mut schedule = adaptive(start);
        let ms = |n| start + Duration::from_millis(n);
        for n in 0..50 {
            schedule.landed(ms(n), landing(start, Felt::Answered, None));
        }
        schedule.landed(ms(100), landing(start, Felt::Throttled, None));
        // Of what was under way then, more refusals change nothing.
        schedule.landed(ms(101), landing(ms(99), Felt::Throttled, None));
        schedule.later(ms(110), 'r');
        schedule.ready('a');
        schedule.ready('b');
        assert_eq!(schedule.step(ms(101), OLD), Step::Wait(Some(ms(200))));
        assert_eq!(schedule.step(ms(200), OLD), Step::Start('a'));
        let still = Around { in_flight: 3, ..OLD };
        assert_eq!(schedule.step(ms(201), still), Step::Wait(None));
        // It came to nothing: another one looks, whatever else is still under way.
        schedule.landed(ms(205), landing(ms(200), Felt::Nothing, None));
        schedule.ready('c');
        assert_eq!(schedule.step(ms(205), still), Step::Start('b'));
        schedule.landed(ms(250), landing(ms(205), Felt::Answered, None));
        // 51 in a quarter of a second.
        assert!(schedule.pace(ms(250)).is_some_and(|pace| (200.0..210.0).contains(&pace)));
        // What was refused is spared until it is over, and goes first then.
        assert_eq!(schedule.step(ms(250), still), Step::Start('r'));
    }

    #[test]
    fn overloads_take_a_quarter_of_the_lanes_once_and_a_single_one_none() {
        let start = Instant::now();
        let mut schedule = adaptive(start);
        let later = start + Duration::from_millis(50);
        schedule.landed(later, landing(start, Felt::Overloaded, None));
        assert_eq!(schedule.lanes(), 8);
        for _ in 0..8 {
            schedule.landed(later, landing(start, Felt::Overloaded, None));
        }
        assert_eq!(schedule.lanes(), 6);
    }

    #[test]
    fn a_window_without_end_is_not_believed() {
        let now = Instant::now();
        let mut schedule = adaptive(now);
        schedule.landed(now, landing(now, Felt::Answered, Some((1, u64::MAX / 4))));
        assert_eq!(schedule.pace(now), None);
    }
}
