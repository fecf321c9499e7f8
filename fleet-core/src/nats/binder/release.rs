//! Saves and releases, in the order in which they were commanded, many at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::message::Acker;
use futures_util::{StreamExt, stream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::Shared;
use super::parts::Parts;
use super::pull::Pulls;
use super::refusals::{Asked, BinderCounters};
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
        state: Box<VehicleState>,
        ended_at: Micros,
    },
    NextTrip {
        vehicle: VehicleId,
        ended_at: Micros,
        started_at: Micros,
    },
    /// Save, and give the vehicles back to the queue.
    HandOver {
        ticket: u64,
        states: Vec<VehicleState>,
        pulls: Pulls,
    },
    /// Answered when everything before it is done.
    Flush(oneshot::Sender<()>),
}

/// Direct gets and acks that are under way at once.
const AT_ONCE: usize = 64;

/// How often a vehicle that is on again is put into the queue.
const ENQUEUE: usize = 10;

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
                    let changes = states.into_iter().map(Change::State).collect();
                    if persist(&shared, changes).await.is_some() {
                        shared.tell(BindEvent::Saved(ticket));
                    }
                }
                Command::HandOver { ticket, states, pulls } => {
                    release(&shared, std::mem::take(&mut releases)).await;
                    pulls.end().await;
                    if hand_over(&shared, states).await {
                        shared.tell(BindEvent::Saved(ticket));
                    }
                }
                Command::Release { state, ended_at } => releases.push((*state, ended_at)),
                Command::NextTrip { vehicle, ended_at, started_at } => {
                    persist(&shared, vec![Change::Trip { vehicle, ended_at, started_at }]).await;
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

/// A change of the store, of one vehicle.
#[derive(Debug, Clone)]
enum Change {
    State(VehicleState),
    Release(VehicleState, Micros),
    Trip { vehicle: VehicleId, ended_at: Micros, started_at: Micros },
}

impl Change {
    fn vehicle(&self) -> &VehicleId {
        match self {
            Self::State(state) | Self::Release(state, _) => &state.vehicle,
            Self::Trip { vehicle, .. } => vehicle,
        }
    }

    /// Whether somebody waits for it: a state that is not saved leaves the one before, which is always safe.
    fn needs_answer(&self) -> bool {
        !matches!(self, Self::State(_))
    }

    fn state(&self) -> Option<&VehicleState> {
        match self {
            Self::State(state) | Self::Release(state, _) => Some(state),
            Self::Trip { .. } => None,
        }
    }
}

/// Makes changes; which vehicles somebody else has claimed.
async fn apply(store: &impl StateStore, changes: &[Change]) -> Result<Vec<VehicleId>> {
    let states: Vec<VehicleState> = changes.iter().filter_map(Change::state).cloned().collect();
    let superseded = if states.is_empty() { Vec::new() } else { store.save(&states).await? };
    let (mut ends, mut begins) = (Vec::new(), Vec::new());
    for change in changes {
        match change {
            Change::State(_) => {}
            Change::Release(state, _) if superseded.contains(&state.vehicle) => {}
            Change::Release(state, ended_at) => ends.push((state.vehicle.clone(), *ended_at)),
            Change::Trip { vehicle, ended_at, started_at } => {
                ends.push((vehicle.clone(), *ended_at));
                begins.push((vehicle, *started_at, *ended_at));
            }
        }
    }
    if !ends.is_empty() {
        store.end_trips(&ends).await?;
    }
    for (vehicle, started_at, ended_at) in begins {
        store.begin_trip(vehicle, started_at, ended_at).await?;
    }
    Ok(superseded)
}

/// Repeats changes until they are made, unless we lose everything meanwhile: then they must not be made
/// any more, and there is no answer. Otherwise says which vehicles are not ours any more: those that
/// somebody else has claimed, and those that the store refuses to release. They are dropped.
async fn persist<S: StateStore>(shared: &Shared<S>, changes: Vec<Change>) -> Option<Vec<VehicleId>> {
    let (mut gone, mut rest, mut refused) = (Vec::new(), changes, 0);
    while shared.held.holds() {
        let mut parts = Parts::new(std::mem::take(&mut rest));
        let away = loop {
            let Some(part) = parts.next() else { break None };
            match apply(&*shared.store, &part).await {
                Ok(superseded) => {
                    parts.succeeded();
                    shared.counters.taken(Asked::States);
                    shared.lose(part.iter().filter_map(Change::state), &superseded);
                    gone.extend(superseded);
                }
                Err(error) if error.kind() == ErrorKind::Configuration => {
                    let _ = shared.events.send(Err(error));
                    return None;
                }
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    parts.again(part);
                    break Some(error);
                }
                Err(error) => {
                    if let [only] = &part[..] {
                        tracing::warn!(cell = %shared.names.cell(), vehicle = %only.vehicle(), %error, "a state is not saved");
                    }
                    parts.failed(part);
                }
            }
        };
        if let Some(error) = &away {
            tracing::warn!(cell = %shared.names.cell(), %error, "states are not saved yet");
            shared.counters.away();
            rest = parts.into_rest();
        } else {
            refused += 1;
            let others = parts.has_succeeded();
            rest = parts.into_failed();
            if !others {
                shared.counters.refused(Asked::States, rest.iter().map(Change::vehicle));
            }
            if rest.is_empty() || others || refused >= REFUSED {
                drop_failed(shared, &rest).await;
                gone.extend(rest.iter().filter(|c| c.needs_answer()).map(|c| c.vehicle().clone()));
                return Some(gone);
            }
        }
        if shared.leaving.load(Ordering::Relaxed) {
            return None;
        }
        sleep(Duration::from_millis(500)).await;
    }
    None
}

/// How often changes are tried that the store refuses one and all.
const REFUSED: u32 = 10;

/// How long a vehicle stays away for which the store has failed.
const FAILED: Duration = Duration::from_secs(10);

/// Goes on without what can't be saved. A vehicle whose state is one before stays, which is always safe;
/// one that was to be released is dropped, and whoever is given its request next begins from that state.
async fn drop_failed<S: StateStore>(shared: &Shared<S>, changes: &[Change]) {
    BinderCounters::add(&shared.counters.saves_failed, changes.len());
    for vehicle in changes.iter().filter(|change| change.needs_answer()).map(Change::vehicle) {
        let reply = shared.held.requests().get(vehicle).map(|request| request.reply.clone());
        if let Some(reply) = reply {
            shared.hand_back(vehicle, &reply, FAILED).await;
            shared.tell(BindEvent::Lost(vec![vehicle.clone()]));
        }
    }
}

/// Saves states and gives their vehicles back, of which none is taken again; whether all was done.
async fn hand_over<S: StateStore>(shared: &Shared<S>, states: Vec<VehicleState>) -> bool {
    let vehicles: Vec<_> = states.iter().map(|state| (state.vehicle.clone(), state.epoch)).collect();
    let changes = states.into_iter().map(Change::State).collect();
    if persist(shared, changes).await.is_none() {
        return false;
    }
    // What has another holder by now is not ours to give.
    let requests = vehicles.iter().filter_map(|(vehicle, epoch)| shared.held.give(vehicle, *epoch));
    shared.give_back(requests.collect()).await.is_ok()
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
                let trip = vec![Change::Trip { vehicle, ended_at, started_at }];
                if persist(shared, trip).await.is_some_and(|gone| gone.is_empty()) {
                    shared.tell(BindEvent::Kept(state.vehicle));
                }
            }
            None => going.push((state, ended_at)),
        }
    }
    drop(looks);
    let changes = going.iter().map(|(state, ended_at)| Change::Release(state.clone(), *ended_at)).collect();
    let Some(gone) = persist(shared, changes).await else { return };
    // An ack would lose their rows, which were passed over, or their ends.
    going.retain(|(state, _)| !gone.contains(&state.vehicle));
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
        // It may have replaced one that came after the end, too.
        let request = BindRequest::new(vehicle.clone(), on.sequence, on.stored, on.since, ended_at);
        // Not for ever: all others' releases wait behind it, and the vehicle says again that it is on.
        for _ in 0..ENQUEUE {
            match enqueue(&shared.client, &shared.names, &request).await {
                Ok(_) => return vehicle,
                Err(error) => tracing::warn!(%error, %vehicle, "not enqueued again yet"),
            }
            sleep(Duration::from_millis(500)).await;
        }
        tracing::warn!(%vehicle, "not enqueued again, its next `on` does it");
    }
    vehicle
}

/// What is stored of the vehicle, however long that takes.
async fn read_lifecycle<S: StateStore>(shared: &Shared<S>, vehicle: &VehicleId) -> Lifecycle {
    loop {
        match lifecycle::read(&shared.gets, &shared.names, vehicle).await {
            Ok(life) => return life,
            Err(error) => tracing::warn!(%error, %vehicle, "lifecycle not read yet"),
        }
        sleep(Duration::from_millis(250)).await;
    }
}
