//! Fences: an acknowledged message in the telemetry stream. What was accepted before it is stored
//! with a smaller sequence; without one, up to 70 % of such messages were neither delivered nor found.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::Context;
use bytes::Bytes;

use super::Names;
use super::clock::local;
use crate::time::Micros;

/// A fence that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fence {
    /// Its sequence in the telemetry stream.
    pub sequence: u64,
    /// Our clock just before it was sent.
    pub before: Micros,
    /// Our clock just after its ack came.
    pub after: Micros,
}

/// Waits until the server knows every subscription made so far, then sets a fence; tries until it
/// stands. `client` must be the connection of the subscriptions: its order is what makes it a fence.
pub(super) async fn fence(client: &Client, js: &Context, names: &Names) -> Fence {
    loop {
        if client.flush().await.is_ok() {
            // On a cluster the reply doesn't mean that the other servers know (DESIGN section 5).
            if client.server_info().cluster.is_some() {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            let before = local();
            let sent = js.publish(names.fence(), Bytes::new()).await;
            let acked = match sent {
                Ok(ack) => ack.await,
                Err(error) => Err(error),
            };
            match acked {
                Ok(ack) => return Fence { sequence: ack.sequence, before, after: local() },
                Err(error) => tracing::debug!(%error, "a fence did not stand, trying again"),
            }
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
