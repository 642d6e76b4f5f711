//! Fuzz target: see `src/fuzzing/csv.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runner::fuzzing::csv(data));
