//! The life of a held vehicle from its `off` to its release.

use std::time::Duration;

use tokio::time::Instant;

use super::{Counters, Pipeline};
use crate::bind::{Binder, Binding};
use crate::ids::Slot;
use crate::source::Source;
use crate::time::Micros;

/// Where a vehicle is in its life with us.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Phase {
    /// It is on.
    On,
    /// It is off since then (server time); its samples are waited for, since each sensor is its own
    /// client and `off` overtakes samples.
    Ending { ended_at: Micros, since: Instant },
    /// The source makes certain that all that is stored was delivered.
    Settling { ended_at: Micros },
    /// Its last rows are on their way; it is released once the batch is durable.
    Finishing { ended_at: Micros, batch: Option<u64> },
    /// The binder gives it back. It may keep it for an `on` that it has found, after which the source has
    /// told of an `off` (server time) that counts then.
    Releasing { off: Option<Micros> },
}

/// What the driver keeps of a vehicle.
#[derive(Debug)]
pub(super) struct Held {
    pub phase: Phase,
    /// Server time of the last message or `on`.
    pub last_sign: Micros,
    /// When it was heard of last: no clock that is set makes it silent.
    pub heard: Instant,
    /// A frame's counter has jumped, and the grace runs.
    pub jumped: bool,
    /// Messages since this server time were left to the stream.
    pub missed: Option<Micros>,
    /// Whether it was said that its clock is wrong.
    pub clock_told: bool,
    /// No sample of it was ever heard of: since when, once it was caught up.
    pub silent: Option<Option<Instant>>,
}

impl Held {
    pub(super) fn new(now: Micros, heard: Instant, binding: &Binding) -> Self {
        let known = binding.floor.is_some() || binding.horizon.iter().any(Option::is_some);
        Self {
            phase: Phase::On,
            last_sign: now,
            heard,
            jumped: false,
            missed: None,
            clock_told: false,
            silent: (!known).then_some(None),
        }
    }

    /// Whether it has been silent for as long as that.
    fn gives_way(&self, instant: Instant, after: Duration) -> bool {
        self.silent.flatten().is_some_and(|since| instant - since >= after)
    }

    pub(super) fn miss(&mut self, arrival: Micros) {
        self.missed = Some(self.missed.map_or(arrival, |m| m.min(arrival)));
    }
}

impl<S: Source, B: Binder> Pipeline<S, B> {
    pub(super) fn on_off(&mut self, slot: Slot, stored: Micros) {
        let Some(held) = self.held_mut(slot) else { return };
        match &mut held.phase {
            Phase::On => held.phase = Phase::Ending { ended_at: stored, since: Instant::now() },
            Phase::Releasing { off } => *off = Some(stored),
            Phase::Ending { .. } | Phase::Settling { .. } | Phase::Finishing { .. } => {}
        }
    }

    /// The binder has kept it for a new trip, which may be over already.
    pub(super) fn on_kept(&mut self, slot: Slot) {
        let Some(held) = self.held_mut(slot) else { return };
        held.phase = match held.phase {
            Phase::Releasing { off: Some(ended_at) } => Phase::Ending { ended_at, since: Instant::now() },
            _ => Phase::On,
        };
    }

    /// On again before the release: a new trip. A release that is under way finds the `on` itself.
    pub(super) fn on_again(&mut self, slot: Slot, started_at: Micros) {
        let Some(held) = self.held_mut(slot) else { return };
        let ended_at = match held.phase {
            Phase::Ending { ended_at, .. }
            | Phase::Settling { ended_at }
            | Phase::Finishing { ended_at, .. } => ended_at,
            Phase::Releasing { .. } => return held.phase = Phase::Releasing { off: None },
            Phase::On => return,
        };
        held.phase = Phase::On;
        if let Some(vehicle) = self.lane.name(slot).cloned() {
            self.binder.next_trip(vehicle, ended_at, started_at);
        }
    }

    pub(super) fn on_settled(&mut self, slot: Slot) {
        let Some(held) = self.held_mut(slot) else { return };
        let Phase::Settling { ended_at } = held.phase else { return };
        if held.missed.is_some() {
            // What settled never reached the heart.
            held.phase = Phase::Ending { ended_at, since: Instant::now() };
            return;
        }
        held.phase = Phase::Finishing { ended_at, batch: None };
        self.lane.finish(slot);
        self.urgent = true;
    }

    /// Moves on every vehicle whose time has come.
    pub(super) fn advance_phases(&mut self, instant: Instant) {
        let idle = self.options.idle_timeout;
        // Where others may be waiting for a place, those who don't use theirs have it for a shorter time.
        let full = self.free() == 0;
        let silent = self.options.first_sample_timeout / if full { 8 } else { 1 };
        let (mut settle, mut given_way) = (Vec::new(), 0);
        self.silent = 0;
        for slot in self.lane.slots() {
            let patience = self.options.patience;
            let Some(held) = self.held.get_mut(slot.index()).and_then(Option::as_mut) else { continue };
            self.silent += usize::from(held.silent.is_some());
            match held.phase {
                Phase::On if held.gives_way(instant, silent) => {
                    // One that is kept for a new trip has its time again.
                    held.silent = Some(Some(instant));
                    let ended_at = held.last_sign;
                    held.phase = Phase::Settling { ended_at };
                    settle.push(slot);
                    given_way += 1;
                }
                Phase::On if instant - held.heard >= idle => {
                    let ended_at = held.last_sign;
                    held.phase = Phase::Settling { ended_at };
                    settle.push(slot);
                }
                Phase::Ending { ended_at, since } if instant - since >= patience && held.missed.is_none() => {
                    held.phase = Phase::Settling { ended_at };
                    settle.push(slot);
                }
                _ => {}
            }
        }
        for slot in settle {
            self.source.settle(slot);
        }
        if given_way > 0 {
            Counters::add(&self.counters.without_sample, given_way);
            tracing::info!(vehicles = given_way, "never sent a sample, give way");
        }
    }
}
