//! What only the program does, or only the program has to answer for.

use std::io;

use crate::Wanted;
use crate::cases::FAR_AWAY;
use crate::far::Far;
use crate::process::{self, Spent};
use crate::project::{Form, Kind, Project, Setting};
use crate::target::Manner;

/// Bytes of a long reply.
const LONG: usize = 1 << 20;
/// Records that get one; 64 at a time.
const LONG_REPLIES: u64 = 2_000;
/// Records of the comparison with and without durability: each waits for its reply.
const SLOW: u64 = 20_000;

/// Peak memory by form and number of records, and with long replies.
pub fn memory(wanted: &Wanted) -> io::Result<()> {
    println!("\nmemory: {}\n", Kind::Single.pipeline());
    head("input");
    let usual = [100_000, 1_000_000, 10_000_000];
    for records in wanted.sizes(if wanted.is_full { &usual } else { &usual[..2] }) {
        for form in [Form::Csv, Form::Ndjson, Form::Array] {
            let setting = Setting { form, ..Setting::of(Kind::Single) };
            row(form.name(), records, &once(&Project::new(setting)?, Manner::default(), records)?);
        }
    }
    println!("\nmemory: {}, replies of 1 MiB\n", Kind::Update.pipeline());
    head("lanes");
    for lanes in [1, 64] {
        let project = Project::new(Setting { lanes, ..Setting::of(Kind::Update) })?;
        let manner = Manner { reply: LONG, ..Manner::default() };
        row(&lanes.to_string(), LONG_REPLIES, &once(&project, manner, LONG_REPLIES)?);
    }
    Ok(())
}

/// A second run with `sync: changed`, for which one row in a hundred is another than the first sent.
pub fn changed(wanted: &Wanted) -> io::Result<()> {
    println!("\nchanged: {} with sync: changed\n", Kind::Batch.pipeline());
    head("run");
    for records in wanted.sizes(&[100_000]) {
        let project = Project::new(Setting { line: "sync: changed", ..Setting::of(Kind::Batch) })?;
        // What was sent is known of one far side, so both runs have the same.
        let far = Far::start(Manner::default())?;
        let input = project.rows(records, |_| false)?;
        let spent = process::measure(&mut project.apply(far.url()))?;
        far.counts()?.prove("runner", &input)?;
        row("all are new", records, &spent);
        project.rows(records, |number| number % 100 == 0)?;
        let spent = process::measure(&mut project.apply(far.url()))?;
        let came = far.counts()?.records - records;
        if came != records / 100 {
            return Err(io::Error::other(format!("{came} came where 1 % of {records} changed")));
        }
        row("1 % changed", records, &spent);
    }
    Ok(())
}

/// What it costs that leases and outcomes survive a loss of power.
pub fn durability(wanted: &Wanted) -> io::Result<()> {
    println!("\ndurability: {}, replies after {} ms\n", Kind::Single.pipeline(), FAR_AWAY.as_millis());
    head("durability");
    let manner = Manner { latency: FAR_AWAY, ..Manner::default() };
    for records in wanted.sizes(&[SLOW]) {
        for (name, delivery) in
            [("process", "durability: process"), ("power", "durability: power")].into_iter().cycle().take(4)
        {
            let project = Project::new(Setting { delivery, ..Setting::of(Kind::Single) })?;
            row(name, records, &once(&project, manner, records)?);
        }
    }
    Ok(())
}

/// Sends every record once.
fn once(project: &Project, manner: Manner, records: u64) -> io::Result<Spent> {
    let input = project.rows(records, |_| false)?;
    let far = Far::start(manner)?;
    let spent = process::measure(&mut project.apply(far.url()))?;
    far.counts()?.prove("runner", &input)?;
    Ok(spent)
}

fn head(what: &str) {
    println!("| {what} | records | records/s | CPU µs a record | peak MiB |");
    println!("|---|---:|---:|---:|---:|");
}

fn row(what: &str, records: u64, spent: &Spent) {
    println!(
        "| {what} | {records} | {:.0} | {:.1} | {:.1} |",
        spent.rate(records),
        spent.micros(records),
        spent.peak_mib()
    );
}
