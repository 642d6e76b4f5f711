//! Commands that send nothing, and how large the program is.

use std::fs;
use std::io;
use std::time::Instant;

use crate::process::float;
use crate::project::{Kind, Project, Setting};

/// How often each command is run; the median counts.
const TIMES: usize = 21;

pub fn start() -> io::Result<()> {
    let project = Project::new(Setting::of(Kind::Single))?;
    project.rows(10, |_| false)?;
    println!("\nstart\n\n| command | ms |\n|---|---:|");
    for arguments in [&["--version"][..], &["validate", Kind::Single.pipeline()]] {
        let mut walls = Vec::new();
        for _ in 0..TIMES {
            let begun = Instant::now();
            let output = project.runner("http://127.0.0.1:9").args(arguments).output()?;
            walls.push(begun.elapsed());
            if !output.status.success() {
                return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
            }
        }
        walls.sort_unstable();
        println!("| `runner {}` | {:.1} |", arguments.join(" "), walls[TIMES / 2].as_secs_f64() * 1e3);
    }
    let bytes = fs::metadata(env!("CARGO_BIN_EXE_runner"))?.len();
    println!("\nThe program has {:.1} MiB.", float(bytes) / f64::from(1 << 20));
    Ok(())
}
