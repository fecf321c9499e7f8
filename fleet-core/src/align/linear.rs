//! Straight lines between neighbours.

use super::interpolator::{At, Interpolator, Reach};
use super::view::View;
use crate::batch::Quality;
use crate::time::Micros;

/// `linear`: every column on the straight line between the neighbours; never outside them. A column
/// that wraps goes the short way.
///
/// Formula: `a + (b - a) · (t - t_a) / (t_b - t_a)`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Linear;

impl Interpolator for Linear {
    fn reach(&self, _interval: Micros) -> Reach {
        Reach { before: 1, after: 1, look_back: 0 }
    }

    fn value(&self, samples: View<'_>, at: At<'_>, out: &mut [f64]) -> Option<Quality> {
        let (left, right) = samples.bracket(at)?;
        let (part, whole) = (at.t.saturating_sub(left.time), right.time.saturating_sub(left.time));
        for (c, (column, out)) in at.columns.iter().zip(out).enumerate() {
            let from = left.value(c);
            let to = column.unwrapped(right.value(c), from);
            *out = column.wrapped(between(from, to, part, whole));
        }
        Some(Quality::Interpolated)
    }
}

/// The point `part / whole` of the way from `a` to `b`.
#[allow(clippy::cast_precision_loss, reason = "durations are far below 2^53 µs")]
pub(super) fn between(a: f64, b: f64, part: Micros, whole: Micros) -> f64 {
    let (part, whole) = (part as f64, whole as f64);
    // Multiplied first: exact for whole numbers. Huge values overflow that and go the other way.
    let mut value = a + (b - a) * part / whole;
    if !value.is_finite() {
        let share = part / whole;
        value = a * (1.0 - share) + b * share;
    }
    value.max(a.min(b)).min(a.max(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_on_the_line_is_exact_and_never_outside() {
        assert_eq!(between(10.0, 20.0, 3, 10), 13.0);
        assert_eq!(between(0.1, 0.1, 1, 3), 0.1);
        assert_eq!(between(5.0, -5.0, 10, 10), -5.0);
        assert_eq!(between(-f64::MAX, f64::MAX, 1, 2), 0.0);
        assert_eq!(between(f64::MAX, f64::MAX, 7, 9), f64::MAX);
        assert_eq!(between(0.0, 59_999_999.0, 33_333_331, 59_999_999), 33_333_331.0, "to the microsecond");
    }
}
