//! The wiring, with the real binary, real sockets and real files. A module per feature a user sees.

mod apply;
mod bad;
mod docs;
mod world;
