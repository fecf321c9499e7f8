//! What must hold for any bytes that a stranger sends. The fuzz targets hunt for a counterexample;
//! the crates' own tests include the same files and replay the committed corpus on stable Rust.

pub mod bind_request;
pub mod config;
pub mod copy_encoder;
pub mod frame;
pub mod json;
pub mod nats_reader;
pub mod senml_cbor;
pub mod senml_json;
pub mod subject;
pub mod worker_config;

/// The encoder is private to its crate, and needs no more of it than this file.
#[path = "../../fleet-sinks/src/timescale/encode.rs"]
#[allow(dead_code, reason = "some of it is for the sink")]
mod encode;

use std::sync::LazyLock;

use fleet_core::Schema;
use fleet_core::schema::RecordsConfig;

/// A schema of one signal of the default's, by the payload's length: four times as many payloads in the
/// same time, and lengths change all the time.
pub fn schema_of_one(payload: &[u8]) -> &'static Schema {
    static EACH: LazyLock<Vec<Schema>> = LazyLock::new(|| {
        let all = RecordsConfig::default();
        let one = |signal| RecordsConfig { signal: vec![signal], ..RecordsConfig::default() };
        all.signal.into_iter().map(|signal| one(signal).build().expect("a part of the default")).collect()
    });
    &EACH[payload.len() % EACH.len()]
}
