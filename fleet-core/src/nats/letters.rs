//! The dead letters of a cell, for an operator: read, kept, removed.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::stream::Stream;
use bytes::Bytes;

use super::dead_letters::{CUT_FROM, DETAIL, REASON, SIGNAL, message};
use super::reader::ReaderOptions;
use super::reading::{Begin, Entry, Order, Reading, StoredMessage};
use super::streams::jetstream;
use super::{Names, NatsOptions, connect};
use crate::error::{Error, Result};
use crate::ids::VehicleId;
use crate::message::DeadLetter;
use crate::time::Micros;

/// A dead letter in its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLetter {
    /// Its place in the stream.
    pub sequence: u64,
    /// When it was stored, server time.
    pub stored: Micros,
    /// The vehicle.
    pub vehicle: VehicleId,
    /// The subject's last token, or `row`.
    pub signal: String,
    /// Why, in a word; see [`Refusal::as_str`](crate::message::Refusal::as_str).
    pub reason: String,
    /// Why, in words.
    pub detail: String,
    /// The message as it came, or the row as JSON; its beginning where it is [cut](Self::cut_from).
    pub payload: Bytes,
    /// How many bytes the payload had, if it was too large for the stream: only its beginning is there, which
    /// can't be used.
    pub cut_from: Option<u64>,
}

/// What the connections are called.
const CONNECTION: &str = "fleet-letters";

/// The dead letters of a cell.
#[derive(Debug, Clone)]
pub struct Letters {
    options: NatsOptions,
    js: Context,
    names: Names,
}

impl Letters {
    /// Connects.
    ///
    /// # Errors
    /// As [`connect`].
    pub async fn connect(options: &NatsOptions, names: &Names) -> Result<Self> {
        let client = connect(options, CONNECTION, |_| {}).await?;
        Ok(Self { options: options.clone(), js: jetstream(&client), names: names.clone() })
    }

    /// Hands over all that are there now, the oldest first, of these vehicles or, if there is none, of
    /// all. What somebody else has put into the stream is passed over.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable).
    pub async fn read(
        &self,
        vehicles: &[VehicleId],
        mut take: impl FnMut(StoredLetter) + Send,
    ) -> Result<()> {
        let to = self.stream().await?.cached_info().state.last_sequence;
        let order = Order {
            stream: self.names.dead_letter_stream(),
            begin: Begin::After(0),
            filter: vehicles.iter().map(|vehicle| self.names.dead_letter(vehicle)).collect(),
            to,
            // The last one of these vehicles may be long before that.
            linger: Duration::ZERO,
        };
        let options = ReaderOptions::new(self.options.clone(), CONNECTION);
        let mut reading = Reading::begin(options, order).await?;
        let mut entry = |entry: Entry<'_>| {
            let Entry::Message(message) = entry else { return };
            match letter(&message) {
                Some(letter) => take(letter),
                None => tracing::warn!(sequence = message.sequence, "this is no dead letter of ours"),
            }
        };
        while reading.next(&mut entry).await? {}
        Ok(())
    }

    /// Keeps a letter; on return it is stored, its payload cut to what the stream takes.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable).
    pub async fn keep(&self, letter: &DeadLetter) -> Result<()> {
        let failed = |e| Error::unavailable("a dead letter could not be stored").caused_by(e);
        let subject = self.names.dead_letter(&letter.vehicle);
        let sent = self.js.send_publish(subject, message(letter)).await.map_err(failed)?;
        sent.await.map(drop).map_err(failed)
    }

    /// Removes a letter of this vehicle that was stored then; says whether it was still there. Another
    /// message at its place is left alone.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable), also where the right to it is missing.
    pub async fn remove(&self, vehicle: &VehicleId, sequence: u64, stored: Micros) -> Result<bool> {
        let stream = self.stream().await?;
        let Ok(there) = stream.get_raw_message(sequence).await else { return Ok(false) };
        let same = there.subject.as_str() == self.names.dead_letter(vehicle);
        if !same || super::stored_at(there.time) != stored {
            return Ok(false);
        }
        let removed = stream.delete_message(sequence).await;
        removed.map_err(|e| Error::unavailable("a dead letter could not be removed").caused_by(e))
    }

    async fn stream(&self) -> Result<Stream> {
        let name = self.names.dead_letter_stream();
        let stream = self.js.get_stream(&name).await;
        stream.map_err(|e| Error::unavailable(format!("no stream {name}")).caused_by(e))
    }
}

fn letter(message: &StoredMessage<'_>) -> Option<StoredLetter> {
    let headers = message.headers?;
    let header = |name| headers.last(name).map(|value| String::from_utf8_lossy(value).into_owned());
    Some(StoredLetter {
        sequence: message.sequence,
        stored: message.stored,
        vehicle: VehicleId::new(std::str::from_utf8(message.subject).ok()?.rsplit('.').next()?).ok()?,
        signal: header(SIGNAL)?,
        reason: header(REASON)?,
        detail: header(DETAIL)?,
        payload: Bytes::copy_from_slice(message.payload),
        cut_from: headers.last(CUT_FROM).map(whole),
    })
}

/// How long a payload was; what is no length is longer than any.
fn whole(length: &[u8]) -> u64 {
    std::str::from_utf8(length).ok().and_then(|length| length.parse().ok()).unwrap_or(u64::MAX)
}
