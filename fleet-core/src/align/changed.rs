//! Which samples of a message changed something.

use crate::sample::Samples;
use crate::time::Micros;

/// How many samples of a message are settled at once.
pub(super) const PIECE: usize = 64;

/// The samples that changed something, collected so that a message corrects each row once. A frame
/// has at most 64 samples; a longer message is taken in pieces.
#[derive(Default)]
pub(super) struct Changed {
    /// The piece's first sample.
    pub first: usize,
    /// A bit for each of the piece's samples.
    pub bits: u64,
    /// Whether a row that was emitted may hang on them.
    pub corrects: bool,
}

impl Changed {
    pub(super) fn push(&mut self, sample: usize) {
        self.bits |= 1 << (sample - self.first);
    }

    /// The instants, sorted.
    pub(super) fn times<'a>(&self, samples: &Samples, room: &'a mut [Micros; PIECE]) -> &'a [Micros] {
        let piece = samples.iter().skip(self.first).take(PIECE).enumerate();
        let changed = piece.filter(|(i, _)| self.bits >> i & 1 == 1);
        let mut len = 0;
        for (place, (_, (time, _))) in room.iter_mut().zip(changed) {
            *place = time;
            len += 1;
        }
        let times = &mut room[..len];
        times.sort_unstable();
        times
    }
}
