//! Requests out, verdicts back: the only stage that waits.
//!
//! `send` makes one attempt, `reading` says what its reply means, `judge` what follows; `rate`,
//! `order` and `budget` hold back. The loop that joins them is `engine::dispatch`.

pub mod auth;
mod budget;
pub mod headers;
mod judge;
mod order;
mod rate;
mod reading;
mod send;
#[cfg(test)]
mod tests_property;

pub use budget::{Budget, Enough};
pub use judge::{Meaning, Tries, Verdict, backoff, judge};
pub use order::{Order, Turn};
pub use rate::Rate;
pub use reading::{Expected, Reader, Reading};
pub use send::{Sender, is_link_local};
