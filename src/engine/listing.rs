//! Reads a list of an API into a spool, which is then an input like any file (ruling 20).
//!
//! Joins rendering, sending and the spool: one page after the other, with the limits, waits and
//! retries that hold for all requests. Invariants: a spool is whole or there is none, so that a
//! start that was ended while it read begins anew; memory holds one page.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::config::{Delivery, InDoubt, Listing, Pipeline};
use crate::deliver::{MOST_OF_A_PAGE, Meaning, Pager, Rate, Reader, Reading, Sender, Tries, Verdict, judge};
use crate::model::{Arrived, Class, Diagnostic, Event, Failure, Map, Mask, Problems, Reply, Request, Value};
use crate::render::{Context, Known, Root, RunValues, Scope};

use super::Observer;
use super::stop::Until;

/// A list and how it is read, compiled once.
pub struct Lister<'a> {
    listing: &'a Listing,
    pager: Pager,
    reader: Reader,
    delivery: Delivery,
    rate: Option<f64>,
    /// What it is called in messages.
    name: &'a str,
}

/// What was read.
#[derive(Debug, Clone, Copy)]
pub struct Listed {
    /// Pages.
    pub pages: u64,
    /// Items that were written.
    pub items: u64,
}

/// Compiles a list of a pipeline; `name` is what it is called in messages.
pub fn compile<'a>(
    pipeline: &Pipeline,
    listing: &'a Listing,
    name: &'a str,
    problems: &mut Problems,
) -> Option<Lister<'a>> {
    let settings = &listing.connection.settings;
    let fields = |map: &Map| Known::Fields(map.names().map(str::to_owned).collect());
    let scope = Scope::new()
        .allow(Root::Vars, fields(&pipeline.vars))
        .allow(Root::Connection, fields(settings))
        .allow(Root::Run, Known::Any);
    let now = jiff::Timestamp::now();
    let run = RunValues {
        pipeline: pipeline.name.as_str().into(),
        started_at: jiff::Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now),
        ..RunValues::of_nobody()
    };
    let base = Context::new(run)
        .with(Root::Vars, std::sync::Arc::new(Value::Object(pipeline.vars.clone())))
        .with(Root::Connection, std::sync::Arc::new(Value::Object(settings.clone())));
    let pager = Pager::compile(listing, base.clone(), &scope, pipeline.delivery.max_body, problems);
    let reader = Reader::compile(&listing.endpoint, base, listing.connection.mask(), problems);
    let is_own = listing.connection.name == pipeline.connection.name;
    let mut delivery = pipeline.delivery.clone();
    delivery.max_reply = delivery.max_reply.max(MOST_OF_A_PAGE);
    Some(Lister {
        listing,
        pager: pager?,
        reader: reader?,
        rate: if is_own { delivery.rate } else { listing.connection.limits.rate },
        delivery,
        name,
    })
}

/// Reads a list of a pipeline, by what it is called, into a new file, at most `limit` items of it. What could not
/// be read to its end leaves no file.
pub fn read(
    pipeline: &Pipeline,
    (listing, name): (&Listing, &str),
    to: &Path,
    limit: Option<u64>,
    until: &Until,
    observer: &mut dyn Observer,
) -> Result<Listed, Failure> {
    let mut problems = Problems::new();
    let Some(lister) = compile(pipeline, listing, name, &mut problems) else {
        return Err(Failure::config(problems));
    };
    if let Some(failure) = lister.listing.connection.unset_failure() {
        return Err(failure);
    }
    let sender = Sender::new(&lister.listing.connection, &lister.delivery)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Failure::new(Class::Io, Diagnostic::error("io", format!("cannot start the runtime: {error}")))
    })?;
    let read = runtime.block_on(lister.pages(&sender, to, limit, until, observer));
    if read.is_err() {
        // Half of a list is no list.
        let _ = std::fs::remove_file(to);
    }
    read
}

/// What to do where the reading was ended.
const AGAIN: &str = "start the same command again; the list is then read from its begin";

impl Lister<'_> {
    async fn pages(
        mut self,
        sender: &Sender,
        to: &Path,
        limit: Option<u64>,
        until: &Until,
        observer: &mut dyn Observer,
    ) -> Result<Listed, Failure> {
        let write = |cause: std::io::Error| Failure::io("write", to, &cause);
        let file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(write)?;
        let mut out = BufWriter::with_capacity(256 << 10, file);
        let mut rate = Rate::new(self.rate, Instant::now());
        let mut listed = Listed { pages: 0, items: 0 };
        let most = limit.unwrap_or(u64::MAX);
        let mask = self.listing.connection.mask();
        let mut line = Vec::new();
        loop {
            let request =
                self.pager.request().map_err(|error| Failure::new(Class::Config, Diagnostic::from(error)))?;
            let arrived = self.page(sender, &request, &mut rate, until, observer).await?;
            let turned =
                self.pager.turn(&arrived, &request).map_err(|found| self.ended(Class::Halted, *found))?;
            listed.pages += 1;
            for item in &turned.items {
                if listed.items == most {
                    break;
                }
                line.clear();
                item.write_json(&mut line);
                self.refuse_secret(&mask, &line, listed.items)?;
                line.push(b'\n');
                out.write_all(&line).map_err(write)?;
                listed.items += 1;
            }
            let done = !turned.more || listed.items == most;
            let Listed { pages, items } = listed;
            observer.event(&Event::Listing { source: self.name.to_owned(), pages, items, done });
            if done {
                break;
            }
        }
        let file: File = out.into_inner().map_err(|error| write(error.into_error()))?;
        file.sync_all().map_err(write)?;
        self.go_on(until, observer)?;
        Ok(listed)
    }

    /// A list that repeats a credential of its connection would be a file of secrets.
    fn refuse_secret(&self, mask: &Mask, item: &[u8], before: u64) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(item);
        if matches!(mask.apply(&text), std::borrow::Cow::Borrowed(_)) {
            return Ok(());
        }
        let message = format!(
            "item {} of the list, on page {}, holds a secret of the connection {}",
            before + 1,
            self.pager.page().saturating_sub(1),
            self.listing.connection.name
        );
        let found = Diagnostic::error("page-holds-secret", message)
            .note("records are written to files, and secrets never are")
            .help("have `items` leave it out, or ask for fewer fields");
        Err(self.ended(Class::Halted, found))
    }

    /// One page, however many attempts it takes. Reading changes nothing, so whatever may have
    /// arrived is asked for again.
    async fn page(
        &self,
        sender: &Sender,
        request: &Request,
        rate: &mut Rate,
        until: &Until,
        observer: &mut dyn Observer,
    ) -> Result<Arrived, Failure> {
        let retry = &self.delivery.retry;
        let mut made = 0;
        loop {
            while let Err(free) = rate.take(Instant::now()) {
                self.during(tokio::time::sleep_until(free.into()), until, observer).await?;
            }
            let begun = Instant::now();
            let reply = self.during(sender.send(request), until, observer).await?;
            made += 1;
            observer.event(&Event::Attempted {
                ordinal: self.pager.page() - 1,
                request: format!("{} {}", request.method, request.url),
                reply: reply.clone(),
                took: begun.elapsed(),
            });
            let mut reading = self.reader.read(&reply, request);
            if let Reply::Arrived(arrived) = &reply
                && reading.meaning == Meaning::Acted
            {
                if arrived.complete {
                    if let Some(pause) = reading.pause {
                        rate.pause(Instant::now() + pause.min(retry.max_retry_after));
                    }
                    return Ok(arrived.clone());
                }
                if arrived.body.len() >= self.delivery.max_reply {
                    return Err(self.too_large());
                }
                let why = "the reply ended before it was whole";
                reading = Reading { status: arrived.status.as_u16(), ..Reading::without_reply("cut", why) };
            }
            let tries = Tries { made, earlier_unknown: false };
            match judge(&reading.meaning, tries, InDoubt::Resend, retry, fastrand::f64()) {
                Verdict::Again { after } => {
                    let why =
                        if reading.status > 0 { reading.status.to_string() } else { reading.class.clone() };
                    let ordinal = self.pager.page() - 1;
                    observer.event(&Event::Retrying { ordinal, attempt: made, why, wait: after });
                    self.during(tokio::time::sleep(after), until, observer).await?;
                }
                verdict => return Err(self.refused(&reading, verdict)),
            }
        }
    }

    /// Waits for something, as long as nothing ends the reading.
    async fn during<T>(
        &self,
        work: impl Future<Output = T>,
        until: &Until,
        observer: &mut dyn Observer,
    ) -> Result<T, Failure> {
        const TICK: Duration = Duration::from_millis(100);
        let mut work = std::pin::pin!(work);
        loop {
            self.go_on(until, observer)?;
            let left = until.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
            tokio::select! {
                done = &mut work => return Ok(done),
                () = tokio::time::sleep(left.map_or(TICK, |left| left.min(TICK))) => observer.tick(),
            }
        }
    }

    /// Ends the reading where a signal came, or where it is late.
    fn go_on(&self, until: &Until, observer: &mut dyn Observer) -> Result<(), Failure> {
        if until.wants_status() {
            observer.status();
        }
        if let Some(signal) = until.signal() {
            let found = Diagnostic::error("interrupted", signal.name()).help(AGAIN);
            return Err(self.ended(Class::Stopped, found).by(signal));
        }
        if until.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
            let found = Diagnostic::error("max-duration", "`--max-duration` is over").help(AGAIN);
            return Err(self.ended(Class::Stopped, found));
        }
        Ok(())
    }

    fn too_large(&self) -> Failure {
        let found = Diagnostic::error(
            "page-too-large",
            format!(
                "the reply of page {} is larger than {} MiB",
                self.pager.page(),
                self.delivery.max_reply >> 20
            ),
        )
        .help("ask for fewer items at once: `pagination: { size: … }`");
        self.ended(Class::Halted, found)
    }

    /// Why a page cannot be had.
    fn refused(&self, reading: &Reading, verdict: Verdict) -> Failure {
        let page = self.pager.page();
        let host = host(&self.listing.connection.base_url);
        let (class, message) = match (verdict, &reading.meaning) {
            (Verdict::TooLong { asked }, _) => {
                let wait = humantime::format_duration(asked);
                (Class::Stopped, format!("{host} asks to wait {wait} before page {page}"))
            }
            (_, Meaning::NotNow { .. } | Meaning::NotSent | Meaning::Unknown) => {
                (Class::Stopped, format!("{host} gave no page {page}"))
            }
            _ => (Class::Halted, format!("{host} refused page {page}")),
        };
        let mut found = Diagnostic::error("list-refused", message);
        let status = if reading.status > 0 { format!("{} ", reading.status) } else { String::new() };
        found = found.note(format!("{status}{}: {}", reading.class, reading.message).trim().to_owned());
        let from = self.listing.connection.secrets_from.join(" and ");
        self.ended(
            class,
            match class {
                Class::Stopped => found.help("start the same command again later"),
                _ if reading.status == 401 && !from.is_empty() => {
                    found.note(format!("the credentials came from {from}")).help(format!(
                        "correct the value of {from}, then `runner check-connection {}`",
                        self.listing.connection.name
                    ))
                }
                _ => {
                    found.help("look at the endpoint's path, query and params, and at what the far side says")
                }
            },
        )
    }

    fn ended(&self, class: Class, found: Diagnostic) -> Failure {
        let about = format!("while reading {}; nothing was sent", self.name);
        Failure::new(class, found.note(about))
    }
}

/// Host and port of a base URL.
fn host(base_url: &str) -> &str {
    base_url.split("://").nth(1).unwrap_or(base_url).split('/').next().unwrap_or_default()
}
