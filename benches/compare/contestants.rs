//! Who sends, and how each is started.

mod newman;
mod others;

use std::io;
use std::process::Command;

use crate::floor::{self, Client};
use crate::process::said;
use crate::project::{Input, Kind, Project, Setting};
use crate::target::Manner;

/// Somebody who sends the records of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contestant {
    Floor(Client),
    Runner,
    /// A loop over asyncio in Python.
    Aiohttp,
    /// A loop over promises in Node.
    Undici,
    /// Postman's runner, one request after the other.
    Newman,
}

pub const ALL: [Contestant; 6] = [
    Contestant::Floor(Client::Reqwest),
    Contestant::Floor(Client::Hyper),
    Contestant::Runner,
    Contestant::Aiohttp,
    Contestant::Undici,
    Contestant::Newman,
];

impl Contestant {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Floor(client) => client.name(),
            Self::Runner => "runner",
            Self::Aiohttp => "aiohttp",
            Self::Undici => "undici",
            Self::Newman => "newman",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        ALL.into_iter().find(|contestant| contestant.name() == name)
    }

    /// Whether it can do such a case at all: newman has one lane and sends one record in a call.
    pub fn sends(self, setting: Setting, manner: Manner) -> bool {
        self != Self::Newman || (setting.kind != Kind::Batch && manner.latency.is_zero())
    }

    /// How many records it gets, where others get `records`.
    pub fn share(self, records: u64) -> u64 {
        if self == Self::Newman { records.min(newman::MOST) } else { records }
    }

    /// What it is made of; why not, where it is not installed.
    pub fn version(self) -> Result<String, String> {
        let found = match self {
            Self::Floor(Client::Reqwest) => Some("reqwest and its features as in the program".to_owned()),
            Self::Floor(Client::Hyper) => Some("hyper, one connection for each lane".to_owned()),
            Self::Runner => said(Command::new(env!("CARGO_BIN_EXE_runner")).arg("--version")),
            Self::Aiohttp => others::aiohttp_version(),
            Self::Undici => others::undici_version(),
            Self::Newman => newman::version(),
        };
        found.ok_or_else(|| format!("{} is not installed: benches/compare/install", self.name()))
    }

    /// The command that sends `input` to `url`.
    pub fn command(
        self,
        project: &Project,
        setting: &Setting,
        input: &Input,
        url: &str,
    ) -> io::Result<Command> {
        let arguments = [
            setting.kind.name().to_owned(),
            input.path.to_string_lossy().into_owned(),
            url.to_owned(),
            setting.lanes.to_string(),
        ];
        let mut command = match self {
            Self::Runner => return Ok(project.apply(url)),
            Self::Newman => return newman::command(setting.kind, input, url),
            Self::Floor(client) => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args([floor::WORD, client.name()]);
                command
            }
            Self::Aiohttp => others::aiohttp(),
            Self::Undici => others::undici(),
        };
        command.args(arguments);
        Ok(command)
    }
}
