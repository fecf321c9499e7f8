//! The `align` example, its library against the reference: the recordings, both outputs, bad input; and the program.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod pages;
mod program;

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use fleet_core::align::Methods;
use fleet_core::reference;
use fleet_core::schema::ColumnType;
use fleet_core::{Schema, VehicleId};
use fleet_examples::align_file::{self, Table, read_config};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// The reader's clock, µs: July 2026.
const NOW: i64 = 1_783_000_000_000_000;

fn align(schema: &Schema, text: &str) -> (Table, align_file::Report) {
    align_file::align(schema, &Methods::default(), text.as_bytes(), NOW).unwrap()
}

/// The recordings are not part of the project; where they lie beside it they are read.
fn recording(name: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    path.is_file().then(|| std::fs::read_to_string(&path).unwrap())
}

/// Speeds of a vehicle each 1.7 s and its positions each 2.3 s, with a gap.
fn made_up() -> String {
    let mut text = "vehicle,signal,ts_ms,value,value2\n".to_owned();
    for i in 0..500_i64 {
        let ms = 1_700_000_000_000 + if i < 300 { 0 } else { 90_000 };
        let swing = (i as f64 / 9.0).sin();
        text += &format!("A,speed,{},{},\n", ms + 1_700 * i, 50.0 + 40.0 * swing);
        text += &format!("B,position,{},{},{}\n", ms + 2_300 * i, 48.0 + swing, 11.0 - swing / 3.0);
    }
    text
}

#[test]
fn recordings_become_what_the_reference_says() {
    let schema = Schema::default();
    let recordings = ["cv.csv", "truck.csv", "ved.csv"].map(|name| (name, recording(name)));
    for (name, text) in recordings.into_iter().chain([("made up", Some(made_up()))]) {
        let Some(text) = text else { continue };
        let (table, report) = align(&schema, &text);
        assert_eq!(report.refused, 0, "{name}: {:?}", report.problems);
        for (vehicle, rows) in &table {
            let mut samples = vec![reference::Samples::new(); schema.signals().len()];
            for line in text.lines().skip(1).filter(|l| l.split(',').next() == Some(vehicle.as_str())) {
                let fields: Vec<&str> = line.split(',').collect();
                let values: Vec<f64> = fields[3..].iter().filter_map(|v| v.parse().ok()).collect();
                let signal = schema.find(fields[1]).unwrap().index();
                reference::add(&mut samples[signal], fields[2].parse::<i64>().unwrap() * 1_000, &values);
            }
            let want = reference::table(&schema, &samples);
            assert_eq!(rows.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>(), "{name}, {vehicle}");
            for (ts, record) in rows {
                assert_eq!(record.quality, want[ts].quality, "{name}, {vehicle} at {ts}");
                for (got, want) in record.values.iter().zip(&want[ts].values) {
                    let off = got.zip(*want).map_or(0.0, |(got, want)| (got - want).abs());
                    assert!(got.is_some() == want.is_some() && off < 1e-9, "{name}: {got:?}, not {want:?}");
                }
            }
        }
    }
}

#[test]
fn csv_and_parquet_read_back_exactly() {
    let schema = Schema::default();
    let (table, report) = align(&schema, &made_up());
    assert_eq!((table.len(), report.refused), (2, 0), "{:?}", report.problems);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    align_file::write(&schema, &table, &path("out.csv")).unwrap();
    align_file::write(&schema, &table, &path("out.parquet")).unwrap();
    assert_eq!(from_csv(&path("out.csv")), table);
    assert_eq!(from_parquet(&schema, &path("out.parquet")), rounded(&schema, &table));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no half file is left");
    assert!(align_file::write(&schema, &table, &path("out.txt")).is_err());
}

/// As Parquet holds it: `real` columns are `f32`.
fn rounded(schema: &Schema, table: &Table) -> Table {
    let mut table = table.clone();
    for record in table.values_mut().flat_map(|rows| rows.values_mut()) {
        for (column, value) in schema.columns().zip(&mut record.values) {
            if column.kind == ColumnType::Real {
                *value = value.map(|v| f64::from(v as f32));
            }
        }
    }
    table
}

fn from_csv(path: &PathBuf) -> Table {
    let mut table = Table::new();
    for line in csv::Reader::from_path(path).unwrap().records() {
        let line = line.unwrap();
        let values = line.iter().take(line.len() - 1).skip(2).map(|text| text.parse().ok()).collect();
        let quality = line.iter().next_back().unwrap().parse().unwrap();
        let rows = table.entry(VehicleId::new(&line[0]).unwrap()).or_default();
        let ts = line[1].parse::<i64>().unwrap() * 1_000;
        rows.insert(ts, fleet_core::batch::Record { values, quality });
    }
    table
}

fn from_parquet(schema: &Schema, path: &PathBuf) -> Table {
    let mut table = Table::new();
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    for (field, column) in reader.schema().fields().iter().skip(2).zip(schema.columns()) {
        assert_eq!(field.metadata().get("unit"), Some(&column.unit));
    }
    for batch in reader.build().unwrap() {
        let batch = batch.unwrap();
        let ts = batch.column(0).as_primitive::<TimestampMicrosecondType>();
        let vehicles =
            batch.column(1).as_dictionary::<Int32Type>().downcast_dict::<arrow_array::StringArray>();
        let quality = batch.column(batch.num_columns() - 1).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let value = |c: usize| {
                let array = batch.column(c + 2);
                let double = |a: &arrow_array::Float64Array| a.value(row);
                let real = |a: &arrow_array::Float32Array| f64::from(a.value(row));
                let value = array.as_primitive_opt::<Float64Type>().map(double);
                let value = value.or_else(|| array.as_primitive_opt::<Float32Type>().map(real));
                value.filter(|_| array.is_valid(row))
            };
            let values = (0..schema.column_count()).map(value).collect();
            let vehicle = vehicles.as_ref().unwrap().into_iter().nth(row).unwrap().unwrap();
            let rows = table.entry(VehicleId::new(vehicle).unwrap()).or_default();
            rows.insert(ts.value(row), fleet_core::batch::Record { values, quality: quality.value(row) });
        }
    }
    table
}

#[test]
fn what_is_bad_is_told_and_the_rest_is_used() {
    let text = "vehicle,signal,ts_ms,value,value2\n\
                A,speed,1700000005000,50,\n\
                A,speed,1700000007000,NaN,\n\
                A,speed,1700000008000,900,\n\
                A,speed,5,50,\n\
                A,speed,1783000060000.001,50,\n\
                A,speed,1700000015000,60,\n\
                A,speed,1700000075000,60,\n\
                A,speed,1700000006000,60,\n\
                \"A\",\"speed\",\"1700000075000\",\"60\"\n";
    let (table, report) = align(&Schema::default(), text);
    let said = [
        "line 3: speed_kmh: NaN is not a finite number",
        "line 4: speed_kmh: 900 is not between 0 and 400",
        "line 5: ts_ms 5: 1970-01-01T00:00:00.005Z is before 2000",
        "line 6: ts_ms 1783000060000.001: 2026-07-02T13:47:40.000001Z is more than 60 s ahead of",
        "line 9: ts_ms 1700000006000 comes later than the window of its signal allow",
    ];
    assert_eq!((report.refused, report.late, report.duplicates), (4, 1, 1));
    assert_eq!(report.problems.len(), said.len());
    for (problem, said) in report.problems.iter().zip(said) {
        assert!(problem.starts_with(said), "{problem:?} does not say {said:?}");
    }
    let rows = &table[&VehicleId::new("A").unwrap()];
    assert_eq!(rows[&1_700_000_010_000_000].values[2], Some(55.0));
}

#[test]
fn a_fast_sensor_loses_nothing_but_what_is_later_than_max_samples_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.toml");
    let schema = |text: &str| {
        std::fs::write(&path, text).unwrap();
        read_config(&path).unwrap()
    };
    let line = |ms: i64| format!("A,speed,{ms},{},\n", ms % 100);
    let start = 1_700_000_000_005;
    let header = "vehicle,signal,ts_ms,value,value2\n".to_owned();
    // 100 a second, as many in the window and its context as the worker would never hold.
    let in_order: String = (0..12_000).map(|i| line(start + 10 * i)).collect();
    let (full, _) = align(&schema(""), &(header.clone() + &in_order));
    let (few, report) = align(&schema("max_samples = 8\n"), &(header + &in_order + &line(start + 119_900)));
    assert_eq!((report.refused, report.late), (0, 1));
    let said = format!("line 12002: ts_ms {} comes later than max_samples others", start + 119_900);
    assert!(report.problems[0].starts_with(&said), "{:?}", report.problems);
    assert_eq!((full.values().next().unwrap().len(), full), (11, few));
}

#[test]
fn the_workers_configuration_serves_too_and_a_wrong_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.toml");
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    write(
        "cell = \"a\"\ninterval = \"5s\"\n[nats]\nurl = \"nats://localhost\"\n[sink.timescale]\nurl = \"x\"\n",
    );
    assert_eq!(read_config(&path).unwrap().interval(), 5_000_000);
    for (text, said) in [
        ("interval = \"0s\"", "interval: \"0s\" is not between"),
        ("intervall = \"5s\"", "intervall"),
        ("[signal]\nname = \"a\"", "signal"),
        (
            "[[signal]]\nname = \"a\"\ninterpolation = \"linear\"\nmax_gap = \"2d\"\n\
             columns = [{ name = \"a\", unit = \"1\", min = 0, max = 1 }]",
            "signal[0].max_gap: \"2d\" is not between 1ms and 1d",
        ),
    ] {
        write(text);
        let error = read_config(&path).unwrap_err().to_string();
        assert!(error.contains(said), "{error:?} does not say {said:?}");
    }
}
