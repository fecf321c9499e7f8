//! A method of a user's own whose value tells on every sample it hangs on.

use fleet_core::align::{At, Interpolator, Reach, View};
use fleet_core::batch::Quality;

/// A value that tells every sample in its reach: a change that is not corrected shows.
#[derive(Debug)]
pub(super) struct Fingerprint {
    pub(super) before: usize,
    pub(super) after: usize,
    pub(super) looks_back: bool,
}

impl Interpolator for Fingerprint {
    fn reach(&self, interval: i64) -> Reach {
        let look_back = if self.looks_back { interval } else { 0 };
        Reach { before: self.before, after: self.after, look_back }
    }

    fn value(&self, samples: View<'_>, at: At<'_>, out: &mut [f64]) -> Option<Quality> {
        let from = at.t - if self.looks_back { at.interval } else { 0 };
        let linked = |i: usize| samples.is_bridged(i, at.max_gap);
        let mut first = samples.count_before(from + 1).checked_sub(1)?;
        let mut last = samples.count_before(at.t);
        if last >= samples.len() || !(first..last).all(linked) {
            return None;
        }
        for _ in 1..self.before {
            first -= usize::from(first > 0 && linked(first - 1));
        }
        for _ in 1..self.after {
            last += usize::from(linked(last));
        }
        out.fill(0.0);
        for i in first..=last {
            let sample = samples.get(i)?;
            for (column, out) in out.iter_mut().enumerate() {
                *out = *out * 0.7 + sample.value(column) + (sample.time - at.t) as f64 / 1e6;
            }
        }
        Some(Quality::Interpolated)
    }

    fn keeps_hits(&self) -> bool {
        !self.looks_back
    }
}
