//! The subcommands, one module each.

mod admin;
mod archive;
mod attack;
pub mod check;
pub mod demo;
pub mod discover;
pub mod erase;
pub mod replay;
pub mod run;
pub mod setup;
pub mod simulate;
mod sinks;
mod upkeep;

pub use upkeep::UpkeepCounters;

use fleet_core::error::{Error, Result};
use fleet_core::nats::Owner;
use fleet_sinks::timescale::{Connector, deployment_id};

use crate::config::{Config, TimescaleConfig};

/// The database's part of the configuration, which all but `discover` need.
fn timescale(config: &Config) -> Result<&TimescaleConfig> {
    config.need_timescale().map_err(|problem| Error::configuration(problem.to_string()))
}

/// The way to the database.
fn connector(config: &Config) -> Result<Connector> {
    Connector::new(&timescale(config)?.connect_options())
}

/// Whose the cell must be: that of the database, which a setup has drawn an id for.
///
/// # Errors
/// [`Configuration`](fleet_core::ErrorKind::Configuration) where there was no such setup,
/// [`Unavailable`](fleet_core::ErrorKind::Unavailable).
async fn owner(connector: &Connector) -> Result<Owner> {
    let deployment = Some(deployment_id(connector).await?);
    Ok(Owner { deployment, database: connector.target().to_owned() })
}

/// Ready when the process is asked to end: SIGTERM or Ctrl-C.
pub async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => drop(terminate.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
