//! The server's clock as seen from here.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::time::Micros;

/// Estimates the server's clock from fences: when we sent one, and when it was stored. Clones share
/// the estimate.
#[derive(Debug, Clone, Default)]
pub struct ServerClock {
    offset: Arc<AtomicI64>,
}

impl ServerClock {
    /// The server's time now, as far as we know: this machine's until a fence was seen.
    pub fn now(&self) -> Micros {
        local().saturating_add(self.offset.load(Ordering::Relaxed))
    }

    /// Takes note that what was sent between these two local times was stored at `stored`.
    pub(super) fn observe(&self, before: Micros, after: Micros, stored: Micros) {
        let middle = before + (after - before) / 2;
        self.offset.store(stored.saturating_sub(middle), Ordering::Relaxed);
    }
}

/// This machine's clock; the only place in the crate that reads it.
#[allow(clippy::disallowed_methods, reason = "the edge to NATS needs the time once")]
pub(super) fn local() -> Micros {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
