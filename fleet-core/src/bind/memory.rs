//! Bindings and states in memory, for examples and tests without a server.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::{
    BindEvent, Binder, Binding, Carry, Claim, ClaimRequest, Newest, NewestStore, StateStore, Stored,
    TRIP_AHEAD, VehicleState, plan,
};
use crate::error::Result;
use crate::ids::VehicleId;
use crate::sample::NewestSamples;
use crate::time::Micros;

/// A trip: when it began and, once it has, ended.
pub type Trip = (Micros, Option<Micros>);

#[derive(Debug, Clone, Default)]
struct Row {
    epoch: i32,
    stored: Stored,
    floor: Option<Micros>,
    carry: Option<Carry>,
    samples: NewestSamples,
    trips: BTreeMap<Micros, Option<Micros>>,
}

impl Row {
    /// Opens the trip that began then, or the newest if that began later, unless it ended after it was
    /// told of.
    fn begin_trip(&mut self, started_at: Micros, told_at: Micros) {
        let newest = self.trips.keys().next_back().copied();
        let started_at = newest.map_or(started_at, |newest| newest.max(started_at));
        let ended_at = self.trips.entry(started_at).or_insert(None);
        // What ended when it began may have been told of by a clock that is ahead.
        *ended_at = ended_at.filter(|ended_at| *ended_at > told_at.max(started_at));
    }
}

/// [`StateStore`] in memory; clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryStates {
    rows: Arc<Mutex<BTreeMap<VehicleId, Row>>>,
}

impl MemoryStates {
    /// Without any vehicle.
    pub fn new() -> Self {
        Self::default()
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<VehicleId, Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A vehicle's newest samples.
    pub fn samples(&self, vehicle: &VehicleId) -> NewestSamples {
        self.rows().get(vehicle).map(|row| row.samples.clone()).unwrap_or_default()
    }

    /// A vehicle's trips, oldest first.
    pub fn trips(&self, vehicle: &VehicleId) -> Vec<Trip> {
        self.rows().get(vehicle).map_or_else(Vec::new, |r| r.trips.iter().map(|(s, e)| (*s, *e)).collect())
    }
}

impl StateStore for MemoryStates {
    #[allow(clippy::unused_async, reason = "the trait's shape")]
    async fn claim(&self, requests: &[ClaimRequest], now: Micros, context: Micros) -> Result<Vec<Claim>> {
        let mut rows = self.rows();
        let claims = requests.iter().map(|request| {
            let row = rows.entry(request.vehicle.clone()).or_default();
            row.epoch += 1;
            let (start, horizon) = plan(&row.stored, request.on_time, now, context);
            row.stored.resume_at = Some(start);
            row.stored.released_at = None;
            row.stored.horizon.clone_from(&horizon);
            row.begin_trip(request.started_at, request.told_at);
            let (vehicle, carry) = (request.vehicle.clone(), row.carry.take());
            Claim { vehicle, epoch: row.epoch, start, floor: row.floor, horizon, carry }
        });
        Ok(claims.collect())
    }

    #[allow(clippy::unused_async, reason = "the trait's shape")]
    async fn save(&self, states: &[VehicleState]) -> Result<Vec<VehicleId>> {
        let mut rows = self.rows();
        let mut superseded = Vec::new();
        for state in states {
            let Some(row) = rows.get_mut(&state.vehicle).filter(|row| row.epoch == state.epoch) else {
                superseded.push(state.vehicle.clone());
                continue;
            };
            row.stored = Stored {
                resume_at: Some(state.resume_at),
                released_at: state.released_at,
                horizon: state.horizon.clone(),
                newest: state.newest.clone(),
            };
            row.floor = state.floor;
            row.carry.clone_from(&state.carry);
            row.samples.clone_from(&state.samples);
        }
        Ok(superseded)
    }

    #[allow(clippy::unused_async, reason = "the trait's shape")]
    async fn end_trips(&self, ends: &[(VehicleId, Micros)]) -> Result<()> {
        let mut rows = self.rows();
        for (vehicle, end) in ends {
            let begun =
                rows.get_mut(vehicle).into_iter().flat_map(|row| row.trips.range_mut(..=*end + TRIP_AHEAD));
            begun.filter(|(_, e)| e.is_none()).for_each(|(start, e)| *e = Some(*end.max(start)));
        }
        Ok(())
    }

    #[allow(clippy::unused_async, reason = "the trait's shape")]
    async fn begin_trip(&self, vehicle: &VehicleId, started_at: Micros, told_at: Micros) -> Result<()> {
        self.rows().entry(vehicle.clone()).or_default().begin_trip(started_at, told_at);
        Ok(())
    }
}

impl NewestStore for MemoryStates {
    #[allow(clippy::unused_async, reason = "the trait's shape")]
    async fn show(&self, newest: &[Newest]) -> Result<Vec<VehicleId>> {
        let mut rows = self.rows();
        for Newest { vehicle, epoch, samples } in newest {
            if let Some(row) = rows.get_mut(vehicle).filter(|row| row.epoch == *epoch) {
                row.samples.clone_from(samples);
            }
        }
        Ok(Vec::new())
    }
}

#[derive(Debug, Default)]
struct Queue {
    requests: VecDeque<ClaimRequest>,
    /// Delivered and not acknowledged, with the epoch of the claim.
    bound: BTreeMap<VehicleId, (ClaimRequest, i32)>,
    /// The last `on` of a vehicle that was waiting or bound when it was offered.
    again: BTreeMap<VehicleId, Micros>,
    now: Micros,
}

impl Queue {
    fn offer(&mut self, vehicle: &VehicleId, on_time: Micros) {
        self.now = self.now.max(on_time);
        if self.bound.contains_key(vehicle) || self.requests.iter().any(|r| r.vehicle == *vehicle) {
            self.again.insert(vehicle.clone(), on_time);
            return;
        }
        let request =
            ClaimRequest { vehicle: vehicle.clone(), on_time, started_at: on_time, told_at: on_time };
        self.requests.push_back(request);
    }

    /// Acknowledges a vehicle's request and looks for an `on` after its trip ended.
    fn acknowledge(&mut self, vehicle: &VehicleId, ended_at: Micros) {
        self.bound.remove(vehicle);
        if let Some(on_time) = self.again.remove(vehicle).filter(|on_time| *on_time > ended_at) {
            self.offer(vehicle, on_time);
        }
    }
}

/// A queue of bind requests in memory, each un-acknowledged while its vehicle is bound; clones share
/// it.
#[derive(Debug, Clone, Default)]
pub struct MemoryQueue {
    queue: Arc<Mutex<Queue>>,
    news: Arc<Notify>,
}

impl MemoryQueue {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers a vehicle whose `on` was stored at a server time. One that waits or is bound already is
    /// not enqueued twice; its release looks for this `on` instead.
    pub fn offer(&self, vehicle: &VehicleId, on_time: Micros) {
        self.queue().offer(vehicle, on_time);
        self.news.notify_waiters();
    }

    /// Delivers again what was not acknowledged, as after the death of all workers.
    pub fn redeliver(&self) {
        let bound =
            self.queue().bound.iter().map(|(vehicle, (_, epoch))| (vehicle.clone(), *epoch)).collect();
        self.give_back(&bound);
    }

    /// Those of these claims that are the last ones of their requests.
    fn give_back(&self, claims: &BTreeMap<VehicleId, i32>) {
        let mut queue = self.queue();
        for (vehicle, epoch) in claims {
            if queue.bound.get(vehicle).is_some_and(|(_, last)| last == epoch) {
                let bound = queue.bound.remove(vehicle);
                queue.requests.extend(bound.map(|(request, _)| request));
            }
        }
        drop(queue);
        self.news.notify_waiters();
    }

    /// How many vehicles wait or are bound.
    pub fn active(&self) -> usize {
        let queue = self.queue();
        queue.requests.len() + queue.bound.len()
    }
}

/// [`Binder`] on a [`MemoryQueue`], with any store of states.
#[derive(Debug)]
pub struct MemoryBinder<S> {
    queue: MemoryQueue,
    states: Arc<S>,
    context: Micros,
    /// With the epoch of the claim.
    held: BTreeMap<VehicleId, i32>,
    ready: VecDeque<BindEvent>,
    commands: VecDeque<Command>,
    /// Nothing more is taken.
    leaving: bool,
}

#[derive(Debug)]
enum Command {
    Save(u64, Vec<VehicleState>),
    HandOver(u64, Vec<VehicleState>),
    Release(Box<VehicleState>, Micros),
    NextTrip(VehicleId, Micros, Micros),
}

impl<S: StateStore> MemoryBinder<S> {
    /// Binds what the queue offers. `context` is [`Lane::context`](crate::lane::Lane::context).
    pub fn new(queue: &MemoryQueue, states: Arc<S>, context: Micros) -> Self {
        let (ready, commands) = (VecDeque::new(), VecDeque::new());
        let leaving = false;
        Self { queue: queue.clone(), states, context, held: BTreeMap::new(), ready, commands, leaving }
    }

    async fn carry_out(&mut self) -> Result<()> {
        // Taken out only when it is done: this future may be dropped at any await.
        while let Some(command) = self.commands.front() {
            let mut lost = BTreeMap::new();
            let event = match command {
                Command::Save(ticket, states) => {
                    lost = self.void(states, &self.states.save(states).await?);
                    Some(BindEvent::Saved(*ticket))
                }
                Command::HandOver(ticket, states) => {
                    lost = self.void(states, &self.states.save(states).await?);
                    let ours = states.iter().filter(|state| !lost.contains_key(&state.vehicle));
                    let given = ours.filter_map(|state| self.held.remove_entry(&state.vehicle));
                    self.queue.give_back(&given.collect());
                    Some(BindEvent::Saved(*ticket))
                }
                Command::Release(state, ended_at) => {
                    let states = std::slice::from_ref(&**state);
                    let superseded = self.states.save(states).await?;
                    lost = self.void(states, &superseded);
                    if superseded.is_empty() {
                        self.states.end_trips(&[(state.vehicle.clone(), *ended_at)]).await?;
                        self.held.remove(&state.vehicle);
                        self.queue.queue().acknowledge(&state.vehicle, *ended_at);
                        Some(BindEvent::Released(state.vehicle.clone()))
                    } else {
                        None
                    }
                }
                Command::NextTrip(vehicle, ended_at, started_at) => {
                    self.states.end_trips(&[(vehicle.clone(), *ended_at)]).await?;
                    self.states.begin_trip(vehicle, *started_at, *ended_at).await?;
                    None
                }
            };
            self.commands.pop_front();
            self.ready.extend(event);
            if !lost.is_empty() {
                self.held.retain(|vehicle, _| !lost.contains_key(vehicle));
                self.queue.give_back(&lost);
                self.ready.push_back(BindEvent::Lost(lost.into_keys().collect()));
            }
        }
        Ok(())
    }

    /// The claims of these states that are held and superseded.
    fn void(&self, states: &[VehicleState], superseded: &[VehicleId]) -> BTreeMap<VehicleId, i32> {
        let void = states.iter().filter(|state| {
            superseded.contains(&state.vehicle) && self.held.get(&state.vehicle) == Some(&state.epoch)
        });
        void.map(|state| (state.vehicle.clone(), state.epoch)).collect()
    }

    async fn claim(&mut self, free: usize) -> Result<()> {
        let (requests, now) = {
            let queue = self.queue.queue();
            (queue.requests.iter().take(free).cloned().collect::<Vec<_>>(), queue.now)
        };
        if requests.is_empty() {
            return Ok(());
        }
        let claims = self.states.claim(&requests, now, self.context).await?;
        let mut queue = self.queue.queue();
        // What the store says nothing of stays in the queue.
        let find = |claim: &Claim| requests.iter().find(|request| request.vehicle == claim.vehicle);
        let claims: Vec<_> =
            claims.into_iter().filter_map(|claim| find(&claim).map(|r| (r, claim))).collect();
        for (request, claim) in &claims {
            let request = *request;
            queue.requests.retain(|r| r.vehicle != request.vehicle);
            queue.bound.insert(request.vehicle.clone(), (request.clone(), claim.epoch));
            self.held.insert(request.vehicle.clone(), claim.epoch);
        }
        drop(queue);
        let bound = claims.into_iter().map(|(request, claim)| Binding {
            vehicle: claim.vehicle,
            epoch: claim.epoch,
            start: claim.start,
            on_time: request.on_time,
            floor: claim.floor,
            horizon: claim.horizon,
            carry: claim.carry,
        });
        self.ready.push_back(BindEvent::Bound(bound.collect()));
        Ok(())
    }
}

impl<S: StateStore> Binder for MemoryBinder<S> {
    async fn next(&mut self, free: usize) -> Result<BindEvent> {
        loop {
            let news = Arc::clone(&self.queue.news);
            let mut notified = std::pin::pin!(news.notified());
            notified.as_mut().enable();
            self.carry_out().await?;
            if self.ready.is_empty() && !self.leaving {
                self.claim(free).await?;
            }
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            notified.await;
        }
    }

    fn save(&mut self, ticket: u64, states: Vec<VehicleState>) {
        self.commands.push_back(Command::Save(ticket, states));
    }

    fn release(&mut self, state: VehicleState, ended_at: Micros) {
        self.commands.push_back(Command::Release(Box::new(state), ended_at));
    }

    fn next_trip(&mut self, vehicle: VehicleId, ended_at: Micros, started_at: Micros) {
        self.commands.push_back(Command::NextTrip(vehicle, ended_at, started_at));
    }

    fn holds(&self) -> bool {
        true
    }

    /// Nothing is taken from its holder, and arrival times are exact.
    fn lease(&self) -> Duration {
        Duration::ZERO
    }

    fn hand_over(&mut self, ticket: u64, states: Vec<VehicleState>) {
        self.leaving = true;
        self.commands.push_back(Command::HandOver(ticket, states));
    }

    async fn shut_down(&mut self) -> Result<()> {
        self.leaving = true;
        self.carry_out().await?;
        self.queue.give_back(&std::mem::take(&mut self.held));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_trip_that_is_told_of_again_is_open_again() {
        let (states, vehicle) = (MemoryStates::new(), VehicleId::new("V1").unwrap());
        let claim = async |started_at, told_at| {
            let request = ClaimRequest { vehicle: vehicle.clone(), on_time: told_at, started_at, told_at };
            states.claim(&[request], told_at, 0).await.unwrap();
            states.trips(&vehicle)
        };
        let end = async |at| states.end_trips(&[(vehicle.clone(), at)]).await.unwrap();
        claim(1_000, 1_000).await;
        end(2_000).await;
        assert_eq!(claim(1_000, 1_500).await, [(1_000, Some(2_000))], "out of date");
        assert_eq!(claim(1_000, 3_000).await, [(1_000, None)]);
        end(4_000).await;
        // A trip later, the request before comes again.
        states.begin_trip(&vehicle, 5_000, 4_000).await.unwrap();
        assert_eq!(claim(1_000, 3_000).await, [(1_000, Some(4_000)), (5_000, None)]);
        end(7_000).await;
        assert_eq!(claim(1_000, 3_000).await, [(1_000, Some(4_000)), (5_000, Some(7_000))]);
        // A clock that is ahead.
        let ahead = 8_000 + TRIP_AHEAD;
        claim(ahead, 8_000).await;
        end(8_000).await;
        assert_eq!(states.trips(&vehicle)[2], (ahead, Some(ahead)));
        assert_eq!(claim(ahead, 9_000).await[2], (ahead, None));
    }
}
