//! Flags of the commands that work on a run that was: status, retry, resolve.

use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::Args;

use super::Pace;
use crate::cli::values::{self, Capture};
use crate::outcome::Settlement;

/// `runner status`
#[derive(Debug, Args)]
pub struct Status {
    /// Pipeline, by file or name; all without one
    #[arg(value_name = "PIPELINE")]
    pub pipeline: Option<PathBuf>,
    /// Write the outcome files anew
    #[arg(long)]
    pub files: bool,
    /// Check state and outcome files against each other
    #[arg(long)]
    pub verify: bool,
    /// Runs against the stand-in
    #[arg(long)]
    pub sandbox: bool,
}

/// `runner explain`
#[derive(Debug, Args)]
pub struct Explain {
    /// Pipeline, by file or name
    #[arg(value_name = "PIPELINE")]
    pub pipeline: PathBuf,
    /// The record: its key, its position from 0 as '#17', or its line as `FILE:18`
    #[arg(value_name = "RECORD", value_parser = values::not_empty)]
    pub record: String,
    /// Look for it in this input instead of the pipeline's file
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Runs against the stand-in
    #[arg(long)]
    pub sandbox: bool,
}

/// `runner retry`
#[derive(Debug, Args)]
pub struct Retry {
    /// Pipeline, by file or name
    #[arg(value_name = "PIPELINE")]
    pub pipeline: PathBuf,
    /// The input of the run, where it is not the pipeline's file
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Only failures for which this is true, such as `status == 422`
    #[arg(long = "where", value_name = "EXPR", value_parser = values::not_empty)]
    pub filter: Option<String>,
    /// What the reply of a step that was delivered should have brought, for the one record that is chosen; repeatable
    #[arg(long = "capture", value_name = "STEP.NAME=VALUE", value_parser = values::capture)]
    pub captures: Vec<Capture>,
    /// At most N records
    #[arg(long, value_name = "N", value_parser = values::positive)]
    pub limit: Option<NonZeroU64>,
    /// Go on with a changed pipeline; what is settled stays
    #[arg(long)]
    pub accept_changes: bool,
    /// Against the stand-in instead of the far side
    #[arg(long)]
    pub sandbox: bool,
    /// Answer yes to what would be asked
    #[arg(long)]
    pub yes: bool,
    /// How fast.
    #[command(flatten)]
    pub pace: Pace,
}

/// `runner resolve`
#[derive(Debug, Args)]
pub struct Resolve {
    /// Pipeline, by file or name
    #[arg(value_name = "PIPELINE")]
    pub pipeline: PathBuf,
    /// What became of them.
    #[command(flatten)]
    pub settlement: SettlementFlags,
    /// Which records.
    #[command(flatten)]
    pub which: Held,
    /// Runs against the stand-in
    #[arg(long)]
    pub sandbox: bool,
}

/// `runner reconcile`
#[derive(Debug, Args)]
pub struct Reconcile {
    /// Pipeline, by file or name
    #[arg(value_name = "PIPELINE")]
    pub pipeline: PathBuf,
    /// The input of the run, where it is not the pipeline's file
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Only the record with this key; repeatable
    #[arg(long = "record", value_name = "KEY", conflicts_with = "ordinals")]
    pub records: Vec<String>,
    /// Only the record at this position, from 0; repeatable
    #[arg(long = "ordinal", value_name = "N", allow_negative_numbers = true)]
    pub ordinals: Vec<u64>,
    /// Against the stand-in instead of the far side
    #[arg(long)]
    pub sandbox: bool,
    /// How fast.
    #[command(flatten)]
    pub pace: Pace,
}

/// Exactly one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
#[expect(clippy::struct_excessive_bools, reason = "clap takes exactly one; `settlement` gives the choice")]
pub struct SettlementFlags {
    /// Send them again with the next `apply`; accepts that they may act twice
    #[arg(long)]
    resend: bool,
    /// Leave them out
    #[arg(long)]
    skip: bool,
    /// They arrived
    #[arg(long)]
    delivered: bool,
    /// They did not arrive and are not sent by themselves
    #[arg(long)]
    failed: bool,
}

impl SettlementFlags {
    /// The choice.
    #[must_use]
    pub const fn choice(&self) -> Settlement {
        match self {
            Self { resend: true, .. } => Settlement::Resend,
            Self { delivered: true, .. } => Settlement::Delivered,
            Self { failed: true, .. } => Settlement::Failed,
            Self { .. } => Settlement::Skip,
        }
    }
}

/// Which records in doubt: keys, ordinals or all.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Held {
    /// The record with this key; repeatable
    #[arg(long = "record", value_name = "KEY")]
    pub records: Vec<String>,
    /// The record at this position, from 0; repeatable
    #[arg(long = "ordinal", value_name = "N", allow_negative_numbers = true)]
    pub ordinals: Vec<u64>,
    /// All records in doubt
    #[arg(long)]
    pub all: bool,
}
