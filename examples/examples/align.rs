//! Aligns a file of samples to evenly spaced records, with no server at all.
//! `cargo run --release -p fleet-examples --example align -- [--config FILE] INPUT OUTPUT`
//!
//! INPUT is CSV with `vehicle,signal,ts_ms,value,value2` in the order of arrival; OUTPUT ends in `.csv`
//! or `.parquet`. The configuration has the worker's `interval`, `window` and `[[signal]]` tables.

use std::path::Path;
use std::process::ExitCode;

use fleet_core::Schema;
use fleet_core::align::Methods;
use fleet_examples::align_file::{self, Error, Report, read_config};
use indicatif::{ProgressBar, ProgressStyle};

/// Some lines could not be used: `EX_DATAERR` of sysexits.h.
const REFUSED: u8 = 65;

fn run(config: Option<&str>, input: &str, output: &str) -> Result<Report, Error> {
    let schema = config.map_or_else(|| Ok(Schema::default()), |path| read_config(Path::new(path)))?;
    let failed = |error: &dyn std::fmt::Display| format!("{input}: {error}");
    let file = std::fs::File::open(input).map_err(|e| failed(&e))?;
    // Hidden where standard error is no terminal.
    let bar = ProgressBar::new(file.metadata()?.len());
    bar.set_style(ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {eta} left")?);
    let aligned = align_file::align(&schema, &Methods::default(), bar.wrap_read(file));
    bar.finish_and_clear();
    let (table, report) = aligned.map_err(|e| failed(&e))?;
    align_file::write(&schema, &table, Path::new(output))?;
    let records: usize = table.values().map(|rows| rows.len()).sum();
    eprintln!(
        "{} samples ({} twice) of {} vehicles became {records} records in {output}",
        report.samples,
        report.duplicates,
        table.len()
    );
    Ok(report)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--config", config, input, output] => run(Some(config), input, output),
        [input, output] if !input.starts_with('-') => run(None, input, output),
        _ => Err("usage: align [--config FILE] INPUT OUTPUT".into()),
    };
    match result {
        Ok(report) if report.refused == 0 => ExitCode::SUCCESS,
        Ok(report) => {
            report.problems.iter().for_each(|problem| eprintln!("{problem}"));
            eprintln!("{} lines were not used", report.refused);
            ExitCode::from(REFUSED)
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
