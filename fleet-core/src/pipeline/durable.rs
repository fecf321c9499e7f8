//! From sealed to durable: states are saved and vehicles released by what is durable, never by what
//! was seen.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::held::{Phase, Ticket};
use super::sinking::Sunk;
use super::{Counters, Pipeline};
use crate::bind::{Binder, VehicleState};
use crate::error::Result;
use crate::ids::{Slot, VehicleId};
use crate::message::Refusal;
use crate::sink::Progress;
use crate::source::Source;
use crate::time::micros;

/// The number under which deferred states are saved; nobody waits for them.
const DEFERRED: u64 = 0;

/// What becomes due when a batch is durable.
#[derive(Debug)]
pub(super) struct Checkpoint {
    batch: u64,
    rows: usize,
    states: Vec<VehicleState>,
    releases: Vec<(Ticket, VehicleState)>,
}

/// What is due of vehicles once the rows that the sink has set aside of them are durable.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    /// The vehicles of which the sink last said that rows are set aside.
    pub(super) set_aside: BTreeMap<VehicleId, u64>,
    /// By slot, one state a vehicle: the oldest, which can be saved first.
    saves: BTreeMap<Slot, Due>,
    releases: Vec<Due>,
}

#[derive(Debug)]
struct Due {
    batch: u64,
    ticket: Ticket,
    state: VehicleState,
}

impl Deferred {
    /// Nobody is ours any more.
    pub(super) fn clear(&mut self) {
        self.saves.clear();
        self.releases.clear();
    }
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
        let Sunk { mut progress, .. } = sunk;
        for row in std::mem::take(&mut progress.rejected) {
            tracing::warn!(vehicle = %row.vehicle, reason = row.reason, "a row could not be stored");
            self.counters.refused.add(Refusal::Row);
            self.source.refuse(row.into());
        }
        self.settle_deferred(&progress);
        while let Some(mut checkpoint) = self.checkpoints.pop_front_if(|c| c.batch <= progress.durable) {
            self.counters.durable(checkpoint.rows);
            if !progress.set_aside.is_empty() {
                self.defer(&mut checkpoint, &progress);
            }
            if !checkpoint.states.is_empty() {
                self.binder.save(checkpoint.batch, checkpoint.states);
            } else if self.saving == Some(checkpoint.batch) {
                self.saving = None;
            }
            for (ticket, state) in checkpoint.releases {
                self.release(ticket, checkpoint.batch, state);
            }
        }
        self.deferred.set_aside = progress.set_aside;
        if self.behind && self.lane.rows() < self.options.max_waiting_rows {
            self.recover();
        }
        Ok(())
    }

    /// Takes out of a checkpoint what must wait for rows that are set aside.
    fn defer(&mut self, checkpoint: &mut Checkpoint, progress: &Progress) {
        let batch = checkpoint.batch;
        let waits = |state: &VehicleState| !progress.has_all_of(&state.vehicle, batch);
        for state in checkpoint.states.extract_if(.., |state| waits(state)) {
            let ticket = self.lane.find(&state.vehicle).and_then(|slot| self.held.ticket(slot));
            let Some(ticket) = ticket else { continue };
            let older = self.deferred.saves.get(&ticket.slot).is_some_and(|due| due.ticket == ticket);
            if !older {
                self.deferred.saves.insert(ticket.slot, Due { batch, ticket, state });
            }
        }
        let releases = checkpoint.releases.extract_if(.., |(_, state)| waits(state));
        self.deferred.releases.extend(releases.map(|(ticket, state)| Due { batch, ticket, state }));
    }

    /// Does what was deferred and is due now. A vehicle that was let go meanwhile is somebody else's.
    fn settle_deferred(&mut self, progress: &Progress) {
        let is_due = |due: &Due| progress.has_all_of(&due.state.vehicle, due.batch);
        let saves = self.deferred.saves.extract_if(.., |_, due| is_due(due)).map(|(_, due)| due);
        let states: Vec<_> =
            saves.filter(|due| self.held.get(due.ticket).is_some()).map(|due| due.state).collect();
        if !states.is_empty() {
            self.binder.save(DEFERRED, states);
        }
        let releases: Vec<_> = self.deferred.releases.extract_if(.., |due| is_due(due)).collect();
        for Due { batch, ticket, state } in releases {
            self.release(ticket, batch, state);
        }
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
