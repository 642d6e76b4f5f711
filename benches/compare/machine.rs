//! What all numbers depend on.

use std::fs;
use std::process::Command;

use crate::process::said;

/// Processor, kernel, load and compiler, as lines of text.
pub fn lines() -> [String; 2] {
    let all = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = all.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = named.map_or("an unknown processor", |(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    let compiler = said(Command::new("rustc").arg("--version")).unwrap_or_else(|| "rustc is missing".into());
    [
        format!("{model}, cores: {cores}, Linux {}, load before: {load}", kernel.trim()),
        format!("{compiler}; the program is built as `cargo build --release` builds it"),
    ]
}
