//! What a lane keeps of a bound vehicle.

use crate::align::Track;
use crate::batch::Row;
use crate::bind::{Binding, LatestRow};
use crate::ids::{SignalIndex, VehicleId};
use crate::time::Micros;

#[derive(Debug)]
pub(super) struct Vehicle {
    pub id: VehicleId,
    pub epoch: i32,
    pub start: Micros,
    pub track: Track,
    pub latest: Option<LatestRow>,
    /// Something came since the last snapshot.
    pub dirty: bool,
    pub catching_up: bool,
    /// Per signal: the last frame's counter and its arrival.
    pub sequences: Box<[Option<(u16, Micros)>]>,
}

/// A jump forward by more than this is a restart of the sensor rather than a loss.
const MOST_LOST: u16 = 4096;

impl Vehicle {
    pub(super) fn new(binding: &Binding, track: Track, signals: usize) -> Self {
        Self {
            id: binding.vehicle.clone(),
            epoch: binding.epoch,
            start: binding.start,
            track,
            latest: None,
            dirty: false,
            catching_up: true,
            sequences: vec![None; signals].into(),
        }
    }

    /// Follows a frame's counter; gives the time from which something may be missing if it jumped.
    pub(super) fn follow(
        &mut self,
        signal: SignalIndex,
        sequence: Option<u16>,
        arrival: Micros,
    ) -> Option<Micros> {
        let sequence = sequence?;
        let last = self.sequences.get_mut(signal.index())?;
        let (previous, at) = last.unwrap_or((sequence, arrival));
        let ahead = sequence.wrapping_sub(previous);
        // Behind or the same: a repeat or a restart near 0.
        if ahead <= MOST_LOST || sequence < 16 {
            *last = Some((sequence, arrival));
        }
        (last.is_some() && (2..=MOST_LOST).contains(&ahead)).then_some(at)
    }
}

/// Keeps the newest row; what a newer emission of it lacks stays.
pub(super) fn keep_latest(latest: &mut Option<LatestRow>, row: &Row<'_>) {
    match latest {
        Some(kept) if kept.ts > row.ts => {}
        Some(kept) if kept.ts < row.ts => {
            kept.ts = row.ts;
            kept.values.copy_from_slice(row.values);
            kept.quality = row.quality;
        }
        Some(kept) => {
            for (kept, new) in kept.values.iter_mut().zip(row.values) {
                if !new.is_nan() {
                    *kept = *new;
                }
            }
            kept.quality |= row.quality;
        }
        None => {
            *latest = Some(LatestRow { ts: row.ts, values: row.values.to_vec(), quality: row.quality });
        }
    }
}
