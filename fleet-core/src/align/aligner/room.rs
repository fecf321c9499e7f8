//! Who gets a vehicle's memory, and what goes where there is none left.

use super::Aligner;
use crate::align::room::seconds;
use crate::align::track::{Inserted, Track};
use crate::batch::Row;
use crate::ids::SignalIndex;
use crate::time::Micros;

impl Aligner {
    /// Whether a signal may hold one sample more.
    pub(super) fn has_room(&self, track: &Track, s: usize) -> bool {
        let ring = &track.rings[s];
        ring.len() < self.schema.max_samples() && (!ring.is_full() || self.may_grow(track, s))
    }

    /// A vehicle's memory is shared: half of an equal part is each signal's for sure, the rest goes to those
    /// whose samples need it.
    #[cold]
    fn may_grow(&self, track: &Track, s: usize) -> bool {
        let budget = self.schema.max_vehicle_memory();
        let sure = budget / (2 * track.rings.len());
        track.memory_beside(s, sure).saturating_add(track.rings[s].grown_memory().max(sure)) <= budget
    }

    /// Drops a full ring's oldest sample after the rows that need it; `false` if `time` would be the
    /// oldest, so that it is the one to go.
    pub(super) fn make_room(
        &self,
        track: &mut Track,
        s: usize,
        time: Micros,
        done: &mut Inserted,
        emit: &mut impl FnMut(Row<'_>),
    ) -> bool {
        if self.has_room(track, s) {
            return true;
        }
        let ring = &mut track.rings[s];
        done.overflowed += 1;
        done.short_of_room |= !ring.overflowed;
        ring.overflowed = true;
        if ring.oldest().is_none_or(|oldest| time < oldest) {
            ring.raise_horizon(time.saturating_add(1));
            done.short_of_room = true;
            return false;
        }
        let reach = self.rules[s].reach;
        let free_from = ring.view().time(reach.before).or(ring.newest()).unwrap_or(time);
        let until = free_from.saturating_add(reach.look_back).saturating_sub(1);
        self.advance(track, until, emit);
        track.rings[s].drop_oldest();
        true
    }

    /// What is held of a signal that found no room for more, in words for people.
    pub(crate) fn shortage(&self, track: &Track, signal: SignalIndex) -> String {
        let held = track.rings.get(signal.index()).map_or((0, 0), |ring| {
            let time =
                ring.oldest().zip(ring.newest()).map_or(0, |(oldest, newest)| newest.saturating_sub(oldest));
            (ring.len(), time)
        });
        let (samples, memory) = (self.schema.max_samples(), self.schema.max_vehicle_memory());
        format!(
            "{} samples, {} s of the signal, is all there is room for (max_samples {samples}, max_vehicle_memory \
             {memory} bytes), older ones are dropped before their time: raise these or send less often",
            held.0,
            seconds(held.1),
        )
    }
}
