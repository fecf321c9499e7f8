//! What is different between two tables.

use fleet_core::batch::{Quality, Record};
use fleet_core::reference::Table;
use fleet_core::schema::{Column, ColumnType, Schema, Signal};
use fleet_core::time::display;

/// The first difference in words. Values count as equal up to rounding, those of a column that wraps
/// across its ends, positions by the distance between them.
pub(crate) fn difference(schema: &Schema, got: &Table, want: &Table) -> Option<String> {
    let missing = want.keys().find(|ts| !got.contains_key(ts));
    if let Some(ts) = missing {
        return Some(format!("{} is missing: {:?}", display(*ts), want[ts]));
    }
    got.iter().find_map(|(ts, got)| {
        let Some(want) = want.get(ts) else {
            return Some(format!("{} is there for no reason: {got:?}", display(*ts)));
        };
        let mut signals = schema.signals().iter().enumerate();
        let (_, signal) = signals.find(|(s, signal)| !same(*s, signal, got, want))?;
        Some(format!("{}, {}: {got:?} is not {want:?}", display(*ts), signal.name))
    })
}

fn same(s: usize, signal: &Signal, got: &Record, want: &Record) -> bool {
    let values = |record: &Record| -> Option<Vec<f64>> {
        record.values[signal.column_range()].iter().copied().collect()
    };
    Quality::of(got.quality, s) == Quality::of(want.quality, s)
        && match (values(got), values(want)) {
            (Some(got), Some(want)) if signal.interpolation == "great_circle" => distance(&got, &want) < 1e-7,
            (Some(got), Some(want)) => {
                signal.columns.iter().zip(got.iter().zip(&want)).all(|(c, (got, want))| close(c, *got, *want))
            }
            (None, None) => got.values[signal.column_range()].iter().all(Option::is_none),
            _ => false,
        }
}

fn close(column: &Column, got: f64, want: f64) -> bool {
    let off = (got - want).abs();
    let off = if column.wraps { off.min(column.max - column.min - off) } else { off };
    match column.kind {
        ColumnType::Double => off <= 1e-9 * want.abs().max(1.0),
        ColumnType::Real => off <= f64::from(f32::EPSILON) * want.abs().max(1.0),
    }
}

/// The angle between two points, radians, by the haversine.
pub(crate) fn distance(from: &[f64], to: &[f64]) -> f64 {
    let half = |a: f64, b: f64| ((b - a).to_radians() / 2.0).sin().powi(2);
    let h =
        half(from[0], to[0]) + from[0].to_radians().cos() * to[0].to_radians().cos() * half(from[1], to[1]);
    2.0 * h.sqrt().min(1.0).asin()
}
