//! The small durable state of a vehicle that lets another worker go on exactly where one stopped.

use std::future::Future;

use super::Carry;
use crate::error::Result;
use crate::ids::VehicleId;
use crate::sample::NewestSamples;
use crate::time::{MINUTE, Micros};

/// How far after the server's time of its `on` a trip may begin: that is the vehicle's own word, whose
/// clock may be ahead. An end that is told belongs to the trip all the same.
pub const TRIP_AHEAD: Micros = MINUTE;

/// The newest record of a vehicle, for "where is it now".
#[derive(Debug, Clone, PartialEq)]
pub struct LatestRow {
    /// Event time.
    pub ts: Micros,
    /// A value per column of the schema; NaN where there is none.
    pub values: Vec<f64>,
    /// Two bits per signal.
    pub quality: i64,
}

/// What is stored of a vehicle, true of rows that are durable.
#[derive(Debug, Clone, PartialEq)]
pub struct VehicleState {
    /// The vehicle.
    pub vehicle: VehicleId,
    /// The claim under which this is written; a newer claim makes it void.
    pub epoch: i32,
    /// The earliest arrival (server time) of anything that the window still holds or that durable
    /// rows don't cover yet. An older one is always safe.
    pub resume_at: Micros,
    /// The last row (event time) that was emitted; later emissions up to it are corrections.
    pub floor: Option<Micros>,
    /// Per signal of the schema, event time: every sample from there on arrives again in a replay
    /// from `resume_at`; an older one would be too late or lack its neighbours.
    pub horizon: Vec<Option<Micros>>,
    /// Per signal of the schema: the event time of its newest sample.
    pub newest: Vec<Option<Micros>>,
    /// When it was given back cleanly (server time); `None` while it is bound.
    pub released_at: Option<Micros>,
    /// The newest record, if there is one since the last save.
    pub latest: Option<LatestRow>,
    /// The newest samples, of which there may be no record yet.
    pub samples: NewestSamples,
    /// What is left to the next holder. Only with the last state of a holder that ends; a state without it makes
    /// void what was saved before.
    pub carry: Option<Carry>,
}

/// A bind request that is about to be claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRequest {
    /// The vehicle.
    pub vehicle: VehicleId,
    /// From when on samples are wanted (server time): when its `on` was stored, or before that where earlier
    /// ones may have gone unread.
    pub on_time: Micros,
    /// When the trip began: the `on`'s `since` where it is believed, or else `on_time`.
    pub started_at: Micros,
    /// When the `on` was stored that tells of the trip (server time): `on_time` may be earlier, where
    /// samples are wanted from before.
    pub told_at: Micros,
}

/// What a claim found.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The vehicle.
    pub vehicle: VehicleId,
    /// The new epoch: one more than any before.
    pub epoch: i32,
    /// Replay what was stored from this server time on; see [`plan`].
    pub start: Micros,
    /// As saved.
    pub floor: Option<Micros>,
    /// Per signal of the schema, event time: samples before it are not wanted; see [`plan`]. Shorter
    /// than the schema, or empty, where signals are new.
    pub horizon: Vec<Option<Micros>>,
    /// As saved under the last claim, if that holder left any.
    pub carry: Option<Carry>,
}

/// What a store holds of a vehicle when it is claimed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stored {
    /// See [`VehicleState::resume_at`]; `None` for a vehicle that was never claimed.
    pub resume_at: Option<Micros>,
    /// See [`VehicleState::released_at`].
    pub released_at: Option<Micros>,
    /// See [`VehicleState::horizon`].
    pub horizon: Vec<Option<Micros>>,
    /// See [`VehicleState::newest`].
    pub newest: Vec<Option<Micros>>,
}

/// From where to replay a vehicle that is claimed at `now`, and which samples to take (server times
/// but for the horizon, which is event time).
///
/// Without a clean release that is `resume_at` with the saved horizon; a release younger than
/// `context` counts as none, so that a stop of twenty seconds gives the same rows whoever holds the
/// vehicle afterwards. After a clean release, and for a new vehicle, it is the `on` less the context,
/// but not before both the release and the `on`; then nothing of the neighbourhood of older samples is replayed, so
/// that samples up to the newest known ones are too late.
///
/// A store must make the plan durable, with `released_at` cleared, before it returns the claim:
/// otherwise a second claim after a crash could find the same release older than the context.
///
/// A [`Carry`] has no part in it: it is for this claim alone, and after a crash of the one that makes it the plan
/// holds.
pub fn plan(stored: &Stored, on_time: Micros, now: Micros, context: Micros) -> (Micros, Vec<Option<Micros>>) {
    match (stored.resume_at, stored.released_at) {
        (Some(_), Some(release)) if release <= now.saturating_sub(context) => {
            let after_newest = stored.newest.iter().map(|t| t.map(|t| t + 1)).collect();
            (release.min(on_time).max(on_time - context), after_newest)
        }
        (Some(resume), _) => (resume, stored.horizon.clone()),
        (None, _) => (on_time - context, Vec::new()),
    }
}

/// Keeps the states: in the database where there is one, else in a key-value bucket.
///
/// Every method may be repeated; a repeated claim only raises the epoch once more.
pub trait StateStore: Send + Sync + 'static {
    /// Claims vehicles in one step: raises each epoch by one, makes what [`plan`] says the stored
    /// `resume_at` and `horizon`, clears `released_at`, takes the [`Carry`] out, and begins the trip as
    /// [`begin_trip`](Self::begin_trip) does. One claim per request, in any order.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable): it is given again, as it is.
    /// [`Configuration`](crate::ErrorKind::Configuration): everything ends. Any other, such as
    /// [`Refused`](crate::ErrorKind::Refused): its halves are tried, to find what is to blame.
    fn claim(
        &self,
        requests: &[ClaimRequest],
        now: Micros,
        context: Micros,
    ) -> impl Future<Output = Result<Vec<Claim>>> + Send;

    /// Stores states; one whose epoch is not the newest is passed over. Gives the vehicles of those:
    /// somebody has claimed them since, whether he holds them or not, and sinks pass over their rows.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    fn save(&self, states: &[VehicleState]) -> impl Future<Output = Result<Vec<VehicleId>>> + Send;

    /// Ends the vehicle's open trips that began up to [`TRIP_AHEAD`] after these times (server time), but
    /// none before it began.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    fn end_trips(&self, ends: &[(VehicleId, Micros)]) -> impl Future<Output = Result<()>> + Send;

    /// Begins a trip of a vehicle that is bound, as was told at `told_at` (server time). One that began
    /// then already, and ended before it was told of again, is open again: a vehicle that was lost for a
    /// while goes on with its trip. One that ended later stays ended: what was told is out of date. Where
    /// the vehicle's newest trip began later, it is that one which is meant.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    fn begin_trip(
        &self,
        vehicle: &VehicleId,
        started_at: Micros,
        told_at: Micros,
    ) -> impl Future<Output = Result<()>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_is_the_resume_point_unless_the_release_was_clean_and_long_ago() {
        let stored = |resume_at, released_at| Stored {
            resume_at,
            released_at,
            horizon: vec![Some(50), None],
            newest: vec![Some(90), None],
        };
        let start = |resume_at, released_at, on| plan(&stored(resume_at, released_at), on, 2_000, 160);
        let resumed = vec![Some(50), None];
        assert_eq!(start(None, None, 1_000), (840, Vec::new()), "a new vehicle");
        assert_eq!(start(Some(500), None, 1_000), (500, resumed.clone()), "a dead worker");
        assert_eq!(start(Some(500), Some(1_900), 1_950), (500, resumed), "a short stop");
        let anew = vec![Some(91), None];
        assert_eq!(start(Some(500), Some(1_000), 1_990), (1_830, anew.clone()), "a long stop");
        assert_eq!(start(Some(500), Some(1_835), 1_990), (1_835, anew.clone()), "not before the release");
        let unread = start(Some(500), Some(1_835), 1_830);
        assert_eq!(unread, (1_830, anew), "where earlier ones may have gone unread, before it");
    }
}
