//! Outcome files (placeholder header, written with the engine).
