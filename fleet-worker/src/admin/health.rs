//! Whether the program is alive and ready.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Without a beat for this long a part counts as hung.
const HUNG: Duration = Duration::from_secs(10);

/// The health of a program and its parts; all clones share it.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// By part, once it has begun to beat.
    beats: BTreeMap<String, Instant>,
    /// By condition, and then by part.
    conditions: BTreeMap<String, BTreeMap<String, bool>>,
}

/// A part of a program: a cell, a lane, or, without a name, all of it.
#[derive(Debug, Clone)]
pub struct Part {
    health: Health,
    name: String,
}

impl Health {
    /// Without a part alive, and without conditions ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// A part by its name, such as `cell 1`; it counts as alive until it has begun to beat and stops.
    pub fn part(&self, name: impl Into<String>) -> Part {
        Part { health: self.clone(), name: name.into() }
    }

    /// The parts whose loop has not turned lately, sorted.
    pub fn hung(&self) -> Vec<String> {
        self.hung_at(Instant::now())
    }

    /// The conditions that are not met, sorted, with the parts that are concerned unless all are.
    pub fn missing(&self) -> Vec<String> {
        let state = self.state();
        let missing = state.conditions.iter().filter_map(|(condition, parts)| {
            let unmet: Vec<&str> = parts.iter().filter(|(_, met)| !**met).map(|(part, _)| &**part).collect();
            match unmet.len() {
                0 => None,
                all if all == parts.len() => Some(condition.clone()),
                _ => Some(format!("{condition} ({})", unmet.join(", "))),
            }
        });
        missing.collect()
    }

    fn hung_at(&self, now: Instant) -> Vec<String> {
        let state = self.state();
        let is_hung = |beat: &Instant| now.saturating_duration_since(*beat) > HUNG;
        state.beats.iter().filter(|(_, beat)| is_hung(beat)).map(|(part, _)| part.clone()).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    /// Says whether a condition of being ready is met.
    pub fn set(&self, condition: &str, met: bool) {
        let mut state = self.health.state();
        let parts = match state.conditions.get_mut(condition) {
            Some(parts) => parts,
            None => state.conditions.entry(condition.to_owned()).or_default(),
        };
        match parts.get_mut(&self.name) {
            Some(was) => *was = met,
            None => drop(parts.insert(self.name.clone(), met)),
        }
    }

    /// The part's loop has turned.
    pub fn beat(&self) {
        let mut state = self.health.state();
        match state.beats.get_mut(&self.name) {
            Some(beat) => *beat = Instant::now(),
            None => drop(state.beats.insert(self.name.clone(), Instant::now())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alive_means_that_each_part_has_beaten_within_ten_seconds() {
        let health = Health::new();
        let (first, second) = (health.part("lane 0"), health.part("lane 1"));
        let after = |seconds| health.hung_at(Instant::now() + Duration::from_secs(seconds));
        assert!(after(11).is_empty(), "none has begun");
        first.beat();
        second.beat();
        assert!(after(9).is_empty());
        assert_eq!(after(11), ["lane 0", "lane 1"]);
        health.state().beats.insert("lane 1".to_owned(), Instant::now() + Duration::from_secs(5));
        assert_eq!(after(11), ["lane 0"]);
    }

    #[test]
    fn ready_means_every_condition() {
        let health = Health::new();
        let whole = health.part("");
        whole.set("sink", false);
        whole.set("queue", false);
        assert_eq!(health.missing(), ["queue", "sink"]);
        whole.set("queue", true);
        assert_eq!(health.missing(), ["sink"]);
    }

    #[test]
    fn the_parts_are_named_unless_all_are_concerned() {
        let health = Health::new();
        let cells = ["cell 0", "cell 1", "cell 2"].map(|name| health.part(name));
        cells.iter().for_each(|cell| cell.set("queue", false));
        assert_eq!(health.missing(), ["queue"]);
        cells[1].set("queue", true);
        assert_eq!(health.missing(), ["queue (cell 0, cell 2)"]);
        cells[0].set("sink", true);
        cells[2].set("queue", true);
        assert_eq!(health.missing(), ["queue (cell 0)"]);
    }
}
