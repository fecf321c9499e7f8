//! Records as CSV and as Parquet.

use std::io::Write;
use std::sync::Arc;

use fleet_core::batch::{BatchBuilder, Record, Row, arrow_schema};
use fleet_core::{Micros, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::{Error, Table};

/// Columns `vehicle,ts_ms`, the schema's and `quality`. NULL is empty, and a number is written so that
/// it reads back as the same `f64`, that of a `real` column too: text has no reason to round it.
///
/// # Errors
/// What the file system says.
pub(super) fn write_csv(schema: &Schema, table: &Table, file: impl Write + Send) -> Result<(), Error> {
    let mut csv = csv::Writer::from_writer(file);
    let columns = schema.columns().map(|column| column.name.as_str());
    csv.write_record(["vehicle", "ts_ms"].into_iter().chain(columns).chain(["quality"]))?;
    for (vehicle, rows) in table {
        for (ts, record) in rows {
            csv.write_field(vehicle.as_str())?;
            csv.write_field(millis(*ts))?;
            for value in &record.values {
                csv.write_field(value.map(|v| v.to_string()).unwrap_or_default())?;
            }
            csv.write_field(record.quality.to_string())?;
            csv.write_record(None::<&[u8]>)?;
        }
    }
    csv.flush()?;
    Ok(())
}

/// Milliseconds, with decimals where the grid is finer.
pub(super) fn millis(ts: Micros) -> String {
    let sign = if ts < 0 { "-" } else { "" };
    let (whole, rest) = (ts.unsigned_abs() / 1_000, ts.unsigned_abs() % 1_000);
    if rest == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{rest:03}") }
}

/// Rows that go to the Parquet writer at a time.
const ROWS: usize = 65_536;

/// The columns of [`arrow_schema`], units in their metadata, zstd.
///
/// # Errors
/// What Parquet or the file system says.
pub(super) fn write_parquet(schema: &Schema, table: &Table, file: impl Write + Send) -> Result<(), Error> {
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let properties = WriterProperties::builder().set_compression(zstd).build();
    let mut writer = ArrowWriter::try_new(file, Arc::new(arrow_schema(schema)), Some(properties))?;
    let mut builder = BatchBuilder::new(schema);
    for (vehicle, rows) in table {
        for (ts, record) in rows {
            let key = builder.vehicle(vehicle, 0);
            push(&mut builder, key, *ts, record);
            if builder.len() >= ROWS {
                writer.write(builder.seal()?.record())?;
            }
        }
    }
    writer.write(builder.seal()?.record())?;
    writer.close()?;
    Ok(())
}

fn push(builder: &mut BatchBuilder, key: i32, ts: Micros, record: &Record) {
    let values: Vec<f64> = record.values.iter().map(|v| v.unwrap_or(f64::NAN)).collect();
    builder.push(key, Row { ts, values: &values, quality: record.quality, correction: false });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_have_decimals_only_where_needed() {
        assert_eq!(
            [millis(1_500_000), millis(1_500), millis(-1), millis(-2_000)],
            ["1500", "1.500", "-0.001", "-2"]
        );
    }
}
