//! What a person or a program sees of a run: events in, text and JSON out.
//!
//! Separate because nothing else may print: a stage says what happened as data, and here alone it
//! becomes a bar, lines, events or one JSON object. Invariants: stdout holds the answer and nothing
//! else, stderr is for people; what came from outside is masked and escaped before it is written; a
//! reader that went away is no error.

mod draw;
mod json;
mod jsonl;
mod lines;
mod logs;
mod progress;
mod reporter;
mod settings;
mod stream;
mod style;
mod summary;
mod tally;
pub mod text;
mod verbose;

pub use draw::{draw, draw_all};
pub use json::{Answer, diagnostic as diagnostic_json};
pub use logs::LogSink;
pub use reporter::Reporter;
pub use settings::{Colors, Format, ProgressMode, Settings, Surroundings, Volume, WhenColor, WhenProgress};
pub use stream::{Streams, Target};
pub use summary::{Reason, RunSummary};
