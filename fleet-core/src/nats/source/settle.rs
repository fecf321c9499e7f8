//! Settling: before a vehicle is given back, its last stored messages are compared with the last
//! ones seen.

use std::time::Duration;

use super::super::dead_letters::Fnv;
use super::super::{lifecycle::last_stored, stored_at};
use super::NatsSource;
use super::tasks::TaskDone;
use super::vehicle::Settling;
use crate::ids::Slot;
use crate::source::SourceEvent;
use crate::time::Micros;

/// The last stored message of a signal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored {
    hash: u64,
    at: Micros,
}

impl NatsSource {
    pub(super) fn start_settling(&mut self, slot: Slot) {
        let Some(vehicle) = self.by_slot.get_mut(&slot) else { return };
        vehicle.settling = Settling::Comparing;
        let (token, id) = (vehicle.token, vehicle.id.clone());
        let (js, names, schema) = (self.side.clone(), self.names.clone(), self.schema.clone());
        self.tasks.spawn(async move {
            let stream = names.telemetry_stream();
            let mut stored = Vec::with_capacity(schema.signals().len());
            for signal in schema.signals() {
                loop {
                    match last_stored(&js, &stream, names.subject(&id, &signal.name)).await {
                        Ok(found) => {
                            stored.push(
                                found.map(|m| Stored { hash: Fnv::of(&m.payload), at: stored_at(m.time) }),
                            );
                            break;
                        }
                        Err(error) => tracing::debug!(%error, vehicle = %id, "last message not read yet"),
                    }
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
            }
            TaskDone::Settle { token, stored }
        });
    }

    /// Nothing is missing, or the stream is read from the last message seen of the signal that lacks.
    pub(super) fn on_settle(&mut self, token: u64, stored: &[Option<Stored>]) {
        let Some(&slot) = self.by_token.get(&token) else { return };
        let Some(vehicle) = self.by_slot.get_mut(&slot) else { return };
        vehicle.settling = Settling::CatchingUp;
        let vehicle = &*vehicle;
        let missing = stored.iter().zip(vehicle.seen.iter()).filter_map(|(stored, seen)| {
            let stored = stored.filter(|s| s.at >= vehicle.from)?;
            match seen {
                Some((hash, _)) if *hash == stored.hash => None,
                Some((_, arrival)) => Some(*arrival),
                None => Some(vehicle.from),
            }
        });
        match missing.min() {
            Some(from) => {
                let from = from - self.margin();
                self.disturb([(slot, from)]);
            }
            None if vehicle.feed.is_live() => self.finish_settling(slot),
            // A catch-up is under way; its end settles.
            None => {}
        }
    }

    pub(super) fn finish_settling(&mut self, slot: Slot) {
        if let Some(vehicle) = self.by_slot.get_mut(&slot)
            && vehicle.settling == Settling::CatchingUp
        {
            vehicle.settling = Settling::No;
            self.ready.push_back(SourceEvent::Settled(slot));
        }
    }
}
