//! What a vehicle's aligner may emit in the worst case, and what must come of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Range;

use super::Stored;
use crate::batch::{Batch, BatchBuilder, Quality, Record, Row};
use crate::error::{Error, Result};
use crate::ids::VehicleId;
use crate::schema::{ColumnType, Schema};
use crate::time::{Micros, SECOND};

/// splitmix64, <https://prng.di.unimi.it/splitmix64.c>
#[derive(Debug, Clone)]
pub(super) struct Dice(pub u64);

impl Dice {
    /// A number from 0 up to, not including, `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit.max(1)
    }

    pub(super) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(usize::try_from(self.below(from.len() as u64)).unwrap_or(0)).copied()
    }
}

/// One row as an aligner emits it.
#[derive(Debug, Clone)]
pub(super) struct Emission {
    pub vehicle: VehicleId,
    pub ts: Micros,
    values: Vec<f64>,
    quality: i64,
    correction: bool,
}

impl Emission {
    pub(super) fn row(&self) -> Row<'_> {
        let Self { ts, values, quality, correction, .. } = self;
        Row { ts: *ts, values, quality: *quality, correction: *correction }
    }
}

/// Vehicles whose names sort otherwise than they come, the longest among them.
fn vehicles() -> Result<Vec<VehicleId>> {
    let names = ["zz-last", "A", &"x".repeat(64), "WVWZZZ1KZ8W000001", "0", "a_b-C"];
    let id = |name: &&str| VehicleId::new(name).map_err(|e| Error::internal(e.to_string()));
    names.iter().map(id).collect()
}

/// Rows in the order in which they are emitted: few instants and many repetitions, each signal there or
/// not. Rows that were emitted before say so, as the aligner's do, unless its worker had died in between.
pub(super) fn emissions(schema: &Schema, dice: &mut Dice) -> Result<Vec<Emission>> {
    let vehicles = vehicles()?;
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for _ in 0..20 + dice.below(180) {
        let Some(vehicle) = vehicles.get(usize::try_from(dice.below(6)).unwrap_or(0)) else { continue };
        // Two days, at whose border partitions and files change.
        let step = Micros::try_from(dice.below(12)).unwrap_or(0);
        let ts = 1_700_006_400 * SECOND + (step - 6) * schema.interval();
        let mut emission = Emission {
            vehicle: vehicle.clone(),
            ts,
            values: vec![f64::NAN; schema.column_count()],
            quality: 0,
            correction: false,
        };
        for (s, signal) in schema.signals().iter().enumerate() {
            let how = dice.pick(&[Quality::Missing, Quality::Measured, Quality::Interpolated, Quality::Held]);
            let how = how.unwrap_or(Quality::Missing);
            emission.quality |= how.at(s);
            for (c, column) in signal.column_range().zip(&signal.columns) {
                if how != Quality::Missing {
                    let share = dice.pick(&[0.0, 1.0, 0.1, 1.0 / 3.0, 0.5, 0.999_999_999]).unwrap_or(0.0);
                    emission.values[c] = column.min + (column.max - column.min) * share;
                }
            }
        }
        if emission.quality == 0 {
            continue;
        }
        let repeated = !seen.insert((vehicle.clone(), ts));
        emission.correction = if repeated { !dice.one_in(4) } else { dice.one_in(8) };
        all.push(emission);
    }
    Ok(all)
}

/// A batch of these rows; sequences count up in one builder, as in one worker.
pub(super) fn batch(builder: &mut BatchBuilder, rows: &[Emission], epoch: i32) -> Result<Batch> {
    for row in rows {
        let key = builder.vehicle(&row.vehicle, epoch);
        builder.push(key, row.row());
    }
    builder.seal()
}

/// A signal's part of a record: how its values came about, and the values.
type Part = (Quality, Vec<Option<f64>>);

/// What was given to a sink so far, and what may be stored of it: by vehicle, time and signal, since
/// each signal of a row is replaced for itself.
#[derive(Debug)]
pub(super) struct Model<'a> {
    schema: &'a Schema,
    cells: BTreeMap<(VehicleId, Micros, usize), Cell>,
    givings: u64,
}

#[derive(Debug, Default)]
struct Cell {
    /// What is stored if all of it is.
    now: Option<Part>,
    /// What may be seen instead while not all is durable: what was there before each giving.
    unsure: Vec<(u64, Option<Part>)>,
}

impl<'a> Model<'a> {
    pub(super) fn new(schema: &'a Schema) -> Self {
        Self { schema, cells: BTreeMap::new(), givings: 0 }
    }

    /// The rows are on their way into the store. Gives the number of the giving.
    pub(super) fn give(&mut self, rows: &[Emission]) -> u64 {
        self.givings += 1;
        for row in rows {
            for signal in 0..self.schema.signals().len() {
                let Some(part) = self.part(row, signal) else { continue };
                let cell = self.cells.entry((row.vehicle.clone(), row.ts, signal)).or_default();
                let before = cell.now.replace(part);
                cell.unsure.push((self.givings, before));
            }
        }
        self.givings
    }

    /// These rows are durable as they were given then.
    pub(super) fn settle(&mut self, rows: &[Emission], giving: u64) {
        for row in rows {
            for signal in 0..self.schema.signals().len() {
                if self.part(row, signal).is_none() {
                    continue;
                }
                if let Some(cell) = self.cells.get_mut(&(row.vehicle.clone(), row.ts, signal)) {
                    cell.unsure.retain(|(given, _)| *given > giving);
                }
            }
        }
    }

    /// What a row says of a signal. A `real` column keeps what an `f32` can.
    fn part(&self, row: &Emission, signal: usize) -> Option<Part> {
        let quality = Some(Quality::of(row.quality, signal)).filter(|q| *q != Quality::Missing)?;
        let spec = self.schema.signals().get(signal)?;
        #[allow(clippy::cast_possible_truncation, reason = "that is what the column does")]
        let kept = |(value, kind): (f64, ColumnType)| match kind {
            ColumnType::Double => Some(value),
            ColumnType::Real => Some(f64::from(value as f32)),
        };
        let values = row.values.get(spec.column_range())?.iter().copied();
        Some((quality, values.zip(spec.columns.iter().map(|c| c.kind)).map(kept).collect()))
    }

    /// What is wrong with what is stored, if anything is.
    pub(super) fn differs(&self, stored: &Stored) -> Option<String> {
        let nothing = Cell::default();
        let mut said = String::new();
        let given = self.cells.keys().map(|(vehicle, ts, _)| (vehicle.clone(), *ts));
        let keys: BTreeSet<_> = given.chain(stored.keys().cloned()).collect();
        for (vehicle, ts) in keys {
            let record = stored.get(&(vehicle.clone(), ts));
            for (s, signal) in self.schema.signals().iter().enumerate() {
                let cell = self.cells.get(&(vehicle.clone(), ts, s)).unwrap_or(&nothing);
                let is = record.and_then(|record| stored_part(record, s, signal.column_range()));
                if is != cell.now && !cell.unsure.iter().any(|(_, before)| *before == is) {
                    let (name, must) = (&signal.name, &cell.now);
                    let _ = write!(said, "{name} of {vehicle} at {ts} is {is:?}, not {must:?}; ");
                }
            }
        }
        (!said.is_empty()).then_some(said)
    }
}

fn stored_part(record: &Record, signal: usize, columns: Range<usize>) -> Option<Part> {
    let values = record.values.get(columns).unwrap_or_default().to_vec();
    match Quality::of(record.quality, signal) {
        Quality::Missing if values.iter().all(Option::is_none) => None,
        quality => Some((quality, values)),
    }
}
