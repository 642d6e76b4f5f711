//! The far sides that adaptive concurrency is held against.

use super::servers::{AtOnce, AtRandom, Bucket, Says, Stalls, Window, Workers, heavy_tail};
use super::world::{Answer, Ran, Seconds, Server, Work, adaptive, fixed, run};

/// A far side and what is sent to it.
pub struct Scenario {
    /// In a few words.
    pub name: &'static str,
    /// Makes it, as new.
    pub server: fn() -> Box<dyn Server>,
    /// What is sent.
    pub work: Work,
}

/// Fixed settings that adaptivity is compared with.
pub const SETTINGS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// What `adaptive` may use at the most.
pub const MOST: usize = 64;

impl Server for Box<dyn Server> {
    fn arrives(&mut self, at: Seconds) -> Answer {
        (**self).arrives(at)
    }
}

const fn records(records: u64) -> Work {
    Work { records, orders: 0 }
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "10 workers, 25 ms",
        server: || Box::new(Workers::new(|_| 10, 0.025)),
        work: records(20_000),
    },
    Scenario {
        name: "10 workers, queue of 10, then 503",
        server: || Box::new(Workers::new(|_| 10, 0.025).with_queue(10)),
        work: records(10_000),
    },
    Scenario {
        name: "40 workers, heavy tail",
        server: || Box::new(Workers::new(|_| 40, 0.0).taking(heavy_tail(3, 0.03))),
        work: records(20_000),
    },
    Scenario {
        name: "no limit, heavy tail",
        server: || Box::new(Workers::new(|_| 4096, 0.0).taking(heavy_tail(5, 0.03))),
        work: records(40_000),
    },
    Scenario {
        name: "workers grow from 4 to 40 in 60 s",
        server: || Box::new(Workers::new(growing, 0.05)),
        work: records(40_000),
    },
    Scenario {
        name: "100 a second, says nothing",
        server: || Box::new(Window::new(100, 1.0, Says::Nothing)),
        work: records(10_000),
    },
    Scenario {
        name: "bucket of 100, 100 a second, says nothing",
        server: || Box::new(Bucket::new(100.0, 100.0)),
        work: records(10_000),
    },
    Scenario {
        name: "100 a second, says Retry-After",
        server: || Box::new(Window::new(100, 1.0, Says::RetryAfter)),
        work: records(10_000),
    },
    Scenario {
        name: "100 a second, says what is left",
        server: || Box::new(Window::new(100, 1.0, Says::Left)),
        work: records(10_000),
    },
    Scenario {
        name: "600 a minute, says nothing",
        server: || Box::new(Window::new(600, 60.0, Says::Nothing)),
        work: records(6_300),
    },
    Scenario {
        name: "600 a minute, says what is left",
        server: || Box::new(Window::new(600, 60.0, Says::Left)),
        work: records(6_300),
    },
    Scenario {
        name: "10 at once, then 429",
        server: || Box::new(AtOnce::new(10, 0.05)),
        work: records(10_000),
    },
    Scenario {
        name: "stalls for 5 s",
        server: || {
            let server = Workers::new(|_| 20, 0.025);
            Box::new(Stalls { server, between: (10.0, 15.0), lost_after: None })
        },
        work: records(40_000),
    },
    Scenario {
        name: "answers nothing for 5 s",
        server: || {
            let server = Workers::new(|_| 20, 0.025);
            Box::new(Stalls { server, between: (10.0, 15.0), lost_after: Some(1.0) })
        },
        work: records(40_000),
    },
    Scenario {
        name: "twice as slow after 20 s",
        server: || Box::new(Workers::new(|_| 20, 0.0).taking(|at| if at < 20.0 { 0.02 } else { 0.04 })),
        work: records(40_000),
    },
    Scenario {
        name: "12 order values, no limit",
        server: || Box::new(Workers::new(|_| 4096, 0.02)),
        work: Work { records: 10_000, orders: 12 },
    },
    Scenario {
        name: "0.1 % 429 at random",
        server: || Box::new(AtRandom::new(Workers::new(|_| 20, 0.025), 0.001, 429)),
        work: records(40_000),
    },
    Scenario {
        name: "1 % 429 at random",
        server: || Box::new(AtRandom::new(Workers::new(|_| 20, 0.025), 0.01, 429)),
        work: records(40_000),
    },
    Scenario {
        name: "5 % 429 at random",
        server: || Box::new(AtRandom::new(Workers::new(|_| 20, 0.025), 0.05, 429)),
        work: records(40_000),
    },
    Scenario {
        name: "0.1 % 503 at random",
        server: || Box::new(AtRandom::new(Workers::new(|_| 20, 0.025), 0.001, 503)),
        work: records(40_000),
    },
    Scenario {
        name: "1 % 503 at random",
        server: || Box::new(AtRandom::new(Workers::new(|_| 20, 0.025), 0.01, 503)),
        work: records(40_000),
    },
    Scenario {
        name: "5 % 503 at random",
        server: || Box::new(AtRandom::new(Workers::new(|_| 20, 0.025), 0.05, 503)),
        work: records(40_000),
    },
    Scenario {
        name: "20 ms, no limit",
        server: || Box::new(Workers::new(|_| 4096, 0.018)),
        work: records(40_000),
    },
    Scenario {
        name: "20 ms, no limit, 100 records",
        server: || Box::new(Workers::new(|_| 4096, 0.018)),
        work: records(100),
    },
];

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "4 to 40")]
fn growing(at: Seconds) -> usize {
    (4.0 + 36.0 * (at / 60.0).min(1.0)) as usize
}

/// How a scenario went with every setting.
pub struct Compared {
    /// With each of [`SETTINGS`].
    pub fixed: Vec<Ran>,
    /// Adaptive.
    pub adaptive: Ran,
}

impl Compared {
    /// The setting with the most goodput, and what it had.
    pub fn best(&self) -> (usize, Ran) {
        let all = SETTINGS.iter().copied().zip(self.fixed.iter().copied());
        // Of equals the least: it is the one that a person would choose.
        all.reduce(|best, one| if one.1.goodput > best.1.goodput * 1.001 { one } else { best })
            .expect("settings")
    }

    /// With as many lanes as adaptivity may use.
    pub fn naive(&self) -> Ran {
        self.fixed[SETTINGS.len() - 1]
    }
}

impl Scenario {
    /// Runs it with every setting.
    pub fn compare(&self) -> Compared {
        let fixed = SETTINGS.map(|lanes| run(fixed(lanes), (self.server)(), self.work)).to_vec();
        Compared { fixed, adaptive: self.adaptive() }
    }

    /// Runs it adaptively alone.
    pub fn adaptive(&self) -> Ran {
        run(adaptive(MOST), (self.server)(), self.work)
    }
}
