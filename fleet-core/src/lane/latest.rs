//! The newest row of each vehicle, those of all vehicles in one place.

use prefetch_index::prefetch_index;

use crate::batch::{Quality, Row};
use crate::bind::LatestRow;
use crate::ids::Slot;
use crate::schema::Schema;
use crate::time::Micros;

/// Rows by slot, in one array.
#[derive(Debug)]
pub(super) struct Latest {
    schema: Schema,
    /// By slot the time and the quality.
    heads: Vec<(Micros, i64)>,
    /// By slot a value per column.
    values: Vec<f64>,
}

/// No row has that time.
const NONE: Micros = Micros::MIN;

impl Latest {
    pub(super) fn new(schema: &Schema) -> Self {
        Self { schema: schema.clone(), heads: Vec::new(), values: Vec::new() }
    }

    /// Makes the slot one without a row.
    pub(super) fn reset(&mut self, slot: Slot) {
        super::extend(&mut self.heads, slot.index() + 1, || (NONE, 0));
        super::extend(&mut self.values, self.heads.len() * self.schema.column_count(), || f64::NAN);
        self.heads[slot.index()] = (NONE, 0);
    }

    /// The slot's row.
    pub(super) fn get(&self, slot: Slot) -> Option<LatestRow> {
        let &(ts, quality) = self.heads.get(slot.index()).filter(|(ts, _)| *ts != NONE)?;
        let columns = self.schema.column_count();
        let values = self.values.get(slot.index() * columns..)?.get(..columns)?;
        Some(LatestRow { ts, values: values.to_vec(), quality })
    }

    /// Keeps a row if it is the newest; what a newer emission of it lacks stays.
    pub(super) fn keep(&mut self, slot: Slot, row: &Row<'_>) {
        let columns = self.schema.column_count();
        let Some((ts, quality)) = self.heads.get_mut(slot.index()) else { return };
        let values = &mut self.values[slot.index() * columns..][..columns];
        if *ts < row.ts {
            (*ts, *quality) = (row.ts, row.quality);
            values.copy_from_slice(row.values);
        } else if *ts == row.ts {
            for (s, signal) in self.schema.signals().iter().enumerate() {
                let how = Quality::of(row.quality, s);
                if how != Quality::Missing {
                    *quality = how.put(*quality, s);
                    values[signal.column_range()].copy_from_slice(&row.values[signal.column_range()]);
                }
            }
        }
    }

    /// Has the slot's row fetched from far memory.
    pub(super) fn prefetch(&self, slot: Slot) {
        let columns = self.schema.column_count();
        prefetch_index(&self.heads, slot.index());
        prefetch_index(&self.values, slot.index() * columns);
        prefetch_index(&self.values, (slot.index() + 1) * columns - 1);
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
        let (mut latest, slot) = (Latest::new(&schema), Slot(1));
        latest.reset(slot);
        assert_eq!(latest.get(slot), None);
        for (values, signals) in
            [(first, [measured, none, interpolated, none]), (again, [none, interpolated, measured, none])]
        {
            let row = Row { ts: 10, values: &values, quality: quality(signals), correction: false };
            latest.keep(slot, &row);
        }
        latest.keep(slot, &Row { ts: 9, values: &[0.0; 5], quality: 0, correction: true });
        let kept = latest.get(slot).unwrap();
        assert_eq!(kept.values[..4], [48.0, 11.0, 50.0, 71.0]);
        assert_eq!((kept.ts, kept.quality), (10, quality([measured, interpolated, measured, none])));
        latest.reset(slot);
        assert_eq!((latest.get(slot), latest.get(Slot(0))), (None, None));
    }
}
