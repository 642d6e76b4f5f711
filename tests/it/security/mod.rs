//! The security checklist: each row of `tests/security.tsv`, tried from outside with the real
//! binary wherever that can be.
//!
//! A row is an example of a rule, so most tests try many spellings of the same wish. What a test
//! needs of the machine and does not find (root, strace, namespaces) it says on stderr and ends.

mod files;
mod injection;
mod output;
mod privacy;
pub mod resources;
mod secrets;
mod sources;
mod table;
mod transport;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use crate::world::{Run, World};

/// A token that no encoding leaves as it is.
const TOKEN: &str = "mk7/Q\"z+9=w&v~R3t";

/// A command with variables of its environment.
fn with(world: &World, arguments: &str, environment: &[(&str, &str)]) -> Run {
    let mut command = world.command(arguments);
    command.envs(environment.iter().copied());
    Run::of(command.output().expect("the binary runs"), world)
}

/// A command whose arguments hold blanks and all else.
fn words(world: &World, arguments: &[&str]) -> Run {
    let mut command = world.command("");
    command.args(arguments);
    Run::of(command.output().expect("the binary runs"), world)
}

/// A pipeline over `data/things.csv` that POSTs to `/things`, with more keys of the endpoint and
/// more lines at the end.
fn posting(endpoint: &str, more: &str) -> String {
    format!(
        "connection: local\nendpoint: {{ method: POST, path: /things{endpoint} }}\n\
         source: {{ file: data/things.csv }}\n\
         delivery: {{ concurrency: 1, retry: {{ first_wait: 1ms, max_wait: 5ms }} }}\n{more}"
    )
}

/// `runner.yaml` with the connection `local` at a base URL, with more keys.
fn connection(base_url: &str, more: &str) -> String {
    format!("connections:\n  local: {{ base_url: '{base_url}'{more} }}\n")
}

/// Says that a test was not made.
fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {what}");
}

/// What a command asked the system for.
struct Trace {
    run: Run,
    /// Addresses with ports that were connected to, but for those of this machine's own services.
    connects: Vec<String>,
    /// Programs that were started, itself among them.
    programs: usize,
}

/// Runs a command under strace; `None` where that cannot be.
fn traced(world: &World, mut command: Command) -> Option<Trace> {
    let into = world.path("trace.txt");
    let mut under = Command::new("strace");
    under.args(["-f", "-qq", "-s", "200", "-e", "trace=connect,execve,sendto,sendmsg,sendmmsg", "-o"]);
    under.arg(&into).arg(command.get_program()).args(command.get_args()).current_dir(world.path(""));
    under.env_clear().env("HOME", world.path("")).env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
    for (name, value) in command.get_envs() {
        under.envs(value.map(|value| (name, value)));
    }
    command.stdin(std::process::Stdio::null());
    let works = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    if !works.is_ok_and(|output| output.status.success()) {
        skipped("strace is not here or may not trace");
        return None;
    }
    let run = Run::of(under.output().expect("strace runs"), world);
    let text = std::fs::read_to_string(&into).expect("a trace");
    let is_inet = |line: &&str| line.contains("AF_INET");
    let address = |line: &str| {
        let port = line.split("htons(").nth(1).and_then(|rest| rest.split(')').next()).unwrap_or("?");
        let host = ["inet_addr(\"", "inet_pton(AF_INET6, \""].iter().find_map(|mark| line.split(mark).nth(1));
        let host = host.and_then(|rest| rest.split('"').next()).unwrap_or("?");
        format!("{host}:{port}")
    };
    let connects = text.lines().filter(is_inet).map(address).collect();
    let programs = text.lines().filter(|line| line.contains("execve(") && line.contains("= 0")).count();
    Some(Trace { run, connects, programs })
}

/// Every path below a folder with what it is and holds.
fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
            let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
            let content = if kind.is_file() { std::fs::read(&path).expect("a file") } else { b"-".to_vec() };
            found.insert(path.display().to_string(), content);
            if kind.is_dir() {
                open.push(path);
            }
        }
    }
    found
}
