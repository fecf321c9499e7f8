//! The records' part of a configuration file.

use std::path::Path;

use fleet_core::Schema;
use fleet_core::schema::{Problem, RecordsConfig};

use super::Error;

/// Reads `interval`, `window` and `[[signal]]` and what stands beside them; the worker's other tables
/// may be in the file too.
///
/// # Errors
/// Every problem with its key and its value.
pub fn read_config(path: &Path) -> Result<Schema, Error> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|e| failed(&e))?;
    let mut file: toml::Table = text.parse().map_err(|e| failed(&e))?;
    file.retain(|_, value| !value.is_table());
    let config: RecordsConfig = file.try_into().map_err(|e| failed(&e))?;
    Ok(config.build().map_err(|problems| failed(&join(problems)))?)
}

pub(super) fn join(problems: Vec<Problem>) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
