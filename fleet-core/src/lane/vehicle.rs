//! What a lane keeps of a bound vehicle.

use prefetch_index::prefetch_index;

use crate::align::Track;
use crate::bind::Binding;
use crate::ids::VehicleId;
use crate::time::Micros;

/// Two cache lines, of which most samples need the first alone.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Vehicle {
    pub track: Track,
    pub catching_up: bool,
    pub epoch: i32,
    pub id: VehicleId,
    pub start: Micros,
    /// Its key in the batch under way, and the batch builder's generation that it is of.
    pub key: Option<(u64, i32)>,
}

const _: () = assert!(size_of::<Option<Vehicle>>() == 128);

impl Vehicle {
    pub(super) fn new(binding: &Binding, track: Track) -> Self {
        Self {
            track,
            catching_up: true,
            epoch: binding.epoch,
            id: binding.vehicle.clone(),
            start: binding.start,
            key: None,
        }
    }

    /// Has the second line fetched from far memory, which a row needs.
    pub(super) fn prefetch_rest(&self) {
        prefetch_index(std::slice::from_ref(&self.start), 0);
    }

    /// Has the name fetched, which a batch needs; the second line is near by then.
    pub(super) fn prefetch_name(&self) {
        prefetch_index(self.id.as_str().as_bytes(), 0);
    }
}
