//! `run`: bind vehicles, align, store. The pod.

use std::future::{Future, ready};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fleet_core::bind::Binder as _;
use fleet_core::error::{Error, Result};
use fleet_core::lane::Lane;
use fleet_core::nats::{BinderCounters, NatsBinder, NatsSource, QueueHealth, ServerClock, SourceCounters};
use fleet_core::pipeline::{Counters, Pipeline};
use fleet_core::sink::{Availability, Cursor};
use fleet_sinks::timescale::{Connector, Edition, TimescaleReader, TimescaleStates, check_writer};

use super::admin::Served;
use super::sinks::{Sinks, sinks};
use super::started;
use super::upkeep::Upkeep;
use crate::admin::{Admin, Health};
use crate::config::Config;
use crate::live::{Counts, Live};
use crate::metrics;

/// Runs until `stop` is ready, then gives all vehicles back.
///
/// # Errors
/// [`Configuration`](fleet_core::ErrorKind::Configuration) for what a person must change,
/// [`Unavailable`](fleet_core::ErrorKind::Unavailable) for a server that can't be reached at the
/// start; later, servers are waited for.
pub async fn run(config: &Config, stop: impl Future<Output = ()> + Send) -> Result<()> {
    let mut stop = std::pin::pin!(stop);
    let health = Health::new();
    health.condition(QUEUE);
    let connector = super::connector(config)?;
    // Nothing is held yet that would have to be given back.
    let Some(connected) = started(&mut stop, Box::pin(connect(config, &connector))).await? else {
        return Ok(());
    };
    let Connected { edition, clock, pipeline, of_source, of_binder, queue, required, cursors } = connected;
    let edges = Edges { queue, binder: Arc::clone(&of_binder), source: Arc::clone(&of_source), required };
    let counters = pipeline.counters();
    health.set(QUEUE, true);

    let upkeep = Upkeep::start(config);
    let archive = tokio::spawn(super::archive::keep(config.clone(), clock));
    let (of_pipeline, of_upkeep) = (Arc::clone(&counters), upkeep.counters());
    let snapshot = move || {
        let optional = metrics::optional_sinks(&cursors);
        let upkeep = metrics::upkeep(&of_upkeep);
        let (source, binder) = (metrics::source(&of_source), metrics::binder(&of_binder));
        [metrics::pipeline(&of_pipeline), source, binder, optional, upkeep].concat()
    };
    let mut admin = Admin::new(health.clone(), snapshot);
    if config.page {
        admin = admin.with_page(page(config, connector.clone(), Arc::clone(&counters)));
    }
    let served = Served::start(admin, config).await?;
    tracing::info!(cell = %config.cell, database = connector.target(), ?edition, "the worker runs");
    let beating = tokio::spawn(beat(health, counters, edges));
    let ended = pipeline.run(stop).await;
    beating.abort();
    drop(upkeep);
    archive.abort();
    served.shut_down().await;
    ended
}

/// What a worker runs with, once its servers have answered.
struct Connected {
    edition: Edition,
    clock: ServerClock,
    pipeline: Pipeline<NatsSource, NatsBinder<TimescaleStates>>,
    of_source: Arc<SourceCounters>,
    of_binder: Arc<BinderCounters>,
    queue: Arc<QueueHealth>,
    required: Vec<(&'static str, Availability)>,
    cursors: Vec<(&'static str, Cursor)>,
}

async fn connect(config: &Config, connector: &Connector) -> Result<Connected> {
    let schema = &config.schema;
    // A setup may have appended signals that this file does not have yet: a worker of before runs on.
    let edition = check_writer(connector, schema).await?;
    let owner = super::owner(connector).await?;

    let (nats, names) = (config.nats.options(), config.names());
    let source = NatsSource::connect(&nats, &names, schema, config.source_options()).await?;
    let states = Arc::new(TimescaleStates::new(connector.clone(), schema));
    let clock = source.clock();
    let stored_at = clock.clone();
    let Sinks { sink, required, cursors } = sinks(config, connector, move || stored_at.now()).await?;
    let lane = Lane::with_built_ins(schema).map_err(|problems| {
        Error::configuration(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    })?;
    let options = config.binder_options(lane.context(), owner);
    let binder = NatsBinder::connect(&nats, &names, states, source.clock(), options).await?;
    let (file, lease) = (config.worker.ack_wait, binder.lease());
    if lease != file {
        tracing::warn!(?file, consumer = ?lease, "worker.ack_wait differs, and the consumer's counts: run `setup`");
    }
    let (of_source, of_binder, queue) = (source.counters(), binder.counters(), binder.queue());
    let pipeline = Pipeline::new(source, binder, sink, lane, config.pipeline_options());
    Ok(Connected { edition, clock, pipeline, of_source, of_binder, queue, required, cursors })
}

/// The live page over the whole database; its rates are this worker's.
fn page(config: &Config, connector: Connector, counters: Arc<Counters>) -> Live {
    let reader = TimescaleReader::new(connector, &config.schema);
    // Behind a load balancer the next answer may be another worker's.
    let process = format!("{}-{:x}", config.cell, crate::clock::now());
    Live::new(reader, &config.schema, "this worker", move || {
        let records = counters.durable_rows.load(Ordering::Relaxed);
        ready(vec![Counts { process: process.clone(), messages: counters.lane().messages, records }])
    })
}

/// What readiness calls the bind queue.
const QUEUE: &str = "bind queue";

/// What it calls the database's taking of claims and states.
const STATES: &str = "states";

/// What it calls JetStream's storing of messages.
const STORING: &str = "nats storage";

/// What a worker depends on.
struct Edges {
    queue: Arc<QueueHealth>,
    binder: Arc<BinderCounters>,
    source: Arc<SourceCounters>,
    required: Vec<(&'static str, Availability)>,
}

/// Alive means that the loop turns; ready that the queue answers, that what is published is stored, that the
/// database takes claims and states, and that every required sink is there.
async fn beat(health: Health, counters: Arc<Counters>, edges: Edges) {
    let Edges { queue, binder, source, required } = edges;
    let sinks: Vec<_> = required.into_iter().map(|(name, sink)| (format!("sink {name}"), sink)).collect();
    let mut seen = 0;
    let mut ticker = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticker.tick().await;
        health.set(QUEUE, queue.is_there());
        health.set(STATES, !binder.is_refused());
        health.set(STORING, source.storing.is_storing());
        for (name, sink) in &sinks {
            health.set(name, sink.is_available());
        }
        let turns = counters.turns.load(Ordering::Relaxed);
        if turns != seen {
            seen = turns;
            health.beat();
        }
    }
}
