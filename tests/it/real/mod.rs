//! The program against servers that are not ours. `tests/real/install` installs them; what is not there
//! is skipped with a line that says so.

mod auth;
mod couch;
mod json_server;
mod kinto;
mod prism;
mod server;
