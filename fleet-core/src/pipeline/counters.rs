//! What a pipeline has done, readable from other threads while it runs.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::lane::LaneCounters;
use crate::message::SharedRefusals;

/// Counters of a pipeline; those of its lane are a copy that is at most a moment old.
#[derive(Debug, Default)]
pub struct Counters {
    /// Vehicles held now.
    pub bound: AtomicU64,
    /// Bindings made.
    pub bindings: AtomicU64,
    /// Of these the ones that went on where the last holder stopped, without a replay.
    pub carried: AtomicU64,
    /// Bindings that another worker took or that could not be held.
    pub lost: AtomicU64,
    /// Vehicles left to the next holder with all that it needs to go on, on shutdown.
    pub handed_over: AtomicU64,
    /// Vehicles given back for good.
    pub released: AtomicU64,
    /// Vehicles that gave way because no sample of theirs was ever heard of.
    pub without_sample: AtomicU64,
    /// Rows emitted that wait for the sink to take them, as of the last tick.
    pub waiting_rows: AtomicU64,
    /// What is refused behind the lane: rows that a sink would not take.
    pub refused: SharedRefusals,
    /// Catch-ups of vehicles for a counter's jump or after a sink was down.
    pub catch_ups: AtomicU64,
    /// Catch-ups whose beginning the stream no longer held.
    pub unreachable: AtomicU64,
    /// Rows made durable.
    pub durable_rows: AtomicU64,
    /// Batches made durable, empty ones included.
    pub durable_batches: AtomicU64,
    /// Microseconds that the sink was at work.
    pub sink_micros: AtomicU64,
    /// How often the loop has turned.
    pub turns: AtomicU64,
    lane: Mutex<LaneCounters>,
}

impl Counters {
    /// The lane's counters, a moment old.
    pub fn lane(&self) -> LaneCounters {
        self.lane.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn set(counter: &AtomicU64, n: u64) {
        counter.store(n, Ordering::Relaxed);
    }

    pub(super) fn publish(&self, lane: &LaneCounters) {
        Self::add(&self.turns, 1);
        self.lane.lock().unwrap_or_else(PoisonError::into_inner).clone_from(lane);
    }

    pub(super) fn durable(&self, rows: usize) {
        Self::add(&self.durable_rows, rows as u64);
        Self::add(&self.durable_batches, 1);
    }

    pub(super) fn worked(&self, took: Duration) {
        Self::add(&self.sink_micros, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
}
