//! The lanes of a worker: threads with a runtime each, and how cells and limits are shared out among them.

use fleet_core::CellId;
use fleet_core::error::{Error, Result};
use fleet_core::nats::Ticks;
use tokio::runtime::{Builder, Runtime};

/// What one pipeline serves, and its part of what the process may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Whose vehicles it takes.
    pub cell: CellId,
    /// The thread that it runs on, from 0.
    pub lane: usize,
    /// Vehicles at most.
    pub max_vehicles: usize,
    /// Rows that wait for a sink at most.
    pub max_waiting_rows: usize,
    /// How many pipelines the process has in all.
    pub of: usize,
}

impl Share {
    /// Its part of a limit of the process, 1 at least.
    pub fn part(&self, whole: usize) -> usize {
        (whole / self.of).max(1)
    }
}

/// Shares the cells out among lanes: a pipeline for each lane, or for each cell where there are more of them. The
/// `i`-th serves the `i`-th cell on the `i`-th lane, counted round and round.
///
/// Every cell has as many of the vehicles as any other, however many lanes it has, and its lanes share them. There
/// are no more lanes than vehicles.
pub fn shares(cells: &[CellId], lanes: usize, max_vehicles: usize, max_waiting_rows: usize) -> Vec<Share> {
    let of_cells = cells.len();
    let lanes = lanes.min(max_vehicles / of_cells.max(1) * of_cells).max(1);
    let of = lanes.max(of_cells);
    let share = |(index, cell): (usize, &CellId)| {
        let (cell_index, turn) = (index % of_cells, index / of_cells);
        let lanes_of_cell = nth_part(of, of_cells, cell_index);
        let vehicles_of_cell = nth_part(max_vehicles, of_cells, cell_index);
        Share {
            cell: cell.clone(),
            lane: index % lanes,
            max_vehicles: nth_part(vehicles_of_cell, lanes_of_cell, turn),
            max_waiting_rows: nth_part(max_waiting_rows, of, index).max(1),
            of,
        }
    };
    cells.iter().cycle().take(of).enumerate().map(share).collect()
}

/// The `n`-th of so many nearly equal parts.
fn nth_part(whole: usize, parts: usize, n: usize) -> usize {
    whole / parts + usize::from(n < whole % parts)
}

/// The cores that this process is given, by the machine or by its quota; 1 where that can't be found out.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The runtime of a lane: everything of it runs on the thread that drives it, which sleeps by `ticks` before it waits.
///
/// # Errors
/// [`Internal`](fleet_core::ErrorKind::Internal) if the system refuses it.
pub fn runtime(ticks: &Ticks) -> Result<Runtime> {
    let ticks = ticks.clone();
    Builder::new_current_thread()
        .enable_all()
        .on_thread_park(move || ticks.sleep())
        .build()
        .map_err(|e| Error::internal("could not start the runtime of a lane").caused_by(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(cells: usize, lanes: usize, vehicles: usize) -> Vec<Share> {
        let cells: Vec<_> = (0..cells).map(|n| CellId::new(&n.to_string()).unwrap()).collect();
        shares(&cells, lanes, vehicles, 1_000)
    }

    fn pairs(shares: &[Share]) -> Vec<(&str, usize, usize)> {
        shares.iter().map(|share| (share.cell.as_str(), share.lane, share.max_vehicles)).collect()
    }

    #[test]
    fn lanes_of_one_cell_share_its_vehicles() {
        assert_eq!(pairs(&shared(1, 1, 10)), [("0", 0, 10)]);
        assert_eq!(pairs(&shared(1, 3, 10)), [("0", 0, 4), ("0", 1, 3), ("0", 2, 3)]);
    }

    #[test]
    fn cells_have_equal_parts_and_take_turns_on_the_lanes() {
        assert_eq!(pairs(&shared(2, 2, 10)), [("0", 0, 5), ("1", 1, 5)]);
        assert_eq!(pairs(&shared(3, 2, 9)), [("0", 0, 3), ("1", 1, 3), ("2", 0, 3)]);
        assert_eq!(pairs(&shared(2, 3, 10)), [("0", 0, 3), ("1", 1, 5), ("0", 2, 2)]);
    }

    #[test]
    fn a_lane_without_a_place_for_a_vehicle_is_not_made() {
        assert_eq!(pairs(&shared(1, 8, 1)), [("0", 0, 1)]);
        assert_eq!(pairs(&shared(2, 8, 3)), [("0", 0, 2), ("1", 1, 1)]);
    }

    #[test]
    fn nothing_of_the_limits_is_lost_or_added() {
        for (cells, lanes, vehicles) in [(1, 1, 1), (1, 4, 10_000), (3, 2, 10_001), (5, 16, 999), (8, 3, 8)] {
            let shares = shared(cells, lanes, vehicles);
            assert_eq!(shares.len(), lanes.max(cells));
            assert_eq!(shares.iter().map(|share| share.max_vehicles).sum::<usize>(), vehicles);
            assert_eq!(shares.iter().map(|share| share.max_waiting_rows).sum::<usize>(), 1_000);
            assert!(shares.iter().all(|share| share.max_vehicles > 0 && share.of == shares.len()));
        }
    }
}
