//! An archive's records, each row once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use fleet_core::batch::{Quality, Record};
use fleet_core::error::{Error, Result};
use fleet_core::{Micros, Schema, VehicleId};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Records by vehicle and time. Values of `real` columns are those of their `f32`.
pub type Records = BTreeMap<(VehicleId, Micros), Record>;

/// An archive in a folder, to be read. Files that appear meanwhile may or may not be seen.
#[derive(Debug, Clone)]
pub struct Archive {
    root: PathBuf,
}

/// Which of several emissions counts: epoch, time of storing, batch; later in a file of two alike.
type Age = (i32, Micros, i64);

/// The emission of a signal that counts so far.
#[derive(Debug, Clone)]
struct Part {
    age: Age,
    quality: Quality,
    values: Vec<Option<f64>>,
}

/// Per row and signal the emission that counts.
type Newest = BTreeMap<(VehicleId, Micros), Vec<Option<Part>>>;

impl Archive {
    /// The archive below a folder.
    pub fn open(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The days of which there are files, sorted: `2026-11-24`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn dates(&self) -> Result<Vec<String>> {
        let name = |path: PathBuf| path.file_name()?.to_str()?.strip_prefix("date=").map(str::to_owned);
        let mut dates: Vec<String> = entries(&self.root)?.into_iter().filter_map(name).collect();
        dates.sort();
        Ok(dates)
    }

    /// The visible files of a day, the oldest first.
    ///
    /// # Errors
    /// What the file system says.
    pub fn files(&self, date: &str) -> Result<Vec<PathBuf>> {
        let mut files = entries(&self.root.join(format!("date={date}")))?;
        files.retain(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            !name.starts_with('.') && path.extension().is_some_and(|e| e == "parquet")
        });
        files.sort();
        Ok(files)
    }

    /// A day's records, in which every signal is that of the newest emission that has it. The day is held
    /// in memory.
    ///
    /// Columns are found by name: a file from before the schema grew reads as well.
    ///
    /// # Errors
    /// [`Data`](fleet_core::ErrorKind::Data) with the file's name if one can't be read.
    pub fn read(&self, schema: &Schema, date: &str) -> Result<Records> {
        let mut newest = Newest::new();
        for file in self.files(date)? {
            let bad = |e: &dyn std::fmt::Display| Error::data(format!("{}: {e}", file.display()));
            let opened = File::open(&file).map_err(|e| bad(&e))?;
            let reader = ParquetRecordBatchReaderBuilder::try_new(opened).and_then(|builder| builder.build());
            for record in reader.map_err(|e| bad(&e))? {
                let record = record.map_err(|e| bad(&e))?;
                merge(schema, &mut newest, &record).map_err(|what| bad(&what))?;
            }
        }
        Ok(newest.into_iter().map(|(key, signals)| (key, whole(schema, signals))).collect())
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed =
        |e| Error::data(format!("the archive's folder {} can't be read", folder.display())).caused_by(e);
    let entries = fs::read_dir(folder).map_err(failed)?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
}

fn whole(schema: &Schema, signals: Vec<Option<Part>>) -> Record {
    let mut record = Record::empty(schema);
    for ((s, signal), newest) in schema.signals().iter().enumerate().zip(signals) {
        if let Some(Part { quality, values, .. }) = newest {
            record.quality |= quality.at(s);
            record.values[signal.column_range()].clone_from_slice(&values);
        }
    }
    record
}

fn merge(schema: &Schema, newest: &mut Newest, record: &RecordBatch) -> Result<(), String> {
    let column = |name: &str| record.column_by_name(name).ok_or_else(|| format!("there is no column {name}"));
    let other = |name: &str| format!("column {name} is of another type");
    let ts = column("ts")?.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| other("ts"))?;
    let stored_at = column("stored_at")?.as_primitive_opt::<TimestampMicrosecondType>();
    let stored_at = stored_at.ok_or_else(|| other("stored_at"))?;
    let batch = column("batch")?.as_primitive_opt::<Int64Type>().ok_or_else(|| other("batch"))?;
    let epoch = column("epoch")?.as_primitive_opt::<Int32Type>().ok_or_else(|| other("epoch"))?;
    let quality = column("quality")?.as_primitive_opt::<Int64Type>().ok_or_else(|| other("quality"))?;
    let vehicle = column("vehicle")?.as_dictionary_opt::<Int32Type>().ok_or_else(|| other("vehicle"))?;
    let names = vehicle.values().as_string_opt::<i32>().ok_or_else(|| other("vehicle"))?;
    let ids: Result<Vec<VehicleId>, _> =
        names.iter().map(|name| VehicleId::new(name.unwrap_or_default())).collect();
    let ids = ids.map_err(|e| e.to_string())?;
    let values: Vec<_> = schema.columns().map(|column| record.column_by_name(&column.name)).collect();
    for row in 0..record.num_rows() {
        #[allow(clippy::cast_sign_loss, reason = "keys are positions")]
        let id = &ids[vehicle.keys().value(row) as usize];
        let age = (epoch.value(row), stored_at.value(row), batch.value(row));
        let empty = || vec![None; schema.signals().len()];
        let signals = newest.entry((id.clone(), ts.value(row))).or_insert_with(empty);
        for ((s, signal), place) in schema.signals().iter().enumerate().zip(signals) {
            let quality = Quality::of(quality.value(row), s);
            if quality != Quality::Missing && place.as_ref().is_none_or(|known| known.age <= age) {
                let columns = values[signal.column_range()].iter();
                let values = columns.map(|column| value(*column, row)).collect();
                *place = Some(Part { age, quality, values });
            }
        }
    }
    Ok(())
}

fn value(column: Option<&arrow_array::ArrayRef>, row: usize) -> Option<f64> {
    let column = column.filter(|column| !column.is_null(row))?;
    let wide = column.as_primitive_opt::<Float64Type>().map(|column| column.value(row));
    wide.or_else(|| column.as_primitive_opt::<Float32Type>().map(|column| column.value(row).into()))
}
