//! Fuzz target: see `src/fuzzing/path.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runner::fuzzing::path(data));
