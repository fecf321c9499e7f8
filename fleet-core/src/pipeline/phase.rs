//! The life of a held vehicle from its `off` to its release.

use super::held::{Elapsed, Phase};
use super::{Counters, Pipeline};
use crate::bind::Binder;
use crate::ids::Slot;
use crate::source::Source;
use crate::time::{Micros, micros};

impl<S: Source, B: Binder> Pipeline<S, B> {
    pub(super) fn on_off(&mut self, slot: Slot, stored: Micros) {
        let since = self.elapsed();
        let next = match self.held.at(slot).map(|held| held.phase()) {
            Some(Phase::On) => Phase::Ending { ended_at: stored, since },
            Some(Phase::Releasing { .. }) => Phase::Releasing { off: Some(stored) },
            _ => return,
        };
        self.held.enter(slot, next);
    }

    /// The binder has kept it for a new trip, which may be over already.
    pub(super) fn on_kept(&mut self, slot: Slot) {
        let since = self.elapsed();
        let next = match self.held.at(slot).map(|held| held.phase()) {
            Some(Phase::Releasing { off: Some(ended_at) }) => Phase::Ending { ended_at, since },
            _ => Phase::On,
        };
        self.held.enter(slot, next);
    }

    /// On again before the release: a new trip. A release that is under way finds the `on` itself.
    pub(super) fn on_again(&mut self, slot: Slot, started_at: Micros) {
        let ended_at = match self.held.at(slot).map(|held| held.phase()) {
            Some(
                Phase::Ending { ended_at, .. }
                | Phase::Settling { ended_at }
                | Phase::Finishing { ended_at, .. },
            ) => ended_at,
            Some(Phase::Releasing { .. }) => return self.held.enter(slot, Phase::Releasing { off: None }),
            Some(Phase::On) | None => return,
        };
        self.held.enter(slot, Phase::On);
        if let Some(vehicle) = self.lane.name(slot).cloned() {
            self.binder.next_trip(vehicle, ended_at, started_at);
        }
    }

    pub(super) fn on_settled(&mut self, slot: Slot) {
        let since = self.elapsed();
        let Some(held) = self.held.at(slot) else { return };
        let Phase::Settling { ended_at } = held.phase() else { return };
        if held.has_missed() {
            // What settled never reached the heart.
            return self.held.enter(slot, Phase::Ending { ended_at, since });
        }
        self.held.enter(slot, Phase::Finishing { ended_at, batch: None });
        self.lane.finish(slot);
    }

    /// Moves on every vehicle whose time has come.
    pub(super) fn advance_phases(&mut self, now: Elapsed) {
        // Where others may be waiting for a place, those who don't use theirs have it for a shorter time.
        let full = self.free() == 0;
        let ended = self.held.end(now, micros(self.options.first_sample_timeout / if full { 8 } else { 1 }));
        for slot in ended.slots {
            self.source.settle(slot);
        }
        if ended.without_sample > 0 {
            Counters::add(&self.counters.without_sample, ended.without_sample);
            tracing::info!(vehicles = ended.without_sample, "never sent a sample, give way");
        }
    }
}
