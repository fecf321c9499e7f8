//! The archive as pyarrow and DuckDB read it.

use std::path::Path;
use std::process::Command;

use fleet_core::batch::{BatchBuilder, Record, Row};
use fleet_core::sink::contract::Stored;
use fleet_core::sink::memory::MemorySink;
use fleet_core::time::SECOND;
use fleet_core::{Schema, Sink, VehicleId};
use fleet_sinks::parquet::ParquetOptions;
use fleet_worker::local::python_packages;

use crate::fixture::{MIDNIGHT, files, sink, stored};

/// The table that DuckDB makes of an archive.
async fn duckdb(root: &Path) -> Stored {
    let packages = python_packages(include_str!("requirements.txt")).await.unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet/peers.py");
    let done = Command::new("python3").arg(script).arg(root).env("PYTHONPATH", packages).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let row = |line: &str| {
        let (vehicle, ts, values, quality): (String, i64, Vec<Option<f64>>, i64) =
            serde_json::from_str(line).unwrap();
        ((VehicleId::new(&vehicle).unwrap(), ts), Record { values, quality })
    };
    String::from_utf8(done.stdout).unwrap().lines().map(row).collect()
}

#[tokio::test]
async fn pyarrow_reads_and_duckdb_resolves() {
    let root = tempfile::tempdir().unwrap();
    let schema = Schema::default();
    let mut memory = MemorySink::new(&schema);
    let mut builder = BatchBuilder::new(&schema);
    let options = ParquetOptions { max_bytes: 20_000, ..ParquetOptions::new(root.path(), "w") };
    let mut sink = sink(options, &schema);
    // Rows over midnight that come again and again, each time with other signals.
    for round in 0..40_i64 {
        for n in 0..60_i64 {
            let vehicle = VehicleId::new(&format!("V{}", n % 7)).unwrap();
            let key = builder.vehicle(&vehicle, i32::try_from(1 + round / 20).unwrap());
            let bits = (n * 7 + round * 13) & 0xff;
            let mut values = [f64::NAN; 5];
            for (s, signal) in schema.signals().iter().enumerate() {
                if bits >> (2 * s) & 3 != 0 {
                    values[signal.column_range()].fill((round * 100 + n) as f64 / 7.0);
                }
            }
            let ts = MIDNIGHT + (n * 31 + round) % 80 * SECOND - 40 * SECOND;
            if bits != 0 {
                builder.push(key, Row { ts, values: &values, quality: bits, correction: round > 3 });
            }
        }
        let batch = builder.seal().unwrap();
        memory.accept(&batch).await.unwrap();
        sink.accept(&batch).await.unwrap();
    }
    sink.flush().await.unwrap();
    assert!(files(root.path()) > 5);
    let (ours, theirs) = (stored(root.path(), &schema), duckdb(root.path()).await);
    let must = memory.rows();
    for (name, table) in [("ours", ours), ("DuckDB's", theirs)] {
        let differing = must.iter().find(|(key, record)| table.get(key) != Some(record));
        assert!(table.len() == must.len() && differing.is_none(), "{name} differs: {differing:?}");
    }
}
