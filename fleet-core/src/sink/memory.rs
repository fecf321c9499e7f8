//! A sink in memory: the reference for what the others store, and the end of examples and tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int64Type, TimestampMicrosecondType};

use super::{Progress, Sink};
use crate::batch::{Batch, FIRST_VALUE_COLUMN, Quality, Record};
use crate::error::Result;
use crate::ids::VehicleId;
use crate::schema::Schema;
use crate::time::Micros;

#[derive(Debug, Default)]
struct Table {
    rows: BTreeMap<(VehicleId, Micros), Record>,
    epochs: BTreeMap<VehicleId, i32>,
}

impl Table {
    fn claimed(&mut self, vehicle: &VehicleId, epoch: i32) {
        let newest = self.epochs.entry(vehicle.clone()).or_insert(epoch);
        *newest = epoch.max(*newest);
    }
}

/// Keeps the table in memory; clones share it.
#[derive(Debug, Clone)]
pub struct MemorySink {
    schema: Schema,
    table: Arc<Mutex<Table>>,
    /// How many batches it gathers before it stores them.
    gathers: usize,
    gathered: Vec<Batch>,
    durable: u64,
}

impl MemorySink {
    /// An empty table, in which a batch is durable when it is accepted.
    pub fn new(schema: &Schema) -> Self {
        Self { schema: schema.clone(), table: Arc::default(), gathers: 1, gathered: Vec::new(), durable: 0 }
    }

    /// The same table behind a sink that stores so many batches at once, as one does that writes files:
    /// what it has gathered is lost if it is dropped.
    #[must_use]
    pub fn gathering(&self, batches: usize) -> Self {
        Self { gathers: batches, gathered: Vec::new(), durable: 0, ..self.clone() }
    }

    /// Empties the table.
    pub fn clear(&self) {
        *self.table.lock().unwrap_or_else(PoisonError::into_inner) = Table::default();
    }

    /// Takes note of a claim, as a sink can that has the states beside its rows: holders with an older
    /// epoch change no stored row of the vehicle any more.
    pub fn claimed(&self, vehicle: &VehicleId, epoch: i32) {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).claimed(vehicle, epoch);
    }

    /// Everything stored, by vehicle and time.
    pub fn rows(&self) -> BTreeMap<(VehicleId, Micros), Record> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).rows.clone()
    }

    fn merge(&self, row: &mut Record, new: &Record) {
        for (i, signal) in self.schema.signals().iter().enumerate() {
            let quality = Quality::of(new.quality, i);
            if quality == Quality::Missing {
                continue;
            }
            row.quality = quality.put(row.quality, i);
            row.values[signal.column_range()].clone_from_slice(&new.values[signal.column_range()]);
        }
    }
}

impl MemorySink {
    fn store(&self, batch: &Batch) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        for vehicle in batch.vehicles() {
            table.claimed(&vehicle.id, vehicle.epoch);
        }
        for (key, ts, new) in rows(batch) {
            let vehicle = &batch.vehicles()[key];
            let current = table.epochs.get(&vehicle.id) == Some(&vehicle.epoch);
            match table.rows.get_mut(&(vehicle.id.clone(), ts)) {
                Some(row) if current => self.merge(row, &new),
                Some(_) => {}
                None => {
                    table.rows.insert((vehicle.id.clone(), ts), new);
                }
            }
        }
    }

    fn store_gathered(&mut self) -> Progress {
        for batch in std::mem::take(&mut self.gathered) {
            self.store(&batch);
            self.durable = batch.sequence();
        }
        Progress::up_to(self.durable)
    }
}

impl Sink for MemorySink {
    #[allow(clippy::unused_async, reason = "the trait's shape")]
    async fn accept(&mut self, batch: &Batch) -> Result<Progress> {
        self.gathered.push(batch.clone());
        if self.gathered.len() < self.gathers {
            return Ok(Progress::up_to(self.durable));
        }
        Ok(self.store_gathered())
    }

    #[allow(clippy::unused_async, reason = "the trait's shape")]
    async fn flush(&mut self) -> Result<Progress> {
        Ok(self.store_gathered())
    }
}

/// A batch's rows as plain values: the vehicle's key, the time, the record. The value of a `real`
/// column is that of its `f32`.
pub fn rows(batch: &Batch) -> Vec<(usize, Micros, Record)> {
    let record = batch.record();
    let ts = record.column(0).as_primitive::<TimestampMicrosecondType>();
    let keys = record.column(1).as_dictionary::<arrow_array::types::Int32Type>();
    let last = record.num_columns() - 1;
    let quality = record.column(last).as_primitive::<Int64Type>();
    let value = |column: usize, row: usize| {
        let array = record.column(column);
        if array.is_null(row) {
            return None;
        }
        array
            .as_primitive_opt::<Float64Type>()
            .map(|a| a.value(row))
            .or_else(|| array.as_primitive_opt::<Float32Type>().map(|a| f64::from(a.value(row))))
    };
    (0..record.num_rows())
        .map(|row| {
            let values = (FIRST_VALUE_COLUMN..last).map(|c| value(c, row)).collect();
            #[allow(clippy::cast_sign_loss, reason = "keys are positions")]
            let key = keys.keys().value(row) as usize;
            (key, ts.value(row), Record { values, quality: quality.value(row) })
        })
        .collect()
}
