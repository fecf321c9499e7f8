//! Smooth curves that never overshoot.

use super::interpolator::{At, Interpolator, Reach};
use super::linear::between;
use super::view::{Sample, View};
use crate::batch::Quality;
use crate::schema::Column;
use crate::time::Micros;

/// `pchip`: a cubic piece between the neighbours whose slope goes on in the next piece, monotone where
/// the samples are and thus never outside its two neighbours. It looks at up to two samples on each
/// side, none of them beyond a gap; with one on each side it is the straight line. A column that wraps
/// goes the short way from sample to sample.
///
/// Formula: F. N. Fritsch and J. Butland, "A method for constructing local monotone piecewise cubic
/// interpolants", SIAM J. Sci. Stat. Comput. 5 (1984): at an inner sample the weighted harmonic mean of
/// the slopes on both sides, 0 where these differ in sign; at an end the shape-preserving three-point
/// formula of C. Moler, *Numerical Computing with MATLAB* (2004). SciPy's `PchipInterpolator` is the
/// same.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pchip;

impl Interpolator for Pchip {
    fn reach(&self, _interval: Micros) -> Reach {
        Reach { before: 2, after: 2, look_back: 0 }
    }

    fn value(&self, samples: View<'_>, at: At<'_>, out: &mut [f64]) -> Option<Quality> {
        let right = samples.count_before(at.t);
        let left = right.checked_sub(1)?;
        let bridged = |position: &usize| samples.is_bridged(*position, at.max_gap);
        if !bridged(&left) {
            return None;
        }
        let before = left.checked_sub(1).filter(bridged).and_then(|before| samples.get(before));
        let after = Some(right).filter(bridged).and_then(|right| samples.get(right + 1));
        let (left, right) = (samples.get(left)?, samples.get(right)?);
        for (c, (column, out)) in at.columns.iter().zip(out).enumerate() {
            let from = Point::new(left, left.value(c));
            let to = from.next(right, c, column);
            let before = before.map(|sample| from.previous(sample, c, column));
            let after = after.map(|sample| to.next(sample, c, column));
            *out = column.wrapped(cubic([before, Some(from), Some(to), after], at.t)?);
        }
        Some(Quality::Interpolated)
    }
}

/// A sample's value in one column, unwrapped.
#[derive(Clone, Copy)]
struct Point {
    time: Micros,
    value: f64,
}

impl Point {
    fn new(sample: Sample<'_>, value: f64) -> Self {
        Self { time: sample.time, value }
    }

    fn next(self, sample: Sample<'_>, c: usize, column: &Column) -> Self {
        Self::new(sample, column.unwrapped(sample.value(c), self.value))
    }

    /// The same way between the two as when `self` is the next one.
    fn previous(self, sample: Sample<'_>, c: usize, column: &Column) -> Self {
        let there = sample.value(c);
        Self::new(sample, self.value - (column.unwrapped(self.value, there) - there))
    }
}

/// The straight line between two samples: its length in microseconds and its slope.
#[derive(Clone, Copy)]
struct Chord {
    length: f64,
    slope: f64,
}

impl Chord {
    #[allow(clippy::cast_precision_loss, reason = "gaps are far below 2^53 µs")]
    fn new(from: Point, to: Point) -> Self {
        let length = to.time.saturating_sub(from.time) as f64;
        Self { length, slope: (to.value - from.value) / length }
    }
}

/// The curve's value at `t`, which lies between the two middle points.
#[allow(clippy::cast_precision_loss, reason = "gaps are far below 2^53 µs")]
fn cubic([before, from, to, after]: [Option<Point>; 4], t: Micros) -> Option<f64> {
    let (from, to) = (from?, to?);
    let chord = Chord::new(from, to);
    let before = before.map(|before| Chord::new(before, from));
    let after = after.map(|after| Chord::new(to, after));
    let slope = |inner: Option<Chord>, other: Option<Chord>| match (inner, other) {
        (Some(inner), _) => inner_slope(chord, inner),
        (None, Some(other)) => end_slope(chord, other),
        (None, None) => chord.slope,
    };
    let (first, last) = (slope(before, after), slope(after, before));
    let (part, whole) = (t.saturating_sub(from.time), to.time.saturating_sub(from.time));
    let line = between(from.value, to.value, part, whole);
    let (share, rest) = (part as f64 / chord.length, (whole - part) as f64 / chord.length);
    // Hermite's cubic as what it adds to the line.
    let bend = rest * (first - chord.slope) - share * (last - chord.slope);
    let value = line + share * rest * bend * chord.length;
    let (low, high) = (from.value.min(to.value), from.value.max(to.value));
    Some(if value.is_finite() { value.max(low).min(high) } else { line })
}

/// The slope at a sample between two chords.
fn inner_slope(chord: Chord, inner: Chord) -> f64 {
    if chord.slope == inner.slope {
        return chord.slope;
    }
    if chord.slope == 0.0 || inner.slope == 0.0 || chord.slope.signum() != inner.slope.signum() {
        return 0.0;
    }
    let (own, others) = (2.0 * inner.length + chord.length, inner.length + 2.0 * chord.length);
    (own + others) / (own / chord.slope + others / inner.slope)
}

/// The slope at the end of a chord that `far` follows on its other side.
fn end_slope(chord: Chord, far: Chord) -> f64 {
    let lengths = chord.length + far.length;
    let slope = ((lengths + chord.length) * chord.slope - chord.length * far.slope) / lengths;
    if chord.slope == 0.0 || slope.signum() != chord.slope.signum() {
        0.0
    } else if chord.slope.signum() != far.slope.signum() && slope.abs() > 3.0 * chord.slope.abs() {
        3.0 * chord.slope
    } else {
        slope
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(points: &[(Micros, f64)], t: Micros) -> f64 {
        let point = |i: usize| points.get(i).map(|&(time, value)| Point { time, value });
        let right = points.iter().position(|p| p.0 >= t).unwrap();
        let outer = [right.checked_sub(2), right.checked_sub(1), Some(right), Some(right + 1)];
        cubic(outer.map(|i| i.and_then(point)), t).unwrap()
    }

    #[test]
    fn two_samples_give_a_line_and_lines_stay_lines() {
        assert_eq!(at(&[(0, 0.0), (10, 20.0)], 3), 6.0);
        assert_eq!(at(&[(0, 0.0), (10, 20.0), (15, 30.0), (40, 80.0)], 12), 24.0);
    }

    #[test]
    fn a_step_is_not_overshot_and_a_peak_is_flat() {
        let step = [(0, 0.0), (10, 0.0), (20, 1.0), (30, 1.0)];
        assert_eq!(at(&step, 5), 0.0);
        assert_eq!(at(&step, 15), 0.5);
        assert_eq!(at(&step, 25), 1.0);
        // Hermite with the slopes 0 and 0: 3s² - 2s³.
        assert!((at(&[(0, 0.0), (10, 1.0), (20, 0.0), (30, 1.0)], 12) - (1.0 - 0.104)).abs() < 1e-15);
    }
}
