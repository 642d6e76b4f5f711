//! Far sides as formulas.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::world::{Answer, Seconds, Server};

/// So many workers and a queue before them. Everything else is made of it.
pub struct Workers {
    /// Workers at a time.
    pub count: fn(Seconds) -> usize,
    /// How long one works at a request.
    pub service: Box<dyn FnMut(Seconds) -> Seconds>,
    /// To the server and back.
    pub network: Seconds,
    /// Requests that may wait; more are answered with 503.
    pub queue: usize,
    /// When each request that is served or waits will be done, in billionths, the earliest first.
    ends: Vec<u64>,
}

impl Workers {
    /// So many, each as long at a request.
    pub fn new(count: fn(Seconds) -> usize, service: Seconds) -> Self {
        Self {
            count,
            service: Box::new(move |_| service),
            network: 0.002,
            queue: usize::MAX,
            ends: Vec::new(),
        }
    }

    /// A request takes as long as this says.
    pub fn taking(self, service: impl FnMut(Seconds) -> Seconds + 'static) -> Self {
        Self { service: Box::new(service), ..self }
    }

    /// Only so many wait.
    pub fn with_queue(self, queue: usize) -> Self {
        Self { queue, ..self }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some hours at the most")]
fn billionths(seconds: Seconds) -> u64 {
    (seconds * 1e9) as u64
}

#[expect(clippy::cast_precision_loss, reason = "some hours at the most")]
fn seconds(billionths: u64) -> Seconds {
    billionths as f64 / 1e9
}

impl Server for Workers {
    fn arrives(&mut self, at: Seconds) -> Answer {
        let (now, count) = (billionths(at), (self.count)(at).max(1));
        let done = self.ends.partition_point(|end| *end <= now);
        self.ends.drain(..done);
        let under_way = self.ends.len();
        if under_way >= count.saturating_add(self.queue) {
            return Answer { after: self.network, status: 503, headers: Vec::new() };
        }
        // It is served when all but one fewer than there are workers are done.
        let begins = if under_way < count { now } else { self.ends[under_way - count] };
        let end = begins + billionths((self.service)(at));
        self.ends.insert(self.ends.partition_point(|other| *other <= end), end);
        Answer::good(seconds(end) - at + self.network)
    }
}

/// Latency that jumps: most replies are quick, some take very long.
pub fn heavy_tail(seed: u64, median: Seconds) -> impl FnMut(Seconds) -> Seconds {
    let mut random = fastrand::Rng::with_seed(seed);
    move |_| {
        // A Pareto tail with the index 1.5, cut at a hundred times the least.
        let share: f64 = random.f64().max(1e-3);
        median / 1.59 * share.powf(-1.0 / 1.5)
    }
}

/// What a limited server says of its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// Nothing but 429.
    Nothing,
    /// `Retry-After` with a refusal.
    RetryAfter,
    /// What is left, in every reply.
    Left,
}

/// Requests in a window; more are refused.
pub struct Window {
    /// Requests in a window.
    pub most: u64,
    /// How long a window is.
    pub length: Seconds,
    /// What it says.
    pub says: Says,
    /// A reply takes so long.
    pub latency: Seconds,
    taken: u64,
    began: Seconds,
}

impl Window {
    /// So many in so long.
    pub const fn new(most: u64, length: Seconds, says: Says) -> Self {
        Self { most, length, says, latency: 0.05, taken: 0, began: 0.0 }
    }
}

impl Server for Window {
    fn arrives(&mut self, at: Seconds) -> Answer {
        // The request is half of the way until it is there.
        let at = at + self.latency / 2.0;
        if at >= self.began + self.length {
            self.began = (at / self.length).floor() * self.length;
            self.taken = 0;
        }
        let is_taken = self.taken < self.most;
        self.taken += u64::from(is_taken);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a window")]
        let ends_in = (self.began + self.length - at).ceil() as u64;
        let headers = match self.says {
            Says::RetryAfter if !is_taken => vec![("retry-after", ends_in)],
            Says::Left => vec![
                ("x-ratelimit-limit", self.most),
                ("x-ratelimit-remaining", self.most - self.taken),
                ("x-ratelimit-reset", ends_in),
            ],
            Says::Nothing | Says::RetryAfter => Vec::new(),
        };
        Answer { after: self.latency, status: if is_taken { 200 } else { 429 }, headers }
    }
}

/// A bucket that fills at a rate; what finds it empty is refused.
pub struct Bucket {
    /// Tokens a second.
    pub rate: f64,
    /// Tokens that it holds.
    pub size: f64,
    /// A reply takes so long.
    pub latency: Seconds,
    tokens: f64,
    last: Seconds,
}

impl Bucket {
    /// Full at first.
    pub const fn new(rate: f64, size: f64) -> Self {
        Self { rate, size, latency: 0.05, tokens: size, last: 0.0 }
    }
}

impl Server for Bucket {
    fn arrives(&mut self, at: Seconds) -> Answer {
        self.tokens = ((at - self.last).mul_add(self.rate, self.tokens)).min(self.size);
        self.last = at;
        if self.tokens < 1.0 {
            return Answer { after: self.latency, status: 429, headers: Vec::new() };
        }
        self.tokens -= 1.0;
        Answer::good(self.latency)
    }
}

/// So many at once; one more is refused with 429.
pub struct AtOnce {
    /// How many.
    pub most: usize,
    /// A reply takes so long.
    pub latency: Seconds,
    ends: BinaryHeap<Reverse<u64>>,
}

impl AtOnce {
    /// So many.
    pub const fn new(most: usize, latency: Seconds) -> Self {
        Self { most, latency, ends: BinaryHeap::new() }
    }
}

impl Server for AtOnce {
    fn arrives(&mut self, at: Seconds) -> Answer {
        while self.ends.peek().is_some_and(|end| end.0 <= billionths(at)) {
            self.ends.pop();
        }
        if self.ends.len() >= self.most {
            return Answer { after: 0.005, status: 429, headers: Vec::new() };
        }
        self.ends.push(Reverse(billionths(at + self.latency - 1e-4)));
        Answer::good(self.latency)
    }
}

/// Nothing is answered in between; what came then is answered after.
pub struct Stalls<S> {
    /// The server otherwise.
    pub server: S,
    /// From when until when.
    pub between: (Seconds, Seconds),
    /// Whether what came then is answered with nothing at all, when the time limit is over.
    pub lost_after: Option<Seconds>,
}

impl<S: Server> Server for Stalls<S> {
    fn arrives(&mut self, at: Seconds) -> Answer {
        let (from, to) = self.between;
        let stalls = at >= from && at < to;
        match self.lost_after {
            Some(limit) if stalls => Answer { after: limit, status: 0, headers: Vec::new() },
            None if stalls => {
                let answer = self.server.arrives(to);
                Answer { after: answer.after + to - at, ..answer }
            }
            _ => self.server.arrives(at),
        }
    }
}

/// Some requests are refused whatever the rate is.
pub struct AtRandom<S> {
    /// The server otherwise.
    pub server: S,
    /// How many of them.
    pub share: f64,
    /// With this status.
    pub status: u16,
    random: fastrand::Rng,
}

impl<S> AtRandom<S> {
    /// This share of them.
    pub fn new(server: S, share: f64, status: u16) -> Self {
        Self { server, share, status, random: fastrand::Rng::with_seed(11) }
    }
}

impl<S: Server> Server for AtRandom<S> {
    fn arrives(&mut self, at: Seconds) -> Answer {
        let answer = self.server.arrives(at);
        let is_refused = self.random.f64() < self.share;
        if is_refused { Answer { status: self.status, ..answer } } else { answer }
    }
}
