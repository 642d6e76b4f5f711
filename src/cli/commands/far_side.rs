//! The far side of a command: the real one, or a stand-in inside this process.

use std::path::PathBuf;

use crate::cli::invocation::Invocation;
use crate::config::{Endpoint, Pipeline};
use crate::engine::stand_in;
use crate::model::{Class, Failure};
use crate::sandbox::{Handle, Options, Sandbox};

/// The name of the sandbox's target.
pub const TARGET: &str = stand_in::SANDBOX;

/// Starts a stand-in for a pipeline's connection and points the pipeline at it. It stops when the
/// handle is dropped; its objects are kept, so that an interrupted run goes on.
pub fn stand_in(invocation: &Invocation<'_>, pipeline: &mut Pipeline) -> Result<Handle, Failure> {
    let project = invocation.project_of(pipeline)?;
    let mut endpoints = match &pipeline.connection.connector {
        Some(connector) => invocation.endpoints(&project, connector)?,
        None => Vec::new(),
    };
    // The pipeline's own calls first: they may override the template's method or path.
    let own: Vec<Endpoint> = pipeline.steps().map(|step| step.endpoint.clone()).collect();
    endpoints.retain(|endpoint| own.iter().all(|own| own.name != endpoint.name));
    endpoints.splice(0..0, own);
    let rules = stand_in::rules(&pipeline.connection, &endpoints, &pipeline.root)?;
    let store = store_of(pipeline);
    let options = Options { store: Some(store), remember: 0, ..Options::default() };
    let handle = Sandbox::start(rules, options).map_err(|mut failure| {
        if failure.class == Class::State {
            for diagnostic in &mut failure.diagnostics {
                diagnostic.help =
                    Some("wait until the other `--sandbox` run ends, or keep this one apart with `--state-dir DIR`".into());
            }
        }
        failure
    })?;
    stand_in::redirect(&mut pipeline.connection, &handle.url());
    for reconcile in pipeline.steps_mut().filter_map(|step| step.endpoint.reconcile.as_mut()) {
        // What is stored here can be seen at once.
        reconcile.after = std::time::Duration::ZERO;
    }
    Ok(handle)
}

/// Where the sandbox of a connection keeps its objects.
fn store_of(pipeline: &Pipeline) -> PathBuf {
    let name: String = pipeline
        .connection
        .name
        .chars()
        .map(|char| if char.is_ascii_alphanumeric() || char == '-' || char == '_' { char } else { '-' })
        .collect();
    pipeline.state_dir.join(TARGET).join("objects").join(name)
}
