//! A source that is the replies of another pipeline (`source: { responses: NAME }`).
//!
//! It is the `responses.ndjson` of that pipeline's newest run in the same target, read like any file. Nothing
//! is read here; that there is no such file is said where it is opened.

use super::deletes;
use crate::config::Pipeline;
use crate::model::Failure;
use crate::outcome::{Checkpoint, Folder};

/// Names the file of a pipeline whose source is the replies of another, where there is one.
pub fn find(pipeline: &mut Pipeline, target: &str) -> Result<(), Failure> {
    let Some(other) = pipeline.source.replies_of() else { return deletes::find(pipeline, target) };
    let folder = Folder::new(&pipeline.state_dir, target, other);
    let Some(checkpoint) = Checkpoint::open_to_read(&folder)? else { return Ok(()) };
    let Some(run) = checkpoint.latest_run()? else { return Ok(()) };
    let file = folder.run(&run.id).join("responses.ndjson");
    if file.is_file() {
        pipeline.source.file = file.to_string_lossy().into_owned();
        // It lies where state lies, which may be outside of the project.
        pipeline.source.place = None;
    }
    Ok(())
}
