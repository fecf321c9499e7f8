//! From a file of samples to a file of evenly spaced records: `fleet-core` without any server.

mod config;
mod input;
mod output;

use std::collections::BTreeMap;
use std::path::Path;

use fleet_core::align::{Aligner, Methods, Track};
use fleet_core::batch::{Record, Row};
use fleet_core::decode::check;
use fleet_core::sample::Samples;
use fleet_core::time::{Micros, YEAR_2200};
use fleet_core::{Schema, VehicleId};

pub use config::read_config;
use input::{Line, Lines};
use output::{write_csv, write_parquet};

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
    /// Lines that were not used.
    pub refused: u64,
    /// What was wrong with the first of them: the line, the field and the value.
    pub problems: Vec<String>,
}

/// How many problems are told one by one.
const TOLD: usize = 10;

impl Report {
    fn refuse(&mut self, line: u64, problem: impl std::fmt::Display) {
        self.refused += 1;
        if self.problems.len() < TOLD {
            self.problems.push(format!("line {line}: {problem}"));
        }
    }
}

/// Aligns samples that come in any order within the schema's window. A line that can't be used is
/// refused and told, the rest is used.
///
/// # Errors
/// A method that there is not, an unreadable file, or a header that is none.
pub fn align(
    schema: &Schema,
    methods: &Methods,
    input: impl std::io::Read,
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
        // A file has no server's clock to be ahead of.
        if let Some(problem) = check(schema, signal, &mut samples, YEAR_2200).first {
            report.refuse(number, problem);
            continue;
        }
        let track = tracks.entry(vehicle.clone()).or_insert_with(|| aligner.track(None, &[]));
        let rows = table.entry(vehicle).or_default();
        let inserted = aligner.insert(track, signal, &samples, time, &mut |row| keep(schema, rows, &row));
        report.duplicates += inserted.duplicates as u64;
        if !inserted.late.is_empty() {
            report.refuse(number, "the sample comes later than the window after newer ones of its signal");
        } else if inserted.overflowed > 0 {
            report.refuse(number, "the signal has more than max_samples in its window");
        }
    }
    for (vehicle, track) in &mut tracks {
        let rows = table.entry(vehicle.clone()).or_default();
        aligner.finish(track, &mut |row| keep(schema, rows, &row));
    }
    Ok((table, report))
}

fn keep(schema: &Schema, rows: &mut BTreeMap<Micros, Record>, row: &Row<'_>) {
    rows.entry(row.ts).or_insert_with(|| Record::empty(schema)).merge(schema, row);
}

/// Writes the table by the file's ending, `.csv` or `.parquet`; the file appears when it is complete.
///
/// # Errors
/// Another ending, or what the file system says.
pub fn write(schema: &Schema, table: &Table, path: &Path) -> Result<(), Error> {
    let write = match path.extension().and_then(|e| e.to_str()) {
        Some("csv") => write_csv,
        Some("parquet") => write_parquet,
        _ => return Err(format!("{}: the output must end in .csv or .parquet", path.display()).into()),
    };
    let part = path.with_added_extension("part");
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", part.display());
    let file = std::fs::File::create(&part).map_err(|e| failed(&e))?;
    write(schema, table, file).map_err(|e| failed(&e))?;
    std::fs::rename(&part, path).map_err(|e| failed(&e))?;
    Ok(())
}
