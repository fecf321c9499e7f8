//! The end on shutdown: what is complete is made durable, and what isn't is left to the next holders.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::held::Phase;
use super::{Counters, Pipeline};
use crate::bind::{BindEvent, Binder, VehicleState};
use crate::error::Result;
use crate::ids::Slot;
use crate::source::{Drained, Source};
use crate::time::micros;

/// How long the source may take to say what has come.
const DRAIN: Duration = Duration::from_secs(2);

/// Vehicles whose states are copied and saved at once.
const PORTION: usize = 512;

impl<S: Source, B: Binder> Pipeline<S, B> {
    /// Makes durable what is at hand, and saves what each vehicle's rows still hang on, as far as the deadline
    /// allows. From what isn't saved the next holders replay.
    pub(super) async fn leave(&mut self) -> Result<()> {
        tracing::info!(vehicles = self.lane.vehicles(), "shutting down");
        let deadline = Instant::now() + self.options.shutdown_deadline;
        let drained = self.drain().await?;
        // The states say that these rows are durable.
        let durable = self.make_durable(drained.is_none(), deadline).await?;
        match drained {
            Some(drained) if durable => self.hand_over(&drained, deadline).await,
            _ => Ok(()),
        }
    }

    /// Takes what has come. From here on nothing does.
    async fn drain(&mut self) -> Result<Option<Drained>> {
        if self.behind || !self.binder.holds() {
            return Ok(None);
        }
        let Ok(Some(drained)) = timeout(DRAIN, self.source.drain()).await else { return Ok(None) };
        while let Some(event) = self.source.next().now_or_never() {
            self.on_events(event?)?;
        }
        Ok(Some(drained))
    }

    /// Makes durable what is at hand, and saves the vehicles' states with it where it is told to. Says whether all
    /// of it is durable, but for rows that are [set aside](crate::sink::Progress::set_aside).
    ///
    /// For rows that are set aside it waits for half of the time only: the others' states are to be saved too.
    async fn make_durable(&mut self, save: bool, deadline: Instant) -> Result<bool> {
        let (mut sealed, mut flushed) = (false, false);
        let half_time = deadline - self.options.shutdown_deadline / 2;
        while self.binder.holds() {
            if !self.sinking.is_busy() {
                if !sealed {
                    self.seal(save)?;
                    sealed = true;
                } else if !flushed || !self.deferred.set_aside.is_empty() {
                    // Also where nothing lags: a tee's optional sinks are not in what it says.
                    self.sinking.flush()?;
                    flushed = true;
                } else {
                    return Ok(self.checkpoints.is_empty());
                }
            }
            let only_aside = flushed && self.checkpoints.is_empty() && !self.deferred.set_aside.is_empty();
            tokio::select! {
                biased;
                sunk = self.sinking.done() => self.on_sunk(sunk?)?,
                event = self.binder.next(0) => self.on_last(event?),
                () = sleep_until(half_time), if only_aside => {
                    let vehicles = self.deferred.set_aside.len();
                    tracing::warn!(vehicles, "rows that were set aside are not stored in time; their vehicles' next holders repeat them");
                    return Ok(true);
                }
                () = sleep_until(deadline) => {
                    tracing::warn!(
                        "the sink did not finish in time; the vehicles' next holder repeats what is missing"
                    );
                    break;
                }
            }
        }
        Ok(false)
    }

    /// Saves the states of all vehicles with what the next holders need to go on from here, and gives each portion of
    /// the vehicles back at once.
    async fn hand_over(&mut self, drained: &Drained, deadline: Instant) -> Result<()> {
        let (mut ticket, mut handed_over) = (u64::MAX, 0);
        for slots in self.lane.slots().chunks(PORTION) {
            let states = slots.iter().filter_map(|slot| self.last_state(*slot, drained));
            let states: Vec<_> = states.collect();
            if states.is_empty() {
                continue;
            }
            handed_over += states.iter().filter(|state| state.carry.is_some()).count() as u64;
            // Batches' numbers are small.
            ticket -= 1;
            self.saving = Some(ticket);
            self.binder.hand_over(ticket, states);
            while self.saving.is_some() {
                match timeout_at(deadline, self.binder.next(0)).await {
                    Ok(event) => self.on_last(event?),
                    Err(_) => {
                        tracing::warn!("the last states are not saved in time; their next holders replay");
                        return Ok(());
                    }
                }
            }
        }
        Counters::add(&self.counters.handed_over, handed_over);
        tracing::info!(vehicles = self.lane.vehicles(), handed_over, "all states are saved");
        Ok(())
    }

    /// The state to be saved last; without a carry where anything may be missing, and none while it is caught up or
    /// released.
    fn last_state(&mut self, slot: Slot, drained: &Drained) -> Option<VehicleState> {
        let held = self.held.at(slot)?;
        if matches!(held.phase(), Phase::Releasing { .. }) {
            return None;
        }
        let complete = !held.jumped && !held.has_missed() && drained.behind.binary_search(&slot).is_err();
        // From the state that is saved already the next holder repeats what is set aside.
        let vehicle = self.lane.name(slot)?;
        if self.deferred.set_aside.contains_key(vehicle) {
            return None;
        }
        let mut state = self.lane.hand_over(slot, micros(self.binder.lease()), drained.until)?;
        state.carry.take_if(|_| !complete);
        Some(state)
    }

    /// What befalls the vehicles is heeded still; nothing more is taken in.
    fn on_last(&mut self, event: BindEvent) {
        match event {
            BindEvent::Bound(_) => {}
            other => self.on_bind(other),
        }
    }
}
