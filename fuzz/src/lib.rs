//! What must hold for any bytes that a stranger sends. The fuzz targets hunt for a counterexample;
//! the crates' own tests include the same files and replay the committed corpus on stable Rust.

pub mod bind_request;
pub mod config;
pub mod copy_encoder;
pub mod frame;
pub mod json;
pub mod senml_cbor;
pub mod senml_json;
pub mod subject;
pub mod worker_config;

/// The encoder is private to its crate, and needs no more of it than this file.
#[path = "../../fleet-sinks/src/timescale/encode.rs"]
#[allow(dead_code, reason = "some of it is for the sink")]
mod encode;
