//! What a lane keeps of a bound vehicle.

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

    /// Reads the first line, so that it is near soon; the sum is of no meaning.
    pub(super) fn touch(&self) -> u64 {
        self.track.due().cast_unsigned()
    }

    /// Reads in the same way the second one, which a row needs.
    pub(super) fn touch_rest(&self) -> u64 {
        self.start.cast_unsigned()
    }

    /// Reads in the same way the name, which a batch needs.
    pub(super) fn touch_name(&self) -> u64 {
        self.id.as_str().bytes().next().map_or(0, u64::from)
    }
}
