//! What an `on` leads to: a bind request, unless there is none to be made.

use std::sync::atomic::Ordering;

use super::{Discovery, DiscoveryCounters};
use crate::error::Result;
use crate::ids::VehicleId;
use crate::nats::lifecycle;
use crate::nats::payloads::{BindRequest, OnPayload, believed};
use crate::nats::queue::{Enqueued, enqueue, pause_after};
use crate::nats::reader::Delivered;
use crate::time::{MINUTE, Micros, SECOND};

/// An `on` that was stored so long before it is read may have replaced one that nobody read.
const LATE: Micros = 10 * SECOND;

/// Vehicles repeat their `on` every minute: who has been reading for so long has read the first one.
const REPEATS: Micros = 2 * MINUTE;

/// How a message of a consumer is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ack {
    /// It is dealt with.
    Done,
    /// Deliver it again, after this time.
    Again(std::time::Duration),
    /// It can't be used.
    Never,
}

impl Ack {
    /// As JetStream wants it.
    pub(super) fn payload(self) -> String {
        match self {
            Self::Done => "+ACK".to_owned(),
            Self::Again(pause) => format!("-NAK {{\"delay\": {}}}", pause.as_nanos()),
            Self::Never => "+TERM".to_owned(),
        }
    }
}

impl Discovery {
    /// The request that an `on` asks for; `None` for one that can't be used. Its headers don't matter.
    pub(super) fn request(
        &self,
        subject: &str,
        payload: &[u8],
        delivered: &Delivered<'_>,
    ) -> Option<BindRequest> {
        let complain = |why: &dyn std::fmt::Display| {
            tracing::warn!(cell = %self.names.cell(), subject, "an `on` was refused: {why}");
        };
        let (vehicle, _) = self.names.parse(subject)?;
        let vehicle = VehicleId::new(vehicle).inspect_err(|e| complain(e)).ok()?;
        let payload = OnPayload::parse(payload).inspect_err(|e| complain(e)).ok()?;
        let stored = delivered.time;
        if payload.since.is_some() && believed(payload.since, stored).is_none() {
            DiscoveryCounters::add(&self.counters.since_refused);
        }
        let kept = stored.saturating_sub(self.max_age);
        let unread_since = self.checkpoint.unread_since(stored).max(kept);
        let begin = begin(stored, payload.since, self.gap(stored), self.max_age).min(unread_since);
        Some(BindRequest::new(vehicle, delivered.sequence, stored, payload.since, begin))
    }

    /// Makes the request, where it is still wanted. What can't be dealt with now is delivered again, the later the
    /// more often it was.
    pub(super) async fn deal(&self, request: &BindRequest, stored: Micros, deliveries: u64) -> Ack {
        match self.enqueue(request, stored).await {
            Ok(()) => Ack::Done,
            Err(error) => {
                DiscoveryCounters::add(&self.counters.failed);
                let (cell, vehicle) = (self.names.cell(), &request.vehicle);
                tracing::warn!(%cell, %vehicle, %error, "an `on` can't be dealt with now, it is tried again");
                Ack::Again(pause_after(i64::try_from(deliveries).unwrap_or(i64::MAX)))
            }
        }
    }

    async fn enqueue(&self, request: &BindRequest, stored: Micros) -> Result<()> {
        // A trip that ended before we came to read of it is still to be recorded, unless nothing is left of it.
        let gone = self.clock.now().saturating_sub(self.max_age);
        if stored < gone && self.is_over(request).await? {
            DiscoveryCounters::add(&self.counters.off);
            return Ok(());
        }
        let enqueued = enqueue(&self.client, &self.names, request).await;
        self.enqueuing.store(enqueued.is_ok(), Ordering::Relaxed);
        match enqueued? {
            Enqueued::Yes => {
                DiscoveryCounters::add(&self.counters.enqueued);
                tracing::debug!(cell = %self.names.cell(), vehicle = %request.vehicle, "enqueued");
            }
            Enqueued::Already => DiscoveryCounters::add(&self.counters.already),
        }
        Ok(())
    }

    /// An `off` that a replica does not have yet costs a binding that ends at once.
    async fn is_over(&self, request: &BindRequest) -> Result<bool> {
        let off = lifecycle::read(self.gets().await?, &self.names, &request.vehicle).await?.off;
        Ok(off.is_some_and(|off| off.sequence > request.on_sequence))
    }

    /// Whether an earlier `on` of the same trip may have gone unread.
    fn gap(&self, stored: Micros) -> bool {
        let reading_since = self.reading_since.load(Ordering::Relaxed);
        self.clock.now() - stored > LATE || stored - reading_since < REPEATS
    }
}

/// From when on there may be samples of a trip whose `on` was stored at `stored`. Only the last `on` is
/// kept: after a gap what the vehicle says of its trip's beginning counts, within the time for which samples
/// are kept. Else it doesn't, for a wrong clock would cost a long sweep.
fn begin(stored: Micros, since: Option<Micros>, gap: bool, max_age: Micros) -> Micros {
    let kept = stored.saturating_sub(max_age);
    believed(since, stored).filter(|since| gap && (kept..stored).contains(since)).unwrap_or(stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trip_begins_when_the_vehicle_says_where_its_first_on_may_be_lost() {
        let begin = |since, gap| begin(1_000, since, gap, 100);
        assert_eq!(begin(Some(910), true), 910, "earlier repeats were not read");
        assert_eq!(begin(Some(910), false), 1_000, "they were, and it has been released since");
        assert_eq!(begin(None, true), 1_000);
        assert_eq!(begin(Some(899), true), 1_000, "a clock that is behind, or all is gone");
        assert_eq!(begin(Some(1_001), true), 1_000, "a clock that is ahead");
    }

    #[test]
    fn an_answer_is_what_jetstream_understands() {
        let again = Ack::Again(std::time::Duration::from_millis(1_500));
        assert_eq!(again.payload(), r#"-NAK {"delay": 1500000000}"#);
        assert_eq!([Ack::Done, Ack::Never].map(Ack::payload), ["+ACK", "+TERM"]);
    }
}
