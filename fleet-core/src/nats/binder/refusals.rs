//! What the store of states has refused lately, readable from other threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashSet;
use tokio::time::Instant;

use crate::ids::VehicleId;

/// A store that takes nothing for so long is of no use, whether it refuses or is away: that a server is away is
/// for the sinks to tell, at once.
const LONG: Duration = Duration::from_secs(60);

/// So many vehicles one after another and none that is taken: the store refuses them all.
const MANY: usize = 8;

/// Refused requests come again within a minute: without a refusal for so long they went to another worker.
const STALE: Duration = Duration::from_secs(150);

/// What is asked of a store. That it takes the one says nothing of the other.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    Claims,
    States,
}

/// What a binder could not do; counted and remembered until it can.
#[derive(Debug, Default)]
pub struct BinderCounters {
    /// Requests that were given back because the store failed to claim them.
    pub claims_failed: AtomicU64,
    /// Vehicles that were dropped because the store failed to save or release them, but not others.
    pub saves_failed: AtomicU64,
    troubles: Mutex<Troubles>,
}

#[derive(Debug, Default)]
struct Troubles {
    claims: Refused,
    states: Refused,
    /// Since when nothing was taken, of neither, and when that was seen last.
    nothing: Option<(Instant, Instant)>,
}

/// Vehicles that were refused since one was taken, of which [`MANY`] are remembered.
#[derive(Debug, Default)]
struct Refused {
    vehicles: HashSet<VehicleId>,
    last: Option<Instant>,
}

impl Refused {
    fn is_all(&self) -> bool {
        self.vehicles.len() >= MANY && self.last.is_some_and(|at| at.elapsed() < STALE)
    }
}

impl Troubles {
    fn of(&mut self, asked: Asked) -> &mut Refused {
        match asked {
            Asked::Claims => &mut self.claims,
            Asked::States => &mut self.states,
        }
    }

    fn nothing(&mut self, now: Instant) {
        let since = self.nothing.filter(|(_, last)| now - *last < STALE).map_or(now, |(since, _)| since);
        self.nothing = Some((since, now));
    }
}

impl BinderCounters {
    /// Whether the store as a whole takes no claims or no states: it has refused several vehicles one after
    /// another, or has taken nothing for a minute. That it refuses single vehicles is only counted.
    pub fn is_refused(&self) -> bool {
        let troubles = self.troubles();
        let long =
            troubles.nothing.is_some_and(|(since, last)| last.elapsed() < STALE && since.elapsed() > LONG);
        long || troubles.claims.is_all() || troubles.states.is_all()
    }

    fn troubles(&self) -> MutexGuard<'_, Troubles> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store has refused all of a group.
    pub(super) fn refused<'a>(&self, asked: Asked, vehicles: impl Iterator<Item = &'a VehicleId>) {
        let mut vehicles = vehicles.peekable();
        if vehicles.peek().is_none() {
            return;
        }
        let (mut troubles, now) = (self.troubles(), Instant::now());
        troubles.nothing(now);
        let refused = troubles.of(asked);
        if refused.last.replace(now).is_some_and(|last| now - last >= STALE) {
            refused.vehicles.clear();
        }
        for vehicle in vehicles {
            if refused.vehicles.len() < MANY {
                refused.vehicles.insert(vehicle.clone());
            }
        }
    }

    /// The store has given no answer.
    pub(super) fn away(&self) {
        self.troubles().nothing(Instant::now());
    }

    /// The store has taken some of a group.
    pub(super) fn taken(&self, asked: Asked) {
        let mut troubles = self.troubles();
        troubles.nothing = None;
        *troubles.of(asked) = Refused::default();
    }

    pub(super) fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vehicles(range: std::ops::Range<usize>) -> Vec<VehicleId> {
        range.map(|n| VehicleId::new(&format!("CAR-{n}")).unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_of_all_shows_until_something_is_taken() {
        let counters = BinderCounters::default();
        assert!(!counters.is_refused());
        counters.refused(Asked::Claims, vehicles(0..20).iter());
        assert!(counters.is_refused());
        counters.away();
        assert!(counters.is_refused(), "it is still not taken");
        counters.taken(Asked::States);
        assert!(counters.is_refused(), "states are, claims are not");
        counters.taken(Asked::Claims);
        assert!(!counters.is_refused());
        for one in vehicles(0..MANY) {
            assert!(!counters.is_refused());
            counters.refused(Asked::States, [one].iter());
        }
        assert!(counters.is_refused(), "one by one");
        tokio::time::sleep(STALE).await;
        assert!(!counters.is_refused(), "another worker has them");
        counters.refused(Asked::States, vehicles(0..1).iter());
        assert!(!counters.is_refused(), "that was long ago");
    }

    #[tokio::test(start_paused = true)]
    async fn one_vehicle_says_nothing_of_the_store() {
        let counters = BinderCounters::default();
        for second in 0..600 {
            counters.refused(Asked::Claims, vehicles(0..1).iter());
            counters.refused(Asked::Claims, [].iter());
            if second % 30 == 0 {
                counters.taken(Asked::States);
            }
            assert!(!counters.is_refused());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        // Unless nothing else is ever taken.
        for _ in 0..=60 {
            counters.refused(Asked::Claims, vehicles(0..1).iter());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(counters.is_refused());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_away_shows_after_a_minute() {
        let counters = BinderCounters::default();
        for _ in 0..=60 {
            counters.away();
            assert!(!counters.is_refused());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        counters.away();
        assert!(counters.is_refused());
    }
}
