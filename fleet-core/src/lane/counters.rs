//! Plain counters of a lane.

use crate::message::Refusals;

/// What a lane has done since it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaneCounters {
    /// Messages with samples.
    pub messages: u64,
    /// Samples decoded, refused ones included.
    pub samples: u64,
    /// Samples older than the window.
    pub late: u64,
    /// Samples that were there already.
    pub duplicates: u64,
    /// Samples read again of which it is no longer known whether they were there; they were not taken.
    pub replayed: u64,
    /// Samples that fell out of a full ring before their time.
    pub overflowed: u64,
    /// Rows emitted, corrections included.
    pub rows: u64,
    /// Rows emitted again.
    pub corrections: u64,
    /// Batches sealed.
    pub batches: u64,
    /// Jumps of a frame's counter.
    pub sequence_gaps: u64,
    /// Messages or samples refused, by reason.
    pub refused: Refusals,
}
