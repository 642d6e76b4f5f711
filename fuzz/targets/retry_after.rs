//! Fuzz target: see `src/fuzzing/retry_after.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runner::fuzzing::retry_after(data));
