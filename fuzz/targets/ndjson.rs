//! Fuzz target: see `src/fuzzing/ndjson.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runner::fuzzing::ndjson(data));
