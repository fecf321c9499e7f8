//! Vehicle Discovery: turns `on` signals into bind requests, one per vehicle.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::jetstream::{AckKind, Context, Message};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::clock::{ServerClock, ask};
use super::connect::{NatsOptions, connect};
use super::payloads::{BindRequest, OnPayload, believed};
use super::queue::{Enqueued, enqueue, pause_after};
use super::streams::jetstream;
use super::{Names, Owner, lifecycle, stored_at};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::VehicleId;
use crate::time::{MINUTE, Micros, SECOND, micros};

/// What discovery has done.
#[derive(Debug, Default)]
pub struct DiscoveryCounters {
    /// `on` signals read, repeats included.
    pub on: AtomicU64,
    /// Bind requests made.
    pub enqueued: AtomicU64,
    /// `on` signals of vehicles that wait or are bound already.
    pub already: AtomicU64,
    /// `on` signals of trips that ended so long ago that their samples are gone.
    pub off: AtomicU64,
    /// `on` signals that could not be dealt with when they were read, and are read again.
    pub failed: AtomicU64,
    /// `on` signals that do not parse.
    pub refused: AtomicU64,
    /// `on` signals whose `since` is not believed: more than a week before or a minute after they were
    /// stored. The server's time counts in its place.
    pub since_refused: AtomicU64,
    /// Messages on subjects with fewer or more than four tokens, which no stream keeps.
    pub strays: AtomicU64,
}

/// The state of a cell's bind queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Bindings {
    /// Requests that no worker has taken.
    pub waiting: u64,
    /// Requests that a worker holds.
    pub bound: u64,
    /// Both: the number of active vehicles.
    pub active: u64,
}

/// Reads a cell's `on` signals and enqueues bind requests. Several may run at once; the queue takes
/// each vehicle once.
#[derive(Debug, Clone)]
pub struct Discovery {
    client: Client,
    js: Context,
    names: Names,
    /// How long samples are kept, microseconds.
    max_age: Micros,
    /// Whose the cell must be, if it says whose it is.
    owner: Option<Owner>,
    counters: Arc<DiscoveryCounters>,
    reading: Arc<AtomicBool>,
    enqueuing: Arc<AtomicBool>,
    /// Since when it has been reading without a break, server time.
    reading_since: Arc<AtomicI64>,
    /// Observed whenever the reading begins, and every few seconds.
    clock: ServerClock,
}

/// How often the server's clock is observed.
const OBSERVE: Duration = Duration::from_secs(5);

/// An `on` that was stored so long before it is read may have replaced one that nobody read.
const LATE: Micros = 10 * SECOND;

/// Vehicles repeat their `on` every minute: who has been reading for so long has read the first one.
const REPEATS: Micros = 2 * MINUTE;

/// `on` signals that are dealt with at once.
const AT_ONCE: usize = 256;

/// How long a group of them is waited for at the server.
const EXPIRES: Duration = Duration::from_secs(5);

impl Discovery {
    /// Connects. `max_age` is how long the telemetry stream keeps samples: of a trip that ended longer ago
    /// nothing is left to bind its vehicle for.
    ///
    /// # Errors
    /// As [`connect`].
    pub async fn connect(nats: &NatsOptions, names: &Names, max_age: Duration) -> Result<Self> {
        let client = connect(nats, &names.connection("discovery"), |_| {}).await?;
        Ok(Self {
            js: jetstream(&client),
            client,
            names: names.clone(),
            max_age: micros(max_age),
            owner: None,
            counters: Arc::default(),
            reading: Arc::default(),
            enqueuing: Arc::new(AtomicBool::new(true)),
            reading_since: Arc::default(),
            clock: ServerClock::default(),
        })
    }

    /// The same, which ends with an error where the cell belongs to another deployment.
    #[must_use]
    pub fn belonging_to(self, owner: Owner) -> Self {
        Self { owner: Some(owner), ..self }
    }

    /// What it has done so far.
    pub fn counters(&self) -> Arc<DiscoveryCounters> {
        Arc::clone(&self.counters)
    }

    /// Whether `on` signals are being read, by this value or a clone of it: no server, no consumer or no
    /// permission, and they are not.
    pub fn is_reading(&self) -> bool {
        // A group that was asked for over a connection that is lost since looks like one that is waited for.
        let connected = self.client.connection_state() == State::Connected;
        connected && self.reading.load(Ordering::Relaxed)
    }

    /// Whether the bind queue took, or had already, the last request that it was given.
    pub fn is_enqueuing(&self) -> bool {
        self.enqueuing.load(Ordering::Relaxed)
    }

    /// Runs until `stop` is ready; `beat` is called whenever the loop turns.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) where only a person can help; a server
    /// that is away is waited for.
    pub async fn run(
        &self,
        stop: impl Future<Output = ()> + Send,
        beat: impl Fn() + Send + Sync,
    ) -> Result<()> {
        let mut stop = std::pin::pin!(stop);
        let mut strays = std::pin::pin!(self.watch_strays());
        let mut clock = std::pin::pin!(self.keep_clock());
        loop {
            tokio::select! {
                () = &mut stop => return Ok(()),
                () = &mut clock => {}
                error = &mut strays => return Err(error),
                result = self.read(&beat) => {
                    if let Err(error) = &result && error.kind() == ErrorKind::Configuration {
                        return result;
                    }
                    self.reading.store(false, Ordering::Relaxed);
                    let (cell, error) = (self.names.cell(), result.err());
                    tracing::warn!(%cell, error = error.map(tracing::field::display), "reading the `on` signals broke off, trying again");
                    tokio::select! {
                        () = &mut stop => return Ok(()),
                        () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    }
                }
            }
        }
    }

    /// Says which subjects under `fleet.<cell>.` have the wrong number of tokens: no stream keeps
    /// them and no worker hears them, so that their sender must be told of by somebody. Never ready
    /// but with an error.
    async fn watch_strays(&self) -> Error {
        let cell = self.names.cell();
        let mut strays = futures_util::stream::SelectAll::new();
        for subject in self.names.strays() {
            match self.client.subscribe(subject).await {
                Ok(subscriber) => strays.push(subscriber),
                Err(e) => return Error::unavailable("no subscription to stray subjects").caused_by(e),
            }
        }
        while let Some(message) = strays.next().await {
            DiscoveryCounters::add(&self.counters.strays);
            let subject: String = message.subject.chars().take(120).collect();
            tracing::warn!(%cell, subject, "a subject must have four tokens, fleet.<cell>.<vehicle>.<signal>; this message is kept nowhere");
        }
        Error::unavailable("the subscription to stray subjects ended")
    }

    /// Never ready.
    async fn keep_clock(&self) {
        loop {
            tokio::time::sleep(OBSERVE).await;
            if let Err(error) = self.observe_clock().await {
                tracing::debug!(%error, "the server's clock is not observed");
            }
        }
    }

    async fn observe_clock(&self) -> Result<()> {
        let (stream, consumer) = (self.names.lifecycle_stream(), Names::DISCOVERY);
        let subject = format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}");
        let (observed, _) = ask(&self.client, subject, &format!("consumer {consumer} on {stream}")).await?;
        self.clock.observe(observed);
        Ok(())
    }

    /// Reads for as long as the server gives messages. Pulled a group at a time, and never more than are dealt
    /// with: what is slow or refused for one vehicle neither ends the reading nor stops it.
    async fn read(&self, beat: &(impl Fn() + Send + Sync)) -> Result<()> {
        let mut handled = FuturesUnordered::new();
        let mut ticker = tokio::time::interval(Duration::from_secs(1));
        let mut consumer = self.own_consumer().await?;
        self.observe_clock().await?;
        self.reading.store(true, Ordering::Relaxed);
        self.reading_since.store(self.clock.now(), Ordering::Relaxed);
        loop {
            let batch = consumer.batch().max_messages(AT_ONCE - handled.len()).expires(EXPIRES).messages();
            let mut batch = batch.await.map_err(|e| Error::unavailable("no `on` signals").caused_by(e))?;
            loop {
                tokio::select! {
                    Some(()) = handled.next() => beat(),
                    next = batch.next() => match next {
                        Some(Ok(message)) => handled.push(self.handle(message)),
                        Some(Err(error)) => {
                            return Err(Error::unavailable("reading `on` signals").caused_by(error));
                        }
                        None => break,
                    },
                    _ = ticker.tick() => beat(),
                }
            }
            // Many at a time, or each would be asked for by itself.
            while handled.len() > AT_ONCE / 2 {
                tokio::select! {
                    Some(()) = handled.next() => beat(),
                    _ = ticker.tick() => beat(),
                }
            }
            // A group without an end may be one that nobody gives.
            consumer = self.own_consumer().await?;
        }
    }

    /// The consumer of `on` signals, unless the cell is somebody else's.
    async fn own_consumer(&self) -> Result<PullConsumer> {
        let stream = self.names.lifecycle_stream();
        let consumer = self.consumer(&stream, Names::DISCOVERY).await?;
        if let Some(owner) = &self.owner {
            let what = format!("{} on {stream}", Names::DISCOVERY);
            owner.require(&what, &consumer.cached_info().config.metadata)?;
        }
        Ok(consumer)
    }

    async fn consumer(&self, stream: &str, name: &str) -> Result<PullConsumer> {
        self.js.get_consumer_from_stream::<pull::Config, _, _>(name, stream).await.map_err(|e| {
            Error::unavailable(format!("no consumer {name} on {stream}: run `setup`")).caused_by(e)
        })
    }

    /// One `on`. What can't be dealt with now is delivered again, the later the more often.
    async fn handle(&self, message: Message) {
        DiscoveryCounters::add(&self.counters.on);
        let answer = match self.answer(&message).await {
            Ok(answer) => answer,
            Err(error) => {
                DiscoveryCounters::add(&self.counters.failed);
                let (cell, subject) = (self.names.cell(), &message.subject);
                tracing::warn!(%cell, %subject, %error, "an `on` can't be dealt with now, it is tried again");
                let delivered = message.info().map_or(1, |info| info.delivered);
                AckKind::Nak(Some(pause_after(delivered)))
            }
        };
        if let Err(error) = message.ack_with(answer).await {
            // It is delivered again, and changes nothing then.
            tracing::debug!(%error, subject = %message.subject, "no ack");
        }
    }

    /// Makes a request of an `on`, where there is to be one; how the message is to be answered.
    async fn answer(&self, message: &Message) -> Result<AckKind> {
        let Some(request) = self.request(message) else {
            DiscoveryCounters::add(&self.counters.refused);
            return Ok(AckKind::Term);
        };
        // A trip that ended before we came to read of it is still to be recorded, unless nothing is left of it.
        let gone = self.clock.now().saturating_sub(self.max_age);
        if request.on_time < gone && self.is_over(&request).await? {
            DiscoveryCounters::add(&self.counters.off);
            return Ok(AckKind::Ack);
        }
        let enqueued = enqueue(&self.client, &self.names, &request).await;
        self.enqueuing.store(enqueued.is_ok(), Ordering::Relaxed);
        match enqueued? {
            Enqueued::Yes => {
                DiscoveryCounters::add(&self.counters.enqueued);
                tracing::debug!(cell = %self.names.cell(), vehicle = %request.vehicle, "enqueued");
            }
            Enqueued::Already => DiscoveryCounters::add(&self.counters.already),
        }
        Ok(AckKind::Ack)
    }

    async fn is_over(&self, request: &BindRequest) -> Result<bool> {
        let off = lifecycle::last(&self.js, &self.names, &request.vehicle, "off").await?;
        Ok(off.is_some_and(|off| off.sequence > request.on_sequence))
    }

    fn request(&self, message: &Message) -> Option<BindRequest> {
        let (vehicle, _) = self.names.parse(&message.subject)?;
        let complain = |why: &dyn std::fmt::Display| {
            tracing::warn!(cell = %self.names.cell(), subject = %message.subject, "an `on` was refused: {why}");
        };
        let vehicle = VehicleId::new(vehicle).inspect_err(|e| complain(e)).ok()?;
        let payload = OnPayload::parse(&message.payload).inspect_err(|e| complain(e)).ok()?;
        let info = message.info().inspect_err(|e| complain(e)).ok()?;
        let stored = stored_at(info.published);
        if payload.since.is_some() && believed(payload.since, stored).is_none() {
            DiscoveryCounters::add(&self.counters.since_refused);
        }
        let on_time = begin(stored, payload.since, self.gap(stored), self.max_age);
        Some(BindRequest { vehicle, on_sequence: info.stream_sequence, on_time, since: payload.since })
    }

    /// Whether an earlier `on` of the same trip may have gone unread.
    fn gap(&self, stored: Micros) -> bool {
        let reading_since = self.reading_since.load(Ordering::Relaxed);
        self.clock.now() - stored > LATE || stored - reading_since < REPEATS
    }

    /// How many `on` signals are stored and not dealt with.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable).
    pub async fn unread(&self) -> Result<u64> {
        let mut consumer = self.consumer(&self.names.lifecycle_stream(), Names::DISCOVERY).await?;
        let info = consumer.info().await.map_err(|e| Error::unavailable("the `on` signals").caused_by(e))?;
        Ok(info.num_pending + info.num_ack_pending as u64)
    }

    /// How many vehicles wait and are bound.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable).
    pub async fn bindings(&self) -> Result<Bindings> {
        let mut consumer = self.consumer(&self.names.bind_stream(), Names::WORKERS).await?;
        let info = consumer.info().await.map_err(|e| Error::unavailable("the bind queue").caused_by(e))?;
        let (waiting, bound) = (info.num_pending, info.num_ack_pending as u64);
        Ok(Bindings { waiting, bound, active: waiting + bound })
    }
}

/// From when on there may be samples of a trip whose `on` was stored at `stored`. Only the last `on` is
/// kept: after a gap what the vehicle says of its trip's beginning counts, within the time for which samples
/// are kept. Else it doesn't, for a wrong clock would cost a long sweep.
fn begin(stored: Micros, since: Option<Micros>, gap: bool, max_age: Micros) -> Micros {
    let kept = stored.saturating_sub(max_age);
    believed(since, stored).filter(|since| gap && (kept..stored).contains(since)).unwrap_or(stored)
}

impl DiscoveryCounters {
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trip_begins_when_the_vehicle_says_where_its_first_on_may_be_lost() {
        let begin = |since, gap| begin(1_000, since, gap, 100);
        assert_eq!(begin(Some(910), true), 910, "earlier repeats were not read");
        assert_eq!(begin(Some(910), false), 1_000, "they were, and it has been released since");
        assert_eq!(begin(None, true), 1_000);
        assert_eq!(begin(Some(899), true), 1_000, "a clock that is behind, or all is gone");
        assert_eq!(begin(Some(1_001), true), 1_000, "a clock that is ahead");
    }
}
