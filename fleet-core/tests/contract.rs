//! The contract of sinks: the ones in memory keep it, and each way to break it is seen.
#![allow(clippy::unwrap_used, reason = "tests")]

use fleet_core::batch::Batch;
use fleet_core::error::Result;
use fleet_core::sink::contract::{Stored, Subject, examine};
use fleet_core::sink::memory::MemorySink;
use fleet_core::sink::{Progress, Sink};
use fleet_core::{Error, Schema};

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
            Progress { durable: batch.sequence(), rejected: Vec::new() }
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
