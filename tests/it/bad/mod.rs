//! Bad inputs: each row of `tests/bad_input.tsv` with the real binary.
//!
//! A row asks for an exit class, for what the messages name, and for what must not have been
//! sent. Every start here has a limit on its memory and on its time, so that a row that eats the
//! machine or never ends is a failure and not a nuisance.

mod config;
mod input;
mod json;
mod network;
mod schema;
mod state;
mod table;
mod templates;
pub mod tls;

use std::process::{Command, Stdio};

use runner::model::Class;

use crate::world::{PUT_THINGS, Run, World};

/// What any start may take of memory for data, in KiB.
const MEMORY: u32 = 300 * 1024;
/// What any start may take in seconds; only what hangs gets there.
const SECONDS: u32 = 60;

/// One bad input before its start.
pub struct Case {
    row: &'static str,
    world: World,
    arguments: String,
    environment: Vec<(&'static str, String)>,
    has_pipeline: bool,
}

/// One bad input after its start.
pub struct Ended {
    row: &'static str,
    pub world: World,
    pub run: Run,
    said: String,
}

/// A case for a row: a world whose pipeline PUTs `data/things.csv`, unless it says another.
pub fn bad(row: &'static str) -> Case {
    Case {
        row,
        world: World::new(),
        arguments: "apply p -v".to_owned(),
        environment: Vec::new(),
        has_pipeline: false,
    }
}

impl Case {
    pub fn pipeline(mut self, text: impl AsRef<[u8]>) -> Self {
        self.world = self.world.file("pipelines/p.yaml", text);
        self.has_pipeline = true;
        self
    }

    /// `data/things.csv`
    pub fn input(self, content: impl AsRef<[u8]>) -> Self {
        self.file("data/things.csv", content)
    }

    pub fn file(mut self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.world = self.world.file(path, content);
        self
    }

    /// Changes the world in a way of its own.
    pub fn with(self, change: impl FnOnce(&World)) -> Self {
        change(&self.world);
        self
    }

    /// What the far side answers instead.
    pub fn script(mut self, rules: &str) -> Self {
        self.world = self.world.script(rules);
        self
    }

    pub fn arguments(mut self, arguments: &str) -> Self {
        arguments.clone_into(&mut self.arguments);
        self
    }

    pub fn env(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// Starts it and checks the class.
    #[track_caller]
    pub fn exits(self, class: Class) -> Ended {
        self.exits_one_of([class])
    }

    /// The same, where the guarantees leave a choice.
    #[track_caller]
    pub fn exits_one_of<const N: usize>(self, classes: [Class; N]) -> Ended {
        if !self.has_pipeline {
            self.world.write("pipelines/p.yaml", PUT_THINGS);
        }
        let mut command = bounded(&self.world, &self.arguments);
        command.envs(self.environment);
        let run = Run::of(command.output().expect("the binary runs"), &self.world);
        let ended = Ended::of(self.row, self.world, run);
        let fits = classes.iter().any(|class| ended.run.code == i32::from(class.code()));
        ended.holds(fits, &format!("not one of {classes:?}"));
        ended
    }
}

/// A start within the limits that every bad input has to keep.
pub fn bounded(world: &World, arguments: &str) -> Command {
    limited(world, arguments, &format!("ulimit -d {MEMORY}; exec timeout {SECONDS}"))
}

/// A start from a shell that runs `before` and then the binary in its own place.
pub fn limited(world: &World, arguments: &str, before: &str) -> Command {
    let plain = world.command(arguments);
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg(format!("{before} \"$0\" \"$@\""))
        .arg(plain.get_program())
        .args(plain.get_args())
        .current_dir(world.path(""))
        .env_clear()
        .env("HOME", world.path(""))
        .stdin(Stdio::null());
    command
}

impl Ended {
    #[track_caller]
    pub fn of(row: &'static str, world: World, run: Run) -> Self {
        let files = ["failed.csv", "invalid.csv", "in_doubt.csv", "failed.ndjson", "invalid.ndjson"];
        let more = ["in_doubt.ndjson", "unreadable.ndjson"];
        let mut said = run.stderr.clone();
        for name in files.into_iter().chain(more) {
            let text = world.outcomes(name);
            if !text.is_empty() {
                said = format!("{said}\n--- {name}\n{}", world.plain(&text));
            }
        }
        let ended = Self { row, world, run, said };
        // A crash has no class: a signal, the code of a panic, our own `bug`.
        ended.holds(ended.run.code < 70 && !ended.said.contains("panicked"), "it crashed or never ended");
        ended
    }

    #[track_caller]
    fn holds(&self, holds: bool, what: &str) {
        assert!(
            holds,
            "{}: {what}\nexit {}\nstdout:\n{}\nsaid:\n{}\nasked: {:?}",
            self.row,
            self.run.code,
            shortened(&self.run.stdout),
            shortened(&self.said),
            self.world.asked()
        );
    }

    #[track_caller]
    pub fn exits(self, class: Class) -> Self {
        self.holds(self.run.code == i32::from(class.code()), &format!("not `{class}` ({})", class.code()));
        self
    }

    /// The rule of a message or of a record that was not sent.
    #[track_caller]
    pub fn rule(self, slug: &str) -> Self {
        let bracketed = self.said.contains(&format!("[{slug}]"));
        let of_a_record = self.said.lines().any(|line| {
            line.starts_with("invalid") && line.ends_with(slug)
                || line.starts_with("failed") && line.ends_with(slug)
        }) || self.said.contains(&format!("\"class\":\"{slug}\""));
        self.holds(bracketed || of_a_record, &format!("no rule `{slug}`"));
        self
    }

    /// Texts that messages and outcome files hold between them.
    #[track_caller]
    pub fn names<const N: usize>(self, texts: [&str; N]) -> Self {
        for text in texts {
            self.holds(self.said.contains(text), &format!("nothing names `{text}`"));
        }
        self
    }

    /// A text that stands nowhere: no stream, no outcome file.
    #[track_caller]
    pub fn hides(self, text: &str) -> Self {
        self.holds(
            !self.said.contains(text) && !self.run.stdout.contains(text),
            &format!("`{text}` is shown"),
        );
        self
    }

    /// How many requests the far side read.
    #[track_caller]
    pub fn sent(self, n: usize) -> Self {
        let seen = self.world.seen().len();
        self.holds(seen == n, &format!("{seen} requests, not {n}"));
        self
    }

    /// The requests, in any order.
    #[track_caller]
    pub fn asked<const N: usize>(self, requests: [&str; N]) -> Self {
        let mut asked = self.world.asked();
        asked.sort();
        self.holds(asked == requests, &format!("not these requests: {requests:?}"));
        self
    }

    /// The bodies, as JSON text, in any order.
    #[track_caller]
    pub fn bodies<const N: usize>(self, bodies: [&str; N]) -> Self {
        let mut seen: Vec<String> =
            self.world.seen().iter().map(|seen| String::from_utf8_lossy(&seen.body).into_owned()).collect();
        seen.sort();
        self.holds(seen == bodies, &format!("not these bodies: {bodies:?}\nbut {seen:?}"));
        self
    }
}

/// Text without its middle, for messages of tests.
fn shortened(text: &str) -> String {
    let lines = text.lines().map(|line| match line.char_indices().nth(400) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    });
    lines.take(60).collect::<Vec<_>>().join("\n")
}
