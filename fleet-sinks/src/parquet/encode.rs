//! Gathered rows as the bytes of a Parquet file.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow_schema::{ArrowError, DataType, Field, TimeUnit};
use fleet_core::batch::{FIRST_VALUE_COLUMN, arrow_schema};
use fleet_core::error::{Error, Result};
use fleet_core::schema::Schema;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::WriterProperties;

use super::gather::Piece;

/// The key of the schema, as JSON, in a file's metadata.
pub const SCHEMA_KEY: &str = "fleet.schema";

/// Rows of a row group: what a reader of one vehicle must read at least.
const ROW_GROUP: usize = 128 * 1024;

/// A file's columns: those of a batch, and what tells emissions of a row apart.
pub(super) fn file_schema(schema: &Schema) -> arrow_schema::Schema {
    let mut fields: Vec<Arc<Field>> = arrow_schema(schema).fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("epoch", DataType::Int32, false)));
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    fields.push(Arc::new(Field::new("stored_at", utc, false)));
    fields.push(Arc::new(Field::new("batch", DataType::Int64, false)));
    arrow_schema::Schema::new(fields)
}

/// The schema as JSON: the signals in the order of their bits in `quality`.
fn described(schema: &Schema) -> String {
    let signals = schema.signals().iter().map(|signal| {
        let columns = signal.columns.iter().map(|column| {
            serde_json::json!({"name": column.name, "unit": column.unit, "min": column.min, "max": column.max})
        });
        serde_json::json!({
            "name": signal.name,
            "interpolation": signal.interpolation,
            "max_gap_us": signal.max_gap,
            "columns": columns.collect::<Vec<_>>(),
        })
    });
    serde_json::json!({"interval_us": schema.interval(), "signals": signals.collect::<Vec<_>>()}).to_string()
}

/// How files are written; `described` is their schema as JSON.
pub(super) fn properties(described: String) -> WriterProperties {
    let sorted = |column_idx| SortingColumn { column_idx, descending: false, nulls_first: false };
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP))
        // By vehicle, then by time.
        .set_sorting_columns(Some(vec![sorted(1), sorted(0)]))
        .set_key_value_metadata(Some(vec![KeyValue::new(SCHEMA_KEY.to_owned(), described)]))
        .build()
}

/// Where a row is, in the order in which a file has it: by vehicle (its rank among the names), time,
/// and place among the gathered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    vehicle: i32,
    ts: i64,
    piece: u32,
    row: u32,
}

/// The file of these rows.
///
/// # Errors
/// [`Internal`](fleet_core::ErrorKind::Internal) if a batch doesn't fit the schema.
pub(super) fn encode(schema: &Schema, pieces: &[Piece]) -> Result<Vec<u8>> {
    let (names, mut places) = places(pieces)?;
    places.sort_unstable();
    let file = Arc::new(file_schema(schema));
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, Arc::clone(&file), Some(properties(described(schema))))
        .map_err(bug)?;
    let names: ArrayRef = Arc::new(StringArray::from(names));
    for places in places.chunks(ROW_GROUP) {
        let columns = columns(schema, pieces, places, &names)?;
        let record = RecordBatch::try_new(Arc::clone(&file), columns).map_err(misfit)?;
        writer.write(&record).map_err(bug)?;
    }
    writer.close().map_err(bug)?;
    Ok(bytes)
}

/// The names of all vehicles, sorted, and all rows.
fn places(pieces: &[Piece]) -> Result<(Vec<&str>, Vec<Place>)> {
    let ranks: BTreeMap<&str, ()> =
        pieces.iter().flat_map(|p| p.batch.vehicles()).map(|v| (v.id.as_str(), ())).collect();
    let names: Vec<&str> = ranks.into_keys().collect();
    let rank: HashMap<&str, i32> = names.iter().copied().zip(0..).collect();
    let mut places = Vec::new();
    for (piece, gathered) in (0..).zip(pieces) {
        let record = gathered.batch.record();
        let ts = record.column(0).as_primitive_opt::<TimestampMicrosecondType>();
        let keys = record.column(1).as_dictionary_opt::<Int32Type>();
        let (Some(ts), Some(keys)) = (ts, keys) else {
            return Err(Error::internal("a batch has no columns ts and vehicle"));
        };
        let vehicles = gathered.batch.vehicles().iter();
        let of_key: Vec<i32> = vehicles.map(|v| rank.get(v.id.as_str()).copied().unwrap_or(-1)).collect();
        for &row in &gathered.rows {
            #[allow(clippy::cast_sign_loss, reason = "keys are positions")]
            let key = keys.keys().value(row as usize) as usize;
            places.push(Place { vehicle: of_key[key], ts: ts.value(row as usize), piece, row });
        }
    }
    Ok((names, places))
}

fn columns(schema: &Schema, pieces: &[Piece], places: &[Place], names: &ArrayRef) -> Result<Vec<ArrayRef>> {
    let ts = TimestampMicrosecondArray::from_iter_values(places.iter().map(|p| p.ts)).with_timezone("UTC");
    let keys = Int32Array::from_iter_values(places.iter().map(|p| p.vehicle));
    let vehicle = DictionaryArray::<Int32Type>::try_new(keys, Arc::clone(names)).map_err(misfit)?;
    let mut columns: Vec<ArrayRef> = vec![Arc::new(ts), Arc::new(vehicle)];
    let indices: Vec<(usize, usize)> = places.iter().map(|p| (p.piece as usize, p.row as usize)).collect();
    // The values and `quality`.
    for c in FIRST_VALUE_COLUMN..=FIRST_VALUE_COLUMN + schema.column_count() {
        let parts = pieces.iter().map(|piece| piece.batch.record().columns().get(c).map(|array| &**array));
        let parts: Option<Vec<&dyn Array>> = parts.collect();
        let parts = parts.ok_or_else(|| Error::internal("a batch has another schema than its sink"))?;
        columns.push(arrow_select::interleave::interleave(&parts, &indices).map_err(misfit)?);
    }
    let piece = |place: &Place| &pieces[place.piece as usize];
    let epoch = |place: &Place| {
        let keys = piece(place).batch.record().column(1).as_dictionary::<Int32Type>().keys();
        #[allow(clippy::cast_sign_loss, reason = "keys are positions")]
        let key = keys.value(place.row as usize) as usize;
        piece(place).batch.vehicles()[key].epoch
    };
    columns.push(Arc::new(Int32Array::from_iter_values(places.iter().map(epoch))));
    let stored_at = TimestampMicrosecondArray::from_iter_values(places.iter().map(|p| piece(p).stored_at));
    columns.push(Arc::new(stored_at.with_timezone("UTC")));
    let batch = |place: &Place| piece(place).batch.sequence().cast_signed();
    columns.push(Arc::new(Int64Array::from_iter_values(places.iter().map(batch))));
    Ok(columns)
}

fn misfit(error: ArrowError) -> Error {
    Error::internal("a batch does not fit the archive's schema").caused_by(error)
}

fn bug(error: ParquetError) -> Error {
    Error::internal("a Parquet file could not be encoded").caused_by(error)
}
