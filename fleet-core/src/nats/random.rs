//! Numbers that nobody can guess.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Another number each time: the standard library keys each hasher anew, from the system's randomness.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
