//! The wiring, with the real binary, real sockets and real files. A module per feature a user sees.

mod apply;
mod audit;
mod bad;
mod budget;
mod docs;
mod hints;
mod kill;
mod look;
mod manifest;
mod oracle;
mod order;
mod outcomes;
mod project;
mod resolve;
mod resume;
mod signals;
mod validate;
mod world;
