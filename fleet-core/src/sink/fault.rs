//! Trouble for sinks, as values: a test wraps any sink and says what goes wrong, and when.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::{Progress, Sink};
use crate::batch::Batch;
use crate::error::{Error, Result};

/// What becomes of one call of [`accept`](Sink::accept) or [`flush`](Sink::flush).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It goes to the sink inside.
    Pass,
    /// Nothing is written: [`Unavailable`](crate::ErrorKind::Unavailable).
    Reject,
    /// It is carried out and its answer is lost: [`Unavailable`](crate::ErrorKind::Unavailable).
    FailAfterWrite,
    /// It takes so much longer.
    Slow(Duration),
}

/// The remote control of [`Faulty`] sinks; clones share it.
#[derive(Debug, Clone)]
pub struct Faults {
    planned: Arc<Mutex<VecDeque<Fault>>>,
    held: watch::Sender<bool>,
}

impl Default for Faults {
    fn default() -> Self {
        Self { planned: Arc::default(), held: watch::Sender::new(false) }
    }
}

impl Faults {
    /// Plans the faults of the next calls, after those that are planned already; then all pass.
    pub fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
    }

    /// Lets every call wait, before anything is written, until [`release`](Self::release).
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    /// Lets the calls that wait go on.
    pub fn release(&self) {
        self.held.send_replace(false);
    }

    async fn next(&self) -> Fault {
        // The sender lives in `self`, so that waiting can't fail.
        let _ = self.held.subscribe().wait_for(|held| !held).await;
        let planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        planned.unwrap_or(Fault::Pass)
    }
}

/// A sink to which happens what its [`Faults`] say.
#[derive(Debug)]
pub struct Faulty<S> {
    inner: S,
    faults: Faults,
}

impl<S> Faulty<S> {
    /// Wraps a sink.
    pub fn new(inner: S, faults: &Faults) -> Self {
        Self { inner, faults: faults.clone() }
    }
}

impl<S: Sink> Faulty<S> {
    async fn call(&mut self, batch: Option<&Batch>) -> Result<Progress> {
        let fault = self.faults.next().await;
        if fault == Fault::Reject {
            return Err(Error::unavailable("the sink was told to refuse"));
        }
        if let Fault::Slow(longer) = fault {
            tokio::time::sleep(longer).await;
        }
        let progress = match batch {
            Some(batch) => self.inner.accept(batch).await?,
            None => self.inner.flush().await?,
        };
        match fault {
            Fault::FailAfterWrite => Err(Error::unavailable("the sink was told to lose its answer")),
            _ => Ok(progress),
        }
    }
}

impl<S: Sink> Sink for Faulty<S> {
    async fn accept(&mut self, batch: &Batch) -> Result<Progress> {
        self.call(Some(batch)).await
    }

    async fn flush(&mut self) -> Result<Progress> {
        self.call(None).await
    }

    async fn probe(&mut self) -> Result<()> {
        self.inner.probe().await
    }
}
