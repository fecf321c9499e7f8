//! The source on NATS: a core subscription per vehicle, and the stream to catch up.

mod attachments;
mod catch_ups;
mod draining;
mod feed;
mod link;
mod live;
mod looks;
mod ready;
mod settle;
mod sweep;
mod tasks;
mod ticks;
mod vehicle;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::Context;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::attachments::{Attachments, Ticket};
use self::catch_ups::CatchUps;
pub use self::catch_ups::CatchingUp;
use self::feed::Passed;
use self::link::Link;
use self::live::Live;
use self::looks::{Expected, Looks};
use self::ready::Ready;
use self::sweep::{Found, Sweeper, Wanted};
use self::tasks::{Rounds, TaskDone};
pub use self::ticks::Ticks;
use self::vehicle::Attached;
use super::clock::ServerClock;
use super::dead_letters::{DeadLetters, LetterCounters};
use super::reader::{Reader, ReaderOptions};
use super::storing::{self, Storing};
use super::streams::jetstream;
use super::watch::{Owed, Watch};
use super::{Gets, Names, NatsOptions, connect};
use crate::error::{Error, Result};
use crate::ids::Slot;
use crate::message::{DeadLetter, Message, SharedRefusals};
use crate::schema::Schema;
use crate::source::{Attach, Drained, Source, SourceEvent};
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
    /// Gathers the wake-ups of the thread that the source runs on; by itself it gathers nothing.
    pub ticks: Ticks,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            margin: Duration::from_secs(5),
            round_interval: Duration::from_secs(5),
            buffer: 256,
            audit_interval: None,
            ticks: Ticks::default(),
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
    /// Live messages that found a vehicle's buffer full while it was caught up, and are read from the stream.
    pub overflowed: AtomicU64,
    /// How often the telemetry stream was made anew, or lost its end, under this source.
    pub stream_losses: AtomicU64,
    /// Stored messages that can't be read and were passed over.
    pub unreadable: AtomicU64,
    /// The vehicles that are being caught up.
    pub catching_up: Arc<CatchingUp>,
    /// Vehicles whose live messages are taken as they come: attached, not being caught up, and connected.
    pub followed: AtomicU64,
    /// Messages that were refused before the lane had them, or that it can't have.
    pub refused: SharedRefusals,
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
    side: Context,
    /// On a connection of its own: the server answers direct gets inside the connection's read loop.
    gets: Gets,
    live: Live,
    /// Vehicles whose subscriptions found no room.
    unsubscribed: Vec<Ticket>,
    vehicles: Attachments,
    catch_ups: CatchUps,
    tasks: JoinSet<TaskDone>,
    looks: Looks,
    /// By the number of [`Rounds`].
    rounds: [mpsc::UnboundedSender<Vec<Wanted>>; Rounds::EACH.len()],
    found: mpsc::Receiver<(Rounds, Found)>,
    watch: Arc<Watch>,
    ready: Ready,
    letters: DeadLetters,
    link: Link,
    /// Nothing is read any more, see [`Source::drain`].
    drained: bool,
    ticker: tokio::time::Interval,
    /// The sweepers, the watch, and who asks whether messages are stored.
    behind: Vec<tokio::task::AbortHandle>,
}

impl std::fmt::Debug for NatsSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsSource").field("cell", self.names.cell()).finish_non_exhaustive()
    }
}

impl NatsSource {
    /// Connects three times: for live messages, for what is read from the streams, and for single messages of them;
    /// and asks the server for its time.
    ///
    /// # Errors
    /// As [`connect`]; [`Unavailable`](crate::ErrorKind::Unavailable) where there is no telemetry stream yet.
    pub async fn connect(
        nats: &NatsOptions,
        names: &Names,
        schema: &Schema,
        options: SourceOptions,
    ) -> Result<Self> {
        let side_client = connect(nats, &names.connection("catch-up"), |_| {}).await?;
        let side = jetstream(&side_client);
        let (letters, storing) =
            (DeadLetters::new(side.clone(), names.clone()), Arc::new(Storing::default()));
        let counters = Arc::new(SourceCounters {
            dead_letters: letters.counters(),
            storing: Arc::clone(&storing),
            ..SourceCounters::default()
        });
        let mut live = ReaderOptions::new(nats.clone(), names.connection("live"));
        // Those of vehicles are of no use, and may be anything.
        live.headers = false;
        let live = Live::new(Reader::connect(live).await?);
        let gets = Gets::connect(nats, &names.connection("catch-up")).await?;
        let watch = Arc::new(Watch::begin(side_client, names, Arc::clone(&counters)).await?);
        let (found_sender, found) = mpsc::channel(FOUND);
        let mut behind = Vec::new();
        let rounds = Rounds::EACH.map(|rounds| {
            let (wanted, requests) = mpsc::unbounded_channel();
            let round_interval = match rounds {
                Rounds::All | Rounds::Alone => options.round_interval,
                Rounds::HandedOver => options.round_interval.min(HANDED_OVER),
            };
            let sweeper = Sweeper {
                connection: ReaderOptions::new(nats.clone(), names.connection("catch-up")),
                names: names.clone(),
                schema: schema.clone(),
                watch: Arc::clone(&watch),
                rounds,
                counters: Arc::clone(&counters),
                round_interval,
                requests,
                found: found_sender.clone(),
            };
            behind.push(tokio::spawn(sweeper.run()).abort_handle());
            wanted
        });
        behind.push(tokio::spawn(Arc::clone(&watch).keep()).abort_handle());
        behind.push(tokio::spawn(storing::watch(side.clone(), names.clone(), storing)).abort_handle());
        let clock = watch.clock.clone();
        let now = clock.now();
        Ok(Self {
            names: names.clone(),
            schema: schema.clone(),
            options,
            letters,
            side,
            gets,
            live,
            unsubscribed: Vec::new(),
            vehicles: Attachments::default(),
            catch_ups: CatchUps::new(Arc::clone(&counters.catching_up)),
            tasks: JoinSet::new(),
            looks: Looks::default(),
            rounds,
            found,
            watch,
            ready: Ready::default(),
            link: Link::new(now),
            drained: false,
            ticker: tokio::time::interval(Duration::from_millis(250)),
            behind,
            clock,
            counters,
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

    fn on_found(&mut self, rounds: Rounds, found: Found) {
        match found {
            Found::Messages(messages) => {
                SourceCounters::add(&self.counters.caught_up, messages.len() as u64);
                for (ticket, topic, payload, arrival) in messages {
                    let Some(vehicle) = self.vehicles.get_mut(ticket) else { continue };
                    let message = Message { slot: ticket.slot, topic, payload, arrival, live: false };
                    vehicle.saw(&message);
                    self.ready.push(ticket, SourceEvent::Message(message));
                }
            }
            Found::Done(tickets) => self.on_passed(&tickets),
            Found::Unfenced(wanted) => self.fence_for(rounds, wanted),
            Found::Gaps { tickets, found } => self.on_gaps(&tickets, found),
            Found::Unreadable(letter) => {
                self.counters.refused.add(letter.refusal);
                self.refuse(letter);
            }
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
                self.ready.push(ticket, SourceEvent::Gap { slot, wanted, found });
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
                    self.catch_ups.end(ticket, &mut vehicle.behind_since);
                    messages.iter().for_each(|message| vehicle.saw(message));
                    waited.extend(messages.into_iter().map(|message| (ticket, message)));
                    live.push(ticket);
                }
                Passed::Again(from) => {
                    self.catch_ups.begin(ticket, &mut vehicle.behind_since);
                    again.push((ticket, from, Owed::Perhaps(from.max(vehicle.on_time))));
                }
            }
        }
        self.fence_for(Rounds::Alone, again);
        if live.is_empty() {
            return;
        }
        // Before what waited: that is live already, its frames' counters go on in what comes next.
        self.ready.caught_up(live.clone());
        for (ticket, message) in waited {
            self.ready.push(ticket, SourceEvent::Message(message));
        }
        for ticket in &live {
            self.finish_settling(ticket.slot);
        }
        // An `off` that was sent while nobody listened is found here.
        self.check_lifecycle(live.into_iter().map(|ticket| ticket.slot), Expected::Either);
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
                    self.catch_ups.begin(ticket, &mut vehicle.behind_since);
                    let owed = Owed::Perhaps(from.saturating_add(margin).max(vehicle.on_time));
                    fresh.push((ticket, from, owed));
                }
            }
        }
        self.fence_for(rounds, fresh);
    }

    /// Nobody waits for the end of a catch-up of whatever is attached there.
    fn forget_catch_up(&mut self, slot: Slot) {
        if let Some((ticket, vehicle)) = self.vehicles.at(slot) {
            self.catch_ups.end(ticket, &mut vehicle.behind_since);
        }
    }

    /// For what befell single vehicles, perhaps by their own doing.
    fn disturb_alone(&mut self, slots: impl IntoIterator<Item = (Slot, Micros)>) {
        self.disturb(Rounds::Alone, slots);
    }

    /// Subscribes for vehicles, and catches them up from there.
    fn subscribe(&mut self, tickets: Vec<Ticket>) {
        let (mut wanted, mut handed_over) = (Vec::with_capacity(tickets.len()), Vec::new());
        let now = self.clock.now();
        for ticket in tickets {
            let Some(vehicle) = self.vehicles.get_mut(ticket) else { continue };
            match self.live.join(ticket, &self.names.vehicle(&vehicle.id)) {
                Ok(subscription) => {
                    vehicle.subscription = Some(subscription);
                    let is_handed_over = vehicle.rounds(now) == Rounds::HandedOver;
                    let wanted = if is_handed_over { &mut handed_over } else { &mut wanted };
                    wanted.push((ticket, vehicle.begin, vehicle.owed));
                }
                Err(error) => {
                    tracing::warn!(vehicle = %vehicle.id, %error, "no subscription yet");
                    self.unsubscribed.push(ticket);
                }
            }
        }
        self.fence_for(Rounds::All, wanted);
        self.fence_for(Rounds::HandedOver, handed_over);
    }

    fn on_tick(&mut self) {
        self.start_later_looks();
        let unsubscribed = std::mem::take(&mut self.unsubscribed);
        self.subscribe(unsubscribed);
        self.audit();
        let live = self.vehicles.count().saturating_sub(self.catch_ups.count());
        let followed = if self.link.is_down() { 0 } else { live };
        self.counters.followed.store(followed as u64, Ordering::Relaxed);
    }

    fn disturb_all(&mut self, from: Micros) {
        let all: Vec<_> = self.vehicles.slots().map(|slot| (slot, from)).collect();
        self.disturb(Rounds::All, all);
    }
}

impl SourceCounters {
    fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

/// Rounds of vehicles that were handed over start at most this often.
const HANDED_OVER: Duration = Duration::from_millis(500);

/// Pieces of what sweeps find that wait.
const FOUND: usize = 8;

impl Source for NatsSource {
    async fn next(&mut self) -> Result<SourceEvent> {
        loop {
            if let Some(event) = self.ready.next(&self.vehicles) {
                return Ok(event);
            }
            if self.drained {
                return std::future::pending().await;
            }
            tokio::select! {
                Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    let done = done.map_err(|e| Error::internal("a task of the source ended").caused_by(e))?;
                    self.on_task(done);
                }
                Some((rounds, found)) = self.found.recv() => self.on_found(rounds, found),
                () = self.live.readable() => self.on_readable()?,
                _ = self.ticker.tick() => self.on_tick(),
            }
        }
    }

    fn attach(&mut self, group: Vec<Attach>) {
        let signals = self.schema.signals().len();
        let mut attached = Vec::with_capacity(group.len());
        // What was taken is looked through in the next audit, which comes not much sooner by that.
        let audited = self.audit_interval().map(|every| self.clock.now() - micros(every) / 2);
        for attach in group {
            let slot = attach.slot;
            if let (Some(_), Some(audited)) = (attach.taken, audited) {
                self.link.owe(attach.from.max(audited));
            }
            self.forget_catch_up(slot);
            let ticket = self.vehicles.attach(slot, Attached::new(attach, signals));
            if let Some(vehicle) = self.vehicles.get_mut(ticket) {
                self.catch_ups.begin(ticket, &mut vehicle.behind_since);
            }
            attached.push(ticket);
        }
        self.subscribe(attached);
    }

    fn detach(&mut self, slot: Slot) {
        self.forget_catch_up(slot);
        let Some(vehicle) = self.vehicles.detach(slot) else { return };
        if let Some(subscription) = vehicle.subscription {
            self.live.leave(subscription);
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

    async fn drain(&mut self) -> Option<Drained> {
        self.take_all().await
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
