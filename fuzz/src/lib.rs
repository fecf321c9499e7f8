//! What must hold for any bytes that a stranger sends. The fuzz targets hunt for a counterexample;
//! fleet-core's own tests include the same files and replay the committed corpus on stable Rust.

pub mod frame;
pub mod json;
