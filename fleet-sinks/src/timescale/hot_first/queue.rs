//! Cold rows that wait to be written.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fleet_core::batch::{Batch, BatchBuilder, Row};
use fleet_core::error::{Error, Result};
use fleet_core::sink::{Progress, RejectedRow};
use fleet_core::{Micros, Schema, VehicleId};
use tokio::sync::Notify;

use super::super::encode::Rows;

/// Between the sink, which pushes, and its task, which writes.
#[derive(Debug)]
pub(super) struct ColdQueue {
    state: Mutex<State>,
    /// There is something to write.
    pushed: Notify,
    /// Something was written, or can't be.
    written: Notify,
}

#[derive(Debug)]
struct State {
    builder: BatchBuilder,
    columns: usize,
    /// Of the vehicles in the builder, their claim and their first batch.
    waiting: BTreeMap<VehicleId, Waiting>,
    /// Of the vehicles whose rows are being written, their first batch.
    in_flight: BTreeMap<VehicleId, u64>,
    rows_in_flight: usize,
    rejected: Vec<RejectedRow>,
    /// Why nothing can be written any more; told once.
    failed: Option<Error>,
    ended: bool,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    epoch: i32,
    first: u64,
}

impl State {
    fn rows(&self) -> usize {
        self.builder.len() + self.rows_in_flight
    }
}

impl ColdQueue {
    pub(super) fn new(schema: &Schema) -> Self {
        let state = State {
            builder: BatchBuilder::new(schema),
            columns: schema.column_count(),
            waiting: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            rows_in_flight: 0,
            rejected: Vec::new(),
            failed: None,
            ended: false,
        };
        Self { state: Mutex::new(state), pushed: Notify::new(), written: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing waits and nothing is being written.
    pub(super) fn is_empty(&self) -> bool {
        self.state().rows() == 0
    }

    /// Queues the rows of a batch from before that time.
    pub(super) fn push(&self, batch: &Batch, before: Micros) -> Result<()> {
        let rows = Rows::of(batch)?;
        let mut state = self.state();
        let State { builder, columns, waiting, .. } = &mut *state;
        let (mut values, mut known) = (vec![0.0; *columns], None);
        for row in (0..rows.len()).filter(|&row| rows.ts(row) < before) {
            let vehicle = rows.vehicle(row);
            // Mostly that of the row before.
            let key = match known {
                Some((same, key)) if same == vehicle => key,
                _ => {
                    let vehicle = &batch.vehicles()[vehicle];
                    let first = batch.sequence();
                    let entry =
                        waiting.entry(vehicle.id.clone()).or_insert(Waiting { epoch: vehicle.epoch, first });
                    if entry.epoch < vehicle.epoch {
                        // Another may have held it in between. The new claim repeats what was not durable.
                        builder.forget(&vehicle.id);
                        *entry = Waiting { epoch: vehicle.epoch, first };
                    }
                    builder.vehicle(&vehicle.id, vehicle.epoch)
                }
            };
            known = Some((vehicle, key));
            for (column, value) in values.iter_mut().enumerate() {
                *value = rows.value(row, column);
            }
            let (ts, quality, correction) = (rows.ts(row), rows.quality(row), batch.corrections()[row]);
            builder.push(key, Row { ts, values: &values, quality, correction });
        }
        if known.is_some() {
            self.pushed.notify_one();
        }
        Ok(())
    }

    /// Takes all that waits as one batch, in which of several values of a row the last counts; nothing after an
    /// error.
    pub(super) async fn next(&self) -> Option<Batch> {
        loop {
            {
                let mut state = self.state();
                if !state.builder.is_empty() {
                    let waiting = std::mem::take(&mut state.waiting);
                    state.in_flight = waiting.into_iter().map(|(vehicle, w)| (vehicle, w.first)).collect();
                    state.rows_in_flight = state.builder.len();
                    match state.builder.seal() {
                        Ok(batch) => return Some(batch),
                        Err(error) => {
                            drop(state);
                            self.fail(error);
                            return None;
                        }
                    }
                }
            }
            self.pushed.notified().await;
        }
    }

    /// What was taken last is durable but for these rows.
    pub(super) fn stored(&self, rejected: Vec<RejectedRow>) {
        let mut state = self.state();
        state.in_flight.clear();
        state.rows_in_flight = 0;
        state.rejected.extend(rejected);
        self.written.notify_one();
    }

    /// Nothing can be written any more.
    pub(super) fn fail(&self, error: Error) {
        let mut state = self.state();
        state.failed = Some(error);
        state.ended = true;
        self.written.notify_one();
    }

    /// Waits until so many rows wait or are being written, or none will be any more.
    pub(super) async fn until(&self, enough: impl Fn(usize) -> bool) {
        loop {
            {
                let state = self.state();
                if state.ended || enough(state.rows()) {
                    return;
                }
            }
            self.written.notified().await;
        }
    }

    /// Adds the rows that were rejected since the last call, and the vehicles that have rows here, each with the
    /// first batch that it has one of.
    ///
    /// # Errors
    /// Why nothing can be written any more.
    pub(super) fn add_to(&self, progress: &mut Progress) -> Result<()> {
        let mut state = self.state();
        if let Some(error) = state.failed.take() {
            return Err(error);
        }
        if state.ended {
            return Err(Error::internal("the task that writes cold rows has ended"));
        }
        progress.rejected.append(&mut state.rejected);
        let waiting = state.waiting.iter().map(|(vehicle, waiting)| (vehicle, waiting.first));
        for (vehicle, first) in
            state.in_flight.iter().map(|(vehicle, first)| (vehicle, *first)).chain(waiting)
        {
            progress.set_aside_from(vehicle.clone(), first);
        }
        Ok(())
    }
}
