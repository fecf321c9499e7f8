//! A signal's samples as an interpolation method sees them.

use super::interpolator::At;
use crate::time::Micros;

/// How many of the newest samples are looked at one by one before a search by halves.
const NEAR: usize = 8;

/// One sample in a [`View`].
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// Event time.
    pub time: Micros,
    bits: &'a [u64],
}

impl Sample<'_> {
    /// The value of a column, counted within the signal; NaN if the signal has no such column.
    pub fn value(&self, column: usize) -> f64 {
        self.bits.get(column).map_or(f64::NAN, |&bits| f64::from_bits(bits))
    }
}

/// A signal's samples in the order of time, each instant once.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Per sample its time and its values, as bits: one allocation serves both.
    words: &'a [u64],
    stride: usize,
}

impl<'a> View<'a> {
    pub(super) fn new(words: &'a [u64], stride: usize) -> Self {
        Self { words, stride }
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.words.len() / self.stride
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The sample at a position, the oldest at 0.
    pub fn get(&self, position: usize) -> Option<Sample<'a>> {
        let start = position.checked_mul(self.stride)?;
        let (time, bits) = self.words.get(start..start.checked_add(self.stride)?)?.split_first()?;
        Some(Sample { time: time.cast_signed(), bits })
    }

    /// The time of the sample at a position.
    pub fn time(&self, position: usize) -> Option<Micros> {
        self.words.get(position.checked_mul(self.stride)?).map(|word| word.cast_signed())
    }

    /// How many samples lie before `t`: the position of the first one at or after it.
    pub fn count_before(&self, t: Micros) -> usize {
        let mut high = self.len();
        // Nearly every question is about the newest few.
        for _ in 0..NEAR {
            if high == 0 || self.words[(high - 1) * self.stride].cast_signed() < t {
                return high;
            }
            high -= 1;
        }
        let mut low = 0;
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.words[middle * self.stride].cast_signed() < t {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Whether there is a sample at the position and one after it, no further apart than `max_gap`.
    pub fn is_bridged(&self, position: usize, max_gap: Micros) -> bool {
        let next = position.checked_add(1).and_then(|next| self.time(next));
        self.time(position).zip(next).is_some_and(|(left, right)| right.saturating_sub(left) <= max_gap)
    }

    /// The neighbours before and at or after the instant, unless they are further apart than
    /// `max_gap` or one of them is missing.
    pub fn bracket(&self, at: At<'_>) -> Option<(Sample<'a>, Sample<'a>)> {
        let right = self.count_before(at.t);
        let (left, right) = (self.get(right.checked_sub(1)?)?, self.get(right)?);
        (right.time.saturating_sub(left.time) <= at.max_gap).then_some((left, right))
    }
}
