//! Fuzz target: see `src/fuzzing/schema.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runner::fuzzing::schema(data));
