//! Fuzz target: see `src/fuzzing/yaml.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runner::fuzzing::yaml(data));
