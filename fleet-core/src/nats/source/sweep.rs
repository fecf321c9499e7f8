//! Catch-up in rounds: one sweep of the stream's tail serves every vehicle that waits. Reading each
//! vehicle by itself would make the server scan the tail once for each (DESIGN section 5).

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use futures_util::StreamExt;
use hashbrown::HashMap;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::super::clock::ServerClock;
use super::super::fence::Fence;
use super::super::{Names, stored_at};
use super::SourceCounters;
use crate::error::{Error, Result};
use crate::ids::VehicleId;
use crate::message::Topic;
use crate::schema::Schema;
use crate::time::Micros;

/// A vehicle that waits for a round.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// The attachment, so that nothing of an older one is taken for it.
    pub token: u64,
    pub vehicle: VehicleId,
    /// What was stored from this server time on.
    pub from: Micros,
    /// Up to this fence.
    pub to: Fence,
}

/// What a round has to say.
#[derive(Debug)]
pub(super) enum Found {
    /// Messages in stored order.
    Messages(Vec<(u64, Topic, bytes::Bytes, Micros)>),
    /// These have passed their fences.
    Done(Vec<u64>),
    /// The stream begins later than this was wanted from.
    Gap { token: u64, wanted: Micros, found: Micros },
}

/// Below this many vehicles the server filters more cheaply than we sweep.
const FILTER_UP_TO: usize = 15;

/// How many messages go to the source at once.
const PIECE: usize = 512;

pub(super) struct Sweeper {
    pub js: Context,
    pub names: Names,
    pub schema: Schema,
    pub clock: ServerClock,
    pub counters: Arc<SourceCounters>,
    pub round_interval: Duration,
    pub requests: mpsc::UnboundedReceiver<Vec<Wanted>>,
    pub found: mpsc::Sender<Found>,
}

impl Sweeper {
    /// Runs rounds until the source is gone.
    pub(super) async fn run(mut self) {
        let mut not_before = Instant::now();
        let mut waiting: Vec<Wanted> = Vec::new();
        loop {
            if waiting.is_empty() {
                match self.requests.recv().await {
                    Some(more) => waiting.extend(more),
                    None => return,
                }
            }
            sleep_until(not_before).await;
            while let Ok(more) = self.requests.try_recv() {
                waiting.extend(more);
            }
            not_before = Instant::now() + self.round_interval;
            match self.round(&waiting).await {
                Ok(()) => waiting.clear(),
                Err(error) => {
                    if self.found.is_closed() {
                        return;
                    }
                    tracing::warn!(%error, vehicles = waiting.len(), "a catch-up round failed, trying again");
                    sleep(Duration::from_millis(500)).await;
                }
            }
        }
    }

    async fn round(&self, waiting: &[Wanted]) -> Result<()> {
        let Some(from) = waiting.iter().map(|w| w.from).min() else { return Ok(()) };
        let Some(to) = waiting.iter().map(|w| w.to.sequence).max() else { return Ok(()) };
        self.report_gaps(waiting).await?;
        let filter_subjects = self.filter(waiting);
        let start = async_nats::datetime::from_nanos(i128::from(from.max(0)) * 1_000)
            .map_err(|e| Error::internal("a start time out of range").caused_by(e))?;
        let config = pull::OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartTime { start_time: start },
            filter_subjects,
            ..pull::OrderedConfig::default()
        };
        let stream = self.names.telemetry_stream();
        let consumer = self
            .js
            .create_consumer_on_stream(config, stream.as_str())
            .await
            .map_err(|e| unavailable("no consumer for a catch-up", e))?;
        let mut messages =
            consumer.messages().await.map_err(|e| unavailable("no messages for a catch-up", e))?;
        let mut round = Round::new(self, waiting);
        loop {
            let next = timeout(Duration::from_secs(15), messages.next()).await;
            let message = match next {
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(error))) => return Err(unavailable("a catch-up broke off", error)),
                Ok(None) | Err(_) => return Err(Error::unavailable("a catch-up ended before its fence")),
            };
            let (sequence, stored) = {
                let info = message
                    .info()
                    .map_err(|e| Error::internal("a stored message without its place").caused_by(e))?;
                (info.stream_sequence, stored_at(info.published))
            };
            round.take(sequence, stored, &message.message).await?;
            if sequence >= to {
                self.counters.rounds.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                return round.finish().await;
            }
        }
    }

    /// A few vehicles are filtered by the server; more are cheaper to sweep unfiltered.
    fn filter(&self, waiting: &[Wanted]) -> Vec<String> {
        if waiting.len() > FILTER_UP_TO {
            return Vec::new();
        }
        let mut subjects = vec![self.names.fence()];
        for wanted in waiting {
            for signal in self.schema.signals() {
                let subject = self.names.subject(&wanted.vehicle, &signal.name);
                if !subjects.contains(&subject) {
                    subjects.push(subject);
                }
            }
        }
        subjects
    }

    async fn report_gaps(&self, waiting: &[Wanted]) -> Result<()> {
        let stream = self
            .js
            .get_stream(self.names.telemetry_stream())
            .await
            .map_err(|e| unavailable("no telemetry stream", e))?;
        let state = &stream.cached_info().state;
        if state.first_sequence <= 1 {
            return Ok(());
        }
        let found = stored_at(state.first_timestamp);
        for wanted in waiting.iter().filter(|w| w.from < found) {
            self.send(Found::Gap { token: wanted.token, wanted: wanted.from, found }).await?;
        }
        Ok(())
    }

    async fn send(&self, found: Found) -> Result<()> {
        self.found.send(found).await.map_err(|_| Error::unavailable("the source is gone"))
    }
}

/// One pass over the tail.
struct Round<'a> {
    sweeper: &'a Sweeper,
    /// By vehicle: token, from, fence. A vehicle may wait twice, detached and attached again.
    by_vehicle: HashMap<&'a str, Vec<&'a Wanted>>,
    /// Fences, the last one first.
    fences: Vec<(u64, u64)>,
    piece: Vec<(u64, Topic, bytes::Bytes, Micros)>,
}

impl<'a> Round<'a> {
    fn new(sweeper: &'a Sweeper, waiting: &'a [Wanted]) -> Self {
        let mut by_vehicle: HashMap<&str, Vec<&Wanted>> = HashMap::new();
        for wanted in waiting {
            by_vehicle.entry(wanted.vehicle.as_str()).or_default().push(wanted);
        }
        let mut fences: Vec<_> = waiting.iter().map(|w| (w.to.sequence, w.token)).collect();
        fences.sort_unstable_by(|a, b| b.cmp(a));
        Self { sweeper, by_vehicle, fences, piece: Vec::new() }
    }

    async fn take(&mut self, sequence: u64, stored: Micros, message: &async_nats::Message) -> Result<()> {
        if let Some((vehicle, last)) = self.sweeper.names.parse(&message.subject) {
            if let (Some(wanted), Some(signal)) =
                (self.by_vehicle.get(vehicle), self.sweeper.schema.find(last))
            {
                for w in wanted.iter().filter(|w| stored >= w.from && sequence <= w.to.sequence) {
                    self.piece.push((w.token, Topic::Signal(signal), message.payload.clone(), stored));
                }
            }
        } else if let Some(fence) = self.own_fence(sequence) {
            self.sweeper.clock.observe(fence.before, fence.after, stored);
        }
        if self.piece.len() >= PIECE {
            let piece = std::mem::take(&mut self.piece);
            self.sweeper.send(Found::Messages(piece)).await?;
        }
        if self.fences.last().is_some_and(|(fence, _)| *fence <= sequence) {
            self.pass(sequence).await?;
        }
        Ok(())
    }

    fn own_fence(&self, sequence: u64) -> Option<Fence> {
        self.by_vehicle.values().flatten().map(|w| w.to).find(|f| f.sequence == sequence)
    }

    /// Tells which vehicles have passed their fences, after all that they were owed.
    async fn pass(&mut self, sequence: u64) -> Result<()> {
        if !self.piece.is_empty() {
            let piece = std::mem::take(&mut self.piece);
            self.sweeper.send(Found::Messages(piece)).await?;
        }
        let mut done = Vec::new();
        while let Some((fence, token)) = self.fences.pop_if(|(fence, _)| *fence <= sequence) {
            tracing::trace!(fence, token, "passed");
            done.push(token);
        }
        self.sweeper.send(Found::Done(done)).await
    }

    async fn finish(mut self) -> Result<()> {
        if self.fences.is_empty() { Ok(()) } else { self.pass(u64::MAX).await }
    }
}

fn unavailable(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::unavailable(what).caused_by(error)
}
