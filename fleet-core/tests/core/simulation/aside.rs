//! A sink that sets rows of some vehicles aside and stores them later, in their order.

use std::collections::{BTreeMap, VecDeque};

use fleet_core::batch::{Batch, BatchBuilder, BatchVehicle, Record, Row};
use fleet_core::error::Result;
use fleet_core::sink::memory::{MemorySink, rows};
use fleet_core::sink::{Progress, Sink};
use fleet_core::{Micros, Schema, VehicleId};

use super::traffic::Dice;

pub(super) struct Aside {
    table: MemorySink,
    builder: BatchBuilder,
    dice: Dice,
    waiting: VecDeque<Waiting>,
    last: u64,
    /// Whether it keeps to itself what it has set aside.
    secret: bool,
}

#[derive(Clone)]
struct Waiting {
    batch: u64,
    vehicle: VehicleId,
    epoch: i32,
    ts: Micros,
    record: Record,
    correction: bool,
}

impl Aside {
    pub(super) fn new(table: MemorySink, schema: &Schema, dice: Dice, secret: bool) -> Self {
        let builder = BatchBuilder::new(schema);
        Self { table, builder, dice, waiting: VecDeque::new(), last: 0, secret }
    }

    pub(super) fn waiting(&self) -> u64 {
        self.waiting.len() as u64
    }

    async fn store(&mut self, rows: impl Iterator<Item = Waiting>) -> Result<()> {
        for Waiting { vehicle, epoch, ts, record, correction, .. } in rows {
            let key = self.builder.vehicle(&vehicle, epoch);
            let values: Vec<f64> = record.values.iter().map(|v| v.unwrap_or(f64::NAN)).collect();
            self.builder.push(key, Row { ts, values: &values, quality: record.quality, correction });
            let batch = self.builder.seal()?;
            Sink::accept(&mut self.table, &batch).await?;
        }
        Ok(())
    }

    fn progress(&self) -> Progress {
        let mut set_aside = BTreeMap::new();
        for row in self.waiting.iter().filter(|_| !self.secret) {
            set_aside.entry(row.vehicle.clone()).or_insert(row.batch);
        }
        Progress { set_aside, ..Progress::up_to(self.last) }
    }
}

impl Sink for Aside {
    async fn accept(&mut self, batch: &Batch) -> Result<Progress> {
        // Some of those that wait, the oldest first.
        let some = if self.dice.one_in(8) { self.waiting.len() as i64 } else { self.dice.below(3) };
        let some = self.waiting.len().min(some as usize);
        let stored: Vec<_> = self.waiting.drain(..some).collect();
        self.store(stored.into_iter()).await?;
        let chosen = self.dice.one_in(3).then(|| self.dice.below(5) as usize);
        let mut now = Vec::new();
        for (n, (vehicle, ts, record)) in rows(batch).into_iter().enumerate() {
            let BatchVehicle { id, epoch } = batch.vehicles()[vehicle].clone();
            let aside = chosen == Some(vehicle) || self.waiting.iter().any(|row| row.vehicle == id);
            let correction = batch.corrections()[n];
            let row = Waiting { batch: batch.sequence(), vehicle: id, epoch, ts, record, correction };
            if aside { self.waiting.push_back(row) } else { now.push(row) }
        }
        self.store(now.into_iter()).await?;
        self.last = batch.sequence();
        Ok(self.progress())
    }

    async fn flush(&mut self) -> Result<Progress> {
        let stored = std::mem::take(&mut self.waiting);
        self.store(stored.into_iter()).await?;
        Ok(self.progress())
    }
}
