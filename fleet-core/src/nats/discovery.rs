//! Vehicle Discovery: turns `on` signals into bind requests, one per vehicle.

mod checkpoint;
mod reading;
mod signal;
mod strays;
mod waiting;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::PullConsumer;
use tokio::sync::OnceCell;

use self::checkpoint::{Checkpoint, Progress, Stored};
use self::reading::Reading;
use self::strays::watch_strays;
use self::waiting::Waiting;
use super::clock::{ServerClock, ask};
use super::connect::{NatsOptions, connect};
use super::consumers::consumer;
use super::streams::jetstream;
use super::{Gets, Names, Owner};
use crate::error::{Error, Result};
use crate::time::{Micros, micros};

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
    /// Bind requests that no worker had taken when the queue was last asked, which is every 5 s.
    pub waiting: AtomicU64,
    /// And those that workers held.
    pub bound: AtomicU64,
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
    nats: NatsOptions,
    client: Client,
    js: Context,
    names: Names,
    /// Made when it is needed for the first time.
    gets: Arc<OnceCell<Gets>>,
    /// How long samples are kept, microseconds.
    max_age: Micros,
    /// Whose the cell must be, if it says whose it is.
    owner: Option<Owner>,
    counters: Arc<DiscoveryCounters>,
    reading: Arc<AtomicBool>,
    enqueuing: Arc<AtomicBool>,
    checkpoint: Arc<Checkpoint>,
    /// Since when it has been reading without a break, server time.
    reading_since: Arc<AtomicI64>,
    /// Observed whenever the reading begins, and every few seconds.
    clock: ServerClock,
}

/// How often the server is asked for its clock, and how far its consumer is.
const OBSERVE: Duration = Duration::from_secs(5);

impl Discovery {
    /// Connects. `max_age` is how long the telemetry stream keeps samples: of a trip that ended longer ago
    /// nothing is left to bind its vehicle for.
    ///
    /// # Errors
    /// As [`connect`].
    pub async fn connect(nats: &NatsOptions, names: &Names, max_age: Duration) -> Result<Self> {
        let client = connect(nats, &names.connection("discovery"), |_| {}).await?;
        Ok(Self {
            nats: nats.clone(),
            js: jetstream(&client),
            client,
            names: names.clone(),
            gets: Arc::default(),
            max_age: micros(max_age),
            owner: None,
            counters: Arc::default(),
            reading: Arc::default(),
            enqueuing: Arc::new(AtomicBool::new(true)),
            checkpoint: Arc::default(),
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
        // `on` signals come on another connection than the answers of JetStream's API.
        let connected = self.client.connection_state() == State::Connected;
        connected && self.reading.load(Ordering::Relaxed)
    }

    /// Whether the bind queue took, or had already, the last request that it was given.
    pub fn is_enqueuing(&self) -> bool {
        self.enqueuing.load(Ordering::Relaxed)
    }

    /// Runs until `stop` is ready, and then for as long as it takes to deal with the `on` signals that have been
    /// sent to it, a few seconds at most; `beat` is called whenever the loop turns.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) where only a person can help; a server
    /// that is away is waited for.
    pub async fn run(
        &self,
        stop: impl Future<Output = ()> + Send,
        beat: impl Fn() + Send + Sync,
    ) -> Result<()> {
        let stop = std::pin::pin!(stop);
        let mut strays = std::pin::pin!(watch_strays(&self.nats, &self.names, &self.counters));
        let mut progress = std::pin::pin!(self.keep_progress());
        let mut reading = std::pin::pin!(Reading::run(self, &beat, stop));
        tokio::select! {
            ended = &mut reading => ended,
            () = &mut strays => Ok(()),
            () = &mut progress => Ok(()),
        }
    }

    /// Keeps the clock and the queue's length, and stores up to when everything has been dealt with. Never ready.
    async fn keep_progress(&self) {
        let (mut stored, mut said, mut waiting) = (None, false, Waiting::default());
        loop {
            tokio::time::sleep(OBSERVE).await;
            if let Ok(Ok(bindings)) = tokio::time::timeout(OBSERVE, self.bindings()).await {
                self.counters.waiting.store(bindings.waiting, Ordering::Relaxed);
                self.counters.bound.store(bindings.bound, Ordering::Relaxed);
                waiting.saw(self.names.cell(), bindings);
            }
            let progress = match self.look().await {
                Ok(progress) => progress,
                Err(error) => {
                    tracing::debug!(%error, "the server's clock is not observed");
                    continue;
                }
            };
            let checkpoint = self.checkpoint.observe(&progress);
            if checkpoint == stored {
                continue;
            }
            match self.store(checkpoint).await {
                Ok(()) => (stored, said) = (checkpoint, false),
                Err(error) if std::mem::replace(&mut said, true) => tracing::debug!(%error, "no checkpoint"),
                Err(error) => tracing::warn!(
                    cell = %self.names.cell(), %error,
                    "how far the `on` signals are read can't be stored: run `setup`, and may this login publish it? \
                     Without it, trips that begin and end while no discovery runs may be lost"
                ),
            }
        }
    }

    async fn store(&self, checkpoint: Option<Stored>) -> Result<()> {
        let failed = || Error::unavailable(format!("nothing keeps {}", self.names.checkpoint()));
        let payload = serde_json::to_vec(&checkpoint).map_err(|e| failed().caused_by(e))?;
        let storing = async { self.js.publish(self.names.checkpoint(), payload.into()).await?.await };
        match tokio::time::timeout(OBSERVE, storing).await {
            Ok(stored) => stored.map(drop).map_err(|e| failed().caused_by(e)),
            Err(_) => Err(failed()),
        }
    }

    /// What was stored of it last, by any discovery of the cell.
    async fn stored(&self) -> Result<Option<Stored>> {
        let found =
            self.gets().await?.last(&self.names.lifecycle_stream(), vec![self.names.checkpoint()]).await?;
        let message = found.into_iter().next().flatten();
        Ok(message.and_then(|message| serde_json::from_slice(&message.payload).ok()))
    }

    async fn gets(&self) -> Result<&Gets> {
        let name = self.names.connection("discovery");
        self.gets.get_or_try_init(|| Gets::connect(&self.nats, &name)).await
    }

    /// Asks the server how far its consumer is, and takes note of its clock.
    async fn look(&self) -> Result<Progress> {
        let (stream, consumer) = (self.names.lifecycle_stream(), Names::DISCOVERY);
        let subject = format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}");
        let what = format!("consumer {consumer} on {stream}");
        let (observed, answer) = ask(&self.client, subject, &what).await?;
        self.clock.observe(observed);
        Progress::parse(observed.stamp, &answer)
            .ok_or_else(|| Error::unavailable(format!("the {what} is told oddly")))
    }

    /// Whether there is a consumer of `on` signals, and the cell is not somebody else's.
    async fn require_own_consumer(&self) -> Result<()> {
        let stream = self.names.lifecycle_stream();
        let consumer = self.consumer(&stream, Names::DISCOVERY).await?;
        if let Some(owner) = &self.owner {
            let what = format!("{} on {stream}", Names::DISCOVERY);
            owner.require(&what, &consumer.cached_info().config.metadata)?;
        }
        Ok(())
    }

    async fn consumer(&self, stream: &str, name: &str) -> Result<PullConsumer> {
        consumer(&self.js, stream, name).await
    }

    /// How many `on` signals are stored and not dealt with.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable).
    pub async fn unread(&self) -> Result<u64> {
        let consumer = self.consumer(&self.names.lifecycle_stream(), Names::DISCOVERY).await?;
        let info = consumer.cached_info();
        Ok(info.num_pending + info.num_ack_pending as u64)
    }

    /// How many vehicles wait and are bound.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable).
    pub async fn bindings(&self) -> Result<Bindings> {
        let consumer = self.consumer(&self.names.bind_stream(), Names::WORKERS).await?;
        let info = consumer.cached_info();
        let (waiting, bound) = (info.num_pending, info.num_ack_pending as u64);
        Ok(Bindings { waiting, bound, active: waiting + bound })
    }
}

impl DiscoveryCounters {
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
