//! The source on NATS: a core subscription per vehicle, and the stream to catch up.

mod attachments;
mod feed;
mod looks;
mod settle;
mod subscription;
mod sweep;
mod tasks;
mod vehicle;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::{Client, Event};
use futures_util::stream::{AbortHandle, Abortable, SelectAll};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::attachments::{Attachments, Ticket};
use self::feed::Passed;
use self::looks::{Expected, Looks};
use self::subscription::{Live, Taken};
use self::sweep::{Found, Sweeper, Wanted};
use self::tasks::{Rounds, TaskDone};
use self::vehicle::Attached;
use super::clock::ServerClock;
use super::connect::PULL_CAPACITY;
use super::dead_letters::{DeadLetters, LetterCounters};
use super::payloads::OnPayload;
use super::storing::{self, Storing};
use super::streams::jetstream;
use super::watch::{Owed, Watch};
use super::{Names, NatsOptions, connect};
use crate::error::{Error, Result};
use crate::ids::Slot;
use crate::message::{DeadLetter, Message, Refusal, Topic};
use crate::schema::Schema;
use crate::source::{Attach, Source, SourceEvent};
use crate::time::{Micros, display, micros};

/// Choices of a source.
#[derive(Debug, Clone)]
pub struct SourceOptions {
    /// How long before a doubtful moment a catch-up begins.
    pub margin: Duration,
    /// Catch-up rounds start at most this often.
    pub round_interval: Duration,
    /// Live messages of a vehicle that wait for its catch-up at most; their payloads at most 64 KiB.
    pub buffer: usize,
    /// Catch up everything this often, against losses that nobody notices. `None`: only on a
    /// cluster, every 10 minutes.
    pub audit_interval: Option<Duration>,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            margin: Duration::from_secs(5),
            round_interval: Duration::from_secs(5),
            buffer: 256,
            audit_interval: None,
        }
    }
}

/// What a source has done.
#[derive(Debug, Default)]
pub struct SourceCounters {
    /// Messages that came live.
    pub live: AtomicU64,
    /// Messages that were read from the stream.
    pub caught_up: AtomicU64,
    /// Catch-up rounds.
    pub rounds: AtomicU64,
    /// Times that the connection was lost and made again.
    pub reconnects: AtomicU64,
    /// Messages that found a vehicle's subscription full, and are caught up.
    pub slow: AtomicU64,
    /// Live messages that found a vehicle's buffer full while it was caught up, and are read from the stream.
    pub overflowed: AtomicU64,
    /// How often the telemetry stream was made anew, or lost its end, under this source.
    pub stream_losses: AtomicU64,
    /// What became of dead letters.
    pub dead_letters: Arc<LetterCounters>,
    /// Whether what is published to JetStream is stored.
    pub storing: Arc<Storing>,
}

/// [`Source`] on NATS. Drop it to unsubscribe from everything.
pub struct NatsSource {
    names: Names,
    schema: Schema,
    options: SourceOptions,
    clock: ServerClock,
    counters: Arc<SourceCounters>,
    client: Client,
    js: Context,
    /// A connection of its own: the server answers direct gets inside the connection's read loop.
    side: Context,
    live: SelectAll<Abortable<Live>>,
    subscription_capacity: usize,
    vehicles: Attachments,
    tasks: JoinSet<TaskDone>,
    looks: Looks,
    rounds: mpsc::UnboundedSender<Vec<Wanted>>,
    rounds_alone: mpsc::UnboundedSender<Vec<Wanted>>,
    found: mpsc::Receiver<(Rounds, Found)>,
    /// The connection was lost since the last tick.
    disconnected: Arc<AtomicBool>,
    watch: Arc<Watch>,
    ready: VecDeque<SourceEvent>,
    letters: DeadLetters,
    link: Link,
    ticker: tokio::time::Interval,
    /// The sweepers, the watch, and who asks whether messages are stored.
    behind: [tokio::task::AbortHandle; 4],
}

/// What is known of the live connection, to tell since when messages may be missing.
#[derive(Debug, Default)]
struct Link {
    connects: u64,
    bytes: u64,
    last_byte: Micros,
    down_since: Option<Micros>,
    last_audit: Micros,
}

impl std::fmt::Debug for NatsSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsSource").field("cell", self.names.cell()).finish_non_exhaustive()
    }
}

impl NatsSource {
    /// Connects twice: once for live messages, once for what is read from the streams; and asks the server
    /// for its time.
    ///
    /// # Errors
    /// As [`connect`]; [`Unavailable`](crate::ErrorKind::Unavailable) where there is no telemetry stream yet.
    pub async fn connect(
        nats: &NatsOptions,
        names: &Names,
        schema: &Schema,
        options: SourceOptions,
    ) -> Result<Self> {
        let side = NatsOptions { subscription_capacity: PULL_CAPACITY, ..nats.clone() };
        let side_client = connect(&side, &names.connection("catch-up"), |_| {}).await?;
        let side = jetstream(&side_client);
        let (letters, storing) =
            (DeadLetters::new(side.clone(), names.clone()), Arc::new(Storing::default()));
        let counters = Arc::new(SourceCounters {
            dead_letters: letters.counters(),
            storing: Arc::clone(&storing),
            ..SourceCounters::default()
        });
        let disconnected = Arc::new(AtomicBool::new(false));
        let (told, lost) = (Arc::clone(&counters), Arc::clone(&disconnected));
        let notify = move |event| match event {
            Event::Disconnected => lost.store(true, Ordering::Relaxed),
            Event::SlowConsumer(_) => SourceCounters::add(&told.slow, 1),
            _ => {}
        };
        let client = connect(nats, &names.connection("live"), notify).await?;
        let watch = Arc::new(Watch::begin(side_client, names, Arc::clone(&counters)).await?);
        let (found_sender, found) = mpsc::channel(FOUND);
        let sweeper = |rounds: Rounds| {
            let (wanted, requests) = mpsc::unbounded_channel();
            let sweeper = Sweeper {
                js: side.clone(),
                names: names.clone(),
                schema: schema.clone(),
                watch: Arc::clone(&watch),
                rounds,
                counters: Arc::clone(&counters),
                round_interval: options.round_interval,
                requests,
                found: found_sender.clone(),
            };
            (wanted, tokio::spawn(sweeper.run()).abort_handle())
        };
        let ((rounds, all), (rounds_alone, alone)) = (sweeper(Rounds::All), sweeper(Rounds::Alone));
        let watching = tokio::spawn(Arc::clone(&watch).keep()).abort_handle();
        let probing = tokio::spawn(storing::watch(side.clone(), names.clone(), storing)).abort_handle();
        let clock = watch.clock.clone();
        let now = clock.now();
        Ok(Self {
            names: names.clone(),
            schema: schema.clone(),
            options,
            js: jetstream(&client),
            letters,
            side,
            live: SelectAll::new(),
            subscription_capacity: nats.subscription_capacity,
            vehicles: Attachments::default(),
            tasks: JoinSet::new(),
            looks: Looks::default(),
            rounds,
            rounds_alone,
            found,
            disconnected,
            watch,
            ready: VecDeque::new(),
            link: Link { connects: 1, last_byte: now, last_audit: now, ..Link::default() },
            ticker: tokio::time::interval(Duration::from_millis(250)),
            behind: [all, alone, watching, probing],
            clock,
            counters,
            client,
        })
    }

    /// What it has done so far.
    pub fn counters(&self) -> Arc<SourceCounters> {
        Arc::clone(&self.counters)
    }

    /// The server's clock as this source sees it, for the binder.
    pub fn clock(&self) -> ServerClock {
        self.clock.clone()
    }

    fn margin(&self) -> Micros {
        micros(self.options.margin)
    }

    /// A live message: to the heart, to its vehicle's buffer, or to the lifecycle check.
    fn on_live(&mut self, taken: &Taken) {
        let Taken { ticket, message, lossy_since } = taken;
        SourceCounters::add(&self.counters.live, 1);
        if self.vehicles.get(*ticket).is_none() {
            return;
        }
        let slot = ticket.slot;
        if let Some(since) = lossy_since {
            let from = self.clock.at(*since) - self.margin();
            self.disturb_alone([(slot, from)]);
        }
        let Some((_, last)) = self.names.parse(&message.subject) else { return };
        let arrival = self.clock.now();
        let topic = match last {
            "on" | "off" => return self.on_lifecycle(slot, last == "on", &message.payload),
            signal => match self.schema.find(signal) {
                Some(index) => Topic::Signal(index),
                None => return self.refuse_message(slot, message),
            },
        };
        let message = Message { slot, topic, payload: message.payload.clone(), arrival, live: true };
        let capacity = self.options.buffer;
        let Some(vehicle) = self.vehicles.get_mut(*ticket) else { return };
        if let Some(message) = vehicle.feed.live(message, capacity) {
            vehicle.saw(&message);
            self.ready.push_back(SourceEvent::Message(message));
        } else if vehicle.feed.is_broken() {
            SourceCounters::add(&self.counters.overflowed, 1);
        }
    }

    /// An `on` or `off` came live. What is stored decides; but an `on` while we know of no `off` is
    /// only a sign of life.
    fn on_lifecycle(&mut self, slot: Slot, on: bool, payload: &bytes::Bytes) {
        let arrival = self.clock.now();
        let Some((_, vehicle)) = self.vehicles.at(slot) else { return };
        if let Err(error) = OnPayload::parse(payload) {
            let letter = DeadLetter {
                vehicle: vehicle.id.clone(),
                signal: if on { "on" } else { "off" }.to_owned(),
                refusal: Refusal::Malformed,
                detail: error.to_string(),
                payload: payload.clone(),
            };
            return self.refuse(letter);
        }
        if on && vehicle.off.is_none() {
            let payload = payload.clone();
            let message = Message { slot, topic: Topic::On, payload, arrival, live: true };
            self.ready.push_back(SourceEvent::Message(message));
            return;
        }
        let expected = if on { Expected::On } else { Expected::Off };
        self.check_lifecycle([slot], expected);
    }

    fn refuse_message(&mut self, slot: Slot, message: &async_nats::Message) {
        let Some((_, vehicle)) = self.vehicles.at(slot) else { return };
        let signal = self.names.parse(&message.subject).map_or("", |(_, last)| last);
        let letter = DeadLetter {
            vehicle: vehicle.id.clone(),
            signal: signal.to_owned(),
            refusal: Refusal::UnknownSignal,
            detail: format!("{signal:?} is no signal of the schema"),
            payload: message.payload.clone(),
        };
        self.refuse(letter);
    }

    fn on_found(&mut self, rounds: Rounds, found: Found) {
        match found {
            Found::Messages(messages) => {
                SourceCounters::add(&self.counters.caught_up, messages.len() as u64);
                for (ticket, topic, payload, arrival) in messages {
                    let Some(vehicle) = self.vehicles.get_mut(ticket) else { continue };
                    let message = Message { slot: ticket.slot, topic, payload, arrival, live: false };
                    vehicle.saw(&message);
                    self.ready.push_back(SourceEvent::Message(message));
                }
            }
            Found::Done(tickets) => self.on_passed(&tickets),
            Found::Unfenced(wanted) => self.fence_for(rounds, wanted),
            Found::Gaps { tickets, found } => self.on_gaps(&tickets, found),
        }
    }

    /// The stream doesn't reach back to what must be caught up: told once a vehicle, in one line for all.
    fn on_gaps(&mut self, tickets: &[(Ticket, Micros)], found: Micros) {
        let (mut vehicles, mut earliest) = (0_u64, Micros::MAX);
        for &(ticket, wanted) in tickets {
            let Some(vehicle) = self.vehicles.get_mut(ticket) else { continue };
            let slot = ticket.slot;
            if !std::mem::replace(&mut vehicle.gap_told, true) {
                vehicles += 1;
                earliest = earliest.min(wanted);
                self.ready.push_back(SourceEvent::Gap { slot, wanted, found });
            }
        }
        if vehicles > 0 {
            let (wanted, found, cell) = (display(earliest), display(found), self.names.cell());
            tracing::error!(%cell, vehicles, wanted, found, "data is gone: the telemetry stream begins later than what must be caught up; it was made anew or emptied, or max_age or max_bytes is too small for how long workers were away");
        }
    }

    /// Catch-ups have reached their fences: what waited follows, or another fence where it must.
    fn on_passed(&mut self, tickets: &[Ticket]) {
        let (mut live, mut waited, mut again) = (Vec::new(), Vec::new(), Vec::new());
        for &ticket in tickets {
            let Some(vehicle) = self.vehicles.get_mut(ticket) else { continue };
            match vehicle.feed.passed() {
                Passed::Live(messages) => {
                    messages.iter().for_each(|message| vehicle.saw(message));
                    waited.extend(messages);
                    live.push(ticket.slot);
                }
                Passed::Again(from) => again.push((ticket, from, Owed::Perhaps(from.max(vehicle.on_time)))),
            }
        }
        self.fence_for(Rounds::Alone, again);
        if live.is_empty() {
            return;
        }
        // Before what waited: that is live already, its frames' counters go on in what comes next.
        self.ready.push_back(SourceEvent::CaughtUp(live.clone()));
        self.ready.extend(waited.into_iter().map(SourceEvent::Message));
        for slot in &live {
            self.finish_settling(*slot);
        }
        // An `off` that was sent while nobody listened is found here.
        self.check_lifecycle(live, Expected::Either);
    }

    /// Begins a catch-up of these from these times on, or extends the running one.
    fn disturb(&mut self, rounds: Rounds, slots: impl IntoIterator<Item = (Slot, Micros)>) {
        let margin = self.margin();
        let mut fresh = Vec::new();
        for (slot, from) in slots {
            if let Some((ticket, vehicle)) = self.vehicles.at(slot) {
                // Nothing before the vehicle's own start was ever wanted.
                let from = from.max(vehicle.from);
                if vehicle.feed.disturb(from) {
                    let owed = Owed::Perhaps(from.saturating_add(margin).max(vehicle.on_time));
                    fresh.push((ticket, from, owed));
                }
            }
        }
        self.fence_for(rounds, fresh);
    }

    /// For what befell single vehicles, perhaps by their own doing.
    fn disturb_alone(&mut self, slots: impl IntoIterator<Item = (Slot, Micros)>) {
        self.disturb(Rounds::Alone, slots);
    }

    fn disturb_all(&mut self, from: Micros) {
        let all: Vec<_> = self.vehicles.slots().map(|slot| (slot, from)).collect();
        self.disturb(Rounds::All, all);
    }

    /// Looks at the connection: the counter of connections is the truth, events may be dropped.
    fn on_tick(&mut self) {
        use std::sync::atomic::Ordering::Relaxed;
        self.start_later_looks();
        if self.disconnected.swap(false, Relaxed) {
            self.link.down_since.get_or_insert(self.link.last_byte);
            tracing::warn!("the connection to NATS is lost");
        }
        let statistics = self.client.statistics();
        let (connects, bytes) = (statistics.connects.load(Relaxed), statistics.in_bytes.load(Relaxed));
        let now = self.clock.now();
        if connects > self.link.connects {
            let since = self.link.down_since.take().unwrap_or(self.link.last_byte);
            self.link.connects = connects;
            SourceCounters::add(&self.counters.reconnects, 1);
            tracing::info!("connected to NATS again, catching up");
            // This machine may have slept.
            self.watch.soon.notify_one();
            self.disturb_all(since - self.margin());
        }
        if bytes != self.link.bytes {
            self.link.bytes = bytes;
            self.link.last_byte = now;
        }
        let cluster = self.client.server_info().cluster.is_some();
        let default = cluster.then_some(Duration::from_secs(600));
        if let Some(every) = self.options.audit_interval.or(default) {
            let every = micros(every);
            if now - self.link.last_audit >= every {
                let since = self.link.last_audit - self.margin();
                self.link.last_audit = now;
                self.disturb_all(since);
            }
        }
    }
}

impl SourceCounters {
    fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Live messages that are taken from the subscriptions in one go.
const DRAIN: usize = 256;

/// Pieces of what sweeps find that wait.
const FOUND: usize = 8;

impl Source for NatsSource {
    async fn next(&mut self) -> Result<SourceEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            tokio::select! {
                Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    let done = done.map_err(|e| Error::internal("a task of the source ended").caused_by(e))?;
                    self.on_task(done);
                }
                Some((rounds, found)) = self.found.recv() => self.on_found(rounds, found),
                Some(taken) = self.live.next(), if !self.live.is_empty() => {
                    self.on_live(&taken);
                    for _ in 0..DRAIN {
                        let Some(Some(taken)) = self.live.next().now_or_never() else { break };
                        self.on_live(&taken);
                    }
                }
                _ = self.ticker.tick() => self.on_tick(),
            }
        }
    }

    fn attach(&mut self, group: Vec<Attach>) {
        let mut joining = Vec::with_capacity(group.len());
        for attach in group {
            let (slot, subject) = (attach.slot, self.names.vehicle(&attach.vehicle));
            let ticket = self.vehicles.attach(slot, Attached::new(attach, self.schema.signals().len()));
            joining.push((ticket, subject));
        }
        self.subscribe(joining);
    }

    fn detach(&mut self, slot: Slot) {
        let Some(vehicle) = self.vehicles.detach(slot) else { return };
        if let Some(subscription) = vehicle.subscription {
            subscription.abort();
        }
        self.ready.retain(|event| match event {
            SourceEvent::Message(message) => message.slot != slot,
            SourceEvent::Settled(s) | SourceEvent::Gap { slot: s, .. } => *s != slot,
            SourceEvent::Off { slot: s, .. } | SourceEvent::On { slot: s, .. } => *s != slot,
            SourceEvent::CaughtUp(_) => true,
        });
        for event in &mut self.ready {
            if let SourceEvent::CaughtUp(slots) = event {
                slots.retain(|s| *s != slot);
            }
        }
    }

    fn catch_up(&mut self, slots: &[(Slot, Micros)]) {
        let margin = self.margin();
        self.disturb_alone(slots.iter().map(|(slot, from)| (*slot, from - margin)));
    }

    fn settle(&mut self, slot: Slot) {
        self.start_settling(slot);
    }

    fn refuse(&mut self, letter: DeadLetter) {
        self.letters.keep(&letter);
    }

    async fn shut_down(&mut self) {
        self.letters.shut_down().await;
    }

    fn now(&self) -> Micros {
        self.clock.now()
    }
}

impl Drop for NatsSource {
    fn drop(&mut self) {
        self.behind.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

/// A subscription's stream, and the handle that ends it.
fn abortable(subscription: Live) -> (Abortable<Live>, AbortHandle) {
    let (handle, registration) = AbortHandle::new_pair();
    (Abortable::new(subscription, registration), handle)
}
