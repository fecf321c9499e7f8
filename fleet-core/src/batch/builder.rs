//! Collects rows and seals them into a [`Batch`].

use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, DictionaryArray, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use hashbrown::HashMap;

use super::{Batch, BatchVehicle, Quality, arrow_schema};
use crate::error::{Error, Result};
use crate::ids::VehicleId;
use crate::schema::{ColumnType, Schema};
use crate::time::Micros;

/// One record as the aligner emits it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row<'a> {
    /// The grid instant, event time.
    pub ts: Micros,
    /// A value per column of the schema; NaN where there is none.
    pub values: &'a [f64],
    /// Two bits per signal, see [`Quality`].
    pub quality: i64,
    /// Whether the row may be stored already.
    pub correction: bool,
}

/// Collects rows column by column; its memory is kept from batch to batch.
#[derive(Debug)]
pub struct BatchBuilder {
    schema: Schema,
    arrow: Arc<arrow_schema::Schema>,
    sequence: u64,
    /// One more each time it was emptied: keys of an earlier time are void.
    generation: u64,
    vehicles: Vec<BatchVehicle>,
    keys: HashMap<VehicleId, i32>,
    /// By key, up to the last one of which it is true: its rows are dropped.
    forgotten: Vec<bool>,
    key: Vec<i32>,
    ts: Vec<Micros>,
    values: Vec<f64>,
    quality: Vec<i64>,
    correction: Vec<bool>,
}

impl BatchBuilder {
    /// An empty builder; its first batch has the sequence 1.
    pub fn new(schema: &Schema) -> Self {
        Self {
            schema: schema.clone(),
            arrow: Arc::new(arrow_schema(schema)),
            sequence: 0,
            generation: 1,
            vehicles: Vec::new(),
            keys: HashMap::new(),
            forgotten: Vec::new(),
            key: Vec::new(),
            ts: Vec::new(),
            values: Vec::new(),
            quality: Vec::new(),
            correction: Vec::new(),
        }
    }

    /// How many rows wait, those of a repeated instant counted each.
    pub fn len(&self) -> usize {
        self.ts.len()
    }

    /// Whether no row waits.
    pub fn is_empty(&self) -> bool {
        self.ts.is_empty()
    }

    /// The key of a vehicle in the batch under way, for [`push`](Self::push).
    ///
    /// A vehicle that was bound anew within the batch keeps its key and takes the newer epoch.
    pub fn vehicle(&mut self, id: &VehicleId, epoch: i32) -> i32 {
        if let Some(&key) = self.keys.get(id) {
            let vehicle = &mut self.vehicles[position(key)];
            vehicle.epoch = vehicle.epoch.max(epoch);
            return key;
        }
        let key = self.enter(id, epoch);
        self.keys.insert(id.clone(), key);
        key
    }

    /// The same for a caller that asks once in a batch, keeps the key itself, and has it
    /// [remembered](Self::remember) before it lets the vehicle go: nothing is hashed.
    pub(crate) fn admit(&mut self, id: &VehicleId, epoch: i32) -> i32 {
        if self.keys.is_empty() { self.enter(id, epoch) } else { self.vehicle(id, epoch) }
    }

    /// Keeps a key of the batch under way for the case that the vehicle is bound anew within it.
    pub(crate) fn remember(&mut self, id: &VehicleId, key: i32) {
        self.keys.insert(id.clone(), key);
    }

    fn enter(&mut self, id: &VehicleId, epoch: i32) -> i32 {
        self.vehicles.push(BatchVehicle { id: id.clone(), epoch });
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_possible_wrap,
            reason = "fewer than 2^31 vehicles"
        )]
        let key = (self.vehicles.len() - 1) as i32;
        key
    }

    /// Above 0, and another when the keys become void.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Appends a row of the vehicle with that key.
    pub fn push(&mut self, key: i32, row: Row<'_>) {
        debug_assert_eq!(row.values.len(), self.schema.column_count());
        self.key.push(key);
        self.ts.push(row.ts);
        self.values.extend_from_slice(row.values);
        self.quality.push(row.quality);
        self.correction.push(row.correction);
    }

    /// Drops the rows of a vehicle that somebody else computes now.
    pub fn forget(&mut self, id: &VehicleId) {
        // Its key stays with the forgotten rows; if it is bound again, it gets another.
        if let Some(key) = self.keys.remove(id) {
            let key = position(key);
            self.forgotten.resize(self.forgotten.len().max(key + 1), false);
            self.forgotten[key] = true;
        }
    }

    /// Drops all rows that wait.
    pub fn drop_rows(&mut self) {
        self.clear();
    }

    /// Takes the rows collected so far as a batch and starts the next; a batch may be empty.
    ///
    /// Of several emissions of one row the last counts, column by column: a later NULL erases
    /// nothing. Such a row is a correction only if its first emission was one.
    ///
    /// # Errors
    /// [`Internal`](crate::ErrorKind::Internal) if Arrow refuses the columns, which would be a bug.
    pub fn seal(&mut self) -> Result<Batch> {
        self.sequence += 1;
        let order = self.order();
        let keys = Int32Array::from(in_order(&order, |i| self.key[i]));
        let names = StringArray::from_iter_values(self.vehicles.iter().map(|v| v.id.as_str()));
        let vehicle = DictionaryArray::<Int32Type>::try_new(keys, Arc::new(names)).map_err(bug)?;
        let ts = TimestampMicrosecondArray::from(in_order(&order, |i| self.ts[i]));
        let mut columns: Vec<ArrayRef> = vec![Arc::new(ts.with_timezone("UTC")), Arc::new(vehicle)];
        let width = self.schema.column_count();
        for (c, column) in self.schema.columns().enumerate() {
            let values = in_order(&order, |i| self.values[i * width + c]);
            let is_null = values.iter().any(|value| value.is_nan());
            let nulls = is_null.then(|| values.iter().map(|value| !value.is_nan()).collect());
            columns.push(match column.kind {
                ColumnType::Double => Arc::new(Float64Array::new(values.into(), nulls)),
                #[allow(clippy::cast_possible_truncation, reason = "the column is real by configuration")]
                ColumnType::Real => {
                    let values = values.into_iter().map(|value| value as f32);
                    Arc::new(Float32Array::new(values.collect(), nulls))
                }
            });
        }
        columns.push(Arc::new(Int64Array::from(in_order(&order, |i| self.quality[i]))));
        let batch = Batch {
            sequence: self.sequence,
            record: RecordBatch::try_new(Arc::clone(&self.arrow), columns).map_err(bug)?,
            vehicles: self.vehicles.drain(..).collect(),
            corrections: in_order(&order, |i| self.correction[i]),
        };
        self.clear();
        Ok(batch)
    }

    fn clear(&mut self) {
        self.generation += 1;
        self.vehicles.clear();
        self.keys.clear();
        self.forgotten.clear();
        self.key.clear();
        self.ts.clear();
        self.values.clear();
        self.quality.clear();
        self.correction.clear();
    }

    /// The rows in key order, each instant of a vehicle once, its repeated emissions folded into
    /// the last one.
    fn order(&mut self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.ts.len()).collect();
        if !self.forgotten.is_empty() {
            order.retain(|&i| self.forgotten.get(position(self.key[i])) != Some(&true));
        }
        order.sort_by_key(|&i| (self.key[i], self.ts[i], i));
        let mut kept: Vec<usize> = Vec::with_capacity(order.len());
        for row in order {
            match kept.last_mut() {
                Some(last) if (self.key[*last], self.ts[*last]) == (self.key[row], self.ts[row]) => {
                    self.fold(*last, row);
                    *last = row;
                }
                _ => kept.push(row),
            }
        }
        kept
    }

    /// Fills what `later` lacks from `earlier`.
    fn fold(&mut self, earlier: usize, later: usize) {
        let width = self.schema.column_count();
        self.correction[later] = self.correction[earlier];
        for (signal, spec) in self.schema.signals().iter().enumerate() {
            if Quality::of(self.quality[later], signal) != Quality::Missing {
                continue;
            }
            self.quality[later] |= Quality::of(self.quality[earlier], signal).at(signal);
            for c in spec.column_range() {
                self.values[later * width + c] = self.values[earlier * width + c];
            }
        }
    }
}

#[allow(clippy::cast_sign_loss, reason = "keys are positions")]
fn position(key: i32) -> usize {
    key as usize
}

fn in_order<T>(order: &[usize], get: impl Fn(usize) -> T) -> Vec<T> {
    order.iter().map(|&row| get(row)).collect()
}

fn bug(error: arrow_schema::ArrowError) -> Error {
    Error::internal("the columns of a batch do not fit its schema").caused_by(error)
}

#[cfg(test)]
mod tests {
    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Float32Type, Int64Type, TimestampMicrosecondType};

    use super::*;

    const NONE: f64 = f64::NAN;

    #[test]
    fn rows_come_out_in_key_order_and_the_last_emission_counts_per_signal() {
        let schema = Schema::default();
        let mut builder = BatchBuilder::new(&schema);
        let (a, b) = (VehicleId::new("a").unwrap(), VehicleId::new("b").unwrap());
        let key_b = builder.vehicle(&b, 1);
        let key_a = builder.vehicle(&a, 7);
        let speed = Quality::Interpolated.at(1);
        let fuel = Quality::Measured.at(2);
        let row = |ts, values, quality, correction| Row { ts, values, quality, correction };
        builder.push(key_a, row(20, &[NONE, NONE, 5.0, NONE, NONE], speed, false));
        builder.push(key_b, row(10, &[NONE, NONE, 6.0, NONE, NONE], speed, false));
        builder.push(key_a, row(10, &[NONE, NONE, 7.0, NONE, NONE], speed, true));
        builder.push(key_a, row(20, &[NONE, NONE, NONE, 8.0, NONE], fuel, true));
        let batch = builder.seal().unwrap();
        assert_eq!(batch.sequence(), 1);
        let ts = batch.record().column(0).as_primitive::<TimestampMicrosecondType>();
        assert_eq!(ts.values(), &[10, 10, 20]);
        let speeds = batch.record().column_by_name("speed_kmh").unwrap().as_primitive::<Float32Type>();
        assert_eq!(speeds.iter().collect::<Vec<_>>(), [Some(6.0), Some(7.0), Some(5.0)]);
        let fuels = batch.record().column_by_name("fuel_level_pct").unwrap().as_primitive::<Float32Type>();
        assert_eq!(fuels.null_count(), 2);
        let quality = batch.record().column_by_name("quality").unwrap().as_primitive::<Int64Type>();
        assert_eq!(quality.value(2), speed | fuel);
        assert_eq!(batch.corrections(), [false, true, false]);
        assert_eq!(batch.vehicles()[1], BatchVehicle { id: a, epoch: 7 });

        assert!(builder.is_empty());
        let key = builder.vehicle(&b, 1);
        builder.push(key, row(10, &[1.0; 5], 0b01_01_01_01, false));
        builder.forget(&b);
        let key = builder.vehicle(&b, 2);
        builder.push(key, row(20, &[1.0; 5], 0b01_01_01_01, false));
        let batch = builder.seal().unwrap();
        assert_eq!(batch.len(), 1, "the rows of a forgotten binding are gone");
        assert_eq!(batch.record().column(0).as_primitive::<TimestampMicrosecondType>().values(), &[20]);
        // Bound anew within a batch without having been dropped.
        assert_eq!(builder.vehicle(&b, 2), builder.vehicle(&b, 5));
        let key = builder.vehicle(&b, 4);
        builder.push(key, row(30, &[1.0; 5], 0b01_01_01_01, false));
        assert_eq!(builder.seal().unwrap().vehicles(), [BatchVehicle { id: b, epoch: 5 }]);
        let empty = builder.seal().unwrap();
        assert!(empty.is_empty() && empty.sequence() == 4);
    }
}
