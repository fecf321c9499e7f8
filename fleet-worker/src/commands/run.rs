//! `run`: bind vehicles, align, store. The pod.

mod pipeline;
mod threads;

use std::future::{Future, ready};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fleet_core::CellId;
use fleet_core::error::Result;
use fleet_sinks::timescale::{Connector, Edition, TimescaleReader, check_writer};

use self::pipeline::{Edges, Environment, Handle};
use self::threads::Threads;
use super::admin::Served;
use super::upkeep::Upkeep;
use super::{in_time, started};
use crate::admin::{Admin, Health, Part};
use crate::config::Config;
use crate::live::{Counts, Live};
use crate::{lanes, metrics};

/// Runs until `stop` is ready, then gives all vehicles back.
///
/// # Errors
/// [`Configuration`](fleet_core::ErrorKind::Configuration) for what a person must change,
/// [`Unavailable`](fleet_core::ErrorKind::Unavailable) for a server that can't be reached at the
/// start; later, servers are waited for.
pub async fn run(config: &Config, stop: impl Future<Output = ()> + Send) -> Result<()> {
    let mut stop = std::pin::pin!(stop);
    let connector = super::connector(config)?;
    let handles = Handle::all(config.shares(lanes::cores()));
    // Nothing is held yet that would have to be given back.
    let starting = Box::pin(in_time(start(config, &connector, &handles)));
    let Some((edition, threads)) = started(&mut stop, starting).await? else {
        return Ok(());
    };

    let upkeep = Upkeep::start(config);
    let clock = handles.iter().find_map(|handle| Some(handle.edges()?.clock.clone()));
    let archive = clock.map(|clock| tokio::spawn(super::archive::keep(config.clone(), clock)));
    let health = Health::new();
    let parts: Vec<_> =
        handles.iter().map(|handle| (Arc::clone(handle), health.part(&*handle.name))).collect();
    // Ready is said only of what was looked at.
    parts.iter().for_each(|(handle, part)| look(handle, part, config.worker.catch_up_timeout, &mut 0));
    let (told, of_upkeep) = (handles.clone(), upkeep.counters());
    let catch_up_timeout = config.worker.catch_up_timeout;
    let snapshot = move || {
        let of = |handle: &Arc<Handle>| {
            (handle.share.cell.clone(), Some(handle.share.lane), handle.metrics(catch_up_timeout))
        };
        [metrics::of_parts(told.iter().map(of)), metrics::upkeep(&of_upkeep), metrics::process()].concat()
    };
    let mut admin = Admin::new(health, snapshot);
    if config.page {
        admin = admin.with_page(page(config, connector.clone(), handles.clone()));
    }
    let served = Served::start(admin, config).await?;
    let lanes = handles.iter().map(|handle| handle.share.lane + 1).max().unwrap_or(0);
    let (cells, database) = (names(&config.cells), connector.target());
    tracing::info!(%cells, lanes, database, %edition, "the worker runs");
    let beating = tokio::spawn(beat(parts, config.worker.catch_up_timeout));
    threads.run();
    let ended = threads.ended(stop).await;
    beating.abort();
    drop(upkeep);
    archive.iter().for_each(tokio::task::JoinHandle::abort);
    served.shut_down().await;
    ended
}

/// Looks at the database, and connects the pipelines.
async fn start(
    config: &Config,
    connector: &Connector,
    handles: &[Arc<Handle>],
) -> Result<(Edition, Threads)> {
    // A setup may have appended signals that this file does not have yet: a worker of before runs on.
    let edition = check_writer(connector, &config.schema).await?;
    let owner = super::owner(connector).await?;
    let environment = Environment {
        config: config.clone(),
        connector: connector.clone(),
        owner,
        handles: handles.to_vec(),
    };
    let mut threads = Threads::start(handles, &Arc::new(environment))?;
    threads.connected().await?;
    Ok((edition, threads))
}

/// Cells for people.
fn names(cells: &[CellId]) -> String {
    cells.iter().map(CellId::as_str).collect::<Vec<_>>().join(",")
}

/// The live page over the whole database; its rates are this worker's.
fn page(config: &Config, connector: Connector, handles: Vec<Arc<Handle>>) -> Live {
    let reader = TimescaleReader::new(connector, &config.schema);
    // Behind a load balancer the next answer may be another worker's.
    let process = format!("{}-{:x}", names(&config.cells), crate::clock::now());
    Live::new(reader, &config.schema, "this worker", move || {
        let counts = handles.iter().map(|handle| handle.counts());
        let (messages, records) = counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        ready(vec![Counts { process: process.clone(), messages, records }])
    })
}

/// Looks at every pipeline each second.
async fn beat(parts: Vec<(Arc<Handle>, Part)>, catch_up_timeout: Duration) {
    let mut seen = vec![0; parts.len()];
    let mut ticker = tokio::time::interval(Duration::from_secs(1));
    parts.iter().filter(|(handle, _)| handle.edges().is_some()).for_each(|(_, part)| part.beat());
    loop {
        ticker.tick().await;
        for ((handle, part), seen) in parts.iter().zip(&mut seen) {
            look(handle, part, catch_up_timeout, seen);
        }
    }
}

/// Alive means that the loop turns, ready that its conditions are met.
fn look(handle: &Handle, part: &Part, catch_up_timeout: Duration, seen: &mut u64) {
    for (condition, met) in handle.conditions(catch_up_timeout) {
        part.set(&condition, met);
    }
    let Some(Edges { counters, .. }) = handle.edges() else { return };
    let turns = counters.turns.load(Ordering::Relaxed);
    if turns != *seen {
        *seen = turns;
        part.beat();
    }
}
