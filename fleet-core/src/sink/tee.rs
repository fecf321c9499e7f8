//! One stream of batches into several sinks.

mod optional;

use futures_util::future::join_all;

use self::optional::Optional;
pub use self::optional::{Cursor, Limits};
use super::{DynSink, Progress, Sink};
use crate::batch::Batch;
use crate::error::{Error, Result};

/// Gives every batch to several sinks at once. A batch is durable when it is in all required ones.
///
/// A required sink that is down holds all back: wrap each in [`Retry`](super::Retry). One that is
/// optional holds nothing back: it has a queue and a [`Cursor`] of its own and catches up when it is
/// there again. Rows that it rejects come with a later answer, under its name.
#[derive(Default)]
pub struct Tee {
    required: Vec<Required>,
    optional: Vec<Optional>,
}

struct Required {
    sink: Box<dyn DynSink>,
    durable: u64,
}

impl std::fmt::Debug for Tee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let durable: Vec<u64> = self.required.iter().map(|required| required.durable).collect();
        f.debug_struct("Tee").field("durable", &durable).field("optional", &self.optional).finish()
    }
}

impl Tee {
    /// A tee without sinks: nothing it is given is ever durable.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a sink in which everything must be.
    #[must_use]
    pub fn required(mut self, sink: impl Sink + 'static) -> Self {
        self.required.push(Required { sink: Box::new(sink), durable: 0 });
        self
    }

    /// Adds a sink that holds nothing back; `name` is what the log calls it. It runs in a task of its
    /// own on the current Tokio runtime.
    #[must_use]
    pub fn optional(mut self, name: &str, sink: impl Sink + 'static, limits: Limits) -> Self {
        self.optional.push(Optional::new(name, sink, limits));
        self
    }

    /// How far the optional sinks are, in the order in which they were added; readable while the tee
    /// is owned elsewhere.
    pub fn cursors(&self) -> Vec<Cursor> {
        self.optional.iter().map(Optional::cursor).collect()
    }

    /// Joins the answers of the required sinks, which come in their order.
    fn join(&mut self, answers: Vec<Result<Progress>>) -> Result<Progress> {
        let mut joined = Progress::default();
        let mut failure: Option<Error> = None;
        for (required, answer) in self.required.iter_mut().zip(answers) {
            match answer {
                Ok(progress) => {
                    required.durable = progress.durable;
                    joined.rejected.extend(progress.rejected);
                    for (vehicle, first) in progress.set_aside {
                        joined.set_aside_from(vehicle, first);
                    }
                }
                // What only a person can mend is said before what another try may.
                Err(error) if !error.kind().may_pass() => return Err(error),
                Err(error) => failure = Some(error),
            }
        }
        joined.durable = self.required.iter().map(|required| required.durable).min().unwrap_or(0);
        failure.map_or(Ok(joined), Err)
    }
}

impl Sink for Tee {
    async fn accept(&mut self, batch: &Batch) -> Result<Progress> {
        let answers =
            join_all(self.required.iter_mut().map(|required| Sink::accept(&mut required.sink, batch))).await;
        let mut progress = self.join(answers)?;
        self.optional.iter().for_each(|optional| optional.give(batch));
        progress.rejected.extend(self.optional.iter().flat_map(Optional::take_rejected));
        Ok(progress)
    }

    async fn flush(&mut self) -> Result<Progress> {
        let answers =
            join_all(self.required.iter_mut().map(|required| Sink::flush(&mut required.sink))).await;
        let mut progress = self.join(answers)?;
        join_all(self.optional.iter().map(Optional::flush)).await;
        progress.rejected.extend(self.optional.iter().flat_map(Optional::take_rejected));
        Ok(progress)
    }

    async fn probe(&mut self) -> Result<()> {
        let answers =
            join_all(self.required.iter_mut().map(|required| Sink::probe(&mut required.sink))).await;
        answers.into_iter().collect()
    }
}
