//! An archive's records, each row once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int32Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, DictionaryArray, Int32Array, Int64Array, RecordBatch, TimestampMicrosecondArray,
};
use fleet_core::batch::{Quality, Record};
use fleet_core::error::{Error, Result};
use fleet_core::{Micros, Schema, VehicleId};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use super::naming;

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
pub(super) struct Part {
    pub(super) age: Age,
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
        let date = |path: PathBuf| naming::date(path.file_name()?.to_str()?).map(str::to_owned);
        let mut dates: Vec<String> = entries(&self.root)?.into_iter().filter_map(date).collect();
        dates.sort();
        Ok(dates)
    }

    /// The visible files of a day, the oldest first.
    ///
    /// # Errors
    /// What the file system says.
    pub fn files(&self, date: &str) -> Result<Vec<PathBuf>> {
        let mut files = entries(&self.root.join(naming::folder(date)))?;
        files.retain(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(naming::is_visible));
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
        self.read_part(schema, date, None, usize::MAX).map(|part| part.records)
    }

    /// The same of as many vehicles as give `most` records, at least one, in the order of their names from
    /// `first` on: a day in bounded memory. Of each file only the row groups with such names are read.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_part(
        &self,
        schema: &Schema,
        date: &str,
        first: Option<&VehicleId>,
        most: usize,
    ) -> Result<DayPart> {
        let mut gathered = Gathered { newest: Newest::new(), first, next: None };
        for file in self.files(date)? {
            let bad = |e: &dyn std::fmt::Display| Error::data(format!("{}: {e}", file.display()));
            let opened = File::open(&file).map_err(|e| bad(&e))?;
            let reader = ParquetRecordBatchReaderBuilder::try_new(opened).map_err(|e| bad(&e))?;
            let groups = gathered.groups(reader.metadata());
            for record in reader.with_row_groups(groups).build().map_err(|e| bad(&e))? {
                let record = record.map_err(|e| bad(&e))?;
                merge(schema, &mut gathered, &record).map_err(|what| bad(&what))?;
                gathered.shrink(most);
            }
        }
        let whole = |(key, signals)| (key, whole(schema, signals));
        Ok(DayPart { records: gathered.newest.into_iter().map(whole).collect(), next: gathered.next })
    }
}

/// Records of some vehicles of a day.
#[derive(Debug, Clone, PartialEq)]
pub struct DayPart {
    /// The records.
    pub records: Records,
    /// The vehicle with which the next part begins.
    pub next: Option<VehicleId>,
}

/// The vehicles from `first` up to, not including, `next`.
struct Gathered<'a> {
    newest: Newest,
    first: Option<&'a VehicleId>,
    next: Option<VehicleId>,
}

impl Gathered<'_> {
    fn wants(&self, vehicle: &VehicleId) -> bool {
        self.first.is_none_or(|first| vehicle >= first)
            && self.next.as_ref().is_none_or(|next| vehicle < next)
    }

    /// Leaves the last vehicles to the next part, as long as there are too many records.
    fn shrink(&mut self, most: usize) {
        while self.newest.len() > most {
            let (first, last) = (self.newest.keys().next(), self.newest.keys().next_back());
            let (Some((first, _)), Some((last, _))) = (first, last) else { return };
            if first == last {
                return;
            }
            let last = last.clone();
            self.newest.split_off(&(last.clone(), Micros::MIN));
            self.next = Some(last);
        }
    }

    /// The row groups of a file that may have such vehicles. They are sorted by vehicle.
    fn groups(&self, metadata: &ParquetMetaData) -> Vec<usize> {
        let may = |group: &RowGroupMetaData| {
            let Some((min, max)) = names(group) else { return true };
            self.first.is_none_or(|first| max >= first.as_str().as_bytes())
                && self.next.as_ref().is_none_or(|next| min < next.as_str().as_bytes())
        };
        let groups = metadata.row_groups().iter().enumerate();
        groups.filter(|(_, group)| may(group)).map(|(number, _)| number).collect()
    }
}

/// The first and the last vehicle of a row group, if it says so.
pub(super) fn names(group: &RowGroupMetaData) -> Option<(&[u8], &[u8])> {
    let column = group.columns().iter().find(|column| column.column_path().string() == "vehicle")?;
    let statistics = column.statistics()?;
    statistics.min_bytes_opt().zip(statistics.max_bytes_opt())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed =
        |e| Error::data(format!("the archive's folder {} can't be read", folder.display())).caused_by(e);
    let entries = fs::read_dir(folder).map_err(failed)?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
}

pub(super) fn whole(schema: &Schema, signals: Vec<Option<Part>>) -> Record {
    let mut record = Record::empty(schema);
    for ((s, signal), newest) in schema.signals().iter().enumerate().zip(signals) {
        if let Some(Part { quality, values, .. }) = newest {
            record.quality |= quality.at(s);
            record.values[signal.column_range()].clone_from_slice(&values);
        }
    }
    record
}

/// A file's rows as they lie in a batch of it.
pub(super) struct Rows<'a> {
    ts: &'a TimestampMicrosecondArray,
    stored_at: &'a TimestampMicrosecondArray,
    batch: &'a Int64Array,
    epoch: &'a Int32Array,
    quality: &'a Int64Array,
    vehicle: &'a DictionaryArray<Int32Type>,
    ids: Vec<VehicleId>,
    /// By column of the schema; nothing where the file is from before it grew.
    values: Vec<Option<&'a ArrayRef>>,
}

impl<'a> Rows<'a> {
    /// # Errors
    /// In words which column is missing or of another type.
    pub(super) fn of(schema: &Schema, record: &'a RecordBatch) -> Result<Self, String> {
        let column =
            |name: &str| record.column_by_name(name).ok_or_else(|| format!("there is no column {name}"));
        let other = |name: &str| format!("column {name} is of another type");
        let time = |name: &str| {
            column(name)?.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| other(name))
        };
        let vehicle = column("vehicle")?.as_dictionary_opt::<Int32Type>().ok_or_else(|| other("vehicle"))?;
        let names = vehicle.values().as_string_opt::<i32>().ok_or_else(|| other("vehicle"))?;
        let ids: Result<Vec<VehicleId>, _> =
            names.iter().map(|name| VehicleId::new(name.unwrap_or_default())).collect();
        Ok(Self {
            ts: time("ts")?,
            stored_at: time("stored_at")?,
            batch: column("batch")?.as_primitive_opt().ok_or_else(|| other("batch"))?,
            epoch: column("epoch")?.as_primitive_opt().ok_or_else(|| other("epoch"))?,
            quality: column("quality")?.as_primitive_opt().ok_or_else(|| other("quality"))?,
            vehicle,
            ids: ids.map_err(|e| e.to_string())?,
            values: schema.columns().map(|column| record.column_by_name(&column.name)).collect(),
        })
    }

    pub(super) fn id(&self, row: usize) -> &VehicleId {
        #[allow(clippy::cast_sign_loss, reason = "keys are positions")]
        let key = self.vehicle.keys().value(row) as usize;
        &self.ids[key]
    }

    pub(super) fn ts(&self, row: usize) -> Micros {
        self.ts.value(row)
    }

    /// The parts that a row has, each in its signal's place.
    pub(super) fn parts(&self, schema: &Schema, row: usize) -> Vec<Option<Part>> {
        let mut parts = vec![None; schema.signals().len()];
        self.put(schema, row, &mut parts);
        parts
    }

    /// Puts the parts that a row has in place of those that are older.
    fn put(&self, schema: &Schema, row: usize, parts: &mut [Option<Part>]) {
        let age = (self.epoch.value(row), self.stored_at.value(row), self.batch.value(row));
        for ((s, signal), place) in schema.signals().iter().enumerate().zip(parts) {
            let quality = Quality::of(self.quality.value(row), s);
            if quality != Quality::Missing && place.as_ref().is_none_or(|known| known.age <= age) {
                let columns = self.values[signal.column_range()].iter();
                let values = columns.map(|column| value(*column, row)).collect();
                *place = Some(Part { age, quality, values });
            }
        }
    }
}

fn merge(schema: &Schema, gathered: &mut Gathered<'_>, record: &RecordBatch) -> Result<(), String> {
    let rows = Rows::of(schema, record)?;
    for row in 0..record.num_rows() {
        let id = rows.id(row);
        if !gathered.wants(id) {
            continue;
        }
        let empty = || vec![None; schema.signals().len()];
        let signals = gathered.newest.entry((id.clone(), rows.ts(row))).or_insert_with(empty);
        rows.put(schema, row, signals);
    }
    Ok(())
}

fn value(column: Option<&ArrayRef>, row: usize) -> Option<f64> {
    let column = column.filter(|column| !column.is_null(row))?;
    let wide = column.as_primitive_opt::<Float64Type>().map(|column| column.value(row));
    wide.or_else(|| column.as_primitive_opt::<Float32Type>().map(|column| column.value(row).into()))
}
