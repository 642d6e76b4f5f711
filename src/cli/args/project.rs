//! Flags of the commands about the project and the program itself.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::values;

/// `runner init`
#[derive(Debug, Args)]
pub struct Init {
    /// Folder of the new project; nothing in it is overwritten
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Connector to begin with
    #[arg(long, value_name = "NAME", value_parser = values::not_empty)]
    pub connector: Option<String>,
    /// Only make the state folder of a project that has `require_state: true`
    #[arg(long, conflicts_with = "connector")]
    pub state: bool,
}

/// `runner validate`
#[derive(Debug, Args)]
pub struct Validate {
    /// Files and folders to check; the whole project without one
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Also check every record of the pipelines' inputs
    #[arg(long)]
    pub data: bool,
    /// Make warnings errors
    #[arg(long)]
    pub strict: bool,
    /// Report, but exit with 0
    #[arg(long)]
    pub exit_zero: bool,
}

/// `runner check-connection`
#[derive(Debug, Args)]
pub struct CheckConnection {
    /// Connection; all of the project without one
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

/// `runner list`
#[derive(Debug, Args)]
pub struct List {
    /// What to list; a short view of all without it
    #[arg(value_name = "WHAT")]
    pub what: Option<Listing>,
    /// Pipeline whose settings or runs are listed, by file or name
    #[arg(value_name = "PIPELINE")]
    pub pipeline: Option<PathBuf>,
}

/// What `list` lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Listing {
    /// Pipelines
    Pipelines,
    /// Endpoints
    Endpoints,
    /// Connections
    Connections,
    /// Runs
    Runs,
    /// Settings, and where each came from
    Settings,
}

/// `runner sandbox`
#[derive(Debug, Args)]
pub struct Sandbox {
    /// Connector to stand in for; all of the project without one
    #[arg(value_name = "CONNECTOR")]
    pub connector: Option<String>,
    /// Address to listen on; port 0 takes a free one and prints it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// What it answers instead, in turn
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// Keep its objects here
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Write what it was asked here, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
    /// Keep of its objects their ids alone, to measure with many records
    #[arg(long)]
    pub ids_only: bool,
}

/// `runner schema`
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct Schema {
    /// Kind of file; prints its schema
    #[arg(value_name = "KIND", required_unless_present = "all", conflicts_with = "all")]
    pub kind: Option<SchemaKind>,
    /// Write the schemas of all kinds
    #[arg(long, requires = "out")]
    pub all: bool,
    /// Folder to write them to
    #[arg(long, value_name = "DIR", requires = "all")]
    pub out: Option<PathBuf>,
}

/// Files of a project that have a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaKind {
    /// runner.yaml
    #[value(alias = "project")]
    Runner,
    /// connector.yaml
    Connector,
    /// Endpoint templates
    Endpoint,
    /// Pipelines
    Pipeline,
}

/// `runner completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// Shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// `runner help`
#[derive(Debug, Args)]
pub struct Help {
    /// Command or topic
    #[arg(value_name = "COMMAND|TOPIC")]
    pub topic: Option<String>,
}
