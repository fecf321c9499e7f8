//! What the table must be, computed plainly from a set of samples by the words of DESIGN section 6.
//!
//! It shares nothing with the aligner: it sorts, scans and computes each record on its own, so that
//! the two are hardly wrong in the same way.

use std::collections::BTreeMap;

use fleet_core::Micros;
use fleet_core::schema::{ColumnType, Schema, Signal};

/// A record as it must be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// The instant, event time.
    pub ts: Micros,
    /// A value per column; a `real` column's is rounded to `f32`.
    pub values: Vec<Option<f64>>,
    /// Two bits per signal: 1 measured, 2 interpolated, 3 held.
    pub quality: i64,
}

/// A signal's samples by time. Of two at the same instant the larger one counts, first column first.
pub type Samples = BTreeMap<Micros, Vec<f64>>;

/// Puts a sample among the others.
pub fn add(samples: &mut Samples, time: Micros, values: &[f64]) {
    let known = samples.entry(time).or_insert_with(|| values.to_vec());
    let larger = values.iter().zip(known.iter()).find(|(new, old)| new != old).is_some_and(|(n, o)| n > o);
    if larger {
        known.copy_from_slice(values);
    }
}

/// The records of one vehicle, given the samples of each of the schema's signals.
///
/// Methods other than `linear`, `previous` and `great_circle` give NULL.
pub fn table(schema: &Schema, samples: &[Samples]) -> Vec<Expected> {
    let times = || samples.iter().flat_map(|s| s.keys().copied());
    let (Some(first), Some(last)) = (times().min(), times().max()) else { return Vec::new() };
    let interval = schema.interval();
    let mut rows = Vec::new();
    let mut ts = first.div_euclid(interval) * interval;
    while ts <= last {
        if ts >= first {
            rows.extend(record(schema, samples, ts));
        }
        ts += interval;
    }
    rows
}

fn record(schema: &Schema, samples: &[Samples], ts: Micros) -> Option<Expected> {
    let mut row = Expected { ts, values: Vec::new(), quality: 0 };
    for (number, (signal, samples)) in schema.signals().iter().zip(samples).enumerate() {
        let found = value(signal, samples, ts);
        row.quality |= found.as_ref().map_or(0, |(quality, _)| *quality) << (2 * number);
        for (c, column) in signal.columns.iter().enumerate() {
            #[allow(clippy::cast_possible_truncation, reason = "the column is real")]
            row.values.push(found.as_ref().map(|(_, values)| match column.kind {
                ColumnType::Double => values[c],
                ColumnType::Real => f64::from(values[c] as f32),
            }));
        }
    }
    (row.quality != 0).then_some(row)
}

fn value(signal: &Signal, samples: &Samples, ts: Micros) -> Option<(i64, Vec<f64>)> {
    if let Some(exact) = samples.get(&ts) {
        return Some((1, exact.clone()));
    }
    let (before, left) = samples.range(..ts).next_back()?;
    if signal.interpolation == "previous" {
        return (ts - before <= signal.max_gap).then(|| (3, left.clone()));
    }
    let (after, right) = samples.range(ts..).next()?;
    if after - before > signal.max_gap {
        return None;
    }
    #[allow(clippy::cast_precision_loss, reason = "gaps are short")]
    let share = (ts - before) as f64 / (after - before) as f64;
    match signal.interpolation.as_str() {
        "linear" => Some((2, left.iter().zip(right).map(|(l, r)| l + (r - l) * share).collect())),
        "great_circle" => Some((2, great_circle(left, right, share))),
        _ => None,
    }
}

/// The point at `share` of the shorter arc between two points in degrees.
/// <https://en.wikipedia.org/wiki/Slerp> on unit vectors.
fn great_circle(from: &[f64], to: &[f64], share: f64) -> Vec<f64> {
    let vector = |p: &[f64]| {
        let (lat, lon) = (p[0].to_radians(), p[1].to_radians());
        [lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()]
    };
    let (a, b) = (vector(from), vector(to));
    let cross = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
    let dot = a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    let angle = cross.iter().map(|x| x * x).sum::<f64>().sqrt().atan2(dot);
    let (u, v) = if angle.sin() == 0.0 {
        (1.0 - share, share)
    } else {
        (((1.0 - share) * angle).sin() / angle.sin(), (share * angle).sin() / angle.sin())
    };
    let p = [0, 1, 2].map(|i| u * a[i] + v * b[i]);
    vec![p[2].atan2(p[0].hypot(p[1])).to_degrees(), p[1].atan2(p[0]).to_degrees()]
}

#[cfg(test)]
mod tests {
    use fleet_core::schema::RecordsConfig;
    use fleet_core::time::SECOND;

    use super::*;

    fn one(method: &str, samples: &[(Micros, f64)]) -> Vec<(Micros, Option<f64>, i64)> {
        let text = format!(
            "interval = \"10s\"\n[[signal]]\nname = \"x\"\ninterpolation = \"{method}\"\nmax_gap = \"20s\"\n\
             columns = [{{ name = \"x\", unit = \"1\", min = -100, max = 100, type = \"double\" }}]"
        );
        let schema = toml::from_str::<RecordsConfig>(&text).unwrap().build().unwrap();
        let mut set = Samples::new();
        samples.iter().for_each(|(t, v)| add(&mut set, t * SECOND, &[*v]));
        table(&schema, &[set]).into_iter().map(|r| (r.ts / SECOND, r.values[0], r.quality)).collect()
    }

    #[test]
    fn by_hand() {
        assert_eq!(one("linear", &[(5, 1.0), (15, 3.0)]), [(10, Some(2.0), 2)]);
        assert_eq!(one("linear", &[(-5, 1.0), (15, 3.0)]), [(0, Some(1.5), 2), (10, Some(2.5), 2)]);
        assert_eq!(one("linear", &[(5, 1.0), (26, 3.0)]), [], "further apart than max_gap");
        assert_eq!(one("linear", &[(10, 1.0), (31, 3.0)]), [(10, Some(1.0), 1)], "an exact hit");
        assert_eq!(one("linear", &[(10, 1.0), (10, 3.0), (10, 2.0)]), [(10, Some(3.0), 1)]);
        let held = [(10, Some(1.0), 3), (20, Some(1.0), 3)];
        assert_eq!(one("previous", &[(5, 1.0), (48, 3.0)]), held, "held for max_gap");
        assert_eq!(one("linear", &[]), []);
    }

    #[test]
    fn across_the_antimeridian() {
        let p = great_circle(&[0.0, 179.0], &[0.0, -179.0], 0.25);
        assert!(p[0].abs() < 1e-12 && (p[1] - 179.5).abs() < 1e-9, "{p:?}");
    }
}
