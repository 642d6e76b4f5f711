//! What a team wrote, as checked values. Sends nothing and opens nothing but the project's own
//! YAML, schema and body files.
//!
//! Three phases: `read` turns YAML into nodes with places, `Raw*` types are what was written with
//! unknown keys refused, `resolve` makes the types of this module and collects every mistake.
//! Invariant: after resolving, no value in here can be wrong in itself.

mod auth;
mod auth_forms;
mod auth_settings;
mod base_url;
mod batch;
mod connection;
mod connector;
mod credential;
mod deletes;
mod delivery;
mod endpoint;
mod env;
mod files;
#[cfg(any(test, fuzzing))]
pub(crate) mod fixtures;
mod listing;
mod load;
mod lookups;
mod meaning;
pub mod needs;
mod pagination;
mod pipeline;
mod project;
mod published;
mod raw;
mod read;
mod secrets;
mod settings;
mod steps;
#[cfg(test)]
mod tests;
mod typed;
mod types;
mod values;
pub mod webhook;

pub use auth::{
    Auth, Claim, ClientProof, Field, Grant, Hmac, HmacAlgorithm, HmacEncoding, Jwt, JwtAlgorithm, OAuth2,
    SigV4, SignedPart, TimeForm, signing_key,
};
pub use base_url::is_refused_address;
pub use connector::is_framing;
pub use credential::{Carrier, Credential, CredentialPart};
pub use deletes::{Deletes, name_of as deletes_name};
pub use delivery::DeliveryOverrides;
pub use env::EnvFile;
pub use listing::Listing;
pub use load::{
    Checked, CheckedEndpoint, FileCounts, check_all, delivery_places, find_pipeline, load_connection,
    load_endpoint, load_pipeline, load_project,
};
pub use lookups::Lookup;
pub use pagination::{Pagination, Paging};
pub use project::{EndpointInfo, Inputs, Project};
pub use published::{KINDS, published_schema};
pub use types::*;
pub use values::{Wrong, concurrency, duration, percent, rate, size, status};
