//! The mean over the interval.

use super::interpolator::{At, Interpolator, Reach};
use super::linear::between;
use super::view::View;
use crate::batch::Quality;
use crate::schema::Column;
use crate::time::Micros;

/// `time_weighted_mean`: the mean over the interval that ends at the instant, of the straight lines
/// from sample to sample; for signals that are sampled faster than the grid. There is a value only if
/// all of the interval lies between samples without a gap. A column that wraps goes the short way from
/// sample to sample.
///
/// Formula: `1/T · ∫ x(t) dt` over the lines, which is the trapezoidal rule.
#[derive(Debug, Clone, Copy, Default)]
pub struct TimeWeightedMean;

impl Interpolator for TimeWeightedMean {
    fn reach(&self, interval: Micros) -> Reach {
        Reach { before: 1, after: 1, look_back: interval }
    }

    fn value(&self, samples: View<'_>, at: At<'_>, out: &mut [f64]) -> Option<Quality> {
        let from = at.t.saturating_sub(at.interval);
        let first = samples.count_before(from.saturating_add(1)).checked_sub(1)?;
        let last = samples.count_before(at.t);
        if !(first..last).all(|position| samples.is_bridged(position, at.max_gap)) {
            return None;
        }
        for (c, (column, out)) in at.columns.iter().zip(out).enumerate() {
            *out = column.wrapped(mean(samples, (first, last), (c, column), (from, at.t))?);
        }
        Some(Quality::Interpolated)
    }

    fn keeps_hits(&self) -> bool {
        false
    }
}

/// The mean of one column from the instant `from` to `until`, which lie within the samples `first` to
/// `last`.
#[allow(clippy::cast_precision_loss, reason = "intervals are far below 2^53 µs")]
fn mean(
    samples: View<'_>,
    (first, last): (usize, usize),
    (c, column): (usize, &Column),
    (from, until): (Micros, Micros),
) -> Option<f64> {
    let mut left = samples.get(first)?;
    let mut value = left.value(c);
    let mut start = None;
    // Sums of differences to the first value: a constant comes out as it is.
    let (mut sum, mut low, mut high) = (0.0, f64::INFINITY, f64::NEG_INFINITY);
    for position in first + 1..=last {
        let right = samples.get(position)?;
        let next = column.unwrapped(right.value(c), value);
        let whole = right.time.saturating_sub(left.time);
        let on_line = |t: Micros| between(value, next, t.saturating_sub(left.time), whole);
        let (begin, end) = (left.time.max(from), right.time.min(until));
        let (a, b) = (on_line(begin), on_line(end));
        let base = *start.get_or_insert(a);
        let share = end.saturating_sub(begin) as f64 / until.saturating_sub(from) as f64;
        sum += ((a / 2.0 - base / 2.0) + (b / 2.0 - base / 2.0)) * share;
        (low, high) = (low.min(a).min(b), high.max(a).max(b));
        (left, value) = (right, next);
    }
    start.map(|start| (start + sum).max(low).min(high))
}
