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

    pub(super) fn count(&self) -> usize {
        self.begun.len()
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

#[cfg(test)]
mod tests {
    use super::super::attachments::Attachments;
    use super::super::vehicle::Attached;
    use super::*;
    use crate::ids::{Slot, VehicleId};
    use crate::source::Attach;

    fn tickets() -> [Ticket; 3] {
        let mut all = Attachments::default();
        [0, 1, 2].map(|slot| {
            let (slot, vehicle) = (Slot(slot), VehicleId::new("V").unwrap());
            let attach = Attach { slot, vehicle, from: 0, taken: None, on_time: 0, stored_at: None };
            all.attach(slot, Attached::new(attach, 1))
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_is_the_one_that_has_waited_longest() {
        let told = Arc::new(CatchingUp::default());
        let mut catch_ups = CatchUps::new(Arc::clone(&told));
        let ([a, b, c], mut since) = (tickets(), [None; 3]);
        let seen = || (told.vehicles(), told.oldest().as_secs());
        let second = || tokio::time::advance(Duration::from_secs(1));
        assert_eq!(seen(), (0, 0));
        catch_ups.begin(a, &mut since[0]);
        second().await;
        catch_ups.begin(b, &mut since[1]);
        catch_ups.begin(c, &mut since[2]);
        second().await;
        assert_eq!(seen(), (3, 2));
        // It goes on to another fence.
        catch_ups.begin(a, &mut since[0]);
        assert_eq!(seen(), (3, 1));
        for _ in 0..2 {
            catch_ups.end(b, &mut since[1]);
            assert_eq!(seen(), (2, 1));
        }
        catch_ups.end(c, &mut since[2]);
        second().await;
        assert_eq!(seen(), (1, 1));
        catch_ups.end(a, &mut since[0]);
        second().await;
        assert_eq!((seen(), since), ((0, 0), [None; 3]));
    }
}
