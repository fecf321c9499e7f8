//! A signal's samples as an interpolation method sees them.

use super::interpolator::At;
use crate::time::Micros;

/// How many of the newest samples are looked at one by one before a search by halves.
const NEAR: usize = 8;

/// How many words of 32 bits a time or a value takes.
pub(super) const WIDE: usize = 2;

/// One sample in a [`View`].
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// Event time.
    pub time: Micros,
    values: &'a [u32],
}

impl Sample<'_> {
    /// The value of a column, counted within the signal; NaN if the signal has no such column.
    pub fn value(&self, column: usize) -> f64 {
        wide(self.values, column * WIDE).map_or(f64::NAN, f64::from_bits)
    }
}

/// The two words at a position as one, the low half first.
pub(super) fn wide(words: &[u32], at: usize) -> Option<u64> {
    let (low, high) = (*words.get(at)?, *words.get(at + 1)?);
    Some(u64::from(high) << 32 | u64::from(low))
}

/// A signal's samples in the order of time, each instant once.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Per sample its time, its values and its arrival, as bits: one allocation serves all.
    words: &'a [u32],
    stride: usize,
    len: usize,
    /// An instant and how many samples lie before it: methods ask for the same again.
    known: (Micros, usize),
}

impl<'a> View<'a> {
    pub(super) fn new(words: &'a [u32], stride: usize, len: usize) -> Self {
        Self { words, stride, len, known: (Micros::MIN, 0) }
    }

    /// The same samples, of which so many are known to lie before `t`.
    pub(super) fn knowing(self, t: Micros, before: usize) -> Self {
        Self { known: (t, before), ..self }
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The sample at a position, the oldest at 0.
    pub fn get(&self, position: usize) -> Option<Sample<'a>> {
        let start = position.checked_mul(self.stride)?;
        let sample = self.words.get(start..start.checked_add(self.stride)?)?;
        let values = sample.get(WIDE..self.stride - 1)?;
        Some(Sample { time: wide(sample, 0)?.cast_signed(), values })
    }

    /// The time of the sample at a position.
    pub fn time(&self, position: usize) -> Option<Micros> {
        wide(self.words, position.checked_mul(self.stride)?).map(u64::cast_signed)
    }

    /// How many samples lie before `t`: the position of the first one at or after it.
    pub fn count_before(&self, t: Micros) -> usize {
        if t == self.known.0 {
            return self.known.1;
        }
        let mut high = self.len();
        // Nearly every question is about the newest few.
        for _ in 0..NEAR {
            if high == 0 || self.time(high - 1).is_some_and(|time| time < t) {
                return high;
            }
            high -= 1;
        }
        let mut low = 0;
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.time(middle).is_some_and(|time| time < t) {
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
