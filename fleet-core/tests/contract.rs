//! The contract of sinks: the ones in memory keep it, and each way to break it is seen.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use fleet_core::batch::{Batch, BatchBuilder, Row};
use fleet_core::error::Result;
use fleet_core::sink::contract::{Stored, Subject, examine};
use fleet_core::sink::fault::{Fault, Faults, Faulty};
use fleet_core::sink::memory::MemorySink;
use fleet_core::sink::{Backoff, Limits, Progress, RejectedRow, Retry, Sink, Tee};
use fleet_core::{Error, Schema, VehicleId};

/// Ways to be no sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Breach {
    None,
    /// Says that what it has gathered is durable.
    DurableTooEarly,
    /// Forgets a batch now and then.
    Forgets,
    /// Forgets what it has gathered when an answer was lost.
    FlushesHalf,
    /// Takes a repeated row for a mistake.
    FirstCounts,
}

/// A table in memory behind a sink that gathers so many batches, and breaks the contract as told.
struct Memory {
    table: MemorySink,
    gathers: usize,
    breach: Breach,
}

struct Broken {
    inner: MemorySink,
    breach: Breach,
}

impl Sink for Broken {
    async fn accept(&mut self, batch: &Batch) -> Result<Progress> {
        let forgets = self.breach == Breach::Forgets && batch.sequence().is_multiple_of(4);
        let known = self.inner.rows();
        let stored = |v: &fleet_core::batch::BatchVehicle| known.keys().any(|(vehicle, _)| *vehicle == v.id);
        let repeated = self.breach == Breach::FirstCounts && batch.vehicles().iter().any(stored);
        let progress = if forgets || repeated {
            Progress::up_to(batch.sequence())
        } else {
            self.inner.accept(batch).await?
        };
        match self.breach {
            Breach::DurableTooEarly => Ok(Progress { durable: batch.sequence(), ..progress }),
            _ => Ok(progress),
        }
    }

    async fn flush(&mut self) -> Result<Progress> {
        if self.breach == Breach::FlushesHalf {
            return Ok(Progress::default());
        }
        self.inner.flush().await
    }
}

impl Subject for Memory {
    type Sink = Broken;

    async fn clear(&mut self) -> Result<()> {
        self.table.clear();
        Ok(())
    }

    async fn open(&mut self) -> Result<Broken> {
        Ok(Broken { inner: self.table.gathering(self.gathers), breach: self.breach })
    }

    async fn stored(&mut self) -> Result<Stored> {
        Ok(self.table.rows())
    }
}

async fn examined(gathers: usize, breach: Breach) -> Result<()> {
    let schema = Schema::default();
    let mut memory = Memory { table: MemorySink::new(&schema), gathers, breach };
    examine(&mut memory, &schema, 0..60).await.map_err(|violation| Error::data(violation.to_string()))
}

#[tokio::test]
async fn the_sinks_in_memory_keep_it() {
    for gathers in [1, 2, 7] {
        examined(gathers, Breach::None).await.unwrap();
    }
}

#[tokio::test]
async fn every_breach_is_seen() {
    for breach in [Breach::DurableTooEarly, Breach::Forgets, Breach::FlushesHalf, Breach::FirstCounts] {
        let gathers = if breach == Breach::FirstCounts { 1 } else { 5 };
        let error = examined(gathers, breach).await.expect_err("a breach passed");
        println!("{breach:?}: {}", error.to_string().chars().take(150).collect::<String>());
    }
}

/// Two tables behind a tee, one of which gathers, each behind a sink that fails and is tried again.
struct Two {
    tables: [MemorySink; 2],
    seed: u64,
}

impl Two {
    /// Faults for the sink inside of the next one that is opened: a dozen calls, each as likely good.
    fn faults(&mut self) -> Faults {
        let faults = Faults::default();
        for _ in 0..12 {
            self.seed =
                self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let slow = Fault::Slow(Duration::from_millis(self.seed >> 54));
            let kinds = [Fault::Pass, Fault::Pass, Fault::Reject, Fault::FailAfterWrite, slow];
            faults.plan([kinds[(self.seed >> 33) as usize % kinds.len()]]);
        }
        faults
    }
}

impl Subject for Two {
    type Sink = Tee;

    async fn clear(&mut self) -> Result<()> {
        self.tables.iter().for_each(MemorySink::clear);
        Ok(())
    }

    async fn open(&mut self) -> Result<Tee> {
        let (first, second) = (self.faults(), self.faults());
        let gathering = Faulty::new(self.tables[0].gathering(4), &first);
        let at_once = Faulty::new(self.tables[1].gathering(1), &second);
        let tee = Tee::new().required(Retry::new(gathering, "gathering", Backoff::default()));
        Ok(tee.required(Retry::new(at_once, "at once", Backoff::default())))
    }

    /// What is in both, where they agree; the suite doesn't take anything else.
    async fn stored(&mut self) -> Result<Stored> {
        Ok(self.tables[0].rows())
    }
}

#[tokio::test(start_paused = true)]
async fn a_tee_of_sinks_that_are_tried_again_keeps_it() {
    let schema = Schema::default();
    let tables = [MemorySink::new(&schema), MemorySink::new(&schema)];
    let mut two = Two { tables, seed: 1 };
    for seed in 0..60 {
        examine(&mut two, &schema, seed..seed + 1).await.unwrap();
        assert_eq!(two.tables[0].rows(), two.tables[1].rows());
    }
}

fn batch_of(builder: &mut BatchBuilder, schema: &Schema, step: i64) -> Batch {
    let key = builder.vehicle(&VehicleId::new("V1").unwrap(), 1);
    let values = vec![1.0; schema.column_count()];
    builder.push(
        key,
        Row { ts: step * schema.interval(), values: &values, quality: 0b01_01_01_01, correction: false },
    );
    builder.seal().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_optional_sink_holds_nothing_back_and_catches_up() {
    let schema = Schema::default();
    let (main, archive) = (MemorySink::new(&schema), MemorySink::new(&schema));
    let faults = Faults::default();
    let slow = Retry::new(Faulty::new(archive.gathering(3), &faults), "archive", Backoff::default());
    let limits = Limits { max_rows: 40, max_lag: Duration::from_secs(30), grace: Duration::from_secs(5) };
    let mut tee = Tee::new().required(main.clone()).optional("archive", slow, limits);
    let cursor = tee.cursors().remove(0);
    let mut builder = BatchBuilder::new(&schema);

    faults.hold();
    for step in 0..20 {
        let batch = batch_of(&mut builder, &schema, step);
        assert_eq!(tee.accept(&batch).await.unwrap().durable, batch.sequence());
    }
    assert_eq!((main.rows().len(), archive.rows().len(), cursor.waiting()), (20, 0, 20));
    assert_eq!(tee.flush().await.unwrap().durable, 20, "it is waited for, but not for ever");

    faults.plan([Fault::Reject, Fault::FailAfterWrite, Fault::Pass, Fault::FailAfterWrite]);
    faults.release();
    tee.flush().await.unwrap();
    assert_eq!((cursor.durable(), cursor.waiting(), cursor.missed()), (20, 0, 0));
    assert_eq!(archive.rows(), main.rows());

    // What it gathers becomes durable in time without being asked.
    tee.accept(&batch_of(&mut builder, &schema, 20)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!((archive.rows().len(), cursor.durable()), (21, 21));

    // More than may wait: the oldest are missed, and it is said how many.
    faults.hold();
    for step in 21..121 {
        tee.accept(&batch_of(&mut builder, &schema, step)).await.unwrap();
    }
    assert_eq!((cursor.waiting(), cursor.missed()), (40, 60));
    faults.release();
    tee.flush().await.unwrap();
    assert_eq!((main.rows().len(), cursor.durable()), (121, 121));
    let missing = main.rows().len() - archive.rows().len();
    // The one that was on its way when the queue overflowed arrived all the same.
    assert!((59..=60).contains(&missing), "{missing}");
}

#[tokio::test]
async fn a_required_sink_that_is_down_holds_all_back() {
    let schema = Schema::default();
    let (up, down) = (MemorySink::new(&schema), MemorySink::new(&schema));
    let faults = Faults::default();
    let mut tee = Tee::new().required(up.clone()).required(Faulty::new(down.clone(), &faults));
    faults.plan([Fault::Reject]);
    let batch = batch_of(&mut BatchBuilder::new(&schema), &schema, 0);
    assert!(tee.accept(&batch).await.is_err());
    assert_eq!(tee.accept(&batch).await.unwrap().durable, 1);
    assert_eq!(up.rows(), down.rows());
}

/// Takes no row.
struct Refusing;

impl Sink for Refusing {
    async fn accept(&mut self, batch: &Batch) -> Result<Progress> {
        let vehicle = batch.vehicles()[0].id.clone();
        let row = RejectedRow { vehicle, reason: "as told".to_owned(), row: "{}".into() };
        Ok(Progress { rejected: vec![row], ..Progress::up_to(batch.sequence()) })
    }

    async fn flush(&mut self) -> Result<Progress> {
        Ok(Progress::default())
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_an_optional_sink_rejects_are_told() {
    let schema = Schema::default();
    let main = MemorySink::new(&schema);
    let mut tee = Tee::new().required(main).optional("archive", Refusing, Limits::default());
    let cursor = tee.cursors().remove(0);
    let mut builder = BatchBuilder::new(&schema);
    let mut told = tee.accept(&batch_of(&mut builder, &schema, 1)).await.unwrap().rejected;
    told.extend(tee.flush().await.unwrap().rejected);
    assert_eq!(told.iter().map(|row| row.reason.as_str()).collect::<Vec<_>>(), ["archive: as told"]);
    assert_eq!((cursor.rejected(), cursor.missed()), (1, 0));
    assert!(tee.flush().await.unwrap().rejected.is_empty(), "once");
}
