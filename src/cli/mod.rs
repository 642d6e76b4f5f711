//! Arguments in, exit code out.
//!
//! Flags are declared in `args` and stop there; `failure` alone turns an ending into text and an
//! exit code; `topics` holds the pages of `runner help TOPIC`.

pub mod args;
pub mod failure;
pub mod topics;
mod values;

pub use values::{Rate, Setting};
