//! Whether a vehicle is on, by what is stored: an `off` counts only if it is stored later than the
//! last stored `on`, wherever it was read.

use super::payloads::{OnPayload, trip_start};
use super::{Gets, Names, StoredMessage};
use crate::error::Result;
use crate::ids::VehicleId;
use crate::time::Micros;

/// A stored `on` or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signal {
    pub sequence: u64,
    pub stored: Micros,
    pub since: Option<Micros>,
}

impl Signal {
    /// When the trip of this `on` began; see [`trip_start`].
    pub(super) fn started_at(&self, vehicle: &VehicleId) -> Micros {
        trip_start(vehicle, self.since, self.stored)
    }
}

/// The last stored `on` and `off` of a vehicle, those that parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Lifecycle {
    pub on: Option<Signal>,
    pub off: Option<Signal>,
}

impl Lifecycle {
    /// The `off`, if it is stored later than the `on`.
    pub(super) fn off_for_good(&self) -> Option<Signal> {
        self.off.filter(|off| self.on.is_none_or(|on| off.sequence > on.sequence))
    }

    /// The `on`, if it is stored after `ended_at`: a trip that nobody holds, be it over already or not.
    pub(super) fn on_after(&self, ended_at: Micros) -> Option<Signal> {
        self.on.filter(|on| on.stored > ended_at)
    }

    /// The `on`, if no `off` is stored later.
    pub(super) fn on_still(&self) -> Option<Signal> {
        self.on.filter(|on| self.off.is_none_or(|off| on.sequence > off.sequence))
    }
}

/// Reads both of each vehicle by direct get (about 15 µs of server CPU); an error is that vehicle's alone.
///
/// Of a replicated stream the answer may be from a moment before (see [`Gets`]). What was just heard live is looked
/// for again (`source::looks`). An `on` that a release misses comes again a minute later, as vehicles repeat it; an
/// `off` that was missed leaves its vehicle bound until it is looked at again or idle for too long.
pub(super) async fn read_each(gets: &Gets, names: &Names, vehicles: &[VehicleId]) -> Vec<Result<Lifecycle>> {
    let subjects = |vehicle| ["on", "off"].map(|word| names.subject(vehicle, word)).to_vec();
    let found = gets.last_of_groups(&names.lifecycle_stream(), vehicles.iter().map(subjects).collect()).await;
    let of_vehicle = |found: Result<Vec<Option<StoredMessage>>>| {
        let mut found = found?.into_iter().map(|message| message.as_ref().and_then(parsed));
        Ok(Lifecycle { on: found.next().flatten(), off: found.next().flatten() })
    };
    found.into_iter().map(of_vehicle).collect()
}

/// The same of one.
///
/// # Errors
/// [`Unavailable`](crate::ErrorKind::Unavailable).
pub(super) async fn read(gets: &Gets, names: &Names, vehicle: &VehicleId) -> Result<Lifecycle> {
    let mut found = read_each(gets, names, std::slice::from_ref(vehicle)).await;
    found.pop().unwrap_or_else(|| Ok(Lifecycle::default()))
}

/// A stored `on` or `off`, where its payload parses; whatever its headers are.
fn parsed(message: &StoredMessage) -> Option<Signal> {
    let payload = OnPayload::parse(&message.payload).ok()?;
    Some(Signal { sequence: message.sequence, stored: message.stored, since: payload.since })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_one_counts() {
        let at = |sequence| Some(Signal { sequence, stored: 0, since: None });
        let on = Lifecycle { on: at(5), off: at(4) };
        assert_eq!((on.off_for_good(), on.on_still()), (None, at(5)));
        let off = Lifecycle { on: at(5), off: at(6) };
        assert_eq!((off.off_for_good(), off.on_still()), (at(6), None));
        let only = Lifecycle { on: None, off: at(6) };
        assert_eq!(only.off_for_good(), at(6));
        assert_eq!(Lifecycle::default().off_for_good(), None);
        let next = Lifecycle { on: Some(Signal { sequence: 5, stored: 50, since: None }), off: at(6) };
        assert_eq!((next.on_after(40), next.on_after(50)), (next.on, None), "its off doesn't matter");
    }
}
