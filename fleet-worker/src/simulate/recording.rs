//! Recordings: CSV with the columns `vehicle,signal,ts_ms,value,value2`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fleet_core::ids::SignalIndex;
use fleet_core::{Micros, Schema, VehicleId};

/// What is wrong with a recording.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file can't be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A line is not as it must be.
    #[error("{}:{line}: {what}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// The field and the value.
        what: String,
    },
}

/// One recorded sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Which signal.
    pub signal: SignalIndex,
    /// Since the vehicle's first sample, microseconds.
    pub after: Micros,
    /// A value per column.
    pub values: Vec<f64>,
}

/// Each vehicle's samples in the file's order, moved so that every vehicle's first is at 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recording {
    /// By name.
    pub vehicles: Vec<(VehicleId, Vec<Recorded>)>,
}

impl Recording {
    /// Reads a file.
    ///
    /// # Errors
    /// The line, the field and the value of the first fault.
    pub fn read(path: &Path, schema: &Schema) -> Result<Self, RecordingError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| RecordingError::Unreadable { path: path.to_owned(), error })?;
        Self::parse(&text, schema).map_err(|(line, what)| RecordingError::Line {
            path: path.to_owned(),
            line,
            what,
        })
    }

    fn parse(text: &str, schema: &Schema) -> Result<Self, (usize, String)> {
        let mut lines = text.lines().zip(1..);
        if lines.next().is_none_or(|(header, _)| header.trim_end() != "vehicle,signal,ts_ms,value,value2") {
            return Err((1, "the header must be vehicle,signal,ts_ms,value,value2".to_owned()));
        }
        let mut vehicles: BTreeMap<VehicleId, Vec<Recorded>> = BTreeMap::new();
        for (line, number) in lines.filter(|(line, _)| !line.trim().is_empty()) {
            let (vehicle, recorded) = row(line, schema).map_err(|what| (number, what))?;
            vehicles.entry(vehicle).or_default().push(recorded);
        }
        for samples in vehicles.values_mut() {
            let first = samples.iter().map(|s| s.after).min().unwrap_or(0);
            samples.iter_mut().for_each(|s| s.after -= first);
        }
        Ok(Self { vehicles: vehicles.into_iter().collect() })
    }

    /// How long the longest vehicle's recording is, microseconds.
    pub fn length(&self) -> Micros {
        self.vehicles.iter().flat_map(|(_, samples)| samples).map(|s| s.after).max().unwrap_or(0)
    }
}

fn row(line: &str, schema: &Schema) -> Result<(VehicleId, Recorded), String> {
    let fields: Vec<&str> = line.trim_end().split(',').collect();
    let [vehicle, signal, ts, value, value2] = fields[..] else {
        return Err(format!("{} fields instead of 5", fields.len()));
    };
    let vehicle = VehicleId::new(vehicle).map_err(|e| e.to_string())?;
    let index = schema.find(signal).ok_or_else(|| format!("signal {signal:?} is not in the schema"))?;
    let ms: i64 = ts.parse().map_err(|e| format!("ts_ms {ts:?}: {e}"))?;
    let after = ms.checked_mul(1_000).ok_or_else(|| format!("ts_ms {ts:?} is out of range"))?;
    let columns = schema.signal(index).columns.len();
    let given = [("value", value), ("value2", value2)];
    if columns > given.len() {
        return Err(format!("signal {signal:?} has {columns} columns; a recording has 2 values"));
    }
    let mut values = Vec::with_capacity(columns);
    for (name, text) in &given[..columns] {
        let number: f64 = text.parse().map_err(|e| format!("{name} {text:?}: {e}"))?;
        if !number.is_finite() {
            return Err(format!("{name} {text:?} is not finite"));
        }
        values.push(number);
    }
    if let Some((name, text)) = given[columns..].iter().find(|(_, text)| !text.is_empty()) {
        return Err(format!("{name} {text:?} is one value too many for signal {signal:?}"));
    }
    Ok((vehicle, Recorded { signal: index, after, values }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "vehicle,signal,ts_ms,value,value2\n";

    #[test]
    fn every_vehicle_starts_at_zero() {
        let text = format!("{HEADER}a,speed,5000,1,\nb,position,9000,48.1,11.5\na,fuel,7500,50,\n");
        let recording = Recording::parse(&text, &Schema::default()).unwrap();
        assert_eq!(recording.vehicles.len(), 2);
        assert_eq!(recording.vehicles[0].1[1].after, 2_500_000);
        assert_eq!(recording.vehicles[1].1[0].values, [48.1, 11.5]);
        assert_eq!(recording.length(), 2_500_000);
    }

    #[test]
    fn a_fault_names_line_field_and_value() {
        let schema = Schema::default();
        for (row, said) in [
            ("a,speed,5,fast,", "value \"fast\""),
            ("a,speed,x,1,", "ts_ms \"x\""),
            ("a,rpm,5,1,", "signal \"rpm\""),
            ("a,speed,5,1,2", "value2 \"2\""),
            ("a.b,speed,5,1,", "vehicle \"a.b\""),
            ("a,speed,5,NaN,", "value \"NaN\""),
            ("a,speed,5", "3 fields"),
        ] {
            let (line, what) = Recording::parse(&format!("{HEADER}{row}\n"), &schema).unwrap_err();
            assert!(line == 2 && what.contains(said), "{row}: {what}");
        }
    }
}
