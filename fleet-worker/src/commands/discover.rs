//! `discover`: turn `on` signals into bind requests. The pod beside the workers.

use std::future::Future;
use std::time::Duration;

use fleet_core::error::Result;
use fleet_core::nats::Discovery;
use fleet_sinks::timescale::make_partitions;

use super::admin::Served;
use crate::admin::{Admin, Health};
use crate::config::Config;
use crate::metrics;

/// Runs until `stop` is ready.
///
/// # Errors
/// As [`run`](super::run::run).
pub async fn discover(config: &Config, stop: impl Future<Output = ()> + Send) -> Result<()> {
    let names = config.names();
    let health = Health::new();
    let discovery = Discovery::connect(&config.nats.options(), &names).await?;
    let counters = discovery.counters();
    let asked = discovery.clone();
    let admin = Admin::new(health.clone(), move || metrics::discovery(&counters)).with_bindings(move || {
        let discovery = asked.clone();
        async move {
            let bindings = discovery.bindings().await.map_err(|e| e.to_string())?;
            serde_json::to_value(bindings).map_err(|e| e.to_string())
        }
    });
    let served = Served::start(admin, config).await?;
    let partitions = tokio::spawn(keep_partitions(config.clone()));
    tracing::info!(cell = %names.cell(), "discovery runs");
    let ended = discovery.run(stop, move || health.beat()).await;
    partitions.abort();
    served.shut_down().await;
    ended
}

/// On plain PostgreSQL partitions are made ahead of time: by discovery, since workers may be scaled
/// to zero. A worker that finds none makes its own. Discovery needs no database for anything else, so
/// that without one there is nothing to do.
async fn keep_partitions(config: Config) {
    let (Ok(timescale), Ok(connector)) = (super::timescale(&config), super::connector(&config)) else {
        return;
    };
    let days = timescale.setup_options(config.nats.max_age).partitions_ahead;
    loop {
        let wait = match make_partitions(&connector, days).await {
            Ok(()) => Duration::from_secs(6 * 3600),
            Err(error) => {
                tracing::warn!(%error, "partitions could not be made ahead");
                Duration::from_secs(60)
            }
        };
        tokio::time::sleep(wait).await;
    }
}
