//! `discover`: turn `on` signals into bind requests. The pod beside the workers.

use std::future::Future;
use std::time::Duration;

use fleet_core::error::Result;
use fleet_core::nats::{Discovery, Owner};

use super::admin::Served;
use super::started;
use super::upkeep::Upkeep;
use crate::admin::{Admin, Health};
use crate::config::Config;
use crate::metrics;

/// Runs until `stop` is ready.
///
/// # Errors
/// As [`run`](super::run::run).
pub async fn discover(config: &Config, stop: impl Future<Output = ()> + Send) -> Result<()> {
    let mut stop = std::pin::pin!(stop);
    let names = config.names();
    let health = Health::new();
    health.condition(SIGNALS);
    health.condition(QUEUE);
    let Some(discovery) = started(&mut stop, connect(config)).await? else { return Ok(()) };
    let counters = discovery.counters();
    let asked = discovery.clone();
    let upkeep = Upkeep::start(config);
    let of_upkeep = upkeep.counters();
    let snapshot = move || [metrics::discovery(&counters), metrics::upkeep(&of_upkeep)].concat();
    let admin = Admin::new(health.clone(), snapshot).with_bindings(move || {
        let discovery = asked.clone();
        async move {
            let bindings = discovery.bindings().await.map_err(|e| e.to_string())?;
            serde_json::to_value(bindings).map_err(|e| e.to_string())
        }
    });
    let served = Served::start(admin, config).await?;
    tracing::info!(cell = %names.cell(), "discovery runs");
    let watching = tokio::spawn(watch(health.clone(), discovery.clone()));
    let ended = discovery.run(stop, move || health.beat()).await;
    watching.abort();
    drop(upkeep);
    served.shut_down().await;
    ended
}

async fn connect(config: &Config) -> Result<Discovery> {
    let discovery = Discovery::connect(&config.nats.options(), &config.names(), config.nats.max_age).await?;
    Ok(match owner(config).await? {
        Some(owner) => discovery.belonging_to(owner),
        None => discovery,
    })
}

/// Whose the cell must be, where the file has the database and it can be asked: discovery needs it for nothing
/// else.
async fn owner(config: &Config) -> Result<Option<Owner>> {
    let Ok(connector) = super::connector(config) else { return Ok(None) };
    match super::owner(&connector).await {
        Ok(owner) => Ok(Some(owner)),
        Err(error) => {
            tracing::warn!(%error, "whose the cell is can't be checked");
            Ok(None)
        }
    }
}

/// What readiness calls that `on` signals are read.
const SIGNALS: &str = "on signals";

/// What readiness calls the bind queue's taking of requests.
const QUEUE: &str = "bind queue";

/// Ready means that `on` signals are read and that the bind queue takes requests.
async fn watch(health: Health, discovery: Discovery) {
    loop {
        health.set(SIGNALS, discovery.is_reading());
        health.set(QUEUE, discovery.is_enqueuing());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
