//! What the telemetry stream still holds, read in one sweep: for a replay.

use std::ops::Range;

use async_nats::Subject;
use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use bytes::Bytes;

use super::clock::ServerClock;
use super::fence::fence;
use super::reading::{Read, Reading};
use super::streams::jetstream;
use super::watch::look;
use super::{Names, NatsOptions, connect};
use crate::error::{Error, Result};
use crate::ids::{SignalIndex, VehicleId};
use crate::schema::Schema;
use crate::time::{MINUTE, Micros};

/// Up to so many vehicles the server filters; more are cheaper to sweep unfiltered (DESIGN section 5).
const FILTER_UP_TO: usize = 15;

/// The telemetry stream of a cell.
#[derive(Debug, Clone)]
pub struct History {
    js: Context,
    names: Names,
    schema: Schema,
    clock: ServerClock,
}

/// Where a sweep begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// With what was stored at this server time.
    At(Micros),
    /// Behind what an earlier sweep has ended with.
    After(u64),
}

/// A message of a vehicle's signal as it is stored.
#[derive(Debug)]
pub struct Told {
    subject: Subject,
    vehicle: Range<usize>,
    /// The signal.
    pub signal: SignalIndex,
    /// The payload.
    pub payload: Bytes,
    /// When it was stored, server time.
    pub stored: Micros,
}

impl Told {
    /// The vehicle's token of the subject; not validated.
    pub fn vehicle(&self) -> &str {
        self.subject.get(self.vehicle.clone()).unwrap_or_default()
    }
}

impl History {
    /// Connects, and asks the server for its time.
    ///
    /// # Errors
    /// As [`connect`]; [`Unavailable`](crate::ErrorKind::Unavailable) where there is no telemetry stream.
    pub async fn connect(options: &NatsOptions, names: &Names, schema: &Schema) -> Result<Self> {
        let js = jetstream(&connect(options, "fleet-replay", |_| {}).await?);
        let clock = ServerClock::default();
        look(&js.client(), &names.telemetry_stream(), &clock).await?;
        Ok(Self { js, names: names.clone(), schema: schema.clone(), clock })
    }

    /// The server's time.
    pub fn now(&self) -> Micros {
        self.clock.now()
    }

    /// From when on the stream holds everything that was stored, server time; `None` if nothing is
    /// missing. `known_since` is when the first vehicle was known: a stream that was made later is not the
    /// first one, though it may have lost nothing itself.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable), also where there is no such stream.
    pub async fn begins(&self, known_since: Option<Micros>) -> Result<Option<Micros>> {
        let state = look(&self.js.client(), &self.names.telemetry_stream(), &self.clock).await?;
        // Another server's clock has told it.
        let anew = known_since.is_some_and(|since| since < state.created.saturating_sub(MINUTE));
        Ok((state.first_sequence > 1 || anew).then(|| state.begins()))
    }

    /// Reads everything up to now, of these vehicles or, if there is none, of all.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable).
    pub async fn sweep(&self, begin: Begin, vehicles: &[VehicleId]) -> Result<Sweep<'_>> {
        let to = fence(&self.js, &self.names).await.sequence;
        let deliver_policy = match begin {
            Begin::After(sequence) => DeliverPolicy::ByStartSequence { start_sequence: sequence + 1 },
            Begin::At(time) => {
                let start_time = async_nats::datetime::from_nanos(i128::from(time.max(0)) * 1_000)
                    .map_err(|e| Error::internal("a start time out of range").caused_by(e))?;
                DeliverPolicy::ByStartTime { start_time }
            }
        };
        let filter_subjects = if vehicles.is_empty() || vehicles.len() > FILTER_UP_TO {
            Vec::new()
        } else {
            let signals = || self.schema.signals().iter();
            let of = |vehicle| signals().map(move |signal| self.names.subject(vehicle, &signal.name));
            vehicles.iter().flat_map(of).chain([self.names.fence()]).collect()
        };
        let config = OrderedConfig { deliver_policy, filter_subjects, ..OrderedConfig::default() };
        let reading = Reading::begin(&self.js, &self.names.telemetry_stream(), config, to).await?;
        Ok(Sweep { history: self, reading, pending: 0, to })
    }
}

/// A sweep under way.
pub struct Sweep<'a> {
    history: &'a History,
    reading: Reading,
    pending: u64,
    to: u64,
}

impl std::fmt::Debug for Sweep<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sweep").field("to", &self.to).finish_non_exhaustive()
    }
}

impl Sweep<'_> {
    /// The next message of a signal of the schema; nothing at the end. A sweep with fewer than a few
    /// vehicles gives theirs alone, any other those of all.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable).
    pub async fn next(&mut self) -> Result<Option<Told>> {
        let History { names, schema, .. } = self.history;
        while let Some(Read { message, stored, pending, .. }) = self.reading.next().await? {
            self.pending = pending;
            let Some((vehicle, last)) = names.parse(&message.subject) else { continue };
            let Some(signal) = schema.find(last) else { continue };
            // The vehicle's token and a dot stand before the last one.
            let end = message.subject.len() - last.len() - 1;
            let vehicle = end - vehicle.len()..end;
            return Ok(Some(Told {
                vehicle,
                signal,
                payload: message.payload,
                stored,
                subject: message.subject,
            }));
        }
        Ok(None)
    }

    /// How many messages are still to come, those that came after its beginning included.
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// What it ends with, for [`Begin::After`].
    pub fn end(&self) -> u64 {
        self.to
    }
}
