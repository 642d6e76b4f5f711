//! What a team wrote, as checked values. Sends nothing and opens nothing but the project's own
//! YAML, schema and body files.
//!
//! Three phases: `read` turns YAML into nodes with places, `Raw*` types are what was written with
//! unknown keys refused, `resolve` makes the types of this module and collects every mistake.
//! Invariant: after resolving, no value in here can be wrong in itself.

mod raw;
mod read;
mod types;
mod values;

pub use types::*;
