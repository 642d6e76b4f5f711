//! The far side of a command: the real one, or a stand-in inside this process.

use std::path::PathBuf;

use crate::cli::invocation::Invocation;
use crate::config::{Connection, Endpoint, Pipeline};
use crate::engine::stand_in;
use crate::model::{Class, Failure};
use crate::sandbox::{Handle, Options, Sandbox};

/// The name of the sandbox's target.
pub const TARGET: &str = stand_in::SANDBOX;

/// Starts a stand-in for each connection of a pipeline and points the pipeline at it. It stops when the
/// handle is dropped; its objects are kept, so that an interrupted run goes on.
pub fn stand_in(invocation: &Invocation<'_>, pipeline: &mut Pipeline) -> Result<Vec<Handle>, Failure> {
    let mut listing = pipeline.listing.take();
    let is_one = listing.as_ref().is_none_or(|listing| listing.connection.name == pipeline.connection.name);
    // The pipeline's own calls first: they may override the template's method or path.
    let mut own = vec![pipeline.endpoint.clone()];
    own.extend(listing.iter().filter(|_| is_one).map(|listing| listing.endpoint.clone()));
    let mut handles = vec![start(invocation, pipeline, &pipeline.connection, own)?];
    if let Some(listing) = &mut listing {
        if !is_one {
            let own = vec![listing.endpoint.clone()];
            handles.push(start(invocation, pipeline, &listing.connection, own)?);
        }
        if let Some(handle) = handles.last() {
            stand_in::redirect(&mut listing.connection, &handle.url());
        }
        // Nobody has to be spared there.
        listing.connection.limits.rate = None;
    }
    if let Some(handle) = handles.first() {
        stand_in::redirect(&mut pipeline.connection, &handle.url());
    }
    pipeline.listing = listing;
    if let Some(reconcile) = &mut pipeline.endpoint.reconcile {
        // What is stored here can be seen at once.
        reconcile.after = std::time::Duration::ZERO;
    }
    Ok(handles)
}

/// Starts a stand-in for a connection: `own` endpoints, and those of its connector.
fn start(
    invocation: &Invocation<'_>,
    pipeline: &Pipeline,
    connection: &Connection,
    mut own: Vec<Endpoint>,
) -> Result<Handle, Failure> {
    let project = invocation.project_of(pipeline)?;
    if let Some(connector) = &connection.connector {
        let mut others = invocation.endpoints(&project, connector)?;
        others.retain(|other| !own.iter().any(|own| own.name == other.name));
        own.extend(others);
    }
    let rules = stand_in::rules(connection, &own, &pipeline.root)?;
    let store = store_of(pipeline, connection);
    let options = Options { store: Some(store), remember: 0, ..Options::default() };
    Sandbox::start(rules, options).map_err(|mut failure| {
        if failure.class == Class::State {
            for diagnostic in &mut failure.diagnostics {
                diagnostic.help =
                    Some("wait until the other `--sandbox` run ends, or keep this one apart with `--state-dir DIR`".into());
            }
        }
        failure
    })
}

/// Where the sandbox of a connection keeps its objects.
fn store_of(pipeline: &Pipeline, connection: &Connection) -> PathBuf {
    let name: String = connection
        .name
        .chars()
        .map(|char| if char.is_ascii_alphanumeric() || char == '-' || char == '_' { char } else { '-' })
        .collect();
    pipeline.state_dir.join(TARGET).join("objects").join(name)
}
