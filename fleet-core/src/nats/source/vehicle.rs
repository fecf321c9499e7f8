//! What the source keeps of an attached vehicle.

use tokio::time::Instant;

use super::super::reader::Sid;
use super::super::watch::Owed;
use super::feed::Feed;
use super::looks::LifeLook;
use super::tasks::Rounds;
use crate::hash::Fnv;
use crate::ids::VehicleId;
use crate::message::{Message, Topic};
use crate::source::Attach;
use crate::time::{MINUTE, Micros};

/// How far the comparison with what is stored has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settling {
    No,
    /// The last stored messages are being read; once more, if it was wanted again meanwhile.
    Comparing {
        again: bool,
    },
    /// Something was missing, or a catch-up was under way: its end settles.
    CatchingUp,
}

/// What nobody has held for longer than this is caught up with the others: rounds of those that were handed over are
/// short.
const SHORT: Micros = MINUTE;

#[derive(Debug)]
pub(super) struct Attached {
    pub id: VehicleId,
    /// Nothing stored before this server time is wanted …
    pub from: Micros,
    /// … and of what was stored before this one only what is missed later.
    pub begin: Micros,
    /// What the stream must hold of it for the first catch-up.
    pub owed: Owed,
    pub gap_told: bool,
    pub feed: Feed,
    /// Since when its catch-up, or the last extension of it, is under way.
    pub behind_since: Option<Instant>,
    /// The look at its last `on` and `off`.
    pub look: LifeLook,
    pub subscription: Option<Sid>,
    /// When the last `off` of the trip was stored, if no later `on` is.
    pub off: Option<Micros>,
    /// When the trip's `on` was stored.
    pub on_time: Micros,
    /// Per signal: the hash of the last payload and its arrival, to compare with what is stored.
    pub seen: Box<[Option<(u64, Micros)>]>,
    pub settling: Settling,
}

impl Attached {
    pub(super) fn new(attach: Attach, signals: usize) -> Self {
        let begin = attach.begin();
        let Attach { vehicle: id, from, on_time, stored_at, .. } = attach;
        Self {
            id,
            from,
            begin,
            owed: stored_at.map_or(Owed::Perhaps(on_time.max(begin)), Owed::Known),
            gap_told: false,
            feed: Feed::catching_up(),
            behind_since: None,
            look: LifeLook::default(),
            subscription: None,
            off: None,
            on_time,
            seen: vec![None; signals].into(),
            settling: Settling::No,
        }
    }

    /// Whose rounds its first catch-up is in.
    pub(super) fn rounds(&self, now: Micros) -> Rounds {
        let is_short = self.begin > self.from && self.begin > now.saturating_sub(SHORT);
        if is_short { Rounds::HandedOver } else { Rounds::All }
    }

    /// Takes note of a message that goes to the heart.
    pub(super) fn saw(&mut self, message: &Message) {
        if let Topic::Signal(signal) = message.topic
            && let Some(seen) = self.seen.get_mut(signal.index())
        {
            *seen = Some((Fnv::of(&message.payload), message.arrival));
        }
    }
}
