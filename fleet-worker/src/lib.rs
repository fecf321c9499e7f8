//! The programs of fleet: worker, discovery, simulator and demo in one binary, and the local servers
//! that the demo and every crate's tests run against.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod deployment;
pub mod exit;
pub mod lanes;
pub mod live;
pub mod local;
pub mod logging;
pub mod metrics;
pub mod simulate;
pub mod terminal;
pub mod verify;
