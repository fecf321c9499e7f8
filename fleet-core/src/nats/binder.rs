//! The binder on NATS: bind requests from one pull consumer, un-acknowledged while a vehicle is held.

mod claiming;
mod claims;
mod held;
mod parts;
mod pull;
mod queue;
mod refusals;
mod release;
mod requests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::Context;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use self::held::Held;
pub use self::pull::Pulls;
pub use self::queue::QueueHealth;
pub use self::refusals::BinderCounters;
use self::release::Command;
use super::clock::ServerClock;
use super::consumers::consumer;
use super::streams::jetstream;
use super::{Gets, Names, NatsOptions, Owner, connect};
use crate::bind::{BindEvent, Binder, StateStore, VehicleState};
use crate::error::{Error, Result};
use crate::ids::VehicleId;
use crate::time::Micros;

/// Choices of a binder.
#[derive(Debug, Clone)]
pub struct BinderOptions {
    /// Vehicles that this worker holds at most.
    pub max_vehicles: usize,
    /// [`Lane::context`](crate::lane::Lane::context): a clean release younger than this counts as none.
    pub context: Micros,
    /// Whose the cell must be, if it says whose it is.
    pub owner: Option<Owner>,
}

impl BinderOptions {
    /// 10,000 vehicles of anybody's.
    pub fn new(context: Micros) -> Self {
        Self { max_vehicles: 10_000, context, owner: None }
    }
}

/// How long a shutdown waits for what was saved and released before it: an older state is always safe, and
/// the requests must go back while there is time.
const LAST_CHANGES: Duration = Duration::from_millis(1_500);

/// What all parts of a binder share.
struct Shared<S> {
    names: Names,
    options: BinderOptions,
    client: Client,
    js: Context,
    gets: Gets,
    store: Arc<S>,
    clock: ServerClock,
    held: Held,
    /// How many more the caller can take.
    free: AtomicUsize,
    events: mpsc::UnboundedSender<Result<BindEvent>>,
    queue: Arc<QueueHealth>,
    counters: Arc<BinderCounters>,
    /// On the way out nothing is tried again.
    leaving: AtomicBool,
}

impl<S> Shared<S> {
    fn tell(&self, event: BindEvent) {
        // The receiver is gone only when the binder is.
        let _ = self.events.send(Ok(event));
    }
}

/// [`Binder`] on NATS, with the states in `S`.
pub struct NatsBinder<S> {
    shared: Arc<Shared<S>>,
    events: mpsc::UnboundedReceiver<Result<BindEvent>>,
    commands: mpsc::UnboundedSender<Command>,
    pulls: Pulls,
    puller: AbortHandle,
    tasks: JoinSet<()>,
}

impl<S> std::fmt::Debug for NatsBinder<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsBinder").field("held", &self.shared.held.len()).finish_non_exhaustive()
    }
}

impl<S: StateStore> NatsBinder<S> {
    /// Connects and begins to take bind requests as soon as [`Binder::next`] says that there is room.
    /// `clock` is the source's.
    ///
    /// # Errors
    /// As [`connect`]; [`Unavailable`](crate::ErrorKind::Unavailable) where there is no consumer yet,
    /// [`Configuration`](crate::ErrorKind::Configuration) where the cell is another deployment's.
    pub async fn connect(
        nats: &NatsOptions,
        names: &Names,
        store: Arc<S>,
        clock: ServerClock,
        options: BinderOptions,
    ) -> Result<Self> {
        let client = connect(nats, &names.connection("binder"), |_| {}).await?;
        let gets = Gets::connect(nats, &names.connection("binder")).await?;
        let js = jetstream(&client);
        let consumer = consumer(&js, &names.bind_stream(), Names::WORKERS).await?;
        let config = &consumer.cached_info().config;
        if let Some(owner) = &options.owner {
            owner.require(&format!("{} on {}", Names::WORKERS, names.bind_stream()), &config.metadata)?;
        }
        // The consumer's is the one that counts, whatever a configuration says.
        let ack_wait = config.ack_wait;
        let (event_sender, events) = mpsc::unbounded_channel();
        let (commands, received) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            names: names.clone(),
            held: Held::new(ack_wait),
            options,
            js,
            client,
            gets,
            store,
            clock,
            free: AtomicUsize::new(0),
            events: event_sender,
            queue: Arc::default(),
            counters: Arc::default(),
            leaving: AtomicBool::new(false),
        });
        let claims = shared
            .client
            .subscribe(names.claim())
            .await
            .map_err(|e| Error::unavailable("no subscription to claims").caused_by(e))?;
        let mut tasks = JoinSet::new();
        tasks.spawn(held::hold(Arc::clone(&shared)));
        tasks.spawn(queue::watch(Arc::clone(&shared)));
        tasks.spawn(claims::listen(Arc::clone(&shared), claims));
        tasks.spawn(release::work(Arc::clone(&shared), received));
        let (pulls, puller) = Pulls::begin(Arc::clone(&shared));
        Ok(Self { shared, events, commands, pulls, puller, tasks })
    }

    /// Whether the bind queue gives answers: without its consumer or the server it does not.
    pub fn queue(&self) -> Arc<QueueHealth> {
        Arc::clone(&self.shared.queue)
    }

    /// Its pulling of bind requests.
    pub fn pulls(&self) -> Pulls {
        self.pulls.clone()
    }

    /// What it could not do so far, and whether that goes on.
    pub fn counters(&self) -> Arc<BinderCounters> {
        Arc::clone(&self.shared.counters)
    }

    fn command(&self, command: Command) {
        // The receiver is gone only when the binder is.
        let _ = self.commands.send(command);
    }
}

impl<S: StateStore> Binder for NatsBinder<S> {
    async fn next(&mut self, free: usize) -> Result<BindEvent> {
        self.shared.free.store(free, Ordering::Relaxed);
        match self.events.recv().await {
            Some(event) => event,
            None => Err(Error::internal("the binder's tasks ended")),
        }
    }

    fn save(&mut self, ticket: u64, states: Vec<VehicleState>) {
        self.command(Command::Save { ticket, states });
    }

    fn release(&mut self, state: VehicleState, ended_at: Micros) {
        self.command(Command::Release { state: Box::new(state), ended_at });
    }

    fn next_trip(&mut self, vehicle: VehicleId, ended_at: Micros, started_at: Micros) {
        self.command(Command::NextTrip { vehicle, ended_at, started_at });
    }

    fn holds(&self) -> bool {
        self.shared.held.holds()
    }

    /// The consumer's `ack_wait`.
    fn lease(&self) -> Duration {
        self.shared.held.ack_wait()
    }

    fn hand_over(&mut self, ticket: u64, states: Vec<VehicleState>) {
        self.command(Command::HandOver { ticket, states, pulls: self.pulls() });
    }

    async fn shut_down(&mut self) -> Result<()> {
        self.pulls.end().await;
        // What is saved and released so far comes first, unless the store is away.
        self.shared.leaving.store(true, Ordering::Relaxed);
        let (sender, done) = oneshot::channel();
        self.command(Command::Flush(sender));
        if tokio::time::timeout(LAST_CHANGES, done).await.is_err() {
            tracing::warn!(
                "the last states are not saved; the vehicles' next holder repeats what is missing"
            );
        }
        let given_back = self.shared.give_all_back().await;
        self.tasks.abort_all();
        given_back
    }
}

impl<S> Drop for NatsBinder<S> {
    fn drop(&mut self) {
        self.puller.abort();
    }
}
