//! The whole way, measured from outside: the release binary against a cheap far side in a process of its
//! own, beside others who send the same records.
//!
//! The floor is what any program has to pay that reads the same CSV, builds the same JSON and sends it with the
//! same client: no schema, no checkpoint, no outcome. Only ratios say something on a machine that others use
//! too. See docs/performance.md.
//!
//! ```text
//! cargo bench --bench compare -- [CASE]… [RECORDS]… [--rounds N] [--full] [--only NAME,…]
//! ```

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

mod cases;
mod contestants;
mod far;
mod floor;
mod machine;
mod process;
mod project;
mod rounds;
mod target;

use std::io;

use cases::Case;
use contestants::Contestant;

/// What the command line asks for.
struct Wanted {
    cases: Vec<Case>,
    sizes: Vec<u64>,
    rounds: usize,
    /// Sizes that take hours rather than minutes.
    is_full: bool,
    contestants: Vec<Contestant>,
}

fn main() -> io::Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((word, rest)) if word == target::WORD => return target::main(rest),
        Some((word, rest)) if word == floor::WORD => return floor::main(rest),
        _ => {}
    }
    // Only `cargo bench` says this; a test run that starts everything is no time to measure.
    if !arguments.iter().any(|word| word == "--bench") {
        println!("nothing is measured without `cargo bench --bench compare`");
        return Ok(());
    }
    arguments.retain(|word| word != "--bench");
    let mut wanted = Wanted::read(&arguments)?;
    for line in machine::lines() {
        println!("{line}");
    }
    wanted.contestants.retain(|contestant| match contestant.version() {
        Ok(version) => {
            println!("{}: {version}", contestant.name());
            true
        }
        Err(missing) => {
            println!("skipped: {missing}");
            false
        }
    });
    for case in &wanted.cases {
        case.run(&wanted)?;
    }
    Ok(())
}

impl Wanted {
    fn read(arguments: &[String]) -> io::Result<Self> {
        let mut wanted = Self {
            cases: Vec::new(),
            sizes: Vec::new(),
            rounds: 3,
            is_full: false,
            contestants: contestants::ALL.to_vec(),
        };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| refusal(&format!("{word} wants a value")));
            match word.as_str() {
                "--full" => wanted.is_full = true,
                "--rounds" => {
                    let rounds = value()?.parse().ok().filter(|rounds| *rounds > 0);
                    wanted.rounds = rounds.ok_or_else(|| refusal("--rounds wants a number from 1"))?;
                }
                "--only" => {
                    let names: Vec<&str> = value()?.split(',').collect();
                    if let Some(unknown) = names.iter().find(|name| Contestant::named(name).is_none()) {
                        return Err(refusal(&format!("nobody is called `{unknown}`")));
                    }
                    wanted.contestants.retain(|contestant| names.contains(&contestant.name()));
                }
                word => match (Case::named(word), word.replace('_', "").parse()) {
                    (Some(case), _) => wanted.cases.push(case),
                    (None, Ok(size)) if size > 0 => wanted.sizes.push(size),
                    _ => return Err(refusal(&format!("`{word}` is no case"))),
                },
            }
        }
        if wanted.cases.is_empty() {
            wanted.cases = cases::ALL.to_vec();
        }
        Ok(wanted)
    }

    /// The sizes to measure; those of a case where none were asked for.
    fn sizes(&self, usual: &[u64]) -> Vec<u64> {
        if self.sizes.is_empty() { usual.to_vec() } else { self.sizes.clone() }
    }
}

fn refusal(what: &str) -> io::Error {
    let cases: Vec<&str> = cases::ALL.iter().map(|case| case.name()).collect();
    let names: Vec<&str> = contestants::ALL.iter().map(|contestant| contestant.name()).collect();
    io::Error::other(format!(
        "{what}; cases: {}; --only takes names of: {}; further --rounds N, --full and numbers of records",
        cases.join(", "),
        names.join(", ")
    ))
}
