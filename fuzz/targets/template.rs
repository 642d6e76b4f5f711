//! Fuzz target: see `src/fuzzing/template.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runner::fuzzing::template(data));
