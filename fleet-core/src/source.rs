//! Where messages come from.

pub mod memory;

use std::future::Future;

use crate::error::Result;
use crate::ids::{Slot, VehicleId};
use crate::message::{DeadLetter, Message};
use crate::time::Micros;

/// A vehicle whose messages are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// How the caller names it from now on; free again only after [`Source::detach`].
    pub slot: Slot,
    /// The vehicle.
    pub vehicle: VehicleId,
    /// Deliver what was stored from this server time on …
    pub from: Micros,
    /// … but of what was stored before this one only what is missed later: the holder that has handed the vehicle over
    /// has taken it.
    pub taken: Option<Micros>,
    /// When the `on` of its trip was stored (server time): an `off` stored later ends the trip, even
    /// if a newer `on` has followed it already.
    pub on_time: Micros,
    /// When a message of the vehicle was stored at the latest, by the state that an earlier holder saved
    /// (server time): where messages are kept only from a later time on, some are gone. `None` without
    /// such a state.
    pub stored_at: Option<Micros>,
}

impl Attach {
    /// From when on what was stored is delivered at first, server time.
    pub fn begin(&self) -> Micros {
        self.taken.map_or(self.from, |taken| taken.max(self.from))
    }
}

/// What a source has to say.
#[derive(Debug)]
pub enum SourceEvent {
    /// A message.
    Message(Message),
    /// Everything stored up to some moment after `attach` (or after the disturbance that caused
    /// this catch-up) was delivered; what follows is live, also what came live meanwhile and waited.
    CaughtUp(Vec<Slot>),
    /// The vehicle is off: its last `off` is stored later than its last `on`.
    Off {
        /// The vehicle.
        slot: Slot,
        /// When the `off` was stored, server time.
        stored: Micros,
    },
    /// The vehicle is on again after [`SourceEvent::Off`].
    On {
        /// The vehicle.
        slot: Slot,
        /// When the new trip began: the `on`'s `since`, or when it was stored.
        started_at: Micros,
    },
    /// Everything that was stored for this vehicle when [`Source::settle`] was called was
    /// delivered before this.
    Settled(Slot),
    /// A catch-up found that the stream no longer holds the beginning: from and to, server time.
    /// Data between is gone, and somebody must know.
    Gap {
        /// The vehicle.
        slot: Slot,
        /// From where it was wanted.
        wanted: Micros,
        /// From where it is there.
        found: Micros,
    },
}

/// What was delivered when a source was [drained](Source::drain).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drained {
    /// All that was stored before this server time, of every vehicle but those that are …
    pub until: Micros,
    /// … being caught up, or may lack something. Sorted.
    pub behind: Vec<Slot>,
}

/// Delivers the messages of attached vehicles: each at least once, those of one vehicle and subject
/// in the order in which they were stored, by one feed at a time (catch-up first, then live).
///
/// Commands return at once and are carried out behind.
pub trait Source: Send {
    /// Waits for the next event. Cancel-safe.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) where only a person can help; what can
    /// be tried again is, inside.
    fn next(&mut self) -> impl Future<Output = Result<SourceEvent>> + Send;

    /// Starts the delivery of a group of vehicles.
    fn attach(&mut self, group: Vec<Attach>);

    /// Ends the delivery of a vehicle; nothing of it comes after this returned.
    fn detach(&mut self, slot: Slot);

    /// Reads again what was stored from `from` (server time) on, for vehicles whose live messages
    /// were dropped; answered by [`SourceEvent::CaughtUp`].
    fn catch_up(&mut self, slots: &[(Slot, Micros)]);

    /// Makes certain that all that is stored now is delivered; answered by
    /// [`SourceEvent::Settled`].
    fn settle(&mut self, slot: Slot);

    /// Keeps what could not be used where an operator finds it; rate-limited per vehicle.
    fn refuse(&mut self, letter: DeadLetter);

    /// On shutdown: takes in what has come, so that others can go on from there. What [`next`](Self::next) gives
    /// without waiting, until it would wait, is the rest; after that it never gives anything. `None` where it can't
    /// be said what has come: nothing changes then, as with a source that doesn't know how. Cancel-safe.
    fn drain(&mut self) -> impl Future<Output = Option<Drained>> + Send {
        async { None }
    }

    /// On shutdown: takes nothing more to keep and waits until what [`refuse`](Self::refuse) was given is kept
    /// or given up. Cancel-safe; a source that keeps things at once has nothing to wait for.
    fn shut_down(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// The server's clock, as far as known.
    fn now(&self) -> Micros;
}
