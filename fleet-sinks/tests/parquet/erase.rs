//! What an archive forgets.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use fleet_core::batch::BatchBuilder;
use fleet_core::time::SECOND;
use fleet_core::{ErrorKind, Schema, Sink, VehicleId};
use fleet_sinks::parquet::{Archive, ParquetOptions, Place, SCHEMA_KEY, drop_before, erase};
use fleet_worker::clock::now;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::fixture::{MIDNIGHT, batch, files, sink, stored};

const DAY: i64 = 86_400 * SECOND;

fn vehicle(n: usize) -> VehicleId {
    VehicleId::new(&format!("V{n:04}")).unwrap()
}

/// Three days: both vehicles, the first alone, the second alone; a file each.
async fn three_days(place: impl Into<Place>, schema: &Schema) {
    let mut sink = sink(ParquetOptions::new(place, "w"), schema);
    let mut builder = BatchBuilder::new(schema);
    for (day, vehicles) in [(0, [1, 2]), (1, [1, 1]), (2, [2, 2])] {
        let rows: Vec<_> = (0..100)
            .flat_map(|n| vehicles.map(|v| (v, MIDNIGHT + day * DAY + n * 10 * SECOND, n as f64)))
            .collect();
        sink.accept(&batch(&mut builder, &rows)).await.unwrap();
        sink.flush().await.unwrap();
    }
}

#[tokio::test]
async fn a_vehicle_is_in_no_file_and_the_others_rows_are_as_they_were() {
    let (root, schema) = (tempfile::tempdir().unwrap(), Schema::default());
    three_days(root.path(), &schema).await;
    let mut must = stored(root.path(), &schema);
    let before = must.len() as u64;
    must.retain(|(v, _), _| *v != vehicle(1));
    let place = Place::from(root.path());
    assert_eq!(erase(&place, &vehicle(1), now()).await.unwrap(), before - must.len() as u64);
    assert_eq!(stored(root.path(), &schema), must);
    assert_eq!((must.len(), files(root.path())), (200, 2), "the file of the first alone is gone");
    assert_eq!(Archive::open(root.path()).dates().unwrap().len(), 2, "and its day");
    assert!(!contains(root.path(), &vehicle(1)), "not even in a file's statistics");
    assert!(contains(root.path(), &vehicle(2)));
    let again = (erase(&place, &vehicle(1), now()).await, erase(&place, &vehicle(9), now()).await);
    assert!(matches!(again, (Ok(0), Ok(0))), "{again:?}");
}

/// Whether a visible file's bytes have the name, as those of its statistics do.
fn contains(root: &Path, vehicle: &VehicleId) -> bool {
    let archive = Archive::open(root);
    let mut paths = archive.dates().unwrap().into_iter().flat_map(|date| archive.files(&date).unwrap());
    let id = vehicle.as_str().as_bytes();
    paths.any(|path| std::fs::read(path).unwrap().windows(id.len()).any(|window| window == id))
}

#[tokio::test]
async fn a_file_without_the_vehicle_is_not_written_and_its_values_are_not_read() {
    let (root, schema) = (tempfile::tempdir().unwrap(), Schema::default());
    let mut sink = sink(ParquetOptions::new(root.path(), "w"), &schema);
    let mut builder = BatchBuilder::new(&schema);
    // By its statistics the file may have the second vehicle.
    let rows: Vec<_> =
        (0..100).flat_map(|n| [1, 3].map(|v| (v, MIDNIGHT + n * 10 * SECOND, n as f64))).collect();
    sink.accept(&batch(&mut builder, &rows)).await.unwrap();
    sink.flush().await.unwrap();
    let file = Archive::open(root.path()).files("2026-02-01").unwrap().remove(0);
    spoil(&file, "speed_kmh");
    let seen = || {
        let metadata = std::fs::metadata(&file).unwrap();
        (metadata.ino(), metadata.modified().unwrap(), std::fs::read(&file).unwrap())
    };
    let before = seen();
    let place = Place::from(root.path());
    assert_eq!(erase(&place, &vehicle(2), now()).await.unwrap(), 0);
    assert!(seen() == before, "the file was written");
    // They are read where a file must be written anew.
    let error = erase(&place, &vehicle(1), now()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data, "{error}");
    assert!(seen() == before, "the file was written");
}

/// Makes a column's values unreadable.
fn spoil(file: &Path, column: &str) {
    let mut bytes = std::fs::read(file).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(file).unwrap()).unwrap();
    for group in reader.metadata().row_groups() {
        let chunk = group.columns().iter().find(|c| c.column_path().string() == column).unwrap();
        let (from, length) = chunk.byte_range();
        bytes[from as usize..(from + length) as usize].fill(0xff);
    }
    std::fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn an_erased_file_says_of_itself_what_it_said() {
    let (root, schema) = (tempfile::tempdir().unwrap(), Schema::default());
    three_days(root.path(), &schema).await;
    let said = || {
        let file = Archive::open(root.path()).files("2026-02-01").unwrap().remove(0);
        let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(file).unwrap()).unwrap();
        let (metadata, columns) = (reader.metadata(), reader.schema().fields().clone());
        let pairs = metadata.file_metadata().key_value_metadata().unwrap();
        let schema = pairs.iter().find(|pair| pair.key == SCHEMA_KEY).unwrap().value.clone().unwrap();
        (columns, metadata.row_groups()[0].sorting_columns().cloned().unwrap(), schema)
    };
    let before = said();
    erase(&Place::from(root.path()), &vehicle(1), now()).await.unwrap();
    assert_eq!(said(), before);
}

#[tokio::test]
async fn days_before_the_retention_are_dropped_and_no_other() {
    let (root, schema) = (tempfile::tempdir().unwrap(), Schema::default());
    three_days(root.path(), &schema).await;
    let place = Place::from(root.path());
    assert_eq!(drop_before(&place, "2026-02-02", now()).await.unwrap(), 1);
    assert_eq!(Archive::open(root.path()).dates().unwrap(), ["2026-02-02", "2026-02-03"]);
    assert_eq!(drop_before(&place, "2026-02-02", now()).await.unwrap(), 0);
}
