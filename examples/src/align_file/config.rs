//! The records' part of a configuration file.

use std::path::Path;

use fleet_core::Schema;
use fleet_core::schema::{Problem, RecordsConfig};

use super::Error;

/// How many samples of a signal are held at most unless the file says so: a file's vehicles are few, and
/// its sensors may be fast.
const MAX_SAMPLES: usize = 65_536;

/// And how much memory these take.
const MAX_VEHICLE_MEMORY: &str = "1GiB";

/// The scenario's four signals every 10 s.
///
/// # Errors
/// None: it is what a file without anything in it says.
pub fn default_config() -> Result<Schema, Error> {
    build(toml::Table::new())
}

/// Reads `interval`, `window` and `[[signal]]` and what stands beside them; the worker's other keys and
/// tables may be in the file too.
///
/// # Errors
/// Every problem with its key and its value.
pub fn read_config(path: &Path) -> Result<Schema, Error> {
    let read = || -> Result<Schema, Error> { build(std::fs::read_to_string(path)?.parse()?) };
    read().map_err(|error| format!("{}: {error}", path.display()).into())
}

fn build(mut file: toml::Table) -> Result<Schema, Error> {
    // `[signal]` where `[[signal]]` is meant must not pass for a table of the worker's.
    file.retain(|key, value| key == "signal" || !(value.is_table() || ["cell", "retention"].contains(&key)));
    file.entry("max_samples").or_insert(toml::Value::Integer(MAX_SAMPLES as i64));
    file.entry("max_vehicle_memory").or_insert(MAX_VEHICLE_MEMORY.into());
    let config: RecordsConfig = file.try_into()?;
    Ok(config.build().map_err(join)?)
}

pub(super) fn join(problems: Vec<Problem>) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
