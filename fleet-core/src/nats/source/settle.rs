//! Settling: before a vehicle is given back, its last stored messages are compared with the last
//! ones seen.

use super::super::{Gets, Names, StoredMessage};
use super::NatsSource;
use super::attachments::Ticket;
use super::looks::Kind;
use super::vehicle::Settling;
use crate::error::Result;
use crate::hash::Fnv;
use crate::ids::{Slot, VehicleId};
use crate::schema::Schema;
use crate::source::SourceEvent;
use crate::time::Micros;

/// The last stored message of a signal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored {
    hash: u64,
    at: Micros,
}

/// Reads the last stored message of each signal of each vehicle; an error is that vehicle's alone.
///
/// Of a replicated stream the answer may be from a moment before (see [`Gets`]). An older message than the one that
/// was seen last costs a catch-up and nothing else. One that was neither heard nor is there yet is missed; but all
/// this comes `patience` after the `off`.
pub(super) async fn last_of_each(
    gets: &Gets,
    names: &Names,
    schema: &Schema,
    vehicles: &[VehicleId],
) -> Vec<Result<Vec<Option<Stored>>>> {
    let of_vehicle = |vehicle| schema.signals().iter().map(|s| names.subject(vehicle, &s.name)).collect();
    let found =
        gets.last_of_groups(&names.telemetry_stream(), vehicles.iter().map(of_vehicle).collect()).await;
    let stored = |message: StoredMessage| Stored { hash: Fnv::of(&message.payload), at: message.stored };
    found.into_iter().map(|found| Ok(found?.into_iter().map(|m| m.map(stored)).collect())).collect()
}

impl NatsSource {
    pub(super) fn start_settling(&mut self, slot: Slot) {
        let Some((ticket, vehicle)) = self.vehicles.at(slot) else { return };
        let comparing = matches!(vehicle.settling, Settling::Comparing { .. });
        vehicle.settling = Settling::Comparing { again: comparing };
        if !comparing {
            self.look_at_signals(ticket);
        }
    }

    /// Nothing is missing, or the stream is read from the last message seen of the signal that lacks.
    pub(super) fn on_settle(&mut self, ticket: Ticket, found: Result<Vec<Option<Stored>>>) {
        let Some(vehicle) = self.vehicles.get_mut(ticket) else { return };
        let stored = match found {
            // What it found was stored before it was wanted for the last time.
            Ok(_) if vehicle.settling == (Settling::Comparing { again: true }) => {
                vehicle.settling = Settling::Comparing { again: false };
                return self.look_at_signals(ticket);
            }
            Ok(stored) => stored,
            Err(error) => {
                tracing::debug!(%error, vehicle = %vehicle.id, "last messages not read yet");
                return self.look_again(Kind::Signals, ticket);
            }
        };
        vehicle.settling = Settling::CatchingUp;
        let vehicle = &*vehicle;
        let missing = stored.iter().zip(vehicle.seen.iter()).filter_map(|(stored, seen)| {
            let stored = stored.filter(|s| s.at >= vehicle.begin)?;
            match seen {
                Some((hash, _)) if *hash == stored.hash => None,
                Some((_, arrival)) => Some(*arrival),
                None => Some(vehicle.begin),
            }
        });
        match missing.min() {
            Some(from) => {
                let from = from - self.margin();
                self.disturb_alone([(ticket.slot, from)]);
            }
            None if vehicle.feed.is_live() => self.finish_settling(ticket.slot),
            // A catch-up is under way; its end settles.
            None => {}
        }
    }

    pub(super) fn finish_settling(&mut self, slot: Slot) {
        if let Some((ticket, vehicle)) = self.vehicles.at(slot)
            && vehicle.settling == Settling::CatchingUp
        {
            vehicle.settling = Settling::No;
            self.ready.push(ticket, SourceEvent::Settled(slot));
        }
    }
}
