//! Takes out of an archive what must be forgotten: one vehicle, or all that is too old.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use fleet_core::error::{Error, Result};
use fleet_core::{Micros, VehicleId};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::file::metadata::RowGroupMetaData;

use super::encode::{SCHEMA_KEY, properties};
use super::read::names;
use super::store::{Place, Store};

/// Removes a vehicle from every file of an archive, and says of how many rows there were. Each file is
/// replaced as a whole, so that a reader sees it as it was or as it is; one that held nothing else goes.
///
/// What a worker has gathered and not written yet comes later: erase once more after its `max_age`.
///
/// # Errors
/// As [`ParquetSink`](super::ParquetSink), and [`Data`](fleet_core::ErrorKind::Data) with the name of a file
/// that can't be read. Files before it are done.
pub async fn erase(place: &Place, vehicle: &VehicleId, now: Micros) -> Result<u64> {
    let store = Store::open(place, now)?;
    let mut erased = 0;
    for date in store.dates().await? {
        for path in store.files(&date).await? {
            let (bytes, of) = (store.get(&path).await?, vehicle.clone());
            let rest = tokio::task::spawn_blocking(move || without(bytes, &of)).await;
            let rest = rest.map_err(|e| Error::internal("the task that reads a file ended").caused_by(e))?;
            match rest.map_err(|e| Error::data(format!("{path}: {e}")))? {
                None => {}
                Some(Rest { removed, bytes }) => {
                    erased += removed;
                    match bytes {
                        Some(bytes) => store.put(path, bytes).await?,
                        None => store.remove(&path).await?,
                    }
                }
            }
        }
    }
    Ok(erased)
}

/// Removes the files of all days before this one, `2026-11-24`, and says how many there were.
///
/// # Errors
/// As [`ParquetSink`](super::ParquetSink); what is removed by then stays removed.
pub async fn drop_before(place: &Place, date: &str, now: Micros) -> Result<u64> {
    let store = Store::open(place, now)?;
    let mut dropped = 0;
    for old in store.dates().await? {
        if old.as_str() >= date {
            continue;
        }
        for path in store.files(&old).await? {
            store.remove(&path).await?;
            dropped += 1;
        }
    }
    Ok(dropped)
}

/// A file without a vehicle that was in it.
struct Rest {
    removed: u64,
    /// Nothing if no row is left.
    bytes: Option<Vec<u8>>,
}

/// Nothing if the vehicle is not in it. Rows stay in their order, and what the file says of itself stays.
fn without(bytes: Vec<u8>, vehicle: &VehicleId) -> Result<Option<Rest>, String> {
    let file = bytes::Bytes::from(bytes);
    let footer = ArrowReaderMetadata::load(&file, ArrowReaderOptions::default()).map_err(said)?;
    let reader = || ParquetRecordBatchReaderBuilder::new_with_metadata(file.clone(), footer.clone());
    let removed = rows_of(reader(), vehicle)?;
    let all = footer.metadata().file_metadata().num_rows().unsigned_abs();
    if removed == 0 || removed == all {
        return Ok((removed > 0).then_some(Rest { removed, bytes: None }));
    }
    let described = footer.metadata().file_metadata().key_value_metadata();
    let described = described.and_then(|pairs| pairs.iter().find(|pair| pair.key == SCHEMA_KEY));
    let described = described.and_then(|pair| pair.value.clone()).unwrap_or_default();
    let (mut rest, schema) = (Vec::new(), Arc::clone(footer.schema()));
    let mut writer = ArrowWriter::try_new(&mut rest, schema, Some(properties(described))).map_err(said)?;
    for record in reader().build().map_err(said)? {
        let record = record.map_err(said)?;
        let kept = filter_record_batch(&record, &others(&record, vehicle)?).map_err(said)?;
        writer.write(&kept).map_err(said)?;
    }
    writer.close().map_err(said)?;
    Ok(Some(Rest { removed, bytes: Some(rest) }))
}

/// How many rows of a file are a vehicle's. Of the row groups that may have it the column `vehicle` is read
/// and no other: few files of an archive have one vehicle, though the names of most lie on both sides.
fn rows_of(
    reader: ParquetRecordBatchReaderBuilder<bytes::Bytes>,
    vehicle: &VehicleId,
) -> Result<u64, String> {
    let id = vehicle.as_str().as_bytes();
    let may = |group: &RowGroupMetaData| names(group).is_none_or(|(min, max)| min <= id && id <= max);
    let groups = reader.metadata().row_groups().iter().enumerate();
    let groups = groups.filter(|(_, group)| may(group)).map(|(number, _)| number).collect();
    let column = ProjectionMask::columns(reader.parquet_schema(), ["vehicle"]);
    let mut rows = 0;
    for record in reader.with_projection(column).with_row_groups(groups).build().map_err(said)? {
        let record = record.map_err(said)?;
        rows += record.num_rows() - others(&record, vehicle)?.true_count();
    }
    Ok(rows as u64)
}

/// Which rows are of other vehicles.
fn others(record: &RecordBatch, vehicle: &VehicleId) -> Result<BooleanArray, String> {
    let column = record.column_by_name("vehicle").and_then(|c| c.as_dictionary_opt::<Int32Type>());
    let column = column.ok_or("there is no column vehicle")?;
    let ids = column.values().as_string_opt::<i32>().ok_or("column vehicle is of another type")?;
    let is_it: Vec<bool> = ids.iter().map(|id| id == Some(vehicle.as_str())).collect();
    #[allow(clippy::cast_sign_loss, reason = "keys are positions")]
    let keep = |key: Option<i32>| key.is_none_or(|key| !is_it[key as usize]);
    Ok(column.keys().iter().map(keep).collect())
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}
