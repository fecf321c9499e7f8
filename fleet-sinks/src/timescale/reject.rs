//! Rows that can't be stored, as an operator gets them.

use bytes::Bytes;
use fleet_core::batch::Batch;
use fleet_core::sink::RejectedRow;
use fleet_core::{Schema, time};
use serde_json::{Map, Value};

use super::encode::Rows;

/// The row as a JSON object of its columns, with the reason.
pub(super) fn reject(
    batch: &Batch,
    rows: &Rows<'_>,
    schema: &Schema,
    row: usize,
    reason: String,
) -> RejectedRow {
    let vehicle = &batch.vehicles()[rows.vehicle(row)];
    let mut object = Map::new();
    object.insert("ts".to_owned(), Value::from(time::display(rows.ts(row))));
    object.insert("vehicle".to_owned(), Value::from(vehicle.id.as_str()));
    for (i, column) in schema.columns().enumerate() {
        object.insert(column.name.clone(), rows.json(row, i));
    }
    object.insert("quality".to_owned(), Value::from(rows.quality(row)));
    let row = Bytes::from(Value::Object(object).to_string());
    RejectedRow { vehicle: vehicle.id.clone(), reason, row }
}
