//! What was acknowledged: the set of samples that the table must be a function of.

use fleet_core::{Micros, VehicleId};

/// An acknowledged sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampled<'a> {
    /// The signal's position in the schema.
    pub signal: usize,
    /// Event time.
    pub time: Micros,
    /// When it was first sent, wall clock.
    pub published: Micros,
    /// As they are after the wire, a value per column.
    pub values: &'a [f64],
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    vehicle: u32,
    signal: u8,
    columns: u8,
    value: u32,
    time: Micros,
    published: Micros,
}

/// All acknowledged samples, about 45 bytes each.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    vehicles: Vec<VehicleId>,
    entries: Vec<Entry>,
    values: Vec<f64>,
}

impl Ledger {
    /// An empty one for these vehicles.
    pub fn new(vehicles: Vec<VehicleId>) -> Self {
        Self { vehicles, ..Self::default() }
    }

    /// The vehicles, by number.
    pub fn vehicles(&self) -> &[VehicleId] {
        &self.vehicles
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a sample of the vehicle with that number.
    #[allow(clippy::cast_possible_truncation, reason = "at most 31 signals of 16 columns, 2^32 values")]
    pub fn add(&mut self, vehicle: usize, sample: Sampled<'_>) {
        self.entries.push(Entry {
            vehicle: vehicle as u32,
            signal: sample.signal as u8,
            columns: sample.values.len() as u8,
            value: self.values.len() as u32,
            time: sample.time,
            published: sample.published,
        });
        self.values.extend_from_slice(sample.values);
    }

    /// Brings each vehicle's samples together; to be called before [`of`](Self::of).
    pub fn sort(&mut self) {
        self.entries.sort_by_key(|e| (e.vehicle, e.signal, e.time));
    }

    /// The samples of the vehicle with that number, by signal and time.
    pub fn of(&self, vehicle: usize) -> impl Iterator<Item = Sampled<'_>> {
        let begin = self.entries.partition_point(|e| (e.vehicle as usize) < vehicle);
        let end = self.entries.partition_point(|e| (e.vehicle as usize) <= vehicle);
        self.entries[begin..end].iter().map(|e| Sampled {
            signal: usize::from(e.signal),
            time: e.time,
            published: e.published,
            values: &self.values[e.value as usize..e.value as usize + usize::from(e.columns)],
        })
    }
}
