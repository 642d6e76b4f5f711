//! The embedded stand-in of an API: `apply --sandbox` talks to it, `runner sandbox` serves it,
//! and the project's own tests break it on purpose.
//!
//! It is data and closures on one side (`rules`), a small HTTP/1.1 server on the other (`server`,
//! `proto`, `wire`), with what requests mean (`api`, `forms`, `world`), objects (`store`) and a journal of all that
//! came (`journal`) in between. A `script` answers instead, rule by rule; its text form is
//! described there. Invariants: it listens on loopback only; a request that was read completely is
//! in the journal before its effect is stored and before its answer begins.
//!
//! Objects: POST on a collection path stores body + `id` (201). GET, PUT, PATCH and DELETE on a
//! path with an id act on that object: PUT sets the fields given, PATCH merges (RFC 7396), 404
//! where it is not there. Where no route makes objects by POST, PUT and PATCH make what they name.
//! Whatever a route writes can be read by GET, one by one and as a list, without a route for it;
//! a list is filtered by the query, and cut by `page` and `items_per_page`. A path that ends in a
//! word and takes no POST is one object without an id.

mod api;
mod forms;
mod journal;
mod json;
mod parse;
mod proto;
mod rules;
mod script;
mod server;
mod store;
#[cfg(test)]
mod tests;
mod wire;
mod world;

pub use journal::{Seen, Tally, read_journal};
pub use rules::{
    AuthCheck, BatchReplyMaker, BatchRoute, CheckBody, ErrorMaker, ItemResult, Knock, Object, PathPattern,
    ReplyMaker, RequestView, Route, Rules, ScriptedReply, SecretNames, TOKEN_PATH, TokenMaker,
};
pub use script::Script;
pub use server::{Bodies, Handle, Options, Sandbox, Unknown};
