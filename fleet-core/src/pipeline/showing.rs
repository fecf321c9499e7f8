//! The newest samples on their way to where people look, in a task of its own: rows and states never wait for it.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::bind::{Newest, NewestStore};
use crate::error::ErrorKind;
use crate::ids::VehicleId;
use crate::lane::Lane;

/// How long a store that fails is left alone; for longer where a person must mend it.
const PAUSE: Duration = Duration::from_secs(1);
const LONG_PAUSE: Duration = Duration::from_secs(30);

/// Slots of a turn at least, so that a small fleet costs few statements.
const TURN: usize = 256;

/// The task, and how far the round over all vehicles has come. Each has its turn once a round, so that it is written
/// once a round at most, with the newest of all that came in between.
#[derive(Debug)]
pub(super) struct Showing {
    work: mpsc::Sender<Vec<Newest>>,
    left: mpsc::UnboundedReceiver<Vec<VehicleId>>,
    /// Ticks of a round.
    ticks: usize,
    /// Ticks since the last turn.
    passed: usize,
    /// The slot whose turn is next.
    next: usize,
    task: AbortHandle,
}

impl Showing {
    /// A round takes so many ticks, one at least.
    pub(super) fn new(store: impl NewestStore, ticks: f64) -> Self {
        let (work, queue) = mpsc::channel(1);
        let (leave, left) = mpsc::unbounded_channel();
        let task = tokio::spawn(run(store, queue, leave)).abort_handle();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few, rounded down")]
        let ticks = (ticks as usize).max(1);
        Self { work, left, ticks, passed: 0, next: 0, task }
    }

    /// To be called with every tick. Takes the next part of the vehicles when it is their turn, unless the store is still
    /// at the part before: the round takes longer then.
    pub(super) fn show(&mut self, lane: &mut Lane) {
        while let Ok(vehicles) = self.left.try_recv() {
            vehicles.iter().for_each(|vehicle| lane.renew(vehicle));
        }
        let places = lane.places();
        let (pause, turns) = pace(self.ticks, places);
        self.passed += 1;
        if self.passed < pause {
            return;
        }
        let Ok(place) = self.work.try_reserve() else { return };
        self.passed = 0;
        let from = if self.next < places { self.next } else { 0 };
        let to = (from + places.div_ceil(turns)).min(places);
        self.next = to;
        let newest = lane.take_newest(from..to);
        if !newest.is_empty() {
            place.send(newest);
        }
    }
}

/// How many ticks lie between two turns, and how many turns a round has: with these it takes all of its ticks.
fn pace(ticks: usize, places: usize) -> (usize, usize) {
    let pause = ticks.div_ceil(places.div_ceil(TURN).clamp(1, ticks));
    (pause, ticks.div_ceil(pause))
}

impl Drop for Showing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(
    store: impl NewestStore,
    mut work: mpsc::Receiver<Vec<Newest>>,
    leave: mpsc::UnboundedSender<Vec<VehicleId>>,
) {
    let mut failing = false;
    while let Some(newest) = work.recv().await {
        let left = match store.show(&newest).await {
            Ok(left) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("the newest samples are shown again");
                }
                left
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "the newest samples are not shown");
                }
                let helpless = error.kind() == ErrorKind::Configuration;
                sleep(if helpless { LONG_PAUSE } else { PAUSE }).await;
                newest.into_iter().map(|newest| newest.vehicle).collect()
            }
        };
        // The receiver is gone only when the pipeline is.
        if !left.is_empty() && leave.send(left).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_takes_its_ticks_and_no_turn_is_smaller_than_it_must_be() {
        for (places, want) in
            [(0, (12, 1)), (256, (12, 1)), (257, (6, 2)), (1_700, (2, 6)), (100_000, (1, 12))]
        {
            assert_eq!(pace(12, places), want, "{places} places");
        }
        for ticks in 1..200 {
            for places in (0..40_000).step_by(111) {
                let (pause, turns) = pace(ticks, places);
                assert!((ticks..ticks + pause).contains(&(pause * turns)), "{ticks} ticks, {places} places");
            }
        }
    }
}
