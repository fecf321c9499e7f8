//! What the store of states has refused lately, readable from other threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, ErrorKind};

/// A server that is away is for the sinks to tell; one that is not, and takes no state for so long, is not.
const AWAY: Duration = Duration::from_secs(60);

/// Refused requests come again within a minute: without a refusal for so long they went to another worker.
const STALE: Duration = Duration::from_secs(150);

/// What a binder could not do; counted and remembered until it can.
#[derive(Debug, Default)]
pub struct BinderCounters {
    /// Requests that were given back because the store failed to claim them.
    pub claims_failed: AtomicU64,
    /// Vehicles that were dropped because the store failed to save or release them, but not others.
    pub saves_failed: AtomicU64,
    trouble: Mutex<Option<Trouble>>,
}

#[derive(Debug, Clone, Copy)]
struct Trouble {
    since: Instant,
    last: Instant,
    refused: bool,
}

impl BinderCounters {
    /// Whether the store has refused the last claim or state that it was given, or has not been able to take
    /// any for a minute.
    pub fn is_refused(&self) -> bool {
        let trouble = *self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.is_some_and(|t| t.last.elapsed() < STALE && (t.refused || t.since.elapsed() > AWAY))
    }

    pub(super) fn failed(&self, error: &Error) {
        let refused = error.kind() != ErrorKind::Unavailable;
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let last = trouble.filter(|t| t.last.elapsed() < STALE);
        let since = last.map_or(now, |t| t.since);
        *trouble = Some(Trouble { since, last: now, refused: refused || last.is_some_and(|t| t.refused) });
    }

    pub(super) fn succeeded(&self) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refusal_shows_until_something_is_taken() {
        let counters = BinderCounters::default();
        assert!(!counters.is_refused());
        counters.failed(&Error::internal("refused"));
        assert!(counters.is_refused());
        counters.failed(&Error::unavailable("and away"));
        assert!(counters.is_refused(), "it is still not taken");
        counters.succeeded();
        assert!(!counters.is_refused());
        counters.failed(&Error::internal("refused"));
        tokio::time::sleep(STALE).await;
        assert!(!counters.is_refused(), "another worker has it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_away_shows_after_a_minute() {
        let counters = BinderCounters::default();
        for _ in 0..=60 {
            counters.failed(&Error::unavailable("away"));
            assert!(!counters.is_refused());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        counters.failed(&Error::unavailable("away"));
        assert!(counters.is_refused());
    }
}
