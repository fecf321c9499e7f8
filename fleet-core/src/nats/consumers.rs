//! Durable consumers that `setup` has made.

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::stream::ConsumerErrorKind;

use crate::error::{Error, Result};

/// Asks for a consumer.
///
/// # Errors
/// [`Unavailable`](crate::ErrorKind::Unavailable), in words that tell one that is not there from no answer.
pub(super) async fn consumer(js: &Context, stream: &str, name: &str) -> Result<PullConsumer> {
    js.get_consumer_from_stream::<Config, _, _>(name, stream).await.map_err(|error| {
        let what = format!("consumer {name} on {stream}");
        let text = match error.kind() {
            ConsumerErrorKind::JetStream(refused) if refused.code() == 404 => {
                format!("no {what}: run `setup`")
            }
            ConsumerErrorKind::TimedOut | ConsumerErrorKind::Request => {
                format!("NATS does not answer for the {what}: is it there, and may this login ask for it?")
            }
            _ => format!("the {what} can't be used"),
        };
        Error::unavailable(text).caused_by(error)
    })
}
