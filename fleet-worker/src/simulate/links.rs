//! The connections that simulated vehicles publish over.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use fleet_core::error::{Error, Result};
use fleet_core::nats::{Names, NatsOptions, connect};
use futures_util::{StreamExt, TryStreamExt, stream};

/// Connections that are made at once.
const AT_ONCE: usize = 32;

/// Vehicles share them in turns. One for all makes the server's work lighter than it is: what comes together
/// is read and answered together.
#[derive(Debug)]
pub(super) struct Links(Vec<Arc<Context>>);

impl Links {
    /// Connects; `window` acks may be awaited on each at once.
    pub(super) async fn connect(
        nats: &NatsOptions,
        names: &Names,
        count: usize,
        window: usize,
    ) -> Result<Self> {
        let name = names.connection("simulate");
        let link = async || {
            let client = connect(nats, &name, |_| {}).await?;
            let context = ContextBuilder::new()
                .timeout(Duration::from_secs(5))
                .max_ack_inflight(window)
                .backpressure_on_inflight(true);
            Ok::<_, Error>(Arc::new(context.build(client)))
        };
        let links = stream::iter(0..count.max(1)).map(|_| link()).buffer_unordered(AT_ONCE);
        Ok(Self(links.try_collect().await?))
    }

    /// That of a vehicle.
    pub(super) fn of(&self, vehicle: usize) -> Arc<Context> {
        Arc::clone(&self.0[vehicle % self.0.len()])
    }
}
