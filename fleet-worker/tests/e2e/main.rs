//! The whole path against real servers, which each test starts itself.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod alerts;
mod archive;
mod bindings;
mod browser;
mod ca;
mod cells;
mod claims;
mod clocks;
mod demo;
mod discovery;
mod erase;
mod failures;
mod floods;
mod gets;
mod ghosts;
mod handing_over;
mod lanes;
mod letters;
mod live;
mod lost_stream;
mod misconfigured;
mod mqtt;
mod permissions;
mod poisoned;
mod publishing;
mod pulls;
mod reader;
mod recordings;
mod refusals;
mod replay;
mod replicas;
mod retire;
#[path = "../../../fleet-sinks/tests/parquet/s3.rs"]
mod s3;
mod schemas;
mod sensor_c;
mod setups;
mod signals;
mod simulation;
mod source;
mod storage;
mod sweeps;
mod times;
mod world;
