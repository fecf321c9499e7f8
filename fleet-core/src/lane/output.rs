//! Where the rows of a lane's vehicles go.

use super::counters::LaneCounters;
use super::latest::Latest;
use super::vehicle::Vehicle;
use crate::align::Track;
use crate::batch::{BatchBuilder, Row};
use crate::ids::Slot;
use crate::schema::Schema;

/// The batch under way, the newest row of each vehicle, and what was counted.
#[derive(Debug)]
pub(super) struct Output {
    pub builder: BatchBuilder,
    pub latest: Latest,
    pub counters: LaneCounters,
}

impl Output {
    pub(super) fn new(schema: &Schema) -> Self {
        Self {
            builder: BatchBuilder::new(schema),
            latest: Latest::new(schema),
            counters: LaneCounters::default(),
        }
    }

    /// Runs the aligner on the vehicle in a slot, and takes its rows.
    pub(super) fn rows_of<R>(
        &mut self,
        slot: Slot,
        vehicle: &mut Vehicle,
        run: impl FnOnce(&mut Track, &mut dyn FnMut(Row<'_>)) -> R,
    ) -> R {
        let Vehicle { id, epoch, track, key, .. } = vehicle;
        run(track, &mut |row| {
            let generation = self.builder.generation();
            // The vehicle enters a batch only when it has a row in it.
            if key.0 != generation {
                *key = (generation, self.builder.admit(id, *epoch));
            }
            self.counters.rows += 1;
            self.counters.corrections += u64::from(row.correction);
            self.latest.keep(slot, &row);
            self.builder.push(key.1, row);
        })
    }
}
