//! What the aligner keeps of one vehicle, and what it says of it.

use prefetch_index::prefetch_index;

use super::ring::Ring;
use super::sequence::Sequence;
use crate::ids::SignalIndex;
use crate::sample::NewestSamples;
use crate::time::Micros;

/// One vehicle's samples that may still be needed, and how far its rows have gone. Made by
/// [`Aligner::track`](super::Aligner::track) and of use only with that aligner.
///
/// Its first cache line is all that most samples need beside their signal's ring.
#[derive(Debug)]
#[repr(C)]
pub struct Track {
    /// By signal.
    pub(super) rings: Box<[Ring]>,
    /// The last grid instant that was emitted or had no values, or [`NEVER`].
    pub(super) frontier: Micros,
    /// The event time of the newest sample of any signal. It and the next four say for most messages
    /// that no row can have become complete, without a look at the other signals' rings.
    pub(super) newest: Micros,
    /// The latest arrival of any message, server time.
    pub(super) heard: Micros,
    /// No silence began before it, server time.
    pub(super) patience_from: Micros,
    /// No patience with a silent signal ends before it, server time.
    pub(super) due: Micros,
    /// The signal that the row after the frontier waits for, if one is known.
    pub(super) waits_for: Option<u8>,
    /// Set by who replays the vehicle's messages. Here since this memory is near.
    pub(crate) catching_up: bool,
    /// Goes on where an earlier holder stopped, and is not caught up from there yet.
    pub(crate) carried: bool,
    /// A bit for each signal that is silent while others went on, and has been waited for long enough.
    pub(super) given_up: u32,
    /// Rows up to it were emitted by an earlier holder, or [`NEVER`].
    pub(super) floor: Micros,
    /// When the vehicle came back from its last long pause, server time: since then nothing was heard of it for
    /// [`PAUSE`](super::aligner::PAUSE) contexts at most.
    pub(super) awake_from: Micros,
}

const _: () = assert!(std::mem::offset_of!(Track, floor) == 64);

/// Stands for "never", to keep a track small: no instant of a sample is that old.
pub(super) const NEVER: Micros = Micros::MIN;

impl Track {
    /// The last grid instant that was emitted or had no values.
    pub(super) fn frontier(&self) -> Option<Micros> {
        (self.frontier != NEVER).then_some(self.frontier)
    }

    /// The event time of the newest sample of any signal.
    pub fn newest(&self) -> Option<Micros> {
        (self.newest != NEVER).then_some(self.newest)
    }

    /// No [`tick`](super::Aligner::tick) before it has rows, server time; the maximum if none will. Every
    /// insertion may change it; right after a tick it is exact.
    pub fn due(&self) -> Micros {
        self.due
    }

    pub(super) fn has_given_up(&self, signal: u8) -> bool {
        self.given_up >> signal & 1 == 1
    }

    /// Waits for all signals again, for how long [`Aligner::touch`](super::Aligner::touch) will say.
    pub(crate) fn wait_for_all(&mut self) {
        self.given_up = 0;
    }

    /// Follows the counter of a signal's frames; gives the server time from which something may be
    /// missing if it jumped.
    pub(crate) fn follow(&mut self, signal: SignalIndex, counter: u16, arrival: Micros) -> Option<Micros> {
        self.rings.get_mut(signal.index())?.sequence.follow(counter, arrival)
    }

    /// Forgets the counters: the next frames may be any.
    pub(crate) fn forget_counters(&mut self) {
        self.rings.iter_mut().for_each(|ring| ring.sequence = Sequence::default());
    }

    /// How many samples are held.
    pub fn samples(&self) -> usize {
        self.rings.iter().map(Ring::len).sum()
    }

    /// Bytes of the signals' samples if each had this many at least, but for signal `s`.
    pub(super) fn memory_beside(&self, s: usize, least: usize) -> usize {
        let others = self.rings.iter().enumerate().filter(|(other, _)| *other != s);
        others.map(|(_, ring)| ring.memory().max(least)).sum()
    }

    /// What it takes in memory, bytes, without what the allocator adds.
    pub fn memory(&self) -> usize {
        let heap: usize = self.rings.iter().map(Ring::memory).sum();
        size_of::<Self>() + size_of_val(&*self.rings) + heap
    }

    /// Whether a sample of the signal may complete a row: no other is known to be waited for.
    pub(crate) fn waits_for(&self, signal: SignalIndex) -> bool {
        self.waits_for.is_none_or(|waited| usize::from(waited) == signal.index())
    }

    /// Has the signal's ring fetched, and nothing of what it points to.
    pub(crate) fn prefetch_ring(&self, signal: SignalIndex) {
        prefetch_index(&self.rings, signal.index());
    }

    /// Has all rings fetched in the same way.
    pub(crate) fn prefetch_rings(&self) {
        (0..self.rings.len()).for_each(|s| prefetch_index(&self.rings, s));
    }

    /// Has the place of the signal's next sample fetched.
    pub(crate) fn prefetch_next(&self, signal: SignalIndex) {
        if let Some(ring) = self.rings.get(signal.index()) {
            ring.prefetch_next();
        }
    }

    /// Has the samples fetched that the next row needs, or the last few rows.
    pub(crate) fn prefetch_rows(&self, past: bool) {
        self.rings.iter().for_each(|ring| ring.prefetch_rows(past));
    }

    /// The newest sample of each signal, of those that are held.
    pub fn newest_samples(&self) -> NewestSamples {
        let mut newest = NewestSamples::default();
        for ring in &self.rings {
            let sample = ring.len().checked_sub(1).and_then(|last| ring.view().get(last));
            newest.times.push(sample.map(|sample| sample.time));
            newest.values.extend((0..ring.columns()).map(|column| Some(sample?.value(column))));
        }
        newest
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
    /// Whether that is to be told: a sample of this message was dropped by it, or the first older one since the
    /// signal had room enough.
    pub short_of_room: bool,
}

/// What another worker needs to go on where this track stands: the middle of a `VehicleState`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The earliest arrival of any sample that is held and can still be needed, server time in whole seconds
    /// rounded down. `None` where none is held: what was known before holds on.
    pub resume_at: Option<Micros>,
    /// The last grid instant that was emitted, by this or an earlier holder.
    pub floor: Option<Micros>,
    /// Per signal: the event time from which on every sample that was taken is held and thus arrives
    /// again in a replay. `None`: all there ever were. Of a signal that is silent for so long that nothing can
    /// be joined to its samples any more it lies behind the newest.
    pub horizon: Vec<Option<Micros>>,
    /// Per signal: the event time of its newest sample.
    pub newest: Vec<Option<Micros>>,
}
