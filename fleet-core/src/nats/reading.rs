//! A stream read in order, from some place up to another.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::stored_at;
use crate::error::{Error, Result};
use crate::time::Micros;

/// How long the server may be silent before the reading is given up.
const SILENCE: Duration = Duration::from_secs(15);

/// A message as it lies in its stream.
#[derive(Debug)]
pub(super) struct Read {
    pub message: async_nats::Message,
    pub sequence: u64,
    /// Server time.
    pub stored: Micros,
    /// How many more there are behind it.
    pub pending: u64,
}

pub(super) struct Reading {
    messages: Ordered,
    to: u64,
    ended: bool,
}

impl Reading {
    /// Begins to read up to and with the sequence `to`, or until nothing more is there.
    pub(super) async fn begin(js: &Context, stream: &str, config: OrderedConfig, to: u64) -> Result<Self> {
        let failed = || Error::unavailable(format!("the stream {stream} can't be read"));
        let consumer = js.create_consumer_on_stream(config, stream).await;
        let consumer = consumer.map_err(|e| failed().caused_by(e))?;
        let ended = consumer.cached_info().num_pending == 0;
        let messages = consumer.messages().await.map_err(|e| failed().caused_by(e))?;
        Ok(Self { messages, to, ended })
    }

    /// The next message; nothing after the last one.
    pub(super) async fn next(&mut self) -> Result<Option<Read>> {
        if self.ended {
            return Ok(None);
        }
        let message = match timeout(SILENCE, self.messages.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(error))) => {
                return Err(Error::unavailable("reading a stream broke off").caused_by(error));
            }
            Ok(None) | Err(_) => return Err(Error::unavailable("reading a stream ended before its end")),
        };
        let info = message.info();
        let info = info.map_err(|e| Error::internal("a stored message without its place").caused_by(e))?;
        let (sequence, pending) = (info.stream_sequence, info.pending);
        let stored = stored_at(info.published);
        self.ended = sequence >= self.to || pending == 0;
        Ok((sequence <= self.to).then_some(Read { message: message.message, sequence, stored, pending }))
    }
}
