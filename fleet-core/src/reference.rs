//! What the table must be, computed plainly from a set of samples.
//!
//! For tests and for checking a stored table: slow, and without a line of [`align`](crate::align). It
//! sorts, scans and computes each record on its own, by other formulas where there are any, so that the
//! two are hardly wrong in the same way.

mod methods;

use std::collections::BTreeMap;

use crate::batch::{Quality, Record};
use crate::schema::{Schema, Signal};
use crate::time::Micros;

/// A signal's samples by time. Of two at the same instant the larger one counts, first column first.
pub type Samples = BTreeMap<Micros, Vec<f64>>;

/// A vehicle's records by time.
pub type Table = BTreeMap<Micros, Record>;

/// Puts a sample among the others.
pub fn add(samples: &mut Samples, time: Micros, values: &[f64]) {
    let known = samples.entry(time).or_insert_with(|| values.to_vec());
    let larger = values.iter().zip(known.iter()).find(|(new, old)| new != old).is_some_and(|(n, o)| n > o);
    if larger {
        known.copy_from_slice(values);
    }
}

/// The records of one vehicle, given the samples of each of the schema's signals. A signal whose method
/// is none of the built-in ones is NULL.
pub fn table(schema: &Schema, samples: &[Samples]) -> Table {
    let record = |ts| record(schema, samples, ts).map(|record| (ts, record));
    instants(schema, samples).into_iter().filter_map(record).collect()
}

/// The grid instants up to the last sample that may hold a value at all: no method has one before the
/// first sample or more than `max_gap` after the last one before it. (All of them may be years.)
fn instants(schema: &Schema, samples: &[Samples]) -> Vec<Micros> {
    let interval = schema.interval();
    let reach = schema.signals().iter().map(|s| s.max_gap).max().unwrap_or(0);
    let times = || samples.iter().flat_map(|s| s.keys().copied());
    let last = times().max().unwrap_or(Micros::MIN);
    let mut found = Vec::new();
    for time in times() {
        let first = -(-time).div_euclid(interval);
        let instants = (first..).map(|k| k * interval);
        found.extend(instants.take_while(|&t| t <= (time + reach).min(last)));
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn record(schema: &Schema, samples: &[Samples], ts: Micros) -> Option<Record> {
    let mut record = Record { values: Vec::new(), quality: 0 };
    for (number, (signal, samples)) in schema.signals().iter().zip(samples).enumerate() {
        match value(signal, schema.interval(), samples, ts) {
            Some((quality, values)) => {
                record.quality |= quality.at(number);
                record.values.extend(values.into_iter().map(Some));
            }
            None => record.values.extend(signal.columns.iter().map(|_| None)),
        }
    }
    (record.quality != 0).then_some(record)
}

fn value(signal: &Signal, interval: Micros, samples: &Samples, ts: Micros) -> Option<(Quality, Vec<f64>)> {
    let method = signal.interpolation.as_str();
    if method == "time_weighted_mean" {
        return methods::mean(signal, interval, samples, ts).map(|v| (Quality::Interpolated, v));
    }
    if let Some(exact) = samples.get(&ts) {
        return Some((Quality::Measured, exact.clone()));
    }
    let left = samples.range(..ts).next_back()?;
    if method == "previous" {
        return (ts - left.0 <= signal.max_gap).then(|| (Quality::Held, left.1.clone()));
    }
    let right = samples.range(ts..).next()?;
    if right.0 - left.0 > signal.max_gap {
        return None;
    }
    let share = (ts - left.0) as f64 / (right.0 - left.0) as f64;
    let values = match method {
        "linear" => methods::linear(signal, left.1, right.1, share),
        "nearest" if share <= 0.5 => left.1.clone(),
        "nearest" => right.1.clone(),
        "pchip" => methods::pchip(signal, samples, ts)?,
        "great_circle" => methods::great_circle(left.1, right.1, share),
        _ => return None,
    };
    Some((Quality::Interpolated, values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::RecordsConfig;
    use crate::time::SECOND;

    fn one(column: &str, method: &str, samples: &[(Micros, f64)]) -> Vec<(Micros, f64, i64)> {
        let text = format!(
            "interval = \"10s\"\n[[signal]]\nname = \"x\"\ninterpolation = \"{method}\"\nmax_gap = \"20s\"\n\
             columns = [{{ name = \"x\", unit = \"1\", {column} }}]"
        );
        let schema = toml::from_str::<RecordsConfig>(&text).unwrap().build().unwrap();
        let mut set = Samples::new();
        samples.iter().for_each(|(t, v)| add(&mut set, t * SECOND, &[*v]));
        let rows = table(&schema, &[set]).into_iter();
        rows.map(|(ts, record)| (ts / SECOND, record.values[0].unwrap(), record.quality)).collect()
    }

    fn plain(method: &str, samples: &[(Micros, f64)]) -> Vec<(Micros, f64, i64)> {
        one("min = -100, max = 100", method, samples)
    }

    #[test]
    fn by_hand() {
        assert_eq!(plain("linear", &[(5, 1.0), (15, 3.0)]), [(10, 2.0, 2)]);
        assert_eq!(plain("linear", &[(-5, 1.0), (15, 3.0)]), [(0, 1.5, 2), (10, 2.5, 2)]);
        assert_eq!(plain("linear", &[(5, 1.0), (26, 3.0)]), [], "further apart than max_gap");
        assert_eq!(plain("linear", &[(10, 1.0), (31, 3.0)]), [(10, 1.0, 1)], "an exact hit");
        assert_eq!(plain("linear", &[(10, 1.0), (10, 3.0), (10, 2.0)]), [(10, 3.0, 1)]);
        assert_eq!(plain("linear", &[]), []);
        let held = [(10, 1.0, 3), (20, 1.0, 3)];
        assert_eq!(plain("previous", &[(5, 1.0), (48, 3.0)]), held, "held for max_gap");
        assert_eq!(plain("nearest", &[(5, 1.0), (15, 3.0), (16, 0.0)]), [(10, 1.0, 2)], "the earlier one");
        assert_eq!(plain("nearest", &[(4, 1.0), (15, 3.0)]), [(10, 3.0, 2)]);
        // 1 to 2 over 5 s, then 2 to 6 over 5 s.
        assert_eq!(plain("time_weighted_mean", &[(0, 1.0), (5, 2.0), (10, 6.0)]), [(10, 2.75, 2)]);
        assert_eq!(plain("time_weighted_mean", &[(1, 1.0), (5, 2.0), (10, 6.0)]), [], "not covered");
    }

    #[test]
    fn pchip_by_hand() {
        // In the middle of two samples the values' mean plus an eighth of the length times the slopes'
        // difference: 2 on the left (end formula: (3 · 2 - 2) / 2), 4/3 on the right (harmonic mean).
        let samples = [(0, 0.0), (20, 2.0), (40, 3.0)];
        let got = plain("pchip", &samples)[1];
        assert_eq!((got.0, got.2), (10, 2));
        let (left, right) = ((3.0 * 0.1 - 0.05) / 2.0, 2.0 / (1.0 / 0.1 + 1.0 / 0.05));
        assert!((got.1 - (1.0 + 20.0 / 8.0 * (left - right))).abs() < 1e-12, "{got:?}");
    }

    #[test]
    fn a_heading_goes_the_short_way() {
        let heading = "min = 0, max = 360, wraps = true";
        assert_eq!(one(heading, "linear", &[(5, 350.0), (15, 20.0)]), [(10, 5.0, 2)]);
        assert_eq!(one(heading, "linear", &[(5, 20.0), (15, 350.0)]), [(10, 5.0, 2)]);
        assert_eq!(one(heading, "time_weighted_mean", &[(0, 350.0), (10, 20.0)])[0].1, 5.0);
        let curve = one(heading, "pchip", &[(5, 340.0), (15, 350.0), (25, 0.0), (35, 10.0)]);
        let near = |got: f64, want: f64| (got - want).abs() < 1e-9;
        assert!(near(curve[0].1, 345.0) && near(curve[1].1, 355.0) && near(curve[2].1, 5.0), "{curve:?}");
    }

    #[test]
    fn across_the_antimeridian() {
        let p = methods::great_circle(&[0.0, 179.0], &[0.0, -179.0], 0.25);
        assert!(p[0].abs() < 1e-12 && (p[1] - 179.5).abs() < 1e-9, "{p:?}");
    }
}
