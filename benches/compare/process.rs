//! Children and what they spent. Linux tells it under /proc: CPU of all threads while the child is
//! dead and not yet waited for, peak memory while it lives.

use std::fs;
use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// The unit of the times in /proc/PID/stat, which is the same on every Linux.
const TICK: Duration = Duration::from_millis(10);
/// How often the peak is looked at; it only grows, so that little is missed.
const LOOK: Duration = Duration::from_millis(10);

/// What a child spent.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    pub wall: Duration,
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

/// A child that is at work.
pub struct Running {
    child: Child,
    begun: Instant,
    said: Option<JoinHandle<io::Result<String>>>,
    is_over: Arc<AtomicBool>,
    peak: Arc<AtomicU32>,
    looking: JoinHandle<()>,
}

impl Running {
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let begun = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        // Read beside it, so that it never waits for us; shown only when it failed.
        let said = child.stderr.take().map(|pipe| std::thread::spawn(move || io::read_to_string(pipe)));
        let (is_over, peak) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let (over, highest, id) = (Arc::clone(&is_over), Arc::clone(&peak), child.id());
        let looking = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                highest.fetch_max(high_water(id).unwrap_or_default(), Ordering::Relaxed);
                std::thread::sleep(LOOK);
            }
        });
        Ok(Self { child, begun, said, is_over, peak, looking })
    }

    /// Since it was started.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// As Ctrl-C does.
    pub fn interrupt(&self) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::INT)?)
    }

    /// Waits for its end: what it spent, how it ended and what it said.
    pub fn end(mut self) -> io::Result<(Spent, ExitStatus, String)> {
        let pid = Pid::from_child(&self.child);
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
        let wall = self.begun.elapsed();
        let cpu = cpu_of(self.child.id())?;
        self.is_over.store(true, Ordering::Relaxed);
        let status = self.child.wait()?;
        let said = self.said.and_then(|said| said.join().ok()).transpose()?.unwrap_or_default();
        // It has nothing to say but what it left in `peak`.
        let _ = self.looking.join();
        Ok((Spent { wall, cpu, peak: self.peak.load(Ordering::Relaxed) }, status, said))
    }
}

/// Runs a child to its end.
pub fn measure(command: &mut Command) -> io::Result<Spent> {
    let (spent, status, said) = Running::start(command)?.end()?;
    if !status.success() {
        return Err(io::Error::other(format!("a child ended with {status}:\n{said}")));
    }
    Ok(spent)
}

/// What a child says, as one line; nothing where it cannot be started or fails.
pub fn said(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().replace('\n', " ");
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// User and system time of all threads of a process, and of its children that it waited for.
pub fn cpu_of(id: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name in parentheses may hold anything; the four times are the 14th to 17th field.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(4).filter_map(|ticks| ticks.parse::<u32>().ok());
    Ok(ticks.map(|n| TICK * n).sum())
}

fn high_water(id: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Seconds as a fraction that is never nothing.
pub fn seconds(time: Duration) -> f64 {
    time.as_secs_f64().max(1e-6)
}

/// A count, for a quotient.
pub fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
