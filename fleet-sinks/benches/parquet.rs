//! What the archive costs: rows per second on one core, and bytes on disk.
//! `cargo bench -p fleet-sinks --bench parquet`
//!
//! Batches of 20,000 rows of the default schema, 2,000 vehicles, ten records each, as they come in a
//! catch-up; values wander as a vehicle's do, in steps of what a sensor gives.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark")]

use std::time::{Duration, Instant};

use fleet_core::batch::{Batch, BatchBuilder, Row};
use fleet_core::time::SECOND;
use fleet_core::{Schema, Sink, VehicleId};
use fleet_sinks::parquet::{ParquetOptions, ParquetSink};

const VEHICLES: i64 = 2_000;
const RECORDS: i64 = 10;
const BATCHES: i64 = 100;

/// A vehicle's sensors: counts of 1e-7 degree, 0.01 km/h, 0.01 % and 0.1 degrees.
type Counts = [i64; 5];

/// splitmix64, <https://prng.di.unimi.it/splitmix64.c>
fn roll(state: &mut u64, around: i64) -> i64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z >> 33) as i64 % (2 * around + 1) - around
}

fn batch(builder: &mut BatchBuilder, fleet: &mut [Counts], dice: &mut u64, number: i64) -> Batch {
    for (vehicle, counts) in fleet.iter_mut().enumerate() {
        let key = builder.vehicle(&VehicleId::new(&format!("WVWZZZ1KZ8W{vehicle:06}")).unwrap(), 1);
        for record in 0..RECORDS {
            for (count, step) in counts.iter_mut().zip([20_000, 20_000, 500, 3, 8]) {
                *count += roll(dice, step);
            }
            let scales = [1e-7, 1e-7, 1e-2, 1e-2, 1e-1];
            let values: Vec<f64> =
                counts.iter().zip(scales).map(|(count, scale)| *count as f64 * scale).collect();
            let ts = 1_769_904_000 * SECOND + (number * RECORDS + record) * 10 * SECOND;
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
    let mut fleet = vec![[480_000_000, 110_000_000, 6_000, 7_000, 800]; VEHICLES as usize];
    let (mut dice, mut took) = (1, Duration::ZERO);
    for number in 0..BATCHES {
        let batch = batch(&mut builder, &mut fleet, &mut dice, number);
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
