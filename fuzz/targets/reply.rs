//! Fuzz target: see `src/fuzzing/reply.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runner::fuzzing::reply(data));
