//! Finds a vehicle's slot by its name.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::vehicle::Vehicle;
use crate::ids::{Slot, VehicleId};

/// The slots of bound vehicles by name. The names themselves are the vehicles'.
#[derive(Debug, Default)]
pub(super) struct Names {
    slots: HashTable<Slot>,
    hasher: DefaultHashBuilder,
}

impl Names {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn find(&self, vehicles: &[Option<Vehicle>], id: &VehicleId) -> Option<Slot> {
        self.slots.find(self.hasher.hash_one(id), |slot| name(vehicles, *slot) == Some(id)).copied()
    }

    /// Takes in the vehicle of a slot, whose name no other has.
    pub(super) fn insert(&mut self, vehicles: &[Option<Vehicle>], slot: Slot) {
        let hash = |slot: &Slot| name(vehicles, *slot).map_or(0, |id| self.hasher.hash_one(id));
        self.slots.insert_unique(hash(&slot), slot, hash);
    }

    /// Forgets the vehicle that had the slot.
    pub(super) fn remove(&mut self, id: &VehicleId, slot: Slot) {
        if let Ok(entry) = self.slots.find_entry(self.hasher.hash_one(id), |there| *there == slot) {
            entry.remove();
        }
    }
}

fn name(vehicles: &[Option<Vehicle>], slot: Slot) -> Option<&VehicleId> {
    vehicles.get(slot.index()).and_then(Option::as_ref).map(|vehicle| &vehicle.id)
}
