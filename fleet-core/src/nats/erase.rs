//! Takes one vehicle out of a cell's streams, for good.

use async_nats::Client;
use async_nats::jetstream::Context;
use futures_util::StreamExt;

use super::Names;
use super::payloads::ClaimNotice;
use super::streams::jetstream;
use crate::error::{Error, Result};
use crate::ids::VehicleId;

/// How many messages were removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ErasedMessages {
    /// Samples.
    pub telemetry: u64,
    /// Its last `on` and `off`.
    pub lifecycle: u64,
    /// Its place in the bind queue.
    pub bind_requests: u64,
    /// What could not be used.
    pub dead_letters: u64,
}

/// The streams of a cell, of which single vehicles are removed. Every step may be repeated.
#[derive(Debug, Clone)]
pub struct Eraser {
    client: Client,
    js: Context,
    names: Names,
}

impl Eraser {
    /// An eraser on an open connection.
    pub fn new(client: Client, names: &Names) -> Self {
        Self { js: jetstream(&client), client, names: names.clone() }
    }

    /// Lets nobody bind the vehicle by what it has said so far.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) if the cell has no such stream,
    /// [`Unavailable`](crate::ErrorKind::Unavailable).
    pub async fn forget_requests(&self, vehicle: &VehicleId) -> Result<ErasedMessages> {
        let lifecycle = self.purge(self.names.lifecycle_stream(), self.names.vehicle(vehicle)).await?;
        let bind_requests = self.purge(self.names.bind_stream(), self.names.bind(vehicle)).await?;
        Ok(ErasedMessages { lifecycle, bind_requests, ..ErasedMessages::default() })
    }

    /// Has a worker that holds the vehicle under an epoch older than this drop it, with all rows of it that
    /// it has not begun to store.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable).
    pub async fn supersede(&self, vehicle: &VehicleId, epoch: i32) -> Result<()> {
        let notice = ClaimNotice { vehicle: vehicle.clone(), epoch };
        let notice = serde_json::to_vec(&[notice])
            .map_err(|e| Error::internal("a claim could not be written as JSON").caused_by(e))?;
        let lost = |e: async_nats::Error| Error::unavailable("NATS").caused_by(e);
        self.client.publish(self.names.claim(), notice.into()).await.map_err(|e| lost(e.into()))?;
        self.client.flush().await.map_err(|e| lost(e.into()))
    }

    /// Removes the vehicle's samples and dead letters.
    ///
    /// # Errors
    /// As [`forget_requests`](Self::forget_requests).
    pub async fn purge_samples(&self, vehicle: &VehicleId) -> Result<ErasedMessages> {
        let telemetry = self.purge(self.names.telemetry_stream(), self.names.vehicle(vehicle)).await?;
        let letters = (self.names.dead_letter_stream(), self.names.dead_letter(vehicle));
        let dead_letters = self.purge(letters.0, letters.1).await?;
        Ok(ErasedMessages { telemetry, dead_letters, ..ErasedMessages::default() })
    }

    /// Whether anything of the vehicle is stored: it still sends.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable).
    pub async fn still_sends(&self, vehicle: &VehicleId) -> Result<bool> {
        for stream in [self.names.telemetry_stream(), self.names.lifecycle_stream()] {
            let unavailable = |e: async_nats::Error| {
                Error::unavailable(format!("no answer for the subjects of the stream {stream}")).caused_by(e)
            };
            let handle = self.js.get_stream_no_info(&stream).await.map_err(|e| unavailable(e.into()))?;
            // Subjects only: a message's headers may be anything, and the client drops the connection over them.
            let subjects = handle.info_with_subjects(self.names.vehicle(vehicle)).await;
            let mut subjects = subjects.map_err(|e| unavailable(e.into()))?;
            if let Some(subject) = subjects.next().await {
                return subject.map(|_| true).map_err(|e| unavailable(e.into()));
            }
        }
        Ok(false)
    }

    async fn purge(&self, stream: String, subject: String) -> Result<u64> {
        let handle = self.js.get_stream_no_info(&stream).await;
        let handle = handle.map_err(|e| Error::unavailable("JetStream").caused_by(e))?;
        let purged = handle.purge().filter(subject).await.map_err(|error| {
            let text = format!("the stream {stream} could not be purged");
            // A stream that isn't there, or a right that is missing, comes as an answer; the rest as silence.
            match error.kind() {
                async_nats::jetstream::stream::PurgeErrorKind::TimedOut => Error::unavailable(text),
                _ => Error::configuration(format!("{text}; is `cell` right, and was `setup` run?")),
            }
            .caused_by(error)
        })?;
        Ok(purged.purged)
    }
}
