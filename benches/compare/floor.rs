//! The floor: the same file, the same JSON, the same lanes, and nothing noted.
//!
//! It is what any program has to pay that sends these records, once with the client that the program uses
//! and once with what lies below that: no schema, no checkpoint, no outcome. Both run on one thread.

mod bodies;
mod hyper_lanes;
mod reqwest_lanes;

use std::io;

use crate::project::Kind;
use bodies::Calls;

/// The word that makes this executable a floor: it is measured as a process of its own.
pub const WORD: &str = "--floor";

/// With which client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    Reqwest,
    Hyper,
}

impl Client {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reqwest => "reqwest",
            Self::Hyper => "hyper",
        }
    }
}

pub fn main(arguments: &[String]) -> io::Result<()> {
    let [client, kind, input, url, lanes] = arguments else {
        return Err(io::Error::other("the floor wants CLIENT KIND FILE URL LANES"));
    };
    let kind = Kind::named(kind).ok_or_else(|| io::Error::other("an unknown kind of calls"))?;
    let lanes = lanes.parse().map_err(io::Error::other)?;
    let calls = Calls::open(kind, input)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        if client == Client::Reqwest.name() {
            reqwest_lanes::send(calls, url, lanes).await
        } else {
            hyper_lanes::send(calls, url, lanes).await
        }
    })
}
