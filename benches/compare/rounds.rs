//! Contestants in turn, and the table of what they took.
//!
//! Others use the machine too, and it is slower in one minute than in the next. So all send the same file, one
//! after the other, and again; what is compared is what they took within one round.

use std::io;

use crate::contestants::Contestant;
use crate::far::{Counts, Far};
use crate::floor::Client;
use crate::process::{self, Spent, float, seconds};
use crate::project::{Input, Project, Setting};
use crate::target::Manner;

/// What they are compared with.
const FLOOR: Contestant = Contestant::Floor(Client::Reqwest);

/// What is sent, by whom and how often.
pub struct Rounds<'a> {
    pub setting: Setting,
    pub manner: Manner,
    pub contestants: &'a [Contestant],
    pub records: u64,
    pub times: usize,
}

/// One contestant in one round.
struct Take {
    spent: Spent,
    records: u64,
    /// CPU of the floor in the same round, for a record.
    floor: Option<f64>,
    counts: Counts,
    /// Microseconds of CPU that the far side took for a request.
    far: f64,
}

impl Rounds<'_> {
    /// Measures them and prints the table.
    pub fn run(&self) -> io::Result<()> {
        let project = Project::new(self.setting)?;
        let mut takes: Vec<Vec<Take>> = self.contestants.iter().map(|_| Vec::new()).collect();
        let mut input = project.rows(self.records, |_| false)?;
        for _ in 0..self.times {
            let mut floor = None;
            for (contestant, takes) in self.contestants.iter().zip(&mut takes) {
                let share = contestant.share(self.records);
                if share != input.records {
                    input = project.rows(share, |_| false)?;
                }
                let take = self.take(*contestant, &project, &input, floor)?;
                if *contestant == FLOOR {
                    floor = Some(take.spent.micros(take.records));
                }
                takes.push(take);
            }
        }
        self.table(&takes);
        Ok(())
    }

    fn take(
        &self,
        contestant: Contestant,
        project: &Project,
        input: &Input,
        floor: Option<f64>,
    ) -> io::Result<Take> {
        project.forget()?;
        let far = Far::start(self.manner)?;
        let spent = process::measure(&mut contestant.command(project, &self.setting, input, far.url())?)?;
        let counts = far.counts()?;
        counts.prove(contestant.name(), input)?;
        let far = seconds(far.cpu()?) * 1e6 / float(counts.requests);
        Ok(Take { spent, records: input.records, floor, counts, far })
    }

    fn table(&self, takes: &[Vec<Take>]) {
        let is_slow = !self.manner.latency.is_zero();
        let more = if is_slow { (" of the ideal | lanes busy |", "---:|---:|") } else { ("", "") };
        println!("| | records | records/s | CPU µs a record | times the floor | peak MiB |{}", more.0);
        println!("|---|---:|---:|---:|---:|---:|{}", more.1);
        for (contestant, takes) in self.contestants.iter().zip(takes) {
            let shown = |value: &dyn Fn(&Take) -> Option<f64>, digits| {
                spread(takes.iter().filter_map(value).collect(), digits)
            };
            let rate = |take: &Take| take.spent.rate(take.records);
            let micros = |take: &Take| take.spent.micros(take.records);
            print!(
                "| {} | {} | {} | {} | {} | {} |",
                contestant.name(),
                takes.first().map_or(0, |take| take.records),
                shown(&|take| Some(rate(take)), 0),
                shown(&|take| Some(micros(take)), 1),
                shown(&|take| Some(micros(take) / take.floor?), 2),
                shown(&|take| Some(take.spent.peak_mib()), 1),
            );
            if is_slow {
                let lanes = float(self.setting.lanes as u64);
                let ideal = lanes / seconds(self.manner.latency);
                print!(
                    " {} % | {} % |",
                    shown(&|take| Some(float(take.records) / take.counts.span / ideal * 100.0), 0),
                    shown(&|take| Some(take.counts.held / (lanes * take.counts.span) * 100.0), 0),
                );
            }
            println!();
        }
        let far: Vec<f64> = takes.iter().flatten().map(|take| take.far).collect();
        println!("\nThe target took {} µs of CPU for a request.", spread(far, 1));
    }
}

/// The median, and the least and the greatest where there are several.
fn spread(mut values: Vec<f64>, digits: usize) -> String {
    values.sort_unstable_by(f64::total_cmp);
    let (Some(least), Some(greatest)) = (values.first(), values.last()) else { return String::new() };
    let median = values[values.len() / 2];
    if values.len() == 1 {
        return format!("{median:.digits$}");
    }
    format!("{median:.digits$} ({least:.digits$}–{greatest:.digits$})")
}
