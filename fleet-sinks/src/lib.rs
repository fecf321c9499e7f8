//! Where fleet-core's records go, each kind of sink behind a feature of its name.

#[cfg(feature = "timescale")]
pub mod timescale;
