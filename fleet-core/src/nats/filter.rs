//! Which subjects a reading of the telemetry stream is for.

use super::Names;
use crate::ids::VehicleId;
use crate::schema::Schema;

/// Up to so many vehicles the server filters; more are cheaper to sweep unfiltered.
const FILTER_UP_TO: usize = 15;

/// The subjects of a few vehicles' samples and of the fences; none, which is all, for no vehicle or many.
pub(super) fn filter<'a>(
    names: &Names,
    schema: &Schema,
    vehicles: impl ExactSizeIterator<Item = &'a VehicleId>,
) -> Vec<String> {
    if vehicles.len() == 0 || vehicles.len() > FILTER_UP_TO {
        return Vec::new();
    }
    let mut subjects = vec![names.fence()];
    for vehicle in vehicles {
        for signal in schema.signals() {
            let subject = names.subject(vehicle, &signal.name);
            // A vehicle may be named twice.
            if !subjects.contains(&subject) {
                subjects.push(subject);
            }
        }
    }
    subjects
}
