//! The far side of a command: the real one, or a stand-in inside this process.

use std::path::PathBuf;

use crate::cli::invocation::Invocation;
use crate::config::{Connection, Endpoint, Listing, Pipeline};
use crate::engine::stand_in;
use crate::model::{Class, Failure};
use crate::sandbox::{Handle, Options, Sandbox};

/// The name of the sandbox's target.
pub const TARGET: &str = stand_in::SANDBOX;

/// Starts a stand-in for each connection of a pipeline and points the pipeline at it. It stops when the
/// handle is dropped; its objects are kept, so that an interrupted run goes on.
pub fn stand_in(invocation: &Invocation<'_>, pipeline: &mut Pipeline) -> Result<Vec<Handle>, Failure> {
    let mut listing = pipeline.listing.take();
    let mut lookups = std::mem::take(&mut pipeline.lookups);
    let tables = lookups.iter_mut().filter_map(|lookup| lookup.listing.as_mut());
    let mut lists: Vec<&mut Box<Listing>> = listing.iter_mut().chain(tables).collect();
    // The pipeline's own calls first: they may override the template's method or path.
    let mut wanted = vec![(
        pipeline.connection.clone(),
        pipeline.steps().map(|step| step.endpoint.clone()).collect::<Vec<_>>(),
    )];
    for list in &lists {
        match wanted.iter_mut().find(|(connection, _)| connection.name == list.connection.name) {
            Some((_, endpoints)) => endpoints.push(list.endpoint.clone()),
            None => wanted.push((list.connection.clone(), vec![list.endpoint.clone()])),
        }
    }
    let mut handles = Vec::with_capacity(wanted.len());
    for (connection, own) in wanted {
        let handle = start(invocation, pipeline, &connection, own)?;
        for list in lists.iter_mut().filter(|list| list.connection.name == connection.name) {
            stand_in::redirect(&mut list.connection, &handle.url());
            // Nobody has to be spared there.
            list.connection.limits.rate = None;
        }
        if pipeline.connection.name == connection.name {
            stand_in::redirect(&mut pipeline.connection, &handle.url());
        }
        handles.push(handle);
    }
    pipeline.listing = listing;
    pipeline.lookups = lookups;
    for reconcile in pipeline.steps_mut().filter_map(|step| step.endpoint.reconcile.as_mut()) {
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
