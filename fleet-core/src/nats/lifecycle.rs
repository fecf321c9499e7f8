//! Whether a vehicle is on, by what is stored: an `off` counts only if it is stored later than the
//! last stored `on`, wherever it was read.

use async_nats::jetstream::Context;
use async_nats::jetstream::stream::DirectGetErrorKind;

use super::payloads::{OnPayload, trip_start};
use super::{Names, stored_at};
use crate::error::{Error, Result};
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

/// Reads both by direct get (about 60 µs of server CPU).
pub(super) async fn read(js: &Context, names: &Names, vehicle: &VehicleId) -> Result<Lifecycle> {
    Ok(Lifecycle { on: last(js, names, vehicle, "on").await?, off: last(js, names, vehicle, "off").await? })
}

/// Reads one of them, where it parses.
pub(super) async fn last(
    js: &Context,
    names: &Names,
    vehicle: &VehicleId,
    word: &str,
) -> Result<Option<Signal>> {
    let found = last_stored(js, &names.lifecycle_stream(), names.subject(vehicle, word)).await?;
    Ok(found.and_then(|m| {
        let payload = OnPayload::parse(&m.payload).ok()?;
        Some(Signal { sequence: m.sequence, stored: stored_at(m.time), since: payload.since })
    }))
}

/// The last message of a subject by direct get.
///
/// # Errors
/// [`Unavailable`](crate::ErrorKind::Unavailable).
pub(super) async fn last_stored(
    js: &Context,
    stream: &str,
    subject: String,
) -> Result<Option<async_nats::jetstream::message::StreamMessage>> {
    let unavailable = |what: &str, error: async_nats::Error| {
        Error::unavailable(format!("{what} of the stream {stream}")).caused_by(error)
    };
    let handle = js.get_stream_no_info(stream).await.map_err(|e| unavailable("no handle", Box::new(e)))?;
    match handle.direct_get_last_for_subject(subject).await {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(error) => Err(unavailable("no direct get", Box::new(error))),
    }
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
