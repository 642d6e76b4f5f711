//! The far side as the benchmark sees it: a child to start, to ask and to end.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

use crate::process;
use crate::project::Input;
use crate::target::{COUNTS, Manner, TELL};

/// The far side of one contestant in one round.
pub struct Far {
    child: Child,
    said: BufReader<ChildStdout>,
    url: String,
}

/// What it says of itself.
#[derive(Debug, Deserialize)]
pub struct Counts {
    pub requests: u64,
    pub records: u64,
    pub sum: u64,
    pub strange: u64,
    /// Seconds that requests lay there, all together.
    pub held: f64,
    /// Seconds from the first record to the last.
    pub span: f64,
}

impl Counts {
    /// Refuses a round in which any record did not come, or came twice.
    pub fn prove(&self, who: &str, input: &Input) -> io::Result<()> {
        if (self.records, self.sum, self.strange) == (input.records, input.sum, 0) {
            return Ok(());
        }
        let (came, strange, sent) = (self.records, self.strange, input.records);
        Err(io::Error::other(format!(
            "{who} did not send every record once: {came} came of {sent}, or not these, and {strange} other requests"
        )))
    }
}

impl Far {
    pub fn start(manner: Manner) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(manner.arguments()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("the target has no output"))?;
        let mut far = Self { child, said: BufReader::new(stdout), url: String::new() };
        far.url = far.next_line()?;
        Ok(far)
    }

    /// The base URL for requests.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Wants to be told when so many records have come.
    pub fn tell(&self, records: u64) -> io::Result<()> {
        self.ask(&format!("{TELL}{records}")).map(drop)
    }

    /// Waits for that.
    pub fn told(&mut self) -> io::Result<()> {
        self.next_line().map(drop)
    }

    /// What came.
    pub fn counts(&self) -> io::Result<Counts> {
        serde_json::from_str(&self.ask(COUNTS)?).map_err(io::Error::other)
    }

    /// CPU it has spent.
    pub fn cpu(&self) -> io::Result<Duration> {
        process::cpu_of(self.child.id())
    }

    /// On a connection of its own.
    fn ask(&self, path: &str) -> io::Result<String> {
        let address = self.url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address)?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n")?;
        stream.shutdown(Shutdown::Write)?;
        let reply = io::read_to_string(stream)?;
        Ok(reply.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned()))
    }

    fn next_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.said.read_line(&mut line)? == 0 {
            return Err(io::Error::other("the target ended before its time"));
        }
        Ok(line.trim().to_owned())
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        // The end of its input ends it.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
