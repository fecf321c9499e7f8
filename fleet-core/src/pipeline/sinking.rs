//! The sink in a task of its own, one batch at a time: a vehicle's rows become durable in the order
//! in which they were emitted.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::sink::{Progress, Sink};

/// What a batch or a flush came to.
#[derive(Debug)]
pub(super) struct Sunk {
    pub progress: Progress,
    pub took: Duration,
    /// Whether it answers an order; otherwise it was a flush whose time had come.
    ordered: bool,
}

/// A sink that has stored nothing for this long is asked whether it is there.
const QUIET: Duration = Duration::from_secs(10);

#[derive(Debug)]
enum Work {
    Store(Batch),
    Flush,
}

#[derive(Debug)]
pub(super) struct Sinking {
    work: mpsc::Sender<Work>,
    done: mpsc::Receiver<Result<Sunk>>,
    busy: bool,
    task: AbortHandle,
}

impl Sinking {
    /// `max_lag`: what is accepted is durable after that at the latest, if the sink can.
    pub(super) fn new(sink: impl Sink + 'static, max_lag: Duration) -> Self {
        let (work, queue) = mpsc::channel(1);
        let (answers, done) = mpsc::channel(1);
        let task = tokio::spawn(run(sink, queue, answers, max_lag)).abort_handle();
        Self { work, done, busy: false, task }
    }

    /// Whether a batch is on its way to being accepted.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Hands over a batch.
    ///
    /// # Errors
    /// [`Internal`](crate::ErrorKind::Internal) if one is in flight already or the sink's task ended.
    pub(super) fn start(&mut self, batch: Batch) -> Result<()> {
        self.order(Work::Store(batch))
    }

    /// Lets all that was given become durable now; nothing may be in flight.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(super) fn flush(&mut self) -> Result<()> {
        self.order(Work::Flush)
    }

    fn order(&mut self, work: Work) -> Result<()> {
        self.busy = true;
        self.work.try_send(work).map_err(|_| Error::internal("the sink takes no batch"))
    }

    /// Waits for what the sink says next, for ever if it has nothing to do. Cancel-safe.
    pub(super) async fn done(&mut self) -> Result<Sunk> {
        match self.done.recv().await {
            Some(answer) => {
                let sunk = answer?;
                self.busy &= !sunk.ordered;
                Ok(sunk)
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

async fn run(
    mut sink: impl Sink,
    mut work: mpsc::Receiver<Work>,
    answers: mpsc::Sender<Result<Sunk>>,
    max_lag: Duration,
) {
    // Since when something accepted is not durable.
    let mut lags_since: Option<Instant> = None;
    let mut accepted = 0;
    // When rows last became durable or the sink was asked.
    let mut heard = Instant::now();
    loop {
        let flush_at = lags_since.map(|since| since + max_lag);
        let probe_at = heard + QUIET;
        let wake = flush_at.map_or(probe_at, |at| at.min(probe_at));
        let next = match timeout_at(wake, work.recv()).await {
            Ok(Some(next)) => Some(next),
            Ok(None) => return,
            Err(_) if flush_at == Some(wake) => None,
            Err(_) => {
                // A sink that minds says so by itself, see `Retry`; the next batch has the last word.
                let _ = sink.probe().await;
                heard = Instant::now();
                continue;
            }
        };
        let (ordered, begun) = (next.is_some(), Instant::now());
        let next = next.unwrap_or(Work::Flush);
        let answer = match &next {
            Work::Store(batch) => {
                accepted = batch.sequence();
                sink.accept(batch).await
            }
            Work::Flush => {
                lags_since = None;
                sink.flush().await
            }
        };
        if let Ok(progress) = &answer {
            lags_since = (progress.durable < accepted).then(|| lags_since.unwrap_or(begun));
            if matches!(&next, Work::Store(batch) if !batch.is_empty() && lags_since.is_none()) {
                heard = Instant::now();
            }
        }
        let answer = answer.map(|progress| Sunk { progress, took: begun.elapsed(), ordered });
        if answers.send(answer).await.is_err() {
            return;
        }
    }
}
