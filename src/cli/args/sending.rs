//! Flags of the commands that look at a whole input: plan, preview, try, apply.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cli::values::{self, Rate};

/// Which records of the input a start is about.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Records")]
pub struct Selection {
    /// Read this instead of the pipeline's file; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// At most N records; the rest stays pending
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = values::positive)]
    pub limit: Option<NonZeroU64>,
    /// Only records for which this is true, such as `record.country == 'DE'`
    #[arg(long = "where", value_name = "EXPR", value_parser = values::not_empty)]
    pub filter: Option<String>,
    /// Only the record with this key; repeatable
    #[arg(long = "record", value_name = "KEY")]
    pub records: Vec<String>,
}

/// `runner plan`
#[derive(Debug, Args)]
pub struct Plan {
    /// Pipeline, by file or name
    #[arg(value_name = "PIPELINE")]
    pub pipeline: PathBuf,
    /// Exit with 10 when there is something to send
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// Against the stand-in instead of the far side
    #[arg(long)]
    pub sandbox: bool,
    /// Which records.
    #[command(flatten)]
    pub selection: Selection,
}

/// How `preview` shows requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum PreviewForm {
    /// Request line, headers and body
    #[default]
    Text,
    /// One JSON object per request
    Json,
    /// A command for a shell, with `$NAME` for secrets
    Curl,
}

/// `runner preview`
#[derive(Debug, Args)]
pub struct Preview {
    /// Pipeline, by file or name
    #[arg(value_name = "PIPELINE")]
    pub pipeline: PathBuf,
    /// The record at this position, from 0; repeatable
    #[arg(long = "ordinal", value_name = "N", allow_negative_numbers = true, conflicts_with_all = ["sample", "all"])]
    pub ordinals: Vec<u64>,
    /// All records instead of the first 3
    #[arg(long, conflicts_with_all = ["limit", "sample"])]
    pub all: bool,
    /// The endpoint's sample instead of records
    #[arg(long, conflicts_with_all = ["input", "limit", "filter", "records"])]
    pub sample: bool,
    /// How requests are shown
    #[arg(long = "as", value_name = "FORM", default_value = "text")]
    pub form: PreviewForm,
    /// Against the stand-in instead of the far side
    #[arg(long)]
    pub sandbox: bool,
    /// Which records.
    #[command(flatten)]
    pub selection: Selection,
}

/// What `extract` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExtractForm {
    /// One JSON object a line
    Ndjson,
    /// A header line, then a row a record
    Csv,
}

/// `runner extract`
#[derive(Debug, Args)]
pub struct Extract {
    /// Pipeline, by file or name
    #[arg(value_name = "PIPELINE")]
    pub pipeline: PathBuf,
    /// Write here, whole or not at all, instead of to stdout
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// What is written; told by the ending of FILE, else ndjson
    #[arg(long = "as", value_name = "FORM")]
    pub form: Option<ExtractForm>,
    /// At most N records
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = values::positive)]
    pub limit: Option<NonZeroU64>,
    /// Against the stand-in instead of the far side
    #[arg(long)]
    pub sandbox: bool,
}

/// `runner try`
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Try {
    /// Pipeline, by file or name
    #[arg(value_name = "PIPELINE")]
    pub pipeline: PathBuf,
    /// The record with this key; the first valid one without it
    #[arg(long, value_name = "KEY", conflicts_with_all = ["sample", "payload"])]
    pub record: Option<String>,
    /// The endpoint's sample; it is no record and not counted as sent
    #[arg(long, conflicts_with = "payload")]
    pub sample: bool,
    /// A record from a JSON file, or `-`; it is not counted as sent
    #[arg(long, value_name = "FILE")]
    pub payload: Option<PathBuf>,
    /// Send it although it is delivered or in doubt already
    #[arg(long, conflicts_with_all = ["sample", "payload"])]
    pub again: bool,
    /// Send it although the pipeline changed since the run began; what is settled stays
    #[arg(long, conflicts_with_all = ["sample", "payload"])]
    pub accept_changes: bool,
    /// Against the stand-in instead of the far side
    #[arg(long)]
    pub sandbox: bool,
    /// Answer yes to what would be asked
    #[arg(long)]
    pub yes: bool,
}

/// How fast a start sends.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Pace")]
pub struct Pace {
    /// Requests in flight at once
    #[arg(long, value_name = "N", value_parser = values::amount)]
    pub concurrency: Option<NonZeroUsize>,
    /// Requests in a time, such as 20/s or 300/min
    #[arg(long, value_name = "R", value_parser = values::rate)]
    pub rate: Option<Rate>,
}

/// `runner apply`
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Apply {
    /// Pipelines, by file or name, one after another; a folder stands for all in it
    #[arg(value_name = "PIPELINE", required = true)]
    pub pipelines: Vec<PathBuf>,
    /// Only show what would be done, as `plan` does
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Against the stand-in instead of the far side
    #[arg(long)]
    pub sandbox: bool,
    /// Answer yes to what would be asked
    #[arg(long)]
    pub yes: bool,
    /// With several pipelines: go on after one that does not end well
    #[arg(long)]
    pub keep_going: bool,
    /// Start although a pipeline that is needed did not end well
    #[arg(long)]
    pub ignore_needs: bool,
    /// Delete nothing that vanished from the input (`deletes:`)
    #[arg(long)]
    pub no_deletes: bool,
    /// Which records.
    #[command(flatten)]
    pub selection: Selection,
    /// Which run.
    #[command(flatten)]
    pub run: WhichRun,
    /// How fast.
    #[command(flatten)]
    pub pace: Pace,
    /// Stop after this time; the run can go on later
    #[arg(long, value_name = "T", value_parser = values::duration, help_heading = "Pace")]
    pub max_duration: Option<Duration>,
    /// Stop after N records failed
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = values::positive, help_heading = "Pace")]
    pub stop_after: Option<NonZeroU64>,
}

/// What becomes of a run that is there already.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Run")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of its own; clap refuses two that exclude each other"
)]
pub struct WhichRun {
    /// Go on with a run; an error when there is none
    #[arg(long)]
    pub resume: bool,
    /// Begin again; what the old run delivered is sent a second time
    #[arg(long, conflicts_with_all = ["resume", "close", "accept_changes"])]
    pub fresh: bool,
    /// Also send what earlier runs delivered
    #[arg(long)]
    pub again: bool,
    /// Close an interrupted run, its rest unsent, and begin one with the new input
    #[arg(long, conflicts_with_all = ["resume", "accept_changes"])]
    pub close: bool,
    /// Go on with a changed pipeline; what is settled stays
    #[arg(long)]
    pub accept_changes: bool,
}
