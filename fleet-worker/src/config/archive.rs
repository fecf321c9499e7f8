//! The table `[sink.parquet]`.

use std::path::PathBuf;
use std::time::Duration;

use super::values::Values;
use super::{HOUR, SECOND};

/// An archive of Parquet files beside the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParquetConfig {
    /// The folder.
    pub path: PathBuf,
    /// Rows in memory that become a file, bytes.
    pub max_bytes: usize,
    /// How long rows wait for their file to be full at most.
    pub max_age: Duration,
    /// Whether states and releases wait for the archive too; otherwise it holds nothing back and
    /// catches up.
    pub required: bool,
}

pub(super) fn read(values: &mut Values) -> Option<ParquetConfig> {
    let max_bytes = values.size("sink.parquet.max_bytes", 1 << 10);
    let max_age = values.duration("sink.parquet.max_age", SECOND..=HOUR);
    let required = match values.text("sink.parquet.when_down") {
        "hold" => true,
        "catch_up" => false,
        other => {
            let message = format!("{other:?} is neither \"hold\" nor \"catch_up\"");
            values.say("sink.parquet.when_down", message);
            false
        }
    };
    let path = values.optional("sink.parquet.path")?;
    if !cfg!(feature = "parquet") {
        values.say("sink.parquet.path", "this program was built without the feature parquet");
    }
    let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    Some(ParquetConfig { path: path.into(), max_bytes, max_age, required })
}
