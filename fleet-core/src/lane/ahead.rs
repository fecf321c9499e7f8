//! Messages and ticks of many vehicles: what is kept of these lies far apart in memory, and is fetched
//! ahead, a level of pointers at a time.

use prefetch_index::prefetch_index;

use super::Lane;
use super::vehicle::Vehicle;
use crate::ids::{SignalIndex, Slot};
use crate::message::{Message, Topic};
use crate::time::Micros;

/// How many items lie between two levels of one: enough for memory to answer.
const AHEAD: usize = 8;

/// The vehicle, its rings, their samples.
const LEVELS: usize = 3;

/// The item that has come to a level by a step, if there is one.
fn at<T>(items: &[T], step: usize, level: usize) -> Option<&T> {
    step.checked_sub(level * AHEAD).and_then(|place| items.get(place))
}

impl Lane {
    /// Takes messages of bound vehicles in their order, each as [`message`](Self::message) does, and
    /// quicker than one by one.
    pub fn messages(&mut self, messages: &[Message]) {
        for step in 0..messages.len() + LEVELS * AHEAD {
            if let Some(message) = at(messages, step, 0) {
                prefetch_index(&self.vehicles, message.slot.index());
            }
            if let Some((vehicle, signal)) = at(messages, step, 1).and_then(|m| self.addressee(m)) {
                if vehicle.track.waits_for(signal) {
                    vehicle.track.prefetch_rings();
                    vehicle.prefetch_rest();
                } else {
                    vehicle.track.prefetch_ring(signal);
                }
            }
            if let Some(message) = at(messages, step, 2)
                && let Some((vehicle, signal)) = self.addressee(message)
            {
                vehicle.track.prefetch_next(signal);
                if let Some(past) = self.aligner.foresees_rows(&vehicle.track, signal) {
                    self.prefetch_rows(vehicle, message.slot, past);
                }
            }
            if let Some(message) = at(messages, step, LEVELS) {
                self.message(message);
            }
        }
    }

    fn addressee(&self, message: &Message) -> Option<(&Vehicle, SignalIndex)> {
        match message.topic {
            Topic::Signal(signal) => self.vehicle(message.slot).map(|vehicle| (vehicle, signal)),
            Topic::On => None,
        }
    }

    /// Lets time pass for these vehicles.
    pub(super) fn tick_all(&mut self, slots: &[Slot], now: Micros) {
        for step in 0..slots.len() + LEVELS * AHEAD {
            if let Some(slot) = at(slots, step, 0) {
                prefetch_index(&self.vehicles, slot.index());
            }
            if let Some(vehicle) = at(slots, step, 1).and_then(|slot| self.vehicle(*slot)) {
                vehicle.track.prefetch_rings();
                vehicle.prefetch_rest();
            }
            if let Some(slot) = at(slots, step, 2)
                && let Some(vehicle) = self.vehicle(*slot)
                && self.aligner.is_due(&vehicle.track, now)
            {
                self.prefetch_rows(vehicle, *slot, false);
            }
            if let Some(slot) = at(slots, step, LEVELS) {
                self.tick_one(*slot, now);
            }
        }
    }

    fn prefetch_rows(&self, vehicle: &Vehicle, slot: Slot, past: bool) {
        vehicle.track.prefetch_rows(past);
        vehicle.prefetch_name();
        self.output.latest.prefetch(slot);
    }
}
