//! The last value, held.

use super::interpolator::{At, Interpolator, Reach};
use super::view::View;
use crate::batch::Quality;
use crate::time::Micros;

/// `previous`: the last sample's values, for `max_gap` after it, whatever follows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Previous;

impl Interpolator for Previous {
    fn reach(&self, _interval: Micros) -> Reach {
        Reach { before: 1, after: 0, look_back: 0 }
    }

    fn value(&self, samples: View<'_>, at: At<'_>, out: &mut [f64]) -> Option<Quality> {
        let last = samples.get(samples.count_before(at.t.saturating_add(1)).checked_sub(1)?)?;
        if at.t.saturating_sub(last.time) > at.max_gap {
            return None;
        }
        for (column, out) in out.iter_mut().enumerate() {
            *out = last.value(column);
        }
        Some(Quality::Held)
    }
}
