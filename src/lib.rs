//! `runner`: a declarative batch runner. Records in, HTTP requests out, one known outcome each.
//!
//! The modules in reading order follow the data: `config` reads what a team wrote, `source`
//! brings records, `schema` and `select` check and shape them, `render` makes requests, `deliver`
//! sends them, `outcome` remembers what became of them; `engine` is the only place where these
//! stages meet, `report` shows what happened, `cli` starts it all.

#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod dedupe;
pub mod deliver;
pub mod engine;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod git;
pub mod model;
pub mod outcome;
pub mod render;
pub mod report;
pub mod sandbox;
pub mod schema;
pub mod select;
pub mod source;
