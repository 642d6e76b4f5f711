//! Arguments in, exit code out.

use std::process::ExitCode;

/// Records are made on one thread and dropped on another, which the system's allocator does slowly.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    runner::cli::main(std::env::args_os())
}
