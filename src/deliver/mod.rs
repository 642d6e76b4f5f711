//! Requests out, verdicts back: the only stage that waits.
//!
//! `send` makes one attempt (`upload` brings the files of its body), `reading` says what its reply means, `items` what it says of each record of a
//! call with several, `judge` what follows; `rate`,
//! `order` and `budget` hold back, `probe` asks what became of a request in doubt, `pages` reads a list (`link` its headers). The loop that joins them is `engine::dispatch`.

pub mod auth;
mod budget;
mod documents;
mod exchange;
pub mod headers;
mod items;
mod judge;
mod link;
mod order;
mod pages;
mod probe;
mod rate;
mod reading;
mod send;
#[cfg(test)]
mod tests_property;
mod upload;

pub use budget::{Budget, Enough};
pub use items::{ItemReader, ItemReading};
pub use judge::{Meaning, Tries, Verdict, backoff, judge};
pub use order::{Order, Turn};
pub use pages::{MOST_OF_A_PAGE, Pager, Turned};
pub use probe::{Found, Prober};
pub use rate::Rate;
pub use reading::{Expected, Reader, Reading};
pub use send::{Pass, Sender};
pub use upload::{in_words, is_untouched, look_at};
