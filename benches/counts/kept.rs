//! The counts that are kept beside the code.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::process::Command;

/// Relative to the repository.
pub const FILE: &str = "benches/counts/counts.tsv";
/// What fails.
pub const RISE: f64 = 0.05;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/counts/counts.tsv");

/// With what counts were made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Made {
    rustc: String,
    architecture: String,
    valgrind: String,
}

impl Made {
    /// With what this process counts; nothing where a tool is missing.
    pub fn here() -> Option<Self> {
        let said = |program: &str| {
            let output = Command::new(program).arg("--version").output().ok()?;
            let text = String::from_utf8(output.stdout).ok()?;
            (output.status.success() && !text.is_empty()).then(|| text.trim().to_owned())
        };
        let (rustc, valgrind) = (said("rustc")?, said("valgrind")?);
        Some(Self { rustc, architecture: std::env::consts::ARCH.to_owned(), valgrind })
    }

    /// Whether counts of both may be compared. Valgrind counts what the program does, whichever it is.
    pub fn is_like(&self, other: &Self) -> bool {
        (&self.rustc, &self.architecture) == (&other.rustc, &other.architecture)
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {}", self.rustc, self.architecture, self.valgrind)
    }
}

/// The file: what it was made with, and the counts of each stage.
#[derive(Debug, Default)]
pub struct Kept {
    pub made: Made,
    pub counts: BTreeMap<String, u64>,
}

impl Kept {
    pub fn read() -> io::Result<Self> {
        let mut kept = Self::default();
        for line in fs::read_to_string(PATH)?.lines() {
            let Some((name, value)) = line.split_once('\t') else { continue };
            match name {
                "rustc" => value.clone_into(&mut kept.made.rustc),
                "architecture" => value.clone_into(&mut kept.made.architecture),
                "valgrind" => value.clone_into(&mut kept.made.valgrind),
                stage => _ = kept.counts.insert(stage.to_owned(), value.parse().map_err(io::Error::other)?),
            }
        }
        Ok(kept)
    }

    pub fn write(&self) -> io::Result<()> {
        let Self { made, counts } = self;
        let mut text = format!(
            "# Instructions a record, written by `cargo bench --bench counts -- --keep`.\n\
             rustc\t{}\narchitecture\t{}\nvalgrind\t{}\n",
            made.rustc, made.architecture, made.valgrind
        );
        for (stage, count) in counts {
            let _ = writeln!(text, "{stage}\t{count}");
        }
        fs::write(PATH, text)
    }
}

/// By which part `now` is more than `before`.
pub fn change(before: u64, now: u64) -> f64 {
    let float = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    float(now) / float(before).max(1.0) - 1.0
}
