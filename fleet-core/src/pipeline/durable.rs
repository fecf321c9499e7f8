//! From sealed to durable: states are saved and vehicles released by what is durable, never by what
//! was seen.

use tokio::time::Instant;

use super::held::{Phase, Ticket};
use super::sinking::Sunk;
use super::{Counters, Pipeline};
use crate::bind::{Binder, VehicleState};
use crate::error::Result;
use crate::message::Refusal;
use crate::source::Source;
use crate::time::micros;

/// What becomes due when a batch is durable.
#[derive(Debug)]
pub(super) struct Checkpoint {
    batch: u64,
    rows: usize,
    states: Vec<VehicleState>,
    releases: Vec<(Ticket, VehicleState)>,
}

impl<S: Source, B: Binder> Pipeline<S, B> {
    /// Seals a batch if there is a reason to and the sink is free.
    pub(super) fn seal_if_due(&mut self) -> Result<()> {
        let rows = self.lane.rows();
        let now = Instant::now();
        if rows > 0 {
            self.oldest_row.get_or_insert(now);
        }
        if self.sinking.is_busy() {
            self.behind |= rows >= self.options.max_waiting_rows;
            return Ok(());
        }
        let old = self.oldest_row.is_some_and(|t| now - t >= self.options.batch_age);
        let save = self.saving.is_none() && now - self.last_save >= self.options.save_interval;
        if rows >= self.options.batch_rows || old || save || self.held.waits_for_batch() {
            self.seal(save)?;
        }
        Ok(())
    }

    /// Seals what there is and hands it to the sink, with what becomes due by it.
    ///
    /// Every write is preceded by the question whether we still hold our vehicles; if not, nothing is
    /// written, and the loss is told by the binder in a moment.
    pub(super) fn seal(&mut self, save: bool) -> Result<()> {
        if !self.binder.holds() {
            return Ok(());
        }
        let margin = micros(self.binder.lease());
        let batch = self.lane.seal()?;
        let (sequence, rows) = (batch.sequence(), batch.len());
        let released = self.held.seal(sequence).into_iter();
        let releases =
            released.filter_map(|ticket| Some((ticket, self.lane.snapshot(ticket.slot, margin)?))).collect();
        let states = if save { self.lane.snapshots(margin) } else { Vec::new() };
        if save {
            self.last_save = Instant::now();
            self.saving = (!states.is_empty()).then_some(sequence);
        }
        self.checkpoints.push_back(Checkpoint { batch: sequence, rows, states, releases });
        self.oldest_row = None;
        self.sinking.start(batch)
    }

    /// A batch is durable: what waited for it is due.
    pub(super) fn on_sunk(&mut self, sunk: Sunk) -> Result<()> {
        self.counters.worked(sunk.took);
        for row in sunk.progress.rejected {
            tracing::warn!(vehicle = %row.vehicle, reason = row.reason, "a row could not be stored");
            self.counters.refused.add(Refusal::Row);
            self.source.refuse(row.into());
        }
        let durable = sunk.progress.durable;
        while let Some(checkpoint) = self.checkpoints.pop_front_if(|c| c.batch <= durable) {
            self.counters.durable(checkpoint.rows);
            if !checkpoint.states.is_empty() {
                self.binder.save(checkpoint.batch, checkpoint.states);
            }
            for (ticket, state) in checkpoint.releases {
                self.release(ticket, checkpoint.batch, state);
            }
        }
        if self.behind && self.lane.rows() < self.options.max_waiting_rows {
            self.recover();
        }
        Ok(())
    }

    fn release(&mut self, ticket: Ticket, sealed: u64, mut state: VehicleState) {
        let margin = micros(self.binder.lease());
        let Some(held) = self.held.get(ticket) else { return };
        let Phase::Finishing { ended_at, batch } = held.phase() else { return };
        if batch == Some(sealed) {
            self.held.enter(ticket.slot, Phase::Releasing { off: None });
            state.released_at = Some(self.source.now() - margin);
            self.binder.release(state, ended_at);
        }
    }

    /// The sink is back: read again what was left to the stream meanwhile.
    fn recover(&mut self) {
        self.behind = false;
        let missed = self.held.take_missed();
        missed.iter().for_each(|(slot, _)| self.lane.catching_up(*slot));
        tracing::info!(vehicles = missed.len(), "the sink is back, catching up");
        Counters::add(&self.counters.catch_ups, missed.len() as u64);
        self.source.catch_up(&missed);
    }
}
