//! The tests of fleet-core's public face, one binary.

mod layering;
