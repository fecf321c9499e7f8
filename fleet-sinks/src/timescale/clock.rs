//! The server's clock, as it was told once and goes on by ours, which nobody sets.

use std::time::Duration;

use fleet_core::time::{Micros, micros};
use tokio::time::Instant;

/// What the server's clock said, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerTime {
    asked: Instant,
    then: Micros,
}

impl ServerTime {
    /// The server has just said that it is this time.
    pub(super) fn new(now: Micros) -> Self {
        Self { asked: Instant::now(), then: now }
    }

    /// The time now.
    pub(super) fn now(&self) -> Micros {
        self.then.saturating_add(micros(self.age()))
    }

    /// How long ago it was told.
    pub(super) fn age(&self) -> Duration {
        self.asked.elapsed()
    }
}
