//! The tests of fleet-core's public face, one binary.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod align;
mod compare;
mod fuzz_corpus;
mod giving_way;
mod hostile;
mod layering;
mod newest;
mod outage;
mod senml;
mod simulation;
mod wire_format;
