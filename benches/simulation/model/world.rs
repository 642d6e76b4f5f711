//! A run without a network and without waiting: the scheduler of the program against servers that are formulas.
//!
//! Time jumps from one event to the next, and all that is random is seeded, so that the figures are the same
//! on every machine. Used by `cargo bench --bench simulation`, which prints them, and by `tests/it/adaptive.rs`,
//! which holds them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderName};
use runner::config::{Concurrency, Retry};
use runner::deliver::{Around, Felt, Landing, Schedule, Step, Turn, backoff, headers};

/// Seconds since the run began.
pub type Seconds = f64;

/// What a server answers, and after how long.
pub struct Answer {
    /// Until the reply is here.
    pub after: Seconds,
    /// Its status; 0 is none within the time limit.
    pub status: u16,
    /// Its headers.
    pub headers: Vec<(&'static str, u64)>,
}

impl Answer {
    /// A good one.
    pub const fn good(after: Seconds) -> Self {
        Self { after, status: 200, headers: Vec::new() }
    }
}

/// A modelled far side.
pub trait Server {
    /// A request arrives.
    fn arrives(&mut self, at: Seconds) -> Answer;
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// Records.
    pub records: u64,
    /// So many order values; 0 is none.
    pub orders: u64,
}

/// How a run went.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ran {
    /// Delivered records a second, until the last.
    pub goodput: f64,
    /// Until the last was delivered.
    pub seconds: Seconds,
    /// Replies of 429.
    pub throttled: u64,
    /// Replies of 5xx, and none.
    pub overloaded: u64,
    /// Requests under way, on average over time.
    pub lanes: f64,
    /// Lanes allowed at the end.
    pub lanes_at_end: usize,
    /// When so many lanes were first allowed that none more can be.
    pub full_at: Option<Seconds>,
    /// When the thousandth was delivered.
    pub thousandth: Seconds,
    /// The slowest reply of 200.
    pub slowest: Seconds,
}

/// So many lanes.
pub fn fixed(lanes: usize) -> Concurrency {
    Concurrency::Fixed(NonZeroUsize::new(lanes).expect("a lane"))
}

/// As many as it takes well.
pub fn adaptive(most: usize) -> Concurrency {
    Concurrency::Adaptive { most: NonZeroUsize::new(most).expect("a lane") }
}

#[derive(Debug, Clone, Copy)]
struct Job {
    number: u64,
    made: u32,
}

/// A request under way; the earliest reply is the greatest.
struct Flight {
    lands: Instant,
    number: u64,
    began: Instant,
    job: Job,
    status: u16,
    headers: Vec<(&'static str, u64)>,
}

impl PartialEq for Flight {
    fn eq(&self, other: &Self) -> bool {
        (self.lands, self.number) == (other.lands, other.number)
    }
}
impl Eq for Flight {}
impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Flight {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.lands, self.number).cmp(&(other.lands, other.number))
    }
}

/// What headers say, by the program's own reading of them.
#[derive(Default)]
struct Told {
    window: Option<headers::Window>,
    exhausted: Option<Duration>,
    retry_after: Option<Duration>,
}

impl Told {
    fn by(told: &[(&'static str, u64)], now: SystemTime) -> Self {
        if told.is_empty() {
            return Self::default();
        }
        let names = told.iter().map(|(name, value)| (HeaderName::from_static(name), (*value).into()));
        let map: HeaderMap = names.collect();
        Self {
            window: headers::left(&map, now),
            exhausted: headers::exhausted(&map, now),
            retry_after: headers::retry_after(&map, now),
        }
    }
}

/// Records are tried until they are delivered, so that all settings do the same work.
fn retry() -> Retry {
    Retry {
        attempts: NonZeroU32::MAX,
        first_wait: Duration::from_millis(500),
        max_wait: Duration::from_mins(1),
        max_retry_after: Duration::from_mins(5),
    }
}

/// Sends all the work.
pub fn run(concurrency: Concurrency, mut server: impl Server, work: Work) -> Ran {
    let start = Instant::now();
    let wall = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
    let mut random = fastrand::Rng::with_seed(7);
    let mut schedule: Schedule<Job> = Schedule::new(concurrency, None, 1024, start);
    let mut flying: BinaryHeap<Reverse<Flight>> = BinaryHeap::new();
    let (mut ran, mut now) = (Ran::default(), start);
    let (mut next, mut starts, mut delivered) = (0, 0, 0);
    let mut busy = 0.0;
    let order_of = |job: &Job| if work.orders == 0 { 0 } else { job.number % work.orders + 1 };
    let mut out: HashSet<u64> = HashSet::new();
    while delivered < work.records {
        let around = Around { in_flight: flying.len(), has_new: next < work.records, one_at_a_time: false };
        let until = match schedule.step(now, around) {
            Step::Start(mut job) => {
                assert!(work.orders == 0 || out.insert(order_of(&job)), "two of one order value");
                job.made += 1;
                starts += 1;
                let at = (now - start).as_secs_f64();
                let Answer { after, status, headers } = server.arrives(at);
                let lands = now + Duration::from_secs_f64(after);
                busy += after;
                flying.push(Reverse(Flight { lands, number: starts, began: now, job, status, headers }));
                continue;
            }
            Step::TakeNew => {
                let job = Job { number: next, made: 0 };
                next += 1;
                if let Turn::Go(job) = schedule.order.enter(order_of(&job), job) {
                    schedule.ready(job);
                }
                continue;
            }
            Step::Wait(until) => until,
        };
        if schedule.lanes() >= concurrency.most().get() && ran.full_at.is_none() {
            ran.full_at = Some((now - start).as_secs_f64());
        }
        let lands = flying.peek().map(|flight| flight.0.lands);
        let Some(at) = lands.into_iter().chain(until).min() else { panic!("nothing is to come") };
        assert!(at >= now && (lands.is_some() || at > now), "time stands still");
        now = at;
        while flying.peek().is_some_and(|flight| flight.0.lands <= now) {
            let Some(Reverse(flight)) = flying.pop() else { break };
            let Flight { began, job, status, headers, .. } = flight;
            out.remove(&order_of(&job));
            let told = Told::by(&headers, wall + (now - start));
            let felt = match status {
                429 => Felt::Throttled,
                0 | 503 => Felt::Overloaded,
                _ => Felt::Answered,
            };
            let to_send = work.records - delivered;
            schedule
                .landed(now, Landing { began, felt, window: told.window, in_flight: flying.len(), to_send });
            let Told { retry_after, exhausted, .. } = told;
            let asked = retry_after.or_else(|| exhausted.filter(|_| status == 429));
            if let Some(wait) = asked.or(exhausted) {
                // As the loop that sends does it.
                let until = now + wait;
                let ends = schedule.window_ends().filter(|_| asked.is_none());
                schedule.pause(ends.map_or(until, |ends| ends.min(until)));
            }
            if status == 200 {
                delivered += 1;
                ran.slowest = ran.slowest.max((now - began).as_secs_f64());
                if delivered == 1000 {
                    ran.thousandth = (now - start).as_secs_f64();
                }
                if let Some(job) = schedule.order.leave(order_of(&job)) {
                    schedule.ready(job);
                }
                continue;
            }
            ran.throttled += u64::from(status == 429);
            ran.overloaded += u64::from(status != 429);
            let wait = asked.unwrap_or_else(|| backoff(job.made, &retry(), random.f64()));
            schedule.later(now + wait, job);
        }
    }
    ran.seconds = (now - start).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a few thousand records")]
    let records = work.records as f64;
    ran.goodput = records / ran.seconds;
    ran.lanes = busy / ran.seconds;
    ran.lanes_at_end = schedule.lanes();
    ran
}
