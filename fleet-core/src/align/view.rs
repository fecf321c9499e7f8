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
    /// Per sample its time, its values and its arrival, as bits: one allocation serves all. The
    /// samples begin at `start` and go on at 0 after the last of `room` places.
    words: &'a [u32],
    stride: u32,
    room: u32,
    start: u32,
    len: u32,
    /// An instant and how many samples lie before it: methods ask for the same again.
    known: (Micros, usize),
}

impl<'a> View<'a> {
    pub(super) fn new(words: &'a [u32], stride: u32, room: u32, start: u32, len: u32) -> Self {
        Self { words, stride, room, start, len, known: (Micros::MIN, 0) }
    }

    /// The words from the sample at a position on.
    fn words(&self, position: usize) -> Option<&'a [u32]> {
        if position >= self.len() {
            return None;
        }
        let (at, room) = (self.start as usize + position, self.room as usize);
        let at = if at >= room { at - room } else { at };
        self.words.get(at * self.stride as usize..)
    }

    /// The same samples, of which so many are known to lie before `t`.
    pub(super) fn knowing(self, t: Micros, before: usize) -> Self {
        Self { known: (t, before), ..self }
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The sample at a position, the oldest at 0.
    pub fn get(&self, position: usize) -> Option<Sample<'a>> {
        let (time, rest) = self.words(position)?.split_first_chunk()?;
        let values = rest.get(..self.stride as usize - WIDE - 1)?;
        Some(Sample { time: wide(*time).cast_signed(), values })
    }

    /// The time of the sample at a position.
    pub fn time(&self, position: usize) -> Option<Micros> {
        self.words(position)?.first_chunk().map(|time| wide(*time).cast_signed())
    }

    /// How many samples lie before `t`: the position of the first one at or after it.
    pub fn count_before(&self, t: Micros) -> usize {
        if t == self.known.0 {
            return self.known.1;
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

    /// The same for an instant whose position is near one.
    pub(super) fn count_near(&self, t: Micros, position: usize) -> usize {
        let mut at = position.min(self.len());
        for _ in 0..NEAR {
            if self.time(at).is_some_and(|time| time < t) {
                at += 1;
            } else if at > 0 && self.time(at - 1).is_some_and(|time| time >= t) {
                at -= 1;
            } else {
                return at;
            }
        }
        self.search(t, self.len())
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
    pub fn bracket(&self, at: At<'_>) -> Option<(Sample<'a>, Sample<'a>)> {
        let right = self.count_before(at.t);
        let (left, right) = (self.get(right.checked_sub(1)?)?, self.get(right)?);
        (right.time.saturating_sub(left.time) <= at.max_gap).then_some((left, right))
    }
}
