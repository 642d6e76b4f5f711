//! Requests out, verdicts back: the only stage that waits.
//!
//! `send` makes one attempt (`upload` brings the files of its body), `reading` says what its reply means, `items` what it says of each record of a
//! call with several, `judge` what follows; `schedule` says which request leaves next and when (by `order`,
//! `rate`, `lanes` and `pace`, which learn from what was `felt`), `budget` when it is enough, `probe` asks what became of a request in doubt, `pages` reads a list (`link` its headers). The loop that joins them is `engine::dispatch`.

pub mod auth;
mod budget;
mod documents;
mod exchange;
mod felt;
pub mod headers;
mod items;
mod judge;
mod lanes;
mod link;
mod noise;
mod order;
mod pace;
mod pages;
mod probe;
mod rate;
mod reading;
mod schedule;
mod send;
#[cfg(test)]
mod tests_property;
mod upload;

pub use budget::{Budget, Enough};
pub use felt::Felt;
pub use items::{ItemReader, ItemReading};
pub use judge::{Meaning, Tries, Verdict, backoff, judge};
pub use order::{Order, Turn};
pub use pages::{MOST_OF_A_PAGE, Pager, Turned};
pub use probe::{Found, Prober};
pub use rate::Rate;
pub use reading::{Expected, Reader, Reading};
pub use schedule::{Around, Landing, Schedule, Step};
pub use send::{Pass, Sender};
pub use upload::{in_words, is_untouched, look_at};
