//! The wiring, with the real binary, real sockets and real files. A module per feature a user sees.

mod apply;
mod kill;
mod oracle;
mod order;
mod outcomes;
mod resume;
mod signals;
mod world;
