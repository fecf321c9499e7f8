//! Rows on their way into files, by day.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use fleet_core::Micros;
use fleet_core::batch::Batch;
use fleet_core::time::display;
use tokio::time::Instant;

/// One batch, or the part of it that is of one day.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub batch: Batch,
    /// When the sink took it.
    pub stored_at: Micros,
    /// Its rows of the day.
    pub rows: Vec<u32>,
}

/// The rows of one day that will be one file.
#[derive(Debug)]
pub(super) struct Day {
    pub pieces: Vec<Piece>,
    pub bytes: usize,
    pub since: Instant,
}

impl Day {
    /// The sequence of the oldest batch of which something is here.
    fn first(&self) -> u64 {
        self.pieces.first().map_or(u64::MAX, |piece| piece.batch.sequence())
    }
}

/// The days with rows that are in no file yet, by their date.
#[derive(Debug, Default)]
pub(super) struct Days(BTreeMap<String, Day>);

impl Days {
    /// Adds a batch's rows to their days.
    pub(super) fn add(&mut self, batch: &Batch, stored_at: Micros) {
        let times = batch.record().column(0).as_primitive::<TimestampMicrosecondType>().values();
        let mut by_day: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, time) in (0..).zip(times) {
            by_day.entry(time.div_euclid(DAY)).or_default().push(row);
        }
        for (day, rows) in by_day {
            let bytes = batch.memory() * rows.len() / batch.len().max(1);
            let new = || Day { pieces: Vec::new(), bytes: 0, since: Instant::now() };
            let day = self.0.entry(date(day * DAY)).or_insert_with(new);
            day.bytes += bytes;
            day.pieces.push(Piece { batch: batch.clone(), stored_at, rows });
        }
    }

    /// The sequence of the oldest batch of which something is here.
    pub(super) fn first(&self) -> Option<u64> {
        self.0.values().map(Day::first).min()
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.values().map(|day| day.bytes).sum()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The date of a day for which this holds.
    pub(super) fn find(&self, mut wanted: impl FnMut(&Day) -> bool) -> Option<String> {
        self.0.iter().find(|(_, day)| wanted(day)).map(|(date, _)| date.clone())
    }

    pub(super) fn get(&self, date: &str) -> Option<&Day> {
        self.0.get(date)
    }

    pub(super) fn remove(&mut self, date: &str) {
        self.0.remove(date);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

const DAY: Micros = 86_400 * fleet_core::time::SECOND;

/// The date of an instant, UTC: `2026-11-24`.
fn date(time: Micros) -> String {
    let mut text = display(time);
    text.truncate(text.find('T').unwrap_or(text.len()));
    text
}
