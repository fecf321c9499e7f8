//! In which transactions rows are merged: few rows of one chunk or partition in each, so that no lock is held for
//! long, and none on a chunk because of another.

use std::ops::Range;

use fleet_core::time::{Micros, grid_at_or_before};

use super::session::Load;

/// Rows of one transaction at most.
const MOST: usize = 10_000;

/// In key order: rows lie together in the index, and two writers never wait for each other in a circle.
pub(super) fn sort(order: &mut [u32], load: Load<'_>) {
    order.sort_by_key(|&row| key(load, row));
}

/// Puts rows into the order of chunks of that width, and of the key within each; where each piece lies.
pub(super) fn cut(order: &mut [u32], load: Load<'_>, width: Option<Micros>) -> Vec<Range<usize>> {
    let chunk = |row: u32| width.map(|width| load.rows.ts(row as usize).div_euclid(width));
    order.sort_by_key(|&row| (chunk(row), key(load, row)));
    let (mut pieces, mut from) = (Vec::new(), 0);
    for same in order.chunk_by(|a, b| chunk(*a) == chunk(*b)) {
        pieces.extend(same.chunks(MOST).scan(from, |from, piece| {
            let begin = std::mem::replace(from, *from + piece.len());
            Some(begin..*from)
        }));
        from += same.len();
    }
    pieces
}

fn key(load: Load<'_>, row: u32) -> (i32, Micros) {
    (load.ids[load.rows.vehicle(row as usize)], load.rows.ts(row as usize))
}

/// What is replaced in one transaction: these vehicles, within this span, by these rows.
#[derive(Debug)]
pub(super) struct Replacement {
    /// By their place in the load.
    pub(super) vehicles: Vec<usize>,
    pub(super) span: Range<Micros>,
    /// In key order.
    pub(super) rows: Vec<u32>,
}

/// Cuts a replacement of all vehicles of a load: a piece lies in one chunk of that width, and has [`MOST`] rows and
/// those of one vehicle at most. `order` has the rows of the span in key order, at most one each `interval`.
pub(super) fn replacements(
    load: Load<'_>,
    order: &[u32],
    span: &Range<Micros>,
    width: Micros,
    interval: Micros,
) -> Vec<Replacement> {
    let mut vehicles: Vec<usize> = (0..load.ids.len()).collect();
    vehicles.sort_unstable_by_key(|vehicle| load.ids[*vehicle]);
    let mut pieces = Vec::new();
    for span in slices(span, width, interval) {
        let empty = || Replacement { vehicles: Vec::new(), span: span.clone(), rows: Vec::new() };
        let mut piece = empty();
        for &vehicle in &vehicles {
            let id = load.ids[vehicle];
            let from = order.partition_point(|&row| key(load, row) < (id, span.start));
            let to = order.partition_point(|&row| key(load, row) < (id, span.end));
            piece.vehicles.push(vehicle);
            piece.rows.extend(&order[from..to]);
            if piece.rows.len() >= MOST {
                pieces.push(std::mem::replace(&mut piece, empty()));
            }
        }
        if !piece.vehicles.is_empty() {
            pieces.push(piece);
        }
    }
    pieces
}

/// Cuts a span at the ends of chunks, and chunks into as many equal parts as one vehicle's rows need.
fn slices(span: &Range<Micros>, width: Micros, interval: Micros) -> impl Iterator<Item = Range<Micros>> {
    let rows = i64::try_from(MOST).unwrap_or(i64::MAX);
    let parts = (width - 1) / interval.saturating_mul(rows) + 1;
    let slice = (width - 1) / parts + 1;
    let (mut at, end) = (span.start, span.end);
    std::iter::from_fn(move || {
        let begin = at;
        let chunk = grid_at_or_before(begin, width);
        at = end.min(chunk + width).min(chunk + grid_at_or_before(begin - chunk, slice) + slice);
        (begin < end).then_some(begin..at)
    })
}

#[cfg(test)]
mod tests {
    use fleet_core::time::{MINUTE, SECOND};

    use super::super::partition::DAY;
    use super::*;

    const HOUR: Micros = 60 * MINUTE;

    #[test]
    fn a_span_is_cut_at_the_ends_of_chunks_and_where_a_vehicle_has_many_rows() {
        let cut = |span: Range<Micros>, interval| slices(&span, DAY, interval).collect::<Vec<_>>();
        let day = 20_000 * DAY;
        assert_eq!(cut(day..day + DAY + 1, 10 * SECOND), [day..day + DAY, day + DAY..day + DAY + 1]);
        // A day has 17,280 rows: two parts.
        assert_eq!(
            cut(day + HOUR..day + DAY + HOUR, 5 * SECOND),
            [day + HOUR..day + 12 * HOUR, day + 12 * HOUR..day + DAY, day + DAY..day + DAY + HOUR]
        );
        assert_eq!(cut(day..day + DAY, SECOND).len(), 9);
        assert_eq!(cut(day..day, SECOND), []);
        // In an odd number of parts nothing is left out and nothing twice.
        let odd = cut(day + 1..day + 3 * DAY - 1, 7 * SECOND / 2);
        assert_eq!((odd[0].start, odd[odd.len() - 1].end), (day + 1, day + 3 * DAY - 1));
        assert!(odd.windows(2).all(|pair| pair[0].end == pair[1].start && pair[0].start < pair[0].end));
    }
}
