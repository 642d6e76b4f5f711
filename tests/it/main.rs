//! The wiring, with the real binary, real sockets and real files. A module per feature a user sees.

mod apply;
mod audit;
mod bad;
mod batch;
mod budget;
mod copies;
mod docs;
mod examples;
mod explain;
mod formats;
mod hints;
mod kill;
mod look;
mod manifest;
mod oracle;
mod order;
mod outcomes;
mod project;
mod reconcile;
mod resolve;
mod resume;
mod security;
mod signals;
mod table;
mod validate;
mod world;
