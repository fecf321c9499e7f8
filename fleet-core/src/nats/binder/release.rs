//! Saves and releases, in the order in which they were commanded, many at a time.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::message::Acker;
use futures_util::{StreamExt, stream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::Shared;
use crate::bind::{BindEvent, StateStore, VehicleState};
use crate::error::{ErrorKind, Result};
use crate::ids::VehicleId;
use crate::nats::lifecycle::{self, Lifecycle, Signal};
use crate::nats::payloads::BindRequest;
use crate::nats::queue::enqueue;
use crate::time::Micros;

/// What the caller wants of the store and the queue.
pub(super) enum Command {
    Save {
        ticket: u64,
        states: Vec<VehicleState>,
    },
    Release {
        state: VehicleState,
        ended_at: Micros,
    },
    NextTrip {
        vehicle: VehicleId,
        ended_at: Micros,
        started_at: Micros,
    },
    /// Answered when everything before it is done.
    Flush(oneshot::Sender<()>),
}

/// Direct gets and acks that are under way at once.
const AT_ONCE: usize = 64;

/// Commands that are taken together.
const GROUP: usize = 1024;

pub(super) async fn work<S: StateStore>(
    shared: Arc<Shared<S>>,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let mut group = Vec::with_capacity(GROUP);
    while commands.recv_many(&mut group, GROUP).await > 0 {
        let mut releases = Vec::new();
        for command in group.drain(..) {
            match command {
                Command::Save { ticket, states } => {
                    release(&shared, std::mem::take(&mut releases)).await;
                    if persist(&shared, Change::States(states)).await.is_some() {
                        shared.tell(BindEvent::Saved(ticket));
                    }
                }
                Command::Release { state, ended_at } => releases.push((state, ended_at)),
                Command::NextTrip { vehicle, ended_at, started_at } => {
                    persist(&shared, Change::Trip { vehicle, ended_at, started_at }).await;
                }
                Command::Flush(done) => {
                    release(&shared, std::mem::take(&mut releases)).await;
                    let _ = done.send(());
                }
            }
        }
        release(&shared, releases).await;
    }
}

/// A change of the store.
enum Change {
    States(Vec<VehicleState>),
    Releases(Vec<VehicleState>, Vec<(VehicleId, Micros)>),
    Trip { vehicle: VehicleId, ended_at: Micros, started_at: Micros },
}

impl Change {
    fn states(&self) -> &[VehicleState] {
        match self {
            Self::States(states) | Self::Releases(states, _) => states,
            Self::Trip { .. } => &[],
        }
    }

    /// Makes the change; which vehicles somebody else has claimed.
    async fn apply(&self, store: &impl StateStore) -> Result<Vec<VehicleId>> {
        match self {
            Self::States(states) => store.save(states).await,
            Self::Releases(states, ends) => {
                let superseded = store.save(states).await?;
                let ends = ends.iter().filter(|(vehicle, _)| !superseded.contains(vehicle));
                store.end_trips(&ends.cloned().collect::<Vec<_>>()).await?;
                Ok(superseded)
            }
            Self::Trip { vehicle, ended_at, started_at } => {
                store.end_trips(&[(vehicle.clone(), *ended_at)]).await?;
                store.begin_trip(vehicle, *started_at, *ended_at).await?;
                Ok(Vec::new())
            }
        }
    }
}

/// Repeats a change until it is made, unless we lose everything meanwhile: then it must not be made
/// any more, and there is no answer. Otherwise says which vehicles somebody else has claimed; they are
/// dropped.
async fn persist<S: StateStore>(shared: &Shared<S>, change: Change) -> Option<Vec<VehicleId>> {
    while shared.held.holds() {
        match change.apply(&*shared.store).await {
            Ok(superseded) => {
                shared.lose(change.states(), &superseded);
                return Some(superseded);
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                tracing::warn!(cell = %shared.names.cell(), %error, "states are not saved yet");
                sleep(Duration::from_millis(500)).await;
            }
            Err(error) => {
                let _ = shared.events.send(Err(error));
                return None;
            }
        }
    }
    None
}

/// Gives vehicles back whose rows are durable.
async fn release<S: StateStore>(shared: &Shared<S>, releases: Vec<(VehicleState, Micros)>) {
    if releases.is_empty() {
        return;
    }
    let mut going = Vec::with_capacity(releases.len());
    // An `on` before the ack keeps the binding for a new trip.
    let looks: Vec<_> = releases.into_iter().map(|(state, ended_at)| look(shared, state, ended_at)).collect();
    let mut looks = stream::iter(looks).buffer_unordered(AT_ONCE);
    while let Some((state, ended_at, on)) = looks.next().await {
        match on {
            Some(on) => {
                let vehicle = state.vehicle.clone();
                let started_at = on.started_at(&vehicle);
                persist(shared, Change::Trip { vehicle, ended_at, started_at }).await;
                shared.tell(BindEvent::Kept(state.vehicle));
            }
            None => going.push((state, ended_at)),
        }
    }
    drop(looks);
    let states: Vec<VehicleState> = going.iter().map(|(state, _)| state.clone()).collect();
    let ends: Vec<_> = going.iter().map(|(state, ended_at)| (state.vehicle.clone(), *ended_at)).collect();
    let Some(superseded) = persist(shared, Change::Releases(states, ends)).await else { return };
    // Their rows were passed over: an ack would lose them.
    going.retain(|(state, _)| !superseded.contains(&state.vehicle));
    let acks: Vec<_> = going.into_iter().map(|(state, ended_at)| finish(shared, state, ended_at)).collect();
    let mut acks = stream::iter(acks).buffer_unordered(AT_ONCE);
    while let Some(vehicle) = acks.next().await {
        // One that has come again, because its ack was lost, gets another binding in place of this one.
        let requests = shared.held.requests();
        if !requests.contains_key(&vehicle) {
            shared.tell(BindEvent::Released(vehicle));
        }
    }
}

async fn look<S: StateStore>(
    shared: &Shared<S>,
    state: VehicleState,
    ended_at: Micros,
) -> (VehicleState, Micros, Option<Signal>) {
    let life = read_lifecycle(shared, &state.vehicle).await;
    (state, ended_at, life.on_still().filter(|on| on.stored > ended_at))
}

/// The confirmed ack, then one more look: an `on` that came too late to keep the binding enqueues the
/// vehicle again, even if an `off` came after it.
async fn finish<S: StateStore>(shared: &Shared<S>, state: VehicleState, ended_at: Micros) -> VehicleId {
    let VehicleState { vehicle, epoch, .. } = state;
    let request = shared.held.give(&vehicle, epoch);
    let Some(request) = request else { return vehicle };
    let acker = Acker::new(shared.js.clone(), Some(request.reply));
    for _ in 0..5 {
        // A plain ack was unknown to the server in 15 of 300 tries.
        match acker.double_ack().await {
            Ok(()) => break,
            Err(error) => {
                tracing::debug!(%error, %vehicle, "the ack is not confirmed yet");
                sleep(Duration::from_millis(250)).await;
            }
        }
    }
    if let Some(on) = read_lifecycle(shared, &vehicle).await.on_after(ended_at) {
        let request = BindRequest {
            vehicle: vehicle.clone(),
            on_sequence: on.sequence,
            on_time: on.stored,
            since: on.since,
        };
        while let Err(error) = enqueue(&shared.client, &shared.names, &request).await {
            tracing::warn!(%error, %vehicle, "not enqueued again yet");
            sleep(Duration::from_millis(500)).await;
        }
    }
    vehicle
}

/// What is stored of the vehicle, however long that takes.
async fn read_lifecycle<S: StateStore>(shared: &Shared<S>, vehicle: &VehicleId) -> Lifecycle {
    loop {
        match lifecycle::read(&shared.js, &shared.names, vehicle).await {
            Ok(life) => return life,
            Err(error) => tracing::debug!(%error, %vehicle, "lifecycle not read yet"),
        }
        sleep(Duration::from_millis(250)).await;
    }
}
