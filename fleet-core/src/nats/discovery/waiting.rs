//! Vehicles that no worker takes: said once when it has been so for a while, and once when it is over.

use super::Bindings;
use crate::ids::CellId;

/// Looks in a row that find somebody waiting before it is said, some seconds each.
const LOOKS: u32 = 6;

/// What was seen of a cell's queue.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    looks: u32,
}

impl Waiting {
    /// The queue was looked at.
    pub(super) fn saw(&mut self, cell: &CellId, Bindings { waiting, bound, .. }: Bindings) {
        let before = self.looks;
        self.looks = if waiting > 0 { before.saturating_add(1) } else { 0 };
        if before < LOOKS && self.looks == LOOKS {
            tracing::warn!(%cell, waiting, bound, "vehicles wait for a worker: none runs, or none has room");
        } else if before >= LOOKS && waiting == 0 {
            tracing::info!(%cell, bound, "no vehicle waits for a worker any more");
        }
    }
}
