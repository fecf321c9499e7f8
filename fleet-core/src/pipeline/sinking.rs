//! The sink in a task of its own, one batch at a time: a vehicle's rows become durable in the order
//! in which they were emitted.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::sink::{Progress, Sink};

/// What a batch came to.
#[derive(Debug)]
pub(super) struct Sunk {
    pub progress: Progress,
    pub rows: usize,
    pub took: Duration,
}

#[derive(Debug)]
pub(super) struct Sinking {
    batches: mpsc::Sender<Batch>,
    done: mpsc::Receiver<Result<Sunk>>,
    busy: bool,
    task: AbortHandle,
}

impl Sinking {
    pub(super) fn new(sink: impl Sink + 'static) -> Self {
        let (batches, queue) = mpsc::channel(1);
        let (answers, done) = mpsc::channel(1);
        let task = tokio::spawn(work(sink, queue, answers)).abort_handle();
        Self { batches, done, busy: false, task }
    }

    /// Whether a batch is in flight.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Hands over a batch.
    ///
    /// # Errors
    /// [`Internal`](crate::ErrorKind::Internal) if one is in flight already or the sink's task ended.
    pub(super) fn start(&mut self, batch: Batch) -> Result<()> {
        self.busy = true;
        self.batches.try_send(batch).map_err(|_| Error::internal("the sink takes no batch"))
    }

    /// Waits for the batch in flight, for ever if there is none. Cancel-safe.
    pub(super) async fn done(&mut self) -> Result<Sunk> {
        match self.done.recv().await {
            Some(answer) => {
                self.busy = false;
                answer
            }
            None => Err(Error::internal("the sink's task ended")),
        }
    }
}

impl Drop for Sinking {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn work(mut sink: impl Sink, mut batches: mpsc::Receiver<Batch>, answers: mpsc::Sender<Result<Sunk>>) {
    while let Some(batch) = batches.recv().await {
        let begun = Instant::now();
        let progress = store(&mut sink, &batch).await;
        let answer = progress.map(|progress| Sunk { progress, rows: batch.len(), took: begun.elapsed() });
        if answers.send(answer).await.is_err() {
            return;
        }
    }
}

/// Until sinks that gather have cursors of their own here, every batch is made durable at once.
async fn store(sink: &mut impl Sink, batch: &Batch) -> Result<Progress> {
    let mut progress = sink.accept(batch).await?;
    if progress.durable < batch.sequence() {
        let flushed = sink.flush().await?;
        progress.durable = flushed.durable;
        progress.rejected.extend(flushed.rejected);
    }
    Ok(progress)
}
