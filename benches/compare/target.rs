//! The far side of every round: a server of HTTP/1.1 that costs a few microseconds a request, so that what
//! is measured is the client.
//!
//! It is this benchmark's own executable, in a process of its own, and does no more than a client can see:
//! it keeps connections, reads head and body, answers with an id. It counts what came, by number and by the
//! sum of the hashes of all keys; both equal what lies in the input only if each record came exactly once,
//! which `rounds` asks at the end of each round. It ends when its standard input does, so that it never
//! outlives the benchmark.

mod clock;
mod wire;

use std::cell::Cell;
use std::io::{self, Read as _, Write as _};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use clock::Clock;
use wire::{Asked, What};
pub use wire::{COUNTS, TELL, hash};

/// The word that makes this executable the far side.
pub const WORD: &str = "--target";

/// What the far side was asked to be.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// How long replies are held back, on the average.
    pub latency: Duration,
    /// By how much single ones differ from that, at the most. Evenly, and the same for a record in every round.
    pub spread: Duration,
    /// Bytes of a reply to a single call; 0: only what belongs there.
    pub reply: usize,
}

impl Manner {
    /// As arguments of the executable.
    pub fn arguments(self) -> [String; 4] {
        let [latency, spread] = [self.latency, self.spread].map(|time| time.as_micros().to_string());
        [WORD.to_owned(), latency, spread, self.reply.to_string()]
    }

    /// How long the reply to something with this hash is held back.
    fn held(self, hash: u64) -> Duration {
        let share = f64::from(u16::try_from(hash & 0xffff).unwrap_or(0)) / f64::from(u16::MAX);
        self.latency.saturating_sub(self.spread) + self.spread.mul_f64(2.0 * share)
    }
}

/// What came so far.
#[derive(Debug, Default)]
struct Seen {
    requests: Cell<u64>,
    records: Cell<u64>,
    /// Wrapping sum of the hashes of their keys.
    sum: Cell<u64>,
    /// What no pipeline of the benchmark sends.
    strange: Cell<u64>,
    /// How long requests lay here, all together.
    held: Cell<Duration>,
    first: Cell<Option<Instant>>,
    last: Cell<Option<Instant>>,
}

struct Far {
    manner: Manner,
    clock: Rc<Clock>,
    seen: Seen,
    /// Tells on its standard output when so many records have come; 0: never.
    tell: Cell<u64>,
    /// What follows the id in a reply that has to be long.
    padding: Vec<u8>,
}

pub fn main(arguments: &[String]) -> io::Result<()> {
    let [latency, spread, reply] = arguments else {
        return Err(io::Error::other("the target wants MICROSECONDS MICROSECONDS BYTES"));
    };
    let number = |text: &String| text.parse::<u64>().map_err(io::Error::other);
    let manner = Manner {
        latency: Duration::from_micros(number(latency)?),
        spread: Duration::from_micros(number(spread)?),
        reply: usize::try_from(number(reply)?).map_err(io::Error::other)?,
    };
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = io::stdin().read(&mut [0]);
        let _ = ended.send(());
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(tokio::task::LocalSet::new().run_until(async {
        tokio::select! {
            failed = listen(manner) => failed,
            _ = end => Ok(()),
        }
    }))
}

async fn listen(manner: Manner) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(io::stdout(), "http://{}", listener.local_addr()?)?;
    let far = Rc::new(Far {
        manner,
        clock: Clock::start()?,
        seen: Seen::default(),
        tell: Cell::new(0),
        padding: vec![b'x'; manner.reply.saturating_sub(64)],
    });
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let far = Rc::clone(&far);
        // A client that hangs up has ended its connection, no more.
        tokio::task::spawn_local(async move { serve(stream, &far).await.unwrap_or_default() });
    }
}

/// One connection, until the client hangs up.
async fn serve(mut stream: TcpStream, far: &Far) -> io::Result<()> {
    let mut came: Vec<u8> = Vec::with_capacity(64 << 10);
    let mut reply = Vec::new();
    loop {
        let asked = loop {
            if let Some(asked) = wire::read(&came)? {
                break asked;
            }
            if stream.read_buf(&mut came).await? == 0 {
                return Ok(());
            }
        };
        let begun = Instant::now();
        reply.clear();
        let long = far.answer(&asked, &mut reply);
        if let Some(hash) = asked.of_a_record().filter(|_| !far.manner.latency.is_zero()) {
            far.clock.sleep(far.manner.held(hash)).await?;
        }
        let end = asked.end;
        stream.write_all(&reply).await?;
        if long {
            stream.write_all(&far.padding).await?;
            stream.write_all(b"\"}").await?;
        }
        far.seen.held.set(far.seen.held.get() + begun.elapsed());
        came.drain(..end);
    }
}

impl Far {
    /// Writes the reply; `true` where the padding has to follow.
    fn answer(&self, asked: &Asked<'_>, out: &mut Vec<u8>) -> bool {
        match asked.what {
            What::Counts => wire::reply(out, 200, self.counts().as_bytes()),
            What::Tell(records) => {
                self.tell.set(records);
                wire::reply(out, 200, b"{}");
            }
            What::Strange => {
                self.seen.strange.set(self.seen.strange.get() + 1);
                wire::reply(out, 404, b"{}");
            }
            What::Single(key) => {
                self.count(1, hash(key));
                let number = self.seen.records.get();
                if !self.padding.is_empty() {
                    wire::long_reply(out, number, self.padding.len());
                    return true;
                }
                wire::id_reply(out, number);
            }
            What::Batch(body) => {
                let (mut records, mut sum) = (0, 0_u64);
                wire::batch_reply(out, wire::keys(body), |key| {
                    records += 1;
                    sum = sum.wrapping_add(hash(key));
                });
                self.count(records, sum);
            }
        }
        false
    }

    fn count(&self, records: u64, sum: u64) {
        let seen = &self.seen;
        let now = Some(Instant::now());
        if seen.first.get().is_none() {
            seen.first.set(now);
        }
        seen.last.set(now);
        let before = seen.records.get();
        seen.requests.set(seen.requests.get() + 1);
        seen.records.set(before + records);
        seen.sum.set(seen.sum.get().wrapping_add(sum));
        let tell = self.tell.get();
        if before < tell && tell <= before + records {
            // Nobody to tell is no fault of a request.
            let _ = writeln!(io::stdout(), "{tell}");
        }
    }

    fn counts(&self) -> String {
        let seen = &self.seen;
        let span = seen.first.get().zip(seen.last.get()).map(|(first, last)| last - first);
        serde_json::json!({
            "requests": seen.requests.get(),
            "records": seen.records.get(),
            "sum": seen.sum.get(),
            "strange": seen.strange.get(),
            "held": seen.held.get().as_secs_f64(),
            "span": span.unwrap_or_default().as_secs_f64(),
        })
        .to_string()
    }
}
