//! What a source delivers.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::ids::{SignalIndex, Slot, VehicleId};
use crate::time::Micros;

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// Samples of a signal.
    Signal(SignalIndex),
    /// The vehicle is still on: a sign of life.
    On,
}

/// One message of a bound vehicle.
#[derive(Debug, Clone)]
pub struct Message {
    /// The vehicle, as the source's caller named it at `attach`.
    pub slot: Slot,
    /// What it is about.
    pub topic: Topic,
    /// The payload as it came.
    pub payload: Bytes,
    /// When the message was stored (server time): exact for what was read from the stream, our
    /// estimate of the server's clock at its receipt for what came live.
    pub arrival: Micros,
    /// Whether it came live; otherwise it was read from the stream, perhaps not for the first time.
    pub live: bool,
}

/// Why a message, or one sample of it, was not used. Kept small: it becomes a metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The payload does not parse.
    Malformed,
    /// The payload is empty.
    Empty,
    /// The subject's last token names no signal of the schema.
    UnknownSignal,
    /// A value is NaN or infinite.
    NotFinite,
    /// A value is outside the column's range.
    OutOfRange,
    /// A time is before 2000, or older than its arrival by more than `max_past`.
    TooOld,
    /// A time is further ahead of its arrival (server time) than `max_future`.
    InFuture,
    /// A sample is older than the newest of its signal by more than the window.
    Late,
    /// A sample for which the vehicle's memory has no room, or that took the room of others.
    Capacity,
    /// A row that the database would not take.
    Row,
    /// The stored message can't be read by the way on which samples come.
    Unreadable,
}

impl Refusal {
    /// All of them, in their order.
    pub const ALL: [Self; 11] = [
        Self::Malformed,
        Self::Empty,
        Self::UnknownSignal,
        Self::NotFinite,
        Self::OutOfRange,
        Self::TooOld,
        Self::InFuture,
        Self::Late,
        Self::Capacity,
        Self::Row,
        Self::Unreadable,
    ];

    /// The reason as a metric's label and a dead letter's header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Empty => "empty",
            Self::UnknownSignal => "unknown_signal",
            Self::NotFinite => "not_finite",
            Self::OutOfRange => "out_of_range",
            Self::TooOld => "too_old",
            Self::InFuture => "in_future",
            Self::Late => "late",
            Self::Capacity => "capacity",
            Self::Row => "row",
            Self::Unreadable => "unreadable",
        }
    }
}

/// How often each [`Refusal`] came up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refusals([u64; Refusal::ALL.len()]);

impl Refusals {
    /// One more.
    pub fn add(&mut self, refusal: Refusal) {
        self.0[refusal as usize] += 1;
    }

    /// How often this one did.
    pub fn of(&self, refusal: Refusal) -> u64 {
        self.0[refusal as usize]
    }
}

/// The same, for several threads.
#[derive(Debug, Default)]
pub struct SharedRefusals([AtomicU64; Refusal::ALL.len()]);

impl SharedRefusals {
    /// One more.
    pub fn add(&self, refusal: Refusal) {
        self.0[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often this one came up.
    pub fn of(&self, refusal: Refusal) -> u64 {
        self.0[refusal as usize].load(Ordering::Relaxed)
    }
}

/// A message that could not be used as a whole, or a row that could not be stored, for an operator
/// to read.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The vehicle.
    pub vehicle: VehicleId,
    /// The subject's last token, or `row`.
    pub signal: String,
    /// Why.
    pub refusal: Refusal,
    /// In words, with the field and the value.
    pub detail: String,
    /// The message as it came, or the row as JSON.
    pub payload: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_place_of_its_own() {
        for (place, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, place, "{refusal:?}");
            let (mut counted, shared) = (Refusals::default(), SharedRefusals::default());
            counted.add(refusal);
            shared.add(refusal);
            for other in Refusal::ALL {
                let expected = u64::from(other == refusal);
                assert_eq!((counted.of(other), shared.of(other)), (expected, expected), "{other:?}");
            }
        }
    }
}
