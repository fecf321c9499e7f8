//! Batches and archives for the tests.

use std::path::Path;

use fleet_core::batch::{Batch, BatchBuilder, Row};
use fleet_core::sink::contract::Stored;
use fleet_core::time::SECOND;
use fleet_core::{Micros, Schema, VehicleId};
use fleet_sinks::parquet::{Archive, ParquetOptions, ParquetSink};

/// 2026-02-01T00:00:00Z
pub(crate) const MIDNIGHT: Micros = 1_769_904_000 * SECOND;

pub(crate) fn sink(options: ParquetOptions, schema: &Schema) -> ParquetSink {
    ParquetSink::new(options, schema, fleet_worker::clock::now).unwrap()
}

/// Rows of the default schema, `(vehicle, ts, speed)`, with the speed for every column.
pub(crate) fn batch(builder: &mut BatchBuilder, rows: &[(usize, Micros, f64)]) -> Batch {
    for &(vehicle, ts, speed) in rows {
        let key = builder.vehicle(&VehicleId::new(&format!("V{vehicle:04}")).unwrap(), 1);
        builder.push(key, Row { ts, values: &[speed; 5], quality: 0b01_01_01_01, correction: false });
    }
    builder.seal().unwrap()
}

/// Everything in an archive.
pub(crate) fn stored(root: &Path, schema: &Schema) -> Stored {
    let archive = Archive::open(root);
    let days = archive.dates().unwrap().into_iter();
    days.flat_map(|date| archive.read(schema, &date).unwrap()).collect()
}

pub(crate) fn files(root: &Path) -> usize {
    let archive = Archive::open(root);
    archive.dates().unwrap().iter().map(|date| archive.files(date).unwrap().len()).sum()
}
