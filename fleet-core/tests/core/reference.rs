//! What the table of one vehicle must be (DESIGN section 6), by sorting and scanning all samples.
//! Slow, plain and without a line of the aligner's.

use std::collections::BTreeMap;

/// How a signal is interpolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Linear,
    Previous,
    GreatCircle,
}

/// A signal with every sample there is of it, in any order: `(time in µs, values)`.
#[derive(Debug, Clone)]
pub(crate) struct Signal {
    pub(crate) method: Method,
    pub(crate) max_gap: i64,
    pub(crate) samples: Vec<(i64, Vec<f64>)>,
}

/// How a value came about, numbered as in `quality`.
pub(crate) const MEASURED: u8 = 1;
pub(crate) const INTERPOLATED: u8 = 2;
pub(crate) const HELD: u8 = 3;

/// A signal's part of a row.
pub(crate) type Cell = Option<(u8, Vec<f64>)>;

/// The rows by instant, each with a cell per signal.
pub(crate) type Table = BTreeMap<i64, Vec<Cell>>;

/// The final table on a grid of `interval` microseconds.
pub(crate) fn table(signals: &[Signal], interval: i64) -> Table {
    let sorted: Vec<Vec<(i64, Vec<f64>)>> = signals.iter().map(|s| sort(&s.samples)).collect();
    let times: Vec<i64> = sorted.iter().flatten().map(|s| s.0).collect();
    let mut table = Table::new();
    for t in instants(&times, signals, interval) {
        let row: Vec<Cell> = signals.iter().zip(&sorted).map(|(s, samples)| cell(s, samples, t)).collect();
        if row.iter().any(Option::is_some) {
            table.insert(t, row);
        }
    }
    table
}

/// Sorted by time; of several at one instant the one with the largest values.
fn sort(samples: &[(i64, Vec<f64>)]) -> Vec<(i64, Vec<f64>)> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.partial_cmp(&a.1).unwrap()));
    sorted.dedup_by_key(|s| s.0);
    sorted
}

/// The grid instants from the first to the last sample that may hold a value at all: no method has
/// one more than `max_gap` after the last sample before it. (All of them would be years of seconds.)
fn instants(times: &[i64], signals: &[Signal], interval: i64) -> Vec<i64> {
    let reach = signals.iter().map(|s| s.max_gap).max().unwrap_or(0);
    let last = times.iter().copied().max().unwrap_or(0);
    let mut found: Vec<i64> = Vec::new();
    for &time in times {
        let mut k = time.div_euclid(interval);
        while k * interval <= (time + reach).min(last) {
            if k * interval >= time {
                found.push(k * interval);
            }
            k += 1;
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn cell(signal: &Signal, sorted: &[(i64, Vec<f64>)], t: i64) -> Cell {
    let before = sorted.iter().rfind(|s| s.0 <= t)?;
    if before.0 == t {
        return Some((MEASURED, before.1.clone()));
    }
    if signal.method == Method::Previous {
        return (t - before.0 <= signal.max_gap).then(|| (HELD, before.1.clone()));
    }
    let after = sorted.iter().find(|s| s.0 > t)?;
    if after.0 - before.0 > signal.max_gap {
        return None;
    }
    let share = (t - before.0) as f64 / (after.0 - before.0) as f64;
    let values = match signal.method {
        Method::GreatCircle => great_circle(&before.1, &after.1, share),
        _ => before.1.iter().zip(&after.1).map(|(a, b)| a * (1.0 - share) + b * share).collect(),
    };
    Some((INTERPOLATED, values))
}

/// By the distance and the course at the start, then "destination given distance and course": other
/// formulas than the aligner's.
pub(crate) fn great_circle(from: &[f64], to: &[f64], share: f64) -> Vec<f64> {
    let (lat1, lon1) = (from[0].to_radians(), from[1].to_radians());
    let (lat2, lon2) = (to[0].to_radians(), to[1].to_radians());
    let by = lon2 - lon1;
    let course = (by.sin() * lat2.cos()).atan2(lat1.cos() * lat2.sin() - lat1.sin() * lat2.cos() * by.cos());
    let way = share * distance(from, to);
    let lat = (lat1.sin() * way.cos() + lat1.cos() * way.sin() * course.cos()).clamp(-1.0, 1.0).asin();
    let east = (course.sin() * way.sin() * lat1.cos()).atan2(way.cos() - lat1.sin() * lat.sin());
    vec![lat.to_degrees(), (lon1 + east).to_degrees()]
}

/// The angle between two points, radians, by the haversine.
pub(crate) fn distance(from: &[f64], to: &[f64]) -> f64 {
    let half = |a: f64, b: f64| ((b - a).to_radians() / 2.0).sin().powi(2);
    let h =
        half(from[0], to[0]) + from[0].to_radians().cos() * to[0].to_radians().cos() * half(from[1], to[1]);
    2.0 * h.sqrt().min(1.0).asin()
}
