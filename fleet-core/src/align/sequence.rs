//! The counter of a signal's frames, by which a loss shows.

use crate::time::{Micros, SECOND};

/// A signal's last frame: its counter, if there was one, and its arrival in whole seconds of server
/// time, rounded down. No matter of alignment, but a ring's cache line has room for it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sequence {
    counter: Option<u16>,
    arrival: u32,
}

/// A jump forward by more than this is a restart of the sensor rather than a loss.
const MOST_LOST: u16 = 4096;

impl Sequence {
    /// That of a signal whose last frame had this counter, and came then.
    pub(super) fn after(counter: u16, arrival: u32) -> Self {
        Self { counter: Some(counter), arrival }
    }

    /// The last frame's counter and arrival, if it had one.
    pub(super) fn last(self) -> Option<(u16, u32)> {
        self.counter.map(|counter| (counter, self.arrival))
    }

    /// Follows a frame's counter; gives the time from which something may be missing if it jumped.
    pub(super) fn follow(&mut self, counter: u16, arrival: Micros) -> Option<Micros> {
        let ahead = counter.wrapping_sub(self.counter.unwrap_or(counter));
        let since = Micros::from(self.arrival) * SECOND;
        // Behind or the same: a repeat or a restart near 0.
        if ahead <= MOST_LOST || counter < 16 {
            let arrival = u32::try_from(arrival.div_euclid(SECOND)).unwrap_or(0);
            *self = Self { counter: Some(counter), arrival };
        }
        (2..=MOST_LOST).contains(&ahead).then_some(since)
    }
}
