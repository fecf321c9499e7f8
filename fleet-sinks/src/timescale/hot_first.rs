//! Rows of hot chunks, which never wait for those of cold ones.

mod queue;

use std::sync::Arc;
use std::time::Duration;

use fleet_core::batch::Batch;
use fleet_core::error::Result;
use fleet_core::sink::{Backoff, Progress, Pulse, Retry, Sink};
use fleet_core::{Micros, Schema};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use self::queue::ColdQueue;
use super::connect::Connector;
use super::sink::{SinkCounters, TimescaleSink};

/// What the log calls the session of cold rows.
const NAME: &str = "timescale, cold rows";

/// How long a flush waits for cold rows.
const FLUSH: Duration = Duration::from_secs(1);

/// Stores records as [`TimescaleSink`] does, with a second session for rows of cold chunks or partitions, which are
/// those that may be compressed, or as old as that where nothing is: writing there may take long, and others'
/// rows don't wait for it.
///
/// A batch is accepted when its hot rows are durable. Its cold rows are [set
/// aside](fleet_core::sink::Progress::set_aside) until they are, and tried again for as long as it takes. Where more
/// wait than there is room for, batches wait too.
///
/// The writes of a row keep their order: chunks become cold and not hot again, but while nothing waits, a batch's
/// hot rows are durable before its cold ones are queued, and those are written in their order.
#[derive(Debug)]
pub struct HotFirstSink {
    hot: TimescaleSink,
    cold: Arc<ColdQueue>,
    max_waiting: usize,
    /// Rows from there on are hot.
    since: Micros,
    writing: AbortHandle,
}

impl HotFirstSink {
    /// A sink for records of this schema, with room for so many cold rows that wait. It runs a task of its own on
    /// the current Tokio runtime.
    pub fn new(connector: Connector, schema: &Schema, max_waiting: usize) -> Self {
        Self::of(TimescaleSink::new(connector, schema), max_waiting)
    }

    /// The same that writes hot rows by this sink, and cold ones by another like it.
    pub fn of(hot: TimescaleSink, max_waiting: usize) -> Self {
        let writer = hot.beside();
        let pulse = writer.pulse();
        let writer = Retry::new(writer, NAME, Backoff::default()).asking(pulse);
        let cold = Arc::new(ColdQueue::new(hot.schema()));
        let writing = tokio::spawn(write(Arc::clone(&cold), writer)).abort_handle();
        Self { hot, cold, max_waiting, since: Micros::MIN, writing }
    }

    /// Of both sessions; they go on counting while the sink is owned elsewhere.
    pub fn counters(&self) -> Arc<SinkCounters> {
        self.hot.counters()
    }

    /// Asks whether the server answers while hot rows are written.
    pub fn pulse(&self) -> Pulse {
        self.hot.pulse()
    }

    fn progress(&self, mut progress: Progress) -> Result<Progress> {
        self.cold.add_to(&mut progress)?;
        Ok(progress)
    }
}

impl Sink for HotFirstSink {
    async fn accept(&mut self, batch: &Batch) -> Result<Progress> {
        if batch.is_empty() {
            let progress = self.hot.accept(batch).await?;
            return self.progress(progress);
        }
        let since = self.hot.hot_since().await?;
        // What was cold may not be written by the other session before all of it is durable.
        self.since = if self.cold.is_empty() { since } else { self.since.max(since) };
        let progress = self.hot.accept_from(batch, self.since).await?;
        self.cold.push(batch, self.since)?;
        self.cold.until(|waiting| waiting <= self.max_waiting).await;
        self.progress(progress)
    }

    async fn flush(&mut self) -> Result<Progress> {
        let progress = self.hot.flush().await?;
        // Beside a sink that gathers this is asked for now and then, and hot rows wait for the answer.
        let _ = timeout(FLUSH, self.cold.until(|waiting| waiting == 0)).await;
        self.progress(progress)
    }

    async fn probe(&mut self) -> Result<()> {
        self.hot.probe().await
    }
}

impl Drop for HotFirstSink {
    fn drop(&mut self) {
        self.writing.abort();
    }
}

/// Writes what is queued until it can't go on.
async fn write(cold: Arc<ColdQueue>, mut sink: Retry<TimescaleSink>) {
    while let Some(batch) = cold.next().await {
        match sink.accept(&batch).await {
            Ok(progress) => cold.stored(progress.rejected),
            Err(error) => return cold.fail(error),
        }
    }
}
