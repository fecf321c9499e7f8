//! The dead letters of a cell, for an operator: read, kept, removed.

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::stream::Stream;
use bytes::Bytes;

use super::dead_letters::{CUT_FROM, DETAIL, REASON, SIGNAL, message};
use super::reading::{Read, Reading};
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

/// The dead letters of a cell.
#[derive(Debug, Clone)]
pub struct Letters {
    js: Context,
    names: Names,
}

impl Letters {
    /// Connects.
    ///
    /// # Errors
    /// As [`connect`].
    pub async fn connect(options: &NatsOptions, names: &Names) -> Result<Self> {
        let client = connect(options, "fleet-letters", |_| {}).await?;
        Ok(Self { js: jetstream(&client), names: names.clone() })
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
        let filter_subjects = vehicles.iter().map(|vehicle| self.names.dead_letter(vehicle)).collect();
        let config = OrderedConfig { filter_subjects, ..OrderedConfig::default() };
        let mut reading = Reading::begin(&self.js, &self.names.dead_letter_stream(), config, to).await?;
        while let Some(read) = reading.next().await? {
            match self.letter(&read) {
                Some(letter) => take(letter),
                None => tracing::warn!(sequence = read.sequence, "this is no dead letter of ours"),
            }
        }
        Ok(())
    }

    fn letter(&self, read: &Read) -> Option<StoredLetter> {
        let headers = read.message.headers.as_ref()?;
        let header = |name| headers.get(name).map(|value| value.as_str().to_owned());
        Some(StoredLetter {
            sequence: read.sequence,
            stored: read.stored,
            vehicle: VehicleId::new(read.message.subject.rsplit('.').next()?).ok()?,
            signal: header(SIGNAL)?,
            reason: header(REASON)?,
            detail: header(DETAIL)?,
            payload: read.message.payload.clone(),
            cut_from: headers.get(CUT_FROM).map(|length| length.as_str().parse().unwrap_or(u64::MAX)),
        })
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
