//! What the telemetry stream still holds, read in one sweep: for a replay.

use async_nats::jetstream::Context;

use super::clock::ServerClock;
use super::fence::fence;
use super::filter::filter;
use super::reader::ReaderOptions;
use super::reading::{Begin, Entry, LINGER, Order, Reading};
use super::streams::jetstream;
use super::watch::look;
use super::{Names, NatsOptions, connect};
use crate::error::Result;
use crate::ids::{SignalIndex, VehicleId};
use crate::schema::Schema;
use crate::time::{MINUTE, Micros};

/// What the connections are called.
const CONNECTION: &str = "fleet-replay";

/// The telemetry stream of a cell.
#[derive(Debug, Clone)]
pub struct History {
    options: NatsOptions,
    js: Context,
    names: Names,
    schema: Schema,
    clock: ServerClock,
}

/// A message of a vehicle's signal as it is stored.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// The vehicle's token of the subject; not validated.
    pub vehicle: &'a str,
    /// The signal.
    pub signal: SignalIndex,
    /// The payload.
    pub payload: &'a [u8],
    /// When it was stored, server time.
    pub stored: Micros,
}

impl History {
    /// Connects, and asks the server for its time.
    ///
    /// # Errors
    /// As [`connect`]; [`Unavailable`](crate::ErrorKind::Unavailable) where there is no telemetry stream.
    pub async fn connect(options: &NatsOptions, names: &Names, schema: &Schema) -> Result<Self> {
        let js = jetstream(&connect(options, CONNECTION, |_| {}).await?);
        let clock = ServerClock::default();
        look(&js.client(), &names.telemetry_stream(), &clock).await?;
        Ok(Self { options: options.clone(), js, names: names.clone(), schema: schema.clone(), clock })
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

    /// Reads everything up to now, of these vehicles or, if there is none, of all, on a connection of its own.
    ///
    /// # Errors
    /// As [`Sweep::next`], and as [`connect`].
    pub async fn sweep(&self, begin: Begin, vehicles: &[VehicleId]) -> Result<Sweep<'_>> {
        let to = fence(&self.js, &self.names).await.sequence;
        let filter = filter(&self.names, &self.schema, vehicles.iter());
        let order = Order { stream: self.names.telemetry_stream(), begin, filter, to, linger: LINGER };
        let reading = Reading::begin(ReaderOptions::new(self.options.clone(), CONNECTION), order).await?;
        Ok(Sweep { history: self, reading, to })
    }
}

/// A sweep under way.
pub struct Sweep<'a> {
    history: &'a History,
    reading: Reading,
    to: u64,
}

impl std::fmt::Debug for Sweep<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sweep").field("to", &self.to).finish_non_exhaustive()
    }
}

impl Sweep<'_> {
    /// Waits for the next messages and hands over those of a signal of the schema, which may be none; says whether
    /// there may be more. A sweep with fewer than a few vehicles gives theirs alone, any other those of all. Not
    /// cancel-safe.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable) if it does not get on, although a lost connection is made again;
    /// [`Configuration`](crate::ErrorKind::Configuration) where there is no stream or no right to read it.
    pub async fn next(&mut self, mut take: impl FnMut(Told<'_>) + Send) -> Result<bool> {
        let History { names, schema, .. } = self.history;
        let entry = |entry: Entry<'_>| {
            // What can't be read the log names.
            let Entry::Message(message) = entry else { return };
            // No other name is ever bound than one of ASCII.
            let Ok(subject) = std::str::from_utf8(message.subject) else { return };
            let Some((vehicle, last)) = names.parse(subject) else { return };
            let Some(signal) = schema.find(last) else { return };
            take(Told { vehicle, signal, payload: message.payload, stored: message.stored });
        };
        self.reading.next(entry).await
    }

    /// How many messages are still to come, those that came after its beginning included.
    pub fn pending(&self) -> u64 {
        self.reading.pending()
    }

    /// What it ends with, for [`Begin::After`].
    pub fn end(&self) -> u64 {
        self.to
    }
}
