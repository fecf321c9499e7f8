//! Catch-up in rounds: one sweep of the stream's tail serves every vehicle that waits. Reading each
//! vehicle by itself would make the server scan the tail once for each.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::super::Names;
use super::super::fence::Fence;
use super::super::filter::filter;
use super::super::reader::ReaderOptions;
use super::super::reading::{Begin, Entry, LINGER, Order, Reading, StoredMessage, Unreadable};
use super::super::watch::{Owed, StreamState, Watch};
use super::SourceCounters;
use super::attachments::Ticket;
use super::tasks::Rounds;
use crate::error::{Error, Result};
use crate::ids::VehicleId;
use crate::message::{DeadLetter, Refusal, Topic};
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
    /// A message of a vehicle that waited can't be read and was passed over.
    Unreadable(DeadLetter),
}

/// How many messages go to the source at once …
const PIECE: usize = 512;

/// … and how many bytes of payload.
const PIECE_BYTES: usize = 64 << 10;

pub(super) struct Sweeper {
    /// Each round has a connection of its own.
    pub connection: ReaderOptions,
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
                // Those that have passed their fences don't wait any more.
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
        let unfenced: Vec<_> = waiting.extract_if(.., |w| !fenced(w)).collect();
        self.unfenced(unfenced.iter()).await?;
        let Some(from) = waiting.iter().map(|w| w.from).min() else { return Ok(()) };
        let Some(to) = waiting.iter().map(|w| w.to.sequence).max() else { return Ok(()) };
        let order = Order {
            stream: self.names.telemetry_stream(),
            begin: Begin::At(from),
            filter: filter(&self.names, &self.schema, waiting.iter().map(|w| &w.vehicle)),
            to,
            linger: LINGER,
        };
        let mut round = Round::new(self, waiting);
        let swept = self.sweep(order, &mut round).await;
        // What came before it broke off counts.
        let told = round.deliver().await;
        let left: HashSet<_> = round.fences.iter().map(|w| (w.ticket, w.to.sequence)).collect();
        drop(round);
        waiting.retain(|w| left.contains(&(w.ticket, w.to.sequence)));
        swept.and(told)
    }

    async fn sweep(&self, order: Order, round: &mut Round<'_>) -> Result<()> {
        let mut reading = Reading::begin(self.connection.clone(), order).await?;
        while reading.next(|entry| round.take(entry)).await? {
            round.deliver().await?;
        }
        self.counters.rounds.fetch_add(1, Ordering::Relaxed);
        // What had a fence's sequence is no fence of ours, or not there.
        round.pass(u64::MAX);
        Ok(())
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
        match lost_fences(lost) {
            Some(found) => self.send(found).await,
            None => Ok(()),
        }
    }

    async fn send(&self, found: Found) -> Result<()> {
        let sent = self.found.send((self.rounds, found)).await;
        sent.map_err(|_| Error::unavailable("the source is gone"))
    }
}

fn lost_fences<'a>(lost: impl Iterator<Item = &'a Wanted>) -> Option<Found> {
    let lost: Vec<_> = lost.map(|w| (w.ticket, w.from, w.owed)).collect();
    if lost.is_empty() {
        return None;
    }
    tracing::warn!(
        vehicles = lost.len(),
        "the end of a catch-up is no longer in the stream, setting another"
    );
    Some(Found::Unfenced(lost))
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
    /// What one tick has found, in its order.
    found: Vec<Found>,
}

impl<'a> Round<'a> {
    fn new(sweeper: &'a Sweeper, waiting: &'a [Wanted]) -> Self {
        let mut by_vehicle: HashMap<&str, Vec<&Wanted>> = HashMap::new();
        for wanted in waiting {
            by_vehicle.entry(wanted.vehicle.as_str()).or_default().push(wanted);
        }
        let mut fences: Vec<_> = waiting.iter().collect();
        fences.sort_unstable_by_key(|w| std::cmp::Reverse((w.to.sequence, w.ticket)));
        let (piece, found) = (Vec::new(), Vec::new());
        Self { sweeper, by_vehicle, fences, seen: HashSet::new(), piece, bytes: 0, found }
    }

    fn take(&mut self, entry: Entry<'_>) {
        let sequence = match entry {
            Entry::Message(message) => {
                self.message(&message);
                Some(message.sequence)
            }
            Entry::Unreadable(unreadable) => self.unreadable(unreadable),
        };
        if self.piece.len() >= PIECE || self.bytes >= PIECE_BYTES {
            self.end_piece();
        }
        if let Some(sequence) = sequence
            && self.fences.last().is_some_and(|w| w.to.sequence <= sequence)
        {
            self.pass(sequence);
        }
    }

    fn message(&mut self, message: &StoredMessage<'_>) {
        let StoredMessage { subject, sequence, stored, payload, .. } = *message;
        // No other name is ever bound than one of ASCII.
        let subject = std::str::from_utf8(subject).ok();
        if let Some((vehicle, last)) = subject.and_then(|subject| self.sweeper.names.parse(subject)) {
            if let (Some(wanted), Some(signal)) =
                (self.by_vehicle.get(vehicle), self.sweeper.schema.find(last))
            {
                for w in wanted.iter().filter(|w| stored >= w.from && sequence <= w.to.sequence) {
                    self.bytes += payload.len();
                    self.piece.push((
                        w.ticket,
                        Topic::Signal(signal),
                        Bytes::copy_from_slice(payload),
                        stored,
                    ));
                }
            }
        } else if self.is_fence(sequence, payload) {
            self.seen.insert(sequence);
        }
    }

    /// A message was passed over: its vehicle, if that waits, is told of it once. Its sequence, if that is known.
    fn unreadable(&mut self, unreadable: Unreadable) -> Option<u64> {
        let Unreadable { subject, sequence, stored, payload, why } = unreadable;
        self.sweeper.counters.unreadable.fetch_add(1, Ordering::Relaxed);
        if let Some((vehicle, signal)) = self.sweeper.names.parse(&subject)
            && let Some(wanted) = self.by_vehicle.get(vehicle)
            && let Some(w) = wanted.iter().find(|w| {
                stored.is_none_or(|at| at >= w.from) && sequence.is_none_or(|at| at <= w.to.sequence)
            })
        {
            self.found.push(Found::Unreadable(DeadLetter {
                vehicle: w.vehicle.clone(),
                signal: signal.to_owned(),
                refusal: Refusal::Unreadable,
                detail: why,
                payload,
            }));
        }
        sequence
    }

    fn is_fence(&self, sequence: u64, payload: &[u8]) -> bool {
        let next = self.fences.iter().rev().take_while(|w| w.to.sequence <= sequence);
        next.into_iter().any(|w| w.to.is(sequence, payload))
    }

    fn end_piece(&mut self) {
        self.bytes = 0;
        if !self.piece.is_empty() {
            self.found.push(Found::Messages(std::mem::take(&mut self.piece)));
        }
    }

    /// Tells which vehicles have passed their fences, after all that they were owed, and which would have
    /// but for their fences, which are not there.
    fn pass(&mut self, sequence: u64) {
        self.end_piece();
        let (mut done, mut lost) = (Vec::new(), Vec::new());
        while let Some(wanted) = self.fences.pop_if(|w| w.to.sequence <= sequence) {
            tracing::trace!(fence = wanted.to.sequence, slot = wanted.ticket.slot.0, "passed");
            if self.seen.contains(&wanted.to.sequence) { done.push(wanted.ticket) } else { lost.push(wanted) }
        }
        self.found.extend(lost_fences(lost.into_iter()));
        if !done.is_empty() {
            self.found.push(Found::Done(done));
        }
    }

    /// Sends what was found.
    async fn deliver(&mut self) -> Result<()> {
        self.end_piece();
        for found in self.found.drain(..) {
            self.sweeper.send(found).await?;
        }
        Ok(())
    }
}
