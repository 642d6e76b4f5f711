//! What holds for any input at all, as one function per kind of input: nine targets for a fuzzer.
//!
//! In one place so that `fuzz/` and the tests ask the same: a fuzzer looks for inputs that break
//! a property, the tests hold every seed and every input that once did (`fuzz/seeds`,
//! `fuzz/regressions`). Built for tests and fuzzers alone. Invariant: each target asserts what its
//! module promises, and panics only when the promise is broken.

mod checkpoint;
mod common;
mod csv;
mod ndjson;
mod path;
mod reply;
mod retry_after;
mod schema;
mod template;
#[cfg(test)]
mod tests;
mod yaml;

pub use checkpoint::checkpoint;
pub use csv::csv;
pub use ndjson::ndjson;
pub use path::path;
pub use reply::reply;
pub use retry_after::retry_after;
pub use schema::schema;
pub use template::template;
pub use yaml::yaml;
