//! Whether the program is alive and ready.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Without a beat for this long the program counts as hung.
const HUNG: Duration = Duration::from_secs(10);

/// A handle that all clones share.
#[derive(Debug, Clone)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    beat: Instant,
    conditions: BTreeMap<String, bool>,
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// Alive as of now, and without conditions ready.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State { beat: Instant::now(), conditions: BTreeMap::new() })))
    }

    /// Adds a condition of being ready; it is unmet until [`Health::set`].
    pub fn condition(&self, name: &str) {
        self.state().conditions.entry(name.to_owned()).or_insert(false);
    }

    /// Says whether a condition is met.
    pub fn set(&self, name: &str, met: bool) {
        self.state().conditions.insert(name.to_owned(), met);
    }

    /// The main loop has turned.
    pub fn beat(&self) {
        self.state().beat = Instant::now();
    }

    /// Whether the main loop has turned lately.
    pub fn is_alive(&self) -> bool {
        self.alive_at(Instant::now())
    }

    /// The conditions that are not met, sorted.
    pub fn missing(&self) -> Vec<String> {
        let state = self.state();
        state.conditions.iter().filter(|(_, met)| !**met).map(|(name, _)| name.clone()).collect()
    }

    fn alive_at(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.state().beat) <= HUNG
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alive_means_a_beat_within_ten_seconds() {
        let health = Health::new();
        health.clone().beat();
        assert!(health.alive_at(Instant::now() + Duration::from_secs(9)));
        assert!(!health.alive_at(Instant::now() + Duration::from_secs(11)));
    }

    #[test]
    fn ready_means_every_condition() {
        let health = Health::new();
        health.condition("sink");
        health.condition("queue");
        assert_eq!(health.missing(), ["queue", "sink"]);
        health.set("queue", true);
        health.condition("queue");
        assert_eq!(health.missing(), ["sink"]);
    }
}
