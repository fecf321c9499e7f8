//! Records on their way to a sink: an Arrow batch with what a sink must know beside it.

mod builder;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, TimeUnit};

pub use builder::{BatchBuilder, Row};

use crate::ids::VehicleId;
use crate::schema::{ColumnType, Schema};

/// Two bits of `quality` per signal, signal 0 in the lowest: how its value came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Quality {
    /// There is no value: the columns are NULL.
    Missing = 0,
    /// A sample lies exactly on the instant.
    Measured = 1,
    /// Computed from samples on both sides.
    Interpolated = 2,
    /// The last sample's value, held.
    Held = 3,
}

impl Quality {
    /// These two bits at a signal's place.
    pub fn at(self, signal: usize) -> i64 {
        i64::from(self as u8) << (2 * signal)
    }

    /// A record's `quality` with these two bits in place of the signal's.
    pub fn put(self, quality: i64, signal: usize) -> i64 {
        (quality & !(3 << (2 * signal))) | self.at(signal)
    }

    /// A signal's two bits out of a record's `quality`.
    pub fn of(quality: i64, signal: usize) -> Self {
        match (quality >> (2 * signal)) & 3 {
            1 => Self::Measured,
            2 => Self::Interpolated,
            3 => Self::Held,
            _ => Self::Missing,
        }
    }
}

/// A record as plain values, without its vehicle and time.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// A value per column of the schema; `None` is NULL.
    pub values: Vec<Option<f64>>,
    /// Two bits per signal, see [`Quality`].
    pub quality: i64,
}

impl Record {
    /// A record without values.
    pub fn empty(schema: &Schema) -> Self {
        Self { values: vec![None; schema.column_count()], quality: 0 }
    }

    /// Takes over the signals that a later emission of the record has; it erases nothing.
    pub fn merge(&mut self, schema: &Schema, row: &Row<'_>) {
        for (s, signal) in schema.signals().iter().enumerate() {
            let quality = Quality::of(row.quality, s);
            if quality == Quality::Missing {
                continue;
            }
            self.quality = quality.put(self.quality, s);
            for c in signal.column_range() {
                self.values[c] = Some(row.values[c]);
            }
        }
    }
}

/// A vehicle that a batch has rows of, with the claim under which they were computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchVehicle {
    /// The vehicle.
    pub id: VehicleId,
    /// The holder's epoch: a sink changes stored rows only while it is the newest.
    pub epoch: i32,
}

/// Records of several vehicles, each row once, in the order of `(vehicle of this batch, ts)`.
///
/// The Arrow columns are `ts` (`Timestamp(µs, "UTC")`), `vehicle` (`Dictionary(Int32, Utf8)`, whose
/// keys index [`Batch::vehicles`]), the schema's columns (nullable `Float64` or `Float32`) and
/// `quality` (`Int64`).
#[derive(Debug, Clone)]
pub struct Batch {
    sequence: u64,
    record: RecordBatch,
    vehicles: Arc<[BatchVehicle]>,
    corrections: Vec<bool>,
}

impl Batch {
    /// The lane's counter: 1 for its first batch, one more for each next.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The rows.
    pub fn record(&self) -> &RecordBatch {
        &self.record
    }

    /// The vehicles, in the order of the `vehicle` column's keys.
    pub fn vehicles(&self) -> &[BatchVehicle] {
        &self.vehicles
    }

    /// For each row whether it may be stored already and must be merged.
    pub fn corrections(&self) -> &[bool] {
        &self.corrections
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.record.num_rows()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the rows take in memory, bytes.
    pub fn memory(&self) -> usize {
        self.record.get_array_memory_size() + self.corrections.len()
    }
}

/// The Arrow schema of a deployment's records, with each column's unit in its metadata.
pub fn arrow_schema(schema: &Schema) -> arrow_schema::Schema {
    let mut fields = vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new(
            "vehicle",
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            false,
        ),
    ];
    for column in schema.columns() {
        let kind = match column.kind {
            ColumnType::Double => DataType::Float64,
            ColumnType::Real => DataType::Float32,
        };
        let unit = std::collections::HashMap::from([("unit".to_owned(), column.unit.clone())]);
        fields.push(Field::new(&column.name, kind, true).with_metadata(unit));
    }
    fields.push(Field::new("quality", DataType::Int64, false));
    arrow_schema::Schema::new(fields)
}

/// The first of the schema's columns among a batch's.
pub const FIRST_VALUE_COLUMN: usize = 2;
