//! The library that stands in front of libc in the program under test (`tests/shim`): builds it,
//! gives it orders, reads its log.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::world::World;

static LIBRARY: OnceLock<PathBuf> = OnceLock::new();

/// Builds the library; without it nothing here can be tested, so a failure ends the test.
pub fn build() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Beside the other products, wherever those lie: target/debug/runner -> target/shim.
    let binary = Path::new(env!("CARGO_BIN_EXE_runner"));
    let target = binary.ancestors().nth(2).expect("a target folder").join("shim");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--offline", "--quiet", "--manifest-path"])
        .arg(root.join("tests/shim/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .env_remove("RUSTFLAGS")
        .status();
    let library = target.join("release/libshim.so");
    assert!(
        built.as_ref().is_ok_and(std::process::ExitStatus::success) && library.exists(),
        "tests/shim could not be built ({built:?}): the torture cases need it and were not run"
    );
    LIBRARY.get_or_init(|| library);
}

/// What the library is told.
#[derive(Default, Clone)]
pub struct Orders {
    pub kill: Option<String>,
    pub fail: Option<String>,
    pub short: Option<&'static str>,
    pub clock: Option<String>,
    /// The machine's boot id, if it is another one.
    pub boot: Option<&'static str>,
    pub log: bool,
    /// A pipe at which syncs wait once something was sent, until it is written to.
    pub hold: Option<PathBuf>,
    /// Syncs take their time, so that other things go on meanwhile.
    pub slow: bool,
}

impl Orders {
    /// Puts the library in front of a command.
    pub fn give(&self, world: &World, command: &mut Command) {
        command
            .env("LD_PRELOAD", LIBRARY.get().expect("it is built"))
            .env("SHIM_STATE", world.path(".runner"))
            .env("SHIM_CWD", world.path(""))
            // What a sync keeps is told by the log; a disk that is waited for tells nothing more.
            .env("SHIM_SYNC", "skip");
        if self.slow {
            command.env("SHIM_SYNC", "slow");
        }
        if let Some(pipe) = &self.hold {
            command.env("SHIM_SYNC", format!("hold:{}", pipe.display()));
        }
        if self.log {
            command.env("SHIM_LOG", log_of(world));
        }
        let orders = [
            ("SHIM_KILL", self.kill.as_deref()),
            ("SHIM_FAIL", self.fail.as_deref()),
            ("SHIM_SHORT", self.short),
            ("SHIM_CLOCK", self.clock.as_deref()),
        ];
        for (name, order) in orders {
            if let Some(order) = order {
                command.env(name, order);
            }
        }
        if let Some(boot) = self.boot {
            let path = world.path("boot_id");
            std::fs::write(&path, boot).expect("a boot id");
            command.env("SHIM_BOOT", path);
        }
    }
}

fn log_of(world: &World) -> PathBuf {
    world.path("shim.log")
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Open,
    Read,
    Write,
    Sync,
    Truncate,
    Rename,
    Unlink,
    Mkdir,
    Rmdir,
    Connect,
    Send,
    Receive,
    Synced,
}

const KINDS: [Kind; 13] = [
    Kind::Open,
    Kind::Read,
    Kind::Write,
    Kind::Sync,
    Kind::Truncate,
    Kind::Rename,
    Kind::Unlink,
    Kind::Mkdir,
    Kind::Rmdir,
    Kind::Connect,
    Kind::Send,
    Kind::Receive,
    Kind::Synced,
];

/// Kinds of calls that can be told to fail.
pub const FALLIBLE: [(Kind, &str); 8] = [
    (Kind::Open, "open"),
    (Kind::Read, "read"),
    (Kind::Write, "write"),
    (Kind::Sync, "sync"),
    (Kind::Truncate, "truncate"),
    (Kind::Rename, "rename"),
    (Kind::Unlink, "unlink"),
    (Kind::Mkdir, "mkdir"),
];

/// One call of the log.
pub struct Call {
    pub kind: Kind,
    /// It made a file that was not there.
    pub made: bool,
    /// It cut the file to nothing.
    pub cut: bool,
    /// It failed by order.
    pub failed: bool,
    pub process: u32,
    pub number: u64,
    pub result: i64,
    pub offset: i64,
    /// Below the watched folder.
    pub path: String,
    pub data: Vec<u8>,
}

/// All calls that were logged in a world, in their order. A last one that is torn was not made.
pub fn calls(world: &World) -> Vec<Call> {
    let bytes = std::fs::read(log_of(world)).unwrap_or_default();
    let mut rest = &bytes[..];
    let mut calls = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some(entry) = tail.get(..length) else { break };
        rest = &tail[length..];
        let whole = |at: usize| i64::from_le_bytes(entry[at..at + 8].try_into().expect("eight bytes"));
        let half = |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().expect("four bytes"));
        let behind_path = 34 + half(30) as usize;
        calls.push(Call {
            kind: KINDS[usize::from(entry[0]) - 1],
            made: entry[1] & 1 != 0,
            cut: entry[1] & 2 != 0,
            failed: entry[1] & 4 != 0,
            process: half(2),
            number: whole(6).cast_unsigned(),
            result: whole(14),
            offset: whole(22),
            path: String::from_utf8_lossy(&entry[34..behind_path]).into_owned(),
            data: entry[behind_path..].to_vec(),
        });
    }
    calls
}
