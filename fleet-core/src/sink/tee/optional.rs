//! A sink that holds nothing back, with a queue of its own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::batch::Batch;
use crate::sink::{RejectedRow, Sink};
use crate::time::{Micros, display};

/// How far an optional sink may fall behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rows that wait for it at most; beyond, the oldest batches are dropped, counted and logged.
    pub max_rows: usize,
    /// What it has accepted is made durable after this long at the latest.
    pub max_lag: Duration,
    /// How long a flush of the tee waits for it.
    pub grace: Duration,
}

impl Default for Limits {
    /// A million rows, five minutes, five seconds.
    fn default() -> Self {
        Self { max_rows: 1_000_000, max_lag: Duration::from_secs(5 * 60), grace: Duration::from_secs(5) }
    }
}

#[derive(Debug, Default)]
struct Queue {
    batches: VecDeque<Batch>,
    rows: usize,
    durable: u64,
    missed: usize,
    rejected: usize,
    /// Rows that it rejected and nobody has been told of.
    untold: Vec<RejectedRow>,
    /// A flush was asked for.
    flush: bool,
    /// It can't go on: a person must mend something first.
    broken: bool,
}

/// Rejected rows that wait to be told at most; beyond, they are only counted and logged.
const UNTOLD: usize = 10_000;

impl Queue {
    /// Takes note of rows that the sink would not take.
    fn reject(&mut self, name: &str, rows: Vec<RejectedRow>) {
        self.rejected += rows.len();
        for mut row in rows {
            if self.untold.len() < UNTOLD {
                row.reason = format!("{name}: {}", row.reason);
                self.untold.push(row);
            } else {
                let (vehicle, reason) = (&row.vehicle, &row.reason);
                tracing::error!(sink = %name, %vehicle, reason, "a row could not be stored, and is no dead letter");
            }
        }
    }
}

/// How far an optional sink is; clones share it.
#[derive(Debug, Clone)]
pub struct Cursor {
    queue: Arc<Mutex<Queue>>,
    changed: watch::Sender<u64>,
}

impl Cursor {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every batch up to this sequence is durable in it, but for those that it missed.
    pub fn durable(&self) -> u64 {
        self.queue().durable
    }

    /// Rows that wait for it.
    pub fn waiting(&self) -> usize {
        self.queue().rows
    }

    /// Rows that it will not get any more.
    pub fn missed(&self) -> usize {
        self.queue().missed
    }

    /// Rows that it would not take; the tee gives them to its caller as dead letters.
    pub fn rejected(&self) -> usize {
        self.queue().rejected
    }

    fn notify(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

#[derive(Debug)]
pub(super) struct Optional {
    name: String,
    limits: Limits,
    cursor: Cursor,
    task: AbortHandle,
}

impl Optional {
    pub(super) fn new(name: &str, sink: impl Sink + 'static, limits: Limits) -> Self {
        let cursor = Cursor { queue: Arc::default(), changed: watch::Sender::new(0) };
        let task = tokio::spawn(run(name.to_owned(), sink, cursor.clone(), limits.max_lag));
        Self { name: name.to_owned(), limits, cursor, task: task.abort_handle() }
    }

    pub(super) fn cursor(&self) -> Cursor {
        self.cursor.clone()
    }

    /// The rows that it rejected since the last call.
    pub(super) fn take_rejected(&self) -> Vec<RejectedRow> {
        std::mem::take(&mut self.cursor.queue().untold)
    }

    /// Puts a batch into the queue.
    pub(super) fn give(&self, batch: &Batch) {
        let mut dropped = Vec::new();
        {
            let mut queue = self.cursor.queue();
            queue.rows += batch.len();
            queue.batches.push_back(batch.clone());
            while queue.batches.len() > 1 && (queue.rows > self.limits.max_rows || queue.broken) {
                let Some(oldest) = queue.batches.pop_front() else { break };
                queue.rows -= oldest.len();
                queue.missed += oldest.len();
                dropped.push(oldest);
            }
        }
        self.cursor.notify();
        for batch in dropped {
            let (from, to) = span(&batch);
            let (rows, name) = (batch.len(), &self.name);
            tracing::error!(sink = %name, rows, from, to, "the sink is too far behind and misses rows: replay them");
        }
    }

    /// Waits until all that it was given is durable, as long as the limits say.
    pub(super) async fn flush(&self) {
        self.cursor.queue().flush = true;
        let mut changed = self.cursor.changed.subscribe();
        self.cursor.notify();
        let flushed = changed.wait_for(|_| !self.cursor.queue().flush);
        if timeout(self.limits.grace, flushed).await.is_err() {
            let rows = self.cursor.waiting();
            tracing::warn!(sink = %self.name, rows, "the sink has not made all durable");
        }
    }
}

impl Drop for Optional {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The event times of a batch's first and last rows, for people.
fn span(batch: &Batch) -> (String, String) {
    let times = batch.record().column(0).as_primitive::<TimestampMicrosecondType>().values();
    let (from, to) = (times.iter().min(), times.iter().max());
    let said = |time: Option<&Micros>| time.map_or_else(String::new, |&time| display(time));
    (said(from), said(to))
}

enum Next {
    Store(Batch),
    Flush,
}

/// Works the queue off. A batch leaves it when it is accepted.
async fn run(name: String, mut sink: impl Sink, cursor: Cursor, max_lag: Duration) {
    let mut changed = cursor.changed.subscribe();
    let mut lags_since: Option<Instant> = None;
    loop {
        let next = || {
            let queue = cursor.queue();
            let batch = queue.batches.front().cloned().map(Next::Store);
            batch.or_else(|| queue.flush.then_some(Next::Flush))
        };
        let due = lags_since.map(|since| since + max_lag);
        let next = match (next(), due) {
            (_, Some(due)) if due <= Instant::now() => Next::Flush,
            (Some(next), _) => next,
            (None, Some(due)) => match timeout_at(due, changed.changed()).await {
                Ok(Ok(())) => continue,
                Ok(Err(_)) => return,
                Err(_) => Next::Flush,
            },
            (None, None) => match changed.changed().await {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let begun = Instant::now();
        let answer = match &next {
            Next::Store(batch) => sink.accept(batch).await,
            Next::Flush => sink.flush().await,
        };
        let mut queue = cursor.queue();
        match answer {
            Err(error) => {
                tracing::error!(sink = %name, %error, "the optional sink has ended");
                (queue.broken, queue.flush) = (true, false);
                drop(queue);
                cursor.notify();
                return;
            }
            Ok(progress) => {
                queue.durable = progress.durable;
                queue.reject(&name, progress.rejected);
                if let Next::Store(batch) = &next {
                    // It may have been dropped from the queue meanwhile, and is stored all the same.
                    if queue.batches.front().is_some_and(|front| front.sequence() == batch.sequence()) {
                        queue.batches.pop_front();
                        queue.rows -= batch.len();
                    }
                    lags_since = (progress.durable < batch.sequence()).then(|| lags_since.unwrap_or(begun));
                } else {
                    lags_since = None;
                    queue.flush &= !queue.batches.is_empty();
                }
            }
        }
        drop(queue);
        cursor.notify();
    }
}
