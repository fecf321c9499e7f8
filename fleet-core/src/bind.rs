//! Which vehicles are this worker's, and from where to replay.

mod carry;
pub mod memory;
mod newest;
mod state;

use std::future::Future;
use std::time::Duration;

pub use carry::Carry;
pub use newest::{Newest, NewestStore};
pub use state::{Claim, ClaimRequest, LatestRow, StateStore, Stored, TRIP_AHEAD, VehicleState, plan};

use crate::error::Result;
use crate::ids::VehicleId;
use crate::time::Micros;

/// A vehicle that this worker holds from now on.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// The vehicle.
    pub vehicle: VehicleId,
    /// The claim's epoch.
    pub epoch: i32,
    /// Replay what was stored from this server time on.
    pub start: Micros,
    /// From when on samples are wanted (server time), as in the [`ClaimRequest`].
    pub on_time: Micros,
    /// Rows up to this event time were emitted by an earlier holder and are merged.
    pub floor: Option<Micros>,
    /// Per signal of the schema: samples before this event time are not wanted again.
    pub horizon: Vec<Option<Micros>>,
    /// What the last holder left. Whoever can use it replays from where it ends, and not from `start`.
    pub carry: Option<Carry>,
}

/// What happened to the bindings.
#[derive(Debug)]
pub enum BindEvent {
    /// These are ours now.
    Bound(Vec<Binding>),
    /// Another worker has claimed these: drop them at once, without row, state or release.
    Lost(Vec<VehicleId>),
    /// The holder could not say for `ack_wait` that it still holds them: drop all bindings, before
    /// anything else is written.
    LostAll,
    /// States given to [`Binder::save`] up to and with this ticket are stored.
    Saved(u64),
    /// The vehicle's release is complete; if it is on again, it is in the queue again.
    Released(VehicleId),
    /// The vehicle was switched on again before it was given back: it stays ours for a new trip.
    Kept(VehicleId),
}

/// Binds vehicles to this worker and gives them back.
///
/// Commands return at once and are carried out behind; what comes of them is told by
/// [`next`](Self::next).
pub trait Binder: Send {
    /// Waits for the next event. Cancel-safe. `free` is how many more vehicles may be bound now.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) where only a person can help; what can
    /// be tried again is, inside.
    fn next(&mut self, free: usize) -> impl Future<Output = Result<BindEvent>> + Send;

    /// Stores states whose rows are durable; answered by [`BindEvent::Saved`] with this ticket.
    fn save(&mut self, ticket: u64, states: Vec<VehicleState>);

    /// Gives a vehicle back for good: its rows are durable and its trip ended at `ended_at` (the
    /// server time of its `off`, or of its last sign of life). Stores the state, acknowledges the
    /// request and looks for a newer `on`. Answered by [`BindEvent::Released`] or
    /// [`BindEvent::Kept`].
    fn release(&mut self, state: VehicleState, ended_at: Micros);

    /// A vehicle that was off is on again before it was released: a new trip under the same binding
    /// (server times).
    fn next_trip(&mut self, vehicle: VehicleId, ended_at: Micros, started_at: Micros);

    /// Whether we still hold what we hold. To be asked before every write; `false` once no sign of
    /// holding could be sent for `ack_wait`.
    fn holds(&self) -> bool;

    /// For how long a vehicle stays ours after the last sign that we hold it. A live message can't be older
    /// than that, so that it is taken off estimated arrival times in saved states.
    fn lease(&self) -> Duration;

    /// On shutdown: takes no more vehicles, stores states whose rows are durable, and gives their vehicles back to the
    /// queue, for others at once. Answered by [`BindEvent::Saved`] with this ticket; nothing more may be asked for
    /// these vehicles.
    fn hand_over(&mut self, ticket: u64, states: Vec<VehicleState>);

    /// Takes no more vehicles and gives all that are left back to the queue, for others at once.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable); the vehicles then come back to others after
    /// `ack_wait`.
    fn shut_down(&mut self) -> impl Future<Output = Result<()>> + Send;
}
