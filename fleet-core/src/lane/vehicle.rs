//! What a lane keeps of a bound vehicle.

use prefetch_index::prefetch_index;

use crate::align::Track;
use crate::bind::Binding;
use crate::ids::VehicleId;
use crate::time::Micros;

/// Two cache lines, of which most samples need the first alone. By that one it is also known whether
/// there is a vehicle: no field of the second has bit patterns to spare as those of the track have.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Vehicle {
    pub track: Track,
    pub epoch: i32,
    /// Which of the lane's bindings it is, by which an earlier vehicle of its slot is told apart.
    pub number: u32,
    pub id: VehicleId,
    pub start: Micros,
    /// The batch builder's generation, or 0, and its key in the batch of then.
    pub key: (u64, i32),
}

const _: () = assert!(size_of::<Option<Vehicle>>() == 128);

impl Vehicle {
    /// One that is catching up.
    pub(super) fn new(binding: &Binding, number: u32, mut track: Track) -> Self {
        track.catching_up = true;
        let Binding { vehicle: id, epoch, start, .. } = binding;
        Self { track, epoch: *epoch, number, id: id.clone(), start: *start, key: (0, 0) }
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
