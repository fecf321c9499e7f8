//! What a lane keeps of a bound vehicle.

use crate::align::Track;
use crate::batch::{Quality, Row};
use crate::bind::{Binding, LatestRow};
use crate::ids::{SignalIndex, VehicleId};
use crate::schema::Schema;
use crate::time::{Micros, SECOND};

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
    /// Its key in the batch under way, and the batch builder's generation that it is of.
    pub key: Option<(u64, i32)>,
    /// Per signal.
    pub sequences: Box<[Sequence]>,
}

/// A signal's last frame: its counter, if there was one, and its arrival in whole seconds of server
/// time, rounded down.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sequence {
    counter: Option<u16>,
    arrival: u32,
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
            key: None,
            sequences: vec![Sequence::default(); signals].into(),
        }
    }

    /// Reads its own fields, in each of the cache lines that they take; the sum is of no meaning.
    pub(super) fn touch(&self) -> u64 {
        let (key, latest) = (self.key.map_or(0, |(generation, _)| generation), self.latest.as_ref());
        let (track, latest) = (self.track.due(), latest.map_or(0, |latest| latest.ts));
        key ^ (track ^ latest ^ self.start).cast_unsigned() ^ self.id.as_str().len() as u64
    }

    /// Reads in the same way what the fields point to and a sample of the signal needs, or a tick.
    pub(super) fn touch_parts(&self, signal: Option<SignalIndex>) -> u64 {
        let sequence = signal.and_then(|signal| self.sequences.get(signal.index()));
        let sequence = sequence.map_or(0, |sequence| sequence.arrival);
        let latest = self.latest.as_ref().and_then(|latest| latest.values.first());
        let name = self.id.as_str().bytes().next().unwrap_or(0);
        let own = u64::from(sequence) ^ latest.map_or(0, |value| value.to_bits()) ^ u64::from(name);
        own ^ self.track.touch_rings(signal)
    }

    /// Follows a frame's counter; gives the time from which something may be missing if it jumped.
    pub(super) fn follow(
        &mut self,
        signal: SignalIndex,
        sequence: Option<u16>,
        arrival: Micros,
    ) -> Option<Micros> {
        let counter = sequence?;
        let last = self.sequences.get_mut(signal.index())?;
        let ahead = counter.wrapping_sub(last.counter.unwrap_or(counter));
        let since = Micros::from(last.arrival) * SECOND;
        // Behind or the same: a repeat or a restart near 0.
        if ahead <= MOST_LOST || counter < 16 {
            let arrival = u32::try_from(arrival.div_euclid(SECOND)).unwrap_or(0);
            *last = Sequence { counter: Some(counter), arrival };
        }
        (2..=MOST_LOST).contains(&ahead).then_some(since)
    }
}

/// Keeps the newest row; what a newer emission of it lacks stays.
pub(super) fn keep_latest(latest: &mut Option<LatestRow>, row: &Row<'_>, schema: &Schema) {
    match latest {
        Some(kept) if kept.ts > row.ts => {}
        Some(kept) if kept.ts < row.ts => {
            kept.ts = row.ts;
            kept.values.copy_from_slice(row.values);
            kept.quality = row.quality;
        }
        Some(kept) => {
            for (s, signal) in schema.signals().iter().enumerate() {
                let quality = Quality::of(row.quality, s);
                if quality != Quality::Missing {
                    kept.quality = quality.put(kept.quality, s);
                    kept.values[signal.column_range()].copy_from_slice(&row.values[signal.column_range()]);
                }
            }
        }
        None => {
            *latest = Some(LatestRow { ts: row.ts, values: row.values.to_vec(), quality: row.quality });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_emission_replaces_what_it_has_and_keeps_the_rest() {
        let schema = Schema::default();
        let quality = |signals: [Quality; 4]| (0..4).map(|s| signals[s].at(s)).sum::<i64>();
        let (interpolated, measured, none) = (Quality::Interpolated, Quality::Measured, Quality::Missing);
        let first = [48.0, 11.0, f64::NAN, 70.0, f64::NAN];
        let again = [f64::NAN, f64::NAN, 50.0, 71.0, f64::NAN];
        let mut latest = None;
        for (values, signals) in
            [(first, [measured, none, interpolated, none]), (again, [none, interpolated, measured, none])]
        {
            let row = Row { ts: 10, values: &values, quality: quality(signals), correction: false };
            keep_latest(&mut latest, &row, &schema);
        }
        let latest = latest.unwrap();
        assert_eq!(latest.values[..4], [48.0, 11.0, 50.0, 71.0]);
        assert_eq!(latest.quality, quality([measured, interpolated, measured, none]));
    }
}
