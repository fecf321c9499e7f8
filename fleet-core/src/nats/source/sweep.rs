//! Catch-up in rounds: one sweep of the stream's tail serves every vehicle that waits. Reading each
//! vehicle by itself would make the server scan the tail once for each (DESIGN section 5).

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use bytes::Bytes;
use futures_util::StreamExt;
use hashbrown::{HashMap, HashSet};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::super::fence::Fence;
use super::super::watch::{Owed, StreamState, Watch};
use super::super::{Names, stored_at};
use super::SourceCounters;
use super::attachments::Ticket;
use super::tasks::Rounds;
use crate::error::{Error, Result};
use crate::ids::VehicleId;
use crate::message::Topic;
use crate::schema::Schema;
use crate::time::Micros;

/// A vehicle that waits for a round.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// The attachment, so that nothing of an older one is taken for it.
    pub ticket: Ticket,
    pub vehicle: VehicleId,
    /// What was stored from this server time on.
    pub from: Micros,
    /// What of that the stream must hold.
    pub owed: Owed,
    /// Up to this fence.
    pub to: Fence,
}

/// What a round has to say.
#[derive(Debug)]
pub(super) enum Found {
    /// Messages in stored order.
    Messages(Vec<(Ticket, Topic, Bytes, Micros)>),
    /// These have passed their fences.
    Done(Vec<Ticket>),
    /// The fences of these are gone, with the stream's end or the whole stream: they need others.
    Unfenced(Vec<(Ticket, Micros, Owed)>),
    /// The stream begins at `found`, later than what these are owed.
    Gaps { tickets: Vec<(Ticket, Micros)>, found: Micros },
}

/// Below this many vehicles the server filters more cheaply than we sweep.
const FILTER_UP_TO: usize = 15;

/// How many messages go to the source at once …
const PIECE: usize = 512;

/// … and how many bytes of payload.
const PIECE_BYTES: usize = 64 << 10;

/// How long a sweep waits for the next message that must be there …
const SILENCE: Duration = Duration::from_secs(15);

/// … and at the end of what the server has for it, which is no end where a replica is behind.
const END: Duration = Duration::from_secs(2);

pub(super) struct Sweeper {
    pub js: Context,
    pub names: Names,
    pub schema: Schema,
    pub watch: Arc<Watch>,
    /// For what it finds: whose rounds these are.
    pub rounds: Rounds,
    pub counters: Arc<SourceCounters>,
    pub round_interval: Duration,
    pub requests: mpsc::UnboundedReceiver<Vec<Wanted>>,
    pub found: mpsc::Sender<(Rounds, Found)>,
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
            match self.round(&mut waiting).await {
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

    async fn round(&self, waiting: &mut Vec<Wanted>) -> Result<()> {
        let state = self.watch.look().await?;
        self.report_gaps(waiting, &state).await?;
        let fenced = |w: &mut Wanted| w.to.sequence <= state.last_sequence;
        let (unfenced, waiting) = (waiting.extract_if(.., |w| !fenced(w)).collect::<Vec<_>>(), &*waiting);
        self.unfenced(unfenced.iter()).await?;
        let Some(from) = waiting.iter().map(|w| w.from).min() else { return Ok(()) };
        let Some(to) = waiting.iter().map(|w| w.to.sequence).max() else { return Ok(()) };
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
        let mut pending = consumer.cached_info().num_pending;
        let mut messages =
            consumer.messages().await.map_err(|e| unavailable("no messages for a catch-up", e))?;
        let mut round = Round::new(self, waiting);
        loop {
            let silence = if pending == 0 { END } else { SILENCE };
            let message = match timeout(silence, messages.next()).await {
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(error))) => return Err(unavailable("a catch-up broke off", error)),
                // What had the last fence's sequence is no fence of ours, or not there.
                Err(_) if pending == 0 => break,
                Ok(None) | Err(_) => return Err(Error::unavailable("a catch-up ended before its fence")),
            };
            let (sequence, stored) = {
                let info = message
                    .info()
                    .map_err(|e| Error::internal("a stored message without its place").caused_by(e))?;
                pending = info.pending;
                (info.stream_sequence, stored_at(info.published))
            };
            round.take(sequence, stored, &message.message).await?;
            if sequence >= to {
                break;
            }
        }
        self.counters.rounds.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        round.finish().await
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

    async fn report_gaps(&self, waiting: &[Wanted], state: &StreamState) -> Result<()> {
        let gaps = waiting.iter().filter(|w| state.gap(w.owed).is_some());
        let tickets: Vec<_> = gaps.map(|w| (w.ticket, w.from)).collect();
        if tickets.is_empty() {
            return Ok(());
        }
        self.send(Found::Gaps { tickets, found: state.begins() }).await
    }

    async fn unfenced(&self, lost: impl Iterator<Item = &Wanted> + Send) -> Result<()> {
        let lost: Vec<_> = lost.map(|w| (w.ticket, w.from, w.owed)).collect();
        if lost.is_empty() {
            return Ok(());
        }
        tracing::warn!(
            vehicles = lost.len(),
            "the end of a catch-up is no longer in the stream, setting another"
        );
        self.send(Found::Unfenced(lost)).await
    }

    async fn send(&self, found: Found) -> Result<()> {
        let sent = self.found.send((self.rounds, found)).await;
        sent.map_err(|_| Error::unavailable("the source is gone"))
    }
}

/// One pass over the tail.
struct Round<'a> {
    sweeper: &'a Sweeper,
    /// A vehicle may wait twice, detached and attached again.
    by_vehicle: HashMap<&'a str, Vec<&'a Wanted>>,
    /// By their fences, the last one first.
    fences: Vec<&'a Wanted>,
    /// Sequences of fences that were seen where they must be.
    seen: HashSet<u64>,
    piece: Vec<(Ticket, Topic, Bytes, Micros)>,
    bytes: usize,
}

impl<'a> Round<'a> {
    fn new(sweeper: &'a Sweeper, waiting: &'a [Wanted]) -> Self {
        let mut by_vehicle: HashMap<&str, Vec<&Wanted>> = HashMap::new();
        for wanted in waiting {
            by_vehicle.entry(wanted.vehicle.as_str()).or_default().push(wanted);
        }
        let mut fences: Vec<_> = waiting.iter().collect();
        fences.sort_unstable_by_key(|w| std::cmp::Reverse((w.to.sequence, w.ticket)));
        Self { sweeper, by_vehicle, fences, seen: HashSet::new(), piece: Vec::new(), bytes: 0 }
    }

    async fn take(&mut self, sequence: u64, stored: Micros, message: &async_nats::Message) -> Result<()> {
        if let Some((vehicle, last)) = self.sweeper.names.parse(&message.subject) {
            if let (Some(wanted), Some(signal)) =
                (self.by_vehicle.get(vehicle), self.sweeper.schema.find(last))
            {
                for w in wanted.iter().filter(|w| stored >= w.from && sequence <= w.to.sequence) {
                    // As it came it would hold on to all that was received with it.
                    let payload = Bytes::copy_from_slice(&message.payload);
                    self.bytes += payload.len();
                    self.piece.push((w.ticket, Topic::Signal(signal), payload, stored));
                }
            }
        } else if self.is_fence(sequence, &message.payload) {
            self.seen.insert(sequence);
        }
        if self.piece.len() >= PIECE || self.bytes >= PIECE_BYTES {
            self.send_piece().await?;
        }
        if self.fences.last().is_some_and(|w| w.to.sequence <= sequence) {
            self.pass(sequence).await?;
        }
        Ok(())
    }

    fn is_fence(&self, sequence: u64, payload: &[u8]) -> bool {
        let next = self.fences.iter().rev().take_while(|w| w.to.sequence <= sequence);
        next.into_iter().any(|w| w.to.is(sequence, payload))
    }

    async fn send_piece(&mut self) -> Result<()> {
        self.bytes = 0;
        if self.piece.is_empty() {
            return Ok(());
        }
        self.sweeper.send(Found::Messages(std::mem::take(&mut self.piece))).await
    }

    /// Tells which vehicles have passed their fences, after all that they were owed, and which would have
    /// but for their fences, which are not there.
    async fn pass(&mut self, sequence: u64) -> Result<()> {
        self.send_piece().await?;
        let (mut done, mut lost) = (Vec::new(), Vec::new());
        while let Some(wanted) = self.fences.pop_if(|w| w.to.sequence <= sequence) {
            tracing::trace!(fence = wanted.to.sequence, slot = wanted.ticket.slot.0, "passed");
            if self.seen.contains(&wanted.to.sequence) { done.push(wanted.ticket) } else { lost.push(wanted) }
        }
        self.sweeper.unfenced(lost.into_iter()).await?;
        if done.is_empty() { Ok(()) } else { self.sweeper.send(Found::Done(done)).await }
    }

    async fn finish(mut self) -> Result<()> {
        if self.fences.is_empty() { Ok(()) } else { self.pass(u64::MAX).await }
    }
}

fn unavailable(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::unavailable(what).caused_by(error)
}
