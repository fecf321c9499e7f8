//! Records of a span of time in the order of vehicles and times, out of all files of a day at once.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;

use fleet_core::batch::Record;
use fleet_core::error::{Error, Result};
use fleet_core::{Micros, Schema, VehicleId};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::{PageIndexPolicy, RowGroupMetaData};
use parquet::file::statistics::Statistics;

use super::Archive;
use super::read::{Part, Rows, whole};

/// Rows in memory, of all files together.
const ROWS: usize = 500_000;

/// Rows that are read of a file at once at least, however many files there are.
const LEAST: usize = 256;

/// A vehicle's records, in the order of their times.
#[derive(Debug, Clone, PartialEq)]
pub struct VehicleRecords {
    /// Whose.
    pub vehicle: VehicleId,
    /// Each with its time; every signal is that of the newest emission that has it.
    pub records: Vec<(Micros, Record)>,
}

/// The records of a span, vehicle by vehicle in the order of their names.
///
/// Files are sorted, so that as much of each is in memory as lies next: 500,000 rows in all, or 256 of each file
/// where that is more.
pub(super) struct Merged {
    schema: Schema,
    span: Range<Micros>,
    files: Vec<Sorted>,
    /// The next row of each file that has one.
    next: BinaryHeap<Reverse<(VehicleId, Micros, usize)>>,
}

/// A file whose rows are taken one by one.
struct Sorted {
    path: PathBuf,
    footer: ArrowReaderMetadata,
    /// The row groups with times of the span.
    groups: Vec<usize>,
    /// How many rows of theirs were read, and how many there are.
    read: usize,
    all: usize,
    last: Option<(VehicleId, Micros)>,
    rows: VecDeque<Emission>,
}

struct Emission {
    vehicle: VehicleId,
    ts: Micros,
    parts: Vec<Option<Part>>,
}

impl Merged {
    /// # Errors
    /// [`Data`](fleet_core::ErrorKind::Data) with the name of a file that can't be read.
    pub(super) fn of(archive: &Archive, schema: &Schema, date: &str, span: Range<Micros>) -> Result<Self> {
        let mut files = Vec::new();
        for path in archive.files(date)? {
            files.extend(Sorted::open(path, &span)?);
        }
        let mut merged = Self { schema: schema.clone(), span, files, next: BinaryHeap::new() };
        for file in 0..merged.files.len() {
            merged.offer(file)?;
        }
        Ok(merged)
    }

    /// Lets a file's next row wait for its turn, which is read if need be.
    fn offer(&mut self, file: usize) -> Result<()> {
        let at_once = (ROWS / self.files.len()).max(LEAST);
        let sorted = &mut self.files[file];
        while sorted.rows.is_empty() && sorted.read < sorted.all {
            sorted.fill(&self.schema, &self.span, at_once)?;
        }
        if let Some(Emission { vehicle, ts, .. }) = sorted.rows.front() {
            self.next.push(Reverse((vehicle.clone(), *ts, file)));
        }
        Ok(())
    }

    /// The next vehicle's records.
    fn vehicle(&mut self) -> Result<Option<VehicleRecords>> {
        let Some(Reverse((vehicle, ..))) = self.next.peek() else { return Ok(None) };
        let (vehicle, mut records) = (vehicle.clone(), Vec::new());
        let mut now: Option<(Micros, Vec<Option<Part>>)> = None;
        // Of one instant in the order of the files: of two alike the later counts.
        while let Some(Reverse((of, ts, file))) = self.next.peek().cloned().filter(|next| next.0.0 == vehicle)
        {
            self.next.pop();
            let Some(Emission { parts, .. }) = self.files[file].rows.pop_front() else {
                return Err(Error::internal(format!("no row of {of} is left")));
            };
            self.offer(file)?;
            match &mut now {
                Some((at, newest)) if *at == ts => add(newest, parts),
                _ => {
                    let before = now.replace((ts, parts));
                    records.extend(before.map(|(at, parts)| (at, whole(&self.schema, parts))));
                }
            }
        }
        records.extend(now.map(|(at, parts)| (at, whole(&self.schema, parts))));
        Ok(Some(VehicleRecords { vehicle, records }))
    }
}

impl Iterator for Merged {
    type Item = Result<VehicleRecords>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.vehicle().transpose();
        if matches!(next, Some(Err(_))) {
            self.next.clear();
        }
        next
    }
}

fn add(newest: &mut [Option<Part>], parts: Vec<Option<Part>>) {
    for (place, part) in newest.iter_mut().zip(parts) {
        if let Some(part) = part
            && place.as_ref().is_none_or(|known| known.age <= part.age)
        {
            *place = Some(part);
        }
    }
}

impl Sorted {
    /// Nothing for a file without a time of the span.
    fn open(path: PathBuf, span: &Range<Micros>) -> Result<Option<Self>> {
        let bad = |e: &dyn std::fmt::Display| Error::data(format!("{}: {e}", path.display()));
        let file = File::open(&path).map_err(|e| bad(&e))?;
        // Pages that were read before are passed over.
        let options = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Optional);
        let footer = ArrowReaderMetadata::load(&file, options).map_err(|e| bad(&e))?;
        let groups = footer.metadata().row_groups().iter().enumerate();
        let groups = groups.filter(|(_, group)| may_have(group, span));
        let (mut numbers, mut all) = (Vec::new(), 0);
        for (number, group) in groups {
            numbers.push(number);
            all += usize::try_from(group.num_rows()).map_err(|e| bad(&e))?;
        }
        let sorted = Self { path, footer, groups: numbers, read: 0, all, last: None, rows: VecDeque::new() };
        Ok((all > 0).then_some(sorted))
    }

    /// Reads the next rows, of which those of the span are kept.
    fn fill(&mut self, schema: &Schema, span: &Range<Micros>, at_once: usize) -> Result<()> {
        let path = self.path.clone();
        let bad = |e: &dyn std::fmt::Display| Error::data(format!("{}: {e}", path.display()));
        let file = File::open(&path).map_err(|e| bad(&e))?;
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.footer.clone())
            .with_row_groups(self.groups.clone())
            .with_offset(self.read)
            .with_limit(at_once)
            .with_batch_size(at_once);
        let mut read = 0;
        for record in reader.build().map_err(|e| bad(&e))? {
            let record = record.map_err(|e| bad(&e))?;
            let rows = Rows::of(schema, &record).map_err(|e| bad(&e))?;
            for row in 0..record.num_rows() {
                let key = (rows.id(row).clone(), rows.ts(row));
                if self.last.as_ref().is_some_and(|last| *last > key) {
                    return Err(bad(&"its rows are not sorted by vehicle and ts"));
                }
                if span.contains(&key.1) {
                    let parts = rows.parts(schema, row);
                    self.rows.push_back(Emission { vehicle: key.0.clone(), ts: key.1, parts });
                }
                self.last = Some(key);
            }
            read += record.num_rows();
        }
        if read == 0 {
            return Err(bad(&"it has fewer rows than it says"));
        }
        self.read += read;
        Ok(())
    }
}

/// Whether a row group may have times of the span: some files say which they have.
fn may_have(group: &RowGroupMetaData, span: &Range<Micros>) -> bool {
    let column = group.columns().iter().find(|column| column.column_path().string() == "ts");
    match column.and_then(|column| column.statistics()) {
        Some(Statistics::Int64(times)) => {
            times.max_opt().is_none_or(|max| *max >= span.start)
                && times.min_opt().is_none_or(|min| *min < span.end)
        }
        _ => true,
    }
}
