//! Stands between a program and libc (`LD_PRELOAD`), so that a test can choose what breaks.
//!
//! Calls on files below one folder and on sockets are numbered and noted in a log outside of that
//! folder. By order of the environment the process is killed just before or after one of them, one
//! of them fails, writes are short, or the wall clock is another one. The log holds all bytes
//! written and every sync, so that the disk can be made afterwards as a loss of power would have
//! left it (`tests/torture/disk.rs`). Only this crate of the project needs `unsafe`.
//!
//! Invariants: what a call did and its place in the log are one step (a lock is held), except for
//! syncs, which are noted when they begin and again when they are done. Nothing in here uses the
//! standard library's files, which would come back into these functions.
//!
//! | variable | what it does |
//! |---|---|
//! | `SHIM_STATE` | the folder that is watched, as an absolute path |
//! | `SHIM_LOG` | where the log is appended |
//! | `SHIM_KILL` | `before:N` or `after:N`: the process kills itself at the N-th call |
//! | `SHIM_FAIL` | `KIND:N:once:ERRNO` or `KIND:N:lasting:ERRNO`: the N-th call of a kind (`any`: of all) fails |
//! | `SHIM_SHORT` | `one`, `half` or `but-one`: so much of each write is taken |
//! | `SHIM_BOOT` | the file that is read as the machine's boot id |
//! | `SHIM_SYNC` | `skip`: a sync says that it was done, and is not; `slow`: it also takes three milliseconds for that; `hold:FIFO`: once something was sent, it waits for that until somebody writes to FIFO |
//! | `SHIM_CLOCK` | `N:SECONDS,…`: from the N-th call on, the wall clock is so much off |

mod calls;
mod control;
mod files;
mod log;
mod real;
