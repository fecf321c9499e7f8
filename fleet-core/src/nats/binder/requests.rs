//! One pull of bind requests. It is never broken off: what is on its way then would be lost, since async-nats drops
//! what comes for a subscription that it drains.

use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::jetstream::{Context, Message};
use async_nats::{Client, StatusCode, Subscriber};
use futures_util::StreamExt;

use crate::error::{Error, Result};

/// The requests of a pull, as they come.
pub(super) struct Requests {
    messages: Subscriber,
    /// How many may still come.
    left: usize,
    js: Context,
}

impl Requests {
    /// Asks for so many, for which the server waits so long.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable) if it can't be asked.
    pub(super) async fn pull(
        client: &Client,
        js: &Context,
        consumer: &PullConsumer,
        most: usize,
        expires: Duration,
    ) -> Result<Self> {
        let inbox = client.new_inbox();
        let messages = client.subscribe(inbox.clone()).await;
        let messages = messages.map_err(|e| Error::unavailable("no inbox for bind requests").caused_by(e))?;
        let asked = BatchConfig { batch: most, expires: Some(expires), ..BatchConfig::default() };
        let sent = consumer.request_batch(asked, inbox.into()).await;
        sent.map_err(|e| Error::unavailable("no bind requests").caused_by(e))?;
        Ok(Self { messages, left: most, js: js.clone() })
    }

    /// The next one; nothing when all have come, or no more do. Cancel-safe.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable) with what the server says; no more come then.
    pub(super) async fn next(&mut self) -> Option<Result<Message>> {
        while self.left > 0 {
            let message = self.messages.next().await?;
            match message.status.unwrap_or(StatusCode::OK) {
                StatusCode::OK => {
                    self.left -= 1;
                    return Some(Ok(Message { message, context: self.js.clone() }));
                }
                StatusCode::IDLE_HEARTBEAT => {}
                StatusCode::TIMEOUT | StatusCode::NOT_FOUND => self.left = 0,
                status => {
                    self.left = 0;
                    let said = message.description.unwrap_or_default();
                    return Some(Err(Error::unavailable(format!("no bind requests: {status} {said}"))));
                }
            }
        }
        None
    }
}
