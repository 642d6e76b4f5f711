//! Children and what they spent. Linux tells it under /proc: CPU of all threads while the child is
//! dead and not yet waited for, peak memory while it lives.

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::project::Project;
use crate::seconds;

/// The unit of the times in /proc/PID/stat, which is the same on every Linux.
const TICK: Duration = Duration::from_millis(10);
/// How often the peak is looked at; it only grows, so that little is missed.
const LOOK: Duration = Duration::from_millis(10);

/// What a child spent.
pub struct Spent {
    wall: Duration,
    cpu: Duration,
    /// KiB.
    peak: u32,
}

impl Spent {
    /// Records a second.
    pub fn rate(&self, records: u64) -> f64 {
        float(records) / seconds(self.wall)
    }

    /// Microseconds of CPU a record, user and system.
    pub fn micros(&self, records: u64) -> f64 {
        seconds(self.cpu) * 1e6 / float(records)
    }

    /// Peak of resident memory.
    pub fn peak_mib(&self) -> f64 {
        f64::from(self.peak) / 1024.0
    }
}

/// Runs a child to its end.
pub fn measure(command: &mut Command) -> io::Result<Spent> {
    let begun = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    // Read beside it, so that it never waits for us; shown only when it failed.
    let said = child.stderr.take().map(|pipe| std::thread::spawn(move || io::read_to_string(pipe)));
    let pid = Pid::from_child(&child);
    let proc = format!("/proc/{}", pid.as_raw_nonzero());
    let mut peak = 0;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    while waitid(WaitId::Pid(pid), options)?.is_none() {
        peak = high_water(&proc).unwrap_or(peak);
        std::thread::sleep(LOOK);
    }
    let wall = begun.elapsed();
    let cpu = cpu(&fs::read_to_string(format!("{proc}/stat"))?);
    let code = child.wait()?.code().unwrap_or(-1);
    let said = said.and_then(|said| said.join().ok()).transpose()?.unwrap_or_default();
    if code != 0 {
        return Err(io::Error::other(format!("a child ended with {code}:\n{said}")));
    }
    Ok(Spent { wall, cpu, peak })
}

fn high_water(proc: &str) -> Option<u32> {
    let status = fs::read_to_string(format!("{proc}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

fn cpu(stat: &str) -> Duration {
    // The name in parentheses may hold anything; user and system time are the 14th and 15th field.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u32>().ok())
        .map(|n| TICK * n)
        .sum()
}

fn float(records: u64) -> f64 {
    f64::from(u32::try_from(records).unwrap_or(u32::MAX))
}

/// The far side: `runner sandbox` in a process of its own.
pub struct Far {
    child: Child,
    url: String,
}

impl Far {
    pub fn start(project: &Project, script: Option<&Path>) -> io::Result<Self> {
        let mut command = project.runner(None);
        command.args(["sandbox", "--listen", "127.0.0.1:0", "--ids-only"]);
        if let Some(script) = script {
            command.arg("--script").arg(script);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut url = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut url)?;
        }
        let url = url.trim().to_owned();
        if url.is_empty() {
            return Err(io::Error::other("the sandbox did not say where it listens"));
        }
        Ok(Self { child, url: format!("{url}/v2") })
    }

    /// The base URL for requests.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}
