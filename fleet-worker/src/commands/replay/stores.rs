//! Where replayed rows go.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fleet_core::batch::{Batch, BatchBuilder};
use fleet_core::error::Result;
use fleet_core::nats::Letters;
use fleet_core::sink::{Backoff, DynSink, Progress, Pulse, RejectedRow, Retry, Sink};
use fleet_core::{Micros, VehicleId};
use fleet_sinks::timescale::{
    Connector, ReplacingSink, SinkCounters, TimescaleSink, check, check_writer, epochs,
};

use super::gather::Gather;
use crate::commands::sinks;
use crate::config::Config;

/// A person waits: an outage that goes on for longer ends the command.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(100),
    cap: Duration::from_secs(5),
    deadline: Some(Duration::from_secs(120)),
};

/// How many vehicles' claims are asked for at once.
const CLAIMS: usize = 1_000;

/// Every configured sink, and the rows that are on their way to them.
pub(super) struct Stores {
    connector: Connector,
    sink: Box<dyn DynSink>,
    counters: Arc<SinkCounters>,
    pub(super) builder: BatchBuilder,
    batch_rows: usize,
    dry: bool,
    rows: u64,
    rejected: Vec<RejectedRow>,
}

impl Stores {
    /// Checks the database and opens the sinks; with `replaced`, what is stored within is replaced. A
    /// dry one stores nothing.
    ///
    /// # Errors
    /// As of [`check`], and of the archive.
    pub(super) async fn open(config: &Config, replaced: Option<Range<Micros>>, dry: bool) -> Result<Self> {
        let connector = crate::commands::connector(config)?;
        // Whoever only adds leaves signals alone that were appended since; whoever replaces would lose them.
        match replaced {
            Some(_) => check(&connector, &config.schema).await?,
            None => check_writer(&connector, &config.schema).await?,
        };
        let mut timescale = TimescaleSink::new(connector.clone(), &config.schema);
        if config.parquet.is_some() {
            timescale = timescale.beside_archive();
        }
        let (counters, pulse) = (timescale.counters(), timescale.pulse());
        let sink = match replaced {
            Some(span) => {
                sinks::complete(config, retried(ReplacingSink::new(timescale, span), pulse)).await?
            }
            None => sinks::complete(config, retried(timescale, pulse)).await?,
        };
        Ok(Self {
            connector,
            sink,
            counters,
            builder: BatchBuilder::new(&config.schema),
            batch_rows: config.worker.batch_rows,
            dry,
            rows: 0,
            rejected: Vec::new(),
        })
    }

    /// Only the database.
    #[cfg(feature = "parquet")]
    pub(super) async fn database(config: &Config, dry: bool) -> Result<Self> {
        let mut config = config.clone();
        config.parquet = None;
        Self::open(&config, None, dry).await
    }

    pub(super) fn is_dry(&self) -> bool {
        self.dry
    }

    /// How many rows were given to the sinks so far.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// How many rows changed the database.
    pub(super) fn changed(&self) -> u64 {
        let SinkCounters { copied, merged, .. } = &*self.counters;
        copied.load(Ordering::Relaxed) + merged.load(Ordering::Relaxed)
    }

    /// How many rows are the archive's alone, because their day has left the database.
    pub(super) fn archived_only(&self) -> u64 {
        self.counters.retired.load(Ordering::Relaxed)
    }

    /// How many rows were deleted to be replaced.
    pub(super) fn deleted(&self) -> u64 {
        self.counters.deleted.load(Ordering::Relaxed)
    }

    /// The claims under which rows of these vehicles are written; none counts as 0.
    pub(super) async fn epochs(&mut self, vehicles: &[VehicleId]) -> Result<BTreeMap<VehicleId, i32>> {
        let mut known = BTreeMap::new();
        for vehicles in vehicles.chunks(CLAIMS) {
            known.extend(epochs(&self.connector, vehicles).await?);
        }
        Ok(known)
    }

    /// Whether the builder has rows enough for a batch.
    pub(super) fn is_full(&self) -> bool {
        self.builder.len() >= self.batch_rows
    }

    /// Derives and stores the rows of all that was gathered. The vehicles of which something was left
    /// out because they were claimed meanwhile.
    pub(super) async fn write(&mut self, gather: &Gather<'_>) -> Result<Vec<VehicleId>> {
        let mut claimed = Vec::new();
        for vehicles in gather.vehicles().chunks(CLAIMS) {
            let epochs = self.epochs(vehicles).await?;
            for vehicle in vehicles {
                let key = self.builder.vehicle(vehicle, epochs.get(vehicle).copied().unwrap_or(0));
                gather.derive(vehicle, |row| self.builder.push(key, row));
                if self.is_full() {
                    claimed.extend(self.store().await?);
                }
            }
            claimed.extend(self.store().await?);
        }
        Ok(claimed)
    }

    /// Stores the rows of the builder; the batch's vehicles if some were left out.
    pub(super) async fn store(&mut self) -> Result<Vec<VehicleId>> {
        let batch = self.builder.seal()?;
        self.rows += batch.len() as u64;
        if self.dry || batch.vehicles().is_empty() {
            return Ok(Vec::new());
        }
        let stale = self.counters.stale.load(Ordering::Relaxed);
        let progress = Sink::accept(&mut self.sink, &batch).await?;
        self.note(progress);
        let left_out = self.counters.stale.load(Ordering::Relaxed) > stale;
        Ok(if left_out { named(&batch) } else { Vec::new() })
    }

    /// Makes all durable; the rows that could not be stored.
    pub(super) async fn finish(&mut self) -> Result<Vec<RejectedRow>> {
        if !self.dry {
            let progress = Sink::flush(&mut self.sink).await?;
            self.note(progress);
        }
        Ok(std::mem::take(&mut self.rejected))
    }

    fn note(&mut self, progress: Progress) {
        self.rejected.extend(progress.rejected);
    }
}

fn named(batch: &Batch) -> Vec<VehicleId> {
    batch.vehicles().iter().map(|vehicle| vehicle.id.clone()).collect()
}

fn retried<S: Sink>(sink: S, pulse: Pulse) -> Retry<S> {
    Retry::new(sink, "timescale", BACKOFF).asking(pulse)
}

/// Rows that could not be stored become dead letters, as they do in a worker.
pub(super) async fn keep(letters: &Letters, rejected: Vec<RejectedRow>) -> Result<()> {
    for row in rejected {
        tracing::warn!(vehicle = %row.vehicle, reason = row.reason, "a row could not be stored");
        letters.keep(&row.into()).await?;
    }
    Ok(())
}
