//! The subcommands, one module each.

mod admin;
mod archive;
mod attack;
pub mod check;
pub mod demo;
pub mod discover;
pub mod erase;
pub mod manual;
pub mod replay;
pub mod run;
pub mod setup;
pub mod simulate;
mod sinks;
mod upkeep;

pub use upkeep::UpkeepCounters;

use std::future::Future;
use std::time::Duration;

use fleet_core::CellId;
use fleet_core::error::{Error, Result};
use fleet_core::nats::Owner;
use fleet_sinks::timescale::{Connector, deployment_id};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, TimescaleConfig};

/// The database's part of the configuration, which all but `discover` need.
fn timescale(config: &Config) -> Result<&TimescaleConfig> {
    config.need_timescale().map_err(|problem| Error::configuration(problem.to_string()))
}

/// The way to the database.
fn connector(config: &Config) -> Result<Connector> {
    Connector::new(&timescale(config)?.connect_options())
}

/// The cell, for a program that works on one alone.
fn one_cell(config: &Config) -> Result<&CellId> {
    config.one_cell().map_err(|problem| Error::configuration(problem.to_string()))
}

/// The cells `0` to `count - 1`.
fn numbered_cells(count: u32) -> Result<Vec<CellId>> {
    let cell = |n: u32| CellId::new(&n.to_string());
    (0..count).map(cell).collect::<std::result::Result<_, _>>().map_err(|e| Error::internal(e.to_string()))
}

/// Whose the cells must be: that of the database, which a setup has drawn an id for.
///
/// # Errors
/// [`Configuration`](fleet_core::ErrorKind::Configuration) where there was no such setup,
/// [`Unavailable`](fleet_core::ErrorKind::Unavailable).
async fn owner(connector: &Connector) -> Result<Owner> {
    let deployment = Some(deployment_id(connector).await?);
    Ok(Owner { deployment, database: connector.target().to_owned() })
}

/// Ready once the process was asked to end.
pub type Stop = Shared<BoxFuture<'static, ()>>;

/// From the call on SIGTERM and Ctrl-C end nothing by themselves; one of them makes the future ready, whenever it
/// is looked at. Needs the runtime's context.
///
/// # Errors
/// [`Internal`](fleet_core::ErrorKind::Internal) if the system refuses the handlers.
pub fn stop_signal() -> Result<Stop> {
    let handle = |kind| {
        signal(kind).map_err(|e| Error::internal("could not install the signal handlers").caused_by(e))
    };
    let (mut terminate, mut interrupt) = (handle(SignalKind::terminate())?, handle(SignalKind::interrupt())?);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    Ok(stop.boxed().shared())
}

/// What a program that runs until it is stopped does first; `None` if it is stopped before that is done.
///
/// # Errors
/// Those of `start`.
async fn started<T>(
    stop: impl Future<Output = ()> + Send,
    start: impl Future<Output = Result<T>> + Send,
) -> Result<Option<T>> {
    tokio::select! {
        biased;
        () = stop => Ok(None),
        started = start => started.map(Some),
    }
}

/// How long servers that take a connection may leave it unanswered at the start; later they are waited for.
const START: Duration = Duration::from_secs(45);

/// What a program needs of its servers before it says that it runs.
///
/// # Errors
/// Those of `start`, and [`Unavailable`](fleet_core::ErrorKind::Unavailable) if it takes too long.
async fn in_time<T>(start: impl Future<Output = Result<T>> + Send) -> Result<T> {
    let late = |_| Err(Error::unavailable(format!("NATS or the database did not answer within {START:?}")));
    tokio::time::timeout(START, start).await.unwrap_or_else(late)
}

/// A job that ends by itself, or when it is stopped: then it is not done.
///
/// # Errors
/// Those of the job, and [`Unavailable`](fleet_core::ErrorKind::Unavailable) if it is stopped.
pub async fn unless_stopped(stop: Stop, job: impl Future<Output = Result<()>> + Send) -> Result<()> {
    tokio::select! {
        biased;
        ended = job => ended,
        () = stop => Err(Error::unavailable("interrupted: what is done stays, and it may be run again")),
    }
}
