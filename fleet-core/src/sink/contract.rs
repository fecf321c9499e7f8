//! What every sink must keep, as a suite that its author runs: [`examine`].
//!
//! Behind the feature `contract`. It gives the sink the worst that a worker can, and compares what is
//! stored with a plain model: batches that are repeated in other groupings, corrections, values that
//! come signal by signal, answers that are lost after the write, sinks that are dropped and opened
//! anew, and a worker that doesn't know yet that its vehicles are another's.

mod emissions;

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;

use self::emissions::{Dice, Emission, Model, batch, emissions};
use super::fault::{Fault, Faults, Faulty};
use super::{Progress, Sink};
use crate::batch::{BatchBuilder, Record};
use crate::error::{ErrorKind, Result};
use crate::ids::VehicleId;
use crate::schema::Schema;
use crate::time::Micros;

/// A table: what is stored by vehicle and time. Values of `real` columns are those of their `f32`.
pub type Stored = BTreeMap<(VehicleId, Micros), Record>;

/// The sink under examination and what lies behind it.
pub trait Subject: Send {
    /// The sink's type.
    type Sink: Sink;

    /// Empties the store.
    fn clear(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// Opens a sink on the store as a worker does that starts; the one before was dropped.
    fn open(&mut self) -> impl Future<Output = Result<Self::Sink>> + Send;

    /// Another worker claims the vehicle under this epoch. Where sinks learn epochs from batches alone
    /// there is nothing to do.
    fn claim(&mut self, vehicle: &VehicleId, epoch: i32) -> impl Future<Output = Result<()>> + Send {
        let _ = (vehicle, epoch);
        async { Ok(()) }
    }

    /// What a reader of the store finds, not by way of the sink.
    fn stored(&mut self) -> impl Future<Output = Result<Stored>> + Send;
}

/// Why a sink is none.
#[derive(Debug, thiserror::Error)]
#[error("seed {seed}: {what}")]
pub struct Violation {
    /// The case; the same seed gives the same case.
    pub seed: u64,
    /// What was seen, and what must be.
    pub what: String,
}

/// How many faults in a row are tried before the suite says that a sink never recovers.
const TRIES: usize = 20;

/// Runs every case once for each seed; a dozen seeds find most faults, hundreds the rest.
///
/// # Errors
/// The first violation.
pub async fn examine<S: Subject>(
    subject: &mut S,
    schema: &Schema,
    seeds: Range<u64>,
) -> Result<(), Violation> {
    for seed in seeds {
        let violation = |what| Violation { seed, what };
        Case::new(schema, seed).map_err(violation)?.run(subject).await.map_err(violation)?;
    }
    stale_holder(subject, schema).await.map_err(|what| Violation { seed: 0, what })
}

struct Case<'a> {
    dice: Dice,
    all: Vec<Emission>,
    model: Model<'a>,
    schema: &'a Schema,
}

/// A sink with what it was given since it was opened.
struct Open<S> {
    sink: Faulty<S>,
    faults: Faults,
    builder: BatchBuilder,
    /// What is not known to be durable.
    pending: Vec<Given>,
    durable: u64,
}

/// A batch as it was given: where in the emissions it begins and ends.
struct Given {
    sequence: u64,
    giving: u64,
    range: Range<usize>,
}

impl<'a> Case<'a> {
    fn new(schema: &'a Schema, seed: u64) -> Result<Self, String> {
        let mut dice = Dice(seed);
        let all = emissions(schema, &mut dice).map_err(said)?;
        Ok(Self { dice, all, model: Model::new(schema), schema })
    }

    /// Gives emissions in random groups, with every kind of trouble in between.
    async fn run<S: Subject>(mut self, subject: &mut S) -> Result<(), String> {
        subject.clear().await.map_err(said)?;
        let mut open = self.open(subject).await?;
        let mut at = 0;
        while at < self.all.len() {
            let end = (at + self.size()).min(self.all.len());
            self.plan(&open.faults);
            self.give(&mut open, at..end).await?;
            at = end;
            self.compare(subject, "after a batch").await?;
            match self.dice.below(12) {
                0 => {
                    self.flush(&mut open).await?;
                    self.compare(subject, "after a flush").await?;
                }
                1 => {
                    // The worker dies; the next one begins at some place before what isn't durable.
                    let unsure = open.pending.first().map_or(at, |given| given.range.start);
                    at = usize::try_from(self.dice.below(unsure as u64 + 1)).unwrap_or(0);
                    drop(open);
                    open = self.open(subject).await?;
                }
                _ => {}
            }
        }
        self.flush(&mut open).await?;
        self.compare(subject, "at the end").await
    }

    async fn open<S: Subject>(&mut self, subject: &mut S) -> Result<Open<S::Sink>, String> {
        let faults = Faults::default();
        let sink = Faulty::new(subject.open().await.map_err(said)?, &faults);
        let builder = BatchBuilder::new(self.schema);
        Ok(Open { sink, faults, builder, pending: Vec::new(), durable: 0 })
    }

    /// Mostly a few rows, now and then none or many.
    fn size(&mut self) -> usize {
        let limit = if self.dice.one_in(5) { 60 } else { 6 };
        usize::try_from(self.dice.below(limit)).unwrap_or(0)
    }

    fn plan(&mut self, faults: &Faults) {
        while self.dice.one_in(4) {
            faults.plan([if self.dice.one_in(2) { Fault::Reject } else { Fault::FailAfterWrite }]);
        }
    }

    /// Gives a batch until it is taken.
    async fn give<S: Sink>(&mut self, open: &mut Open<S>, range: Range<usize>) -> Result<(), String> {
        let rows = &self.all[range.clone()];
        let batch = batch(&mut open.builder, rows, 1).map_err(said)?;
        open.pending.push(Given { sequence: batch.sequence(), giving: self.model.give(rows), range });
        for _ in 0..TRIES {
            match open.sink.accept(&batch).await {
                Err(error) if error.kind() == ErrorKind::Unavailable => {}
                Err(error) => return Err(said(error)),
                Ok(progress) => return self.note(open, &progress),
            }
        }
        Err(format!("{TRIES} times unavailable"))
    }

    /// Makes all durable; after an error everything is given again, as the trait says.
    async fn flush<S: Sink>(&mut self, open: &mut Open<S>) -> Result<(), String> {
        for _ in 0..TRIES {
            match open.sink.flush().await {
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    for given in std::mem::take(&mut open.pending) {
                        self.give(open, given.range).await?;
                    }
                }
                Err(error) => return Err(said(error)),
                Ok(progress) => {
                    self.note(open, &progress)?;
                    if !progress.set_aside.is_empty() {
                        continue;
                    }
                    let left = open.pending.first();
                    return left
                        .map_or(Ok(()), |g| Err(format!("{} is not durable after a flush", g.sequence)));
                }
            }
        }
        Err(format!("{TRIES} times unavailable, or with rows that are set aside"))
    }

    /// What is durable is never more than was given, and never less than before.
    fn note<S>(&mut self, open: &mut Open<S>, progress: &Progress) -> Result<(), String> {
        let durable = progress.durable;
        if let Some(row) = progress.rejected.first() {
            return Err(format!("a good row of {} was rejected: {}", row.vehicle, row.reason));
        }
        if durable < open.durable {
            return Err(format!("{durable} is durable after {} was", open.durable));
        }
        let last = open.pending.last().map_or(open.durable, |given| given.sequence);
        if durable > last {
            return Err(format!("{durable} is said to be durable, {last} was the last given"));
        }
        open.durable = durable;
        // What is set aside is not known to be stored.
        let whole = progress.set_aside.values().map(|first| first.saturating_sub(1)).min();
        let whole = whole.map_or(durable, |whole| whole.min(durable));
        for given in open.pending.extract_if(.., |given| given.sequence <= whole) {
            self.model.settle(&self.all[given.range], given.giving);
        }
        Ok(())
    }

    async fn compare<S: Subject>(&self, subject: &mut S, when: &str) -> Result<(), String> {
        let stored = subject.stored().await.map_err(said)?;
        self.model.differs(&stored).map_or(Ok(()), |what| Err(format!("{when}: {what}")))
    }
}

/// A worker that lost its vehicle and doesn't know replaces nothing that the next one wrote.
async fn stale_holder<S: Subject>(subject: &mut S, schema: &Schema) -> Result<(), String> {
    subject.clear().await.map_err(said)?;
    let mut dice = Dice(1);
    let all = emissions(schema, &mut dice).map_err(said)?;
    let mut old = subject.open().await.map_err(said)?;
    let (mut old_builder, mut new_builder) = (BatchBuilder::new(schema), BatchBuilder::new(schema));
    let give = async |sink: &mut S::Sink, builder: &mut BatchBuilder, epoch| {
        let batch = batch(builder, &all, epoch).map_err(said)?;
        sink.accept(&batch).await.map_err(said)?;
        sink.flush().await.map_err(said)
    };
    give(&mut old, &mut old_builder, 1).await?;
    for row in &all {
        subject.claim(&row.vehicle, 2).await.map_err(said)?;
    }
    let mut new = subject.open().await.map_err(said)?;
    give(&mut new, &mut new_builder, 2).await?;
    let must = subject.stored().await.map_err(said)?;
    // The same instants with other values.
    let mut later = all.clone();
    later.reverse();
    let batch = batch(&mut old_builder, &later, 1).map_err(said)?;
    old.accept(&batch).await.map_err(said)?;
    old.flush().await.map_err(said)?;
    let is = subject.stored().await.map_err(said)?;
    let changed = must.iter().find(|(key, record)| is.get(key) != Some(record));
    match changed {
        None => Ok(()),
        Some((key, _)) => Err(format!("a worker without the vehicle changed {} at {}", key.0, key.1)),
    }
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}
