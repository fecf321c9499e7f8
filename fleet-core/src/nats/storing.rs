//! Whether JetStream stores what is published to it. A server whose disk is full answers every question,
//! delivers what it has, and stores nothing: it says so to nobody, or to whoever publishes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use bytes::Bytes;
use tokio::time::{MissedTickBehavior, interval};

use super::Names;

/// How often a message is stored to see whether one can be.
const PROBE: Duration = Duration::from_secs(10);

/// Whether the streams take messages, readable from other threads.
#[derive(Debug)]
pub struct Storing {
    stores: AtomicBool,
    unanswered: AtomicU64,
    refused: AtomicU64,
}

impl Default for Storing {
    fn default() -> Self {
        Self { stores: AtomicBool::new(true), unanswered: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }
}

impl Storing {
    /// Whether the last message of ours was stored, as far as we know; one is sent every 10 s.
    pub fn is_storing(&self) -> bool {
        self.stores.load(Ordering::Relaxed)
    }

    /// Messages of ours that were not, by reason: `no_answer`, as while the server is away or after its disk was full,
    /// and `refused`, as where there is no stream or its account's limits are reached.
    pub fn failures(&self) -> [(&'static str, u64); 2] {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [("no_answer", value(&self.unanswered)), ("refused", value(&self.refused))]
    }

    fn stored(&self, cell: &crate::ids::CellId) {
        if !self.stores.swap(true, Ordering::Relaxed) {
            tracing::info!(%cell, "NATS stores messages again");
        }
    }

    fn failed(&self, cell: &crate::ids::CellId, error: &PublishError) {
        let is_unanswered = matches!(error.kind(), PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe);
        let counter = if is_unanswered { &self.unanswered } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
        if self.stores.swap(false, Ordering::Relaxed) {
            tracing::error!(%cell, %error, "NATS stores no message, of vehicles neither: is it there, has its disk room, are its limits reached? One whose disk was full must be restarted once there is room");
        }
    }
}

/// Stores a fence now and then, for as long as it is polled.
pub(super) async fn watch(js: Context, names: Names, storing: std::sync::Arc<Storing>) {
    let mut ticker = interval(PROBE);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticker.tick().await;
        let acked = match js.publish(names.fence(), Bytes::new()).await {
            Ok(ack) => ack.await,
            Err(error) => Err(error),
        };
        match acked {
            Ok(_) => storing.stored(names.cell()),
            Err(error) => storing.failed(names.cell(), &error),
        }
    }
}
