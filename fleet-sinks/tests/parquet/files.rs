//! When files appear, what they are called, and what is in them.

use std::fs;
use std::time::Duration;

use fleet_core::batch::{BatchBuilder, arrow_schema};
use fleet_core::time::SECOND;
use fleet_core::{ErrorKind, Schema, Sink};
use fleet_sinks::parquet::{Archive, ParquetOptions, ParquetSink, SCHEMA_KEY};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::fixture::{MIDNIGHT, batch, files, sink, stored};

#[tokio::test]
async fn nothing_is_seen_before_a_file_is_due() {
    let root = tempfile::tempdir().unwrap();
    let schema = Schema::default();
    let mut builder = BatchBuilder::new(&schema);
    let one = batch(&mut builder, &[(1, MIDNIGHT, 1.0), (2, MIDNIGHT, 2.0)]);
    let options = ParquetOptions { max_bytes: 3 * one.memory(), ..ParquetOptions::new(root.path(), "w-0") };
    let mut sink = sink(options, &schema);
    assert_eq!(sink.accept(&one).await.unwrap().durable, 0);
    for step in 1..3 {
        let next =
            batch(&mut builder, &[(1, MIDNIGHT + step * SECOND, 1.0), (2, MIDNIGHT + step * SECOND, 2.0)]);
        assert_eq!((sink.accept(&next).await.unwrap().durable, files(root.path())), (0, 0));
    }
    // The fourth finds three batches as large as a file.
    let fourth = batch(&mut builder, &[(1, MIDNIGHT + 3 * SECOND, 1.0)]);
    assert_eq!((sink.accept(&fourth).await.unwrap().durable, files(root.path())), (3, 1));
    assert_eq!(stored(root.path(), &schema).len(), 6);
    assert_eq!((sink.flush().await.unwrap().durable, files(root.path())), (4, 2));
    assert_eq!(sink.flush().await.unwrap().durable, 4, "nothing more to do");
    assert_eq!((stored(root.path(), &schema).len(), sink.files()), (7, 2));
    let names: Vec<_> = Archive::open(root.path()).files("2026-02-01").unwrap();
    assert!(names.iter().all(|name| name.to_string_lossy().contains("Z-w-0-")), "{names:?}");
}

#[tokio::test(start_paused = true)]
async fn rows_wait_no_longer_than_the_age_while_batches_come() {
    let root = tempfile::tempdir().unwrap();
    let schema = Schema::default();
    let mut builder = BatchBuilder::new(&schema);
    let max_age = Duration::from_secs(60);
    let mut sink = sink(ParquetOptions { max_age, ..ParquetOptions::new(root.path(), "w") }, &schema);
    for step in 0..7 {
        let next = batch(&mut builder, &[(1, MIDNIGHT + step * SECOND, 1.0)]);
        let durable = sink.accept(&next).await.unwrap().durable;
        assert_eq!(durable, if step < 6 { 0 } else { 6 }, "after {step} times 10 s");
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

#[tokio::test]
async fn each_day_has_its_folder_and_many_days_do_not_stay_open() {
    let root = tempfile::tempdir().unwrap();
    let schema = Schema::default();
    let mut builder = BatchBuilder::new(&schema);
    let mut sink = sink(ParquetOptions::new(root.path(), "w"), &schema);
    let over_midnight =
        batch(&mut builder, &[(1, MIDNIGHT - SECOND, 1.0), (1, MIDNIGHT, 2.0), (2, MIDNIGHT, 3.0)]);
    sink.accept(&over_midnight).await.unwrap();
    sink.flush().await.unwrap();
    let archive = Archive::open(root.path());
    assert_eq!(archive.dates().unwrap(), ["2026-01-31", "2026-02-01"]);
    assert_eq!(archive.read(&schema, "2026-01-31").unwrap().len(), 1);
    assert_eq!(archive.read(&schema, "2026-02-01").unwrap().len(), 2);

    // A batch with rows of thirty days: some become files at once, and it is durable with the last.
    let many: Vec<_> = (0..30).map(|day| (1, MIDNIGHT + day * 86_400 * SECOND, 1.0)).collect();
    assert_eq!(sink.accept(&batch(&mut builder, &many)).await.unwrap().durable, 1);
    assert_eq!(sink.accept(&batch(&mut builder, &[(1, MIDNIGHT, 1.0)])).await.unwrap().durable, 1);
    assert!((20..31).contains(&archive.dates().unwrap().len()));
    assert_eq!(sink.flush().await.unwrap().durable, 3);
    assert_eq!(archive.dates().unwrap().len(), 31);
}

#[tokio::test]
async fn columns_units_and_the_schema_are_in_the_file() {
    let root = tempfile::tempdir().unwrap();
    let schema = Schema::default();
    let mut sink = sink(ParquetOptions::new(root.path(), "w"), &schema);
    let rows = [(9, MIDNIGHT + SECOND, 1.0), (9, MIDNIGHT, 2.0), (3, MIDNIGHT, 3.0)];
    sink.accept(&batch(&mut BatchBuilder::new(&schema), &rows)).await.unwrap();
    sink.flush().await.unwrap();
    let file = Archive::open(root.path()).files("2026-02-01").unwrap().remove(0);
    let builder = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(file).unwrap()).unwrap();
    let (arrow, of_batches) = (std::sync::Arc::clone(builder.schema()), arrow_schema(&schema));
    for field in of_batches.fields() {
        let found = arrow.field_with_name(field.name()).unwrap();
        assert_eq!(found.metadata().get("unit"), field.metadata().get("unit"), "{}", field.name());
    }
    let names: Vec<_> = arrow.fields().iter().map(|field| field.name().as_str()).collect();
    assert!(names.ends_with(&["quality", "epoch", "stored_at", "batch"]), "{names:?}");
    let metadata = builder.metadata().file_metadata().key_value_metadata().unwrap().clone();
    let text = metadata.iter().find(|pair| pair.key == SCHEMA_KEY).unwrap().value.clone().unwrap();
    let described: serde_json::Value = serde_json::from_str(&text).unwrap();
    let signals = described["signals"].as_array().unwrap();
    let said: Vec<_> = signals.iter().map(|signal| signal["name"].as_str().unwrap()).collect();
    assert_eq!(said, schema.signals().iter().map(|signal| signal.name.as_str()).collect::<Vec<_>>());
    assert_eq!(signals[1]["columns"][0]["unit"], "km/h");

    // Sorted by vehicle and time.
    let record = builder.build().unwrap().next().unwrap().unwrap();
    let text = places(&record);
    assert_eq!(
        text,
        [("V0003", MIDNIGHT), ("V0009", MIDNIGHT), ("V0009", MIDNIGHT + SECOND)]
            .map(|(vehicle, ts)| (vehicle.to_owned(), ts))
    );
}

/// Vehicle and time of each row.
fn places(record: &arrow_array::RecordBatch) -> Vec<(String, i64)> {
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Int32Type, TimestampMicrosecondType};
    let vehicles =
        record.column(1).as_dictionary::<Int32Type>().downcast_dict::<arrow_array::StringArray>().unwrap();
    let times = record.column(0).as_primitive::<TimestampMicrosecondType>().values();
    vehicles.into_iter().zip(times).map(|(vehicle, ts)| (vehicle.unwrap().to_owned(), *ts)).collect()
}

#[tokio::test]
async fn leftovers_go_and_what_cannot_work_is_said() {
    let root = tempfile::tempdir().unwrap();
    let schema = Schema::default();
    let day = root.path().join("date=2026-02-01");
    fs::create_dir(&day).unwrap();
    let (old, young) = (day.join(".tmp-old.parquet"), day.join(".tmp-young.parquet"));
    for file in [&old, &young] {
        fs::write(file, "half").unwrap();
    }
    let two_hours = Duration::from_secs(7_200);
    fs::File::options()
        .append(true)
        .open(&old)
        .unwrap()
        .set_modified(
            std::time::UNIX_EPOCH + Duration::from_micros(fleet_worker::clock::now().unsigned_abs())
                - two_hours,
        )
        .unwrap();
    let mut sink = sink(ParquetOptions::new(root.path(), "w"), &schema);
    assert!(!old.exists() && young.exists(), "another writer may be at work on the young one");
    assert_eq!(files(root.path()), 0, "neither is seen");

    // The folder of a day can't be made: what was accepted is given again.
    fs::remove_dir_all(root.path()).unwrap();
    fs::write(root.path(), "a file").unwrap();
    let first = batch(&mut BatchBuilder::new(&schema), &[(1, MIDNIGHT, 1.0)]);
    sink.accept(&first).await.unwrap();
    let error = sink.flush().await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::Unavailable && error.to_string().contains("date=2026-02-01/"),
        "{error}"
    );
    fs::remove_file(root.path()).unwrap();
    fs::create_dir(root.path()).unwrap();
    assert_eq!(sink.accept(&first).await.unwrap().durable, 0);
    assert_eq!((sink.flush().await.unwrap().durable, stored(root.path(), &schema).len()), (1, 1));

    fs::write(root.path().join("plain"), "").unwrap();
    let said = |root: &std::path::Path, worker| {
        let made = ParquetSink::new(ParquetOptions::new(root, worker), &schema, fleet_worker::clock::now);
        let error = made.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        error.to_string()
    };
    assert!(said(&root.path().join("plain"), "w").contains("/plain can't be used"));
    assert!(said(root.path(), "../up").contains("worker \"../up\" must be"));
}

#[tokio::test]
async fn a_day_is_read_in_parts() {
    let root = tempfile::tempdir().unwrap();
    let schema = Schema::default();
    let mut builder = BatchBuilder::new(&schema);
    let mut sink = sink(ParquetOptions::new(root.path(), "w"), &schema);
    // Several files, each with all vehicles, and corrections in the later ones.
    for file in 0..5 {
        let rows: Vec<_> =
            (0..1_000).map(|i| (i % 40, MIDNIGHT + (i as i64 + file * 500) * SECOND, file as f64)).collect();
        sink.accept(&batch(&mut builder, &rows)).await.unwrap();
        sink.flush().await.unwrap();
    }
    let archive = Archive::open(root.path());
    let whole = archive.read(&schema, "2026-02-01").unwrap();
    for most in [1, 100, 1_000, usize::MAX] {
        let (mut parts, mut all, mut first) = (0, Vec::new(), None);
        loop {
            let part = archive.read_part(&schema, "2026-02-01", first.as_ref(), most).unwrap();
            let vehicles: std::collections::BTreeSet<_> = part.records.keys().map(|(v, _)| v).collect();
            assert!(part.records.len() <= most || vehicles.len() == 1);
            parts += 1;
            all.extend(part.records);
            first = part.next;
            if first.is_none() {
                break;
            }
        }
        assert_eq!(parts > 1, most < whole.len(), "{parts} parts of {most}");
        assert_eq!(all, whole.clone().into_iter().collect::<Vec<_>>());
    }
}
