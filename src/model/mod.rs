//! The nouns that all stages share.
//!
//! A stage takes and gives these types and knows no other stage. Only std, serde and http types
//! appear here, nothing is opened, sent or printed.

mod class;
mod diagnostic;
mod event;
mod form;
mod outcome;
mod place;
mod record;
mod reply;
mod request;
mod secret;
mod signal;
mod table;
mod text;
mod value;

pub use class::Class;
pub use diagnostic::{Diagnostic, Failure, Problems, Severity, did_you_mean, nearest};
pub use event::{Event, Pacing, Pause};
pub use form::{FileSeen, Form, Part, PartContent, Stretch, Upload, quotable};
pub use outcome::{Counts, Outcome, State};
pub use place::{Place, Placed, SourceText};
pub use record::{BadRecord, CopyOf, Record, RecordPlace};
pub use reply::{Arrived, Lost, Reply};
pub use request::Request;
pub use secret::{Hidden, Learned, Mask, Secret};
pub use signal::Signal;
pub use table::{NotTaken, Table, Tables};
pub use text::{hex, number};
pub use value::{Map, Number, Str, Value, write_json_string};
