//! The samples of one signal of one vehicle that may still be needed.

use std::ops::Range;

use prefetch_index::prefetch_index;

use super::sequence::Sequence;
use super::track::NEVER;
use super::view::{Sample, View, WIDE, wide};
use crate::time::{Micros, SECOND};

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

/// Samples sorted by time, each instant once, in a ring: the oldest follows the newest in memory, so
/// that a new one takes the place of one that is pruned without moving others.
///
/// One cache line: a fleet's rings are far apart in memory, and each line is waited for.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Ring {
    /// Per sample its time and its values, as bits, and its earliest arrival, whole seconds of server
    /// time rounded down.
    words: Box<[u32]>,
    /// Where the words of the oldest sample begin.
    start: u32,
    /// How many samples there are.
    len: u32,
    /// How many words a sample takes.
    stride: u8,
    /// Whether samples that were needed had to go, up to the horizon at most.
    pub(super) overflowed: bool,
    horizon: Micros,
    heard: Micros,
    /// The time of the newest sample, at hand: most questions need no more.
    newest: Micros,
    /// How many samples lay before the last row: the next one is near it.
    cursor: u32,
    pub(super) sequence: Sequence,
}

const _: () = assert!(size_of::<Ring>() == 64);

/// Room for so many samples is not worth giving back.
const MUCH: usize = 32;

impl Ring {
    pub(super) fn new(columns: usize, horizon: Option<Micros>) -> Self {
        Self {
            words: Box::default(),
            start: 0,
            len: 0,
            stride: u8::try_from(WIDE * (columns + 1) + 1).unwrap_or(u8::MAX),
            overflowed: false,
            horizon: horizon.unwrap_or(NEVER),
            heard: NEVER,
            newest: NEVER,
            cursor: 0,
            sequence: Sequence::default(),
        }
    }

    /// One with room for so many samples, the oldest of which will lie at that place.
    pub(super) fn with_room(columns: usize, horizon: Option<Micros>, room: usize, first: usize) -> Self {
        let mut ring = Self::new(columns, horizon);
        ring.resize(room);
        ring.start = u32::try_from(first * ring.stride()).unwrap_or(0);
        ring
    }

    /// How many samples there is room for, and at which place the oldest lies: when samples are pruned hangs on it.
    pub(super) fn room(&self) -> (usize, usize) {
        (self.words.len() / self.stride(), self.start as usize / self.stride())
    }

    /// The most room that is left for so many samples once the ring is pruned.
    pub(super) fn most_room(samples: usize) -> usize {
        (2 * samples).max(MUCH)
    }

    fn stride(&self) -> usize {
        usize::from(self.stride)
    }

    pub(super) fn view(&self) -> View<'_> {
        View::new(self)
    }

    /// The words of the sample at a position: its time, its values and its arrival.
    pub(super) fn sample(&self, position: usize) -> Option<&[u32]> {
        if position < self.len() { self.words.get(self.place(position)) } else { None }
    }

    /// Every sample, the oldest first, with its earliest arrival in whole seconds of server time.
    pub(super) fn samples(&self) -> impl Iterator<Item = (Sample<'_>, u32)> {
        (0..self.len()).filter_map(|i| Some((self.view().get(i)?, *self.sample(i)?.last()?)))
    }

    /// Where the words of the sample at a position are; the position may be the one after the newest.
    fn place(&self, position: usize) -> Range<usize> {
        let at = self.start as usize + position * self.stride();
        let at = if at >= self.words.len() { at - self.words.len() } else { at };
        at..at + self.stride()
    }

    pub(super) fn columns(&self) -> usize {
        self.stride() / WIDE - 1
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn oldest(&self) -> Option<Micros> {
        self.view().time(0)
    }

    pub(super) fn newest(&self) -> Option<Micros> {
        (self.len > 0).then_some(self.newest)
    }

    /// Notes that there is room enough again, once what had to go would be too late.
    pub(super) fn recover(&mut self, window: Micros) {
        self.overflowed &= self.horizon >= self.newest.saturating_sub(window);
    }

    /// The time of the newest sample that the signal is known to have had, at least.
    pub(super) fn known_newest(&self) -> Option<Micros> {
        self.newest().or(self.horizon().map(|horizon| horizon.saturating_sub(1)))
    }

    /// How many samples lie before `t`: nothing is searched if all do.
    pub(super) fn count_before(&self, t: Micros) -> usize {
        if self.newest().is_none_or(|newest| newest < t) { self.len() } else { self.view().count_before(t) }
    }

    /// The samples for a row at `t`, which is near the one of the call before, as rows are.
    #[inline]
    pub(super) fn around(&self, t: Micros) -> View<'_> {
        View::around(self, t, self.cursor as usize)
    }

    /// Remembers how many samples lay before a row.
    pub(super) fn keep_place(&mut self, before: usize) {
        self.cursor = u32::try_from(before).unwrap_or(u32::MAX);
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
        let arrivals = (0..self.len()).filter_map(|i| self.words[self.place(i)].last());
        Some(Micros::from(*arrivals.min()?) * SECOND)
    }

    /// Puts a sample before the one at `position`; the caller knows that it belongs there, and that there are
    /// fewer than `most`.
    pub(super) fn insert(
        &mut self,
        position: usize,
        time: Micros,
        values: &[f64],
        arrival: Micros,
        most: usize,
    ) {
        if self.is_full() {
            self.resize(self.grown().min(most).max(self.len() + 1));
        }
        for later in (position..self.len()).rev() {
            let (from, to) = (self.place(later), self.place(later + 1).start);
            self.words.copy_within(from, to);
        }
        self.newest = if self.len == 0 { time } else { self.newest.max(time) };
        self.len += 1;
        self.cursor += u32::from(position < self.cursor as usize);
        let (place, stride) = (self.place(position), self.stride());
        let sample = &mut self.words[place];
        write(sample, time.cast_unsigned());
        write_values(sample, values);
        sample[stride - 1] = seconds(arrival);
    }

    /// Holds the larger of the values at `position` and these, the first column deciding first.
    pub(super) fn merge(&mut self, position: usize, values: &[f64], arrival: Micros) -> Merged {
        let (place, stride) = (self.place(position), self.stride());
        let sample = &mut self.words[place];
        sample[stride - 1] = sample[stride - 1].min(seconds(arrival));
        let there = sample[WIDE..].as_chunks().0.iter().map(|&halves| f64::from_bits(wide(halves)));
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

    /// Forgets the oldest sample for as long as it is spent.
    pub(super) fn prune(&mut self, is_spent: impl Fn(View<'_>) -> bool) {
        while is_spent(self.view()) {
            self.drop_oldest();
        }
        // After a burst the memory goes back, with room left so that it is not asked for again.
        let len = self.len();
        let room = self.words.len() / self.stride();
        if room > MUCH && 2 * len < room {
            self.resize(len + len / 4 + 4);
        }
    }

    /// Forgets the oldest sample if it is spent, and once a turn of the ring all that are: to look at one
    /// more each time would mean to wait for its memory.
    pub(super) fn prune_gently(&mut self, is_spent: impl Fn(View<'_>) -> bool) {
        if self.start == 0 {
            self.prune(is_spent);
        } else if is_spent(self.view()) {
            self.drop_oldest();
        }
    }

    /// Forgets the oldest sample.
    pub(super) fn drop_oldest(&mut self) {
        if let Some(oldest) = self.oldest() {
            self.start = u32::try_from(self.place(1).start).unwrap_or(0);
            self.len -= 1;
            self.cursor = self.cursor.saturating_sub(1);
            self.raise_horizon(oldest.saturating_add(1));
        }
    }

    /// Whether the next sample needs room to be made.
    pub(super) fn is_full(&self) -> bool {
        self.len() * self.stride() == self.words.len()
    }

    /// How many samples there is room for once more is made. Doubling would cost half the memory of a fleet; a
    /// quarter at a time doesn't.
    fn grown(&self) -> usize {
        self.len() + (self.len() / 4).max(2)
    }

    /// Bytes on the heap after the next growth.
    pub(super) fn grown_memory(&self) -> usize {
        self.grown() * self.stride() * size_of::<u32>()
    }

    /// Makes the room what is said, at least what is held.
    fn resize(&mut self, room: usize) {
        let mut words = Vec::with_capacity(room * self.stride());
        (0..self.len()).for_each(|i| words.extend_from_slice(&self.words[self.place(i)]));
        words.resize(room * self.stride(), 0);
        self.words = words.into();
        self.start = 0;
    }

    /// Has the place of the next sample fetched from far memory, and the oldest that stays; or, where
    /// [`prune_gently`](Self::prune_gently) looks at more, a few of these.
    pub(super) fn prefetch_next(&self) {
        prefetch_index(&self.words, self.place(self.len()).start);
        prefetch_index(&self.words, self.place(1.min(self.len())).end - 1);
        if self.start == 0 {
            self.prefetch_from(2);
        }
    }

    /// Has the samples around the next few rows fetched, or around the last few.
    pub(super) fn prefetch_rows(&self, past: bool) {
        self.prefetch_from((self.cursor as usize).saturating_sub(if past { 4 } else { 1 }));
    }

    /// Has some samples from a position on fetched: a cache line holds two of most signals.
    fn prefetch_from(&self, position: usize) {
        for position in (position..self.len()).step_by(2).take(4) {
            prefetch_index(&self.words, self.place(position).start);
        }
    }

    /// Bytes on the heap.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.words)
    }
}

/// Bytes that a sample takes.
pub(super) fn bytes_of_sample(columns: usize) -> usize {
    (WIDE * (columns + 1) + 1) * size_of::<u32>()
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
            ring.insert(position, time, &[0.5], 3 * SECOND - 1, 99);
        }
        assert_eq!(times(&ring), [-30, -10, 10, 20]);
        assert_eq!((ring.horizon(), ring.earliest_arrival()), (None, Some(2 * SECOND)));
        ring.prune(|samples| samples.time(0).is_some_and(|oldest| oldest < -5));
        assert_eq!((times(&ring), ring.horizon()), (vec![10, 20], Some(-9)));
    }

    #[test]
    fn the_larger_of_two_values_counts_first_column_first() {
        let mut ring = Ring::new(2, None);
        ring.insert(0, 7, &[1.0, 5.0], 9 * SECOND, 99);
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
                ring.insert(ring.len(), time, &[1.0], time * SECOND, 1_000);
                ring.prune(|samples| samples.time(1).is_some_and(|second| second < time - 160));
                most = most.max(ring.memory());
            }
            (most, ring.memory())
        };
        // 15 samples are held, and a quarter more have room.
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
