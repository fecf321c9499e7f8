//! The contract of sinks, kept by an archive that writes files of a few rows.

use std::time::Duration;

use fleet_core::Schema;
use fleet_core::error::Result;
use fleet_core::sink::contract::{Stored, Subject, examine};
use fleet_sinks::parquet::{ParquetOptions, ParquetSink};
use tempfile::TempDir;

use crate::fixture::{sink, stored};

struct Folder {
    root: TempDir,
    schema: Schema,
    max_bytes: usize,
}

impl Subject for Folder {
    type Sink = ParquetSink;

    async fn clear(&mut self) -> Result<()> {
        self.root = tempfile::tempdir().unwrap();
        Ok(())
    }

    async fn open(&mut self) -> Result<ParquetSink> {
        let (max_bytes, max_age) = (self.max_bytes, Duration::from_secs(3_600));
        let options = ParquetOptions { max_bytes, max_age, ..ParquetOptions::new(self.root.path(), "w") };
        Ok(sink(options, &self.schema))
    }

    async fn stored(&mut self) -> Result<Stored> {
        Ok(stored(self.root.path(), &self.schema))
    }
}

#[tokio::test]
async fn kept_whatever_the_size_of_the_files() {
    for max_bytes in [1, 3_000, 1 << 30] {
        let schema = Schema::default();
        let mut folder = Folder { root: tempfile::tempdir().unwrap(), schema: schema.clone(), max_bytes };
        examine(&mut folder, &schema, 0..12).await.unwrap();
    }
}
