//! Loops in other languages, whose libraries `benches/compare/install` installs.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::said;

/// What is installed lies here.
pub fn installed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".real/compare").join(name)
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/compare").join(name)
}

pub fn aiohttp() -> Command {
    let mut command = Command::new(installed("py/bin/python"));
    command.arg(script("aiohttp_loop.py"));
    command
}

pub fn aiohttp_version() -> Option<String> {
    let ask =
        "import sys, aiohttp; print('aiohttp', aiohttp.__version__, 'on Python', sys.version.split()[0])";
    said(Command::new(installed("py/bin/python")).args(["-c", ask]))
}

pub fn undici() -> Command {
    let mut command = Command::new("node");
    command.arg(script("undici_loop.mjs")).env("NODE_MODULES", modules());
    command
}

pub fn undici_version() -> Option<String> {
    node_package("undici")
}

/// Name, version and what it runs on, of a package that is installed.
pub fn node_package(name: &str) -> Option<String> {
    let file = modules().join(name).join("package.json");
    let ask =
        "const p = require(process.argv[1]); console.log(p.name, p.version, 'on Node', process.version)";
    said(Command::new("node").args(["-e", ask]).arg(file))
}

pub fn modules() -> PathBuf {
    installed("node/node_modules")
}
