//! What is due, by time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use fleet_core::Micros;
use fleet_core::time::SECOND;

/// Something that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A vehicle says that it is on.
    On(u32),
    /// A sensor reads.
    Read(u32),
    /// A recorded sample: the vehicle's number and the sample's.
    Play(u32, u32),
    /// A message that was held back goes out.
    Send(u32),
}

type Entry = (Micros, Due);

/// A ring of buckets by time, so that an entry costs the same however many there are. Only those of one bucket lie in
/// a heap, and those that are too far ahead for the ring.
#[derive(Debug)]
pub(super) struct Agenda {
    /// Of buckets before `first`.
    near: BinaryHeap<Reverse<Entry>>,
    ring: Vec<Vec<Entry>>,
    /// The first bucket that is in the ring.
    first: i64,
    far: BinaryHeap<Reverse<Entry>>,
}

/// How long a bucket is.
const WIDTH: Micros = SECOND / 100;

/// Buckets of the ring: 82 s, more than what is repeated every minute needs.
const BUCKETS: i64 = 8_192;

impl Agenda {
    /// An empty one that begins at that time.
    pub(super) fn new(begin: Micros) -> Self {
        Self {
            near: BinaryHeap::new(),
            ring: (0..BUCKETS).map(|_| Vec::new()).collect(),
            first: begin.div_euclid(WIDTH),
            far: BinaryHeap::new(),
        }
    }

    pub(super) fn push(&mut self, at: Micros, due: Due) {
        let bucket = at.div_euclid(WIDTH);
        if bucket < self.first {
            self.near.push(Reverse((at, due)));
        } else if bucket < self.first + BUCKETS {
            self.ring[place(bucket)].push((at, due));
        } else {
            self.far.push(Reverse((at, due)));
        }
    }

    /// The next thing that is due by `now`, in the order of time.
    pub(super) fn pop(&mut self, now: Micros) -> Option<Entry> {
        // One bucket at a time: the heap is small however much is overdue.
        while self.near.is_empty() && self.first <= now.div_euclid(WIDTH) {
            self.near.extend(self.ring[place(self.first)].drain(..).map(Reverse));
            self.first += 1;
            while let Some(Reverse((at, due))) = self.far.peek().copied()
                && at.div_euclid(WIDTH) < self.first + BUCKETS
            {
                self.far.pop();
                self.push(at, due);
            }
        }
        self.near.peek().filter(|Reverse((at, _))| *at <= now)?;
        self.near.pop().map(|Reverse(entry)| entry)
    }
}

/// Where the ring has a bucket.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the ring")]
fn place(bucket: i64) -> usize {
    bucket.rem_euclid(BUCKETS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::vehicle::Dice;

    #[test]
    fn everything_comes_once_in_the_order_of_time_and_not_before() {
        let begin = 1_700_000_000 * SECOND;
        let (mut agenda, mut dice) = (Agenda::new(begin), Dice::new(3));
        let mut heap = BinaryHeap::new();
        let mut now = begin;
        let mut came = 0;
        for n in 0..20_000 {
            // Some in the past, some beyond the ring.
            let at = now + dice.roll().cast_signed().rem_euclid(200 * SECOND) - 10 * SECOND;
            agenda.push(at, Due::Read(n));
            heap.push(Reverse((at, Due::Read(n))));
            now += dice.roll().cast_signed().rem_euclid(SECOND / 20);
            while let Some(entry) = agenda.pop(now) {
                assert_eq!(Some(Reverse(entry)), heap.pop());
                assert!(entry.0 <= now);
                came += 1;
            }
            assert!(
                heap.peek().is_none_or(|Reverse((at, _))| *at > now),
                "something is due and does not come"
            );
        }
        // A process that stood still for an hour.
        now += 3_600 * SECOND;
        while let Some(entry) = agenda.pop(now) {
            assert_eq!(Some(Reverse(entry)), heap.pop());
            came += 1;
        }
        assert_eq!((came, heap.len()), (20_000, 0));
    }
}
