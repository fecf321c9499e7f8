//! What stands for a subscription on the wire.

use std::fmt;

/// A subscription of one reader: a place that is used again once it is free, and how often it was before, by
/// which what still comes for an earlier one is told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sid(u64);

impl Sid {
    /// Subscriptions of a reader at most.
    pub const MAX: usize = 1 << Self::BITS;
    const BITS: u32 = 20;

    pub(super) fn new(index: usize, generation: u32) -> Self {
        Self(u64::from(generation) << Self::BITS | (index as u64 & (Self::MAX as u64 - 1)))
    }

    pub(in crate::nats) fn from_wire(number: u64) -> Self {
        Self(number)
    }

    /// Its place: small numbers without gaps, so that an index finds what belongs to it.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "20 bits")]
    pub fn index(self) -> usize {
        (self.0 & (Self::MAX as u64 - 1)) as usize
    }

    /// How often the place was used before; of a number that is none of ours it may be any.
    #[inline]
    pub(super) fn generation(self) -> u64 {
        self.0 >> Self::BITS
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
