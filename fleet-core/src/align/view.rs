//! A signal's samples as an interpolation method sees them.

use super::interpolator::At;
use super::ring::Ring;
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
        let (values, _) = self.values.as_chunks::<WIDE>();
        values.get(column).map_or(f64::NAN, |&halves| f64::from_bits(wide(halves)))
    }
}

/// Two words as one, the low half first.
pub(super) fn wide([low, high]: [u32; WIDE]) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// A signal's samples in the order of time, each instant once.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    ring: &'a Ring,
    /// The instant that methods are asked for, or none.
    t: Micros,
    /// How many samples lie before it, the last of these and the one that follows.
    before: usize,
    left: Option<Sample<'a>>,
    right: Option<Sample<'a>>,
}

impl<'a> View<'a> {
    pub(super) fn new(ring: &'a Ring) -> Self {
        Self { ring, t: Micros::MIN, before: 0, left: None, right: None }
    }

    /// The samples of a method that is asked for `t`, whose position is near one.
    #[inline]
    pub(super) fn around(ring: &'a Ring, t: Micros, near: usize) -> Self {
        let samples = Self::new(ring);
        let mut before = near.min(ring.len());
        let (mut left, mut right) = (samples.get(before.wrapping_sub(1)), samples.get(before));
        for _ in 0..NEAR {
            if right.is_some_and(|right| right.time < t) {
                before += 1;
                (left, right) = (right, samples.get(before));
            } else if left.is_some_and(|left| left.time >= t) {
                before -= 1;
                (left, right) = (samples.get(before.wrapping_sub(1)), left);
            } else {
                return Self { ring, t, before, left, right };
            }
        }
        samples.at(t, samples.search(t, ring.len()))
    }

    /// The samples of a method that is asked for `t`, before which so many lie.
    fn at(&self, t: Micros, before: usize) -> Self {
        let (left, right) = (self.get(before.wrapping_sub(1)), self.get(before));
        Self { ring: self.ring, t, before, left, right }
    }

    /// How many samples lie before the instant that a method is asked for.
    pub(super) fn before(&self) -> usize {
        self.before
    }

    /// The sample at that instant, if there is one.
    pub(super) fn hit(&self) -> Option<Sample<'a>> {
        self.right.filter(|right| right.time == self.t)
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample at a position, the oldest at 0.
    pub fn get(&self, position: usize) -> Option<Sample<'a>> {
        let (time, rest) = self.ring.sample(position)?.split_first_chunk()?;
        let (_arrival, values) = rest.split_last()?;
        Some(Sample { time: wide(*time).cast_signed(), values })
    }

    /// The time of the sample at a position.
    pub fn time(&self, position: usize) -> Option<Micros> {
        self.ring.sample(position)?.first_chunk().map(|time| wide(*time).cast_signed())
    }

    /// How many samples lie before `t`: the position of the first one at or after it.
    pub fn count_before(&self, t: Micros) -> usize {
        if t == self.t {
            return self.before;
        }
        // Nearly every question is about the newest few.
        let low = self.len().saturating_sub(NEAR);
        for position in (low..self.len()).rev() {
            if self.time(position).is_some_and(|time| time < t) {
                return position + 1;
            }
        }
        self.search(t, low)
    }

    /// The same by halves, among the first `high` samples.
    #[cold]
    fn search(&self, t: Micros, mut high: usize) -> usize {
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
    #[inline]
    pub fn bracket(&self, at: At<'_>) -> Option<(Sample<'a>, Sample<'a>)> {
        let (left, right) =
            if at.t == self.t { (self.left?, self.right?) } else { self.find_neighbours(at.t)? };
        (right.time.saturating_sub(left.time) <= at.max_gap).then_some((left, right))
    }

    #[cold]
    fn find_neighbours(&self, t: Micros) -> Option<(Sample<'a>, Sample<'a>)> {
        let View { left, right, .. } = self.at(t, self.count_before(t));
        left.zip(right)
    }
}
