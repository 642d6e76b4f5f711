//! The simulation: `world` runs the scheduler, `servers` are what it sends to, `scenarios` name them.

pub mod scenarios;
pub mod servers;
pub mod world;
