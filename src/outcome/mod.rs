//! What outlives the process: the checkpoint, its lock, and the outcome files made from it.
//!
//! One `SQLite` file per pipeline and target holds what was asked and what became of it; everything
//! else under the state folder is a view that can be made again. Invariant: nothing is sent that
//! a durable lease (and, where a repeat could harm, an intent) does not cover.

mod batches;
mod blocks;
mod checkpoint;
mod database;
pub mod files;
mod folder;
mod inspect;
mod keys;
pub mod manifest;
mod queries;
mod responses;
mod rows;
#[cfg(test)]
mod tests_property;
mod waiting;
mod writer;

pub use batches::{BatchRow, BatchState};
pub use checkpoint::{Checkpoint, Finished, NewRun};
pub use database::seal;
pub use folder::{Folder, Lock, Use};
pub use inspect::Inspection;
pub use keys::{HALF_DONE, KeyState, KnownKey, MOST_CONTENT, UNCHANGED};
pub use queries::Reason;
pub use responses::{Exchange, Responses};
pub use rows::{AttemptRow, Grants, InputMark, NoteRow, RecordRow, RunRow, Settlement, StartRow};
pub use writer::{Ack, Writer};
