//! Fuzz target: see `src/fuzzing/checkpoint.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runner::fuzzing::checkpoint(data));
