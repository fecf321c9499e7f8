//! The attached vehicles, by slot.

use prefetch_index::prefetch_index;

use super::vehicle::Attached;
use crate::ids::Slot;

/// An attachment: a slot, and how often it was attached before, by which what is still under way for an
/// earlier vehicle of the slot is told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Ticket {
    pub slot: Slot,
    generation: u32,
}

#[cfg(test)]
impl Ticket {
    /// Of a slot that was never used before.
    pub(super) fn first(slot: Slot) -> Self {
        Self { slot, generation: 0 }
    }
}

#[derive(Debug, Default)]
struct Place {
    generation: u32,
    vehicle: Option<Attached>,
}

/// All of them. Slots are small numbers without large gaps.
#[derive(Debug, Default)]
pub(super) struct Attachments {
    places: Vec<Place>,
    count: usize,
}

impl Attachments {
    /// Takes a vehicle in. Whatever was attached to the slot is detached.
    pub(super) fn attach(&mut self, slot: Slot, vehicle: Attached) -> Ticket {
        if self.places.len() <= slot.index() {
            self.places.resize_with(slot.index() + 1, Place::default);
        }
        let place = &mut self.places[slot.index()];
        place.generation = place.generation.wrapping_add(1);
        self.count += usize::from(place.vehicle.replace(vehicle).is_none());
        Ticket { slot, generation: place.generation }
    }

    pub(super) fn detach(&mut self, slot: Slot) -> Option<Attached> {
        let vehicle = self.places.get_mut(slot.index())?.vehicle.take()?;
        self.count -= 1;
        Some(vehicle)
    }

    /// How many vehicles are attached.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The vehicle that is attached to the slot now, and its ticket.
    pub(super) fn at(&mut self, slot: Slot) -> Option<(Ticket, &mut Attached)> {
        let Place { generation, vehicle } = self.places.get_mut(slot.index())?;
        let ticket = Ticket { slot, generation: *generation };
        vehicle.as_mut().map(|vehicle| (ticket, vehicle))
    }

    /// The vehicle of a ticket, unless it was detached since.
    pub(super) fn get(&self, ticket: Ticket) -> Option<&Attached> {
        let place = self.places.get(ticket.slot.index())?;
        place.vehicle.as_ref().filter(|_| place.generation == ticket.generation)
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Attached> {
        let place = self.places.get_mut(ticket.slot.index())?;
        place.vehicle.as_mut().filter(|_| place.generation == ticket.generation)
    }

    /// Has a slot's vehicle fetched: what is kept of vehicles lies far apart in memory. Then, when that has come,
    /// [`prefetch_seen`](Self::prefetch_seen).
    pub(super) fn prefetch(&self, slot: Slot) {
        if let Some(Place { generation, vehicle }) = self.places.get(slot.index()) {
            prefetch_index(std::slice::from_ref(vehicle), 0);
            prefetch_index(std::slice::from_ref(generation), 0);
        }
    }

    /// The next level: what was seen of its signals.
    pub(super) fn prefetch_seen(&self, slot: Slot) {
        if let Some(vehicle) = self.places.get(slot.index()).and_then(|place| place.vehicle.as_ref()) {
            prefetch_index(&vehicle.seen, 0);
        }
    }

    /// Every vehicle that is attached, by slot.
    pub(super) fn all(&self) -> impl Iterator<Item = (Slot, &Attached)> {
        self.slots().zip(self.places.iter().filter_map(|place| place.vehicle.as_ref()))
    }

    /// Every slot that is attached.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        let attached = self.places.iter().enumerate().filter(|(_, place)| place.vehicle.is_some());
        attached.map(|(index, _)| Slot::at(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::VehicleId;
    use crate::source::Attach;

    #[test]
    fn nothing_of_an_earlier_vehicle_is_taken_for_a_later_one() {
        let attached = |id: &str| {
            let vehicle = VehicleId::new(id).unwrap();
            Attached::new(
                Attach { slot: Slot(2), vehicle, from: 0, taken: None, on_time: 0, stored_at: None },
                1,
            )
        };
        let mut all = Attachments::default();
        let first = all.attach(Slot(2), attached("A"));
        assert_eq!(all.get(first).unwrap().id.as_str(), "A");
        assert_eq!((all.slots().collect::<Vec<_>>(), all.at(Slot(0)).is_none()), (vec![Slot(2)], true));
        assert_eq!(all.detach(Slot(2)).unwrap().id.as_str(), "A");
        assert!(all.get(first).is_none() && all.at(Slot(2)).is_none() && all.detach(Slot(9)).is_none());
        let second = all.attach(Slot(2), attached("B"));
        assert!(all.get(first).is_none() && all.get_mut(first).is_none());
        let (ticket, vehicle) = all.at(Slot(2)).unwrap();
        assert_eq!((ticket, vehicle.id.as_str()), (second, "B"));
    }
}
