//! The samples of one signal of one vehicle that may still be needed.

use super::view::View;
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
    /// Per sample its time and its values, as bits.
    words: Vec<u64>,
    /// Per sample the earliest arrival, whole seconds of server time, rounded down.
    arrivals: Vec<u32>,
    /// How many samples at the front are pruned.
    start: u32,
    stride: u32,
    horizon: Micros,
    heard: Micros,
}

impl Ring {
    pub(super) fn new(columns: usize, horizon: Option<Micros>) -> Self {
        Self {
            words: Vec::new(),
            arrivals: Vec::new(),
            start: 0,
            stride: u32::try_from(columns + 1).unwrap_or(u32::MAX),
            horizon: horizon.unwrap_or(NEVER),
            heard: NEVER,
        }
    }

    fn start(&self) -> usize {
        self.start as usize
    }

    fn stride(&self) -> usize {
        self.stride as usize
    }

    pub(super) fn view(&self) -> View<'_> {
        View::new(&self.words[self.start() * self.stride()..], self.stride())
    }

    pub(super) fn columns(&self) -> usize {
        self.stride() - 1
    }

    pub(super) fn len(&self) -> usize {
        self.arrivals.len() - self.start()
    }

    pub(super) fn oldest(&self) -> Option<Micros> {
        self.view().time(0)
    }

    pub(super) fn newest(&self) -> Option<Micros> {
        self.view().time(self.len().checked_sub(1)?)
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
        let earliest = self.arrivals.get(self.start()..)?.iter().min()?;
        Some(Micros::from(*earliest) * SECOND)
    }

    /// Puts a sample before the one at `position`; the caller knows that it belongs there.
    pub(super) fn insert(&mut self, position: usize, time: Micros, values: &[f64], arrival: Micros) {
        self.make_room();
        let (at, stride) = (self.start() + position, self.stride());
        self.arrivals.insert(at, seconds(arrival));
        let (from, end) = (at * stride, self.words.len());
        self.words.resize(end + stride, 0);
        self.words.copy_within(from..end, from + stride);
        self.write(from, time, values);
    }

    fn write(&mut self, word: usize, time: Micros, values: &[f64]) {
        self.words[word] = time.cast_unsigned();
        for (word, value) in self.words[word + 1..].iter_mut().zip(values) {
            *word = value.to_bits();
        }
    }

    /// Holds the larger of the values at `position` and these, the first column deciding first.
    pub(super) fn merge(&mut self, position: usize, values: &[f64], arrival: Micros) -> Merged {
        let at = self.start() + position;
        let word = at * self.stride();
        let earliest = &mut self.arrivals[at];
        *earliest = (*earliest).min(seconds(arrival));
        let there = self.words[word + 1..].iter().map(|&bits| f64::from_bits(bits));
        let differing = there.zip(values).map(|(there, new)| new.total_cmp(&there)).find(|o| o.is_ne());
        match differing {
            None => Merged::Same,
            Some(order) if order.is_lt() => Merged::Kept,
            Some(_) => {
                let time = self.words[word].cast_signed();
                self.write(word, time, values);
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
        if self.arrivals.capacity() > 32 && len < self.arrivals.capacity() / 2 {
            self.compact();
            let room = len + len / 4 + 4;
            self.arrivals.shrink_to(room);
            self.words.shrink_to(room * self.stride());
        }
    }

    /// Forgets the oldest sample.
    pub(super) fn drop_oldest(&mut self) {
        if let Some(oldest) = self.oldest() {
            self.start += 1;
            self.raise_horizon(oldest.saturating_add(1));
        }
    }

    fn compact(&mut self) {
        let (start, stride) = (self.start(), self.stride());
        self.words.drain(..start * stride);
        self.arrivals.drain(..start);
        self.start = 0;
    }

    /// Vectors that double would cost half the memory of a fleet; an eighth at a time doesn't.
    fn make_room(&mut self) {
        if self.arrivals.len() < self.arrivals.capacity() {
            return;
        }
        let len = self.len();
        if self.start() > len / 8 {
            return self.compact();
        }
        let more = (len / 8).max(4);
        self.arrivals.reserve_exact(more);
        self.words.reserve_exact(more * self.stride());
    }

    /// Bytes on the heap.
    pub(super) fn memory(&self) -> usize {
        self.words.capacity() * size_of::<u64>() + self.arrivals.capacity() * size_of::<u32>()
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
        let (slow, _) = feed(0..10_000, 12);
        assert!(slow <= 16 * 20, "{slow} bytes");
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
