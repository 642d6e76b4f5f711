//! Record and endpoint in, request out. Pure: no file, no clock, no network.
//!
//! Apart from everything that waits or sends, so that the same record gives the same bytes however
//! often it is rendered (P15). A template is compiled once: every name in it is checked then, and
//! every path gets its place. Records are data and are never read as templates (S16); how a value
//! is written follows its position, never the author.
//!
//! `scan` reads words, `path` finds values, `expr` checks names, `engine` calculates the rest,
//! `part`, `leaf` and `tree` put these together; `tables` are lookup tables for the engine, `params`, `url`, `headers` and `body` are the positions,
//! `documents` writes
//! bodies as XML and CSV, `parts` makes those of several parts, `envelope` is the body around several records, `request` the whole; `origin` says which line makes which part.

mod body;
mod context;
mod convert;
mod direct;
mod documents;
mod engine;
mod envelope;
mod error;
mod expr;
mod filters;
mod headers;
mod leaf;
mod origin;
mod params;
mod part;
mod parts;
mod path;
mod request;
mod scan;
mod tables;
mod tree;
mod url;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_property;

pub use context::{Context, Known, KnownTable, Root, RunValues, Scope};
pub use error::RenderError;
pub use leaf::Leaf;
pub use origin::{Origin, origins};
pub use request::{CallTemplate, Draft, RequestTemplate};
pub use tree::{Nulls, TreeTemplate};
