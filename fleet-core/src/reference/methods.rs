//! The methods' formulas, from their text-book forms.

use super::Samples;
use crate::schema::{Column, Signal};
use crate::time::Micros;

/// How far it is from one value to another: the short way where the column wraps.
fn way(column: &Column, from: f64, to: f64) -> f64 {
    if !column.wraps {
        return to - from;
    }
    let turn = column.max - column.min;
    let way = (to - from).rem_euclid(turn);
    // Of two equally short ways the rising one.
    if way > turn / 2.0 { way - turn } else { way }
}

/// A value of a column that wraps, brought back into its range.
fn wrap(column: &Column, value: f64) -> f64 {
    let turn = column.max - column.min;
    match value {
        v if column.wraps && v < column.min => v + turn,
        v if column.wraps && v > column.max => v - turn,
        v => v,
    }
}

pub(super) fn linear(signal: &Signal, from: &[f64], to: &[f64], share: f64) -> Vec<f64> {
    let columns = signal.columns.iter().zip(from.iter().zip(to));
    columns.map(|(column, (&from, &to))| wrap(column, from + way(column, from, to) * share)).collect()
}

/// By the distance and the course at the start, then "destination given distance and course".
pub(super) fn great_circle(from: &[f64], to: &[f64], share: f64) -> Vec<f64> {
    let (lat1, lon1) = (from[0].to_radians(), from[1].to_radians());
    let (lat2, lon2) = (to[0].to_radians(), to[1].to_radians());
    let by = lon2 - lon1;
    let course = (by.sin() * lat2.cos()).atan2(lat1.cos() * lat2.sin() - lat1.sin() * lat2.cos() * by.cos());
    let way = share * distance(from, to);
    let lat = (lat1.sin() * way.cos() + lat1.cos() * way.sin() * course.cos()).clamp(-1.0, 1.0).asin();
    let east = (course.sin() * way.sin() * lat1.cos()).atan2(way.cos() - lat1.sin() * lat.sin());
    let longitude = (lon1 + east).to_degrees();
    let longitude = match longitude {
        l if l > 180.0 => l - 360.0,
        l if l < -180.0 => l + 360.0,
        l => l,
    };
    vec![lat.to_degrees(), longitude]
}

/// The angle between two points, radians, by the haversine.
pub(super) fn distance(from: &[f64], to: &[f64]) -> f64 {
    let half = |a: f64, b: f64| ((b - a).to_radians() / 2.0).sin().powi(2);
    let h =
        half(from[0], to[0]) + from[0].to_radians().cos() * to[0].to_radians().cos() * half(from[1], to[1]);
    2.0 * h.sqrt().min(1.0).asin()
}

/// The samples of one column around `ts` without a gap, unwrapped from the first one on; seconds after
/// `ts`.
fn run(signal: &Signal, c: usize, samples: &Samples, ts: Micros) -> Vec<(f64, f64)> {
    let mut run: Vec<(Micros, f64)> = Vec::new();
    for (&time, values) in samples {
        let last = run.last().copied();
        if last.is_some_and(|(before, _)| time - before > signal.max_gap) {
            if time > ts {
                break;
            }
            run.clear();
        }
        let value = match run.last() {
            Some(&(_, before)) => before + way(&signal.columns[c], before, values[c]),
            None => values[c],
        };
        run.push((time, value));
    }
    run.into_iter().map(|(time, value)| ((time - ts) as f64 / 1e6, value)).collect()
}

/// Slopes at every sample of the run, then Hermite's basis functions.
pub(super) fn pchip(signal: &Signal, samples: &Samples, ts: Micros) -> Option<Vec<f64>> {
    let mut values = Vec::new();
    for (c, column) in signal.columns.iter().enumerate() {
        let run = run(signal, c, samples, ts);
        let slopes = slopes(&run);
        let right = run.iter().position(|(t, _)| *t >= 0.0)?;
        let left = right.checked_sub(1)?;
        let ((t0, y0), (t1, y1)) = (run[left], run[right]);
        let (h, s) = (t1 - t0, -t0 / (t1 - t0));
        let value = (1.0 + 2.0 * s) * (1.0 - s).powi(2) * y0
            + s * (1.0 - s).powi(2) * h * slopes[left]
            + s.powi(2) * (3.0 - 2.0 * s) * y1
            + s.powi(2) * (s - 1.0) * h * slopes[right];
        values.push(in_range(column, value));
    }
    Some(values)
}

/// Unwrapped over a whole run a heading may be many turns away.
fn in_range(column: &Column, mut value: f64) -> f64 {
    while wrap(column, value) != value {
        value = wrap(column, value);
    }
    value
}

fn slopes(run: &[(f64, f64)]) -> Vec<f64> {
    let h: Vec<f64> = run.windows(2).map(|w| w[1].0 - w[0].0).collect();
    let m: Vec<f64> = run.windows(2).map(|w| (w[1].1 - w[0].1) / (w[1].0 - w[0].0)).collect();
    let n = m.len();
    if n < 2 {
        return vec![m.first().copied().unwrap_or(0.0); run.len()];
    }
    let end = |h0: f64, h1: f64, m0: f64, m1: f64| {
        let slope = ((2.0 * h0 + h1) * m0 - h0 * m1) / (h0 + h1);
        if slope * m0 <= 0.0 {
            0.0
        } else if m0 * m1 < 0.0 && slope.abs() > 3.0 * m0.abs() {
            3.0 * m0
        } else {
            slope
        }
    };
    let inner = |i: usize| {
        if m[i - 1] * m[i] <= 0.0 {
            return 0.0;
        }
        let (w1, w2) = (2.0 * h[i] + h[i - 1], h[i] + 2.0 * h[i - 1]);
        (w1 + w2) / (w1 / m[i - 1] + w2 / m[i])
    };
    let mut slopes = vec![end(h[0], h[1], m[0], m[1])];
    slopes.extend((1..n).map(inner));
    slopes.push(end(h[n - 1], h[n - 2], m[n - 1], m[n - 2]));
    slopes
}

/// The lines' values at both ends and at every sample between, trapezoid by trapezoid.
pub(super) fn mean(signal: &Signal, interval: Micros, samples: &Samples, ts: Micros) -> Option<Vec<f64>> {
    let from = ts - interval;
    let first = *samples.range(..=from).next_back()?.0;
    let last = *samples.range(ts..).next()?.0;
    let times: Vec<Micros> = samples.range(first..=last).map(|(t, _)| *t).collect();
    if times.windows(2).any(|w| w[1] - w[0] > signal.max_gap) {
        return None;
    }
    let mut values = Vec::new();
    for (c, column) in signal.columns.iter().enumerate() {
        let run = run(signal, c, samples, ts);
        let length = interval as f64 / 1e6;
        let line = |t: f64| {
            let right = run.iter().position(|(at, _)| *at >= t).unwrap_or(run.len() - 1).max(1);
            let ((t0, y0), (t1, y1)) = (run[right - 1], run[right]);
            y0 + (y1 - y0) * (t - t0) / (t1 - t0)
        };
        let mut stops = vec![-length];
        stops.extend(run.iter().map(|p| p.0).filter(|t| (-length..0.0).contains(t)));
        stops.push(0.0);
        let area: f64 = stops.windows(2).map(|w| (line(w[0]) + line(w[1])) / 2.0 * (w[1] - w[0])).sum();
        values.push(in_range(column, area / length));
    }
    Some(values)
}
