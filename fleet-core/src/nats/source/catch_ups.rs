//! Which vehicles are being caught up, and since when the oldest of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::attachments::Ticket;

/// How many vehicles are being caught up, readable from other threads.
#[derive(Debug)]
pub struct CatchingUp {
    origin: Instant,
    vehicles: AtomicU64,
    /// Milliseconds after the origin; all ones is none.
    oldest: AtomicU64,
}

impl Default for CatchingUp {
    fn default() -> Self {
        Self { origin: Instant::now(), vehicles: AtomicU64::new(0), oldest: AtomicU64::new(u64::MAX) }
    }
}

impl CatchingUp {
    /// How many vehicles are being caught up.
    pub fn vehicles(&self) -> u64 {
        self.vehicles.load(Ordering::Relaxed)
    }

    /// How long the one that has waited longest has waited for the end of its catch-up. One that is caught up again
    /// and again because it sends too much waits anew each time.
    pub fn oldest(&self) -> Duration {
        match self.oldest.load(Ordering::Relaxed) {
            u64::MAX => Duration::ZERO,
            since => self.origin.elapsed().saturating_sub(Duration::from_millis(since)),
        }
    }
}

/// Those that are being caught up.
#[derive(Debug, Default)]
pub(super) struct CatchUps {
    begun: BTreeSet<(Instant, Ticket)>,
    told: Arc<CatchingUp>,
}

impl CatchUps {
    pub(super) fn new(told: Arc<CatchingUp>) -> Self {
        Self { begun: BTreeSet::new(), told }
    }

    /// The catch-up of a vehicle begins, or goes on to another fence; when it began before, if it did.
    pub(super) fn begin(&mut self, ticket: Ticket, since: &mut Option<Instant>) {
        let now = Instant::now();
        if let Some(before) = since.replace(now) {
            self.begun.remove(&(before, ticket));
        }
        self.begun.insert((now, ticket));
        self.tell();
    }

    /// It is at its end, or its vehicle is detached.
    pub(super) fn end(&mut self, ticket: Ticket, since: &mut Option<Instant>) {
        if let Some(before) = since.take() {
            self.begun.remove(&(before, ticket));
            self.tell();
        }
    }

    fn tell(&self) {
        let oldest = self.begun.first().map(|(since, _)| since.duration_since(self.told.origin));
        let oldest =
            oldest.map_or(u64::MAX, |oldest| u64::try_from(oldest.as_millis()).unwrap_or(u64::MAX - 1));
        self.told.vehicles.store(self.begun.len() as u64, Ordering::Relaxed);
        self.told.oldest.store(oldest, Ordering::Relaxed);
    }
}
