//! Worlds to break: a few pipelines that differ in what a repeat may do, and one input with a
//! record of every fate.

use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use runner::sandbox::Seen;

use crate::figures::Figures;
use crate::oracle::{Case, keys_in};
use crate::shim::Orders;
use crate::world::{Run, Running, World};

/// How records are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// PUT: a repeat is harmless.
    Natural,
    /// POST with an idempotency key.
    Keyed,
    /// Plain POST: what may have arrived waits for a person.
    Hold,
    /// The same PUT, but never twice.
    AtMostOnce,
}

/// A pipeline and how many lanes it has.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub mode: Mode,
    pub lanes: usize,
    /// Records in one call.
    pub size: usize,
    /// Whether each record has a harmless call before this one.
    pub looks: bool,
}

/// The six of T02.
pub const SETUPS: [Setup; 6] = [
    Setup { mode: Mode::Natural, lanes: 8, size: 1, looks: false },
    Setup { mode: Mode::Hold, lanes: 8, size: 1, looks: false },
    Setup { mode: Mode::Keyed, lanes: 64, size: 1, looks: false },
    Setup { mode: Mode::AtMostOnce, lanes: 64, size: 1, looks: false },
    Setup { mode: Mode::Natural, lanes: 1, size: 1, looks: false },
    Setup { mode: Mode::Hold, lanes: 1, size: 1, looks: false },
];

/// Calls with several records, of which each has its own outcome.
pub const CALLS: [Setup; 4] = [
    Setup { mode: Mode::Natural, lanes: 8, size: 5, looks: false },
    Setup { mode: Mode::Hold, lanes: 8, size: 5, looks: false },
    Setup { mode: Mode::Keyed, lanes: 8, size: 5, looks: false },
    Setup { mode: Mode::Natural, lanes: 1, size: 7, looks: false },
];

/// Two calls of each record: what a repeat may do differs from one to the other.
pub const STEPS: [Setup; 3] = [
    Setup { mode: Mode::Hold, lanes: 8, size: 1, looks: true },
    Setup { mode: Mode::Keyed, lanes: 8, size: 1, looks: true },
    Setup { mode: Mode::Natural, lanes: 8, size: 1, looks: true },
];

/// All of them, turn by turn.
pub const fn setup(item: usize) -> Setup {
    match item % 4 {
        2 => CALLS[item / 4 % CALLS.len()],
        3 => STEPS[item / 4 % STEPS.len()],
        other => SETUPS[(item / 4 * 2 + other) % SETUPS.len()],
    }
}

/// Records with a fate of their own, by number.
pub const REFUSED: usize = 7;
const LEFT_OUT: usize = 11;
const TRIED_AGAIN: [usize; 2] = [5, 13];

impl Setup {
    pub const fn resends(self) -> bool {
        matches!(self.mode, Mode::Natural | Mode::Keyed)
    }

    fn pipeline(self, delivery: &str) -> String {
        let natural = "method: PUT\n  path: /things/{{ params.id }}\n  params: { id: { required: true } }\n  idempotency: natural";
        let (endpoint, mode) = match self.mode {
            Mode::Natural => (natural, ""),
            Mode::Keyed => ("method: POST\n  path: /posted\n  idempotency: { header: Idempotency-Key }", ""),
            Mode::Hold => ("method: POST\n  path: /things", ""),
            Mode::AtMostOnce => (natural, "mode: at_most_once, "),
        };
        let (endpoint, batch) = if self.size > 1 {
            let idempotency = match self.mode {
                Mode::Natural => "natural",
                Mode::Keyed => "{ header: Idempotency-Key }",
                Mode::Hold | Mode::AtMostOnce => "none",
            };
            let size = self.size;
            let endpoint = format!("method: POST\n  path: /bulk\n  idempotency: {idempotency}");
            let batch = format!(
                "batch: {{ size: {size}, item: {{ id: '{{{{ record.id }}}}', name: '{{{{ record.name }}}}', \
                 refused: \"{{{{ record.name == 'thing {REFUSED}' }}}}\" }}, replies: {{ at: '{{{{ response.body.results }}}}', \
                 status: '{{{{ reply.status }}}}', match: {{ item: '{{{{ item.id }}}}', reply: '{{{{ reply.id }}}}' }} }} }}\n"
            );
            (endpoint, batch)
        } else {
            (endpoint.to_owned(), String::new())
        };
        let endpoint = if self.looks {
            let endpoint = endpoint.replace('\n', "\n    ");
            format!(
                "steps:\n  - id: look\n    endpoint: {{ method: GET, path: /things/none, idempotency: natural, \
                 outcomes: [ {{ status: 404, then: delivered }} ], captures: {{ status: '{{{{ response.status }}}}' }} }}\n  \
                 - id: act\n    endpoint:\n      {endpoint}"
            )
        } else {
            format!("endpoint:\n  {endpoint}")
        };
        format!(
            "{batch}connection: local\n{endpoint}\nsource: {{ file: data/things.csv }}\nkey: '{{{{ record.id }}}}'\n\
             select: {{ where: \"{{{{ record.name != 'thing {LEFT_OUT}' }}}}\" }}\nresponses: {{ file: true }}\n\
             delivery: {{ {mode}{delivery}retry: {{ first_wait: 1ms, max_wait: 5ms }} }}\n"
        )
    }

    /// A far side that takes almost everything: one record is refused, two are asked to come again.
    pub fn usual_replies(self) -> String {
        if self.size > 1 {
            return "POST /bulk #4-6 -> 503 retry-after=0\n".into();
        }
        let rule = |id: usize, condition: &str, action: &str| match self.mode {
            Mode::Natural | Mode::AtMostOnce => format!("* /things/t{id} {condition} -> {action}\n"),
            Mode::Keyed | Mode::Hold => format!("* * body.id=t{id} {condition} -> {action}\n"),
        };
        let again = TRIED_AGAIN.map(|id| rule(id, "first=1", "503 retry-after=0")).concat();
        rule(REFUSED, "", "422") + &again
    }
}

/// A world with so many records.
pub struct Bench {
    pub world: World,
    pub setup: Setup,
    pub keys: Vec<String>,
    /// Whether failures were retried: a refused record then has an outcome, and a reply, for each time.
    pub retried: bool,
}

impl Bench {
    pub fn new(setup: Setup, records: usize) -> Self {
        Self::with(setup, records, "")
    }

    /// The same with further keys of `delivery:`, each with a comma and a blank behind.
    pub fn with(setup: Setup, records: usize, delivery: &str) -> Self {
        let world = World::new()
            .pipeline(&setup.pipeline(delivery), crate::world::things(records))
            .script(&setup.usual_replies());
        let keys = (1..=records).map(|n| format!("t{n}")).collect();
        Self { world, setup, keys, retried: false }
    }

    pub fn case(&self) -> Case<'_> {
        Case { world: &self.world, pipeline: "p", keys: &self.keys, resends: self.setup.resends(), seed: 0 }
    }

    /// What the far side has read, but for what only looks; of a call with several records, each record for
    /// itself, with the whole body beside it.
    pub fn seen(&self) -> Vec<Seen> {
        let acts = self.world.seen().into_iter().filter(|seen| seen.method != "GET");
        acts.flat_map(each_record).collect()
    }

    /// The key of the record that a request is about.
    pub fn key_of(&self, seen: &Seen) -> String {
        let [last, named] = keys_in(seen);
        if self.keys.contains(&last) { last } else { named }
    }

    pub fn command(&self, orders: Option<&Orders>) -> Command {
        let mut command = self.world.command(&format!("apply p --concurrency {}", self.setup.lanes));
        if let Some(orders) = orders {
            orders.give(&self.world, &mut command);
        }
        command
    }

    /// Runs `apply` to its end, whatever that is.
    pub fn apply(&self, orders: Option<&Orders>, figures: &mut Figures) -> Run {
        let run = ended(&mut Running::of(&mut self.command(orders)), &self.world);
        figures.starts += 1;
        figures.kills += u64::from(run.by_signal);
        run
    }
}

/// The records of a call, each as a request of its own; `object` is the whole body then.
fn each_record(seen: Seen) -> Vec<Seen> {
    let Ok(items) = serde_json::from_slice::<Vec<Box<serde_json::value::RawValue>>>(&seen.body) else {
        return vec![seen];
    };
    let whole = String::from_utf8_lossy(&seen.body).into_owned();
    let one = |item: Box<serde_json::value::RawValue>| {
        let refused = item.get().contains("\"refused\":true");
        Seen {
            accepted: seen.accepted && !refused,
            body: item.get().as_bytes().to_vec().into(),
            object: Some(whole.clone()),
            ..seen.clone()
        }
    };
    items.into_iter().map(one).collect()
}

/// Waits until a command ended. One that hangs is killed and is a violation.
pub fn ended(running: &mut Running, world: &World) -> Run {
    let (run, hung) = watched(running, |running| running.ended(world));
    assert!(!hung, "it hung\n{}\n{}", run.stdout, run.stderr);
    assert!(
        run.code != 70 && run.code != 101 && !run.stderr.contains("panicked"),
        "it ended with {}\n{}",
        run.code,
        run.stderr
    );
    run
}

/// Waits for something of a command, and kills it after two minutes; whether it did.
pub fn watched<T>(running: &mut Running, wait: impl FnOnce(&mut Running) -> T) -> (T, bool) {
    let (over, until) = mpsc::channel::<()>();
    let process = rustix::process::Pid::from_raw(running.id().cast_signed()).expect("a process");
    let watch = std::thread::spawn(move || {
        let hangs = until.recv_timeout(Duration::from_mins(2)) == Err(mpsc::RecvTimeoutError::Timeout);
        if hangs {
            // It was not waited for yet, so the id is its own.
            let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
        }
        hangs
    });
    let found = wait(running);
    drop(over);
    (found, watch.join().expect("a watch"))
}
