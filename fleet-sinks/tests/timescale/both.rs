//! A database and an archive at once: a tee of both keeps the contract of sinks, with trouble in each.

use std::path::Path;
use std::time::Duration;

use fleet_core::error::Result;
use fleet_core::sink::contract::{Stored, Subject, examine};
use fleet_core::sink::fault::{Fault, Faults, Faulty};
use fleet_core::sink::{Backoff, Limits, Retry, Sink, Tee};
use fleet_core::{Schema, VehicleId};
use fleet_sinks::parquet::{Archive, ParquetOptions, ParquetSink};
use tempfile::TempDir;

use crate::contract::Database;
use crate::fixture::{Random, seal};
use crate::server::Server;

/// Soon: the trouble is over at the next try.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(1), cap: Duration::from_millis(1), deadline: None };

fn archive(root: &Path, schema: &Schema) -> ParquetSink {
    let options = ParquetOptions { max_bytes: 3_000, ..ParquetOptions::new(root, "w") };
    ParquetSink::new(options, schema, fleet_worker::clock::now).unwrap()
}

fn archived(root: &Path, schema: &Schema) -> Stored {
    let archive = Archive::open(root);
    let days = archive.dates().unwrap().into_iter();
    days.flat_map(|date| archive.read(schema, &date).unwrap()).collect()
}

struct Both {
    database: Database,
    root: TempDir,
    random: Random,
}

impl Both {
    /// For the next dozen calls, each as likely good as bad.
    fn faults(&mut self) -> Faults {
        let faults = Faults::default();
        let kinds = [Fault::Pass, Fault::Pass, Fault::Reject, Fault::FailAfterWrite];
        faults.plan((0..12).map(|_| kinds[self.random.below(4) as usize]));
        faults
    }
}

impl Subject for Both {
    type Sink = Tee;

    async fn clear(&mut self) -> Result<()> {
        self.root = tempfile::tempdir().unwrap();
        self.database.clear().await
    }

    async fn open(&mut self) -> Result<Tee> {
        let (first, second) = (self.faults(), self.faults());
        let database = Retry::new(Faulty::new(self.database.open().await?, &first), "database", BACKOFF);
        let archive = archive(self.root.path(), &self.database.fixture.schema);
        Ok(Tee::new().required(database).required(Retry::new(
            Faulty::new(archive, &second),
            "archive",
            BACKOFF,
        )))
    }

    async fn claim(&mut self, vehicle: &VehicleId, epoch: i32) -> Result<()> {
        self.database.claim(vehicle, epoch).await
    }

    /// What is in the database; whether the archive agrees is asked at the end.
    async fn stored(&mut self) -> Result<Stored> {
        self.database.stored().await
    }
}

#[tokio::test]
async fn the_contract_is_kept_by_a_tee_of_both() {
    let database = Database::on(Server::plain().await).await;
    let schema = database.fixture.schema.clone();
    let mut both = Both { database, root: tempfile::tempdir().unwrap(), random: Random(3) };
    for seed in 0..12 {
        examine(&mut both, &schema, seed..seed + 1).await.unwrap();
        let archived = archived(both.root.path(), &schema);
        assert!(archived == both.database.stored().await.unwrap(), "seed {seed}: the two differ");
        assert!(!archived.is_empty());
    }
}

#[tokio::test]
async fn an_optional_archive_that_was_away_has_everything_in_the_end() {
    let mut database = Database::on(Server::plain().await).await;
    let (root, schema) = (tempfile::tempdir().unwrap(), database.fixture.schema.clone());
    let faults = Faults::default();
    let away = Retry::new(Faulty::new(archive(root.path(), &schema), &faults), "archive", BACKOFF);
    let mut tee =
        Tee::new().required(database.open().await.unwrap()).optional("archive", away, Limits::default());
    let cursor = tee.cursors().remove(0);
    let mut random = Random(9);
    faults.hold();
    for _ in 0..40 {
        let records: Vec<_> = (0..50).map(|_| random.record()).collect();
        let batch = seal(&mut database.fixture.builder, &records);
        assert_eq!(tee.accept(&batch).await.unwrap().durable, batch.sequence(), "it holds nothing back");
    }
    assert!(cursor.waiting() > 0 && archived(root.path(), &schema).is_empty());
    faults.plan([Fault::Reject, Fault::FailAfterWrite, Fault::Reject]);
    faults.release();
    tee.flush().await.unwrap();
    assert_eq!((cursor.durable(), cursor.waiting(), cursor.missed()), (40, 0, 0));
    assert!(archived(root.path(), &schema) == database.stored().await.unwrap(), "the two differ");
}
