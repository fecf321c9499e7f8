//! An archive's days in the order of vehicles, out of many files.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use fleet_core::batch::{BatchBuilder, Row};
use fleet_core::schema::{ColumnConfig, RecordsConfig, SignalConfig};
use fleet_core::time::{MINUTE, SECOND, parse};
use fleet_core::{ErrorKind, Micros, Schema, Sink, VehicleId};
use fleet_sinks::parquet::{Days, ParquetOptions, Place, Records, VehicleRecords};
use fleet_worker::local::python_packages;

use crate::fixture::{MIDNIGHT, batch, files, sink, stored};

/// What the days of an archive give within a span, and that each vehicle comes once and in order.
async fn within(root: &Path, schema: &Schema, span: std::ops::Range<Micros>) -> Records {
    let days = Days::open(&Place::from(root)).unwrap();
    let mut records = Records::new();
    for date in days.dates().await.unwrap() {
        let day = days.day(&date).await.unwrap();
        let (mut vehicles, mut last) = (day.records(schema, span.clone()), None);
        while let Some(next) = vehicles.recv().await {
            let VehicleRecords { vehicle, records: of } = next.unwrap();
            assert!(last.as_ref().is_none_or(|last| *last < vehicle), "{vehicle} after {last:?}");
            assert!(of.is_sorted_by_key(|(ts, _)| *ts) && !of.is_empty());
            last = Some(vehicle.clone());
            records.extend(of.into_iter().map(|(ts, record)| ((vehicle.clone(), ts), record)));
        }
    }
    records
}

/// More rows than are read at once.
#[tokio::test]
async fn many_files_are_merged_as_they_are_read() {
    let root = tempfile::tempdir().unwrap();
    let schema = Schema::default();
    let mut builder = BatchBuilder::new(&schema);
    let options = ParquetOptions { max_bytes: 40_000, ..ParquetOptions::new(root.path(), "w") };
    let mut sink = sink(options, &schema);
    for round in 0..60_i64 {
        for n in 0..400_i64 {
            let vehicle = VehicleId::new(&format!("V{}", n % 11)).unwrap();
            let key = builder.vehicle(&vehicle, i32::try_from(1 + round / 30).unwrap());
            let bits = (n * 7 + round * 13) & 0xff;
            let mut values = [f64::NAN; 5];
            for (s, signal) in schema.signals().iter().enumerate() {
                if bits >> (2 * s) & 3 != 0 {
                    values[signal.column_range()].fill((round * 1000 + n) as f64 / 7.0);
                }
            }
            let ts = MIDNIGHT + ((n * 31 + round * 7) % 4_000 - 1_000) * SECOND;
            if bits != 0 {
                builder.push(key, Row { ts, values: &values, quality: bits, correction: round > 3 });
            }
        }
        sink.accept(&builder.seal().unwrap()).await.unwrap();
    }
    sink.flush().await.unwrap();
    assert!(files(root.path()) > 10);
    let all: BTreeMap<_, _> = stored(root.path(), &schema).into_iter().collect();
    assert!(within(root.path(), &schema, Micros::MIN..Micros::MAX).await == all);
    let span = MIDNIGHT - 100 * SECOND..MIDNIGHT + 7 * MINUTE;
    let part: BTreeMap<_, _> = all.into_iter().filter(|((_, ts), _)| span.contains(ts)).collect();
    assert!(part.len() > 1_000 && within(root.path(), &schema, span).await == part);
}

#[tokio::test]
async fn a_file_that_is_not_sorted_is_named() {
    let root = tempfile::tempdir().unwrap();
    let schema = Schema::default();
    let mut builder = BatchBuilder::new(&schema);
    let mut sink = sink(ParquetOptions::new(root.path(), "w"), &schema);
    let rows: Vec<_> = (0..600).map(|n| (n, MIDNIGHT + SECOND, n as f64)).collect();
    sink.accept(&batch(&mut builder, &rows)).await.unwrap();
    sink.flush().await.unwrap();
    let packages = python_packages(include_str!("requirements.txt")).await.unwrap();
    let turn = "import pathlib, sys, pyarrow.parquet as p\n\
                f = next(pathlib.Path(sys.argv[1]).glob('*/*.parquet'))\n\
                t = p.ParquetFile(f).read()\n\
                p.write_table(t.take(list(range(t.num_rows))[::-1]), f, compression='zstd')";
    let mut python = Command::new("python3");
    let turned = python.args(["-c", turn]).arg(root.path()).env("PYTHONPATH", packages).output().unwrap();
    assert!(turned.status.success(), "{}", String::from_utf8_lossy(&turned.stderr));
    let days = Days::open(&Place::from(root.path())).unwrap();
    let day = days.day("2026-02-01").await.unwrap();
    let mut vehicles = day.records(&schema, Micros::MIN..Micros::MAX);
    let error = vehicles.recv().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains(".parquet: its rows are not sorted by vehicle and ts"), "{error}");
    assert!(vehicles.recv().await.is_none());
}

/// Files of before a signal was added beside later ones.
#[tokio::test]
async fn the_documented_queries_read_an_archive_whose_schema_has_grown() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("archive");
    let narrow = Schema::default();
    let mut config = RecordsConfig::default();
    config.signal.push(SignalConfig {
        name: "later".into(),
        columns: vec![ColumnConfig {
            name: "later".into(),
            unit: "bar".into(),
            min: 0.0,
            max: 9.0,
            wraps: false,
            kind: None,
            wire: None,
        }],
        interpolation: "linear".into(),
        signal_timeout: None,
        max_gap: "60s".into(),
        sampling_period: None,
    });
    let wide = config.build().unwrap();
    let noon = parse("2026-05-01T12:00:00Z").unwrap();
    for (schema, vehicle, value) in [(&narrow, "OLD", 20.0), (&wide, "NEW", 3.0), (&wide, "OLD", 4.0)] {
        let mut builder = BatchBuilder::new(schema);
        let key = builder.vehicle(&VehicleId::new(vehicle).unwrap(), 1);
        let values = vec![value; schema.column_count()];
        let bits = schema.signals().iter().enumerate().map(|(s, _)| 1 << (2 * s)).sum();
        // Of the old one's later emission only the new signal.
        let bits = if (vehicle, value) == ("OLD", 4.0) { 1 << 8 } else { bits };
        builder.push(key, Row { ts: noon, values: &values, quality: bits, correction: false });
        let mut sink = sink(ParquetOptions::new(root.as_path(), "w"), schema);
        sink.accept(&builder.seal().unwrap()).await.unwrap();
        sink.flush().await.unwrap();
    }
    let ours = within(&root, &wide, Micros::MIN..Micros::MAX).await;
    let old = &ours[&(VehicleId::new("OLD").unwrap(), noon)];
    assert_eq!((old.values[2], old.values[5]), (Some(20.0), Some(4.0)));

    let packages = python_packages(include_str!("requirements.txt")).await.unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let done = Command::new("python3")
        .arg(here.join("tests/parquet/documented.py"))
        .arg(here.join("../docs/archive.md"))
        .current_dir(dir.path())
        .env("PYTHONPATH", packages)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let said = String::from_utf8(done.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    let row = |vehicle, value: f64| {
        format!("[\"{vehicle}\", {noon}, {}]", vec![format!("{value:?}"); 5].join(", "))
    };
    assert_eq!(lines[0], format!("[{}, {}]", row("NEW", 3.0), row("OLD", 20.0)));
    assert_eq!(lines[1], "[[\"OLD\", 20.0], [\"NEW\", 3.0]]");
    assert_eq!(lines[2], "[2, 3]");
    assert!(lines[3].contains("later"), "{said}");
}
