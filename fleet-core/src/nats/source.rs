//! The source on NATS: a core subscription per vehicle, and the stream to catch up.

mod feed;
mod settle;
mod sweep;
mod tasks;
mod vehicle;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::{Client, Event};
use futures_util::stream::{AbortHandle, Abortable, SelectAll};
use futures_util::{FutureExt, StreamExt};
use hashbrown::HashMap;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::feed::Passed;
use self::sweep::{Found, Sweeper, Wanted};
use self::tasks::{Expected, Live, TaskDone};
use self::vehicle::Attached;
use super::clock::ServerClock;
use super::connect::SUBSCRIPTION_CAPACITY;
use super::dead_letters::DeadLetters;
use super::payloads::OnPayload;
use super::streams::jetstream;
use super::{Names, NatsOptions, connect};
use crate::error::{Error, Result};
use crate::ids::Slot;
use crate::message::{DeadLetter, Message, Refusal, Topic};
use crate::schema::Schema;
use crate::source::{Attach, Source, SourceEvent};
use crate::time::{Micros, micros};

/// Choices of a source.
#[derive(Debug, Clone)]
pub struct SourceOptions {
    /// How long before a doubtful moment a catch-up begins.
    pub margin: Duration,
    /// Catch-up rounds start at most this often.
    pub round_interval: Duration,
    /// Live messages of a vehicle that wait for its catch-up at most.
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
    /// Slow-consumer events.
    pub slow: AtomicU64,
    /// Dead letters kept.
    pub dead_letters: AtomicU64,
    /// Dead letters that fell to the rate limit.
    pub dead_letters_dropped: AtomicU64,
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
    by_slot: HashMap<Slot, Attached>,
    by_token: HashMap<u64, Slot>,
    next_token: u64,
    tasks: JoinSet<TaskDone>,
    rounds: mpsc::UnboundedSender<Vec<Wanted>>,
    found: mpsc::Receiver<Found>,
    events: mpsc::UnboundedReceiver<Event>,
    ready: std::collections::VecDeque<SourceEvent>,
    letters: DeadLetters,
    link: Link,
    ticker: tokio::time::Interval,
    sweeper: tokio::task::AbortHandle,
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
    /// Connects twice: once for live messages, once for what is read from the streams.
    ///
    /// # Errors
    /// As [`connect`].
    pub async fn connect(
        nats: &NatsOptions,
        names: &Names,
        schema: &Schema,
        options: SourceOptions,
    ) -> Result<Self> {
        let (event_sender, events) = mpsc::unbounded_channel();
        let notify = move |event| drop(event_sender.send(event));
        let client = connect(nats, &names.connection("live"), notify).await?;
        let side = NatsOptions { subscription_capacity: SUBSCRIPTION_CAPACITY, ..nats.clone() };
        let side = jetstream(&connect(&side, &names.connection("catch-up"), |_| {}).await?);
        let clock = ServerClock::default();
        let counters = Arc::new(SourceCounters::default());
        let (rounds, requests) = mpsc::unbounded_channel();
        let (found_sender, found) = mpsc::channel(16);
        let sweeper = Sweeper {
            js: side.clone(),
            names: names.clone(),
            schema: schema.clone(),
            clock: clock.clone(),
            counters: Arc::clone(&counters),
            round_interval: options.round_interval,
            requests,
            found: found_sender,
        };
        let now = clock.now();
        Ok(Self {
            names: names.clone(),
            schema: schema.clone(),
            options,
            js: jetstream(&client),
            letters: DeadLetters::new(side.clone(), names.clone()),
            side,
            live: SelectAll::new(),
            by_slot: HashMap::new(),
            by_token: HashMap::new(),
            next_token: 0,
            tasks: JoinSet::new(),
            rounds,
            found,
            events,
            ready: std::collections::VecDeque::new(),
            link: Link { connects: 1, last_byte: now, last_audit: now, ..Link::default() },
            ticker: tokio::time::interval(Duration::from_millis(250)),
            sweeper: tokio::spawn(sweeper.run()).abort_handle(),
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
    fn on_live(&mut self, token: u64, message: &async_nats::Message) {
        SourceCounters::add(&self.counters.live, 1);
        let Some(&slot) = self.by_token.get(&token) else { return };
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
        let Some(vehicle) = self.by_slot.get_mut(&slot) else { return };
        if let Some(message) = vehicle.feed.live(message, capacity) {
            vehicle.saw(&message);
            self.ready.push_back(SourceEvent::Message(message));
        }
    }

    /// An `on` or `off` came live. What is stored decides; but an `on` while we know of no `off` is
    /// only a sign of life.
    fn on_lifecycle(&mut self, slot: Slot, on: bool, payload: &bytes::Bytes) {
        let arrival = self.clock.now();
        let Some(vehicle) = self.by_slot.get(&slot) else { return };
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
        self.check_lifecycle(vec![slot], expected);
    }

    fn refuse_message(&mut self, slot: Slot, message: &async_nats::Message) {
        let Some(vehicle) = self.by_slot.get(&slot) else { return };
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

    fn on_found(&mut self, found: Found) {
        match found {
            Found::Messages(messages) => {
                SourceCounters::add(&self.counters.caught_up, messages.len() as u64);
                for (token, topic, payload, arrival) in messages {
                    let Some(&slot) = self.by_token.get(&token) else { continue };
                    let message = Message { slot, topic, payload, arrival, live: false };
                    if let Some(vehicle) = self.by_slot.get_mut(&slot) {
                        vehicle.saw(&message);
                    }
                    self.ready.push_back(SourceEvent::Message(message));
                }
            }
            Found::Done(tokens) => self.on_passed(&tokens),
            Found::Gap { token, wanted, found } => {
                if let Some(&slot) = self.by_token.get(&token) {
                    self.ready.push_back(SourceEvent::Gap { slot, wanted, found });
                }
            }
        }
    }

    /// Catch-ups have reached their fences: what waited follows, or another fence where it must.
    fn on_passed(&mut self, tokens: &[u64]) {
        let (mut live, mut waited, mut again) = (Vec::new(), Vec::new(), Vec::new());
        for token in tokens {
            let Some(&slot) = self.by_token.get(token) else { continue };
            let Some(vehicle) = self.by_slot.get_mut(&slot) else { continue };
            match vehicle.feed.passed() {
                Passed::Live(messages) => {
                    messages.iter().for_each(|message| vehicle.saw(message));
                    waited.extend(messages);
                    live.push(slot);
                }
                Passed::Again(from) => again.push((*token, from)),
            }
        }
        self.fence_for(again);
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
    fn disturb(&mut self, slots: impl IntoIterator<Item = (Slot, Micros)>) {
        let mut fresh = Vec::new();
        for (slot, from) in slots {
            if let Some(vehicle) = self.by_slot.get_mut(&slot) {
                // Nothing before the vehicle's own start was ever wanted.
                let from = from.max(vehicle.from);
                if vehicle.feed.disturb(from) {
                    fresh.push((vehicle.token, from));
                }
            }
        }
        self.fence_for(fresh);
    }

    fn disturb_all(&mut self, from: Micros) {
        let all: Vec<_> = self.by_slot.keys().map(|slot| (*slot, from)).collect();
        self.disturb(all);
    }

    fn on_event(&mut self, event: &Event) {
        match event {
            Event::Disconnected => {
                self.link.down_since.get_or_insert(self.link.last_byte);
                tracing::warn!("the connection to NATS is lost");
            }
            Event::SlowConsumer(_) => {
                SourceCounters::add(&self.counters.slow, 1);
                self.disturb_all(self.clock.now() - self.margin());
            }
            _ => {}
        }
    }

    /// Looks at the connection: the counter of connections is the truth, events may be dropped.
    fn on_tick(&mut self) {
        use std::sync::atomic::Ordering::Relaxed;
        let statistics = self.client.statistics();
        let (connects, bytes) = (statistics.connects.load(Relaxed), statistics.in_bytes.load(Relaxed));
        let now = self.clock.now();
        if connects > self.link.connects {
            let since = self.link.down_since.take().unwrap_or(self.link.last_byte);
            self.link.connects = connects;
            SourceCounters::add(&self.counters.reconnects, 1);
            tracing::info!("connected to NATS again, catching up");
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
                Some(found) = self.found.recv() => self.on_found(found),
                Some(event) = self.events.recv() => self.on_event(&event),
                Some((token, message)) = self.live.next(), if !self.live.is_empty() => {
                    self.on_live(token, &message);
                    for _ in 0..DRAIN {
                        let Some(Some((token, message))) = self.live.next().now_or_never() else { break };
                        self.on_live(token, &message);
                    }
                }
                _ = self.ticker.tick() => self.on_tick(),
            }
        }
    }

    fn attach(&mut self, group: Vec<Attach>) {
        let mut joining = Vec::with_capacity(group.len());
        for attach in group {
            self.next_token += 1;
            let token = self.next_token;
            joining.push((token, self.names.vehicle(&attach.vehicle)));
            let slot = attach.slot;
            self.by_token.insert(token, slot);
            self.by_slot.insert(slot, Attached::new(token, attach, self.schema.signals().len()));
        }
        self.subscribe(joining);
    }

    fn detach(&mut self, slot: Slot) {
        let Some(vehicle) = self.by_slot.remove(&slot) else { return };
        self.by_token.remove(&vehicle.token);
        self.letters.forget(&vehicle.id);
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
        self.disturb(slots.iter().map(|(slot, from)| (*slot, from - margin)));
    }

    fn settle(&mut self, slot: Slot) {
        self.start_settling(slot);
    }

    fn refuse(&mut self, letter: DeadLetter) {
        let now = self.clock.now();
        let kept = self.letters.keep(letter, now);
        let counter = if kept { &self.counters.dead_letters } else { &self.counters.dead_letters_dropped };
        SourceCounters::add(counter, 1);
    }

    fn now(&self) -> Micros {
        self.clock.now()
    }
}

impl Drop for NatsSource {
    fn drop(&mut self) {
        self.sweeper.abort();
    }
}

/// A subscription's stream with its token, and the handle that ends it.
fn live(token: u64, subscriber: async_nats::Subscriber) -> (Abortable<Live>, AbortHandle) {
    let (handle, registration) = AbortHandle::new_pair();
    (Abortable::new(Live { token, subscriber }, registration), handle)
}
