//! The nearer neighbour's value.

use super::interpolator::{At, Interpolator, Reach};
use super::view::View;
use crate::batch::Quality;
use crate::time::Micros;

/// `nearest`: the values of the nearer of the two neighbours, of two as near the earlier one's.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nearest;

impl Interpolator for Nearest {
    fn reach(&self, _interval: Micros) -> Reach {
        Reach { before: 1, after: 1, look_back: 0 }
    }

    fn value(&self, samples: View<'_>, at: At<'_>, out: &mut [f64]) -> Option<Quality> {
        let (left, right) = samples.bracket(at)?;
        let past_half = at.t.saturating_sub(left.time) > right.time.saturating_sub(at.t);
        let nearer = if past_half { right } else { left };
        for (column, out) in out.iter_mut().enumerate() {
            *out = nearer.value(column);
        }
        Some(Quality::Interpolated)
    }
}
