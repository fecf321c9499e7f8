//! From a file of samples to a file of evenly spaced records: `fleet-core` without any server.

mod config;
mod input;
mod output;

use std::collections::BTreeMap;
use std::path::Path;

use fleet_core::align::{Aligner, Methods, Track};
use fleet_core::batch::{Record, Row};
use fleet_core::decode::{DecodeError, check};
use fleet_core::message::Refusal;
use fleet_core::sample::Samples;
use fleet_core::time::Micros;
use fleet_core::{Schema, VehicleId};

pub use config::{default_config, read_config};
use input::{Line, Lines};
use output::{millis, write_csv, write_parquet};

/// What went wrong: words for people.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Records by vehicle and time.
pub type Table = BTreeMap<VehicleId, BTreeMap<Micros, Record>>;

/// What became of a file's lines.
#[derive(Debug, Default)]
pub struct Report {
    /// Lines with a sample.
    pub samples: u64,
    /// Samples of an instant that its signal had already.
    pub duplicates: u64,
    /// Samples that came later than the window, or than `max_samples` others of their signal, and were
    /// not used.
    pub late: u64,
    /// Lines that are wrong and were not used.
    pub refused: u64,
    /// Why the first of the lines were not used: the line, the field and the value.
    pub problems: Vec<String>,
}

/// How many problems are told one by one.
const TOLD: usize = 100;

impl Report {
    fn refuse(&mut self, line: u64, problem: impl std::fmt::Display) {
        self.refused += 1;
        self.tell(line, problem);
    }

    fn tell(&mut self, line: u64, problem: impl std::fmt::Display) {
        if self.problems.len() < TOLD {
            self.problems.push(format!("line {line}: {problem}"));
        }
    }
}

/// Aligns samples that come in any order within the schema's window. A line that can't be used is
/// refused and told, the rest is used; so is a sample of a time more than `max_future` after `now`.
/// None is too old, whatever `max_past` says.
///
/// # Errors
/// A method that there is not, an unreadable file, or a header that is none.
pub fn align(
    schema: &Schema,
    methods: &Methods,
    input: impl std::io::Read,
    now: Micros,
) -> Result<(Table, Report), Error> {
    let aligner = Aligner::new(schema, methods).map_err(config::join)?;
    let mut tracks: BTreeMap<VehicleId, Track> = BTreeMap::new();
    let (mut table, mut report) = (Table::new(), Report::default());
    let mut samples = Samples::default();
    for line in Lines::new(schema, input)? {
        let Line { number, vehicle, signal, time, values } = match line? {
            Ok(line) => line,
            Err((number, problem)) => {
                report.refuse(number, problem);
                continue;
            }
        };
        report.samples += 1;
        samples.reset(values.len());
        samples.push(time, &values);
        // A file is of any age: nothing says when its samples arrived.
        if let Some(problem) = check(schema, signal, &mut samples, now.min(time)).first {
            report.refuse(number, in_file(&problem, time));
            continue;
        }
        let track = tracks.entry(vehicle.clone()).or_insert_with(|| aligner.track(None, &[]));
        let rows = table.entry(vehicle).or_default();
        // A file knows of arrivals only their order.
        let arrival = Micros::try_from(report.samples)?;
        let inserted = aligner.insert(track, signal, &samples, arrival, &mut |row| keep(schema, rows, &row));
        report.duplicates += inserted.duplicates as u64;
        if inserted.taken + inserted.duplicates == 0 {
            report.late += 1;
            let limit = if inserted.late.is_empty() { "max_samples others" } else { "the window" };
            let ts_ms = millis(time);
            report.tell(number, format_args!("ts_ms {ts_ms} comes later than {limit} of its signal allow"));
        }
    }
    for (vehicle, track) in &mut tracks {
        let rows = table.entry(vehicle.clone()).or_default();
        aligner.finish(track, &mut |row| keep(schema, rows, &row));
    }
    Ok((table, report))
}

/// The problem in the file's words: its times are not written as ours.
fn in_file(problem: &DecodeError, time: Micros) -> String {
    match problem.refusal {
        Refusal::TooOld | Refusal::InFuture => {
            format!("ts_ms {}: {}", millis(time), problem.detail.trim_start_matches("ts: "))
        }
        _ => problem.detail.clone(),
    }
}

fn keep(schema: &Schema, rows: &mut BTreeMap<Micros, Record>, row: &Row<'_>) {
    rows.entry(row.ts).or_insert_with(|| Record::empty(schema)).merge(schema, row);
}

/// Writes a table into a file.
pub type Writer = fn(&Schema, &Table, std::fs::File) -> Result<(), Error>;

/// How to write a file, by its ending: `.csv` or `.parquet`.
///
/// # Errors
/// Another ending.
pub fn writer(path: &Path) -> Result<Writer, Error> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("csv") => Ok(write_csv),
        Some("parquet") => Ok(write_parquet),
        _ => Err(format!("{}: the output must end in .csv or .parquet", path.display()).into()),
    }
}

/// Writes the table by the file's ending; the file appears when it is complete.
///
/// # Errors
/// Another ending, or what the file system says.
pub fn write(schema: &Schema, table: &Table, path: &Path) -> Result<(), Error> {
    let write = writer(path)?;
    let part = path.with_added_extension("part");
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", part.display());
    let file = std::fs::File::create(&part).map_err(|e| failed(&e))?;
    write(schema, table, file).map_err(|e| failed(&e))?;
    std::fs::rename(&part, path).map_err(|e| failed(&e))?;
    Ok(())
}
