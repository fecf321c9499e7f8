//! What the archive costs: rows per second on one core, and bytes on disk.
//! `cargo bench -p fleet-sinks --bench parquet`
//!
//! Batches of 20,000 rows of the default schema, 2,000 vehicles, ten records each, as they come in a
//! catch-up; values move as a vehicle's do, rounded as sensors give them.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark")]

use std::time::{Duration, Instant};

use fleet_core::batch::{Batch, BatchBuilder, Row};
use fleet_core::time::SECOND;
use fleet_core::{Schema, Sink, VehicleId};
use fleet_sinks::parquet::{ParquetOptions, ParquetSink};

const VEHICLES: i64 = 2_000;
const RECORDS: i64 = 10;
const BATCHES: i64 = 100;

fn batch(builder: &mut BatchBuilder, number: i64) -> Batch {
    for vehicle in 0..VEHICLES {
        let key = builder.vehicle(&VehicleId::new(&format!("WVWZZZ1KZ8W{vehicle:06}")).unwrap(), 1);
        for record in 0..RECORDS {
            let step = number * RECORDS + record;
            let wave = ((step as f64 + vehicle as f64) / 20.0).sin();
            let round = |value: f64, digits: f64| (value * digits).round() / digits;
            let values = [
                round(48.0 + vehicle as f64 / 1e3 + step as f64 * 1e-4, 1e7),
                round(11.0 + step as f64 * 1e-4, 1e7),
                round(60.0 + 30.0 * wave, 100.0),
                round(70.0 - step as f64 / 1e3, 100.0),
                round(80.0 + 10.0 * wave, 10.0),
            ];
            let ts = 1_769_904_000 * SECOND + step * 10 * SECOND;
            builder.push(key, Row { ts, values: &values, quality: 0b10_10_10_10, correction: false });
        }
    }
    builder.seal().unwrap()
}

fn main() {
    let schema = Schema::default();
    let root = tempfile::tempdir().unwrap();
    let options = ParquetOptions::new(root.path(), "bench");
    let mut sink = ParquetSink::new(options, &schema, fleet_worker::clock::now).unwrap();
    let mut builder = BatchBuilder::new(&schema);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut took = Duration::ZERO;
    for number in 0..BATCHES {
        let batch = batch(&mut builder, number);
        let begun = Instant::now();
        runtime.block_on(sink.accept(&batch)).unwrap();
        took += begun.elapsed();
    }
    let begun = Instant::now();
    runtime.block_on(sink.flush()).unwrap();
    took += begun.elapsed();
    let rows = (VEHICLES * RECORDS * BATCHES) as f64;
    let bytes: u64 = std::fs::read_dir(root.path())
        .unwrap()
        .flat_map(|day| std::fs::read_dir(day.unwrap().path()).unwrap())
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    println!("{rows} rows in {} files", sink.files());
    println!("rows per second, one at a time    {:12.0}   (goal 1,000,000)", rows / took.as_secs_f64());
    println!("bytes on disk per row             {:12.1}", bytes as f64 / rows);
}
