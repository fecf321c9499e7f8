//! `discover`: turn `on` signals into bind requests. The pod beside the workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleet_core::error::{Error, Result};
use fleet_core::nats::{Bindings, Discovery, Names, Owner};
use futures_util::future::try_join_all;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use super::admin::Served;
use super::upkeep::Upkeep;
use super::{Stop, in_time, started};
use crate::admin::{Admin, Health, Part};
use crate::config::Config;
use crate::metrics;

/// One cell's discovery.
struct Cell {
    names: Names,
    discovery: Discovery,
    part: Part,
    /// Whether it runs, and is not being waited with.
    runs: AtomicBool,
}

/// How long a cell that a person must mend is left alone while others are served.
const AGAIN: Duration = Duration::from_secs(10);

/// Runs until `stop` is ready.
///
/// # Errors
/// As [`run`](super::run::run), if it is so of all cells.
pub async fn discover(config: &Config, stop: Stop) -> Result<()> {
    let health = Health::new();
    let starting = in_time(connect(config, &health));
    let Some(cells) = started(stop.clone(), starting).await? else { return Ok(()) };
    let cells = Arc::new(cells);
    let upkeep = Upkeep::start(config);
    let (told, asked, of_upkeep) = (Arc::clone(&cells), Arc::clone(&cells), upkeep.counters());
    let snapshot = move || {
        let of = |cell: &Arc<Cell>| {
            let mut metrics = metrics::discovery(&cell.discovery.counters());
            metrics.push(metrics::ready(&cell.conditions()));
            (cell.names.cell().clone(), None, metrics)
        };
        [metrics::of_parts(told.iter().map(of)), metrics::upkeep(&of_upkeep), metrics::process()].concat()
    };
    let admin = Admin::new(health, snapshot).with_bindings(move |cell| {
        let cells = Arc::clone(&asked);
        async move { bindings(&cells, cell.as_deref()).await.map_err(|e| e.to_string()) }
    });
    let served = Served::start(admin, config).await?;
    for cell in cells.iter() {
        tracing::info!(cell = %cell.names.cell(), "discovery runs");
    }
    let watching = tokio::spawn(watch(cells.to_vec()));
    let ended = serve(&cells, stop).await;
    watching.abort();
    drop(upkeep);
    served.shut_down().await;
    ended
}

async fn connect(config: &Config, health: &Health) -> Result<Vec<Arc<Cell>>> {
    let (owner, several) = (owner(config).await?, config.cells.len() > 1);
    let connecting = config.names().map(|names| {
        let owner = owner.clone();
        async move {
            let discovery = Discovery::connect(&config.nats.options(), &names, config.nats.max_age).await?;
            let discovery = match owner {
                Some(owner) => discovery.belonging_to(owner),
                None => discovery,
            };
            let part = health.part(if several { format!("cell {}", names.cell()) } else { String::new() });
            part.set(SIGNALS, false);
            part.set(QUEUE, false);
            Ok(Arc::new(Cell { names, discovery, part, runs: AtomicBool::new(true) }))
        }
    });
    try_join_all(connecting).await
}

/// Whose the cells must be, where the file has the database and it can be asked: discovery needs it for nothing
/// else.
async fn owner(config: &Config) -> Result<Option<Owner>> {
    let Ok(connector) = super::connector(config) else { return Ok(None) };
    match super::owner(&connector).await {
        Ok(owner) => Ok(Some(owner)),
        Err(error) => {
            tracing::warn!(%error, "whose the cells are can't be checked");
            Ok(None)
        }
    }
}

/// Runs every cell's discovery. What ends one is no reason to end the others: it is tried again, and the program
/// ends only when none of them runs.
async fn serve(cells: &[Arc<Cell>], stop: Stop) -> Result<()> {
    let mut running = JoinSet::new();
    for cell in cells {
        running.spawn(discover_one(Arc::clone(cell), stop.clone(), Duration::ZERO));
    }
    let mut panicked = None;
    while let Some(ended) = running.join_next().await {
        let (cell, error) = match ended {
            Ok((_, Ok(()))) => continue,
            Ok((cell, Err(error))) => (cell, error),
            Err(e) => {
                panicked = Some(Error::internal("the discovery of a cell has panicked").caused_by(e));
                break;
            }
        };
        if !cells.iter().any(|cell| cell.runs.load(Ordering::Relaxed)) {
            return Err(error);
        }
        tracing::error!(cell = %cell.names.cell(), %error, "this cell is not served, trying again");
        running.spawn(discover_one(cell, stop.clone(), AGAIN));
    }
    panicked.map_or(Ok(()), Err)
}

/// Runs until `stop` is ready, after a pause.
async fn discover_one(cell: Arc<Cell>, stop: Stop, pause: Duration) -> (Arc<Cell>, Result<()>) {
    tokio::select! {
        biased;
        () = stop.clone() => return (cell, Ok(())),
        () = tokio::time::sleep(pause) => {}
    }
    cell.runs.store(true, Ordering::Relaxed);
    let ended = cell.discovery.run(stop, || cell.part.beat()).await;
    cell.runs.store(false, Ordering::Relaxed);
    (cell, ended)
}

/// The state of one cell's queue, or of all together and each; nothing of a cell that is not served here.
///
/// # Errors
/// [`Unavailable`](fleet_core::ErrorKind::Unavailable), also if one of them does not answer: a sum without it
/// would be wrong.
async fn bindings(cells: &[Arc<Cell>], of: Option<&str>) -> Result<Option<Value>> {
    let json = |bindings: Bindings| {
        serde_json::to_value(bindings).map_err(|e| Error::internal("no JSON").caused_by(e))
    };
    if let Some(of) = of {
        return match cells.iter().find(|cell| cell.names.cell().as_str() == of) {
            Some(cell) => json(cell.discovery.bindings().await?).map(Some),
            None => Ok(None),
        };
    }
    let asked = cells.iter().map(async |cell| {
        let bindings = cell.discovery.bindings().await;
        bindings.map_err(|e| Error::unavailable(format!("cell {}: {e}", cell.names.cell())))
    });
    let (mut each, mut all) = (Map::new(), Bindings { waiting: 0, bound: 0, active: 0 });
    for (cell, bindings) in cells.iter().zip(try_join_all(asked).await?) {
        all.waiting += bindings.waiting;
        all.bound += bindings.bound;
        all.active += bindings.active;
        each.insert(cell.names.cell().to_string(), json(bindings)?);
    }
    let Bindings { waiting, bound, active } = all;
    Ok(Some(json!({ "waiting": waiting, "bound": bound, "active": active, "cells": each })))
}

/// What readiness calls that `on` signals are read.
const SIGNALS: &str = "on signals";

/// What readiness calls the bind queue's taking of requests.
const QUEUE: &str = "bind queue";

impl Cell {
    /// What must hold for it to be ready, and whether it does.
    fn conditions(&self) -> [(String, bool); 2] {
        let reads = self.runs.load(Ordering::Relaxed) && self.discovery.is_reading();
        [(SIGNALS.to_owned(), reads), (QUEUE.to_owned(), self.discovery.is_enqueuing())]
    }
}

/// Ready means that every cell's `on` signals are read and that its bind queue takes requests.
async fn watch(cells: Vec<Arc<Cell>>) {
    loop {
        for cell in &cells {
            let Cell { part, runs, .. } = cell.as_ref();
            for (condition, met) in cell.conditions() {
                part.set(&condition, met);
            }
            if !runs.load(Ordering::Relaxed) {
                // It waits, and is not stuck.
                part.beat();
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
