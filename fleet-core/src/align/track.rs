//! What the aligner keeps of one vehicle, and what it says of it.

use super::ring::Ring;
use crate::time::Micros;

/// One vehicle's samples that may still be needed, and how far its rows have gone. Made by
/// [`Aligner::track`](super::Aligner::track) and of use only with that aligner.
#[derive(Debug)]
pub struct Track {
    /// By signal.
    pub(super) rings: Box<[Ring]>,
    /// The row under way, a value per column.
    pub(super) row: Box<[f64]>,
    /// The last grid instant that was emitted or had no values.
    pub(super) frontier: Option<Micros>,
    /// Rows up to it were emitted by an earlier holder.
    pub(super) floor: Option<Micros>,
    /// No silence began before it, server time.
    pub(super) patience_from: Micros,
}

impl Track {
    /// The event time of the newest sample of any signal.
    pub fn newest(&self) -> Option<Micros> {
        self.rings.iter().filter_map(Ring::newest).max()
    }

    /// How many samples are held.
    pub fn samples(&self) -> usize {
        self.rings.iter().map(Ring::len).sum()
    }

    /// What it takes in memory, bytes, without what the allocator adds.
    pub fn memory(&self) -> usize {
        let heap: usize = self.rings.iter().map(Ring::memory).sum();
        size_of::<Self>() + size_of_val(&*self.rings) + size_of_val(&*self.row) + heap
    }

    pub(super) fn oldest(&self) -> Option<Micros> {
        self.rings.iter().filter_map(Ring::oldest).min()
    }
}

/// What became of the samples of one message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inserted {
    /// New samples that were taken.
    pub taken: usize,
    /// Samples at an instant that was known already, those with other values included.
    pub duplicates: usize,
    /// Of the duplicates those with other values. The larger ones count from now on.
    pub conflicts: usize,
    /// Samples older than the window allows, which were not taken: their positions in the message.
    /// Allocates nothing while there is none.
    pub late: Vec<usize>,
    /// Samples from before the replay's horizon, which were not taken: an earlier holder has used
    /// them, or they are too late without its neighbours.
    pub replayed: usize,
    /// Samples, of this message or older, that were dropped because the signal has more of them in
    /// its window than may be held.
    pub overflowed: usize,
}

/// What another worker needs to go on where this track stands: the middle of a `VehicleState`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The earliest arrival of any sample that is held, server time in whole seconds rounded down.
    /// `None` where none is held: what was known before holds on.
    pub resume_at: Option<Micros>,
    /// The last grid instant that was emitted, by this or an earlier holder.
    pub floor: Option<Micros>,
    /// Per signal: the event time from which on every sample that was taken is held and thus arrives
    /// again in a replay. `None`: all there ever were.
    pub horizon: Vec<Option<Micros>>,
    /// Per signal: the event time of its newest sample.
    pub newest: Vec<Option<Micros>>,
}
