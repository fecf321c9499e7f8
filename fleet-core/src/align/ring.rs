//! The samples of one signal of one vehicle that may still be needed.

use super::view::{View, WIDE, wide};
use crate::time::{Micros, SECOND};

/// Stands for "never" or "nothing", to keep a track small: no instant of a sample is that old.
const NEVER: Micros = Micros::MIN;

/// What became of a sample whose instant is in the ring already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Merged {
    /// It said the same.
    Same,
    /// It said something else, and what was there is larger.
    Kept,
    /// It said something else and is larger.
    Replaced,
}

/// Samples sorted by time, each instant once. Lies in memory in one piece, with some room at the
/// front that pruning left and that is used up before the ring grows.
#[derive(Debug)]
pub(super) struct Ring {
    /// Per sample its time and its values, as bits, and its earliest arrival, whole seconds of server
    /// time rounded down.
    words: Vec<u32>,
    /// How many samples at the front are pruned.
    start: u32,
    /// How many samples there are after them.
    len: u32,
    /// How many words a sample takes.
    stride: u32,
    horizon: Micros,
    heard: Micros,
    /// The times of the oldest and the newest sample, at hand: most questions need no more.
    oldest: Micros,
    newest: Micros,
}

impl Ring {
    pub(super) fn new(columns: usize, horizon: Option<Micros>) -> Self {
        Self {
            words: Vec::new(),
            start: 0,
            len: 0,
            stride: u32::try_from(WIDE * (columns + 1) + 1).unwrap_or(u32::MAX),
            horizon: horizon.unwrap_or(NEVER),
            heard: NEVER,
            oldest: NEVER,
            newest: NEVER,
        }
    }

    fn start(&self) -> usize {
        self.start as usize
    }

    fn stride(&self) -> usize {
        self.stride as usize
    }

    pub(super) fn view(&self) -> View<'_> {
        View::new(&self.words[self.start() * self.stride()..], self.stride(), self.len())
    }

    pub(super) fn columns(&self) -> usize {
        self.stride() / WIDE - 1
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn oldest(&self) -> Option<Micros> {
        (self.len > 0).then_some(self.oldest)
    }

    pub(super) fn newest(&self) -> Option<Micros> {
        (self.len > 0).then_some(self.newest)
    }

    /// How many samples lie before `t`: nothing is searched if all do.
    pub(super) fn count_before(&self, t: Micros) -> usize {
        if self.newest().is_none_or(|newest| newest < t) { self.len() } else { self.view().count_before(t) }
    }

    /// From this event time on the ring holds every sample that was taken; `None`: all there were.
    pub(super) fn horizon(&self) -> Option<Micros> {
        (self.horizon != NEVER).then_some(self.horizon)
    }

    pub(super) fn raise_horizon(&mut self, to: Micros) {
        self.horizon = self.horizon.max(to);
    }

    /// When the last message of the signal came, server time.
    pub(super) fn heard(&self) -> Option<Micros> {
        (self.heard != NEVER).then_some(self.heard)
    }

    pub(super) fn hear(&mut self, arrival: Micros) {
        self.heard = self.heard.max(arrival);
    }

    /// The earliest arrival of what is held, server time in microseconds.
    pub(super) fn earliest_arrival(&self) -> Option<Micros> {
        let kept = self.words.get(self.start() * self.stride()..)?;
        let arrivals = kept.chunks_exact(self.stride()).filter_map(<[u32]>::last);
        Some(Micros::from(*arrivals.min()?) * SECOND)
    }

    /// Puts a sample before the one at `position`; the caller knows that it belongs there.
    pub(super) fn insert(&mut self, position: usize, time: Micros, values: &[f64], arrival: Micros) {
        self.make_room();
        let (stride, end) = (self.stride(), self.words.len());
        let from = (self.start() + position) * stride;
        self.words.resize(end + stride, 0);
        self.words.copy_within(from..end, from + stride);
        (self.oldest, self.newest) = match self.len {
            0 => (time, time),
            _ => (self.oldest.min(time), self.newest.max(time)),
        };
        self.len += 1;
        let sample = &mut self.words[from..from + stride];
        write(sample, time.cast_unsigned());
        write_values(sample, values);
        sample[stride - 1] = seconds(arrival);
    }

    /// Holds the larger of the values at `position` and these, the first column deciding first.
    pub(super) fn merge(&mut self, position: usize, values: &[f64], arrival: Micros) -> Merged {
        let (stride, from) = (self.stride(), (self.start() + position) * self.stride());
        let sample = &mut self.words[from..from + stride];
        sample[stride - 1] = sample[stride - 1].min(seconds(arrival));
        let there = (1..).map(|n| wide(sample, n * WIDE).map_or(f64::NAN, f64::from_bits));
        let differing =
            values.iter().zip(there).map(|(new, there)| new.total_cmp(&there)).find(|o| o.is_ne());
        match differing {
            None => Merged::Same,
            Some(order) if order.is_lt() => Merged::Kept,
            Some(_) => {
                write_values(sample, values);
                Merged::Replaced
            }
        }
    }

    /// Whether the sample at `position` has exactly these values.
    pub(super) fn says(&self, position: usize, values: &[f64]) -> bool {
        self.view().get(position).is_some_and(|sample| {
            values.iter().enumerate().all(|(c, value)| sample.value(c).total_cmp(value).is_eq())
        })
    }

    /// Forgets the samples before `cut`.
    pub(super) fn prune(&mut self, cut: Micros) {
        while self.oldest().is_some_and(|oldest| oldest < cut) {
            self.drop_oldest();
        }
        // After a burst the memory goes back, with room left so that it is not asked for again.
        let len = self.len();
        if self.words.capacity() > 32 * self.stride() && 2 * len * self.stride() < self.words.capacity() {
            self.compact();
            self.words.shrink_to((len + len / 4 + 4) * self.stride());
        }
    }

    /// Forgets the oldest sample.
    pub(super) fn drop_oldest(&mut self) {
        if let Some(oldest) = self.oldest() {
            self.start += 1;
            self.len -= 1;
            self.oldest = self.view().time(0).unwrap_or(NEVER);
            self.raise_horizon(oldest.saturating_add(1));
        }
    }

    fn compact(&mut self) {
        self.words.drain(..self.start() * self.stride());
        self.start = 0;
    }

    /// Whether the next sample needs room to be made.
    pub(super) fn is_full(&self) -> bool {
        self.words.len() + self.stride() > self.words.capacity()
    }

    /// Vectors that double would cost half the memory of a fleet; a quarter at a time doesn't.
    fn make_room(&mut self) {
        let len = self.len();
        if !self.is_full() {
            return;
        }
        if self.start() > len / 8 {
            return self.compact();
        }
        self.words.reserve_exact((len / 4).max(2) * self.stride());
    }

    /// Bytes on the heap.
    pub(super) fn memory(&self) -> usize {
        self.words.capacity() * size_of::<u32>()
    }
}

fn write(words: &mut [u32], wide: u64) {
    #[allow(clippy::cast_possible_truncation, reason = "the halves")]
    let halves = [wide as u32, (wide >> 32) as u32];
    words[..WIDE].copy_from_slice(&halves);
}

fn write_values(sample: &mut [u32], values: &[f64]) {
    for (words, value) in sample[WIDE..].chunks_exact_mut(WIDE).zip(values) {
        write(words, value.to_bits());
    }
}

/// Rounded down, so that a replay begins early rather than late; good until 2106.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
fn seconds(arrival: Micros) -> u32 {
    arrival.div_euclid(SECOND).clamp(0, Micros::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(ring: &Ring) -> Vec<Micros> {
        (0..ring.len()).map(|i| ring.view().time(i).unwrap()).collect()
    }

    #[test]
    fn samples_lie_sorted_and_pruning_moves_the_horizon() {
        let mut ring = Ring::new(1, None);
        for time in [-30, 10, -10, 20] {
            let position = ring.view().count_before(time);
            ring.insert(position, time, &[0.5], 3 * SECOND - 1);
        }
        assert_eq!(times(&ring), [-30, -10, 10, 20]);
        assert_eq!((ring.horizon(), ring.earliest_arrival()), (None, Some(2 * SECOND)));
        ring.prune(-5);
        assert_eq!((times(&ring), ring.horizon()), (vec![10, 20], Some(-9)));
    }

    #[test]
    fn the_larger_of_two_values_counts_first_column_first() {
        let mut ring = Ring::new(2, None);
        ring.insert(0, 7, &[1.0, 5.0], 9 * SECOND);
        assert_eq!(ring.merge(0, &[1.0, 5.0], 12 * SECOND), Merged::Same);
        assert_eq!(ring.merge(0, &[0.5, 9.0], 12 * SECOND), Merged::Kept);
        assert_eq!(ring.merge(0, &[1.0, 6.0], 8 * SECOND), Merged::Replaced);
        assert!(ring.says(0, &[1.0, 6.0]) && !ring.says(0, &[1.0, 5.0]));
        assert_eq!(ring.earliest_arrival(), Some(8 * SECOND), "the earliest of all copies");
    }

    #[test]
    fn memory_is_steady_in_steady_state_and_given_back_after_a_burst() {
        let mut ring = Ring::new(1, None);
        let mut feed = |range: std::ops::Range<Micros>, step: usize| {
            let mut most = 0;
            for time in range.step_by(step) {
                ring.insert(ring.len(), time, &[1.0], time * SECOND);
                ring.prune(time - 160);
                most = most.max(ring.memory());
            }
            (most, ring.memory())
        };
        // 14 samples are held, and a quarter more have room.
        let (slow, _) = feed(0..10_000, 12);
        assert!(slow <= 18 * 20, "{slow} bytes");
        let (burst, _) = feed(10_000..10_500, 1);
        assert!(burst > 160 * 20, "{burst} bytes");
        let (_, after) = feed(10_500..12_000, 12);
        assert!(after <= 32 * 20, "{after} bytes");
    }

    #[test]
    fn arrivals_outside_of_what_fits_are_clamped() {
        assert_eq!((seconds(-1), seconds(1_999_999), seconds(Micros::MAX)), (0, 1, u32::MAX));
    }
}
