//! What the aligner keeps of one vehicle, and what it says of it.

use super::ring::Ring;
use crate::ids::SignalIndex;
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
    /// The event time of the newest sample of any signal. It and the next three say for most messages
    /// that no row can have become complete, without a look at the other signals' rings.
    pub(super) newest: Micros,
    /// The latest arrival of any message, server time.
    pub(super) heard: Micros,
    /// No patience with a silent signal ends before it, server time.
    pub(super) due: Micros,
    /// The signal that the row after the frontier waits for, if one is known.
    pub(super) waits_for: Option<u8>,
}

/// Stands for "never", to keep a track small: no instant of a sample is that old.
pub(super) const NEVER: Micros = Micros::MIN;

impl Track {
    /// The event time of the newest sample of any signal.
    pub fn newest(&self) -> Option<Micros> {
        (self.newest != NEVER).then_some(self.newest)
    }

    /// No [`tick`](super::Aligner::tick) before it has rows, server time; quicker to say than
    /// [`next_tick`](super::Aligner::next_tick), and sooner. Every insertion may change it.
    pub fn due(&self) -> Micros {
        self.due
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

    /// The ring that a sample of the signal will need; all of them for the one that is waited for, and
    /// for a tick, for there may be a row.
    fn needed(&self, signal: Option<SignalIndex>) -> &[Ring] {
        match (signal.map(SignalIndex::index), self.waits_for) {
            (Some(s), Some(waits_for)) if usize::from(waits_for) != s => {
                self.rings.get(s..=s).unwrap_or_default()
            }
            _ => &self.rings,
        }
    }

    /// Reads the rings, and nothing of what they point to, so that they are near when a sample of
    /// the signal comes; the sum is of no meaning.
    pub(crate) fn touch_rings(&self, signal: Option<SignalIndex>) -> u64 {
        let rings = self.needed(signal).iter();
        rings.fold(0, |sum, ring| sum ^ ring.heard().unwrap_or(0)).cast_unsigned()
            ^ self.row.first().map_or(0, |v| v.to_bits())
    }

    /// Reads in the same way where the next sample goes and where those lie that a row needs.
    pub(crate) fn touch_samples(&self, signal: Option<SignalIndex>) -> u64 {
        self.needed(signal).iter().fold(0, |sum, ring| sum ^ ring.touch())
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
    /// Samples from before the ring's horizon, which were not taken: in a replay an earlier holder has
    /// used them, in a message read again this one, or they are too late without their neighbours.
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
