//! Rows of samples: the invariant and the laws.

mod fingerprint;
mod harness;
mod invariant;
mod laws;
