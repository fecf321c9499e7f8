//! Rows of samples: the invariant and the laws.

mod carry;
mod fingerprint;
mod harness;
mod invariant;
mod laws;
