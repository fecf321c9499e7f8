//! Where fleet-core's records go, each kind of sink behind a feature of its name.

#[cfg(feature = "parquet")]
pub mod parquet;
#[cfg(feature = "timescale")]
pub mod timescale;
