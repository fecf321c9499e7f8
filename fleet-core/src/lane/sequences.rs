//! The counters of frames, by which a loss shows.

use prefetch_index::prefetch_index;

use crate::ids::{SignalIndex, Slot};
use crate::message::Topic;
use crate::time::{Micros, SECOND};

/// What is known of each signal's last frame, of all vehicles in one array.
#[derive(Debug)]
pub(super) struct Sequences {
    signals: usize,
    /// By slot and signal.
    last: Vec<Sequence>,
}

/// A signal's last frame: its counter, if there was one, and its arrival in whole seconds of server
/// time, rounded down.
#[derive(Debug, Clone, Copy, Default)]
struct Sequence {
    counter: Option<u16>,
    arrival: u32,
}

/// A jump forward by more than this is a restart of the sensor rather than a loss.
const MOST_LOST: u16 = 4096;

impl Sequences {
    pub(super) fn new(signals: usize) -> Self {
        Self { signals, last: Vec::new() }
    }

    /// Forgets the slot's frames.
    pub(super) fn reset(&mut self, slot: Slot) {
        let place = slot.index() * self.signals..(slot.index() + 1) * self.signals;
        super::extend(&mut self.last, place.end, Sequence::default);
        self.last[place].fill(Sequence::default());
    }

    /// Follows a frame's counter; gives the time from which something may be missing if it jumped.
    pub(super) fn follow(
        &mut self,
        slot: Slot,
        signal: SignalIndex,
        sequence: Option<u16>,
        arrival: Micros,
    ) -> Option<Micros> {
        let counter = sequence?;
        let last = self.last.get_mut(slot.index() * self.signals + signal.index())?;
        let ahead = counter.wrapping_sub(last.counter.unwrap_or(counter));
        let since = Micros::from(last.arrival) * SECOND;
        // Behind or the same: a repeat or a restart near 0.
        if ahead <= MOST_LOST || counter < 16 {
            let arrival = u32::try_from(arrival.div_euclid(SECOND)).unwrap_or(0);
            *last = Sequence { counter: Some(counter), arrival };
        }
        (2..=MOST_LOST).contains(&ahead).then_some(since)
    }

    /// Has the place of a message's signal fetched from far memory.
    pub(super) fn prefetch(&self, slot: Slot, topic: Topic) {
        if let Topic::Signal(signal) = topic {
            prefetch_index(&self.last, slot.index() * self.signals + signal.index());
        }
    }
}
