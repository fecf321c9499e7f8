//! Aligns a file of samples to evenly spaced records, with no server at all.
//! `cargo run --release -p fleet-examples --example align -- [--config FILE] INPUT OUTPUT`
//!
//! INPUT is CSV with `vehicle,signal,ts_ms,value,value2` in the order of arrival; OUTPUT ends in `.csv`
//! or `.parquet`. The configuration has the worker's `interval`, `window` and `[[signal]]` tables.
//!
//! Ends with 0, with 65 if lines were wrong (they are told, the rest is used), with 1 if nothing could be
//! done.

use std::fmt::Display;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use fleet_core::align::Methods;
use fleet_core::time::micros;
use fleet_examples::align_file::{self, Error, Report, default_config, read_config};
use indicatif::{ProgressBar, ProgressStyle};

const USAGE: &str = "usage: align [--config FILE] INPUT OUTPUT";

/// Some lines were wrong: `EX_DATAERR` of sysexits.h.
const REFUSED: u8 = 65;

fn run(config: Option<&str>, input: &str, output: &str) -> Result<Report, Error> {
    let schema = config.map_or_else(default_config, |path| read_config(Path::new(path)))?;
    // Said now and not after the work.
    align_file::writer(Path::new(output))?;
    let failed = |error: &dyn std::fmt::Display| format!("{input}: {error}");
    let file = std::fs::File::open(input).map_err(|e| failed(&e))?;
    // Hidden where standard error is no terminal.
    let bar = ProgressBar::new(file.metadata().map_err(|e| failed(&e))?.len());
    bar.set_style(ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {eta} left")?);
    #[allow(clippy::disallowed_methods, reason = "the one clock of this program")]
    let now = micros(SystemTime::now().duration_since(UNIX_EPOCH)?);
    let aligned = align_file::align(&schema, &Methods::default(), bar.wrap_read(file), now);
    bar.finish_and_clear();
    let (table, report) = aligned.map_err(|e| failed(&e))?;
    align_file::write(&schema, &table, Path::new(output))?;
    let records: usize = table.values().map(|rows| rows.len()).sum();
    let Report { samples, duplicates, late, refused, ref problems } = report;
    problems.iter().for_each(|problem| tell(problem));
    let untold = (late + refused).saturating_sub(problems.len() as u64);
    if untold > 0 {
        tell(&format_args!("and {untold} more lines"));
    }
    let vehicles = table.len();
    tell(&format_args!(
        "{samples} samples of {vehicles} vehicles became {records} records in {output}; {duplicates} were \
         there twice, {late} too late, {refused} lines wrong"
    ));
    Ok(report)
}

/// On standard error, if anybody reads it.
fn tell(line: &dyn Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--config", config, input, output] => run(Some(config), input, output),
        [input, output] if !input.starts_with('-') => run(None, input, output),
        ["--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => Err(USAGE.into()),
    };
    match result {
        Ok(report) if report.refused == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(REFUSED),
        Err(error) => {
            tell(&error);
            ExitCode::FAILURE
        }
    }
}
